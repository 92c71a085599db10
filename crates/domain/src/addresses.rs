//! Addresses of the nodes of a store, as they stand in the configuration: `host:port`, or `[v6]:port`.

/// Most in one list.
const MOST: usize = 64;

/// Host, without brackets, and port.
pub fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fits = !host.is_empty() && !host.contains(['/', '@', ' ']) && (bare.is_some() || !host.contains(':'));
    let port = port.parse().ok().filter(|port| *port > 0 && fits)?;
    Some((bare.unwrap_or(host), port))
}

/// What [`split`] takes apart.
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Checks a list; the error names the key.
pub fn check(key: &str, addresses: &[&str]) -> Result<(), String> {
    if addresses.len() > MOST {
        return Err(format!("{key}: at most {MOST}"));
    }
    for (at, address) in addresses.iter().enumerate() {
        if split(address).is_none() {
            let brackets = address.matches(':').count() > 1 && !address.starts_with('[');
            let hint = if brackets { ": an address of IPv6 stands in brackets, [::1]:6379" } else { "" };
            return Err(format!("{key}: {address:?} is not host:port{hint}"));
        }
        if addresses[..at].contains(address) {
            return Err(format!("{key}: {address:?} stands there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_apart_and_together() {
        for address in ["h:1", "127.0.0.1:6379", "[::1]:6379", "redis-0.redis.svc:26379"] {
            let (host, port) = split(address).unwrap();
            assert_eq!(join(host, port), address);
        }
        for wrong in ["", "h", "h:", ":1", "h:0", "h:70000", "::1:6379", "redis://h:1", "me:pw@h:1", "a b:1"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_are_right_or_name_their_key() {
        check("k", &["a:1", "[::1]:2"]).unwrap();
        for wrong in [&["a"][..], &["a:1", "a:1"]] {
            assert!(check("k", wrong).unwrap_err().starts_with("k: "));
        }
        assert!(check("k", &["::1:2"]).unwrap_err().contains("brackets"));
        let many: Vec<String> = (1..=65).map(|port| join("h", port)).collect();
        check("k", &many.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err();
    }
}

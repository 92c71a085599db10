//! Where a store is, as people write it: `scheme://user:password@host:port/path?option=value`.
//!
//! Own, because the stores' clients read such addresses each in another way, and two of them go to localhost where they do not
//! understand one. Here a host is always named, and what cannot be read is refused; each adapter gives its client the parts.
//!
//! No error repeats what stands in the address, because any of it may be a part of a password that was not encoded.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest address.
const MAX_LEN: usize = 4_096;

/// An address in its parts, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// In lower case.
    pub scheme: String,
    /// None if it is not given, or empty.
    pub user: Option<String>,
    /// None if there is not even a colon for it.
    pub password: Option<String>,
    /// A name or an address; of IPv6 without brackets.
    pub host: String,
    /// None if it is not given.
    pub port: Option<u16>,
    /// What follows the slash after the host; none without that slash.
    pub path: Option<String>,
    /// Names and values, in their order. A plus is a plus.
    pub options: Vec<(String, String)>,
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({}://{}, the rest is not shown)", self.scheme, self.host)
    }
}

impl StoreUrl {
    /// Reads an address that has one of these schemes.
    pub fn parse(text: &str, schemes: &[&str]) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > MAX_LEN {
            return Err(format!("is longer than {MAX_LEN} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("holds a control character, such as the end of a line".to_owned());
        }
        let begins = || format!("must begin with {}", listed(schemes.iter().map(|scheme| format!("{scheme}://"))));
        let (scheme, rest) = text.split_once("://").ok_or_else(begins)?;
        let scheme = scheme.to_ascii_lowercase();
        if !schemes.contains(&scheme.as_str()) {
            return Err(begins());
        }
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(rest, path)| (rest, Some(path)));
        if [path, query, fragment].into_iter().flatten().any(|part| part.contains('@')) {
            return Err("has an @ behind / ? or #: in a password / is %2F, ? is %3F and # is %23; elsewhere @ is %40"
                .to_owned());
        }
        if fragment.is_some() {
            return Err("has a # and something behind it, which means nothing here (in a name # is %23)".to_owned());
        }
        let (login, place) =
            authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
        let (user, password) = match login.map(|login| (login, login.split_once(':'))) {
            None => (None, None),
            Some((user, None)) => (Some(user), None),
            Some((_, Some((user, password)))) => (Some(user), Some(password)),
        };
        let (host, port) = place_of(place)?;
        Ok(Self {
            scheme,
            user: user.filter(|user| !user.is_empty()).map(|user| decoded(user, "user")).transpose()?,
            password: password.map(|password| decoded(password, "password")).transpose()?,
            host,
            port,
            path: path.map(|path| codes_alone(path, "path").and_then(|()| decoded(path, "path"))).transpose()?,
            options: options_of(query.unwrap_or_default())?,
        })
    }

    /// Whether both lead to the same place, with whatever user and password.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let anyone = |url: &Self| Self { user: None, password: None, ..url.clone() };
        anyone(self) == anyone(other)
    }

    /// That no other options than these are given, each once; `elsewhere` are some that have a key of their own, or another
    /// name.
    pub fn allow_options(&self, known: &[&str], elsewhere: &[(&str, &str)]) -> Result<(), String> {
        for (index, (name, _)) in self.options.iter().enumerate() {
            if let Some((_, instead)) = elsewhere.iter().find(|(other, _)| name.eq_ignore_ascii_case(other)) {
                return Err(format!("option {name} is not read from here: {instead}"));
            }
            if !known.contains(&name.as_str()) {
                // A name of other characters is rather a part of something else.
                let named = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
                let which = if named { format!("unknown option {name}") } else { "an unknown option".to_owned() };
                return Err(match known {
                    [] => format!("has {which}: there are none"),
                    known => format!("has {which}: there are {}", listed(known.iter().map(ToString::to_string))),
                });
            }
            if self.options[..index].iter().any(|(before, _)| before == name) {
                return Err(format!("has option {name} twice"));
            }
        }
        Ok(())
    }

    /// The value of the first of these options that is given: they are names of one.
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        let found = self.options.iter().find(|(name, _)| names.contains(&name.as_str()));
        found.map(|(_, value)| value.as_str())
    }
}

/// Host and port of `host:port`.
fn place_of(place: &str) -> Result<(String, Option<u16>), String> {
    if place.contains(',') {
        return Err("names several hosts: one is needed".to_owned());
    }
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("has a [ and no ] behind it")?;
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return Err("has something between the ] of its host and the port".to_owned()),
            port => port,
        };
        (in_brackets(host)?, port)
    } else {
        let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
        if port.is_some_and(|port| port.contains(':')) {
            return Err("has several colons in host and port: an address of IPv6 stands in brackets, [::1]".to_owned());
        }
        (named(host)?, port)
    };
    if matches!(host.as_str(), "0.0.0.0" | "::") {
        return Err("names no host: 0.0.0.0 and [::] are addresses to listen at".to_owned());
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("port: must be 1 to 65535".to_owned()),
        },
    };
    Ok((host, port))
}

/// An address of IPv6, with its zone if it has one.
fn in_brackets(host: &str) -> Result<String, String> {
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    let address: Ipv6Addr = address.parse().map_err(|_| "has in brackets what is no address of IPv6".to_owned())?;
    let Some(zone) = zone.map(|zone| zone.strip_prefix("25").unwrap_or(zone)) else { return Ok(address.to_string()) };
    if zone.is_empty() || !zone.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err("has in brackets an address whose zone is no name of an interface".to_owned());
    }
    Ok(format!("{address}%{zone}"))
}

fn named(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) || host.starts_with('.') {
        return Err("has a host with a character that no name of a host has".to_owned());
    }
    // What ends in a number is an address and no name; 127.1, 0x7f.1 and 3306 would be taken for one, too.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let number = last.strip_prefix("0x").unwrap_or(last);
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || (number.len() < last.len() && number.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err("has a host that is neither a name nor an address of four numbers".to_owned());
    }
    Ok(host.to_owned())
}

fn options_of(query: &str) -> Result<Vec<(String, String)>, String> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decoded(name, "options")?, decoded(value, "options")?))
        })
        .collect()
}

/// That every % begins a code. In a name one that does not is a slip, `/%2` for `/%2f`.
fn codes_alone(text: &str, part: &str) -> Result<(), String> {
    let begins_code = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if text.split('%').skip(1).all(begins_code) {
        Ok(())
    } else {
        Err(format!("{part}: has a % without two hexadecimal digits behind it (a % of its own is written %25)"))
    }
}

/// Replaces `%40` and the like. In a password a % that begins no code is itself: whoever writes one means it.
fn decoded(text: &str, part: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |index: usize| after.get(index).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    let wrong = || format!("{part}: is not UTF-8 when decoded (a % of its own is written %25)");
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    if text.contains('\0') { Err(format!("{part}: holds a zero byte")) } else { Ok(text) }
}

/// `a, b or c`.
fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => items.join(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StoreUrl, String> {
        StoreUrl::parse(text, &["db", "dbs"])
    }

    fn parts(text: &str) -> (Option<String>, Option<String>, String, Option<u16>, Option<String>) {
        let url = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (url.user, url.password, url.host, url.port, url.path)
    }

    #[test]
    fn addresses_as_people_write_them() {
        let some = |text: &str| Some(text.to_owned());
        for (text, user, password, host, port, path) in [
            ("db://h", None, None, "h", None, None),
            (" DB://h.example./ ", None, None, "h.example.", None, some("")),
            ("dbs://me@10.0.0.1:1/x", some("me"), None, "10.0.0.1", Some(1), some("x")),
            ("db://:secret@my_host:65535", None, some("secret"), "my_host", Some(65_535), None),
            ("db://me:@h", some("me"), some(""), "h", None, None),
            ("db://[::1]", None, None, "::1", None, None),
            ("db://u:p@[2001:DB8::a]:77/%2f", some("u"), some("p"), "2001:db8::a", Some(77), some("/")),
            ("db://[fe80::1%25eth0]:7", None, None, "fe80::1%eth0", Some(7), None),
            ("db://[fe80::1%eth0]", None, None, "fe80::1%eth0", None, None),
            // Passwords: encoded, and as they are, where that can be told.
            ("db://u:p%40s%2Fs%3A%23%3F%25@h", some("u"), some("p@s/s:#?%"), "h", None, None),
            ("db://u:p@s:s%w[ä b]+&=@h/x", some("u"), some("p@s:s%w[ä b]+&="), "h", None, some("x")),
            ("db://u:100%@h", some("u"), some("100%"), "h", None, None),
        ] {
            assert_eq!(parts(text), (user, password, host.to_owned(), port, path), "{text}");
        }
        let url = parse("db://h/x?time-zone=+08:00&a=%2B1&b&c=").unwrap();
        let said: Vec<_> = url.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(said, [("time-zone", "+08:00"), ("a", "+1"), ("b", ""), ("c", "")]);
        assert_eq!(url.option(&["timezone", "time-zone"]), Some("+08:00"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_being_repeated() {
        for (text, said) in [
            ("", "must begin with db:// or dbs://"),
            ("sesame", "must begin with"),
            ("sesame:6379", "must begin with"),
            ("u:sesame@tcp(h:3306)/x", "must begin with"),
            ("http://u:sesame@h", "must begin with"),
            ("db:/u:sesame@h", "must begin with"),
            ("db://", "names no host"),
            ("db:///x", "names no host"),
            ("db://u:sesame@", "names no host"),
            ("db://u:sesame@:3306/x", "names no host"),
            ("db://u:sesame@0.0.0.0", "listen"),
            ("db://u:sesame@[::]:1", "listen"),
            ("db://u:ses/ame@h", "%2F"),
            ("db://u:ses#ame@h/x", "%23"),
            ("db://u:ses?ame@h/x", "%3F"),
            ("db://u:sesame@h/x?a=b@c", "%40"),
            ("db://h/x#sesame", "has a #"),
            ("db://u:sesame@h:", "port: must be 1 to 65535"),
            ("db://u:sesame@h:0", "port: must be 1 to 65535"),
            ("db://u:sesame@h:65536", "port: must be 1 to 65535"),
            ("db://u:sesame@h:sesame", "port: must be 1 to 65535"),
            ("db://u:sesame", "port: must be 1 to 65535"),
            ("db://u:sesame@::1", "brackets"),
            ("db://u:sesame@::1:3306", "brackets"),
            ("db://u:sesame@[::1", "no ]"),
            ("db://u:sesame@[::1]3306", "between"),
            ("db://u:sesame@[h]", "no address of IPv6"),
            ("db://u:sesame@[fe80::1%]", "zone"),
            ("db://u:sesame@a:1,b:2", "several"),
            ("db://u:sesame@a,b", "several hosts"),
            ("db://u:sesame@tcp(h)/x", "no name of a host"),
            ("db://u:sesame@h%2Fx", "no name of a host"),
            ("db://u:sesame@h h", "no name of a host"),
            ("db://u:sesame@127.1", "four numbers"),
            ("db://u:sesame@3306/x", "four numbers"),
            ("db://u:sesame@10.0.0.0x1", "four numbers"),
            ("db://u:sesame@10.0.0.256", "four numbers"),
            ("db://u:sesame%ff@h", "password: is not UTF-8"),
            ("db://u:sesame@h/%2", "path: has a %"),
            ("db://u:sesame@h/a%zz", "path: has a %"),
            ("db://u:sesame@h/%", "path: has a %"),
            ("db://u:sesame%00@h", "password: holds a zero byte"),
            ("db://u:ses\name@h", "control character"),
        ] {
            let error = parse(text).map(|url| format!("accepted: {}", url.host)).unwrap_err();
            assert!(error.contains(said) && !error.contains("same") && !error.contains("ame@"), "{text}: {error}");
        }
        let long = parse(&format!("db://{}", "h".repeat(MAX_LEN))).unwrap_err();
        assert_eq!(long, "is longer than 4096 bytes");
        assert!(!format!("{:?}", parse("db://u:sesame@h").unwrap()).contains("sesame"));
    }

    #[test]
    fn a_place_is_the_same_whoever_comes() {
        let same = |one: &str, other: &str| parse(one).unwrap().is_same_place(&parse(other).unwrap());
        assert!(same("db://a:b@h:1/x?o=1", "db://c:d@h:1/x?o=1"));
        for other in
            ["dbs://a:b@h:1/x?o=1", "db://a:b@g:1/x?o=1", "db://a:b@h:2/x?o=1", "db://a:b@h:1/y?o=1", "db://a:b@h:1/x"]
        {
            assert!(!same("db://a:b@h:1/x?o=1", other), "{other}");
        }
    }

    #[test]
    fn options_are_known_or_named() {
        let allowed = |query: &str| {
            let url = parse(&format!("db://h/x?{query}")).unwrap();
            url.allow_options(&["mode", "ca"], &[("tls", "say dbs://")])
        };
        assert_eq!(allowed("mode=1&ca=2"), Ok(()));
        assert_eq!(allowed("parseTime=true").unwrap_err(), "has unknown option parseTime: there are mode or ca");
        assert_eq!(allowed("se same=1").unwrap_err(), "has an unknown option: there are mode or ca");
        assert_eq!(allowed("TLS=1").unwrap_err(), "option TLS is not read from here: say dbs://");
        assert_eq!(allowed("mode=1&mode=2").unwrap_err(), "has option mode twice");
    }
}

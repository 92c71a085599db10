//! Whom a call comes from, where proxies stand in between.
//!
//! Anybody can write `x-forwarded-for`, so it is believed only as far as it was written by proxies that the configuration
//! names: from the right, as long as the one who wrote an address is one of them. What cannot be read ends the search.

use crate::config::TrustedProxies;
use axum::http::{HeaderMap, header};
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Addresses looked at, from the right: a chain of proxies is shorter.
const LONGEST: usize = 20;

/// Where a call comes from, as far as that is known; a request's extension, for limits and audits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerAddress(pub Option<IpAddr>);

/// Who calls: the peer, or whoever the proxies say it is.
pub fn caller_address(proxies: &TrustedProxies, peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let mut caller = peer?.ip().to_canonical();
    if proxies.is_empty() {
        return Some(caller);
    }
    let forwarded = forwarded(headers);
    let mut from_the_right = forwarded.iter().rev().take(LONGEST);
    while proxies.trusts(caller) {
        let Some(Some(next)) = from_the_right.next() else { break };
        caller = next.to_canonical();
    }
    Some(caller)
}

/// The addresses that the proxies wrote, the nearest one last; none where something else stands. Where both headers are
/// given, one of them may be the caller's own, handed on by a proxy that writes the other: then neither is believed.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let texts = |values: axum::http::header::GetAll<'_, axum::http::HeaderValue>| -> Vec<String> {
        // What is no text hides how many addresses stand there.
        values.iter().map(|value| value.to_str().unwrap_or("-").to_owned()).collect()
    };
    let standard = texts(headers.get_all(header::FORWARDED));
    let lines = texts(headers.get_all(FORWARDED_FOR));
    if !standard.is_empty() && !lines.is_empty() {
        return Vec::new();
    }
    if standard.is_empty() {
        return lines.iter().flat_map(|line| line.split(',')).map(address).collect();
    }
    let for_of = |element: &str| {
        parts(element, ';').into_iter().find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then(|| address(value.trim().trim_matches('"'))).flatten()
        })
    };
    standard.iter().flat_map(|line| parts(line, ',')).map(for_of).collect()
}

/// Parts between separators that stand in no quoted string: a proxy quotes what its caller wrote. What is never closed is one part.
fn parts(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let splits = c == separator && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        splits
    })
    .collect()
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::of(networks).unwrap()
    }

    fn caller(proxies: &TrustedProxies, peer: &str, headers: &[(&'static str, &str)]) -> String {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        caller_address(proxies, Some(peer), &headers.collect()).unwrap().to_string()
    }

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let trusted = proxies(&["10.0.0.0/8", "fd00::/8", "192.0.2.7"]);
        let xff = "x-forwarded-for";
        for (peer, headers, expected) in [
            ("203.0.113.9", &[(xff, "198.51.100.1")][..], "203.0.113.9"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &[(xff, "198.51.100.1")], "198.51.100.1"),
            // The caller wrote the first one itself.
            ("10.1.2.3", &[(xff, "1.1.1.1, 198.51.100.1, 10.9.9.9")], "198.51.100.1"),
            ("10.1.2.3", &[(xff, "1.1.1.1"), (xff, "198.51.100.1")], "198.51.100.1"),
            ("10.1.2.3", &[(xff, "198.51.100.1, nonsense")], "10.1.2.3"),
            ("10.1.2.3", &[(xff, "198.51.100.1, nonsense, 192.0.2.7")], "192.0.2.7"),
            ("10.1.2.3", &[(xff, "")], "10.1.2.3"),
            ("10.1.2.3", &[(xff, "198.51.100.1:4711")], "198.51.100.1"),
            ("fd00::1", &[(xff, "2001:db8::5")], "2001:db8::5"),
            ("fe00::1", &[(xff, "2001:db8::5")], "fe00::1"),
            ("::ffff:10.1.2.3", &[(xff, "198.51.100.1")], "198.51.100.1"),
            ("10.1.2.3", &[("forwarded", "for=198.51.100.1;proto=https, for=10.4.4.4")], "198.51.100.1"),
            ("10.1.2.3", &[("forwarded", "proto=https;For=\"[2001:db8::5]:443\"")], "2001:db8::5"),
            ("10.1.2.3", &[("forwarded", "for=_hidden")], "10.1.2.3"),
            ("10.1.2.3", &[("forwarded", "host=\"a,for=9.9.9.9\";for=198.51.100.1")], "198.51.100.1"),
            ("10.1.2.3", &[("forwarded", "for=198.51.100.1;by=\"a,for=9.9.9.9\"")], "198.51.100.1"),
            ("10.1.2.3", &[("forwarded", "host=\"a\\\",for=9.9.9.9;for=9.9.9.9\";for=198.51.100.1")], "198.51.100.1"),
            ("10.1.2.3", &[("forwarded", "for=198.51.100.1;host=\"a,for=9.9.9.9")], "198.51.100.1"),
            ("10.1.2.3", &[("forwarded", "for=198.51.100.1"), (xff, "1.1.1.1")], "10.1.2.3"),
        ] {
            assert_eq!(caller(&trusted, peer, headers), expected, "{peer} {headers:?}");
        }
        assert_eq!(caller(&proxies(&[]), "10.1.2.3", &[(xff, "1.1.1.1")]), "10.1.2.3");
        assert_eq!(caller(&proxies(&["0.0.0.0/0"]), "10.1.2.3", &[(xff, "1.1.1.1, 2.2.2.2")]), "1.1.1.1");
    }
}

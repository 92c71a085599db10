//! The origin by which browsers know a process that stands behind a proxy.

use axum::http::Uri;
use serde::Deserialize;
use std::fmt;

/// Scheme, host and port, as a browser names where a page comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicOrigin {
    scheme: Scheme,
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl TryFrom<String> for PublicOrigin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("expected an origin such as https://ops.example.com, got {text:?}"))
    }
}

impl fmt::Display for PublicOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl PublicOrigin {
    /// An origin; none if it is something else, such as `null`, or has a path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        // What is no origin may still begin like one: `https://ours@theirs`, `https://ours/x`.
        if authority.as_str().contains('@') || !text.ends_with(authority.as_str()) {
            return None;
        }
        let (scheme, usual) = match uri.scheme_str()? {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return None,
        };
        // What is no port is none, and not the usual one.
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => usual,
            rest => rest.strip_prefix(':')?.parse().ok()?,
        };
        Some(Self { scheme, host: authority.host().to_ascii_lowercase(), port })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The port that a host without one means to whoever comes by this scheme.
    pub(crate) const fn usual_port(&self) -> u16 {
        match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_scheme_host_and_port_and_nothing_else() {
        for (text, expected) in [
            ("https://ops.example.com", Some("https://ops.example.com:443")),
            ("https://OPS.example.com:443", Some("https://ops.example.com:443")),
            ("http://10.1.2.3:8080", Some("http://10.1.2.3:8080")),
            ("http://[::1]", Some("http://[::1]:80")),
            ("https://ops.example.com/", None),
            ("https://ops.example.com/likes", None),
            ("https://ops.example.com?x", None),
            ("https://ops.example.com@evil.example", None),
            ("https://ops.example.com:99999", None),
            ("https://ops.example.com:", None),
            ("ftp://ops.example.com", None),
            ("ops.example.com", None),
            ("//ops.example.com", None),
            ("null", None),
            ("", None),
        ] {
            assert_eq!(PublicOrigin::parse(text).map(|origin| origin.to_string()).as_deref(), expected, "{text}");
        }
    }
}

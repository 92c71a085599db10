//! Signing in with a browser: the token becomes a cookie that no script can read and no other site can have sent.
//!
//! The cookie holds the token itself. So every process of an installation knows it, a restart signs nobody out, and a token
//! that leaves the file is refused at the next request. It goes back only where it came from: it has no domain, and its path
//! is that of the request that asked for it, so a page below a proxy's prefix keeps its own.
//!
//! gRPC takes no cookie: browsers do not come there.

use super::{Access, Caller, Denied, Role};
use crate::listen::gate::Gate;
use axum::http::{HeaderMap, HeaderValue, header};

/// Name of the cookie.
const NAME: &str = "interaction_session";

/// Signed in for so long: a working day.
const SECONDS: u32 = 12 * 3600;

/// The token of a signed-in browser.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, token)| token)
}

/// Who asks: by the header that programs send, else by the cookie.
pub(crate) fn caller(access: &Access, headers: &HeaderMap, needed: Role, scoped: bool) -> Result<Caller, Denied> {
    match token(headers).filter(|_| by_cookie(headers)) {
        Some(token) => access.check_token(token.as_bytes(), needed, scoped),
        None => access.check(headers, needed, scoped),
    }
}

/// Whether it is the cookie that says who asks: a browser sends it along whatever page made it ask.
pub(crate) fn by_cookie(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::AUTHORIZATION) && token(headers).is_some()
}

/// The header that signs in. `token` was let in, so it has no letter that a cookie may not have.
pub(crate) fn sign_in(gate: &Gate, headers: &HeaderMap, token: &str) -> Option<HeaderValue> {
    cookie(gate, headers, token, SECONDS)
}

/// The header that signs out.
pub(crate) fn sign_out(gate: &Gate, headers: &HeaderMap) -> Option<HeaderValue> {
    cookie(gate, headers, "", 0)
}

fn cookie(gate: &Gate, headers: &HeaderMap, token: &str, seconds: u32) -> Option<HeaderValue> {
    // By the origin, not by the configuration: who tunnels to this machine comes unencrypted to an encrypted installation.
    let encrypted = gate.has_ops_tls()
        || headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if encrypted { "; Secure" } else { "" };
    let text = format!("{NAME}={token}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (*name, HeaderValue::from_str(value).unwrap()));
        pairs.map(|(name, value)| (axum::http::HeaderName::from_static(name), value)).collect()
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        for (cookies, expected) in [
            (&["interaction_session=abc=="][..], Some("abc==")),
            (&["a=1; interaction_session=abc; b=2"], Some("abc")),
            (&["a=1", "interaction_session=abc"], Some("abc")),
            (&["xinteraction_session=abc", "session=abc"], None),
            (&["interaction_session"], None),
            (&[], None),
        ] {
            let headers = headers(&cookies.iter().map(|cookie| ("cookie", *cookie)).collect::<Vec<_>>());
            assert_eq!(token(&headers), expected, "{cookies:?}");
        }
    }

    #[test]
    fn a_header_comes_before_the_cookie() {
        let both = headers(&[("cookie", "interaction_session=abc"), ("authorization", "Bearer x")]);
        assert!(!by_cookie(&both) && token(&both).is_some());
        assert!(by_cookie(&headers(&[("cookie", "interaction_session=abc")])));
    }

    #[test]
    fn no_script_reads_it_and_no_other_site_has_it_sent() {
        let gate = Gate::default();
        let text = |headers: &HeaderMap| sign_in(&gate, headers, "abc").unwrap().to_str().unwrap().to_owned();
        let plain = text(&headers(&[("origin", "http://127.0.0.1:8893")]));
        assert_eq!(plain, "interaction_session=abc; HttpOnly; SameSite=Strict; Max-Age=43200");
        assert!(text(&headers(&[("origin", "https://ops.example.com")])).ends_with("; Secure"));
        let out = sign_out(&gate, &HeaderMap::new()).unwrap();
        assert_eq!(out.to_str().unwrap(), "interaction_session=; HttpOnly; SameSite=Strict; Max-Age=0");
    }
}

//! Ops HTTP's guard: tokens, and what a browser may be made to send.
//!
//! Nothing here is meant for other sites, but what callers ask for those that the configuration names
//! ([`cors`](crate::listen::cors)): there are no CORS headers, so none of them can read an answer. What changes
//! something needs `content-type: application/json`, or gRPC-Web's, which no other site's form can send; and where a browser says
//! where a request comes from, that must be here. Where nobody needs a token the host must be named by address or `localhost`:
//! otherwise a foreign name that is made to point to this machine would be the same site. Behind a proxy that gives it
//! another name, that name is `service.public_origin`.
//!
//! A signed-in browser sends its cookie whoever made it ask. So a change by cookie needs an origin, and that must be ours.

use super::{Caller, CallerAddress, Denied, Role, caller_address, session};
use crate::config::PublicOrigin;
use crate::listen::api_error::ApiError;
use crate::listen::bounds::no_place;
use crate::listen::gate::Gate;
use crate::listen::grpc_web;
use crate::listen::link::Stage;
use crate::listen::paths::Paths;
use crate::listen::reason::Reason;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};

/// Files of a page lie below; like the page itself they are open, because it asks for the token.
pub(crate) const OPEN_FILES: &str = "/assets/";

/// Who a browser is signed in as; signing in and out. Open: it decides itself.
pub(crate) const SESSION: &str = "/session";

/// On every answer.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // Nobody lays its page over ours to have a button clicked.
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    // No page of another origin, on another port either, takes an answer in as a script or an image.
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// What is guarded.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) gate: Gate,
    pub(crate) paths: Paths,
}

/// The connection has shown a certificate of an authority of clients; an extension of its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Certified;

/// A middleware in front of all routes; who calls is an extension of the request.
pub(crate) async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let certified = request.extensions().get::<Certified>().is_some();
    let admitted = certificate(&guard.gate, certified, request.method(), request.uri().path());
    let admitted = admitted.and_then(|()| admit(&guard, request.method(), request.uri(), request.headers()));
    let mut response = match admitted {
        Ok(caller) => {
            let stage = request.extensions_mut().remove::<Stage>();
            match caller.as_ref().zip(stage).map(|(caller, stage)| stage.let_in(caller)) {
                Some(Err(full)) => no_place(full),
                _ => {
                    if let Some(caller) = caller {
                        request.extensions_mut().insert(caller);
                    }
                    let peer = request.extensions().get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
                    let address = caller_address(&guard.gate.proxies, peer, request.headers());
                    request.extensions_mut().insert(CallerAddress(address));
                    next.run(request).await
                }
            }
        }
        Err(refusal) => refusal.into_response(),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.headers_mut().extend(HEADERS);
    response
}

/// Whoever is let in without a certificate, where others need one, may ask what probes and Prometheus ask.
fn certificate(gate: &Gate, certified: bool, method: &Method, path: &str) -> Result<(), ApiError> {
    let metrics = path == "/metrics" && gate.access.needs_token();
    if certified || !gate.lets_probes_in() || (is_safe(method) && (is_probe(path) || metrics)) {
        return Ok(());
    }
    let message = "a certificate is needed (service.tls.client_ca_file)";
    // Nobody knows who that is: like a stranger, who gives way.
    Err(ApiError::new(StatusCode::UNAUTHORIZED, message).because(Reason::CertificateMissing))
}

/// The caller, unless anybody may do this.
fn admit(guard: &Guard, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
    let Guard { gate, paths } = guard;
    let needed = needed(method, uri.path(), paths);
    let open = needed.is_none() && is_safe(method);
    if !open && gate.is_local() && !names_this_machine(uri, headers, gate.public_origin()) {
        let message = "without tokens this is served as localhost or by address only (service.access.tokens_file)";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message).because(Reason::NotLocal));
    }
    let scoped = paths.scoped.contains(&uri.path());
    let caller = needed.map(|needed| session::caller(&gate.access, headers, needed, scoped));
    let caller = caller.transpose().map_err(denied)?;
    if !is_safe(method) {
        let guests = if scoped { &**gate.cors_origins() } else { &[] };
        same_site(uri, headers, gate.public_origin(), guests)?;
        let grpc_web = paths.grpc_web.is_some_and(|web| web.is_below(uri.path()));
        media_type(headers, grpc_web)?;
    }
    Ok(caller)
}

/// A refusal, and that there was one.
pub(crate) fn denied(denied: Denied) -> ApiError {
    metrics::counter!("interaction_access_denied_total", "surface" => "http", "reason" => denied.reason()).increment(1);
    refusal(denied)
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The role that this needs; none: open. Probes carry no token, and the page asks for it itself.
fn needed(method: &Method, path: &str, paths: &Paths) -> Option<Role> {
    match path {
        SESSION => None,
        _ if *method == Method::POST && paths.writes.contains(&path) => Some(Role::Write),
        _ if *method == Method::POST && paths.reads.contains(&path) => Some(Role::Read),
        _ if !is_safe(method) => Some(Role::Operate),
        "/" | "/favicon.ico" | "/health" | "/health/live" => None,
        "/metrics" => Some(Role::Metrics),
        path if path.starts_with(OPEN_FILES) => None,
        _ => Some(Role::Read),
    }
}

/// Whether this needs no token.
pub(crate) fn is_open(method: &Method, path: &str) -> bool {
    needed(method, path, &Paths::default()).is_none()
}

/// What is answered whoever else is connected: the questions of whoever restarts a process that does not live.
pub(crate) fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/health/live")
}

fn refusal(denied: Denied) -> ApiError {
    let status = if denied.is_known() { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
    ApiError::new(status, denied.to_string()).because(denied.because())
}

/// What the request says it was sent to. Browsers always do.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Option<Authority>> {
    if let Some(authority) = uri.authority() {
        return Some(Some(authority.clone()));
    }
    headers.get(header::HOST).map(|value| Authority::try_from(value.as_bytes()).ok())
}

fn names_this_machine(uri: &Uri, headers: &HeaderMap, public: Option<&PublicOrigin>) -> bool {
    match host(uri, headers) {
        None => true,
        Some(None) => false,
        Some(Some(authority)) => {
            let name = authority.host().trim_start_matches('[').trim_end_matches(']');
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<IpAddr>().is_ok()
                || public.is_some_and(|public| public.host().eq_ignore_ascii_case(authority.host()))
        }
    }
}

/// Whether this was sent by a page of our own, by one of these guests, or by no page at all. A guest has no cookie: it would act
/// for whoever is signed in here.
fn same_site(
    uri: &Uri,
    headers: &HeaderMap,
    public: Option<&PublicOrigin>,
    guests: &[PublicOrigin],
) -> Result<(), ApiError> {
    let message = "requests of other sites change nothing here";
    let forbidden = || ApiError::new(StatusCode::FORBIDDEN, message).because(Reason::CrossSite);
    let by_cookie = session::by_cookie(headers);
    let origin = headers.get(header::ORIGIN);
    // `null` is a page that hides where it comes from: it is no origin.
    let from = origin.map(|origin| origin.to_str().ok().and_then(PublicOrigin::parse).ok_or_else(forbidden));
    let from = from.transpose()?;
    if !by_cookie && from.as_ref().is_some_and(|from| guests.contains(from)) {
        return Ok(());
    }
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(forbidden());
    }
    if let Some(from) = from {
        let here = |to: Authority| {
            from.host().eq_ignore_ascii_case(to.host())
                && from.port() == to.port_u16().unwrap_or_else(|| from.usual_port())
        };
        if public != Some(&from) && !host(uri, headers).flatten().is_some_and(here) {
            return Err(forbidden());
        }
    } else if by_cookie {
        return Err(forbidden());
    }
    Ok(())
}

/// Whether this is what no form can send.
fn media_type(headers: &HeaderMap, grpc_web: bool) -> Result<(), ApiError> {
    if grpc_web && grpc_web::is_asked(headers) {
        return Ok(());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if grpc_web || !kind.eq_ignore_ascii_case("application/json") {
        let expected = if grpc_web { "application/grpc-web or application/grpc-web-text" } else { "application/json" };
        let message = format!("content-type: expected {expected}");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn what_a_browser_sends_from_elsewhere_changes_nothing() {
        let json = ("content-type", "application/json");
        let host = ("host", "ops.example:8893");
        let same = ("origin", "http://ops.example:8893");
        let uri = Uri::from_static("/cache/warmup");
        for (pairs, expected) in [
            (&[host, json][..], None),
            (&[host, json, same], None),
            (&[host, json, same, ("sec-fetch-site", "same-origin")], None),
            (&[("host", "OPS.example"), json, ("origin", "https://ops.example:443")], None),
            (&[("host", "OPS.example:443"), json, ("origin", "https://ops.example")], None),
            (&[("host", "ops.example"), json, ("origin", "http://ops.example:80")], None),
            (&[host, ("content-type", "application/json; charset=utf-8")], None),
            (&[host, json, ("sec-fetch-site", "cross-site")], Some(403)),
            (&[host, json, ("origin", "http://evil.example")], Some(403)),
            (&[host, json, ("origin", "http://ops.example")], Some(403)),
            (&[host, json, ("origin", "http://ops.example:8893.evil.example")], Some(403)),
            (&[host, json, ("origin", "null")], Some(403)),
            (&[host, json, ("origin", "")], Some(403)),
            (&[json, same], Some(403)),
            (&[host], Some(415)),
            (&[host, ("content-type", "text/plain")], Some(415)),
            (&[host, ("content-type", "application/x-www-form-urlencoded")], Some(415)),
            (&[host, ("content-type", "text/plain; application/json")], Some(415)),
            // Signed in: whoever made the browser ask, the cookie comes along.
            (&[host, json, same, ("cookie", "interaction_session=x")], None),
            (&[host, json, ("cookie", "interaction_session=x")], Some(403)),
            (&[host, json, ("cookie", "interaction_session=x"), ("authorization", "Bearer x")], None),
            (&[host, json, ("cookie", "other=x")], None),
        ] {
            let headers = headers(pairs);
            let found = same_site(&uri, &headers, None, &[]).and_then(|()| media_type(&headers, false));
            assert_eq!(found.err().map(|error| error.status.as_u16()), expected, "{pairs:?}");
        }
    }

    #[test]
    fn guests_are_let_in_without_the_cookie_and_nobody_beside_them() {
        let guests = [PublicOrigin::parse("https://app.example").unwrap()];
        let (host, site) = (("host", "ops.example"), ("sec-fetch-site", "cross-site"));
        let cookie = ("cookie", "interaction_session=x");
        let uri = Uri::from_static("/v1/likes");
        for (pairs, expected) in [
            (&[host, site, ("origin", "https://app.example")][..], true),
            (&[host, site, ("origin", "https://APP.example:443")], true),
            (&[host, site, ("origin", "http://app.example")], false),
            (&[host, site, ("origin", "https://app.example.evil.example")], false),
            (&[host, site, ("origin", "null")], false),
            (&[host, site], false),
            (&[host, site, ("origin", "https://app.example"), cookie], false),
            (&[host, site, ("origin", "https://app.example"), cookie, ("authorization", "Bearer x")], true),
        ] {
            assert_eq!(same_site(&uri, &headers(pairs), None, &guests).is_ok(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn below_grpc_web_nothing_else_is_spoken() {
        for (kind, grpc_web, expected) in [
            ("application/grpc-web", true, true),
            ("application/grpc-web+proto", true, true),
            ("application/grpc-web-text", true, true),
            ("application/json", true, false),
            ("application/grpc", true, false),
            ("application/grpc-web", false, false),
        ] {
            assert_eq!(media_type(&headers(&[("content-type", kind)]), grpc_web).is_ok(), expected, "{kind}");
        }
    }

    #[test]
    fn behind_a_proxy_the_public_origin_is_this_site_too() {
        let public = PublicOrigin::parse("https://ops.example").unwrap();
        let (json, host) = (("content-type", "application/json"), ("host", "127.0.0.1:8893"));
        let uri = Uri::from_static("/cache/warmup");
        for (origin, expected) in [
            ("https://ops.example", true),
            ("https://OPS.example:443", true),
            ("http://ops.example", false),
            ("https://ops.example:444", false),
            ("https://ops.example.evil.example", false),
            ("null", false),
            // Past the proxy it is what it was.
            ("http://127.0.0.1:8893", true),
        ] {
            let headers = headers(&[host, json, ("origin", origin)]);
            assert_eq!(same_site(&uri, &headers, Some(&public), &[]).is_ok(), expected, "{origin}");
        }
        for (name, expected) in [("ops.example", true), ("OPS.example:8893", true), ("evil.example", false)] {
            assert_eq!(names_this_machine(&uri, &headers(&[("host", name)]), Some(&public)), expected, "{name}");
        }
    }

    #[test]
    fn names_that_somebody_else_may_have_made_up_are_not_this_machine() {
        let uri = Uri::from_static("/metrics");
        for (name, expected) in [
            ("127.0.0.1:8893", true),
            ("localhost", true),
            ("[::1]:8893", true),
            ("10.1.2.3:1", true),
            ("evil.example:8893", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(names_this_machine(&uri, &headers(&[("host", name)]), None), expected, "{name}");
        }
        assert!(names_this_machine(&uri, &HeaderMap::new(), None));
    }

    #[test]
    fn only_health_and_the_page_are_open() {
        for (method, path, expected) in [
            (Method::GET, "/health", None),
            (Method::HEAD, "/health/live", None),
            (Method::GET, "/", None),
            (Method::GET, "/assets/page.js", None),
            (Method::GET, "/session", None),
            (Method::POST, "/session", None),
            (Method::DELETE, "/session", None),
            (Method::GET, "/session/", Some(Role::Read)),
            (Method::POST, "/", Some(Role::Operate)),
            (Method::POST, "/assets/page.js", Some(Role::Operate)),
            (Method::GET, "/assets", Some(Role::Read)),
            (Method::GET, "/health/", Some(Role::Read)),
            (Method::GET, "//health", Some(Role::Read)),
            (Method::GET, "/metrics", Some(Role::Metrics)),
            (Method::GET, "/metrics/", Some(Role::Read)),
            (Method::OPTIONS, "/metrics", Some(Role::Operate)),
            (Method::POST, "/cache/warmup", Some(Role::Operate)),
            (Method::DELETE, "/nothing", Some(Role::Operate)),
            (Method::POST, "/v1/likes", Some(Role::Write)),
            (Method::POST, "/v1/likes/", Some(Role::Operate)),
            (Method::PUT, "/v1/likes", Some(Role::Operate)),
            (Method::GET, "/v1/likes", Some(Role::Read)),
            (Method::POST, "/x.Likes/Get", Some(Role::Read)),
            (Method::PUT, "/x.Likes/Get", Some(Role::Operate)),
            (Method::POST, "/x.Likes/Gets", Some(Role::Operate)),
        ] {
            let paths = Paths { writes: &["/v1/likes"], reads: &["/x.Likes/Get"], ..Paths::default() };
            assert_eq!(needed(&method, path, &paths), expected, "{method} {path}");
        }
    }
}

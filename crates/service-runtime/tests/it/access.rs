//! Ops HTTP with tokens, and what it refuses.

use crate::guarded::Guarded;
use axum::routing::{get, post};
use axum::{Extension, Router};
use service_runtime::AccessConfig;
use service_runtime::listen::access::Caller;
use service_runtime::listen::ops::{MAX_BODY_LEN, MAX_HEAD_LEN, MAX_HEADERS};
use service_runtime::{ConfigError, Gate, ServiceConfig};
use std::path::Path;
use std::time::Duration;
use test_support::http::{self, Answer};
use test_support::{eventually, try_eventually};

const PATIENCE: Duration = Duration::from_secs(20);
const METRICS: &str = "Authorization: Bearer token-that-scrapes-1";
const SOME: &str = "Authorization: Bearer token-of-some-users-1";
const READ: &str = "Authorization: Bearer token-that-reads-1";
const WRITE: &str = "Authorization: Bearer token-that-writes-1";
const OPERATE: &str = "Authorization: Bearer token-that-operates-1";
const JSON: &str = "Content-Type: application/json";
const TOKENS: &str = "\
prometheus metrics token-that-scrapes-1
some       write   token-of-some-users-1 users=1-100
page       read    token-that-reads-1
service    write   token-that-writes-1
alice      operate token-that-operates-1   # until she leaves
";

fn routes() -> Router {
    Router::new()
        .route("/", get(async || "a page"))
        .route("/assets/page.js", get(async || "a script"))
        .route("/things", get(async |Extension(caller): Extension<Caller>| caller.name.to_string()))
        .route(
            "/change",
            post(async |Extension(caller): Extension<Caller>, body: String| format!("{} {body}", caller.name)),
        )
}

impl Guarded {
    async fn with_tokens() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokens_file = dir.path().join("tokens");
        std::fs::write(&tokens_file, TOKENS).unwrap();
        let access = AccessConfig { tokens_file: Some(tokens_file), insecure: false };
        Self::start(dir, &ServiceConfig { access, ..ServiceConfig::default() }, routes()).await
    }

    async fn open(config: &ServiceConfig) -> Self {
        Self::start(tempfile::tempdir().unwrap(), config, routes()).await
    }

    async fn send(&self, line: &str, headers: &[&str]) -> Answer {
        http::send(&self.addr, line, headers, "").await.unwrap()
    }

    async fn status(&self, line: &str, headers: &[&str]) -> u16 {
        self.send(line, headers).await.status
    }

    fn write_tokens(&self, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.dir.path().join("tokens")).unwrap();
    }
}

#[tokio::test]
async fn each_route_has_its_role() {
    let ops = Guarded::with_tokens().await;
    for (line, nobody, metrics, some, read, write, operate) in [
        ("GET /", 200, 200, 200, 200, 200, 200),
        ("GET /assets/page.js", 200, 200, 200, 200, 200, 200),
        ("GET /health/live", 200, 200, 200, 200, 200, 200),
        ("GET /health", 200, 200, 200, 200, 200, 200),
        // Whoever is limited to some users sees nothing that knows no limits.
        ("GET /things", 401, 403, 403, 200, 200, 200),
        // Switched off in this context: let through, and then not found.
        ("GET /metrics", 401, 404, 404, 404, 404, 404),
        ("GET /nothing", 401, 403, 403, 404, 404, 404),
        ("POST /change", 401, 403, 403, 403, 403, 200),
        ("POST /nothing", 401, 403, 403, 403, 403, 404),
        ("DELETE /things", 401, 403, 403, 403, 403, 405),
        ("OPTIONS /change", 401, 403, 403, 403, 403, 405),
    ] {
        let tokens = [(None, nobody), (Some(METRICS), metrics), (Some(SOME), some)];
        for (token, expected) in
            tokens.into_iter().chain([(Some(READ), read), (Some(WRITE), write), (Some(OPERATE), operate)])
        {
            let headers: Vec<_> = token.into_iter().chain([JSON]).collect();
            assert_eq!(ops.status(line, &headers).await, expected, "{line} with {token:?}");
        }
    }
    assert_eq!(ops.send("GET /things", &[READ]).await.body, "page");
    assert_eq!(http::send(&ops.addr, "POST /change", &[OPERATE, JSON], "{}").await.unwrap().body, "alice {}");
}

#[tokio::test]
async fn what_is_not_one_valid_token_is_401_and_says_so() {
    let ops = Guarded::with_tokens().await;
    for headers in [
        &["Authorization: Bearer token-that-nobody-has"][..],
        &["Authorization: Bearer token-that-operates-"],
        &["Authorization: Bearer token-that-operates-11"],
        &["Authorization: token-that-operates-1"],
        &["Authorization: Basic dG9rZW4tdGhhdC1vcGVyYXRlcy0x"],
        &["Authorization: Bearer"],
        &["Authorization:"],
        &[OPERATE, READ],
        &["Cookie: token=token-that-operates-1"],
        &["X-Token: token-that-operates-1"],
    ] {
        let answer = ops.send("GET /things", headers).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert!(answer.head.to_lowercase().contains("\r\nwww-authenticate: bearer"), "{}", answer.head);
        assert!(answer.body.starts_with("{\"error\"") && !answer.body.contains("token-that"), "{}", answer.body);
    }
    for query in ["token", "access_token", "authorization", "bearer"] {
        let line = format!("GET /things?{query}=token-that-operates-1");
        assert_eq!(ops.status(&line, &[]).await, 401, "{line}");
    }
    let low = ops.send("POST /change", &[READ, JSON]).await;
    assert!(low.body.contains("needs role operate, the token has read"), "{}", low.body);
}

#[tokio::test]
async fn other_sites_change_nothing_and_read_nothing() {
    let ops = Guarded::with_tokens().await;
    let own = format!("Origin: http://{}", ops.addr);
    for (headers, expected) in [
        (&[JSON][..], 200),
        (&[JSON, own.as_str()], 200),
        (&[JSON, own.as_str(), "Sec-Fetch-Site: same-origin"], 200),
        (&[], 415),
        (&["Content-Type: text/plain"], 415),
        (&["Content-Type: application/x-www-form-urlencoded"], 415),
        (&["Content-Type: multipart/form-data; boundary=x"], 415),
        (&[JSON, "Origin: http://evil.example"], 403),
        (&[JSON, "Origin: http://127.0.0.1:1"], 403),
        (&[JSON, "Origin: null"], 403),
        (&[JSON, "Sec-Fetch-Site: cross-site"], 403),
    ] {
        let headers: Vec<_> = headers.iter().copied().chain([OPERATE]).collect();
        assert_eq!(ops.status("POST /change", &headers).await, expected, "{headers:?}");
    }
    for line in ["GET /things", "POST /change", "OPTIONS /change", "GET /"] {
        let preflight = ["Origin: http://evil.example", "Access-Control-Request-Method: POST", OPERATE, JSON];
        let head = ops.send(line, &preflight).await.head.to_lowercase();
        assert!(!head.contains("access-control-"), "{head}");
        for header in ["x-frame-options: deny", "x-content-type-options: nosniff"] {
            assert!(head.contains(header), "{header} in {head}");
        }
    }
}

#[tokio::test]
async fn without_tokens_names_that_may_be_rebound_are_refused() {
    let ops = Guarded::open(&ServiceConfig::default()).await;
    assert_eq!(ops.send("GET /things", &[]).await.body, "anyone");
    assert_eq!(ops.status("GET /things", &["Host: localhost:8893"]).await, 200);
    let rebound = ["Host: evil.example", "Origin: http://evil.example", JSON];
    assert_eq!(ops.status("GET /things", &rebound).await, 403);
    assert_eq!(ops.status("POST /change", &rebound).await, 403);
    assert_eq!(ops.status("POST /change", &[JSON]).await, 200);
    // Probes may use any name.
    assert_eq!(ops.status("GET /health", &["Host: server.example"]).await, 200);
    let ops = Guarded::with_tokens().await;
    assert_eq!(ops.status("GET /things", &["Host: server.example", READ]).await, 200);
}

#[tokio::test]
async fn heads_and_bodies_are_bounded() {
    let ops = Guarded::open(&ServiceConfig::default()).await;
    let long = format!("X-Long: {}", "x".repeat(MAX_HEAD_LEN));
    assert_eq!(ops.status("GET /things", &[&long]).await, 431);
    let long = format!("GET /things?{}", "x".repeat(MAX_HEAD_LEN));
    assert!(matches!(ops.status(&long, &[]).await, 414 | 431));
    assert_eq!(ops.status("GET /things", &["X-Short: x"; MAX_HEADERS]).await, 431);
    assert_eq!(ops.status("GET /things", &["X-Short: x"; MAX_HEADERS - 10]).await, 200);
    let body = "x".repeat(MAX_BODY_LEN + 1);
    assert_eq!(http::send(&ops.addr, "POST /change", &[JSON], &body).await.unwrap().status, 413);
    assert_eq!(ops.status("GET /things", &[]).await, 200);
}

#[tokio::test]
async fn tokens_change_without_a_restart() {
    let ops = Guarded::with_tokens().await;
    let next = "Authorization: Bearer token-of-tomorrow-1";
    ops.write_tokens("prometheus read token-that-reads-1\nalice operate token-of-tomorrow-1\n");
    let status = async |header: &str, expected: u16| {
        let found = ops.status("GET /things", &[header]).await;
        if found == expected { Ok(()) } else { Err(found) }
    };
    eventually(PATIENCE, "the new token", async || status(next, 200).await).await;
    assert_eq!(ops.status("GET /things", &[OPERATE]).await, 401);
    assert_eq!(ops.status("GET /things", &[READ]).await, 200);
    // A file that makes no sense changes nothing; the one after it does.
    for broken in [
        "alice operate\n",
        "",
        "alice god token-of-tomorrow-1\n",
        "a read \u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\n",
    ] {
        ops.write_tokens(broken);
        let gone = try_eventually(Duration::from_millis(2_500), "a refusal", async || status(next, 401).await);
        assert!(gone.await.is_err(), "{broken:?} was taken");
    }
    std::fs::remove_file(ops.dir.path().join("tokens")).unwrap();
    let gone = try_eventually(Duration::from_millis(2_500), "a refusal", async || status(next, 401).await);
    assert!(gone.await.is_err(), "a missing file was taken");
    ops.write_tokens(TOKENS);
    eventually(PATIENCE, "the old tokens", async || status(OPERATE, 200).await).await;
    assert_eq!(ops.status("GET /things", &[next]).await, 401);
}

#[tokio::test]
async fn only_this_machine_without_tokens() {
    let any: std::net::SocketAddr = ([0, 0, 0, 0], 0).into();
    let open = Gate::open(&ServiceConfig::default()).unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "10.1.2.3:0", "[::ffff:10.1.2.3]:0"] {
        let error = open.listen("service.http_addr", address.parse().unwrap()).await.unwrap_err();
        assert!(error.is::<ConfigError>(), "{error:#}");
        let error = error.to_string();
        for word in ["service.http_addr", "service.access.tokens_file", "service.access.insecure"] {
            assert!(error.contains(word), "{word} in {error}");
        }
    }
    for address in ["127.0.0.1:0", "127.1.2.3:0"] {
        open.listen("service.http_addr", address.parse().unwrap()).await.unwrap();
    }
    let insecure = AccessConfig { tokens_file: None, insecure: true };
    let insecure = Gate::open(&ServiceConfig { access: insecure, ..ServiceConfig::default() }).unwrap();
    insecure.listen("service.http_addr", any).await.unwrap();
    let ops = Guarded::with_tokens().await;
    ops.context.gate.listen("service.http_addr", any).await.unwrap();
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let open = |file: &Path| {
        let access = AccessConfig { tokens_file: Some(file.to_owned()), insecure: false };
        Gate::open(&ServiceConfig { access, ..ServiceConfig::default() }).unwrap_err().to_string()
    };
    let missing = open(&file);
    assert!(
        missing.starts_with("service.access.tokens_file: ") && missing.contains(file.to_str().unwrap()),
        "{missing}"
    );
    for (text, expected) in
        [("# none\n", "holds no token"), ("a read geheim-geheim-geheim\nb geheim-geheim-gehei2 write\n", "line 2: ")]
    {
        std::fs::write(&file, text).unwrap();
        let error = open(&file);
        assert!(error.contains(expected) && !error.contains("geheim"), "{error}");
    }
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(open(&file).contains("UTF-8"));
}

const SIGN_IN: &str = "POST /session";

#[tokio::test]
async fn a_browser_signs_in_and_its_cookie_does_what_its_token_may() {
    let ops = Guarded::with_tokens().await;
    let ours = format!("Origin: http://{}", ops.addr);
    let sign_in = async |token: &str, headers: &[&str]| {
        http::send(&ops.addr, SIGN_IN, headers, &format!("{{\"token\":\"{token}\"}}")).await.unwrap()
    };
    let who = async |cookie: &str| ops.send("GET /session", &[cookie]).await;
    assert!(who("X: y").await.body.contains(r#""needs_token":true,"signed_in":false,"name":null,"role":null"#));
    for (token, headers, expected) in [
        ("token-that-nobody-has", &[JSON, &ours][..], 401),
        ("token-that-scrapes-1", &[JSON, &ours], 403),
        ("token-of-some-users-1", &[JSON, &ours], 403),
        ("token-that-reads-1", &["Content-Type: text/plain", &ours], 415),
        ("token-that-reads-1", &[JSON, "Origin: http://evil.example"], 403),
        ("token-that-reads-1", &[JSON, &ours, "Sec-Fetch-Site: cross-site"], 403),
    ] {
        let answer = sign_in(token, headers).await;
        assert_eq!(answer.status, expected, "{token} {headers:?}: {}", answer.body);
        let head = answer.head.to_lowercase();
        assert!(!head.contains("set-cookie") && !answer.body.contains("token-"), "{head} {}", answer.body);
    }
    for (body, expected) in [
        ("{}", "missing field `token`"),
        ("{\"token\":1}", "token: "),
        ("", "body: "),
        ("{\"tokens\":\"\"}", "tokens: "),
    ] {
        let answer = http::send(&ops.addr, SIGN_IN, &[JSON, &ours], body).await.unwrap();
        assert!(answer.status == 400 && answer.body.contains(expected), "{body}: {}", answer.body);
    }

    let answer = sign_in("token-that-reads-1", &[JSON, &ours]).await;
    assert_eq!((answer.status, answer.body.contains("token-that")), (200, false), "{}", answer.body);
    let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert_eq!(cookie, "interaction_session=token-that-reads-1; HttpOnly; SameSite=Strict; Max-Age=43200");
    let reads = "Cookie: theme=dark; interaction_session=token-that-reads-1";
    let operates = "Cookie: interaction_session=token-that-operates-1";
    assert!(who(reads).await.body.contains(r#""signed_in":true,"name":"page","role":"read""#));
    for (line, headers, expected) in [
        ("GET /things", &[reads][..], 200),
        ("GET /things", &["Cookie: interaction_session=token-that-nobody-has"], 401),
        ("GET /things", &["Cookie: interaction_session="], 401),
        ("POST /change", &[reads, JSON, &ours], 403),
        ("POST /change", &[operates, JSON, &ours], 200),
        // A cookie goes along whatever page made the browser ask.
        ("POST /change", &[operates, JSON], 403),
        ("POST /change", &[operates, JSON, "Origin: http://evil.example"], 403),
        ("POST /change", &[operates, JSON, "Origin: http://127.0.0.1:1"], 403),
        ("POST /change", &[operates, JSON, "Origin: null"], 403),
        ("POST /change", &[operates, &ours, "Content-Type: text/plain"], 415),
        // What a program says itself comes first.
        ("POST /change", &[operates, READ, JSON, &ours], 403),
        ("GET /things", &[operates, "Authorization: Bearer token-that-nobody-has"], 401),
    ] {
        assert_eq!(ops.status(line, headers).await, expected, "{line} {headers:?}");
    }
    let answer = ops.send("DELETE /session", &[reads, JSON, &ours]).await;
    assert!(answer.status == 200 && answer.head.contains("interaction_session=; "), "{}", answer.head);
    assert!(answer.head.contains("cross-origin-resource-policy: same-origin"), "{}", answer.head);

    // Who leaves the file is no longer signed in.
    ops.write_tokens("alice operate token-that-operates-1\n");
    eventually(PATIENCE, "a token that left", async || {
        let status = ops.status("GET /things", &[reads]).await;
        if status == 401 { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn behind_a_proxy_the_public_origin_is_ours() {
    let config = ServiceConfig {
        public_origin: Some("https://ops.example.com".to_owned().try_into().unwrap()),
        ..ServiceConfig::default()
    };
    let ops = Guarded::open(&config).await;
    for (host, origin, expected) in [
        // As nginx does by default, and as it may be told to.
        (&*ops.addr, "https://ops.example.com", 200),
        ("ops.example.com", "https://ops.example.com", 200),
        (&*ops.addr, "http://ops.example.com", 403),
        (&*ops.addr, "https://evil.example", 403),
        ("evil.example", "https://ops.example.com", 403),
    ] {
        let (host, origin) = (format!("Host: {host}"), format!("Origin: {origin}"));
        let status = ops.status("POST /change", &[&host, &origin, JSON]).await;
        assert_eq!(status, expected, "{host} {origin}");
    }
}

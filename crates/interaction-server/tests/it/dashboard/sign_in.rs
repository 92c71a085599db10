//! Who may see the page and do something there: tokens, cookies, roles; also behind a proxy, and on the pages of a consumer and
//! a checker.

use super::prefix;
use super::watch::{assert_accessible, assert_fits, assert_quiet, picture, wait_text, wait_true};
use crate::client::{Grpc, deployed, like, video};
use std::time::Duration;
use test_support::{Browser, eventually, http};

const TOKENS: &str = "look read token-that-reads-1\nrun operate token-that-operates-1\n";
const OPERATE: &str = "Authorization: Bearer token-that-operates-1";

/// Elements that can be seen.
const ACTIONS: &str =
    "return [...document.querySelectorAll('[data-needs=operate]')].filter((one) => one.checkVisibility()).length";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_signs_in_once_and_sees_what_its_role_may_do() {
    let deployment = deployed().await.with_tokens(TOKENS).unwrap();
    let server = deployment.server().start_ready().await.unwrap();
    let page = format!("http://{}/", server.http());
    let browser = Browser::start(1440, 900).await.unwrap();
    browser.open(&page).await.unwrap();
    wait_true(&browser, "return document.querySelector('#sign-in').checkVisibility()").await;
    assert_eq!(browser.run("return document.querySelector('#content').hidden").await.unwrap(), true);
    assert_accessible(&browser, "signed out").await;
    browser.screenshot(&picture("08-signed-out.png")).await.unwrap();

    browser.type_into("#token", "token-that-nobody-has\u{E007}").await.unwrap();
    wait_text(&browser, "#notice", |text| text == "the token is not known").await;
    browser.type_into("#token", "token-that-reads-1\u{E007}").await.unwrap();
    wait_text(&browser, "#me", |text| text == "look, role read").await;
    wait_text(&browser, "#health", |text| text == "ok" || text == "degraded").await;
    assert_eq!(browser.run(ACTIONS).await.unwrap(), 0, "who may only look sees nothing to press");
    // No script reads the token, and nothing else keeps it.
    let kept = "return document.cookie.length + localStorage.length + sessionStorage.length";
    assert_eq!(browser.run(kept).await.unwrap(), 0);
    assert!(
        !browser.run("return document.documentElement.innerHTML").await.unwrap().to_string().contains("token-that")
    );

    // Links work, in another visit, too.
    for (path, shown) in
        [("overview", "circuits"), ("metrics", "# TYPE"), ("consistency/report?hours=1", "Consistency")]
    {
        browser.open(&format!("{page}{path}")).await.unwrap();
        wait_text(&browser, "body", |text| text.contains(shown)).await;
    }
    browser.open(&page).await.unwrap();
    wait_text(&browser, "#me", |text| text == "look, role read").await;

    // What the page does not show is refused as well, and so is a change that no page of ours asked for.
    let change = "return fetch('cache/warmup', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' }).then((answer) => answer.status)";
    assert_eq!(browser.run(change).await.unwrap(), 403);
    let cookie = "Cookie: interaction_session=token-that-operates-1";
    let (json, ours) = ("Content-Type: application/json", format!("Origin: http://{}", server.http()));
    for (headers, status) in [
        (&[cookie, json][..], 403),
        (&[cookie, json, "Origin: http://evil.example"], 403),
        (&[cookie, json, "Origin: http://127.0.0.1:1"], 403),
        (&[cookie, json, &ours], 200),
        (&[OPERATE, json], 200),
    ] {
        let answer = http::send(&server.http(), "POST /cache/warmup", headers, "{}").await.unwrap();
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
    }

    browser.click("#sign-out").await.unwrap();
    wait_true(&browser, "return document.querySelector('#sign-in').checkVisibility()").await;
    browser.type_into("#token", "token-that-operates-1\u{E007}").await.unwrap();
    wait_text(&browser, "#me", |text| text == "run, role operate").await;
    wait_true(&browser, "return document.querySelector('#check').checkVisibility()").await;
    // A token that is taken away is no longer good, wherever it was good.
    deployment.clone().with_tokens("look read token-that-reads-1\n").unwrap();
    wait_true(&browser, "return document.querySelector('#sign-in').checkVisibility()").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_with_a_prefix_everything_works() {
    let deployment = deployed().await.with_tokens(TOKENS).unwrap();
    let ports = test_support::Ports::lease().unwrap();
    let proxy = prefix::serve("/ops/likes", ports.http()).await;
    let origin = format!("http://localhost:{}", proxy.rsplit(':').next().unwrap());
    let server = deployment.server().at(&ports).with("SERVICE__PUBLIC_ORIGIN", &origin).start_ready().await.unwrap();
    let big = 9_007_199_254_740_993;
    let mut client = server.client().await;
    let mut request = tonic::Request::new(like(1, video(big)));
    request.metadata_mut().insert("authorization", "Bearer token-that-operates-1".parse().unwrap());
    client.like(request).await.unwrap();

    let browser = Browser::start(1440, 900).await.unwrap();
    browser.open(&format!("{origin}/ops/likes/")).await.unwrap();
    browser.type_into("#token", "token-that-operates-1\u{E007}").await.unwrap();
    wait_text(&browser, "#me", |text| text == "run, role operate").await;
    // Also what changes something; and an id that no JavaScript number can be.
    browser.type_into("#c-id", &big.to_string()).await.unwrap();
    browser.click("#check button").await.unwrap();
    wait_text(&browser, "#check-result", |text| text.contains(&format!("video:{big} is"))).await;
    browser.click("#check-result a").await.unwrap();
    wait_text(&browser, "#resource-name", |text| text == format!("video:{big}")).await;
    wait_text(&browser, "#counts", |text| text.contains("What callers see\t1")).await;
    let here = browser.run("return location.href").await.unwrap();
    assert_eq!(here, format!("{origin}/ops/likes/?view=resource&resource=video:{big}"));
    let elsewhere = "return performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname).filter((path) => !path.startsWith('/ops/likes/'))";
    assert_eq!(browser.run(elsewhere).await.unwrap(), serde_json::json!([]));
    // Who signed in stays so.
    browser.open(&format!("{origin}/ops/likes/?view=report")).await.unwrap();
    wait_text(&browser, "#report-tiles", |text| text.contains("compared, in")).await;
    assert_quiet(&browser).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumer_and_checker_have_a_small_page() {
    let deployment = deployed().await.with_tokens(TOKENS).unwrap();
    let (server, consumer, checker) = tokio::try_join!(
        deployment.server().start_ready(),
        deployment.consumer().start_ready(),
        deployment.checker().start_ready()
    )
    .unwrap();
    let browser = Browser::start(1440, 900).await.unwrap();
    for (program, name, figure) in
        [(&consumer, "sync-consumer", "Events applied"), (&checker, "consistency-checker", "Compared")]
    {
        browser.resize(1440, 900, false).await.unwrap();
        browser.open(&format!("http://{}/", program.http())).await.unwrap();
        wait_text(&browser, "#service", |text| text == name).await;
        wait_text(&browser, "#parts", |text| text.contains("redis") && text.contains("ok")).await;
        wait_text(&browser, "#as-of", |text| text.starts_with("As of ")).await;
        // Cookies know no ports: who signed in at the first of them is known to the other.
        if name == "sync-consumer" {
            browser.type_into("#token", "token-that-reads-1\u{E007}").await.unwrap();
        }
        wait_text(&browser, "#figures", |text| text.contains(figure)).await;
        assert_accessible(&browser, name).await;
        browser.resize(390, 844, true).await.unwrap();
        assert_fits(&browser, 390, name).await;
        browser.screenshot(&picture(&format!("13-{name}.png"))).await.unwrap();
        assert_quiet(&browser).await;
        browser.open(&format!("http://{}/?lang=zh", program.http())).await.unwrap();
        wait_text(&browser, "#parts-title", |text| text == "组成部分").await;
    }

    // The page of a server names them all, with their state and age.
    browser.resize(1440, 900, false).await.unwrap();
    browser.open(&format!("http://{}/", server.http())).await.unwrap();
    for name in ["interaction-server", "sync-consumer", "consistency-checker"] {
        wait_text(&browser, "#processes", |text| text.contains(name)).await;
    }
    // What a process said as it started stays for five seconds.
    wait_true(&browser, "return document.querySelectorAll('#processes .chip.down').length === 0").await;
    // Who stops leaves the list; who dies stays, without a word.
    consumer.end(Duration::from_secs(20)).await.unwrap();
    wait_text(&browser, "#processes", |text| !text.contains("sync-consumer")).await;
    drop(checker);
    eventually(Duration::from_secs(60), "a lost checker", async || {
        let text = browser.text("#processes").await.map_err(|error| format!("{error:#}"))?;
        if text.contains("no word") { Ok(()) } else { Err(text) }
    })
    .await;
}

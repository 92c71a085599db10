//! The page in headless Chromium: it loads, it moves, it replays, and it fits on a phone.

mod prefix;
mod sign_in;
mod views;
mod watch;

use crate::client::{Grpc, PATIENCE, fresh_id, like, video};
use crate::events::Incident;
use std::time::Duration;
use test_support::{Browser, eventually};
use tokio_util::sync::CancellationToken;
use watch::{assert_accessible, assert_drawn, assert_fits, assert_quiet, picture, wait_rows, wait_text};

/// Of the dead events; others are liked to make numbers move.
const POISONED: i64 = 7;

/// Every control says what it is, and no two things have one id.
const UNNAMED: &str = "
    const named = (one) => one.ariaLabel || one.labels?.length || one.textContent.trim();
    const bad = [...document.querySelectorAll('button, input, select, summary, a')].filter((one) => !named(one));
    const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
    return bad.map((one) => one.outerHTML).concat(ids.filter((id, i) => ids.indexOf(id) !== i));";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_loads_moves_replays_discards_and_explains() {
    let incident = Incident::new(POISONED, 4).await;
    let browser = Browser::start(1440, 900).await.unwrap();
    browser.open(&format!("http://{}/", incident.server.http())).await.unwrap();
    wait_text(&browser, "#health", |text| ["ok", "degraded"].contains(&text)).await;
    wait_rows(&browser, 4).await;
    assert!(browser.text("#event-list").await.unwrap().contains("poisoned"));
    assert_eq!(browser.run(UNNAMED).await.unwrap(), serde_json::json!([]));
    assert_quiet(&browser).await;

    // Numbers move under load.
    let stop = CancellationToken::new();
    let load = {
        let (mut client, stop) = (incident.server.client().await, stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                let user = fresh_id();
                // Where the machine stands still for seconds some come too late: the others move the numbers.
                let _ = client.like(like(1_000 + user, video(100 + user * user % 7))).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    let above_zero = |text: &str| text.replace(',', "").parse::<f64>().is_ok_and(|rate| rate > 0.0);
    wait_text(&browser, "#rate", above_zero).await;
    wait_text(&browser, "#lag50", |text| text.ends_with(" ms") || text.ends_with(" s")).await;
    wait_text(&browser, "#lag-note", |text| text.starts_with("over the last 60 s: newest ")).await;
    wait_text(&browser, "#batch-publish", above_zero).await;
    wait_text(&browser, "#queue-unit", |text| text.contains("1 consumer") && !text.contains("consumers")).await;
    wait_text(&browser, "#hot", |text| text.contains("video:10")).await;
    wait_text(&browser, "#ledger", |text| text.contains("completed") && text.contains("dead")).await;
    wait_text(&browser, "#parts", |text| text.matches("\nreachable").count() == 3).await;
    let before = browser.text("#ledger").await.unwrap();
    wait_text(&browser, "#ledger", |text| text != before).await;
    // Some points for the charts.
    eventually(PATIENCE, "points", async || {
        let points = browser.run("return Number(document.querySelector('#rate-chart').dataset.points)").await.unwrap();
        if points.as_u64() >= Some(6) { Ok(()) } else { Err(points) }
    })
    .await;
    assert_eq!(browser.count(".chart canvas").await.unwrap(), 5);
    assert_drawn(&browser).await;
    let label = browser.run("return document.querySelector('#lag-chart').ariaLabel").await.unwrap();
    assert!(label.as_str().unwrap().contains(": between "), "{label}");
    // All charts tell of the time under the mouse.
    browser.run("document.querySelector('#rate-chart').scrollIntoView({ block: 'center' })").await.unwrap();
    browser.hover("#rate-chart .u-over").await.unwrap();
    wait_text(&browser, "#rate-chart .tip", |text| text.contains(" · ")).await;
    wait_text(&browser, "#lag-chart .tip", |text| text.contains("median ") && text.contains("p99 ")).await;
    browser.screenshot(&picture("01-light.png")).await.unwrap();
    browser.prefer_dark(true).await.unwrap();
    let brightness = "const [r, g, b] = getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g);
        return (Number(r) + Number(g) + Number(b)) / 3";
    assert!(browser.run(brightness).await.unwrap().as_f64().unwrap() < 60.0, "not dark");
    assert_drawn(&browser).await;
    browser.screenshot(&picture("02-dark.png")).await.unwrap();
    assert_accessible(&browser, "dark").await;
    browser.prefer_dark(false).await.unwrap();
    assert!(browser.run(brightness).await.unwrap().as_f64().unwrap() > 200.0, "not light");
    assert_accessible(&browser, "light").await;

    // Looking again leaves in place what has not changed: a click is not lost between press and release.
    browser.run("document.querySelector('#event-list tbody tr').marked = true").await.unwrap();
    let looks = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('/events?')).length";
    browser.run("performance.clearResourceTimings()").await.unwrap();
    eventually(PATIENCE, "two more looks", async || {
        let now = browser.run(looks).await.unwrap().as_u64().unwrap();
        if now >= 4 { Ok(()) } else { Err(now) }
    })
    .await;
    assert_eq!(browser.run("return document.querySelector('#event-list tbody tr').marked").await.unwrap(), true);

    // One dead event by mouse.
    incident.over().await;
    browser.click("#event-list tbody tr:first-child td.act button:first-child").await.unwrap();
    wait_text(&browser, "#confirm-title", |text| text == "Replay 1 event?").await;
    browser.screenshot(&picture("confirm.png")).await.unwrap();
    browser.type_into("#actor", "ann").await.unwrap();
    browser.click("#go").await.unwrap();
    wait_text(&browser, "#done", |text| text == "1 event replayed.").await;
    wait_rows(&browser, 3).await;
    incident.wait("dead", 3).await;
    wait_text(&browser, "#deeds", |text| text.contains("ann (127.0.0.1): replay of 1 by id, 1 changed")).await;

    // One is discarded by keyboard alone: Space chooses it, Enter opens, the reason is typed, Enter says go.
    browser.run("document.querySelector('#event-list tbody input[type=checkbox]').focus()").await.unwrap();
    browser.press(" ").await.unwrap();
    wait_text(&browser, "#chosen", |text| text == "1 chosen").await;
    browser.run("document.querySelector('#discard-chosen').focus()").await.unwrap();
    browser.press("\u{E007}").await.unwrap();
    wait_text(&browser, "#confirm-title", |text| text == "Discard 1 event?").await;
    browser.press("\u{E007}").await.unwrap();
    assert_eq!(browser.count("dialog[open]").await.unwrap(), 1, "without a reason nothing is discarded");
    browser.press("a test user\u{E007}").await.unwrap();
    wait_text(&browser, "#done", |text| text == "1 event discarded.").await;
    incident.wait("discarded", 1).await;

    // The rest at once.
    wait_rows(&browser, 2).await;
    browser.click("#replay-all").await.unwrap();
    wait_text(&browser, "#confirm-title", |text| text == "Replay 2 events?").await;
    browser.click("#go").await.unwrap();
    wait_text(&browser, "#done", |text| text == "2 events replayed.").await;
    wait_rows(&browser, 0).await;
    wait_text(&browser, "#no-events", |text| text.starts_with("No event matches")).await;

    // What became of it all.
    browser.type_into("#e-user", "1").await.unwrap();
    browser.type_into("#e-id", "7").await.unwrap();
    browser.click("#explain button").await.unwrap();
    wait_text(&browser, "#explain-result", |text| text.contains("accepted") && text.contains("replay")).await;
    browser.type_into("#c-id", "7").await.unwrap();
    browser.click("#check button").await.unwrap();
    wait_text(&browser, "#check-result", |text| text.contains("video:7 is consistent")).await;
    browser.screenshot(&picture("explained.png")).await.unwrap();

    // A phone.
    browser.resize(390, 844, true).await.unwrap();
    browser.run("document.querySelector('#f-status').value = 'completed'; document.querySelector('#filter').requestSubmit()").await.unwrap();
    wait_rows(&browser, 20).await;
    assert_fits(&browser, 390, "a phone").await;
    let narrow =
        browser.run("return Math.max(...[...document.querySelectorAll('.uplot')].map((one) => one.offsetWidth))");
    assert!(narrow.await.unwrap().as_u64().unwrap() < 390, "a chart is wider than the phone");
    assert_drawn(&browser).await;
    browser.screenshot(&picture("phone.png")).await.unwrap();
    browser.prefer_dark(true).await.unwrap();
    browser.screenshot(&picture("phone-dark.png")).await.unwrap();

    let elsewhere = "return performance.getEntriesByType('resource').map((one) => one.name).filter((name) => !name.startsWith(location.origin))";
    assert_eq!(browser.run(elsewhere).await.unwrap(), serde_json::json!([]));
    assert_quiet(&browser).await;
    stop.cancel();
    load.await.unwrap();
}

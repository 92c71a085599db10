//! The views of the page: history, events, one resource, the report; what is said when a store or the server is lost; all of
//! them by address, on a phone, in the dark, in Chinese, and for whoever cannot see them.

use super::watch::{
    assert_accessible, assert_drawn, assert_fits, assert_quiet, picture, wait_rows, wait_text, wait_true,
};
use crate::client::{Grpc, deployed, like, video};
use crate::events::Incident;
use std::fmt::Write;
use std::time::Duration;
use test_support::{Browser, Links};

const DEAD: i64 = 7;

/// A day of samples, one a minute, with an hour missing.
async fn remember_a_day(incident: &Incident) {
    let now: i64 = incident.sql("SELECT FLOOR(UNIX_TIMESTAMP() / 60)").await.trim().parse().unwrap();
    let mut rows = String::new();
    for age in (1..1_439_i64).filter(|age| !(600..660).contains(age)) {
        let comma = if rows.is_empty() { "" } else { "," };
        let wave = (age % 120 - 60).abs();
        let _ = write!(
            rows,
            "{comma}({}, {}, {}, {}, {}, {}, {}, 0, {}, {})",
            now - age,
            (1_440 - age) * 6_000,
            10 + wave,
            wave / 4,
            3 + wave / 10,
            20 + wave,
            i64::from(age < 200) * 3,
            i64::from(age < 100),
            1_000_000 - wave
        );
    }
    incident.sql(&format!("REPLACE INTO sync_samples (sampled_minute, accepted, journal, queue, lag_p50_ms, lag_p99_ms, failed, dead, open_findings, consistent_ppm) VALUES {rows}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_addresses_and_each_can_be_used_by_everybody() {
    let incident = Incident::new(DEAD, 6).await;
    let page = format!("http://{}/", incident.server.http());
    let browser = Browser::start(1440, 900).await.unwrap();

    // Before the first minute is over there is one sample: a dot, and what needs two says so.
    incident.sql("DELETE FROM sync_samples").await;
    browser.open(&format!("{page}?range=1h")).await.unwrap();
    wait_text(&browser, "#rate-chart .none", |text| {
        text == "nothing yet: the first minute is not over" || text == "hidden"
    })
    .await;
    // Each line of a chart has its name beside its colour.
    let lines = "return [...document.querySelectorAll('.tile')].filter((one) => one.querySelector('.chart')).map((one) => one.querySelectorAll('.key').length)";
    assert_eq!(browser.run(lines).await.unwrap(), serde_json::json!([1, 2, 2, 3, 1]));
    browser.screenshot(&picture("16-first-minute.png")).await.unwrap();
    wait_text(&browser, "#journal-note", |text| text.starts_with("the journal is empty; in no row yet: 6 dead, 0"))
        .await;
    remember_a_day(&incident).await;

    // A day of history, by its address; the gap of the hour that nobody sampled stays one.
    browser.open(&format!("{page}?range=24h")).await.unwrap();
    let drawn = "return [...document.querySelectorAll('.chart')].every((one) => Number(one.dataset.points) > 1000)";
    wait_true(&browser, drawn).await;
    assert_drawn(&browser).await;
    let label = "return document.querySelector('#rate-chart').ariaLabel";
    let label = browser.run(label).await.unwrap();
    assert!(
        label.as_str().unwrap().starts_with("Accepted likes per second, the last 24 h: between 100 and"),
        "{label}"
    );
    browser.hover("#lag-chart .u-over").await.unwrap();
    wait_text(&browser, "#lag-chart .tip", |text| text.contains("p99") && text.contains("median")).await;
    browser.screenshot(&picture("07-history.png")).await.unwrap();
    browser.click("#ranges [data-range='1h']").await.unwrap();
    wait_true(&browser, "return location.search === '?range=1h'").await;
    browser.run("history.back()").await.unwrap();
    wait_true(&browser, "return document.querySelector('#ranges [data-range=\"24h\"]').ariaCurrent === 'true'").await;
    assert_accessible(&browser, "now").await;

    // Events: what they failed with, as one line; by text, by id, by time.
    browser.open(&format!("{page}?view=events&status=dead")).await.unwrap();
    wait_rows(&browser, 6).await;
    wait_text(&browser, "#group-list", |text| text.contains("poisoned video") && text.contains('6')).await;
    assert_accessible(&browser, "events").await;
    browser.screenshot(&picture("03-events.png")).await.unwrap();
    browser.type_into("#f-q", "no such error\u{E007}").await.unwrap();
    wait_rows(&browser, 0).await;
    wait_text(&browser, "#no-events", |text| text.starts_with("No event matches")).await;
    wait_true(&browser, "return new URLSearchParams(location.search).get('q') === 'no such error'").await;
    browser.run("history.back()").await.unwrap();
    wait_rows(&browser, 6).await;
    browser.run("document.querySelector('#f-q').value = ''").await.unwrap();
    browser.type_into("#f-q", "POISONED\u{E007}").await.unwrap();
    wait_rows(&browser, 6).await;
    let id = browser.run("return document.querySelector('#event-list tbody tr').dataset.id").await.unwrap();
    let id = id.as_str().unwrap();
    browser.open(&format!("{page}?view=events&status=dead&q={id}")).await.unwrap();
    wait_rows(&browser, 1).await;
    browser.open(&format!("{page}?view=events&event={id}")).await.unwrap();
    wait_rows(&browser, 1).await;
    wait_true(&browser, "return document.querySelector('#event-list details').open").await;
    let past = "?view=events&status=dead&within=own&since=2020-01-01T00:00:00&until=2020-01-02T00:00:00";
    browser.open(&format!("{page}{past}")).await.unwrap();
    wait_rows(&browser, 0).await;
    wait_true(&browser, "return document.querySelector('#f-since').checkVisibility()").await;

    // One resource: its count everywhere, what is on its way, its events; and the story of one of its likes.
    browser.open(&format!("{page}?view=resource&resource=video:{DEAD}&user=3")).await.unwrap();
    wait_text(&browser, "#counts", |text| {
        text.contains("What callers see") && text.contains("Rows of likes that hold")
    })
    .await;
    wait_text(&browser, "#unfinished", |text| text.contains("dead") && text.contains('6')).await;
    wait_text(&browser, "#resource-events", |text| text.matches("user ").count() == 6).await;
    wait_text(&browser, "#explain-result", |text| text.contains("accepted") && text.contains("dead")).await;
    assert_accessible(&browser, "resource").await;
    browser.screenshot(&picture("05-resource.png")).await.unwrap();
    browser.click("#unfinished a").await.unwrap();
    wait_true(&browser, "return document.body.dataset.view === 'events'").await;
    wait_rows(&browser, 6).await;

    // The report, with what the check of this resource finds.
    browser.open(&format!("{page}?view=resource&resource=video:{DEAD}")).await.unwrap();
    wait_true(&browser, "return document.querySelector('#c-id').value === '7'").await;
    browser.click("#check button").await.unwrap();
    wait_text(&browser, "#check-result", |text| text.contains("video:7 is")).await;
    browser.open(&format!("{page}?view=report")).await.unwrap();
    wait_text(&browser, "#report-troubles", |text| text.contains("6 accepted likes are dead")).await;
    wait_text(&browser, "#report-findings", |text| text.contains("video:7")).await;
    wait_text(&browser, "#report-runs", |text| text.contains("on demand")).await;
    assert_accessible(&browser, "report").await;
    browser.screenshot(&picture("06-report.png")).await.unwrap();
    browser.click("#report-ranges [data-hours='168']").await.unwrap();
    wait_true(&browser, "return location.search === '?view=report&hours=168'").await;

    // By keyboard alone: past the header, and from view to view.
    browser.open(&page).await.unwrap();
    wait_rows(&browser, 6).await;
    browser.press("\u{E004}").await.unwrap();
    wait_text(&browser, "a:focus", |text| text.starts_with("Skip")).await;
    browser.press("\u{E007}").await.unwrap();
    wait_true(&browser, "return document.activeElement.id === 'main'").await;
    browser.run("document.querySelector('#views a[data-view=report]').focus()").await.unwrap();
    browser.press("\u{E007}").await.unwrap();
    wait_true(&browser, "return document.body.dataset.view === 'report'").await;
    browser.run("document.querySelector('#views a[data-view=now]').focus()").await.unwrap();
    browser.press("\u{E007}").await.unwrap();
    browser.run("document.querySelector('.term summary').focus()").await.unwrap();
    browser.press("\u{E007}").await.unwrap();
    wait_true(&browser, "return document.querySelector('.term').open").await;
    assert_quiet(&browser).await;

    // On a phone, in both colours.
    browser.resize(390, 844, true).await.unwrap();
    for (n, view) in
        [(11, "?"), (12, "?view=events"), (14, "?view=resource&resource=video:7&user=3"), (15, "?view=report")]
    {
        let name = format!("phone {view}");
        browser.open(&format!("{page}{view}")).await.unwrap();
        wait_true(&browser, "return document.querySelectorAll('main tbody tr').length > 3").await;
        assert_fits(&browser, 390, &name).await;
        assert_accessible(&browser, &name).await;
        browser.screenshot(&picture(&format!("{n}-phone.png"))).await.unwrap();
        browser.prefer_dark(true).await.unwrap();
        assert_accessible(&browser, &format!("{name}, dark")).await;
        browser.screenshot(&picture(&format!("{n}-phone-dark.png"))).await.unwrap();
        browser.prefer_dark(false).await.unwrap();
    }
    browser.open(&format!("{page}consistency/report")).await.unwrap();
    assert_fits(&browser, 390, "the report as a page of its own").await;

    // In Chinese; the address keeps the language.
    browser.resize(1440, 900, false).await.unwrap();
    browser.open(&format!("{page}?lang=zh")).await.unwrap();
    wait_rows(&browser, 6).await;
    wait_text(&browser, "#events-title", |text| text == "事件").await;
    wait_true(&browser, "return document.documentElement.lang === 'zh'").await;
    assert_accessible(&browser, "Chinese").await;
    browser.screenshot(&picture("10-chinese.png")).await.unwrap();
    browser.click("#views a[data-view=report]").await.unwrap();
    wait_text(&browser, "#report-title", |text| text == "缓存与数据库的一致性").await;
    assert_eq!(browser.run("return location.search").await.unwrap(), "?view=report&lang=zh");

    // All of one error, at once.
    incident.over().await;
    browser.open(&format!("{page}?view=events&status=dead")).await.unwrap();
    wait_text(&browser, "#group-list", |text| text.contains("poisoned video")).await;
    browser.click("#group-list [data-act=replay]").await.unwrap();
    wait_text(&browser, "#confirm-title", |text| text == "Replay 6 events?").await;
    assert_accessible(&browser, "dialog").await;
    browser.click("#go").await.unwrap();
    wait_text(&browser, "#done", |text| text == "6 events replayed.").await;
    incident.wait("completed", 6).await;
    wait_rows(&browser, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_said_and_is_not_green() {
    let deployment = deployed().await.with("EVENT_DRIVEN_SYNC__CIRCUIT__PROBE_INTERVAL", "200ms");
    let links = Links::to(&deployment).await.unwrap();
    let deployment = deployment.through(&links);
    let server = deployment.server().start_ready().await.unwrap();
    server.client().await.like(like(1, video(1))).await.unwrap();
    let browser = Browser::start(1440, 900).await.unwrap();
    browser.open(&format!("http://{}/", server.http())).await.unwrap();
    wait_text(&browser, "#parts", |text| text.matches("\nreachable").count() == 3).await;
    let green = "
        const probe = document.body.appendChild(Object.assign(document.createElement('i'), { className: 'chip ok' }));
        const { color } = getComputedStyle(probe);
        probe.remove();
        return [...document.querySelectorAll('main .chip')].filter((one) => one.checkVisibility() && getComputedStyle(one).color === color).length";
    assert!(browser.run(green).await.unwrap().as_u64().unwrap() > 0);

    // A dead like: the journal is empty, and not all is in the database.
    deployment
        .sql(
            "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, version, status, \
             origin, max_retries, error_message, created_at, updated_at) VALUES (UNHEX('018bcfe5680070008000000000000001'), \
             'video_like', 'video', 9, 9, 'like', 1700000000000000, 'dead', 'journal', 1, 'refused', NOW(), NOW())",
        )
        .await
        .unwrap();
    wait_rows(&browser, 1).await;
    wait_text(&browser, "#replay-all", |text| text.starts_with("Replay all")).await;
    assert_eq!(browser.run("return document.querySelector('#replay-all').disabled").await.unwrap(), false);

    // The database: nothing that it would say is shown as if it were so.
    links.mariadb.cut().await;
    wait_text(&browser, "#parts", |text| text.contains("unreachable")).await;
    wait_text(&browser, "#lag-note", |text| text == "cannot ask the database").await;
    for nothing in ["#ledger-none", "#hot-none", "#processes-none", "#deeds-none", "#events-none"] {
        wait_text(&browser, nothing, |text| text == "cannot ask the database").await;
    }
    wait_text(&browser, "#dead", |text| text == "–").await;
    wait_text(&browser, "#health", |text| text == "degraded").await;
    wait_text(&browser, "#troubles", |text| text.contains("mysql")).await;
    assert_eq!(browser.run("return document.querySelector('#no-events').checkVisibility()").await.unwrap(), false);
    // What cannot be done now cannot be pressed, and says why.
    wait_text(&browser, "#no-operating", |text| text.starts_with("cannot ask the database: nothing can be")).await;
    let pressable = "return [...document.querySelectorAll('#bulk button, #events td.act button')].filter((one) => !one.disabled).length";
    wait_true(&browser, &format!("{} === 0", pressable.trim_end_matches(';'))).await;
    wait_text(&browser, "#open-findings", |text| text == "cannot ask the database").await;
    wait_text(&browser, "#parts", |text| text.matches("unknown").count() >= 3).await;
    wait_text(&browser, "#troubles", |text| text.contains("ledger and findings were not read for")).await;
    assert_accessible(&browser, "without the database").await;
    browser.screenshot(&picture("09-no-database.png")).await.unwrap();
    links.mariadb.restore().await.unwrap();
    wait_text(&browser, "#ledger", |text| text.contains("completed")).await;
    wait_text(&browser, "#no-operating", |text| text == "hidden").await;
    wait_true(&browser, "return !document.querySelector('#replay-all').disabled").await;

    // The server: what was seen is old.
    server.end(Duration::from_secs(20)).await.unwrap();
    wait_text(&browser, "#health", |text| text == "no answer").await;
    wait_text(&browser, "#as-of", |text| text.starts_with("No answer since ")).await;
    wait_text(&browser, "#notice", |text| text.contains("does not answer")).await;
    wait_true(&browser, "return document.body.classList.contains('stale')").await;
    assert_eq!(browser.run(green).await.unwrap(), 0, "a lost server is not green");
    browser.screenshot(&picture("04-lost.png")).await.unwrap();
}

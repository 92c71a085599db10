//! What the tests of the page look at.

use crate::client::PATIENCE;
use serde_json::json;
use std::path::PathBuf;
use test_support::{Browser, eventually, expect_eq};

/// Where pictures of the page are left for whoever looks at them.
pub(crate) fn picture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dashboard").join(name)
}

/// Waits for what can be seen of an element.
pub(crate) async fn wait_text(browser: &Browser, selector: &str, fits: impl Fn(&str) -> bool) {
    let script = format!(
        "const found = document.querySelector({});
         return found === null ? 'not there' : found.checkVisibility() ? found.innerText : 'hidden'",
        json!(selector)
    );
    eventually(PATIENCE, selector, async || {
        let text = browser.run(&script).await.map_err(|error| format!("{error:#}"))?;
        let text = text.as_str().unwrap_or_default();
        if fits(text) { Ok(()) } else { Err(text.to_owned()) }
    })
    .await;
}

/// Waits until a script says true.
pub(crate) async fn wait_true(browser: &Browser, script: &str) {
    eventually(PATIENCE, script, async || {
        let said = browser.run(script).await.map_err(|error| format!("{error:#}"))?;
        if said == json!(true) { Ok(()) } else { Err(said.to_string()) }
    })
    .await;
}

pub(crate) async fn wait_rows(browser: &Browser, rows: u64) {
    eventually(PATIENCE, "rows of events", async || {
        expect_eq(browser.count("#event-list tbody tr").await.map_err(|error| format!("{error:#}"))?, rows)
    })
    .await;
}

/// Nothing went wrong that only a developer would see.
pub(crate) async fn assert_quiet(browser: &Browser) {
    let said = browser.console().await.unwrap();
    assert!(said.iter().all(|(level, _)| !["SEVERE", "WARNING"].contains(&level.as_str())), "{said:?}");
}

/// What breaks the rules of accessibility, by axe-core: roles, names, contrast, labels, headings.
pub(crate) async fn assert_accessible(browser: &Browser, state: &str) {
    let found = browser.accessibility().await.unwrap();
    assert!(found.is_empty(), "{state}: {found:#?}");
}

/// The page fits its window, and nothing in it is cut off at the right. A window that was just made narrow is laid out anew.
pub(crate) async fn assert_fits(browser: &Browser, width: u64, state: &str) {
    eventually(PATIENCE, state, async || {
        let wide = browser.run("return document.documentElement.scrollWidth").await;
        let wide = wide.map_err(|error| format!("{error:#}"))?.as_u64().unwrap_or(u64::MAX);
        if wide <= width { Ok(()) } else { Err(format!("{wide} pixels in a window of {width}")) }
    })
    .await;
}

/// Charts with something to draw, and none of their lines drawn: no pixel has the colour of one.
const UNDRAWN: &str = "
    const colours = ['--accent', '--second', '--third'].map((name) => {
        const probe = document.body.appendChild(document.createElement('i'));
        probe.style.color = `var(${name})`;
        const found = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
        probe.remove();
        return found;
    });
    const near = (data, i) => data[i + 3] > 200 && colours.some(([r, g, b]) => Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 30);
    return [...document.querySelectorAll('.chart')].filter((chart) => Number(chart.dataset.points) > 1).filter((chart) => {
        const canvas = chart.querySelector('canvas');
        const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
        const context = copy.getContext('2d', { willReadFrequently: true });
        context.drawImage(canvas, 0, 0);
        const { data } = context.getImageData(0, 0, copy.width, copy.height);
        for (let i = 0; i < data.length; i += 4) if (near(data, i)) return false;
        return true;
    }).map((chart) => chart.id);";

pub(crate) async fn assert_drawn(browser: &Browser) {
    eventually(PATIENCE, "lines in every chart", async || {
        let undrawn = browser.run(UNDRAWN).await.map_err(|error| format!("{error:#}"))?;
        if undrawn == json!([]) { Ok(()) } else { Err(undrawn.to_string()) }
    })
    .await;
}

//! A headless Chromium behind its own chromedriver: what a person would see and do. Plain WebDriver over HTTP.

use crate::http;
use crate::launch::{Launch, WorkDir, find_program};
use crate::lease_port;
use crate::server::{Greeting, Plan, Server};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::Path;

/// axe-core 4 (MPL 2.0), unmodified, as published on npm: its licence lies beside it. For tests alone; nothing ships it.
const AXE: &str = include_str!("browser/axe.min.js");

/// Name under which WebDriver hands over elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window; it ends with this value.
#[derive(Debug)]
pub struct Browser {
    driver: Server,
    session: String,
}

impl Browser {
    /// Starts one whose window has this size in CSS pixels.
    pub async fn start(width: u32, height: u32) -> Result<Self> {
        let dir = WorkDir::create("browser")?;
        let lease = lease_port()?;
        let port = lease.port();
        let profile = dir.path().join("profile");
        let launch = Launch::new(find_program(&["chromedriver"])?, dir.path()).arg(format!("--port={port}"));
        let greeting = Greeting {
            send: b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
            accept: |answer| answer.starts_with(b"HTTP/1.1 200"),
        };
        let url = format!("http://127.0.0.1:{port}/");
        let driver =
            Server::start(Plan { url, launch, dir, lease, greeting, prepare: |_| Ok(()), preload: false }).await?;
        let mut browser = Self { driver, session: String::new() };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "binary": find_program(&["chromium", "chromium-browser", "google-chrome"])?,
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                    "--hide-scrollbars", format!("--window-size={width},{height}"),
                    format!("--user-data-dir={}", profile.display()),
                ],
            },
        } } });
        let session = browser.post("/session", &wanted).await.context("start a browser")?;
        let id = session["sessionId"].as_str().context("no session id")?;
        browser.session = format!("/session/{id}");
        browser.resize(width, height, false).await?;
        Ok(browser)
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.ask("/url", &json!({ "url": url })).await.map(drop)
    }

    /// Runs the body of a function in the page; its result.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// Text of the first element that a CSS selector finds, as it is rendered.
    pub async fn text(&self, selector: &str) -> Result<String> {
        let text = self.run(&format!("return document.querySelector({}).innerText", json!(selector))).await?;
        text.as_str().map(str::to_owned).with_context(|| format!("{selector} has no text"))
    }

    /// Number of elements that a selector finds.
    pub async fn count(&self, selector: &str) -> Result<u64> {
        let count = self.run(&format!("return document.querySelectorAll({}).length", json!(selector))).await?;
        count.as_u64().context("no count")
    }

    /// A real click on the first element that a selector finds; an error if something covers it.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let element = self.element(selector).await?;
        self.ask(&format!("/element/{element}/click"), &json!({})).await.map(drop)
    }

    /// Moves the mouse onto the middle of the first element that a selector finds.
    pub async fn hover(&self, selector: &str) -> Result<()> {
        let origin = json!({ ELEMENT: self.element(selector).await? });
        let there = json!({ "type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0 });
        self.ask("/actions", &json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": [there] }] }))
            .await
            .map(drop)
    }

    /// Real key strokes into the first element that a selector finds.
    pub async fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector).await?;
        self.ask(&format!("/element/{element}/value"), &json!({ "text": text })).await.map(drop)
    }

    /// Key strokes to whatever has the focus; special keys as WebDriver numbers them, `\u{E004}` is Tab.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        self.ask("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }))
            .await
            .map(drop)
    }

    /// Another size of the page, as of a phone if `mobile`.
    pub async fn resize(&self, width: u32, height: u32, mobile: bool) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.devtools("Emulation.setDeviceMetricsOverride", &size).await.map(drop)
    }

    /// What the page is told that its reader prefers.
    pub async fn prefer_dark(&self, dark: bool) -> Result<()> {
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", &features).await.map(drop)
    }

    /// Writes the whole page, also what is below the window, as PNG.
    pub async fn screenshot(&self, path: &Path) -> Result<()> {
        let options = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.devtools("Page.captureScreenshot", &options).await?;
        let image = decode_base64(shot["data"].as_str().context("no image")?)?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        std::fs::write(path, image).with_context(|| format!("write {}", path.display()))
    }

    /// What breaks the rules of accessibility that axe-core knows, a line for each element: rule, element, and what to mend.
    pub async fn accessibility(&self) -> Result<Vec<String>> {
        let script = format!(
            "if (!window.axe) {{ {AXE} }}
             return window.axe.run(document, {{ resultTypes: ['violations'] }}).then((found) => found.violations.flatMap((one) =>
                 one.nodes.map((node) => one.id + ': ' + node.html + ': ' + node.failureSummary)));"
        );
        let found = self.run(&script).await?;
        let found = found.as_array().context("no answer of axe")?;
        Ok(found.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect())
    }

    /// What the console has shown since the last call: level and message.
    pub async fn console(&self) -> Result<Vec<(String, String)>> {
        let log = self.ask("/se/log", &json!({ "type": "browser" })).await?;
        let part = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let entries = log.as_array().context("no log")?;
        Ok(entries.iter().map(|entry| (part(entry, "level"), part(entry, "message"))).collect())
    }

    async fn element(&self, selector: &str) -> Result<String> {
        let found = self.ask("/element", &json!({ "using": "css selector", "value": selector })).await?;
        found[ELEMENT].as_str().map(str::to_owned).with_context(|| format!("{selector} is not there"))
    }

    async fn devtools(&self, command: &str, parameters: &Value) -> Result<Value> {
        self.ask("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    async fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        self.post(&format!("{}{path}", self.session), body).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let (code, answer) = http::post_json(&self.driver.addr()?, path, &body.to_string()).await?;
        let mut answer: Value = serde_json::from_str(&answer).with_context(|| format!("{path} answered {answer}"))?;
        ensure!(code == 200, "{path} {body}: {}", answer["value"]["message"]);
        Ok(answer["value"].take())
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => bail!("not base64: {:?}", char::from(other)),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xFF) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::decode_base64;

    #[test]
    fn base64_of_every_length() {
        for (text, expected) in
            [("", &b""[..]), ("TQ==", b"M"), ("TWE=", b"Ma"), ("TWFu", b"Man"), ("+/8=", &[251, 255])]
        {
            assert_eq!(decode_base64(text).unwrap(), expected);
        }
        assert!(decode_base64("T-Q").is_err());
    }
}

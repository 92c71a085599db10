//! The browser: a page of another site, by gRPC-Web. What it says is read by WebDriver.

use super::{Bench, Client, free_address, quickstart};
use crate::cleanup;
use crate::command::{is_installed, output, start};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

const PATIENCE: Duration = Duration::from_secs(120);

/// Builds the page, serves it, and reads it when it says that it is done.
pub(super) fn prepare(bench: &Bench) -> Result<Client> {
    if bench.modules.is_none() {
        return Ok(Client::Missing("npm cannot be reached"));
    }
    let Some(browser) = BROWSERS
        .iter()
        .find(|name| is_installed(name))
        .filter(|_| ["chromedriver", "curl", "python3"].into_iter().all(is_installed))
    else {
        return Ok(Client::Missing("Chromium, chromedriver, curl or Python is not installed"));
    };
    let site = build(bench)?;
    let (address, port) = bench.site.rsplit_once(':').context("an address without a port")?;
    let mut serve = bench.command("python3");
    serve.args(["-m", "http.server", "--bind", address, port]).current_dir(&site);
    keep(&mut serve)?;
    let driver = free_address()?;
    let (_, port) = driver.rsplit_once(':').context("an address without a port")?;
    keep(bench.command("chromedriver").arg(format!("--port={port}")))?;
    Ok(Client::Said(read(
        &driver,
        browser,
        &bench.work,
        &format!("http://{}/?server=http://{}", bench.site, bench.http),
    )?))
}

fn build(bench: &Bench) -> Result<PathBuf> {
    // Beside the modules, where the bundler looks for them.
    let site = bench.work.join("npm/site");
    fs::create_dir_all(&site)?;
    for name in ["index.html", "quickstart.js"] {
        fs::copy(quickstart(&format!("browser/{name}")), site.join(name))?;
    }
    let plugin = bench.tool("protoc-gen-es").display().to_string();
    for input in ["proto".into(), quickstart("error_details.proto")] {
        bench.generate(&input, &plugin, "target=js", &site.join("gen"))?;
    }
    let mut bundle = bench.command(bench.tool("esbuild"));
    output(bundle.args(["quickstart.js", "--bundle", "--outfile=page.js", "--log-level=warning"]).current_dir(&site))?;
    Ok(site)
}

/// Runs until the end.
fn keep(command: &mut Command) -> Result<()> {
    let mut running = start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    cleanup::at_exit(move || {
        _ = running.kill();
        _ = running.wait();
    });
    Ok(())
}

fn read(driver: &str, browser: &str, work: &Path, page: &str) -> Result<String> {
    let began = Instant::now();
    while let Err(error) = ask(driver, "GET", "/status", &Value::Null) {
        ensure!(began.elapsed() < PATIENCE, "chromedriver does not answer: {error:#}");
        sleep(Duration::from_millis(50));
    }
    let binary = output(Command::new("sh").args(["-c", "command -v \"$0\"", browser]))?;
    let profile = format!("--user-data-dir={}", work.join("profile").display());
    let arguments =
        ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", &profile];
    let options = json!({ "binary": binary, "args": arguments });
    let wanted =
        json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } } });
    let session = ask(driver, "POST", "/session", &wanted)?;
    let session = format!("/session/{}", session["sessionId"].as_str().context("no session")?);
    ask(driver, "POST", &format!("{session}/url"), &json!({ "url": page }))?;
    let script =
        |text: &str| ask(driver, "POST", &format!("{session}/execute/sync"), &json!({ "script": text, "args": [] }));
    while script("return document.title")? != "done" {
        ensure!(began.elapsed() < PATIENCE, "the page is not done: {}", script("return document.body.innerText")?);
        sleep(Duration::from_millis(100));
    }
    let said = script("return document.body.innerText")?;
    // With the session its browser ends.
    ask(driver, "DELETE", &session, &Value::Null)?;
    said.as_str().map(str::to_owned).context("the page has no text")
}

/// What WebDriver answers; it wants HTTP/1.1.
fn ask(driver: &str, method: &str, path: &str, body: &Value) -> Result<Value> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--request", method]);
    if !body.is_null() {
        curl.args(["--header", "content-type: application/json", "--data", &body.to_string()]);
    }
    let answer = output(curl.arg(format!("http://{driver}{path}")))?;
    Ok(serde_json::from_str::<Value>(&answer)?["value"].take())
}

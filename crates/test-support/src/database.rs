//! Schemas of one's own, made with the command line client: no SQL library needed here.

use crate::launch::find_program;
use crate::names::{UrlParts, unique_name, with_database};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

const CLIENT_LIMIT: Duration = Duration::from_secs(30);

/// Creates an empty schema on the server of `url` and returns its address. The schema stays until the server goes.
pub async fn fresh_database(url: &str) -> Result<String> {
    let name = unique_name("likes");
    execute_sql(url, &format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")).await?;
    Ok(with_database(url, &name))
}

/// Runs statements on the server of `url`, in the database that it names (if any), and returns what the client prints: rows of tab-separated
/// columns without headings.
pub async fn execute_sql(url: &str, statements: &str) -> Result<String> {
    let parts = UrlParts::parse(url).with_context(|| format!("not a database address: {url}"))?;
    let client = find_program(&["mariadb", "mysql"])?;
    // MariaDB's client insists on TLS since 11.4; MySQL's names the same wish differently.
    let no_tls = if client.ends_with("mariadb") { "--skip-ssl" } else { "--ssl-mode=DISABLED" };
    let mut command = Command::new(client);
    command
        .args(["--no-defaults", "--protocol=TCP", "--batch", "--skip-column-names", no_tls])
        .args(["--host", parts.host, "--port", &parts.port.unwrap_or(3306).to_string(), "--user", parts.user])
        .args(["--execute", statements])
        .args(parts.path)
        .env("MYSQL_PWD", parts.password)
        .kill_on_drop(true);
    let output = timeout(CLIENT_LIMIT, command.output()).await.context("the database client hangs")??;
    ensure!(
        output.status.success(),
        "{statements:?} failed on {}: {}",
        parts.host,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

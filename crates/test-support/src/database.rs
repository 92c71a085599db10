//! Schemas of one's own, made with the command line client: no SQL library needed here.

use crate::launch::find_program;
use crate::names::{UrlParts, unique_name, with_database};
use anyhow::{Context, Result, ensure};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

const CLIENT_LIMIT: Duration = Duration::from_secs(30);
const DEADLOCK_ATTEMPTS: u32 = 20;

/// Creates an empty schema on the server of `url` and returns its address. The schema stays until the server goes.
pub async fn fresh_database(url: &str) -> Result<String> {
    let name = unique_name("likes");
    execute_sql(url, &format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")).await?;
    Ok(with_database(url, &name))
}

/// Runs statements on the server of `url`, in the database that it names (if any), and returns what the client prints: rows of tab-separated
/// columns without headings.
///
/// One statement that a deadlock rolled back is repeated, as a person at the prompt would: programs under test lock the same rows. Of several
/// statements the first may stand already, so they are not.
pub async fn execute_sql(url: &str, statements: &str) -> Result<String> {
    let parts = UrlParts::parse(url).with_context(|| format!("not a database address: {url}"))?;
    let single = !statements.trim_end().trim_end_matches(';').contains(';');
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut command = client(&parts, &["mariadb", "mysql"])?;
        command.args(["--batch", "--skip-column-names", "--execute", statements]).args(parts.path);
        let output = timeout(CLIENT_LIMIT, command.output()).await.context("the database client hangs")??;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let error = String::from_utf8_lossy(&output.stderr);
        let rolled_back = error.contains("ERROR 1213 ");
        ensure!(
            single && rolled_back && attempt < DEADLOCK_ATTEMPTS,
            "{statements:?} failed on {}: {}",
            parts.host,
            error.trim()
        );
    }
}

/// A client program's command, up to what it is to do.
fn client(parts: &UrlParts<'_>, names: &[&str]) -> Result<Command> {
    let program = find_program(names)?;
    // MariaDB's client insists on TLS since 11.4; MySQL's names the same wish differently.
    let mariadb = program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mariadb"));
    let mut command = Command::new(program);
    command
        .args(["--no-defaults", "--protocol=TCP", if mariadb { "--skip-ssl" } else { "--ssl-mode=DISABLED" }])
        .args(["--host", parts.host, "--port", &parts.port.unwrap_or(3306).to_string(), "--user", parts.user])
        .env("MYSQL_PWD", parts.password)
        .kill_on_drop(true);
    Ok(command)
}

/// A consistent copy of the schema that `url` names, as statements, while others write to it.
pub async fn dump_schema(url: &str) -> Result<String> {
    let parts = UrlParts::parse(url).with_context(|| format!("not a database address: {url}"))?;
    let mut command = client(&parts, &["mariadb-dump", "mysqldump"])?;
    command.args(["--single-transaction", "--hex-blob"]).args(parts.path);
    let output = timeout(CLIENT_LIMIT, command.output()).await.context("the database client hangs")??;
    ensure!(output.status.success(), "dump failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).context("the dump is no text")
}

/// The schema that `url` names becomes what [`dump_schema`] gave, and nothing else.
pub async fn restore_schema(url: &str, dump: &str) -> Result<()> {
    let parts = UrlParts::parse(url).with_context(|| format!("not a database address: {url}"))?;
    let name = parts.path.context("the address names no schema")?;
    execute_sql(url, &format!("DROP DATABASE `{name}`; CREATE DATABASE `{name}` CHARACTER SET utf8mb4")).await?;
    let mut command = client(&parts, &["mariadb", "mysql"])?;
    let mut child = command.arg(name).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no way into the client")?;
    let restored = async {
        input.write_all(dump.as_bytes()).await?;
        drop(input);
        child.wait_with_output().await
    };
    let output = timeout(CLIENT_LIMIT, restored).await.context("the database client hangs")??;
    ensure!(output.status.success(), "restoring failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

//! `scripts/migration_drill.sh`: a migration from a synchronous system, rehearsed.

use crate::command::{Environment, outcome, output, run, start};
use crate::http;
use crate::installation::Installation;
use crate::load::wanted;
use crate::workspace::{self, Profile};
use anyhow::{Context, Result, bail};
use std::env;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Rehearses a migration from a synchronous system on private stores.
///
/// Creates data of the old schema, imports it, compares it with the old tables, then switches the write path of two servers
/// under load, synchronous -> 1% -> 50% -> event_driven and back, while the old system's last rows are imported. After each
/// step everything is verified against what was acknowledged, and compared with the old tables again. Prints a table.
/// PROFILE=debug uses (and builds) debug programs. Exit code 1 if anything was lost, doubled or miscounted.
#[derive(clap::Args)]
pub(crate) struct MigrationDrill {
    /// Operations per step.
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(1..=9_999_999))]
    likes: u32,
    /// Operations per second.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=9_999_999))]
    rate: u32,
    /// Of the old system.
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    users: u32,
    /// Leaves data and logs where they are, and says where.
    #[arg(long)]
    keep: bool,
    /// Uses the programs as they are.
    #[arg(long)]
    no_build: bool,
}

const SECOND: &str = "interaction-server-2";
const PATHS: &[&str] = &["synchronous", "1%", "50%", "event_driven", "50%", "1%", "synchronous"];
/// In which of the steps the last rows of the old system are imported.
const LATE_IMPORT: usize = 2;

struct Drill<'a> {
    arguments: &'a MigrationDrill,
    installation: Installation,
    work: PathBuf,
    syncctl: PathBuf,
    /// Ops HTTP of both servers.
    servers: [String; 2],
    second_grpc: String,
    oplogs: Vec<String>,
    table: Table,
}

#[derive(Default)]
struct Table {
    lines: Vec<String>,
    failed: bool,
}

impl Table {
    fn add(&mut self, step: &str, result: Result<String>) {
        let (word, detail) = match &result {
            Ok(detail) => ("ok", detail.clone()),
            Err(error) => ("FAILED", format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")),
        };
        self.failed |= result.is_err();
        self.lines.push(format!("{step:<28} {word:<7} {detail}"));
        eprintln!("{}", self.lines[self.lines.len() - 1]);
    }
}

pub(crate) fn drill(arguments: &MigrationDrill) -> Result<bool> {
    let profile = Profile::from_environment(Profile::Release)?;
    let mut environment = Environment::clean();
    environment.set("INTERACTION__EVENT_DRIVEN_SYNC__WRITE_PATH", "synchronous");
    environment.set("INTERACTION__RATE_LIMITING__USER_ACTION__ENABLED", "false");
    let (mut installation, work) = Installation::private("likes-migration", environment, arguments.keep)?;
    installation.up(&["--stores-only"])?;
    if !arguments.no_build {
        run(&mut installation.environment.cargo(profile.build_arguments()))?;
    }
    let mut drill = Drill {
        arguments,
        installation,
        work,
        syncctl: profile.program("syncctl"),
        servers: Default::default(),
        second_grpc: String::new(),
        oplogs: vec![],
        table: Table::default(),
    };
    drill.import_old_data()?;
    drill.start_servers(profile)?;
    let half = arguments.users * 8;
    let later = format!("INSERT INTO legacy.user_behaviors SELECT * FROM legacy.all_behaviors WHERE id > {half}");
    drill.installation.sql(&later)?;
    let mut from = PATHS[0];
    for (number, to) in PATHS.iter().enumerate() {
        drill.step(number, from, to)?;
        from = to;
    }
    drill.compare("shadow compare, at the end");
    let backfill = output(&mut drill.syncctl(&["backfill"]))
        .and_then(|said| if said.contains(" 0 pairs changed") { Ok(said) } else { bail!("{said}") });
    drill.table.add("backfill", backfill);
    println!("\n{:<28} {:<7} detail\n{}", "step", "result", drill.table.lines.join("\n"));
    Ok(!drill.table.failed)
}

impl Drill<'_> {
    fn syncctl(&self, arguments: &[&str]) -> Command {
        let mut command = self.installation.environment.command(&self.syncctl);
        command.args(arguments);
        command
    }

    fn import_old_data(&mut self) -> Result<()> {
        output(&mut self.syncctl(&["migrate"]))?;
        let users = self.arguments.users;
        let legacy = include_str!("migration/legacy.sql").replace("{users}", &users.to_string());
        self.installation.sql(&legacy.replace("{last_number}", &(users * 8 - 1).to_string()))?;
        let imported = self.import(&["--offline"]);
        self.table.add("import, nothing running", imported);
        // The later half of the history is not there yet, but the table of likes knows how it ended.
        self.compare("shadow compare");
        Ok(())
    }

    /// Rejected rows are expected, and counted.
    fn import(&self, arguments: &[&str]) -> Result<String> {
        let url = self.installation.address("DATABASE_URL")?;
        let url = format!("{}/legacy", url.rsplit_once('/').context("DATABASE_URL has no path")?.0);
        let rejects = self.work.join("rejects.tsv");
        let mut import = self.syncctl(&["import-legacy", "--from-url", &url, "--allow-rejects"]);
        let said = output(import.arg("--rejects").arg(&rejects).args(arguments))?;
        Ok(format!("{}; {} rejected", summary(&said), fs::read_to_string(rejects)?.lines().count()))
    }

    /// New tables and old ones.
    fn compare(&mut self, step: &str) {
        let query = include_str!("migration/compare.sql").replace("{users}", &self.arguments.users.to_string());
        let differences = self.installation.sql(&query).and_then(|found| match found.as_str() {
            "0" => Ok("no difference".to_owned()),
            found => bail!("{found} differences"),
        });
        self.table.add(step, differences);
    }

    /// One by `up.sh`, and a second one beside it.
    fn start_servers(&mut self, profile: Profile) -> Result<()> {
        self.installation.up(&["--no-build"])?;
        let setting = |name: &str, variable: &str| -> Result<String> {
            Ok(format!("INTERACTION__{name}__URL={}", self.installation.address(variable)?))
        };
        let config = env::var("CONFIG_FILE")
            .unwrap_or_else(|_| workspace::root().join("deploy/config/event_driven_sync.yml").display().to_string());
        let program = profile.program("interaction-server").display().to_string();
        let urls =
            [setting("REDIS", "REDIS_URL")?, setting("DATABASE", "DATABASE_URL")?, setting("RABBITMQ", "AMQP_URL")?];
        let ports = self.choose_ports()?;
        let [grpc, http] = ports.map(|port| format!("127.0.0.1:{port}"));
        let addresses =
            [format!("INTERACTION__SERVICE__GRPC_ADDR={grpc}"), format!("INTERACTION__SERVICE__HTTP_ADDR={http}")];
        let mut words: Vec<&str> = vec![SECOND];
        words.extend(urls.iter().chain(&addresses).map(String::as_str));
        words.extend(["--", &program, "--config", &config]);
        // down.sh does not know the second one.
        let mut stop = self.installation.environment.shell_function("stop_part", &[SECOND, "40"]);
        crate::cleanup::at_exit(move || _ = stop.status());
        self.installation.shell_function("start_service", &words)?;
        self.installation.wait_until_well(&http)?;
        self.servers = [self.installation.address("HTTP_ADDR")?, http];
        self.second_grpc = grpc;
        Ok(())
    }

    /// Two that are free, for the second server.
    fn choose_ports(&self) -> Result<[String; 2]> {
        for name in ["grpc_2", "http_2"] {
            self.installation.shell_function("choose_port", &[name, "", SECOND])?;
        }
        Ok([self.installation.port("grpc_2")?, self.installation.port("http_2")?])
    }

    /// Orders a write path and waits until both servers follow.
    fn switch(&self, path: &str) -> Result<()> {
        output(&mut self.syncctl(&["write-path", "set", path]))?;
        let wanted = percent_of(path);
        for server in &self.servers {
            let started = Instant::now();
            loop {
                let metrics = http::get(server, "/metrics").and_then(http::Answer::body).unwrap_or_default();
                if event_driven_percent(&metrics).is_some_and(|percent| percent == wanted) {
                    break;
                }
                if started.elapsed() > Duration::from_secs(20) {
                    bail!("{server} does not follow to {path}");
                }
                sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// Events so far: through the journal, and written directly.
    fn origins(&self) -> Result<[u64; 2]> {
        let query = "SELECT COALESCE(SUM(origin = 'journal'), 0), COALESCE(SUM(origin = 'direct'), 0) FROM sync_events";
        let found = self.installation.sql(query)?;
        let (journal, direct) = found.split_once('\t').context("no origins")?;
        Ok([journal.parse()?, direct.parse()?])
    }

    fn load(&self, number: usize, oplog: &str) -> Result<Child> {
        let MigrationDrill { likes, rate, users, .. } = self.arguments;
        let addresses = format!("{},{}", self.installation.address("GRPC_ADDR")?, self.second_grpc);
        let mut load = self.syncctl(&["load", "--generate", "--addr", &addresses, "--oplog", oplog]);
        load.args([
            "--users",
            "2000",
            "--resources",
            "50",
            "--unlikes",
            "0.35",
            "--comments",
            "0.2",
            "--concurrency",
            "64",
        ]);
        load.args(["--json", "--likes", &likes.to_string(), "--rate", &rate.to_string()]);
        load.args(["--first-user", &(users + 1).to_string(), "--seed", &(number + 1).to_string()]);
        load.stdout(File::create(self.work.join("load.out"))?).stderr(File::create(self.work.join("load.err"))?);
        start(&mut load)
    }

    /// Load, in whose first half the switch happens; then everything is verified.
    fn step(&mut self, number: usize, from: &str, to: &str) -> Result<()> {
        let oplog = self.work.join(format!("oplog.{number}")).display().to_string();
        let before = self.origins()?;
        let mut load = self.load(number, &oplog)?;
        // A third of the load: the switch shall happen in the middle of it.
        sleep(Duration::from_secs_f64(f64::from(self.arguments.likes) / f64::from(self.arguments.rate) / 3.0));
        let switched = if from == to { Ok(()) } else { self.switch(to) };
        if number == LATE_IMPORT {
            let imported = self.import(&["--tables", "user_behaviors", "--batch-size", "200"]);
            self.table.add("last rows, under load", imported);
        }
        let status = load.wait()?;
        self.oplogs.extend(["--oplog".to_owned(), oplog]);
        let verified = outcome(self.syncctl(&["verify", "--shared", "--wait", "120"]).args(&self.oplogs))?;
        // Only now everything has come to the ledger.
        let after = self.origins()?;
        let said = fs::read_to_string(self.work.join("load.out"))?;
        let [journal, direct] = [0, 1].map(|origin| after[origin] - before[origin]);
        let detail = format!("{journal} event-driven, {direct} synchronous");
        let result = if !status.success() {
            let errors = fs::read_to_string(self.work.join("load.err"))?;
            Err(anyhow::anyhow!("load: {said} {errors}"))
        } else if !verified.status.success() {
            Err(anyhow::anyhow!("{detail}; {}", String::from_utf8_lossy(&verified.stdout)))
        } else {
            switched.and_then(|()| Ok(format!("{}; {detail}; verified", speed(&said)?)))
        };
        self.table.add(&format!("{from} -> {to}"), result);
        Ok(())
    }
}

fn percent_of(path: &str) -> f64 {
    match path {
        "synchronous" => 0.0,
        "event_driven" => 100.0,
        percent => percent.trim_end_matches('%').parse().unwrap_or(f64::NAN),
    }
}

fn event_driven_percent(metrics: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with("interaction_write_path_event_driven_percent"))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// What the import says of each table, in short: rows read, likes and unlikes.
fn summary(said: &str) -> String {
    let lines = said.lines().filter_map(|line| {
        let (table, rest) = line.split_once(": ")?;
        let (read, rest) = rest.split_once(": ").filter(|(read, _)| read.contains(" row") && read.contains(" read"))?;
        let found = rest.split(',').next().filter(|found| found.contains("unlike"))?;
        Some(format!("{table} {read}, {found}"))
    });
    lines.collect::<Vec<_>>().join("; ")
}

/// Likes per second and the 99th percentile, from a load's JSON.
fn speed(said: &str) -> Result<String> {
    let load = serde_json::from_str(said).with_context(|| format!("the load's report is no JSON: {said}"))?;
    Ok(format!("{:.0} likes/s p99 {:.0} µs", wanted(&load, "likes_per_s")?, wanted(&load, "p99")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_is_summed_up() -> Result<()> {
        let said = "user_behaviors: 12 rows read in 2 parts: 10 likes and unlikes, 3 pairs changed; 1 row of other kinds, 1 rejected\n\
                    video_likes: 7 rows read: 6 likes and unlikes, 0 pairs changed; 0 rows of other kinds, 1 rejected\n";
        let expected = "user_behaviors 12 rows read in 2 parts, 10 likes and unlikes; video_likes 7 rows read, 6 likes and unlikes";
        assert_eq!(summary(said), expected);
        let said = r#"{"likes_per_s":1999.6,"latency_us":{"p50":400,"p99":1200}}"#;
        assert_eq!(speed(said)?, "2000 likes/s p99 1200 µs");
        assert!(speed("nothing").is_err());
        Ok(())
    }

    #[test]
    fn a_server_follows_when_its_metric_says_so() {
        let metrics = "# TYPE interaction_write_path_event_driven_percent gauge\ninteraction_write_path_event_driven_percent 50\nother 1\n";
        assert_eq!(event_driven_percent(metrics), Some(percent_of("50%")));
        assert_eq!(event_driven_percent("other 1"), None);
        assert_eq!((percent_of("synchronous"), percent_of("event_driven")), (0.0, 100.0));
    }

    #[test]
    fn the_table_remembers_a_failure() {
        let mut table = Table::default();
        table.add("one", Ok("fine".into()));
        assert!(!table.failed);
        table.add("two", Err(anyhow::anyhow!("gone\nand more")));
        assert!(table.failed);
        assert_eq!(table.lines[1], "two                          FAILED  gone and more");
    }
}

//! `scripts/consistency_bench.sh`: the checker on a million resources, and under a million likes.

use crate::command::{Environment, output, run, start};
use crate::installation::Installation;
use crate::workspace::Profile;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

/// Measures the checker on a private installation, and fails if it finds anything that nobody broke.
///
/// Data lies in a temporary directory below TMPDIR and is removed. PROFILE=debug uses debug programs.
#[derive(clap::Args)]
pub(crate) struct ConsistencyBench {
    /// Both, if none is given.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Of the sweep.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    resources: u64,
    /// Of the flow.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    likes: u64,
    /// Most comparisons per second of the sweep.
    #[arg(long, default_value_t = 1_000_000)]
    rate: u64,
    /// Most likes per second of the flow; 0 is as fast as they are answered: what the consumer does not keep up with waits,
    /// and is rightly called stuck after a minute.
    #[arg(long, default_value_t = 0)]
    flow_rate: u64,
    /// Uses the programs as they are.
    #[arg(long)]
    no_build: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Resources with a counter, a row, an entry of the history and a cached counter; then a full audit: how long it takes,
    /// and what it costs redis and mariadb.
    Sweep,
    /// Likes through the whole system while the checker sweeps without a pause: no findings, no repairs, and syncctl verify
    /// finds every like.
    Flow,
}

struct Bench {
    installation: Installation,
    work: PathBuf,
    syncctl: PathBuf,
    no_build: bool,
}

pub(crate) fn measure(arguments: &ConsistencyBench) -> Result<bool> {
    let mut environment = Environment::clean();
    environment.without_rate_limits();
    let (installation, work) = Installation::private("likes-consistency", environment, false)?;
    let syncctl = Profile::from_environment(Profile::Release)?.program("syncctl");
    let mut bench = Bench { installation, work, syncctl, no_build: arguments.no_build };
    let wants = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if wants(Part::Sweep) {
        bench.sweep(arguments)?;
    }
    Ok(!wants(Part::Flow) || bench.flow(arguments)?)
}

/// What a store has done so far.
struct Work {
    redis_cpu: f64,
    redis_commands: u64,
    mariadb_cpu: f64,
    mariadb_statements: u64,
}

impl Bench {
    /// An empty installation.
    fn start(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        self.installation.wipe()?;
        for (name, value) in settings {
            self.installation.environment.set(format!("INTERACTION__DATA_CONSISTENCY__{name}"), value);
        }
        self.installation.up(if self.no_build { &["--no-build"] } else { &[] })?;
        self.no_build = true;
        Ok(())
    }

    fn sweep(&mut self, arguments: &ConsistencyBench) -> Result<()> {
        // Only what is asked for shall run.
        self.start(&[("CHECK_INTERVAL", "24h"), ("HOT_DATA_CHECK", "24h")])?;
        let resources = arguments.resources;
        eprintln!("writing {resources} resources");
        self.installation.sql(&format!(
            "INSERT INTO like_counts (resource_type, resource_id, like_count, revision, last_version, updated_at)
             SELECT 'video', seq, 1, 1, 1, NOW(6) FROM seq_1_to_{resources};
             INSERT INTO video_likes (user_id, video_id, created_at, updated_at, deleted_at, version)
             SELECT 1 + seq % 100000, seq, NOW(6), NOW(6), NULL, 1 FROM seq_1_to_{resources};
             INSERT INTO user_behaviors (event_id, user_id, video_id, behavior_type, behavior_time, version)
             SELECT UNHEX(CONCAT(LPAD(HEX(FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000)), 12, '0'), '70008', LPAD(HEX(seq), 15, '0'))),
             1 + seq % 100000, seq, 'like', NOW(6), 1 FROM seq_1_to_{resources}"
        ))?;
        eprintln!("reading every count once, so that it is cached");
        self.read_all(resources)?;
        let (before, started) = (self.work_so_far()?, Instant::now());
        run(&mut self.syncctl(&["reconcile", "--max-rate", &arguments.rate.to_string(), "--json"]))?;
        let (after, took) = (self.work_so_far()?, started.elapsed().as_secs());
        println!("full audit of {resources} resources at most {} comparisons/s: {took} s", arguments.rate);
        println!(
            "redis: {} commands, {:.0} s of CPU; mariadb: {} statements, {:.0} s of CPU",
            after.redis_commands - before.redis_commands,
            after.redis_cpu - before.redis_cpu,
            after.mariadb_statements - before.mariadb_statements,
            after.mariadb_cpu - before.mariadb_cpu
        );
        Ok(())
    }

    fn syncctl(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.installation.environment.command(&self.syncctl);
        command.args(arguments);
        command
    }

    /// In commands of many, two at a time.
    fn read_all(&self, resources: u64) -> Result<()> {
        let mut xargs = self.installation.environment.command("xargs");
        xargs.args(["-n", "500", "-P", "2"]).arg(&self.syncctl).arg("counts").stdout(Stdio::null());
        let mut child = crate::cleanup::start(xargs.stdin(Stdio::piped()))?;
        let mut input = child.stdin.take().context("no input")?;
        let writer = thread::spawn(move || (1..=resources).try_for_each(|id| writeln!(input, "video:{id}")));
        let status = child.wait()?;
        ensure!(status.success(), "reading every count: {status}");
        writer.join().map_err(|_| anyhow::anyhow!("the writer of ids failed"))?.context("the list of ids")
    }

    fn work_so_far(&self) -> Result<Work> {
        let mut stats = self.installation.environment.command("redis-cli");
        let stats = output(stats.arg("-u").arg(self.installation.address("REDIS_URL")?).args(["info", "stats"]))?;
        let commands = stats.lines().find_map(|line| line.trim().strip_prefix("total_commands_processed:"));
        let statements = self.installation.sql("SHOW GLOBAL STATUS LIKE 'Questions'")?;
        Ok(Work {
            redis_cpu: self.cpu_seconds("redis")?,
            redis_commands: commands.context("redis tells no number of commands")?.parse()?,
            mariadb_cpu: self.cpu_seconds("mariadb")?,
            mariadb_statements: statements
                .split('\t')
                .nth(1)
                .context("mariadb tells no number of statements")?
                .parse()?,
        })
    }

    /// Seconds of CPU time of a part.
    fn cpu_seconds(&self, part: &str) -> Result<f64> {
        let pid = fs::read_to_string(self.installation.directory.join(format!("{part}.pid")))?;
        let ticks: f64 = output(self.installation.environment.command("getconf").arg("CLK_TCK"))?.parse()?;
        Ok(cpu_ticks(&fs::read_to_string(format!("/proc/{}/stat", pid.trim()))?)? / ticks)
    }

    fn flow(&mut self, arguments: &ConsistencyBench) -> Result<bool> {
        self.start(&[("CHECK_INTERVAL", "1s"), ("HOT_DATA_CHECK", "1s"), ("MAX_RATE", "50000")])?;
        let (likes, rate) = (arguments.likes.to_string(), arguments.flow_rate.to_string());
        let oplog = self.work.join("oplog").display().to_string();
        let mut load =
            self.syncctl(&["load", "--generate", "--users", "100000", "--resources", "10000", "--seed", "11"]);
        load.args(["--unlikes", "0.3", "--comments", "0.2", "--batch", "50", "--concurrency", "64"]);
        let status = start(load.args(["--likes", &likes, "--rate", &rate, "--oplog", &oplog]))?.wait()?;
        ensure!(status.success(), "the load failed: {status}");
        run(&mut self.syncctl(&["verify", "--oplog", &oplog, "--wait", "300"]))?;
        let runs = self.installation.sql(
            "SELECT GROUP_CONCAT(n) FROM (SELECT CONCAT(kind, ' ', COUNT(*), ' runs ', SUM(checked), ' compared') AS n
             FROM consistency_runs GROUP BY kind) t",
        )?;
        let findings = self.installation.sql("SELECT COUNT(*), COUNT(repaired_at) FROM data_consistency_checks")?;
        println!("while {likes} likes flowed: {runs}; found, repaired: {findings}");
        if findings != "0\t0" {
            let first = self.installation.sql(
                "SELECT kind, verdict, resource_type, resource_id, details FROM data_consistency_checks ORDER BY id LIMIT 20",
            )?;
            bail!("the checker found what nobody broke\n{first}");
        }
        Ok(true)
    }
}

/// User and system time of a process, in ticks, from its `stat`. The name of its program may hold anything, also spaces.
fn cpu_ticks(stat: &str) -> Result<f64> {
    let after_name = stat.rsplit_once(") ").context("no process status")?.1;
    let fields: Vec<_> = after_name.split_whitespace().collect();
    let ticks = fields.get(11..13).context("a short process status")?;
    Ok(ticks.iter().map(|ticks| ticks.parse::<f64>()).sum::<Result<f64, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_after_any_name() -> Result<()> {
        assert_eq!(cpu_ticks("7 (a) b) S 1 7 7 0 -1 4 10 0 0 0 250 50 0 0 20 0 1")?, 300.0);
        assert!(cpu_ticks("7 (a) S 1").is_err());
        Ok(())
    }
}

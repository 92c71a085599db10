//! `scripts/outage_latency.sh`: likes while a store is unreachable, or answers with errors.

mod moods;

use crate::command::{Environment, output, start};
use crate::installation::Installation;
use crate::load::wanted;
use crate::workspace::Profile;
use anyhow::{Context, Result, bail, ensure};
use moods::Mood;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

/// Loads after a mood until all likes take the ordinary way again.
const CALM_ATTEMPTS: u32 = 15;

/// How fast likes are answered while the broker or the database is unreachable, against the same load while all is well.
///
/// On private servers; everything acknowledged is verified at the end. Prints p50 and p99 in milliseconds, the ratio to the
/// normal p99, and how many likes were written around the cache or asked for again. Each outage begins while the load runs
/// and lasts until it has ended, so the calls that meet it first are counted. PROFILE=debug uses debug programs. Exit code 1 if verify finds anything wrong.
///
/// With --moods the stores answer, with the errors that administrators, full disks and switchovers make: each one lasts for
/// one load, right after a load while all is well that it is compared with. Exit code 1 also if a p99 is beyond --limit.
#[derive(clap::Args)]
pub(crate) struct OutageLatency {
    /// Of each load.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..))]
    seconds: u32,
    /// Likes per second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Errors of stores that answer, instead of stores that are gone.
    #[arg(long)]
    moods: bool,
    /// Only the moods whose names contain this.
    #[arg(long, requires = "moods")]
    only: Option<String>,
    /// Largest p99 during a mood, in calm ones.
    #[arg(long, requires = "moods")]
    limit: Option<f64>,
    /// Uses the programs as they are.
    #[arg(long)]
    no_build: bool,
}

struct Loads<'a> {
    arguments: &'a OutageLatency,
    installation: Installation,
    work: PathBuf,
    syncctl: PathBuf,
    oplogs: Vec<String>,
}

pub(crate) fn measure(arguments: &OutageLatency) -> Result<bool> {
    let mut environment = Environment::clean();
    environment.without_rate_limits();
    let (mut installation, work) = Installation::private("likes-outage", environment, false)?;
    installation.up(if arguments.no_build { &["--no-build"] } else { &[] })?;
    let syncctl = Profile::from_environment(Profile::Release)?.program("syncctl");
    let mut loads = Loads { arguments, installation, work, syncctl, oplogs: vec![] };
    loads.run(|_| Ok(()))?;
    let well = if arguments.moods {
        loads.moods()?
    } else {
        let mut rows = vec![("nothing", loads.run(|_| Ok(()))?)];
        for store in ["rabbitmq", "mariadb"] {
            // It says that the store was killed, which is the point.
            let gone =
                |at: &Installation| output(&mut at.environment.shell_function("stop_part", &[store, "0"])).map(drop);
            rows.push((store, loads.run(gone)?));
            loads.recover(store)?;
        }
        print!("{}", table(&rows)?);
        true
    };
    let verified = loads.verify()?;
    println!("{}", verified.lines().last().unwrap_or_default());
    Ok(well)
}

impl Loads<'_> {
    /// Each mood after a calm load; whether all of them kept the limit.
    fn moods(&mut self) -> Result<bool> {
        let only = self.arguments.only.as_deref().unwrap_or_default();
        let chosen: Vec<&Mood> = moods::MOODS.iter().filter(|mood| mood.name.contains(only)).collect();
        ensure!(!chosen.is_empty(), "no mood has {only} in its name");
        println!("{}", headline("mood"));
        let mut worst = 0.0_f64;
        for mood in chosen {
            let calm = self.run(|at| mood.without(at))?;
            let load = self.run(|at| mood.begin(at)).with_context(|| format!("beginning of {}", mood.name))?;
            mood.end(&self.installation).with_context(|| format!("end of {}", mood.name))?;
            self.wait_until_calm().with_context(|| format!("after {}", mood.name))?;
            let normal = wanted(&calm, "p99")?;
            worst = worst.max(wanted(&load, "p99")? / normal);
            println!("{}\n{}", line("  calm", &calm, normal)?, line(mood.name, &load, normal)?);
        }
        Ok(self.arguments.limit.is_none_or(|limit| worst <= limit))
    }

    /// A store that was away is believed again only after some probes (`/health` answers 200 meanwhile): what is compared
    /// with as calm begins when no like goes around the cache any more.
    fn wait_until_calm(&mut self) -> Result<()> {
        self.wait_until_well()?;
        for _ in 0..CALM_ATTEMPTS {
            if wanted(&self.run_for(2, |_| Ok(()))?, "degraded")? == 0.0 {
                return Ok(());
            }
        }
        bail!("likes still go around the cache after {CALM_ATTEMPTS} loads of 2 s");
    }

    /// One load; a second after its beginning something strikes.
    fn run(&mut self, strike: impl FnOnce(&Installation) -> Result<()>) -> Result<Value> {
        self.run_for(self.arguments.seconds, strike)
    }

    fn run_for(&mut self, seconds: u32, strike: impl FnOnce(&Installation) -> Result<()>) -> Result<Value> {
        let seed = self.oplogs.len() / 2 + 1;
        let oplog = self.work.join(format!("oplog-{seed}")).display().to_string();
        let mut load = self.installation.environment.command(&self.syncctl);
        load.args([
            "load",
            "--generate",
            "--users",
            "5000",
            "--resources",
            "500",
            "--unlikes",
            "0.3",
            "--concurrency",
            "256",
        ]);
        load.args(["--duration", &seconds.to_string(), "--rate", &self.arguments.rate.to_string()]);
        load.args(["--seed", &seed.to_string(), "--oplog", &oplog, "--json"]).stdout(Stdio::piped());
        self.oplogs.extend(["--oplog".to_owned(), oplog]);
        let load = start(&mut load)?;
        // When it strikes is part of the measurement.
        sleep(Duration::from_secs(1));
        strike(&self.installation)?;
        let output = load.wait_with_output()?;
        ensure!(output.status.success(), "the load failed: {}", output.status);
        serde_json::from_slice(&output.stdout).context("the load's report is no JSON")
    }

    fn recover(&self, store: &str) -> Result<()> {
        self.installation.shell_function(&format!("start_{store}"), &[])?;
        self.wait_until_well()?;
        self.verify().with_context(|| format!("after {store} was unreachable")).map(drop)
    }

    fn wait_until_well(&self) -> Result<()> {
        for service in ["HTTP_ADDR", "CONSUMER_HTTP_ADDR"] {
            self.installation.wait_until_well(&self.installation.address(service)?)?;
        }
        Ok(())
    }

    fn verify(&self) -> Result<String> {
        output(self.installation.environment.command(&self.syncctl).arg("verify").args(&self.oplogs))
    }
}

/// A line for each load; the first one is the normal one.
fn table(rows: &[(&str, Value)]) -> Result<String> {
    let normal = wanted(&rows.first().context("no load")?.1, "p99")?;
    let mut table = headline("unreachable");
    for (name, load) in rows {
        table += "\n";
        table += &line(name, load, normal)?;
    }
    Ok(table + "\n")
}

fn headline(what: &str) -> String {
    let [rate, p50, p99, ratio] = ["likes/s", "p50 ms", "p99 ms", "p99 / normal"];
    format!("{what:<22} {rate:>10} {p50:>10} {p99:>10} {ratio:>12} {:>10} {:>10}", "degraded", "retried")
}

fn line(name: &str, load: &Value, normal: f64) -> Result<String> {
    let (rate, p50, p99) = (wanted(load, "likes_per_s")?, wanted(load, "p50")?, wanted(load, "p99")?);
    let (p50_ms, p99_ms, ratio) = (p50 / 1000.0, p99 / 1000.0, p99 / normal);
    let (degraded, retried) = (wanted(load, "degraded")?, wanted(load, "retried")?);
    Ok(format!("{name:<22} {rate:>10.0} {p50_ms:>10.2} {p99_ms:>10.2} {ratio:>12.2} {degraded:>10} {retried:>10}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_compares_with_the_normal_load() -> Result<()> {
        let load = |p99| {
            let latency = json!({ "p50": 1500, "p99": p99 });
            json!({ "likes_per_s": 999.6, "latency_us": latency, "degraded": 20, "retried": 1 })
        };
        let table = table(&[("nothing", load(4000)), ("mariadb", load(5000))])?;
        let expected = "mariadb                      1000       1.50       5.00         1.25         20          1";
        assert_eq!(table.lines().nth(2), Some(expected));
        assert!(super::table(&[("nothing", json!({}))]).is_err());
        Ok(())
    }
}

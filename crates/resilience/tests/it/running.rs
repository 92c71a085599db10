//! A server and a consumer under load while their stores change, and what must be true of them at the end.

use std::time::{Duration, Instant};
use test_support::{Deployment, Load, Program, eventually};

/// For anything to happen, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A circuit that opens more often flaps.
const MOST_OPENINGS: usize = 2;

/// Server and consumer of one deployment under load.
pub(crate) struct Running {
    pub(crate) deployment: Deployment,
    pub(crate) server: Program,
    pub(crate) consumer: Program,
    pub(crate) load: Load,
}

impl Running {
    pub(crate) async fn start(deployment: Deployment) -> Self {
        Self::start_at_rate(deployment, 200).await
    }

    /// With so many likes a second.
    pub(crate) async fn start_at_rate(deployment: Deployment, rate: u32) -> Self {
        let server = deployment.server().start_connected().await.unwrap();
        let consumer = deployment.consumer().start_connected().await.unwrap();
        let rate = rate.to_string();
        let shape =
            ["--duration", "3600", "--resources", "50", "--fresh-users", "--rate", &rate, "--concurrency", "16"];
        let repeat = ["--timeout", "3", "--retry-for", "60"];
        let load = deployment.load(&server.grpc(), &[&shape[..], &repeat].concat()).unwrap();
        let running = Self { deployment, server, consumer, load };
        running.grows(&running.server, ACCEPTED).await;
        running.grows(&running.consumer, APPLIED).await;
        running
    }

    /// Waits until this counter of a process has grown by a good number; how long it took.
    pub(crate) async fn grows(&self, program: &Program, series: &str) -> Duration {
        self.grows_by(program, series, 20.0, PATIENCE).await
    }

    /// The same by so much, and within so long.
    pub(crate) async fn grows_by(&self, program: &Program, series: &str, by: f64, patience: Duration) -> Duration {
        let begin = Instant::now();
        let before = count(program, series).await.unwrap();
        eventually(patience, series, async || {
            let now = count(program, series).await?;
            if now >= before + by { Ok(()) } else { Err(format!("{now}, {before} at first")) }
        })
        .await;
        begin.elapsed()
    }

    /// Nobody was restarted, circuits did not flap, and every answered like is in every store once.
    pub(crate) async fn end(self) {
        self.end_after(1).await;
    }

    /// The same after several changes of one store, each of which may open a circuit as often.
    pub(crate) async fn end_after(self, changes: usize) {
        self.all_arrives().await;
        self.ends_well(changes).await;
    }

    /// Ends the load: every answered like is in every store once.
    pub(crate) async fn all_arrives(&self) {
        self.load_ends().await;
        self.all_is_there().await;
    }

    pub(crate) async fn load_ends(&self) {
        self.load.terminate().unwrap();
        self.load.wait_exit(PATIENCE).await.unwrap();
    }

    /// Every answered like is in every store once.
    pub(crate) async fn all_is_there(&self) {
        let oplogs = [self.load.oplog()];
        let verified = self.deployment.verify(oplogs, &["--wait", "60"], 3 * PATIENCE).await.unwrap();
        assert!(verified.good, "{}", verified.report);
    }

    /// Events that were confirmed by the broker, or applied around it, more than once; while the cache was never away.
    pub(crate) async fn relayed_again(&self) -> i64 {
        let mut relayed = count(&self.server, APPLIED).await.unwrap();
        for program in [&self.server, &self.consumer] {
            relayed += count(program, PUBLISHED).await.unwrap();
        }
        relayed += count(&self.consumer, "interaction_rescued_events_total{how=\"applied\"}").await.unwrap();
        relayed as i64 - self.deployment.number("SELECT COUNT(*) FROM sync_events").await.unwrap()
    }

    /// Ends the programs: circuits did not flap.
    pub(crate) async fn ends_well(self, changes: usize) {
        for program in [&self.server, &self.consumer] {
            let log = program.log();
            for part in ["cache", "database", "broker", "consuming"] {
                let opened =
                    |line: &&str| line.contains("circuit opened") && line.contains(&format!("part=\"{part}\""));
                let openings = log.lines().filter(opened).count();
                assert!(
                    openings <= changes * MOST_OPENINGS,
                    "the circuit of the {part} opened {openings} times: {log}"
                );
            }
        }
        self.deployment.delete_topology().await.unwrap();
        for program in [self.server, self.consumer] {
            program.end(PATIENCE).await.unwrap();
        }
    }
}

/// Accepted by the cache, as opposed to written around it.
pub(crate) const ACCEPTED: &str = "interaction_likes_total{outcome=\"accepted\"}";

/// Committed.
pub(crate) const APPLIED: &str = "interaction_applied_events_total";

/// Confirmed by the broker.
pub(crate) const PUBLISHED: &str = "interaction_published_events_total";

/// The value of a series.
pub(crate) async fn count(program: &Program, series: &str) -> Result<f64, String> {
    let metrics = program.metrics().await.map_err(|error| format!("{error:#}"))?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.ok_or_else(|| format!("no {series}"))
}

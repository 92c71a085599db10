//! `load`: sends likes.

use super::interrupt_on_signal;
use super::people::PeopleArgs;
use crate::credentials::CredentialArgs;
use crate::generate::{Generator, Shape};
use crate::load::{self, BulkOptions, LoadOptions, LoadReport, Source, Totals};
use crate::oplog::OplogWriter;
use crate::output::{Format, counted, print_one};
use crate::people::{self, PeopleOptions};
use crate::progress;
use crate::trace::{self, TraceFormat};
use crate::{UsageError, Verdict};
use anyhow::Context;
use clap::Args;
use domain::{Resource, ResourceType};
use indicatif::ProgressBar;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").args(["trace", "generate", "people"]))]
pub(super) struct LoadArgs {
    /// Servers, host:port or http(s)://host:port, separated by commas; a failed call is repeated at the next one.
    #[arg(long, env = "GRPC_ADDR", default_value = "127.0.0.1:50051", value_delimiter = ',', help_heading = "Access")]
    addr: Vec<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// Trace to replay, in time order.
    #[arg(long, requires = "format")]
    trace: Option<PathBuf>,
    /// Format of the trace.
    #[arg(long)]
    format: Option<TraceFormat>,
    /// Generate operations instead; needs --likes or --duration.
    #[arg(long)]
    generate: bool,
    #[command(flatten)]
    people: PeopleArgs,
    /// Number of operations; of a trace, the first ones.
    #[arg(long)]
    likes: Option<u64>,
    /// Seconds after which no more operations start.
    #[arg(long, value_parser = super::positive)]
    duration: Option<f64>,
    /// Generated: number of users.
    #[arg(long, default_value_t = 10_000)]
    users: u64,
    /// Generated, or of people: first user id.
    #[arg(long, default_value_t = 1)]
    first_user: i64,
    /// Generated, or of people: number of resources of each type.
    #[arg(long, default_value_t = 1_000)]
    resources: u64,
    /// Generated: Zipf exponent of the resources' popularity, 0 for uniform; resource 1 is the hottest.
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// Generated: share of unlikes, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    unlikes: f64,
    /// Generated: share of operations on comments, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    comments: f64,
    /// The same seed gives the same operations, or the same scripts of people.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Generated: every like is by a user who does nothing else, so counts only grow.
    #[arg(long, requires = "generate")]
    fresh_users: bool,
    /// Calls in flight.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: u32,
    /// HTTP/2 connections per server.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    connections: u32,
    /// Operations per second (of a call of people at most 32 count), started when they are due (open loop); 0: as fast as answers come (closed loop).
    #[arg(long, default_value_t = 0.0, value_parser = super::not_negative)]
    rate: f64,
    /// Operations per call: 1 uses Like and Unlike, more ApplyLikes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=500))]
    batch: u32,
    /// Seconds that one call may take.
    #[arg(long, default_value_t = 10.0, value_parser = super::positive)]
    timeout: f64,
    /// Seconds for which an operation is tried again when the service is unreachable or busy; 0: never.
    #[arg(long, default_value_t = 60.0, value_parser = super::not_negative)]
    retry_for: f64,
    /// Give every operation an idempotency key.
    #[arg(long)]
    idempotency_keys: bool,
    /// Closed loop: correct latencies as if each of the calls in flight repeated at this interval, in microseconds.
    #[arg(long)]
    expected_interval_us: Option<u64>,
    /// Write every acknowledged operation to this file, for verify.
    #[arg(long)]
    oplog: Option<PathBuf>,
    /// Read counts during the run and report each fall; needs --fresh-users.
    #[arg(long, requires = "fresh_users")]
    watch_counts: bool,
    /// Milliseconds between two reads of counts.
    #[arg(long, default_value_t = 5)]
    watch_interval_ms: u64,
    /// Beside the likes so many calls for 500 counts at once, again and again.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    bulk_reads: u32,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// The same as -o json.
    #[arg(long)]
    json: bool,
}

impl LoadArgs {
    pub(super) const fn threads(&self) -> u32 {
        self.threads
    }

    pub(super) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let format = format.or_json(self.json);
        if let Some(help) = self.people.help() {
            print!("{help}");
            return Ok(Verdict::Fine);
        }
        if let Some(people) = self.people.number() {
            return self.run_people(people, format).await;
        }
        if self.people.has_shares() {
            return Err(UsageError("--share: is of --people".to_owned()).into());
        }
        if self.trace.is_none() && !self.generate {
            let what = "one of --trace <TRACE>|--generate|--people <PEOPLE> says what is sent";
            return Err(UsageError(what.to_owned()).into());
        }
        let (source, limit) = self.source()?;
        let options = self.options()?;
        let oplog = match &self.oplog {
            Some(path) => {
                Some(OplogWriter::create(path).with_context(|| format!("could not create {}", path.display()))?)
            }
            None => None,
        };
        let interrupt = CancellationToken::new();
        tokio::spawn(interrupt_on_signal(interrupt.clone()));
        let bar = progress_bar(limit, format);
        let progress = |totals: &Totals, elapsed: Duration| {
            let per_second = totals.acknowledged as f64 / elapsed.as_secs_f64().max(1e-3);
            bar.set_position(if bar.length().is_some() { totals.operations } else { totals.acknowledged });
            bar.set_message(format!("{per_second:.0} likes/s"));
        };
        let report = Box::pin(load::run(&options, source, limit, oplog, progress, interrupt)).await?;
        progress::finish(&bar);
        print_one(format, &report, || print_load(&report))?;
        Ok(Verdict::from_fine(report.is_fine()))
    }

    async fn run_people(&self, people: u32, format: Format) -> anyhow::Result<Verdict> {
        let started = crate::job::now().timestamp_micros();
        let options = PeopleOptions {
            addrs: self.addr.clone(),
            credentials: self.credentials.read()?,
            connections: self.connections as usize,
            people,
            seed: self.seed,
            first_user: self.first_user,
            resources: self.resources,
            rate: (self.rate > 0.0).then_some(self.rate),
            duration: self.duration.map(Duration::from_secs_f64),
            timeout: Duration::from_secs_f64(self.timeout),
            key_prefix: format!("people-{started:x}"),
            knobs: self.people.knobs()?,
            history: self.people.history(),
        };
        let interrupt = CancellationToken::new();
        tokio::spawn(interrupt_on_signal(interrupt.clone()));
        let report = Box::pin(people::run(&options, interrupt)).await?;
        print_one(format, &report, || print!("{report}"))?;
        Ok(Verdict::from_fine(report.is_fine()))
    }

    fn source(&self) -> anyhow::Result<(Source, u64)> {
        if let Some(path) = &self.trace {
            let format = self.format.unwrap_or(TraceFormat::Movielens);
            let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
            let operations = trace::read(format, BufReader::new(file)).with_context(|| path.display().to_string())?;
            let limit = self.likes.unwrap_or(u64::MAX).min(operations.len() as u64);
            return Ok((Box::new(operations.into_iter()), limit));
        }
        if self.likes.is_none() && self.duration.is_none() {
            return Err(UsageError("--generate needs --likes or --duration".into()).into());
        }
        let shape = Shape {
            seed: self.seed,
            first_user: self.first_user,
            users: self.users,
            resources: self.resources,
            zipf: self.zipf,
            unlikes: self.unlikes,
            comments: self.comments,
            fresh_users: self.fresh_users,
        };
        let generator = Generator::new(shape).map_err(|invalid| UsageError(format!("--{invalid}")))?;
        Ok((Box::new(generator), self.likes.unwrap_or(u64::MAX)))
    }

    fn options(&self) -> anyhow::Result<LoadOptions> {
        let started = crate::job::now().timestamp_micros();
        Ok(LoadOptions {
            addrs: self.addr.clone(),
            credentials: self.credentials.read()?,
            connections: self.connections as usize,
            concurrency: self.concurrency as usize,
            rate: (self.rate > 0.0).then_some(self.rate),
            batch: self.batch as usize,
            timeout: Duration::from_secs_f64(self.timeout),
            retry_for: Duration::from_secs_f64(self.retry_for),
            duration: self.duration.map(Duration::from_secs_f64),
            expected_interval: self.expected_interval_us.map(Duration::from_micros),
            key_prefix: self.idempotency_keys.then(|| format!("load-{started:x}")),
            watch: self.watch_counts.then(|| (self.watched(), Duration::from_millis(self.watch_interval_ms))),
            bulk: (self.bulk_reads > 0)
                .then(|| BulkOptions { calls: self.bulk_reads as usize, resources: self.watched().into() }),
        })
    }

    /// Resources of the types that are liked, the hottest first, at most 10,000.
    fn watched(&self) -> Vec<Resource> {
        let kinds: &[ResourceType] = if self.comments <= 0.0 {
            &[ResourceType::Video]
        } else if self.comments >= 1.0 {
            &[ResourceType::Comment]
        } else {
            &ResourceType::ALL
        };
        (1..=self.resources.min(5_000).cast_signed())
            .flat_map(|id| kinds.iter().filter_map(move |kind| Resource::new(*kind, id).ok()))
            .collect()
    }
}

fn progress_bar(limit: u64, format: Format) -> ProgressBar {
    if limit == u64::MAX { progress::spinner(format) } else { progress::bar(limit, format) }
}

fn print_load(report: &LoadReport) {
    let totals = &report.totals;
    println!(
        "{} of {} acknowledged in {:.1} s: {:.0} likes/s",
        totals.acknowledged,
        counted(totals.operations, "operation", "operations"),
        report.elapsed_s,
        report.likes_per_s
    );
    println!(
        "changed {}, degraded {}, retried {}, unknown {}, calls {}",
        totals.changed, totals.degraded, totals.retried, totals.unknown, totals.calls
    );
    let latency = &report.latency_us;
    println!(
        "latency from {}, µs: p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        report.latency_from.replace('_', " "),
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max
    );
    println!("longest time without an acknowledged like: {} ms", report.longest_gap_ms);
    for (code, count) in &totals.errors {
        println!("answered {code}: {count}");
    }
    for (code, count) in &totals.failed {
        println!("FAILED with {code}: {count}");
    }
    if let Some(bulk) = &report.bulk_reads {
        println!(
            "reads of 500 counts beside the likes: {} answered, {} refused, {} failed; µs: p50 {}, p99 {}",
            bulk.answered, bulk.refused, bulk.errors, bulk.bulk_latency_us.p50, bulk.bulk_latency_us.p99
        );
    }
    if let Some(watch) = &report.watch {
        println!(
            "{} counts read: {} falls, {} falls in degraded answers, {} reads failed",
            watch.samples, watch.flicker, watch.flicker_degraded, watch.errors
        );
        for fall in &watch.examples {
            println!("  {}: {} then {}", fall.resource, fall.from, fall.to);
        }
    }
}

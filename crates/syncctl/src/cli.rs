//! The command line.

mod migration;

use crate::client::{ServerArgs, parse_resource};
use crate::commands;
use crate::consistency::{CheckArgs, ReconcileArgs, RepairArgs, WarmupArgs};
use crate::credentials::CredentialArgs;
use crate::events::{EventsArgs, ExplainArgs};
use crate::generate::{Generator, Shape};
use crate::load::{self, LoadOptions, LoadReport, Source, Totals};
use crate::oplog::OplogWriter;
use crate::trace::{self, TraceFormat};
use crate::verify::{self, AllowedLoss, ServedBy, VerifyOptions};
use crate::{UsageError, Verdict};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use domain::{Action, Resource, ResourceType};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Operates the like pipeline: sends load, verifies the stores, migrates the database.
#[derive(Debug, Parser)]
#[command(name = "syncctl", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends likes, from a trace or generated.
    Load(Box<LoadArgs>),
    /// Compares all stores with what the oplogs say must be there.
    Verify(Box<VerifyArgs>),
    /// Brings the database to the current schema.
    Migrate {
        /// Database, for example mysql://user:password@host/name.
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Folds user_behaviors into likes and counts; goes on where it stopped, and may run beside live traffic.
    Backfill(migration::BackfillArgs),
    /// Imports the old schema: user_behaviors, video_likes, comment_likes; may be repeated, also beside live traffic.
    ImportLegacy(migration::ImportLegacyArgs),
    /// Switches all servers between the synchronous and the event-driven way of writing likes, without a restart.
    WritePath(migration::WritePathArgs),
    /// Makes a user like a resource.
    Like(OneArgs),
    /// Takes a like back.
    Unlike(OneArgs),
    /// Shows the counts of resources.
    Counts {
        #[command(flatten)]
        server: ServerArgs,
        /// video:ID or comment:ID.
        #[arg(required = true, value_parser = parse_resource)]
        resources: Vec<Resource>,
    },
    /// Shows whether a user likes resources.
    States {
        #[command(flatten)]
        server: ServerArgs,
        /// User id.
        user: i64,
        /// video:ID or comment:ID.
        #[arg(required = true, value_parser = parse_resource)]
        resources: Vec<Resource>,
    },
    /// Shows counts, and each change of them, until it is interrupted.
    Watch {
        #[command(flatten)]
        server: ServerArgs,
        /// Stop after so many updates; the first counts are one.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        updates: Option<u64>,
        /// video:ID or comment:ID; at most 100.
        #[arg(required = true, value_parser = parse_resource)]
        resources: Vec<Resource>,
    },
    /// Shows what is liked and unliked most at the moment.
    Hot {
        #[command(flatten)]
        server: ServerArgs,
        /// Only these: video or comment.
        #[arg(long = "type")]
        kind: Option<ResourceType>,
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Asks a server whether cache and database agree on resources; repairs nothing.
    Check(CheckArgs),
    /// Repairs resources, or everything; without --apply only says what would be done.
    Repair(Box<RepairArgs>),
    /// Compares everything: cache with database, and the database's tables with each other; repairs nothing.
    Reconcile(Box<ReconcileArgs>),
    /// Has a server cache counters before somebody asks for them.
    Warmup(WarmupArgs),
    /// Lists a server's events, and replays or discards those that failed.
    Events(Box<EventsArgs>),
    /// Tells what became of a user's likes of a resource.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
struct OneArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// User id.
    user: i64,
    /// video:ID or comment:ID.
    #[arg(value_parser = parse_resource)]
    resource: Resource,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["trace", "generate"]))]
struct LoadArgs {
    /// Servers, host:port or http(s)://host:port, separated by commas; a failed call is repeated at the next one.
    #[arg(long, env = "GRPC_ADDR", default_value = "127.0.0.1:50051", value_delimiter = ',')]
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
    /// Number of operations; of a trace, the first ones.
    #[arg(long)]
    likes: Option<u64>,
    /// Seconds after which no more operations start.
    #[arg(long, value_parser = positive)]
    duration: Option<f64>,
    /// Generated: number of users.
    #[arg(long, default_value_t = 10_000)]
    users: u64,
    /// Generated: first user id.
    #[arg(long, default_value_t = 1)]
    first_user: i64,
    /// Generated: number of resources of each type.
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
    /// Generated: the same seed gives the same operations.
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
    /// Operations per second, started when they are due (open loop); 0: as fast as answers come (closed loop).
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    rate: f64,
    /// Operations per call: 1 uses Like and Unlike, more ApplyLikes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=500))]
    batch: u32,
    /// Seconds that one call may take.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    timeout: f64,
    /// Seconds for which an operation is tried again when the service is unreachable or busy; 0: never.
    #[arg(long, default_value_t = 60.0, value_parser = not_negative)]
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
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Oplogs in the order of their runs.
    #[arg(long, required = true)]
    oplog: Vec<PathBuf>,
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Cache, for example redis://host:6379.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, required_unless_present = "grpc_addr")]
    redis_url: Option<String>,
    /// Instead of a cache: gRPC of the server whose counts and states are compared, for standalone.
    #[arg(long, requires = "http_addr")]
    grpc_addr: Option<String>,
    /// The same server's ops HTTP, host:port: it knows what is still on its way.
    #[arg(long, requires = "grpc_addr")]
    http_addr: Option<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// What all keys of the cache start with.
    #[arg(long, env = "REDIS_PREFIX", default_value = "")]
    redis_prefix: String,
    /// Seconds to wait for quiet.
    #[arg(long, default_value_t = 60.0, value_parser = not_negative)]
    wait: f64,
    /// Lost pairs that are no failure: a number, or a file of lines `user,v|c,id`.
    #[arg(long)]
    allow_loss: Option<String>,
    /// Write every lost pair to this file, in the form that --allow-loss reads.
    #[arg(long)]
    lost_file: Option<PathBuf>,
    /// Dead and discarded events in the ledger are no failure.
    #[arg(long)]
    allow_dead: bool,
    /// Others wrote too: rows outside the oplogs are no failure.
    #[arg(long)]
    shared: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e9).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1e9".into()),
    }
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|value| if value > 0.0 { Ok(value) } else { Err("must be greater than 0".into()) })
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Verdict> {
        let threads = if let Command::Load(args) = &self.command { args.threads } else { 1 };
        // Load shares its machine with what it measures: one thread spends the least on waking others.
        let runtime = if threads > 1 {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads as usize).enable_all().build()
        } else {
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        }?;
        runtime.block_on(Box::pin(self.command.run()))
    }
}

impl Command {
    async fn run(self) -> anyhow::Result<Verdict> {
        match self {
            Self::Load(args) => args.run().await,
            Self::Verify(args) => args.run().await,
            Self::Migrate { database_url } => commands::migrate(&database_url).await,
            Self::Backfill(args) => args.run().await,
            Self::ImportLegacy(args) => args.run().await,
            Self::WritePath(args) => args.run().await,
            Self::Like(args) => commands::like(&args.server, args.user, args.resource, Action::Like).await,
            Self::Unlike(args) => commands::like(&args.server, args.user, args.resource, Action::Unlike).await,
            Self::Counts { server, resources } => commands::counts(&server, &resources).await,
            Self::States { server, user, resources } => commands::states(&server, user, &resources).await,
            Self::Watch { server, updates, resources } => {
                let stop = CancellationToken::new();
                tokio::spawn(interrupt_on_signal(stop.clone()));
                commands::watch(&server, &resources, updates, stop).await
            }
            Self::Hot { server, kind, limit } => commands::hot(&server, kind, limit).await,
            Self::Check(args) => args.run().await,
            Self::Repair(args) => args.run().await,
            Self::Reconcile(args) => args.run().await,
            Self::Warmup(args) => args.run().await,
            Self::Events(args) => args.run().await,
            Self::Explain(args) => args.run().await,
        }
    }
}

impl LoadArgs {
    async fn run(self) -> anyhow::Result<Verdict> {
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
        let bar = self.progress_bar(limit);
        let progress = |totals: &Totals, elapsed: Duration| {
            let per_second = totals.acknowledged as f64 / elapsed.as_secs_f64().max(1e-3);
            bar.set_position(if bar.length().is_some() { totals.operations } else { totals.acknowledged });
            bar.set_message(format!("{per_second:.0} likes/s"));
        };
        let report = Box::pin(load::run(&options, source, limit, oplog, progress, interrupt)).await?;
        bar.finish_and_clear();
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print_load(&report);
        }
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

    fn progress_bar(&self, limit: u64) -> ProgressBar {
        if self.json {
            return ProgressBar::hidden();
        }
        if limit == u64::MAX {
            return ProgressBar::no_length().with_style(ProgressStyle::default_spinner());
        }
        let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {msg} eta {eta}");
        ProgressBar::new(limit).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

impl VerifyArgs {
    async fn run(self) -> anyhow::Result<Verdict> {
        let allowed_loss = match &self.allow_loss {
            Some(text) => AllowedLoss::parse(text)?,
            None => AllowedLoss::default(),
        };
        let credentials = self.credentials.read()?;
        let served_by = self.grpc_addr.zip(self.http_addr);
        let options = VerifyOptions {
            oplogs: self.oplog,
            database_url: self.database_url,
            redis_url: self.redis_url.unwrap_or_default(),
            redis_prefix: self.redis_prefix,
            served_by: served_by.map(|(grpc, http)| ServedBy { grpc, http, credentials }),
            wait: Duration::from_secs_f64(self.wait),
            allowed_loss,
            allow_dead: self.allow_dead,
            shared: self.shared,
        };
        let report = Box::pin(verify::run(&options)).await?;
        if let Some(path) = &self.lost_file {
            let text: String = report.lost_pairs.iter().map(|pair| verify::loss_line(*pair)).collect();
            std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
        }
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            report.print();
        }
        Ok(Verdict::from_fine(report.is_fine()))
    }
}

pub(crate) async fn interrupt_on_signal(interrupt: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    // Without handlers the signals simply end the process.
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    interrupt.cancel();
}

fn print_load(report: &LoadReport) {
    let totals = &report.totals;
    println!(
        "{} of {} operations acknowledged in {:.1} s: {:.0} likes/s",
        totals.acknowledged, totals.operations, report.elapsed_s, report.likes_per_s
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

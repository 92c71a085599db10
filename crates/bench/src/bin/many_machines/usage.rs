//! CPU time of every process, and commands of stores.

use crate::stores::Stores;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, HashMap};
use std::ops::Sub;
use test_support::{Program, execute_sql};

/// Unit of the times in `/proc/[pid]/stat`, fixed by the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// What was used and asked since the processes started, or between two looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// CPU seconds by part.
    cpu: BTreeMap<&'static str, f64>,
    /// Commands by store and kind; those that scripts call, too.
    commands: BTreeMap<(&'static str, String), f64>,
}

/// All commands of a store.
const ALL: &str = "(all)";

const STORES: [&str; 3] = ["redis", "rabbitmq", "mariadb"];

/// What one size showed.
pub(crate) struct Column {
    pub(crate) size: usize,
    pub(crate) seconds: u64,
    pub(crate) idle: Usage,
    /// Likes, and what they took: at a rate for each server, at a rate for all, and in calls of 100 as fast as answers come.
    pub(crate) loads: Vec<(u64, Usage)>,
}

impl Usage {
    pub(crate) async fn now(stores: &Stores, servers: &[Program], consumers: &[Program]) -> Result<Self> {
        let mut usage = Self::default();
        let (redis, mariadb) = (stores.redis()?, stores.mariadb()?);
        let ids = |programs: &[Program]| programs.iter().map(|program| program.pid()).collect();
        let parts: [(&'static str, Vec<Option<u32>>); 5] = [
            ("server", ids(servers)),
            ("consumer", ids(consumers)),
            ("redis", redis.iter().map(|node| node.pid()).collect()),
            ("rabbitmq", stores.rabbitmq()?.iter().map(|node| node.pid()).collect()),
            ("mariadb", mariadb.iter().map(|node| node.pid()).collect()),
        ];
        let processes = processes()?;
        for (part, ids) in parts {
            for id in ids {
                *usage.cpu.entry(part).or_default() += with_children(&processes, id.context("a process has ended")?);
            }
        }
        for node in redis.iter().take(stores.redis_primaries()) {
            usage.add_redis(&node.cli(&["INFO", "commandstats"]).await?)?;
        }
        for node in mariadb {
            let text = "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Com\\_%' OR Variable_name = 'Questions'";
            usage.add_mariadb(&execute_sql(node.url(), text).await?)?;
        }
        Ok(usage)
    }

    fn add_redis(&mut self, said: &str) -> Result<()> {
        for line in said.lines() {
            let Some((name, values)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(":calls=")) else {
                continue;
            };
            let calls = values.split(',').next().and_then(|calls| calls.parse().ok());
            self.add("redis", name, calls.with_context(|| format!("INFO: {line}"))?);
        }
        Ok(())
    }

    fn add_mariadb(&mut self, said: &str) -> Result<()> {
        for line in said.lines() {
            let (name, value) = line.split_once('\t').with_context(|| format!("SHOW STATUS: {line}"))?;
            let value: f64 = value.trim().parse().with_context(|| format!("SHOW STATUS: {line}"))?;
            match name.strip_prefix("Com_") {
                Some(command) => *self.commands.entry(("mariadb", command.to_owned())).or_default() += value,
                None => *self.commands.entry(("mariadb", ALL.to_owned())).or_default() += value,
            }
        }
        Ok(())
    }

    fn add(&mut self, store: &'static str, command: &str, calls: f64) {
        *self.commands.entry((store, command.to_owned())).or_default() += calls;
        *self.commands.entry((store, ALL.to_owned())).or_default() += calls;
    }

    fn cpu_of_all(&self) -> f64 {
        self.cpu.values().sum()
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(mut self, before: Self) -> Self {
        for (part, seconds) in &mut self.cpu {
            *seconds -= before.cpu.get(part).copied().unwrap_or_default();
        }
        for (kind, calls) in &mut self.commands {
            *calls -= before.commands.get(kind).copied().unwrap_or_default();
        }
        self
    }
}

/// Parent and CPU seconds of every process.
fn processes() -> Result<HashMap<u32, (u32, f64)>> {
    let mut processes = HashMap::new();
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let Some(id) = entry.context("/proc")?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since the directory was read.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        processes.insert(id, parent_and_seconds(&stat).with_context(|| format!("/proc/{id}/stat: {stat}"))?);
    }
    ensure!(!processes.is_empty(), "/proc shows no process");
    Ok(processes)
}

/// The name of the program may hold anything, spaces too.
fn parent_and_seconds(stat: &str) -> Option<(u32, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let parent = fields.get(1)?.parse().ok()?;
    Some((parent, (number(11)? + number(12)?) / TICKS_PER_SECOND))
}

/// Some stores start by a script that waits for what it started.
fn with_children(processes: &HashMap<u32, (u32, f64)>, id: u32) -> f64 {
    let own = processes.get(&id).map_or(0.0, |(_, seconds)| *seconds);
    let children = processes.iter().filter(|(_, (parent, _))| *parent == id);
    own + children.map(|(child, _)| with_children(processes, *child)).sum::<f64>()
}

/// A table for people; the ratio is that of the last size to the first.
pub(crate) fn print(columns: &[Column]) {
    let heads: String = columns.iter().map(|column| format!("{:>11}", format!("{0} + {0}", column.size))).collect();
    println!("{:<38}{heads}{:>8}", "servers + consumers", "ratio");
    let row = |name: &str, values: Vec<f64>| {
        let cells: String = values.iter().map(|value| format!("{value:>11.1}")).collect();
        let ratio = values.last().zip(values.first()).map_or(0.0, |(last, first)| last / first);
        println!("{name:<38}{cells}{ratio:>8.2}");
    };
    let parts: Vec<&'static str> =
        columns.first().map(|column| column.idle.cpu.keys().copied().collect()).unwrap_or_default();
    for (at, load) in ["as many per server", "as many in all", "calls of 100"].into_iter().enumerate() {
        let per_like = |seconds: f64, likes: u64| seconds * 1e6 / likes as f64;
        row(&format!("{load}: likes"), columns.iter().map(|column| column.loads[at].0 as f64).collect());
        row(
            &format!("{load}: CPU per like, us"),
            columns.iter().map(|column| per_like(column.loads[at].1.cpu_of_all(), column.loads[at].0)).collect(),
        );
        for part in &parts {
            row(
                &format!("  {part}"),
                columns.iter().map(|column| per_like(column.loads[at].1.cpu[part], column.loads[at].0)).collect(),
            );
        }
    }
    row(
        "idle: CPU, ms per second",
        columns.iter().map(|column| column.per_second(column.idle.cpu_of_all() * 1e3)).collect(),
    );
    for part in &parts {
        row(
            &format!("  {part}"),
            columns.iter().map(|column| column.per_second(column.idle.cpu[part] * 1e3)).collect(),
        );
    }
    for store in STORES.into_iter().filter(|store| *store != "rabbitmq") {
        row(
            &format!("idle: commands per second, {store}"),
            columns.iter().map(|column| column.idle_rate(store, ALL)).collect(),
        );
        let kinds: std::collections::BTreeSet<&String> = columns
            .iter()
            .flat_map(|column| column.idle.commands.keys())
            .filter(|kind| kind.0 == store)
            .map(|kind| &kind.1)
            .collect();
        for kind in kinds.into_iter().filter(|kind| *kind != ALL) {
            let rates: Vec<f64> = columns.iter().map(|column| column.idle_rate(store, kind)).collect();
            if rates.iter().any(|rate| *rate >= 0.5) {
                row(&format!("  {kind}"), rates);
            }
        }
    }
}

impl Column {
    fn per_second(&self, amount: f64) -> f64 {
        amount / self.seconds as f64
    }

    fn idle_rate(&self, store: &'static str, command: &str) -> f64 {
        let calls = self.idle.commands.get(&(store, command.to_owned())).copied();
        self.per_second(calls.unwrap_or_default())
    }
}

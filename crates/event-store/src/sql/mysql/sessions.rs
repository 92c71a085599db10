//! What the connections of a pool to MySQL share, and which of them may still be used.

use super::TRUSTED_IDLE_TIME;
use crate::sql::account::Account;
use crate::sql::error::{StoreError, TooLong};
use crate::sql::hosts::Hosts;
use crate::sql::silence::Silence;
use domain::StoreUrl;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::{self, MySql, MySqlPool};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What all connections of a pool share.
#[derive(Debug)]
pub(crate) struct Sessions {
    start: Instant,
    /// Connections that were opened before are not used again; microseconds since `start`.
    not_before: AtomicU64,
    /// Connections were given up and nothing has gone well since: others may have been opened while it was wrong, and not have
    /// met it.
    suspect: AtomicBool,
    /// When a call failed last; microseconds since `start`. With its server, others may be gone.
    lost_at: AtomicU64,
    /// How often a server said to a new connection that it only reads, and how often that was seen by who acquires one.
    refusals: AtomicU64,
    seen_refusals: AtomicU64,
    /// Where there are several servers.
    pub(crate) hosts: Option<Hosts>,
    /// The url; another one may differ in user and password.
    pub(crate) url: StoreUrl,
    /// Longest statement that the server takes, as it said to the connection that was opened last.
    pub(super) max_packet: AtomicUsize,
    pub(crate) account: Account,
    pub(crate) silence: Silence,
    /// A transaction that has not begun by then never will.
    pub(crate) patience: Duration,
    /// Connections may be to servers that only read.
    pub(super) only_read: bool,
}

impl Sessions {
    pub(super) fn new(url: StoreUrl, patience: Duration, hosts: Option<Hosts>, only_read: bool) -> Arc<Self> {
        let (not_before, lost_at, max_packet) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(usize::MAX));
        let (suspect, refusals, seen_refusals) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self {
            start: Instant::now(),
            not_before,
            suspect,
            lost_at,
            refusals,
            seen_refusals,
            hosts,
            url,
            max_packet,
            account: Account::default(),
            silence: Silence::new(),
            patience,
            only_read,
        })
    }

    /// A connection to a server that has said that it writes.
    pub(crate) async fn acquire(&self, pool: &MySqlPool) -> Result<PoolConnection<MySql>, StoreError> {
        if let Some(hosts) = &self.hosts
            && hosts.lead(pool).await?
        {
            self.renounce();
        }
        let refusals = self.refusals.load(Ordering::Acquire);
        if self.seen_refusals.swap(refusals, Ordering::AcqRel) != refusals {
            self.renounce();
        }
        let connection = match pool.acquire().await {
            Err(sqlx::Error::PoolTimedOut) => return Err(self.silence.error(pool).await),
            other => other?,
        };
        // Another caller's may have been refused instead: that is the same server.
        if self.refusals.load(Ordering::Acquire) == refusals { Ok(connection) } else { Err(StoreError::only_reads()) }
    }

    /// The server of a new connection only reads. The pool would try the same again and again if it were refused there, so it
    /// is not: whoever asked for it gets an error, and nobody gets this one afterwards.
    pub(super) fn refuse(&self) {
        self.refusals.fetch_add(1, Ordering::AcqRel);
    }

    /// A call failed.
    pub(crate) fn lost(&self) {
        self.lost_at.store(self.micros(Instant::now()), Ordering::Relaxed);
        if let Some(hosts) = &self.hosts {
            hosts.lost();
        }
    }

    /// From now on no connection of before is used again.
    pub(crate) fn renounce(&self) {
        self.suspect.store(true, Ordering::Relaxed);
        self.reopen();
    }

    /// The same without doubt about those that are opened from now on.
    pub(crate) fn reopen(&self) {
        self.not_before.store(self.micros(Instant::now()), Ordering::Relaxed);
    }

    /// A connection can do what it should.
    pub(crate) fn proved(&self) {
        if self.suspect.swap(false, Ordering::Relaxed) {
            self.reopen();
        }
    }

    /// Refuses what the server would refuse, without sending it: the server ends the connection with the refusal, which then
    /// looks like a broken one.
    pub(crate) fn check_length(&self, sql: &str) -> Result<(), StoreError> {
        // The server counts the command's byte, and keeps some for itself.
        let limit = self.max_packet.load(Ordering::Relaxed).saturating_sub(64);
        if sql.len() <= limit { Ok(()) } else { Err(StoreError::TooLarge(TooLong { length: sql.len(), limit }.into())) }
    }

    pub(super) fn is_former(&self, age: Duration) -> bool {
        let opened = Instant::now().checked_sub(age).map_or(0, |opened| self.micros(opened));
        // The one that told us was opened before, too; none is as old as a pool that renounced nothing.
        opened <= self.not_before.load(Ordering::Relaxed) && self.not_before.load(Ordering::Relaxed) != 0
    }

    /// Whether one that rests for so long must be asked whether it lives.
    pub(super) fn is_doubtful(&self, idle_for: Duration) -> bool {
        let rests_since = Instant::now().checked_sub(idle_for).map_or(0, |since| self.micros(since));
        idle_for >= TRUSTED_IDLE_TIME || rests_since < self.lost_at.load(Ordering::Relaxed)
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }
}

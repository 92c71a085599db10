//! `clock`: how far the clocks of the stores are apart, and what is dated later than now.

use crate::Verdict;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `clock`.
#[derive(Debug, Args)]
pub(crate) struct ClockArgs {
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Cache, for example redis://host:6379.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
    /// Authority of a rediss:// url, PEM; else the public ones.
    #[arg(long, env = "REDIS_CA_FILE")]
    redis_ca_file: Option<PathBuf>,
}

#[cfg(feature = "distributed")]
impl ClockArgs {
    /// Changes nothing. Problems if the clocks differ, or versions are further ahead than a clock that was set may date them.
    pub(crate) async fn run(self) -> anyhow::Result<Verdict> {
        use anyhow::Context;

        /// A like is dated so much later than the clocks say, at most.
        const BOUND_US: i64 = 60_000_000;

        let mut settings = settings::Settings::default();
        settings.database.url = self.database_url.into();
        settings.redis.url = self.redis_url.into();
        settings.redis.ca_file = self.redis_ca_file;
        settings.database.validate().map_err(crate::UsageError)?;
        settings.redis.validate().map_err(crate::UsageError)?;
        let stores = settings.stores().await?;
        stores.cache.ping().await.context("cache")?;
        stores.compare_clocks().await.context("database")?;
        let seconds = |microseconds: i64| microseconds as f64 / 1e6;
        for (clock, ahead) in stores.clocks.ahead_us() {
            println!("{clock}\t{:+.3} s by the clock here, as far as that is certain", seconds(ahead));
        }
        let wrong = stores.clocks.wrong();
        if let Some(wrong) = &wrong {
            println!("clocks differ: {wrong}");
        }
        let now = stores.database.now().await.context("database")?.timestamp_micros();
        let mut fine = wrong.is_none();
        for (table, ahead) in stores.database.dated_after(domain::Version(now)).await.context("database")? {
            let furthest = ahead.highest.0 - now;
            fine &= furthest <= BOUND_US;
            println!("{table}\t{} versions later than now, the latest in {:.0} s", ahead.versions, seconds(furthest));
        }
        Ok(Verdict::from_fine(fine))
    }
}

#[cfg(not(feature = "distributed"))]
impl ClockArgs {
    pub(crate) async fn run(self) -> anyhow::Result<Verdict> {
        let Self { database_url: _, redis_url: _, redis_ca_file: _ } = self;
        Err(crate::not_built_in("--redis-url"))
    }
}

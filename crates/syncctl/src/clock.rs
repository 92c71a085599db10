//! `clock`: how far the clocks of the stores are apart, and what is dated later than now.

use crate::Verdict;
use crate::cache_args::CacheArgs;
use crate::output::Format;
#[cfg(feature = "distributed")]
use crate::output::{Row, print};
use clap::Args;
#[cfg(feature = "distributed")]
use serde::Serialize;

/// Arguments of `clock`.
#[derive(Debug, Args)]
pub(crate) struct ClockArgs {
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    database_url: String,
    #[command(flatten)]
    cache: CacheArgs,
}

/// A store's clock, or a table in which something is dated later than now.
#[cfg(feature = "distributed")]
#[derive(Debug, Serialize)]
struct ClockRow {
    /// `clock` or `table`.
    what: &'static str,
    name: String,
    /// By the clock here, as far as that is certain; of a table that of its latest version.
    ahead_s: f64,
    /// Later than now.
    versions: Option<i64>,
    wrong: bool,
}

#[cfg(feature = "distributed")]
impl Row for ClockRow {
    const HEADERS: &'static [&'static str] = &["WHAT", "NAME", "AHEAD (s)", "VERSIONS LATER THAN NOW", "STATE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.what.to_owned(),
            self.name.clone(),
            format!("{:+.3}", self.ahead_s),
            self.versions.map_or_else(|| "-".to_owned(), |versions| versions.to_string()),
            if self.wrong { "wrong" } else { "fine" }.to_owned(),
        ]
    }
}

#[cfg(feature = "distributed")]
impl ClockArgs {
    /// Changes nothing. Problems if the clocks differ, or versions are further ahead than a clock that was set may date them.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        use anyhow::Context;

        /// A like is dated so much later than the clocks say, at most.
        const BOUND_US: i64 = 60_000_000;

        let mut settings = settings::Settings::default();
        settings.database.url = self.database_url.into();
        self.cache.tell(&mut settings.redis);
        settings.database.validate().map_err(crate::UsageError)?;
        settings.redis.validate().map_err(crate::UsageError)?;
        let stores = settings.stores().await?;
        stores.cache.ping().await.context("cache")?;
        stores.compare_clocks().await.context("database")?;
        let seconds = |microseconds: i64| microseconds as f64 / 1e6;
        let wrong = stores.clocks.wrong();
        let mut rows: Vec<_> = (stores.clocks.ahead_us().into_iter())
            .map(|(clock, ahead)| ClockRow {
                what: "clock",
                name: clock.to_string(),
                ahead_s: seconds(ahead),
                versions: None,
                wrong: wrong.is_some(),
            })
            .collect();
        let now = stores.database.now().await.context("database")?.timestamp_micros();
        let mut fine = wrong.is_none();
        for (table, ahead) in stores.database.dated_after(domain::Version(now)).await.context("database")? {
            let furthest = ahead.highest.0 - now;
            fine &= furthest <= BOUND_US;
            rows.push(ClockRow {
                what: "table",
                name: table.to_string(),
                ahead_s: seconds(furthest),
                versions: Some(ahead.versions),
                wrong: furthest > BOUND_US,
            });
        }
        print(format, &rows)?;
        if let Some(wrong) = wrong.filter(|_| format == Format::Table) {
            println!("\nclocks differ: {wrong}");
        }
        Ok(Verdict::from_fine(fine))
    }
}

#[cfg(not(feature = "distributed"))]
impl ClockArgs {
    pub(crate) async fn run(self, _: Format) -> anyhow::Result<Verdict> {
        let Self { database_url: _, cache: _ } = self;
        Err(crate::not_built_in("--redis-url"))
    }
}

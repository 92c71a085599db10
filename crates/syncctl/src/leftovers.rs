//! `--verify` of `erase-user` and `delete-resource`: what is left is looked for in the stores themselves, without a server.

use crate::Verdict;
use crate::output::Format;
use clap::Args;
use domain::Erased;
use std::path::PathBuf;

/// Where the stores are.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// With --verify, the database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    database_url: Option<String>,
    /// With --verify, the cache, for example redis://host:6379.
    #[arg(long, env = "REDIS_URL", help_heading = "Stores", hide_env_values = true)]
    redis_url: Option<String>,
    /// The cache is a Redis Cluster, of which the url names a node.
    #[arg(long, env = "REDIS_CLUSTER", help_heading = "Stores")]
    redis_cluster: bool,
    /// Authority of a rediss:// url, PEM; else the public ones.
    #[arg(long, env = "REDIS_CA_FILE", help_heading = "Stores")]
    redis_ca_file: Option<PathBuf>,
    /// What all keys of the cache start with.
    #[arg(long, env = "REDIS_PREFIX", help_heading = "Stores", default_value = "")]
    redis_prefix: String,
    /// With --verify, most rows and keys per second that are looked at.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_rate: u32,
}

impl StoreArgs {
    /// Problems if something is left.
    #[cfg(feature = "distributed")]
    pub(crate) async fn verify(self, of: Erased, format: Format) -> anyhow::Result<Verdict> {
        use crate::UsageError;
        use crate::output::{counted, print_one};
        use anyhow::Context;
        use sync_engine::operate::leftovers::look_for;
        let (Some(database_url), Some(redis_url)) = (self.database_url, self.redis_url) else {
            return Err(UsageError("--verify needs --database-url and --redis-url".to_owned()).into());
        };
        let mut settings = settings::Settings::default();
        settings.database.url = database_url.into();
        settings.redis.url = redis_url.into();
        settings.redis.cluster = self.redis_cluster;
        settings.redis.key_prefix = self.redis_prefix;
        settings.redis.ca_file = self.redis_ca_file;
        let stores = crate::open::stores(&mut settings).await?;
        let (erasure, what, never) = match of {
            Erased::User(user) => (stores.database.erasure_of(user).await?, "erasure", "the user was never erased"),
            Erased::Resource(resource) => {
                (stores.database.deletion_of(resource).await?, "deletion", "the resource was never deleted")
            }
        };
        let erasure = erasure.with_context(|| format!("{never}, or this copy of the database is older"))?;
        let left = look_for(&stores, &erasure, self.max_rate).await?;
        let total = left.total();
        print_one(format, &left, || {
            let over = erasure.cleaned_at.map_or_else(|| "is under way".to_owned(), |at| format!("ended at {at}"));
            println!("the {what} of {} {over}; {} left", erasure.fenced_at, counted(total, "thing is", "things are"));
            if total > 0 {
                println!("{left:#?}");
            }
            if left.liked_since > 0 {
                println!("it is deleted, and was liked since ({}): delete it once more", left.liked_since);
            }
        })?;
        Ok(Verdict::from_fine(total == 0 && left.liked_since == 0))
    }

    #[cfg(not(feature = "distributed"))]
    #[expect(clippy::unused_async, reason = "as with the clients of the stores")]
    pub(crate) async fn verify(self, _: Erased, _: Format) -> anyhow::Result<Verdict> {
        anyhow::bail!("this syncctl was built without the clients of Redis and MySQL (--features distributed)");
    }
}

//! `erase-user`: everything that a user did goes. A server begins it, a consumer does it; `--verify` looks for what is left in
//! the stores themselves.

use crate::client::{ServerArgs, parse_user};
use crate::events::time_of;
use crate::output::{Format, counted, print_one};
use crate::{UsageError, Verdict};
use anyhow::{Context, bail};
use clap::Args;
use interaction_proto::v1;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How often it is asked whether an erasure is over.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `erase-user`.
#[derive(Debug, Args)]
pub(crate) struct EraseUserArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// User id.
    #[arg(value_parser = parse_user)]
    user: i64,
    /// Only say what there is.
    #[arg(long, conflicts_with_all = ["verify", "wait"])]
    dry_run: bool,
    /// Wait until everything is gone; what is done can go on without.
    #[arg(long, conflicts_with = "verify")]
    wait: bool,
    /// Erase nothing, but prove that an erased user is gone: look in every table, the cache and the journals. Needs the addresses
    /// of both stores, and no server.
    #[arg(long)]
    verify: bool,
    /// Who does this; written down with the address of this machine.
    #[arg(long, env = "USER", default_value = "")]
    actor: String,
    /// Why; written down, so it must not name the user.
    #[arg(long, default_value = "")]
    reason: String,
    /// With --verify, the database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    database_url: Option<String>,
    /// With --verify, the cache, for example redis://host:6379.
    #[arg(long, env = "REDIS_URL", help_heading = "Stores", hide_env_values = true)]
    redis_url: Option<String>,
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

#[derive(Serialize)]
struct Begun {
    user: i64,
    dry_run: bool,
    likes: i64,
    tombstones: i64,
    keys: i64,
    up_to: Option<i64>,
    fenced_at: Option<String>,
    cleaned_at: Option<String>,
}

impl EraseUserArgs {
    /// Problems if something is left that should not be.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        if self.verify {
            return self.verify(format).await;
        }
        let mut client = self.server.connect_admin().await?;
        let request = v1::EraseUserRequest {
            user_id: self.user,
            dry_run: self.dry_run,
            actor: self.actor.clone(),
            reason: self.reason.clone(),
        };
        let answer = client.erase_user(request).await.context("the erasure was refused")?.into_inner();
        let mut erasure = answer.erasure;
        while self.wait && erasure.as_ref().is_some_and(|erasure| erasure.cleaned_at.is_none()) {
            tokio::time::sleep(POLL).await;
            let request = v1::GetErasureRequest { user_id: self.user };
            erasure = client.get_erasure(request).await.context("waiting for its end")?.into_inner().erasure;
        }
        let begun = Begun {
            user: self.user,
            dry_run: answer.dry_run,
            likes: answer.likes,
            tombstones: answer.tombstones,
            keys: answer.keys,
            up_to: erasure.as_ref().map(|erasure| erasure.up_to),
            fenced_at: erasure.as_ref().map(|erasure| time_of(erasure.fenced_at)),
            cleaned_at: erasure
                .as_ref()
                .filter(|erasure| erasure.cleaned_at.is_some())
                .map(|erasure| time_of(erasure.cleaned_at)),
        };
        print_one(format, &begun, || begun.say())?;
        Ok(Verdict::Fine)
    }

    #[cfg(feature = "distributed")]
    async fn verify(self, format: Format) -> anyhow::Result<Verdict> {
        use sync_engine::operate::leftovers::look_for;
        let (Some(database_url), Some(redis_url)) = (self.database_url, self.redis_url) else {
            return Err(UsageError("--verify needs --database-url and --redis-url".to_owned()).into());
        };
        let mut settings = settings::Settings::default();
        settings.database.url = database_url.into();
        settings.redis.url = redis_url.into();
        settings.redis.key_prefix = self.redis_prefix;
        settings.redis.ca_file = self.redis_ca_file;
        let stores = crate::open::stores(&mut settings).await?;
        let Some(erasure) = stores.database.erasure_of(domain::UserId::new(self.user)?).await? else {
            bail!("the user was never erased, or this copy of the database is older");
        };
        let left = look_for(&stores, &erasure, self.max_rate).await?;
        let total = left.total();
        print_one(format, &left, || {
            let over = erasure.cleaned_at.map_or_else(|| "is under way".to_owned(), |at| format!("ended at {at}"));
            println!("the erasure of {} {over}; {} left", erasure.fenced_at, counted(total, "thing is", "things are"));
            if total > 0 {
                println!("{left:#?}");
            }
        })?;
        Ok(Verdict::from_fine(total == 0))
    }

    #[cfg(not(feature = "distributed"))]
    #[expect(clippy::unused_async, reason = "as with the clients of the stores")]
    async fn verify(self, _: Format) -> anyhow::Result<Verdict> {
        bail!("this syncctl was built without the clients of Redis and MySQL (--features distributed)");
    }
}

impl Begun {
    fn say(&self) {
        let likes = counted(self.likes, "like", "likes");
        let (tombstones, keys) = (self.tombstones, counted(self.keys, "idempotency key", "idempotency keys"));
        let there = format!("{likes}, {tombstones} taken back, {keys}");
        match (&self.cleaned_at, self.dry_run) {
            (_, true) => println!("user {}: {there}; nothing was done", self.user),
            (Some(at), _) => println!("user {}: gone at {at}: {there}", self.user),
            (None, _) => println!("user {}: from here on nothing of before counts; being removed: {there}", self.user),
        }
    }
}

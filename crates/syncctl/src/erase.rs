//! `erase-user`: everything that a user did goes. A server begins it, a consumer does it; `--verify` looks for what is left in
//! the stores themselves.

use crate::Verdict;
use crate::client::{ServerArgs, parse_user};
use crate::events::time_of;
use crate::leftovers::StoreArgs;
use crate::output::{Format, counted, print_one};
use anyhow::Context;
use clap::Args;
use domain::{Erased, UserId};
use interaction_proto::v1;
use serde::Serialize;
use std::time::Duration;

/// How often it is asked whether an erasure, or a deletion, is over.
pub(crate) const POLL: Duration = Duration::from_millis(500);

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
    #[command(flatten)]
    stores: StoreArgs,
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
            return self.stores.verify(Erased::User(UserId::new(self.user)?), format).await;
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

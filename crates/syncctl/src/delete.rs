//! `delete-resource`, `restore-resource`: a resource goes with its likes, and may be liked again. A server begins it, a consumer does
//! it.

use crate::Verdict;
use crate::client::{ServerArgs, parse_resource, to_proto};
use crate::erase::POLL;
use crate::events::time_of;
use crate::leftovers::StoreArgs;
use crate::output::{Format, counted, print_one};
use anyhow::Context;
use clap::Args;
use domain::{Erased, Resource};
use interaction_proto::v1;
use serde::Serialize;

/// Arguments of `delete-resource`.
#[derive(Debug, Args)]
pub(crate) struct DeleteResourceArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// video:ID or comment:ID.
    #[arg(value_parser = parse_resource)]
    resource: Resource,
    /// Only say what there is.
    #[arg(long, conflicts_with_all = ["verify", "wait"])]
    dry_run: bool,
    /// Wait until its likes are gone; what is done can go on without.
    #[arg(long, conflicts_with = "verify")]
    wait: bool,
    /// Delete nothing, but prove that the likes of a deleted resource are gone: look in every table, the cache and the journals.
    /// Needs the addresses of both stores, and no server.
    #[arg(long)]
    verify: bool,
    /// Who does this; written down with the address of this machine.
    #[arg(long, env = "USER", default_value = "")]
    actor: String,
    /// Why; written down.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    stores: StoreArgs,
}

/// Arguments of `restore-resource`.
#[derive(Debug, Args)]
pub(crate) struct RestoreResourceArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// video:ID or comment:ID.
    #[arg(value_parser = parse_resource)]
    resource: Resource,
    /// Who does this; written down with the address of this machine.
    #[arg(long, env = "USER", default_value = "")]
    actor: String,
    /// Why; written down.
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Serialize)]
struct Begun {
    resource: String,
    dry_run: bool,
    likes: i64,
    tombstones: i64,
    #[serde(flatten)]
    deletion: Deletion,
}

#[derive(Serialize)]
struct Restored {
    resource: String,
    #[serde(flatten)]
    deletion: Deletion,
}

/// What there is to say of a deletion; nothing if there was none.
#[derive(Default, Serialize)]
struct Deletion {
    up_to: Option<i64>,
    deleted_at: Option<String>,
    cleaned_at: Option<String>,
    restored_at: Option<String>,
}

impl Deletion {
    fn of(deletion: Option<v1::Deletion>) -> Self {
        let Some(v1::Deletion { up_to, deleted_at, cleaned_at, restored_at, removed: _ }) = deletion else {
            return Self::default();
        };
        let time = |time: Option<_>| time.map(|time| time_of(Some(time)));
        Self {
            up_to: Some(up_to),
            deleted_at: time(deleted_at),
            cleaned_at: time(cleaned_at),
            restored_at: time(restored_at),
        }
    }
}

impl DeleteResourceArgs {
    /// Problems if something is left that should not be.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        if self.verify {
            return self.stores.verify(Erased::Resource(self.resource), format).await;
        }
        let mut client = self.server.connect_admin().await?;
        let resource = Some(to_proto(self.resource));
        let (dry_run, actor, reason) = (self.dry_run, self.actor, self.reason);
        let request = v1::DeleteResourceRequest { resource, dry_run, actor, reason };
        let answer = client.delete_resource(request).await.context("the deletion was refused")?.into_inner();
        let mut deletion = answer.deletion;
        while self.wait && deletion.as_ref().is_some_and(|deletion| deletion.cleaned_at.is_none()) {
            tokio::time::sleep(POLL).await;
            let request = v1::GetDeletionRequest { resource };
            deletion = client.get_deletion(request).await.context("waiting for its end")?.into_inner().deletion;
        }
        let begun = Begun {
            resource: self.resource.to_string(),
            dry_run: answer.dry_run,
            likes: answer.likes,
            tombstones: answer.tombstones,
            deletion: Deletion::of(deletion),
        };
        print_one(format, &begun, || begun.say())?;
        Ok(Verdict::Fine)
    }
}

impl RestoreResourceArgs {
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let mut client = self.server.connect_admin().await?;
        let (actor, reason) = (self.actor, self.reason);
        let request = v1::RestoreResourceRequest { resource: Some(to_proto(self.resource)), actor, reason };
        let answer = client.restore_resource(request).await.context("restoring was refused")?.into_inner();
        let restored = Restored { resource: self.resource.to_string(), deletion: Deletion::of(answer.deletion) };
        print_one(format, &restored, || match &restored.deletion.restored_at {
            Some(at) => println!("{} may be liked since {at}, from no like on", restored.resource),
            None => println!("{} was never deleted; nothing was done", restored.resource),
        })?;
        Ok(Verdict::Fine)
    }
}

impl Begun {
    fn say(&self) {
        let likes = counted(self.likes, "like", "likes");
        let there = format!("{likes}, {} taken back", self.tombstones);
        let resource = &self.resource;
        match (&self.deletion.cleaned_at, self.dry_run) {
            (_, true) => println!("{resource}: {there}; nothing was done"),
            (Some(at), _) => println!("{resource}: gone at {at}: {there}"),
            (None, _) => println!("{resource}: nobody can like it from here on; being removed: {there}"),
        }
    }
}

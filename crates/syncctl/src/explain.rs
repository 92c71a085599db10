//! `explain`: the story of one pair, what it comes to, and what to do.

use crate::Verdict;
use crate::client::{ServerArgs, parse_resource, parse_user, to_proto};
use crate::events::time_of;
use crate::output::{Format, print_one};
use anyhow::Context;
use clap::Args;
use domain::Resource;
use interaction_proto::v1;
use serde::Serialize;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// User id.
    #[arg(value_parser = parse_user)]
    user: i64,
    /// video:ID or comment:ID.
    #[arg(value_parser = parse_resource)]
    resource: Resource,
}

#[derive(Serialize)]
struct Step {
    event: String,
    at: Option<String>,
    step: String,
    detail: String,
}

#[derive(Serialize)]
struct State {
    liked: bool,
    version: i64,
}

#[derive(Serialize)]
struct Count {
    value: i64,
    pending: i64,
}

/// What is known of a pair.
#[derive(Serialize)]
struct Explained {
    user: i64,
    resource: String,
    /// Oldest event first.
    timeline: Vec<Step>,
    /// Completed events before it may be missing.
    searched_since: Option<String>,
    row: Option<State>,
    stored_count: i64,
    stored_revision: i64,
    cache_available: bool,
    cached_pair: Option<State>,
    cached_count: Option<Count>,
    /// Nobody has to do anything.
    fine: bool,
    conclusion: String,
    hint: String,
}

impl ExplainArgs {
    /// Problems if somebody has to do something.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let Self { server, user, resource } = self;
        let request = v1::ExplainLikeRequest { user_id: user, resource: Some(to_proto(resource)) };
        let mut client = server.connect_admin().await?;
        let told = client.explain_like(request).await.context("the explanation was refused")?.into_inner();
        let explained = Explained::of(user, resource, told);
        print_one(format, &explained, || explained.tell())?;
        Ok(match (explained.fine, explained.cache_available) {
            (false, _) => Verdict::Problems,
            (true, true) => Verdict::Fine,
            // Half of the story is missing.
            (true, false) => Verdict::Unknown,
        })
    }
}

impl Explained {
    fn of(user: i64, resource: Resource, told: v1::ExplainLikeResponse) -> Self {
        // A server of before says nothing.
        let end = told.conclusion.unwrap_or_else(|| v1::ExplainedConclusion { fine: true, ..Default::default() });
        let step = |step: v1::ExplainedStep| Step {
            event: step.event_id,
            at: step.at.map(|at| time_of(Some(at))),
            step: step.step,
            detail: step.detail,
        };
        let count = |count: v1::ConsistencySide| Count { value: count.value, pending: count.pending.unwrap_or(0) };
        Self {
            user,
            resource: resource.to_string(),
            timeline: told.timeline.into_iter().map(step).collect(),
            searched_since: told.searched_since.map(|since| time_of(Some(since))),
            row: told.row.map(|row| State { liked: row.liked, version: row.version }),
            stored_count: told.stored_count,
            stored_revision: told.stored_revision,
            cache_available: told.cache_available,
            cached_pair: told.cached_pair.map(|pair| State { liked: pair.liked, version: pair.version }),
            cached_count: told.cached_count.map(count),
            fine: end.fine,
            conclusion: end.says,
            hint: end.hint,
        }
    }

    /// The story, oldest event first, then what holds now, and what it comes to.
    fn tell(&self) {
        println!("user {} {}", self.user, self.resource);
        let mut of = "";
        for step in &self.timeline {
            if of != step.event {
                println!("event {}", step.event);
                of = &step.event;
            }
            println!("  {:27}  {:9}  {}", step.at.as_deref().unwrap_or("-"), step.step, step.detail);
        }
        if self.timeline.is_empty() {
            println!("no event of it is known");
        }
        if let Some(since) = &self.searched_since {
            println!("completed events before {since} may be missing");
        }
        let state = |state: &Option<State>| match state {
            Some(State { liked, version }) => {
                format!("{} version {version}", if *liked { "liked" } else { "not liked" })
            }
            None => "none".to_owned(),
        };
        println!("row: {}", state(&self.row));
        println!("stored count: {} revision {}", self.stored_count, self.stored_revision);
        if self.cache_available {
            println!("cached pair: {}", state(&self.cached_pair));
            match &self.cached_count {
                Some(Count { value, pending }) => println!("cached count: {value} pending {pending}"),
                None => println!("cached count: none"),
            }
        } else {
            println!("cache: unreachable");
        }
        if !self.conclusion.is_empty() {
            println!("=> {}", self.conclusion);
        }
        if !self.hint.is_empty() {
            println!("   {}", self.hint);
        }
    }
}

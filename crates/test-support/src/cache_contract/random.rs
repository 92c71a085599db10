//! Random sequences against a model in a few lines.

use super::{MakeCache, Subject, like, missing, settled, unlike};
use crate::build::video_pair;
use anyhow::{Context, Result, ensure};
use domain::cache::{AcceptOutcome, CachedCount, MissingCount, Settlement};
use domain::{Pair, PairState, Resource, StoredCount, Version};
use std::collections::BTreeMap;

const SEEDS: u64 = 12;
const STEPS: usize = 120;
const USERS: u64 = 3;
const RESOURCES: u64 = 2;

/// Accepts, settlements in any order, duplicates and late ones: cache and model agree after every step.
pub async fn any_sequence_agrees_with_the_model(make: impl MakeCache) -> Result<()> {
    for seed in 1..=SEEDS {
        let subject = Subject::new(&make).await;
        let mut run = Run { seed, model: Model::default(), told: Vec::new(), revision: 0 };
        for step in 0..STEPS {
            run.step(&subject).await.with_context(|| format!("seed {seed}, step {step}"))?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Model {
    pairs: BTreeMap<Pair, PairState>,
    counts: BTreeMap<Resource, CachedCount>,
    journal: BTreeMap<Resource, Vec<Version>>,
}

struct Run {
    seed: u64,
    model: Model,
    /// Settlements made so far, to be told again.
    told: Vec<Settlement>,
    revision: i64,
}

impl Run {
    fn roll(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % bound
    }

    async fn step(&mut self, subject: &Subject) -> Result<()> {
        match self.roll(10) {
            0..6 => self.accept(subject).await?,
            6..9 => self.settle_new(subject).await?,
            _ if self.told.is_empty() => {}
            _ => {
                let pick = self.roll(self.told.len() as u64) as usize;
                let again = self.told[pick].clone();
                self.settle(subject, again).await?;
            }
        }
        self.compare(subject).await
    }

    async fn accept(&mut self, subject: &Subject) -> Result<()> {
        let pair = video_pair(1 + self.roll(USERS) as i64, 1 + self.roll(RESOURCES) as i64);
        let wanted = self.roll(2) == 1;
        let fill = StoredCount { count: self.roll(3) as i64, revision: 0, last_version: Version::ZERO };
        let request = if wanted { like(pair) } else { unlike(pair) };
        let outcome = subject.accept(missing(request, MissingCount::Fill(fill))).await?;
        let count = self.model.counts.entry(pair.resource).or_insert(CachedCount {
            served: fill.count,
            stored: fill.count,
            ..CachedCount::default()
        });
        let held = self.model.pairs.get(&pair).copied();
        match outcome {
            AcceptOutcome::Unchanged(answer) => {
                ensure!(held.is_some_and(|held| held.liked == wanted), "unchanged, but {pair} was {held:?}");
                ensure!(answer.count == Some(count.served), "{answer:?} with {count:?}");
            }
            AcceptOutcome::Accepted(answer) => {
                ensure!(held.is_none_or(|held| held.liked != wanted), "accepted, but {pair} was {held:?} already");
                ensure!(answer.version > count.last_version, "{answer:?} after {count:?}");
                count.served = (count.served + if wanted { 1 } else { -1 }).max(0);
                count.pending += 1;
                count.last_version = answer.version;
                ensure!(answer.count == Some(count.served), "{answer:?} with {count:?}");
                self.model.pairs.insert(pair, PairState { liked: wanted, version: answer.version });
                self.model.journal.entry(pair.resource).or_default().push(answer.version);
            }
            other => anyhow::bail!("{other:?}"),
        }
        Ok(())
    }

    /// Some of the entries in the journal, with a revision that is new, old, or not told.
    async fn settle_new(&mut self, subject: &Subject) -> Result<()> {
        let resource = video_pair(1, 1 + self.roll(RESOURCES) as i64).resource;
        let all = self.model.journal.get(&resource).cloned().unwrap_or_default();
        let entries: Vec<Version> = all.into_iter().filter(|_| self.roll(2) == 1).collect();
        self.revision += 1;
        let revision = if self.roll(3) == 0 { self.roll(self.revision as u64) as i64 } else { self.revision };
        let stored = StoredCount { count: self.roll(4) as i64, revision, last_version: Version::ZERO };
        let stored = (self.roll(5) > 0).then_some(stored);
        let settlement = settled(resource, &entries, stored);
        self.told.push(settlement.clone());
        self.settle(subject, settlement).await
    }

    async fn settle(&mut self, subject: &Subject, settlement: Settlement) -> Result<()> {
        let report = subject.settle(&settlement).await?;
        let part = &settlement.resources[0];
        let journal = self.model.journal.entry(part.resource).or_default();
        let before = journal.len();
        journal.retain(|version| !part.entries.contains(version));
        let removed = (before - journal.len()) as u64;
        ensure!(report.removed == removed, "{report:?}, {removed} were there");
        let Some(count) = self.model.counts.get_mut(&part.resource) else { return Ok(()) };
        count.pending -= removed as i64;
        if let Some(stored) = part.stored
            && stored.revision > count.stored_revision
        {
            (count.stored, count.stored_revision) = (stored.count, stored.revision);
        }
        let told = removed > 0 || part.stored.is_some();
        let possible = count.served.clamp(count.stored - count.pending, count.stored + count.pending).max(0);
        let wrong = told && count.served != possible;
        if wrong {
            count.served = possible;
        }
        ensure!(report.corrections == u64::from(wrong), "{report:?} with {count:?}");
        Ok(())
    }

    async fn compare(&self, subject: &Subject) -> Result<()> {
        for (resource, count) in &self.model.counts {
            let cached = subject.count(*resource).await?;
            ensure!(cached == Some(*count), "{resource}: cached {cached:?}, model {count:?}");
            let entries = self.model.journal.get(resource).map_or(0, Vec::len);
            ensure!(count.pending == entries as i64, "{resource}: {count:?} with {entries} entries");
        }
        for (pair, state) in &self.model.pairs {
            let cached = subject.state(*pair).await?;
            ensure!(cached == Some(*state), "{pair}: cached {cached:?}, model {state:?}");
        }
        let entries: usize = self.model.journal.values().map(Vec::len).sum();
        let accounting = subject.cache.shard_status().await?;
        let journal: u64 = accounting.iter().map(|status| status.journal_len).sum();
        ensure!(journal == entries as u64, "{entries} entries, {accounting:?}");
        ensure!(
            accounting.iter().all(|status| status.accepted - status.settled == status.journal_len),
            "{accounting:?}"
        );
        Ok(())
    }
}

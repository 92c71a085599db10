//! Journals: their accounting, and what is in them for too long.

use crate::error::CheckError;
use crate::finding::{Finding, Kind, Side, Subject, Verdict};
use crate::inspect::{Inspector, PAGE};
use domain::Version;
use domain::cache::{JournalPages, ShardStatus};
use domain::codec::EncodedEvent;
use domain::{Resource, ShardId};
use std::collections::BTreeSet;

/// Old entries looked at per shard; what is beyond them comes when these are gone.
const ENTRIES: usize = 500;

/// Most entries of a journal whose resources are looked at.
const PENDING: usize = 50_000;

impl Inspector {
    /// Conservation per shard; read in one transaction, so it holds at any moment.
    pub(crate) async fn accounting(&self) -> Result<(Vec<ShardStatus>, Vec<Finding>), CheckError> {
        let status = self.stores.cache.shard_status().await?;
        let wrong = status.iter().filter_map(|accounting| {
            let pending = accounting.accepted.cast_signed().wrapping_sub(accounting.settled.cast_signed());
            (!accounting.is_conserved()).then(|| Finding {
                kind: Kind::Accounting,
                verdict: Verdict::Drift,
                subject: Subject::Shard { shard: accounting.shard },
                cache: Some(pending.into()),
                stored: Some(accounting.journal_len.cast_signed().into()),
                detail: format!("{} accepted, {} settled", accounting.accepted, accounting.settled),
                repair: None,
                event: None,
            })
        });
        let wrong = wrong.collect();
        Ok((status, wrong))
    }

    /// Resources with entries in a journal; of a long one, those of its oldest entries.
    pub(crate) async fn pending(&self, shard: ShardId) -> Result<BTreeSet<Resource>, CheckError> {
        let mut resources = BTreeSet::new();
        let mut pages = JournalPages::new(self.stores.cache.as_ref(), shard, PAGE, PENDING / PAGE);
        while let Some(page) = pages.next().await? {
            resources.extend(page.iter().filter_map(|entry| entry.decode().ok()).map(|event| event.pair().resource));
        }
        Ok(resources)
    }

    /// Entries older than the limit.
    pub(crate) async fn old_entries(&self, accounting: &ShardStatus) -> Result<Vec<Finding>, CheckError> {
        if accounting.oldest_age().is_none_or(|age| age <= self.stuck_after) {
            return Ok(Vec::new());
        }
        let page = self.stores.cache.journal_page(accounting.shard, Version::ZERO, ENTRIES).await?;
        let mut findings = Vec::new();
        for entry in page.iter().filter(|entry| accounting.now.since(entry.version) > self.stuck_after) {
            findings.push(self.old_entry(accounting, entry).await?);
        }
        Ok(findings)
    }

    async fn old_entry(&self, accounting: &ShardStatus, entry: &EncodedEvent) -> Result<Finding, CheckError> {
        let side = Side { version: Some(entry.version), ..Side::from(1) };
        let mut finding = Finding {
            kind: Kind::Journal,
            verdict: Verdict::Orphan,
            subject: Subject::Shard { shard: accounting.shard },
            cache: Some(side),
            stored: None,
            detail: String::new(),
            repair: None,
            event: None,
        };
        match entry.decode() {
            Err(error) => finding.detail = format!("entry {} is foreign: {error}", entry.version),
            Ok(event) => {
                finding.subject = Subject::Pair(event.pair());
                match self.stores.database.event(event.intent.id).await? {
                    Some(held) => {
                        finding.stored = Some(side);
                        finding.detail = format!("the ledger has it as {}", held.status);
                    }
                    None => finding.verdict = Verdict::Stuck,
                }
            }
        }
        Ok(finding)
    }
}

//! A second look at what is open: what a run has not come to is looked at for its own sake, and closed if nothing is wrong with
//! it any more. Between the runs the leader looks at what is open every few seconds, only to close it: a finding does not
//! outlive what it is about.

use crate::error::CheckError;
use crate::finding::{Finding, Kind, Subject};
use crate::run::checker::Checker;
use crate::run::pass::Pass;
use domain::{Pair, Resource};
use event_store::{ClosedBy, FindingLife};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::{BTreeSet, HashSet};

/// Most findings that are looked at again by one run, those first that were not seen for longest.
const AGAIN: u32 = 1_000;

/// Most findings that are looked at between runs. Where more are open, those beyond wait for the next run.
const SOON: u32 = 200;

type Key = (Kind, Subject);

impl Checker {
    /// Looks again at open findings that this run has not seen: of one resource, or of all. `unfinished` says that the run saw
    /// all of the ledger that concerns them. Rows and history have no way back to what they are about: the full sweep closes
    /// those.
    pub(crate) async fn look_again(
        &self,
        pass: &mut Pass,
        of: Option<Resource>,
        unfinished: bool,
    ) -> Result<Vec<Finding>, CheckError> {
        let began = pass.run.started_at;
        let database = &self.inspector().stores.database;
        let mut open = known(database.open_findings(of, AGAIN).await?);
        open.retain(|(_, life)| life.seen_at < began);
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let (looked, findings) = self.see_again(open.iter().map(|(key, _)| *key), unfinished).await?;
        pass.compared(looked.len());
        let wrong: HashSet<Key> = findings.iter().map(|one| (one.kind, one.subject)).collect();
        let findings = pass.take(findings).await?;
        self.close(open, |key| looked.contains(key) && !wrong.contains(key)).await?;
        Ok(findings)
    }

    /// Closes what is open and no longer wrong. It is no run: what is still wrong was found already, and is not counted again.
    pub fn close_cured(&self) -> BoxFuture<'_, Result<(), CheckError>> {
        self.close_cured_inner().boxed()
    }

    async fn close_cured_inner(&self) -> Result<(), CheckError> {
        let open = known(self.inspector().stores.database.open_findings(None, SOON).await?);
        if open.is_empty() {
            return Ok(());
        }
        let (mut wrong, mut complete) = (HashSet::new(), false);
        if open.iter().any(|((kind, _), _)| *kind == Kind::Ledger) {
            let unfinished = self.inspector().unfinished(None).await?;
            complete = unfinished.complete;
            wrong.extend(unfinished.findings.iter().map(|one| (one.kind, one.subject)));
        }
        let (looked, findings) = self.see_again(open.iter().map(|(key, _)| *key), complete).await?;
        wrong.extend(findings.iter().map(|one| (one.kind, one.subject)));
        self.close(open, |key| looked.contains(key) && !wrong.contains(key)).await
    }

    async fn close(&self, open: Vec<(Key, FindingLife)>, over: impl Fn(&Key) -> bool) -> Result<(), CheckError> {
        let over: Vec<FindingLife> = open.into_iter().filter(|(key, _)| over(key)).map(|(_, life)| life).collect();
        let now = self.inspector().wall_clock();
        Ok(self.inspector().stores.database.close_findings(&over, ClosedBy::Consistent, now).await?)
    }

    /// What could be looked at, and what is still wrong with it, or on its way.
    async fn see_again(
        &self,
        open: impl Iterator<Item = Key>,
        unfinished: bool,
    ) -> Result<(HashSet<Key>, Vec<Finding>), CheckError> {
        let inspector = self.inspector();
        let (mut looked, mut findings) = (HashSet::new(), Vec::new());
        let (mut resources, mut pairs) = (BTreeSet::<Resource>::new(), BTreeSet::<Pair>::new());
        let mut journals = false;
        for (kind, subject) in open {
            let seen = match (kind, subject) {
                (Kind::CachedCount | Kind::StoredCount, Subject::Resource(resource)) => {
                    resources.insert(resource);
                    true
                }
                (Kind::CachedPair, Subject::Pair(pair)) => {
                    pairs.insert(pair);
                    true
                }
                (Kind::Journal | Kind::Accounting, _) => {
                    journals = true;
                    true
                }
                // The run has seen all that the ledger holds, and not this.
                (Kind::Ledger, _) => unfinished,
                _ => false,
            };
            if seen {
                looked.insert((kind, subject));
            }
        }
        let resources: Vec<Resource> = resources.into_iter().collect();
        let pairs: Vec<Pair> = pairs.into_iter().collect();
        if !resources.is_empty() {
            findings.extend(inspector.counts(&resources).await?);
        }
        if !pairs.is_empty() {
            findings.extend(inspector.pairs(&inspector.stores.database, &pairs).await?);
        }
        if journals {
            let (status, wrong) = inspector.accounting().await?;
            findings.extend(wrong);
            for accounting in &status {
                findings.extend(inspector.old_entries(accounting).await?);
            }
        }
        // What else such a look comes upon belongs to the run that looks for it.
        findings.retain(|one| looked.contains(&(as_asked(one.kind), one.subject)));
        Ok((looked, findings))
    }
}

/// A cached pair whose row is gone is found as that row.
const fn as_asked(kind: Kind) -> Kind {
    match kind {
        Kind::Row => Kind::CachedPair,
        other => other,
    }
}

/// Those of things and subjects that there are.
fn known(lives: Vec<FindingLife>) -> Vec<(Key, FindingLife)> {
    let key = |life: &FindingLife| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == life.kind)?;
        Some((kind, Subject::of(life)?))
    };
    lives.into_iter().filter_map(|life| Some((key(&life)?, life))).collect()
}

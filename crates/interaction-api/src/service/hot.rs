//! What is hot, for callers: the checker's ranking with the counts that readers are served.

use super::caller::Who;
use super::limits::Limits;
use crate::status;
use consistency::Checker;
use domain::{Resource, ResourceType};
use std::sync::Arc;
use std::time::Duration;
use sync_engine::read::{Read, Reader};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;

/// A ranking is given out for this long: however many callers ask, the database is asked once.
const FRESH_FOR: Duration = Duration::from_secs(1);

type Ranking = Arc<Vec<(Resource, usize)>>;

/// A hot resource.
pub(super) struct Hot {
    pub(super) resource: Resource,
    /// As readers are served it.
    pub(super) count: i64,
    /// Likes and unlikes among the newest events.
    pub(super) recent_changes: i32,
}

/// Answers `ListHotResources`. Clones share their ranking.
#[derive(Clone)]
pub struct HotList {
    checker: Checker,
    reader: Reader,
    latest: Arc<Mutex<Option<(Instant, Ranking)>>>,
}

impl HotList {
    /// Ranked by `checker`, counted by `reader`.
    pub fn new(checker: Checker, reader: Reader) -> Self {
        Self { checker, reader, latest: Arc::default() }
    }

    /// The hottest resources of a type, or of all.
    pub(super) async fn list(
        &self,
        kind: Option<ResourceType>,
        limit: u32,
        who: &Who,
        limits: &Limits,
    ) -> Result<Read<Hot>, Status> {
        match kind {
            Some(kind) => who.may_types([kind])?,
            None => who.may_types(ResourceType::ALL)?,
        }
        let _turn = limits.list(who, limit).await?;
        let ranking = self.ranking().await?;
        let of_kind = ranking.iter().filter(|(resource, _)| kind.is_none_or(|kind| resource.kind == kind));
        let (resources, changes): (Vec<Resource>, Vec<usize>) = of_kind.take(limit as usize).copied().unzip();
        let read = self.reader.counts(&resources).await.map_err(|error| status::read(&error))?;
        let each = resources.into_iter().zip(read.values).zip(changes);
        let values = each.map(|((resource, count), changes)| Hot {
            resource,
            count,
            recent_changes: i32::try_from(changes).unwrap_or(i32::MAX),
        });
        Ok(Read { values: values.collect(), degraded: read.degraded })
    }

    async fn ranking(&self) -> Result<Ranking, Status> {
        let mut latest = self.latest.lock().await;
        if let Some((at, ranking)) = &*latest
            && at.elapsed() < FRESH_FOR
        {
            return Ok(Arc::clone(ranking));
        }
        let ranking = self.checker.hottest().await;
        let ranking = Arc::new(ranking.map_err(|error| status::stores(error.is_unavailable(), "ranking", &error))?);
        *latest = Some((Instant::now(), Arc::clone(&ranking)));
        Ok(ranking)
    }
}

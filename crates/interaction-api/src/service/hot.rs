//! What is hot, for callers: the checker's ranking, or what gained most likes within a window, with the counts that readers are
//! served.

use super::caller::Who;
use super::limits::Limits;
use crate::status::{self, Reason};
use consistency::Checker;
use domain::{Resource, ResourceType};
use event_store::{EventStore, Window};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use sync_engine::read::{Read, Reader};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;

/// A ranking is given out for this long: however many callers ask, the database is asked once.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// One of a window, which changes every few seconds only and costs more.
const WINDOW_FRESH_FOR: Duration = Duration::from_secs(5);

/// Most that is given out.
const MOST: u32 = 100;

type Ranking = Arc<Vec<(Resource, i64)>>;

/// Taken for as long as it is looked at anew, so that one caller does.
type Latest = Arc<Mutex<Option<(Instant, Ranking)>>>;

/// A hot resource.
pub(super) struct Hot {
    pub(super) resource: Resource,
    /// As readers are served it.
    pub(super) count: i64,
    /// Likes and unlikes among the newest events; 0 with a window.
    pub(super) recent_changes: i32,
    /// Likes gained within the window; 0 without one.
    pub(super) gained: i64,
}

/// Answers `ListHotResources`. Clones share their rankings.
#[derive(Clone)]
pub struct HotList {
    checker: Checker,
    reader: Reader,
    database: EventStore,
    latest: Arc<HashMap<Option<Window>, Latest>>,
}

impl HotList {
    /// Ranked by `checker`, of a window by `database`, counted by `reader`.
    pub fn new(checker: Checker, reader: Reader, database: EventStore) -> Self {
        let rankings = [None].into_iter().chain(Window::ALL.map(Some));
        let latest = rankings.map(|window| (window, Latest::default())).collect();
        Self { checker, reader, database, latest: Arc::new(latest) }
    }

    /// The hottest resources of a type, or of all.
    pub(super) async fn list(
        &self,
        kind: Option<ResourceType>,
        window: Option<Window>,
        limit: u32,
        who: &Who,
        limits: &Limits,
    ) -> Result<Read<Hot>, Status> {
        match kind {
            Some(kind) => who.may_types([kind])?,
            None => who.may_types(ResourceType::ALL)?,
        }
        let _turn = limits.list(who, limit).await?;
        let ranking = self.ranking(window).await?;
        let of_kind = ranking.iter().filter(|(resource, _)| kind.is_none_or(|kind| resource.kind == kind));
        let (resources, changes): (Vec<Resource>, Vec<i64>) = of_kind.take(limit as usize).copied().unzip();
        let read = self.reader.counts(&resources).await.map_err(|error| status::read(&error))?;
        let each = resources.into_iter().zip(read.values).zip(changes);
        let values = each.map(|((resource, count), changes)| Hot {
            resource,
            count,
            recent_changes: if window.is_none() { i32::try_from(changes).unwrap_or(i32::MAX) } else { 0 },
            gained: if window.is_some() { changes } else { 0 },
        });
        Ok(Read { values: values.collect(), degraded: read.degraded })
    }

    async fn ranking(&self, window: Option<Window>) -> Result<Ranking, Status> {
        let fresh_for = if window.is_some() { WINDOW_FRESH_FOR } else { FRESH_FOR };
        let latest = self.latest.get(&window).ok_or_else(|| status::refuse(Reason::Internal, "no such ranking"))?;
        let mut latest = latest.lock().await;
        if let Some((at, ranking)) = &*latest
            && at.elapsed() < fresh_for
        {
            return Ok(Arc::clone(ranking));
        }
        let ranking = match window {
            None => {
                let hottest = self.checker.hottest().await;
                hottest.map_err(|error| status::stores(error.is_unavailable(), "ranking", &error))?
            }
            Some(window) => {
                let most = self.database.most_gained(window, MOST).await;
                most.map_err(|error| status::stores(error.is_unavailable(), "ranking", &error))?
            }
        };
        let ranking = Arc::new(ranking);
        *latest = Some((Instant::now(), Arc::clone(&ranking)));
        Ok(ranking)
    }
}

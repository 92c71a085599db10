//! One call on its way.

use super::{PAUSE, Routes, Way, nobody_has, refused};
use crate::meaning::{Meaning, meaning};
use crate::slots::{Redirect, Slot, redirect};
use deadpool_redis::redis::{RedisError, RedisResult};
use std::sync::Arc;
use tokio::time::{Instant, sleep};

/// A call is sent from node to node so often without a pause: they may not agree yet.
const HOPS: u32 = 4;

/// See the head of the module.
pub(crate) struct Journey<'a> {
    pub(super) routes: &'a Arc<Routes>,
    pub(super) slot: Slot,
    pub(super) until: Instant,
    pub(super) next: Option<Way>,
    pub(super) hops: u32,
}

impl Journey<'_> {
    /// Where it goes next.
    pub(crate) async fn way(&mut self) -> RedisResult<Way> {
        if let Some(way) = self.next.take() {
            return Ok(way);
        }
        if let Some(connections) = self.routes.table.load().of(self.slot) {
            return Ok(Way { connections: Arc::clone(connections), asking: false });
        }
        self.routes.look().await.map_err(refused)?;
        let table = self.routes.table.load();
        let connections = Arc::clone(table.of(self.slot).ok_or_else(|| nobody_has(self.slot))?);
        Ok(Way { connections, asking: false })
    }

    /// It goes there once more.
    pub(crate) fn again(&mut self, way: Way) {
        self.next = Some(way);
    }

    /// It met this, which is its end unless it ran nothing there and goes on elsewhere.
    pub(crate) async fn turned_away(&mut self, error: RedisError) -> RedisResult<()> {
        let Some(cluster) = &self.routes.cluster else { return Err(error) };
        let Some(redirect) = redirect(&error) else {
            if error.is_io_error() || matches!(meaning(&error), Meaning::Away | Meaning::Elsewhere) {
                // Another node may have what this one had.
                self.routes.look_soon();
            }
            return Err(error);
        };
        self.hops += 1;
        let waits = redirect == Redirect::TryAgain || self.hops > HOPS;
        if waits {
            if Instant::now() + PAUSE > self.until {
                return Err(error);
            }
            metrics::counter!("interaction_cache_slot_waits_total").increment(1);
            sleep(PAUSE).await;
        }
        match redirect {
            Redirect::TryAgain => {}
            Redirect::Moved(address) => self.next = Some(self.routes.moved(self.slot, &self.whole(address))?),
            Redirect::Ask(address) => {
                let connections = self.routes.known_at(cluster, &self.whole(address)).map_err(refused)?;
                self.next = Some(Way { connections, asking: true });
            }
        }
        Ok(())
    }

    /// Without a host it is that of the node which said so.
    fn whole(&self, address: String) -> String {
        if !address.starts_with(':') {
            return address;
        }
        let table = self.routes.table.load();
        let host = table.of(self.slot).and_then(|asked| asked.address.rsplit_once(':'));
        host.map_or_else(|| address.clone(), |(host, _)| format!("{host}{address}"))
    }
}

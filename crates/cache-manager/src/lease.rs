//! Leases: a lock with an owner, a lifetime and a fencing token.

use crate::connection::Connections;
use crate::keys::Keys;
use crate::meaning::{cache_error, naming};
use crate::script::Script;
use domain::cache::CacheResult;
use std::time::Duration;

pub(crate) struct Lease {
    acquire: Script,
    release: Script,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self {
            acquire: Script::new(include_str!("scripts/acquire_lease.lua")),
            release: Script::new(include_str!("scripts/release_lease.lua")),
        }
    }

    pub(crate) async fn acquire(
        &self,
        connections: &Connections,
        keys: &Keys,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> CacheResult<Option<u64>> {
        let (owner_key, token_key) = keys.lease(name);
        let mut call = self.acquire.call(2);
        call.arg(owner_key).arg(&token_key).arg(owner).arg(ttl.as_millis().max(1).to_string());
        let token = self.acquire.run::<u64>(connections, &call).await;
        let token = token.map_err(|error| naming(cache_error(error), |_| token_key))?;
        Ok((token > 0).then_some(token))
    }

    pub(crate) async fn release(
        &self,
        connections: &Connections,
        keys: &Keys,
        name: &str,
        owner: &str,
    ) -> CacheResult<()> {
        let mut call = self.release.call(1);
        call.arg(keys.lease(name).0).arg(owner);
        self.release.run::<i64>(connections, &call).await.map(drop).map_err(cache_error)
    }
}

//! Who probes: while all is well one process for all that ask the same server (see [`word`](crate::word)).

use super::RedisCache;
use crate::connection::Connections;
use crate::journal;
use crate::meaning::{Meaning, cache_error, meaning};
use crate::word::{Answer, HOLDS, TURN, Word};
use deadpool_redis::redis::{Cmd, RedisError, cmd};
use domain::ShardId;
use domain::cache::{CacheError, CacheResult, Durability, ShardStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// What a probe met, and whether likes find no room.
type Probed = Result<(), (CacheError, bool)>;

/// Who probed waits no longer for what it leaves to others.
const SAYING: Duration = Duration::from_millis(500);

impl RedisCache {
    /// `shared`: what another process has just found is enough.
    pub(super) async fn look_at_shards(&self, shared: bool) -> CacheResult<Vec<(ShardId, CacheError)>> {
        let servers = self.routes.primaries().await?;
        let probes = servers.iter().map(|(server, shards)| self.look_in_time(server, shards, shared));
        let probed = futures::future::join_all(probes).await;
        self.full.store(probed.iter().any(|probed| probed.as_ref().is_err_and(|(_, full)| *full)), Ordering::Relaxed);
        let answered = probed.iter().any(Result::is_ok);
        let mut away = Vec::new();
        for ((_, shards), probed) in servers.iter().zip(probed) {
            let Err((error, _)) = probed else { continue };
            // In a cluster another node may have taken over.
            self.routes.look_soon();
            if !answered {
                return Err(error);
            }
            away.extend(shards.iter().map(|shard| (*shard, error.clone())));
        }
        Ok(away)
    }

    /// One that is silent keeps nobody from hearing of the others.
    async fn look_in_time(&self, server: &Connections, shards: &[ShardId], shared: bool) -> Probed {
        let look = async {
            if shared {
                return self.hear_or_probe(server, shards).await;
            }
            let probed = self.probe(server, shards).await.map(drop);
            if probed.is_err() {
                server.word.forget();
            }
            probed
        };
        if !self.routes.is_cluster() {
            return look.await;
        }
        let silent = |_| {
            server.word.forget();
            Err((cache_error(std::io::Error::from(std::io::ErrorKind::TimedOut).into()), false))
        };
        timeout(self.routes.patience / 2, look).await.unwrap_or_else(silent)
    }

    async fn hear_or_probe(&self, server: &Connections, shards: &[ShardId]) -> Probed {
        // Whoever met trouble, or nothing yet, looks by itself.
        if server.word.recent().is_some() {
            match self.ask_for_word(server, shards).await {
                Ok(Answer::Well(word)) if word.shards.iter().all(|told| shards.contains(&told.status.shard)) => {
                    self.heard(server, word);
                    return Ok(());
                }
                Ok(Answer::Probing) => return Ok(()),
                Ok(Answer::Well(_) | Answer::Turn | Answer::Trouble) => {}
                Err(error) if matches!(meaning(&error), Meaning::Away | Meaning::Elsewhere) => {
                    server.word.forget();
                    return Err((cache_error(error), false));
                }
                // The probe says it better.
                Err(_) => {}
            }
        }
        match self.probe(server, shards).await {
            Ok(told) => {
                let of_disk = async {
                    drop(self.mark_data().await);
                    self.durability_of(server).await.ok()
                };
                let told_of_disk = timeout(SAYING, of_disk).await.ok().flatten();
                let (durability, attached) = told_of_disk.map_or((None, 0), |(told, attached)| (Some(told), attached));
                let word = Word { durability, attached, shards: told };
                self.say(server, shards, &word.written()).await;
                self.heard(server, word);
                Ok(())
            }
            Err(met) => {
                server.word.forget();
                self.say(server, shards, Word::TROUBLE).await;
                Err(met)
            }
        }
    }

    /// A write like any other one, so it meets what likes would.
    async fn ask_for_word(&self, server: &Connections, shards: &[ShardId]) -> Result<Answer, RedisError> {
        server.drop_former();
        let way = server.shared.way();
        let mut ask = self.word_of(server, shards, Word::PROBING, TURN)?;
        ask.arg("NX").arg("GET");
        let asked = async { way.query::<Option<String>>(&ask, false).await };
        let (told, (), ()) = tokio::try_join!(asked, way.confirm_elsewhere(), server.shared.measure_clock())?;
        Ok(Answer::read(told.as_deref()))
    }

    fn word_of(
        &self,
        server: &Connections,
        shards: &[ShardId],
        word: &str,
        holds: Duration,
    ) -> Result<Cmd, RedisError> {
        let beside = shards.first().copied().unwrap_or(ShardId(0));
        let mut set = cmd("SET");
        set.arg(self.keys.word(beside, &server.user()?)).arg(word).arg("PX").arg(holds.as_millis().to_string());
        Ok(set)
    }

    /// Nothing is lost if nobody hears it.
    async fn say(&self, server: &Connections, shards: &[ShardId], word: &str) {
        let Ok(set) = self.word_of(server, shards, word, HOLDS) else { return };
        let said = timeout(SAYING, server.shared.way().query::<()>(&set, false)).await;
        if let Ok(Err(error)) = said {
            tracing::debug!(%error, "what a probe found was not left to others");
        }
    }

    fn heard(&self, server: &Connections, word: Word) {
        if let (Some(confirm), Some(_)) = (&server.confirm, &word.durability) {
            confirm.saw_replicas(word.attached);
        }
        for told in &word.shards {
            journal::heard(&self.routes, told.clone());
        }
        server.word.is(word);
    }

    /// What the servers said of their disks, if all did lately.
    pub(super) fn durability_as_told(&self, servers: &[(Arc<Connections>, Vec<ShardId>)]) -> Option<Durability> {
        let told = servers.iter().map(|(server, _)| {
            let word = server.word.recent()?;
            Some(with_replicas(server, (word.durability?, word.attached)))
        });
        told.collect::<Option<Vec<_>>>()?.into_iter().reduce(Durability::and)
    }

    /// What all shards said lately; none if one of them did not.
    pub(super) fn status_as_told(&self, servers: &[(Arc<Connections>, Vec<ShardId>)]) -> Option<Vec<ShardStatus>> {
        let words = servers.iter().map(|(server, _)| server.word.recent()).collect::<Option<Vec<_>>>()?;
        let mut told: Vec<_> = words.into_iter().flat_map(|word| word.shards).map(|told| told.status).collect();
        told.sort_unstable_by_key(|status| status.shard);
        let all = self.rules.shards.all();
        all.eq(told.iter().map(|status| status.shard)).then_some(told)
    }
}

/// What a server said of its disk, and of who follows as far as that matters.
pub(super) fn with_replicas(server: &Connections, (told, attached): (Durability, u32)) -> Durability {
    Durability { replicas: server.confirm.as_ref().map(|confirm| confirm.standing(attached)), ..told }
}

//! The Redis cache: every Lua script behind one typed call, nothing else of Redis visible outside.
//!
//! | key | what |
//! |---|---|
//! | `{s<N>}:p:<v or c><user>:<id>` | pair: integer `version * 2 + liked`, negative if it was only seen in the database |
//! | `{s<N>}:c:<v or c><id>` | counter hash: `n` served, `p` pending, `v` last accepted version, `dn`/`dr` stored count and its revision |
//! | `{s<N>}:j` | journal stream; an entry's id is `<version>-0`, field `e` the encoded event |
//! | `{s<N>}:t` | shard clock hash: `v` last version, `a` accepted, `s` settled, `w` settled up to, `f` largest token of a repairer; `r` the server it last met, `b` the version of that moment, `m:<process>` the last version given to each process |
//! | `{s<N>}:w` | hash: `<writer>:<lane>` of the database's commits that were settled here last, `number:seconds` |
//! | `{s<N>}:i:<v or c><user>:<id>:<key>` | first answer to an idempotency key: `code:count:version:liked` |
//! | `{s0}:e` | fences: hash, an erased user to the version up to which nothing of theirs counts |
//! | `r:<user>` | the user's rate limit |
//! | `{l:<name>}:o`, `{l:<name>}:t` | lease owner and fencing token |
//! | `{s<N>}:ot` | the clock of a shard that `syncctl reshard` has closed and may open again; `:j` and `:t` are words then, and stay so |
//! | `meta` | hash: `shards`: their number, and after `@` how often it was changed |
//! | `{s<N>}:h`, `{s<N>}:hj`, `{s<N>}:ht` | what a probe writes, beside a shard of each server |
//! | `{s<N>}:hw` | what is written before replicas are asked what they have |
//! | `{s<N>}:hv:<user>` | what the last probe of a server found, beside the first shard of each (`word.rs`) |
//!
//! All keys start with the configured prefix. After resharding `{s<N>}` is `{s<N>.<how often>}`: no number of shards shares keys
//! with another one. Likes go over one multiplexed connection, where concurrent calls are
//! pipelined and likes of one shard that meet are combined; reads have two of their own, so that no like waits behind
//! them, and background work uses a small pool. Where [replicas confirm](RedisConfig::confirm_replicas), likes have two more.
//!
//! In a [Redis Cluster](RedisConfig::cluster) there are these connections to every primary, and a router to them.
//!
//! Deliberately absent: any decision about what to do when Redis is unreachable. That is the engine's.
//!
//! Without the feature `redis` there is the configuration only: read and checked as ever, and nobody to connect.

#[cfg(feature = "redis")]
mod accept;
mod addresses;
#[cfg(feature = "redis")]
mod clock;
#[cfg(feature = "redis")]
mod combine;
mod config;
#[cfg(feature = "redis")]
mod confirm;
#[cfg(feature = "redis")]
mod connection;
#[cfg(feature = "redis")]
mod deleted;
#[cfg(feature = "redis")]
mod erase;
#[cfg(feature = "redis")]
mod fill;
#[cfg(feature = "redis")]
mod journal;
#[cfg(feature = "redis")]
mod keys;
#[cfg(feature = "redis")]
mod lease;
#[cfg(feature = "redis")]
mod limit;
#[cfg(feature = "redis")]
mod mark;
#[cfg(feature = "redis")]
mod meaning;
#[cfg(feature = "redis")]
mod planted;
#[cfg(feature = "redis")]
mod pool;
#[cfg(feature = "redis")]
mod primary;
#[cfg(feature = "redis")]
mod read;
#[cfg(feature = "redis")]
mod redis_cache;
#[cfg(feature = "redis")]
mod remember;
#[cfg(feature = "redis")]
mod repair;
#[cfg(feature = "redis")]
mod reshard;
#[cfg(feature = "redis")]
mod routes;
#[cfg(feature = "redis")]
mod script;
#[cfg(feature = "redis")]
mod settle;
#[cfg(feature = "redis")]
mod slots;
#[cfg(feature = "redis")]
mod word;

#[cfg(feature = "redis")]
#[doc(hidden)]
pub use accept::accept_script;
pub use config::{RedisConfig, Unconfirmed};
#[cfg(feature = "redis")]
pub use keys::Keys;
#[cfg(feature = "redis")]
pub use redis_cache::RedisCache;
#[cfg(feature = "redis")]
pub use reshard::{Closing, SlotsNow, Standing};

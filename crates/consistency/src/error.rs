//! Why a check did not come to its end.

use domain::cache::CacheError;
use event_store::StoreError;

/// A store is unreachable or refuses. Nothing is half done: a check only reads, and every repair is one atomic write.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl CheckError {
    /// Whether a store is unreachable, as opposed to unhappy.
    pub const fn is_unavailable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_unavailable(),
            Self::Cache(error) => error.is_unavailable(),
        }
    }
}

//! Why the cache could not be opened, or a like not be kept.

use domain::cache::CacheError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the cache could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory.
    #[error("{}: in use by another process{holder}", directory.display())]
    InUse {
        /// Which directory.
        directory: PathBuf,
        /// ` (pid N)`, or empty if that is unknown.
        holder: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A journal file holds what was never written, at a place where a crash cannot explain it.
    #[error("{}: damaged at byte {offset}: {reason}; restore it, or move it away and lose its unsettled likes", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The data was written with another number of shards.
    #[error("{}: holds data of {stored} shards, configured are {configured}", directory.display())]
    ShardMismatch {
        /// Which directory.
        directory: PathBuf,
        /// Found there.
        stored: u16,
        /// In the configuration.
        configured: u16,
    },
}

impl OpenError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Why a like was not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WalError {
    /// The files reached their bound; nothing was appended.
    #[error("the journal files are at their limit")]
    Full,
    /// The disk does not take it.
    #[error("the journal cannot be written: {0}")]
    Failed(#[source] Arc<io::Error>),
}

impl From<WalError> for CacheError {
    fn from(error: WalError) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

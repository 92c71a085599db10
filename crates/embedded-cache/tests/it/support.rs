//! Directories and shorthands.

use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheRules, LikeCache};
use domain::codec::EncodedEvent;
use domain::{ShardCount, Version};
use embedded_cache::{EmbeddedCache, EmbeddedConfig, OpenError};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use test_support::cache_contract::roomy_rules;

/// A directory that goes with the test (a cache that is still open loses its names only), and a configuration.
pub(crate) struct Home {
    dir: TempDir,
    pub(crate) config: EmbeddedConfig,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), config: EmbeddedConfig::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn open(&self, rules: CacheRules) -> Result<EmbeddedCache, OpenError> {
        self.config.open(self.path(), rules)
    }

    /// Journal files with their sizes, oldest first.
    pub(crate) fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut files: Vec<_> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("journal-"))
            // A settled file may be deleted while it is listed.
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())))
            .collect();
        files.sort();
        files
    }

    /// What a process killed now would leave behind.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir().unwrap(), config: self.config.clone() };
        for (file, _) in self.files() {
            std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
        copy
    }
}

pub(crate) fn one_shard() -> CacheRules {
    CacheRules { shards: ShardCount::new(1).unwrap(), ..roomy_rules() }
}

pub(crate) async fn accepted(cache: &EmbeddedCache, request: AcceptRequest) -> Answer {
    match cache.accept(&[request]).await.pop().unwrap() {
        Ok(AcceptOutcome::Accepted(answer)) => answer,
        other => panic!("{other:?} instead of accepted"),
    }
}

pub(crate) async fn journal(cache: &EmbeddedCache) -> Vec<EncodedEvent> {
    let mut entries = Vec::new();
    for status in cache.shard_status().await.unwrap() {
        assert_eq!(status.accepted - status.settled, status.journal_len, "{status:?}");
        entries.extend(cache.journal_page(status.shard, Version::ZERO, 1_000_000).await.unwrap());
    }
    entries
}

//! A shard's journal, page by page.

use super::{CacheResult, LikeCache};
use crate::codec::EncodedEvent;
use crate::{ShardId, Version};

/// Pages through a shard's journal, oldest entry first, for a bounded number of pages.
///
/// Entries that are settled meanwhile are passed over, those that are accepted meanwhile come last. Only an empty page is
/// the end: a cache may leave out what it cannot hand on, so a page that is not full says nothing.
pub struct JournalPages<'a> {
    cache: &'a dyn LikeCache,
    shard: ShardId,
    page_size: usize,

    pages_left: usize,
    after: Version,
    at_end: bool,
}

impl<'a> JournalPages<'a> {
    /// At most `max_pages` pages of up to `page_size` entries.
    pub fn new(cache: &'a dyn LikeCache, shard: ShardId, page_size: usize, max_pages: usize) -> Self {
        Self { cache, shard, page_size, pages_left: max_pages, after: Version::ZERO, at_end: false }
    }

    /// The next page, never empty; none at the end, or after the last page allowed.
    ///
    /// # Errors
    /// The cache's; the same page can be asked for again, but counts once more.
    pub async fn next(&mut self) -> CacheResult<Option<Vec<EncodedEvent>>> {
        if self.at_end || self.pages_left == 0 {
            return Ok(None);
        }
        self.pages_left -= 1;
        let page = self.cache.journal_page(self.shard, self.after, self.page_size).await?;
        match page.last() {
            Some(last) => self.after = last.version,
            None => self.at_end = true,
        }
        Ok((!self.at_end).then_some(page))
    }

    /// Whether every entry was seen: the journal ended before the last page allowed.
    pub const fn reached_end(&self) -> bool {
        self.at_end
    }
}

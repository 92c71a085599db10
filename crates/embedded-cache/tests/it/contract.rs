//! The contract of every cache.

use crate::support::Home;
use domain::cache::{CacheRules, LikeCache};
use std::sync::Arc;

#[expect(clippy::expect_used, reason = "without a directory there is nothing to test")]
async fn fresh(rules: CacheRules) -> Arc<dyn LikeCache> {
    let home = Home::new();
    Arc::new(home.open(rules).expect("a cache in a fresh directory"))
}

test_support::cache_contract!(fresh);

//! The contract of every cache.

use crate::support::on_shared;
use domain::cache::{CacheRules, LikeCache};
use std::sync::Arc;

#[expect(clippy::expect_used, reason = "without a server there is nothing to test")]
async fn fresh(rules: CacheRules) -> Arc<dyn LikeCache> {
    let (cache, _) = on_shared(rules).await.expect("a cache on the shared redis");
    Arc::new(cache)
}

test_support::cache_contract!(fresh);

//! The contract of every cache, on a Redis Cluster.

use crate::support::in_cluster;
use domain::cache::{CacheRules, LikeCache};
use std::sync::Arc;

#[expect(clippy::expect_used, reason = "without a cluster there is nothing to test")]
async fn fresh(rules: CacheRules) -> Arc<dyn LikeCache> {
    let cluster = test_support::shared::redis_cluster().await.expect("a cluster");
    let prefix = format!("{}:", test_support::unique_name("cache"));
    let cache = in_cluster(cluster, &prefix).expect("nodes").build(rules).expect("a cache");
    cache.prepare().await.expect("a prepared cache");
    Arc::new(cache)
}

test_support::cache_contract!(fresh);

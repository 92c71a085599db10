//! A server behind TLS, with an authority of one's own.

use anyhow::Result;
use cache_manager::{RedisCache, RedisConfig};
use domain::cache::{CacheError, LikeCache};
use std::path::PathBuf;
use test_support::cache_contract::roomy_rules;
use test_support::{Authority, Redis};

fn cache(url: &str, ca_file: Option<PathBuf>) -> Result<RedisCache> {
    let config = RedisConfig { url: url.to_owned().into(), ca_file, ..RedisConfig::default() };
    config.validate().map_err(anyhow::Error::msg)?;
    Ok(config.build(roomy_rules())?)
}

#[tokio::test]
async fn only_a_server_of_the_authority_is_believed() -> Result<()> {
    let (ca, other) = (Authority::new("ours")?, Authority::new("theirs")?);
    let redis = Redis::start_tls(&ca).await?;
    cache(redis.url(), Some(ca.ca()))?.prepare().await?;
    let plain = redis.url().replace("rediss://", "redis://");
    for (url, ca_file) in [(redis.url(), Some(other.ca())), (redis.url(), None), (plain.as_str(), None)] {
        match cache(url, ca_file.clone())?.prepare().await {
            Err(CacheError::Unavailable(_)) => {}
            other => panic!("{url} {ca_file:?}: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn an_authority_that_is_of_no_use_is_refused() -> Result<()> {
    let ca = Authority::new("ours")?;
    for (url, file) in [("redis://localhost", ca.ca()), ("rediss://localhost", ca.path("missing"))] {
        let error = cache(url, Some(file)).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("redis.ca_file: "), "{url}: {error}");
    }
    Ok(())
}

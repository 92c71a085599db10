//! Addresses as people write them, at a real server.

use crate::support::private;
use anyhow::Result;
use cache_manager::RedisConfig;
use domain::cache::LikeCache;
use test_support::cache_contract::roomy_rules;
use test_support::listen_by_ipv6;

#[tokio::test]
async fn ipv6_and_passwords_of_any_characters_lead_there() -> Result<()> {
    let (redis, _, raw) = private(roomy_rules()).await?;
    let address = redis.addr()?;
    raw.run::<()>("ACL SETUSER me on >p@s/s:#?%w ~* +@all").await?;
    let by_ipv6 = listen_by_ipv6(&address).await?;
    for url in [
        format!("redis://{by_ipv6}"),
        format!("redis://me:p%40s%2Fs%3A%23%3F%25w@{by_ipv6}/0"),
        format!("redis://me:p@s%2Fs:%23%3F%w@{address}"),
    ] {
        let config = RedisConfig { url: url.clone().into(), ..RedisConfig::default() };
        config.validate().map_err(anyhow::Error::msg)?;
        config.build(roomy_rules())?.prepare().await.map_err(|error| anyhow::anyhow!("{url}: {error}"))?;
    }
    Ok(())
}

#[test]
fn several_hosts_in_one_address_are_named_as_such() {
    for url in ["redis://h1:6379,h2:6379", "redis://h1,h2"] {
        let config = RedisConfig { url: url.to_owned().into(), ..RedisConfig::default() };
        let error = config.validate().map_or_else(|error| error, |()| "taken".to_owned());
        assert_eq!(error, "redis.url: names several hosts: one is needed", "{url}");
    }
}

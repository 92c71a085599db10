//! A process that is configured for other data than it finds does not start.

use crate::rig::Rig;
use domain::ShardCount;

#[tokio::test]
async fn another_number_of_shards_is_refused_by_the_cache_and_by_the_database() {
    let mut rig = Rig::new().await;
    rig.stores().await.prepare().await.unwrap();
    rig.stores().await.prepare().await.unwrap();

    rig.sync.shards = ShardCount::new(8).unwrap();
    let refused = rig.stores().await.prepare().await.unwrap_err().to_string();
    assert_eq!(refused, "cache holds data of 4 shards, configured are 8");

    // A fresh cache does not help: the database knows, too.
    rig.redis.key_prefix.push_str(":other");
    let refused = rig.stores().await.prepare().await.unwrap_err().to_string();
    assert_eq!(refused, "database holds data of 4 shards, configured are 8");
}

#[tokio::test]
async fn stores_that_are_away_open_their_circuits_and_stop_nobody() {
    let mut rig = Rig::new().await;
    let nowhere = test_support::lease_port().unwrap();
    rig.redis.url = format!("redis://{}", nowhere.addr()).into();
    rig.database.url = format!("mysql://root@{}/test", nowhere.addr()).into();
    let stores = rig.stores().await;
    stores.prepare().await.unwrap();
    assert!(stores.cache_circuit.is_open() && stores.database_circuit.is_open());
}

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

#[tokio::test]
async fn a_database_that_refuses_what_is_written_stops_nobody() {
    let rig = Rig::new().await;
    let stores = rig.stores().await;
    stores.prepare().await.unwrap();
    rig.sql("CREATE TRIGGER refuses BEFORE INSERT ON sync_meta FOR EACH ROW SIGNAL SQLSTATE '45000'").await;
    let starting = rig.stores().await;
    starting.prepare().await.unwrap();
    assert!(starting.database_circuit.is_open());
    rig.sql("DROP TRIGGER refuses").await;
    starting.prepare_database().await.unwrap();
}

//! What a failure that is over leaves behind.

use crate::planted::finds;
use domain::Action::Like;
use sync_engine::recover::catch_up::close_cache_circuit;

#[tokio::test]
async fn untold_forever() {
    finds("untold_forever", "stays out", async |rig| {
        let process = rig.process().await;
        process.stores.cache_circuit.trip(&"unplugged");
        let answer = process.accept(&process.dying_server(), 1, Like).await;
        assert!(answer.degraded, "{answer:?}");
        close_cache_circuit(&process.stores).await.unwrap();
        // The cache was told. Later it goes and comes back while the database is away.
        process.stores.database_circuit.trip(&"unplugged");
        process.stores.cache_circuit.trip(&"unplugged");
        close_cache_circuit(&process.stores).await.unwrap();
        if process.stores.cache_circuit.is_open() { Err("a cache that knows all stays out".to_owned()) } else { Ok(()) }
    })
    .await;
}

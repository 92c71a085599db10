//! Wrong versions of how a process follows the node that writes.

use crate::planted::finds;
use crate::rig::{Rig, VIDEO};
use domain::Action::Like;
use event_store::{DatabaseConfig, EventStore};
use std::time::Duration;
use test_support::build::{event, intent, video_pair};
use test_support::{MariaDbGroup, MariaDbOptions, Proxy, RedisGroup, RedisGroupOptions, RedisOptions};
use tokio::time::{sleep, timeout};

/// Redis changes its primary; connections to the old one stay and say READONLY.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_demoted_connection() {
    finds("keeps_demoted_connection", "nothing is accepted", async |rig: &Rig| {
        let node = RedisOptions { appendonly: false, preload: false };
        let group = RedisGroup::start(RedisGroupOptions { node, ..Default::default() }).await.unwrap();
        let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
        let process = rig.process_at(&address.url_of(group.node(0).unwrap().url())).await;
        let server = process.server();
        process.watch_cache();
        process.accept(&server, 1, Like).await;
        group.switch_to(1).await.unwrap();
        address.retarget(group.node(1).unwrap().addr().unwrap());
        let accepted = async {
            let mut user = 2;
            loop {
                let answer = server.accept_one(intent(video_pair(user, VIDEO), Like)).await;
                if answer.is_ok_and(|answer| !answer.degraded) {
                    return;
                }
                user += 1;
                sleep(Duration::from_millis(50)).await;
            }
        };
        let found = timeout(Duration::from_secs(10), accepted).await;
        found.map_err(|_| "nothing is accepted by the new primary".to_owned())
    })
    .await;
}

/// The database only reads, and nobody has tried to write yet; who asks it for a 1 gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probe_select_one() {
    finds("probe_select_one", "is well", async |_| {
        let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
        let group = MariaDbGroup::start(options, 0).await.unwrap();
        let root = group.node(0).unwrap().url().to_owned();
        let of = |url: String| DatabaseConfig { url: url.into(), ..DatabaseConfig::default() };
        let store = EventStore::connect(&of(root.clone())).await.unwrap();
        store.migrate().await.unwrap();
        let store = EventStore::connect(&of(root.replace("root@", MariaDbGroup::APP))).await.unwrap();
        let likes = [event(1, VIDEO, Like, 1_000_000)];
        store.apply(&likes, test_support::wall_clock().into()).await.unwrap();
        group.sql(0, "SET GLOBAL read_only = ON").await.unwrap();
        match store.probe().await {
            Ok(()) => Err("a database that takes no likes is well".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
}

//! Primaries change, and real processes follow without being restarted: planned switchovers behind an address whose open
//! connections stay, elections, and lists of addresses.

use crate::running::{ACCEPTED, APPLIED, PATIENCE, Running};
use std::time::Duration;
use test_support::{
    Deployment, MariaDbGroup, MariaDbOptions, Proxy, Redis, RedisGroup, RedisGroupOptions, RedisOptions, eventually,
    http, lease_port,
};

/// From the moment when a new primary takes writes until likes are there. Measured: a third of it and less.
const BACK: Duration = Duration::from_secs(5);

const NODE: RedisOptions = RedisOptions { appendonly: false, preload: false };

fn in_time(what: &str, took: Duration) {
    eprintln!("{what} after {took:?}");
    assert!(took < BACK, "{what} after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_follow_a_redis_switchover_behind_an_address_whose_connections_stay() {
    let group = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await.unwrap();
    let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
    let url = address.url_of(group.node(0).unwrap().url());
    let running = Running::start(Deployment::build("follow").redis_at(url).start().await.unwrap()).await;
    for primary in [1, 0] {
        group.switch_to(primary).await.unwrap();
        address.retarget(group.node(primary).unwrap().addr().unwrap());
        in_time("accepted by the new Redis", running.grows(&running.server, ACCEPTED).await);
        // Settled there, too.
        running.grows(&running.consumer, APPLIED).await;
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_follow_a_database_switchover_behind_an_address_whose_connections_stay() {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 1).await.unwrap();
    let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
    let url = address.url_of(group.node(0).unwrap().url());
    let deployment = Deployment::build("follow").mariadb_at(url).start().await.unwrap();
    let app = deployment.database_url().replace("root@", MariaDbGroup::APP);
    let running = Running::start(deployment.with("DATABASE__URL", app)).await;
    for (from, to) in [(0, 1), (1, 0)] {
        group.switch(from, to).await.unwrap();
        address.retarget(group.node(to).unwrap().addr().unwrap());
        in_time("committed by the new database", running.grows(&running.consumer, APPLIED).await);
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_follow_an_election_by_sentinels() {
    let options = RedisGroupOptions { node: NODE, replicas: 2, sentinels: 3 };
    let group = RedisGroup::start(options).await.unwrap();
    // For the verification, which asks no Sentinel.
    let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
    let url = address.url_of(group.node(0).unwrap().url());
    let deployment = Deployment::build("follow").redis_at(url).start().await.unwrap();
    let sentinels = group.sentinel_addrs().unwrap().join(",");
    let settings = [("REDIS__SENTINELS", sentinels.as_str()), ("REDIS__MASTER", Redis::WATCHED)];
    let running = Running::start(deployment.with_all(&settings)).await;

    group.node(0).unwrap().kill9().unwrap();
    let elected = async || group.primary().await.map_err(|error| format!("{error:#}"));
    let primary = eventually(PATIENCE, "a new primary", elected).await;
    in_time("accepted by the elected Redis", running.grows(&running.server, ACCEPTED).await);
    running.grows(&running.consumer, APPLIED).await;
    address.retarget(group.node(primary).unwrap().addr().unwrap());
    running.end().await;
}

/// Of every list the first address leads nowhere, and the second one to a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn primaries_are_found_in_lists_and_followed_there() {
    let redis = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await.unwrap();
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let mariadb = MariaDbGroup::start(options, 1).await.unwrap();
    let nobody = lease_port().unwrap().addr();
    let list = |addrs: Vec<String>| {
        let mut list = vec![nobody.clone()];
        list.extend(addrs.into_iter().rev());
        list.join(",")
    };
    // For the verification.
    let to_redis = Proxy::start(redis.node(0).unwrap().addr().unwrap()).await.unwrap();
    let to_mariadb = Proxy::start(mariadb.node(0).unwrap().addr().unwrap()).await.unwrap();
    let deployment = Deployment::build("follow")
        .redis_at(to_redis.url_of(redis.node(0).unwrap().url()))
        .mariadb_at(to_mariadb.url_of(mariadb.node(0).unwrap().url()));
    let deployment = deployment.start().await.unwrap();
    let app = deployment.database_url().replace("root@", MariaDbGroup::APP);
    let settings = [
        ("REDIS__NODES", list(redis.addrs().unwrap())),
        ("DATABASE__HOSTS", list(mariadb.addrs().unwrap())),
        ("RABBITMQ__HOSTS", list(vec![deployment.rabbitmq().addr().unwrap()])),
        ("DATABASE__URL", app),
    ];
    let deployment = settings.iter().fold(deployment, |deployment, (key, value)| deployment.with(key, value));
    let running = Running::start(deployment).await;

    redis.switch_to(1).await.unwrap();
    in_time("accepted by the new Redis", running.grows(&running.server, ACCEPTED).await);
    mariadb.switch(0, 1).await.unwrap();
    in_time("committed by the new database", running.grows(&running.consumer, APPLIED).await);
    to_redis.retarget(redis.node(1).unwrap().addr().unwrap());
    to_mariadb.retarget(mariadb.node(1).unwrap().addr().unwrap());
    running.end().await;
}

/// Who starts with nothing but a replica serves, and says why the part is down and what to do; when it is promoted all is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_as_the_only_address_is_waited_for() {
    let redis = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await.unwrap();
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let mariadb = MariaDbGroup::start(options, 1).await.unwrap();
    let deployment = Deployment::build("follow").mariadb_at(mariadb.node(0).unwrap().url());
    let deployment = deployment.redis_at(redis.node(0).unwrap().url()).start().await.unwrap();
    let schema = deployment.database_url().rsplit('/').next().unwrap().to_owned();
    let replica = format!("mysql://{}{}/{schema}", MariaDbGroup::APP, mariadb.node(1).unwrap().addr().unwrap());
    mariadb.caught_up(1, 0).await.unwrap();
    let keys = [("REDIS__URL", "redis", "redis.nodes"), ("DATABASE__URL", "mysql", "database.hosts")];
    for (number, (key, part, advice)) in keys.into_iter().enumerate() {
        // The second time it is the primary.
        let all = [("REDIS__URL", redis.node(1).unwrap().url()), (key, &*replica)];
        let programs = [deployment.server(), deployment.consumer(), deployment.checker()].map(|program| {
            let used = all.iter().take(1 + number);
            used.fold(program, |program, (key, value)| program.with(key, *value)).start().unwrap()
        });
        let [server, ..] = &programs;
        // The other store takes it.
        let like = format!(r#"{{"user_id":1{number},"resource_type":"video","resource_id":1,"action":"like"}}"#);
        eventually(PATIENCE, "a like", async || match http::post_json(&server.http(), "/v1/likes", &like).await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        for program in &programs {
            eventually(PATIENCE, "health that says why", async || {
                let (_, health) = program.health().await.map_err(|error| error.to_string())?;
                let found = &health["parts"][part];
                let says = found["last_error"]["error"].as_str().is_some_and(|error| error.contains(advice));
                if found["status"] == "down" && says { Ok(()) } else { Err(health.to_string()) }
            })
            .await;
            assert!(program.is_running(), "{}", program.log());
        }
        match part {
            "redis" => redis.switch_to(1).await.unwrap(),
            _ => mariadb.switch(0, 1).await.unwrap(),
        }
        for program in programs {
            eventually(PATIENCE, "the part", async || {
                let (_, health) = program.health().await.map_err(|error| error.to_string())?;
                if health["parts"][part]["status"] == "ok" { Ok(()) } else { Err(health.to_string()) }
            })
            .await;
            program.end(PATIENCE).await.unwrap();
        }
    }
}

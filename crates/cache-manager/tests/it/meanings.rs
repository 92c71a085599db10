//! The table of errors, row by row, each produced by a real server. Whatever the error, the cache is of no use now and says
//! so; when its cause is gone the same object works again, without anybody's help.

use crate::support::{PATIENCE, Raw, config, private};
use anyhow::{Context, Result, ensure};
use cache_manager::RedisCache;
use deadpool_redis::redis::{Value, cmd};
use domain::cache::{AcceptOutcome, LikeCache, MissingCount, SettledResource, Settlement};
use domain::{PairState, ShardCount, StoredCount};
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};
use test_support::{Redis, RedisOptions, eventually, lease_port};

/// Likes, reads, settlements, background reads and the probe agree about the server.
pub(crate) async fn of_no_use(cache: &RedisCache, says: &str) -> Result<()> {
    let like = cache.accept(&[like(video_pair(77, 1))]).await.remove(0).err().context("accepted")?;
    let probe = cache.ping().await.err().context("the probe passed")?;
    for error in [like, probe] {
        ensure!(error.is_unavailable(), "{error}");
        ensure!(error.to_string().contains(says), "{error} does not say {says}");
    }
    Ok(())
}

pub(crate) async fn works_again(cache: &RedisCache) {
    eventually(PATIENCE, "the cache", async || {
        cache.ping().await.map_err(|error| error.to_string())?;
        cache.shard_status().await.map_err(|error| error.to_string())?;
        cache.accept(&[like(video_pair(78, 1))]).await.remove(0).map(drop).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn settings_that_refuse_writes_pass_when_they_are_changed() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    for (spoil, says, mend) in [
        ("CONFIG SET maxmemory 1", "maxmemory", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "min-replicas-to-write", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 1", "replica", "REPLICAOF NO ONE"),
    ] {
        raw.run::<()>(spoil).await?;
        of_no_use(&cache, says).await.context(spoil)?;
        let key = domain::cache::FirstAnswer {
            pair: video_pair(1, 1),
            key: "k".to_owned(),
            liked: true,
            answer: domain::cache::Answer { count: None, version: domain::Version(1) },
            changed: true,
            age: std::time::Duration::ZERO,
        };
        let error = cache.remember(&[key]).await.err().with_context(|| format!("{spoil}: remembered"))?;
        ensure!(error.is_unavailable() && error.to_string().contains(says), "{spoil}: {error}");
        raw.run::<()>(mend).await?;
        works_again(&cache).await;
    }
    Ok(())
}

/// Redis has no room: no like is taken, but leases go on, and what is settled makes room.
#[tokio::test]
async fn leases_and_settlements_go_on_without_room() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    let (pair, lease) = (video_pair(1, 1), Duration::from_secs(60));
    let accepted = match cache.accept(&[like(pair)]).await.remove(0)? {
        AcceptOutcome::Accepted(answer) => answer.version,
        other => anyhow::bail!("{other:?}"),
    };
    let token = cache.acquire_lease("held", "one", lease).await?.context("free")?;
    raw.run::<()>("CONFIG SET maxmemory 1").await?;
    of_no_use(&cache, "maxmemory").await?;
    assert!(cache.is_full());
    assert_eq!(cache.acquire_lease("held", "one", lease).await?, Some(token), "renewed");
    assert_eq!(cache.acquire_lease("held", "other", lease).await?, None, "somebody else's");
    cache.release_lease("held", "one").await?;
    assert_eq!(cache.acquire_lease("held", "other", lease).await?, Some(token + 1), "released, and taken");
    cache.fence_repairs(7).await?;
    // First a row alone: nothing of it makes room, and the rest is to be written all the same.
    let stored = |revision| StoredCount { count: 1, revision, last_version: accepted };
    let row = (pair, PairState { liked: true, version: accepted });
    cache.settle(&Settlement::of_rows([(pair.resource, stored(1))], [row])).await?;
    let settled = SettledResource { resource: pair.resource, entries: vec![accepted], stored: Some(stored(2)) };
    let report = cache.settle(&Settlement { resources: vec![settled], pairs: Vec::new(), commit: None }).await?;
    assert_eq!(report.removed, 1);
    let count = cache.counts(&[pair.resource]).await?[0].context("cached")?;
    assert_eq!((count.served, count.pending, count.stored_revision), (1, 0, 2));
    let accounts: Vec<_> =
        cache.shard_status().await?.iter().map(|s| (s.accepted - s.settled, s.journal_len)).collect();
    assert_eq!(accounts, vec![(0, 0); accounts.len()]);
    raw.run::<()>("CONFIG SET maxmemory 0").await?;
    works_again(&cache).await;
    assert!(!cache.is_full());
    Ok(())
}

#[tokio::test]
async fn a_replica_without_its_primary_refuses_reads_too() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    raw.run::<()>("CONFIG SET replica-serve-stale-data no").await?;
    raw.run::<()>("REPLICAOF 127.0.0.1 1").await?;
    of_no_use(&cache, "replica").await?;
    let error = cache.counts(&[video_pair(1, 1).resource]).await.err().context("a count was read")?;
    ensure!(error.is_unavailable() && error.to_string().contains("replica"), "{error}");
    raw.run::<()>("REPLICAOF NO ONE").await?;
    works_again(&cache).await;
    Ok(())
}

/// Connections to a node that does not write any more lead to the one that does, as soon as the address does.
#[tokio::test]
async fn a_demoted_server_loses_its_connections() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    cache.shard_status().await?;
    let ours = || async {
        let clients: String = raw.run("CLIENT LIST").await?;
        let id = |line: &str| line.strip_prefix("id=")?.split(' ').next()?.parse::<u64>().ok();
        anyhow::Ok(clients.lines().filter_map(id).max().context("no client")?)
    };
    let before = ours().await?;
    raw.run::<()>("REPLICAOF 127.0.0.1 1").await?;
    of_no_use(&cache, "replica").await?;
    raw.run::<()>("REPLICAOF NO ONE").await?;
    works_again(&cache).await;
    let me: u64 = raw.run("CLIENT ID").await?;
    eventually(PATIENCE, "an end of the connections of before", async || {
        let clients: String = raw.run("CLIENT LIST").await.map_err(|error| error.to_string())?;
        let id = |line: &str| line.strip_prefix("id=")?.split(' ').next()?.parse::<u64>().ok();
        let former = |line: &&str| id(line).is_none_or(|id| id <= before && id != me);
        clients.lines().find(former).map_or(Ok(()), |line| Err(line.to_owned()))
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_script_of_somebody_else_is_waited_for() -> Result<()> {
    let (redis, cache, raw) = private(roomy_rules()).await?;
    raw.run::<()>("CONFIG SET busy-reply-threshold 10").await?;
    let other = Raw::connect(redis.url(), String::new()).await?;
    let endless = tokio::spawn(async move {
        let mut call = cmd("EVAL");
        call.arg("while true do end").arg(0);
        let _killed = other.query::<()>(&call).await;
    });
    eventually(PATIENCE, "a busy server", async || match cache.ping().await {
        Err(error) if error.to_string().contains("BUSY") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    of_no_use(&cache, "BUSY").await?;
    raw.run::<()>("SCRIPT KILL").await?;
    endless.await?;
    works_again(&cache).await;
    Ok(())
}

/// A user who may not do what likes need: the error names the statement, and the statement is enough.
#[tokio::test]
async fn a_missing_right_is_named_with_the_statement_that_grants_it() -> Result<()> {
    let (redis, _, raw) = private(roomy_rules()).await?;
    raw.run::<()>("ACL SETUSER likes on >secret ~app:* +@all -xadd").await?;
    // In a database that the url names: it has to be selected.
    let url = format!("{}/1", redis.url().trim_end_matches('/')).replace("redis://", "redis://likes:secret@");
    let cache = config(&url, "app:").build(roomy_rules())?;
    cache.prepare().await?;
    of_no_use(&cache, "ACL SETUSER <user of redis.url> '~<redis.key_prefix>*'").await?;
    let error = cache.ping().await.err().context("the probe passed")?.to_string();
    let statement = error.split("it is granted by: ").nth(1).context("no statement")?;
    let statement = statement.replace("<redis.key_prefix>", "app:").replace("<user of redis.url>", "likes");
    // The quotes are for a shell.
    let statement = statement.replace('\'', "");
    // Nothing but what the statement says.
    raw.run::<()>("ACL SETUSER likes reset on >secret").await?;
    raw.run::<()>(&statement).await?;
    works_again(&cache).await;
    let pair = video_pair(1, 1);
    cache.accept(&[like(pair)]).await.remove(0)?;
    cache.counts(&[pair.resource]).await?;
    cache.states(&[pair]).await?;
    cache.fill_states(&[(video_pair(5, 5), PairState::default())]).await?;
    ensure!(cache.cached_pairs(0, 1000).await?.0.contains(&pair), "it lists no pairs");
    cache.acquire_lease("l", "me", PATIENCE).await?.context("no lease")?;
    assert_eq!(cache.acquire_lease("l", "other", PATIENCE).await?, None);
    cache.release_lease("l", "me").await?;
    cache.journal_page(roomy_rules().shards.of(pair.resource), domain::Version::ZERO, 10).await?;
    // Without the right to look at the settings, or to list, too.
    raw.run::<()>("ACL SETUSER likes -info -scan").await?;
    let cache = config(&url, "app:").build(roomy_rules())?;
    cache.prepare().await?;
    ensure!(cache.cached_pairs(0, 1000).await? == (Vec::new(), 0), "it lists what it may not");
    cache.accept(&[like(video_pair(7, 1))]).await.remove(0)?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_says_so_and_nothing_ends() -> Result<()> {
    let (redis, ..) = private(roomy_rules()).await?;
    let cache = config(&redis.url().replace("redis://", "redis://nobody:wrong@"), "").build(roomy_rules())?;
    let error = cache.prepare().await.err().context("prepared")?;
    ensure!(error.is_unavailable() && error.to_string().contains("password"), "{error}");
    of_no_use(&cache, "password").await
}

#[tokio::test]
async fn a_renamed_command_is_named() -> Result<()> {
    let redis = Redis::start_with_arguments(RedisOptions::default(), &["--rename-command", "XADD", "SECRET"]).await?;
    let cache = config(redis.url(), "").build(roomy_rules())?;
    cache.prepare().await?;
    of_no_use(&cache, "renamed or disabled").await
}

/// A node of a Redis Cluster, given as if it were one server.
#[tokio::test]
async fn a_cluster_is_named() -> Result<()> {
    // Else it takes a port that may be somebody else's.
    let bus = lease_port()?;
    let port = bus.port().to_string();
    let arguments = ["--cluster-enabled", "yes", "--cluster-port", &port];
    let redis = Redis::start_with_arguments(RedisOptions::default(), &arguments).await?;
    let raw = Raw::connect(redis.url(), String::new()).await?;
    let cache = config(redis.url(), "").build(roomy_rules())?;
    of_no_use(&cache, "").await?;
    let error = cache.prepare().await.err().context("prepared")?;
    ensure!(!error.is_unavailable() && error.to_string().contains("Redis Cluster"), "{error}");
    raw.run::<()>("CLUSTER ADDSLOTSRANGE 0 16383").await?;
    eventually(PATIENCE, "the cluster", async || {
        let info: String = raw.run("CLUSTER INFO").await.map_err(|error| error.to_string())?;
        if info.contains("cluster_state:ok") { Ok(()) } else { Err(info) }
    })
    .await;
    // The user's limit is in another slot than the pair.
    let limit = domain::cache::UserLimit { actions: 5, period: PATIENCE };
    let cache =
        config(redis.url(), "").build(domain::cache::CacheRules { user_limit: Some(limit), ..roomy_rules() })?;
    let mut request = like(video_pair(1, 1));
    request.limited = true;
    let error = cache.accept(&[request]).await.remove(0).err().context("accepted")?;
    ensure!(error.is_unavailable() && error.to_string().contains("Redis Cluster"), "{error}");
    Ok(())
}

/// One key that somebody else overwrote is that key's trouble: it is taken for evicted, and its neighbours notice nothing.
#[tokio::test]
async fn a_key_of_the_wrong_type_stays_narrow() -> Result<()> {
    let rules = domain::cache::CacheRules { shards: ShardCount::new(1)?, ..roomy_rules() };
    let (_redis, cache, raw) = private(rules).await?;
    let (pair, fine) = (video_pair(1, 1), video_pair(2, 2));
    let (pair_key, counter) = (cache.keys().pair(pair), cache.keys().counter(pair.resource));
    for garbage in [format!("SADD {pair_key} x"), format!("SET {pair_key} garbage")] {
        for other in [format!("SET {counter} garbage"), format!("HSET {counter} n garbage p many dn x dr y")] {
            raw.run::<()>(&format!("DEL {pair_key} {counter}")).await?;
            raw.run::<()>(&garbage).await?;
            raw.run::<()>(&other).await?;
            assert_eq!(cache.counts(&[pair.resource]).await?[0], None);
            assert_eq!(cache.served_counts(&[pair.resource]).await?[0], None);
            assert_eq!(cache.states(&[pair]).await?[0], None);
            // The one beside it in the same call is accepted once, and accounted for.
            let before = cache.shard_status().await?[0];
            let mut request = unlike(pair);
            request.missing = MissingCount::Report;
            let mut outcomes = cache.accept(&[like(fine), request]).await;
            let spoiled = outcomes.remove(1)?;
            ensure!(matches!(spoiled, AcceptOutcome::CountMissing), "{spoiled:?}");
            outcomes.remove(0)?;
            let after = cache.shard_status().await?[0];
            ensure!(after.accepted - after.settled == after.journal_len, "{before:?} {after:?}");
            raw.run::<()>(&other).await?;
            let part = SettledResource {
                resource: pair.resource,
                entries: Vec::new(),
                stored: Some(StoredCount { count: 4, revision: 9, last_version: after.now }),
            };
            cache.settle(&Settlement { resources: vec![part], pairs: Vec::new(), commit: None }).await?;
            raw.run::<()>(&other).await?;
            cache.fill_counts(&[(pair.resource, StoredCount { count: 4, ..StoredCount::default() })]).await?;
            assert_eq!(cache.counts(&[pair.resource]).await?[0].map(|count| count.served), Some(4));
            cache.accept(&[like(pair)]).await.remove(0)?;
            assert_eq!(cache.states(&[pair]).await?[0].map(|state| state.liked), Some(true));
        }
    }
    Ok(())
}

/// Who brings back what got lost needs a lease: what somebody wrote over its keys goes, and its numbers go on upwards.
#[tokio::test]
async fn a_lease_whose_keys_somebody_overwrote_is_given_all_the_same() -> Result<()> {
    let (_redis, cache, raw) = private(roomy_rules()).await?;
    let (owner, token) = ("{l:work}:o", "{l:work}:t");
    let mut last = cache.acquire_lease("work", "me", PATIENCE).await?.context("free")?;
    for key in [token, owner] {
        for garbage in ["SADD", "LPUSH", "SET"] {
            raw.run::<()>(&format!("DEL {key}")).await?;
            raw.run::<()>(&format!("{garbage} {key} garbage")).await?;
            let taken = cache.acquire_lease("work", "me", PATIENCE).await?;
            // A name that is nobody's is somebody's until its time is over.
            if (key, garbage) == (owner, "SET") {
                assert_eq!(taken, None);
                continue;
            }
            let next = taken.with_context(|| format!("{garbage} {key}: no lease"))?;
            ensure!(next > last, "{garbage} {key}: {next} after {last}");
            assert_eq!(cache.acquire_lease("work", "me", PATIENCE).await?, Some(next), "renewed");
            assert_eq!(cache.acquire_lease("work", "other", PATIENCE).await?, None);
            last = next;
        }
    }
    Ok(())
}

/// What is more than a copy nobody deletes, and the whole cache is of no use until somebody looks. Whoever meets such a key
/// names it, the probe first.
#[tokio::test]
async fn keys_that_are_no_copies_are_named_by_whoever_meets_them() -> Result<()> {
    let rules = domain::cache::CacheRules { shards: ShardCount::new(2)?, ..roomy_rules() };
    let (_redis, cache, raw) = private(rules.clone()).await?;
    let pair = (1..).map(|id| video_pair(1, id)).find(|pair| rules.shards.of(pair.resource).0 == 1).context("none")?;
    let (journal, clock) = (cache.keys().journal(domain::ShardId(1)), cache.keys().clock(domain::ShardId(1)));
    for (key, written) in [(&journal, true), (&clock, true), (&"{s1}:w".to_owned(), false)] {
        raw.run::<()>(&format!("SET {key} garbage")).await?;
        let mut errors = Vec::new();
        if written {
            errors.push(("accept", cache.accept(&[like(pair)]).await.remove(0).err()));
            errors.push(("probe", cache.ping().await.err()));
            errors.push(("status", cache.shard_status().await.err()));
            errors.push(("standings", cache.standings().await.err()));
        } else {
            errors.push(("commits", cache.commits().await.err()));
        }
        if key == &journal {
            errors.push(("page", cache.journal_page(domain::ShardId(1), domain::Version::ZERO, 9).await.err()));
        }
        if key == &clock {
            errors.push(("fence", cache.fence_repairs(7).await.err()));
            let filled = cache.fill_counts(&[(pair.resource, StoredCount::default())]).await;
            errors.push(("fill", filled.err()));
        }
        for (who, error) in errors {
            let error = error.with_context(|| format!("{who} passed over {key}"))?;
            ensure!(error.is_unavailable() && error.to_string().contains("WRONGTYPE"), "{who}: {error}");
            ensure!(error.to_string().contains(key), "{who}: {error} does not name {key}");
        }
        assert_eq!(raw.run::<String>(&format!("GET {key}")).await?, "garbage");
        raw.run::<()>(&format!("DEL {key}")).await?;
        works_again(&cache).await;
    }
    raw.run::<()>("DEL meta").await?;
    raw.run::<()>("SET meta garbage").await?;
    for error in [cache.prepare().await.err(), cache.durability().await.err()] {
        let error = error.context("the marks of the data were passed over")?;
        ensure!(error.to_string().contains("meta (ours is a hash)"), "{error}");
    }
    Ok(())
}

/// Ids only grow, so one above all of ours shuts a journal for good, also when its entry is gone again.
#[tokio::test]
async fn a_journal_that_somebody_shut_is_named_and_what_is_in_it_is_brought_on() -> Result<()> {
    let rules = domain::cache::CacheRules { shards: ShardCount::new(2)?, ..roomy_rules() };
    let (_redis, cache, raw) = private(rules.clone()).await?;
    let pair = (1..).map(|id| video_pair(1, id)).find(|pair| rules.shards.of(pair.resource).0 == 1).context("none")?;
    let (shard, journal) = (domain::ShardId(1), cache.keys().journal(domain::ShardId(1)));
    let most = u64::MAX;
    for (id, entries) in [
        (format!("XADD {journal} {most}-{most} a b"), 1),
        (format!("XADD {journal} {most}-0 e x"), 1),
        (format!("XADD {journal} 9000000000000000-0 e x"), 1),
        (format!("XSETID {journal} {most}-{most}"), 0),
    ] {
        let mut word = like(pair);
        word.rewrite = true;
        let accepted = match cache.accept(std::slice::from_ref(&word)).await.remove(0)? {
            AcceptOutcome::Accepted(answer) => answer.version,
            other => anyhow::bail!("{other:?}"),
        };
        raw.run::<Value>(&id).await?;
        for again in 0..3 {
            let probe = cache.ping().await.err().with_context(|| format!("{id}: the probe passed, time {again}"))?;
            let like = cache.accept(std::slice::from_ref(&word)).await.remove(0).err();
            let like = like.with_context(|| format!("{id}: accepted"))?;
            for error in [probe, like] {
                ensure!(error.is_unavailable() && error.to_string().contains(&journal), "{id}: {error}");
                ensure!(error.to_string().contains("DEL it"), "{id}: {error}");
            }
            ensure!(cache.is_full(), "{id}: nobody brings on what it holds");
        }
        // What was accepted is still found, and settled.
        let page = cache.journal_page(shard, domain::Version::ZERO, 10).await?;
        assert_eq!(page.iter().map(|entry| entry.version).collect::<Vec<_>>(), [accepted], "{id}");
        let settled = SettledResource { resource: pair.resource, entries: vec![accepted], stored: None };
        cache.settle(&Settlement { resources: vec![settled], pairs: Vec::new(), commit: None }).await?;
        let status = cache.shard_status().await?[1];
        assert_eq!((status.journal_len, status.oldest), (entries, None), "{id}");
        cache.standings().await?;
        raw.run::<()>(&format!("DEL {journal}")).await?;
        works_again(&cache).await;
        ensure!(!cache.is_full(), "{id}: full still");
        let page = cache.journal_page(shard, domain::Version::ZERO, 10).await?;
        let entries = page.iter().map(|entry| entry.version).collect();
        let left = SettledResource { resource: pair.resource, entries, stored: None };
        cache.settle(&Settlement { resources: vec![left], pairs: Vec::new(), commit: None }).await?;
    }
    // The same by the clock: beyond what is exact no version follows another.
    let clock = cache.keys().clock(shard);
    raw.run::<i64>(&format!("HSET {clock} v {most}")).await?;
    let error = cache.ping().await.err().context("the probe passed")?.to_string();
    ensure!(error.contains(&format!("HDEL {clock} v")), "{error}");
    raw.run::<i64>(&format!("HDEL {clock} v")).await?;
    works_again(&cache).await;
    Ok(())
}

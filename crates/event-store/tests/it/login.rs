//! Accounts: another login without a restart, and what the account of each program may do.

use crate::support::{at, like, unlike};
use domain::{ResourceType, ShardCount};
use event_store::{Account, Cut, DatabaseConfig, EventStore, Extended, Role, StoreError};
use secrecy::SecretString;
use test_support::{MariaDb, MariaDbOptions, execute_sql};

/// A server with a schema; of `test` everybody has all rights.
async fn server() -> MariaDb {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let server = MariaDb::start_with_arguments(options, &[]).await.unwrap();
    execute_sql(server.url(), "CREATE DATABASE likes").await.unwrap();
    store(&server, "root").await.migrate().await.unwrap();
    server
}

fn url(server: &MariaDb, login: &str) -> SecretString {
    server.url().replace("root@", &format!("{login}@")).replace("/test", "/likes").into()
}

async fn store(server: &MariaDb, login: &str) -> EventStore {
    let config = DatabaseConfig { url: url(server, login), max_connections: 4, ..DatabaseConfig::default() };
    EventStore::connect(&config).await.unwrap()
}

async fn connections_of(server: &MariaDb, user: &str) -> u64 {
    let count = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{user}'");
    execute_sql(server.url(), &count).await.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn user_and_password_change_while_the_store_is_used() {
    let server = server().await;
    let accounts = "CREATE USER one@'%' IDENTIFIED BY 'old'; GRANT ALL ON likes.* TO one@'%'; \
                    CREATE USER other@'%' IDENTIFIED BY 'new'; GRANT ALL ON likes.* TO other@'%'";
    execute_sql(server.url(), accounts).await.unwrap();
    for hosts in [Vec::new(), vec![server.addr().unwrap().to_string()]] {
        execute_sql(server.url(), "ALTER USER one@'%' IDENTIFIED BY 'old'").await.unwrap();
        let config = DatabaseConfig { url: url(&server, "one:old"), hosts, ..DatabaseConfig::default() };
        let store = EventStore::connect(&config).await.unwrap();
        store.bind_shards(ShardCount::default()).await.unwrap();

        // What the server does not take changes nothing.
        let refused = store.renew_login(&url(&server, "one:wrong")).await.unwrap_err();
        assert!(refused.to_string().contains("password"), "{refused}");
        let elsewhere = url(&server, "one:old");
        let elsewhere = secrecy::ExposeSecret::expose_secret(&elsewhere).replace("/likes", "/test");
        assert!(matches!(store.renew_login(&elsewhere.into()).await, Err(StoreError::Config(_))));
        execute_sql(server.url(), "KILL USER one").await.unwrap();
        test_support::eventually(std::time::Duration::from_secs(20), "the database", async || {
            store.ping().await.map_err(|error| error.to_string())
        })
        .await;

        // Another password, then another user: nobody fails, and those of before are not used any more.
        execute_sql(server.url(), "ALTER USER one@'%' IDENTIFIED BY 'changed'").await.unwrap();
        store.renew_login(&url(&server, "one:changed")).await.unwrap();
        store.ping().await.unwrap();
        store.renew_login(&url(&server, "other:new")).await.unwrap();
        store.ping().await.unwrap();
        assert!(connections_of(&server, "other").await > 0, "it goes on with the user of before");
        execute_sql(server.url(), "ALTER USER one@'%' ACCOUNT LOCK; KILL USER one").await.unwrap();
        for user in 1..20 {
            store.apply(&[like(user, 7, user)], at(user)).await.unwrap();
        }
        execute_sql(server.url(), "ALTER USER one@'%' ACCOUNT UNLOCK").await.unwrap();
        store.close().await;
    }
}

/// Each does its work, and is refused what is another's.
#[tokio::test]
async fn an_account_may_do_what_its_program_does() {
    let server = server().await;
    let accounts = "CREATE USER owner@'%'; GRANT ALL ON likes.* TO owner@'%' WITH GRANT OPTION; CREATE USER serve@'%'; \
                    CREATE USER consume@'%'; CREATE USER checks@'%'; \
                    GRANT ALL ON likes.* TO serve@'%' WITH GRANT OPTION";
    execute_sql(server.url(), accounts).await.unwrap();
    let owner = store(&server, "owner").await;
    owner.bind_shards(ShardCount::default()).await.unwrap();
    // Twice: also where all is as it should be.
    for round in 0..2 {
        for account in ["serve=serve", "consume=consume", "check=checks@%"] {
            owner.grant(&account.parse::<Account>().unwrap()).await.unwrap();
        }
        let of_another_role = "GRANT INSERT, DELETE, TRIGGER ON likes.operator_actions TO consume@'%', checks@'%'";
        execute_sql(server.url(), if round == 0 { of_another_role } else { "DO 0" }).await.unwrap();
    }
    let refused = owner.grant(&"serve=owner".parse().unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("owns the schema"), "{refused}");

    for (role, user) in [(Role::Serve, "serve"), (Role::Consume, "consume"), (Role::Check, "checks")] {
        let its = store(&server, user).await;
        its.have_schema().await.unwrap();
        its.probe().await.unwrap_or_else(|error| panic!("{user} is refused what likes need: {error}"));
        its.apply(&[like(1, 7, 1)], at(1)).await.unwrap();
        its.apply(&[unlike(1, 7, 2)], at(2)).await.unwrap();
        let may = async |sql: &str| {
            let url = url(&server, user);
            execute_sql(secrecy::ExposeSecret::expose_secret(&url), sql).await.map_err(|error| error.to_string())
        };
        for nobody in [
            "DELETE FROM erased_users WHERE 1 = 0",
            "DELETE FROM deleted_resources WHERE 1 = 0",
            "DELETE FROM like_counts WHERE 1 = 0",
            "ALTER TABLE sync_meta ADD x INT",
            "DROP TABLE sync_meta",
            "CREATE TRIGGER x BEFORE INSERT ON operator_actions FOR EACH ROW SET NEW.id = NEW.id",
            "CREATE TABLE x (a INT)",
            "CREATE USER x",
            "GRANT SELECT ON sync_meta TO owner@'%'",
        ] {
            let refused = may(nobody).await.expect_err(nobody);
            assert!(refused.contains("denied"), "{user}: {nobody}: {refused}");
        }
        for (whose, sql) in [
            (Role::Serve, "INSERT INTO operator_actions SELECT * FROM operator_actions WHERE 1 = 0"),
            (Role::Consume, "DELETE FROM sync_events WHERE 1 = 0"),
            (Role::Consume, "DELETE FROM video_likes WHERE 1 = 0"),
            (Role::Consume, "DELETE FROM user_behaviors WHERE 1 = 0"),
            (Role::Consume, "LOCK TABLES sync_events WRITE; UNLOCK TABLES"),
            (Role::Consume, "CREATE TABLE sync_events_leaving (a INT); DROP TABLE sync_events_leaving"),
            (Role::Consume, "INSERT INTO archived_tombstones SELECT * FROM archived_tombstones WHERE 1 = 0"),
            (Role::Check, "DELETE FROM consistency_runs WHERE 1 = 0"),
        ] {
            assert_eq!(may(sql).await.is_ok(), role == whose, "{user}: {sql}");
        }
        its.close().await;
    }

    // What only consumers and checkers do.
    let (consumer, checker) = (store(&server, "consume").await, store(&server, "checks").await);
    assert_eq!(consumer.archive_tombstones(ResourceType::Video, at(3), None, 10).await.unwrap().archived, 1);
    assert!(consumer.purge_completed(at(i64::from(u32::MAX) * 1_000_000), 10).await.unwrap() > 0);
    let now = consumer.now().await.unwrap();
    for cut in Cut::ALL {
        let week = std::time::Duration::from_secs(7 * 86_400);
        let later = now + 100 * week;
        assert!(matches!(consumer.extend_partitions(cut, later, week).await, Ok(Extended::By(1..))));
        let step = consumer.retire_partitions(cut, later).await.unwrap();
        assert!(step.dropped.is_some(), "{step:?}");
        // The others are told what they lack, and everything is as it was.
        let denied = checker.retire_partitions(cut, later).await.unwrap_err();
        assert!(denied.is_denied(), "{denied}");
    }
    consumer.purge_operator_actions(at(3), 10).await.unwrap();
    consumer.purge_keys(at(3), 10).await.unwrap();
    consumer.purge_writers(at(3), 10).await.unwrap();
    checker.purge_reports(at(3), 10).await.unwrap();
    checker.take_repair_token().await.unwrap();
    // Nor may any of them give rights.
    let refused = consumer.grant(&"check=serve".parse().unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("denied"), "{refused}");
}

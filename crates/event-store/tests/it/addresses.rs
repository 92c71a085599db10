//! Addresses as people write them, at a real server.

use event_store::{DatabaseConfig, EventStore, connect_plain};
use test_support::{execute_sql, fresh_database, listen_by_ipv6, shared};

#[tokio::test]
async fn ipv6_and_passwords_of_any_characters_lead_there() {
    let server = shared::mariadb().await.unwrap();
    let url = fresh_database(server.url()).await.unwrap();
    let database = url.rsplit('/').next().unwrap();
    let user = format!("u{}", std::process::id());
    let rights = format!(
        "CREATE USER {user} IDENTIFIED BY 'p@s/s:#?%w'; GRANT ALL ON `{database}`.* TO {user}; FLUSH PRIVILEGES"
    );
    execute_sql(&url, &rights).await.unwrap();
    let address = server.addr().unwrap();
    let by_ipv6 = listen_by_ipv6(&address).await.unwrap();
    for url in [
        format!("mysql://root@{by_ipv6}/{database}"),
        format!("mysql://{user}:p%40s%2Fs%3A%23%3F%25w@{by_ipv6}/{database}?time-zone=+00:00"),
        format!("mariadb://{user}:p@s%2Fs:%23%3F%w@{address}/{database}"),
    ] {
        let config = DatabaseConfig { url: url.clone().into(), ..DatabaseConfig::default() };
        let store = EventStore::connect(&config).await.unwrap();
        store.ping().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        store.close().await;
        connect_plain(&url, 1).await.unwrap().close().await.unwrap();
    }
    execute_sql(&url, &format!("DROP USER {user}")).await.unwrap();
}

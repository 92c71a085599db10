//! A database behind TLS, with an authority of one's own.

use event_store::{DatabaseConfig, EventStore};
use std::path::Path;
use test_support::{Authority, MariaDb};

async fn connect(url: &str, mode: &str, ca: &Path) -> Result<(), String> {
    let url = format!("{url}?ssl-mode={mode}&ssl-ca={}", ca.display());
    let config = DatabaseConfig { url: url.into(), ..DatabaseConfig::default() };
    let store = EventStore::connect(&config).await.map_err(|error| error.to_string())?;
    let pending = store.pending_migrations().await;
    store.close().await;
    pending.map(drop).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_server_of_the_authority_is_believed() {
    let (ca, other) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let mariadb = MariaDb::start_tls(&ca).await.unwrap();
    for mode in ["VERIFY_CA", "VERIFY_IDENTITY"] {
        connect(mariadb.url(), mode, &ca.ca()).await.unwrap();
        assert!(connect(mariadb.url(), mode, &other.ca()).await.is_err(), "{mode}: a foreign authority was believed");
    }
}

//! Another login, without a restart.

use crate::sql::error::StoreError;
use crate::sql::mysql::{Sessions, connect_options};
use domain::StoreUrl;
use sea_orm::sqlx::{ConnectOptions, Connection, MySqlPool};
use std::time::Duration;

/// From now on connections are opened with user and password of this url, if the server lets us in; those of before end as soon
/// as nobody uses them.
pub(crate) async fn renew(
    pool: &MySqlPool,
    sessions: &Sessions,
    url: &StoreUrl,
    limit: Duration,
) -> Result<(), StoreError> {
    if !sessions.url.is_same_place(url) {
        let reason = "url: leads to another place: only user and password can change without a restart";
        return Err(StoreError::Config(reason.into()));
    }
    let options = connect_options(url).map_err(StoreError::Config)?.disable_statement_logging();
    let options = match &sessions.hosts {
        Some(hosts) => hosts.renew(&options).await?,
        None => {
            let late = |elapsed: tokio::time::error::Elapsed| StoreError::Unavailable(elapsed.into());
            let proof = tokio::time::timeout(limit, options.connect()).await.map_err(late)??;
            // A goodbye is a courtesy; nobody waits for it in vain.
            let _ended = tokio::time::timeout(limit, proof.close()).await;
            options
        }
    };
    pool.set_connect_options(options);
    sessions.reopen();
    Ok(())
}

//! Another login, without a restart.

use super::Routes;
use crate::meaning::cache_error;
use crate::primary::Primary;
use domain::cache::{CacheError, CacheResult};
use secrecy::SecretString;
use std::error::Error;
use std::sync::Arc;

impl Routes {
    /// From now on every connection logs in with user and password of this url, if Redis takes them: those that there are end
    /// as soon as nobody uses them. Where several primaries have the data, each must take them, because each has users of its
    /// own; one that is unreachable is not waited for.
    pub(crate) async fn renew_login(&self, url: SecretString) -> CacheResult<()> {
        let unusable = |reason: String| CacheError::Rejected(Arc::from(Box::<dyn Error + Send + Sync>::from(reason)));
        let (next, url) = self.config.with_url(url).map_err(unusable)?;
        let known = self.table.load_full();
        let proofs = if self.is_cluster() {
            let connects = known.primaries.iter().map(async |to| Primary::member(&next, &to.address)?.connect().await);
            futures::future::join_all(connects).await
        } else {
            vec![async { Primary::new(&next)?.connect().await }.await]
        };
        let reached = proofs.iter().any(Result::is_ok);
        for error in proofs.into_iter().filter_map(Result::err) {
            if !(reached && error.is_io_error()) {
                return Err(cache_error(error));
            }
        }
        self.config.login.renew(&url);
        known.known().for_each(|connections| connections.renew());
        Ok(())
    }
}

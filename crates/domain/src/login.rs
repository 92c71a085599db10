//! User and password of a store, which may change while a process runs.

use crate::StoreUrl;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// With whom connections are opened from now on, where that is no longer who the configuration names. Clones share it.
#[derive(Clone, Default)]
pub struct Login(Arc<RwLock<Option<Named>>>);

struct Named {
    user: Option<String>,
    password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(not shown)")
    }
}

impl Login {
    /// From now on user and password of this address.
    pub fn renew(&self, url: &StoreUrl) {
        let named = Named { user: url.user.clone(), password: url.password.clone() };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(named);
    }

    /// Puts them into the address of the configuration.
    pub fn put_into(&self, url: &mut StoreUrl) {
        if let Some(named) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            url.user.clone_from(&named.user);
            url.password.clone_from(&named.password);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_have_the_same_login_and_nobody_reads_it() {
        let login = Login::default();
        let mut url = StoreUrl::parse("db://old:sesame@h/x", &["db"]).unwrap();
        login.put_into(&mut url);
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("old"), Some("sesame")));
        let clone = login.clone();
        clone.renew(&StoreUrl::parse("db://new:secret@elsewhere", &["db"]).unwrap());
        login.put_into(&mut url);
        assert_eq!(
            (url.user.as_deref(), url.password.as_deref(), url.host.as_str()),
            (Some("new"), Some("secret"), "h")
        );
        assert!(!format!("{login:?}").contains("secret"));
    }
}

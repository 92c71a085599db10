//! What a program starts with, and somebody should look at all the same.

use crate::Settings;
use service_runtime::{ENV_PREFIX, keys};

/// What our variables begin with where one underscore is missing.
const ONE_UNDERSCORE: &str = "INTERACTION_";

impl Settings {
    /// One line for each, which names the key.
    pub(crate) fn remarks_of(&self, environment: &[(String, String)]) -> Vec<String> {
        let mut remarks = Vec::new();
        let retry = &self.event_driven_sync.retry;
        if retry.base_delay > retry.max_delay {
            remarks.push(
                "event_driven_sync.retry.base_delay: is longer than event_driven_sync.retry.max_delay, which is what every \
                 delay will be"
                    .to_owned(),
            );
        }
        let database = &self.database;
        if database.min_connections > database.max_connections {
            remarks.push(format!(
                "database.min_connections: is more than database.max_connections, {}, and there are never more than those",
                database.max_connections
            ));
        }
        if let Some(all) = self.service.trusted_proxies.everybody() {
            remarks.push(format!(
                "service.trusted_proxies: {all} trusts everybody, so every caller may claim any address: name the networks of \
                 your proxies"
            ));
        }
        remarks.extend(misspelt(environment));
        remarks
    }
}

/// Variables that would be a key's, with two underscores where the key has a dot. Others that begin alike are none of ours:
/// Kubernetes makes some for every service.
fn misspelt(environment: &[(String, String)]) -> Vec<String> {
    let ours: Vec<(String, String)> = keys::<Settings>()
        .into_iter()
        .map(|key| {
            (key.replace('.', "_").to_uppercase(), format!("{ENV_PREFIX}{}", key.replace('.', "__").to_uppercase()))
        })
        .collect();
    let meant = |name: &String| {
        let rest = name.strip_prefix(ONE_UNDERSCORE).filter(|rest| !rest.starts_with('_'))?;
        let flat = rest.replace("__", "_").to_uppercase();
        let (_, meant) = ours.iter().find(|(key, _)| *key == flat)?;
        Some(format!("{name}: is not read: the variable of this key is {meant}"))
    };
    environment.iter().filter_map(|(name, _)| meant(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_works_otherwise_than_it_looks_is_remarked_by_key() {
        let environment =
            |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect::<Vec<_>>();
        let mut settings = Settings::default();
        assert_eq!(settings.remarks_of(&environment(&["INTERACTION__DATABASE__URL", "PATH"])), Vec::<String>::new());
        settings.event_driven_sync.retry.base_delay = Duration::from_secs(120);
        settings.database.min_connections = settings.database.max_connections + 1;
        settings.service.trusted_proxies = "10.0.0.0/8, 0.0.0.0/0".parse().unwrap_or_default();
        let names = ["INTERACTION_DATABASE_URL", "INTERACTION_SERVER_SERVICE_HOST", "INTERACTION_CONFIG"];
        let remarks = settings.remarks_of(&environment(&names));
        for (remark, begin) in remarks.iter().zip([
            "event_driven_sync.retry.base_delay: is longer than",
            "database.min_connections: is more than",
            "service.trusted_proxies: 0.0.0.0/0 trusts everybody",
            "INTERACTION_DATABASE_URL: is not read: the variable of this key is INTERACTION__DATABASE__URL",
        ]) {
            assert!(remark.starts_with(begin), "{remark}");
        }
        assert_eq!(remarks.len(), 4, "{remarks:?}");
    }
}

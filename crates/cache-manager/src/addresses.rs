//! Several addresses: of nodes, or of Sentinels.

use crate::config::RedisConfig;
use secrecy::ExposeSecret;

/// The error names the key, and repeats no password.
pub(crate) fn validate(config: &RedisConfig) -> Result<(), String> {
    if !config.nodes.is_empty() && !config.sentinels.is_empty() {
        return Err("redis.sentinels: name the primary, so there can be no redis.nodes beside them".to_owned());
    }
    if config.cluster && !config.sentinels.is_empty() {
        return Err("redis.sentinels: a Redis Cluster elects its primaries without them".to_owned());
    }
    let nodes: Vec<&str> = config.nodes.iter().map(String::as_str).collect();
    domain::addresses::check("redis.nodes", &nodes)?;
    let sentinels: Vec<&str> = config.sentinels.iter().map(|entry| login(entry.expose_secret()).1).collect();
    domain::addresses::check("redis.sentinels", &sentinels)?;
    if !config.sentinels.is_empty() && config.master.is_empty() {
        return Err("redis.master: must be what the sentinels call the primary".to_owned());
    }
    Ok(())
}

/// User and password, if any, and the address.
pub(crate) fn login(entry: &str) -> (Option<(&str, &str)>, &str) {
    match entry.rsplit_once('@') {
        Some((login, address)) => (Some(login.split_once(':').unwrap_or(("", login))), address),
        None => (None, entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_right_or_name_their_key() {
        let checked = |nodes: &[&str], sentinels: &[&str], master: &str| {
            validate(&RedisConfig {
                nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
                sentinels: sentinels.iter().map(|sentinel| (*sentinel).into()).collect(),
                master: master.to_owned(),
                ..RedisConfig::default()
            })
        };
        checked(&["a:1", "[::1]:2"], &[], "").unwrap();
        checked(&[], &["me:sesame@a:1", ":sesame@b:2", "c:3"], "likes").unwrap();
        for (nodes, sentinels, master, key) in [
            (&["a:1"][..], &["b:1"][..], "likes", "redis.sentinels: "),
            (&["redis://a:1"], &[], "", "redis.nodes: "),
            (&[], &["me:sesame@a"], "likes", "redis.sentinels: "),
            (&[], &["a:1"], "", "redis.master: "),
        ] {
            let error = checked(nodes, sentinels, master).unwrap_err();
            assert!(error.starts_with(key) && !error.contains("sesame"), "{error}");
        }
    }
}

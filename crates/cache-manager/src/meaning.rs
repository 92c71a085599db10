//! The one table of what an error of Redis means.
//!
//! Rule: what is not proven to be the trouble of one key means that Redis is of no use *now*. The caller degrades, waits and says why;
//! nobody is blamed and nothing ends. One key's trouble is seen to where it is met: the scripts and reads drop a key of
//! the wrong type ([`reads.lua`](scripts/reads.lua)), so such an error is left over only for keys that hold more than a copy
//! (journal, clock), and then it concerns everybody.
//!
//! | meaning | connections | errors |
//! |---|---|---|
//! | `Away`: no answer, or none that can be understood | this one goes | I/O, timeout, protocol |
//! | `Elsewhere`: this server is not the one that writes, or not any more | all go, resting ones too | READONLY, MASTERDOWN, NOREPLICAS, CLUSTERDOWN |
//! | `Slot`: another node of the cluster does that ([`routes`](crate::routes)) | stay | MOVED, ASK |
//! | `Later`: passes by itself, or when somebody makes room | stay | LOADING, BUSY, OOM, MISCONF, TRYAGAIN |
//! | `Misconfigured`: passes when somebody changes something, which the error names | all go: rights and passwords are read when connecting | NOPERM, NOAUTH, WRONGPASS, unknown command, CROSSSLOT |
//! | `Key`: one key holds something else | stay | WRONGTYPE, an id above all of ours in a journal |
//! | `Unknown` | stay | all others |

use crate::keys::Keys;
use crate::primary::SENTINEL;
use deadpool_redis::redis::{ErrorKind, RedisError, ServerErrorKind};
use domain::ShardId;
use domain::cache::CacheError;
use std::sync::Arc;

/// See the head of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Away,
    Elsewhere,
    Slot,
    Later,
    Misconfigured,
    Key,
    Unknown,
}

/// What is said of a node that sends elsewhere; in a cluster it is followed.
const OF_A_CLUSTER: &str =
    "it is a node of a Redis Cluster: redis.cluster must be true, or if it is, the slot is on its way";

/// Code, meaning, and what to do about it.
const TABLE: &[(&str, Meaning, &str)] = &[
    (
        "READONLY",
        Meaning::Elsewhere,
        "it is a replica: redis.url must lead to the primary, or redis.nodes name all nodes",
    ),
    ("MASTERDOWN", Meaning::Elsewhere, "it is a replica without its primary"),
    ("CLUSTERDOWN", Meaning::Elsewhere, ""),
    ("MOVED", Meaning::Slot, OF_A_CLUSTER),
    ("ASK", Meaning::Slot, OF_A_CLUSTER),
    ("LOADING", Meaning::Later, ""),
    ("TRYAGAIN", Meaning::Later, ""),
    ("BUSY", Meaning::Later, "somebody's script runs: SCRIPT KILL ends it"),
    ("UNKILLABLE", Meaning::Later, "somebody's script runs and has written"),
    ("OOM", Meaning::Later, "raise maxmemory, or make room"),
    ("MISCONF", Meaning::Later, "its disk does not take what it writes"),
    ("NOREPLICAS", Meaning::Elsewhere, "fewer replicas follow than min-replicas-to-write asks for"),
    ("NOAUTH", Meaning::Misconfigured, "redis.url needs user and password"),
    ("WRONGPASS", Meaning::Misconfigured, "user or password in redis.url is wrong"),
    ("CROSSSLOT", Meaning::Misconfigured, OF_A_CLUSTER),
    ("NOPERM", Meaning::Misconfigured, ""),
    ("WRONGTYPE", Meaning::Key, "somebody else wrote this key: delete it"),
];

/// What scripts, reads and connections use; [`missing_right`] names them, and a test holds that they are enough.
pub(crate) const COMMANDS: &str = "+evalsha +script|load +time +wait +info +ping +role +select +multi +exec +get +set +mget +del +exists \
     +expire +pexpire +pttl +persist +incr +hget +hset +hsetnx +hmget +hgetall +hdel +hlen +xadd +xdel +xlen +xrange +xinfo|stream +scan +hscan +asking +cluster|slots";

/// What Redis says when the last id of a stream leaves no room for ours.
const SHUT: [&str; 2] = ["equal or smaller than the target stream top item", "exhausted the last possible id"];

/// An error with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}{advice}", if advice.is_empty() { "" } else { "; " })]
struct Fault {
    #[source]
    error: RedisError,
    advice: String,
}

/// What this error means.
pub(crate) fn meaning(error: &RedisError) -> Meaning {
    judge(error).0
}

/// The port's error: see the head of the module.
pub(crate) fn cache_error(error: RedisError) -> CacheError {
    let (_, advice) = judge(&error);
    CacheError::Unavailable(Arc::new(Fault { error, advice }))
}

/// The same for what uses keys of one shard: an error of a key that is left over is about one of the shard's own.
pub(crate) fn shard_error(error: RedisError, keys: &Keys, shard: ShardId) -> CacheError {
    naming(cache_error(error), |_| of_shard(keys, shard))
}

/// Keys of a shard that hold more than a copy, in words.
pub(crate) fn of_shard(keys: &Keys, shard: ShardId) -> String {
    let (journal, clock, writers) = (keys.journal(shard), keys.clock(shard), keys.writers(shard));
    format!("{journal} (ours is a stream), {clock} or {writers} (ours are hashes)")
}

/// This error, and if it is that of a key, what may be the key: Redis does not say which. Of a pipeline the first command
/// that failed is asked about, by its position.
pub(crate) fn naming(error: CacheError, keys: impl FnOnce(usize) -> String) -> CacheError {
    let CacheError::Unavailable(cause) = &error else { return error };
    let Some(Fault { error: cause, .. }) = cause.downcast_ref::<Fault>() else { return error };
    let judged = judge(cause);
    if judged.0 != Meaning::Key {
        return error;
    }
    let failed = cause.clone().into_server_errors();
    let keys = keys(failed.as_deref().and_then(<[_]>::first).map_or(0, |(position, _)| *position));
    let advice = if is_shut(&cause.to_string()) {
        shut_journal(&keys)
    } else {
        format!(
            "what stands in {keys} is none of ours: GET says whether syncctl reshard has closed it, then leave it and restart this \
             process; else somebody else wrote it: TYPE tells, DEL it"
        )
    };
    CacheError::Unavailable(Arc::new(Fault { error: cause.clone(), advice }))
}

/// What the probe of a shard found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Spoiled {
    /// Takes nothing any more; what it holds is brought on meanwhile.
    #[error("{}", shut_journal(.0))]
    Journal(String),
    /// No version follows from it.
    #[error("somebody else wrote field v of {0}, no version is as large: HDEL {0} v")]
    Clock(String),
}

impl From<Spoiled> for CacheError {
    fn from(spoiled: Spoiled) -> Self {
        Self::Unavailable(Arc::new(spoiled))
    }
}

/// Whether the journal of a shard takes nothing any more.
pub(crate) fn is_shut_journal(error: &CacheError) -> bool {
    let CacheError::Unavailable(cause) = error else { return false };
    matches!(cause.downcast_ref(), Some(Spoiled::Journal(_)))
}

fn shut_journal(keys: &str) -> String {
    format!(
        "somebody else gave a journal an id above all of ours, so it takes no more: {keys}; what waits in it is brought on, \
         and when XLEN counts nothing but foreign entries, DEL it"
    )
}

fn is_shut(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SHUT.iter().any(|says| text.contains(says))
}

/// Whether somebody must change something before this can work: not even connecting anew would help.
pub(crate) fn is_misconfigured(error: &CacheError) -> bool {
    let CacheError::Unavailable(cause) = error else { return false };
    cause.downcast_ref::<Fault>().is_some_and(|fault| meaning(&fault.error) == Meaning::Misconfigured)
}

/// Whether the server is full.
pub(crate) fn has_no_room(error: &RedisError) -> bool {
    error.code() == Some("OOM") || within_script(error.detail().unwrap_or_default()) == Some("OOM")
}

/// Whether the server refuses this command to us for good, as opposed to now.
pub(crate) fn is_denied(error: &RedisError) -> bool {
    error.code() == Some("NOPERM") || (error.code() == Some("ERR") && meaning(error) == Meaning::Misconfigured)
}

/// Whether there is no Redis at all where the connection led, but a Sentinel: that does not pass.
pub(crate) fn is_of_a_sentinel(error: &CacheError) -> bool {
    let CacheError::Unavailable(cause) = error else { return false };
    cause.downcast_ref::<Fault>().is_some_and(|fault| fault.error.to_string().contains(SENTINEL))
}

fn judge(error: &RedisError) -> (Meaning, String) {
    // Of a pipeline or a transaction the first command that failed says why.
    let failed = error.clone().into_server_errors();
    let Some((_, first)) = failed.as_deref().and_then(<[_]>::first) else {
        return match error.kind() {
            ErrorKind::AuthenticationFailed => (Meaning::Misconfigured, advice("WRONGPASS").to_owned()),
            ErrorKind::Io | ErrorKind::Parse => (Meaning::Away, String::new()),
            // It said so when it was asked for its role.
            ErrorKind::Server(ServerErrorKind::ReadOnly) => (Meaning::Elsewhere, advice("READONLY").to_owned()),
            _ => (Meaning::Unknown, String::new()),
        };
    };
    judge_answer(first.code(), first.details().unwrap_or_default())
}

fn judge_answer(code: &str, text: &str) -> (Meaning, String) {
    let code = if code == "ERR" { within_script(text).unwrap_or(code) } else { code };
    if let Some((_, meaning, advice)) = TABLE.iter().find(|(known, ..)| *known == code) {
        let advice = if code == "NOPERM" { missing_right(text) } else { (*advice).to_owned() };
        return (*meaning, advice);
    }
    if is_shut(text) {
        return (Meaning::Key, shut_journal("its key"));
    }
    let text = text.to_ascii_lowercase();
    if text.contains("unknown command") || text.contains("unknown redis command") {
        return (Meaning::Misconfigured, "it is renamed or disabled there; likes need it".to_owned());
    }
    if text.contains("can't run this command") {
        return (Meaning::Misconfigured, missing_right(""));
    }
    (Meaning::Unknown, String::new())
}

/// Redis before 7 puts a command's own code into the text of the script's error.
fn within_script(text: &str) -> Option<&'static str> {
    let words = || text.split([' ', ':', '-']);
    TABLE.iter().map(|(code, ..)| *code).find(|code| text.contains("user_script") && words().any(|word| word == *code))
}

/// The statement that grants what is missing.
fn missing_right(text: &str) -> String {
    let user = text.split("User ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("<user of redis.url>");
    // A shell takes a bare * and | for its own.
    let rights = COMMANDS
        .split_whitespace()
        .map(|right| if right.contains('|') { format!("'{right}'") } else { right.to_owned() });
    format!("it is granted by: ACL SETUSER {user} '~<redis.key_prefix>*' {}", rights.collect::<Vec<_>>().join(" "))
}

fn advice(code: &str) -> &'static str {
    TABLE.iter().find(|(known, ..)| *known == code).map_or("", |(_, _, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_servers_hide_the_code_in_the_text_of_a_script() {
        let text = "Error running script (call to f_1): @user_script:4: WRONGTYPE Operation against a key";
        assert_eq!(judge_answer("ERR", text).0, Meaning::Key);
        let text = "Error running script (call to f_1): @user_script:9: -OOM command not allowed";
        assert_eq!(judge_answer("ERR", text).0, Meaning::Later);
        assert_eq!(judge_answer("ERR", "something about OOM").0, Meaning::Unknown);
        assert_eq!(judge_answer("NEWCODE", "of a later version").0, Meaning::Unknown);
    }

    #[test]
    fn the_statement_grants_every_command_of_the_scripts() {
        for script in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/scripts")).unwrap() {
            let path = script.unwrap().path();
            let code = std::fs::read_to_string(&path).unwrap();
            let words = code.split("('").skip(1).filter_map(|rest| rest.split('\'').next());
            for command in words.filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase())) {
                let granted = format!("+{}", command.to_ascii_lowercase());
                let is_granted = COMMANDS.split_whitespace().any(|right| right.split('|').next() == Some(&granted));
                assert!(is_granted, "{} uses {command}, which COMMANDS lacks", path.display());
            }
        }
    }

    #[test]
    fn the_statement_grants_every_command_of_the_code() {
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut found = 0;
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let code = std::fs::read_to_string(&path).unwrap();
                let words = code.split("cmd(\"").skip(1).filter_map(|rest| rest.split('"').next());
                // Those of sentinels are granted by sentinels.
                for command in words.filter(|word| *word != "SENTINEL" && word.chars().all(|c| c.is_ascii_uppercase()))
                {
                    let granted = format!("+{}", command.to_ascii_lowercase());
                    let is_granted = COMMANDS.split_whitespace().any(|right| right.split('|').next() == Some(&granted));
                    assert!(is_granted, "{} uses {command}, which COMMANDS lacks", path.display());
                    found += 1;
                }
            }
        }
        assert!(found > 20, "{found}");
    }

    #[test]
    fn a_missing_right_names_the_user_and_the_statement() {
        let (meaning, advice) = judge_answer("NOPERM", "User likes has no permissions to run the 'xadd' command");
        assert_eq!(meaning, Meaning::Misconfigured);
        assert!(advice.contains("ACL SETUSER likes '~") && advice.contains("+xadd"), "{advice}");
        // A URL may name a database, and the statement goes through a shell.
        assert!(advice.contains(" +select ") && advice.contains(" '+script|load' "), "{advice}");
        let bare = |word: &&str| word.contains(['*', '|']) && !word.starts_with('\'');
        assert_eq!(advice.split_whitespace().find(bare), None, "{advice}");
    }
}

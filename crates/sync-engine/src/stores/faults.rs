//! What stores say when they fail: to the log once, and then counted. Callers get an id that finds the line.
//!
//! A store's words are for its administrators. They may name users, hosts and tables, and a caller can do nothing about them.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A repeated line is said again, with its number, after this long.
const AGAIN: Duration = Duration::from_secs(60);

/// Most different texts that are remembered; after that all are new.
const CAPACITY: usize = 256;

/// The log is the process's, and so is the memory of what it says.
static LINES: LazyLock<Mutex<HashMap<u64, Line>>> = LazyLock::new(Mutex::default);

#[derive(Debug, Clone, Copy)]
struct Line {
    said: Instant,
    since: u64,
}

/// Says an error, unless it was said within a minute; gives the id to tell a caller. The same text has the same id, in all
/// processes.
pub fn tell(doing: &str, error: &dyn Display) -> String {
    let text = error.to_string();
    let id = id_of(&text);
    if let Some(times) = due(id, Instant::now()) {
        tracing::warn!(id = %format_id(id), times, error = text, "{doing} failed");
    }
    format_id(id)
}

/// Whether a line that is no error of a store is to be said now, and how often it came since it was said.
pub fn again(text: &str) -> Option<u64> {
    due(id_of(text), Instant::now())
}

/// What a caller is told instead of the store's words.
pub fn for_caller(doing: &str, error: &dyn Display) -> String {
    format!("{doing} failed, see the server's log (id {})", tell(doing, error))
}

/// How often it happened since it was last said; none if it was said a moment ago.
fn due(id: u64, now: Instant) -> Option<u64> {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() >= CAPACITY && !lines.contains_key(&id) {
        lines.clear();
    }
    let Some(line) = lines.get_mut(&id) else {
        lines.insert(id, Line { said: now, since: 0 });
        return Some(1);
    };
    line.since += 1;
    if now.saturating_duration_since(line.said) < AGAIN {
        return None;
    }
    line.said = now;
    Some(std::mem::take(&mut line.since))
}

fn id_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn format_id(id: u64) -> String {
    format!("{:08x}", id & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn said_once_and_then_counted() {
        let (id, now) = (id_of("only here"), Instant::now());
        assert_eq!(due(id, now), Some(1));
        for _ in 0..99 {
            assert_eq!(due(id, now + AGAIN / 2), None);
        }
        assert_eq!(due(id, now + AGAIN), Some(100));
        assert_eq!(due(id, now + AGAIN), None);
    }

    #[test]
    fn a_caller_learns_the_id_and_none_of_the_words() {
        let told = for_caller("writing", &"table likes, user root@db-1");
        assert!(!told.contains("root") && told.contains(&tell("writing", &"table likes, user root@db-1")), "{told}");
    }
}

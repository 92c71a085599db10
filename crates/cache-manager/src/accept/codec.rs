//! The one table of what `accept.lua` is told and answers: Rust and Lua read the same names and numbers from here.
//!
//! A worked call: user 7 likes video 42 with the key `k`, and the counter is to be filled with 5 likes of revision 9:
//!
//! ```text
//! KEYS  {s3}:j  {s3}:t  {s3}:x  {s3}:p:v7:42  {s3}:c:v42  {s3}:i:v7:42:k
//! ARGV  1 250000 86400 60 86400 0 0 1764115200400000 1764115260000000 m:0f3a… 1764115199900000 5d1c… 1764115200000100
//!       11 <payload> 5 9 1764115100000000
//!       items, journal limit, pair ttl s, filled counter ttl s, key ttl s, user limit interval and period us,
//!       deadline us, ceiling us, mark, floor, run, carried; then the item: LIKE + IDEMPOTENCY_KEY + FILL, payload, count, revision, last version
//! reply 0 0 6 1764115200000123
//!       nothing went back, ACCEPTED, six likes, the version
//! ```

use crate::script::READS;
use domain::cache::FirstAnswer;

macro_rules! table {
    ($(#[$doc:meta])* $lua:ident: $kind:ty { $($(#[$about:meta])* $name:ident = $value:literal,)* }) => {
        $($(#[$about])* pub(crate) const $name: $kind = $value;)*
        $(#[$doc])*
        pub(crate) const $lua: &[(&str, i64)] = &[$((stringify!($name), $value)),*];
    };
}

table! {
    /// What an item asks for: a sum of these.
    OPTIONS: u32 {
        /// Like; without it, unlike.
        LIKE = 1,
        /// One more key: the idempotency key.
        IDEMPOTENCY_KEY = 2,
        /// One more key: the user's limit.
        USER_LIMIT = 4,
        /// Three more arguments: count, revision and last version, to fill a counter that is not cached.
        FILL = 8,
        /// Accept without a counter.
        WITHOUT_COUNT = 16,
        /// Write even if the pair is as wanted.
        REWRITE = 32,
        /// Only take a version: the payload is the one it must exceed, and nothing but clock and limit is written.
        RESERVE = 64,
        /// One more argument, the last: the item's own deadline, earlier than the call's.
        OWN_DEADLINE = 128,
    }
}

table! {
    /// What became of an item.
    CODES: i64 {
        ACCEPTED = 0,
        UNCHANGED = 1,
        REPEATED_ACCEPTED = 2,
        COUNT_MISSING = 3,
        OVERLOADED = 4,
        /// The count is the milliseconds until a retry makes sense.
        RATE_LIMITED = 5,
        /// It came after its deadline; if the call's was over, all items say so.
        EXPIRED = 6,
        REPEATED_UNCHANGED = 7,
        /// The count is the pair if it was accepted here, else 0.
        RESERVED = 8,
        /// The idempotency key belongs to the other action.
        KEY_REUSED = 9,
        /// The resource is deleted.
        DELETED = 10,
    }
}

/// Arguments before the first item.
pub(crate) const HEAD: usize = 13;

/// A process's mark goes when it was given nothing for so long, in microseconds.
const MARK_TTL: i64 = 3_600_000_000;

/// The table in Lua, to stand before the script.
pub(crate) fn lua() -> String {
    let names = |table: &[(&str, i64)]| table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let values =
        |table: &[(&str, i64)]| table.iter().map(|(_, value)| value.to_string()).collect::<Vec<_>>().join(", ");
    let line = |table| format!("local {} = {}\n", names(table), values(table));
    format!("{}{}local HEAD, MARK_TTL = {HEAD}, {MARK_TTL}\n", line(OPTIONS), line(CODES))
}

/// The whole script as Redis gets it.
pub fn accept_script() -> String {
    format!("{READS}{}", accept_code())
}

/// The script without what stands before every one.
pub(crate) fn accept_code() -> String {
    lua() + include_str!("../scripts/accept.lua")
}

/// The value of an idempotency key, as the script writes and reads it.
pub(crate) fn first_answer(first: &FirstAnswer) -> String {
    let code = if first.changed { ACCEPTED } else { UNCHANGED };
    let FirstAnswer { answer, liked, .. } = first;
    format!("{code}:{}:{}:{}", answer.count.unwrap_or(-1), answer.version, u8::from(*liked))
}

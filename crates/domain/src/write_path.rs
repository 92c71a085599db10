//! Which way a user's likes go: through the cache, or to the database first. Decided per user, so that one user's
//! actions change their way only when an operator says so.

use crate::{Invalid, UserId};
use std::fmt;

/// Which users' likes are event-driven; the others' are written to the database first, then told to the cache: the old
/// mechanism, for gradual migration and as a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WritePath {
    /// Everybody's: cache first, events behind it.
    #[default]
    EventDriven,
    /// Those of this many of 100 users, 0 to 100, by a stable hash of the user's id: who is among 10 is among 50 too.
    Percentage(u8),
    /// Nobody's.
    Synchronous,
}

impl WritePath {
    /// From a number of users in 100.
    pub fn percentage(percent: u8) -> Result<Self, Invalid> {
        if percent <= 100 {
            Ok(Self::Percentage(percent))
        } else {
            Err(Invalid::new("write_path", format!("a percentage must be 0 to 100, got {percent}")))
        }
    }

    /// Event-driven users in 100.
    pub const fn event_driven_percent(self) -> u8 {
        match self {
            Self::EventDriven => 100,
            Self::Percentage(percent) => percent,
            Self::Synchronous => 0,
        }
    }

    /// Whether this user's likes are event-driven. The hash is fixed (SplitMix64's finalizer): servers of different
    /// releases must agree.
    pub const fn is_event_driven(self, user: UserId) -> bool {
        let percent = self.event_driven_percent();
        if percent >= 100 {
            return true;
        }
        let mut hash = (user.get() as u64).wrapping_add(0xD1B5_4A32_D192_ED03);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^= hash >> 31;
        hash % 100 < percent as u64
    }
}

impl fmt::Display for WritePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EventDriven => f.write_str("event_driven"),
            Self::Percentage(percent) => write!(f, "{percent}%"),
            Self::Synchronous => f.write_str("synchronous"),
        }
    }
}

impl std::str::FromStr for WritePath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(
                "write_path",
                format!("expected synchronous, event_driven or a percentage like 25%, got {text:?}"),
            )
        };
        match text {
            "event_driven" => Ok(Self::EventDriven),
            "synchronous" => Ok(Self::Synchronous),
            other => {
                let percent = other.strip_suffix('%').ok_or_else(wrong)?;
                percent.parse().map_err(|_| wrong()).and_then(Self::percentage)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for path in
            [WritePath::EventDriven, WritePath::Synchronous, WritePath::Percentage(0), WritePath::Percentage(37)]
        {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        for wrong in ["", "%", "101%", "-1%", "1.5%", "50", "Synchronous"] {
            assert!(wrong.parse::<WritePath>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_user_who_is_in_stays_in() {
        let users = || (1..=20_000).map(|id| UserId::new(id).unwrap());
        for percent in 0..100 {
            let (now, next) = (WritePath::Percentage(percent), WritePath::Percentage(percent + 1));
            assert!(users().all(|user| !now.is_event_driven(user) || next.is_event_driven(user)));
        }
        for percent in [0_u8, 1, 50, 99, 100] {
            let inside = users().filter(|user| WritePath::Percentage(percent).is_event_driven(*user)).count();
            let expected = usize::from(percent) * 200;
            assert!(inside.abs_diff(expected) < 300, "{percent}%: {inside} of 20000");
        }
        assert!(users().all(|user| WritePath::EventDriven.is_event_driven(user)));
        assert!(!users().any(|user| WritePath::Synchronous.is_event_driven(user)));
    }

    #[test]
    fn the_hash_is_fixed() {
        let inside: Vec<i64> =
            (1..=30).filter(|id| WritePath::Percentage(10).is_event_driven(UserId::new(*id).unwrap())).collect();
        assert_eq!(inside, FIXED);
    }

    const FIXED: &[i64] = &[2, 3, 5, 9, 17, 23];
}

//! What a token is limited to, beside its role: for whom it may act, and about what.

use domain::ResourceType;
use std::ops::RangeInclusive;

/// Limits of one token; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    users: Option<RangeInclusive<i64>>,
    types: Option<Vec<&'static str>>,
}

impl Scope {
    /// Takes one word of the token's line: `users=FIRST-LAST` or `types=video,comment`.
    pub(super) fn add(&mut self, word: &str) -> Result<(), String> {
        let repeated = |name: &str| Err(format!("{name} is limited twice"));
        match word.split_once('=') {
            Some(("users", _)) if self.users.is_some() => repeated("users"),
            Some(("users", range)) => {
                let ends = range.split_once('-').and_then(|(first, last)| Some((id(first)?, id(last)?)));
                let (first, last) =
                    ends.filter(|(first, last)| first <= last).ok_or("users are limited by FIRST-LAST")?;
                self.users = Some(first..=last);
                Ok(())
            }
            Some(("types", _)) if self.types.is_some() => repeated("types"),
            Some(("types", names)) => {
                let known = |name: &str| name.parse().ok().map(ResourceType::name);
                let types: Option<Vec<_>> = names.split(',').map(known).collect();
                self.types =
                    Some(types.ok_or_else(|| {
                        format!("types are {}, separated by commas", ResourceType::NAMES.join(" and "))
                    })?);
                Ok(())
            }
            _ => {
                let types = ResourceType::NAMES.join(",");
                Err(format!("behind a token stand users=FIRST-LAST and types={types}"))
            }
        }
    }

    /// Whether there is any limit.
    pub const fn is_limited(&self) -> bool {
        self.users.is_some() || self.types.is_some()
    }

    /// Whether users are limited: then nothing may be told about all of them.
    pub const fn limits_users(&self) -> bool {
        self.users.is_some()
    }

    /// Whether it may act for this user, and look at what is this user's.
    pub fn has_user(&self, user: i64) -> bool {
        self.users.as_ref().is_none_or(|users| users.contains(&user))
    }

    /// Whether it may act on things of this kind, and look at them.
    pub fn has_type(&self, name: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(&name))
    }
}

fn id(text: &str) -> Option<i64> {
    text.parse().ok().filter(|id| *id > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(words: &[&str]) -> Result<Scope, String> {
        let mut scope = Scope::default();
        words.iter().try_for_each(|word| scope.add(word)).map(|()| scope)
    }

    #[test]
    fn both_ends_belong_to_a_range() {
        let scope = scope(&["users=10-20"]).unwrap();
        let inside = [9, 10, 20, 21].map(|user| scope.has_user(user));
        assert_eq!(inside, [false, true, true, false]);
        assert!(scope.has_type("video") && scope.is_limited() && scope.limits_users());
        let scope = super::tests::scope(&["types=comment"]).unwrap();
        assert!(scope.has_type("comment") && !scope.has_type("video") && scope.has_user(i64::MAX));
        assert!(scope.is_limited() && !scope.limits_users());
        assert!(!Scope::default().is_limited());
    }

    #[test]
    fn what_makes_no_sense_limits_nothing_and_is_refused() {
        for words in [
            &["users=20-10"][..],
            &["users=0-10"],
            &["users=10"],
            &["users=1-x"],
            &["users=-1-5"],
            &["types="],
            &["types=vidoe"],
            &["types=video,"],
            &["user=1-2"],
            &["x"],
            &["users=1-2", "users=3-4"],
            &["types=video", "types=video"],
        ] {
            assert!(scope(words).is_err(), "{words:?}");
        }
    }
}

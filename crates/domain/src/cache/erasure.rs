//! What an erasure asks of a cache.

use crate::{UserId, Version};

/// What of a user is looked for, and whether it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserSweep {
    /// Whose.
    pub user: UserId,
    /// What is newer stays: the user has come again.
    pub up_to: Version,
    /// It goes; else it is only counted.
    pub remove: bool,
}

/// What a look found of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Cached pairs; those that only say that there is no row are not counted.
    pub pairs: u64,
    /// First answers of idempotency keys.
    pub keys: u64,
}

impl std::ops::AddAssign for Swept {
    fn add_assign(&mut self, more: Self) {
        self.pairs += more.pairs;
        self.keys += more.keys;
    }
}

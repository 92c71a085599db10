//! Histories: their files, and the checker against planted flaws, against a slow reference, and at scale.

#![expect(clippy::unwrap_used, reason = "ids in tests are valid")]

mod compare;
mod file;
mod planted;
mod reference;
mod scale;
mod story;
mod toy;

//! Histories: their files, and the checker against planted flaws and against a slow reference.

#![expect(clippy::unwrap_used, reason = "ids in tests are valid")]

mod compare;
mod definitions;
mod file;
mod planted;
mod reference;
mod story;
mod toy;

//! Tests of the domain's rules taken together.

#![expect(clippy::unwrap_used, reason = "ids in tests are valid")]

mod protocol_model;

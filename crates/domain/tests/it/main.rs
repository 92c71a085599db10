//! Tests of the domain's rules taken together.

mod protocol_model;

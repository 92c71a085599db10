//! One suite for both databases: each test runs on a real MariaDB and on a SQLite file, in a schema of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod addresses;
mod apply;
mod audit;
mod codes;
mod cut;
mod delete;
mod direct;
mod erase;
mod failures;
mod findings;
mod following;
mod gains;
mod glance;
mod horizon;
mod import;
mod ledger;
mod lists;
mod login;
mod meanings;
mod operate;
mod outages;
mod page;
mod partitions;
mod replicas;
mod retention;
mod schema;
mod support;
mod tls;
mod unlogged;
mod unpublished;
mod writers;

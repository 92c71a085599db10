//! Operator command line: migrate, load, verify.

fn main() {}

//! Consumer: applies events to MySQL and settles with the cache.

fn main() {}

//! gRPC server: accepts likes and relays them.

fn main() {}

//! gRPC server: accepts likes and relays them.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match service_runtime::Options::from_args("interaction-server", env!("CARGO_PKG_VERSION")) {
        Ok(options) => service_runtime::run(options, interaction_server::serve),
        Err(code) => code,
    }
}

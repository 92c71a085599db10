//! Consumer: applies events to MySQL and settles with the cache.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match service_runtime::Options::from_args("sync-consumer", env!("CARGO_PKG_VERSION")) {
        Ok(options) => service_runtime::run(options, sync_consumer::serve),
        Err(code) => code,
    }
}

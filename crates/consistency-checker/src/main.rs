//! Checker: proves that cache and database agree, and repairs what does not.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match service_runtime::Options::from_args("consistency-checker", env!("CARGO_PKG_VERSION")) {
        Ok(options) => service_runtime::run(options, consistency_checker::serve),
        Err(code) => code,
    }
}

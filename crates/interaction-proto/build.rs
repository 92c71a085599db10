//! Compiles `proto/` without protoc, so that a fresh machine needs nothing installed.

use prost::Message;
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(["interaction/v1/interaction.proto", "interaction/v1/admin.proto"], [&root])?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("interaction_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_client(true).build_server(true).compile_fds(descriptors)?;
    Ok(())
}

//! Compiles the `.proto` files with `protox`, so that a fresh machine needs no `protoc`.

use std::error::Error;

const FILES: [&str; 6] = [
    "proto/ringmaster/v1/membership.proto",
    "proto/ringmaster/v1/recipe.proto",
    "proto/ringmaster/v1/coordinator.proto",
    "proto/ringmaster/v1/exchange.proto",
    "proto/ringmaster/v1/artifact.proto",
    "proto/ringmaster/v1/state.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        // Payloads stay slices of the received frame instead of being copied once more.
        .bytes(".ringmaster.v1")
        .compile_fds(descriptors)?;
    Ok(())
}

//! Compiles the `.proto` files with `protox`, so that a fresh machine needs no `protoc`, and lists their calls.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const FILES: [&str; 8] = [
    "proto/ringmaster/v1/membership.proto",
    "proto/ringmaster/v1/recipe.proto",
    "proto/ringmaster/v1/coordinator.proto",
    "proto/ringmaster/v1/exchange.proto",
    "proto/ringmaster/v1/artifact.proto",
    "proto/ringmaster/v1/state.proto",
    "proto/ringmaster/v1/operator.proto",
    "proto/ringmaster/v1/doctor.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let mut calls = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            calls.extend(service.method.iter().map(|method| path(method.name())));
        }
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("calls.rs"), format!("&{calls:?}"))?;
    tonic_prost_build::configure()
        // Payloads stay slices of the received frame instead of being copied once more.
        .bytes(".ringmaster.v1")
        .compile_fds(descriptors)?;
    Ok(())
}

//! Makes the crate's types from protos/: compiles the .proto files, reads our own options from
//! them, and writes Rust for the messages, the gRPC stubs, their JSON and their Schema.

mod json_side;
mod kinds;
mod model;
mod naming;
mod prost_side;
mod schema_side;

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = Path::new("protos");
    let files = proto_files(protos)?;
    println!("cargo:rerun-if-changed=protos");
    println!("cargo:rerun-if-changed=build");

    let mut compiler = protox::Compiler::new([protos])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let pool = compiler.descriptor_pool();
    let model = model::read(&pool)?;

    prost_side::generate(compiler.file_descriptor_set(), &model)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("kinds.rs"), kinds::generate(&model))?;
    fs::write(out.join("json.rs"), json_side::generate(&model)?)?;
    let (objects, kinds) = schema_side::generate(&model);
    fs::write(out.join("schema.rs"), objects)?;
    fs::write(out.join("schema_kinds.rs"), kinds)?;
    Ok(())
}

/// Every .proto file under `root`, by its path below it, in a stable order.
fn proto_files(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "proto") {
                found.push(path.strip_prefix(root).expect("found below it").to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

//! Compiles pause (pause/main.rs) into one static program, which the kubelet embeds and turns into
//! the image `skiff/pause`. The gnu target with `crt-static` does it: no musl target is needed.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=pause/main.rs");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("pause");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    let status = Command::new(rustc)
        .args(["--edition", "2021", "--crate-name", "pause", "--crate-type", "bin", "--target", &target])
        .args(["-C", "target-feature=+crt-static", "-C", "opt-level=z", "-C", "panic=abort"])
        .args(["-C", "strip=symbols", "-C", "codegen-units=1", "-C", "lto=fat"])
        // The same bytes wherever the source lies, so that the image's digest says what is in it.
        .args(["--remap-path-prefix", &format!("{}=kubelet", env!("CARGO_MANIFEST_DIR"))])
        .arg("-o")
        .arg(&out)
        .arg("pause/main.rs")
        .status()
        .expect("rustc could not be started");
    assert!(status.success(), "pause/main.rs did not compile: see rustc's message above");
}

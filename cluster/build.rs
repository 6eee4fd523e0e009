//! How `skiff` is linked.

/// What the linker may leave out: the many copies of functions whose code is the same, such as one type's destructor and
/// another's. LLVM's linker, Rust's own on this target, can fold them.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}

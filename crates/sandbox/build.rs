//! Compiles the system-call filter from its data, and builds the guest as a static program, so
//! that the sandbox carries both.
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a build script stops the build by panicking"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "build/filter.rs"]
mod filter; // rules to program

fn main() {
    let out = PathBuf::from(setting("OUT_DIR"));
    for name in ["jail", "in-place"] {
        compile_filter(&out, name);
    }
    build_guest(&out);
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]
fn setting(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn compile_filter(out: &Path, name: &str) {
    let data = format!("src/filter/{name}.json");
    println!("cargo::rerun-if-changed={data}");
    println!("cargo::rerun-if-changed=build/filter.rs");
    let text = std::fs::read_to_string(&data).expect("the filter's data is there");
    let numbers = format!(
        "src/filter/numbers.{}.json",
        setting("CARGO_CFG_TARGET_ARCH")
    );
    println!("cargo::rerun-if-changed={numbers}");
    let numbers = std::fs::read_to_string(numbers).expect("this architecture has its numbers");
    let program =
        filter::compile(&text, &numbers).unwrap_or_else(|error| panic!("{data}: {error}"));
    std::fs::write(out.join(format!("{name}.bpf")), program).expect("the build folder is writable");
}

/// The guest is its own program and is never linked here: it is built on its own and carried.
fn build_guest(out: &Path) {
    for path in ["../guest", "../base"] {
        println!("cargo::rerun-if-changed={path}/src");
        println!("cargo::rerun-if-changed={path}/Cargo.toml");
    }
    let target = setting("TARGET");
    let folder = out.join("guest");
    let status = Command::new(setting("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "belljar-guest",
            "--release",
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Ctarget-feature=+crt-static\x1f-Crelocation-model=static",
        )
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .status()
        .expect("cargo runs");
    assert!(
        status.success(),
        "the guest does not build (a static libc is needed: Debian libc6-dev, Fedora glibc-static)"
    );
    let built = folder.join(target).join("release/belljar-guest");
    let program = std::fs::read(built).expect("the guest was built");
    // FNV-1a: tells one build of the guest from another, so that a template with an old one is
    // not used.
    let digest = program
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    println!("cargo::rustc-env=BELLJAR_GUEST_DIGEST={digest:016x}");
    std::fs::write(out.join("belljar-guest"), program).expect("the build folder is writable");
}

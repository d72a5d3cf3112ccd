//! Builds the test guests. They are workspaces of their own, for another target and with another target
//! folder, so that this does not wait for the cargo that runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let repository = here.join("../..").canonicalize()?;
    for watched in
        ["guest-sdk/src", "guest-sdk/Cargo.toml", "host-api/wit", "tests/programs/src", "tests/programs/Cargo.toml"]
    {
        println!("cargo::rerun-if-changed={}", repository.join(watched).display());
    }
    println!("cargo::rerun-if-changed=build-guests.sh");
    let built = Command::new("bash")
        .arg(here.join("build-guests.sh"))
        .arg(&out)
        .arg(repository.join("tests/programs"))
        .env("GUEST_TARGET_DIR", repository.join("target/guests"))
        .env_remove("RUSTC")
        .output()?;
    if !built.status.success() {
        return Err(format!(
            "the test guests were not built; this is what their build said:\n{}",
            String::from_utf8_lossy(&built.stderr)
        )
        .into());
    }
    for guest in ["probe", "command"] {
        let path = out.join(format!("{guest}.wasm"));
        assert_built(&path);
        println!("cargo::rustc-env=GUEST_{}={}", guest.to_uppercase(), path.display());
    }
    Ok(())
}

fn assert_built(path: &Path) {
    assert!(path.is_file(), "{} was not built", path.display());
}

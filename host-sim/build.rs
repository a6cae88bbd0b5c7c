//! With the feature `mujoco`: lets programs and tests find the MuJoCo library where set-up put it, with no exported
//! variable, and tells the library where Gymnasium's model files lie.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MUJOCO_DYNAMIC_LINK_DIR");
    println!("cargo::rerun-if-env-changed=GYMNASIUM_ASSETS");
    if env::var_os("CARGO_FEATURE_MUJOCO").is_none() {
        return;
    }
    // `.cargo/config.toml` sets both, unless the user exports others.
    let folder = |name| env::var_os(name).map(PathBuf::from);
    let Some(lib) =
        folder("MUJOCO_DYNAMIC_LINK_DIR").filter(|lib| lib.join("libmujoco.so").exists())
    else {
        println!("cargo::error=there is no MuJoCo yet: run `cargo xtask setup` first");
        return;
    };
    if let Some(assets) = folder("GYMNASIUM_ASSETS") {
        println!("cargo::rustc-env=GYMNASIUM_ASSETS={}", assets.display());
    }
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // For packages that link this one: a build script's link arguments only reach its own package.
    println!("cargo::metadata=LIB={}", lib.display());
    if let Err(error) = show_to_cargo(&lib) {
        println!(
            "cargo::error=cannot link {} into the target folder: {error}",
            lib.display()
        );
    }
}

/// `cargo run` and `cargo test`, documentation tests too, search native libraries of build scripts, but only those below
/// the target folder.
#[cfg(unix)]
fn show_to_cargo(lib: &Path) -> std::io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for entry in fs::read_dir(lib)? {
        let entry = entry?;
        let link = out.join(entry.file_name());
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(entry.path(), link)?;
    }
    println!("cargo::rustc-link-search=native={}", out.display());
    Ok(())
}

#[cfg(not(unix))]
fn show_to_cargo(_: &Path) -> std::io::Result<()> {
    Ok(())
}

//! Episodes recorded on the host, for an image to compare itself with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use dt_core::blob::Blob;

use super::Episodes;
use super::image::target_directory;
use crate::process::{cargo, run};

/// Runs the policy on the host, in `env` or the environment that it names, and gives the recording's place.
///
/// # Errors
/// If the policy cannot be read or the rollout fails.
pub fn record(policy: &Path, env: Option<&str>, episodes: Episodes) -> Result<PathBuf> {
    let policy = std::path::absolute(policy)?;
    let declared = declared(&policy)?;
    let env = match env.unwrap_or(&declared.env) {
        // The rollout starts in another folder.
        path if path.ends_with(".toml") => std::path::absolute(path)?.display().to_string(),
        name => name.to_owned(),
    };
    let folder = target_directory()?.join("recordings");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // One name per policy, so that neither cargo nor a second run mistakes one recording for another.
    let recording = folder.join(format!("{:08x}.dtt", declared.crc));
    let target_return = episodes.target_return.unwrap_or(declared.target_return);
    run(host_sim()
        .arg("rollout")
        .arg(&policy)
        .args(["--env", &env, &format!("--target-return={target_return}")])
        .args([
            "--episodes",
            &episodes.episodes.to_string(),
            "--seed",
            &episodes.seed.to_string(),
        ])
        .arg("--record")
        .arg(&recording)
        .arg("--force"))
    .with_context(|| {
        format!(
            "cannot record {0} in environment `{env}`; --env names another, or the .toml of a robot of your own; with a simulator of its own process: host-sim rollout {0} --plant CMD --record FILE, then --recording FILE here",
            policy.display()
        )
    })?;
    Ok(recording)
}

/// Always with MuJoCo and HDF5, which set-up has installed: without them for Pendulum, the built program would lack them from then
/// on.
fn host_sim() -> Command {
    let mut host_sim = cargo();
    host_sim.args(["run", "--quiet", "--release"]).args([
        "-p",
        "host-sim",
        "--features",
        "mujoco,hdf5",
        "--",
    ]);
    host_sim
}

/// What a policy file says about itself.
struct Declared {
    env: String,
    target_return: f32,
    crc: u32,
}

fn declared(path: &Path) -> Result<Declared> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // A policy is used in place, so its bytes must be aligned.
    let mut words = vec![0u128; bytes.len().div_ceil(size_of::<u128>())];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    let aligned = &bytemuck::cast_slice(&words)[..bytes.len()];
    let blob = Blob::parse(aligned).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    // Bytes 12..16 of a policy file are its CRC (BLOB.md).
    let crc = u32::from_le_bytes(bytes[12..16].try_into().expect("four bytes"));
    Ok(Declared {
        env: blob.manifest().env.to_owned(),
        target_return: blob.manifest().target_return,
        crc,
    })
}

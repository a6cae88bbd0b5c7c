//! Gathers what an image carries (policy, recorded episodes) and how its board is linked.
//!
//! `cargo xtask firmware build` sets these variables; paths are absolute, because build scripts do not run
//! in the folder that cargo was called from.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `DT_BOARD` | board: `mps2-an386`, `mps2-an500`, `mps2-an385`, `mps2-an505`, `mps3-an547` or `virt` | `mps2-an386` |
//! | `DT_FLASH_KIB` | flash that the image must fit: 1024, 512, 2048 or 4096 | 1024 |
//! | `DT_POLICY` | policy file (`.dtb`) | none: the image refuses to move |
//! | `DT_POLICY_RS` | the constants exported with it | `F.rs` beside the policy file `F.dtb`, or else `policy.rs` |
//! | `DT_TRACE` | recorded episodes (`host_sim::trace`) | none: nothing to compare with |

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use dt_core::Blob;

/// Boards by name, and where code and data lie: QEMU's MPS2 boards with a Cortex-M4F, M7, M3, which also runs what is compiled
/// for an M0+, and M33; the MPS3 board with an M55; the RISC-V board.
const BOARDS: [(&str, u32, u32); 6] = [
    ("mps2-an386", 0, 0x2000_0000),
    ("mps2-an500", 0, 0x2000_0000),
    ("mps2-an385", 0, 0x2000_0000),
    ("mps2-an505", 0x1000_0000, 0x3800_0000),
    ("mps3-an547", 0x7000_0000, 0x3100_0000),
    ("virt", 0x8000_0000, 0x8080_0000),
];

/// Sizes of flash and RAM, in KiB; the memory layout of each is in `memory/`.
const LAYOUTS: [(&str, u32); 4] = [("1024", 128), ("512", 128), ("2048", 512), ("4096", 1024)];

/// What an image without a policy is built with.
const NO_POLICY_RS: &str = "/// No policy, no memory.\npub const ARENA_WORDS: usize = 0;\n";

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS")? != "none" {
        return Ok(()); // On the host the images are empty programs.
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    link(&out)?;

    let policy = path_variable("DT_POLICY")?;
    let beside = policy.as_ref().map(|policy| {
        let named = policy.with_extension("rs");
        // What earlier versions called all of them.
        let plain = policy.with_file_name("policy.rs");
        if named.is_file() { named } else { plain }
    });
    let policy_rs = path_variable("DT_POLICY_RS")?.or(beside);
    if let Some(path) = &policy_rs {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let episodes = path_variable("DT_TRACE")?;
    // Who sets it to nothing means an image without one.
    if env::var_os("DT_POLICY").is_none() {
        println!(
            "cargo:warning=DT_POLICY is not set: this image carries no policy and will refuse to move"
        );
    }
    embed(&out.join("policy.dtb"), "DT_POLICY", policy.as_deref(), "")?;
    embed(
        &out.join("policy.rs"),
        "DT_POLICY_RS",
        policy_rs.as_deref(),
        NO_POLICY_RS,
    )?;
    dimensions(&out, policy.as_deref())?;
    embed(
        &out.join("episodes.bin"),
        "DT_TRACE",
        episodes.as_deref(),
        "",
    )?;
    Ok(())
}

/// Writes the linker script of the chosen board and passes the linker its arguments.
fn link(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=memory");
    let names = BOARDS.map(|(name, ..)| name);
    let board = choice("DT_BOARD", &names)?;
    println!(
        "cargo:rustc-check-cfg=cfg(dt_board, values(\"{}\"))",
        names.join("\", \"")
    );
    println!("cargo:rustc-cfg=dt_board=\"{board}\"");
    let addresses = BOARDS.iter().find(|(name, ..)| *name == board);
    let (_, code, data) = addresses.ok_or("every board has its addresses")?;
    let flash = choice("DT_FLASH_KIB", &LAYOUTS.map(|(kib, _)| kib))?;
    let layout = LAYOUTS.iter().find(|(kib, _)| *kib == flash);
    let (_, ram) = layout.ok_or("every size has a layout")?;
    let mut memory = fs::read_to_string(format!("memory/flash_{flash}k.x"))?
        + &fs::read_to_string("memory/sections.x")?;
    match board.as_str() {
        "mps3-an547" => memory += &fs::read_to_string("memory/an547.x")?,
        "virt" => memory += &fs::read_to_string("memory/riscv.x")?,
        _ => {}
    }
    println!("cargo:rustc-check-cfg=cfg(dt_armv8m)");
    if ["mps2-an505", "mps3-an547"].contains(&board.as_str()) {
        println!("cargo:rustc-cfg=dt_armv8m");
    }
    let memory = memory
        .replace("= CODE", &format!("= {code:#010x}"))
        .replace("= DATA", &format!("= {data:#010x}"));
    fs::write(out.join("memory.x"), memory)?;
    let constants =
        format!("/// RAM of the memory layout, in KiB.\npub const RAM_KIB: usize = {ram};\n");
    fs::write(out.join("layout.rs"), constants)?;
    println!("cargo:rustc-env=DT_BOARD={board}");
    println!("cargo:rustc-link-search={}", out.display());
    // riscv-rt's script does not ask for the memory layout, and needs it first.
    let layout = (board == "virt").then_some("-Tmemory.x");
    for argument in layout
        .into_iter()
        .chain(["--nmagic", "-Tlink.x", "-Tdefmt.x"])
    {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    Ok(())
}

/// The value of an environment variable that must be one of `known`; the first of them where it is unset.
fn choice(name: &str, known: &[&str]) -> Result<String, Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed={name}");
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    let value = value.or_else(|| known.first().map(|&first| first.to_owned()));
    match value {
        Some(value) if known.contains(&value.as_str()) => Ok(value),
        value => Err(format!(
            "{name} is {value:?}; it must be one of {}",
            known.join(", ")
        )
        .into()),
    }
}

/// The path in an environment variable; an empty one counts as unset.
fn path_variable(name: &str) -> Result<Option<PathBuf>, Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed={name}");
    let Some(path) = env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
    else {
        return Ok(None);
    };
    if path.is_relative() {
        return Err(format!(
            "{name} is the relative path {}; make it absolute",
            path.display()
        )
        .into());
    }
    println!("cargo:rerun-if-changed={}", path.display());
    Ok(Some(path))
}

/// Writes down which robot the policy is for. The image itself finds out what else is wrong with it.
fn dimensions(out: &Path, policy: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let (mut state, mut act, mut period_us, mut field) = (1, 1, 100_000, 1);
    if let Some(path) = policy {
        let bytes = fs::read(path)?;
        let mut words = vec![0_u128; bytes.len().div_ceil(16)];
        let aligned: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        aligned[..bytes.len()].copy_from_slice(&bytes);
        if let Ok(blob) = Blob::parse(aligned) {
            let config = blob.manifest().config;
            (state, act) = (config.state_dim, config.action_len());
            (period_us, field) = (blob.manifest().control_period_us, config.receptive_field());
        }
    }
    let text = format!(
        "/// Length of an observation.
pub const STATE: usize = {state};
/// Length of an action: 1 where the policy chooses.
pub const ACT: usize = {act};
/// Control period, in µs.
pub const PERIOD_US: u32 = {period_us};
/// Timesteps that an action depends on.
pub const RECEPTIVE_FIELD: u32 = {field};
"
    );
    Ok(fs::write(out.join("dimensions.rs"), text)?)
}

/// Copies `source` to where the image includes it from; without a source, writes `otherwise`.
fn embed(
    target: &Path,
    name: &str,
    source: Option<&Path>,
    otherwise: &str,
) -> Result<(), Box<dyn Error>> {
    let content = match source {
        None => otherwise.as_bytes().to_vec(),
        Some(path) => fs::read(path)
            .map_err(|error| format!("{name}: cannot read {}: {error}", path.display()))?,
    };
    Ok(fs::write(target, content)?)
}

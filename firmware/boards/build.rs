//! Links the image by the memory of its board, for a robot of given dimensions.
//!
//! `cargo xtask firmware` sets these variables from a policy file.
//!
//! | variable | meaning |
//! |---|---|
//! | `DT_STATE` | length of an observation |
//! | `DT_ACT` | length of an action, 1 where the policy chooses |
//!
//! With feature `signed`, which it sets where there is a key, these are whoever's who calls it:
//!
//! | variable | meaning |
//! |---|---|
//! | `DT_PUBLIC_KEY` | whose policies run: 64 hexadecimal digits, as `cargo xtask firmware keygen` prints them |
//! | `DT_OLDEST` | the lowest sequence number that runs; 1 where it is not set |

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

#[path = "layout.rs"]
#[allow(dead_code)] // The rest is for those who flash.
mod layout;

use layout::{BOARDS, Board, STACK_KIB};

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=layout.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let chosen = BOARDS
        .iter()
        .filter(|board| has_feature(board.name))
        .collect::<Vec<_>>();
    let &[board] = &chosen[..] else {
        let names = BOARDS
            .iter()
            .map(|board| board.name)
            .collect::<Vec<_>>()
            .join(", ");
        return Err(format!("choose one board by --features: {names}").into());
    };
    constants(board, &out)?;
    link(board, &out)
}

/// Whether this package is built with the feature.
fn has_feature(name: &str) -> bool {
    env::var_os(format!(
        "CARGO_FEATURE_{}",
        name.to_uppercase().replace('-', "_")
    ))
    .is_some()
}

/// Writes down what the image is for, and how much memory its policy may have.
fn constants(board: &Board, out: &Path) -> Result<(), Box<dyn Error>> {
    let name = board.name;
    let (state, act) = (dimension("DT_STATE")?, dimension("DT_ACT")?);
    let arena = board.arena_words();
    let black_box = 1024 * board.black_box_kib;
    let trust = trust()?;
    let text = format!(
        "/// The board, as in `--board`.\npub const NAME: &str = {name:?};\n\n/// Length of an observation.\npub const STATE: usize = {state};\n\n/// Length of an action.\npub const ACT: usize = {act};\n\n/// 32-bit words of memory for a policy.\npub const ARENA_WORDS: usize = {arena};\n\n/// Bytes of memory for the black box.\npub const BLACK_BOX_LEN: usize = {black_box};\n\n/// Whose policies run.\npub const TRUST: dt_device::slots::Trust = dt_device::slots::Trust::{trust};\n"
    );
    Ok(fs::write(out.join("constants.rs"), text)?)
}

/// A number of the robot's.
fn dimension(name: &str) -> Result<usize, Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed={name}");
    let text = env::var(name).unwrap_or_default();
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| format!("{name} is {text:?}; set it to a length, as `cargo xtask firmware` does from a policy file").into())
}

/// Whose policies run, as source.
fn trust() -> Result<String, Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=DT_PUBLIC_KEY");
    println!("cargo:rerun-if-env-changed=DT_OLDEST");
    if !has_feature("signed") {
        return Ok("Anyone".into());
    }
    let key = env::var("DT_PUBLIC_KEY").unwrap_or_default();
    let byte = |i: usize| u8::from_str_radix(key.get(2 * i..2 * i + 2)?, 16).ok();
    let public = (0..32).map(byte).collect::<Option<Vec<_>>>();
    let Some(public) = public.filter(|_| key.len() == 64) else {
        return Err(format!("DT_PUBLIC_KEY is {key:?}; set it to the 64 digits that `cargo xtask firmware keygen` printed").into());
    };
    let oldest = env::var("DT_OLDEST").unwrap_or_else(|_| "1".into());
    let oldest: u32 = oldest
        .parse()
        .map_err(|_| format!("DT_OLDEST is {oldest:?}; set it to a sequence number"))?;
    Ok(format!("Key {{ public: {public:?}, oldest: {oldest} }}"))
}

/// Writes the linker script and passes the linker its arguments.
fn link(board: &Board, out: &Path) -> Result<(), Box<dyn Error>> {
    let flash = board.flash.base;
    let (ram, ram_kib) = board.ram;
    let program = board.flash.program_len();
    let (boot2, begin) = match board.name {
        "pico" => (
            format!("  BOOT2 : ORIGIN = {flash:#010x}, LENGTH = 256\n"),
            256,
        ),
        _ => (String::new(), 0),
    };
    let (black_box, own) = match board.black_box_at {
        None => ("RAM", String::new()),
        Some(at) => (
            "BLACK_BOX",
            format!(
                "  BLACK_BOX : ORIGIN = {at:#010x}, LENGTH = {}K\n",
                board.black_box_kib
            ),
        ),
    };
    let memory = format!(
        "MEMORY\n{{\n{boot2}{own}  FLASH : ORIGIN = {:#010x}, LENGTH = {:#x}\n  STACK : ORIGIN = {ram:#010x}, LENGTH = {STACK_KIB}K\n  RAM : ORIGIN = {:#010x}, LENGTH = {}K\n}}\nREGION_ALIAS(WITH_BLACK_BOX, {black_box});\n",
        flash + begin,
        program - begin,
        ram + 1024 * STACK_KIB,
        ram_kib - STACK_KIB,
    );
    let sections = fs::read_to_string("sections.x")?;
    let start_block = match board.name {
        "pico2" => START_BLOCK,
        _ => "",
    };
    fs::write(out.join("memory.x"), memory + &sections + start_block)?;
    println!("cargo:rustc-link-search={}", out.display());
    let boot2 = (board.name == "pico").then_some("-Tlink-rp.x");
    for argument in ["--nmagic", "-Tlink.x", "-Tdefmt.x"]
        .into_iter()
        .chain(boot2)
    {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    Ok(())
}

/// What the RP2350's boot ROM looks for in the first 4 KiB.
const START_BLOCK: &str = "
SECTIONS
{
  .start_block : ALIGN(4)
  {
    __start_block_addr = .;
    KEEP(*(.start_block));
  } > FLASH
} INSERT AFTER .vector_table;
_stext = ADDR(.start_block) + SIZEOF(.start_block);
";

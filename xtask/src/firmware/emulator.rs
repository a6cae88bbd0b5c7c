//! Running an image in QEMU and reading what it says.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Board;
use crate::process::command;
use crate::setup::defmt_print;

/// Far longer than an image takes from one line of its log to the next; a hanging one is ended.
const SILENCE: Duration = Duration::from_secs(600);

/// The image's last line, and how it ended.
#[derive(Debug)]
pub struct Report {
    line: String,
    passed: bool,
    /// What the line says.
    pub figures: Figures,
}

/// The figures that every image reports; there may be more in the line.
#[derive(Debug, Deserialize, PartialEq)]
pub struct Figures {
    /// Control steps compared.
    pub steps: u32,
    /// Bits of actions that differ from the host's.
    pub differing_bits: u64,
    /// Mean instructions of one control step.
    pub instructions_per_step: u64,
    /// Static memory of the policy.
    pub arena_bytes: u32,
    /// Stack at the deepest.
    pub stack_bytes: u32,
    /// Where the plant runs on the controller.
    pub mean_return: Option<f64>,
}

impl Report {
    /// The image's line as it came, one JSON object.
    pub fn json(&self) -> &str {
        &self.line
    }

    /// Whether the image found everything equal to the host.
    ///
    /// # Errors
    /// If a bit differs, or the image says that it failed.
    pub fn check(&self) -> Result<()> {
        let Figures {
            steps,
            differing_bits,
            ..
        } = self.figures;
        ensure!(
            differing_bits == 0,
            "{differing_bits} action bits differ from the host's in {steps} steps"
        );
        ensure!(
            self.passed,
            "the image failed; the reason is in its log above"
        );
        Ok(())
    }
}

/// Runs the image to its end; its log goes to stderr.
///
/// # Errors
/// If the emulator cannot be started, the image hangs, or it ends without its figures.
pub fn run(board: Board, image: &Path) -> Result<Report> {
    let Ended { mut lines, status } = start(board, image, &[])?;
    let Some(line) = lines.pop() else {
        bail!("the image ended ({status}) without its figures; the reason is in its log above");
    };
    let figures = parse(&line)?;
    Ok(Report {
        line,
        passed: status.success(),
        figures,
    })
}

/// How an image ended.
pub struct Ended {
    /// What it said in JSON, line by line.
    pub lines: Vec<String>,
    /// 0 if it was content.
    pub status: ExitStatus,
}

/// Runs the image to its end, with further arguments for the emulator; its log goes to stderr.
///
/// One instruction takes one nanosecond of virtual time, so that the board's timer counts instructions.
///
/// # Errors
/// If the emulator cannot be started or the image hangs.
pub fn start(board: Board, image: &Path, arguments: &[String]) -> Result<Ended> {
    let mut qemu = qemu(board, image)
        .args(["-icount", "shift=0"])
        .args(arguments)
        .spawn()
        .with_context(|| format!("cannot start {}", program(board)))?;
    let frames = qemu.stdout.take().context("stdout was asked for")?;
    let printer = command(defmt_print::program())
        .arg("-e")
        .arg(image)
        .stdin(frames)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start defmt-print");
    let mut printer = match printer {
        Ok(printer) => printer,
        Err(error) => {
            end(&mut qemu);
            return Err(error);
        }
    };
    let text = printer.stdout.take().context("stdout was asked for")?;
    let heard = Arc::new(Mutex::new(Instant::now()));
    let reader = thread::spawn({
        let heard = heard.clone();
        move || read(text, &heard)
    });
    let status = wait(&mut qemu, &heard);
    // It ends once the emulator has closed its output.
    let lines = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader of the log died"))?;
    printer.wait()?;
    let status = status?;
    Ok(Ended { lines, status })
}

/// Runs the image while `reader` reads the emulator's record of every block of code translated and executed.
///
/// # Errors
/// The reader's, and if the emulator cannot be started.
pub fn record<T>(
    board: Board,
    image: &Path,
    arguments: &[String],
    reader: impl FnOnce(ChildStderr) -> Result<T>,
) -> Result<T> {
    let mut qemu = qemu(board, image)
        .args(["-d", "in_asm,exec,nochain"])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program(board)))?;
    let record = qemu.stderr.take().context("stderr was asked for")?;
    let read = reader(record);
    end(&mut qemu);
    read
}

fn program(board: Board) -> &'static str {
    match board {
        Board::Riscv => "qemu-system-riscv32",
        _ => "qemu-system-arm",
    }
}

fn qemu(board: Board, image: &Path) -> Command {
    let mut qemu = command(program(board));
    if board == Board::Riscv {
        qemu.args(["-bios", "none"]); // There is nothing below the image.
    }
    qemu.args(["-M", board.machine(), "-nographic"])
        .args(["-monitor", "none", "-serial", "null"])
        .args(["-semihosting-config", "enable=on,target=native"])
        .arg("-kernel")
        .arg(image)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    qemu
}

/// Passes the log on to stderr and gives the lines that are JSON objects; keeps the time of the last line.
fn read(text: ChildStdout, heard: &Mutex<Instant>) -> Vec<String> {
    let mut objects = Vec::new();
    for line in BufReader::new(text).lines().map_while(Result::ok) {
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if line.starts_with('{') {
            objects.push(line);
        } else {
            eprintln!("{line}");
        }
    }
    objects
}

fn parse(line: &str) -> Result<Figures> {
    serde_json::from_str(line).with_context(|| format!("the image's figures are malformed: {line}"))
}

fn wait(qemu: &mut Child, heard: &Mutex<Instant>) -> Result<ExitStatus> {
    loop {
        if let Some(status) = qemu.try_wait()? {
            return Ok(status);
        }
        let heard = *heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.elapsed() > SILENCE {
            end(qemu);
            bail!(
                "the image was ended: it had said nothing for {} s",
                SILENCE.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn end(child: &mut Child) {
    // It may just have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"board":"mps2-an386","bin":"replay","steps":200,"differing_bits":0,"instructions_per_step":123456,"instructions_min":1,"instructions_max":2,"arena_bytes":4096,"stack_bytes":512}"#;

    fn report(line: &str, passed: bool) -> Report {
        Report {
            line: line.into(),
            passed,
            figures: parse(line).unwrap(),
        }
    }

    #[test]
    fn an_image_passes_only_with_equal_bits_and_its_own_word() {
        report(LINE, true).check().unwrap();
        let failed = report(LINE, false).check().unwrap_err().to_string();
        assert!(failed.starts_with("the image failed"), "{failed}");
        let line = LINE.replace("\"differing_bits\":0", "\"differing_bits\":3");
        let differs = report(&line, true).check().unwrap_err().to_string();
        assert_eq!(differs, "3 action bits differ from the host's in 200 steps");
    }

    #[test]
    fn malformed_figures_are_named() {
        let error = parse("{\"steps\":200}").unwrap_err().to_string();
        assert_eq!(error, "the image's figures are malformed: {\"steps\":200}");
    }
}

//! `cargo xtask firmware flash` without hardware: what it decides, writes and runs, with programs that only take notes.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use tempfile::TempDir;

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../dt-core/examples/pendulum.dtb"
);

/// A folder on PATH, with programs of our own.
struct Tools(TempDir);

impl Tools {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A program that answers `listing` to what asks for devices, and notes down every other call.
    fn add(&self, name: &str, listing: &str) {
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in list|--list) printf '%s\\n' '{listing}';; *) echo \"{name} $*\" >> {};; esac\n",
            self.notes().display()
        );
        let program = self.0.path().join(name);
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn notes(&self) -> PathBuf {
        self.0.path().join("notes")
    }

    /// What the programs were asked to do, without the folder of the files that they were given.
    fn calls(&self) -> Vec<String> {
        let notes = fs::read_to_string(self.notes()).unwrap_or_default();
        let short = |line: &str| {
            let words = line.split(' ').map(|word| word.rsplit('/').next().unwrap());
            words.collect::<Vec<_>>().join(" ")
        };
        notes.lines().map(short).collect()
    }

    fn flash(&self, board: &str, arguments: &[&str]) -> assert_cmd::assert::Assert {
        self.flash_with_key("", board, arguments)
    }

    /// Where images that are built run only what `key` has signed.
    fn flash_with_key(
        &self,
        key: &str,
        board: &str,
        arguments: &[&str],
    ) -> assert_cmd::assert::Assert {
        let path = format!(
            "{}:{}",
            self.0.path().display(),
            std::env::var("PATH").unwrap()
        );
        Command::cargo_bin("xtask")
            .unwrap()
            .args(["firmware", "flash", "--board", board, "--policy", POLICY])
            .args(arguments)
            .env("PATH", path)
            .env("DT_PUBLIC_KEY", key)
            .assert()
    }

    /// An image with the bytes `program` at an address.
    fn image(&self, address: u32, program: &[u8]) -> PathBuf {
        let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let half = |elf: &mut Vec<u8>, values: &[u16]| {
            values
                .iter()
                .for_each(|value| elf.extend(value.to_le_bytes()));
        };
        let word = |elf: &mut Vec<u8>, values: &[u32]| {
            values
                .iter()
                .for_each(|value| elf.extend(value.to_le_bytes()));
        };
        half(&mut elf, &[2, 40]); // an executable, for Arm
        word(&mut elf, &[1, address, 52, 0, 0]);
        half(&mut elf, &[52, 32, 1, 40, 0, 0]);
        let len = program.len() as u32;
        word(&mut elf, &[1, 84, address, address, len, len, 5, 4]);
        elf.extend(program);
        let path = self.0.path().join("robot.elf");
        fs::write(&path, elf).unwrap();
        path
    }
}

const PROBE: &str = "[0]: STLink V2-1 -- 0483:374b:066DFF (ST-LINK)";

#[test]
fn a_probe_writes_program_and_policy_where_they_belong() {
    let tools = Tools::new();
    tools.add("probe-rs", PROBE);
    let image = tools.image(0x0800_0000, b"a program");
    tools
        .flash("nucleo-f446re", &["--image", image.to_str().unwrap()])
        .success()
        .stderr(contains("1. probe-rs download").and(contains("4. probe-rs reset")));
    let download = "probe-rs download --chip STM32F446RE --binary-format bin --base-address";
    assert_eq!(
        tools.calls(),
        [
            format!("{download} 0x08000000 program.bin"),
            format!("{download} 0x08040000 slot-0.bin"),
            format!("{download} 0x08060000 slot-1.bin"),
            "probe-rs reset --chip STM32F446RE".to_owned(),
        ]
    );
    let read = |name| fs::read(written("nucleo-f446re", name)).unwrap();
    assert_eq!(read("program.bin"), b"a program");
    let slot = read("slot-0.bin");
    assert!(slot.ends_with(&fs::read(POLICY).unwrap()));
}

#[test]
fn a_policy_alone_leaves_the_program_and_goes_through_the_chosen_probe() {
    let tools = Tools::new();
    tools.add("probe-rs", PROBE);
    tools
        .flash("nrf52840-dk", &["--policy-only", "--probe", "0483:374b"])
        .success();
    let calls = tools.calls();
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert_eq!(
        calls[0],
        "probe-rs download --chip nRF52840_xxAA --probe 0483:374b --binary-format bin --base-address 0x00020000 slot-0.bin"
    );
}

#[test]
fn without_a_probe_there_is_a_file_to_drag() {
    let tools = Tools::new();
    tools.add("probe-rs", "No debug probes were found.");
    tools.flash("pico2", &["--policy-only"]).success().stderr(
        contains("finds no debug probe")
            .and(contains("1. hold BOOTSEL"))
            .and(contains("robot.uf2 to the drive RP2350")),
    );
    assert!(tools.calls().is_empty());
}

#[test]
fn dfu_util_runs_once_the_boot_loader_listens() {
    let tools = Tools::new();
    tools.add("probe-rs", "No debug probes were found.");
    tools.add("dfu-util", "");
    let waiting = tools.flash("feather-f405", &["--policy-only"]).success();
    waiting.stderr(contains("1. connect the pin B0").and(contains(
        "2. dfu-util --alt 0 --device 0483:df11 --dfuse-address 0x08020000 --download",
    )));
    assert!(tools.calls().is_empty());

    tools.add("dfu-util", "Found DFU: [0483:df11] ver=2200, alt=0");
    tools.flash("feather-f405", &["--policy-only"]).success();
    let download = "dfu-util --alt 0 --device 0483:df11 --dfuse-address";
    assert_eq!(
        tools.calls(),
        [
            format!("{download} 0x08020000 --download slot-0.bin"),
            format!("{download} 0x08080000:leave --download slot-1.bin"),
        ]
    );
}

#[test]
fn what_does_not_fit_is_refused_with_a_remedy() {
    let tools = Tools::new();
    tools.add("probe-rs", "No debug probes were found.");
    let elsewhere = tools.image(0x0000_0000, b"a program");
    let elsewhere = ["--image", elsewhere.to_str().unwrap()];
    tools
        .flash("nucleo-h743zi", &elsewhere)
        .code(1)
        .stderr(contains("not where this board has its program"));
    let asked = ["--policy-only", "--probe", "0483:374b"];
    tools
        .flash("nucleo-h743zi", &asked)
        .code(1)
        .stderr(contains("connect it by USB"));
    tools
        .flash("toaster", &[])
        .code(2)
        .stderr(contains("[possible values: pico, pico2, nucleo-h743zi"));
    let text = tools.0.path().join("not-a-policy.dtb");
    fs::write(&text, "hello").unwrap();
    Command::cargo_bin("xtask")
        .unwrap()
        .args(["firmware", "flash", "--board", "pico", "--policy"])
        .arg(&text)
        .assert()
        .code(1)
        .stderr(contains("not-a-policy.dtb is no usable policy file"));
}

/// A file that was written for a board.
fn written(board: &str, name: &str) -> PathBuf {
    let folder = Path::new("boards/flash").join(board);
    let target = Path::new(env!("CARGO_BIN_EXE_xtask"))
        .ancestors()
        .find(|target| target.join(&folder).is_dir());
    target.unwrap().join(folder).join(name)
}

/// A seal takes the place of the header that the device would count; without one, nothing goes to a board that would not run it.
#[test]
fn a_seal_goes_into_the_slot_and_is_asked_for() {
    let tools = Tools::new();
    let folder = tempfile::tempdir().unwrap();
    let [key, seal] = ["robot.key", "F.seal"].map(|name| folder.path().join(name));
    let xtask = |arguments: &[&str]| {
        let mut command = Command::cargo_bin("xtask").unwrap();
        command.arg("firmware").args(arguments).assert().success();
    };
    xtask(&["keygen", "--out", key.to_str().unwrap()]);
    let (key, seal) = (key.to_str().unwrap(), seal.to_str().unwrap());
    xtask(&[
        "sign",
        POLICY,
        "--key",
        key,
        "--sequence",
        "7",
        "--out",
        seal,
    ]);
    tools
        .flash("pico", &["--policy-only", "--seal", seal])
        .success();
    let uf2 = fs::read(written("pico", "robot.uf2")).unwrap();
    let header = fs::read(seal).unwrap();
    assert_eq!(
        uf2[32..32 + header.len()],
        header[..],
        "the first block's content"
    );

    let mut other = header.clone();
    other[20] ^= 1; // the policy's checksum, which the header's own no longer covers
    fs::write(seal, other).unwrap();
    tools
        .flash("pico", &["--policy-only", "--seal", seal])
        .failure()
        .stderr(contains("is no seal"));
    tools
        .flash_with_key(&"1f".repeat(32), "pico", &["--policy-only"])
        .failure()
        .stderr(contains("give its --seal"));
}

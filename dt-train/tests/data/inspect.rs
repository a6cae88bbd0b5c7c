//! `dt-train inspect` of trajectory files.

use std::path::Path;
use std::process::Output;

use crate::d4rl::file;
use crate::origin::{TINY, write};
use crate::{dt_train, text};

#[test]
fn nobody_need_read_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), |_| ());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_dt-train"))
        .arg("inspect")
        .arg(path)
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}

#[test]
fn a_cause_is_said_once() {
    dt_train(&["train", "--data", "a", "--out", "b", "--config", "c.toml"])
        .assert()
        .code(1)
        .stderr(
            "error: cannot read config c.toml: No such file or directory (os error 2); \
             give a file, or a recipe by name: default, paper, gym-short, bc, td3bc, iql, awr, cql, pendulum, cartpole, \
             graph, key-to-door, minatar, atari, atari-paper\n",
        );
}

/// Data may come from anywhere, and what they call their environment may be a command.
#[test]
fn no_data_run_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let path = file(folder.path(), |file| {
        let attribute = file.new_attr::<hdf5::types::VarLenUnicode>();
        let name = format!("plant:touch {}", mark.display());
        let attribute = attribute.create("env").unwrap();
        attribute.write_scalar(&text(&name)).unwrap();
    });
    dt_train(&["inspect", path.to_str().unwrap()])
        .assert()
        .success();
    assert!(!mark.exists());
}

#[test]
fn inspect_summarizes() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), |_| ());
    let output = dt_train(&["inspect", path.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!({
        "kind": "dataset", "state_dim": 3, "act_dim": 2, "transitions": 5, "episodes": 2, "unfinished_steps": 1,
        "observation_space": "Box(3), no bounds named", "action_space": "Box(2), no bounds named",
        "last_observations": 0,
        "notes": ["only 2 episode(s): what is learned from so few seldom holds beyond them"],
        "state_low": [0.0, 1.0, 2.0], "state_high": [9.0, 10.0, 11.0],
        "action_low": [0.0, 1.0], "action_high": [6.0, 7.0],
        "return_mean": 3.0, "return_std": 2.0, "return_min": 1.0, "return_max": 5.0,
        "return_p10": 1.4, "return_p50": 3.0, "return_p90": 4.6,
        "suggested_target_returns": [5.0, 4.6, 3.0], "suggested_return_scale": 5.0,
    });
    assert!(summary.get("episode_returns").is_none());
    let listed = dt_train(&["inspect", path.to_str().unwrap(), "--json", "--episodes"]);
    let listed: serde_json::Value =
        serde_json::from_slice(&{ listed }.output().unwrap().stdout).unwrap();
    assert_eq!(listed["episode_returns"], serde_json::json!([1.0, 5.0]));
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&summary[key], value, "{key}");
    }
    let table = dt_train(&["inspect", path.to_str().unwrap()])
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("return       3.00 ± 2.00, 1.00…5.00"),
        "{table}"
    );
    assert!(
        table.contains("episodes     2, 2 steps each, 1 terminated\n"),
        "{table}"
    );
    let suggested =
        "\nsuggested    --set data.return_scale=5.0 --set 'eval.target_returns=[5.0, 4.6, 3.0]'\n";
    assert!(table.contains(suggested), "{table}");
}

/// What `inspect` says at its end of data in `folder`, and how its last line fares in a shell, with
/// `more` options.
pub fn next(folder: &Path, paths: &str, more: &str) -> (String, Output) {
    let inspect = format!("inspect {paths}");
    let inspect: Vec<&str> = inspect.split(' ').collect();
    let mut inspect = dt_train(&inspect);
    let output = inspect.current_dir(folder).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let (_, next) = table.split_once("\nnext         ").unwrap();
    let command = next.trim_end().lines().last().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_dt-train"));
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("{command} {more}")])
        .current_dir(folder)
        .env("PATH", program.parent().unwrap())
        .output();
    (next.to_owned(), output.unwrap())
}

#[test]
fn the_command_that_inspect_ends_with_works() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    file(folder, |_| ());
    write(&folder.join("swing&up.hdf5"), "Pendulum-v1");
    let (said, output) = next(folder, "swing&up.hdf5", TINY);
    assert!(
        said.starts_with("this trains for `pendulum` and evaluates in it\n"),
        "{said}"
    );
    assert!(
        said.contains("--config pendulum --set 'eval.target_returns=["),
        "{said}"
    );
    assert!(output.status.success(), "{output:?}");
    assert!(folder.join("runs/swing&up/best.safetensors").exists());

    let (said, output) = next(folder, "data.hdf5", TINY);
    assert!(
        said.starts_with("no environment is named: this trains without evaluation;"),
        "{said}"
    );
    assert!(
        said.contains("--set 'control.action_high=[6.0, 7.0]' --set control.period_us=20000\n"),
        "{said}"
    );
    assert!(output.status.success(), "{output:?}");

    write(&folder.join("new.hdf5"), "Lander-v9");
    let (said, output) = next(folder, "new.hdf5 --max-episode-steps 9", TINY);
    assert!(
        said.starts_with(
            "this version has no `lander-v9`: if it is a simulator of your own, type --plant"
        ),
        "{said}"
    );
    assert!(said.contains("new.hdf5 --max-episode-steps 9 "), "{said}");
    assert!(output.status.success(), "{output:?}");

    // Of another shape than this version's.
    write(&folder.join("other.hdf5"), "Hopper-v5");
    let (said, output) = next(folder, "other.hdf5", TINY);
    assert!(
        said.starts_with("the data's `hopper` is another than this version's:"),
        "{said}"
    );
    assert!(output.status.success(), "{output:?}");
    // So the run is of none, and was evaluated in none.
    let run = std::fs::read_to_string(folder.join("runs/other/run.json")).unwrap();
    assert!(run.contains("\"env\": \"\""), "{run}");
    assert!(!folder.join("runs/other/best.safetensors").exists());
    // What nobody decided is refused, with the way out.
    let refused = dt_train(&["train", "--data", "other.hdf5", "--out", "runs/refused"])
        .current_dir(folder)
        .assert()
        .code(1);
    refused.stderr(predicates::str::contains(
        "environment `hopper` has 11 and 3; name the environment the data come from with --env, or train without \
         evaluation with --env none",
    ));

    let (said, output) = next(folder, "new.hdf5,other.hdf5", TINY);
    assert!(
        said.starts_with("the files are of several environments; give those of one\n"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

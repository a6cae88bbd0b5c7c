//! `dt-train inspect` of trajectory files.

use crate::d4rl::file;
use crate::dt_train;

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
             give a file, or a recipe by name: paper, gym-short, bc, pendulum\n",
        );
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
        "last_observations": 0, "notes": [],
        "state_low": [0.0, 1.0, 2.0], "state_high": [9.0, 10.0, 11.0],
        "action_low": [0.0, 1.0], "action_high": [6.0, 7.0],
        "return_mean": 3.0, "return_std": 2.0, "return_min": 1.0, "return_max": 5.0,
        "return_p10": 1.4, "return_p50": 3.0, "return_p90": 4.6,
        "suggested_target_returns": [5.0, 4.6, 3.0], "suggested_return_scale": 5.0,
    });
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
    assert!(
        table.ends_with(
            "\nsuggested    --set data.return_scale=5.0 --set 'eval.target_returns=[5.0, 4.6, 3.0]'\n"
        ),
        "{table}"
    );
}

//! Every command of `host-sim`, and every error a user can make.

mod common;
mod workplace;

use host_sim::evaluation::Evaluation;
use predicates::prelude::*;
use predicates::str::contains;
use workplace::Workplace;

/// A folder with a policy for the pendulum in it.
fn workplace() -> Workplace {
    let w = Workplace::new();
    w.policy("p.dtb", "pendulum", 3, 1);
    w
}

const ROLLOUT: &str = "rollout p.dtb --env pendulum --target-return -150 --episodes 5 --seed 7";

#[test]
fn rollout_prints_a_table_and_writes_json() {
    let w = workplace();
    w.run(&format!("{ROLLOUT} --json out.json"))
        .success()
        .stdout(contains("p.dtb in pendulum: 5 episode(s), seeds 7 to 11"))
        .stdout(contains("\n      -150 "))
        .stderr("");
    let e: Evaluation = serde_json::from_str(&w.read("out.json")).unwrap();
    assert_eq!((e.env.as_str(), e.policy.as_str()), ("pendulum", "p.dtb"));
    assert_eq!(e.target_return, -150.0);
    let seeds: Vec<u64> = e.episodes.iter().map(|e| e.seed).collect();
    assert_eq!(seeds, [7, 8, 9, 10, 11]);
    assert!(e.episodes.iter().all(|e| e.length == 200));
    let returns = e.episodes.iter().map(|e| e.total_reward);
    assert_eq!(e.mean_return, returns.sum::<f64>() / 5.0);
    let score = 100.0 * (e.mean_return + 1228.31) / (-138.44 + 1228.31);
    assert_eq!(e.normalized_score, Some(score));
}

#[test]
fn without_a_target_the_policy_asks_for_its_own() {
    let w = workplace();
    let own = ROLLOUT.replace("--target-return -150 ", "");
    w.run(&format!("{own} --json own.json")).success();
    w.run(&format!("{ROLLOUT} --json asked.json")).success();
    assert_eq!(w.read("own.json"), w.read("asked.json"));
}

#[test]
fn several_targets_give_an_array() {
    let w = workplace();
    let several = ROLLOUT.replace("-150", "-150,-300.1");
    w.run(&format!("{several} --json out.json"))
        .success()
        .stdout(contains("5 episode(s) per target"))
        .stdout(contains("\n    -300.1 "));
    let all: Vec<Evaluation> = serde_json::from_str(&w.read("out.json")).unwrap();
    // A target is an f32, printed as the number it is.
    let targets: Vec<f64> = all.iter().map(|e| e.target_return).collect();
    assert_eq!(targets, [-150.0, f64::from(-300.1_f32)]);
    w.run(&format!("{ROLLOUT} --json alone.json")).success();
    let alone: Evaluation = serde_json::from_str(&w.read("alone.json")).unwrap();
    assert_eq!(all[0], alone);
}

#[test]
fn json_on_stdout_moves_the_table_to_stderr() {
    let w = workplace();
    let output = w
        .run(&format!("{ROLLOUT} --json -"))
        .success()
        .stderr(contains("p.dtb in pendulum"))
        .get_output()
        .stdout
        .clone();
    serde_json::from_slice::<Evaluation>(&output).unwrap();
}

#[test]
fn nobody_need_read_the_table() {
    let w = workplace();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let args = format!("{ROLLOUT} --json out.json");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_host-sim"))
        .args(args.split(' '))
        .current_dir(w.path(""))
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    serde_json::from_str::<Evaluation>(&w.read("out.json")).unwrap();
}

#[test]
fn threads_do_not_change_a_byte_of_any_output() {
    let w = workplace();
    for threads in ["1", "2", "3"] {
        w.run(&format!(
            "{ROLLOUT} --threads {threads} --json {threads}.json --record {threads}.trace"
        ))
        .success();
        assert_eq!(w.read("1.json"), w.read(&format!("{threads}.json")));
        let bytes = |name: &str| std::fs::read(w.path(name)).unwrap();
        let trace = bytes(&format!("{threads}.trace"));
        assert_eq!(trace.len(), 48 + 5 * (16 + 200 * 5 * 4));
        assert!(trace == bytes("1.trace"));
    }
}

#[test]
fn existing_outputs_are_kept_unless_forced() {
    let w = workplace();
    w.write("out", "precious");
    for option in ["--json", "--record"] {
        w.run(&format!("{ROLLOUT} {option} out"))
            .code(1)
            .stdout("")
            .stderr(contains("out already exists").and(contains("--force")));
    }
    assert_eq!(w.read("out"), "precious");
    w.run(&format!("{ROLLOUT} --json out --force")).success();
    assert_ne!(w.read("out"), "precious");
    w.run(&format!("{ROLLOUT} --json no/out"))
        .code(1)
        .stderr(contains("no does not exist"));
    assert_eq!(w.files(), ["out", "p.dtb"], "nothing half-written is left");
}

#[test]
fn unusable_policies_are_named() {
    let w = workplace();
    let run = |name: &str| w.run(&ROLLOUT.replace("p.dtb", name)).code(1).stdout("");
    run("none.dtb").stderr(contains("cannot read policy none.dtb"));
    w.write("text.dtb", "this is not a policy at all, merely text");
    run("text.dtb").stderr(contains("text.dtb: ").and(contains("dt-train export")));
    let whole = std::fs::read(w.path("p.dtb")).unwrap();
    w.write("cut.dtb", &whole[..whole.len() - 1]);
    run("cut.dtb").stderr(contains("cut.dtb: "));
    w.policy("hopper.dtb", "hopper", 11, 3);
    run("hopper.dtb").stderr(contains(
        "hopper.dtb: the policy was trained for environment `hopper`",
    ));
    w.policy("wide.dtb", "", 4, 1);
    run("wide.dtb").stderr(contains("wide.dtb: the policy has state_dim 4"));
}

#[test]
fn target_returns_that_are_not_finite_are_refused() {
    let w = workplace();
    for target in ["nan", "-inf", "1e39", "-150,inf"] {
        w.run(&ROLLOUT.replace("-150", target))
            .code(1)
            .stdout("")
            .stderr(contains("--target-return").and(contains("finite")));
    }
}

/// What goes wrong with a board says what to type.
#[test]
fn boards_that_are_not_there_are_named() {
    let w = workplace();
    let on = |controller: &str, message: &str| {
        w.run(&format!("{ROLLOUT} --controller {controller}"))
            .code(1)
            .stdout("")
            .stderr(contains(message));
    };
    on("serial:nowhere", "cannot open nowhere: No such file");
    on("serial:nowhere", "ls /dev/ttyACM*");
    on(
        "qemu:m7 --image robot",
        "--image: there is no robot; build it with `cargo xtask firmware build --bin robot --board m7 --policy F.dtb`",
    );
    on("pico", "this has to be the project's folder");
    // A file is no device.
    on("serial:pendulum.dtb", "cannot open pendulum.dtb");
}

#[cfg(feature = "monitor")]
#[test]
fn the_monitor_wants_a_terminal() {
    let w = workplace();
    w.run("monitor /dev/null")
        .code(1)
        .stdout("")
        .stderr(contains("the monitor draws on a terminal"));
    w.run("monitor qemu:m5")
        .code(2)
        .stderr(contains("known: m4f"));
}

#[test]
fn wrong_usage_exits_with_two() {
    let w = workplace();
    let wrong = |from: &str, to: &str, message: &str| {
        w.run(&ROLLOUT.replace(from, to))
            .code(2)
            .stdout("")
            .stderr(contains(message));
    };
    wrong("pendulum", "pendlum", "did you mean `pendulum`?");
    wrong("pendulum", "hoper", "did you mean `hopper`?");
    wrong("--episodes 5", "--episodes 0", "--episodes");
    wrong("--episodes 5", "", "--episodes");
    wrong("-150", "low", "--target-return");
    wrong("--seed 7", "--seed x", "--seed");
    wrong(
        "--seed 7",
        "--controller cloud",
        "expected host, qemu, qemu:BOARD, pico or serial:DEV",
    );
    wrong(
        "--seed 7",
        "--controller qemu:m5",
        "no board `m5` is emulated with a wire; known: m4f, m7, m3, m0plus, m33, m55",
    );
    wrong(
        "--seed 7",
        "--controller serial:/dev/ttyACM0@fast",
        "`fast` is no baud rate; write e.g. /dev/ttyACM0@115200",
    );
    wrong(
        "--seed 7",
        "--image robot",
        "--image is of use with --controller qemu only",
    );
    #[cfg(feature = "draw")]
    wrong(
        "--seed 7",
        "--render film.mp4",
        "--render: film.mp4: pictures are .gif or .png",
    );
    #[cfg(not(feature = "draw"))]
    wrong("--seed 7", "--render out.gif", "without; build it with");
    wrong(
        "--seed 7",
        "--json out --record out",
        "--json and --record name the same file",
    );
    w.run("").code(2);
    #[cfg(not(feature = "mujoco"))]
    w.run("replay --env hopper in.jsonl")
        .code(2)
        .stderr(contains("needs MuJoCo").and(contains("--features mujoco")));
    w.run("replay --env nothing in.jsonl")
        .code(2)
        .stderr(contains("unknown environment `nothing`; known: pendulum"));
}

#[test]
fn replay_reads_files_and_stdin() {
    let w = workplace();
    let input = "{\"qpos\":[1.0],\"qvel\":[0.5]}\n{\"action\":[0.1]}\n{\"action\":[-0.25]}\n";
    w.write("in.jsonl", input);
    let from_file = w.run("replay --env pendulum in.jsonl").success().stderr("");
    let from_stdin = w
        .command("replay --env pendulum -")
        .write_stdin(input)
        .assert()
        .success();
    let text = String::from_utf8(from_file.get_output().stdout.clone()).unwrap();
    assert_eq!(text.as_bytes(), from_stdin.get_output().stdout);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    // 1 + 0.1·0.25 + 0.001·0.1², the last term in f32.
    let cost = 1.0 + 0.1 * 0.25 + f64::from(0.001 * (0.1_f32 * 0.1));
    assert_eq!(lines[0]["reward"], -cost);
    assert_eq!(lines[0]["terminated"], false);
    assert_eq!(lines[0]["truncated"], false);
    assert_eq!(lines[0]["observation"].as_array().unwrap().len(), 3);
}

#[test]
fn replay_names_the_bad_line() {
    let w = workplace();
    let bad = |contents: &str, message: &str| {
        w.write("in.jsonl", contents);
        w.run("replay --env pendulum in.jsonl")
            .code(1)
            .stderr(contains(message));
    };
    bad(
        "",
        "in.jsonl: line 1: the input ends; expected the initial state",
    );
    bad(
        "{\"qpos\":[1]}",
        "in.jsonl: line 1: column 12: missing field `qvel`; expected the initial",
    );
    let start = "{\"qpos\":[1],\"qvel\":[0]}\n";
    bad(
        &format!("{start}{{\"action\":[0]}}\n{{\"action\":[0,0]}}\n"),
        "in.jsonl: line 3: the action has 2 value(s); expected {\"action\":[…]} with 1",
    );
    w.run("rollout none.dtb --env pendulum --target-return 0 --episodes 1 --seed 0")
        .code(1)
        .stderr("error: cannot read policy none.dtb: No such file or directory (os error 2)\n");
    w.run("replay --env pendulum none.jsonl")
        .code(1)
        .stderr(contains("cannot read none.jsonl"));
    w.write("in.jsonl", b"\xff\xfe\n");
    w.run("replay --env pendulum in.jsonl")
        .code(1)
        .stderr(contains("line 1"));
}

#[test]
fn help_and_version() {
    let w = workplace();
    w.run("--version").success().stdout(contains("host-sim"));
    w.run("rollout --help")
        .success()
        .stdout(contains("--target-return"));
}

//! MuJoCo environments from outside: rollouts, the example robot, and every error a user can make.
#![cfg(feature = "mujoco")]

mod common;

use std::path::PathBuf;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use common::{config, random_policy};
use dt_core::blob::RewardMode;
use host_sim::env::{Env, Fault, StateError};
use host_sim::report::Evaluation;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

const CARTPOLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/cartpole/cartpole.toml"
);

/// A weight on a slide, and a task for it; what is wrong with it replaces something in these.
const MODEL: &str = r#"<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body name="weight">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom size="0.1" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor name="push" joint="slide" ctrllimited="true" ctrlrange="-1 1"/></actuator>
</mujoco>"#;
const TASK: &str = r#"
model = "weight.xml"
frame_skip = 2
max_episode_steps = 50
observation = [{ qpos = {} }, { qvel = {} }]
reward = [{ velocity = { joint = "slide", weight = 1.0 } }]
reset = [{ qpos = { uniform = 0.1 } }]
"#;

struct Workplace(TempDir);

impl Workplace {
    fn new() -> Self {
        let workplace = Self(TempDir::new().unwrap());
        workplace.write("weight.xml", MODEL);
        workplace.write("weight.toml", TASK);
        workplace
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).unwrap();
    }

    /// A random policy for an environment.
    fn policy(&self, name: &str, env: &str, state_dim: u32, act_dim: u32) {
        let policy = random_policy(config(state_dim, act_dim), env, RewardMode::Observed);
        self.write(name, policy.bytes());
    }

    fn run(&self, arguments: &str) -> Assert {
        let mut command = Command::cargo_bin("host-sim").unwrap();
        command
            .current_dir(self.0.path())
            .args(arguments.split_whitespace())
            .assert()
    }

    fn evaluation(&self, name: &str) -> Evaluation {
        serde_json::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    /// The error of opening the task after `change`, which also is what the command line says.
    fn refused(&self, file: &str, from: &str, to: &str) -> String {
        let original = if file == "weight.xml" { MODEL } else { TASK };
        assert!(original.contains(from), "{from}");
        self.write(file, original.replace(from, to));
        let path = self.path("weight.toml");
        let message = host_sim::make(path.to_str().unwrap())
            .err()
            .unwrap()
            .to_string();
        self.run("replay --env weight.toml in.jsonl")
            .code(1)
            .stderr(contains("weight"));
        self.write(file, original);
        message
    }
}

#[test]
fn a_policy_runs_in_every_version() {
    let w = Workplace::new();
    w.policy("p.dtb", "hopper", 11, 3);
    for env in ["hopper", "hopper-v4", "hopper-v5"] {
        w.run(&format!(
            "rollout p.dtb --env {env} --target-return 3600 --episodes 4 --seed 5 --json {env}.json"
        ))
        .success()
        .stdout(contains(format!(
            "p.dtb in {env}: 4 episode(s), seeds 5 to 8"
        )))
        .stdout(contains("score"));
    }
    let [bare, v4, v5] =
        ["hopper", "hopper-v4", "hopper-v5"].map(|env| w.evaluation(&format!("{env}.json")));
    assert_eq!(bare.episodes, v5.episodes);
    let score = 100.0 * (bare.mean_return + 20.272305) / (3234.3 + 20.272305);
    assert_eq!(bare.normalized_score, Some(score));
    for (v4, v5) in v4.episodes.iter().zip(&v5.episodes) {
        assert!(
            v4.length == v5.length && v4.length < 1000,
            "a random policy falls"
        );
        // v4 also rewards the step that ends the episode.
        assert!((v4.total_reward - v5.total_reward - 1.0).abs() < 1e-9);
    }
    assert!(!w.path("MUJOCO_LOG.TXT").exists());
}

#[test]
fn threads_do_not_change_results() {
    let w = Workplace::new();
    w.policy("p.dtb", "walker2d", 17, 6);
    for threads in ["1", "2", "5"] {
        w.run(&format!(
            "rollout p.dtb --env walker2d --target-return 9 --episodes 11 --threads {threads} --json {threads}"
        ))
        .success();
    }
    assert_eq!(w.evaluation("1"), w.evaluation("2"));
    assert_eq!(w.evaluation("1"), w.evaluation("5"));
}

#[test]
fn an_instance_forgets_its_past() {
    for name in host_sim::registry::NAMES {
        let (mut used, mut fresh) = (host_sim::make(name).unwrap(), host_sim::make(name).unwrap());
        let action = vec![0.7; used.spec().act_dim];
        used.reset(1);
        for _ in 0..30 {
            used.step(&action);
        }
        used.reset(2);
        fresh.reset(2);
        for _ in 0..30 {
            assert_eq!(observed(used.as_ref()), observed(fresh.as_ref()), "{name}");
            assert_eq!(used.step(&action), fresh.step(&action), "{name}");
        }
    }
}

fn observed(env: &dyn Env) -> Vec<f64> {
    let mut observation = vec![0.0; env.spec().state_dim];
    env.observation_f64(&mut observation);
    let mut rounded = vec![0.0; env.spec().state_dim];
    env.observation(&mut rounded);
    let expected: Vec<f32> = observation.iter().map(|value| *value as f32).collect();
    assert_eq!(rounded, expected);
    observation
}

/// Mean and spread of the initial states, against the distributions in Gymnasium's source.
#[test]
fn initial_states_are_distributed_as_described() {
    let sample = |name: &str| -> Vec<Vec<f64>> {
        let mut env = host_sim::make(name).unwrap();
        (0..2000)
            .map(|seed| {
                env.reset(seed);
                observed(env.as_ref())
            })
            .collect()
    };
    let column =
        |rows: &[Vec<f64>], i: usize| -> Vec<f64> { rows.iter().map(|row| row[i]).collect() };
    let spread =
        |values: &[f64]| (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
    let largest = |values: &[f64]| values.iter().fold(0.0, |a: f64, b| a.max(b.abs()));

    let hopper = sample("hopper");
    // Height 1.25 ± 0.005; uniform, so the standard deviation is 0.005/√3.
    let height: Vec<f64> = column(&hopper, 0).iter().map(|z| z - 1.25).collect();
    assert!(largest(&height) <= 0.005 && (spread(&height) - 0.005 / 3f64.sqrt()).abs() < 1e-4);
    let speed = column(&hopper, 7);
    assert!(largest(&speed) <= 0.005 && (spread(&speed) - 0.005 / 3f64.sqrt()).abs() < 1e-4);

    let speed = column(&sample("halfcheetah"), 9);
    assert!(
        (spread(&speed) - 0.1).abs() < 0.005 && largest(&speed) > 0.25,
        "normal"
    );

    let reacher = sample("reacher");
    let target = reacher.iter().map(|row| row[4].hypot(row[5]));
    let inside = target.clone().filter(|r| *r < 0.1).count();
    assert!(
        target.clone().all(|r| r < 0.2) && (400..600).contains(&inside),
        "{inside}"
    );
    // The paper's target lies between 0.5 and 1 around the shoulder.
    let target = sample("reacher-dt")
        .into_iter()
        .map(|row| row[8].hypot(row[9]));
    let (low, high) = target.fold((9.0_f64, 0.0_f64), |(low, high), r| {
        (low.min(r), high.max(r))
    });
    assert!(
        (0.5..0.52).contains(&low) && (0.98..1.0).contains(&high),
        "{low} {high}"
    );
}

/// The pole of the example can be swung up: pushing with its swing pumps energy in.
#[test]
fn the_example_robot_works() {
    let mut env = host_sim::make(CARTPOLE).unwrap();
    let spec = env.spec();
    assert_eq!((spec.id, spec.state_dim, spec.act_dim), ("cartpole", 5, 1));
    assert_eq!(
        (spec.action_low, spec.action_high),
        (&[-1.0][..], &[1.0][..])
    );
    assert_eq!(
        (spec.control_period_us, spec.max_episode_steps),
        (20_000, 500)
    );
    assert_eq!(spec.state_high[4], 20.0);
    env.reset(3);
    let (mut total, mut best) = (0.0, -1.0_f64);
    for t in 1..=500 {
        let x = observed(env.as_ref());
        let (cos, swing) = (x[1], x[4]);
        // Accelerating the cart against the swing lifts the pole; a spring keeps the cart near the middle.
        let push = -0.35 * (swing * cos).signum() - 0.4 * x[0] - 0.2 * x[3];
        let step = env.step(&[push as f32]);
        let x = observed(env.as_ref());
        let action = f64::from(-0.01_f32 * (push as f32 * push as f32));
        assert_eq!(step.reward, -x[1] + -0.1 * (x[0] * x[0]) + action);
        assert_eq!(step.truncated, t == 500);
        total += step.reward;
        best = best.max(-x[1]);
        if step.terminated {
            break;
        }
    }
    assert!(
        best > 0.9,
        "the highest point is {best}, the return {total}"
    );
}

#[test]
fn states_of_the_wrong_size_are_refused() {
    let mut env = host_sim::make("hopper").unwrap();
    let error = env.set_state(&[0.0; 5], &[0.0; 6]).unwrap_err();
    assert!(matches!(
        error,
        StateError::WrongLength {
            field: "qpos",
            expected: 6,
            got: 5
        }
    ));
    let error = env
        .set_state(&[0.0; 6], &[0.0, f64::NAN, 0.0, 0.0, 0.0, 0.0])
        .unwrap_err();
    assert_eq!(
        error,
        StateError::NonFinite {
            field: "qvel",
            index: 1
        }
    );
}

/// A motor of 10³⁰⁰ N tears the weight out of the numbers.
#[test]
fn an_unstable_simulation_ends_the_episode_with_a_reason() {
    let w = Workplace::new();
    w.write(
        "weight.xml",
        MODEL.replace(
            "joint=\"slide\" ctrl",
            "joint=\"slide\" gear=\"1e300\" ctrl",
        ),
    );
    let mut env = host_sim::make(w.path("weight.toml").to_str().unwrap()).unwrap();
    env.reset(0);
    assert_eq!((env.fault(), env.step(&[0.0]).terminated), (None, false));
    let step = env.step(&[1.0]);
    assert_eq!(env.fault(), Some(Fault::Qacc));
    assert_eq!((step.terminated, step.reward), (true, 0.0));
    assert!(observed(env.as_ref()).iter().all(|value| value.is_finite()));
    env.reset(1);
    assert_eq!((env.fault(), env.step(&[0.0]).terminated), (None, false));
    env.step(&[f32::NAN]);
    assert_eq!(env.fault(), Some(Fault::Ctrl));

    w.policy("p.dtb", "weight", 2, 1);
    w.run("rollout p.dtb --env weight.toml --target-return 1 --episodes 3 --seed 4 --json out")
        .success()
        .stdout(contains("the simulation broke down at step 1 of seed 4: NaN, infinite or huge value in qacc; and in 2 more episode(s)"));
    let evaluation = w.evaluation("out");
    assert!(
        evaluation
            .episodes
            .iter()
            .all(|e| e.fault == Some(Fault::Qacc) && e.length == 1)
    );
    w.write(
        "in.jsonl",
        "{\"qpos\":[0],\"qvel\":[0]}\n{\"action\":[0]}\n{\"action\":[1]}\n",
    );
    let output = w.run("replay --env weight.toml in.jsonl").success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(!lines[0].contains("fault"));
    assert!(lines[1].ends_with("\"terminated\":true,\"truncated\":false,\"fault\":\"qacc\"}"));
    assert!(!w.path("MUJOCO_LOG.TXT").exists());
}

#[test]
fn missing_model_files_are_named_with_a_remedy() {
    let w = Workplace::new();
    w.policy("p.dtb", "hopper", 11, 3);
    let rollout = "rollout p.dtb --env hopper --target-return 1 --episodes 1";
    w.run(&format!("{rollout} --assets nowhere"))
        .code(1)
        .stdout("")
        .stderr(
            contains("there is no model file nowhere/hopper.xml").and(contains("--assets DIR")),
        );
    // A folder of one's own works: this hopper cannot jump.
    std::fs::create_dir(w.path("mine")).unwrap();
    let installed = host_sim::mujoco::model::assets(None)
        .unwrap()
        .join("hopper.xml");
    let heavy = std::fs::read_to_string(installed)
        .unwrap()
        .replace("gear=\"200.0\"", "gear=\"0.1\"");
    w.write("mine/hopper.xml", heavy);
    w.run(&format!("{rollout} --json normal")).success();
    w.run(&format!("{rollout} --assets mine --json heavy"))
        .success();
    assert_ne!(
        w.evaluation("normal").mean_return,
        w.evaluation("heavy").mean_return
    );

    let message = w.refused("weight.toml", "weight.xml", "weigth.xml");
    assert!(
        message.contains("weigth.xml; `model` is relative to the description's folder"),
        "{message}"
    );
    let missing = host_sim::make("none.toml").err().unwrap();
    assert!(
        missing.to_string().contains("cannot read none.toml"),
        "{missing}"
    );
    assert!(!missing.is_wrong_usage());
    w.run("replay --env none.toml in.jsonl")
        .code(1)
        .stderr("error: environment `none.toml` cannot be loaded: cannot read none.toml: No such file or directory (os error 2)\n");
}

#[test]
fn what_is_wrong_with_a_description_is_named() {
    let w = Workplace::new();
    let toml = |from: &str, to: &str, expected: &str| {
        let message = w.refused("weight.toml", from, to);
        assert!(
            message.contains("weight.toml: ") && message.contains(expected),
            "{message}"
        );
    };
    toml("frame_skip", "frame_skib", "unknown field `frame_skib`");
    toml(
        "frame_skip = 2",
        "frame_skip = 0",
        "frame_skip: must be at least 1",
    );
    toml(
        "max_episode_steps = 50",
        "",
        "missing field `max_episode_steps`",
    );
    toml(
        "qvel = {}",
        "qwel = {}",
        "unknown variant `qwel`, expected one of `qpos`, `qvel`",
    );
    toml(
        "qvel = {}",
        "qvel = { only = [\"slyde\"] }",
        "joint: the model has no joint `slyde`; it has: slide",
    );
    toml(
        "qvel = {}",
        "qvel = { only = [\"a\\u0000b\"] }",
        "the model has no joint",
    );
    toml(
        "qvel = {}",
        "qvel = { only = [], except = [] }",
        "takes either only or except",
    );
    toml(
        "qvel = {}",
        "qvel = { clip = -1.0 }",
        "observation.clip: must be positive",
    );
    toml(
        "qvel = {}",
        "offset = { to = \"weight\", from = \"wall\" }",
        "body: the model has no body `wall`; it has: world, weight",
    );
    toml(
        "qvel = {}",
        "offset = { to = \"weight\", from = \"world\", axes = 4 }",
        "must be 1, 2 or 3",
    );
    toml(
        "qvel = {}",
        "sensor = { name = \"imu\" }",
        "the model has no sensor `imu`",
    );
    toml(
        "[{ qpos = {} }, { qvel = {} }]",
        "[]",
        "observation: is empty",
    );
    toml(
        "uniform = 0.1",
        "",
        "needs exactly one of uniform, normal and ring",
    );
    toml("uniform = 0.1", "uniform = nan", "is no distribution");
    toml(
        "uniform = 0.1",
        "ring = [0.0, 0.1]",
        "reset.ring: needs 2 values, selected are 1",
    );
    let healthy = "healthy = [{ qpos = { within = [1.0, 1.0] } }]\nreset";
    toml(
        "reset",
        healthy,
        "healthy.within: must be [low, high] with low < high",
    );
}

#[test]
fn what_is_wrong_with_a_model_is_named() {
    let w = Workplace::new();
    let xml = |from: &str, to: &str, expected: &str| {
        let message = w.refused("weight.xml", from, to);
        assert!(message.contains(expected), "{message}");
    };
    xml("</mujoco>", "", "weight.xml: XML parse error");
    xml("type=\"slide\"", "type=\"slider\"", "line 5");
    xml("mass=\"1\"", "mass=\"-1\"", "weight.xml: ");
    xml("joint=\"slide\"", "joint=\"slyde\"", "slyde");
    xml(
        "ctrllimited=\"true\" ctrlrange=\"-1 1\"",
        "",
        "actuator `push` has no ctrlrange",
    );
    let actuator = "<actuator><motor name=\"push\" joint=\"slide\" ctrllimited=\"true\" ctrlrange=\"-1 1\"/></actuator>";
    xml(actuator, "", "has no actuators");
    xml(
        "type=\"slide\" axis=\"1 0 0\"",
        "type=\"ball\"",
        "joint `slide` is neither a slide nor a hinge",
    );
}

#[test]
fn policies_of_other_dimensions_are_refused() {
    let w = Workplace::new();
    w.policy("p.dtb", "reacher", 10, 2);
    let rollout = |env: &str| {
        w.run(&format!(
            "rollout p.dtb --env {env} --target-return -4 --episodes 1"
        ))
    };
    rollout("reacher").success();
    // v4 also observes the height difference.
    rollout("reacher-v4").code(1).stderr(contains(
        "p.dtb: the policy has state_dim 10, but environment `reacher-v4` has state_dim 11",
    ));
    rollout("hopper")
        .code(1)
        .stderr(contains("trained for environment `reacher`, not `hopper`"));
}

/// Needs EGL, which Mesa gives without a GPU.
#[test]
fn episodes_are_drawn_with_target_and_return() {
    let w = Workplace::new();
    w.policy("p.dtb", "hopper", 11, 3);
    let rollout = "rollout p.dtb --env hopper --target-return 3600 --episodes 2 --seed 5";
    for format in ["gif", "png"] {
        w.run(&format!(
            "{rollout} --render film.{format} --json {format}.json"
        ))
        .success();
    }
    w.run(&format!("{rollout} --json without.json")).success();
    assert_eq!(w.evaluation("gif.json"), w.evaluation("without.json"));

    let sheet = image::open(w.path("film.png")).unwrap().to_rgb8();
    assert_eq!(sheet.dimensions(), (3 * 400, 2 * 300));
    let moment = |i: u32| {
        let (x, y) = (i % 3 * 400, i / 3 * 300);
        image::imageops::crop_imm(&sheet, x, y, 400, 300).to_image()
    };
    // The caption changes with the return, and the robot moves in what is not under the caption.
    let caption = |i| image::imageops::crop_imm(&moment(i), 6, 6, 130, 60).to_image();
    let scene = |i| image::imageops::crop_imm(&moment(i), 150, 70, 250, 230).to_image();
    assert_ne!(caption(0), caption(5));
    assert_ne!(scene(0), scene(5));

    let file = std::fs::File::open(w.path("film.gif")).unwrap();
    let mut reader = gif::DecodeOptions::new().read_info(file).unwrap();
    let (mut frames, mut time) = (0, 0);
    while let Some(frame) = reader.read_next_frame().unwrap() {
        assert_eq!((frame.width, frame.height), (400, 300));
        frames += 1;
        time += u32::from(frame.delay);
    }
    // 8 ms per step; the last picture stays for 2 s.
    let steps = w.evaluation("gif.json").episodes[0].length;
    assert_eq!(frames, steps.div_ceil(5) + 1);
    assert!(
        (steps * 4 / 5).abs_diff(time - 200) <= 2,
        "{steps} steps in {time} hundredths of a second"
    );

    w.run(&format!("{rollout} --render film.gif"))
        .code(1)
        .stderr(contains("film.gif already exists"));
    w.run(&format!("{rollout} --render film.mp4"))
        .code(2)
        .stderr(contains("pictures are .gif or .png"));
    let pendulum =
        "rollout p.dtb --env pendulum --target-return 1 --episodes 1 --render film.gif --force";
    w.run(pendulum).code(1);
}

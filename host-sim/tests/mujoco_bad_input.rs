//! Every error a user of MuJoCo environments can make, and simulations that break down.
#![cfg(feature = "mujoco")]

mod common;
mod workplace;

use host_sim::env::Fault;
use predicates::prelude::*;
use predicates::str::contains;
use workplace::Workplace;

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

fn weight() -> Workplace {
    let w = Workplace::new();
    w.write("weight.xml", MODEL);
    w.write("weight.toml", TASK);
    w
}

/// The error of opening the task after `change`, which also is what the command line says.
fn refused(w: &Workplace, file: &str, from: &str, to: &str) -> String {
    let original = if file == "weight.xml" { MODEL } else { TASK };
    assert!(original.contains(from), "{from}");
    w.write(file, original.replace(from, to));
    let path = w.path("weight.toml");
    let message = host_sim::make(path.to_str().unwrap())
        .err()
        .unwrap()
        .to_string();
    w.run("replay --env weight.toml in.jsonl")
        .code(1)
        .stderr(contains("weight"));
    w.write(file, original);
    message
}

/// A weight that accelerates at 6·10⁷ m/s² for 10 s at a time leaves the numbers that MuJoCo takes for positions (±10¹⁰)
/// before it leaves those for speeds.
#[test]
fn a_position_out_of_bounds_is_a_reason_too() {
    let w = weight();
    let model = MODEL.replace("timestep=\"0.01\"", "timestep=\"10\"");
    let model = model.replace("joint=\"slide\" ctrl", "joint=\"slide\" gear=\"6e7\" ctrl");
    w.write("weight.xml", model);
    let mut env = host_sim::make(w.path("weight.toml").to_str().unwrap()).unwrap();
    env.reset(0);
    let steps: Vec<_> = (0..2).map(|_| env.step(&[1.0])).collect();
    assert_eq!(env.fault(), Some(Fault::Qpos));
    assert_eq!((steps[0].terminated, steps[1].terminated), (false, true));
    assert_eq!(steps[1].reward, 0.0);
}

/// A motor of 10³⁰⁰ N tears the weight out of the numbers.
#[test]
fn an_unstable_simulation_ends_the_episode_with_a_reason() {
    let w = weight();
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
    let mut observation = [f64::NAN; 2];
    env.observation_f64(&mut observation);
    assert!(observation.iter().all(|value| value.is_finite()));
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
    let w = weight();
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

    let message = refused(&w, "weight.toml", "weight.xml", "weigth.xml");
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
    let w = weight();
    let toml = |from: &str, to: &str, expected: &str| {
        let message = refused(&w, "weight.toml", from, to);
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
    let w = weight();
    let xml = |from: &str, to: &str, expected: &str| {
        let message = refused(&w, "weight.xml", from, to);
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
    let w = weight();
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
    w.policy("p.dtb", "", 11, 2);
    rollout("hopper").code(1).stderr(contains(
        "p.dtb: the policy has act_dim 2, but environment `hopper` has act_dim 3",
    ));
}

/// A library that says it is another version, put before the real one.
#[cfg(target_os = "linux")]
#[test]
fn another_version_of_mujoco_is_refused() {
    let w = weight();
    w.write(
        "other.c",
        "const char *mj_versionString(void) { return \"3.3.2\"; }",
    );
    let compiled = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-o", "libother.so", "other.c"])
        .current_dir(w.path(""))
        .status()
        .unwrap();
    assert!(compiled.success());
    w.command("replay --env weight.toml in.jsonl")
        .env("LD_PRELOAD", w.path("libother.so"))
        .assert()
        .code(1)
        .stdout("")
        .stderr(contains(
            "this program needs MuJoCo 3.17.0 but found 3.3.2; run `cargo xtask setup` and build it again",
        ));
    // Without MuJoCo nothing of it is asked.
    w.command("replay --env pendulum in.jsonl")
        .env("LD_PRELOAD", w.path("libother.so"))
        .assert()
        .code(1)
        .stderr(contains("cannot read in.jsonl"));
}

//! host-sim's MuJoCo environments against Gymnasium's, step by step, to the bit.
//!
//! `reference/mujoco_episodes.py` runs Gymnasium 1.4 while the test runs: every environment and
//! version, four kinds of actions, whole episodes and beyond. The same library and the same order of
//! operations must give the same bits, on whatever machine this is.
#![cfg(feature = "mujoco")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use host_sim::replay::replay;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Start(Start),
    Step(Step),
}

#[derive(Deserialize)]
struct Start {
    env: String,
    seed: u64,
    qpos: Vec<f64>,
    qvel: Vec<f64>,
}

#[derive(Deserialize)]
struct Step {
    action: Vec<f64>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Outcome {
    observation: Vec<f64>,
    reward: f64,
    terminated: bool,
    truncated: bool,
}

struct Episode {
    start: Start,
    steps: Vec<Step>,
}

fn gymnasium() -> Vec<Episode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // MuJoCo's Python bindings leave a log where they run.
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(root.join(".deps/python"))
        .arg(root.join("tests/reference/mujoco_episodes.py"))
        .arg(root.join("host-sim/src/mujoco/tasks/reacher-dt.xml"))
        .current_dir(folder.path())
        .output()
        .expect("`cargo xtask setup` has been run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let mut episodes: Vec<Episode> = Vec::new();
    for line in std::str::from_utf8(&output.stdout).unwrap().lines() {
        match serde_json::from_str(line).unwrap() {
            Line::Start(start) => episodes.push(Episode {
                start,
                steps: Vec::new(),
            }),
            Line::Step(step) => episodes.last_mut().unwrap().steps.push(step),
        }
    }
    episodes
}

fn host_sim(episode: &Episode) -> Vec<Outcome> {
    let Start { qpos, qvel, .. } = &episode.start;
    let mut input = serde_json::json!({"qpos": qpos, "qvel": qvel}).to_string();
    for step in &episode.steps {
        input += &format!("\n{}", serde_json::json!({"action": step.action}));
    }
    let mut env = host_sim::make_reference(&episode.start.env).unwrap();
    let mut output = Vec::new();
    replay(env.as_mut(), input.as_bytes(), &mut output).unwrap();
    let lines = std::str::from_utf8(&output).unwrap().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Reacher's reward holds a norm, which NumPy leaves to a BLAS that fuses products and sums where the processor has a kernel for it
/// (with AVX-512, for one) and elsewhere not. Nothing else is computed by it.
const NORM_ULPS: u64 = 2;

/// How many numbers lie between two of the same sign.
fn ulps(a: f64, b: f64) -> u64 {
    a.to_bits().abs_diff(b.to_bits())
}

#[test]
fn replay_is_gymnasium_to_the_bit() {
    let mut seen: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for episode in gymnasium() {
        let Start { env, seed, .. } = &episode.start;
        let ours = host_sim(&episode);
        assert_eq!(ours.len(), episode.steps.len(), "{env}, seed {seed}");
        for (t, (ours, theirs)) in ours.iter().zip(&episode.steps).enumerate() {
            let mut expected = theirs.outcome.clone();
            if env.starts_with("reacher") && ulps(ours.reward, expected.reward) <= NORM_ULPS {
                expected.reward = ours.reward;
            }
            assert_eq!(*ours, expected, "{env}, seed {seed}, step {t}");
        }
        assert!(ours.last().unwrap().truncated);
        let (episodes, falls) = seen.entry(env.clone()).or_default();
        *episodes += 1;
        *falls += usize::from(ours.iter().any(|step| step.terminated));
    }
    // The comparison is of what it claims to be: all tasks, and episodes that end by a fall.
    let expected = [
        ("halfcheetah-v4", (4, 0)),
        ("halfcheetah-v5", (4, 0)),
        ("hopper-v4", (4, 4)),
        ("hopper-v5", (4, 4)),
        ("reacher-dt", (4, 0)),
        ("reacher-v4", (4, 0)),
        ("reacher-v5", (4, 0)),
        ("walker2d-v4", (4, 4)),
        ("walker2d-v5", (4, 4)),
    ];
    let seen: Vec<_> = seen
        .iter()
        .map(|(env, count)| (env.as_str(), *count))
        .collect();
    assert_eq!(seen, expected);
}

//! What a process of its own costs: steps per second of Gymnasium environments through the bridge, and of the same loop in
//! Python alone; and processor time per step of the bridge's process, of Python alone and of this process, which other work
//! on the machine hardly changes. Linux.
//!
//! `cargo run --release -p host-sim --example plant_speed -- [STEPS] [ID…]`

use std::process::Command;
use std::time::Instant;

use host_sim::{Space, make};

/// The loop below, without anything of ours but the frames that the bridge makes of Atari's.
const ALONE: &str = r#"
import sys, time, types
drawing = types.ModuleType("gymnasium.envs.mujoco.mujoco_rendering")
drawing.MujocoRenderer = lambda *_, **__: None  # what it needs need not be there
sys.modules[drawing.__name__] = drawing
import gymnasium as gym
ID, steps = sys.argv[1], int(sys.argv[2])
if ID.startswith("ALE/"):
    import ale_py
    gym.register_envs(ale_py)
    env = gym.make(ID, frameskip=1, obs_type="grayscale", disable_env_checker=True)
    env = gym.wrappers.FrameStackObservation(gym.wrappers.AtariPreprocessing(env, noop_max=0), 4)
else:
    if ID.startswith("MinAtar/"):
        from minatar.gym import register_envs
        register_envs()
    env = gym.make(ID, disable_env_checker=True)
env.reset(seed=0)
action = env.action_space.sample() * 0 + int(hasattr(env.action_space, "n"))
start, busy = time.perf_counter(), time.process_time()
for _ in range(steps):
    _, _, terminated, truncated, _ = env.step(action)
    if terminated or truncated:
        env.reset()
print(steps / (time.perf_counter() - start), 1e6 * (time.process_time() - busy) / steps)
"#;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let steps: u32 = arguments.next().map_or(Ok(5000), |steps| steps.parse())?;
    let mut ids: Vec<String> = arguments.collect();
    if ids.is_empty() {
        ids = [
            "Hopper-v5",
            "CartPole-v1",
            "MinAtar/Breakout-v1",
            "ALE/Breakout-v5",
        ]
        .map(Into::into)
        .into();
    }
    println!(
        "{:<22} {:>10} {:>10} {:>12} {:>12} {:>12}",
        "", "steps/s", "alone", "µs, bridge", "µs, alone", "µs, host"
    );
    for id in ids {
        let mut env = make(&format!("gym:{id}"))?;
        let spec = env.spec();
        let push = f32::from(u8::from(matches!(spec.action, Space::Discrete { .. })));
        let action = vec![push; spec.act_dim()];
        let mut observation = vec![0.0; spec.state_dim()];
        env.reset(0);
        let (start, here, there) = (Instant::now(), busy("self"), children());
        for i in 0..steps {
            let step = env.step(&action);
            env.observation(&mut observation);
            if let Some(fault) = env.fault() {
                anyhow::bail!("{fault}");
            }
            if step.terminated || step.truncated {
                env.reset(u64::from(i) + 1);
            }
        }
        let ours = f64::from(steps) / start.elapsed().as_secs_f64();
        let spent = [busy("self") - here, children() - there];
        let [here, there] = spent.map(|seconds| 1e6 * seconds / f64::from(steps));
        let (python, path) = host_sim::plant::python();
        let alone = Command::new(python)
            .envs(path.map(|path| ("PYTHONPATH", path)))
            .args(["-c", ALONE, &id, &steps.to_string()])
            .output()?;
        let alone = String::from_utf8_lossy(&alone.stdout).into_owned();
        let mut alone = alone.lines().last().unwrap_or_default().split_whitespace();
        let mut next = || {
            let number = alone.next().and_then(|text| text.parse().ok());
            number.unwrap_or(f64::NAN)
        };
        let (alone, busy) = (next(), next());
        println!("{id:<22} {ours:>10.0} {alone:>10.0} {there:>12.0} {busy:>12.0} {here:>12.0}");
    }
    Ok(())
}

/// Processor time of a process so far, s.
fn busy(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let (_, numbers) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = numbers.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Of all processes that this one has started.
fn children() -> f64 {
    let id = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().map(busy).sum()
}

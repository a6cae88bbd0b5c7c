//! Gymnasium's environments through the bridge: the built-in ones to the bit, and the simulators that are installed only when asked
//! for (`cargo xtask setup --with atari,box2d,minatar`), each where it is installed.
#![cfg(feature = "mujoco")]

use std::path::Path;
use std::process::Command;

use host_sim::{Env, Space, Step, make, make_reference};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Both from the same state, the only thing that differs: their seeds mean other random numbers.
fn parity(ours: &str, theirs: &str, qpos: &[f64], qvel: &[f64], steps: usize) {
    let (mut ours, mut theirs) = (make_reference(ours).unwrap(), make(theirs).unwrap());
    let (spec, of) = (ours.spec(), theirs.spec());
    assert_eq!(spec.action, of.action);
    assert_eq!(spec.max_episode_steps, of.max_episode_steps);
    assert_eq!(spec.control_period_us, of.control_period_us);
    assert_eq!(
        (spec.state_dim(), spec.act_dim()),
        (of.state_dim(), of.act_dim())
    );
    let [low, high] = spec.action_bounds().unwrap();
    let bounds: Vec<(f32, f32)> = low.iter().copied().zip(high.iter().copied()).collect();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    ours.set_state(qpos, qvel).unwrap();
    theirs.set_state(qpos, qvel).unwrap();
    for step in 0..steps {
        let action: Vec<f32> = bounds
            .iter()
            .map(|&(low, high)| random.random_range(low..=high))
            .collect();
        let [a, b] = [&mut ours, &mut theirs].map(|env| (env.step(&action), bits(env.as_ref())));
        assert_eq!(a, b, "step {step}");
        assert_eq!(a.0.reward.to_bits(), b.0.reward.to_bits(), "step {step}");
        assert_eq!(theirs.fault(), None);
    }
}

fn bits(env: &dyn Env) -> Vec<u64> {
    let mut observation = vec![0.0; env.spec().state_dim()];
    env.observation_f64(&mut observation);
    observation.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn pendulum_is_the_built_in_one_to_the_bit() {
    parity("pendulum", "gym:Pendulum-v1", &[2.5], &[-0.5], 200);
}

/// Observations in f64, rewards, ends, and on through the falls.
#[test]
fn hopper_is_the_built_in_one_to_the_bit() {
    let qpos = [0.0, 1.25, 0.001, -0.002, 0.003, 0.004];
    parity("hopper", "gym:Hopper-v5", &qpos, &[0.01; 6], 300);
}

#[test]
fn spaces_that_cannot_be_used_and_limits_that_are_missing_are_refused_with_a_remedy() {
    let refusal = |name: &str| make(name).err().unwrap().to_string();
    for (name, remedy) in [
        (
            "gym:Blackjack-v1",
            "observations of Blackjack-v1 are Tuple(",
        ),
        ("gym:Blackjack-v1", "name that: gym:MODULE:ID"),
        (
            "gym:FrozenLake-v1?max_episode_steps=-1",
            "FrozenLake-v1 has no time limit; give it one: --env-arg max_episode_steps=1000",
        ),
        (
            "gym:Pendulum-v1?mass=3",
            "unexpected keyword argument 'mass'",
        ),
        (
            "gym:NoSuch-v0",
            "NameNotFound: Environment `NoSuch` doesn't exist",
        ),
    ] {
        let refusal = refusal(name);
        assert!(refusal.contains(remedy), "{name}: {refusal}");
    }
}

#[test]
fn choices_and_arguments_reach_it() {
    let short = make("gym:CartPole-v1?max_episode_steps=7&control_period_us=1234").unwrap();
    let spec = short.spec();
    assert_eq!((spec.max_episode_steps, spec.control_period_us), (7, 1234));
    assert_eq!(spec.action, Space::Discrete { n: 2 });
    assert_eq!(
        make("gym:CartPole-v1").unwrap().spec().control_period_us,
        20_000
    );
    // Observations that are choices, and pushes that are none of theirs: whoever asks hears of it.
    let mut lake = make("gym:FrozenLake-v1?is_slippery=false").unwrap();
    assert_eq!(lake.spec().observation, Space::Discrete { n: 16 });
    lake.reset(0);
    let mut seen = [9.0];
    for (action, place) in [(2.0, 1.0), (1.0, 5.0)] {
        lake.step(&[action]);
        lake.observation(&mut seen);
        assert_eq!(seen, [place]);
    }
    lake.step(&[77.0]);
    assert!(lake.fault().unwrap().to_string().contains("KeyError: 77"));
}

/// Whether set-up has been asked for it; if not, that is said.
fn installed(extra: &str) -> bool {
    let there = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../.deps/extras")
        .join(extra)
        .exists();
    if !there {
        eprintln!("not tested: `cargo xtask setup --with {extra}` installs what this needs");
    }
    there
}

/// One episode of seeded random actions, twice: the same bits; and the observations' space contains what is seen. Gives the steps.
fn lives(name: &str, seed: u64) -> Vec<(Step, Vec<u64>)> {
    let live = || {
        let mut env = make(name).unwrap();
        let action = |random: &mut ChaCha8Rng, env: &dyn Env| match env.spec().action {
            Space::Discrete { n } => vec![random.random_range(0..n) as f32],
            space => {
                let [low, high] = space.bounds().unwrap();
                low.iter()
                    .zip(high)
                    .map(|(&low, &high)| random.random_range(low..=high))
                    .collect()
            }
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        env.reset(seed);
        let mut steps = Vec::new();
        loop {
            let action = action(&mut random, env.as_ref());
            let step = env.step(&action);
            assert_eq!(env.fault(), None, "{name}");
            steps.push((step, bits(env.as_ref())));
            if step.terminated || step.truncated || steps.len() == 300 {
                return steps;
            }
        }
    };
    let once = live();
    assert!(once.len() > 5, "{name}");
    // Before the second time something else happens in it.
    make(name).unwrap().reset(99);
    assert!(once == live(), "{name}: the same seed, another episode");
    once
}

#[test]
fn box2d_lands_and_walks() {
    if !installed("box2d") {
        return;
    }
    for (name, state_dim, action) in [
        ("gym:LunarLander-v3", 8, "Discrete(4)"),
        ("gym:LunarLander-v3?continuous=true", 8, "Box(2), -1…1"),
        ("gym:BipedalWalker-v3", 24, "Box(4), -1…1"),
    ] {
        let env = make(name).unwrap();
        assert_eq!(
            (env.spec().state_dim(), env.spec().action.to_string()),
            (state_dim, action.into())
        );
        assert_eq!(env.spec().control_period_us, 20_000);
        // A seed beyond 32 bits, as evaluations in training have.
        lives(name, 3 + (1 << 32));
    }
}

#[test]
fn minatar_has_images_of_zeros_and_ones_and_a_time_limit() {
    if !installed("minatar") {
        return;
    }
    for (game, channels, actions) in [
        ("Asterix", 4, 5),
        ("Breakout", 4, 3),
        ("Freeway", 7, 3),
        ("Seaquest", 10, 6),
        ("SpaceInvaders", 6, 4),
    ] {
        let name = format!("gym:MinAtar/{game}-v1");
        let env = make(&name).unwrap();
        assert_eq!(
            env.spec().observation,
            Space::Image {
                height: 10,
                width: 10,
                channels
            }
        );
        assert_eq!(env.spec().action, Space::Discrete { n: actions });
        assert_eq!(env.spec().max_episode_steps, 5000);
        let one = 1.0_f64.to_bits();
        for (_, pixels) in lives(&name, 3 + (1 << 32)) {
            assert!(pixels.iter().all(|&pixel| pixel == 0 || pixel == one));
            assert!(pixels.contains(&one));
        }
    }
}

/// Frames, stacked four at a time, are those of Gymnasium's own wrappers, by hash.
#[test]
fn atari_frames_are_those_of_the_usual_wrappers() {
    if !installed("atari") {
        return;
    }
    let deps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps");
    for game in ["Breakout", "Pong"] {
        let name = format!("gym:ALE/{game}-v5");
        let mut env = make(&name).unwrap();
        assert_eq!(
            env.spec().observation,
            Space::Image {
                height: 84,
                width: 84,
                channels: 4
            }
        );
        assert_eq!(
            (env.spec().max_episode_steps, env.spec().control_period_us),
            (27_000, 66_667)
        );
        let reference = Command::new(deps.join("python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/atari.py"))
            .args([format!("ALE/{game}-v5"), "7".into(), "60".into()])
            .env("PYTHONPATH", deps.join("extras/atari"))
            .output()
            .unwrap();
        assert!(
            reference.status.success(),
            "{}",
            String::from_utf8_lossy(&reference.stderr)
        );
        let reference = String::from_utf8(reference.stdout).unwrap();
        let mut frames = vec![0.0; 84 * 84 * 4];
        env.reset(7);
        let mut reward = 0.0;
        let Space::Discrete { n } = env.spec().action else {
            panic!("{name}");
        };
        for (i, line) in reference.lines().enumerate() {
            env.observation(&mut frames);
            let bytes: Vec<u8> = frames.iter().map(|&pixel| pixel as u8).collect();
            assert_eq!(
                line,
                format!("{:08x} {reward:?}", crc(&bytes)),
                "{name}, step {i}"
            );
            reward = env.step(&[(i * 7 % n) as f32]).reward;
        }
        assert_eq!(reference.lines().count(), 60);
        lives(&name, 3);
    }
}

/// CRC-32, as Python's zlib has it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

//! Records a policy on random inputs, for controllers to replay where no environment is at hand that the policy could act in.
//!
//! Usage: `record_inputs F.dtb OUT.dtt [EPISODES [STEPS]]`, then `cargo xtask firmware run --policy F.dtb --recording OUT.dtt`.
//!
//! Observations are uniform within two standard deviations of the policy's mean, and within its limits; rewards spend the target
//! return evenly.

use std::error::Error;

use host_sim::controller::PolicyController;
use host_sim::policy_file::PolicyFile;
use host_sim::random::Random;
use host_sim::rollout::{Controller, Recorder, Transition};
use host_sim::trace::{Header, Tape, emit};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [policy, out, more @ ..] = args.as_slice() else {
        return Err("usage: record_inputs F.dtb OUT.dtt [EPISODES [STEPS]]".into());
    };
    let number = |i: usize, default: u64| more.get(i).map_or(Ok(default), |text| text.parse());
    let (episodes, steps) = (number(0, 2)?, number(1, 100)?);
    let file = PolicyFile::load(policy.as_ref())?;
    let blob = file.blob();
    let (manifest, vectors) = (blob.manifest(), blob.vectors());
    let target = manifest.target_return;
    let reward = target / steps as f32;
    let mut tapes = Vec::new();
    for seed in 0..episodes {
        let mut rng = Random::new(seed);
        let mut observe = || -> Vec<f32> {
            let features = vectors.state_mean.iter().zip(vectors.state_std);
            let limits = vectors.state_low.iter().zip(vectors.state_high);
            let each = features.zip(limits).map(|((mean, std), (low, high))| {
                let observation = mean + rng.uniform(2.0) as f32 * std;
                match observation {
                    _ if observation < *low => *low,
                    _ if observation > *high => *high,
                    _ => observation,
                }
            });
            each.collect()
        };
        let mut controller = PolicyController::new(&blob);
        controller.reset(seed, target)?;
        let mut tape = Tape::default();
        let mut observation = observe();
        for step in 1..=steps {
            let action = controller.act(&observation)?.to_vec();
            controller.feedback(&action, reward)?;
            let next_observation = observe();
            tape.record(&Transition {
                predicted_return: None,
                observation: &observation,
                action: &action,
                reward: reward.into(),
                next_observation: &next_observation,
                terminated: false,
                truncated: step == steps,
            });
            observation = next_observation;
        }
        tapes.push(tape);
    }
    let header = Header {
        env: manifest.env,
        policy_crc: file.crc(),
        state_dim: vectors.state_mean.len(),
        act_dim: manifest.config.action_len() as usize,
    };
    let episodes = (0_u64..)
        .zip(&tapes)
        .map(|(seed, tape)| (seed, target, tape));
    std::fs::write(out, emit(&header, episodes).map_err(|e| e.to_string())?)?;
    println!("{out}: {} episodes of {steps} steps", tapes.len());
    Ok(())
}

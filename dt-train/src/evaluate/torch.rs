//! The policy run by libtorch: the independent check on the engine that is exported.

use std::collections::VecDeque;
use std::convert::Infallible;

use dt_core::blob::RewardMode;
use dt_core::config::{Config as Network, Dtype};
use host_sim::rollout::Controller;
use tch::{Device, Tensor};

use crate::nn::transformer::{DecisionTransformer, Inputs, attention_mask};
use crate::run::Run;

/// A network as a controller for the rollout loop.
///
/// Every step runs the whole receptive field through the network that was trained. With streaming attention that
/// is exactly what the engine computes step by step, since no earlier timestep can reach the newest action.
#[derive(Debug)]
pub struct TorchPolicy<'a> {
    run: &'a Run,
    network: Network,
    model: &'a DecisionTransformer,
    device: Device,
    history: VecDeque<Timestep>,
    return_to_go: f32,
    timestep: u32,
    action: Vec<f32>,
}

#[derive(Debug)]
struct Timestep {
    return_to_go: f32,
    state: Vec<f32>,
    action: Vec<f32>,
    timestep: i64,
}

impl<'a> TorchPolicy<'a> {
    /// Runs `model`, trained as `run` says, on the device that holds its parameters.
    pub fn new(run: &'a Run, model: &'a DecisionTransformer, device: Device) -> Self {
        Self {
            run,
            network: run.network(Dtype::F32),
            model,
            device,
            history: VecDeque::new(),
            return_to_go: 0.0,
            timestep: 0,
            action: vec![0.0; run.info.act_dim],
        }
    }

    fn inputs(&self) -> Inputs {
        let t = self.history.len() as i64;
        let table = |values: Vec<f32>| Tensor::from_slice(&values).view([1, t, -1]).to(self.device);
        let timesteps: Vec<i64> = self.history.iter().map(|step| step.timestep).collect();
        let steps = || self.history.iter();
        Inputs {
            returns_to_go: table(steps().map(|step| step.return_to_go).collect()),
            states: table(steps().flat_map(|step| step.state.clone()).collect()),
            actions: table(steps().flat_map(|step| step.action.clone()).collect()),
            timesteps: Tensor::from_slice(&timesteps).view([1, t]).to(self.device),
        }
    }

    /// Middle and half width of the range of action component `i`.
    fn scale(&self, i: usize) -> (f32, f32) {
        let (low, high) = (self.run.info.action_low[i], self.run.info.action_high[i]);
        (0.5 * (high + low), 0.5 * (high - low))
    }
}

impl Controller for TorchPolicy<'_> {
    type Error = Infallible;

    fn reset(&mut self, _seed: u64, target_return: f32) -> Result<(), Infallible> {
        self.history.clear();
        self.return_to_go = target_return;
        self.timestep = 0;
        Ok(())
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Infallible> {
        let info = &self.run.info;
        let statistics = info.state_mean.iter().zip(&info.state_std);
        let last = self.network.max_ep_len.saturating_sub(1);
        self.history.push_back(Timestep {
            return_to_go: self.return_to_go / self.run.config.data.return_scale,
            state: observation
                .iter()
                .zip(statistics)
                .map(|(o, (mean, std))| (o - mean) / std)
                .collect(),
            action: vec![0.0; info.act_dim],
            timestep: i64::from(std::cmp::min(self.timestep, last)),
        });
        while self.history.len() > self.run.config.receptive_field() {
            self.history.pop_front();
        }
        let predicted = tch::no_grad(|| {
            let mask = attention_mask(&self.network, self.history.len(), self.device);
            self.model.forward(&self.inputs(), &mask, 0.0).select(1, -1)
        });
        predicted
            .to(Device::Cpu)
            .flatten(0, -1)
            .copy_data(&mut self.action, info.act_dim);
        for i in 0..self.action.len() {
            let (centre, half) = self.scale(i);
            let (low, high) = (self.run.info.action_low[i], self.run.info.action_high[i]);
            let action = self.action[i] * half + centre;
            self.action[i] = match action {
                _ if action < low => low,
                _ if action > high => high,
                _ => action,
            };
        }
        Ok(&self.action)
    }

    fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), Infallible> {
        let scaled = applied.iter().enumerate().map(|(i, a)| {
            let (centre, half) = self.scale(i);
            if half > 0.0 { (a - centre) / half } else { 0.0 }
        });
        let scaled = scaled.collect();
        if let Some(step) = self.history.back_mut() {
            step.action = scaled;
        }
        match self.run.config.control.reward {
            RewardMode::Constant => {}
            // As the rollout loop does for a policy whose host keeps count.
            RewardMode::Observed | RewardMode::External => self.return_to_go -= reward,
        }
        self.timestep += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dt_core::config::{Activation, Attention, Mixer};
    use host_sim::policy_file::PolicyFile;

    use super::*;
    use crate::config::Config;
    use crate::deploy::{Trained, emit_bytes};
    use crate::nn::transformer::{self, tests::randomized};
    use crate::run::RunInfo;

    fn run(attention: Attention) -> Run {
        let mut config = Config::default();
        config.model.d_model = 16;
        config.model.n_layer = 3;
        config.model.n_head = 2;
        config.model.context_len = 4;
        config.model.max_ep_len = 30;
        config.model.attention = attention;
        config.model.activation = Activation::GeluTanh;
        config.data.return_scale = 10.0;
        let info = RunInfo {
            version: String::new(),
            env: String::new(),
            dataset: String::new(),
            dataset_sha256: "0".repeat(64),
            transitions: 0,
            episodes: 0,
            return_mean: 0.0,
            return_max: 0.0,
            state_dim: 3,
            act_dim: 2,
            state_mean: vec![0.5, -0.5, 0.0],
            state_std: vec![1.0, 2.0, 0.5],
            state_low: vec![-9.0; 3],
            state_high: vec![9.0; 3],
            action_low: vec![-2.0, 0.0],
            action_high: vec![2.0, 5.0],
            safe_action: vec![0.0, 0.0],
            target_return: 0.0,
            return_range: Some([-1e6, 1e6]),
            control_period_us: 10_000,
        };
        Run {
            dir: "test".into(),
            config,
            info,
        }
    }

    /// Both controllers, fed the same observations and rewards for several receptive fields.
    fn largest_difference(attention: Attention) -> f32 {
        let run = run(attention);
        let network = run.network(Dtype::F32);
        let parameters = randomized(&network);
        let weights = transformer::weights(&parameters);
        let trained = Trained {
            run: &run,
            weights: &weights,
            update: 0,
        };
        let file: PolicyFile = emit_bytes(&trained, Dtype::F32, Mixer::Attention, &[]).unwrap();
        let mut engine = file.controllers()();
        let model = DecisionTransformer::bind(&network, parameters.frozen());
        let mut torch = TorchPolicy::new(&run, &model, Device::Cpu);
        engine.reset(0, 7.0).unwrap();
        torch.reset(0, 7.0).unwrap();
        let mut largest = 0.0;
        let mut seen = Vec::new();
        for t in 0..60 {
            let wave = |k: f32| 2.0 * (k * t as f32 + k).sin();
            let observation = [wave(0.3), wave(0.7), wave(1.9)];
            let expected = torch.act(&observation).unwrap().to_vec();
            let action = engine.act(&observation).unwrap().to_vec();
            for (got, expected) in action.iter().zip(&expected) {
                let difference = (got - expected).abs();
                largest = if difference > largest {
                    difference
                } else {
                    largest
                };
            }
            let reward = wave(0.2);
            torch.feedback(&action, reward).unwrap();
            engine.feedback(&action, reward).unwrap();
            seen.push(action[0] / 2.0);
        }
        let mean = seen.iter().sum::<f32>() / 60.0;
        let variance = seen.iter().map(|a| (a - mean).powi(2)).sum::<f32>() / 60.0;
        assert!(
            variance.sqrt() >= 0.3,
            "the actions hardly vary: {}",
            variance.sqrt()
        );
        largest
    }

    /// f32 sums in another order: a few ulp of values near 1, scaled by the action's half range.
    const TOLERANCE: f32 = 2e-5;

    #[test]
    fn libtorch_and_the_streaming_engine_agree() {
        let difference = largest_difference(Attention::Streaming);
        assert!(difference <= TOLERANCE, "{difference}");
    }

    #[test]
    fn libtorch_and_the_window_engine_agree() {
        let difference = largest_difference(Attention::Window);
        assert!(difference <= TOLERANCE, "{difference}");
    }
}

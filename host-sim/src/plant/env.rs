//! An environment whose physics are in another process.

use std::sync::Arc;

use dt_link::Values;
use dt_link::plant::{Doubles, FromPlant, Numbers, ToPlant};

use super::pool::{Pool, Slot, answer_kind};
use crate::env::{Env, EnvSpec, Fault, StateError, Step};
use crate::space::Space;

/// An environment of a plant. It takes one of the plant's when it is first reset.
pub struct PlantEnv {
    pool: Arc<Pool>,
    slot: Option<Slot>,
    observation: Vec<f32>,
    /// The same, where the plant has more precision.
    exact: Vec<f64>,
    steps: u32,
    fault: Option<Fault>,
}

impl PlantEnv {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        let observation = vec![0.0; pool.described().spec().state_dim()];
        Self {
            pool,
            slot: None,
            observation,
            exact: Vec::new(),
            steps: 0,
            fault: None,
        }
    }

    /// Width, height and rows of RGB of the present state.
    ///
    /// # Errors
    /// The plant's words.
    pub fn picture(&mut self) -> Result<(u32, u32, Vec<u8>), String> {
        let slot = self.slot.as_ref().ok_or("it has not been reset")?;
        slot.ask(
            &self.pool,
            &ToPlant::Render { env: slot.env() },
            |answer| match answer {
                FromPlant::Picture {
                    width, height, rgb, ..
                } if rgb.0.len() as u64 == 3 * u64::from(width) * u64::from(height)
                    && width > 0 =>
                {
                    Ok((width, height, rgb.0.to_vec()))
                }
                FromPlant::Picture {
                    width, height, rgb, ..
                } => Err(format!(
                    "it sent {} bytes for a picture of {width} × {height} pixels, three each",
                    rgb.0.len()
                )),
                other => Err(format!("it answers Render with {}", answer_kind(&other))),
            },
        )
    }

    /// Before an episode: the number of the environment, another one's if its process has died.
    fn prepare(&mut self) -> Result<u32, String> {
        (self.steps, self.fault) = (0, None);
        if self.slot.as_ref().is_some_and(Slot::is_dead) {
            self.slot = None;
        }
        let slot = match self.slot.take() {
            Some(slot) => slot,
            None => self.pool.acquire()?,
        };
        Ok(self.slot.insert(slot).env())
    }

    /// Asks for a state and takes it over.
    fn ask(&mut self, question: &ToPlant<'_>) -> Result<Step, String> {
        let Some(slot) = &self.slot else {
            return Err("it has not been reset".into());
        };
        let (described, env) = (self.pool.described(), slot.env());
        let (observation, exact) = (&mut self.observation, &mut self.exact);
        slot.ask(&self.pool, question, |answer| match answer {
            FromPlant::State {
                env: of,
                observation: numbers,
                reward,
                terminated,
                truncated,
            } => {
                if of != env {
                    return Err(format!("it answers for environment {of} instead of {env}"));
                }
                let names = &described.observation_names;
                take(
                    numbers,
                    described.spec().observation,
                    names,
                    observation,
                    exact,
                )?;
                if !reward.is_finite() {
                    return Err(format!("its reward is {reward}"));
                }
                Ok(Step {
                    reward,
                    terminated,
                    truncated,
                })
            }
            other => Err(format!(
                "it answers with {} where a State is due",
                answer_kind(&other)
            )),
        })
    }
}

impl Env for PlantEnv {
    fn spec(&self) -> EnvSpec<'_> {
        self.pool.described().spec()
    }

    fn reset(&mut self, seed: u64) {
        let begun = self
            .prepare()
            .and_then(|env| self.ask(&ToPlant::Reset { env, seed }));
        self.fault = begun.err().map(Fault::Plant);
    }

    fn step(&mut self, action: &[f32]) -> Step {
        const OVER: Step = Step {
            reward: 0.0,
            terminated: false,
            truncated: true,
        };
        if self.fault.is_some() {
            return OVER;
        }
        let action = Values::new(&action[..self.spec().act_dim()]);
        let env = self.slot.as_ref().map_or(0, Slot::env);
        match self.ask(&ToPlant::Step { env, action }) {
            Ok(mut step) => {
                self.steps = self.steps.saturating_add(1);
                step.truncated |= self.steps >= self.spec().max_episode_steps;
                if step.terminated || step.truncated {
                    self.pool.finished();
                }
                step
            }
            Err(words) => {
                self.fault = Some(Fault::Plant(words));
                OVER
            }
        }
    }

    fn observation(&self, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            self.observation.len(),
            "length of the observation"
        );
        out.copy_from_slice(&self.observation);
    }

    fn observation_f64(&self, out: &mut [f64]) {
        assert_eq!(
            out.len(),
            self.observation.len(),
            "length of the observation"
        );
        if self.exact.is_empty() {
            for (out, value) in out.iter_mut().zip(&self.observation) {
                *out = (*value).into();
            }
        } else {
            out.copy_from_slice(&self.exact);
        }
    }

    fn set_state(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<(), StateError> {
        let (qpos, qvel) = (Doubles::new(qpos), Doubles::new(qvel));
        let begun = self
            .prepare()
            .and_then(|env| self.ask(&ToPlant::SetState { env, qpos, qvel }));
        self.fault = begun.err().map(Fault::Plant);
        match self.fault {
            None => Ok(()),
            Some(_) => Err(StateError::Refused),
        }
    }

    fn fault(&self) -> Option<Fault> {
        self.fault.clone()
    }
}

/// Takes an observation over, if it is one: as many numbers as there should be, all finite, choices and pixels whole.
fn take(
    numbers: Numbers<'_>,
    space: Space<'_>,
    names: &[String],
    observation: &mut [f32],
    exact: &mut Vec<f64>,
) -> Result<(), String> {
    let len = observation.len();
    if numbers.len() != Some(len) {
        let got = numbers
            .len()
            .map_or("no whole number of".into(), |got| got.to_string());
        return Err(format!(
            "its observation has {got} components instead of {len}"
        ));
    }
    exact.clear();
    match numbers {
        Numbers::F32(values) => fill(observation, values.iter()),
        Numbers::F64(values) => {
            exact.extend(values.iter());
            fill(observation, values.iter().map(|value| value as f32));
        }
        Numbers::U8(bytes) => fill(observation, bytes.0.iter().map(|&value| value.into())),
    }
    let fits = |&value: &f32| match space {
        // Simulators leave their bounds now and then; policies have limits of their own.
        Space::Box { .. } => value.is_finite(),
        Space::Discrete { n } => value >= 0.0 && value < n as f32 && value % 1.0 == 0.0,
        Space::Image { .. } => (0.0..256.0).contains(&value) && value % 1.0 == 0.0,
    };
    match observation.iter().position(|value| !fits(value)) {
        None => Ok(()),
        Some(index) => {
            let name = names.get(index).map(|name| format!(" ({name})"));
            let (name, value) = (name.unwrap_or_default(), observation[index]);
            Err(format!(
                "its observation's component {index}{name} is {value}, which is none of {space}"
            ))
        }
    }
}

fn fill(observation: &mut [f32], values: impl Iterator<Item = f32>) {
    for (to, value) in observation.iter_mut().zip(values) {
        *to = value;
    }
}

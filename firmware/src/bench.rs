//! What a control step costs: driving a policy with inputs of every kind and clocking it.

use dt_control::Spans;
use dt_core::blob::RewardMode;
use dt_core::policy::{ActError, Policy};
use dt_core::probe::{Phase, Probe};

/// Largest observation and action that can be driven.
pub const MAX_DIM: usize = 32;

/// What observations and returns-to-go look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Independent, uniform, mean 0 and variance 1.
    Usual,
    /// From step to step usual, huge, denormal, zero, or one component huge and the others denormal.
    Any,
}

/// An endless, seeded stream of inputs.
#[derive(Clone, Debug)]
pub struct Inputs {
    kind: Kind,
    state: u32,
    observation: [f32; MAX_DIM],
    applied: [f32; MAX_DIM],
    images: &'static [u8],
    shown: usize,
}

impl Inputs {
    const SEED: u32 = 0x9E37_79B9;

    /// From the beginning.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            state: Self::SEED,
            observation: [0.0; MAX_DIM],
            applied: [0.0; MAX_DIM],
            images: &[],
            shown: 0,
        }
    }

    /// Shows these, one after the other and again from the first, to a policy that sees images.
    pub const fn show(&mut self, images: &'static [u8]) {
        self.images = images;
    }

    /// The next image of so many bytes.
    fn image(&mut self, len: usize) -> &'static [u8] {
        let next = self.images.get(self.shown..self.shown + len);
        let image = next.or(self.images.get(..len)).unwrap_or_default();
        self.shown = if next.is_some() {
            self.shown + len
        } else {
            len
        };
        image
    }

    /// From the beginning, in place: on a controller this is large.
    pub fn restart(&mut self, kind: Kind) {
        self.kind = kind;
        self.state = Self::SEED;
    }

    /// The next observation (`len` values, at most [`MAX_DIM`]) and return-to-go.
    pub fn step(&mut self, len: usize) -> (&[f32], f32) {
        /// The square of a sum of these, over the widest model, is still finite.
        const HUGE: f32 = 1e15;
        const DENORMAL: f32 = 1e-40;
        let kind = match self.kind {
            Kind::Usual => 0,
            Kind::Any => self.bits() >> 13 & 7,
        };
        let odd_one = self.bits() as usize % len.max(1);
        for i in 0..len {
            let usual = self.usual();
            let value = match kind {
                0..=3 => usual,
                4 => HUGE * usual,
                5 => DENORMAL * usual,
                6 => 0.0,
                _ if i == odd_one => HUGE * usual,
                _ => DENORMAL * usual,
            };
            if let Some(slot) = self.observation.get_mut(i) {
                *slot = value;
            }
        }
        let scale = match kind {
            4 | 7 => HUGE,
            5 => DENORMAL,
            _ => 1.0,
        };
        let return_to_go = scale * self.usual();
        (
            self.observation.get(..len).unwrap_or_default(),
            return_to_go,
        )
    }

    /// Uniform in ±√3, which has variance 1.
    fn usual(&mut self) -> f32 {
        const SQRT_3: f32 = 1.732_050_8;
        (self.bits() >> 8) as f32 * (2.0 * SQRT_3 / (1 << 24) as f32) - SQRT_3
    }

    /// Marsaglia's xorshift32.
    fn bits(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state
    }
}

/// When the network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// All of it between observation and action.
    Fused,
    /// What does not need the observation right after the action is out.
    Split,
}

/// Clock counts of control steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From observation to action.
    pub to_action: Spans,
    /// All of the step.
    pub step: Spans,
}

/// Where rewards are observed.
const REWARD: f32 = 0.5;

/// Drives `policy` for `steps` control steps, each clocked with `now`. What comes with an observation, reward
/// or return-to-go, is between observation and action.
///
/// # Errors
/// The policy's, at the first step it refuses.
pub fn drive<A: AsMut<[u32]>>(
    policy: &mut Policy<'_, A>,
    schedule: Schedule,
    inputs: &mut Inputs,
    steps: u32,
    mut now: impl FnMut() -> u64,
) -> Result<Cost, ActError> {
    let state_dim = policy.config().state_dim as usize;
    let mut cost = Cost::default();
    for _ in 0..steps {
        let image = sees_images(policy).then(|| inputs.image(state_dim));
        let (observation, return_to_go) = inputs.step(if image.is_some() { 0 } else { state_dim });
        let start = now();
        if policy.awaits_reward() {
            policy.observe_reward(REWARD)?;
        }
        if policy.reward_mode() == RewardMode::External {
            policy.set_return_to_go(return_to_go)?;
        }
        let action = match image {
            Some(image) => policy.act_image(image)?,
            None => policy.act(observation)?,
        };
        let acted = now();
        let applied = copy(action, &mut inputs.applied);
        let resumed = now();
        policy.absorb(applied)?;
        if schedule == Schedule::Split {
            policy.run_ahead()?;
        }
        let rest = now() - resumed;
        cost.to_action.add(acted - start);
        cost.step.add(acted - start + rest);
    }
    Ok(cost)
}

/// Counts by phase, summed over control steps.
#[derive(Clone, Debug)]
pub struct Phases<C> {
    counter: C,
    counts: [u64; Phase::ALL.len()],
    current: usize,
    since: u32,
}

impl<C: FnMut() -> u32> Phases<C> {
    /// `counter` counts up and wraps.
    pub fn new(counter: C) -> Self {
        Self {
            counter,
            counts: [0; _],
            current: 0,
            since: 0,
        }
    }

    /// Drives `policy` for `steps` fused control steps. What lies before the first phase belongs to it.
    ///
    /// # Errors
    /// The policy's, at the first step it refuses.
    pub fn drive<A: AsMut<[u32]>>(
        &mut self,
        policy: &mut Policy<'_, A>,
        inputs: &mut Inputs,
        steps: u32,
    ) -> Result<(), ActError> {
        let state_dim = policy.config().state_dim as usize;
        for _ in 0..steps {
            let image = sees_images(policy).then(|| inputs.image(state_dim));
            let (observation, _) = inputs.step(if image.is_some() { 0 } else { state_dim });
            if policy.awaits_reward() {
                policy.observe_reward(REWARD)?;
            }
            self.current = 0;
            self.since = (self.counter)();
            let action = match image {
                Some(image) => policy.act_image_probed(image, self)?,
                None => policy.act_probed(observation, self)?,
            };
            self.close();
            let applied = copy(action, &mut inputs.applied);
            policy.absorb(applied)?;
        }
        Ok(())
    }

    /// Every phase with its counts.
    pub fn counts(&self) -> impl Iterator<Item = (Phase, u64)> {
        Phase::ALL.into_iter().zip(self.counts)
    }

    fn close(&mut self) {
        let now = (self.counter)();
        if let Some(counts) = self.counts.get_mut(self.current) {
            *counts += u64::from(now.wrapping_sub(self.since));
        }
        self.since = now;
    }
}

impl<C: FnMut() -> u32> Probe for Phases<C> {
    fn enter(&mut self, phase: Phase) {
        self.close();
        self.current = phase as usize;
    }
}

fn sees_images<A: AsMut<[u32]>>(policy: &Policy<'_, A>) -> bool {
    policy.config().image().is_some()
}

fn copy<'t>(from: &[f32], to: &'t mut [f32]) -> &'t [f32] {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    to.get(..from.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ::tests::{Sample, small_config};

    use super::*;

    #[test]
    fn inputs_are_of_every_kind_and_finite() {
        let mut inputs = Inputs::new(Kind::Any);
        let mut seen = [0; 3];
        for _ in 0..1000 {
            let (observation, return_to_go) = inputs.step(3);
            assert!(return_to_go.is_finite() && observation.len() == 3);
            for x in observation {
                assert!(x.is_finite());
                seen[0] += u32::from(x.abs() > 1e12);
                seen[1] += u32::from(x.is_subnormal());
                seen[2] += u32::from(*x == 0.0);
            }
        }
        assert!(seen.iter().all(|&seen| seen > 100), "{seen:?}");
        let mut usual = Inputs::new(Kind::Usual);
        let values: Vec<f32> = (0..1000).flat_map(|_| usual.step(3).0.to_vec()).collect();
        let variance = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    /// With a clock that counts its readings, every step takes as many as are read in it.
    #[test]
    fn every_step_is_clocked_once() {
        let file = Sample::random(small_config(), 3).emit();
        let blob = file.blob();
        let arena = vec![0; blob.manifest().config.arena_words()];
        let mut policy = Policy::new(&blob, arena).unwrap();
        policy.reset(40.0).unwrap();
        let mut now = 0;
        let clock = || {
            now += 1;
            now
        };
        let mut inputs = Inputs::new(Kind::Any);
        let cost = drive(&mut policy, Schedule::Split, &mut inputs, 50, clock).unwrap();
        assert_eq!((cost.to_action.len, cost.to_action.max), (50, 1));
        assert_eq!((cost.step.len, cost.step.min, cost.step.max), (50, 2, 2));
    }

    #[test]
    fn phases_add_up() {
        let file = Sample::random(small_config(), 3).emit();
        let blob = file.blob();
        let arena = vec![0; blob.manifest().config.arena_words()];
        let mut policy = Policy::new(&blob, arena).unwrap();
        policy.reset(40.0).unwrap();
        let mut readings = 0;
        let mut phases = Phases::new(|| {
            readings += 1;
            u32::wrapping_add(u32::MAX - 100, readings) // wraps on the way
        });
        phases
            .drive(&mut policy, &mut Inputs::new(Kind::Usual), 10)
            .unwrap();
        let counts: Vec<u64> = phases.counts().map(|(_, count)| count).collect();
        assert!(counts.iter().all(|&count| count >= 10), "{counts:?}");
        // Between the readings of a step lie one fewer counts.
        assert_eq!(counts.iter().sum::<u64>(), u64::from(readings) - 10);
    }
}

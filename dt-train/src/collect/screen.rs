//! A small environment that shows images, for tests.

use host_sim::env::StateError;
use host_sim::{Env, EnvSpec, Space, Step};

/// Episodes of [`Screen::STEPS`] steps; the image is the step's number, in every pixel but the first, which is the seed's.
/// A step earns its action.
pub struct Screen {
    /// What it can be told.
    pub action: Space<'static>,
    shape: [usize; 3],
    seed: u8,
    step: u8,
}

impl Screen {
    /// Steps of an episode.
    pub const STEPS: u32 = 40;
    /// Actions between −1 and 1.
    pub const VECTORS: Space<'static> = Space::Box {
        low: &[-1.0],
        high: &[1.0],
    };

    /// One of this height, width and number of channels.
    pub fn new(shape: [usize; 3], action: Space<'static>) -> Self {
        Self {
            action,
            shape,
            seed: 0,
            step: 0,
        }
    }

    /// What is seen after so many steps.
    pub fn pixels(shape: [usize; 3], seed: u8, step: u8) -> Vec<u8> {
        let mut pixels = vec![step; shape.iter().product()];
        pixels[0] = seed;
        pixels
    }
}

impl Env for Screen {
    fn spec(&self) -> EnvSpec<'_> {
        let [height, width, channels] = self.shape;
        EnvSpec {
            id: "screen",
            observation: Space::Image {
                height,
                width,
                channels,
            },
            action: self.action,
            max_episode_steps: Self::STEPS,
            control_period_us: 1000,
            score_range: None,
        }
    }

    fn reset(&mut self, seed: u64) {
        (self.seed, self.step) = (seed as u8, 0);
    }

    fn step(&mut self, action: &[f32]) -> Step {
        self.step += 1;
        Step {
            reward: action[0].into(),
            terminated: false,
            truncated: u32::from(self.step) == Self::STEPS,
        }
    }

    fn observation(&self, out: &mut [f32]) {
        let pixels = Self::pixels(self.shape, self.seed, self.step);
        out.iter_mut()
            .zip(pixels)
            .for_each(|(out, pixel)| *out = pixel.into());
    }

    fn observation_f64(&self, out: &mut [f64]) {
        let pixels = Self::pixels(self.shape, self.seed, self.step);
        out.iter_mut()
            .zip(pixels)
            .for_each(|(out, pixel)| *out = pixel.into());
    }

    fn set_state(&mut self, _: &[f64], _: &[f64]) -> Result<(), StateError> {
        Err(StateError::Refused)
    }
}

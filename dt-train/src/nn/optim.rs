//! AdamW on a [`Flat`] buffer, its whole state in the open.
//!
//! Kingma & Ba, *Adam* (2015), with the decoupled weight decay of Loshchilov & Hutter (2019). The state is two
//! tensors and a counter, so a checkpoint holds it exactly, and a step is a handful of kernels that never wait for
//! the device.

use tch::{Kind, Tensor};

use crate::nn::flat::{Flat, Layout};

/// Coefficients that stay the same during a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Fraction of each weight, times the learning rate, taken away per step; 0 is plain Adam.
    pub weight_decay: f64,
    /// It is taken from matrices alone ([`Layout::is_matrix`](crate::nn::flat::Layout::is_matrix)), not from biases, norms and tables.
    pub decay_matrices_only: bool,
}

impl Default for AdamWConfig {
    /// PyTorch's, without weight decay.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decay_matrices_only: false,
        }
    }
}

/// The optimizer of one [`Flat`] buffer.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    /// Running mean of the gradient, as long as the buffer.
    first: Tensor,
    /// Running mean of its square, as long as the buffer.
    second: Tensor,
    /// 1 of what decays, else 0, as long as the buffer; none: all does.
    decays: Option<Tensor>,
    steps: u64,
}

impl AdamW {
    /// An optimizer that has made no step.
    pub fn new(parameters: &Flat, config: AdamWConfig) -> Self {
        let zeros = || parameters.values().detach().zeros_like();
        Self {
            config,
            first: zeros(),
            second: zeros(),
            decays: config.decay_matrices_only.then(|| {
                let decays = zeros();
                for (mut part, (name, shape)) in parameters.named(&decays) {
                    let _ = part.fill_(f64::from(Layout::is_matrix(name, shape)));
                }
                decays
            }),
            steps: 0,
        }
    }

    /// One step of size `learning_rate` along `gradient` (as long as the buffer).
    pub fn step(&mut self, parameters: &mut Flat, gradient: &Tensor, learning_rate: f64) {
        let AdamWConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
            decay_matrices_only: _,
        } = self.config;
        self.steps += 1;
        let steps = self.steps as f64;
        let root = (1.0 - beta2.powf(steps)).sqrt();
        let size = learning_rate * root / (1.0 - beta1.powf(steps));
        tch::no_grad(|| {
            let weights = parameters.values_mut();
            let decay = learning_rate * weight_decay;
            match &self.decays {
                _ if weight_decay == 0.0 => {}
                None => {
                    let _ = weights.g_mul_scalar_(1.0 - decay);
                }
                Some(decays) => {
                    let _ = weights.g_mul_(&(decays * -decay + 1.0));
                }
            }
            let _ = self.first.lerp_(gradient, 1.0 - beta1);
            let _ = self.second.lerp_(&gradient.square(), 1.0 - beta2);
            // The bias corrections of both moments are in `size` and `eps`: they cost no pass over the buffer.
            let denominator = self.second.sqrt().g_add_scalar_(eps * root);
            let _ = weights.addcdiv_(&(&self.first * -size), &denominator);
        });
    }

    /// First moment, second moment and number of steps: everything a checkpoint needs.
    pub fn state(&self) -> (&Tensor, &Tensor, u64) {
        (&self.first, &self.second, self.steps)
    }

    /// Goes back to a [`state`](Self::state).
    ///
    /// # Panics
    /// If a moment is not as long as the buffer.
    pub fn restore(&mut self, first: &Tensor, second: &Tensor, steps: u64) {
        assert_eq!(first.size(), self.first.size());
        assert_eq!(second.size(), self.second.size());
        self.first.copy_(first);
        self.second.copy_(second);
        self.steps = steps;
    }
}

/// Scales `gradient` in place so that its Euclidean norm is at most `max_norm`; returns the norm before.
///
/// The norm stays a tensor on its device: reading it is the caller's choice, since that waits for the device.
pub fn clip_norm(gradient: &mut Tensor, max_norm: f64) -> Tensor {
    tch::no_grad(|| {
        let norm = gradient.norm();
        // As PyTorch's clip_grad_norm_, including its 1e-6.
        let factor = ((&norm + 1e-6).reciprocal() * max_norm)
            .clamp_max(1.0)
            .to_kind(Kind::Float);
        let _ = gradient.g_mul_(&factor);
        norm
    })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn flat(values: &[f32]) -> Flat {
        let mut layout = Layout::new();
        layout.push("x", &[values.len() as i64]);
        Flat::new(layout, Device::Cpu, |_, view| {
            view.copy_(&Tensor::from_slice(values))
        })
    }

    fn read(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.detach()).unwrap()
    }

    /// The textbook update in f64, one parameter at a time.
    fn reference(mut x: f64, gradients: &[f64], learning_rate: f64, config: AdamWConfig) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for (t, g) in (1..).zip(gradients) {
            m = config.beta1 * m + (1.0 - config.beta1) * g;
            v = config.beta2 * v + (1.0 - config.beta2) * g * g;
            let m_hat = m / (1.0 - config.beta1.powi(t));
            let v_hat: f64 = v / (1.0 - config.beta2.powi(t));
            x -= learning_rate * config.weight_decay * x;
            x -= learning_rate * m_hat / (v_hat.sqrt() + config.eps);
        }
        x
    }

    #[test]
    fn steps_match_the_textbook_update() {
        let config = AdamWConfig {
            weight_decay: 0.1,
            ..AdamWConfig::default()
        };
        let gradients = [[0.3, -2.0, 1e-7], [0.1, 0.5, -3e-8], [-4.0, 0.0, 2e-8]];
        let start = [1.0f32, -0.5, 0.25];
        let mut parameters = flat(&start);
        let mut optimizer = AdamW::new(&parameters, config);
        for gradient in &gradients {
            let gradient: Vec<f32> = gradient.iter().map(|&g| g as f32).collect();
            optimizer.step(&mut parameters, &Tensor::from_slice(&gradient), 0.01);
        }
        for (i, got) in read(parameters.values()).into_iter().enumerate() {
            let column: Vec<f64> = gradients.iter().map(|row| row[i]).collect();
            let expected = reference(start[i].into(), &column, 0.01, config);
            assert!(
                (f64::from(got) - expected).abs() < 2e-7,
                "{i}: {got} {expected}"
            );
        }
    }

    #[test]
    fn what_is_no_matrix_keeps_its_weight_if_asked_to() {
        let layout = || {
            let mut layout = Layout::new();
            layout.push("layers.0.mlp_fc.weight", &[2, 1]);
            layout.push("layers.0.mlp_fc.bias", &[2]);
            layout.push("layers.0.norm_1.weight", &[2]);
            layout.push("embed_timestep", &[2, 1]);
            layout
        };
        for (decay_matrices_only, others) in [(true, 2.0), (false, 1.0)] {
            let mut parameters = Flat::new(layout(), Device::Cpu, |_, view| {
                let _ = view.fill_(2.0);
            });
            let config = AdamWConfig {
                weight_decay: 0.5,
                decay_matrices_only,
                ..AdamWConfig::default()
            };
            let still = parameters.values().zeros_like();
            AdamW::new(&parameters, config).step(&mut parameters, &still, 1.0);
            let [matrix, rest] = [&[1.0; 2][..], &[others; 6]];
            assert_eq!(read(parameters.values()), [matrix, rest].concat());
        }
    }

    #[test]
    fn a_restored_optimizer_continues_bit_for_bit() {
        let gradient = |t: f32| Tensor::from_slice(&[t.sin(), 1.0 / (1.0 + t)]);
        let mut parameters = flat(&[0.5, -1.5]);
        let mut optimizer = AdamW::new(&parameters, AdamWConfig::default());
        optimizer.step(&mut parameters, &gradient(0.0), 0.1);

        let mut copy = parameters.duplicate();
        let mut resumed = AdamW::new(&copy, AdamWConfig::default());
        let (first, second, steps) = optimizer.state();
        resumed.restore(&first.copy(), &second.copy(), steps);
        for t in [1.0, 2.0, 3.0] {
            optimizer.step(&mut parameters, &gradient(t), 0.1);
            resumed.step(&mut copy, &gradient(t), 0.1);
        }
        assert_eq!(read(parameters.values()), read(copy.values()));
        assert_ne!(read(copy.values()), [0.5, -1.5]);
    }

    #[test]
    fn clipping_shortens_long_gradients_only() {
        let mut long = Tensor::from_slice(&[3.0f32, 4.0]);
        assert_eq!(clip_norm(&mut long, 0.5).double_value(&[]), 5.0);
        assert!((long.norm().double_value(&[]) - 0.5).abs() < 1e-6);
        let mut short = Tensor::from_slice(&[0.3f32, 0.4]);
        let _ = clip_norm(&mut short, 0.6);
        assert_eq!(read(&short), [0.3, 0.4]);
    }
}

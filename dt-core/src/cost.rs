//! How much work a control step is, known at compile time.
//!
//! What is computed does not depend on the inputs, but for the paths that `exp` and `tanh` take; so a bound on a step is a matter of
//! counting. [`Config::step_macs`] is exact. [`Config::step_instructions`] is a model of what the compiler and the assembly make of
//! it: instructions of an Armv7E-M processor in the workspace's `firmware` profile. Its coefficients are what the emulator counted,
//! rounded up; `cargo xtask firmware bench` fails where a step exceeds the bound, or the bound is far above the steps.

use crate::config::{Activation, Attention, Config, Dtype, TOKENS_PER_STEP};

/// Tokens of a fused step.
const TOKENS: u64 = TOKENS_PER_STEP as u64;

/// Instructions of a kernel for four columns of a pair of rows, by number of tokens; what four bits per weight add.
const GROUP: [u64; 3] = [9, 14, 20];
const FOUR_BITS: u64 = 5;
/// Of a linear layer, for each pair of rows and for each output; the same for adding it to the residual stream.
const PAIR: u64 = 18;
const OUTPUT: u64 = 9;
const RESIDUAL: u64 = 6;
/// Of ReLU, for each value.
const RELU: u64 = 4;
/// Of quantization and layer norm, for each value and each token.
const QUANTIZE: (u64, u64) = (8, 180);
const NORM: (u64, u64) = (8, 400);
/// Of attention: for each value stored and each multiplication with the cache; for each token and head that attends, for each
/// token that it sees and by itself.
const STORE: u64 = 16;
const CACHED: u64 = 1;
const SEEN: u64 = 115;
const ATTENDING: u64 = 2600;
/// For each value of an embedding; for each input and output of the policy.
const EMBED: u64 = 30;
const PORT: u64 = 400;

impl Config {
    /// Multiplications with weights in a control step whose tokens go through the network together, once the ring is full.
    /// Padding does not count; what nothing needs is not computed and does not count either.
    pub const fn step_macs(&self) -> u64 {
        let (d, f, layers) = (self.d_model as u64, self.d_ff as u64, self.n_layer as u64);
        let (s, a) = (self.state_dim as u64, self.act_dim as u64);
        let steps = self.steps();
        let (tokens, actions) = match self.attention {
            Attention::Streaming => (TOKENS, 1),
            // The action of the newest timestep is not known yet.
            Attention::Window => (TOKENS * steps - 1, steps - 1),
        };
        let embed = d * (steps * (1 + s) + actions * a);
        let token = 4 * d * d + 2 * d * f;
        // In the last layer all tokens have keys and values, but only the newest state goes on.
        let last = 2 * d * d * tokens + token - 2 * d * d;
        embed + layers.saturating_sub(1) * tokens * token + last + a * d
    }

    /// More instructions than an Armv7E-M processor (Cortex-M4F, M7) ever takes for a control step, `act` and `absorb` together,
    /// whatever the inputs. `act` after `run_ahead` takes fewer; both together take up to a quarter more, because weights are read
    /// for fewer tokens at a time. `None` for what was not measured: f32, and GELU.
    ///
    /// Not cycles: those depend on the memory behind the processor.
    pub const fn step_instructions(&self) -> Option<u64> {
        if matches!(self.dtype, Dtype::F32) || matches!(self.activation, Activation::GeluTanh) {
            return None;
        }
        let (d, f, layers) = (self.d_model as u64, self.d_ff as u64, self.n_layer as u64);
        let (s, a) = (self.state_dim as u64, self.act_dim as u64);
        let embed = self.int8(d, 1, 1) + self.int8(d, s, 1) + self.int8(d, a, 1);
        let embed = embed + TOKENS * d * EMBED + norm(TOKENS, d) + quantize(1, 1 + s + a) * TOKENS;
        let inner = self.block(TOKENS) + self.linear(3 * d, d, TOKENS);
        let last = self.block(1) + self.linear(2 * d, d, TOKENS) + self.linear(d, d, 1);
        // Norm, quantization and storage of what keys and values are made of.
        let each = norm(TOKENS, d) + quantize(TOKENS, d) + TOKENS * 2 * d * STORE;
        let activated = (layers.saturating_sub(1) * TOKENS + 1) * f * RELU;
        let head = norm(1, d) + quantize(1, d) + self.int8(a, d, 1) + (s + a) * PORT;
        let blocks = layers.saturating_sub(1) * inner + last + layers * each + activated;
        Some(self.steps() * (embed + blocks + head))
    }

    /// Control steps that are computed in one.
    const fn steps(&self) -> u64 {
        match self.attention {
            Attention::Streaming => 1,
            Attention::Window => self.context_len as u64,
        }
    }

    /// Attention and everything behind it, for so many tokens.
    const fn block(&self, tokens: u64) -> u64 {
        let (d, f, heads) = (self.d_model as u64, self.d_ff as u64, self.n_head as u64);
        // The kernels go over the whole ring, in words of four tokens.
        let seen = (TOKENS * (self.context_len as u64 + 1)).next_multiple_of(4);
        let attention = tokens * (2 * seen * d * CACHED + heads * (seen * SEEN + ATTENDING));
        let linear =
            self.linear(d, d, tokens) + self.linear(f, d, tokens) + self.linear(d, f, tokens);
        let between = 2 * quantize(tokens, d) + quantize(tokens, f) + norm(tokens, d);
        attention + linear + between + 2 * tokens * d * RESIDUAL
    }

    /// One of the matrices of a layer.
    const fn linear(&self, rows: u64, cols: u64, tokens: u64) -> u64 {
        let four_bits = match self.dtype {
            Dtype::Int4 => rows.div_ceil(2) * cols.div_ceil(4) * FOUR_BITS,
            Dtype::Int8 | Dtype::F32 => 0,
        };
        self.int8(rows, cols, tokens) + four_bits
    }

    const fn int8(&self, rows: u64, cols: u64, tokens: u64) -> u64 {
        let group = match tokens {
            1 => GROUP[0],
            2 => GROUP[1],
            _ => GROUP[2],
        };
        rows.div_ceil(2) * (cols.div_ceil(4) * group + PAIR) + rows * tokens * OUTPUT
    }
}

const fn quantize(tokens: u64, len: u64) -> u64 {
    tokens * (len * QUANTIZE.0 + QUANTIZE.1)
}

const fn norm(tokens: u64, len: u64) -> u64 {
    tokens * (len * NORM.0 + NORM.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::config;

    #[test]
    fn the_published_model_multiplies_as_often_as_published() {
        let streaming = Config {
            state_dim: 11,
            act_dim: 3,
            d_model: 128,
            n_layer: 3,
            d_ff: 512,
            context_len: 20,
            ..config()
        };
        // 196,608 per token and layer; in the last only keys and values of three tokens and the rest of one.
        let layers = 2 * 3 * 196_608 + 3 * 32_768 + 163_840;
        assert_eq!(streaming.step_macs(), layers + 128 * 15 + 128 * 3);
        let window = Config {
            attention: Attention::Window,
            ..streaming
        };
        let layers = 2 * 59 * 196_608 + 59 * 32_768 + 163_840;
        assert_eq!(
            window.step_macs(),
            layers + 128 * (20 * 12 + 19 * 3) + 128 * 3
        );
    }

    /// That it is a bound, `cargo xtask firmware bench` finds out.
    #[test]
    fn the_bound_grows_with_the_model() {
        let small = config();
        let bound = |config: Config| config.step_instructions().unwrap();
        for larger in [
            Config {
                n_layer: 3,
                ..small
            },
            Config {
                d_ff: 2 * small.d_ff,
                ..small
            },
            Config {
                d_model: 2 * small.d_model,
                ..small
            },
            Config {
                context_len: 2 * small.context_len,
                ..small
            },
            Config {
                state_dim: 9,
                ..small
            },
            Config {
                act_dim: 9,
                ..small
            },
            Config {
                dtype: Dtype::Int4,
                ..small
            },
            Config {
                attention: Attention::Window,
                ..small
            },
        ] {
            assert!(bound(larger) > bound(small), "{larger:?}");
        }
        for unmeasured in [
            Config {
                dtype: Dtype::F32,
                ..small
            },
            Config {
                activation: Activation::GeluTanh,
                ..small
            },
        ] {
            assert_eq!(unmeasured.step_instructions(), None);
        }
    }
}

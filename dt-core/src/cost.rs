//! How much work a control step is, known at compile time.
//!
//! What is computed does not depend on the inputs, but for the paths that `exp` and `tanh` take; so a bound on a step is a matter of
//! counting. [`Config::step_macs`] is exact. [`Config::step_instructions`] is a model of what the compiler and the assembly make of
//! it: instructions of an Armv7E-M processor in the workspace's `firmware` profile. Its coefficients are what the emulator counted,
//! rounded up; `cargo xtask firmware bench` fails where a step exceeds the bound, or the bound is far above the steps.

use crate::config::{
    Actions, Activation, Attention, Config, Dtype, MIXED_TOKENS, Math, Placed, TOKENS_PER_STEP,
};
use crate::int4::GROUP_COLS;

/// Tokens of a fused step.
const TOKENS: u64 = TOKENS_PER_STEP as u64;

// Matrices in assembly, by number of tokens: what follows from reading it.

/// Four columns of a pair of rows; with one token these come in twos, and what is left over takes more.
const GROUP: [u64; 3] = [7, 13, 19];
const ODD_GROUP: u64 = 4;
/// A round of unrolled groups.
const ROUND: (u64, u64) = (32, 4);
/// A pair of rows: its begin and its finish.
const PAIR: [u64; 3] = [27, 39, 45];
/// Σx of four columns, for one matrix.
const SUM: [u64; 3] = [5, 7, 9];
/// Everything else about a matrix.
const CALL: u64 = 300;
/// The same in four bits: four columns, and what they take more behind the last whole group of 32; a group; what a pair takes
/// more; −8·Σx of four columns and of a group.
const WORD: [u64; 3] = [9, 14, 19];
const LATE_WORD: u64 = 4;
const GROUP_OF_32: [u64; 3] = [19, 26, 33];
const PAIR_MORE: u64 = 6;
const CORRECTION: u64 = 3;
const GROUP_CORRECTION: u64 = 9;
/// A matrix that is too wide comes in parts of so many columns, each of which takes so much for a pair of rows; at the end, for
/// each output.
const PART: (u64, u64) = (1024, 30);
const PART_OUTPUT: u64 = 16;

// Vectors: what the emulator counted, rounded up.

/// Addition and ReLU, for each value, in halves of an instruction.
const ADD: u64 = 4;
const RELU: u64 = 7;
/// The other activations likewise; tanh where it takes its longest way.
const GELU_TANH: u64 = 106;
const GELU: u64 = 91;
const SILU: u64 = 77;
const TANH: u64 = 92;
/// A value and its gate.
const GATE: u64 = 60;
/// Quantization and layer norm: for each value, in halves; for each token; if values are left over after eights.
const QUANTIZE: (u64, u64, u64) = (15, 180, 80);
const NORM: (u64, u64, u64) = (15, 370, 80);
/// Layer norm of less than eight values, which is portable code.
const SHORT_NORM: u64 = 170;
/// Attention: for each value stored, in halves, and each key and value of a head; for each token and head that attends, for each
/// slot and by itself; for each value of its outcome.
const STORE: (u64, u64) = (22, 220);
const SLOT: u64 = 68;
const ATTENDING: u64 = 600;
const OUTCOME: u64 = 4;
/// For each value of an embedded token, by data type; for each token; for each input and output of the policy.
const EMBED: (u64, u64) = (14, 40);
const EMBEDDED: u64 = 250;
const PORT: u64 = 160;
/// Of a perceptron: for each value that it sees, to be moved by a state's length; for each hidden layer.
const SHIFT: u64 = 6;
const HIDDEN: u64 = 200;
/// Images: a value of a square, in halves, and a row of three, as they become columns; a value of others, or where rows are no
/// whole words; a block of columns; an image; a value of an embedding that is there already.
const PATCH: (u64, u64) = (8, 70);
const PIXEL: u64 = 20;
const BLOCK: u64 = 100;
const SEEING: u64 = 3000;
const COPIED: u64 = 4;
/// A convolution over tokens: a component and token; a token.
const TAP: u64 = 10;
const TAPPED: u64 = 60;
/// A choice that is drawn among the largest logits, the dearest kind: by itself, and for each logit.
const CHOICE: (u64, u64) = (1800, 560);

impl Config {
    /// Multiplications with weights in a control step whose tokens go through the network together, once the ring is full.
    /// Padding does not count; what nothing needs is not computed and does not count either.
    pub const fn step_macs(&self) -> u64 {
        if self.is_mlp() {
            let (f, a) = (self.d_ff as u64, self.act_dim as u64);
            let between = (self.n_layer as u64).saturating_sub(1) * f * f;
            return f * self.seen_len() as u64 + between + a * f;
        }
        let (d, f, layers) = (self.d_model as u64, self.d_ff as u64, self.n_layer as u64);
        let (s, a) = (self.state_dim as u64, self.act_dim as u64);
        let (steps, image) = (self.steps(), self.image_macs());
        let states = match self.image() {
            Some(_) => 0,
            None => steps * s,
        };
        let (tokens, actions) = match self.attention {
            Attention::Streaming => (TOKENS, 1),
            // The action of the newest timestep is not known yet.
            Attention::Window => (TOKENS * steps - 1, steps - 1),
        };
        let embed = image + d * (steps + states + actions * a);
        if self.is_convolved() {
            let token = MIXED_TOKENS as u64 * d + 2 * d * f;
            let all = layers.saturating_sub(1) * tokens + self.asking();
            let glu = if self.glu { 2 * d * d } else { 0 };
            return embed + all * token + glu + (a + self.predicted()) * d;
        }
        let token = 4 * d * d + 2 * d * f;
        // In the last layer all tokens have keys and values, but only the newest state goes on, and the newest action where it predicts something.
        let last = 2 * d * d * tokens + self.asking() * (token - 2 * d * d);
        let glu = if self.glu { 2 * d * d } else { 0 };
        embed + layers.saturating_sub(1) * tokens * token + last + glu + (a + self.predicted()) * d
    }

    /// More instructions than an Armv7E-M processor (Cortex-M4F, M7) ever takes for a control step, `act` and `absorb` together,
    /// whatever the inputs. `act` after `run_ahead` takes fewer; both together take up to a quarter more, because weights are read
    /// for fewer tokens at a time. `None` for what was not measured: f32, and other mathematics than [`Math::Polynomial`], hence
    /// all files of format version 1.
    ///
    /// Not cycles: those depend on the memory behind the processor.
    pub const fn step_instructions(&self) -> Option<u64> {
        match (self.dtype, self.math) {
            (Dtype::Int8 | Dtype::Int4, Math::Polynomial) => {}
            _ => return None,
        }
        if self.is_mlp() {
            return Some(self.perceive() + self.choice());
        }
        let d = self.d_model as u64;
        let (s, a) = (self.state_dim as u64, self.act_dim as u64);
        let table = match self.dtype {
            Dtype::Int4 => EMBED.1,
            Dtype::Int8 | Dtype::F32 => EMBED.0,
        };
        // The embedding of an image is there already, its tanh as well.
        let (state, ports, embedded) = match self.image() {
            Some(_) => (d * COPIED, a, TOKENS - 1),
            None => (self.input(s), s + a, TOKENS),
        };
        let tanh = if self.has_embedding_tanh() {
            embedded * half(d * TANH)
        } else {
            0
        };
        let inputs = self.input(1) + state + self.input(a) + tanh;
        let embed = inputs + TOKENS * (d * table + EMBEDDED) + ports * PORT;
        let glu = if self.glu {
            int8(2 * d, d, 1) + d * GATE + quantize(1, d)
        } else {
            0
        };
        let head = norm(1, d) + quantize(1, d) + glu + int8(a, d, 1);
        let predictions = if self.predicts() {
            let outputs = self.predicted();
            norm(1, d) + quantize(1, d) + int8(outputs, d, 1) + CALL + outputs * PORT
        } else {
            0
        };
        let together = embed + head + self.pass(TOKENS, self.asking());
        // With the state first the newest return-to-go goes through by itself, when the others have.
        let newest = match self.is_state_first() {
            true => embed + head + self.pass(TOKENS - 1, 1) + self.pass(1, 1),
            false => together,
        };
        let repeated = self.steps().saturating_sub(1) * together + newest;
        Some(repeated + self.see() + self.choice() + predictions)
    }

    /// Tokens through all blocks, in the last of which some go on.
    const fn pass(&self, tokens: u64, asking: u64) -> u64 {
        let layers = (self.n_layer as u64).saturating_sub(1);
        let blocks = layers * self.block(tokens, tokens) + self.block(tokens, asking);
        norm(tokens, self.d_model as u64) + blocks
    }

    /// Of a perceptron: the states it sees, its hidden layers, its head.
    const fn perceive(&self) -> u64 {
        let (seen, f) = (self.seen_len() as u64, self.d_ff as u64);
        let (s, a) = (self.state_dim as u64, self.act_dim as u64);
        let between = (self.n_layer as u64).saturating_sub(1);
        let first = seen * SHIFT + quantize(1, seen) + int8(f, seen, 1);
        let others = between * self.linear(f, f, 1);
        let each = HIDDEN + half(f * self.activated()) + quantize(1, f);
        first + others + (between + 1) * each + int8(a, f, 1) + (s + a) * PORT
    }

    const fn choice(&self) -> u64 {
        match self.actions {
            Actions::Continuous => 0,
            Actions::Discrete => CHOICE.0 + self.act_dim as u64 * CHOICE.1,
        }
    }

    /// Multiplications for an image, which is encoded once, however often a window recomputes what follows from it.
    const fn image_macs(&self) -> u64 {
        let Some(image) = self.image() else { return 0 };
        let [first, second, third] = image.placed();
        let convolutions = macs(first) + macs(second) + macs(third);
        convolutions + self.d_model as u64 * image.flat() as u64
    }

    /// From an image to its embedding.
    const fn see(&self) -> u64 {
        let Some(image) = self.image() else { return 0 };
        let (d, flat) = (self.d_model as u64, image.flat() as u64);
        let [first, second, third] = image.placed();
        let pixels = match first {
            Some(_) => 0,
            None => flat * PIXEL,
        };
        let tanh = if self.has_embedding_tanh() {
            half(d * TANH)
        } else {
            0
        };
        let maps = convolve(first) + convolve(second) + convolve(third);
        SEEING + maps + pixels + int8(d, flat, 1) + tanh
    }

    /// Values predicted in a step besides the action.
    const fn predicted(&self) -> u64 {
        if self.predicts() {
            self.predictions_len() as u64
        } else {
            0
        }
    }

    /// Tokens that go on in the last layer: the state, and the action where it predicts something.
    const fn asking(&self) -> u64 {
        if self.predicts() { 2 } else { 1 }
    }

    /// Control steps that are computed in one.
    const fn steps(&self) -> u64 {
        match self.attention {
            Attention::Streaming => 1,
            Attention::Window => self.context_len as u64,
        }
    }

    /// One input of the network, on its way to a token.
    const fn input(&self, len: u64) -> u64 {
        quantize(1, len) + int8(self.d_model as u64, len, 1)
    }

    /// A block: keys and values for all tokens, all else for those that go on.
    const fn block(&self, stored: u64, tokens: u64) -> u64 {
        let d = self.d_model as u64;
        if self.is_convolved() {
            let store = norm(stored, d) + stored * (d * COPIED + EMBEDDED);
            return store
                + tokens * (MIXED_TOKENS as u64 * (d * TAP + TAPPED) + d * COPIED + EMBEDDED)
                + self.second_half(tokens);
        }
        let store = norm(stored, d) + quantize(stored, d) + self.store(stored);
        let mixer = if self.is_folded() {
            let rows = self.folded_rows() as u64;
            self.linear(rows, d, stored) + self.attend(tokens) + 2 * half(tokens * d * ADD)
        } else {
            let heads = self.n_head as u64;
            self.linear(2 * d, d, stored)
                + self.linear(d, d, tokens)
                + heads * quantize(tokens, self.d_head() as u64)
                + self.attend(tokens)
                + quantize(tokens, d)
                + self.linear(d, d, tokens)
                + half(tokens * d * ADD)
        };
        store + mixer + self.second_half(tokens)
    }

    /// The second half of a block.
    const fn second_half(&self, tokens: u64) -> u64 {
        let (d, f) = (self.d_model as u64, self.d_ff as u64);
        norm(tokens, d)
            + quantize(tokens, d)
            + self.linear(f, d, tokens)
            + half(tokens * f * self.activated())
            + quantize(tokens, f)
            + self.linear(d, f, tokens)
            + half(tokens * d * ADD)
    }

    /// A value of the MLP's hidden layer, in halves.
    const fn activated(&self) -> u64 {
        match self.activation {
            Activation::Relu => RELU,
            Activation::GeluTanh => GELU_TANH,
            Activation::Gelu => GELU,
            Activation::Silu => SILU,
            Activation::Tanh => TANH,
        }
    }

    /// Keys and values of a step's tokens go into the cache.
    const fn store(&self, tokens: u64) -> u64 {
        let vectors = 2 * self.n_head as u64;
        let each = half(self.d_head() as u64 * STORE.0)
            + STORE.1
            + left_over(self.d_head() as u64, QUANTIZE.2);
        tokens * vectors * each
    }

    /// Between queries and what becomes of them.
    const fn attend(&self, tokens: u64) -> u64 {
        let (heads, d_head) = (self.n_head as u64, self.d_head() as u64);
        // The kernels go over the whole ring, in groups of four tokens.
        let slots = (TOKENS * (self.context_len as u64 + 1)).next_multiple_of(4);
        let products = int8(slots, d_head, tokens) + int8(d_head, slots, tokens);
        heads * (products + tokens * (slots * SLOT + ATTENDING + d_head * OUTCOME))
    }

    /// One of the matrices of a layer.
    const fn linear(&self, rows: u64, cols: u64, tokens: u64) -> u64 {
        match self.dtype {
            Dtype::Int4 => int4(rows, cols, tokens),
            Dtype::Int8 | Dtype::F32 => int8(rows, cols, tokens),
        }
    }
}

const fn macs(placed: Option<Placed>) -> u64 {
    let Some(placed) = placed else { return 0 };
    let [height, width, filters] = placed.output;
    height as u64 * width as u64 * filters as u64 * placed.cols() as u64
}

/// A convolution, ReLU behind it, and the map quantized. All places go in threes but the last ones.
const fn convolve(placed: Option<Placed>) -> u64 {
    let Some(placed) = placed else { return 0 };
    let [height, width, filters] = placed.output;
    let [_, _, channels] = placed.input;
    let (places, filters) = (height as u64 * width as u64, filters as u64);
    let (cols, kernel) = (placed.cols() as u64, placed.convolution.kernel as u64);
    let copy_three = if (kernel * channels as u64).is_multiple_of(4) {
        half(3 * cols * PATCH.0) + kernel * PATCH.1
    } else {
        3 * cols * PIXEL
    };
    let rest = match places % 3 {
        0 => 0,
        rest => int8(filters, cols, rest) + rest * cols * PIXEL + BLOCK,
    };
    let products = places / 3 * (int8(filters, cols, 3) + copy_three + BLOCK) + rest;
    let values = places * filters;
    products + half(values * RELU) + quantize(1, values)
}

const fn int8(rows: u64, cols: u64, tokens: u64) -> u64 {
    let groups = cols.div_ceil(4);
    let odd = if tokens == 1 {
        groups % 2 * ODD_GROUP
    } else {
        0
    };
    let rounds = groups.div_ceil(ROUND.0).saturating_sub(1) * ROUND.1;
    let pair = groups * of(GROUP, tokens) + odd + rounds + of(PAIR, tokens);
    rows.div_ceil(2) * pair + groups * of(SUM, tokens) + CALL
}

const fn int4(rows: u64, cols: u64, tokens: u64) -> u64 {
    let (words, groups) = (cols.div_ceil(4), cols.div_ceil(GROUP_COLS as u64));
    let late = cols % GROUP_COLS as u64 / 4 * LATE_WORD;
    let parts = cols.div_ceil(PART.0);
    let (of_pair, of_output) = if parts > 1 {
        (parts * PART.1, PART_OUTPUT)
    } else {
        (0, 0)
    };
    let columns = words * of(WORD, tokens) + late + groups * of(GROUP_OF_32, tokens);
    let pair = columns + of(PAIR, tokens) + PAIR_MORE + of_pair;
    let corrections = words * (of(SUM, tokens) + CORRECTION) + groups * GROUP_CORRECTION;
    rows.div_ceil(2) * pair + corrections + rows * tokens * of_output + parts * CALL
}

const fn quantize(tokens: u64, len: u64) -> u64 {
    tokens * (half(len * QUANTIZE.0) + QUANTIZE.1 + left_over(len, QUANTIZE.2))
}

const fn norm(tokens: u64, len: u64) -> u64 {
    let short = if len < 8 { SHORT_NORM } else { 0 };
    tokens * (half(len * NORM.0) + NORM.1 + left_over(len, NORM.2) + short)
}

/// What is listed for one to three tokens.
const fn of([one, two, three]: [u64; 3], tokens: u64) -> u64 {
    match tokens {
        1 => one,
        2 => two,
        _ => three,
    }
}

const fn half(twice: u64) -> u64 {
    twice.div_ceil(2)
}

const fn left_over(len: u64, cost: u64) -> u64 {
    if len.is_multiple_of(8) { 0 } else { cost }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mixer, Order, Predictions};
    use crate::fixture::config;

    const CRITIC: Predictions = Predictions {
        state: false,
        return_to_go: true,
    };

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
        let state_first = Config {
            predictions: CRITIC,
            order: Order::StateFirst,
            ..streaming
        };
        let convolved = Config {
            mixer: Mixer::Convolution,
            n_head: 1,
            ..streaming
        };
        // Six factors for each component instead of 65,536 a token.
        let token = 131_072 + 6 * 128;
        assert_eq!(convolved.step_macs(), 7 * token + 128 * 15 + 128 * 3);
        // And the rest of the state's token, for the return.
        let macs = layers + 163_840 + 128 * 15 + 128 * 4;
        assert_eq!(state_first.step_macs(), macs);
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

    #[test]
    fn a_perceptron_multiplies_its_matrices() {
        let bc = Config::mlp([11, 3], [3, 128], 20);
        assert_eq!(bc.step_macs(), 128 * 220 + 2 * 128 * 128 + 3 * 128);
        let int8 = Config {
            dtype: Dtype::Int8,
            ..bc
        };
        assert_eq!(bc.step_instructions(), None);
        let bound = |config: Config| config.step_instructions().unwrap();
        for larger in [
            Config { n_layer: 4, ..int8 },
            Config { d_ff: 132, ..int8 },
            Config {
                context_len: 21,
                ..int8
            },
            Config {
                state_dim: 12,
                ..int8
            },
            Config { act_dim: 5, ..int8 },
            Config {
                dtype: Dtype::Int4,
                ..int8
            },
            Config {
                activation: Activation::Tanh,
                ..int8
            },
            Config {
                actions: Actions::Discrete,
                ..int8
            },
        ] {
            assert!(bound(larger) > bound(int8), "{larger:?}");
        }
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
            Config { glu: true, ..small },
            Config {
                predictions: CRITIC,
                ..small
            },
            Config {
                activation: Activation::Silu,
                ..small
            },
            Config {
                actions: Actions::Discrete,
                ..small
            },
            Config {
                attention: Attention::Window,
                ..small
            },
        ] {
            assert!(bound(larger) > bound(small), "{larger:?}");
        }
        let critic = Config {
            predictions: CRITIC,
            ..small
        };
        for attention in [Attention::Streaming, Attention::Window] {
            let critic = Config {
                attention,
                ..critic
            };
            let state_first = Config {
                order: Order::StateFirst,
                ..critic
            };
            assert!(bound(state_first) > bound(critic), "{attention:?}");
        }
        for unmeasured in [
            Config {
                dtype: Dtype::F32,
                ..small
            },
            Config {
                math: Math::Libm,
                ..small
            },
            Config {
                math: Math::Micromath,
                ..small
            },
        ] {
            assert_eq!(unmeasured.step_instructions(), None);
        }
    }
}

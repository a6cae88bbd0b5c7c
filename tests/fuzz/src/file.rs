//! Policy files out of fuzz inputs.

use std::ops::Range;

use dt_core::blob::{
    ALIGNMENT, Affine, AtMaxEpLen, BeyondLimits, Blob, BlobError, Choice, EmitError, Golden,
    LayerParameters, MAGIC, Manifest, MixerParameters, Parameters, ReturnLimits, RewardMode,
    Sampling, VERSION, Vectors, emit, emitted_len,
};
use dt_core::config::{
    Actions, Activation, Attention, Config, Convolution, Dtype, Embeddings, Encoder, Head,
    ImageEncoder, MAX_CONVOLUTIONS, MIXED_TOKENS, Math, Mixer, Network, Order, Predictions,
    TOKENS_PER_STEP,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::script::Script;

/// Larger files would only be slower.
const MAX_LEN: usize = 1 << 16;

// BLOB.md, "Layout".
const VERSION_FIELD: Range<usize> = 8..12;
const CRC_FIELD: Range<usize> = 12..16;
const LENGTH_FIELD: Range<usize> = 16..20;
const HEADER_LEN: usize = 24;

/// Aligned bytes.
pub struct File {
    words: Vec<u128>,
    len: usize,
}

impl File {
    pub fn new(bytes: &[u8]) -> Self {
        let mut file = Self {
            words: Vec::new(),
            len: 0,
        };
        file.resize(bytes.len());
        file.bytes_mut().copy_from_slice(bytes);
        file
    }

    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }

    fn resize(&mut self, len: usize) {
        self.words.resize(len.div_ceil(ALIGNMENT), 0);
        self.len = len;
    }

    /// A file and the script that follows it, the header made right: magic, version, length and CRC.
    pub fn repaired(input: &[u8]) -> (Self, Script<'_>) {
        let stated = input
            .get(LENGTH_FIELD)
            .and_then(|field| field.try_into().ok());
        let stated = stated.map_or(0, |field| u32::from_le_bytes(field) as usize);
        let len = if (HEADER_LEN..=input.len()).contains(&stated) {
            stated
        } else {
            input.len()
        };
        let (file, script) = input.split_at(len);
        let mut file = Self::new(file);
        file.resize(len.max(HEADER_LEN));
        file.seal();
        // If all that is wrong is the length, the error says which is right.
        let error = Blob::parse(file.bytes()).err();
        if let Some(BlobError::Length {
            expected: Some(len),
            ..
        }) = error
            && len <= MAX_LEN
        {
            file.resize(len);
            file.seal();
        }
        (file, Script::new(script))
    }

    /// The small policy that a script describes, with some of its bytes changed after quantization.
    pub fn described(mut script: Script<'_>) -> (Self, Script<'_>) {
        let mut file = Self::new(&[]);
        // Numbers may be too large to scale; then there is no file.
        if file.emit(&mut script).is_err() {
            file.resize(0);
            return (file, script);
        }
        for _ in 0..script.below(8) {
            let at = usize::from(script.u16()) % file.len;
            file.bytes_mut()[at] = script.byte();
        }
        file.seal();
        (file, script)
    }

    fn seal(&mut self) {
        let len = u32::try_from(self.len).expect("a small file");
        let file = self.bytes_mut();
        file[..MAGIC.len()].copy_from_slice(&MAGIC);
        file[VERSION_FIELD].copy_from_slice(&VERSION.to_le_bytes());
        file[LENGTH_FIELD].copy_from_slice(&len.to_le_bytes());
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
        let mut digest = crc.digest();
        digest.update(&file[..CRC_FIELD.start]);
        digest.update(&file[CRC_FIELD.end..]);
        let checksum = digest.finalize();
        file[CRC_FIELD].copy_from_slice(&checksum.to_le_bytes());
    }

    fn emit(&mut self, script: &mut Script<'_>) -> Result<(), EmitError> {
        let manifest = manifest(script);
        let config = &manifest.config;
        let [d, f, s, a, t] = [
            config.d_model,
            config.d_ff,
            config.state_vector_len(),
            config.act_dim,
            config.max_ep_len,
        ]
        .map(|dim| dim as usize);
        let mut random = Random::new(script);
        let (seen, width) = match config.network {
            Network::Mlp => (config.seen_len() as usize, f),
            _ => (s, d),
        };
        let inputs = config.embedded_len() as usize;
        let ends =
            [(d, 1), (d, inputs), (d, a), (a, width)].map(|(rows, cols)| random.linear(rows, cols));
        let mixer = config.mixer;
        let [rows, cols] = match config.mixer {
            Mixer::Folded => [config.folded_rows() as usize, d],
            // Filters over tokens: as many numbers as if they were a matrix.
            Mixer::Convolution => [TOKENS_PER_STEP * d, MIXED_TOKENS],
            _ => [3 * d, d],
        };
        let table = random.numbers(t * d, random.weight);
        let norms = [random.norm(d), random.norm(d)];
        let (blocks, hidden) = match config.network {
            Network::Mlp => (0, config.n_layer),
            _ => (config.n_layer, 0),
        };
        let hidden: Vec<_> = (0..hidden)
            .map(|i| random.linear(f, if i == 0 { seen } else { f }))
            .collect();
        let hidden: Vec<_> = hidden.iter().map(Owned::borrow).collect();
        let layers: Vec<_> = (0..blocks)
            .map(|_| Layer {
                norms: [random.norm(d), random.norm(d)],
                linears: [(rows, cols), (d, d), (f, d), (d, f)]
                    .map(|(rows, cols)| random.linear(rows, cols)),
            })
            .collect();
        let convolutions: Vec<_> = config
            .image()
            .into_iter()
            .flat_map(ImageEncoder::placed)
            .flatten()
            .map(|placed| {
                random.linear(placed.convolution.filters as usize, placed.cols() as usize)
            })
            .collect();
        let convolutions: Vec<_> = convolutions.iter().map(Owned::borrow).collect();
        let layers: Vec<_> = layers.iter().map(|layer| layer.borrow(mixer)).collect();
        let glu = random.linear(if config.glu { 2 * d } else { 0 }, d);
        let heads = config.predictions;
        let state_head = random.linear(if heads.state { s } else { 0 }, d);
        let return_head = random.linear(if heads.return_to_go { 1 } else { 0 }, d);
        let places = random.numbers(config.position_rows() * d, random.weight);
        let [embed_return, embed_state, embed_action, head] = ends.each_ref().map(Owned::borrow);
        let [embed_ln, ln_f] = norms.each_ref().map(Owned::borrow);
        let parameters = Parameters {
            embed_return,
            convolutions: &convolutions,
            embed_state,
            embed_action,
            embed_timestep: &table,
            embed_position: &places,
            embed_ln: match config.has_embedding_norm() {
                true => embed_ln,
                false => Affine::default(),
            },
            layers: &layers,
            hidden: &hidden,
            ln_f,
            glu: glu.borrow(),
            head,
            state_head: state_head.borrow(),
            return_head: return_head.borrow(),
        };

        let state_std: Vec<_> = script.numbers(s).into_iter().map(f32::abs).collect();
        let (state_low, state_high) = ordered(script, s);
        let (action_low, action_high) = match config.actions {
            Actions::Continuous => ordered(script, a),
            Actions::Discrete => (vec![0.0], vec![(a - 1) as f32]),
        };
        let vectors = Vectors {
            state_mean: &script.numbers(s),
            state_std: &state_std,
            state_low: &state_low,
            state_high: &state_high,
            action_low: &action_low,
            action_high: &action_high,
            safe_action: &action_low,
        };
        let records = script.numbers(manifest.golden_steps as usize * manifest.golden_record_len());
        let images = (manifest.golden_images * config.state_dim) as usize;
        let images: Vec<_> = (0..images).map(|_| script.byte()).collect();
        let golden = Golden {
            records: &records,
            images: &images,
        };
        self.resize(emitted_len(&manifest)?);
        emit(&manifest, &vectors, &parameters, golden, self.bytes_mut())?;
        Ok(())
    }
}

fn manifest(script: &mut Script<'_>) -> Manifest<'static> {
    let mut dim = |max| u32::from(1 + script.below(max));
    // Small, since what a dimension can break it breaks at a small size, and speed is coverage.
    let n_head = dim(2);
    let (activation_glu_and_heads, max_ep_len_and_image);
    let mut config = Config {
        state_dim: dim(5),
        act_dim: dim(3),
        d_model: 4 * n_head * dim(2),
        n_layer: dim(2),
        n_head,
        d_ff: 4 * dim(5),
        context_len: dim(4),
        max_ep_len: {
            // Of one byte, too: its last values mean an image.
            max_ep_len_and_image = script.byte();
            u32::from(max_ep_len_and_image % 12)
        },
        dtype: [Dtype::Int8, Dtype::F32, Dtype::Int4][usize::from(script.below(3))],
        attention: [Attention::Streaming, Attention::Window][usize::from(script.below(2))],
        activation: {
            // Of one byte, so that the corpus keeps its meaning in all else.
            activation_glu_and_heads = script.below(40);
            [
                Activation::Relu,
                Activation::GeluTanh,
                Activation::Gelu,
                Activation::Silu,
                Activation::Tanh,
            ][usize::from(activation_glu_and_heads % 5)]
        },
        head: [Head::Tanh, Head::Linear][usize::from(script.below(2))],
        mixer: if n_head == 1 {
            [Mixer::Attention, Mixer::Folded, Mixer::Convolution][usize::from(script.below(3))]
        } else {
            Mixer::Attention
        },
        math: [Math::Libm, Math::Micromath, Math::Polynomial][usize::from(script.below(3))],
        layer_norm_eps: [1e-5, f32::MIN_POSITIVE, f32::from_bits(1), 1e30]
            [usize::from(script.below(4))],
        glu: activation_glu_and_heads / 5 % 2 == 1,
        actions: Actions::Continuous,
        predictions: Predictions {
            state: activation_glu_and_heads / 10 % 2 == 1,
            return_to_go: activation_glu_and_heads >= 20,
        },
        network: Network::Transformer,
        encoder: Encoder::Linear,
        embeddings: Embeddings::GYM,
        order: Order::ReturnFirst,
    };
    // Last, so that what was found before means the same.
    let choice_and_network = script.byte();
    if choice_and_network >= 192 {
        config = Config {
            dtype: config.dtype,
            activation: config.activation,
            head: config.head,
            math: config.math,
            ..Config::mlp(
                [config.state_dim, config.act_dim],
                [config.n_layer, config.d_ff],
                config.context_len,
            )
        };
    }
    if (128..160).contains(&choice_and_network) {
        let is_window = config.attention == Attention::Window && config.mixer != Mixer::Convolution;
        config.embeddings = match is_window {
            true => Embeddings::ATARI,
            false => Embeddings {
                norm: false,
                ..Embeddings::GYM
            },
        };
    }
    if (160..192).contains(&choice_and_network) {
        config.order = Order::StateFirst;
        config.predictions = Predictions {
            state: false,
            return_to_go: true,
        };
    }
    let choice = match choice_and_network % 4 {
        kind @ 0..2 => {
            (config.actions, config.head) = (Actions::Discrete, Head::Linear);
            let temperature =
                [1.0, f32::from_bits(1), f32::MAX, 0.25][usize::from(script.below(4))];
            match kind {
                0 => Choice::Greedy,
                _ => Choice::Sampled(Sampling {
                    temperature,
                    top_k: u32::from(script.below(4)),
                    seed: script.byte().into(),
                }),
            }
        }
        _ => Choice::Greedy,
    };
    if max_ep_len_and_image >= IMAGES {
        let image = image(script);
        config.state_dim = image.pixels();
        config.encoder = Encoder::Image(image);
        config.embeddings.tanh = max_ep_len_and_image % 2 == 1;
        config.predictions.state = false;
    }
    let golden_images = u32::from(config.image().is_some());
    let (low, high) = ordered(script, 1);
    let limits = [
        None,
        Some((BeyondLimits::Clamp, low[0], high[0])),
        Some((BeyondLimits::Fault, low[0], high[0])),
    ][usize::from(script.below(3))];
    let golden_steps;
    Manifest {
        return_scale: [1000.0, 1.0, f32::MIN_POSITIVE, f32::MAX][usize::from(script.below(4))],
        target_return: script.number(),
        return_limits: limits.map(|(beyond, low, high)| ReturnLimits { low, high, beyond }),
        reward: [
            RewardMode::Observed,
            match config.order {
                Order::ReturnFirst => RewardMode::Constant,
                Order::StateFirst => RewardMode::Predicted,
            },
            RewardMode::External,
        ][usize::from(script.below(3))],
        control_period_us: 1,
        at_max_ep_len: if config.max_ep_len > 0 {
            [AtMaxEpLen::Saturate, AtMaxEpLen::Fault][usize::from(script.below(2))]
        } else {
            AtMaxEpLen::Saturate
        },
        golden_steps: {
            golden_steps = u32::from(script.below(3));
            golden_steps
        },
        golden_images: golden_images.min(golden_steps),
        env: "pendulum",
        choice,
        ..Manifest::new(config)
    }
}

/// From this byte on.
const IMAGES: u8 = 252;

/// A small image with convolutions that fit.
fn image(script: &mut Script<'_>) -> ImageEncoder {
    let mut side = |max| 1 + u32::from(script.below(max));
    let mut image = ImageEncoder {
        height: side(8),
        width: side(8),
        channels: side(4),
        convolutions: [Convolution::NONE; MAX_CONVOLUTIONS],
    };
    for place in 0..usize::from(script.below(4)) {
        let [height, width, _] = image.last();
        let largest = u8::try_from(height.min(width)).unwrap_or(1);
        image.convolutions[place] = Convolution {
            filters: 4 * (1 + u32::from(script.below(2))),
            kernel: 1 + u32::from(script.below(largest)),
            stride: 1 + u32::from(script.below(3)),
        };
    }
    image
}

/// Two vectors, the first nowhere above the second.
fn ordered(script: &mut Script<'_>, len: usize) -> (Vec<f32>, Vec<f32>) {
    (0..len)
        .map(|_| {
            let (a, b) = (script.number(), script.number());
            if a <= b { (a, b) } else { (b, a) }
        })
        .unzip()
}

/// Weight and bias.
struct Owned(Vec<f32>, Vec<f32>);

impl Owned {
    fn borrow(&self) -> Affine<'_> {
        Affine {
            weight: &self.0,
            bias: &self.1,
        }
    }
}

struct Layer {
    norms: [Owned; 2],
    linears: [Owned; 4],
}

impl Layer {
    fn borrow(&self, mixer: Mixer) -> LayerParameters<'_> {
        let [ln_1, ln_2] = self.norms.each_ref().map(Owned::borrow);
        let [first, second, mlp_fc, mlp_proj] = self.linears.each_ref().map(Owned::borrow);
        LayerParameters {
            ln_1,
            mixer: match mixer {
                Mixer::Folded => MixerParameters::Folded {
                    key_value: first,
                    bias: second.bias,
                },
                Mixer::Convolution => MixerParameters::Convolution(first),
                _ => MixerParameters::Attention {
                    qkv: first,
                    proj: second,
                },
            },
            ln_2,
            mlp_fc,
            mlp_proj,
        }
    }
}

/// Weights by the thousand: random, of magnitudes that the script chooses.
struct Random {
    source: ChaCha8Rng,
    weight: f32,
    bias: f32,
    norm: f32,
}

impl Random {
    fn new(script: &mut Script<'_>) -> Self {
        let source = ChaCha8Rng::seed_from_u64(script.byte().into());
        let mut gain = || match script.byte() {
            // Ordinary half of the time, else 2^-128 to 2^126.
            ordinary @ 0..128 => f32::from(ordinary) / 64.0,
            other => 2f32.powi(2 * (i32::from(other) - 192)),
        };
        Self {
            weight: gain(),
            bias: gain(),
            norm: gain(),
            source,
        }
    }

    fn numbers(&mut self, len: usize, gain: f32) -> Vec<f32> {
        (0..len)
            .map(|_| gain * self.source.random_range(-1.0f32..=1.0))
            .collect()
    }

    fn linear(&mut self, rows: usize, cols: usize) -> Owned {
        let weight = self.numbers(rows * cols, self.weight);
        Owned(weight, self.numbers(rows, self.bias))
    }

    fn norm(&mut self, len: usize) -> Owned {
        let weight = self.numbers(len, self.norm);
        Owned(weight, self.numbers(len, self.bias))
    }
}

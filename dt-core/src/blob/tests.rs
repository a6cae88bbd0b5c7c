use super::*;
use crate::config::{
    Activation, Attention, ConfigError, Dtype, Embeddings, Head, Math, Mixer, Order,
};
use crate::fixture::{Fixture, config};
use crate::int4;

fn bytes(file: &[u128]) -> &[u8] {
    bytemuck::cast_slice(file)
}

mod perceptrons;

/// A file small enough to try everything on.
fn small() -> Vec<u128> {
    let config = Config {
        state_dim: 1,
        d_model: 4,
        n_layer: 1,
        n_head: 1,
        d_ff: 4,
        max_ep_len: 1,
        context_len: 2,
        ..config()
    };
    Fixture::new(config, 3).emit().unwrap()
}

/// The same of a perceptron; its 3 inputs leave a column of padding.
fn small_perceptron() -> Vec<u128> {
    let config = Config {
        dtype: Dtype::Int8,
        ..Config::mlp([1, 1], [2, 4], 3)
    };
    Fixture::new(config, 3).emit().unwrap()
}

/// Copies `file` to an aligned buffer, changes it and restores the checksum.
pub(crate) fn forged(file: &[u128], change: impl FnOnce(&mut [u8])) -> Vec<u128> {
    let mut file = file.to_vec();
    let view: &mut [u8] = bytemuck::cast_slice_mut(&mut file);
    change(view);
    let length = u32::from_le_bytes(view[LENGTH_FIELD].try_into().unwrap()) as usize;
    let crc = checksum(&view[..length.min(view.len())]);
    view[CRC_FIELD].copy_from_slice(&crc.to_le_bytes());
    file
}

/// Byte offset of a tensor, found by its (unique) position in memory.
pub(crate) fn offset<T>(file: &[u128], tensor: &[T]) -> usize {
    tensor.as_ptr() as usize - file.as_ptr() as usize
}

#[test]
fn round_trip() {
    for dtype in [Dtype::F32, Dtype::Int8, Dtype::Int4] {
        for max_ep_len in [0, 9] {
            for (state_dim, act_dim) in [(3, 1), (5, 4), (1, 2)] {
                let config = Config {
                    dtype,
                    max_ep_len,
                    state_dim,
                    act_dim,
                    ..config()
                };
                let fixture = Fixture::new(config, 1);
                let file = fixture.emit().unwrap();
                let blob = Blob::parse(bytes(&file)).unwrap();
                assert_eq!(*blob.manifest(), fixture.manifest);
                assert_eq!(blob.file_len(), emitted_len(&fixture.manifest).unwrap());
                assert_eq!(blob.model().layers().count(), 2);
            }
        }
    }
}

#[test]
fn quantized_weights_are_within_half_a_step() {
    let emit = |dtype| {
        let config = Config {
            dtype,
            state_dim: 5,
            ..config()
        };
        Fixture::new(config, 1).emit().unwrap()
    };
    let (f32_file, int8_file) = (emit(Dtype::F32), emit(Dtype::Int8));
    let exact = Blob::parse(bytes(&f32_file)).unwrap();
    let rounded = Blob::parse(bytes(&int8_file)).unwrap();
    let pairs = exact.model.linears().zip(rounded.model.linears());
    for ((name, exact), (_, rounded)) in pairs {
        for row in 0..exact.rows() {
            let weight = |linear: &crate::model::Linear<'_>, col| linear.weight(row, col).unwrap();
            let max = (0..exact.cols())
                .map(|c| weight(&exact, c).abs())
                .fold(0.0, |max: f32, w| if w > max { w } else { max });
            for col in 0..exact.cols() {
                let error = (weight(&exact, col) - weight(&rounded, col)).abs();
                assert!(error <= 0.501 * max / 127.0, "{name} {row} {col}");
            }
        }
        assert_eq!(exact.weight(exact.rows(), 0), None);
        assert_eq!(exact.weight(0, exact.cols()), None);
    }
}

/// Blocks hold what the quantizer makes of them; everything else is as in an int8 file.
#[test]
fn int4_files_have_four_bits_per_weight_of_a_block() {
    let emit = |dtype| {
        let config = Config {
            dtype,
            d_model: 40,
            d_ff: 72,
            ..config()
        };
        Fixture::new(config, 1).emit().unwrap()
    };
    let files = [Dtype::F32, Dtype::Int8, Dtype::Int4].map(emit);
    let [exact, int8, int4] = files.each_ref().map(|f| Blob::parse(bytes(f)).unwrap());
    let mut in_blocks = 0;
    for ((name, exact), ((_, int8), (_, int4))) in exact
        .model
        .linears()
        .zip(int8.model.linears().zip(int4.model.linears()))
    {
        for row in 0..exact.rows() {
            let row_of = |linear: &crate::model::Linear<'_>| -> Vec<f32> {
                let cols = 0..linear.cols();
                cols.map(|col| linear.weight(row, col).unwrap()).collect()
            };
            let (exact, stored) = (row_of(&exact), row_of(&int4));
            if name.layer.is_none() {
                assert_eq!(stored, row_of(&int8), "{name} {row}");
                continue;
            }
            in_blocks += 1;
            let grid = crate::quant::Grid::of(&exact, int4::ROW_MAX).unwrap();
            let groups = exact.chunks(int4::GROUP_COLS);
            for (group, stored) in groups.zip(stored.chunks(int4::GROUP_COLS)) {
                let group = int4::quantize_group(group, grid.inverse);
                let steps = group
                    .nibbles
                    .map(|q| i32::from(q) * i32::from(group.multiplier));
                let expected = steps.map(|steps| steps as f32 * grid.scale);
                assert_eq!(stored, &expected[..stored.len()], "{name} {row}");
            }
        }
    }
    assert_eq!(in_blocks, 2 * (3 * 40 + 40 + 72 + 40));
    let weights = 2 * (4 * 40 * 40 + 2 * 40 * 72);
    assert!(
        int8.len - int4.len > weights / 2 - weights / 8,
        "{}",
        int4.len
    );
}

#[test]
fn every_flipped_bit_is_caught() {
    for file in [small(), small_perceptron()] {
        let len = Blob::parse(bytes(&file)).unwrap().len;
        let mut copy = file.clone();
        for bit in 0..8 * len {
            let view: &mut [u8] = bytemuck::cast_slice_mut(&mut copy);
            view[bit / 8] ^= 1 << (bit % 8);
            assert!(Blob::parse(view).is_err(), "bit {bit}");
            view[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(copy, file);
    }
}

#[test]
fn every_truncation_is_caught() {
    for file in [small(), small_perceptron()] {
        let len = Blob::parse(bytes(&file)).unwrap().len;
        for cut in 0..len {
            let error = Blob::parse(&bytes(&file)[..cut]).unwrap_err();
            assert!(
                matches!(error, BlobError::Truncated { have, .. } if have == cut),
                "{cut}: {error}"
            );
        }
    }
}

#[test]
fn bytes_after_the_file_are_ignored() {
    let mut file = small();
    let len = Blob::parse(bytes(&file)).unwrap().len;
    file.push(u128::MAX);
    assert_eq!(Blob::parse(bytes(&file)).unwrap().len, len);
}

#[test]
fn misaligned_buffer() {
    let file = small();
    let mut shifted = vec![0u128; file.len() + 1];
    let view: &mut [u8] = bytemuck::cast_slice_mut(&mut shifted);
    for shift in [1, 2, 4, 8] {
        let end = shift + 16 * file.len();
        view[shift..end].copy_from_slice(bytes(&file));
        assert_eq!(
            Blob::parse(&view[shift..]).unwrap_err(),
            BlobError::Misaligned
        );
    }
}

#[test]
fn other_versions_are_named() {
    for version in [0, 3, 255] {
        let file = forged(&small(), |file| file[8] = version);
        let error = Blob::parse(bytes(&file)).unwrap_err();
        let found = u32::from(version);
        assert_eq!(error, BlobError::Version { found });
        assert!(error.to_string().contains(&format!("version {version}")));
    }
}

/// A file as programs before version 2 wrote it, for what is new not to change what it means.
#[test]
fn version_1_is_read() {
    let file = include_bytes!("../../examples/version_1.dtb");
    let mut aligned = vec![0u128; file.len().div_ceil(16)];
    bytemuck::cast_slice_mut(&mut aligned)[..file.len()].copy_from_slice(file);
    let blob = Blob::parse(bytes(&aligned)).unwrap();
    let config = &blob.manifest().config;
    assert_eq!((config.mixer, config.math), (Mixer::Attention, Math::Libm));
    assert_eq!(blob.manifest().env, "pendulum");
    assert_eq!(blob.manifest().provenance.statistics, "");
    let mut policy = crate::Policy::new(&blob, crate::fixture::arena(config)).unwrap();
    let steps = crate::golden::check(&mut policy, &blob).unwrap();
    assert!(steps > 2 * config.context_len as usize);
}

/// A file whose `requires` a newer program could have written, with whatever follows.
#[test]
fn what_this_reader_does_not_know_is_refused_by_name() {
    let file = Fixture::new(config(), 1).emit().unwrap();
    for (requires, name) in [
        ("signature", "signature"),
        ("glu,not-yet-known,signature", "not-yet-known"),
        (
            "a-name-longer-than-this-reader-keeps",
            "a-name-longer-than-this-",
        ),
    ] {
        let feature = Feature::first_of(name);
        let mut body = [0xff; 64];
        postcard::to_slice(requires, &mut body).unwrap();
        let foreign = forged(&file, |file| {
            file[HEADER_LEN..][..body.len()].copy_from_slice(&body);
        });
        let error = Blob::parse(bytes(&foreign)).unwrap_err();
        assert_eq!(error, BlobError::Requires(feature));
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// What a policy needs stands in `requires`, by which older readers refuse it; and what does not stand there is not
/// taken from the fields behind it.
#[test]
fn what_is_required_is_named_and_what_is_named_is_required() {
    let sampled = Choice::Sampled(Sampling {
        temperature: 0.7,
        top_k: 3,
        seed: 1 << 40,
    });
    let plain = config();
    let all = Config {
        glu: true,
        actions: Actions::Discrete,
        head: Head::Linear,
        activation: Activation::Silu,
        ..plain
    };
    let heads = Config {
        predictions: Predictions {
            state: true,
            return_to_go: true,
        },
        ..all
    };
    let critic = Config {
        predictions: Predictions {
            state: false,
            return_to_go: true,
        },
        ..plain
    };
    let state_first = Config {
        order: Order::StateFirst,
        ..critic
    };
    let convolved = Config {
        mixer: Mixer::Convolution,
        n_head: 1,
        ..plain
    };
    let atari = Config {
        attention: Attention::Window,
        embeddings: Embeddings::ATARI,
        ..plain
    };
    let gelu = Config {
        activation: Activation::Gelu,
        ..plain
    };
    let tanh = Config {
        activation: Activation::Tanh,
        ..plain
    };
    let perceptron = Config {
        dtype: Dtype::Int8,
        ..Config::mlp([3, 1], [2, 16], 4)
    };
    let choosing = Config {
        actions: Actions::Discrete,
        head: Head::Linear,
        activation: Activation::Tanh,
        ..perceptron
    };
    for (config, choice, requires) in [
        (plain, Choice::Greedy, ""),
        (perceptron, Choice::Greedy, "mlp"),
        (choosing, Choice::Greedy, "discrete-actions,tanh-mlp,mlp"),
        (gelu, Choice::Greedy, "gelu"),
        (tanh, Choice::Greedy, "tanh-mlp"),
        (all, Choice::Greedy, "discrete-actions,glu,silu"),
        (all, sampled, "discrete-actions,sampled-actions,glu,silu"),
        (critic, Choice::Greedy, "return-head"),
        (state_first, Choice::Greedy, "return-head,state-first"),
        (convolved, Choice::Greedy, "convolution-mixer"),
        (
            atari,
            Choice::Greedy,
            "embedding-tanh,no-embedding-norm,window-positions",
        ),
        (
            heads,
            Choice::Greedy,
            "discrete-actions,glu,silu,state-head,return-head",
        ),
    ] {
        let mut fixture = Fixture::new(config, 1);
        fixture.manifest.choice = choice;
        let file = fixture.emit().unwrap();
        let bytes = bytes(&file);
        let blob = Blob::parse(bytes).unwrap();
        assert_eq!(blob.manifest().config, config);
        assert_eq!(blob.manifest().choice, choice);
        let (names, _) = postcard::take_from_bytes::<&str>(&bytes[HEADER_LEN..]).unwrap();
        assert_eq!(names, requires);
        // Another name of the same length: known, but not what the manifest says.
        if requires == "gelu" {
            let forged = forged(&file, |file| {
                file[HEADER_LEN + 1..][..4].copy_from_slice(b"silu");
            });
            let error = Blob::parse(tests::bytes(&forged)).unwrap_err();
            assert_eq!(error, BlobError::Manifest);
        }
    }
}

#[test]
fn manifests_that_contradict_themselves_are_refused() {
    let manifest = crate::fixture::manifest(config());
    let limits = |low, high| {
        Some(ReturnLimits {
            low,
            high,
            beyond: BeyondLimits::Clamp,
        })
    };
    let without_table = Config {
        max_ep_len: 0,
        ..config()
    };
    let field = |field| BlobError::Field { field };
    let components = |field, dim| BlobError::Components { field, dim };
    for (bad, expected) in [
        (
            Manifest {
                return_limits: limits(1.0, -1.0),
                ..manifest
            },
            field("return_limits"),
        ),
        (
            Manifest {
                return_limits: limits(f32::NEG_INFINITY, 0.0),
                ..manifest
            },
            field("return_limits"),
        ),
        (
            Manifest {
                observation: Components("x\ny"),
                ..manifest
            },
            components("observation", 3),
        ),
        (
            Manifest {
                action: Components("\tN·m"),
                ..manifest
            },
            components("action", 1),
        ),
        (
            Manifest {
                config: without_table,
                at_max_ep_len: AtMaxEpLen::Fault,
                ..manifest
            },
            BlobError::NoTable,
        ),
        // Nobody would say what to ask for.
        (
            Manifest {
                reward: RewardMode::Predicted,
                ..manifest
            },
            field("reward"),
        ),
    ] {
        assert_eq!(emitted_len(&bad), Err(EmitError::Invalid(expected)));
    }
    let good = Manifest {
        return_limits: limits(-1.0, -1.0),
        observation: Components("cos θ\nsin θ\nθ̇\trad/s"),
        action: Components("torque\tN·m"),
        ..manifest
    };
    assert!(emitted_len(&good).is_ok());
    let named: Vec<_> = good.observation.iter().collect();
    assert_eq!(named, [("cos θ", ""), ("sin θ", ""), ("θ̇", "rad/s")]);
}

#[test]
fn wrong_magic() {
    let file = forged(&small(), |file| file[0] = b'X');
    assert_eq!(Blob::parse(bytes(&file)).unwrap_err(), BlobError::Magic);
}

/// Files whose checksum is right but whose content is not: what a broken exporter would write.
#[test]
fn forged_content_is_refused() {
    let file = small();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let name = TensorName::plain;

    let mean = offset(&file, blob.vectors().state_mean);
    let nan = forged(&file, |file| {
        file[mean..mean + 4].copy_from_slice(&f32::NAN.to_le_bytes())
    });
    assert_eq!(
        Blob::parse(bytes(&nan)).unwrap_err(),
        BlobError::NonFinite(name("state_mean"))
    );

    let std = offset(&file, blob.vectors().state_std);
    let zero = forged(&file, |file| file[std..std + 4].fill(0));
    assert_eq!(
        Blob::parse(bytes(&zero)).unwrap_err(),
        BlobError::Scale(name("state_std"))
    );

    let low = offset(&file, blob.vectors().state_low);
    let high = forged(&file, |file| {
        file[low..low + 4].copy_from_slice(&1e9f32.to_le_bytes())
    });
    assert_eq!(
        Blob::parse(bytes(&high)).unwrap_err(),
        BlobError::Bounds(name("state_low"))
    );

    let safe = offset(&file, blob.vectors().safe_action);
    let outside = forged(&file, |file| {
        file[safe..safe + 4].copy_from_slice(&9f32.to_le_bytes())
    });
    assert_eq!(
        Blob::parse(bytes(&outside)).unwrap_err(),
        BlobError::SafeAction
    );

    let crate::linear::Weights::Int8 { packed, .. } = blob.model().embedding().return_to_go.weights
    else {
        panic!("the fixture is int8")
    };
    let weights = offset(&file, packed);
    let weight = name("embed_return").part("weight");
    // −128 in the odd row, then in the even one.
    for (byte, lowest) in [(0, 0x00), (1, 0x80)] {
        let lowest = forged(&file, |file| file[weights + byte] = lowest);
        assert_eq!(
            Blob::parse(bytes(&lowest)).unwrap_err(),
            BlobError::Weight(weight)
        );
    }
    // embed_return has one column; byte 3 is column 1 of the even row.
    let padding = forged(&file, |file| file[weights + 3] = 1);
    assert_eq!(
        Blob::parse(bytes(&padding)).unwrap_err(),
        BlobError::Padding(weight)
    );

    let gap = forged(&file, |file| file[mean + 4] = 1);
    assert_eq!(
        Blob::parse(bytes(&gap)).unwrap_err(),
        BlobError::Padding(name("state_std"))
    );

    let longer = forged(&file, |file| {
        let length = blob.file_len() as u32 - 16;
        file[LENGTH_FIELD].copy_from_slice(&length.to_le_bytes());
    });
    let error = Blob::parse(bytes(&longer)).unwrap_err();
    assert!(matches!(error, BlobError::Length { .. }), "{error}");
}

#[test]
fn impossible_networks_are_refused() {
    let impossible = [
        Config {
            d_model: 6,
            ..config()
        },
        Config {
            n_head: 3,
            ..config()
        },
        Config {
            d_ff: 15,
            ..config()
        },
        Config {
            n_layer: 0,
            ..config()
        },
        Config {
            n_layer: 13,
            ..config()
        },
        Config {
            context_len: 0,
            ..config()
        },
        Config {
            max_ep_len: u32::MAX,
            ..config()
        },
        Config {
            d_model: u32::MAX,
            ..config()
        },
        Config {
            layer_norm_eps: 0.0,
            ..config()
        },
        Config {
            layer_norm_eps: f32::NAN,
            ..config()
        },
        // Heads of what has none.
        Config {
            mixer: Mixer::Convolution,
            ..config()
        },
        // States first, and no return predicted, or something else too.
        Config {
            order: Order::StateFirst,
            ..config()
        },
        Config {
            order: Order::StateFirst,
            predictions: Predictions {
                state: true,
                return_to_go: true,
            },
            ..config()
        },
    ];
    for config in impossible {
        let manifest = crate::fixture::manifest(config);
        let error = emitted_len(&manifest).unwrap_err();
        assert!(
            matches!(error, EmitError::Invalid(BlobError::Config(_))),
            "{config:?}"
        );
    }
}

#[test]
fn emit_says_what_it_needs() {
    let manifest = crate::fixture::manifest(config());
    let needed = emitted_len(&manifest).unwrap();
    let nothing = (Vectors::default(), Parameters::default());
    let error = emit(&manifest, &nothing.0, &nothing.1, &[], &mut []).unwrap_err();
    assert_eq!(error, EmitError::BufferTooSmall { needed, have: 0 });
    let mut out = vec![0u128; needed.div_ceil(16)];
    let out = bytemuck::cast_slice_mut(&mut out);
    let error = emit(&manifest, &nothing.0, &nothing.1, &[], out).unwrap_err();
    let tensor = TensorName::plain("state_mean");
    assert_eq!(
        error,
        EmitError::WrongLength {
            tensor,
            expected: 3,
            got: 0
        }
    );
}

#[test]
fn parameters_are_counted() {
    let file = Fixture::new(config(), 1).emit().unwrap();
    let layer = 4 * 8 + 24 * 9 + 8 * 9 + 16 * 9 + 8 * 17;
    let expected = 8 * (2 + 4 + 2) + 9 * 8 + 16 + 2 * layer + 16 + 9;
    assert_eq!(Blob::parse(bytes(&file)).unwrap().parameters(), expected);
    let gated = Config {
        glu: true,
        ..config()
    };
    let file = Fixture::new(gated, 1).emit().unwrap();
    let parameters = Blob::parse(bytes(&file)).unwrap().parameters();
    assert_eq!(parameters, expected + 16 * 9);
}

/// The gated linear unit is checked like any other matrix, and by its name.
#[test]
fn a_forged_gated_linear_unit_is_refused() {
    let config = Config {
        glu: true,
        ..config()
    };
    let file = Fixture::new(config, 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let glu = blob.model().output().glu.unwrap();
    let crate::linear::Weights::Int8 { packed, scale } = glu.weights else {
        panic!("the fixture is int8")
    };
    let refused = |at: usize, value: &[u8]| {
        let forged = forged(&file, |file| {
            file[at..][..value.len()].copy_from_slice(value);
        });
        Blob::parse(bytes(&forged)).unwrap_err()
    };
    let nan = f32::NAN.to_le_bytes();
    let part = |part| TensorName::plain("glu").part(part);
    let (last_gate, weights) = (4 * (glu.rows - 1), offset(&file, packed));
    assert_eq!(refused(weights, &[0]), BlobError::Weight(part("weight")));
    assert_eq!(
        refused(offset(&file, scale) + last_gate, &(-1f32).to_le_bytes()),
        BlobError::Scale(part("scale"))
    );
    assert_eq!(
        refused(offset(&file, glu.bias) + last_gate, &nan),
        BlobError::NonFinite(part("bias"))
    );
}

/// The file that `BLOB.md` takes apart: one layer, d_model 4, everything else 1.
fn worked_example() -> (Manifest<'static>, Vec<u128>) {
    let manifest = Manifest {
        provenance: Manifest::new(config()).provenance,
        ..crate::fixture::manifest(Config {
            state_dim: 1,
            d_model: 4,
            n_layer: 1,
            n_head: 1,
            d_ff: 4,
            context_len: 1,
            max_ep_len: 0,
            mixer: Mixer::Folded,
            ..config()
        })
    };
    let (ones, zeros) = ([1.0f32; 16], [0.0f32; 16]);
    let norm = Affine {
        weight: &ones[..4],
        bias: &zeros[..4],
    };
    let weight: Vec<f32> = (1..=48u8).map(f32::from).collect();
    let linear = |rows: usize, cols: usize| Affine {
        weight: &weight[..rows * cols],
        bias: &zeros[..rows],
    };
    let layers = [LayerParameters {
        ln_1: norm,
        mixer: MixerParameters::Folded {
            key_value: linear(10, 4),
            bias: &zeros[..4],
        },
        ln_2: norm,
        mlp_fc: linear(4, 4),
        mlp_proj: linear(4, 4),
    }];
    let parameters = Parameters {
        hidden: &[],
        glu: Affine::default(),
        state_head: Affine::default(),
        return_head: Affine::default(),
        embed_return: linear(4, 1),
        convolutions: &[],
        embed_state: linear(4, 1),
        embed_action: linear(4, 1),
        embed_timestep: &[],
        embed_position: &[],
        embed_ln: norm,
        layers: &layers,
        ln_f: norm,
        head: linear(1, 4),
    };
    let vectors = Vectors {
        state_mean: &[0.0],
        state_std: &[1.0],
        state_low: &[-8.0],
        state_high: &[8.0],
        action_low: &[-2.0],
        action_high: &[2.0],
        safe_action: &[0.0],
    };
    let mut file = vec![0u128; emitted_len(&manifest).unwrap().div_ceil(16)];
    emit(
        &manifest,
        &vectors,
        &parameters,
        &[],
        bytemuck::cast_slice_mut(&mut file),
    )
    .unwrap();
    (manifest, file)
}

/// Pins the format: these bytes stand in `BLOB.md`.
#[test]
fn worked_example_is_what_the_specification_says() {
    let (manifest, file) = worked_example();
    let blob = Blob::parse(bytes(&file)).unwrap();
    assert_eq!(*blob.manifest(), manifest);
    let mut dump = String::new();
    for (i, line) in bytes(&file)[..blob.file_len()].chunks(16).enumerate() {
        let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        dump += &format!("{:04x}  {}\n", 16 * i, hex.join(" "));
    }
    let specification = include_str!("../../BLOB.md").replace("\r\n", "\n");
    for line in dump.lines() {
        assert!(
            specification.contains(line),
            "BLOB.md lacks this line of\n{dump}"
        );
    }
}

#[test]
fn the_row_that_pads_an_int4_table_must_be_zero() {
    let config = Config {
        dtype: Dtype::Int4,
        ..config()
    };
    assert_eq!(config.max_ep_len % 2, 1);
    let file = Fixture::new(config, 3).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let crate::model::Table::Int4 { packed, .. } = blob.model().embedding().timestep else {
        panic!("not an int4 table");
    };
    let nibble = offset(&file, packed.nibbles) + packed.nibbles.len() - 1;
    let multiplier = offset(&file, packed.multipliers) + packed.multipliers.len() - 1;
    let bad = forged(&file, |file| {
        file[nibble] |= 0x10;
        file[multiplier] |= 0x10;
    });
    assert_eq!(
        Blob::parse(bytes(&bad)).unwrap_err(),
        BlobError::Padding(TensorName::plain("embed_timestep").part("weight"))
    );
}

/// The bounds of an index are the first and the last one, and the safe action is one that there is.
#[test]
fn the_vectors_of_a_choice_are_indices() {
    let config = Config {
        actions: Actions::Discrete,
        head: Head::Linear,
        act_dim: 3,
        ..config()
    };
    let file = Fixture::new(config, 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let vectors = *blob.vectors();
    let with = |vector: &[f32], value: f32| {
        let at = offset(&file, vector);
        let forged = forged(&file, |file| {
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        });
        Blob::parse(bytes(&forged)).map(|_| ())
    };
    let choices = Err(BlobError::Choices { choices: 3 });
    assert_eq!(with(vectors.action_low, -1.0), choices);
    assert_eq!(with(vectors.action_high, 3.0), choices);
    assert_eq!(with(vectors.action_high, 1.5), choices);
    for (safe, expected) in [
        (0.0, Ok(())),
        (2.0, Ok(())),
        (0.5, Err(BlobError::SafeAction)),
        (3.0, Err(BlobError::SafeAction)),
        (-1.0, Err(BlobError::SafeAction)),
    ] {
        assert_eq!(with(vectors.safe_action, safe), expected, "{safe}");
    }
    let tanh = Config {
        head: Head::Tanh,
        ..config
    };
    let error = Fixture::new(tanh, 1).emit().unwrap_err();
    let refused = BlobError::Config(ConfigError::TanhLogits);
    assert_eq!(error, EmitError::Invalid(refused));
}

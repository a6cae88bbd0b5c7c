//! Files of multilayer perceptrons.

use super::*;

/// A name makes a perceptron of a manifest, whose fields then say nothing of what it does not have.
#[test]
fn what_a_perceptron_does_not_have_is_refused() {
    let plain = Config::mlp([3, 1], [2, 16], 4);
    let of = |network| Config {
        network,
        ..config()
    };
    for (bad, field) in [
        (of(Network::Mlp), "d_model"),
        (
            Config {
                d_model: 4,
                ..plain
            },
            "d_model",
        ),
        (Config { n_head: 1, ..plain }, "n_head"),
        (
            Config {
                max_ep_len: 1,
                ..plain
            },
            "max_ep_len",
        ),
        (
            Config {
                attention: Attention::Streaming,
                ..plain
            },
            "attention",
        ),
        (
            Config {
                mixer: Mixer::Folded,
                ..plain
            },
            "mixer",
        ),
        (
            Config {
                layer_norm_eps: -0.0,
                ..plain
            },
            "layer_norm_eps",
        ),
        (Config { glu: true, ..plain }, "glu"),
        (
            Config {
                predictions: Predictions {
                    state: true,
                    return_to_go: false,
                },
                ..plain
            },
            "predictions",
        ),
        (
            Config {
                order: Order::StateFirst,
                ..plain
            },
            "order",
        ),
    ] {
        assert_eq!(bad.validate(), Err(ConfigError::NotInMlp { field }));
    }
    assert_eq!(plain.validate(), Ok(()));
    for (bad, error) in [
        (
            Config { d_ff: 6, ..plain },
            ConfigError::MlpSize { d_ff: 6 },
        ),
        (
            Config {
                state_dim: 2049,
                ..plain
            },
            ConfigError::OutOfRange {
                field: "context_len * state_dim",
                value: 4 * 2049,
                max: 8192,
            },
        ),
        (
            Config {
                n_layer: 0,
                ..plain
            },
            ConfigError::OutOfRange {
                field: "n_layer",
                value: 0,
                max: 12,
            },
        ),
        (
            Config {
                actions: Actions::Discrete,
                ..plain
            },
            ConfigError::TanhLogits,
        ),
    ] {
        assert_eq!(bad.validate(), Err(error));
    }

    // Another name of the same length in front of the same fields, and the other way round.
    let renamed = |config, from: &[u8; 3], to: &[u8; 3]| {
        let file = Fixture::new(config, 1).emit().unwrap();
        let forged = forged(&file, |file| {
            let name = &mut file[HEADER_LEN + 1..][..3];
            assert_eq!(name, from);
            name.copy_from_slice(to);
        });
        Blob::parse(bytes(&forged)).unwrap_err()
    };
    let field = "d_model";
    assert_eq!(
        renamed(plain, b"mlp", b"glu"),
        BlobError::Config(ConfigError::OutOfRange {
            field,
            value: 0,
            max: 8192
        })
    );
    let gated = Config {
        glu: true,
        ..config()
    };
    assert_eq!(
        renamed(gated, b"glu", b"mlp"),
        BlobError::Config(ConfigError::NotInMlp { field })
    );
}

/// The matrices of a perceptron are checked like any others, and by their names in checkpoints.
#[test]
fn a_forged_perceptron_is_refused() {
    let file = small_perceptron();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let names: Vec<_> = blob.model().linears().collect();
    assert!(
        names
            .iter()
            .map(|(name, linear)| (name.to_string(), [linear.rows, linear.cols]))
            .eq(
                [("hidden.0", [4, 3]), ("hidden.1", [4, 4]), ("head", [1, 4])]
                    .map(|(name, shape)| (name.to_owned(), shape))
            )
    );
    assert_eq!(blob.parameters(), 4 * 4 + 4 * 5 + 5);
    let refused = |at: usize, value: &[u8]| {
        let forged = forged(&file, |file| {
            file[at..][..value.len()].copy_from_slice(value);
        });
        Blob::parse(bytes(&forged)).unwrap_err()
    };
    for (name, linear) in &names {
        let crate::linear::Weights::Int8 { packed, scale } = linear.weights else {
            panic!("the fixture is int8")
        };
        let weights = offset(&file, packed);
        assert_eq!(
            refused(weights, &[0]),
            BlobError::Weight(name.part("weight"))
        );
        assert_eq!(
            refused(offset(&file, scale), &(-1f32).to_le_bytes()),
            BlobError::Scale(name.part("scale"))
        );
        assert_eq!(
            refused(offset(&file, linear.bias), &f32::NAN.to_le_bytes()),
            BlobError::NonFinite(name.part("bias"))
        );
        if linear.cols == 3 {
            assert_eq!(
                refused(weights + 2 * 3, &[0x81]),
                BlobError::Padding(name.part("weight"))
            );
        }
    }
}

/// Four bits have the matrices between hidden layers; what reads states and what gives actions keeps eight.
#[test]
fn an_int4_perceptron_has_eight_bits_at_its_ends() {
    let config = Config {
        dtype: Dtype::Int4,
        ..Config::mlp([3, 1], [3, 40], 2)
    };
    let file = Fixture::new(config, 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let four_bits = |(_, linear): (_, crate::model::Linear<'_>)| {
        matches!(linear.weights, crate::linear::Weights::Int4 { .. })
    };
    let linears = blob.model().linears().map(four_bits);
    assert!(linears.eq([false, true, true, false]));
}

/// The parameters of a perceptron that emit is given are its own.
#[test]
fn emit_counts_hidden_layers() {
    let manifest = crate::fixture::manifest(Config::mlp([1, 1], [2, 4], 1));
    let one = [1.0];
    let vectors = Vectors {
        state_mean: &one,
        state_std: &one,
        state_low: &one,
        state_high: &one,
        action_low: &one,
        action_high: &one,
        safe_action: &one,
    };
    let four = [1.0; 16];
    let hidden = |len| Affine {
        weight: &four[..len],
        bias: &four[..4],
    };
    let emitted = |hidden: &[Affine<'_>]| {
        let parameters = Parameters {
            hidden,
            head: Affine {
                weight: &four[..4],
                bias: &one,
            },
            ..Parameters::default()
        };
        let mut out = vec![0u128; emitted_len(&manifest).unwrap().div_ceil(16)];
        let out = bytemuck::cast_slice_mut(&mut out);
        emit(&manifest, &vectors, &parameters, &[], out)
    };
    assert!(emitted(&[hidden(4), hidden(16)]).is_ok());
    let wrong = |tensor, expected, got| {
        Err(EmitError::WrongLength {
            tensor,
            expected,
            got,
        })
    };
    let missing = TensorName::plain("hidden");
    assert_eq!(emitted(&[hidden(4)]), wrong(missing, 2, 1));
    let second = TensorName::hidden(1).part("weight");
    assert_eq!(emitted(&[hidden(4), hidden(4)]), wrong(second, 16, 4));
}

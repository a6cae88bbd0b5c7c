//! What overflows inside the network ends the step, and never becomes a plausible number.

use super::*;

#[test]
fn overflow_inside_the_network_is_an_error_until_reset() {
    let config = Config {
        dtype: Dtype::F32,
        max_ep_len: 0,
        ..config()
    };
    for dtype in [Dtype::F32, Dtype::Int8, Dtype::Int4] {
        let file = Fixture::new(Config { dtype, ..config }, 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config_of(&blob))).unwrap();
        policy.reset(0.0).unwrap();
        assert_eq!(
            policy.act(&[f32::MAX; 3]),
            Err(ActError::NonFinite),
            "{dtype:?}"
        );
        assert_eq!(policy.act(&[0.0; 3]), Err(ActError::NotReset), "{dtype:?}");
        policy.reset(0.0).unwrap();
        assert!(policy.act(&[0.0; 3]).is_ok());
    }
}

/// Scales that a damaged or hostile file may well have. Attention scores overflow to ∞ then, and their
/// differences would be NaN; and tanh would make ±1 of an infinite output.
#[test]
fn infinite_scores_and_outputs_fail_the_step() {
    let file = Fixture::new(config(), 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    assert_eq!(blob.manifest().config.head, Head::Tanh);
    let Mixing::Attention { qkv, .. } = blob.model().layers().next().unwrap().mixer else {
        panic!("the fixture's attention is not folded")
    };
    for (linear, huge) in [(qkv, 1e25_f32), (blob.model().output().head, f32::MAX)] {
        let Weights::Int8 { scale, .. } = linear.weights else {
            panic!("the fixture is int8")
        };
        let start = offset(&file, scale);
        let large = forged(&file, |file| {
            for scale in file[start..][..4 * linear.rows()].as_chunks_mut::<4>().0 {
                *scale = huge.to_le_bytes();
            }
        });
        let blob = Blob::parse(bytes(&large)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        policy.reset(0.0).unwrap();
        assert_eq!(policy.act(&[0.1; 3]), Err(ActError::NonFinite), "{huge}");
    }
}

/// What overflows to −∞ before a ReLU, as a score, or as a variance would become a plausible number: 0, no weight, the bias.
#[test]
fn an_overflow_never_becomes_a_plausible_number() {
    for dtype in [Dtype::F32, Dtype::Int8] {
        let config = Config {
            dtype,
            n_head: 1,
            ..config()
        };
        let file = Fixture::new(config, 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let layer = blob.model().layers().next().unwrap();
        let Mixing::Attention { qkv, .. } = layer.mixer else {
            panic!("the fixture's attention is not folded")
        };
        let d = config.d_model as usize;
        let fails = |change: &dyn Fn(&mut [u8])| {
            let file = forged(&file, |file| change(file));
            let blob = Blob::parse(bytes(&file)).unwrap();
            let mut policy = Policy::new(&blob, arena(&config)).unwrap();
            policy.reset(0.0).unwrap();
            // The first step alone has a single score per token, which softmax makes 1 whatever it is.
            let first = policy.act(&[0.1; 3]).map(<[f32]>::to_vec);
            first.is_err_and(|error| error == ActError::NonFinite)
        };
        let put = |file: &mut [u8], at: usize, value: f32, times: usize| {
            for place in file[at..][..4 * times].as_chunks_mut::<4>().0 {
                *place = value.to_le_bytes();
            }
        };
        assert!(!fails(&|_| ()), "{dtype:?}: the fixture is sound");
        // Hidden values: a bias that overflows together with a large weight or scale.
        let bias = offset(&file, layer.mlp_fc.bias);
        let factors = match layer.mlp_fc.weights {
            Weights::F32(w) => (offset(&file, w), w.len()),
            Weights::Int8 { scale, .. } => (offset(&file, scale), scale.len()),
            _ => panic!("neither f32 nor int8"),
        };
        assert!(
            fails(&|file| {
                put(file, bias, f32::MIN, config.d_ff as usize);
                put(file, factors.0, f32::MAX / 1e3, factors.1);
            }),
            "{dtype:?}: −∞ before ReLU"
        );
        // A residual stream whose variance overflows, though every value is finite.
        let residual = offset(&file, layer.mlp_proj.bias);
        assert!(
            fails(&|file| {
                put(file, residual, 1e30, 1);
                put(file, residual + 4, -1e30, 1);
            }),
            "{dtype:?}: infinite variance"
        );
        // Queries and keys so large that scores overflow, one with another sign than the rest.
        let qk = offset(&file, qkv.bias);
        assert!(
            fails(&|file| {
                put(file, qk, 1e30, d);
                put(file, qk + 4 * d, -1e30, d);
            }),
            "{dtype:?}: −∞ as a score"
        );
    }
}

/// An infinity would become ±1 by tanh, 0 by the other activations where it is −∞, and 0 or 1 by a gate.
#[test]
fn an_overflow_before_an_activation_or_a_gate_fails_the_step() {
    for (dtype, activation) in [Dtype::F32, Dtype::Int8].into_iter().flat_map(|dtype| {
        [
            Activation::Relu,
            Activation::GeluTanh,
            Activation::Gelu,
            Activation::Silu,
            Activation::Tanh,
        ]
        .map(|activation| (dtype, activation))
    }) {
        let config = Config {
            dtype,
            activation,
            glu: true,
            n_head: 1,
            ..config()
        };
        let file = Fixture::new(config, 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let model = blob.model();
        let fc = model.layers().next().unwrap().mlp_fc;
        let d = config.d_model as usize;
        let glu = model.output().glu.unwrap();
        assert!(glu.rows == 2 * d, "values, then gates");
        for (what, linear, rows) in [("hidden", fc, 0..fc.rows), ("gate", glu, d..2 * d)] {
            let acted = |bias: f32, factor: f32| {
                let first = offset(&file, linear.bias) + 4 * rows.start;
                // Of both signs, so that half of the rows overflow whichever the sum of their inputs has.
                let (factors, each) = match linear.weights {
                    Weights::F32(weights) => (offset(&file, weights), linear.cols),
                    Weights::Int8 { scale, .. } => (offset(&file, scale), 1),
                    _ => panic!("neither f32 nor int8"),
                };
                let large = forged(&file, |file| {
                    for (i, row) in rows.clone().enumerate() {
                        file[first + 4 * i..][..4].copy_from_slice(&bias.to_le_bytes());
                        let sign = match linear.weights {
                            Weights::F32(_) if i % 2 == 1 => -1.0,
                            _ => 1.0, // a scale: the weights have signs of their own
                        };
                        for col in 0..each {
                            let at = factors + 4 * (row * each + col);
                            file[at..][..4].copy_from_slice(&(sign * factor).to_le_bytes());
                        }
                    }
                });
                let blob = Blob::parse(bytes(&large)).unwrap();
                let mut policy = Policy::new(&blob, arena(&config)).unwrap();
                policy.reset(0.0).unwrap();
                policy.act(&[0.1; 3]).map(drop)
            };
            let place = format!("{what}, {dtype:?}, {activation:?}");
            assert_eq!(acted(1.0, 1e-3), Ok(()), "{place}");
            for infinite in [f32::MIN, f32::MAX] {
                let outcome = acted(infinite, f32::MAX / 1e3);
                assert_eq!(outcome, Err(ActError::NonFinite), "{place}: {infinite}");
            }
        }
    }
}

/// Equal scores make every softmax numerator the largest there is.
#[test]
fn the_longest_context_sums_without_overflow() {
    let config = Config {
        d_model: 4,
        n_layer: 1,
        n_head: 1,
        d_ff: 4,
        context_len: MAX_CONTEXT_LEN,
        ..config()
    };
    let mut fixture = Fixture::new(config, 1);
    fixture.manifest.reward = RewardMode::Constant;
    let file = fixture.emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let Mixing::Attention { qkv, .. } = blob.model().layers().next().unwrap().mixer else {
        panic!("the fixture's attention is not folded")
    };
    let Weights::Int8 { scale, .. } = qkv.weights else {
        panic!("the fixture is int8")
    };
    // No query, no preference. The queries' bias is in front of all others.
    let (scale, bias) = (offset(&file, scale), offset(&file, qkv.bias));
    let indifferent = forged(&file, |file| {
        file[scale..][..4 * 4].fill(0);
        file[bias..][..4 * 4].fill(0);
    });
    let blob = Blob::parse(bytes(&indifferent)).unwrap();
    let mut policy = Policy::new(&blob, arena(&config)).unwrap();
    policy.reset(0.0).unwrap();
    for t in 0..MAX_CONTEXT_LEN + 3 {
        let action = policy.act(&[0.1, 0.2, t as f32 / 1000.0]).unwrap().to_vec();
        policy.absorb(&action).unwrap();
    }
}

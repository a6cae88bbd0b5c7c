use super::*;

#[test]
fn sums_follow_the_contract() {
    // Values for which every other order gives another result.
    let x: [f32; 19] = core::array::from_fn(|i| [1e8, 1.0, -1e8, 3.5e-3][i % 4] * (i as f32 + 0.7));
    let mut lanes = [0.0f32; 8];
    for (i, x) in x.iter().enumerate() {
        lanes[i % 8] += x;
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let expected = ((a + e) + (c + g)) + ((b + f) + (d + h));
    assert_eq!(sum(&x).to_bits(), expected.to_bits());
    assert_eq!(dot(&x, &[1.0; 19]).to_bits(), expected.to_bits());
    assert_ne!(sum(&x), x.iter().sum::<f32>());
}

#[test]
fn dot_goes_over_the_shorter_length() {
    let x: [f32; 19] = core::array::from_fn(|i| i as f32 + 1.0);
    for (m, n) in (0..19).flat_map(|m| (0..19).map(move |n| (m, n))) {
        let expected = sum(&x[..m.min(n)]);
        assert_eq!(dot(&x[..m], &[1.0; 19][..n]), expected, "{m} {n}");
    }
    assert_eq!(dot(&[1.0], &[2.0, f32::INFINITY]), 2.0);
}

#[test]
fn clamp_keeps_nan() {
    assert_eq!(clamp(3.0, -1.0, 1.0), 1.0);
    assert_eq!(clamp(-3.0, -1.0, 1.0), -1.0);
    assert!(clamp(f32::NAN, -1.0, 1.0).is_nan());
}

const ACTIVATIONS: [Activation; 5] = [
    Activation::Relu,
    Activation::GeluTanh,
    Activation::Gelu,
    Activation::Silu,
    Activation::Tanh,
];

/// NaN stays it, and of an infinity no activation makes a plausible number.
#[test]
fn nan_stays_nan() {
    for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7fc0_0001)] {
        for math in [Math::Libm, Math::Micromath, Math::Polynomial] {
            assert!(
                exp(math, nan).is_nan() && tanh(math, nan).is_nan(),
                "{math:?}"
            );
            for activation in ACTIVATIONS {
                let mut x = [nan];
                activate(activation, math, &mut x);
                assert!(x[0].is_nan(), "{activation:?} {math:?}");
                let mut x = [f32::INFINITY, f32::NEG_INFINITY];
                activate(activation, math, &mut x);
                assert!(
                    !x[0].is_finite() && !x[1].is_finite(),
                    "{activation:?} {math:?}"
                );
            }
        }
    }
    let mut x = [-0.0, -1.0, f32::MIN, 2.0, f32::NEG_INFINITY];
    activate(Activation::Relu, Math::Libm, &mut x);
    assert_eq!(
        x.map(f32::to_bits),
        [0.0, 0.0, 0.0, 2.0, f32::NEG_INFINITY].map(f32::to_bits)
    );
}

#[test]
fn a_gate_lets_through_by_the_logistic_function() {
    let mut x = [2.0, 2.0, 2.0, 2.0];
    gate(Math::Polynomial, &mut x, &[0.0, 1.0, -200.0, 200.0]).unwrap();
    let expected = [1.0, 1.462_117_2, 0.0, 2.0];
    for (x, expected) in x.iter().zip(expected) {
        assert!((x - expected).abs() < 5e-7, "{x} {expected}");
    }
    for infinite in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        assert_eq!(
            gate(Math::Polynomial, &mut [1.0], &[infinite]),
            Err(NonFinite)
        );
    }
}

#[test]
fn micromath_tanh_is_finite_everywhere() {
    for i in 0..=20_000 {
        for x in [i as f32 * 0.01, i as f32 * -0.01] {
            let error = f64::from(tanh(Math::Micromath, x)) - f64::from(x).tanh();
            assert!(error.abs() < 1.1e-3, "tanh({x})");
        }
    }
    for (x, expected) in [(f32::MAX, 1.0), (f32::MIN, -1.0)] {
        assert_eq!(tanh(Math::Micromath, x), expected);
    }
}

/// Pins the errors that the module documentation states.
#[test]
fn errors_of_exp_and_tanh() {
    const ALL: [Math; 3] = [Math::Libm, Math::Micromath, Math::Polynomial];
    let mut worst = [[0.0f64; 2]; ALL.len()];
    for i in 0..=200_000 {
        let x = -20.0 + i as f32 * 1e-4;
        let t = -8.0 + i as f32 * 8e-5;
        for (worst, math) in worst.iter_mut().zip(ALL) {
            let reference = f64::from(x).exp();
            let relative = (f64::from(exp(math, x)) - reference).abs() / reference;
            let absolute = (f64::from(tanh(math, t)) - f64::from(t).tanh()).abs();
            worst[0] = worst[0].max(relative);
            worst[1] = worst[1].max(absolute);
        }
    }
    let [
        [libm_exp, libm_tanh],
        [micromath_exp, micromath_tanh],
        [own_exp, own_tanh],
    ] = worst;
    assert!(libm_exp < 1e-7 && libm_tanh < 1e-7, "{worst:?}");
    assert!((2.3e-3..2.4e-3).contains(&micromath_exp), "{worst:?}");
    assert!((1.0e-3..1.1e-3).contains(&micromath_tanh), "{worst:?}");
    assert!((1.0e-6..1.5e-6).contains(&own_exp), "{worst:?}");
    assert!((5e-8..1.2e-7).contains(&own_tanh), "{worst:?}");
    assert_eq!(exp(Math::Micromath, 0.0), 1.0);
    assert_eq!(exp(Math::Micromath, -1e30), 0.0);
    assert_eq!(tanh(Math::Micromath, 1e30), 1.0);
    assert_eq!(tanh(Math::Micromath, -1e30), -1.0);
}

/// GELU stays within the stated error over all of its range, nothing happens at its ends, and its tail is no noise.
#[test]
fn gelu_over_its_whole_range() {
    // x·Φ(x) with Φ from tables (Abramowitz & Stegun 1964, table 26.1).
    for (x, reference) in [
        (0.5, 0.345_731_231),
        (1.0, 0.841_344_746),
        (-1.0, -0.158_655_254),
        (-2.0, -0.045_500_264),
        (3.0, 2.995_950_306),
    ] {
        let error = (f64::from(gelu(x)) - reference).abs();
        assert!(error < 7.5e-7, "gelu({x}): {error:e}");
    }
    let mut worst = 0.0f64;
    for i in -800_000..=800_000i32 {
        let x = i as f32 * 1e-5;
        let exact = f64::from(x);
        let reference = 0.5 * exact * libm::erfc(-exact * core::f64::consts::FRAC_1_SQRT_2);
        worst = worst.max((f64::from(gelu(x)) - reference).abs());
    }
    assert!((5e-7..7.5e-7).contains(&worst), "{worst:e}");
    assert_eq!([100.0, f32::MAX].map(gelu), [100.0, f32::MAX]);
    assert_eq!([-100.0, f32::MIN].map(gelu), [0.0; 2]);
    assert!(
        [f32::INFINITY, f32::NEG_INFINITY]
            .iter()
            .all(|&x| gelu(x).is_nan())
    );
}

/// Of a finite number activations and gates make a finite one, also where exp overflows, and between 88.73 and 89.4, where
/// `micromath` alone makes NaN of it.
#[test]
fn what_is_finite_stays_finite() {
    let (from, to) = ((88f32).to_bits(), (89.5f32).to_bits());
    for math in [Math::Libm, Math::Micromath, Math::Polynomial] {
        for activation in ACTIVATIONS {
            for bits in (from..to)
                .step_by(7)
                .chain([100f32.to_bits(), f32::MAX.to_bits()])
            {
                let size = f32::from_bits(bits);
                let mut x = [size, -size];
                activate(activation, math, &mut x);
                // tanh-GELU's cube overflows, and NaN is what it says then.
                let overflow = activation == Activation::GeluTanh && size > 1e12;
                assert!(
                    overflow || x.iter().all(|x| x.is_finite()),
                    "{activation:?} {math:?} {size}: {x:?}"
                );
                let mut x = [size, size];
                gate(math, &mut x, &[size, -size]).unwrap();
                assert!(x.iter().all(|x| x.is_finite()), "{math:?} {size}: {x:?}");
            }
        }
    }
}

/// Powers of two are exact, errors stay within the stated bound over every exponent, and the ends are what they should be.
#[test]
fn exp2_over_its_whole_range() {
    for n in -125..=127 {
        assert_eq!(exp2(n as f32), 2f32.powi(n));
    }
    let mut worst = 0.0f64;
    for i in 0..2_520_000 {
        let x = -125.0 + i as f32 * 1e-4;
        let reference = f64::from(x).exp2();
        worst = worst.max((f64::from(exp2(x)) / reference - 1.0).abs());
    }
    assert!((1e-7..2e-7).contains(&worst), "{worst:e}");
    let ends = [-125.001, f32::MIN, f32::NEG_INFINITY];
    assert_eq!(ends.map(|x| exp2(x).to_bits()), [0; 3]);
    assert_eq!(
        [128.0, f32::MAX, f32::INFINITY].map(exp2),
        [f32::INFINITY; 3]
    );
}

/// Small arguments keep their relative accuracy, the seam is no step, and signs are kept.
#[test]
fn tanh_from_tiny_to_saturated() {
    let tanh = |x| tanh(Math::Polynomial, x);
    let mut worst = 0.0f64;
    for exponent in -120..4 {
        for i in 0..4000 {
            let x = 2f32.powi(exponent) * (1.0 + i as f32 / 4000.0);
            let reference = f64::from(x).tanh();
            worst = worst.max((f64::from(tanh(x)) / reference - 1.0).abs());
            assert_eq!(tanh(-x).to_bits(), (-tanh(x)).to_bits());
        }
    }
    assert!((8e-8..2.5e-7).contains(&worst), "{worst:e}");
    assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
    assert_eq!([10.0, f32::MAX, f32::INFINITY].map(tanh), [1.0; 3]);
    assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
}

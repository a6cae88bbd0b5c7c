use super::*;
use crate::blob::tests::{forged, offset};
use crate::blob::{Blob, BlobError, EmitError};
use crate::config::{
    Actions, Attention, ConfigError, Convolution, Embeddings, Encoder, Head, ImageEncoder,
    MAX_CONVOLUTIONS, Predictions,
};
use crate::fixture::{Fixture, Random, arena, bytes, config};
use crate::golden::{self, SelfTestError};
use crate::linear::Weights;
use crate::policy::{ActError, Policy};
use crate::{Fault, Guard};

/// Columns that are no whole words, squares that overlap, and pixels at the borders that no square covers.
const SHAPE: [u32; 3] = [9, 12, 3];
const CONVOLUTIONS: [[u32; 3]; 3] = [[8, 3, 2], [4, 2, 1], [12, 2, 2]];

fn image([height, width, channels]: [u32; 3], convolutions: &[[u32; 3]]) -> ImageEncoder {
    let mut placed = [Convolution::NONE; MAX_CONVOLUTIONS];
    for (place, &[filters, kernel, stride]) in placed.iter_mut().zip(convolutions) {
        *place = Convolution {
            filters,
            kernel,
            stride,
        };
    }
    ImageEncoder {
        height,
        width,
        channels,
        convolutions: placed,
    }
}

fn seeing(image: ImageEncoder) -> Config {
    Config {
        state_dim: image.pixels(),
        encoder: Encoder::Image(image),
        ..config()
    }
}

/// Small ones of every kind.
fn configs() -> Vec<Config> {
    let mut configs = Vec::new();
    for count in 0..=3 {
        for dtype in [Dtype::F32, Dtype::Int8, Dtype::Int4] {
            for attention in [Attention::Streaming, Attention::Window] {
                configs.push(Config {
                    dtype,
                    attention,
                    embeddings: Embeddings {
                        tanh: count % 2 == 0,
                        ..Embeddings::GYM
                    },
                    d_model: 40,
                    ..seeing(image(SHAPE, &CONVOLUTIONS[..count]))
                });
            }
        }
    }
    configs
}

fn pixels(config: &Config, random: &mut Random) -> Vec<u8> {
    let light = 1 + random.below(256);
    (0..config.state_dim)
        .map(|_| random.below(light) as u8)
        .collect()
}

/// The convolution of a textbook: one sum for each filter and place.
fn textbook<P: Pixel>(placed: &Placed, linear: &Linear<'_>, map: &[P], scale: f32) -> Vec<f32> {
    let Convolution { kernel, stride, .. } = placed.convolution;
    let [_, width, channels] = placed.input;
    let [height_out, width_out, filters] = placed.output;
    let mut out = Vec::new();
    for y in 0..height_out {
        for x in 0..width_out {
            for filter in 0..filters as usize {
                let mut sum = 0;
                for (row, col) in (0..kernel).flat_map(|row| (0..kernel).map(move |col| (row, col)))
                {
                    for channel in 0..channels {
                        let at =
                            ((y * stride + row) * width + x * stride + col) * channels + channel;
                        let Weights::Int8 { packed, .. } = linear.weights else {
                            panic!("of integers")
                        };
                        let col = ((row * kernel + col) * channels + channel) as usize;
                        let byte = packed[kernels::packed_index(linear.cols, filter, col)];
                        let weight = kernels::packed_byte(filter, byte);
                        sum += i32::from(weight) * i32::from(map[at as usize].integer());
                    }
                }
                let Weights::Int8 {
                    scale: weight_scale,
                    ..
                } = linear.weights
                else {
                    panic!("of integers")
                };
                let value = sum as f32 * (weight_scale[filter] * scale) + linear.bias[filter];
                out.push(if value > 0.0 { value } else { 0.0 });
            }
        }
    }
    out
}

#[test]
fn a_convolution_is_that_of_a_textbook() {
    let mut random = Random::new(1);
    for shape in [SHAPE, [7, 7, 1], [6, 5, 4], [3, 9, 8], [4, 4, 2]] {
        for convolution in [[4, 1, 1], [8, 3, 2], [4, 3, 1], [12, 2, 3]] {
            let config = seeing(image(shape, &[convolution]));
            let file = Fixture::new(config, 2).emit().unwrap();
            let blob = Blob::parse(bytes(&file)).unwrap();
            let placed = config.image().unwrap().placed()[0].unwrap();
            let linear = blob.model().embedding().convolutions[0].unwrap();
            let mut columns = vec![0x5555_5555; input_words(&config)];
            let mut out = vec![f32::NAN; output_len(Some(placed), 0)];
            let image = pixels(&config, &mut random);
            convolve(
                &config,
                &placed,
                &linear,
                &image,
                1.0,
                &mut columns,
                &mut out,
            );
            assert_eq!(out, textbook(&placed, &linear, &image, 1.0), "{placed:?}");
            assert!(out.iter().any(|&value| value > 0.0) && out.contains(&0.0));
            // And of a map of integers of either sign, as large as the kernels allow.
            let limit = q_max(linear.cols);
            let map: Vec<i16> = image
                .iter()
                .map(|&p| ((i32::from(p) - 128) * limit / 128) as i16)
                .collect();
            convolve(
                &config,
                &placed,
                &linear,
                &map,
                0.01,
                &mut columns,
                &mut out,
            );
            assert_eq!(out, textbook(&placed, &linear, &map, 0.01), "{placed:?}");
        }
    }
}

/// In place, over itself: the same as beside it.
#[test]
fn a_map_settles_as_if_there_were_room() {
    let mut random = Random::new(3);
    for start in [4, 8, 12, 100] {
        for len in [4, 8, 12, 16, 20, 40, 44, 96, 400] {
            let map = random.vector(len, 3.0);
            for dtype in [Dtype::F32, Dtype::Int8] {
                let mut area = vec![0; start + len];
                copy(&map, floats(&mut area[start..]));
                let scale = settle(dtype, &mut area, start, len, 64).unwrap();
                let grid = Grid::of(&map, q_max(64)).unwrap();
                match dtype {
                    Dtype::F32 => assert_eq!(floats(&mut area)[..len], map),
                    _ => {
                        let expected = map.iter().map(|&x| grid.quantize(x) as i16);
                        assert!(halves(&mut area)[..len].iter().copied().eq(expected));
                        assert_eq!(scale, grid.scale);
                    }
                }
            }
        }
    }
}

/// The maps of the paper's network for Atari (Chen et al. 2021), and what they take.
#[test]
fn the_published_encoder_has_the_published_size() {
    let atari = image([84, 84, 4], &[[32, 8, 4], [64, 4, 2], [64, 3, 1]]);
    let outputs = atari.placed().map(|placed| placed.unwrap().output);
    assert_eq!(outputs, [[20, 20, 32], [9, 9, 64], [7, 7, 64]]);
    let cols = atari.placed().map(|placed| placed.unwrap().cols());
    assert_eq!((cols, atari.flat()), ([256, 512, 576], 3136));
    let config = seeing(atari);
    assert_eq!(map_words(&config), 4 + 20 * 20 * 32);
    assert_eq!(input_words(&config), 3 * 576 / 2);
    assert_eq!(
        map_words(&Config {
            dtype: Dtype::F32,
            ..config
        }),
        20 * 20 * 32 + 9 * 9 * 64
    );
}

/// Bytes and whole floats are the same image; in the stated memory, whatever lies there.
#[test]
fn images_are_bytes_or_whole_floats() {
    for config in configs() {
        let file = Fixture::new(config, 4).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policies = [(); 2].map(|()| Policy::new(&blob, arena(&config)).unwrap());
        let mut random = Random::new(5);
        let mut actions = Vec::new();
        policies
            .iter_mut()
            .for_each(|policy| policy.reset(-100.0).unwrap());
        for _ in 0..2 * config.context_len + 3 {
            let image = pixels(&config, &mut random);
            let floats: Vec<f32> = image.iter().copied().map(f32::from).collect();
            let [bytes, whole] = &mut policies;
            let action = bytes.act_image(&image).unwrap()[0];
            assert_eq!(action.to_bits(), whole.act(&floats).unwrap()[0].to_bits());
            actions.push(action);
            for policy in [bytes, whole] {
                policy.absorb_commanded().unwrap();
                policy.observe_reward(-1.0).unwrap();
            }
        }
        actions.dedup();
        assert!(actions.len() > 3, "the policy hardly moves: {actions:?}");
        let short = vec![0; config.arena_words() - 1];
        assert!(Policy::new(&blob, short).is_err());
    }
}

#[test]
fn what_is_no_image_is_refused_and_changes_nothing() {
    let config = seeing(image(SHAPE, &CONVOLUTIONS));
    let file = Fixture::new(config, 4).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let policy = || Policy::new(&blob, arena(&config)).unwrap();
    let (mut disturbed, mut fresh) = (policy(), policy());
    let image = pixels(&config, &mut Random::new(1));
    assert_eq!(disturbed.act_image(&image), Err(ActError::NotReset));
    for policy in [&mut disturbed, &mut fresh] {
        policy.reset(-100.0).unwrap();
    }
    let expected = config.state_dim as usize;
    let wrong = |got| ActError::WrongLength {
        field: "observation",
        expected,
        got,
    };
    assert_eq!(disturbed.act_image(&image[1..]), Err(wrong(expected - 1)));
    assert_eq!(disturbed.act(&[0.0; 3]), Err(wrong(3)));
    for bad in [0.5, -1.0, 256.0, f32::NAN, f32::INFINITY] {
        let mut floats = vec![7.0; expected];
        floats[9] = bad;
        assert_eq!(
            disturbed.act(&floats),
            Err(ActError::Observation { index: 9 }),
            "{bad}"
        );
    }
    let action = disturbed.act_image(&image).unwrap()[0];
    assert_eq!(disturbed.act_image(&image), Err(ActError::AwaitingAbsorb));
    assert_eq!(action, fresh.act_image(&image).unwrap()[0]);

    let file = Fixture::new(crate::fixture::config(), 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut vectors = Policy::new(&blob, arena(&crate::fixture::config())).unwrap();
    vectors.reset(-100.0).unwrap();
    assert_eq!(vectors.act_image(&[0; 3]), Err(ActError::SeesVectors));
    assert!(vectors.act(&[0.0; 3]).is_ok());
}

#[test]
fn a_guard_lets_images_through_until_something_is_wrong() {
    let config = seeing(image(SHAPE, &CONVOLUTIONS));
    let file = Fixture::new(config, 4).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut policy = Policy::new(&blob, arena(&config)).unwrap();
    let mut guard = Guard::new(&blob);
    guard.restart(&mut policy, -100.0).unwrap();
    let image = pixels(&config, &mut Random::new(1));
    assert_eq!(guard.step_image(&mut policy, &image).fault, None);
    policy.absorb_commanded().unwrap();
    policy.observe_reward(0.0).unwrap();
    let command = guard.step_image(&mut policy, &image[1..]);
    assert!(matches!(
        command.fault,
        Some(Fault::Act(ActError::WrongLength { .. }))
    ));
    assert_eq!(command.action, blob.vectors().safe_action);
    assert!(
        guard.step_image(&mut policy, &image).fault.is_some(),
        "latched"
    );
}

/// An infinity on the way never becomes a plausible number: ReLU keeps it, quantizing finds it, and so do norm and tanh.
#[test]
fn an_overflow_in_a_convolution_fails_the_step() {
    for tanh in [false, true] {
        for dtype in [Dtype::F32, Dtype::Int8] {
            for module in 0..4 {
                let config = Config {
                    dtype,
                    embeddings: Embeddings {
                        tanh,
                        ..Embeddings::GYM
                    },
                    ..seeing(image(SHAPE, &CONVOLUTIONS))
                };
                let file = Fixture::new(config, 4).emit().unwrap();
                let blob = Blob::parse(bytes(&file)).unwrap();
                let embedding = blob.model().embedding();
                let linear = match embedding.convolutions.get(module) {
                    Some(convolution) => convolution.unwrap(),
                    None => embedding.state,
                };
                let (large, bias) = match linear.weights {
                    Weights::F32(weight) => (weight, linear.bias),
                    Weights::Int8 { scale, .. } => (scale, linear.bias),
                    _ => panic!("of integers or floats"),
                };
                let places = [large, bias].map(|tensor| offset(&file, tensor));
                let forged = forged(&file, |file| {
                    for (place, tensor) in places.iter().zip([large, bias]) {
                        for i in 0..tensor.len() {
                            file[place + 4 * i..][..4].copy_from_slice(&f32::MAX.to_le_bytes());
                        }
                    }
                });
                let blob = Blob::parse(bytes(&forged)).unwrap();
                let mut policy = Policy::new(&blob, arena(&config)).unwrap();
                policy.reset(-100.0).unwrap();
                let image = vec![255; config.state_dim as usize];
                let outcome = policy.act_image(&image).map(<[f32]>::to_vec);
                assert_eq!(
                    outcome,
                    Err(ActError::NonFinite),
                    "{dtype:?} {module} {tanh}"
                );
                assert_eq!(policy.act_image(&image), Err(ActError::NotReset));
            }
        }
    }
}

fn with_golden(config: Config, images: u32) -> Fixture {
    let mut fixture = Fixture::new(config, 6);
    let steps = 2 * config.context_len + 3;
    (
        fixture.manifest.golden_steps,
        fixture.manifest.golden_images,
    ) = (steps, images);
    let mut random = Random::new(8);
    fixture.images = (0..images)
        .flat_map(|_| pixels(&config, &mut random))
        .collect();
    let len = steps as usize * fixture.manifest.golden_record_len();
    fixture.golden = random.vector(len, 1.0);
    let file = fixture.emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut policy = Policy::new(&blob, arena(&config)).unwrap();
    golden::record(&mut policy, &blob, &mut fixture.golden).unwrap();
    fixture
}

#[test]
fn golden_images_are_shown_in_turn_and_each_counts() {
    for config in configs() {
        let mut fixture = with_golden(config, 3);
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        assert_eq!(*blob.manifest(), fixture.manifest);
        assert_eq!(blob.golden_images(), fixture.images);
        // Return-to-go, applied and expected action.
        assert_eq!(fixture.manifest.golden_record_len(), 3);
        let mut policy = Policy::new(&blob, arena(&config)).unwrap();
        let steps = 2 * config.context_len as usize + 3;
        assert_eq!(golden::check(&mut policy, &blob), Ok(steps));
        // Another second image shows in the second record.
        let second = config.state_dim as usize;
        for pixel in &mut fixture.images[second..2 * second] {
            *pixel ^= 0x80;
        }
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config)).unwrap();
        let error = golden::check(&mut policy, &blob).unwrap_err();
        assert!(
            matches!(error, SelfTestError::Mismatch { step: 1, .. }),
            "{error}"
        );
    }
}

#[test]
fn there_are_golden_images_where_there_are_records_and_only_of_images() {
    let config = seeing(image(SHAPE, &CONVOLUTIONS));
    for (config, steps, images, accepted) in [
        (config, 0, 0, true),
        (config, 2, 1, true),
        (config, 2, 2, true),
        (config, 2, 0, false),
        (config, 2, 3, false),
        (config, 0, 1, false),
        (crate::fixture::config(), 2, 1, false),
    ] {
        let mut fixture = Fixture::new(config, 1);
        (
            fixture.manifest.golden_steps,
            fixture.manifest.golden_images,
        ) = (steps, images);
        fixture.golden = vec![0.0; steps as usize * fixture.manifest.golden_record_len()];
        fixture.images = vec![0; (images * config.state_dim) as usize];
        let field = EmitError::Invalid(BlobError::Field {
            field: "golden_images",
        });
        match fixture.emit() {
            Ok(_) => assert!(accepted, "{steps} {images}"),
            Err(error) => assert!(!accepted && error == field, "{steps} {images}: {error}"),
        }
    }
    // Not as many bytes as the manifest says.
    let mut fixture = with_golden(config, 2);
    fixture.images.pop();
    assert!(matches!(
        fixture.emit(),
        Err(EmitError::WrongLength {
            expected: 648,
            got: 647,
            ..
        })
    ));
}

#[test]
fn impossible_images_are_refused() {
    let accepted = image(SHAPE, &CONVOLUTIONS);
    assert_eq!(seeing(accepted).validate(), Ok(()));
    let out_of_range = |image: ImageEncoder| match seeing(image).validate() {
        Err(ConfigError::OutOfRange { field, value, max }) => (field, value, max),
        other => panic!("{image:?}: {other:?}"),
    };
    assert_eq!(out_of_range(image([0, 12, 3], &[])), ("height", 0, 1024));
    assert_eq!(
        out_of_range(image([9, 1025, 3], &[])),
        ("width", 1025, 1024)
    );
    assert_eq!(out_of_range(image([9, 12, 0], &[])), ("channels", 0, 1024));
    let large = image([1024, 1024, 1], &[[4, 8, 8]]);
    assert_eq!(
        out_of_range(large),
        ("pixels of an image", 1 << 20, 1 << 18)
    );
    let overflowing = image([1024, 1024, 1024], &[]);
    assert_eq!(out_of_range(overflowing).0, "pixels of an image");
    assert_eq!(out_of_range(image(SHAPE, &[[4, 10, 1]])), ("kernel", 10, 9));
    assert_eq!(
        out_of_range(image(SHAPE, &[[4, 3, 4], [4, 3, 1]])),
        ("kernel", 3, 2)
    );
    assert_eq!(out_of_range(image(SHAPE, &[[4, 0, 1]])), ("kernel", 0, 9));
    assert_eq!(
        out_of_range(image(SHAPE, &[[4, 1, 0]])),
        ("stride", 0, 1024)
    );
    assert_eq!(
        out_of_range(image(SHAPE, &[[8196, 9, 1]])),
        ("filters", 8196, 8192)
    );
    let wide = image([64, 64, 4], &[[4, 46, 46]]);
    assert_eq!(
        out_of_range(wide),
        ("columns of a convolution", 46 * 46 * 4, 8192)
    );
    let many = image([64, 64, 4], &[[128, 1, 1]]);
    assert_eq!(
        out_of_range(many),
        ("outputs of a convolution", 1 << 19, 1 << 18)
    );
    let flat = image([64, 64, 4], &[[4, 2, 1]]);
    assert_eq!(
        out_of_range(flat),
        ("inputs of embed_state", 63 * 63 * 4, 8192)
    );

    let error = |config: Config| config.validate().unwrap_err();
    let filters = seeing(image(SHAPE, &[[6, 3, 2]]));
    assert_eq!(error(filters), ConfigError::Filters { filters: 6 });
    for convolutions in [
        [[0, 1, 0]; 3],
        [[0, 0, 0], [4, 1, 1], [0, 0, 0]],
        [[4, 1, 1], [0, 0, 0], [4, 1, 1]],
    ] {
        assert_eq!(
            error(seeing(image(SHAPE, &convolutions))),
            ConfigError::NoFilters
        );
    }
    let other = Config {
        state_dim: 323,
        ..seeing(accepted)
    };
    assert_eq!(
        error(other),
        ConfigError::Pixels {
            state_dim: 323,
            pixels: 324
        }
    );
    let predictions = Predictions {
        state: true,
        return_to_go: false,
    };
    let predicting = Config {
        predictions,
        ..seeing(accepted)
    };
    assert_eq!(error(predicting), ConfigError::PredictsImages);
    let head = Head::Linear;
    let choosing = Config {
        actions: Actions::Discrete,
        head,
        act_dim: 4,
        ..seeing(accepted)
    };
    assert_eq!(choosing.validate(), Ok(()));
}

#[test]
fn parameters_of_convolutions_are_counted() {
    let with = |count: usize| {
        let file = Fixture::new(seeing(image(SHAPE, &CONVOLUTIONS[..count])), 1)
            .emit()
            .unwrap();
        Blob::parse(bytes(&file)).unwrap().parameters()
    };
    let without = with(0) - 8 * (9 * 12 * 3);
    let convolutions = 8 * (27 + 1) + 4 * (32 + 1) + 12 * (16 + 1);
    // 9 × 12 → 4 × 5 → 3 × 4 → 1 × 2.
    assert_eq!(with(3), without + convolutions + 8 * (2 * 12));
}

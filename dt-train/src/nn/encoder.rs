//! Convolutions in front of a network whose states are images.
//!
//! A layer's weights are (filters, kernel, kernel, channels) and its maps (height, width, filters), as pixels are and as
//! policy files have them: what libtorch calls channels last, its fastest order, so that nothing is ever transposed.

use dt_core::config::{Convolution, ImageEncoder, MAX_CONVOLUTIONS, Placed};
use tch::{Kind, Tensor};

use super::layers::{Bound, Linear};
use super::parameters::{ParameterList, framework_init};
use super::transformer::Precision;

/// Those of the Decision Transformer paper for Atari, which are those of DQN (Mnih et al. 2015).
const ATARI: [Convolution; 3] = [
    convolution(32, 8, 4),
    convolution(64, 4, 2),
    convolution(64, 3, 1),
];

/// That of MinAtar's authors (Young and Tian 2019).
const MINATAR: [Convolution; 1] = [convolution(16, 3, 1)];

const fn convolution(filters: u32, kernel: u32, stride: u32) -> Convolution {
    Convolution {
        filters,
        kernel,
        stride,
    }
}

/// What suits images of this height, width and number of channels: the paper's where they are large enough, else one small
/// convolution.
pub fn suited(image: [usize; 3]) -> Vec<Convolution> {
    let edge = std::cmp::min(image[0], image[1]);
    // Where each kernel has the convolution before it for its edge, the last sees this many pixels.
    if edge >= 36 {
        ATARI.to_vec()
    } else {
        MINATAR.to_vec()
    }
}

/// Convolutions in front of images of this height, width and number of channels; those beyond the third are left out.
pub fn encoder(image: [usize; 3], convolutions: &[Convolution]) -> ImageEncoder {
    let [height, width, channels] = image.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let mut all = [Convolution::NONE; MAX_CONVOLUTIONS];
    all.iter_mut()
        .zip(convolutions)
        .for_each(|(place, convolution)| *place = *convolution);
    ImageEncoder {
        height,
        width,
        channels,
        convolutions: all,
    }
}

/// `conv_1.weight`, (filters, kernel, kernel, channels), `conv_1.bias`, (filters), and so on, as libtorch's `Conv2d` draws them.
pub fn push(list: &mut ParameterList, encoder: &ImageEncoder) {
    for (i, placed) in encoder.placed().into_iter().flatten().enumerate() {
        let Convolution {
            filters, kernel, ..
        } = placed.convolution;
        let shape = [filters, kernel, kernel, placed.input[2]].map(i64::from);
        let [weight, bias] = framework_init(placed.cols().into());
        list.push(format!("{}.weight", name(i)), &shape, weight);
        list.push(format!("{}.bias", name(i)), &shape[..1], bias);
    }
}

/// Weight and bias that pixels go through first.
pub fn first(encoder: &ImageEncoder) -> [String; 2] {
    let name = match encoder.placed()[0] {
        Some(_) => name(0),
        None => "embed_state".into(),
    };
    ["weight", "bias"].map(|part| format!("{name}.{part}"))
}

fn name(i: usize) -> String {
    format!("conv_{}", i + 1)
}

/// The convolutions, bound to parameter tensors.
#[derive(Debug)]
pub struct Encoder {
    image: [i64; 3],
    /// Each with its stride.
    layers: Vec<(Linear, i64)>,
}

impl Encoder {
    /// Binds them to `parameters`, which are shared, not copied.
    ///
    /// # Panics
    /// If those of [`push`] are not among them.
    pub fn bind(encoder: &ImageEncoder, parameters: &Bound<'_>) -> Self {
        let placed = encoder.placed().into_iter().flatten().enumerate();
        let layer = |(i, placed): (usize, Placed)| {
            let stride = placed.convolution.stride;
            (parameters.linear(&name(i)), i64::from(stride))
        };
        Self {
            image: encoder.shape().map(i64::from),
            layers: placed.map(layer).collect(),
        }
    }

    /// The same parameters rounded to `precision`, in which they then multiply. Gradients go through to those that
    /// [`bind`](Self::bind) was given.
    pub fn in_precision(mut self, precision: Precision) -> Self {
        if precision == Precision::Bf16 {
            for (layer, _) in &mut self.layers {
                for tensor in [&mut layer.weight, &mut layer.bias] {
                    *tensor = tensor.to_kind(Kind::BFloat16);
                }
            }
        }
        self
    }

    /// Images (B, T, height · width · channels) of pixels, as [`Image::normalized`](crate::run::Image::normalized) has them, → what the last convolution makes of them, (B, T, height ·
    /// width · filters).
    pub fn forward(&self, states: &Tensor) -> Tensor {
        let (b, t, _) = states.size3().expect("states are (B, T, state_dim)");
        let [height, width, channels] = self.image;
        // Viewed as (B · T, channels, height, width), though the channels lie last in memory.
        let first = |x: Tensor| x.permute([0, 3, 1, 2]);
        let mut x = first(states.reshape([b * t, height, width, channels]));
        for (Linear { weight, bias }, stride) in &self.layers {
            let weight = first(weight.shallow_clone());
            x = x
                .to_kind(weight.kind())
                .conv2d(&weight, Some(bias), [*stride; 2], [0; 2], [1; 2], 1)
                .relu();
        }
        x.permute([0, 2, 3, 1])
            .reshape([b, t, -1])
            .to_kind(Kind::Float)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::nn::parameters::{Parameter, draw};

    /// Against the definition of a convolution, written out.
    #[test]
    fn a_map_is_what_kernels_see_of_the_image() {
        let image = [5, 4, 2];
        let described = encoder(image, &[convolution(4, 2, 1), convolution(8, 3, 2)]);
        assert_eq!((described.flat(), described.last()), (8, [1, 1, 8]));
        let mut list = ParameterList::default();
        push(&mut list, &described);
        let list: Vec<Parameter> = list.into();
        let names: Vec<&str> = list.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "conv_1.weight",
                "conv_1.bias",
                "conv_2.weight",
                "conv_2.bias"
            ]
        );
        assert_eq!(list[2].shape, [8, 3, 3, 4]);
        let parameters = draw(&list, 1, Device::Cpu);
        let values: Vec<Vec<f64>> = parameters
            .frozen()
            .iter()
            .map(|tensor| Vec::try_from(tensor.flatten(0, -1).to_kind(Kind::Double)).unwrap())
            .collect();
        let pixels: Vec<f32> = (0..2 * 40).map(|i| ((i * 29) % 31) as f32 / 31.0).collect();

        let convolve = |x: &[f64],
                        [_, w, c]: [usize; 3],
                        [oh, ow, f]: [usize; 3],
                        k: usize,
                        stride: usize,
                        layer: usize| {
            let mut out = vec![0.0; oh * ow * f];
            for (at, out) in out.iter_mut().enumerate() {
                let (y, x0, filter) = (at / f / ow, at / f % ow, at % f);
                let mut sum = values[2 * layer + 1][filter];
                for dy in 0..k {
                    for dx in 0..k {
                        for channel in 0..c {
                            let weight =
                                values[2 * layer][((filter * k + dy) * k + dx) * c + channel];
                            sum += weight
                                * x[((y * stride + dy) * w + x0 * stride + dx) * c + channel];
                        }
                    }
                }
                *out = f64::max(sum, 0.0);
            }
            out
        };
        let expected: Vec<f64> = pixels
            .chunks_exact(40)
            .flat_map(|image| {
                let image: Vec<f64> = image.iter().copied().map(f64::from).collect();
                let map = convolve(&image, [5, 4, 2], [4, 3, 4], 2, 1, 0);
                convolve(&map, [4, 3, 4], [1, 1, 8], 3, 2, 1)
            })
            .collect();

        let bound = Bound::frozen(&parameters);
        let states = Tensor::from_slice(&pixels).view([1, 2, 40]);
        let encoder = Encoder::bind(&described, &bound);
        let got = encoder.forward(&states);
        assert_eq!(got.size(), [1, 2, 8]);
        let got: Vec<f64> = Vec::try_from(got.flatten(0, -1).to_kind(Kind::Double)).unwrap();
        assert!(
            expected.iter().filter(|x| **x > 0.0).count() > 2,
            "{expected:?}"
        );
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        let rounded = encoder.in_precision(Precision::Bf16).forward(&states);
        let rounded: Vec<f64> =
            Vec::try_from(rounded.flatten(0, -1).to_kind(Kind::Double)).unwrap();
        assert_ne!(rounded, got);
        for (got, expected) in rounded.iter().zip(&expected) {
            assert!((got - expected).abs() < 2e-2, "{got} {expected}");
        }
    }

    #[test]
    fn convolutions_suit_the_size() {
        for (image, flat) in [
            ([84, 84, 4], 7 * 7 * 64),
            ([36, 40, 1], 64),
            ([10, 10, 6], 8 * 8 * 16),
        ] {
            let described = encoder(image, &suited(image));
            assert_eq!(described.flat(), flat, "{image:?}");
            assert_eq!(first(&described), ["conv_1.weight", "conv_1.bias"]);
        }
        assert_eq!(
            first(&encoder([4, 4, 1], &[])),
            ["embed_state.weight", "embed_state.bias"]
        );
    }
}

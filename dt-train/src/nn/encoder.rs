//! Convolutions in front of a network whose states are images.
//!
//! A layer's weights are (filters, kernel, kernel, channels) and its maps (height, width, filters), as pixels are and as
//! policy files have them: what libtorch calls channels last, its fastest order, so that nothing is ever transposed.

use tch::{Kind, Tensor};

use super::layers::{Bound, Linear};
use super::parameters::{ParameterList, framework_init};
use super::transformer::Precision;

/// One convolution without padding, with a ReLU behind it: filters, edge of the square kernel, stride.
pub type Convolution = [u32; 3];

/// Most convolutions of an encoder.
pub const MOST: usize = 3;

/// Those of the Decision Transformer paper for Atari, which are those of DQN (Mnih et al. 2015).
const ATARI: [Convolution; 3] = [[32, 8, 4], [64, 4, 2], [64, 3, 1]];

/// That of MinAtar's authors (Young and Tian 2019).
const MINATAR: [Convolution; 1] = [[16, 3, 1]];

/// What suits images of this height, width and number of channels: the paper's where they are large enough, else one small
/// convolution.
pub fn suited(image: [usize; 3]) -> Vec<Convolution> {
    match map_shapes(image, &ATARI) {
        Ok(_) => ATARI.to_vec(),
        Err(_) => MINATAR.to_vec(),
    }
}

/// Height, width and channels of the image and of the map behind each convolution.
///
/// # Errors
/// In words: what is wrong with the convolutions, by themselves or for images of this size.
pub fn map_shapes(
    image: [usize; 3],
    convolutions: &[Convolution],
) -> Result<Vec<[usize; 3]>, String> {
    let mut maps = vec![image];
    for (i, &convolution) in convolutions.iter().enumerate() {
        let [height, width, _] = maps[i];
        let [filters, kernel, stride] = convolution.map(|n| n as usize);
        let edge = std::cmp::min(height, width);
        if kernel > edge {
            return Err(format!(
                "convolution {} has a kernel of {kernel}×{kernel}, but what it sees has {height}×{width}; images are {}×{}",
                i + 1,
                image[0],
                image[1]
            ));
        }
        let steps = |len: usize| (len - kernel) / stride + 1;
        maps.push([steps(height), steps(width), filters]);
    }
    Ok(maps)
}

/// Numbers behind the last convolution.
///
/// # Errors
/// As [`map_shapes`].
pub fn features(image: [usize; 3], convolutions: &[Convolution]) -> Result<usize, String> {
    let maps = map_shapes(image, convolutions)?;
    Ok(maps[maps.len() - 1].iter().product())
}

/// `conv_1.weight`, (filters, kernel, kernel, channels), `conv_1.bias`, (filters), and so on, as libtorch's `Conv2d` draws them.
pub fn push(list: &mut ParameterList, image: [usize; 3], convolutions: &[Convolution]) {
    let mut channels = image[2] as i64;
    for (i, &convolution) in convolutions.iter().enumerate() {
        let [filters, kernel, _] = convolution.map(i64::from);
        let [weight, bias] = framework_init(kernel * kernel * channels);
        let shape = [filters, kernel, kernel, channels];
        list.push(format!("{}.weight", name(i)), &shape, weight);
        list.push(format!("{}.bias", name(i)), &[filters], bias);
        channels = filters;
    }
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
    pub fn bind(image: [usize; 3], convolutions: &[Convolution], parameters: &Bound<'_>) -> Self {
        let layer = |(i, &[_, _, stride]): (usize, &Convolution)| {
            (parameters.linear(&name(i)), i64::from(stride))
        };
        Self {
            image: image.map(|n| n as i64),
            layers: convolutions.iter().enumerate().map(layer).collect(),
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

    /// Images (B, T, height · width · channels) of pixels in 0…1 → what the last convolution makes of them, (B, T, height ·
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
        let convolutions = [[3, 2, 1], [4, 3, 2]];
        assert_eq!(
            map_shapes(image, &convolutions).unwrap(),
            [[5, 4, 2], [4, 3, 3], [1, 1, 4]]
        );
        let mut list = ParameterList::default();
        push(&mut list, image, &convolutions);
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
        assert_eq!(list[2].shape, [4, 3, 3, 3]);
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
                let map = convolve(&image, [5, 4, 2], [4, 3, 3], 2, 1, 0);
                convolve(&map, [4, 3, 3], [1, 1, 4], 3, 2, 1)
            })
            .collect();

        let bound = Bound::frozen(&parameters);
        let states = Tensor::from_slice(&pixels).view([1, 2, 40]);
        let encoder = Encoder::bind(image, &convolutions, &bound);
        let got = encoder.forward(&states);
        assert_eq!(got.size(), [1, 2, 4]);
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
        assert_eq!(suited([84, 84, 4]), ATARI);
        assert_eq!(features([84, 84, 4], &ATARI), Ok(7 * 7 * 64));
        assert_eq!(suited([10, 10, 6]), MINATAR);
        assert_eq!(features([10, 10, 6], &MINATAR), Ok(8 * 8 * 16));
        let error = features([2, 9, 1], &MINATAR).unwrap_err();
        assert!(
            error.contains("convolution 1 has a kernel of 3×3, but what it sees has 2×9"),
            "{error}"
        );
    }
}

//! What a policy file declares about the convolutions that images go through.

use serde::{Deserialize, Serialize};

use super::{ConfigError, MAX_DIM, within};

/// Convolutions an image encoder has at most.
pub const MAX_CONVOLUTIONS: usize = 3;

/// Upper bound of an image's height, width and channels each.
pub const MAX_IMAGE_SIDE: u32 = 1 << 10;

/// Upper bound of the values of an image, and of what a convolution makes of it.
pub const MAX_MAP: u32 = 1 << 18;

/// Up to three convolutions, each with ReLU behind it, then one matrix: bytes (height, width, channels) → d_model.
///
/// There is neither normalization nor padding at the borders: pixels enter as the integers that they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ImageEncoder {
    /// Rows of pixels.
    pub height: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Values of a pixel, which lie side by side; frames that are stacked are channels.
    pub channels: u32,
    /// Input side first; [`Convolution::NONE`] where there are fewer.
    pub convolutions: [Convolution; MAX_CONVOLUTIONS],
}

/// A two-dimensional convolution over a square of pixels, without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Convolution {
    /// Channels that it makes, a multiple of 4.
    pub filters: u32,
    /// Side of the square.
    pub kernel: u32,
    /// Pixels from one square to the next.
    pub stride: u32,
}

impl Convolution {
    /// None at all.
    pub const NONE: Self = Self {
        filters: 0,
        kernel: 0,
        stride: 0,
    };
}

/// A convolution in its place: what goes into it and what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What it is.
    pub convolution: Convolution,
    /// Height, width and channels of its input.
    pub input: [u32; 3],
    /// Height, width and channels of its output.
    pub output: [u32; 3],
}

impl Placed {
    const fn new(convolution: Convolution, input: [u32; 3]) -> Self {
        let [height, width, _] = input;
        Self {
            convolution,
            input,
            output: [
                convolution.places(height),
                convolution.places(width),
                convolution.filters,
            ],
        }
    }

    /// Columns of its matrix: kernel · kernel · channels.
    pub const fn cols(&self) -> u32 {
        let [_, _, channels] = self.input;
        let kernel = self.convolution.kernel;
        kernel.saturating_mul(kernel).saturating_mul(channels)
    }
}

impl Convolution {
    /// Squares that fit along a side; 0 if there is none.
    const fn places(&self, side: u32) -> u32 {
        match side.checked_sub(self.kernel) {
            Some(rest) => match rest.checked_div(self.stride) {
                Some(steps) => steps.saturating_add(1),
                None => 0,
            },
            None => 0,
        }
    }
}

impl ImageEncoder {
    /// Height, width and channels.
    pub const fn shape(&self) -> [u32; 3] {
        [self.height, self.width, self.channels]
    }

    /// Bytes of an image.
    pub const fn pixels(&self) -> u32 {
        values(self.shape())
    }

    /// The convolutions that there are, input side first.
    pub const fn placed(&self) -> [Option<Placed>; MAX_CONVOLUTIONS] {
        let [first, second, third] = self.convolutions;
        let first = place(first, self.shape());
        let second = place(second, after(first, self.shape()));
        let third = place(third, after(second, after(first, self.shape())));
        [first, second, third]
    }

    /// Height, width and channels of what goes into the matrix at the end.
    pub const fn last(&self) -> [u32; 3] {
        let [first, second, third] = self.placed();
        after(third, after(second, after(first, self.shape())))
    }

    /// Values that go into the matrix at the end, in this order.
    pub const fn flat(&self) -> u32 {
        values(self.last())
    }

    pub(super) fn validate(&self, state_dim: u32) -> Result<(), ConfigError> {
        within("height", self.height, MAX_IMAGE_SIDE)?;
        within("width", self.width, MAX_IMAGE_SIDE)?;
        within("channels", self.channels, MAX_IMAGE_SIDE)?;
        within("pixels of an image", self.pixels(), MAX_MAP)?;
        if state_dim != self.pixels() {
            return Err(ConfigError::Pixels {
                state_dim,
                pixels: self.pixels(),
            });
        }
        let placed = self.placed();
        for (convolution, placed) in self.convolutions.iter().zip(&placed) {
            let Some(placed) = placed else {
                // What is not there has no fields either, so that a network is written in one way only.
                if *convolution != Convolution::NONE {
                    return Err(ConfigError::NoFilters);
                }
                continue;
            };
            let ([height, width, _], filters) = (placed.input, convolution.filters);
            within("kernel", convolution.kernel, height.min(width))?;
            within("stride", convolution.stride, MAX_IMAGE_SIDE)?;
            within("filters", filters, MAX_DIM)?;
            if !filters.is_multiple_of(4) {
                return Err(ConfigError::Filters { filters });
            }
            within("columns of a convolution", placed.cols(), MAX_DIM)?;
            within("outputs of a convolution", values(placed.output), MAX_MAP)?;
        }
        let [first, second, third] = placed.map(|placed| placed.is_some());
        if third && !second || second && !first {
            return Err(ConfigError::NoFilters);
        }
        within("inputs of embed_state", self.flat(), MAX_DIM)
    }
}

/// Values of a map of this height, width and number of channels.
const fn values([height, width, channels]: [u32; 3]) -> u32 {
    height.saturating_mul(width).saturating_mul(channels)
}

const fn place(convolution: Convolution, input: [u32; 3]) -> Option<Placed> {
    match convolution.filters {
        0 => None,
        _ => Some(Placed::new(convolution, input)),
    }
}

const fn after(placed: Option<Placed>, before: [u32; 3]) -> [u32; 3] {
    match placed {
        Some(placed) => placed.output,
        None => before,
    }
}

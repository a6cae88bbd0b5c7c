//! What an observation or an action can be, in Gymnasium's terms.
//!
//! A space describes; what flows through [`Env`](crate::Env) are slices of f32 in any case: the components of a
//! [`Box`](Space::Box), the index of a [`Discrete`](Space::Discrete) choice, the pixels of an [`Image`](Space::Image).
//! Who can work with one kind alone asks for it and refuses the others by name: see
//! [`EnvSpec::action_bounds`](crate::EnvSpec::action_bounds).

use core::fmt;

/// The set of possible observations or actions. Borrows its bounds, so that it costs nothing on the controller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Space<'a> {
    /// Vectors of numbers.
    Box {
        /// Lowest value of each component; −∞ where it has no bound.
        low: &'a [f32],
        /// Highest value of each component, as many; ∞ where it has no bound.
        high: &'a [f32],
    },
    /// One of `n` choices, 0 to n − 1.
    Discrete {
        /// How many.
        n: usize,
    },
    /// Pixels of 0 to 255, row by row, the channels of a pixel one after the other.
    Image {
        /// Rows.
        height: usize,
        /// Pixels of a row.
        width: usize,
        /// Values of a pixel.
        channels: usize,
    },
}

impl<'a> Space<'a> {
    /// Numbers that make one element.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "no space has elements of nothing"
    )]
    pub const fn len(&self) -> usize {
        match *self {
            Self::Box { low, .. } => low.len(),
            Self::Discrete { .. } => 1,
            Self::Image {
                height,
                width,
                channels,
            } => height * width * channels,
        }
    }

    /// Lowest and highest value of each component, if the elements are vectors.
    #[must_use]
    pub const fn bounds(&self) -> Option<[&'a [f32]; 2]> {
        match *self {
            Self::Box { low, high } => Some([low, high]),
            Self::Discrete { .. } | Self::Image { .. } => None,
        }
    }

    /// Whether `values` are an element: as many numbers, each within its bounds, choices and pixels whole. NaN is in
    /// no space.
    #[must_use]
    pub fn contains(&self, values: &[f32]) -> bool {
        let whole =
            |value: f32, end: usize| value >= 0.0 && value < end as f32 && value % 1.0 == 0.0;
        values.len() == self.len()
            && match *self {
                Self::Box { low, high } => {
                    let bounds = low.iter().zip(high);
                    let mut bounded = values.iter().zip(bounds);
                    bounded.all(|(value, (low, high))| (low..=high).contains(&value))
                }
                Self::Discrete { n } => values.iter().all(|&value| whole(value, n)),
                Self::Image { .. } => values.iter().all(|&value| whole(value, 256)),
            }
    }
}

/// `Box(3), -1…1`, where components differ `Box(3), within -8…8`, without any bound `Box(3), unbounded`; `Discrete(4)`;
/// `Image 84×84×4`, height × width × channels.
impl fmt::Display for Space<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Box { low, high } => {
                write!(f, "Box({}), ", low.len())?;
                let lowest = low.iter().copied().reduce(|a, b| if b < a { b } else { a });
                let highest = high
                    .iter()
                    .copied()
                    .reduce(|a, b| if b > a { b } else { a });
                let (lowest, highest) = (lowest.unwrap_or(0.0), highest.unwrap_or(0.0));
                let all_are = |values: &[f32], value: f32| values.iter().all(|&x| x == value);
                if all_are(low, f32::NEG_INFINITY) && all_are(high, f32::INFINITY) {
                    return f.write_str("unbounded");
                }
                if !(all_are(low, lowest) && all_are(high, highest)) {
                    f.write_str("within ")?;
                }
                // Adding 0 turns −0 into 0.
                write!(f, "{}…{}", lowest + 0.0, highest + 0.0)
            }
            Self::Discrete { n } => write!(f, "Discrete({n})"),
            Self::Image {
                height,
                width,
                channels,
            } => write!(f, "Image {height}×{width}×{channels}"),
        }
    }
}

/// Observations or actions of another kind than the vectors that were asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotABox<'a> {
    /// The environment.
    pub env: &'a str,
    /// `observations` or `actions`.
    pub of: &'static str,
    /// What they are.
    pub space: Space<'a>,
}

impl fmt::Display for NotABox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { env, of, space } = self;
        write!(
            f,
            "the {of} of environment `{env}` are {space}; only vectors of numbers, Box, can be used here"
        )
    }
}

impl core::error::Error for NotABox<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Space<'static> = Space::Box {
        low: &[-1.0, -8.0],
        high: &[1.0, f32::INFINITY],
    };
    const CHOICE: Space<'static> = Space::Discrete { n: 4 };
    const IMAGE: Space<'static> = Space::Image {
        height: 2,
        width: 1,
        channels: 3,
    };

    #[test]
    fn elements_have_their_length_and_bounds() {
        assert_eq!([BOX, CHOICE, IMAGE].map(|space| space.len()), [2, 1, 6]);
        assert!(BOX.bounds().is_some() && CHOICE.bounds().is_none() && IMAGE.bounds().is_none());

        assert!(BOX.contains(&[-1.0, 1e30]) && BOX.contains(&[1.0, f32::INFINITY]));
        for outside in [
            &[1.1, 0.0][..],
            &[0.0, -8.1],
            &[0.0, f32::NAN],
            &[0.0],
            &[0.0; 3],
        ] {
            assert!(!BOX.contains(outside), "{outside:?}");
        }
        assert!(CHOICE.contains(&[0.0]) && CHOICE.contains(&[3.0]));
        for outside in [&[4.0][..], &[-1.0], &[0.5], &[f32::NAN], &[0.0, 0.0]] {
            assert!(!CHOICE.contains(outside), "{outside:?}");
        }
        assert!(IMAGE.contains(&[0.0, 1.0, 2.0, 253.0, 254.0, 255.0]));
        assert!(!IMAGE.contains(&[0.0, 1.0, 2.0, 3.0, 4.0, 256.0]));
    }

    #[cfg(feature = "std")]
    #[test]
    fn spaces_are_told_in_words() {
        let (low, high) = (&[-1.0, -1.0, -0.0][..], &[1.0, 1.0, 1.0][..]);
        let infinite = [f32::NEG_INFINITY, f32::INFINITY].map(|x| [x; 11]);
        for (space, words) in [
            (
                Space::Box {
                    low: &low[..2],
                    high: &high[..2],
                },
                "Box(2), -1…1",
            ),
            (
                Space::Box {
                    low: &low[2..],
                    high: &high[2..],
                },
                "Box(1), 0…1",
            ),
            (Space::Box { low, high }, "Box(3), within -1…1"),
            (BOX, "Box(2), within -8…inf"),
            (
                Space::Box {
                    low: &infinite[0],
                    high: &infinite[1],
                },
                "Box(11), unbounded",
            ),
            (CHOICE, "Discrete(4)"),
            (IMAGE, "Image 2×1×3"),
        ] {
            assert_eq!(space.to_string(), words);
        }
    }
}

//! Observations or actions of all steps, in the type in which the file has them.

use std::ops::Range;

use host_sim::Space;

use super::frames::Frames;

/// Elements of one space, flat, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Vectors.
    Box {
        /// Lowest value of each component, as the file names it; −∞ where it names none.
        low: Vec<f32>,
        /// Highest value of each component; ∞ where the file names none.
        high: Vec<f32>,
        /// (len, low.len())
        values: Vec<f32>,
    },
    /// Choices.
    Discrete {
        /// How many there are. Where nobody says, as many as were seen.
        n: usize,
        /// Whether somebody says how many.
        declared: bool,
        /// (len), each below n
        values: Vec<u32>,
    },
    /// Pixels.
    Image(Frames),
}

/// Two columns that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherKind;

impl Column {
    /// Vectors of `dim` components, of whose bounds nothing is known.
    pub fn unbounded(dim: usize, values: Vec<f32>) -> Self {
        Self::Box {
            low: vec![f32::NEG_INFINITY; dim],
            high: vec![f32::INFINITY; dim],
            values,
        }
    }

    /// Choices, of which nobody says how many there are.
    pub fn choices(values: Vec<u32>) -> Self {
        let n = values.iter().max().map_or(0, |&last| last as usize + 1);
        Self::Discrete {
            n,
            declared: false,
            values,
        }
    }

    /// Pixels of images of this height, width and number of channels, (n, height, width, channels).
    pub fn image(shape: [usize; 3], values: &[u8]) -> Self {
        Self::Image(Frames::from_bytes(shape, values))
    }

    /// The images, if they are any.
    pub fn images(&self) -> Option<&Frames> {
        match self {
            Self::Image(frames) => Some(frames),
            _ => None,
        }
    }

    /// Vectors side by side: an element of the first column, then one of the second, and so on. None where one of them
    /// holds no vectors, or more or fewer than the first.
    pub fn beside(columns: &[Self]) -> Option<Self> {
        let len = columns.first()?.len();
        let mut parts = Vec::with_capacity(columns.len());
        let (mut lowest, mut highest) = (Vec::new(), Vec::new());
        for column in columns {
            let Self::Box { low, high, values } = column else {
                return None;
            };
            if values.len() != len * low.len() {
                return None;
            }
            lowest.extend_from_slice(low);
            highest.extend_from_slice(high);
            parts.push(values.chunks_exact(low.len()));
        }
        let mut values = Vec::with_capacity(len * lowest.len());
        for _ in 0..len {
            parts
                .iter_mut()
                .for_each(|part| values.extend_from_slice(part.next().unwrap_or(&[])));
        }
        Some(Self::Box {
            low: lowest,
            high: highest,
            values,
        })
    }

    /// What the elements are of.
    pub fn space(&self) -> Space<'_> {
        match self {
            Self::Box { low, high, .. } => Space::Box { low, high },
            &Self::Discrete { n, .. } => Space::Discrete { n },
            Self::Image(frames) => {
                let [height, width, channels] = frames.shape();
                Space::Image {
                    height,
                    width,
                    channels,
                }
            }
        }
    }

    /// Numbers of one element: the dimension of a vector, 1 for a choice.
    pub fn width(&self) -> usize {
        self.space().len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Box { values, .. } => values.len() / self.width(),
            Self::Discrete { values, .. } => values.len(),
            Self::Image(frames) => frames.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Box { values, .. } => values.is_empty(),
            Self::Discrete { values, .. } => values.is_empty(),
            Self::Image(frames) => frames.is_empty(),
        }
    }

    /// The components of all vectors, (len, width), if they are vectors.
    pub fn vectors(&self) -> Option<&[f32]> {
        match self {
            Self::Box { values, .. } => Some(values),
            _ => None,
        }
    }

    /// As [`vectors`](Self::vectors), without copying them.
    pub fn into_vectors(self) -> Option<Vec<f32>> {
        match self {
            Self::Box { values, .. } => Some(values),
            _ => None,
        }
    }

    /// The same space without an element.
    pub fn emptied(&self) -> Self {
        match self {
            Self::Box { low, high, .. } => Self::Box {
                low: low.clone(),
                high: high.clone(),
                values: Vec::new(),
            },
            &Self::Discrete { n, declared, .. } => Self::Discrete {
                n,
                declared,
                values: Vec::new(),
            },
            Self::Image(frames) => Self::Image(frames.emptied()),
        }
    }

    /// Appends elements. Bounds and choices become those of both.
    ///
    /// # Errors
    /// They are of another kind or size; `self` is then unchanged.
    pub fn append(&mut self, other: Self) -> Result<(), OtherKind> {
        match (self, other) {
            (
                Self::Box { low, high, values },
                Self::Box {
                    low: other_low,
                    high: other_high,
                    values: others,
                },
            ) if low.len() == other_low.len() => {
                let lower = |(a, b): (&mut f32, f32)| *a = if b < *a { b } else { *a };
                low.iter_mut().zip(other_low).for_each(lower);
                let higher = |(a, b): (&mut f32, f32)| *a = if b > *a { b } else { *a };
                high.iter_mut().zip(other_high).for_each(higher);
                values.extend(others);
            }
            (
                Self::Discrete {
                    n,
                    declared,
                    values,
                },
                Self::Discrete {
                    n: other_n,
                    declared: other_declared,
                    values: others,
                },
            ) => {
                *n = std::cmp::max(*n, other_n);
                *declared &= other_declared;
                values.extend(others);
            }
            (Self::Image(frames), Self::Image(others)) if frames.shape() == others.shape() => {
                frames.extend_from(&others, 0..others.len());
            }
            _ => return Err(OtherKind),
        }
        Ok(())
    }

    /// Appends copies of elements of `other`.
    ///
    /// # Panics
    /// If `other` is of another kind.
    pub fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        let width = self.width();
        let of = rows.start * width..rows.end * width;
        match (self, other) {
            (Self::Image(frames), Self::Image(from)) => frames.extend_from(from, rows),
            (Self::Box { values, .. }, Self::Box { values: from, .. }) => {
                values.extend_from_slice(&from[of]);
            }
            (Self::Discrete { values, .. }, Self::Discrete { values: from, .. }) => {
                values.extend_from_slice(&from[of]);
            }
            _ => panic!("columns of two kinds"),
        }
    }

    /// Takes the elements from `len` on away.
    pub fn split_off(&mut self, len: usize) -> Self {
        if let Self::Image(frames) = self {
            return Self::Image(frames.split_off(len));
        }
        let mut rest = self.emptied();
        let at = len * self.width();
        match (&mut *self, &mut rest) {
            (Self::Box { values, .. }, Self::Box { values: rest, .. }) => {
                *rest = values.split_off(at);
            }
            (Self::Discrete { values, .. }, Self::Discrete { values: rest, .. }) => {
                *rest = values.split_off(at);
            }
            _ => unreachable!("`emptied` keeps the kind"),
        }
        rest
    }

    /// Drops the elements from `len` on and their memory.
    pub fn truncate(&mut self, len: usize) {
        fn shorten<T>(values: &mut Vec<T>, len: usize) {
            values.truncate(len);
            values.shrink_to_fit();
        }
        let end = len * self.width();
        match self {
            Self::Box { values, .. } => shorten(values, end),
            Self::Discrete { values, .. } => shorten(values, end),
            Self::Image(frames) => frames.truncate(len),
        }
    }

    /// Copies elements to where element `to` begins; they may overlap.
    ///
    /// # Panics
    /// If either place is not there.
    pub fn copy_within(&mut self, rows: Range<usize>, to: usize) {
        let width = self.width();
        let (from, at) = (rows.start * width..rows.end * width, to * width);
        match self {
            Self::Box { values, .. } => values.copy_within(from, at),
            Self::Discrete { values, .. } => values.copy_within(from, at),
            Self::Image(frames) => frames.copy_within(rows, to),
        }
    }

    /// Smallest and largest value of each component of vectors, of the choice; of all pixels together. Empty where
    /// there is no element.
    pub fn range(&self) -> Vec<[f64; 2]> {
        fn range<T: Copy + Into<f64>>(values: &[T], width: usize) -> Vec<[f64; 2]> {
            let mut ranges = vec![[f64::INFINITY, f64::NEG_INFINITY]; width];
            for row in values.chunks_exact(width) {
                for ([low, high], &x) in ranges.iter_mut().zip(row) {
                    let x = x.into();
                    *low = if x < *low { x } else { *low };
                    *high = if x > *high { x } else { *high };
                }
            }
            ranges
        }
        match self {
            _ if self.is_empty() => Vec::new(),
            Self::Box { values, .. } => range(values, self.width()),
            Self::Discrete { values, .. } => range(values, 1),
            Self::Image(frames) => frames
                .range()
                .map(|range| range.map(Into::into))
                .into_iter()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Column; 3] {
        [
            Column::Box {
                low: vec![0.0, -1.0],
                high: vec![5.0, 9.0],
                values: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            },
            Column::Discrete {
                n: 4,
                declared: true,
                values: vec![3, 0, 1],
            },
            Column::image([1, 2, 1], &[0, 1, 2, 3, 4, 255]),
        ]
    }

    #[test]
    fn columns_of_each_kind_are_cut_and_joined_again() {
        for whole in all() {
            assert_eq!(whole.len(), 3);
            let mut first = whole.clone();
            let rest = first.split_off(1);
            assert_eq!((first.len(), rest.len()), (1, 2));
            assert_ne!(first, whole);
            first.append(rest).unwrap();
            assert_eq!(first, whole);

            let (mut moved, mut expected) = (whole.clone(), whole.clone());
            moved.copy_within(2..3, 0);
            moved.truncate(1);
            expected = expected.split_off(2);
            assert_eq!(moved, expected);

            let mut copied = whole.emptied();
            copied.extend_from(&whole, 0..2);
            copied.extend_from(&whole, 2..3);
            assert_eq!(copied, whole);

            assert!(whole.emptied().is_empty() && !whole.is_empty());
            assert_eq!(whole.emptied().space(), whole.space());
        }
    }

    #[test]
    fn vectors_are_laid_side_by_side() {
        let [vectors, choices, _] = all();
        let numbers = Column::unbounded(1, vec![7.0, 8.0, 9.0]);
        let expected = Column::Box {
            low: vec![f32::NEG_INFINITY, 0.0, -1.0],
            high: vec![f32::INFINITY, 5.0, 9.0],
            values: vec![7.0, 0.0, 1.0, 8.0, 2.0, 3.0, 9.0, 4.0, 5.0],
        };
        let both = Column::beside(&[numbers.clone(), vectors.clone()]);
        assert_eq!(both, Some(expected));
        assert_eq!(
            Column::beside(std::slice::from_ref(&vectors)),
            Some(vectors.clone())
        );
        let fewer = Column::unbounded(1, vec![7.0, 8.0]);
        for other in [fewer, choices] {
            assert_eq!(Column::beside(&[vectors.clone(), other]), None);
        }
        assert_eq!(Column::beside(&[]), None);
    }

    #[test]
    fn other_kinds_and_sizes_are_not_joined() {
        let others = [
            Column::unbounded(3, vec![0.0; 3]),
            Column::image([2, 1, 1], &[0; 2]),
        ];
        for mut column in all() {
            let before = column.clone();
            for other in all().into_iter().chain(others.clone()) {
                let same = other.space() == before.space();
                assert_eq!(column.clone().append(other).is_ok(), same);
            }
            let _ = column.append(others[0].clone());
            assert_eq!(column, before);
        }
    }

    #[test]
    fn bounds_and_choices_are_those_of_both() {
        let [mut vectors, mut choices, _] = all();
        let other = Column::Box {
            low: vec![-1.0, 0.0],
            high: vec![f32::INFINITY, 0.0],
            values: Vec::new(),
        };
        vectors.append(other).unwrap();
        let expected = [&[-1.0, -1.0][..], &[f32::INFINITY, 9.0]];
        assert_eq!(vectors.space().bounds(), Some(expected));
        choices.append(Column::choices(vec![6, 2])).unwrap();
        assert_eq!(choices.space(), Space::Discrete { n: 7 });
        choices.append(Column::choices(vec![0])).unwrap();
        assert_eq!(choices.space(), Space::Discrete { n: 7 });
    }

    #[test]
    fn ranges_are_those_of_the_elements() {
        let [vectors, choices, images] = all();
        assert_eq!(vectors.range(), [[0.0, 4.0], [1.0, 5.0]]);
        assert_eq!(choices.range(), [[0.0, 3.0]]);
        assert_eq!(images.range(), [[0.0, 255.0]]);
        assert!(vectors.emptied().range().is_empty());
    }
}

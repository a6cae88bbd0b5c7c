//! Images in memory: each frame stored once, compressed together with its neighbours.
//!
//! A million frames of Atari are 7 GB as bytes. So frames are kept in chunks of a few, by zstd; what a batch needs is unpacked
//! when it is drawn. Which frame a row is of is a table beside the chunks, so that rows are selected, split and joined without
//! touching a pixel. 60,091 frames of Breakout, of 7056 bytes, take 73 bytes each, table included, where zlib at HDF5's usual
//! level 4 takes 131 in chunks as large; one core finds and unpacks the 208 frames of 16 sequences of 10 in 0.8 ms.

use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

/// Bytes of a chunk before it is compressed, about: what is unpacked for one frame at most, and enough for neighbours to
/// be told by their differences.
const CHUNK: usize = 1 << 16;

/// Frames of a chunk, at least: they resemble each other.
const TOGETHER: usize = 16;

/// Frames that the median pixel is found in, at most: one frame of a game is much like the others.
const JUDGED: usize = 256;

/// Level of zstd: higher ones take several times as long for a tenth less.
const LEVEL: i32 = 1;

/// Images of one shape, an element per row.
#[derive(Clone)]
pub struct Frames {
    /// Height, width and channels of a frame.
    shape: [usize; 3],
    /// Frames that make one observation: the row's and those before it in its episode.
    stack: usize,
    chunks: Vec<Chunk>,
    /// The chunk to which frames are added.
    open: Option<usize>,
    /// Frame of each row.
    rows: Vec<Place>,
    /// The brightest pixel ever pushed.
    brightest: u8,
}

/// Some frames, one after the other.
#[derive(Clone)]
enum Chunk {
    Open(Vec<u8>),
    Packed(Arc<[u8]>),
}

/// Where a frame is; places sort by chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    chunk: u32,
    frame: u32,
}

impl Frames {
    /// Frames of `shape`, height, width and channels, of which there is none yet.
    pub fn new(shape: [usize; 3]) -> Self {
        Self {
            shape,
            stack: 1,
            chunks: Vec::new(),
            open: None,
            rows: Vec::new(),
            brightest: 0,
        }
    }

    /// Those of `values`, (n, height, width, channels).
    pub fn from_bytes(shape: [usize; 3], values: &[u8]) -> Self {
        let mut frames = Self::new(shape);
        frames.push_all(values);
        frames
    }

    /// Height, width and channels of an observation: of a frame, with the channels of all that are stacked, the oldest
    /// frame's first.
    pub fn shape(&self) -> [usize; 3] {
        let [height, width, channels] = self.shape;
        [height, width, channels * self.stack]
    }

    /// Frames that make one observation.
    pub fn stack(&self) -> usize {
        self.stack
    }

    /// The same frames, `stack` of which make one observation.
    pub fn set_stack(&mut self, stack: usize) {
        self.stack = stack;
    }

    /// The same bytes as frames of another height, width and number of channels.
    ///
    /// # Panics
    /// If those are more or fewer bytes.
    #[must_use]
    pub fn in_shape(self, shape: [usize; 3]) -> Self {
        let len: usize = shape.iter().product();
        assert_eq!(len, self.frame_len(), "as many bytes of a frame");
        Self { shape, ..self }
    }

    /// Bytes of one frame.
    pub fn frame_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory that the frames take.
    pub fn memory(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| match chunk {
            Chunk::Open(bytes) => bytes.capacity(),
            Chunk::Packed(bytes) => bytes.len(),
        });
        let tables =
            self.chunks.capacity() * size_of::<Chunk>() + self.rows.capacity() * size_of::<Place>();
        chunks.sum::<usize>() + tables
    }

    /// What pixels are divided by to lie in 0…1: 1 of pixels that are flags, 255 of those that use all eight bits, else the
    /// smallest 2ⁿ − 1 that none of them exceeds.
    pub fn scale(&self) -> f32 {
        let bits = std::cmp::max(8 - self.brightest.leading_zeros(), 1);
        ((1_u32 << bits) - 1) as f32
    }

    /// The median pixel of 256 frames at most, evenly spread; 0 where there are none.
    pub fn median(&self) -> u8 {
        let rows: Vec<_> = match self.len() {
            0 => return 0,
            len => (0..len).step_by(len.div_ceil(JUDGED)).map(Some).collect(),
        };
        let mut pixels = vec![0; rows.len() * self.frame_len()];
        self.gather(&rows, &mut pixels);
        let middle = pixels.len() / 2;
        *pixels.select_nth_unstable(middle).1
    }

    /// Appends a row with a frame of its own, row by row, the channels of a pixel one after the other.
    ///
    /// # Panics
    /// If it has another size.
    pub fn push(&mut self, frame: &[u8]) {
        let len = self.frame_len();
        assert_eq!(
            frame.len(),
            len,
            "a frame has height × width × channels bytes"
        );
        let full = std::cmp::max(CHUNK / len, TOGETHER);
        let chunk = *self.open.get_or_insert_with(|| {
            self.chunks
                .push(Chunk::Open(Vec::with_capacity(full * len)));
            self.chunks.len() - 1
        });
        let Chunk::Open(bytes) = &mut self.chunks[chunk] else {
            unreachable!("`open` is an open chunk")
        };
        let place = Place {
            chunk: chunk as u32,
            frame: (bytes.len() / len) as u32,
        };
        bytes.extend_from_slice(frame);
        if bytes.len() == full * len {
            let packed = zstd::bulk::compress(bytes, LEVEL).expect("memory to memory");
            self.chunks[chunk] = Chunk::Packed(packed.into());
            self.open = None;
        }
        self.rows.push(place);
        let brightest = frame.iter().copied().max().unwrap_or(0);
        self.brightest = std::cmp::max(self.brightest, brightest);
    }

    /// The same of pixels that are numbers, as environments show them: whole ones in 0…255.
    ///
    /// # Panics
    /// If there are more or fewer than those of a frame.
    pub fn push_numbers(&mut self, frame: &[f32]) {
        let pixels: Vec<u8> = frame.iter().map(|&pixel| pixel as u8).collect();
        self.push(&pixels);
    }

    /// Appends rows, (n, height, width, channels).
    pub fn push_all(&mut self, values: &[u8]) {
        values
            .chunks_exact(self.frame_len())
            .for_each(|frame| self.push(frame));
    }

    /// The frames of `rows`, each unpacked once, in the order of the places they are stored in: calls `found` with a place in
    /// `rows` and its frame, from several threads. `None` is a frame of zeros.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not of `rows.len()` frames.
    pub fn gather(&self, rows: &[Option<usize>], out: &mut [u8]) {
        let len = self.frame_len();
        assert_eq!(out.len(), rows.len() * len, "a frame for each row");
        let mut wanted: Vec<(Option<Place>, &mut [u8])> = rows
            .iter()
            .map(|row| row.map(|row| self.rows[row]))
            .zip(out.chunks_exact_mut(len))
            .collect();
        wanted.sort_unstable_by_key(|(place, _)| *place);
        let same_chunk = |a: &(Option<Place>, _), b: &(Option<Place>, _)| {
            a.0.map(|place| place.chunk) == b.0.map(|place| place.chunk)
        };
        let groups: Vec<_> = wanted.chunk_by_mut(same_chunk).collect();
        groups.into_par_iter().for_each(|group| {
            let Some(Place { chunk, .. }) = group[0].0 else {
                group.iter_mut().for_each(|(_, out)| out.fill(0));
                return;
            };
            self.with_chunk(chunk as usize, |bytes| {
                for (place, out) in group {
                    let frame = place.expect("of this chunk").frame as usize;
                    out.copy_from_slice(&bytes[frame * len..][..len]);
                }
            });
        });
    }

    /// All frames, (len, height, width, channels), unpacked.
    pub fn to_bytes(&self) -> Vec<u8> {
        let rows: Vec<_> = (0..self.len()).map(Some).collect();
        let mut bytes = vec![0; self.len() * self.frame_len()];
        self.gather(&rows, &mut bytes);
        bytes
    }

    /// Smallest and largest pixel; none where there is no row.
    pub fn range(&self) -> Option<[u8; 2]> {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        let len = self.frame_len();
        let ranges = rows.chunk_by(|a, b| a.chunk == b.chunk).map(|group| {
            let mut range = [u8::MAX, u8::MIN];
            self.with_chunk(group[0].chunk as usize, |bytes| {
                let pixels = |place: &Place| bytes[place.frame as usize * len..][..len].iter();
                for &pixel in group.iter().flat_map(pixels) {
                    range = [
                        std::cmp::min(range[0], pixel),
                        std::cmp::max(range[1], pixel),
                    ];
                }
            });
            range
        });
        ranges.reduce(|a, b| [std::cmp::min(a[0], b[0]), std::cmp::max(a[1], b[1])])
    }

    /// No row, of the same shape.
    pub fn emptied(&self) -> Self {
        Self {
            stack: self.stack,
            ..Self::new(self.shape)
        }
    }

    /// Appends copies of rows of `other`, whose frames are then shared.
    ///
    /// # Panics
    /// If those are of another shape.
    pub fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        assert_eq!(self.shape, other.shape, "frames of one shape");
        for group in other.rows[rows].chunk_by(|a, b| a.chunk == b.chunk) {
            match &other.chunks[group[0].chunk as usize] {
                Chunk::Packed(bytes) => {
                    let chunk = self.chunks.len() as u32;
                    self.chunks.push(Chunk::Packed(bytes.clone()));
                    let here = |place: &Place| Place { chunk, ..*place };
                    self.rows.extend(group.iter().map(here));
                }
                Chunk::Open(bytes) => {
                    let len = self.frame_len();
                    for place in group {
                        self.push(&bytes[place.frame as usize * len..][..len]);
                    }
                }
            }
        }
        self.brightest = std::cmp::max(self.brightest, other.brightest);
    }

    /// Takes the rows from `len` on away.
    pub fn split_off(&mut self, len: usize) -> Self {
        let mut rest = self.emptied();
        rest.extend_from(self, len..self.len());
        self.truncate(len);
        rest
    }

    /// Drops the rows from `len` on, and the memory of what no row needs any more.
    pub fn truncate(&mut self, len: usize) {
        self.rows.truncate(len);
        self.rows.shrink_to_fit();
        let mut is_needed = vec![false; self.chunks.len()];
        self.rows
            .iter()
            .for_each(|place| is_needed[place.chunk as usize] = true);
        for (chunk, _) in self
            .chunks
            .iter_mut()
            .zip(is_needed)
            .filter(|(_, needed)| !needed)
        {
            *chunk = Chunk::Packed(Arc::new([]));
        }
        self.open = self
            .open
            .filter(|&open| matches!(self.chunks[open], Chunk::Open(_)));
    }

    /// Copies rows to where row `to` begins; they may overlap.
    ///
    /// # Panics
    /// If either place is not there.
    pub fn copy_within(&mut self, rows: Range<usize>, to: usize) {
        self.rows.copy_within(rows, to);
    }

    fn with_chunk(&self, chunk: usize, read: impl FnOnce(&[u8])) {
        match &self.chunks[chunk] {
            Chunk::Open(bytes) => read(bytes),
            Chunk::Packed(bytes) => {
                let most = std::cmp::max(CHUNK, TOGETHER * self.frame_len());
                read(&zstd::bulk::decompress(bytes, most).expect("as it was compressed"));
            }
        }
    }
}

/// The same pixels in every row, however they are stored.
impl PartialEq for Frames {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape
            && self.stack == other.stack
            && self.len() == other.len()
            && self.to_bytes() == other.to_bytes()
    }
}

impl Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width, channels] = self.shape();
        write!(f, "{} frames {height}×{width}×{channels}", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    const SHAPE: [usize; 3] = [3, 5, 2];
    const LEN: usize = 30;

    /// Frame i has i everywhere but in its first pixel, which has i / 256.
    fn frame(i: usize) -> Vec<u8> {
        let mut frame = vec![i as u8; LEN];
        frame[0] = (i / 256) as u8;
        frame
    }

    fn numbered(numbers: impl IntoIterator<Item = usize>) -> Frames {
        let mut frames = Frames::new(SHAPE);
        numbers.into_iter().for_each(|i| frames.push(&frame(i)));
        frames
    }

    fn numbers(frames: &Frames) -> Vec<usize> {
        let bytes = frames.to_bytes();
        let number = |frame: &[u8]| frame[0] as usize * 256 + frame[1] as usize;
        bytes.chunks_exact(LEN).map(number).collect()
    }

    /// Two chunks and a part of a third.
    const MANY: usize = 2 * (CHUNK / LEN) + 100;

    #[test]
    fn rows_are_cut_joined_and_moved_as_if_they_were_bytes() {
        let mut expected: Vec<usize> = (0..MANY).collect();
        let mut frames = numbered(0..MANY);
        assert_eq!(frames.chunks.len(), 3);
        assert_eq!(numbers(&frames), expected);

        let rest = frames.split_off(3000);
        assert_eq!(numbers(&rest), expected.split_off(3000));
        frames.extend_from(&rest, 5..700);
        expected.extend(3005..3700);
        frames.push(&frame(7));
        expected.push(7);
        assert_eq!(numbers(&frames), expected);

        frames.copy_within(2990..3500, 10);
        expected.copy_within(2990..3500, 10);
        frames.truncate(600);
        expected.truncate(600);
        assert_eq!(numbers(&frames), expected);
        frames.push_all(&[frame(1), frame(2)].concat());
        expected.extend([1, 2]);
        assert_eq!(numbers(&frames), expected);
        assert_eq!(frames, numbered(expected));
        assert_ne!(frames, numbered(0..602));
        assert!(frames.emptied().is_empty());
    }

    #[test]
    fn frames_are_gathered_in_any_order_and_where_there_is_none_are_zeros() {
        let frames = numbered(0..MANY);
        let rows = [
            Some(4000),
            None,
            Some(3),
            Some(4000),
            Some(MANY - 1),
            Some(0),
        ];
        let mut out = vec![9; rows.len() * LEN];
        frames.gather(&rows, &mut out);
        let expected = rows.map(|row| row.map_or(vec![0; LEN], frame));
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn what_no_row_needs_takes_no_memory() {
        let noise = |i: usize| -> Vec<u8> {
            let bits = |k: usize| ((i * LEN + k) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
            (0..LEN).map(|k| bits(k) as u8).collect()
        };
        let mut frames = Frames::new(SHAPE);
        (0..MANY).for_each(|i| frames.push(&noise(i)));
        let before = frames.memory();
        frames.truncate(10);
        assert!(
            3 * frames.memory() < 2 * before,
            "{before} {}",
            frames.memory()
        );
        let mut alike = Frames::new([32, 32, 1]);
        (0..2000).for_each(|i| alike.push(&[(i / 100) as u8; 1024]));
        assert!(20 * alike.memory() < 2000 * 1024, "{}", alike.memory());
    }

    /// A wall, a ball, a paddle and a few pixels that flicker: what a game looks like that is 84 pixels wide.
    fn game(i: usize, flicker: &mut impl FnMut() -> usize) -> Vec<u8> {
        let mut frame = vec![0; 84 * 84];
        for row in 20..32 {
            frame[84 * row..][..84].fill(60 + 10 * (row / 2) as u8);
        }
        let ball = 84 * (34 + i * 3 % 47) + i * 2 % 82;
        let paddle = 84 * 82 + i * 2 % 72;
        frame[ball..ball + 2].fill(180);
        frame[paddle..paddle + 12].fill(150);
        for _ in 0..8 {
            frame[flicker() % (84 * 84)] = flicker() as u8;
        }
        frame
    }

    /// No more than 1.2 times what zlib leaves of them in chunks as large, all tables included.
    #[test]
    fn frames_take_hardly_more_memory_than_a_compressed_file() {
        let shape = [84, 84, 1];
        let mut random = 1_u64;
        let mut flicker = || {
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (random >> 40) as usize
        };
        let bytes: Vec<u8> = (0..1600).flat_map(|i| game(i, &mut flicker)).collect();
        let chunks = bytes.chunks(TOGETHER * 84 * 84);
        let zlib = chunks.map(|chunk| {
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
            zlib.write_all(chunk).unwrap();
            zlib.finish().unwrap().len()
        });
        let zlib: usize = zlib.sum();
        let mut frames = Frames::new(shape);
        frames.push_all(&bytes);
        let memory = frames.memory();
        assert!(5 * memory <= 6 * zlib, "{memory} {zlib}");
        assert!(frames.to_bytes() == bytes);
    }

    #[test]
    fn the_median_is_of_all_frames_alike() {
        assert_eq!(Frames::new([1, 1, 1]).median(), 0);
        // The ground, 87, on more than half of each picture, and something else in each.
        let mut frames = Frames::new([1, 5, 1]);
        for i in 0..3 * JUDGED {
            frames.push(&[87, (i % 256) as u8, 87, 236, 87]);
        }
        assert_eq!(frames.median(), 87);
        // Half of the frames are dark: the first ones alone would say so.
        let mut halves = Frames::new([1, 1, 1]);
        (0..4 * JUDGED).for_each(|i| halves.push(&[if i < 2 * JUDGED - 9 { 3 } else { 200 }]));
        assert_eq!(halves.median(), 200);
    }

    #[test]
    fn pixels_are_scaled_by_the_bits_they_use() {
        for (brightest, scale) in [
            (0, 1.0),
            (1, 1.0),
            (2, 3.0),
            (9, 15.0),
            (128, 255.0),
            (255, 255.0),
        ] {
            let frames = Frames::from_bytes([1, 2, 1], &[0, brightest]);
            assert_eq!(frames.scale(), scale, "{brightest}");
            assert_eq!(frames.range(), Some([0, brightest]));
            // What comes of them has the same scale, or files would be of different ones by chance.
            let mut part = frames.emptied();
            part.extend_from(&frames, 0..1);
            assert_eq!(part.scale(), scale);
        }
        assert_eq!(Frames::new([1, 1, 1]).range(), None);
    }

    #[test]
    fn stacked_frames_are_channels() {
        let mut frames = numbered(0..4);
        frames.set_stack(4);
        assert_eq!((frames.shape(), frames.frame_len()), ([3, 5, 8], LEN));
        assert_eq!(frames.emptied().stack(), 4);
        assert_ne!(frames, numbered(0..4));
    }
}

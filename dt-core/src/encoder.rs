//! From an image to its embedding: convolutions as matrix products.
//!
//! A convolution is a matrix, filters × (kernel · kernel · channels), times a column for each place of the square. Up to three
//! places make a block, whose columns are copied side by side (*im2col*) and go through the matrix like so many tokens: the
//! kernel is that of every other linear layer, and what it writes, filters of one place after filters of the other, is the next map.
//!
//! All maps share one area of the arena: a map's integers lie at its beginning while the next map is written, in floats, behind
//! them. Then those are quantized to where the former lay, which nobody needs any more.

use core::ops::Range;

use crate::arena::max;
use crate::config::{Config, Dtype, Placed};
use crate::kernels::{self, RUN, Run, padded_cols};
use crate::linear::{GROUP, Input, Linear};
use crate::model::Model;
use crate::quant::{Grid, NonFinite, q_max};
use crate::slices::{
    Guaranteed, copy, floats, halves, minus, plus, round_up, rows_mut, take, times,
};

/// 32-bit words for the maps of an image on its way: each, as numbers of a linear layer's input, with the next one, in f32.
pub(crate) const fn map_words(config: &Config) -> usize {
    let Some(image) = config.image() else {
        return 0;
    };
    let [first, second, third] = image.placed();
    let (before, after) = (0, output_len(first, 0));
    let words = plus(map_start(config.dtype, before), after);
    let (before, after) = (after, output_len(second, after));
    let words = max(words, plus(map_start(config.dtype, before), after));
    let (before, after) = (after, output_len(third, after));
    max(words, plus(map_start(config.dtype, before), after))
}

/// 32-bit words for what goes into one product: a block of columns, or, without convolutions, all pixels at once.
pub(crate) const fn input_words(config: &Config) -> usize {
    let Some(image) = config.image() else {
        return 0;
    };
    let [first, second, third] = image.placed();
    let flat = match first {
        None => Input::words(config.dtype, 1, image.flat() as usize),
        Some(_) => 0,
    };
    let cols = max(max(cols(first), cols(second)), cols(third));
    max(Input::words(config.dtype, GROUP, cols), flat)
}

const fn cols(placed: Option<Placed>) -> usize {
    match placed {
        Some(placed) => placed.cols() as usize,
        None => 0,
    }
}

const fn output_len(placed: Option<Placed>, before: usize) -> usize {
    match placed {
        Some(placed) => {
            let [height, width, filters] = placed.output;
            times(times(height as usize, width as usize), filters as usize)
        }
        None => before,
    }
}

/// Where a map is written while the one before it, of `len` values, still lies at the area's beginning. Never there itself:
/// to quantize a map in place, the first values need a place in front of it.
const fn map_start(dtype: Dtype, len: usize) -> usize {
    let words = match dtype {
        Dtype::F32 => len,
        Dtype::Int8 | Dtype::Int4 => len.div_ceil(2),
    };
    max(round_up(words, 4), 4)
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

const fn part_from(start: usize, len: usize) -> Range<usize> {
    start..plus(start, len)
}

/// A pixel of an image or a value of a map.
pub(crate) trait Pixel: Copy {
    /// As an activation.
    fn integer(self) -> i16;
    /// As a float.
    fn float(self) -> f32;
}

impl Pixel for u8 {
    #[inline(always)]
    fn integer(self) -> i16 {
        i16::from(self)
    }

    #[inline(always)]
    fn float(self) -> f32 {
        f32::from(self)
    }
}

/// A value of a map in f32, or a byte where hosts have floats for everything.
impl Pixel for f32 {
    #[inline(always)]
    fn integer(self) -> i16 {
        // Saturates: no sum can overflow, whatever comes.
        i16::from(self as u8)
    }

    #[inline(always)]
    fn float(self) -> f32 {
        self
    }
}

/// A value of a quantized map.
impl Pixel for i16 {
    #[inline(always)]
    fn integer(self) -> i16 {
        self
    }

    #[inline(always)]
    fn float(self) -> f32 {
        f32::from(self)
    }
}

/// What images are handed over in. Its function is none of a type, so that it is compiled with this crate, as fast as this crate,
/// and not with whoever calls it.
pub(crate) trait Image: Pixel {
    /// [`encode`].
    fn encode(
        model: &Model<'_>,
        pixels: &[Self],
        maps: &mut [u32],
        columns: &mut [u32],
        embedding: &mut [f32],
    ) -> Result<(), NonFinite>;
}

impl Image for u8 {
    #[inline(never)]
    fn encode(
        model: &Model<'_>,
        pixels: &[Self],
        maps: &mut [u32],
        columns: &mut [u32],
        embedding: &mut [f32],
    ) -> Result<(), NonFinite> {
        encode(model, pixels, maps, columns, embedding)
    }
}

impl Image for f32 {
    #[inline(never)]
    fn encode(
        model: &Model<'_>,
        pixels: &[Self],
        maps: &mut [u32],
        columns: &mut [u32],
        embedding: &mut [f32],
    ) -> Result<(), NonFinite> {
        encode(model, pixels, maps, columns, embedding)
    }
}

/// The embedding (d_model) of an image: row by row of pixels, the channels of each side by side.
///
/// `maps` and `columns` are memory to compute with, [`map_words`] and [`input_words`] long.
///
/// # Errors
/// [`NonFinite`] if a value on the way is NaN or infinite.
fn encode<P: Pixel>(
    model: &Model<'_>,
    pixels: &[P],
    maps: &mut [u32],
    columns: &mut [u32],
    embedding: &mut [f32],
) -> Result<(), NonFinite> {
    let Some(image) = model.config.image() else {
        return Ok(());
    };
    let layers = model.embedding();
    let [first, second, third] = image.placed();
    let [to_first, to_second, to_third] = layers.convolutions;
    if let Some((placed, linear)) = first.zip(to_first) {
        // Pixels are integers already: their scale is 1.
        let map = maps.get_mut(map_start(model.config.dtype, 0)..);
        let map = floats(map.guaranteed());
        convolve(&model.config, &placed, &linear, pixels, 1.0, columns, map);
        let rest = [second.zip(to_second), third.zip(to_third)];
        encode_map(
            &model.config,
            output_len(first, 0),
            rest,
            &layers.state,
            maps,
            columns,
            embedding,
        )
    } else {
        let whole = Square {
            row_len: pixels.len(),
            rows: 1,
            to_next_row: 0,
        };
        let input = whole.columns(model.config.dtype, pixels, &[0], 1.0, columns);
        layers.state.forward(&input, embedding);
        Ok(())
    }
}

/// What comes behind the first convolution, whose map of `len` values is in `maps`.
fn encode_map(
    config: &Config,
    mut len: usize,
    rest: [Option<(Placed, Linear<'_>)>; 2],
    to_embedding: &Linear<'_>,
    maps: &mut [u32],
    columns: &mut [u32],
    embedding: &mut [f32],
) -> Result<(), NonFinite> {
    let dtype = config.dtype;
    let mut start = map_start(dtype, 0);
    for (placed, linear) in rest.iter().flatten() {
        let scale = settle(dtype, maps, start, len, linear.cols)?;
        start = map_start(dtype, len);
        let (before, map) = maps.split_at_mut_checked(start).guaranteed();
        let map = floats(map);
        match dtype {
            Dtype::F32 => {
                let before = &*floats(before).get_mut(..len).guaranteed();
                convolve(config, placed, linear, before, scale, columns, map);
            }
            Dtype::Int8 | Dtype::Int4 => {
                let before = &*halves(before).get_mut(..len).guaranteed();
                convolve(config, placed, linear, before, scale, columns, map);
            }
        }
        len = output_len(Some(*placed), 0);
    }
    let scale = settle(dtype, maps, start, len, to_embedding.cols)?;
    // One token's activations are interleaved with nothing: they lie as the map does.
    let input = match dtype {
        Dtype::F32 => Input::F32(floats(maps).get_mut(..len).guaranteed()),
        Dtype::Int8 | Dtype::Int4 => Input::Int8 {
            q: halves(maps).get_mut(..len).guaranteed(),
            scales: [scale, 0.0, 0.0],
            tokens: 1,
        },
    };
    to_embedding.forward(&input, embedding);
    Ok(())
}

/// Moves the map of `len` floats that begins at word `start` to the beginning of `maps`, as the activations of sums of `terms`
/// products, and returns their scale (f32: 1).
///
/// # Errors
/// [`NonFinite`] if any value is NaN or infinite; in f32 it is left to be found in the end.
#[inline(never)]
fn settle(
    dtype: Dtype,
    maps: &mut [u32],
    start: usize,
    len: usize,
    terms: usize,
) -> Result<f32, NonFinite> {
    let grid = match dtype {
        Dtype::F32 => Grid {
            inverse: 1.0,
            scale: 1.0,
        },
        Dtype::Int8 | Dtype::Int4 => {
            let map = floats(maps).get(part_from(start, len)).guaranteed();
            Grid::of(map, q_max(terms))?
        }
    };
    // Block by block, each as long as there is room in front of it for what becomes of it. Starts are multiples of four words, and
    // so are lengths.
    let mut done = 0;
    while done < len {
        let room = match dtype {
            Dtype::F32 => start,
            Dtype::Int8 | Dtype::Int4 => plus(times(2, start), done),
        };
        let block = min(room, minus(len, done));
        let (place, map) = maps.split_at_mut_checked(plus(start, done)).guaranteed();
        let map = &*floats(map).get_mut(..block).guaranteed();
        match dtype {
            Dtype::F32 => copy(map, floats(place).get_mut(done..).guaranteed()),
            Dtype::Int8 | Dtype::Int4 => {
                let runs = halves(place).get_mut(done..).guaranteed();
                let runs: &mut [Run] = runs.as_chunks_mut().0;
                kernels::quantize_groups(map.as_chunks().0, grid.inverse, runs, 1);
            }
        }
        done = plus(done, block);
    }
    Ok(grid.scale)
}

/// A convolution with ReLU: `map`, of the shape [`Placed::input`] and with this scale, becomes the first values of `out`, of the
/// shape [`Placed::output`].
#[inline(never)]
fn convolve<P: Pixel>(
    config: &Config,
    placed: &Placed,
    linear: &Linear<'_>,
    map: &[P],
    scale: f32,
    columns: &mut [u32],
    out: &mut [f32],
) {
    let [_, width, channels] = placed.input.map(|side| side as usize);
    let [out_height, out_width, filters] = placed.output.map(|side| side as usize);
    let [kernel, stride] =
        [placed.convolution.kernel, placed.convolution.stride].map(|side| side as usize);
    let square = Square {
        row_len: times(kernel, channels),
        rows: kernel,
        to_next_row: times(width, channels),
    };
    let out = out.get_mut(..output_len(Some(*placed), 0)).guaranteed();
    let mut rest = &mut *out;
    let mut block = heapless::Vec::<usize, GROUP>::new();
    let last = times(out_height, out_width);
    let mut seen = 0;
    for y in 0..out_height {
        let row = times(times(y, stride), square.to_next_row);
        for x in 0..out_width {
            // There is room: a full block is emptied at once.
            let _ = block.push(plus(row, times(times(x, stride), channels)));
            seen = plus(seen, 1);
            if block.is_full() || seen == last {
                let input = square.columns(config.dtype, map, &block, scale, columns);
                linear.forward(&input, take(&mut rest, times(block.len(), filters)));
                block.clear();
            }
        }
    }
    kernels::relu(out);
}

/// Which values of a map a place of the convolution sees, from its first one on.
struct Square {
    /// Values of a row, side by side.
    row_len: usize,
    rows: usize,
    /// From one row to the next.
    to_next_row: usize,
}

impl Square {
    /// The columns of up to [`GROUP`] places that begin at `starts`, ready for a [`Linear`].
    fn columns<'s, P: Pixel>(
        &self,
        dtype: Dtype,
        map: &[P],
        starts: &[usize],
        scale: f32,
        buffer: &'s mut [u32],
    ) -> Input<'s> {
        let cols = times(self.rows, self.row_len);
        let tokens = starts.len();
        match dtype {
            Dtype::F32 => {
                let columns = floats(buffer).get_mut(..times(tokens, cols)).guaranteed();
                let mut rest = &mut *columns;
                for &start in starts {
                    for row in 0..self.rows {
                        let place = take(&mut rest, self.row_len);
                        for (place, value) in place.iter_mut().zip(self.row(map, start, row)) {
                            *place = value.float();
                        }
                    }
                }
                Input::F32(columns)
            }
            Dtype::Int8 | Dtype::Int4 => {
                let q = halves(buffer)
                    .get_mut(..times(tokens, padded_cols(cols)))
                    .guaranteed();
                let runs: &mut [Run] = q.as_chunks_mut().0;
                match starts {
                    &[first, second, third] if self.row_len.is_multiple_of(4) => {
                        self.interleave_three(map, [first, second, third], runs);
                    }
                    _ => {
                        for (token, &start) in (0..tokens).zip(starts) {
                            self.interleave(map, start, runs, [token, tokens]);
                        }
                    }
                }
                Input::Int8 {
                    q,
                    scales: [scale; GROUP],
                    tokens,
                }
            }
        }
    }

    /// The columns of three places whose rows are whole words: nearly all there are, so this is what has to be fast.
    #[inline(never)]
    fn interleave_three<P: Pixel>(&self, map: &[P], starts: [usize; GROUP], runs: &mut [Run]) {
        let mut places: &mut [[Run; GROUP]] = runs.as_chunks_mut().0;
        for row in 0..self.rows {
            let [first, second, third] =
                starts.map(|start| self.row(map, start, row).as_chunks::<RUN>().0);
            let place = take(&mut places, self.row_len / RUN);
            let columns = first.iter().zip(second).zip(third);
            for (place, ((first, second), third)) in place.iter_mut().zip(columns) {
                let run = |values: &[P; RUN]| values.map(P::integer);
                *place = [run(first), run(second), run(third)];
            }
        }
    }

    /// The column of the place that begins at `start`, as that of `token` among those of `tokens`; padded with zeros.
    #[inline(never)]
    fn interleave<P: Pixel>(
        &self,
        map: &[P],
        start: usize,
        runs: &mut [Run],
        [token, tokens]: [usize; 2],
    ) {
        let places = rows_mut(runs, tokens).filter_map(|runs| runs.get_mut(token));
        let rows = (0..self.rows).map(|row| self.row(map, start, row));
        let mut values = rows.flatten();
        for run in places {
            *run = core::array::from_fn(|_| values.next().map_or(0, |value| value.integer()));
        }
    }

    fn row<'m, P>(&self, map: &'m [P], start: usize, row: usize) -> &'m [P] {
        let start = plus(start, times(row, self.to_next_row));
        map.get(part_from(start, self.row_len)).guaranteed()
    }
}

#[cfg(all(test, feature = "images"))]
mod tests;

//! The ring of keys and values that lets a control step compute only its new tokens.
//!
//! The ring holds K + 1 timesteps of three tokens: a\[t−1\] and s\[t\] go through the network
//! together, and their windows of K timesteps differ by one.

use core::ops::Range;

use crate::config::{Config, Dtype, TOKENS_PER_STEP};
use crate::kernels::{self, packed_byte, packed_index, packed_len};
use crate::quant::{Grid, NonFinite, WEIGHT_MAX};
use crate::slices::{
    Guaranteed, bytes, copy, floats, halves, minus, plus, round_up, rows, rows_mut, take, times,
};

/// Token slots in the ring, K + 1 timesteps.
const fn slots(config: &Config) -> usize {
    times(TOKENS_PER_STEP, plus(config.seen_steps(), 1))
}

/// Slots, padded so that the values of all slots are the columns of a packed matrix.
pub(crate) const fn padded_slots(config: &Config) -> usize {
    round_up(slots(config), 4)
}

/// Words that one head's keys, or its values, take in an int8 cache.
const fn packed_words(config: &Config) -> usize {
    // d_head is a multiple of 4: keys (slots, d_head) take as much as values (d_head, slots).
    packed_len(config.d_head(), padded_slots(config)) / 4
}

/// Words that the keys and values of one layer take, or the tokens that a convolution sees.
pub(crate) const fn layer_words(config: &Config) -> usize {
    if config.is_convolved() {
        return times(slots(config), config.d_model as usize);
    }
    let keys = match config.dtype {
        Dtype::F32 => times(slots(config), config.d_model as usize),
        Dtype::Int8 | Dtype::Int4 => {
            let head = plus(packed_words(config), padded_slots(config));
            times(config.n_head as usize, head)
        }
    };
    plus(times(2, keys), key_biases(config))
}

/// Slots that have a number added to their scores.
const fn key_biases(config: &Config) -> usize {
    if config.is_folded() {
        padded_slots(config)
    } else {
        0
    }
}

/// Keys and values of one layer in f32, (slots, d_model) each.
pub(crate) struct F32Cache<'c> {
    pub(crate) keys: &'c mut [f32],
    pub(crate) values: &'c mut [f32],
    /// What is added to the scores of a slot (padded slots); empty unless attention is folded.
    pub(crate) key_biases: &'c mut [f32],
}

impl<'c> F32Cache<'c> {
    pub(crate) fn carve(config: &Config, words: &'c mut [u32]) -> Self {
        let mut rest = words;
        let len = times(slots(config), config.d_model as usize);
        Self {
            keys: floats(take(&mut rest, len)),
            values: floats(take(&mut rest, len)),
            key_biases: floats(take(&mut rest, key_biases(config))),
        }
    }

    /// Stores one token's keys and values, (d_model) each, in its slot.
    fn store(&mut self, slot: usize, key: &[f32], value: &[f32]) {
        for (rows, row) in [(&mut *self.keys, key), (&mut *self.values, value)] {
            copy(row, rows.get_mut(times(slot, row.len())..).guaranteed());
        }
    }
}

/// Keys and values of one layer and head as packed matrices, ready to be multiplied by a query
/// and by attention weights. Each slot has one scale for its key and one for its value; what lies
/// in slots that nothing was stored in yet is arbitrary, but within ±127.
pub(crate) struct Int8Cache<'c> {
    /// (slots, d_head).
    pub(crate) keys: &'c mut [i8],
    /// Transposed: (d_head, padded slots).
    pub(crate) values: &'c mut [i8],
    /// (padded slots).
    pub(crate) key_scales: &'c mut [f32],
    /// (padded slots).
    pub(crate) value_scales: &'c mut [f32],
    /// What is added to the scores of a slot (padded slots); empty unless attention is folded.
    pub(crate) key_biases: &'c mut [f32],
}

impl<'c> Int8Cache<'c> {
    /// The heads of one layer, whose cache is `words`.
    pub(crate) fn heads(config: &Config, words: &'c mut [u32]) -> impl Iterator<Item = Self> {
        let (packed, slots) = (packed_words(config), padded_slots(config));
        let biases = key_biases(config);
        // Biases only come with a single head.
        rows_mut(words, plus(times(2, plus(packed, slots)), biases)).map(move |words| {
            let mut rest = words;
            Self {
                keys: bytes(take(&mut rest, packed)),
                values: bytes(take(&mut rest, packed)),
                key_scales: floats(take(&mut rest, slots)),
                value_scales: floats(take(&mut rest, slots)),
                key_biases: floats(take(&mut rest, biases)),
            }
        })
    }

    /// Stores the key and the value (d_head each) of one token in its slot. `rounded` has room for
    /// d_head halfwords.
    fn store(
        &mut self,
        slot: usize,
        key: &[f32],
        value: &[f32],
        rounded: &mut [u32],
    ) -> Result<(), NonFinite> {
        // Every other byte of the row pair.
        let (scale, key) = quantize(key, rounded)?;
        if let Some(place) = self.key_scales.get_mut(slot) {
            *place = scale;
        }
        let pair = packed_index(times(4, key.len()), slot | 1, 0);
        let groups = self.keys.get_mut(pair..).guaranteed();
        let groups = groups.as_chunks_mut::<8>().0.iter_mut();
        for ([b0, a0, b1, a1, b2, a2, b3, a3], key) in groups.zip(key) {
            let [k0, k1, k2, k3] = key.map(|k| packed_byte(slot, k as i8));
            if slot.is_multiple_of(2) {
                [*a0, *a1, *a2, *a3] = [k0, k1, k2, k3];
            } else {
                [*b0, *b1, *b2, *b3] = [k0, k1, k2, k3];
            }
        }

        // Two bytes in each row pair, at the same place.
        let (scale, value) = quantize(value, rounded)?;
        if let Some(place) = self.value_scales.get_mut(slot) {
            *place = scale;
        }
        let slots = self.value_scales.len();
        let pairs = rows_mut(self.values, times(2, slots));
        for (pair, &[even, odd]) in pairs.zip(value.as_flattened().as_chunks().0) {
            if let Some(place) = pair.as_chunks_mut::<2>().0.get_mut(slot) {
                *place = [packed_byte(1, odd as i8), even as i8];
            }
        }
        Ok(())
    }
}

/// Quantizes a vector, whose length is a multiple of four, to ±127. Returns its scale and, in
/// `rounded`, the values.
fn quantize<'b>(x: &[f32], rounded: &'b mut [u32]) -> Result<(f32, &'b [[i16; 4]]), NonFinite> {
    let grid = Grid::of(x, WEIGHT_MAX)?;
    let (x, _) = x.as_chunks::<4>();
    let q = halves(rounded).get_mut(..4 * x.len()).guaranteed();
    kernels::quantize_groups(x, grid.inverse, q.as_chunks_mut().0, 1);
    Ok((grid.scale, q.as_chunks().0))
}

/// Stores what one token leaves in its slot of a layer's cache: keys, values (d_model each) and, if attention is folded,
/// the key's bias, which `score_factor` brings to the scale of scores. `rounded` is overwritten.
pub(crate) fn store(
    config: &Config,
    cache: &mut [u32],
    slot: usize,
    keys_values: &[f32],
    score_factor: f32,
    rounded: &mut [u32],
) -> Result<(), NonFinite> {
    let d = config.d_model as usize;
    let (keys, rest) = keys_values.split_at_checked(d).guaranteed();
    let (values, biases) = rest.split_at_checked(d).guaranteed();
    let set_bias = |places: &mut [f32]| {
        if let (Some(place), Some(bias)) = (places.get_mut(slot), biases.first()) {
            *place = bias * score_factor;
        }
    };
    match config.dtype {
        Dtype::F32 => {
            let mut cache = F32Cache::carve(config, cache);
            cache.store(slot, keys, values);
            set_bias(cache.key_biases);
        }
        Dtype::Int8 | Dtype::Int4 => {
            let heads = rows(keys, config.d_head()).zip(rows(values, config.d_head()));
            for (mut cache, (key, value)) in Int8Cache::heads(config, cache).zip(heads) {
                cache.store(slot, key, value, rounded)?;
                set_bias(cache.key_biases);
            }
        }
    }
    Ok(())
}

/// Where the newest timestep lies in the ring, and how far back its tokens see. Counts no further
/// than K, so nothing overflows however long the robot runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    context_len: usize,
    /// Timestep slot of the newest timestep, in 0..=K.
    newest: usize,
    /// Timesteps before the newest that its tokens see, up to K − 1; `None` before the first.
    older: Option<usize>,
}

/// The tokens that one token attends to, from the oldest, as up to two runs of slots; and the
/// slot of the token itself, which is the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visible {
    pub(crate) slot: usize,
    pub(crate) runs: [Range<usize>; 2],
}

impl Visible {
    /// The visible tokens' slots, from the oldest.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> {
        let [old, new] = &self.runs;
        old.clone().chain(new.clone())
    }
}

impl Ring {
    pub(crate) fn new(context_len: usize) -> Self {
        Self {
            context_len,
            newest: context_len,
            older: None,
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.context_len);
    }

    /// Begins the next timestep.
    pub(crate) fn advance(&mut self) {
        self.newest = if self.newest >= self.context_len {
            0
        } else {
            plus(self.newest, 1)
        };
        self.older = match self.older {
            Some(older) if plus(older, 1) < self.context_len => Some(plus(older, 1)),
            Some(older) => Some(older),
            None => Some(0),
        };
    }

    /// What token number `position` (0: return-to-go, 1: state, 2: action) of the newest timestep
    /// attends to: the tokens of K timesteps, its own included, up to itself.
    pub(crate) fn visible(&self, position: usize) -> Visible {
        let steps = plus(self.context_len, 1);
        let back = self.older.unwrap_or(0);
        let first = match self.newest.checked_sub(back) {
            Some(first) => first,
            None => minus(plus(self.newest, steps), back),
        };
        let slot = plus(times(TOKENS_PER_STEP, self.newest), position);
        let (start, end) = (times(TOKENS_PER_STEP, first), plus(slot, 1));
        let runs = if first <= self.newest {
            [start..end, 0..0]
        } else {
            [start..times(TOKENS_PER_STEP, steps), 0..end]
        };
        Visible { slot, runs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The ring against a list of every token ever written.
        #[test]
        fn ring_shows_the_band(context_len in 1usize..9, steps in 1usize..40) {
            let mut ring = Ring::new(context_len);
            let mut slots = vec![None; 3 * (context_len + 1)];
            for timestep in 0..steps {
                ring.advance();
                for position in 0..3 {
                    let visible = ring.visible(position);
                    slots[visible.slot] = Some((timestep, position));
                    let seen: Vec<_> = visible.slots().map(|slot| slots[slot].unwrap()).collect();
                    let oldest = (timestep + 1).saturating_sub(context_len);
                    let expected: Vec<_> = (oldest..=timestep)
                        .flat_map(|t| (0..3).map(move |p| (t, p)))
                        .filter(|&token| token <= (timestep, position))
                        .collect();
                    prop_assert_eq!(seen, expected);
                }
            }
        }
    }

    /// The action of the previous timestep still sees its own K timesteps after the ring has
    /// advanced and the new timestep's tokens are written: that is what slot K + 1 is for.
    #[test]
    fn previous_action_keeps_its_window() {
        let mut ring = Ring::new(2);
        for _ in 0..7 {
            ring.advance();
        }
        let action = ring.visible(2);
        ring.advance();
        let state = ring.visible(1);
        let action_slots: Vec<_> = action.slots().collect();
        assert_eq!(action_slots.len(), 6);
        assert!(!action_slots.contains(&state.slot));
        assert!(!action_slots.contains(&(state.slot - 1)));
    }
}

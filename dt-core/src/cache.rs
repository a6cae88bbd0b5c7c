//! The ring of keys and values that lets a control step compute only its new tokens.
//!
//! The ring holds K + 1 timesteps of three tokens: a\[t−1\] and s\[t\] go through the network
//! together, and their windows of K timesteps differ by one.

use core::ops::Range;

use crate::config::{Config, Dtype, TOKENS_PER_STEP};
use crate::kernels::pack_groups;
use crate::quant::{NonFinite, WEIGHT_MAX, quantize};
use crate::slices;

/// Token slots in the ring.
const fn slots(config: &Config) -> usize {
    TOKENS_PER_STEP * (config.context_len as usize + 1)
}

/// Words that the keys and values of one layer take.
pub(crate) const fn layer_words(config: &Config) -> usize {
    let (slots, d) = (slots(config), config.d_model as usize);
    match config.dtype {
        Dtype::F32 => 2 * slots * d,
        // d_model is a multiple of 4.
        Dtype::Int8 => 2 * slots * (d / 4 + config.n_head as usize),
    }
}

/// Keys and values of one layer, (slots, d_model) each.
pub(crate) enum Cache<'c> {
    F32 {
        keys: &'c mut [f32],
        values: &'c mut [f32],
    },
    /// With one scale per slot and head; keys with their bytes in packed order.
    Int8 {
        keys: &'c mut [i8],
        values: &'c mut [i8],
        key_scales: &'c mut [f32],
        value_scales: &'c mut [f32],
    },
}

impl<'c> Cache<'c> {
    pub(crate) fn carve(config: &Config, words: &'c mut [u32]) -> Self {
        let (slots, d) = (slots(config), config.d_model as usize);
        let mut rest = words;
        let mut take = |len| slices::take(&mut rest, len);
        match config.dtype {
            Dtype::F32 => Cache::F32 {
                keys: bytemuck::try_cast_slice_mut(take(slots * d)).unwrap_or_default(),
                values: bytemuck::try_cast_slice_mut(take(slots * d)).unwrap_or_default(),
            },
            Dtype::Int8 => {
                let scales = slots * config.n_head as usize;
                Cache::Int8 {
                    keys: bytemuck::try_cast_slice_mut(take(slots * d / 4)).unwrap_or_default(),
                    values: bytemuck::try_cast_slice_mut(take(slots * d / 4)).unwrap_or_default(),
                    key_scales: bytemuck::try_cast_slice_mut(take(scales)).unwrap_or_default(),
                    value_scales: bytemuck::try_cast_slice_mut(take(scales)).unwrap_or_default(),
                }
            }
        }
    }

    /// Stores one token's keys and values, (2·d_model), in its slot.
    pub(crate) fn store(
        &mut self,
        slot: usize,
        keys_values: &[f32],
        d_head: usize,
    ) -> Result<(), NonFinite> {
        let d = keys_values.len() / 2;
        let (key, value) = keys_values.split_at_checked(d).unwrap_or_default();
        match self {
            Cache::F32 { keys, values } => {
                for (row, source) in [(keys, key), (values, value)] {
                    let row = row.get_mut(slot * d..(slot + 1) * d).unwrap_or_default();
                    slices::copy(source, row);
                }
            }
            Cache::Int8 {
                keys,
                values,
                key_scales,
                value_scales,
            } => {
                for (rows, scales, source) in [
                    (&mut **keys, key_scales, key),
                    (&mut **values, value_scales, value),
                ] {
                    let row = rows.get_mut(slot * d..(slot + 1) * d).unwrap_or_default();
                    let n_head = d.checked_div(d_head).unwrap_or_default();
                    let scales = scales.get_mut(slot * n_head..).unwrap_or_default();
                    let heads = slices::rows_mut(row, d_head).zip(slices::rows(source, d_head));
                    for ((row, head), scale) in heads.zip(scales) {
                        *scale = quantize(head, WEIGHT_MAX, row)?;
                    }
                }
                let key = keys.get_mut(slot * d..(slot + 1) * d).unwrap_or_default();
                pack_groups(key);
            }
        }
        Ok(())
    }
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
            self.newest + 1
        };
        self.older = match self.older {
            Some(older) if older + 1 < self.context_len => Some(older + 1),
            Some(older) => Some(older),
            None => Some(0),
        };
    }

    /// What token number `position` (0: return-to-go, 1: state, 2: action) of the newest timestep
    /// attends to: the tokens of K timesteps, its own included, up to itself.
    pub(crate) fn visible(&self, position: usize) -> Visible {
        let steps = self.context_len + 1;
        let back = self.older.unwrap_or(0);
        let first = if self.newest >= back {
            self.newest - back
        } else {
            self.newest + steps - back
        };
        let slot = TOKENS_PER_STEP * self.newest + position;
        let (start, end) = (TOKENS_PER_STEP * first, slot + 1);
        let runs = if first <= self.newest {
            [start..end, 0..0]
        } else {
            [start..TOKENS_PER_STEP * steps, 0..end]
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
                    let seen: Vec<_> = visible
                        .runs
                        .iter()
                        .flat_map(|run| run.clone())
                        .map(|slot| slots[slot].unwrap())
                        .collect();
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
        let action_slots: Vec<_> = action.runs.iter().flat_map(|run| run.clone()).collect();
        assert_eq!(action_slots.len(), 6);
        assert!(!action_slots.contains(&state.slot));
        assert!(!action_slots.contains(&(state.slot - 1)));
    }
}

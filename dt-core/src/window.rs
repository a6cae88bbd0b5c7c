//! What the window engine remembers: the inputs of the last K control steps.

use crate::slices::{Guaranteed, copy, minus, part, plus};

/// The last K control steps, as a ring of records in [`Memory::history`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct History {
    /// Slot of the oldest record.
    oldest: usize,
    /// Number of records.
    pub(crate) len: usize,
}

impl History {
    pub(crate) fn slot(&self, shape: &RecordShape, i: usize) -> usize {
        let slot = plus(self.oldest, i);
        if slot < shape.context_len {
            slot
        } else {
            minus(slot, shape.context_len)
        }
    }

    pub(crate) fn newest(&self, shape: &RecordShape) -> usize {
        self.slot(shape, self.len.saturating_sub(1))
    }

    /// Makes room for a record, dropping the oldest of K, and returns its slot.
    pub(crate) fn push(&mut self, shape: &RecordShape) -> usize {
        if self.len < shape.context_len {
            self.len += 1;
        } else {
            self.oldest = self.slot(shape, 1);
        }
        self.newest(shape)
    }
}

/// A record is `[return-to-go, state, action]`.
pub(crate) struct RecordShape {
    pub(crate) context_len: usize,
    pub(crate) state_dim: usize,
    pub(crate) len: usize,
}

impl RecordShape {
    pub(crate) fn row<'h>(&self, history: &'h mut [f32], slot: usize) -> &'h mut [f32] {
        history.get_mut(part(slot, self.len)).guaranteed()
    }

    pub(crate) fn set(&self, history: &mut [f32], slot: usize, return_to_go: f32, state: &[f32]) {
        if let Some((first, rest)) = self.row(history, slot).split_first_mut() {
            *first = return_to_go;
            copy(state, rest);
        }
    }

    pub(crate) fn set_return(&self, history: &mut [f32], slot: usize, return_to_go: f32) {
        if let Some(first) = self.row(history, slot).first_mut() {
            *first = return_to_go;
        }
    }

    pub(crate) fn set_action(&self, history: &mut [f32], slot: usize, action: &[f32]) {
        let row = self.row(history, slot);
        copy(action, row.get_mut(plus(1, self.state_dim)..).guaranteed());
    }

    pub(crate) fn get<'h>(&self, history: &'h [f32], slot: usize) -> (f32, &'h [f32], &'h [f32]) {
        let row = history.get(part(slot, self.len)).guaranteed();
        let (return_to_go, rest) = row.split_at_checked(1).guaranteed();
        let (state, action) = rest.split_at_checked(self.state_dim).guaranteed();
        (return_to_go.first().copied().guaranteed(), state, action)
    }
}

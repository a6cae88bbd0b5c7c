//! The replay buffer: every transition so far, as one row each of one preallocated tensor.

use tch::{Device, Kind, Tensor};

use super::noise::Noise;

/// Transitions to learn from, uniformly drawn.
#[derive(Debug)]
pub struct Replay {
    /// Row: state | action | next state | reward | continues.
    rows: Tensor,
    len: usize,
    row: Vec<f32>,
    sizes: Sizes,
}

/// Columns of a row.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    state: i64,
    action: i64,
}

/// Transitions drawn from a [`Replay`], B of them.
#[derive(Debug)]
pub struct Batch {
    /// States and actions side by side, (B, state_dim + act_dim): what a critic reads.
    pub state_actions: Tensor,
    /// The states of `state_actions`, (B, state_dim).
    pub states: Tensor,
    /// The actions of `state_actions`, (B, act_dim).
    pub actions: Tensor,
    /// States after the step, (B, state_dim).
    pub next_states: Tensor,
    /// Rewards, (B).
    pub rewards: Tensor,
    /// (B): 0 if the step ended in a terminal state, else 1. Time limits do not end the task.
    pub continues: Tensor,
}

impl Replay {
    /// Room for `capacity` transitions.
    pub fn new(capacity: usize, state_dim: usize, act_dim: usize) -> Self {
        let width = 2 * state_dim + act_dim + 2;
        Self {
            rows: Tensor::zeros([capacity as i64, width as i64], (Kind::Float, Device::Cpu)),
            len: 0,
            row: Vec::with_capacity(width),
            sizes: Sizes {
                state: state_dim as i64,
                action: act_dim as i64,
            },
        }
    }

    /// Appends a transition; `action` is as the learner sees it: squashed, in [−1, 1], or the index of a choice.
    ///
    /// # Panics
    /// If the buffer is full or a length is wrong.
    pub fn push(
        &mut self,
        state: &[f32],
        action: &[f32],
        next_state: &[f32],
        reward: f32,
        terminated: bool,
    ) {
        self.row.clear();
        for part in [
            state,
            action,
            next_state,
            &[reward],
            &[f32::from(u8::from(!terminated))],
        ] {
            self.row.extend_from_slice(part);
        }
        self.rows
            .get(self.len as i64)
            .copy_(&Tensor::from_slice(&self.row));
        self.len += 1;
    }

    /// Transitions so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Values of a row: state, action, next state, reward, whether the task continues.
    pub fn width(&self) -> usize {
        (2 * self.sizes.state + self.sizes.action) as usize + 2
    }

    /// The rows so far, one after the other.
    pub fn values(&self) -> Vec<f32> {
        let rows = self.rows.narrow(0, 0, self.len as i64);
        let mut values = vec![0.0; rows.numel()];
        rows.copy_data(&mut values, rows.numel());
        values
    }

    /// Replaces the rows.
    ///
    /// # Panics
    /// If there are more than the capacity, or the last is incomplete.
    pub fn restore(&mut self, values: &[f32]) {
        let rows = Tensor::from_slice(values).view([-1, self.width() as i64]);
        self.len = rows.size()[0] as usize;
        self.rows.narrow(0, 0, self.len as i64).copy_(&rows);
    }

    /// `size` transitions drawn with replacement.
    ///
    /// # Panics
    /// If the buffer is empty.
    pub fn sample(&self, size: usize, noise: &mut Noise) -> Batch {
        let indices: Vec<i64> = (0..size).map(|_| noise.below(self.len) as i64).collect();
        self.batch(&self.rows.index_select(0, &Tensor::from_slice(&indices)))
    }

    /// The last `len` transitions, in order.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn last(&self, len: usize) -> Batch {
        let first = self.len.checked_sub(len).expect("as many transitions");
        self.batch(&self.rows.narrow(0, first as i64, len as i64))
    }

    fn batch(&self, rows: &Tensor) -> Batch {
        let Sizes { state, action } = self.sizes;
        Batch {
            state_actions: rows.narrow(1, 0, state + action),
            states: rows.narrow(1, 0, state),
            actions: rows.narrow(1, state, action),
            next_states: rows.narrow(1, state + action, state),
            rewards: rows.select(1, 2 * state + action),
            continues: rows.select(1, 2 * state + action + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_whole_transitions() {
        let mut replay = Replay::new(3, 2, 1);
        for i in 0..3 {
            let x = i as f32;
            replay.push(
                &[x, x + 0.1],
                &[x + 0.2],
                &[x + 0.3, x + 0.4],
                x + 0.5,
                i == 2,
            );
        }
        let batch = replay.sample(64, &mut Noise::new(0, *b"a sample"));
        let read = |tensor: &Tensor| Vec::<f32>::try_from(tensor.reshape([-1])).unwrap();
        let states = read(&batch.states);
        let mut seen = [false; 3];
        for row in 0..64 {
            let x = states[2 * row];
            seen[x as usize] = true;
            assert_eq!(
                read(&batch.state_actions)[3 * row..][..3],
                [x, x + 0.1, x + 0.2]
            );
            assert_eq!(read(&batch.next_states)[2 * row..][..2], [x + 0.3, x + 0.4]);
            assert_eq!(read(&batch.rewards)[row], x + 0.5);
            assert_eq!(
                read(&batch.continues)[row],
                if x == 2.0 { 0.0 } else { 1.0 }
            );
        }
        assert_eq!(seen, [true; 3]);
        let last = replay.last(2);
        assert_eq!(read(&last.states), [1.0, 1.1, 2.0, 2.1]);
        assert_eq!(read(&last.actions), [1.2, 2.2]);
        assert_eq!(read(&last.continues), [1.0, 0.0]);
    }
}

//! The replay buffer: every transition so far, as one row each of one preallocated tensor.

use tch::{Device, Kind, Tensor};

use super::noise::Noise;

/// Transitions to learn from, uniformly drawn.
#[derive(Debug)]
pub struct Replay {
    /// Row: state | action | next state; bytes where states are pixels.
    rows: Tensor,
    /// Row: reward | continues.
    outcomes: Tensor,
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
        Self::of(capacity, state_dim, act_dim, Kind::Float)
    }

    /// The same of transitions whose states are pixels and whose actions choices, at most 256 of them: all bytes.
    pub fn of_pixels(capacity: usize, state_dim: usize, act_dim: usize) -> Self {
        Self::of(capacity, state_dim, act_dim, Kind::Uint8)
    }

    fn of(capacity: usize, state_dim: usize, act_dim: usize, kind: Kind) -> Self {
        let width = 2 * state_dim + act_dim;
        let zeros = |width: usize, kind| {
            Tensor::zeros([capacity as i64, width as i64], (kind, Device::Cpu))
        };
        Self {
            rows: zeros(width, kind),
            outcomes: zeros(2, Kind::Float),
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
        for part in [state, action, next_state] {
            self.row.extend_from_slice(part);
        }
        let at = self.len as i64;
        self.rows.get(at).copy_(&Tensor::from_slice(&self.row));
        let outcome = [reward, f32::from(u8::from(!terminated))];
        self.outcomes.get(at).copy_(&Tensor::from_slice(&outcome));
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
        self.values_of(0, self.len)
    }

    /// The values of row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        self.values_of(row, 1)
    }

    fn values_of(&self, first: usize, len: usize) -> Vec<f32> {
        let some = |of: &Tensor| of.narrow(0, first as i64, len as i64).to_kind(Kind::Float);
        let rows = Tensor::cat(&[some(&self.rows), some(&self.outcomes)], 1);
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
        let (len, width) = (self.len as i64, self.rows.size()[1]);
        self.rows.narrow(0, 0, len).copy_(&rows.narrow(1, 0, width));
        self.outcomes
            .narrow(0, 0, len)
            .copy_(&rows.narrow(1, width, 2));
    }

    /// `size` transitions drawn with replacement.
    ///
    /// # Panics
    /// If the buffer is empty.
    pub fn sample(&self, size: usize, noise: &mut Noise) -> Batch {
        let indices: Vec<i64> = (0..size).map(|_| noise.below(self.len) as i64).collect();
        let some = |of: &Tensor| of.index_select(0, &Tensor::from_slice(&indices));
        self.batch(&some(&self.rows), &some(&self.outcomes))
    }

    /// The last `len` transitions, in order.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn last(&self, len: usize) -> Batch {
        let first = self.len.checked_sub(len).expect("as many transitions");
        let some = |of: &Tensor| of.narrow(0, first as i64, len as i64);
        self.batch(&some(&self.rows), &some(&self.outcomes))
    }

    fn batch(&self, rows: &Tensor, outcomes: &Tensor) -> Batch {
        let Sizes { state, action } = self.sizes;
        let rows = rows.to_kind(Kind::Float);
        Batch {
            state_actions: rows.narrow(1, 0, state + action),
            states: rows.narrow(1, 0, state),
            actions: rows.narrow(1, state, action),
            next_states: rows.narrow(1, state + action, state),
            rewards: outcomes.select(1, 0),
            continues: outcomes.select(1, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_choices_are_bytes_and_rewards_are_not() {
        let mut replay = Replay::of_pixels(2, 2, 1);
        replay.push(&[0.0, 255.0], &[17.0], &[1.0, 254.0], -0.25, false);
        replay.push(&[1.0, 254.0], &[3.0], &[9.0, 8.0], 300.5, true);
        assert_eq!(replay.row(1), [1.0, 254.0, 3.0, 9.0, 8.0, 300.5, 0.0]);
        let mut same = Replay::of_pixels(2, 2, 1);
        same.restore(&replay.values());
        assert_eq!(same.values(), replay.values());
        assert_eq!(same.values().len(), 2 * same.width());
        let last = same.last(2);
        assert_eq!(last.states.kind(), Kind::Float);
        let read = |tensor: &Tensor| Vec::<f32>::try_from(tensor.reshape([-1])).unwrap();
        assert_eq!(read(&last.next_states), [1.0, 254.0, 9.0, 8.0]);
        assert_eq!(read(&last.rewards), [-0.25, 300.5]);
    }

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

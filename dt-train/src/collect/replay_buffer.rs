//! The replay buffer: every transition so far, as one row each of one preallocated tensor.

use tch::{Device, Kind, Tensor};

use super::noise::Noise;

/// Transitions to learn from, uniformly drawn.
#[derive(Debug)]
pub struct Replay {
    /// Row: state | action | next state; the action alone where states are pixels.
    rows: Tensor,
    /// Row: state | next state, as bytes, where they are pixels.
    pixels: Option<Tensor>,
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
        Self {
            rows: zeros(capacity, 2 * state_dim + act_dim, Kind::Float),
            pixels: None,
            outcomes: zeros(capacity, 2, Kind::Float),
            len: 0,
            row: Vec::with_capacity(2 * state_dim + act_dim),
            sizes: Sizes {
                state: state_dim as i64,
                action: act_dim as i64,
            },
        }
    }

    /// The same of transitions whose states are pixels, which take a byte each; actions are numbers as ever.
    pub fn of_pixels(capacity: usize, state_dim: usize, act_dim: usize) -> Self {
        Self {
            rows: zeros(capacity, act_dim, Kind::Float),
            pixels: Some(zeros(capacity, 2 * state_dim, Kind::Uint8)),
            outcomes: zeros(capacity, 2, Kind::Float),
            ..Self::new(0, state_dim, act_dim)
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
        let at = self.len as i64;
        let mut write = |to: &Tensor, parts: &[&[f32]]| {
            self.row.clear();
            parts
                .iter()
                .for_each(|part| self.row.extend_from_slice(part));
            to.get(at).copy_(&Tensor::from_slice(&self.row));
        };
        match &self.pixels {
            None => write(&self.rows, &[state, action, next_state]),
            Some(pixels) => {
                write(&self.rows, &[action]);
                write(pixels, &[state, next_state]);
            }
        }
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
        let (rows, outcomes) = self.some(|of| of.narrow(0, first as i64, len as i64));
        let rows = Tensor::cat(&[rows, outcomes], 1);
        let mut values = vec![0.0; rows.numel()];
        rows.copy_data(&mut values, rows.numel());
        values
    }

    /// State | action | next state of the rows that `select` takes of a tensor, as numbers, and their outcomes.
    fn some(&self, select: impl Fn(&Tensor) -> Tensor) -> (Tensor, Tensor) {
        let rows = select(&self.rows);
        let rows = match &self.pixels {
            None => rows,
            Some(pixels) => {
                let pixels = select(pixels).to_kind(Kind::Float);
                let state = |from| pixels.narrow(1, from, self.sizes.state);
                Tensor::cat(&[state(0), rows, state(self.sizes.state)], 1)
            }
        };
        (rows, select(&self.outcomes))
    }

    /// Replaces the rows.
    ///
    /// # Panics
    /// If there are more than the capacity, or the last is incomplete.
    pub fn restore(&mut self, values: &[f32]) {
        let rows = Tensor::from_slice(values).view([-1, self.width() as i64]);
        self.len = rows.size()[0] as usize;
        let Sizes { state, action } = self.sizes;
        let write = |to: &Tensor, at: i64, from: i64, width: i64| {
            let to = to.narrow(0, 0, self.len as i64).narrow(1, at, width);
            to.shallow_clone().copy_(&rows.narrow(1, from, width));
        };
        match &self.pixels {
            None => write(&self.rows, 0, 0, 2 * state + action),
            Some(pixels) => {
                write(pixels, 0, 0, state);
                write(&self.rows, 0, state, action);
                write(pixels, state, state + action, state);
            }
        }
        write(&self.outcomes, 0, 2 * state + action, 2);
    }

    /// `size` transitions drawn with replacement.
    ///
    /// # Panics
    /// If the buffer is empty.
    pub fn sample(&self, size: usize, noise: &mut Noise) -> Batch {
        let indices: Vec<i64> = (0..size).map(|_| noise.below(self.len) as i64).collect();
        let indices = Tensor::from_slice(&indices);
        self.batch(|of| of.index_select(0, &indices))
    }

    /// The last `len` transitions, in order.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn last(&self, len: usize) -> Batch {
        let first = self.len.checked_sub(len).expect("as many transitions");
        self.batch(|of| of.narrow(0, first as i64, len as i64))
    }

    fn batch(&self, select: impl Fn(&Tensor) -> Tensor) -> Batch {
        let Sizes { state, action } = self.sizes;
        let (rows, outcomes) = self.some(select);
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

fn zeros(rows: usize, width: usize, kind: Kind) -> Tensor {
    Tensor::zeros([rows as i64, width as i64], (kind, Device::Cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_bytes_and_nothing_else_is() {
        let mut replay = Replay::of_pixels(2, 2, 1);
        // A component of a vector, and a choice of more than fit into a byte.
        replay.push(&[0.0, 255.0], &[-0.4], &[1.0, 254.0], -0.25, false);
        replay.push(&[1.0, 254.0], &[300.0], &[9.0, 8.0], 300.5, true);
        assert_eq!(replay.row(0), [0.0, 255.0, -0.4, 1.0, 254.0, -0.25, 1.0]);
        assert_eq!(replay.row(1), [1.0, 254.0, 300.0, 9.0, 8.0, 300.5, 0.0]);
        let bytes = replay.pixels.as_ref().unwrap();
        assert_eq!((bytes.kind(), bytes.numel()), (Kind::Uint8, 8));
        let mut same = Replay::of_pixels(2, 2, 1);
        same.restore(&replay.values());
        assert_eq!(same.values(), replay.values());
        assert_eq!(same.values().len(), 2 * same.width());
        let last = same.last(2);
        assert_eq!(last.states.kind(), Kind::Float);
        let read = |tensor: &Tensor| Vec::<f32>::try_from(tensor.reshape([-1])).unwrap();
        assert_eq!(read(&last.states), [0.0, 255.0, 1.0, 254.0]);
        assert_eq!(read(&last.actions), [-0.4, 300.0]);
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

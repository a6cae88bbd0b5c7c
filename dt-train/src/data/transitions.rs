//! Single transitions (s, a, r, s'), for algorithms that learn what actions are worth.
//!
//! As in [`sampler`](super::sampler), a batch is a function of (seed, update) alone.

use tch::{Device, Kind, Tensor};

use super::sampler::{End, Trajectories, below, generator};

/// Transitions that are resident on the training device, uniformly drawn.
///
/// The last one of an episode is left out where nobody knows what came after it: neither a terminal state nor a next
/// observation in the data.
#[derive(Debug)]
pub struct Transitions {
    /// Row: state | action | next state | reward | continues | return | weight of the end.
    rows: Tensor,
    /// Row of `ends` for each of them.
    episodes: Tensor,
    /// Normalized states that episodes were cut off in, or the last known ones, zeros after a terminal one (episodes, state_dim).
    ends: Tensor,
    state_dim: i64,
    act_dim: i64,
}

/// Transitions drawn from [`Transitions`], B of them.
#[derive(Debug)]
pub struct Transition {
    /// States and actions side by side, (B, state_dim + act_dim): what a critic reads.
    pub state_actions: Tensor,
    /// Normalized states, (B, state_dim).
    pub states: Tensor,
    /// Actions scaled to [−1, 1], (B, act_dim).
    pub actions: Tensor,
    /// Normalized states after the step, (B, state_dim); meaningless where `continues` is 0.
    pub next_states: Tensor,
    /// Scaled rewards, (B).
    pub rewards: Tensor,
    /// (B): 0 if the step ended in a terminal state, else 1. Time limits do not end the task.
    pub continues: Tensor,
    /// Discounted sum of the scaled rewards until the state of `ends` or the terminal state, (B).
    pub returns: Tensor,
    /// What the value of `ends` is discounted by, to be added to `returns`; 0 where the end was terminal, (B).
    pub end_weights: Tensor,
    /// Normalized states that the episodes were cut off in, or else the last ones that the data have, (B, state_dim).
    pub ends: Tensor,
}

impl Transitions {
    /// Those of `trajectories`, with rewards multiplied by `reward_scale`, and returns discounted by `discount` per step.
    pub fn new(
        trajectories: &Trajectories,
        [reward_scale, discount]: [f64; 2],
        device: Device,
    ) -> Self {
        let Trajectories {
            state_dim, act_dim, ..
        } = *trajectories;
        let mut rows = Vec::new();
        let mut episodes: Vec<i64> = Vec::new();
        let mut ends = vec![0.0; trajectories.ends.len() * state_dim];
        let mut first = 0;
        for (i, (&len, end)) in trajectories
            .episode_lens
            .iter()
            .zip(&trajectories.ends)
            .enumerate()
        {
            let steps = first..first + len;
            first += len;
            let state = |t: usize| &trajectories.states[t * state_dim..][..state_dim];
            // Where it is known what came after a step, and the state that what is earned later is to be estimated in.
            let (known, rest) = match end {
                End::Terminal => (steps.clone(), None),
                End::Cut(Some(next)) => (steps.clone(), Some(next.as_slice())),
                End::Cut(None) => (steps.start..steps.end - 1, Some(state(steps.end - 1))),
            };
            if let Some(rest) = rest {
                ends[i * state_dim..][..state_dim].copy_from_slice(rest);
            }
            let reward = |t: usize| reward_scale * f64::from(trajectories.rewards[t]);
            let mut returns = vec![(0.0, 0.0); known.len()];
            let mut tail = (0.0, f64::from(u8::from(rest.is_some())));
            for (t, of) in known.clone().zip(&mut returns).rev() {
                tail = (reward(t) + discount * tail.0, discount * tail.1);
                *of = tail;
            }
            for (t, (total, weight)) in known.zip(returns) {
                let is_last = t + 1 == steps.end;
                let next = match end {
                    End::Cut(Some(next)) if is_last => next,
                    // Never looked at.
                    End::Terminal if is_last => state(t),
                    _ => state(t + 1),
                };
                let continues = !(is_last && *end == End::Terminal);
                rows.extend_from_slice(state(t));
                rows.extend_from_slice(&trajectories.actions[t * act_dim..][..act_dim]);
                rows.extend_from_slice(next);
                let numbers = [reward(t), f64::from(u8::from(continues)), total, weight];
                rows.extend(numbers.map(|x| x as f32));
                episodes.push(i as i64);
            }
        }
        let [state_dim, act_dim] = [state_dim, act_dim].map(|n| n as i64);
        Self {
            rows: Tensor::from_slice(&rows)
                .view([-1, 2 * state_dim + act_dim + 4])
                .to(device),
            episodes: Tensor::from_slice(&episodes).to(device),
            ends: Tensor::from_slice(&ends).view([-1, state_dim]).to(device),
            state_dim,
            act_dim,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.episodes.numel()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What update number `update` of a run of this seed sees: `size` transitions, drawn with replacement.
    ///
    /// # Panics
    /// If there is none.
    pub fn batch(&self, size: usize, seed: u64, update: u64) -> Transition {
        let mut rng = generator(seed, update);
        let drawn: Vec<i64> = (0..size)
            .map(|_| below(&mut rng, self.len()) as i64)
            .collect();
        self.gather(&Tensor::from_slice(&drawn).to(self.rows.device()))
    }

    fn gather(&self, indices: &Tensor) -> Transition {
        let (state, action) = (self.state_dim, self.act_dim);
        let rows = self.rows.index_select(0, indices);
        let number = |i: i64| rows.select(1, 2 * state + action + i);
        Transition {
            state_actions: rows.narrow(1, 0, state + action),
            states: rows.narrow(1, 0, state),
            actions: rows.narrow(1, state, action),
            next_states: rows.narrow(1, state + action, state),
            rewards: number(0),
            continues: number(1),
            returns: number(2),
            end_weights: number(3),
            ends: self
                .ends
                .index_select(0, &self.episodes.index_select(0, indices)),
        }
    }

    /// All of them, in order.
    pub fn all(&self) -> Transition {
        self.gather(&Tensor::arange(
            self.len() as i64,
            (Kind::Int64, self.rows.device()),
        ))
    }
}

/// Return of the best episode less that of the worst, in the units of `rewards`; none where all are alike.
pub fn return_spread(trajectories: &Trajectories) -> Option<f64> {
    let mut rewards = trajectories.rewards.iter();
    let returns: Vec<f64> = trajectories
        .episode_lens
        .iter()
        .map(|&len| rewards.by_ref().take(len).map(|&r| f64::from(r)).sum())
        .collect();
    let least = returns.iter().copied().fold(f64::INFINITY, f64::min);
    let most = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (most > least).then_some(most - least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parameters::host_values;

    /// Three episodes of two steps that end in a terminal state, at a time limit in state 9, and somewhere unknown.
    fn small() -> Trajectories {
        Trajectories {
            state_dim: 1,
            act_dim: 1,
            states: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            actions: vec![0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
            rewards: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            episode_lens: vec![2, 2, 2],
            ends: vec![End::Terminal, End::Cut(Some(vec![9.0])), End::Cut(None)],
            ..Trajectories::default()
        }
    }

    #[test]
    fn transitions_know_what_came_after_them_or_are_left_out() {
        let data = Transitions::new(&small(), [10.0, 0.5], Device::Cpu);
        assert_eq!(data.len(), 5);
        let all = data.all();
        let read = |tensor: &Tensor| host_values(&tensor.reshape([-1]));
        assert_eq!(read(&all.states), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(read(&all.actions), [0.0, 0.1, 0.2, 0.3, 0.4]);
        assert_eq!(read(&all.rewards), [10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(read(&all.continues), [1.0, 0.0, 1.0, 1.0, 1.0]);
        // Of a terminal step, nothing is said.
        let next = read(&all.next_states);
        assert_eq!((next[0], &next[2..]), (1.0, &[3.0, 9.0, 5.0][..]));
        assert_eq!(read(&all.returns), [20.0, 20.0, 50.0, 40.0, 50.0]);
        assert_eq!(read(&all.end_weights), [0.0, 0.0, 0.25, 0.5, 0.5]);
        assert_eq!(read(&all.ends), [0.0, 0.0, 9.0, 9.0, 5.0]);
        assert_eq!(read(&all.state_actions)[2..4], [1.0, 0.1]);
    }

    #[test]
    fn batches_depend_on_seed_and_update_alone_and_draw_everything() {
        let data = Transitions::new(&small(), [1.0, 0.9], Device::Cpu);
        let rewards = |seed, update| host_values(&data.batch(64, seed, update).rewards);
        assert_ne!(rewards(1, 3), rewards(1, 4));
        assert_eq!(rewards(1, 3), rewards(1, 3));
        assert_ne!(rewards(1, 3), rewards(2, 3));
        for reward in [1.0, 2.0, 3.0, 4.0, 5.0] {
            assert!(rewards(1, 0).contains(&reward), "{reward}");
        }
        // The last step of the last episode has no next state.
        assert!((0..20).all(|update| !rewards(1, update).contains(&6.0)));
    }

    #[test]
    fn returns_spread_between_the_worst_and_the_best_episode() {
        assert_eq!(return_spread(&small()), Some(8.0));
        let alike = Trajectories {
            rewards: vec![1.0; 6],
            ..small()
        };
        assert_eq!(return_spread(&alike), None);
    }
}

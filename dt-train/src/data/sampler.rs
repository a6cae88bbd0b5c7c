//! Training sequences: which timesteps each update sees, as tensors on the training device.
//!
//! A batch is a function of (seed, update) alone, so a resumed run sees the sequences that the
//! uninterrupted one would have seen.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::{Device, Kind, Tensor};

use crate::data::best_episodes;
use crate::nn::transformer::Inputs;

/// Trajectories as the network reads them, flat: one row per transition, episodes one after the
/// other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trajectories {
    /// Length of a state.
    pub state_dim: usize,
    /// Length of an action.
    pub act_dim: usize,
    /// Normalized states, transitions × state_dim.
    pub states: Vec<f32>,
    /// Actions scaled to [−1, 1], transitions × act_dim.
    pub actions: Vec<f32>,
    /// Scaled returns-to-go, one per transition.
    pub returns_to_go: Vec<f32>,
    /// Length of each episode, in order.
    pub episode_lens: Vec<usize>,
}

impl Trajectories {
    /// Takes `percent` of the episodes out, evenly spread: whatever order the data are in, both parts have some of all.
    pub fn split_off(&mut self, percent: f64) -> Self {
        let whole = std::mem::take(self);
        let empty = || Self {
            state_dim: whole.state_dim,
            act_dim: whole.act_dim,
            ..Self::default()
        };
        let mut taken = empty();
        *self = empty();
        let due = |episodes: usize| (episodes as f64 * percent / 100.0).floor();
        let mut start = 0;
        for (i, &len) in whole.episode_lens.iter().enumerate() {
            let rows = start..start + len;
            let part = if due(i + 1) > due(i) {
                &mut taken
            } else {
                &mut *self
            };
            let states = rows.start * whole.state_dim..rows.end * whole.state_dim;
            let actions = rows.start * whole.act_dim..rows.end * whole.act_dim;
            part.states.extend_from_slice(&whole.states[states]);
            part.actions.extend_from_slice(&whole.actions[actions]);
            part.returns_to_go
                .extend_from_slice(&whole.returns_to_go[rows.clone()]);
            part.episode_lens.push(len);
            start = rows.end;
        }
        taken
    }
}

/// One update's sequences.
#[derive(Debug)]
pub struct Batch {
    /// What the network reads.
    pub inputs: Inputs,
    /// (B, T): 1 where the prediction carries loss, else 0.
    pub loss_mask: Tensor,
}

/// Draws batches from trajectories that are resident on the training device.
///
/// Which rows make a batch is decided on the host, for many updates at once, so that the device is seldom waited for;
/// what is in them is gathered on the device.
#[derive(Debug)]
pub struct Sampler {
    states: Tensor,
    actions: Tensor,
    returns_to_go: Tensor,
    /// First row of each episode, then the number of rows.
    offsets: Vec<usize>,
    best: Best,
    shape: Shape,
    seed: u64,
    device: Device,
    drawn: Option<Drawn>,
}

/// The sequences of [`AT_ONCE`] updates; U updates, B sequences, T timesteps.
#[derive(Debug)]
struct Drawn {
    /// The first of the updates.
    first: u64,
    /// (U, B·T)
    rows: Tensor,
    /// (U, B, T)
    timesteps: Tensor,
    /// (U, B, T)
    loss_mask: Tensor,
}

/// Updates whose sequences are drawn together.
const AT_ONCE: u64 = 32;

/// Shape of a [`Sampler`]'s batches.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sequences per batch.
    pub batch_size: usize,
    /// Timesteps per sequence.
    pub sequence_len: usize,
    /// Timesteps without loss at the start of a sequence inside an episode.
    pub burn_in: usize,
    /// Fraction of sequences that start where their episode does, besides those that do by chance.
    pub start_fraction: f64,
    /// Fraction of sequences that come from the best episodes only.
    pub best_fraction: f64,
    /// Those are the best by return, as many as fit into this percentage of the transitions.
    pub best_percent: f64,
    /// Timesteps saturate below this; 0: no bound.
    pub max_ep_len: usize,
}

/// The episodes of the highest returns, in ascending order.
#[derive(Debug)]
struct Best {
    episodes: Vec<usize>,
    /// As [`Sampler::offsets`], counting the rows of these episodes alone.
    offsets: Vec<usize>,
}

/// Consecutive timesteps of one episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sequence {
    /// Row of the first timestep.
    row: usize,
    /// Its place in the episode.
    timestep: usize,
    /// Timesteps, at least 1.
    len: usize,
}

impl Sampler {
    /// Moves `trajectories` to `device`.
    pub fn new(trajectories: Trajectories, shape: Shape, seed: u64, device: Device) -> Self {
        let offsets = offsets(&trajectories.episode_lens);
        let best = Best::of(&trajectories, &offsets, shape.best_percent);
        Self {
            best,
            states: resident(trajectories.states, trajectories.state_dim, device),
            actions: resident(trajectories.actions, trajectories.act_dim, device),
            returns_to_go: resident(trajectories.returns_to_go, 1, device),
            offsets,
            shape,
            seed,
            device,
            drawn: None,
        }
    }

    /// The sequences of one update.
    ///
    /// A sequence that is shorter than T because its episode is continues with masked copies of
    /// its last timestep; attention is causal, so they change no prediction before them.
    pub fn batch(&mut self, update: u64) -> Batch {
        let first = update - update % AT_ONCE;
        let drawn = match self.drawn.take() {
            Some(drawn) if drawn.first == first => drawn,
            _ => self.draw(first),
        };
        let of_update = |tensor: &Tensor| tensor.select(0, (update - first).cast_signed());
        let rows = of_update(&drawn.rows);
        let (b, t) = (self.shape.batch_size as i64, self.shape.sequence_len as i64);
        let gather = |table: &Tensor| table.index_select(0, &rows).view([b, t, -1]);
        let batch = Batch {
            inputs: Inputs {
                returns_to_go: gather(&self.returns_to_go),
                states: gather(&self.states),
                actions: gather(&self.actions),
                timesteps: of_update(&drawn.timesteps),
            },
            loss_mask: of_update(&drawn.loss_mask),
        };
        self.drawn = Some(drawn);
        batch
    }

    fn draw(&self, first: u64) -> Drawn {
        let Shape {
            batch_size,
            sequence_len,
            burn_in,
            max_ep_len,
            ..
        } = self.shape;
        let last_timestep = max_ep_len.checked_sub(1).unwrap_or(usize::MAX);
        let len = AT_ONCE as usize * batch_size * sequence_len;
        let [mut rows, mut timesteps] = [(); 2].map(|()| Vec::<i64>::with_capacity(len));
        let mut loss_mask = Vec::<f32>::with_capacity(len);
        for update in first..first + AT_ONCE {
            let mut rng = generator(self.seed, update);
            for _ in 0..batch_size {
                let Sequence { row, timestep, len } = self.sequence(&mut rng);
                let first_loss = if timestep == 0 { 0 } else { burn_in };
                for position in 0..sequence_len {
                    let real = std::cmp::min(position, len - 1);
                    rows.push((row + real) as i64);
                    timesteps.push(std::cmp::min(timestep + real, last_timestep) as i64);
                    let carries_loss = (first_loss..len).contains(&position);
                    loss_mask.push(f32::from(u8::from(carries_loss)));
                }
            }
        }
        let [u, b, t] = [AT_ONCE as usize, batch_size, sequence_len].map(|n| n as i64);
        Drawn {
            first,
            rows: Tensor::from_slice(&rows).view([u, b * t]).to(self.device),
            timesteps: Tensor::from_slice(&timesteps)
                .view([u, b, t])
                .to(self.device),
            loss_mask: Tensor::from_slice(&loss_mask)
                .view([u, b, t])
                .to(self.device),
        }
    }

    /// An episode is drawn in proportion to its length. The middle of the sequence is uniform in
    /// it; where the sequence would reach over an end of the episode it is moved inside. So no
    /// timestep is wasted on padding, and the first and last timesteps of an episode, which a
    /// uniform start would show in one sequence out of T, are seen at least half as often as the others.
    /// [`Shape::best_fraction`] of the sequences have an episode of the best for theirs, drawn likewise;
    /// [`Shape::start_fraction`] are moved to their episode's start.
    fn sequence(&self, rng: &mut ChaCha8Rng) -> Sequence {
        let (episode, middle) = if bernoulli(rng, self.shape.best_fraction) {
            let (chosen, row) = draw_episode(rng, &self.best.offsets);
            let episode = self.best.episodes[chosen];
            (episode, self.offsets[episode] + row)
        } else {
            let (episode, row) = draw_episode(rng, &self.offsets);
            (episode, self.offsets[episode] + row)
        };
        let (first, end) = (self.offsets[episode], self.offsets[episode + 1]);
        let longest = self.shape.sequence_len;
        let len = std::cmp::min(longest, end - first);
        let start = if bernoulli(rng, self.shape.start_fraction) {
            0
        } else {
            (middle - first).saturating_sub(longest / 2)
        };
        let timestep = std::cmp::min(start, end - first - len);
        Sequence {
            row: first + timestep,
            timestep,
            len,
        }
    }
}

impl Best {
    fn of(trajectories: &Trajectories, offsets: &[usize], percent: f64) -> Self {
        // An episode's return is the return-to-go of its first timestep.
        let returns: Vec<f64> = offsets[..offsets.len() - 1]
            .iter()
            .map(|&first| trajectories.returns_to_go[first].into())
            .collect();
        let lens = &trajectories.episode_lens;
        let episodes = best_episodes(&returns, |episode| lens[episode], percent);
        let lens: Vec<usize> = episodes.iter().map(|&episode| lens[episode]).collect();
        Self {
            offsets: self::offsets(&lens),
            episodes,
        }
    }
}

/// An episode in proportion to its length, and one of its rows, counted from its first.
fn draw_episode(rng: &mut ChaCha8Rng, offsets: &[usize]) -> (usize, usize) {
    let row = below(rng, offsets[offsets.len() - 1]);
    let episode = offsets.partition_point(|&offset| offset <= row) - 1;
    (episode, row - offsets[episode])
}

/// First row of each episode, then the number of rows.
pub(crate) fn offsets(episode_lens: &[usize]) -> Vec<usize> {
    let mut offsets = vec![0];
    for len in episode_lens {
        offsets.push(offsets[offsets.len() - 1] + len);
    }
    offsets
}

/// A table (rows, columns) on the device. The values move piece by piece, each freed once it is there, so that large
/// data are never in memory twice.
pub(crate) fn resident(mut values: Vec<f32>, columns: usize, device: Device) -> Tensor {
    const PIECE: usize = 1 << 14;
    let mut end = values.len() / columns;
    let table = Tensor::empty([end as i64, columns as i64], (Kind::Float, device));
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let piece = Tensor::from_slice(&values[start * columns..]);
        table
            .narrow(0, start as i64, (end - start) as i64)
            .copy_(&piece.view([-1, columns as i64]));
        values.truncate(start * columns);
        values.shrink_to_fit();
        end = start;
    }
    table
}

/// Random bits of one update, independent of how many were drawn for the updates before.
pub(crate) fn generator(seed: u64, update: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&update.to_le_bytes());
    key[16..24].copy_from_slice(b"sequence");
    ChaCha8Rng::from_seed(key)
}

/// Uniform in 0..n; the bias of this multiplication is below n / 2⁶⁴.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// True with probability `p`, to 2⁻⁵³; draws nothing where that is 0.
fn bernoulli(rng: &mut ChaCha8Rng, p: f64) -> bool {
    p > 0.0 && ((rng.next_u64() >> 11) as f64) < p * (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row i holds the number i everywhere, so that a gathered value says where it came from.
    fn numbered(episode_lens: &[usize]) -> Trajectories {
        let rows: usize = episode_lens.iter().sum();
        let numbers: Vec<f32> = (0..rows).map(|i| i as f32).collect();
        Trajectories {
            state_dim: 1,
            act_dim: 1,
            states: numbers.clone(),
            actions: numbers.clone(),
            returns_to_go: numbers,
            episode_lens: episode_lens.to_vec(),
        }
    }

    fn sampler(episode_lens: &[usize], sequence_len: usize, burn_in: usize, seed: u64) -> Sampler {
        let shape = Shape {
            batch_size: 64,
            sequence_len,
            burn_in,
            start_fraction: 0.0,
            best_fraction: 0.0,
            best_percent: 100.0,
            max_ep_len: 6,
        };
        Sampler::new(numbered(episode_lens), shape, seed, Device::Cpu)
    }

    fn rows<T: tch::kind::Element + Copy + Default>(tensor: &Tensor) -> Vec<Vec<T>> {
        let flat = tensor.flatten(0, -1);
        let mut values = vec![T::default(); flat.numel()];
        flat.copy_data(&mut values, flat.numel());
        values
            .chunks(tensor.size()[1] as usize)
            .map(<[T]>::to_vec)
            .collect()
    }

    #[test]
    fn sequences_stay_inside_their_episode_and_padding_carries_no_loss() {
        // Episodes: rows 0..3 (shorter than a sequence), 3..12.
        let batch = sampler(&[3, 9], 5, 2, 1).batch(0);
        let states = rows::<f32>(&batch.inputs.states);
        let times = rows::<i64>(&batch.inputs.timesteps);
        let mask = rows::<f32>(&batch.loss_mask);
        let mut starts = [0; 12];
        for ((states, times), mask) in states.iter().zip(&times).zip(&mask) {
            let first = states[0] as usize;
            starts[first] += 1;
            match first {
                0 => {
                    assert_eq!(states[..], [0.0, 1.0, 2.0, 2.0, 2.0]);
                    assert_eq!(times[..3], [0, 1, 2]);
                    assert_eq!(mask[..], [1.0, 1.0, 1.0, 0.0, 0.0]);
                }
                3..=7 => {
                    assert!(states.windows(2).all(|w| w[1] == w[0] + 1.0));
                    let expected: Vec<i64> =
                        (0..5).map(|i| (first as i64 - 3 + i).min(5)).collect();
                    assert_eq!(*times, expected);
                    let burnt: f32 = if first == 3 { 0.0 } else { 2.0 };
                    assert_eq!(mask.iter().sum::<f32>(), 5.0 - burnt);
                    assert_eq!(mask[4], 1.0);
                }
                _ => panic!("a sequence starts at row {first}"),
            }
        }
        for start in [0, 3, 4, 5, 6, 7] {
            assert!(starts[start] > 0, "row {start} never starts a sequence");
        }
    }

    #[test]
    fn episodes_are_split_off_whole_and_evenly() {
        let mut kept = numbered(&[2, 1, 3, 1, 2, 1, 1, 1, 1, 1]);
        let taken = kept.split_off(20.0);
        assert_eq!(taken.episode_lens, [2, 1]);
        assert_eq!(taken.states, [7.0, 8.0, 13.0]);
        assert_eq!(taken.actions, taken.states);
        assert_eq!(taken.returns_to_go, taken.states);
        assert_eq!(kept.episode_lens, [2, 1, 3, 1, 1, 1, 1, 1]);
        let rest: Vec<f32> = (0..7).chain(9..13).map(|i| i as f32).collect();
        assert_eq!(kept.states, rest);
        assert!(kept.split_off(0.0).episode_lens.is_empty());
        assert_eq!((kept.states, kept.state_dim), (rest, 1));
    }

    #[test]
    fn a_fraction_of_the_sequences_starts_with_the_episode() {
        let starts = |fraction: f64| {
            let mut sampler = sampler(&[1000], 10, 0, 5);
            sampler.shape.start_fraction = fraction;
            let times =
                (0..100).flat_map(|update| rows::<i64>(&sampler.batch(update).inputs.timesteps));
            times.filter(|times| times[0] == 0).count()
        };
        // Of 6400 sequences; five in a thousand start there by chance.
        assert!((10..60).contains(&starts(0.0)), "{}", starts(0.0));
        assert!((1450..1800).contains(&starts(0.25)), "{}", starts(0.25));
        assert_eq!(starts(1.0), 6400);
    }

    #[test]
    fn a_fraction_of_the_sequences_comes_from_the_best_episodes() {
        // Returns, by the rows' numbers: 0, 100, 200, 300, so the last fits into 25 %, the last two into 50 %.
        let share = |fraction: f64, percent: f64, first_best: f32| {
            let shape = Shape {
                best_fraction: fraction,
                best_percent: percent,
                ..sampler(&[1], 10, 0, 5).shape
            };
            let mut sampler = Sampler::new(numbered(&[100; 4]), shape, 5, Device::Cpu);
            let rows =
                (0..100).flat_map(|update| rows::<f32>(&sampler.batch(update).inputs.states));
            rows.filter(|rows| rows[0] >= first_best).count() as f64 / 6400.0
        };
        let cases = [
            (0.0, 25.0, 300.0, 0.25),
            (0.5, 25.0, 300.0, 0.5 + 0.5 * 0.25),
            (1.0, 25.0, 300.0, 1.0),
            (0.5, 50.0, 200.0, 0.5 + 0.5 * 0.5),
        ];
        for (fraction, percent, first_best, expected) in cases {
            let share = share(fraction, percent, first_best);
            assert!(
                (share - expected).abs() < 0.03,
                "{fraction} {percent}: {share}"
            );
        }
    }

    #[test]
    fn tables_larger_than_a_piece_arrive_whole() {
        let values: Vec<f32> = (0..150_000).map(|i| i as f32).collect();
        let table = resident(values.clone(), 3, Device::Cpu);
        assert_eq!(rows::<f32>(&table).concat(), values);
    }

    #[test]
    fn every_timestep_is_seen_at_least_half_as_often_as_the_middle() {
        let mut sampler = sampler(&[40], 10, 0, 3);
        let mut seen = [0_u32; 40];
        for update in 0..200 {
            for row in rows::<f32>(&sampler.batch(update).inputs.states).concat() {
                seen[row as usize] += 1;
            }
        }
        let expected = 200.0 * 64.0 * 10.0 / 40.0;
        for (row, &count) in seen.iter().enumerate() {
            assert!(f64::from(count) > 0.45 * expected, "row {row}: {count}");
        }
    }

    #[test]
    fn a_batch_depends_on_seed_and_update_alone() {
        let mut first = sampler(&[3, 9, 30], 5, 0, 1);
        let states =
            |sampler: &mut Sampler, update| rows::<f32>(&sampler.batch(update).inputs.states);
        let expected = states(&mut first, 7);
        first.batch(8);
        assert_eq!(states(&mut first, 7), expected);
        assert_ne!(states(&mut first, 8), expected);
        // One that was drawn together with others, and from the next draw.
        let later = states(&mut first, AT_ONCE + 7);
        assert_ne!(later, expected);
        assert_eq!(states(&mut first, 7), expected);
        assert_eq!(
            states(&mut sampler(&[3, 9, 30], 5, 0, 1), AT_ONCE + 7),
            later
        );
        assert_ne!(states(&mut sampler(&[3, 9, 30], 5, 0, 2), 7), expected);
    }
}

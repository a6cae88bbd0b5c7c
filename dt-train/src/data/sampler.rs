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

/// What one update sees; B sequences, T timesteps.
#[derive(Debug)]
pub struct Batch {
    /// What the network reads. Of [`Draw::Histories`], `states` is (B, K, state_dim), and all else of the newest
    /// timestep alone (T = 1).
    pub inputs: Inputs,
    /// (B, T): 1 where the prediction carries loss, else 0.
    pub loss_mask: Tensor,
}

/// What makes a batch.
#[derive(Clone, Copy, Debug)]
pub enum Draw {
    /// Consecutive timesteps.
    Sequences(SequenceShape),
    /// Single transitions, drawn uniformly, each with the states up to it.
    Histories {
        /// B: transitions per batch.
        batch_size: usize,
        /// K: states of each, the oldest first; zeros before the episode's first.
        context_len: usize,
    },
}

/// Sequences of [`Draw::Sequences`].
#[derive(Clone, Copy, Debug)]
pub struct SequenceShape {
    /// B: sequences per batch.
    pub batch_size: usize,
    /// T: timesteps per sequence.
    pub sequence_len: usize,
    /// Timesteps without loss at the start of a sequence inside an episode.
    pub burn_in: usize,
    /// Fraction of sequences that start where their episode does, besides those that do by chance.
    pub start_fraction: f64,
    /// Fraction of sequences that come from the best episodes only.
    pub best_fraction: f64,
    /// Those are the best by return, as many as fit into this percentage of the transitions.
    pub best_percent: f64,
}

/// Draws batches from trajectories that are resident on the training device.
///
/// Which rows make a batch is decided on the host, for many updates at once, so that the device is seldom waited for;
/// what is in them is gathered on the device.
#[derive(Debug)]
pub struct Sampler {
    tables: Tables,
    draw: Draw,
    /// For [`SequenceShape::best_fraction`].
    best: Best,
    seed: u64,
    drawn: Option<Drawn>,
}

/// Trajectories on a device.
#[derive(Debug)]
struct Tables {
    /// One row per transition, then one of zeros.
    states: Tensor,
    actions: Tensor,
    returns_to_go: Tensor,
    /// First row of each episode, then the number of rows.
    offsets: Vec<usize>,
    /// Return of each episode, scaled.
    returns: Vec<f64>,
}

/// What [`AT_ONCE`] updates see; U updates.
#[derive(Debug)]
struct Drawn {
    /// The first of the updates.
    first: u64,
    /// Rows of everything but states, (U, B·T).
    rows: Tensor,
    /// Rows of states, (U, B·T) or (U, B·K).
    state_rows: Tensor,
    /// (U, B, T)
    timesteps: Tensor,
    /// (U, B, T)
    loss_mask: Tensor,
}

/// Updates whose batches are drawn together.
const AT_ONCE: u64 = 32;

/// The episodes of the highest returns, in ascending order.
#[derive(Debug)]
struct Best {
    episodes: Vec<usize>,
    /// As [`Tables::offsets`], counting the rows of these episodes alone.
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

/// What is decided on the host for a batch, one value per timestep.
#[derive(Default)]
struct Rows {
    rows: Vec<i64>,
    /// Empty: as `rows`.
    state_rows: Vec<i64>,
    timesteps: Vec<i64>,
    loss_mask: Vec<f32>,
}

impl Sampler {
    /// Moves `trajectories` to `device`.
    pub fn new(trajectories: Trajectories, draw: Draw, seed: u64, device: Device) -> Self {
        Self::of(Tables::new(trajectories, device), draw, seed)
    }

    /// Draws otherwise, from the same trajectories, which are shared.
    pub fn redrawn(&self, draw: Draw, seed: u64) -> Self {
        Self::of(self.tables.share(), draw, seed)
    }

    fn of(tables: Tables, draw: Draw, seed: u64) -> Self {
        let percent = match draw {
            Draw::Sequences(shape) => shape.best_percent,
            Draw::Histories { .. } => 100.0,
        };
        Self {
            best: Best::of(&tables, percent),
            tables,
            draw,
            seed,
            drawn: None,
        }
    }

    /// What update number `update` sees.
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
        let (rows, state_rows) = (of_update(&drawn.rows), of_update(&drawn.state_rows));
        let (timesteps, loss_mask) = (of_update(&drawn.timesteps), of_update(&drawn.loss_mask));
        let b = loss_mask.size()[0];
        let gather = |table: &Tensor, rows: &Tensor| {
            let columns = table.size()[1];
            table.index_select(0, rows).view([b, -1, columns])
        };
        let tables = &self.tables;
        let batch = Batch {
            inputs: Inputs {
                returns_to_go: gather(&tables.returns_to_go, &rows),
                states: gather(&tables.states, &state_rows),
                actions: gather(&tables.actions, &rows),
                timesteps,
            },
            loss_mask,
        };
        self.drawn = Some(drawn);
        batch
    }

    fn draw(&self, first: u64) -> Drawn {
        let mut drawn = Rows::default();
        for update in first..first + AT_ONCE {
            let mut rng = generator(self.seed, update);
            match self.draw {
                Draw::Sequences(shape) => {
                    (0..shape.batch_size)
                        .for_each(|_| drawn.push(&shape, self.sequence(&shape, &mut rng)));
                }
                Draw::Histories {
                    batch_size,
                    context_len,
                } => (0..batch_size).for_each(|_| self.history(context_len, &mut rng, &mut drawn)),
            }
        }
        let b = match self.draw {
            Draw::Sequences(SequenceShape { batch_size, .. })
            | Draw::Histories { batch_size, .. } => batch_size as i64,
        };
        let u = AT_ONCE.cast_signed();
        let device = self.tables.states.device();
        let flat = |rows: &[i64]| Tensor::from_slice(rows).view([u, -1]).to(device);
        let rows = flat(&drawn.rows);
        let state_rows = match drawn.state_rows.as_slice() {
            [] => rows.shallow_clone(),
            state_rows => flat(state_rows),
        };
        Drawn {
            first,
            rows,
            state_rows,
            timesteps: flat(&drawn.timesteps).view([u, b, -1]),
            loss_mask: Tensor::from_slice(&drawn.loss_mask)
                .view([u, b, -1])
                .to(device),
        }
    }

    /// An episode is drawn in proportion to its length. The middle of the sequence is uniform in
    /// it; where the sequence would reach over an end of the episode it is moved inside. So no
    /// timestep is wasted on padding, and the first and last timesteps of an episode, which a
    /// uniform start would show in one sequence out of T, are seen at least half as often as the others.
    /// [`SequenceShape::best_fraction`] of the sequences have an episode of the best for theirs, drawn likewise;
    /// [`SequenceShape::start_fraction`] are moved to their episode's start.
    fn sequence(&self, shape: &SequenceShape, rng: &mut ChaCha8Rng) -> Sequence {
        let offsets = &self.tables.offsets;
        let (episode, middle) = if bernoulli(rng, shape.best_fraction) {
            let (chosen, middle) = draw_row(rng, &self.best.offsets);
            (self.best.episodes[chosen], middle)
        } else {
            draw_row(rng, offsets)
        };
        let (first, end) = (offsets[episode], offsets[episode + 1]);
        let len = std::cmp::min(shape.sequence_len, end - first);
        let start = if bernoulli(rng, shape.start_fraction) {
            0
        } else {
            middle.saturating_sub(shape.sequence_len / 2)
        };
        let timestep = std::cmp::min(start, end - first - len);
        Sequence {
            row: first + timestep,
            timestep,
            len,
        }
    }

    /// A transition, and the states up to it.
    fn history(&self, context_len: usize, rng: &mut ChaCha8Rng, drawn: &mut Rows) {
        let offsets = &self.tables.offsets;
        let zeros = offsets[offsets.len() - 1];
        let (episode, timestep) = draw_row(rng, offsets);
        let newest = offsets[episode] + timestep;
        drawn.state_rows.extend((0..context_len).rev().map(|back| {
            let row = if back <= timestep {
                newest - back
            } else {
                zeros
            };
            row as i64
        }));
        drawn.rows.push(newest as i64);
        drawn.timesteps.push(timestep as i64);
        drawn.loss_mask.push(1.0);
    }
}

impl Rows {
    fn push(&mut self, shape: &SequenceShape, sequence: Sequence) {
        let Sequence { row, timestep, len } = sequence;
        let first_loss = if timestep == 0 { 0 } else { shape.burn_in };
        for position in 0..shape.sequence_len {
            let real = std::cmp::min(position, len - 1);
            self.rows.push((row + real) as i64);
            self.timesteps.push((timestep + real) as i64);
            let carries_loss = (first_loss..len).contains(&position);
            self.loss_mask.push(f32::from(u8::from(carries_loss)));
        }
    }
}

impl Tables {
    fn new(trajectories: Trajectories, device: Device) -> Self {
        let Trajectories {
            state_dim,
            act_dim,
            states,
            actions,
            returns_to_go,
            episode_lens,
        } = trajectories;
        let offsets = offsets(&episode_lens);
        Self {
            // An episode's return is the return-to-go of its first timestep.
            returns: offsets[..episode_lens.len()]
                .iter()
                .map(|&first| returns_to_go[first].into())
                .collect(),
            states: resident(states, state_dim, 1, device),
            actions: resident(actions, act_dim, 0, device),
            returns_to_go: resident(returns_to_go, 1, 0, device),
            offsets,
        }
    }

    fn share(&self) -> Self {
        Self {
            states: self.states.shallow_clone(),
            actions: self.actions.shallow_clone(),
            returns_to_go: self.returns_to_go.shallow_clone(),
            offsets: self.offsets.clone(),
            returns: self.returns.clone(),
        }
    }
}

impl Best {
    fn of(tables: &Tables, percent: f64) -> Self {
        let rows = |episode: usize| tables.offsets[episode + 1] - tables.offsets[episode];
        let episodes = best_episodes(&tables.returns, rows, percent);
        let lens: Vec<usize> = episodes.iter().map(|&episode| rows(episode)).collect();
        Self {
            offsets: offsets(&lens),
            episodes,
        }
    }
}

/// An episode in proportion to its length, and one of its rows, counted from its first.
fn draw_row(rng: &mut ChaCha8Rng, offsets: &[usize]) -> (usize, usize) {
    let row = below(rng, offsets[offsets.len() - 1]);
    let episode = offsets.partition_point(|&offset| offset <= row) - 1;
    (episode, row - offsets[episode])
}

/// First row of each episode, then the number of rows.
fn offsets(episode_lens: &[usize]) -> Vec<usize> {
    let mut offsets = vec![0];
    for len in episode_lens {
        offsets.push(offsets[offsets.len() - 1] + len);
    }
    offsets
}

/// A table (rows + `zeros`, columns) on the device, `zeros` rows of zeros at its end. The values move piece by piece, each
/// freed once it is there, so that large data are never in memory twice.
fn resident(mut values: Vec<f32>, columns: usize, zeros: usize, device: Device) -> Tensor {
    const PIECE: usize = 1 << 14;
    let mut end = values.len() / columns;
    let size = [(end + zeros) as i64, columns as i64];
    let table = Tensor::empty(size, (Kind::Float, device));
    let _ = table.narrow(0, end as i64, zeros as i64).zero_();
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
fn generator(seed: u64, update: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&update.to_le_bytes());
    key[16..24].copy_from_slice(b"sequence");
    ChaCha8Rng::from_seed(key)
}

/// Uniform in 0..n; the bias of this multiplication is below n / 2⁶⁴.
fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
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

    fn shape(sequence_len: usize) -> SequenceShape {
        SequenceShape {
            batch_size: 64,
            sequence_len,
            burn_in: 0,
            start_fraction: 0.0,
            best_fraction: 0.0,
            best_percent: 100.0,
        }
    }

    fn sampler(episode_lens: &[usize], shape: SequenceShape, seed: u64) -> Sampler {
        let data = numbered(episode_lens);
        Sampler::new(data, Draw::Sequences(shape), seed, Device::Cpu)
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
        let batch = sampler(
            &[3, 9],
            SequenceShape {
                burn_in: 2,
                ..shape(5)
            },
            1,
        )
        .batch(0);
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
                    let expected: Vec<i64> = (0..5).map(|i| first as i64 - 3 + i).collect();
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
    fn a_fraction_of_the_sequences_starts_with_the_episode() {
        let starts = |fraction: f64| {
            let shape = SequenceShape {
                start_fraction: fraction,
                ..shape(10)
            };
            let mut sampler = sampler(&[1000], shape, 5);
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
            let shape = SequenceShape {
                best_fraction: fraction,
                best_percent: percent,
                ..shape(10)
            };
            let mut sampler = sampler(&[100; 4], shape, 5);
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
    fn a_history_ends_with_its_transition_and_starts_with_zeros_where_there_is_no_past() {
        let draw = Draw::Histories {
            batch_size: 64,
            context_len: 3,
        };
        // No row is 0, so that zeros are those of the padding.
        let mut data = numbered(&[1, 2, 5]);
        data.states.iter_mut().for_each(|state| *state += 10.0);
        let Batch { inputs, loss_mask } = Sampler::new(data, draw, 1, Device::Cpu).batch(0);
        assert_eq!(inputs.states.size(), [64, 3, 1]);
        assert_eq!(inputs.actions.size(), [64, 1, 1]);
        assert_eq!(inputs.returns_to_go.size(), [64, 1, 1]);
        assert_eq!(loss_mask.size(), [64, 1]);
        let expected: [(&[f32], i64); 8] = [
            (&[0.0, 0.0, 10.0], 0),
            (&[0.0, 0.0, 11.0], 0),
            (&[0.0, 11.0, 12.0], 1),
            (&[0.0, 0.0, 13.0], 0),
            (&[0.0, 13.0, 14.0], 1),
            (&[13.0, 14.0, 15.0], 2),
            (&[14.0, 15.0, 16.0], 3),
            (&[15.0, 16.0, 17.0], 4),
        ];
        let mut seen = [false; 8];
        let (states, actions) = (rows::<f32>(&inputs.states), rows::<f32>(&inputs.actions));
        let timesteps = rows::<i64>(&inputs.timesteps);
        for ((states, action), timestep) in states.iter().zip(&actions).zip(&timesteps) {
            let row = action[0] as usize;
            assert_eq!((states.as_slice(), timestep[0]), expected[row]);
            seen[row] = true;
        }
        assert_eq!(seen, [true; 8]);
    }

    #[test]
    fn a_sampler_can_be_drawn_from_otherwise() {
        let first = sampler(&[3, 9, 30], shape(5), 1);
        let draw = Draw::Sequences(shape(7));
        let states = |mut sampler: Sampler| rows::<f32>(&sampler.batch(3).inputs.states);
        assert_eq!(
            states(first.redrawn(draw, 2)),
            states(sampler(&[3, 9, 30], shape(7), 2))
        );
    }

    #[test]
    fn tables_larger_than_a_piece_arrive_whole() {
        let values: Vec<f32> = (0..150_000).map(|i| i as f32).collect();
        let table = resident(values.clone(), 3, 1, Device::Cpu);
        let (zeros, rest) = (vec![0.0; 3], rows::<f32>(&table).concat());
        assert_eq!(rest, [values, zeros].concat());
    }

    #[test]
    fn every_timestep_is_seen_at_least_half_as_often_as_the_middle() {
        let mut sampler = sampler(&[40], shape(10), 3);
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
        let mut first = sampler(&[3, 9, 30], shape(5), 1);
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
            states(&mut sampler(&[3, 9, 30], shape(5), 1), AT_ONCE + 7),
            later
        );
        assert_ne!(states(&mut sampler(&[3, 9, 30], shape(5), 2), 7), expected);
    }
}

//! Training sequences: which timesteps each update sees, as tensors on the training device.
//!
//! A batch is a function of (seed, update) alone, so a resumed run sees the sequences that the
//! uninterrupted one would have seen.

use std::sync::Arc;

use dt_core::config::Actions;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::{Device, Kind, Tensor};

use crate::algo::Dims;
use crate::data::best_episodes;
use crate::data::frames::Frames;
use crate::nn::transformer::Inputs;
use crate::run::Image;

/// Trajectories as the network reads them, flat: one row per transition, episodes one after the
/// other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trajectories {
    /// Length of a state.
    pub state_dim: usize,
    /// Length of an action as the network reads it: of a vector, or the number of choices.
    pub act_dim: usize,
    /// Whether actions are vectors or choices.
    pub kind: Actions,
    /// Normalized states, transitions × state_dim; empty where they are images.
    pub states: Vec<f32>,
    /// States that are images, one frame per transition.
    pub pixels: Option<Pixels>,
    /// Actions scaled to [−1, 1], or choices as one-hot rows, transitions × act_dim.
    pub actions: Vec<f32>,
    /// Scaled returns-to-go, one per transition.
    pub returns_to_go: Vec<f32>,
    /// Rewards, one per transition, in the data's units.
    pub rewards: Vec<f32>,
    /// Length of each episode, in order.
    pub episode_lens: Vec<usize>,
    /// How each ended.
    pub ends: Vec<End>,
}

/// How an episode ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// In a terminal state, after which there is nothing to earn.
    Terminal,
    /// Merely there, such as by a time limit, in this normalized state (state_dim), if the data have it.
    Cut(Option<Vec<f32>>),
}

/// States that are images.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// A row per transition.
    pub frames: Frames,
    /// How the network reads their pixels.
    pub image: Image,
}

impl Trajectories {
    /// What they are made of.
    pub fn dims(&self) -> Dims {
        Dims {
            state_dim: self.state_dim,
            act_dim: self.act_dim,
            actions: self.kind,
            image: self.pixels.as_ref().map(|pixels| pixels.frames.shape()),
        }
    }
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
    /// Sequences start at any timestep alike and end where their episode does, instead of being moved inside it.
    pub uniform_starts: bool,
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
    states: States,
    actions: Tensor,
    returns_to_go: Tensor,
    /// First row of each episode, then the number of rows.
    offsets: Vec<usize>,
    /// Return of each episode, scaled.
    returns: Vec<f64>,
}

/// States of all transitions.
#[derive(Debug)]
enum States {
    /// One row per transition, then one of zeros, on the device.
    Vectors(Tensor),
    /// Compressed, on the host: what a batch needs is unpacked for it.
    Images(Arc<Pixels>),
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
    /// The same on the host, where states are images.
    image_rows: Vec<i64>,
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
        let states = match &tables.states {
            States::Vectors(states) => gather(states, &state_rows),
            States::Images(pixels) => {
                let of_one = drawn.image_rows.len() / AT_ONCE as usize;
                let at = (update - first) as usize * of_one;
                tables
                    .images(pixels, &drawn.image_rows[at..][..of_one])
                    .view([b, (of_one as i64) / b, -1])
            }
        };
        let batch = Batch {
            inputs: Inputs {
                returns_to_go: gather(&tables.returns_to_go, &rows),
                states,
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
        let device = self.tables.actions.device();
        let flat = |rows: &[i64]| Tensor::from_slice(rows).view([u, -1]).to(device);
        let rows = flat(&drawn.rows);
        let state_rows = match drawn.state_rows.as_slice() {
            [] => rows.shallow_clone(),
            state_rows => flat(state_rows),
        };
        let image_rows = match self.tables.states {
            States::Vectors(_) => Vec::new(),
            States::Images(_) if drawn.state_rows.is_empty() => drawn.rows,
            States::Images(_) => drawn.state_rows,
        };
        Drawn {
            first,
            rows,
            state_rows,
            image_rows,
            timesteps: flat(&drawn.timesteps).view([u, b, -1]),
            loss_mask: Tensor::from_slice(&drawn.loss_mask)
                .view([u, b, -1])
                .to(device),
        }
    }

    /// An episode is drawn in proportion to its length. With [`SequenceShape::uniform_starts`], the start of the sequence is
    /// uniform in it, and a sequence that would reach over its end is shorter. Otherwise the middle of the sequence is uniform in
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
        let is_at_start = bernoulli(rng, shape.start_fraction);
        if shape.uniform_starts {
            let timestep = if is_at_start { 0 } else { middle };
            return Sequence {
                row: first + timestep,
                timestep,
                len: std::cmp::min(shape.sequence_len, end - first - timestep),
            };
        }
        let len = std::cmp::min(shape.sequence_len, end - first);
        let start = if is_at_start {
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
            pixels,
            actions,
            returns_to_go,
            episode_lens,
            ..
        } = trajectories;
        let offsets = offsets(&episode_lens);
        Self {
            // An episode's return is the return-to-go of its first timestep.
            returns: offsets[..episode_lens.len()]
                .iter()
                .map(|&first| returns_to_go[first].into())
                .collect(),
            states: match pixels {
                Some(pixels) => States::Images(Arc::new(pixels)),
                None => States::Vectors(resident(states, state_dim, 1, device)),
            },
            actions: resident(actions, act_dim, 0, device),
            returns_to_go: resident(returns_to_go, 1, 0, device),
            offsets,
        }
    }

    fn share(&self) -> Self {
        Self {
            states: match &self.states {
                States::Vectors(states) => States::Vectors(states.shallow_clone()),
                States::Images(pixels) => States::Images(pixels.clone()),
            },
            actions: self.actions.shallow_clone(),
            returns_to_go: self.returns_to_go.shallow_clone(),
            offsets: self.offsets.clone(),
            returns: self.returns.clone(),
        }
    }

    /// Images of the transitions `rows`, (rows, height · width · channels), as the network reads them; black ones of the row behind the last. A frame
    /// that several of them show is unpacked and moved to the device once.
    fn images(&self, pixels: &Pixels, rows: &[i64]) -> Tensor {
        let Pixels { frames, image } = pixels;
        let stack = frames.stack();
        let mut shown = Vec::with_capacity(rows.len() * stack);
        for &row in rows {
            let row = row as usize;
            let episode = self.offsets.partition_point(|&offset| offset <= row) - 1;
            let is_there = row < frames.len();
            // The oldest first, none from before the episode.
            shown.extend(
                (0..stack).rev().map(|back| {
                    (is_there && row >= self.offsets[episode] + back).then(|| row - back)
                }),
            );
        }
        let mut distinct = shown.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let place = |frame: &Option<usize>| distinct.binary_search(frame).expect("one of them");
        let places: Vec<i64> = shown.iter().map(|frame| place(frame) as i64).collect();
        let mut bytes = vec![0; distinct.len() * frames.frame_len()];
        frames.gather(&distinct, &mut bytes);
        let device = self.actions.device();
        let [height, width, channels] = frames.shape().map(|n| n as i64);
        let stack = stack as i64;
        let mut stacked = Tensor::from_slice(&bytes)
            .view([-1, height, width, channels / stack])
            .to(device)
            .index_select(0, &Tensor::from_slice(&places).to(device))
            .view([-1, stack, height, width, channels / stack])
            .permute([0, 2, 3, 1, 4])
            .reshape([-1, height * width * channels])
            .to_kind(Kind::Float);
        // In place: there are hundreds of megabytes of it.
        stacked
            .g_sub_scalar_(f64::from(image.ground))
            .g_div_scalar_(f64::from(image.scale))
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
pub(super) fn generator(seed: u64, update: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&update.to_le_bytes());
    key[16..24].copy_from_slice(b"sequence");
    ChaCha8Rng::from_seed(key)
}

/// Uniform in 0..n; the bias of this multiplication is below n / 2⁶⁴.
pub(super) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// True with probability `p`, to 2⁻⁵³; draws nothing where that is 0.
fn bernoulli(rng: &mut ChaCha8Rng, p: f64) -> bool {
    p > 0.0 && ((rng.next_u64() >> 11) as f64) < p * (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;

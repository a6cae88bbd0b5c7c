//! Trajectories in memory, whatever file they came from.
//!
//! [`d4rl`] reads and writes the flat HDF5 layout of D4RL; [`minari`], [`robomimic`] and [`d3rlpy`] read those with an
//! episode in each folder, group or set of arrays, [`parquet`] the replay data of model hubs and loggers, [`lerobot`] the
//! demonstrations of robots, [`dopamine`] what agents of Atari left. All of them give episodes of [columns](mod@column): vectors, choices or pixels, as the file
//! has them. What an algorithm cannot learn from is its own to refuse, where `prepare` makes network inputs of the data.
//!
//! Only finished episodes are kept: a return-to-go needs the rewards up to the end, so the steps after the last end of
//! an episode would all be mislabelled.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

mod choices;
pub mod column;
pub mod d3rlpy;
pub mod d4rl;
mod dictionary;
pub mod dopamine;
pub mod environment;
mod error;
pub mod frames;
mod gather;
mod h5;
pub mod inspect;
pub mod known;
pub(crate) mod layout;
pub mod lerobot;
pub mod minari;
pub mod notes;
pub mod origin;
pub mod parquet;
pub(crate) mod prepare;
mod quiet_panic;
pub mod robomimic;
pub mod sampler;
pub mod select;
mod table;
pub mod transitions;

pub use column::Column;
use column::OtherKind;
use environment::SaidEnvironment;
pub use error::{DataError, Problem};
pub(crate) use select::best_episodes;

/// What a reader is told because files do not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Steps after which an episode is over where nothing in the file marks its end.
    pub max_episode_steps: Option<usize>,
    /// Leave episodes out that cannot be used, instead of refusing the file.
    pub skip_bad_episodes: bool,
    /// Entries of observations that are dictionaries, joined to one vector in this order; empty: they are refused.
    pub observation_keys: Vec<String>,
    /// Frames that make one observation where observations are images; 0: one, as 1.
    pub frame_stack: usize,
}

/// Finished episodes of one or more files, one row per transition.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Observations before each action, in the environment's units.
    pub observations: Column,
    /// Actions, in the environment's units.
    pub actions: Column,
    /// Reward of each transition, (len).
    pub rewards: Vec<f32>,
    /// The episodes, in order; together they cover every row.
    pub episodes: Vec<Episode>,
    /// Observations after the last action, of the episodes of which the file has it, in their order.
    pub last_observations: Column,
    /// Where the rows come from.
    pub sources: Vec<Source>,
}

/// Consecutive rows of one episode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Episode {
    /// Its rows.
    pub rows: Range<usize>,
    /// It ended in a terminal state (a fall, a goal), not at a time limit.
    pub terminated: bool,
    /// Row of [`Dataset::last_observations`] that tells what came after its last action, if the file does.
    pub last: Option<usize>,
    /// Which of the [`Dataset::sources`] it is from.
    pub source: usize,
}

/// One file of a [`Dataset`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// The file, or the Minari folder.
    pub path: PathBuf,
    /// SHA-256 of its bytes; of a Minari folder: of its `main_data.hdf5`; of several files: of their SHA-256s.
    pub sha256: [u8; 32],
    /// Environment it names, as `--env` takes it.
    pub env: Option<String>,
    /// What else it says of the environment.
    pub said_environment: Option<SaidEnvironment>,
    /// Agent it names.
    pub policy: Option<String>,
    /// Time between two steps, where the file names it.
    pub control_period_us: Option<u32>,
    /// It has no rewards: they are all 0.
    pub without_rewards: bool,
    /// Steps after the last end of an episode, which were left out.
    pub unfinished: usize,
    /// What is odd about it but does not keep anyone from using it, a sentence each.
    pub notes: Vec<String>,
}

/// Statistics of the observations over every row, each of length state_dim.
#[derive(Clone, Debug, PartialEq)]
pub struct StateStats {
    /// Mean.
    pub mean: Vec<f32>,
    /// Standard deviation (ddof 0) + 1e-6, so that a constant feature can be divided by it.
    pub std: Vec<f32>,
    /// Smallest value.
    pub low: Vec<f32>,
    /// Largest value.
    pub high: Vec<f32>,
}

impl Dataset {
    /// Reads `paths` one after the other, each in whatever format it is and only by what it says itself.
    ///
    /// # Errors
    /// [`DataError`] names the file, the field and what to do.
    ///
    /// # Panics
    /// If `paths` is empty.
    pub fn load(paths: &[impl AsRef<Path>]) -> Result<Self, DataError> {
        Self::load_as(paths, &Reading::default())
    }

    /// [`load`](Self::load) of files that do not say everything.
    ///
    /// # Errors
    /// [`DataError`] names the file, the field and what to do.
    ///
    /// # Panics
    /// If `paths` is empty.
    pub fn load_as(paths: &[impl AsRef<Path>], reading: &Reading) -> Result<Self, DataError> {
        let (first, rest) = paths.split_first().expect("at least one file");
        let mut all = layout::read(first.as_ref(), reading)?;
        for path in rest {
            all.append(layout::read(path.as_ref(), reading)?)?;
        }
        for column in [&mut all.observations, &mut all.last_observations] {
            if let Column::Image(frames) = column {
                frames.set_stack(std::cmp::max(reading.frame_stack, 1));
            }
        }
        Ok(all)
    }

    /// Numbers of an observation: the dimension of a vector, 1 for a choice.
    pub fn state_dim(&self) -> usize {
        self.observations.width()
    }

    /// Numbers of an action: the dimension of a vector, 1 for a choice.
    pub fn act_dim(&self) -> usize {
        self.actions.width()
    }

    /// Number of transitions.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Whether there is no transition; never true after [`load`](Self::load).
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }

    /// The environment every file that names one agrees on.
    pub fn env(&self) -> Option<&str> {
        let mut named = self
            .sources
            .iter()
            .filter_map(|source| source.env.as_deref());
        let first = named.next()?;
        named
            .all(|other| origin::same(other, first))
            .then_some(first)
    }

    /// Time between two steps, if a file names it and no other names another.
    pub fn control_period_us(&self) -> Option<u32> {
        let mut named = self.sources.iter().filter_map(|s| s.control_period_us);
        let first = named.next()?;
        named.all(|other| other == first).then_some(first)
    }

    /// Identifies the data: the SHA-256 of the file, or of the files' SHA-256s one after the other.
    pub fn sha256(&self) -> [u8; 32] {
        match self.sources.as_slice() {
            [only] => only.sha256,
            many => {
                let mut hash = Sha256::new();
                many.iter().for_each(|source| hash.update(source.sha256));
                hash.finalize().into()
            }
        }
    }

    /// Undiscounted return of each episode.
    pub fn returns(&self) -> Vec<f64> {
        let sum = |episode: &Episode| {
            self.rewards[episode.rows.clone()]
                .iter()
                .map(|&r| f64::from(r))
                .sum()
        };
        self.episodes.iter().map(sum).collect()
    }

    /// What to divide returns-to-go by so that they stay near ±1: the largest magnitude of an episode's return, to two
    /// digits; 1 if that is 0.
    pub fn return_scale(&self) -> f64 {
        let largest = self.returns().into_iter().map(f64::abs).fold(0.0, f64::max);
        match round(largest, power_of_ten(largest) / 10.0) {
            0.0 => 1.0,
            scale => scale,
        }
    }

    /// Undiscounted return-to-go R̂t = Σ_{t' ≥ t} r_t' of each row, within its episode; summed in f64.
    pub fn returns_to_go(&self) -> Vec<f32> {
        let mut returns = vec![0.0; self.len()];
        for episode in &self.episodes {
            let mut sum = 0.0;
            for row in episode.rows.clone().rev() {
                sum += f64::from(self.rewards[row]);
                returns[row] = sum as f32;
            }
        }
        returns
    }

    /// The pixels of an observation that is an image, (height, width, channels), with the frames before it that are stacked.
    ///
    /// # Panics
    /// If observations are no images, or there is no such row.
    pub fn image(&self, row: usize) -> Vec<f32> {
        let frames = self.observations.images().expect("images");
        let episode = self
            .episodes
            .partition_point(|episode| episode.rows.end <= row);
        let first = self.episodes[episode].rows.start;
        let stack = frames.stack();
        let back = (0..stack).rev();
        let shown: Vec<_> = back
            .map(|back| (row >= first + back).then(|| row - back))
            .collect();
        let mut pixels = vec![0; stack * frames.frame_len()];
        frames.gather(&shown, &mut pixels);
        let channels = frames.shape()[2] / stack;
        let places = frames.frame_len() / channels;
        let frame = |place: usize| {
            (0..stack).map(move |frame| frame * frames.frame_len() + place * channels)
        };
        let of_place = (0..places).flat_map(frame);
        of_place
            .flat_map(|at| &pixels[at..at + channels])
            .map(|&pixel| pixel.into())
            .collect()
    }

    /// Mean, standard deviation and range of each observation feature, computed in f64; none where observations are
    /// no vectors.
    pub fn state_stats(&self) -> Option<StateStats> {
        let (n, state_dim) = (self.len() as f64, self.state_dim());
        let observations = self.observations.vectors()?;
        let rows = || observations.chunks_exact(state_dim);
        let mut mean = vec![0.0; state_dim];
        let mut low = vec![f32::INFINITY; state_dim];
        let mut high = vec![f32::NEG_INFINITY; state_dim];
        for row in rows() {
            for (i, &x) in row.iter().enumerate() {
                mean[i] += f64::from(x);
                low[i] = if x < low[i] { x } else { low[i] };
                high[i] = if x > high[i] { x } else { high[i] };
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= n);
        let mut squares = vec![0.0; state_dim];
        for row in rows() {
            for (i, &x) in row.iter().enumerate() {
                squares[i] += (f64::from(x) - mean[i]).powi(2);
            }
        }
        Some(StateStats {
            mean: mean.into_iter().map(|x| x as f32).collect(),
            std: squares
                .into_iter()
                .map(|sum: f64| ((sum / n).sqrt() + 1e-6) as f32)
                .collect(),
            low,
            high,
        })
    }

    /// Appends the episodes of `other`.
    ///
    /// # Errors
    /// Its observations or actions are of another kind or size; the error names its first file.
    pub fn append(&mut self, other: Self) -> Result<(), DataError> {
        let first = self.sources[0].path.display().to_string();
        let offsets = (self.len(), self.last_observations.len(), self.sources.len());
        for (key, column, others) in [
            ("observations", &mut self.observations, other.observations),
            ("actions", &mut self.actions, other.actions),
            (
                "observations",
                &mut self.last_observations,
                other.last_observations,
            ),
        ] {
            join(key.into(), column, others, &first)
                .map_err(|problem| DataError::new(&other.sources[0].path, problem))?;
        }
        self.rewards.extend(other.rewards);
        self.episodes
            .extend(other.episodes.into_iter().map(|episode| Episode {
                rows: episode.rows.start + offsets.0..episode.rows.end + offsets.0,
                last: episode.last.map(|row| row + offsets.1),
                source: episode.source + offsets.2,
                ..episode
            }));
        self.sources.extend(other.sources);
        Ok(())
    }
}

/// Appends `others`, which are called `key`, to a column that began with `first`.
fn join(key: String, column: &mut Column, others: Column, first: &str) -> Result<(), Problem> {
    let (space, other) = (column.space(), others.space());
    let problem = match (space.bounds(), other.bounds()) {
        (Some(_), Some(_)) => Problem::OtherDimensions {
            key,
            got: other.len(),
            expected: space.len(),
            first: first.into(),
        },
        _ => Problem::OtherSpace {
            key,
            got: other.to_string(),
            expected: space.to_string(),
            first: first.into(),
        },
    };
    column.append(others).map_err(|OtherKind| problem)
}

/// What `read` makes of a file, with the file's hash. Hashing takes as long as reading: both at once, the file is in
/// memory only once.
fn hashed(
    path: &Path,
    read: impl FnOnce() -> Result<Dataset, Problem>,
) -> Result<Dataset, DataError> {
    let (sha256, data) = std::thread::scope(|scope| {
        let hash = scope.spawn(|| digest(path));
        let data = read();
        (hash.join().expect("`digest` does not panic"), data)
    });
    let sha256 = sha256.map_err(Problem::Unreadable);
    let data = sha256.and_then(|sha256| {
        let mut data = data?;
        data.sources[0].sha256 = sha256;
        Ok(data)
    });
    data.map_err(|problem| DataError::new(path, problem))
}

/// SHA-256 of a file.
fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Gymnasium's name of an environment as `--env` takes it: there, a bare name means MuJoCo's version 5. The path of a
/// description stays as it is.
fn environment_name(gymnasium: &str) -> String {
    match gymnasium.to_lowercase().as_str() {
        path if path.ends_with(".toml") => gymnasium.into(),
        // Already as `--env` takes it.
        _ if host_sim::plant::is_plant(gymnasium) => gymnasium.into(),
        "pendulum-v1" => "pendulum".into(),
        "cartpole-v1" => "cartpole".into(),
        other => other.strip_suffix("-v5").unwrap_or(other).into(),
    }
}

/// The largest power of ten that is not above `x`; 1 for 0.
fn power_of_ten(x: f64) -> f64 {
    if x > 0.0 {
        10f64.powi(x.log10().floor() as i32)
    } else {
        1.0
    }
}

/// The multiple of `step`, a power of ten, nearest to `x`.
fn round(x: f64, step: f64) -> f64 {
    let steps = (x / step).round();
    // Dividing by a whole number leaves no digits behind that multiplying by a fraction would.
    if step < 1.0 {
        steps / (1.0 / step).round()
    } else {
        steps * step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Dataset {
        let source = |name: &str, byte| Source {
            path: name.into(),
            sha256: [byte; 32],
            ..Source::default()
        };
        let mut data = Dataset {
            observations: Column::unbounded(2, vec![1.0, 5.0, 2.0, 5.0, 3.0, 5.0]),
            actions: Column::unbounded(1, vec![0.0; 3]),
            rewards: vec![1.0, 2.0, 4.0],
            episodes: vec![
                Episode {
                    rows: 0..2,
                    ..Episode::default()
                },
                Episode {
                    rows: 2..3,
                    terminated: true,
                    last: Some(0),
                    source: 0,
                },
            ],
            last_observations: Column::unbounded(2, vec![4.0, 5.0]),
            sources: vec![source("a", 1)],
        };
        data.append(Dataset {
            sources: vec![source("b", 2)],
            ..data.clone()
        })
        .unwrap();
        data
    }

    #[test]
    fn the_return_scale_is_the_largest_return_to_two_digits() {
        for (reward, scale) in [
            (3213.0, 3200.0),
            (-1503.0, 1500.0),
            (0.8768, 0.88),
            (99.7, 100.0),
            (0.0, 1.0),
        ] {
            let mut data = small();
            data.rewards = vec![0.0; data.len()];
            data.rewards[2] = reward;
            assert_eq!(data.return_scale(), scale, "{reward}");
        }
    }

    #[test]
    fn returns_stay_within_episodes() {
        let data = small();
        assert_eq!(data.returns(), [3.0, 4.0, 3.0, 4.0]);
        assert_eq!(data.returns_to_go(), [3.0, 2.0, 4.0, 3.0, 2.0, 4.0]);
        assert_eq!(
            data.episodes[3],
            Episode {
                rows: 5..6,
                terminated: true,
                last: Some(1),
                source: 1,
            }
        );
    }

    #[test]
    fn a_constant_feature_has_a_small_but_positive_deviation() {
        let stats = small().state_stats().unwrap();
        assert_eq!(stats.mean, [2.0, 5.0]);
        assert_eq!(stats.std, [((2.0f64 / 3.0).sqrt() + 1e-6) as f32, 1e-6]);
        assert_eq!((stats.low, stats.high), (vec![1.0, 5.0], vec![3.0, 5.0]));
    }

    #[test]
    fn several_files_have_one_hash() {
        let data = small();
        let expected: [u8; 32] = Sha256::digest([[1u8; 32], [2u8; 32]].concat()).into();
        assert_eq!(data.sha256(), expected);
    }

    #[test]
    fn environments_have_one_name() {
        let names = [
            "Pendulum-v1",
            "Hopper-v5",
            "hopper",
            "Hopper-v4",
            "My/Arm.toml",
        ];
        assert_eq!(
            names.map(environment_name),
            ["pendulum", "hopper", "hopper", "hopper-v4", "My/Arm.toml"]
        );
    }

    #[test]
    fn the_environment_is_known_only_if_the_files_agree() {
        let mut data = small();
        assert_eq!(data.env(), None);
        data.sources[1].env = Some("hopper".into());
        assert_eq!(data.env(), Some("hopper"));
        data.sources[0].env = Some("pendulum".into());
        assert_eq!(data.env(), None);
    }
}

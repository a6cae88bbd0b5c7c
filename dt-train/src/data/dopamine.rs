//! Replay logs of Dopamine's agents (Castro et al. 2018), such as those of Atari that DQN left (Agarwal et al. 2020).
//!
//! A log is four files with the same number N, gzipped arrays of NumPy with a row per step:
//!
//! | file | shape | type | |
//! |---|---|---|---|
//! | `$store$_observation_ckpt.N.gz` | (rows, height, width) | u8 | the newest frame before the action |
//! | `$store$_action_ckpt.N.gz` | (rows) | i32 | |
//! | `$store$_reward_ckpt.N.gz` | (rows) | f32 | clipped to −1…1 by the agent |
//! | `$store$_terminal_ckpt.N.gz` | (rows) | u8 | the step ended the game |
//!
//! Before an episode's first frame stand rows of zeros, one less than the frames that the agent stacked, of which it made
//! its first observations; they are no steps and left out, since frames before the first are zeros anyway where they are
//! stacked. A log begins where the one before it ended, in the middle of an episode, which is left out: nothing tells its
//! timesteps. Time limits are marked nowhere: what follows one counts as the same episode.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::frames::Frames;
use super::h5::{choices, finite_numbers};
use super::layout::sorted_entries;
use super::{Column, DataError, Dataset, Episode, Problem, Reading, Source, digest};

const LAYOUT: &str = "a log of Dopamine's";

/// What the names begin with, up to the array's.
const STORE: &str = "$store$_";

/// Between the array's name and the number.
const CHECKPOINT: &str = "_ckpt.";

/// Rows of zeros before an episode's first, at most: all known agents stack four frames.
const PADDING: usize = 3;

/// Pixels of a frame: more than any agent looks at.
const LARGEST_FRAME: usize = 1 << 24;

/// The number of a log, if the file is one of the four of one.
pub fn number(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let (_, number) = name
        .strip_prefix(STORE)?
        .strip_suffix(".gz")?
        .split_once(CHECKPOINT)?;
    number.parse().ok()
}

/// The numbers of the logs in a folder, ascending.
pub fn numbers(folder: &Path) -> Vec<u32> {
    let entries = sorted_entries(folder);
    let observations = entries
        .iter()
        .filter(|path| **path == file(folder, "observation", number(path).unwrap_or(0)));
    let mut numbers: Vec<u32> = observations.filter_map(|path| number(path)).collect();
    numbers.sort_unstable();
    numbers
}

fn file(folder: &Path, array: &str, number: u32) -> PathBuf {
    folder.join(format!("{STORE}{array}{CHECKPOINT}{number}.gz"))
}

/// Reads the log of a file that is one of its four, or of a folder with one log in it.
///
/// # Errors
/// [`DataError`] names the file, the field and what to do; see [`Problem`].
pub fn read(path: &Path, reading: &Reading) -> Result<Dataset, DataError> {
    let (folder, number) = match number(path) {
        Some(number) if !path.is_dir() => (path.parent().unwrap_or(Path::new("")), number),
        _ => match numbers(path)[..] {
            [number] => (path, number),
            ref several => {
                let first = file(path, "observation", several.first().copied().unwrap_or(0));
                let logs = several.iter().map(ToString::to_string).collect::<Vec<_>>();
                return Err(DataError::new(
                    path,
                    Problem::SeveralLogs {
                        logs: logs.join(", "),
                        first,
                    },
                ));
            }
        },
    };
    let of = |array: &str| file(folder, array, number);
    let mut sha256 = Sha256::new();
    for array in ["observation", "action", "reward", "terminal"] {
        let path = of(array);
        let missing = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => DataError::new(
                &path,
                Problem::Missing {
                    key: array.into(),
                    layout: LAYOUT,
                    needs: "all four files of a number in one folder: observation, action, reward and terminal",
                },
            ),
            _ => DataError::new(&path, Problem::Unreadable(error)),
        };
        sha256.update(digest(&path).map_err(missing)?);
    }
    let about = |array: &str| {
        let path = file(folder, array, number);
        move |problem| DataError::new(&path, problem)
    };
    let column = |array, kinds: &[&'static str]| -> Result<Vec<f64>, DataError> {
        let open = || -> Result<_, Problem> {
            let mut file = Array::open(&of(array), array)?;
            file.require(kinds, 1)?;
            file.numbers()
        };
        open().map_err(about(array))
    };
    let actions = column("action", &["<i4", "<i8", "|u1"])?;
    let rewards = column("reward", &["<f4", "<f8"])?;
    let terminals = column("terminal", &["|u1", "|b1"])?;
    let mut observations =
        Array::open(&of("observation"), "observation").map_err(about("observation"))?;
    observations
        .require(&["|u1"], 3)
        .map_err(about("observation"))?;
    let rows = observations.shape[0];
    for (array, len) in [
        ("action", actions.len()),
        ("reward", rewards.len()),
        ("terminal", terminals.len()),
    ] {
        if len != rows {
            return Err(about(array)(Problem::Length {
                key: array.into(),
                rows: len,
                other: "observation".into(),
                other_rows: rows,
                rule: "every array needs one row per step",
            }));
        }
    }
    let actions: Vec<i64> = actions.iter().map(|&action| action as i64).collect();
    let Column::Discrete {
        values: actions, ..
    } = choices("action".into(), &actions).map_err(about("action"))?
    else {
        unreachable!("`choices` gives choices")
    };
    let rewards: Vec<f32> = rewards.iter().map(|&reward| reward as f32).collect();
    finite_numbers("reward".into(), &rewards, 1).map_err(about("reward"))?;

    let log = Log {
        actions: &actions,
        rewards: &rewards,
        terminals: &terminals,
    };
    let mut data = log
        .episodes(&mut observations)
        .map_err(about("observation"))?;
    let source = &mut data.sources[0];
    source.path = path.into();
    source.sha256 = sha256.finalize().into();
    if reading.frame_stack <= 1 {
        source.notes.push("each row is one frame, of which the agent saw several: --frame-stack 4 is what Dopamine's do".into());
    }
    Ok(data)
}

/// Everything but the frames, a value per row.
struct Log<'a> {
    actions: &'a [u32],
    rewards: &'a [f32],
    terminals: &'a [f64],
}

impl Log<'_> {
    /// The finished episodes that begin in it, with the frames of their steps.
    fn episodes(&self, observations: &mut Array) -> Result<Dataset, Problem> {
        let &[rows, height, width] = &observations.shape[..] else {
            unreachable!("its rank was checked")
        };
        let mut frames = Frames::new([height, width, 1]);
        let mut frame = vec![0; height * width];
        let (mut actions, mut rewards, mut episodes) = (Vec::new(), Vec::new(), Vec::new());
        // Rows of zeros so far where an episode may begin; none: inside one.
        let mut padding = Some(0);
        // The log begins inside an episode unless rows of zeros say otherwise.
        let mut is_whole = false;
        let mut start = 0;
        let mut left_out = 0;
        for row in 0..rows {
            observations.read(&mut frame)?;
            let ends = self.terminals[row] != 0.0;
            let is_zero = self.actions[row] == 0
                && self.rewards[row] == 0.0
                && !ends
                && frame.iter().all(|&pixel| pixel == 0);
            match &mut padding {
                Some(n) if *n < PADDING && is_zero => {
                    *n += 1;
                    is_whole = true;
                    continue;
                }
                _ => padding = None,
            }
            if is_whole {
                frames.push(&frame);
                actions.push(self.actions[row]);
                rewards.push(self.rewards[row]);
            } else {
                left_out += 1;
            }
            if ends {
                if is_whole {
                    episodes.push(Episode {
                        rows: start..rewards.len(),
                        terminated: true,
                        ..Episode::default()
                    });
                }
                start = rewards.len();
                (padding, is_whole) = (Some(0), true);
            }
        }
        observations.finish()?;
        if episodes.is_empty() {
            return Err(Problem::NoEpisodeEnd {
                rows,
                flags: "`terminal`",
                set: "terminal",
            });
        }
        let unfinished = rewards.len() - start;
        frames.truncate(start);
        actions.truncate(start);
        rewards.truncate(start);
        let mut notes = Vec::new();
        if left_out > 0 {
            notes.push(format!(
                "the first {left_out} rows are left out: they are of an episode that began in the log before"
            ));
        }
        Ok(Dataset {
            last_observations: Column::Image(frames.emptied()),
            observations: Column::Image(frames),
            actions: Column::choices(actions),
            rewards,
            episodes,
            sources: vec![Source {
                unfinished,
                notes,
                ..Source::default()
            }],
        })
    }
}

/// One array, unpacked as it is read: a million frames are 7 GB.
///
/// NumPy's format (numpy.lib.format): the magic, two bytes of version, the length of a header in two or, from version 2,
/// four bytes, and the header, a Python dictionary with `descr`, `fortran_order` and `shape`; then the values.
struct Array {
    name: &'static str,
    descr: String,
    shape: Vec<usize>,
    values: Box<dyn Read>,
}

impl Array {
    fn open(path: &Path, name: &'static str) -> Result<Self, Problem> {
        let file = File::open(path).map_err(Problem::Unreadable)?;
        let mut values = GzDecoder::new(BufReader::with_capacity(1 << 16, file));
        let damaged = |detail: &str| Problem::Damaged {
            what: format!("`{name}`"),
            detail: detail.into(),
        };
        let mut take = |n: usize| -> Result<Vec<u8>, Problem> {
            let mut bytes = vec![0; n];
            values
                .read_exact(&mut bytes)
                .map_err(|error| damaged(&error.to_string()))?;
            Ok(bytes)
        };
        let start = take(8)?;
        if start[..6] != *b"\x93NUMPY" {
            return Err(damaged("it is no gzipped array of NumPy"));
        }
        let len = match start[6] {
            1 => take(2)?
                .iter()
                .rev()
                .fold(0, |len, &byte| 256 * len + usize::from(byte)),
            _ => take(4)?
                .iter()
                .rev()
                .fold(0, |len, &byte| 256 * len + usize::from(byte)),
        };
        // No header is that long; a damaged one may say so.
        if len > 1 << 16 {
            return Err(damaged("its header is too long"));
        }
        let header = String::from_utf8_lossy(&take(len)?).into_owned();
        let after = |key: &str| Some(header.split_once(&format!("'{key}':"))?.1.trim_start());
        let parsed = || {
            let descr = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0;
            let shape = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
            let sizes = shape
                .split(',')
                .map(str::trim)
                .filter(|size| !size.is_empty());
            let shape = sizes
                .map(|size| size.parse().ok())
                .collect::<Option<Vec<usize>>>()?;
            Some((descr.to_owned(), shape))
        };
        let (descr, shape) = parsed().ok_or_else(|| damaged("its header is none of NumPy's"))?;
        if after("fortran_order").is_some_and(|order| order.starts_with("True")) {
            return Err(damaged(
                "its columns come one after the other; save it in C order",
            ));
        }
        Ok(Self {
            name,
            descr,
            shape,
            values: Box::new(values),
        })
    }

    /// Refuses other types and ranks, and arrays without a value.
    fn require(&self, kinds: &[&'static str], rank: usize) -> Result<(), Problem> {
        let key = self.name.to_owned();
        let shape = self.shape.clone();
        if !kinds.contains(&self.descr.as_str()) {
            let needs = match rank {
                1 => "the type that Dopamine writes: i4 actions, f4 rewards, u1 terminals",
                _ => "8-bit pixels, u1",
            };
            return Err(Problem::Type {
                key,
                found: self.descr.clone(),
                needs,
            });
        }
        if self.shape.len() != rank {
            let needs = if rank == 1 {
                "(rows)"
            } else {
                "(rows, height, width)"
            };
            return Err(Problem::Rank { key, shape, needs });
        }
        if self.shape.contains(&0) {
            return Err(Problem::Empty { key, shape });
        }
        let row = self.shape[1..]
            .iter()
            .try_fold(1_usize, |row, &side| row.checked_mul(side));
        if row.is_none_or(|row| row > LARGEST_FRAME) {
            return Err(Problem::Damaged {
                what: format!("`{key}`"),
                detail: format!("its shape is {shape:?}"),
            });
        }
        Ok(())
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), Problem> {
        self.values
            .read_exact(out)
            .map_err(|error| Problem::Damaged {
                what: format!("`{}`", self.name),
                detail: error.to_string(),
            })
    }

    /// Refuses what comes after the values, and what the checksum at the end says is damaged.
    fn finish(&mut self) -> Result<(), Problem> {
        let damaged = |detail: String| Problem::Damaged {
            what: format!("`{}`", self.name),
            detail,
        };
        match self.values.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(damaged("it is longer than its shape says".into())),
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    /// All values; each of these types fits.
    fn numbers(&mut self) -> Result<Vec<f64>, Problem> {
        let size = self.descr[2..].parse().unwrap_or(1);
        // A damaged shape may say anything: memory is taken for what arrives.
        let len = self.shape[0].saturating_mul(size);
        let mut bytes = Vec::new();
        let read = { &mut self.values }
            .take(len as u64)
            .read_to_end(&mut bytes);
        let detail = match read {
            Ok(read) if read == len => None,
            Ok(_) => Some("it ends before its shape says".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(detail) = detail {
            let what = format!("`{}`", self.name);
            return Err(Problem::Damaged { what, detail });
        }
        self.finish()?;
        let values = bytes.chunks_exact(size);
        Ok(match self.descr.as_str() {
            "<i4" => values
                .map(|x| f64::from(i32::from_le_bytes(x.try_into().expect("4 bytes"))))
                .collect(),
            "<i8" => values
                .map(|x| i64::from_le_bytes(x.try_into().expect("8 bytes")) as f64)
                .collect(),
            "<f4" => values
                .map(|x| f64::from(f32::from_le_bytes(x.try_into().expect("4 bytes"))))
                .collect(),
            "<f8" => values
                .map(|x| f64::from_le_bytes(x.try_into().expect("8 bytes")))
                .collect(),
            _ => bytes.iter().map(|&x| f64::from(x)).collect(),
        })
    }
}

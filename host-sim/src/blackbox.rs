//! Black boxes of controllers (`dt_device::blackbox`), lived through again by the policy that was there.
//!
//! [`BlackBox`] is the file in the order of time, [`replay()`] compares it with a policy file, step by step; `chart`
//! (feature `draw`) draws it, `log` (feature `hdf5`) makes training data of it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use dt_control::Mode;
use dt_core::blob::RewardMode;
use dt_core::policy::{ActError, Policy};
use dt_device::blackbox::{Entry, Identity, Log, LogError};
use serde::Serialize;

use crate::policy_file::PolicyFile;

#[cfg(feature = "draw")]
pub mod chart;
#[cfg(feature = "hdf5")]
pub mod log;

/// Why a black box cannot be read or replayed.
#[derive(Debug, thiserror::Error)]
pub enum BlackBoxError {
    /// The file cannot be read.
    #[error("cannot read black box {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// It is something else, or damaged.
    #[error("{path}: {error}")]
    Log {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: LogError,
    },
    /// Another policy was on the controller.
    #[error(
        "the policy's {field} is {policy}, that of the policy on the controller was {recorded}; give the file that was on it"
    )]
    OtherPolicy {
        /// In what they differ.
        field: &'static str,
        /// The file's.
        policy: String,
        /// The controller's.
        recorded: String,
    },
}

/// A black box in memory, in the order of time.
#[derive(Clone, Debug)]
pub struct BlackBox<'b> {
    identity: Identity,
    entries: Vec<Entry<'b>>,
}

impl<'b> BlackBox<'b> {
    /// Reads `bytes`, which came from `path`.
    ///
    /// # Errors
    /// [`BlackBoxError::Log`].
    pub fn new(path: &Path, bytes: &'b [u8]) -> Result<Self, BlackBoxError> {
        let log = Log::parse(bytes).map_err(|error| BlackBoxError::Log {
            path: path.into(),
            error,
        })?;
        let mut entries: Vec<_> = log.iter().collect();
        entries.sort_by_key(|entry| entry.sequence);
        Ok(Self {
            identity: *log.identity(),
            entries,
        })
    }

    /// What it is the memory of.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// All records, oldest first.
    pub fn entries(&self) -> &[Entry<'b>] {
        &self.entries
    }

    /// Places in [`entries`](Self::entries) of steps that follow each other without a gap: episodes, or what the ring has of
    /// them.
    pub fn pieces(&self) -> Vec<Range<usize>> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        for (place, entry) in self.entries.iter().enumerate() {
            let Some(timestep) = entry.timestep else {
                continue;
            };
            let follows = |piece: &Range<usize>| {
                let before = &self.entries[piece.end - 1];
                let next = |number: u32| number.checked_add(1);
                next(before.sequence) == Some(entry.sequence)
                    && before.timestep.and_then(next) == Some(timestep)
            };
            match pieces.last_mut() {
                Some(piece) if follows(piece) => piece.end = place + 1,
                _ => pieces.push(place..place + 1),
            }
        }
        pieces
    }

    /// The first record of each fault: its place and the fault.
    pub fn faults(&self) -> Vec<(usize, String)> {
        let mut faults = Vec::new();
        let mut last = None;
        for (place, entry) in self.entries.iter().enumerate() {
            let fault = match entry.mode {
                Ok(Mode::Faulted(fault)) => Some(fault.to_string()),
                Ok(_) => None,
                Err(bytes) => Some(format!("unknown to this program: mode {bytes:?}")),
            };
            if let Some(text) = fault.as_ref().filter(|_| fault != last) {
                faults.push((place, text.clone()));
            }
            last = fault;
        }
        faults
    }

    /// Whether `policy` is the file that was on the controller.
    ///
    /// # Errors
    /// [`BlackBoxError::OtherPolicy`].
    pub fn check_policy(&self, policy: &PolicyFile) -> Result<(), BlackBoxError> {
        let config = policy.blob().manifest().config;
        let hex = |crc: u32| format!("{crc:08x}");
        let is = self.identity;
        let fields = [
            ("CRC", hex(policy.crc()), hex(is.policy_crc)),
            (
                "length",
                policy.bytes().len().to_string(),
                is.policy_len.to_string(),
            ),
            (
                "state_dim",
                config.state_dim.to_string(),
                is.state_dim.to_string(),
            ),
            (
                "length of an action",
                config.action_len().to_string(),
                is.action_len.to_string(),
            ),
        ];
        match fields
            .into_iter()
            .find(|(_, policy, recorded)| policy != recorded)
        {
            None => Ok(()),
            Some((field, policy, recorded)) => Err(BlackBoxError::OtherPolicy {
                field,
                policy,
                recorded,
            }),
        }
    }
}

/// Whether a step has the bits that the policy file gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them, of the action and of the return-to-go that it followed from.
    Equal,
    /// Not all.
    Differs {
        /// How many differ; all of the action's, where the policy refuses the step.
        bits: u32,
    },
    /// Nobody can tell: the episode had begun before the oldest record of it, and later than the policy's receptive field
    /// from here.
    Undecidable,
}

/// A step of a black box and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Its place in [`BlackBox::entries`].
    pub place: usize,
    /// Number of its record.
    pub sequence: u32,
    /// Its timestep in the episode.
    pub timestep: u32,
    /// Whether the bits are those.
    pub verdict: Verdict,
}

/// Lets the policy take every step once more, with what it was told, and compares.
///
/// # Errors
/// [`BlackBoxError::OtherPolicy`].
pub fn replay(log: &BlackBox<'_>, file: &PolicyFile) -> Result<Vec<Replayed>, BlackBoxError> {
    log.check_policy(file)?;
    let blob = file.blob();
    let words = blob.manifest().config.arena_words();
    let mut policy = Policy::new(&blob, vec![0; words]).expect("as much memory as it asks for");
    let mut replayed = Vec::new();
    for piece in log.pieces() {
        let mut again = Again {
            policy: &mut policy,
            known: None,
        };
        for place in piece {
            let entry = &log.entries[place];
            replayed.push(Replayed {
                place,
                sequence: entry.sequence,
                timestep: entry.timestep.unwrap_or_default(),
                verdict: again.step(entry),
            });
        }
    }
    Ok(replayed)
}

/// An episode, or the end of one, on its way.
struct Again<'p, 'f> {
    policy: &'p mut Policy<'f, Vec<u32>>,
    /// Steps in a row that the policy has been told of; more than there are if it knows all since the episode's beginning.
    /// None: it has to start anew.
    known: Option<u32>,
}

impl Again<'_, '_> {
    fn step(&mut self, entry: &Entry<'_>) -> Verdict {
        let field = self.policy.config().receptive_field();
        let known = self.known.take();
        match self.act(entry, known) {
            Ok((known, _)) if known < field => {
                self.known = Some(known);
                Verdict::Undecidable
            }
            Ok((known, bits)) => {
                self.known = Some(known);
                match bits {
                    0 => Verdict::Equal,
                    bits => Verdict::Differs { bits },
                }
            }
            // What it refuses after another past need not be what it refused.
            Err(_)
                if known.is_none_or(|known| known.saturating_add(1) < field)
                    && entry.timestep != Some(0) =>
            {
                Verdict::Undecidable
            }
            Err(_) => Verdict::Differs {
                bits: 32 * self.policy.config().action_len(),
            },
        }
    }

    /// How many steps the policy knows then, and bits that differ.
    fn act(&mut self, entry: &Entry<'_>, known: Option<u32>) -> Result<(u32, u32), ActError> {
        let timestep = entry.timestep.unwrap_or_default();
        let known = match known {
            Some(known) => {
                if self.policy.reward_mode() == RewardMode::Observed {
                    let reward = entry.reward.ok_or(ActError::MissingReward)?;
                    self.policy.observe_reward(reward)?;
                }
                known.saturating_add(1)
            }
            None => {
                self.policy.set_seed(entry.seed);
                self.policy.reset_at(entry.return_to_go, timestep)?;
                if timestep == 0 { u32::MAX } else { 1 }
            }
        };
        // A host's word is not to be foreseen; all else is.
        let mut bits = match self.policy.reward_mode() {
            RewardMode::External => 0,
            _ => differing(self.policy.return_to_go(), entry.return_to_go),
        };
        self.policy.set_return_to_go(entry.return_to_go)?;
        let observation: Vec<f32> = entry.observation().collect();
        let action = self.policy.act(&observation)?;
        bits += action
            .iter()
            .zip(entry.commanded())
            .map(|(again, recorded)| differing(*again, recorded))
            .sum::<u32>();
        let applied: Vec<f32> = entry.applied().collect();
        self.policy.absorb(&applied)?;
        Ok((known, bits))
    }
}

fn differing(a: f32, b: f32) -> u32 {
    (a.to_bits() ^ b.to_bits()).count_ones()
}

/// What a black box tells, as `host-sim blackbox --json` writes it.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The black box.
    pub file: String,
    /// The policy file it was replayed with.
    pub policy: Option<String>,
    /// Records.
    pub records: usize,
    /// From the first to the last step, s.
    pub seconds: f64,
    /// Steps of the policy.
    pub steps: usize,
    /// Of these, how many have the bits of the policy file.
    pub equal: usize,
    /// How many have not.
    pub differing: usize,
    /// How many cannot be decided.
    pub undecidable: usize,
    /// Bits that differ.
    pub differing_bits: u64,
    /// Faults, in order.
    pub faults: Vec<Fault>,
    /// Steps, in order.
    pub replayed: Vec<StepSummary>,
}

/// A fault of a [`Summary`].
#[derive(Debug, Serialize)]
pub struct Fault {
    /// Number of its first record.
    pub sequence: u32,
    /// What it was.
    pub fault: String,
}

/// A step of a [`Summary`].
#[derive(Debug, Serialize)]
pub struct StepSummary {
    /// Number of its record.
    pub sequence: u32,
    /// Timestep in its episode.
    pub timestep: u32,
    /// `equal`, `differ` or `undecidable`; null without a policy file.
    pub bits: Option<&'static str>,
    /// How many differ.
    pub differing_bits: u32,
}

impl Summary {
    /// Of a box from `file`, and what came of replaying it with the policy of that name.
    pub fn new(file: &str, log: &BlackBox<'_>, replay: Option<(&str, &[Replayed])>) -> Self {
        let of = |verdicts: fn(&Verdict) -> bool| {
            let replayed = replay.map_or(&[][..], |(_, replayed)| replayed);
            replayed
                .iter()
                .filter(|step| verdicts(&step.verdict))
                .count()
        };
        let verdict = |place: usize| {
            let (_, replayed) = replay?;
            replayed
                .iter()
                .find(|step| step.place == place)
                .map(|step| step.verdict)
        };
        let entries = log.entries();
        let taken: Vec<usize> = log.pieces().into_iter().flatten().collect();
        let replayed: Vec<StepSummary> = taken
            .iter()
            .map(|&place| {
                let (bits, differing_bits) = match verdict(place) {
                    None => (None, 0),
                    Some(Verdict::Equal) => (Some("equal"), 0),
                    Some(Verdict::Differs { bits }) => (Some("differ"), bits),
                    Some(Verdict::Undecidable) => (Some("undecidable"), 0),
                };
                StepSummary {
                    sequence: entries[place].sequence,
                    timestep: entries[place].timestep.unwrap_or_default(),
                    bits,
                    differing_bits,
                }
            })
            .collect();
        Self {
            file: file.into(),
            policy: replay.map(|(policy, _)| policy.into()),
            records: entries.len(),
            seconds: seconds(log).last().copied().unwrap_or(0.0),
            steps: taken.len(),
            equal: of(|verdict| *verdict == Verdict::Equal),
            differing: of(|verdict| matches!(verdict, Verdict::Differs { .. })),
            undecidable: of(|verdict| *verdict == Verdict::Undecidable),
            differing_bits: replayed
                .iter()
                .map(|step| u64::from(step.differing_bits))
                .sum(),
            faults: log
                .faults()
                .into_iter()
                .map(|(place, fault)| Fault {
                    sequence: entries[place].sequence,
                    fault,
                })
                .collect(),
            replayed,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            records,
            steps,
            seconds,
            ..
        } = self;
        writeln!(
            f,
            "{file}: {records} records, {steps} steps of the policy, {seconds:.3} s"
        )?;
        for Fault { sequence, fault } in &self.faults {
            writeln!(f, "  record {sequence}: {fault}")?;
        }
        let Some(policy) = &self.policy else {
            return writeln!(f, "not replayed; give the policy file with --policy F.dtb");
        };
        writeln!(
            f,
            "replayed with {policy}: {} steps equal to the bit, {} differ, {} not decidable",
            self.equal, self.differing, self.undecidable
        )?;
        if self.undecidable > 0 {
            writeln!(
                f,
                "  not decidable: the ring does not reach back to the beginning of the episode, or by the policy's receptive field"
            )?;
        }
        let differing = self.replayed.iter().filter(|step| step.differing_bits > 0);
        for step in differing.take(10) {
            writeln!(
                f,
                "  record {}, timestep {}: {} differing bit(s)",
                step.sequence, step.timestep, step.differing_bits
            )?;
        }
        if self.differing > 10 {
            writeln!(f, "  and {} more; --json has all", self.differing - 10)?;
        }
        Ok(())
    }
}

/// When each record's tick was due, s since the first one. The clock's counts are known modulo 2³² alone, so a pause of more
/// than that, or a boot, is shown as one period.
pub fn seconds(log: &BlackBox<'_>) -> Vec<f64> {
    let Identity {
        period_us,
        clock_hz,
        ..
    } = *log.identity();
    let period = f64::from(period_us) / 1e6;
    let mut time = 0.0;
    let mut before: Option<&Entry<'_>> = None;
    log.entries()
        .iter()
        .map(|entry| {
            if let Some(before) = before {
                let follows = (before.sequence + 1, before.boot) == (entry.sequence, entry.boot);
                let counts = f64::from(entry.at.wrapping_sub(before.at));
                let running = follows && before.timestep.is_some() && clock_hz > 0;
                time += if running {
                    counts / f64::from(clock_hz)
                } else {
                    period
                };
            }
            before = Some(entry);
            time
        })
        .collect()
}

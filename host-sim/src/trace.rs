//! Recorded closed-loop episodes, for the controller to replay and compare bit by bit.
//!
//! `host-sim rollout F.dtb … --record FILE` writes such a file; [`Trace::parse`] reads it in
//! place, without allocation, from a buffer that starts at a multiple of 4 bytes.
//!
//! # Format, version 1
//!
//! Everything is little-endian and a multiple of 4 bytes; f32 values keep their bits.
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..8 | magic | `44 54 54 52 41 43 45 53` ("DTTRACES") |
//! | 8..12 | version | u32, 1 |
//! | 12..16 | crc | u32, CRC-32/ISO-HDLC of all bytes in 0..`length` except 12..16 |
//! | 16..20 | length | u32, bytes of the whole file |
//! | 20..24 | policy crc | u32, bytes 12..16 of the policy file that acted |
//! | 24..28 | state_dim | u32, 1..=65536 |
//! | 28..32 | act_dim | u32, 1..=65536 |
//! | 32..36 | episodes | u32 |
//! | 36..40 | name length | u32 |
//! | 40.. | name | environment, UTF-8, padded with zeros to a multiple of 4 |
//!
//! Then each episode, one after the other:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..8 | seed | u64, given to `Env::reset` |
//! | 8..12 | target_return | f32, raw units |
//! | 12..16 | steps | u32 |
//! | 16.. | records | steps × `[observation (state_dim), action (act_dim), reward]`, f32 |
//!
//! `length` is the end of the last episode; bytes after it are ignored.

use core::ops::Range;

const _: () = assert!(
    cfg!(target_endian = "little"),
    "traces are used in place, so the target must be little-endian"
);

const MAGIC: &[u8; 8] = b"DTTRACES";
const VERSION: u32 = 1;
const MAX_DIM: u32 = 1 << 16;

/// Word (4 bytes) offsets in the header.
mod word {
    pub const VERSION: usize = 2;
    pub const CRC: usize = 3;
    pub const LENGTH: usize = 4;
    pub const POLICY_CRC: usize = 5;
    pub const STATE_DIM: usize = 6;
    pub const ACT_DIM: usize = 7;
    pub const EPISODES: usize = 8;
    pub const NAME_LEN: usize = 9;
    pub const NAME: usize = 10;
    /// Seed (2), target_return, steps.
    pub const EPISODE_HEADER: usize = 4;
}

/// A validated recording, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// Environment the episodes were run in.
    pub env: &'a str,
    /// CRC field of the policy file that acted.
    pub policy_crc: u32,
    /// Length of an observation.
    pub state_dim: usize,
    /// Length of an action.
    pub act_dim: usize,
    /// Episodes recorded.
    pub episodes: usize,
    body: &'a [u32],
}

/// One recorded episode.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Given to `Env::reset`.
    pub seed: u64,
    /// Given to the policy, raw units.
    pub target_return: f32,
    state_dim: usize,
    act_dim: usize,
    records: &'a [f32],
}

/// One recorded control step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// What the policy saw (state_dim).
    pub observation: &'a [f32],
    /// What it did (act_dim).
    pub action: &'a [f32],
    /// What it earned.
    pub reward: f32,
}

/// Why bytes are not a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceError {
    /// The buffer does not start at a multiple of 4 bytes.
    Misaligned,
    /// The first 8 bytes are not "DTTRACES".
    Magic,
    /// A version this reader does not know.
    Version(u32),
    /// Fewer bytes than the header, or than the header announces.
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        have: usize,
    },
    /// The bytes changed since they were written.
    Crc {
        /// Stored.
        expected: u32,
        /// Computed.
        got: u32,
    },
    /// A header field or the length of an episode makes no sense.
    Field(&'static str),
}

impl core::fmt::Display for TraceError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Misaligned => f.write_str("the buffer must start at a multiple of 4 bytes"),
            Self::Magic => f.write_str("not a trace: it does not start with \"DTTRACES\""),
            Self::Version(version) => write!(
                f,
                "trace version {version}; this reader knows version {VERSION}"
            ),
            Self::Truncated { needed, have } => {
                write!(f, "the trace is cut off: {have} bytes of {needed}")
            }
            Self::Crc { expected, got } => write!(
                f,
                "the trace is damaged: CRC {got:08x}, expected {expected:08x}"
            ),
            Self::Field(field) => write!(f, "the trace's {field} is not valid"),
        }
    }
}

impl core::error::Error for TraceError {}

impl<'a> Trace<'a> {
    /// Reads and checks a recording. Every input gives a trace or one error; none panics.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TraceError> {
        if bytes.get(..8).is_some_and(|magic| magic != MAGIC) {
            return Err(TraceError::Magic);
        }
        let whole_words = bytes.len() - bytes.len() % 4;
        let words: &[u32] =
            bytemuck::try_cast_slice(&bytes[..whole_words]).map_err(|_| TraceError::Misaligned)?;
        let header = |index: usize| {
            words.get(index).copied().ok_or(TraceError::Truncated {
                needed: 4 * word::NAME,
                have: bytes.len(),
            })
        };
        let version = header(word::VERSION)?;
        if version != VERSION {
            return Err(TraceError::Version(version));
        }
        header(word::NAME_LEN)?;
        let length = header(word::LENGTH)? as usize;
        if !length.is_multiple_of(4) || length < 4 * word::NAME {
            return Err(TraceError::Field("length"));
        }
        let words = words.get(..length / 4).ok_or(TraceError::Truncated {
            needed: length,
            have: bytes.len(),
        })?;
        let (expected, got) = (header(word::CRC)?, checksum(&bytes[..length]));
        if expected != got {
            return Err(TraceError::Crc { expected, got });
        }

        let dim = |index, field| match header(index)? {
            dim @ 1..=MAX_DIM => Ok(dim as usize),
            _ => Err(TraceError::Field(field)),
        };
        let name = name_range(header(word::NAME_LEN)?)
            .filter(|name| name.end <= length)
            .ok_or(TraceError::Field("name length"))?;
        let padded_end = name.end.next_multiple_of(4);
        if bytes[name.end..padded_end].iter().any(|byte| *byte != 0) {
            return Err(TraceError::Field("name padding"));
        }
        let trace = Self {
            env: core::str::from_utf8(&bytes[name]).map_err(|_| TraceError::Field("name"))?,
            policy_crc: header(word::POLICY_CRC)?,
            state_dim: dim(word::STATE_DIM, "state_dim")?,
            act_dim: dim(word::ACT_DIM, "act_dim")?,
            episodes: header(word::EPISODES)? as usize,
            body: &words[padded_end / 4..],
        };
        trace.check_episodes()?;
        Ok(trace)
    }

    /// The episodes, in the order recorded.
    pub fn iter(&self) -> impl Iterator<Item = Recorded<'a>> + use<'a> {
        let (trace, mut rest) = (*self, self.body);
        (0..self.episodes).map_while(move |_| {
            let (episode, after) = trace.split_episode(rest)?;
            rest = after;
            Some(episode)
        })
    }

    fn check_episodes(&self) -> Result<(), TraceError> {
        let mut rest = self.body;
        for _ in 0..self.episodes {
            (_, rest) = self
                .split_episode(rest)
                .ok_or(TraceError::Field("number of steps or episodes"))?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(TraceError::Field("number of episodes"))
        }
    }

    fn split_episode(&self, words: &'a [u32]) -> Option<(Recorded<'a>, &'a [u32])> {
        let (header, rest) = words.split_first_chunk::<{ word::EPISODE_HEADER }>()?;
        let [seed_low, seed_high, target_return, steps] = *header;
        let record_len = self.state_dim + self.act_dim + 1;
        let records_len = usize::try_from(steps).ok()?.checked_mul(record_len)?;
        let (records, rest) = rest.split_at_checked(records_len)?;
        let episode = Recorded {
            seed: u64::from(seed_high) << 32 | u64::from(seed_low),
            target_return: f32::from_bits(target_return),
            state_dim: self.state_dim,
            act_dim: self.act_dim,
            records: bytemuck::cast_slice(records),
        };
        Some((episode, rest))
    }
}

impl<'a> Recorded<'a> {
    /// Steps recorded.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.records.len() / (self.state_dim + self.act_dim + 1)
    }

    /// The steps, in order.
    pub fn iter(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let (state_dim, act_dim) = (self.state_dim, self.act_dim);
        self.records
            .chunks_exact(state_dim + act_dim + 1)
            .map(move |record| {
                let (observation, rest) = record.split_at(state_dim);
                let (action, reward) = rest.split_at(act_dim);
                Record {
                    observation,
                    action,
                    reward: reward[0],
                }
            })
    }
}

fn name_range(name_len: u32) -> Option<Range<usize>> {
    let start = 4 * word::NAME;
    // Far below overflow even where usize has 32 bits.
    (name_len <= MAX_DIM).then(|| start..start + name_len as usize)
}

fn checksum(bytes: &[u8]) -> u32 {
    // Without a table: 1 KiB of flash matters more on the controller than speed.
    static CRC: crc::Crc<u32, crc::NoTable> =
        crc::Crc::<u32, crc::NoTable>::new(&crc::CRC_32_ISO_HDLC);
    let mut digest = CRC.digest();
    digest.update(&bytes[..4 * word::CRC]);
    digest.update(&bytes[4 * word::LENGTH..]);
    digest.finalize()
}

#[cfg(feature = "std")]
pub use emit::{Header, Tape, emit};

#[cfg(feature = "std")]
mod emit {
    use super::{MAGIC, MAX_DIM, TraceError, VERSION, checksum, word};
    use crate::rollout::{Recorder, Transition};

    /// What a file says of all its episodes.
    #[derive(Clone, Copy, Debug)]
    pub struct Header<'a> {
        /// Environment.
        pub env: &'a str,
        /// CRC field of the policy file that acted.
        pub policy_crc: u32,
        /// Length of an observation.
        pub state_dim: usize,
        /// Length of an action.
        pub act_dim: usize,
    }

    /// Records the steps of one episode for [`emit`].
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Tape {
        steps: u32,
        records: Vec<f32>,
    }

    impl Recorder for Tape {
        fn record(&mut self, transition: &Transition<'_>) {
            self.records.extend_from_slice(transition.observation);
            self.records.extend_from_slice(transition.action);
            self.records.push(transition.reward as f32);
            self.steps += 1;
        }
    }

    /// The file's bytes, from (seed, target return, steps) of each episode.
    ///
    /// # Errors
    /// [`TraceError::Field`] if a dimension, the name or the whole is too large for the format,
    /// or a tape was recorded with other dimensions.
    pub fn emit<'t>(
        header: &Header<'_>,
        episodes: impl IntoIterator<Item = (u64, f32, &'t Tape)>,
    ) -> Result<Vec<u8>, TraceError> {
        let at_most = |max: u32, value: usize, field| match u32::try_from(value) {
            Ok(value) if value <= max => Ok(value),
            _ => Err(TraceError::Field(field)),
        };
        let dim = |value, field| match at_most(MAX_DIM, value, field)? {
            0 => Err(TraceError::Field(field)),
            value => Ok(value),
        };
        let record_len = header.state_dim + header.act_dim + 1;
        let mut body = Vec::new();
        let mut count = 0usize;
        for (seed, target_return, tape) in episodes {
            if tape.records.len() != tape.steps as usize * record_len {
                return Err(TraceError::Field("number of values in a step"));
            }
            body.extend_from_slice(&seed.to_le_bytes());
            body.extend_from_slice(&target_return.to_le_bytes());
            body.extend_from_slice(&tape.steps.to_le_bytes());
            body.extend_from_slice(bytemuck::cast_slice(&tape.records));
            count += 1;
        }

        let mut name = header.env.as_bytes().to_vec();
        name.resize(name.len().next_multiple_of(4), 0);
        let length = 4 * word::NAME + name.len() + body.len();
        let fields = [
            VERSION,
            0, // The CRC, below.
            at_most(u32::MAX, length, "length")?,
            header.policy_crc,
            dim(header.state_dim, "state_dim")?,
            dim(header.act_dim, "act_dim")?,
            at_most(u32::MAX, count, "number of episodes")?,
            at_most(MAX_DIM, header.env.len(), "name length")?,
        ];
        let mut bytes = MAGIC.to_vec();
        for field in fields {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&name);
        bytes.extend_from_slice(&body);
        let crc = checksum(&bytes);
        bytes[4 * word::CRC..4 * word::LENGTH].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;

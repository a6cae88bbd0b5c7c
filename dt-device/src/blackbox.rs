//! The black box: the last seconds of a robot's life, for a host to live through again.
//!
//! A ring of records in memory that the caller provides. In a section of RAM that start-up code leaves alone
//! (`.uninit`) it is still there after a reset by watchdog, pin or software: nothing is believed but what its own CRC
//! confirms, so memory that holds garbage is an empty ring.
//!
//! # What is recorded
//! Every tick in which the policy took a step; after the last of them [`TAIL`] more ticks, so that one sees how the
//! safe action came about; then nothing until the next episode, so that a fault stays where it is while the robot waits
//! for help. And the first tick after every boot, which tells the cause of the reset.
//!
//! A step is recorded as the policy was told it, observation and return-to-go as bits, and the applied action beside the
//! policy's own. Whoever has the policy file can therefore repeat it to the bit, if the ring reaches far enough back: to
//! the beginning of the episode, or by the policy's receptive field from the step in question. [`records_for`] has room
//! for that, so that all of the last [`SECONDS`] can be repeated.
//!
//! # Layout
//! All numbers little-endian. The file that a host makes of it is the memory as it is: a header of 64 bytes,
//!
//! | offset | type | |
//! |---|---|---|
//! | 0 | 8 bytes | `DTBLKBOX` |
//! | 8 | u32 | version, 1 |
//! | 12 | u32 | S, state_dim |
//! | 16 | u32 | A, length of an action: act_dim, or 1 for the index of a choice |
//! | 20 | u32 | N, number of records |
//! | 24 | u32 | CRC field of the policy file |
//! | 28 | u32 | its length, bytes |
//! | 32 | u32 | control period, µs |
//! | 36 | u32 | counts of the clock per second |
//! | 40 | u32 | deadline, µs |
//! | 44 | 16 bytes | 0 |
//! | 60 | u32 | CRC-32/ISO-HDLC of the 60 bytes before |
//!
//! and N records of 52 + 4·(S + 2·A) bytes; that with sequence number n is the (n − 1) mod N-th.
//!
//! | offset | type | |
//! |---|---|---|
//! | 0 | u32 | sequence number, from 1 |
//! | 4 | u32 | timestep within the episode; 2³² − 1: the policy took no step |
//! | 8 | 4 bytes | [`Mode::to_bytes`] |
//! | 12 | u8 | bit 0: a reward came with the reading; bit 1: a return-to-go |
//! | 13 | u8 | ticks missed before this one, at most 255 |
//! | 14 | u8 | boots since the ring was empty, modulo 256 |
//! | 15 | u8 | cause of the last: 0 unknown, 1 power, 2 pin, 3 software, 4 watchdog, 5 brown-out |
//! | 16 | u64 | key of the episode's random numbers |
//! | 24 | f32 | return-to-go that the policy acted on, in the environment's units |
//! | 28 | f32 | reward that came with the reading: that of the action before |
//! | 32 | u32 | when the tick was due, in counts modulo 2³² |
//! | 36 | u32 | jitter, counts, as the next two at most 2³² − 1 |
//! | 40 | u32 | latency |
//! | 44 | u32 | busy |
//! | 48 | f32 × S | observation |
//! | | f32 × A | the policy's action |
//! | | f32 × A | what was applied |
//! | | u32 | CRC-32/ISO-HDLC of all before |

use dt_control::{Mode, Record, ResetCause};

/// First bytes of a black box.
pub const MAGIC: [u8; 8] = *b"DTBLKBOX";
/// Version of the layout.
pub const VERSION: u32 = 1;
/// Ticks that are recorded after the policy's last step.
pub const TAIL: u16 = 16;
/// What [`records_for`] has room for.
pub const SECONDS: u32 = 5;

const HEADER_LEN: usize = 64;
const NO_STEP: u32 = u32::MAX;
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Bytes of a black box with as many records.
pub const fn memory_len(state_dim: usize, action_len: usize, records: usize) -> usize {
    HEADER_LEN.saturating_add(records.saturating_mul(record_len(state_dim, action_len)))
}

/// Records for the last [`SECONDS`] before an end, all of which can be repeated: those before them within the receptive
/// field (`Config::receptive_field`) are there as well, and what follows the end.
pub const fn records_for(period_us: u32, receptive_field: u32) -> usize {
    let ticks = match (SECONDS * 1_000_000).checked_div(period_us) {
        Some(ticks) => ticks.saturating_add(1),
        None => 1,
    };
    ticks
        .saturating_add(receptive_field)
        .saturating_add(TAIL as u32) as usize
}

const fn record_len(state_dim: usize, action_len: usize) -> usize {
    let values = state_dim.saturating_add(action_len.saturating_mul(2));
    values.saturating_mul(4).saturating_add(52)
}

/// What a black box is the memory of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Identity {
    /// state_dim.
    pub state_dim: u32,
    /// act_dim, or 1 for the index of a choice.
    pub action_len: u32,
    /// CRC field of the policy file (`Blob`'s bytes 12 to 16).
    pub policy_crc: u32,
    /// Length of the policy file, bytes.
    pub policy_len: u32,
    /// Control period, µs.
    pub period_us: u32,
    /// Counts of the processor's clock per second.
    pub clock_hz: u32,
    /// From a tick until its action must be out, µs.
    pub deadline_us: u32,
}

/// The memory has no room for a single record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TooSmall {
    /// Bytes that one record needs, with the header.
    pub needed: usize,
    /// Bytes there are.
    pub have: usize,
}

impl core::fmt::Display for TooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { needed, have } = self;
        write!(
            f,
            "a black box needs {needed} bytes for its first record, but has {have}"
        )
    }
}

impl core::error::Error for TooSmall {}

/// The recorder.
#[derive(Debug)]
pub struct BlackBox<'m> {
    memory: &'m mut [u8],
    identity: Identity,
    records: usize,
    /// Sequence number of the next record.
    next: u32,
    boot: u8,
    cause: ResetCause,
    /// Records to be written although the policy takes no step.
    left: u16,
    /// What lies there is of another policy, and gives way to the first step of this one.
    foreign: bool,
}

impl<'m> BlackBox<'m> {
    /// Takes `memory` over, with what a controller has left there before its reset, for which `cause` is the reason. What
    /// was recorded of another policy is kept until this one takes its first step.
    ///
    /// # Errors
    /// [`TooSmall`].
    pub fn open(
        memory: &'m mut [u8],
        identity: Identity,
        cause: ResetCause,
    ) -> Result<Self, TooSmall> {
        let len = record_len(identity.state_dim as usize, identity.action_len as usize);
        let room = memory.len().saturating_sub(HEADER_LEN);
        let records = room.checked_div(len).unwrap_or(0);
        if records == 0 {
            return Err(TooSmall {
                needed: HEADER_LEN.saturating_add(len),
                have: memory.len(),
            });
        }
        let mut opened = Self {
            memory,
            identity,
            records,
            next: 1,
            boot: 0,
            cause,
            left: 1,
            foreign: false,
        };
        let left_there = Log::parse(opened.memory).ok().map(|log| {
            let newest = log.iter().max_by_key(|entry| entry.sequence);
            let foreign = log.identity != identity || log.records != records;
            (foreign, newest.map(|entry| (entry.sequence, entry.boot)))
        });
        match left_there {
            Some((foreign, newest)) => {
                opened.foreign = foreign;
                if let Some((sequence, boot)) = newest {
                    opened.next = sequence.saturating_add(1);
                    opened.boot = boot.wrapping_add(1);
                }
            }
            None => opened.clear(),
        }
        Ok(opened)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.memory.fill(0);
        self.next = 1;
        self.foreign = false;
        let identity = self.identity;
        let mut header = [0; HEADER_LEN];
        let mut writer = Writer(header.iter_mut());
        writer.put(&MAGIC);
        for field in [
            VERSION,
            identity.state_dim,
            identity.action_len,
            self.records as u32,
            identity.policy_crc,
            identity.policy_len,
            identity.period_us,
            identity.clock_hz,
            identity.deadline_us,
        ] {
            writer.put(&field.to_le_bytes());
        }
        seal(&mut header);
        // The last thing to be written: what a reset interrupts is no black box.
        Writer(self.memory.iter_mut()).put(&header);
    }

    /// Is told of every tick, by [`Robot::record`](dt_control::Robot::record).
    pub fn record(&mut self, record: &Record<'_>) {
        match record.step {
            Some(_) => {
                if self.foreign || self.next == u32::MAX {
                    self.clear();
                }
                self.left = TAIL;
            }
            None if self.left == 0 || self.foreign => return,
            None => self.left = self.left.saturating_sub(1),
        }
        self.write(record);
        self.next = self.next.saturating_add(1);
    }

    /// Whether there is nothing more to be recorded before the next episode.
    pub fn is_frozen(&self) -> bool {
        self.left == 0 || self.foreign
    }

    /// The memory as it is, which is what a host calls a black box file. What is recorded while somebody fetches it in parts
    /// makes him lose the records that change meanwhile, and no others.
    pub fn bytes(&self) -> &[u8] {
        self.memory
    }

    fn write(&mut self, record: &Record<'_>) {
        let Identity {
            state_dim,
            action_len,
            ..
        } = self.identity;
        let (state_dim, action_len) = (state_dim as usize, action_len as usize);
        let len = record_len(state_dim, action_len);
        let slot = slot(self.next, self.records);
        let start = HEADER_LEN.saturating_add(slot.saturating_mul(len));
        let Some(place) = self.memory.get_mut(start..start.saturating_add(len)) else {
            return;
        };
        let step = record.step;
        let mut writer = Writer(place.iter_mut());
        writer.put(&self.next.to_le_bytes());
        let timestep = step.map_or(NO_STEP, |step| step.timestep);
        writer.put(&timestep.to_le_bytes());
        writer.put(&record.mode.to_bytes());
        let reading = record.reading;
        writer.put(&[
            u8::from(reading.reward.is_some()) | u8::from(reading.return_to_go.is_some()) << 1,
            u8::try_from(record.missed).unwrap_or(u8::MAX),
            self.boot,
            cause_code(self.cause),
        ]);
        writer.put(&step.map_or(0, |step| step.seed).to_le_bytes());
        writer.put(&step.map_or(0.0, |step| step.return_to_go).to_le_bytes());
        writer.put(&reading.reward.unwrap_or(0.0).to_le_bytes());
        writer.put(&(record.at as u32).to_le_bytes());
        for span in [record.jitter, record.latency, record.busy] {
            writer.put(&u32::try_from(span).unwrap_or(u32::MAX).to_le_bytes());
        }
        writer.floats(record.observation, state_dim);
        writer.floats(step.map_or(&[], |step| step.action), action_len);
        writer.floats(record.action, action_len);
        seal(place);
    }
}

/// A black box to be read.
#[derive(Clone, Copy, Debug)]
pub struct Log<'b> {
    identity: Identity,
    records: usize,
    ring: &'b [u8],
}

/// Why bytes are no black box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LogError {
    /// They do not begin as one.
    NotABlackBox,
    /// They are of another version.
    Version {
        /// Which one.
        found: u32,
    },
    /// The header is damaged.
    Header,
    /// They end too early.
    TooShort {
        /// Bytes that the header announces.
        needed: usize,
        /// Bytes there are.
        have: usize,
    },
}

impl core::fmt::Display for LogError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotABlackBox => f.write_str("not a black box"),
            Self::Version { found } => write!(
                f,
                "a black box of version {found}, where this program reads version {VERSION}"
            ),
            Self::Header => f.write_str("the header of the black box is damaged"),
            Self::TooShort { needed, have } => write!(
                f,
                "the black box ends after {have} of {needed} bytes; fetch all of it"
            ),
        }
    }
}

impl core::error::Error for LogError {}

impl<'b> Log<'b> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn parse(bytes: &'b [u8]) -> Result<Self, LogError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(LogError::NotABlackBox)?;
        let mut reader = Reader(rest);
        let version = reader.word();
        let header = bytes.get(..HEADER_LEN).ok_or(LogError::TooShort {
            needed: HEADER_LEN,
            have: bytes.len(),
        })?;
        if version != VERSION {
            return Err(LogError::Version { found: version });
        }
        if !is_sealed(header) {
            return Err(LogError::Header);
        }
        let [state_dim, action_len, records] = [(); 3].map(|()| reader.word());
        let identity = Identity {
            state_dim,
            action_len,
            policy_crc: reader.word(),
            policy_len: reader.word(),
            period_us: reader.word(),
            clock_hz: reader.word(),
            deadline_us: reader.word(),
        };
        let records = records as usize;
        let needed = memory_len(state_dim as usize, action_len as usize, records);
        let ring = bytes.get(HEADER_LEN..needed).ok_or(LogError::TooShort {
            needed,
            have: bytes.len(),
        })?;
        Ok(Self {
            identity,
            records,
            ring,
        })
    }

    /// What it is the memory of.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Records that there is room for.
    pub fn capacity(&self) -> usize {
        self.records
    }

    /// The records that are there and whole, in the order of their places; [`Entry::sequence`] is that of time.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'b>> + use<'b> {
        let Self {
            identity, records, ..
        } = *self;
        let (state_dim, action_len) = (identity.state_dim as usize, identity.action_len as usize);
        let places = self.ring.chunks_exact(record_len(state_dim, action_len));
        places.enumerate().filter_map(move |(place, bytes)| {
            let entry = Entry::read(bytes, state_dim, action_len)?;
            (slot(entry.sequence, records) == place).then_some(entry)
        })
    }
}

/// One tick, as it lies in a black box.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'b> {
    /// Number of the record, from 1.
    pub sequence: u32,
    /// Boots since the ring was empty, modulo 256.
    pub boot: u8,
    /// Why the last of them.
    pub cause: ResetCause,
    /// What the loop did; the bytes themselves if they are of a later version.
    pub mode: Result<Mode, [u8; 4]>,
    /// Timestep of the policy's step, if it took one.
    pub timestep: Option<u32>,
    /// Key of the episode's random numbers; of no meaning without a step.
    pub seed: u64,
    /// What the policy acted on; of no meaning without a step.
    pub return_to_go: f32,
    /// What came with the reading, for the action before.
    pub reward: Option<f32>,
    /// Whether a return-to-go came with the reading.
    pub told_return: bool,
    /// Ticks missed before this one, at most 255.
    pub missed: u8,
    /// When the tick was due, in counts modulo 2³².
    pub at: u32,
    /// Counts from the tick until the loop began.
    pub jitter: u32,
    /// Counts from the tick until the action was out.
    pub latency: u32,
    /// Counts from the tick until all was done.
    pub busy: u32,
    values: &'b [[u8; 4]],
    state_dim: usize,
    action_len: usize,
}

impl<'b> Entry<'b> {
    fn read(bytes: &'b [u8], state_dim: usize, action_len: usize) -> Option<Self> {
        let mut reader = Reader(bytes);
        let sequence = reader.word();
        if sequence == 0 || !is_sealed(bytes) {
            return None;
        }
        let timestep = reader.word();
        let mode = reader.take();
        let [flags, missed, boot, cause] = reader.take();
        let seed = u64::from_le_bytes(reader.take());
        let [return_to_go, reward] = [(); 2].map(|()| f32::from_le_bytes(reader.take()));
        let [at, jitter, latency, busy] = [(); 4].map(|()| reader.word());
        Some(Self {
            sequence,
            boot,
            cause: cause_of(cause),
            mode: Mode::from_bytes(mode).ok_or(mode),
            timestep: (timestep != NO_STEP).then_some(timestep),
            seed,
            return_to_go,
            reward: (flags & 1 != 0).then_some(reward),
            told_return: flags & 2 != 0,
            missed,
            at,
            jitter,
            latency,
            busy,
            values: reader.0.as_chunks().0,
            state_dim,
            action_len,
        })
    }

    /// What was sensed (state_dim); NaN if nothing was.
    pub fn observation(&self) -> impl Iterator<Item = f32> + use<'b> {
        self.floats(0, self.state_dim)
    }

    /// The policy's action (act_dim, or the index of a choice); zeros without a step.
    pub fn commanded(&self) -> impl Iterator<Item = f32> + use<'b> {
        self.floats(self.state_dim, self.action_len)
    }

    /// What was applied (act_dim, or the index of a choice).
    pub fn applied(&self) -> impl Iterator<Item = f32> + use<'b> {
        self.floats(
            self.state_dim.saturating_add(self.action_len),
            self.action_len,
        )
    }

    fn floats(&self, skip: usize, len: usize) -> impl Iterator<Item = f32> + use<'b> {
        let values = self.values.iter().skip(skip).take(len);
        values.map(|bytes| f32::from_le_bytes(*bytes))
    }
}

/// The place of a record.
fn slot(sequence: u32, records: usize) -> usize {
    (sequence.saturating_sub(1) as usize)
        .checked_rem(records)
        .unwrap_or(0)
}

fn cause_code(cause: ResetCause) -> u8 {
    match cause {
        ResetCause::PowerOn => 1,
        ResetCause::Pin => 2,
        ResetCause::Software => 3,
        ResetCause::Watchdog => 4,
        ResetCause::BrownOut => 5,
        _ => 0,
    }
}

fn cause_of(code: u8) -> ResetCause {
    match code {
        1 => ResetCause::PowerOn,
        2 => ResetCause::Pin,
        3 => ResetCause::Software,
        4 => ResetCause::Watchdog,
        5 => ResetCause::BrownOut,
        _ => ResetCause::Unknown,
    }
}

/// Ends a header or record with its CRC.
fn seal(bytes: &mut [u8]) {
    if let Some((content, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = CRC.checksum(content).to_le_bytes();
    }
}

fn is_sealed(bytes: &[u8]) -> bool {
    let sealed = bytes.split_last_chunk::<4>();
    sealed.is_some_and(|(content, crc)| CRC.checksum(content).to_le_bytes() == *crc)
}

/// Writes one thing after the other; what has no room is dropped.
struct Writer<'w>(core::slice::IterMut<'w, u8>);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        for (byte, place) in bytes.iter().zip(&mut self.0) {
            *place = *byte;
        }
    }

    /// Exactly `len` of them, zeros for those that are missing.
    fn floats(&mut self, values: &[f32], len: usize) {
        let zeros = core::iter::repeat(&0.0);
        for value in values.iter().chain(zeros).take(len) {
            self.put(&value.to_le_bytes());
        }
    }
}

/// Reads one thing after the other; zeros after the end.
struct Reader<'r>(&'r [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => [0; N],
        }
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests;

//! What the two ends say to each other. A message's number is its place in its enum: add at the end.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Most bytes of an upload or of the black box in one message.
pub const CHUNK: usize = 512;

/// From the host to the device. Each message gets one answer, [`ToHost::Done`] where there is nothing else to say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToDevice<'a> {
    /// Begins a session; whatever ran stops, and a fault stays. Answer: [`ToHost::Hello`].
    Hello,
    /// Asks what component `index` of an observation or action is. Answer: [`ToHost::Component`].
    Component {
        /// Of what.
        of: Side,
        /// From 0.
        index: u16,
    },
    /// Asks what the device does. Answer: [`ToHost::Status`].
    Status,
    /// Asks for the right to start, which comes when `warm_up` plausible observations have come in a row.
    Arm {
        /// The policy that the host means.
        policy: PolicyId,
        /// Length of an observation.
        state_dim: u16,
        /// Length of an action: 1 where the policy chooses.
        act_dim: u16,
        /// Fresh observations to see before; at least one.
        warm_up: u16,
        /// What a control tick is.
        pace: Pace,
    },
    /// Begins an episode with the next tick. Only when armed.
    Start {
        /// Return to aim for, in the environment's units.
        target_return: f32,
        /// Key of the episode's random numbers; without one, that of the policy file.
        seed: Option<u64>,
    },
    /// The safe action, and disarms.
    Stop,
    /// What the sensors say. These messages alone tell the device that its host is alive. Answer:
    /// [`ToHost::Action`], in lock step for each of them, else at every tick that is not idle.
    Observation {
        /// Counts them since the device was armed or started. In lock step the same number again asks for the same answer
        /// again.
        step: u32,
        /// How old the reading was when it was sent, in µs.
        age_us: u32,
        /// Reward of the last action, where it is measured.
        reward: Option<f32>,
        /// Return still wanted, where the host keeps count of it.
        return_to_go: Option<f32>,
        /// The observation (state_dim), in the environment's units.
        #[serde(borrow)]
        values: Values<'a>,
    },
    /// Begins to write a policy into the slot that does not run, or goes on with the same one. Answer:
    /// [`ToHost::Upload`] with the offset to go on from.
    UploadBegin {
        /// The policy file.
        policy: PolicyId,
        /// What a device that checks signatures asks for.
        #[serde(borrow)]
        seal: Option<Seal<'a>>,
    },
    /// The next bytes of it. Answer: [`ToHost::Upload`].
    UploadChunk {
        /// Where they belong.
        offset: u32,
        /// At most [`CHUNK`]; a multiple of 256, but for the last ones.
        #[serde(borrow)]
        data: Bytes<'a>,
    },
    /// All has been sent: to be checked, and to run after the next restart. Answer: [`ToHost::Done`].
    UploadFinish,
    /// Asks for a piece of the black box. Answer: [`ToHost::BlackBox`].
    BlackBox {
        /// Of its first byte.
        offset: u32,
    },
    /// Restarts the device, if nothing runs.
    Restart,
}

/// From the device to the host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToHost<'a> {
    /// Who is there.
    Hello(#[serde(borrow)] Hello<'a>),
    /// What a component is; name and unit are empty where the policy file does not say, or there is none of this index.
    Component {
        /// Of what.
        of: Side,
        /// From 0.
        index: u16,
        /// Its name.
        name: &'a str,
        /// Its unit.
        unit: &'a str,
    },
    /// What the device does.
    Status {
        /// Its mode.
        mode: Mode,
        /// Frames refused since boot.
        refused: u32,
        /// Frames missing between those received.
        lost: u32,
        /// Actions that were not out at the deadline.
        late: u32,
        /// Ticks that nobody served.
        missed: u32,
    },
    /// Done as asked.
    Done {
        /// Sequence number of the frame that asked.
        to: u16,
    },
    /// Not done, and why.
    Refusal {
        /// Sequence number of the frame that asked.
        to: u16,
        /// Why not.
        why: Refusal,
    },
    /// What the actuators are to do.
    Action {
        /// Of the observation that it follows from.
        step: u32,
        /// Of the control loop; unless it runs, this is the safe action.
        mode: Mode,
        /// From the tick until the action was out, in µs.
        latency_us: u32,
        /// From then until the deadline, in µs; 0 if it was late.
        slack_us: u32,
        /// The action (act_dim, or the index of a choice), in the environment's units.
        #[serde(borrow)]
        values: Values<'a>,
    },
    /// How far an upload has come.
    Upload {
        /// Offset of the next byte.
        next: u32,
    },
    /// A piece of the black box.
    BlackBox {
        /// Of its first byte.
        offset: u32,
        /// Bytes in all.
        total: u32,
        /// At most [`CHUNK`]; empty past the end.
        #[serde(borrow)]
        data: Bytes<'a>,
    },
}

/// Who is there: device and policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// Name of the board.
    pub board: &'a str,
    /// Version of its program.
    pub version: &'a str,
    /// The policy that would run.
    pub policy: PolicyId,
    /// Environment that it was trained in.
    pub env: &'a str,
    /// Length of an observation.
    pub state_dim: u16,
    /// Length of an action: 1 where the policy chooses.
    pub act_dim: u16,
    /// Number of choices; 0 where actions are vectors.
    pub choices: u16,
    /// Control period, in µs.
    pub period_us: u32,
    /// From the tick until an action must be out, in µs.
    pub deadline_us: u32,
    /// Oldest observation to act on when ticks come from the board's timer, in µs.
    pub stale_us: u32,
    /// Longest silence of the host while running, in µs.
    pub silence_us: u32,
    /// Whether observations must bring the reward of the last action.
    pub wants_reward: bool,
    /// Whether observations should bring the return-to-go.
    pub wants_return_to_go: bool,
    /// Return that the policy was made for.
    pub target_return: f32,
    /// What it does.
    pub mode: Mode,
    /// Why it last booted.
    pub cause: Cause,
}

/// Who made a policy, and that it is a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal<'a> {
    /// Grows with every policy; none that is older than the device's own is taken.
    pub sequence: u32,
    /// SHA-256 of the file (32 bytes).
    #[serde(borrow)]
    pub sha256: Bytes<'a>,
    /// Ed25519 (64 bytes).
    #[serde(borrow)]
    pub signature: Bytes<'a>,
}

/// Which policy: what tells two files apart, not what protects from forgery (that is a signature's work).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PolicyId {
    /// The CRC field of the file (BLOB.md).
    pub crc: u32,
    /// Length of the file, in bytes.
    pub len: u32,
}

impl core::fmt::Display for PolicyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:08x} ({} bytes)", self.crc, self.len)
    }
}

/// Observations or actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Side {
    /// What goes to the device.
    Observation,
    /// What comes from it.
    Action,
}

/// What a control tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Pace {
    /// The board's timer ticks; the newest observation is the reading, and its age counts.
    Timer,
    /// Every observation is a tick, and the deadline counts from its arrival: for simulated plants, which wait.
    Lockstep,
}

/// Why the device booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Cause {
    /// The board cannot tell.
    #[default]
    Unknown,
    /// Power came.
    PowerOn,
    /// The reset pin.
    Pin,
    /// The supply sagged.
    BrownOut,
    /// The watchdog was not fed.
    Watchdog,
    /// The program asked for it.
    Software,
}

/// What the control loop does, in the four bytes of `dt_control::Mode::to_bytes`: kind, fault, and two bytes of the fault's
/// index, little-endian. `LINK.md` has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mode(pub [u8; 4]);

/// Why the device did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refusal {
    /// The frame is sound, but not a message that this device knows.
    Unknown,
    /// The device has no part for that: no slots, no black box, no way to restart.
    Unsupported,
    /// The device has another policy.
    OtherPolicy {
        /// This one.
        has: PolicyId,
    },
    /// The policy has other dimensions.
    Dimensions {
        /// Length of its observations.
        state_dim: u16,
        /// Length of its actions.
        act_dim: u16,
    },
    /// The policy in the device has not passed its self-test.
    SelfTest,
    /// Too few fresh, plausible observations yet.
    WarmingUp {
        /// So many are still to come.
        left: u16,
    },
    /// No longer armed: an observation, or its absence, would have been this fault.
    Disarmed(Mode),
    /// A fault is latched; a stop acknowledges it.
    Faulted(Mode),
    /// Nothing starts that is not armed.
    NotArmed,
    /// Not while an episode runs: stop it first.
    Running,
    /// A target return that is NaN, infinite or too large for the policy.
    TargetReturn,
    /// An observation or action of another length.
    Length {
        /// Numbers wanted.
        expected: u16,
        /// Numbers found; 65,535 if they are no whole numbers of four bytes.
        got: u16,
    },
    /// In lock step, an observation out of order.
    Step {
        /// The next one.
        expected: u32,
    },
    /// The upload cannot go on.
    Upload(UploadRefusal),
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unknown => f.write_str("the device does not know this message"),
            Self::Unsupported => f.write_str("the device cannot do that"),
            Self::OtherPolicy { has } => write!(f, "the device has another policy, {has}"),
            Self::Dimensions { state_dim, act_dim } => write!(
                f,
                "the device's policy has observations of length {state_dim} and actions of length {act_dim}"
            ),
            Self::SelfTest => f.write_str("the device's policy has not passed its self-test"),
            Self::WarmingUp { left } => write!(f, "{left} more observations are needed first"),
            Self::Disarmed(_) => {
                f.write_str("the device is no longer armed: the last reading was not plausible")
            }
            Self::Faulted(_) => f.write_str("a fault is latched; acknowledge it by a stop"),
            Self::NotArmed => f.write_str("the device is not armed"),
            Self::Running => f.write_str("an episode runs; stop it first"),
            Self::TargetReturn => f.write_str("the target return is NaN, infinite or too large"),
            Self::Length { expected, got } => {
                write!(f, "{got} numbers instead of {expected}")
            }
            Self::Step { expected } => write!(f, "observation {expected} is the next one"),
            Self::Upload(refusal) => refusal.fmt(f),
        }
    }
}

/// Why an upload cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum UploadRefusal {
    /// The policy does not fit a slot.
    TooLarge {
        /// Bytes that fit.
        max: u32,
    },
    /// None has begun.
    NotBegun,
    /// Bytes are missing before these.
    Offset {
        /// The next one.
        expected: u32,
    },
    /// More bytes than announced, or a piece that is no multiple of what flash writes.
    Length,
    /// What lies in flash is not what was announced.
    Crc,
    /// It is no policy that this device can run.
    NotAPolicy,
    /// It is not signed, or not with the device's key.
    Signature,
    /// It is older than the device's.
    Older,
    /// Flash failed.
    Flash,
    /// The running policy is new and has not proved itself yet, and the other slot has the one to fall back on.
    OnTrial,
    /// There is no slot but the one that runs.
    NoSlot,
    /// It is for another robot.
    Unfit {
        /// Length of its observations.
        state_dim: u16,
        /// Length of its actions.
        act_dim: u16,
    },
}

impl core::fmt::Display for UploadRefusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLarge { max } => {
                write!(
                    f,
                    "the policy does not fit: a slot has room for {max} bytes"
                )
            }
            Self::NotBegun => f.write_str("no upload has begun"),
            Self::Offset { expected } => write!(f, "byte {expected} is the next one"),
            Self::Length => f.write_str("a piece of the wrong length"),
            Self::Crc => f.write_str("what arrived in flash is not what was announced"),
            Self::NotAPolicy => f.write_str("it is no policy that this device can run"),
            Self::Signature => f.write_str("it is not signed with the device's key"),
            Self::Older => f.write_str("it is older than the device's"),
            Self::Flash => f.write_str("the flash failed"),
            Self::OnTrial => f.write_str(
                "the running policy has not proved itself yet, and the other slot is what to fall back on: run it first",
            ),
            Self::NoSlot => f.write_str("there is no slot but the one that runs"),
            Self::Unfit { state_dim, act_dim } => write!(
                f,
                "it has observations of length {state_dim} and actions of length {act_dim}: it is for another robot"
            ),
        }
    }
}

/// Bytes, borrowed from the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;

        impl<'de> Visitor<'de> for Borrowed {
            type Value = Bytes<'de>;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_bytes(Borrowed)
    }
}

/// Numbers, borrowed: on the wire bytes with their number before them, four to a number, as IEEE 754's binary32,
/// little-endian. Equal if all bits are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values<'a>(#[serde(borrow)] Bytes<'a>);

impl<'a> Values<'a> {
    /// These numbers.
    pub fn new(values: &'a [f32]) -> Self {
        Self(Bytes(bytemuck::cast_slice(values)))
    }

    /// How many; `None` if the bytes are no whole numbers.
    pub fn len(&self) -> Option<usize> {
        let bytes = self.0.0.len();
        bytes.is_multiple_of(4).then_some(bytes / 4)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = f32> + use<'a> {
        let (values, _) = self.0.0.as_chunks::<4>();
        values.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    /// Writes them to `target`.
    ///
    /// # Errors
    /// [`Refusal::Length`] if there are not just as many as it holds; nothing is written then.
    pub fn copy_to(&self, target: &mut [f32]) -> Result<(), Refusal> {
        let short = |len| u16::try_from(len).unwrap_or(u16::MAX);
        if self.len() != Some(target.len()) {
            return Err(Refusal::Length {
                expected: short(target.len()),
                got: short(self.len().unwrap_or(usize::MAX)),
            });
        }
        for (target, value) in target.iter_mut().zip(self.iter()) {
            *target = value;
        }
        Ok(())
    }
}

//! What the loop does, and what it refuses to do.

use dt_core::guard::Fault;
use dt_core::policy::ActError;

/// What the loop does. Only in [`Running`](Self::Running) is anything but the safe action out.
///
/// ```text
///                                         Stop; Halt, or a reading that is bad: disarmed
///                                ┌───────────────────┬────────────────────────┐
///                                ▼                   │                        │
///  Boot ──► SelfTest ──────────► Idle ───Arm───► Arming ──n good readings──► Armed
///   │          │                 ▲  ▲                                         │
///   │   no policy passes      Stop  └─────────Stop──────────┐               Start
///   │          ▼                 │                          │                 │
///   └───────► Faulted ───────────┘◄─────anything bad───── Running ◄───────────┘
///    watchdog, brown-out
/// ```
///
/// The type says a part of it: there is no [`ControlLoop`](crate::ControlLoop) without a passed self-test, so a loop
/// begins as `Idle`, or as `Faulted` by the [cause of the reset](crate::ControlLoop::restarted). `Boot`, `SelfTest` and
/// the fault of having no policy are for those to show who boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// Before there is a policy.
    Boot,
    /// The policy's golden vectors are being compared.
    SelfTest,
    /// Waiting to be armed.
    Idle,
    /// Checking readings.
    Arming {
        /// How many are still to come.
        left: u16,
    },
    /// Waiting for a start, and going on checking readings.
    Armed,
    /// Acting by the policy.
    Running,
    /// Waiting for a stop, which acknowledges the fault.
    Faulted(Fault),
}

/// Why a request was not obeyed, or the loop is no longer armed. Nothing has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// A start without arming.
    NotArmed,
    /// A start before the end of the warm-up.
    WarmingUp {
        /// Readings still to come.
        left: u16,
    },
    /// A start or arming while an episode is running.
    Running,
    /// A start or arming while a fault is latched.
    Faulted(Fault),
    /// A start with a target return that is NaN, infinite or too large for the policy; the loop is still armed.
    TargetReturn,
    /// While armed or arming, what would have been this fault. The loop is idle.
    Disarmed(Fault),
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotArmed => f.write_str("the control loop is not armed; arm it before the start"),
            Self::WarmingUp { left } => {
                write!(f, "the warm-up needs {left} more readings before the start")
            }
            Self::Running => f.write_str("an episode is running; stop it first"),
            Self::Faulted(fault) => {
                write!(f, "a fault is latched ({fault}); acknowledge it by a stop")
            }
            Self::TargetReturn => f.write_str("the target return is NaN, infinite or too large"),
            Self::Disarmed(fault) => write!(f, "not armed: {fault}; arm again when that is mended"),
        }
    }
}

impl core::error::Error for Refusal {}

impl Mode {
    /// As it travels over links and lies in black boxes: kind, fault, and two bytes of the fault's index or of the
    /// readings left, little-endian.
    ///
    /// | byte 0 | mode | byte 1, if faulted | fault (index in bytes 2–3) |
    /// |---|---|---|---|
    /// | 0 | `Boot` | 0 | of a later version |
    /// | 1 | `SelfTest` | 1 | `OutOfRange` (component) |
    /// | 2 | `Idle` | 2 | `ReturnOutOfRange` |
    /// | 3 | `Arming` (readings left) | 3 | `EpisodeOver` |
    /// | 4 | `Armed` | 4 | `NoReading` |
    /// | 5 | `Running` | 5 | `StaleSensor` (group) |
    /// | 6 | `Faulted` | 6 | `MissedDeadline` |
    /// | | | 7 | `LostLink` |
    /// | | | 8 | `FloatingPointMode` |
    /// | | | 9 | `TooFast` (component) |
    /// | | | 10 | `SelfTest` |
    /// | | | 11 | `WatchdogReset` |
    /// | | | 12 | `BrownOut` |
    /// | | | 13 | `Robot` (code) |
    /// | | | 32 | `Act(NotReset)` |
    /// | | | 33 | `Act(AwaitingAbsorb)` |
    /// | | | 34 | `Act(NothingToAbsorb)` |
    /// | | | 35 | `Act(Observation)` (component) |
    /// | | | 36 | `Act(Action)` (component) |
    /// | | | 37 | `Act(Return)` |
    /// | | | 38 | `Act(MissingReward)` |
    /// | | | 39 | `Act(UnexpectedReward)` |
    /// | | | 40 | `Act(NonFinite)` |
    pub fn to_bytes(self) -> [u8; 4] {
        let (kind, fault, index) = match self {
            Self::Boot => (0, 0, 0),
            Self::SelfTest => (1, 0, 0),
            Self::Idle => (2, 0, 0),
            Self::Arming { left } => (3, 0, left),
            Self::Armed => (4, 0, 0),
            Self::Running => (5, 0, 0),
            Self::Faulted(fault) => {
                let (code, index) = fault_code(fault);
                (6, code, u16::try_from(index).unwrap_or(u16::MAX))
            }
        };
        let [low, high] = index.to_le_bytes();
        [kind, fault, low, high]
    }

    /// The inverse of [`to_bytes`](Self::to_bytes). `None` of bytes that mean nothing to this version.
    pub fn from_bytes([kind, fault, low, high]: [u8; 4]) -> Option<Self> {
        let index = u16::from_le_bytes([low, high]);
        Some(match kind {
            0 => Self::Boot,
            1 => Self::SelfTest,
            2 => Self::Idle,
            3 => Self::Arming { left: index },
            4 => Self::Armed,
            5 => Self::Running,
            6 => Self::Faulted(fault_of(fault, index)?),
            _ => return None,
        })
    }
}

fn fault_code(fault: Fault) -> (u8, usize) {
    match fault {
        Fault::OutOfRange { index } => (1, index),
        Fault::ReturnOutOfRange => (2, 0),
        Fault::EpisodeOver => (3, 0),
        Fault::NoReading => (4, 0),
        Fault::StaleSensor { group } => (5, group),
        Fault::MissedDeadline => (6, 0),
        Fault::LostLink => (7, 0),
        Fault::FloatingPointMode => (8, 0),
        Fault::TooFast { index } => (9, index),
        Fault::SelfTest => (10, 0),
        Fault::WatchdogReset => (11, 0),
        Fault::BrownOut => (12, 0),
        Fault::Robot { code } => (13, usize::from(code)),
        Fault::Act(ActError::NotReset) => (32, 0),
        Fault::Act(ActError::AwaitingAbsorb) => (33, 0),
        Fault::Act(ActError::NothingToAbsorb) => (34, 0),
        Fault::Act(ActError::Observation { index }) => (35, index),
        Fault::Act(ActError::Action { index }) => (36, index),
        Fault::Act(ActError::Return) => (37, 0),
        Fault::Act(ActError::MissingReward) => (38, 0),
        Fault::Act(ActError::UnexpectedReward) => (39, 0),
        Fault::Act(ActError::NonFinite) => (40, 0),
        // Wrong lengths do not occur: the loop's dimensions are the policy's.
        _ => (0, 0),
    }
}

fn fault_of(code: u8, index: u16) -> Option<Fault> {
    let at = usize::from(index);
    Some(match code {
        1 => Fault::OutOfRange { index: at },
        2 => Fault::ReturnOutOfRange,
        3 => Fault::EpisodeOver,
        4 => Fault::NoReading,
        5 => Fault::StaleSensor { group: at },
        6 => Fault::MissedDeadline,
        7 => Fault::LostLink,
        8 => Fault::FloatingPointMode,
        9 => Fault::TooFast { index: at },
        10 => Fault::SelfTest,
        11 => Fault::WatchdogReset,
        12 => Fault::BrownOut,
        13 => Fault::Robot {
            code: u8::try_from(index).ok()?,
        },
        32 => Fault::Act(ActError::NotReset),
        33 => Fault::Act(ActError::AwaitingAbsorb),
        34 => Fault::Act(ActError::NothingToAbsorb),
        35 => Fault::Act(ActError::Observation { index: at }),
        36 => Fault::Act(ActError::Action { index: at }),
        37 => Fault::Act(ActError::Return),
        38 => Fault::Act(ActError::MissingReward),
        39 => Fault::Act(ActError::UnexpectedReward),
        40 => Fault::Act(ActError::NonFinite),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_modes() {
        let stale = Mode::Faulted(Fault::StaleSensor { group: 258 });
        assert_eq!(stale.to_bytes(), [6, 5, 2, 1]);
        assert_eq!(Mode::Arming { left: 3 }.to_bytes(), [3, 0, 3, 0]);
        let mut known = 0;
        for kind in 0..=255 {
            for fault in 0..=255 {
                for index in [0, 7] {
                    let bytes = [kind, fault, index, 0];
                    let Some(mode) = Mode::from_bytes(bytes) else {
                        continue;
                    };
                    // What a mode does not need is written as zero.
                    if mode.to_bytes() == bytes {
                        known += 1;
                    }
                    assert_eq!(Mode::from_bytes(mode.to_bytes()), Some(mode));
                }
            }
        }
        // Five modes and 16 faults without an index, and a mode and six faults with one of two.
        assert_eq!(known, 5 + 16 + 2 * 7);
        let unheard_of = Fault::Act(ActError::WrongLength {
            field: "action",
            expected: 1,
            got: 2,
        });
        let bytes = Mode::Faulted(unheard_of).to_bytes();
        assert_eq!((bytes, Mode::from_bytes(bytes)), ([6, 0, 0, 0], None));
    }
}

//! What stands between the policy and the actuators: any fault latches the safe action until an
//! explicit reset.

use crate::blob::{AtMaxEpLen, Blob};
use crate::policy::{ActError, Policy};

/// Why the safe action is out. The first fault since the last reset is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fault {
    /// The policy refused or failed a control step.
    Act(ActError),
    /// A component of the observation lies outside state_low..state_high.
    OutOfRange {
        /// Which one.
        index: usize,
    },
    /// The episode has lasted max_ep_len steps and the policy asks to stop then.
    EpisodeOver,
    /// No fresh sensor reading within a control period.
    StaleSensor,
    /// The action was not ready in time.
    MissedDeadline,
    /// The link to the host is gone.
    LostLink,
    /// The policy file was refused.
    BadBlob,
    /// The golden vectors did not come out to the bit.
    SelfTest,
    /// The floating-point unit rounds or flushes in another way than the policy was made for.
    FloatingPointMode,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Act(error) => error.fmt(f),
            Self::OutOfRange { index } => {
                write!(f, "component {index} of the observation is out of range")
            }
            Self::EpisodeOver => f.write_str("the episode has lasted max_ep_len steps"),
            Self::StaleSensor => f.write_str("no fresh sensor reading"),
            Self::MissedDeadline => f.write_str("the action was not ready in time"),
            Self::LostLink => f.write_str("the link to the host is lost"),
            Self::BadBlob => f.write_str("the policy file was refused"),
            Self::SelfTest => f.write_str("the self-test failed"),
            Self::FloatingPointMode => f.write_str("unexpected floating-point mode"),
        }
    }
}

impl core::error::Error for Fault {}

/// What to send to the actuators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Command<'c> {
    /// The policy's action, or the safe action (act_dim).
    pub action: &'c [f32],
    /// Set while the safe action is out.
    pub fault: Option<Fault>,
}

/// Checks observations and latches the safe action.
#[derive(Clone, Debug)]
pub struct Guard<'a> {
    state_low: &'a [f32],
    state_high: &'a [f32],
    safe_action: &'a [f32],
    last_timestep: Option<u32>,
    fault: Option<Fault>,
}

impl<'a> Guard<'a> {
    /// A guard with the bounds and safe action of `blob`.
    pub fn new(blob: &Blob<'a>) -> Self {
        let manifest = &blob.manifest;
        let last_timestep = match manifest.at_max_ep_len {
            AtMaxEpLen::Fault if manifest.config.max_ep_len > 0 => Some(manifest.config.max_ep_len),
            _ => None,
        };
        Self {
            state_low: blob.vectors.state_low,
            state_high: blob.vectors.state_high,
            safe_action: blob.vectors.safe_action,
            last_timestep,
            fault: None,
        }
    }

    /// One control step: the policy's action if all is well, else the safe action, now and from
    /// now on. A latched guard does not run the policy.
    pub fn step<'c, A: AsMut<[u32]>>(
        &'c mut self,
        policy: &'c mut Policy<'_, A>,
        observation: &[f32],
    ) -> Command<'c> {
        if self.fault.is_none() {
            if let Err(fault) = self.check(policy.timestep(), observation) {
                self.fault = Some(fault);
            } else {
                match policy.act(observation) {
                    Ok(action) => {
                        return Command {
                            action,
                            fault: None,
                        };
                    }
                    Err(error) => self.fault = Some(Fault::Act(error)),
                }
            }
        }
        Command {
            action: self.safe_action,
            fault: self.fault,
        }
    }

    /// Latches a fault that was seen elsewhere.
    pub fn latch(&mut self, fault: Fault) {
        self.fault = Some(self.fault.unwrap_or(fault));
    }

    /// The fault that is latched.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The safe action (act_dim).
    pub fn safe_action(&self) -> &'a [f32] {
        self.safe_action
    }

    /// Clears the fault. The policy needs a reset of its own.
    pub fn reset(&mut self) {
        self.fault = None;
    }

    fn check(&self, timestep: u32, observation: &[f32]) -> Result<(), Fault> {
        if let Some(index) = observation.iter().position(|value| !value.is_finite()) {
            return Err(Fault::Act(ActError::Observation { index }));
        }
        let bounds = self.state_low.iter().zip(self.state_high);
        let outside = |(value, (low, high)): (&f32, (&f32, &f32))| value < low || value > high;
        if let Some(index) = observation.iter().zip(bounds).position(outside) {
            return Err(Fault::OutOfRange { index });
        }
        match self.last_timestep {
            Some(last) if timestep >= last => Err(Fault::EpisodeOver),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, arena, bytes, config};

    #[test]
    fn guard_latches_the_first_fault() {
        let file = Fixture::new(config(), 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let faults = [
            (
                [f32::NAN, 0.0, 0.0],
                Fault::Act(ActError::Observation { index: 0 }),
            ),
            (
                [0.0, f32::INFINITY, 0.0],
                Fault::Act(ActError::Observation { index: 1 }),
            ),
            ([0.0, 0.0, -10.5], Fault::OutOfRange { index: 2 }),
            ([0.0, 10.5, 0.0], Fault::OutOfRange { index: 1 }),
        ];
        for (bad, expected) in faults {
            let mut policy = Policy::new(&blob, arena(&config())).unwrap();
            let mut guard = Guard::new(&blob);
            policy.reset(-100.0).unwrap();
            assert_eq!(guard.step(&mut policy, &[0.0; 3]).fault, None);
            policy.absorb(&[0.0], Some(-1.0)).unwrap();
            let latched = Command {
                action: &[0.0],
                fault: Some(expected),
            };
            assert_eq!(guard.step(&mut policy, &bad), latched);
            assert_eq!(
                guard.step(&mut policy, &[0.0; 3]),
                latched,
                "it stays latched"
            );
            guard.latch(Fault::StaleSensor);
            assert_eq!(guard.fault(), Some(expected), "the first fault is kept");
            guard.reset();
            assert_eq!(guard.step(&mut policy, &[0.0; 3]).fault, None);
        }
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        let mut guard = Guard::new(&blob);
        let command = guard.step(&mut policy, &[0.0; 3]);
        assert_eq!(command.fault, Some(Fault::Act(ActError::NotReset)));
    }

    #[test]
    fn guard_ends_the_episode_where_the_manifest_says_so() {
        let mut fixture = Fixture::new(config(), 1);
        fixture.manifest.at_max_ep_len = AtMaxEpLen::Fault;
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        let mut guard = Guard::new(&blob);
        policy.reset(-100.0).unwrap();
        for _ in 0..9 {
            assert_eq!(guard.step(&mut policy, &[0.0; 3]).fault, None);
            policy.absorb(&[0.0], Some(-1.0)).unwrap();
        }
        assert_eq!(
            guard.step(&mut policy, &[0.0; 3]).fault,
            Some(Fault::EpisodeOver)
        );
    }
}

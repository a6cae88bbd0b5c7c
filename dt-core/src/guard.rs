//! What stands between the policy and the actuators: any fault latches the safe action until an
//! explicit restart, of policy and guard together.

use crate::blob::{AtMaxEpLen, BeyondLimits, Blob, ReturnLimits, RewardMode};
use crate::policy::{ActError, Policy};

/// Why the safe action is out. The first fault since the last restart is kept.
///
/// The guard itself finds the first four; a control loop [latches](Guard::latch) the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Fault {
    /// The policy refused or failed a control step.
    Act(ActError),
    /// A component of the observation lies outside state_low..state_high.
    OutOfRange {
        /// Which one.
        index: usize,
    },
    /// The return-to-go has left the limits of the policy file, which asks to stop then.
    ReturnOutOfRange,
    /// The episode has lasted max_ep_len steps and the policy asks to stop then.
    EpisodeOver,
    /// The sensors gave no reading.
    NoReading,
    /// A group of sensors was read too long ago.
    StaleSensor {
        /// Which one.
        group: usize,
    },
    /// The action was not out in time.
    MissedDeadline,
    /// The host that keeps count of the return-to-go has been silent for too long.
    LostLink,
    /// The floating-point unit rounds or flushes in another way than the policy was made for.
    FloatingPointMode,
    /// A component of the observation has changed by more than the robot can do in that time.
    TooFast {
        /// Which one.
        index: usize,
    },
    /// No policy has passed its self-test.
    SelfTest,
    /// The controller has been reset by its watchdog.
    WatchdogReset,
    /// The controller has been reset by a drop of its supply voltage.
    BrownOut,
    /// A reason of the robot's own: an emergency stop, a hot motor.
    Robot {
        /// What the robot calls it.
        code: u8,
    },
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Act(error) => error.fmt(f),
            Self::OutOfRange { index } => {
                write!(f, "component {index} of the observation is out of range")
            }
            Self::ReturnOutOfRange => f.write_str("the return-to-go is out of range"),
            Self::EpisodeOver => f.write_str("the episode has lasted max_ep_len steps"),
            Self::NoReading => f.write_str("the sensors gave no reading"),
            Self::StaleSensor { group } => {
                write!(f, "the reading of sensor group {group} is too old")
            }
            Self::MissedDeadline => f.write_str("the action was not out in time"),
            Self::LostLink => f.write_str("the host is silent"),
            Self::FloatingPointMode => f.write_str("unexpected floating-point mode"),
            Self::TooFast { index } => {
                write!(f, "component {index} of the observation changes too fast")
            }
            Self::SelfTest => f.write_str("no policy has passed its self-test"),
            Self::WatchdogReset => f.write_str("the watchdog has reset the controller"),
            Self::BrownOut => {
                f.write_str("the supply voltage has dropped and reset the controller")
            }
            Self::Robot { code } => write!(f, "the robot reports fault {code}"),
        }
    }
}

impl core::error::Error for Fault {}

/// What to send to the actuators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Command<'c> {
    /// The policy's action, or the safe action (act_dim, or the index of a choice).
    pub action: &'c [f32],
    /// Set while the safe action is out.
    pub fault: Option<Fault>,
}

/// Checks observations and latches the safe action.
#[derive(Debug)]
pub struct Guard<'a> {
    state_low: &'a [f32],
    state_high: &'a [f32],
    safe_action: &'a [f32],
    /// Where the policy file asks to stop beyond them.
    return_limits: Option<ReturnLimits>,
    last_timestep: Option<u32>,
    fault: Option<Fault>,
}

impl<'a> Guard<'a> {
    /// A guard with the bounds and safe action of `blob`.
    pub fn new(blob: &Blob<'a>) -> Self {
        let manifest = blob.manifest();
        let last_timestep = match manifest.at_max_ep_len {
            AtMaxEpLen::Fault if manifest.config.max_ep_len > 0 => Some(manifest.config.max_ep_len),
            _ => None,
        };
        Self {
            state_low: blob.vectors().state_low,
            state_high: blob.vectors().state_high,
            safe_action: blob.vectors().safe_action,
            // What nothing depends on need not lie anywhere.
            return_limits: manifest.return_limits.filter(|limits| {
                limits.beyond == BeyondLimits::Fault && manifest.reward != RewardMode::Predicted
            }),
            last_timestep,
            fault: None,
        }
    }

    /// Begins an episode: resets the policy and clears the fault. Nothing else clears it, because while a
    /// fault is latched the policy misses what happens, and would go on from a past with a gap in it.
    ///
    /// # Errors
    /// [`ActError::Return`] if `target_return` is not finite; that is latched then, unless something
    /// else is already.
    pub fn restart<A: AsMut<[u32]>>(
        &mut self,
        policy: &mut Policy<'_, A>,
        target_return: f32,
    ) -> Result<(), ActError> {
        match policy.reset(target_return) {
            Ok(()) => {
                self.fault = None;
                Ok(())
            }
            Err(error) => {
                self.latch(Fault::Act(error));
                Err(error)
            }
        }
    }

    /// One control step: the policy's action if all is well, else the safe action, now and from
    /// now on. A latched guard does not run the policy.
    pub fn step<'c, A: AsMut<[u32]>>(
        &'c mut self,
        policy: &'c mut Policy<'_, A>,
        observation: &[f32],
    ) -> Command<'c> {
        let checked = self.plausible(observation);
        self.act(checked, policy, |policy| policy.act(observation))
    }

    /// [`step`](Self::step) of a policy that sees images ([`Policy::act_image`]). Any byte is a pixel, so that there is nothing to
    /// check of an image but its length.
    pub fn step_image<'c, A: AsMut<[u32]>>(
        &'c mut self,
        policy: &'c mut Policy<'_, A>,
        image: &[u8],
    ) -> Command<'c> {
        self.act(Ok(()), policy, |policy| policy.act_image(image))
    }

    fn act<'c, 'p, A: AsMut<[u32]>>(
        &'c mut self,
        observed: Result<(), Fault>,
        policy: &'c mut Policy<'p, A>,
        act: impl FnOnce(&'c mut Policy<'p, A>) -> Result<&'c [f32], ActError>,
    ) -> Command<'c> {
        if self.fault.is_none() {
            if let Err(fault) = observed.and_then(|()| self.check(policy)) {
                self.fault = Some(fault);
            } else {
                match act(policy) {
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

    /// The safe action (act_dim, or the index of a choice).
    pub fn safe_action(&self) -> &'a [f32] {
        self.safe_action
    }

    /// Whether an observation (state_dim) can be one: finite, and within state_low..state_high.
    ///
    /// # Errors
    /// The first component that is not; nothing is latched.
    pub fn plausible(&self, observation: &[f32]) -> Result<(), Fault> {
        if let Some(index) = observation.iter().position(|value| !value.is_finite()) {
            return Err(Fault::Act(ActError::Observation { index }));
        }
        let bounds = self.state_low.iter().zip(self.state_high);
        let outside = |(value, (low, high)): (&f32, (&f32, &f32))| value < low || value > high;
        if let Some(index) = observation.iter().zip(bounds).position(outside) {
            return Err(Fault::OutOfRange { index });
        }
        Ok(())
    }

    fn check<A: AsMut<[u32]>>(&self, policy: &Policy<'_, A>) -> Result<(), Fault> {
        let return_to_go = policy.return_to_go();
        let beyond = |ReturnLimits { low, high, .. }| return_to_go < low || return_to_go > high;
        if self.return_limits.is_some_and(beyond) {
            return Err(Fault::ReturnOutOfRange);
        }
        match self.last_timestep {
            Some(last) if policy.timestep() >= last => Err(Fault::EpisodeOver),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Order, Predictions};
    use crate::fixture::{Fixture, arena, bytes, config};

    /// A guarded control step in which the action is applied as commanded.
    fn step(
        guard: &mut Guard<'_>,
        policy: &mut Policy<'_, Vec<u32>>,
        observation: &[f32],
    ) -> Result<Vec<u32>, Fault> {
        let command = guard.step(policy, observation);
        let bits = command.action.iter().map(|a| a.to_bits()).collect();
        command.fault.map_or(Ok(()), Err)?;
        policy.absorb_commanded().unwrap();
        policy.observe_reward(-1.0).unwrap();
        Ok(bits)
    }

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
            guard.restart(&mut policy, -100.0).unwrap();
            step(&mut guard, &mut policy, &[0.0; 3]).unwrap();
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
            guard.latch(Fault::MissedDeadline);
            assert_eq!(guard.fault(), Some(expected), "the first fault is kept");
            guard.restart(&mut policy, -100.0).unwrap();
            step(&mut guard, &mut policy, &[0.0; 3]).unwrap();
        }
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        let mut guard = Guard::new(&blob);
        let command = guard.step(&mut policy, &[0.0; 3]);
        assert_eq!(command.fault, Some(Fault::Act(ActError::NotReset)));
    }

    /// After a fault the policy has missed what happened: what goes on is a new episode, to the bit, and
    /// nothing short of that goes on.
    #[test]
    fn a_latched_guard_resumes_no_context_with_a_gap() {
        let file = Fixture::new(config(), 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let observation = |t: usize| [0.3 * t as f32, -0.2, 0.1 * t as f32];
        let run = |guard: &mut Guard<'_>, policy: &mut Policy<'_, Vec<u32>>| -> Vec<_> {
            (3..10)
                .map(|t| step(guard, policy, &observation(t)))
                .collect()
        };
        let new = || {
            let mut policy = Policy::new(&blob, arena(&config())).unwrap();
            let mut guard = Guard::new(&blob);
            guard.restart(&mut policy, -100.0).unwrap();
            (guard, policy)
        };
        let (mut guard, mut policy) = new();
        let fresh = run(&mut guard, &mut policy);
        assert!(fresh.iter().all(Result::is_ok));

        let (mut guard, mut policy) = new();
        for t in 0..3 {
            step(&mut guard, &mut policy, &observation(t)).unwrap();
        }
        guard.latch(Fault::NoReading);
        // The robot moves on, and the policy alone could: it is in the middle of its episode.
        assert_eq!(
            step(&mut guard, &mut policy, &[0.0; 3]),
            Err(Fault::NoReading)
        );
        policy.reset(-100.0).unwrap();
        assert_eq!(
            step(&mut guard, &mut policy, &[0.0; 3]),
            Err(Fault::NoReading)
        );
        for _ in 0..4 {
            policy.act(&[0.5; 3]).unwrap();
            policy.absorb(&[0.1]).unwrap();
            policy.observe_reward(-1.0).unwrap();
        }
        let refused = guard.restart(&mut policy, f32::NAN);
        assert_eq!(refused, Err(ActError::Return));
        assert_eq!(
            guard.fault(),
            Some(Fault::NoReading),
            "a refused restart restarts nothing"
        );
        guard.restart(&mut policy, -100.0).unwrap();
        assert_eq!(run(&mut guard, &mut policy), fresh);
    }

    #[test]
    fn a_restart_that_fails_is_a_fault() {
        let file = Fixture::new(config(), 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        let mut guard = Guard::new(&blob);
        guard.restart(&mut policy, -100.0).unwrap();
        step(&mut guard, &mut policy, &[0.0; 3]).unwrap();
        assert!(guard.restart(&mut policy, f32::INFINITY).is_err());
        let fault = Fault::Act(ActError::Return);
        assert_eq!(step(&mut guard, &mut policy, &[0.0; 3]), Err(fault));
    }

    /// At its limits the return-to-go is still good, beyond them only where the manifest does not ask to stop.
    #[test]
    fn a_return_to_go_beyond_its_limits_is_a_fault_where_the_manifest_says_so() {
        let run = |beyond: Option<BeyondLimits>, reward: f32| {
            let mut fixture = Fixture::new(config(), 1);
            fixture.manifest.return_limits = beyond.map(|beyond| ReturnLimits {
                low: -104.0,
                high: -96.0,
                beyond,
            });
            let file = fixture.emit().unwrap();
            let blob = Blob::parse(bytes(&file)).unwrap();
            let mut policy = Policy::new(&blob, arena(&config())).unwrap();
            let mut guard = Guard::new(&blob);
            guard.restart(&mut policy, -100.0).unwrap();
            let mut steps = 0;
            while steps < 9 {
                if let Some(fault) = guard.step(&mut policy, &[0.0; 3]).fault {
                    return (steps, Some(fault));
                }
                policy.absorb_commanded().unwrap();
                policy.observe_reward(reward).unwrap();
                steps += 1;
            }
            (steps, None)
        };
        for reward in [-1.0, 1.0] {
            let fault = Some(Fault::ReturnOutOfRange);
            assert_eq!(run(Some(BeyondLimits::Fault), reward), (5, fault));
            assert_eq!(run(Some(BeyondLimits::Clamp), reward), (9, None));
            assert_eq!(run(None, reward), (9, None));
        }
    }

    /// Nobody asked for the target, so it is nobody's fault.
    #[test]
    fn a_target_that_nothing_depends_on_has_no_limits() {
        for (reward, fault) in [
            (RewardMode::Predicted, None),
            (RewardMode::Constant, Some(Fault::ReturnOutOfRange)),
        ] {
            let config = Config {
                predictions: Predictions {
                    state: false,
                    return_to_go: true,
                },
                order: Order::StateFirst,
                ..config()
            };
            let mut fixture = Fixture::new(config, 1);
            fixture.manifest.reward = reward;
            fixture.manifest.return_limits = Some(ReturnLimits {
                low: -104.0,
                high: -96.0,
                beyond: BeyondLimits::Fault,
            });
            let file = fixture.emit().unwrap();
            let blob = Blob::parse(bytes(&file)).unwrap();
            let mut policy = Policy::new(&blob, arena(&config)).unwrap();
            let mut guard = Guard::new(&blob);
            guard.restart(&mut policy, 0.0).unwrap();
            assert_eq!(guard.step(&mut policy, &[0.0; 3]).fault, fault);
        }
    }

    #[test]
    fn guard_ends_the_episode_where_the_manifest_says_so() {
        let mut fixture = Fixture::new(config(), 1);
        fixture.manifest.at_max_ep_len = AtMaxEpLen::Fault;
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        let mut guard = Guard::new(&blob);
        guard.restart(&mut policy, -100.0).unwrap();
        for _ in 0..9 {
            step(&mut guard, &mut policy, &[0.0; 3]).unwrap();
        }
        let over = Err(Fault::EpisodeOver);
        assert_eq!(step(&mut guard, &mut policy, &[0.0; 3]), over);
    }
}

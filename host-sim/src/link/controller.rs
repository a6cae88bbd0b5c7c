//! A device at the controls of a rollout, in lock step.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dt_control::Mode;
use dt_link::{Pace, PolicyId, Refusal, ToDevice, ToHost, Values};

use super::client::{Answer, Client};
use super::{LinkError, in_words};
use crate::policy_file::PolicyFile;
use crate::rollout::Controller;

/// Fresh readings before each episode.
const WARM_UP: u16 = 3;

/// Until an observation is sent again, unless somebody knows better: an emulated chip may take its time.
const RETRY: Duration = Duration::from_secs(5);
const TRIES: u32 = 6;

/// A device that runs a policy file.
pub struct Remote {
    client: Client,
    policy: PolicyId,
    target_return: f32,
    return_to_go: f32,
    seed: u64,
    /// Next step of the episode; `None` before its start, which takes an observation.
    step: Option<u32>,
    reward: Option<f32>,
    action: Vec<f32>,
    /// Until an observation is sent again.
    retry: Duration,
    round_trips: RoundTrips,
}

/// How fast a device answered.
#[derive(Clone, Debug, Default)]
pub struct RoundTrips {
    /// From an observation sent to its action received, in order.
    pub times: Vec<Duration>,
    /// Time left until the device's deadline when its last action was out, in µs.
    pub slack_us: u32,
    /// Least of these.
    pub least_slack_us: Option<u32>,
    /// Its deadline, in µs.
    pub deadline_us: u32,
    /// Observations that were sent again, since no answer came.
    pub repeated: u32,
}

impl std::fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = |index: usize| {
            times
                .get(index)
                .map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        write!(
            f,
            "{} round trips: {:.2} / {:.2} / {:.2} ms (min / median / max), {} repeated; slack of the board at least {:.3} of {:.3} ms",
            times.len(),
            at(0),
            at(times.len() / 2),
            at(times.len().saturating_sub(1)),
            self.repeated,
            f64::from(self.least_slack_us.unwrap_or(0)) / 1e3,
            f64::from(self.deadline_us) / 1e3,
        )
    }
}

impl Remote {
    /// The device must run this very policy.
    ///
    /// # Errors
    /// [`LinkError`] says what differs.
    pub fn new(client: Client, policy: &PolicyFile) -> Result<Self, LinkError> {
        let greeting = client.greeting();
        let id = PolicyId {
            crc: policy.crc(),
            len: policy.bytes().len() as u32,
        };
        if greeting.policy == PolicyId::default() {
            let place = client.place();
            return Err(LinkError::NoPolicy { place });
        }
        if greeting.policy != id {
            return Err(LinkError::OtherPolicy {
                place: client.place(),
                has: greeting.policy,
                expected: id,
            });
        }
        let config = policy.blob().manifest().config;
        let lengths = [
            ("state_dim", greeting.state_dim, config.state_dim as usize),
            ("act_dim", greeting.act_dim, config.action_len() as usize),
        ];
        for (field, has, expected) in lengths {
            if usize::from(has) != expected {
                return Err(LinkError::Dimensions {
                    place: client.place(),
                    field,
                    has,
                    expected,
                });
            }
        }
        Ok(Self::trusting(client))
    }

    /// The device with whatever policy it runs.
    #[must_use]
    pub fn trusting(client: Client) -> Self {
        let greeting = client.greeting();
        let round_trips = RoundTrips {
            deadline_us: greeting.deadline_us,
            ..RoundTrips::default()
        };
        Self {
            policy: greeting.policy,
            target_return: 0.0,
            return_to_go: 0.0,
            seed: 0,
            step: None,
            reward: None,
            action: vec![0.0; greeting.act_dim.into()],
            retry: RETRY,
            round_trips,
            client,
        }
    }

    /// The same, sending observations again after `retry` without an answer.
    #[must_use]
    pub fn with_retry(mut self, retry: Duration) -> Self {
        self.retry = retry;
        self
    }

    /// How fast it answered so far.
    #[must_use]
    pub const fn round_trips(&self) -> &RoundTrips {
        &self.round_trips
    }

    /// The last action.
    #[must_use]
    pub fn action(&self) -> &[f32] {
        &self.action
    }

    /// What it said of itself.
    #[must_use]
    pub const fn greeting(&self) -> &super::Greeting {
        self.client.greeting()
    }

    /// The device, to be asked other things between episodes.
    pub const fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Brings the device to rest.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn stop(&mut self) -> Result<(), LinkError> {
        self.client.order("a stop", &ToDevice::Stop)
    }

    /// Shows the first observation until the device is armed.
    fn warm_up(&mut self, observation: &[f32]) -> Result<(), LinkError> {
        for step in 0..u32::from(WARM_UP) {
            self.exchange(step, observation, Mode::Armed)?;
        }
        Ok(())
    }

    /// The start, and the first observation of the episode with it.
    fn begin(&mut self, observation: &[f32]) -> Result<(), LinkError> {
        let start = ToDevice::Start {
            target_return: self.target_return,
            seed: Some(self.seed),
        };
        for _ in 0..TRIES {
            let number = self.client.tell(&start)?;
            match self.exchange_after(Some(number), 0, observation, Mode::Running) {
                // The start was lost: to a device that is still armed the observation is an old one.
                Err(LinkError::Refused {
                    why: Refusal::Step { .. },
                    ..
                }) => self.round_trips.repeated += 1,
                done => return done,
            }
        }
        self.exchange(0, observation, Mode::Running)
    }

    /// An observation for an action, which lands in `self.action`.
    fn exchange(&mut self, step: u32, observation: &[f32], wanted: Mode) -> Result<(), LinkError> {
        self.exchange_after(None, step, observation, wanted)
    }

    /// The same after the start in frame `start`, which may be refused in the same breath.
    fn exchange_after(
        &mut self,
        start: Option<u16>,
        step: u32,
        observation: &[f32],
        wanted: Mode,
    ) -> Result<(), LinkError> {
        let greeting = self.client.greeting();
        let message = ToDevice::Observation {
            step,
            age_us: 0,
            reward: self.reward.filter(|_| greeting.wants_reward),
            return_to_go: (wanted == Mode::Running && greeting.wants_return_to_go)
                .then_some(self.return_to_go),
            values: Values::new(observation),
        };
        let sent = Instant::now();
        for _ in 0..TRIES {
            let number = self.client.tell(&message)?;
            let action = &mut self.action;
            let deadline = Instant::now() + self.retry;
            let is_answer = |_, message: &ToHost<'_>| match message {
                // Running: the start before this one was served after all.
                ToHost::Refusal { to, why } if Some(*to) == start && *why != Refusal::Running => {
                    Answer::Is(Err(("the start", *why)))
                }
                ToHost::Action {
                    step: of,
                    mode,
                    slack_us,
                    values,
                    ..
                } if *of == step => {
                    let copied = values.copy_to(action);
                    let copied = copied.map_err(|why| ("an action", why));
                    Answer::Is(copied.map(|()| (*mode, *slack_us)))
                }
                // Of an earlier observation, sent twice, or by the way.
                _ => Answer::Other,
            };
            let answer = self
                .client
                .hear("an observation", number, deadline, is_answer)?;
            let Some(answer) = answer else {
                self.round_trips.repeated += 1;
                continue;
            };
            let (mode, slack_us) = answer.map_err(|(asked, why)| LinkError::Refused {
                place: self.client.place(),
                asked,
                why,
            })?;
            return self.judge(step, mode, slack_us, wanted, sent.elapsed());
        }
        Err(LinkError::Silent {
            place: self.client.place(),
            asked: "an observation",
            waited: sent.elapsed(),
        })
    }

    fn judge(
        &mut self,
        step: u32,
        mode: dt_link::Mode,
        slack_us: u32,
        wanted: Mode,
        took: Duration,
    ) -> Result<(), LinkError> {
        match Mode::from_bytes(mode.0) {
            Some(Mode::Arming { .. }) if wanted == Mode::Armed => Ok(()),
            Some(mode) if mode == wanted => {
                if mode == Mode::Running {
                    let least = self.round_trips.least_slack_us.unwrap_or(slack_us);
                    self.round_trips.least_slack_us = Some(least.min(slack_us));
                    self.round_trips.slack_us = slack_us;
                    self.round_trips.times.push(took);
                }
                Ok(())
            }
            _ => Err(LinkError::Fault {
                step,
                fault: in_words(mode),
            }),
        }
    }
}

impl Controller for Remote {
    type Error = LinkError;

    fn reset(&mut self, seed: u64, target_return: f32) -> Result<(), LinkError> {
        self.stop()?;
        (self.seed, self.target_return, self.return_to_go) = (seed, target_return, target_return);
        (self.step, self.reward) = (None, None);
        let greeting = self.client.greeting();
        let arm = ToDevice::Arm {
            policy: self.policy,
            state_dim: greeting.state_dim,
            act_dim: greeting.act_dim,
            warm_up: WARM_UP,
            pace: Pace::Lockstep,
        };
        self.client.order("arming", &arm)
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], LinkError> {
        let step = match self.step {
            None => {
                self.warm_up(observation)?;
                self.begin(observation)?;
                0
            }
            Some(step) => {
                self.exchange(step, observation, Mode::Running)?;
                step
            }
        };
        self.step = Some(step + 1);
        Ok(&self.action)
    }

    /// Where the manifest says that a host keeps count of rewards, this is that host.
    fn feedback(&mut self, _applied: &[f32], reward: f32) -> Result<(), LinkError> {
        self.reward = Some(reward);
        self.return_to_go -= reward;
        Ok(())
    }
}

/// A device for the one worker of a [`rollout`](fn@crate::rollout::rollout), which makes its controllers itself.
pub struct Shared<'r> {
    remote: &'r Mutex<Remote>,
    action: Vec<f32>,
}

impl<'r> Shared<'r> {
    /// A controller that is this device.
    pub const fn new(remote: &'r Mutex<Remote>) -> Self {
        Self {
            remote,
            action: Vec::new(),
        }
    }

    fn with<T>(&self, call: impl FnOnce(&mut Remote) -> T) -> T {
        // What a panic left half done, the next reset does anew.
        call(&mut self.remote.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Controller for Shared<'_> {
    type Error = LinkError;

    fn reset(&mut self, seed: u64, target_return: f32) -> Result<(), LinkError> {
        self.with(|remote| remote.reset(seed, target_return))
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], LinkError> {
        self.action = self.with(|remote| remote.act(observation).map(<[f32]>::to_vec))?;
        Ok(&self.action)
    }

    fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), LinkError> {
        self.with(|remote| remote.feedback(applied, reward))
    }
}

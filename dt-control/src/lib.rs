#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]
//! The control loop: fixed rate, one policy step per tick, and a safe action whenever anything is wrong.
//! No hardware, no executor, no allocation.
//!
//! # Glossary
//!
//! - **Tick**: the start of a control period, given by the board's timer.
//! - **Sense, act, actuate**: read the sensors into an *observation*; compute an *action* from it; hand the
//!   action to the actuators.
//! - **Applied action**: what the actuators really did, which may be less than the action. The policy is
//!   told this one.
//! - **Absorb**: tell the policy the applied action, right after actuating, and let it run *ahead* as far as it
//!   can before the next tick. Where rewards are observed, the next reading brings that of this action.
//! - **Deadline**: time after the tick by which the action must be out, actuation included. An action that is
//!   late is not used; if the actuators made it late, the safe action follows it.
//! - **Stale**: a reading older than allowed for its group of sensors; the robot may have moved on.
//! - **Safe action**: the action of the policy file that brings the robot to rest.
//! - **Arming**: checking, before anything moves, that readings are fresh and plausible, as many in a row as the
//!   operator wants. Only an *armed* loop starts; a bad reading, a stop or a fault disarms it.
//! - **Fault**: a reason not to trust the next action. It *latches*: from the tick in which it is noticed the
//!   loop applies the safe action, until an explicit [`Request::Stop`]. What comes after arming again is a new episode.
//! - **Hold**: leave the applied action out for ticks that nobody served, where [`Missed`] allows it.
//! - **Jitter**: time from the tick until the loop begins. **Slack**: time left until the deadline when the
//!   action is out.
//! - **Watchdog**: hardware that stops the robot if the loop itself stops.
//!
//! # Map
//!
//! - [`ControlLoop`] is the loop's state; [`tick`](ControlLoop::tick) is one control period. It waits for
//!   nothing, so it fits a timer interrupt or a task of any executor ([`control`]).
//! - [`Mode`] is what it does, with a diagram; [`Refusal`] what it refuses to do ([`mode`]).
//! - [`run()`] and [`run_async()`] call it at every tick and keep the watchdog ([`mod@run`]).
//! - [`Robot`] is what the loop is attached to: sensors, actuators, an operator ([`robot`]).
//! - [`Processor`] and [`Board`] are the hardware below: clock, floating-point mode, timer, watchdog ([`board`]).
//! - [`Timing`] is how punctual it all was ([`timing`]).
//!
//! ```
//! use core::ops::ControlFlow;
//! use dt_control::{ControlLoop, FloatMode, Limits, Mode, Processor, Reading, Record, Request, Robot, Tick};
//! use dt_core::{Blob, Fault, Policy};
//!
//! # #[repr(C, align(16))]
//! # struct Aligned<T: ?Sized>(T);
//! # static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../dt-core/examples/pendulum.dtb"));
//! struct Pendulum { torque: f32, requests: [Option<Request>; 3] }
//!
//! impl Robot for Pendulum {
//!     fn request(&mut self) -> Option<Request> {
//!         self.requests.rotate_left(1);
//!         self.requests[2].take() // what was first
//!     }
//!     fn sense(&mut self, observation: &mut [f32], ages_us: &mut [u32]) -> Option<Reading> {
//!         observation.copy_from_slice(&[-1.0, 0.0, 0.0]); // It hangs down at rest.
//!         ages_us.fill(150);
//!         Some(Reading { reward: Some(-9.87), return_to_go: None })
//!     }
//!     fn actuate(&mut self, action: &mut [f32]) {
//!         self.torque = action[0];
//!     }
//!     fn record(&mut self, _: &Record<'_>) {}
//! }
//!
//! struct Clock(u64);
//!
//! impl Processor for Clock {
//!     const CLOCK_HZ: u32 = 1_000_000;
//!     fn now(&mut self) -> u64 { self.0 }
//!     fn float_mode(&mut self) -> Result<(), FloatMode> { Ok(()) }
//! }
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let blob = Blob::parse(&FILE.0)?;
//! let policy = Policy::new(&blob, vec![0; blob.manifest().config.arena_words()])?;
//! let limits = Limits::of_period(blob.manifest().control_period_us);
//! // Refuses a policy that fails its self-test or is for another robot.
//! let mut control = ControlLoop::<_, 3, 1>::new(&blob, policy, limits)?;
//!
//! let arm = Request::Arm { warm_up: 1 };
//! let start = Request::Start { target_return: -150.0 };
//! let mut robot = Pendulum { torque: 0.0, requests: [Some(arm), Some(start), None] };
//! let tick = Tick { at: 0, missed: 0 }; // from the timer
//! assert_eq!(control.tick(tick, &mut Clock(40), &mut robot), ControlFlow::Continue(()));
//! assert_eq!((control.mode(), robot.torque), (Mode::Armed, 0.0));
//! let tick = Tick { at: 50_000, missed: 0 };
//! let _ = control.tick(tick, &mut Clock(50_040), &mut robot);
//! assert!(robot.torque != 0.0);
//! // A tick that nobody served: from now on the safe action.
//! let tick = Tick { at: 150_000, missed: 1 };
//! let _ = control.tick(tick, &mut Clock(150_040), &mut robot);
//! assert_eq!((control.mode(), robot.torque), (Mode::Faulted(Fault::MissedDeadline), 0.0));
//! # Ok(())
//! # }
//! ```

pub mod board;
pub mod control;
pub mod mode;
pub mod robot;
pub mod run;
pub mod timing;

pub use board::{
    AsyncBoard, BlockingBoard, Board, FloatMode, PeriodTooLong, Processor, ResetCause, Tick,
    Watchdog, check_float_mode, counts,
};
pub use control::{ControlLoop, Limits, Missed, SetupError};
pub use mode::{Mode, Refusal};
pub use robot::{Reading, Record, Request, Robot, Step};
pub use run::{run, run_async};
pub use timing::{Spans, Timing};

#[cfg(test)]
mod tests;

//! Environments and the rollout loop shared by training, simulation and firmware.
//!
//! From the plant outwards:
//!
//! - [`space`]: what an observation or an action can be; [`env`](mod@env): the [`Env`] trait, Gymnasium's `reset` and
//!   `step`.
//! - [`pendulum`]: Gymnasium's Pendulum-v1; [`cartpole`]: its CartPole-v1, with choices for actions; [`graph`] and
//!   [`key_to_door`]: the Decision Transformer paper's toys; [`random`]: seeded initial states; [`trig`]: sines that are the same everywhere, or those of NumPy.
//! - [`rollout`]: the loop that connects a [`Controller`] to an environment.
//! - [`trace`]: episodes recorded for a microcontroller to compare itself with.
//!
//! These need neither `std` nor an allocator: with `default-features = false` they run on the
//! microcontroller, where these plants give the same bits as here. On a host (feature `std`, of which
//! `policies` is the part about policy files):
//!
//! - [`registry`]: environments by name.
//! - [`plant`]: any simulator as an environment, in a process of its own, Gymnasium's among them.
//! - [`policy_file`]: policies as `dt-train export` writes them; [`controller`]: running them.
//! - [`evaluation`]: returns and their statistics, as JSON and as a table.
//! - [`blackbox`]: what a controller has recorded, replayed to the bit.
//! - [`replay`]: states and rewards for given actions, to compare with other simulators.
//! - `stage` (feature `draw`): episodes as pictures; `film`: in files; `view`: in a window, while they run.
//! - [`link`]: policies on controllers, real or emulated, at the other end of a wire.
//! - `mujoco` (feature of that name): MuJoCo environments, described by data.
//! - [`atomic`]: output files that are never half-written; [`progress`]: the progress bar; [`console`]: results and errors.
//!
//! # Example
//! Three episodes of a controller that pushes along with the motion:
//!
//! ```
//! use std::convert::Infallible;
//!
//! use host_sim::evaluation::{Evaluation, Table};
//! use host_sim::rollout::{Controller, Plan, rollout};
//!
//! struct Push([f32; 1]);
//!
//! impl Controller for Push {
//!     type Error = Infallible;
//!     fn reset(&mut self, _seed: u64, _target_return: f32) -> Result<(), Infallible> {
//!         Ok(())
//!     }
//!     fn act(&mut self, observation: &[f32]) -> Result<&[f32], Infallible> {
//!         self.0 = [if observation[2] > 0.0 { 2.0 } else { -2.0 }];
//!         Ok(&self.0)
//!     }
//!     fn feedback(&mut self, _applied: &[f32], _reward: f32) -> Result<(), Infallible> {
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = Plan { target_return: 0.0, episodes: 3, seed: 7, threads: 0 };
//! let make_env = host_sim::maker("pendulum")?;
//! let done = rollout::<_, ()>(&plan, make_env, || Push([0.0]), |_| {})?;
//!
//! let episodes = done.into_iter().map(|(episode, ())| episode).collect();
//! let evaluation = Evaluation::new(&host_sim::pendulum::SPEC, "push", 0.0, episodes);
//! println!("{}", Table(std::slice::from_ref(&evaluation)));
//! assert!(evaluation.mean_return < -500.0);
//! # Ok(())
//! # }
//! ```
//!
//! For a policy file, [`PolicyFile::load`](policy_file::PolicyFile::load) takes the place of
//! `Push`, and its [`controllers`](policy_file::PolicyFile::controllers) that of the closure.
#![cfg_attr(not(feature = "policies"), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
pub mod atomic;
#[cfg(feature = "std")]
pub mod blackbox;
pub mod cartpole;
#[cfg(feature = "std")]
pub mod console;
#[cfg(feature = "policies")]
pub mod controller;
#[cfg(feature = "std")]
pub mod critic;
pub mod env;
#[cfg(feature = "std")]
pub mod evaluation;
#[cfg(feature = "draw")]
pub mod film;
pub mod graph;
pub mod key_to_door;
#[cfg(feature = "std")]
pub mod link;
#[cfg(feature = "mujoco")]
pub mod mujoco;
pub mod pendulum;
#[cfg(feature = "std")]
pub mod plant;
#[cfg(feature = "policies")]
pub mod policy_file;
#[cfg(feature = "std")]
pub mod progress;
pub mod random;
#[cfg(feature = "std")]
pub mod registry;
#[cfg(feature = "std")]
pub mod replay;
pub mod rollout;
pub mod space;
#[cfg(feature = "draw")]
pub mod stage;
pub mod trace;
pub mod trig;
#[cfg(feature = "draw")]
pub mod view;

pub use env::{Env, EnvSpec, Fault, Step};
#[cfg(feature = "std")]
pub use registry::{Blueprint, MakeError, make, make_reference, maker};
pub use rollout::Controller;
pub use space::Space;

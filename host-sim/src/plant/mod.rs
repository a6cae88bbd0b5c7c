//! Any simulator, in a process of its own: the host's end of the plant protocol (`PLANT.md` of `dt-link`).
//!
//! - A name opens it, as it opens any environment ([`Blueprint`](crate::Blueprint)): `gym:ID` any Gymnasium environment, by a
//!   bridge in Python that comes with this program; `plant:COMMAND` what a shell starts; `plant:tcp:HOST:PORT` what
//!   listens there. Arguments of a Gymnasium environment are part of its name, `gym:ID?KEY=VALUE&KEY=VALUE`, so that
//!   the name alone opens the same one again. [`EnvironmentArgs`] makes names of what is typed.
//! - [`PlantEnv`] is an [`Env`](crate::Env) whose physics are over there.
//! - [`serve`] is the other end: an [`Env`](crate::Env) of this program's as a plant for another.
//!
//! One process holds several environments, and a program starts as many processes as there are cores, no more than it
//! needs: an interpreter of Python steps one environment at a time, so that more environments in one process are not
//! faster, and processes beyond the cores only take memory. Processes stay until this program ends, since
//! they take a second to start.
//!
//! A plant that dies, hangs (30 s without an answer, or what `DT_PLANT_TIMEOUT` says in seconds), or answers what is no number or
//! not of its spaces ends the episode with [`Fault::Plant`](crate::Fault), which has its last words; the next episode
//! begins in a fresh process. After three such ends in a row nobody waits for it any more.

mod args;
mod env;
mod group;
mod launch;
mod pool;
mod serve;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};

pub use args::EnvironmentArgs;
pub use env::PlantEnv;
pub use launch::python;
pub use serve::{listen, serve};

pub(crate) use pool::Pool;

use launch::Launch;

/// Before the ID of a Gymnasium environment.
const GYM: &str = "gym:";
/// Before the command of any other plant.
const COMMAND: &str = "plant:";

/// Whether a name is one of this module's.
#[must_use]
pub fn is_plant(name: &str) -> bool {
    name.starts_with(GYM) || is_command(name)
}

/// Names of [`allow`].
static ALLOWED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Lets a name start a program of its own choice: `plant:COMMAND`, `gym:MODULE:ID`, and arguments that could be the paths of files. Files
/// name environments, too, and may come from anywhere; so everything that opens one by name refuses these, except
/// the very names that somebody has typed. [`EnvironmentArgs::name`] allows what it makes.
///
/// ```
/// # fn main() -> Result<(), host_sim::MakeError> {
/// let name = "plant:sleep 9";
/// assert!(host_sim::make(name).err().unwrap().to_string().contains("typed"));
/// host_sim::plant::allow("plant:exit 1");
/// assert!(host_sim::make("plant:exit 1").err().unwrap().to_string().contains("gone"));
/// # Ok(())
/// # }
/// ```
pub fn allow(name: &str) {
    let mut allowed = ALLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    if !allowed.iter().any(|other| other == name) {
        allowed.push(name.into());
    }
}

fn is_allowed(name: &str) -> bool {
    let allowed = ALLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    allowed.iter().any(|other| other == name)
}

/// Whether a name has a command in it, which may be run if it was typed, but not if a file says so.
#[must_use]
pub fn is_command(name: &str) -> bool {
    name.starts_with(COMMAND)
}

/// Why a plant cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}`: {problem}")]
pub struct PlantError {
    /// As it was asked for.
    pub name: String,
    /// What is wrong, and where that is known what to do about it.
    pub problem: String,
}

/// Plants that have been started.
static OPEN: Mutex<Vec<Arc<Pool>>> = Mutex::new(Vec::new());

/// Ends all plants when it is dropped, at the end of `main`: each is told that nothing more will be asked, has half a second to
/// end, and is killed after that, with everything that it has started. Signals that end a program do the same, at once.
#[derive(Debug)]
pub struct Farewell;

impl Drop for Farewell {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.drain(..).for_each(|pool| pool.close());
        group::kill_all();
    }
}

/// Starts a plant, or gives the one of that name that has been started already. One that only a typed name may start is
/// refused if this one was not.
pub(crate) fn open(name: &str) -> Result<Arc<Pool>, PlantError> {
    let refused = |problem| PlantError {
        name: name.into(),
        problem,
    };
    let launch = Launch::new(name).map_err(refused)?;
    if !is_allowed(name) {
        launch.check_harmless(name).map_err(refused)?;
    }
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = open.iter().find(|pool| pool.name() == name) {
        return Ok(pool.clone());
    }
    let pool = Arc::new(Pool::start(name, launch).map_err(refused)?);
    open.push(pool.clone());
    Ok(pool)
}

//! The class `Policy`.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use dt_core::blob::{Blob, Choice, Manifest, RewardMode, Vectors};
use dt_core::config::Actions;
use dt_core::{ActError, Fault, Guard, golden};
use host_sim::controller::PolicyController;
use host_sim::policy_file::{PolicyFile, PolicyFileError};
use host_sim::rollout::Controller;
use numpy::PyArray1;
use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyUserWarning, PyValueError};
use pyo3::prelude::*;
use self_cell::self_cell;

use crate::vector;

create_exception!(
    dt_policy,
    FaultWarning,
    PyUserWarning,
    "The guard has latched: the safe action is out until `Policy.reset`."
);

self_cell!(
    /// A file and what runs it.
    struct Loaded {
        owner: PolicyFile,
        #[covariant]
        dependent: Running,
    }
);

/// What borrows the file.
struct Running<'a> {
    blob: Blob<'a>,
    controller: PolicyController<'a>,
    guard: Option<Guard<'a>>,
}

/// The call that has to come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Reset,
    Act,
    Absorb,
}

/// A policy file that acts: reset(), and then act() and absorb() in turns.
///
/// With guard=True, as on the controller, an observation out of the policy's range, NaN, or the policy's other
/// limits latch a fault: from then on act() gives safe_action, until reset(). Each fault is a FaultWarning, and
/// `fault` says what it was; warnings.simplefilter("error", dt_policy.FaultWarning) makes exceptions of them.
/// With guard=False the policy acts on whatever is finite, as in `host-sim rollout` and `dt-train eval`.
#[pyclass(module = "dt_policy")]
pub struct Policy {
    path: PathBuf,
    loaded: Loaded,
    due: Due,
    /// At hand (state_dim).
    observation: Vec<f32>,
    /// What act() gave last, and what was applied (act_dim, or the index of a choice).
    action: Vec<f32>,
    applied: Vec<f32>,
}

#[pymethods]
impl Policy {
    /// Reads and checks the file.
    ///
    /// Raises OSError if it cannot be read and ValueError if it is no sound policy file.
    #[new]
    #[pyo3(signature = (path, *, guard = true))]
    fn new(path: PathBuf, guard: bool) -> PyResult<Self> {
        let file = PolicyFile::load(&path).map_err(unusable)?;
        let loaded = Loaded::new(file, |file| {
            let blob = file.blob();
            Running {
                controller: PolicyController::new(&blob),
                guard: guard.then(|| Guard::new(&blob)),
                blob,
            }
        });
        let config = loaded.borrow_dependent().blob.manifest().config;
        Ok(Self {
            path,
            loaded,
            due: Due::Reset,
            observation: vec![0.0; config.state_dim as usize],
            action: vec![0.0; config.action_len() as usize],
            applied: vec![0.0; config.action_len() as usize],
        })
    }

    /// Begins an episode in which target_return is wanted, in the environment's units; None: what the file suggests.
    /// Clears a fault.
    ///
    /// A policy that samples its choices draws them with this seed, as `host-sim rollout` does with an episode's, and the
    /// same ones in every episode with it; None: the file's.
    ///
    /// Raises ValueError if target_return is not finite.
    #[pyo3(signature = (target_return = None, *, seed = None))]
    fn reset(&mut self, target_return: Option<f64>, seed: Option<u64>) -> PyResult<()> {
        let seed = seed.unwrap_or(match self.manifest().choice {
            Choice::Sampled(sampling) => sampling.seed,
            Choice::Greedy => 0,
        });
        let target_return = target_return.map_or(self.manifest().target_return, |r| r as f32);
        let begun = self.loaded.with_dependent_mut(|_, running| {
            let Running {
                controller, guard, ..
            } = running;
            // First by itself, since a guard would latch what it refuses to begin.
            controller.reset(seed, target_return)?;
            match guard {
                Some(guard) => guard.restart(controller.policy_mut(), target_return),
                None => Ok(()),
            }
        });
        begun.map_err(|error: ActError| self.refused(error))?;
        self.due = Due::Act;
        Ok(())
    }

    /// The action (act_dim) for an observation (state_dim), both in the environment's units: finite, within
    /// action_low and action_high, an array of its own. Where the policy makes choices it holds one number, the index:
    /// env.step(int(action[0])).
    ///
    /// The observation is a vector of any kind of numbers; the policy sees it as f32.
    ///
    /// Warns with FaultWarning when the guard latches; the action is then safe_action. Raises ValueError for another
    /// shape and, without a guard, for what is not finite; RuntimeError before reset() and before absorb() of the last
    /// action.
    fn act<'py>(
        &mut self,
        py: Python<'py>,
        observation: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        match self.due {
            Due::Act => {}
            Due::Reset => return Err(wrong_order("reset() comes before the first act()")),
            Due::Absorb => {
                let order = "absorb(reward) of the last action comes before the next act()";
                return Err(wrong_order(order));
            }
        }
        vector::read(
            "observation",
            &self.path,
            observation,
            &mut self.observation,
        )?;
        let (observation, action) = (&self.observation, &mut self.action);
        let acted = self.loaded.with_dependent_mut(|_, running| {
            let Running {
                controller, guard, ..
            } = running;
            match guard {
                Some(guard) => {
                    let before = guard.fault();
                    let command = guard.step(controller.policy_mut(), observation);
                    action.copy_from_slice(command.action);
                    Ok(command.fault.filter(|_| before.is_none()))
                }
                None => {
                    action.copy_from_slice(controller.act(observation)?);
                    Ok(None)
                }
            }
        });
        match acted {
            Ok(None) => {}
            // Where the warning is made an exception, the next act() gives the safe action.
            Ok(Some(fault)) => self.warn(py, fault)?,
            Err(error) => {
                if error == ActError::NonFinite {
                    self.due = Due::Reset;
                }
                return Err(self.refused(error));
            }
        }
        self.due = Due::Absorb;
        Ok(vector::array(py, &self.action))
    }

    /// Tells the policy what the last action has earned, and what was really applied where that is not what act()
    /// returned.
    ///
    /// reward, in the environment's units, is subtracted from return_to_go, unless reward_mode is "constant"; where
    /// it is "external", None leaves return_to_go to be set. While a fault is latched, nothing is absorbed.
    ///
    /// Raises ValueError for what is not finite or has another shape, RuntimeError if there was no act() before.
    #[pyo3(signature = (reward = None, *, applied = None))]
    fn absorb(&mut self, reward: Option<f64>, applied: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        match self.due {
            Due::Absorb => {}
            Due::Reset => {
                return Err(wrong_order(
                    "reset() comes first, then act(), then absorb()",
                ));
            }
            Due::Act => return Err(wrong_order("act() comes before each absorb()")),
        }
        match applied {
            Some(applied) => vector::read("action", &self.path, applied, &mut self.applied)?,
            None => self.applied.copy_from_slice(&self.action),
        }
        // Looked at before anything is absorbed, so that the caller can ask again.
        let reward = reward.map(|reward| reward as f32);
        if reward.is_some_and(|reward| !reward.is_finite()) {
            return Err(PyValueError::new_err("the reward is NaN or infinite"));
        }
        let mode = self.manifest().reward;
        if reward.is_none() && mode == RewardMode::Observed {
            return Err(PyValueError::new_err(
                "this policy subtracts rewards from its return-to-go (reward_mode is \"observed\"): absorb(reward)",
            ));
        }
        let applied = &self.applied;
        let absorbed = self.loaded.with_dependent_mut(|_, running| {
            let faulted = running.guard.as_ref().is_some_and(|g| g.fault().is_some());
            match reward {
                _ if faulted => Ok(()),
                Some(reward) => running.controller.feedback(applied, reward),
                None => running.controller.policy_mut().absorb(applied),
            }
        });
        match absorbed {
            Ok(()) => {
                self.due = Due::Act;
                Ok(())
            }
            Err(error) => {
                // Of the return alone: the action is absorbed by then.
                if error == ActError::Return {
                    self.due = Due::Reset;
                }
                Err(self.refused(error))
            }
        }
    }

    /// Runs the golden vectors of the file and returns how many steps were compared, each to the bit; reset() comes
    /// next. RuntimeError names the first that differs, or says that there are none.
    fn self_test(&mut self) -> PyResult<usize> {
        self.due = Due::Reset;
        let checked = self.loaded.with_dependent_mut(|_, running| {
            golden::check(running.controller.policy_mut(), &running.blob)
        });
        checked.map_err(|error| {
            PyRuntimeError::new_err(format!(
                "{}: self-test failed: {error}",
                self.path.display()
            ))
        })
    }

    /// Why the safe action is out; None: it is not.
    #[getter]
    fn fault(&self) -> Option<String> {
        let guard = self.running().guard.as_ref();
        guard.and_then(|guard| Some(guard.fault()?.to_string()))
    }

    /// What is still wanted, in the environment's units; absorb() subtracts rewards from it. Can be set after reset().
    #[getter]
    fn return_to_go(&self) -> f32 {
        self.running().controller.policy().return_to_go()
    }

    #[setter]
    fn set_return_to_go(&mut self, value: f64) -> PyResult<()> {
        let set = self.loaded.with_dependent_mut(|_, running| {
            let policy = running.controller.policy_mut();
            policy.set_return_to_go(value as f32)
        });
        set.map_err(|error| self.refused(error))
    }

    /// Actions absorbed since reset().
    #[getter]
    fn timestep(&self) -> u32 {
        self.running().controller.policy().timestep()
    }

    /// The file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The file's checksum, by which recordings and logs name it.
    #[getter]
    fn crc(&self) -> u32 {
        self.loaded.borrow_owner().crc()
    }

    /// The environment it was trained in; empty: unknown.
    #[getter]
    fn env(&self) -> &str {
        self.manifest().env
    }

    /// Length of an observation.
    #[getter]
    fn state_dim(&self) -> u32 {
        self.manifest().config.state_dim
    }

    /// Length of an action, or the number of choices that there are.
    #[getter]
    fn act_dim(&self) -> u32 {
        self.manifest().config.act_dim
    }

    /// Whether actions are choices: an action is then one number, from 0 to act_dim - 1.
    #[getter]
    fn discrete(&self) -> bool {
        self.manifest().config.actions == Actions::Discrete
    }

    /// Lowest observation that the guard accepts (state_dim).
    #[getter]
    fn state_low<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        vector::array(py, self.vectors().state_low)
    }

    /// Highest observation that the guard accepts (state_dim).
    #[getter]
    fn state_high<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        vector::array(py, self.vectors().state_high)
    }

    /// Lowest action (act_dim).
    #[getter]
    fn action_low<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        vector::array(py, self.vectors().action_low)
    }

    /// Highest action (act_dim).
    #[getter]
    fn action_high<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        vector::array(py, self.vectors().action_high)
    }

    /// What to do when something is wrong (act_dim).
    #[getter]
    fn safe_action<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        vector::array(py, self.vectors().safe_action)
    }

    /// Time between two actions, s.
    #[getter]
    fn period(&self) -> f64 {
        f64::from(self.manifest().control_period_us) / 1e6
    }

    /// The target return that the file suggests, in the environment's units.
    #[getter]
    fn target_return(&self) -> f32 {
        self.manifest().target_return
    }

    /// Where the return-to-go comes from after each step: "observed", "constant" or "external".
    #[getter]
    fn reward_mode(&self) -> String {
        spelled(self.manifest().reward)
    }

    /// Timesteps that a token attends to, K.
    #[getter]
    fn context_len(&self) -> u32 {
        self.manifest().config.context_len
    }

    /// "streaming" or "window"; "none" of what has none, a perceptron.
    #[getter]
    fn attention(&self) -> String {
        let config = &self.manifest().config;
        match config.is_mlp() {
            true => "none".to_owned(),
            false => spelled(config.attention),
        }
    }

    /// Of the weights: "f32", "int8" or "int4".
    #[getter]
    fn dtype(&self) -> String {
        spelled(self.manifest().config.dtype)
    }

    fn __repr__(&self) -> String {
        let Manifest { config, env, .. } = self.manifest();
        format!(
            "<dt_policy.Policy {:?}: {}, {} observed, {} actuated, {}, {} with K = {}>",
            self.path,
            if env.is_empty() {
                "environment unknown"
            } else {
                env
            },
            config.state_dim,
            config.act_dim,
            self.dtype(),
            match config.is_mlp() {
                true => "a perceptron".to_owned(),
                false => self.attention(),
            },
            config.context_len,
        )
    }
}

impl Policy {
    fn running(&self) -> &Running<'_> {
        self.loaded.borrow_dependent()
    }

    fn manifest(&self) -> &Manifest<'_> {
        self.running().blob.manifest()
    }

    fn vectors(&self) -> &Vectors<'_> {
        self.running().blob.vectors()
    }

    fn warn(&self, py: Python<'_>, fault: Fault) -> PyResult<()> {
        let values = match fault {
            Fault::OutOfRange { index } => format!(
                " ({} is not in {}..{})",
                self.observation[index],
                self.vectors().state_low[index],
                self.vectors().state_high[index]
            ),
            _ => String::new(),
        };
        let remedy = match fault {
            // Nobody can act on these.
            Fault::Act(_) => "",
            _ => "; Policy(path, guard=False) acts on, as `dt-train eval` does",
        };
        let message = format!(
            "{}: {fault}{values}: act() gives the safe action until reset(){remedy}",
            self.path.display()
        );
        // A path may hold no zero byte.
        let message = CString::new(message)?;
        PyErr::warn(py, &py.get_type::<FaultWarning>(), &message, 1)
    }

    /// What Python is told of a refused call.
    fn refused(&self, error: ActError) -> PyErr {
        let message = format!("{}: {error}", self.path.display());
        match error {
            ActError::Observation { .. }
            | ActError::Action { .. }
            | ActError::Return
            | ActError::WrongLength { .. } => PyValueError::new_err(message),
            _ => PyRuntimeError::new_err(message),
        }
    }
}

/// A file that cannot be read is the `OSError` that Python would raise, `FileNotFoundError` for one.
fn unusable(error: PolicyFileError) -> PyErr {
    match &error {
        PolicyFileError::Read { source, .. } => io::Error::new(
            source.kind(),
            format!("{error}; `dt-train export RUN --out F.dtb` writes one"),
        )
        .into(),
        PolicyFileError::Blob { .. } => PyValueError::new_err(error.to_string()),
    }
}

fn wrong_order(message: &'static str) -> PyErr {
    PyRuntimeError::new_err(message)
}

/// The name of an enum's variant, of one word, as `dt-train inspect` spells it.
fn spelled(variant: impl std::fmt::Debug) -> String {
    format!("{variant:?}").to_lowercase()
}

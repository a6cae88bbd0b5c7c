//! The processes of one plant, and the environments in them.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use dt_link::Values;
use dt_link::plant::{FromPlant, Hello, Space as WireSpace, ToPlant, VERSION};
use dt_link::stream::MAX_STREAM_FRAME;

use super::launch::Launch;
use super::wire::{Failure, Wire};
use crate::env::EnvSpec;
use crate::space::Space;

/// Ends of plants in a row after which there is no next one.
const ENOUGH: u32 = 3;

/// A plant: how to start it, what it says of itself, its processes.
pub struct Pool {
    name: String,
    launch: Launch,
    described: Described,
    processes: Mutex<Vec<Arc<Process>>>,
    /// Ends in a row since the last episode that came to its own. What ends side by side ends once: one that began before another end
    /// says nothing of what comes after that.
    ends: AtomicU32,
    last_words: Mutex<String>,
}

impl Pool {
    /// Starts a first process and asks what it is.
    pub fn start(name: &str, launch: Launch) -> Result<Self, String> {
        let (process, described) = Process::start(&launch, name)?;
        Ok(Self {
            name: name.into(),
            launch,
            described,
            processes: Mutex::new(vec![Arc::new(process)]),
            ends: AtomicU32::new(0),
            last_words: Mutex::default(),
        })
    }

    /// As it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn described(&self) -> &Described {
        &self.described
    }

    /// Of `wanted` threads (0: one per core) those that can have an environment each: of a plant that is not ours to start there
    /// is one, with as many as it says.
    pub fn threads(&self, wanted: usize) -> usize {
        if !self.launch.is_single() {
            return wanted;
        }
        let wanted = match wanted {
            0 => thread::available_parallelism().map_or(1, usize::from),
            wanted => wanted,
        };
        wanted.min(self.described.envs as usize)
    }

    /// An environment that nobody uses, in a process that is started if need be.
    pub fn acquire(&self) -> Result<Slot, String> {
        if self.ends() >= ENOUGH {
            let words = locked(&self.last_words);
            return Err(format!("given up after {ENOUGH} ends in a row: {words}"));
        }
        let mut processes = locked(&self.processes);
        processes.retain(|process| !process.is_dead());
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let idlest = processes.iter().min_by_key(|process| process.load());
        let idlest = idlest.filter(|process| process.load() < self.described.envs);
        let full = self.launch.is_single() && !processes.is_empty() || processes.len() >= cores;
        if let Some(process) = idlest
            && (process.load() == 0 || full)
        {
            return Ok(process.slot(self.ends()));
        }
        if self.launch.is_single() && !processes.is_empty() {
            let envs = self.described.envs;
            return Err(format!(
                "it holds {envs} environment(s) at a time, and one more is wanted; use --threads 1 or --envs {envs}, or start several plants"
            ));
        }
        let (process, described) = Process::start(&self.launch, &self.name)
            .map_err(|words| self.end(self.ends(), words))?;
        if described != self.described {
            let words = "its next process says other things of itself than its first";
            return Err(self.end(self.ends(), words.into()));
        }
        let process = Arc::new(process);
        processes.push(process.clone());
        Ok(process.slot(self.ends()))
    }

    /// Ends in a row so far.
    fn ends(&self) -> u32 {
        self.ends.load(Relaxed)
    }

    /// Notes that a plant has ended what began when there were `before` ends.
    fn end(&self, before: u32, words: String) -> String {
        self.ends.fetch_max(before.saturating_add(1), Relaxed);
        locked(&self.last_words).clone_from(&words);
        words
    }

    /// Notes that an episode has come to its own end.
    pub fn finished(&self) {
        self.ends.store(0, Relaxed);
    }

    /// Ends its processes: all at once, each with a little time to do so by itself. One that is asked something just now is left.
    pub fn close(&self) {
        let processes = locked(&self.processes);
        let mut wires: Vec<_> = processes
            .iter()
            .filter_map(|process| process.wire.try_lock().ok())
            .collect();
        wires
            .iter_mut()
            .filter_map(|wire| wire.as_mut())
            .for_each(Wire::hang_up);
        wires.iter_mut().for_each(|wire| **wire = None);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({:?})", self.name)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One process with its environments.
pub struct Process {
    /// `None`: dead.
    wire: Mutex<Option<Wire>>,
    /// What was wrong with it when it died.
    words: Mutex<Option<String>>,
    /// Of each of its environments, whether somebody uses it.
    used: Mutex<Vec<bool>>,
}

impl Process {
    fn start(launch: &Launch, name: &str) -> Result<(Self, Described), String> {
        let mut wire = launch.start(name)?;
        let hello = ToPlant::Hello { version: VERSION };
        let described = wire.ask(&hello, |answer| match answer {
            FromPlant::Hello(hello) => Described::new(&hello),
            other => Err(format!("it answers Hello with {}", answer_kind(&other))),
        });
        let described = described.map_err(|failure| match failure {
            Failure::Refused(text) | Failure::Dead(text) => text,
        })?;
        let process = Self {
            wire: Mutex::new(Some(wire)),
            words: Mutex::default(),
            used: Mutex::default(),
        };
        Ok((process, described))
    }

    fn is_dead(&self) -> bool {
        locked(&self.words).is_some()
    }

    fn load(&self) -> u32 {
        locked(&self.used).iter().filter(|used| **used).count() as u32
    }

    fn slot(self: &Arc<Self>, ends: u32) -> Slot {
        let mut used = locked(&self.used);
        let env = used.iter().position(|used| !used).unwrap_or(used.len());
        if env == used.len() {
            used.push(true);
        }
        used[env] = true;
        Slot {
            process: self.clone(),
            env: env as u32,
            ends: AtomicU32::new(ends),
        }
    }
}

/// The use of one environment.
pub struct Slot {
    process: Arc<Process>,
    env: u32,
    /// Those of the plant when the episode began, or after its last end.
    ends: AtomicU32,
}

impl Slot {
    /// Its number, for questions.
    pub const fn env(&self) -> u32 {
        self.env
    }

    /// Whether its process has ended.
    pub fn is_dead(&self) -> bool {
        self.process.is_dead()
    }

    /// Asks. An error is the plant's end, or its refusal, of which `pool` takes note: once, however many environments end
    /// with it. It may always refuse to draw or to begin in a given state, of which nobody takes note.
    pub fn ask<T>(
        &self,
        pool: &Pool,
        question: &ToPlant<'_>,
        take: impl FnOnce(FromPlant<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut wire = locked(&self.process.wire);
        let Some(open) = wire.as_mut() else {
            return Err(locked(&self.process.words).clone().unwrap_or_default());
        };
        let ended = |words| {
            let words = pool.end(self.ends.load(Relaxed), words);
            self.ends.store(pool.ends(), Relaxed);
            words
        };
        match open.ask(question, take) {
            Ok(answer) => {
                if matches!(question, ToPlant::Reset { .. } | ToPlant::SetState { .. }) {
                    self.ends.store(pool.ends(), Relaxed);
                }
                Ok(answer)
            }
            Err(Failure::Refused(text)) => Err(match question {
                ToPlant::Reset { .. } | ToPlant::Step { .. } => ended(text),
                ToPlant::Hello { .. } | ToPlant::Render { .. } | ToPlant::SetState { .. } => text,
            }),
            Err(Failure::Dead(words)) => {
                *wire = None;
                *locked(&self.process.words) = Some(words.clone());
                Err(ended(words))
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(used) = locked(&self.process.used).get_mut(self.env as usize) {
            *used = false;
        }
    }
}

/// What a plant says of itself, owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// What it is called.
    pub name: String,
    envs: u32,
    observation: OwnedSpace,
    action: OwnedSpace,
    max_episode_steps: u32,
    control_period_us: u32,
    score_range: Option<(f64, f64)>,
    /// Of an observation's components; none, or as many as there are.
    pub observation_names: Vec<String>,
}

impl Described {
    fn new(hello: &Hello<'_>) -> Result<Self, String> {
        if hello.version != VERSION {
            let version = hello.version;
            return Err(format!(
                "the plant speaks version {version} of the protocol, this program version {VERSION}"
            ));
        }
        let action = OwnedSpace::new("actions", hello.action)?;
        if matches!(action, OwnedSpace::Image(_)) {
            return Err("its actions are an Image; they can be Box or Discrete".into());
        }
        for (number, what) in [
            (hello.envs, "envs"),
            (hello.max_episode_steps, "max_episode_steps"),
            (hello.control_period_us, "control_period_us"),
        ] {
            if number == 0 {
                return Err(format!("it says 0 for {what}; at least 1 is of use"));
            }
        }
        if let Some((low, high)) = hello.score_range
            && !(low.is_finite() && high.is_finite() && low < high)
        {
            return Err(format!(
                "its score_range is {low} to {high}; both have to be finite, the first one below the second, or there is none"
            ));
        }
        let names: Vec<String> = hello.observation_names.lines().map(Into::into).collect();
        let observation = OwnedSpace::new("observations", hello.observation)?;
        let components = observation.borrowed().len();
        if !names.is_empty() && names.len() != components {
            let names = names.len();
            return Err(format!(
                "it has {names} observation_names for {components} components"
            ));
        }
        Ok(Self {
            name: hello.name.into(),
            envs: hello.envs,
            observation,
            action,
            max_episode_steps: hello.max_episode_steps,
            control_period_us: hello.control_period_us,
            score_range: hello.score_range,
            observation_names: names,
        })
    }

    /// For [`Env::spec`](crate::Env::spec).
    pub fn spec(&self) -> EnvSpec<'_> {
        EnvSpec {
            id: &self.name,
            observation: self.observation.borrowed(),
            action: self.action.borrowed(),
            max_episode_steps: self.max_episode_steps,
            control_period_us: self.control_period_us,
            score_range: self.score_range,
        }
    }
}

/// A space that owns its bounds.
#[derive(Clone, Debug, PartialEq)]
enum OwnedSpace {
    Box(Vec<f32>, Vec<f32>),
    Discrete(usize),
    Image([usize; 3]),
}

impl OwnedSpace {
    fn new(what: &str, space: WireSpace<'_>) -> Result<Self, String> {
        let owned = match space {
            WireSpace::Box { low, high } => {
                let owned = |values: Values<'_>| values.iter().collect::<Vec<f32>>();
                let (low, high) = (owned(low), owned(high));
                let ordered = low.iter().zip(&high).all(|(low, high)| low <= high);
                if low.len() != high.len() || !ordered {
                    return Err(format!(
                        "the bounds of its {what} are not as many low as high ones, each low one below its high one"
                    ));
                }
                Self::Box(low, high)
            }
            WireSpace::Discrete { n } => Self::Discrete(n as usize),
            WireSpace::Image {
                height,
                width,
                channels,
            } => {
                let sides = [height, width, channels].map(|n| n as usize);
                let pixels = sides
                    .iter()
                    .try_fold(1, |n: usize, side| n.checked_mul(*side));
                if pixels.is_none_or(|pixels| pixels > MAX_STREAM_FRAME) {
                    return Err(format!(
                        "its {what} are images of {height} × {width} × {channels} values, and an answer has at most {MAX_STREAM_FRAME}"
                    ));
                }
                Self::Image(sides)
            }
        };
        let empty = match &owned {
            Self::Box(low, _) => low.is_empty(),
            Self::Discrete(n) => *n == 0,
            Self::Image(sides) => sides.contains(&0),
        };
        if empty {
            return Err(format!("its {what} have no components"));
        }
        Ok(owned)
    }

    fn borrowed(&self) -> Space<'_> {
        match self {
            Self::Box(low, high) => Space::Box { low, high },
            Self::Discrete(n) => Space::Discrete { n: *n },
            Self::Image([height, width, channels]) => Space::Image {
                height: *height,
                width: *width,
                channels: *channels,
            },
        }
    }
}

/// A message's name.
pub const fn answer_kind(answer: &FromPlant<'_>) -> &'static str {
    match answer {
        FromPlant::Hello(_) => "Hello",
        FromPlant::State { .. } => "State",
        FromPlant::Picture { .. } => "Picture",
        FromPlant::Error { .. } => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: u32, width: u32, channels: u32) -> WireSpace<'static> {
        WireSpace::Image {
            height,
            width,
            channels,
        }
    }

    fn described(observation: WireSpace<'_>, score_range: Option<(f64, f64)>) -> Option<String> {
        let hello = Hello {
            version: VERSION,
            name: "x",
            envs: 1,
            observation,
            action: WireSpace::Discrete { n: 2 },
            max_episode_steps: 1,
            control_period_us: 1,
            score_range,
            observation_names: "",
            action_names: "",
        };
        Described::new(&hello).err()
    }

    #[test]
    fn images_that_fit_no_answer_are_refused() {
        assert_eq!(described(image(4096, 4096, 4), None), None);
        for sides in [
            image(4097, 4096, 4),
            image(65535, 65535, 4),
            image(1 << 22, 1 << 22, 1 << 22),
            image(u32::MAX, u32::MAX, u32::MAX),
        ] {
            let refusal = described(sides, None).unwrap();
            assert!(refusal.contains("at most 67108864"), "{refusal}");
        }
        let empty = described(image(0, u32::MAX, u32::MAX), None).unwrap();
        assert!(empty.contains("no components"), "{empty}");
    }

    #[test]
    fn what_ends_side_by_side_ends_once() {
        let hello = Hello {
            version: VERSION,
            name: "x",
            envs: 1,
            observation: image(1, 1, 1),
            action: WireSpace::Discrete { n: 2 },
            max_episode_steps: 1,
            control_period_us: 1,
            score_range: None,
            observation_names: "",
            action_names: "",
        };
        let pool = Pool {
            name: "plant:false".into(),
            launch: Launch::Shell("false".into()),
            described: Described::new(&hello).unwrap(),
            processes: Mutex::default(),
            ends: AtomicU32::new(0),
            last_words: Mutex::default(),
        };
        let end = |before| {
            pool.end(before, "gone".into());
            pool.ends()
        };
        assert_eq!([0; 16].map(end), [1; 16]);
        assert_eq!([1, 0, 1].map(end), [2; 3]);
        pool.finished();
        assert_eq!([0, 1, 2].map(end), [1, 2, 3]);
        let refusal = pool.acquire().err().unwrap();
        assert_eq!(refusal, "given up after 3 ends in a row: gone");
        // Each start that fails is one that knew of the ones before.
        pool.finished();
        let ends = [(); 4].map(|()| (pool.acquire().is_err(), pool.ends()));
        assert_eq!(ends, [(true, 1), (true, 2), (true, 3), (true, 3)]);
    }

    #[test]
    fn scores_are_of_two_finite_returns() {
        let range = |low, high| described(image(1, 1, 1), Some((low, high)));
        assert_eq!(range(-1.0, 2.0), None);
        for (low, high) in [
            (f64::NAN, 1.0),
            (0.0, f64::NAN),
            (f64::NEG_INFINITY, 1.0),
            (0.0, f64::INFINITY),
            (1.0, 1.0),
            (2.0, 1.0),
        ] {
            let refusal = range(low, high).unwrap();
            assert!(refusal.contains("its score_range is"), "{refusal}");
        }
    }
}

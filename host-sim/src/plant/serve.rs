//! The other end: environments of this program as a plant.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;

use dt_link::plant::{Doubles, FromPlant, Hello, Numbers, Space as WireSpace, ToPlant, VERSION};
use dt_link::stream::Stream;
use dt_link::{Direction, FrameError, Values};

use crate::env::Env;
use crate::space::Space;

/// Answers a host until it is gone. Any number of environments, made as they are asked for. Nothing else may be written to
/// `writer`: a plant on stdout prints to stderr.
///
/// # Errors
/// Those of the streams.
pub fn serve(
    make: impl Fn() -> Box<dyn Env>,
    reader: impl Read,
    writer: impl Write,
) -> io::Result<()> {
    let mut stream = Stream::new(reader, writer, Direction::ToHost);
    let mut envs = vec![make()];
    let mut observation = vec![0.0; envs[0].spec().state_dim()];
    let mut action = vec![0.0; envs[0].spec().act_dim()];
    loop {
        let frame = match stream.receive(None) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let sequence = frame.header.sequence;
        let question = frame.decode::<ToPlant<'_>>();
        if let Ok(ToPlant::Reset { env, .. } | ToPlant::SetState { env, .. }) = question {
            while envs.len() <= env as usize && envs.len() < MOST as usize {
                envs.push(make());
            }
        }
        let outcome = act(question, &mut envs, &mut action);
        let (index, step) = match outcome {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                greet(&mut stream, sequence, envs[0].as_ref())?;
                continue;
            }
            Err(text) => {
                stream.answer(sequence, &FromPlant::Error { text: &text })?;
                continue;
            }
        };
        let env = &envs[index];
        if let Some(fault) = env.fault() {
            let text = fault.to_string();
            stream.answer(sequence, &FromPlant::Error { text: &text })?;
            continue;
        }
        env.observation_f64(&mut observation);
        let (reward, terminated, truncated) = step;
        let state = FromPlant::State {
            env: index as u32,
            observation: Numbers::F64(Doubles::new(&observation)),
            reward,
            terminated,
            truncated,
        };
        stream.answer(sequence, &state)?;
    }
}

/// Environments that one host can have.
const MOST: u32 = 1 << 16;

/// [`serve`] for everyone who connects, each in a thread with environments of their own. Does not return unless accepting fails.
///
/// # Errors
/// The listener's.
pub fn listen(
    listener: &TcpListener,
    make: impl Fn() -> Box<dyn Env> + Clone + Send + 'static,
) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let (reader, make) = (stream.try_clone()?, make.clone());
        // That one host is gone does not matter to the others.
        thread::spawn(move || serve(make, reader, stream));
    }
}

/// What a state says beside the observation.
type Outcome = (f64, bool, bool);

/// Does as asked. `None`: who is there?
fn act(
    question: Result<ToPlant<'_>, FrameError>,
    envs: &mut [Box<dyn Env>],
    action: &mut [f32],
) -> Result<Option<(usize, Outcome)>, String> {
    let question = question.map_err(|error| error.to_string())?;
    let (ToPlant::Reset { env, .. }
    | ToPlant::Step { env, .. }
    | ToPlant::Render { env }
    | ToPlant::SetState { env, .. }) = question
    else {
        return Ok(None);
    };
    let index = env as usize;
    let count = envs.len();
    let env = envs
        .get_mut(index)
        .ok_or_else(|| format!("there are {count} environments, and none of number {index}"))?;
    let mut outcome = (0.0, false, false);
    match question {
        ToPlant::Reset { seed, .. } => env.reset(seed),
        ToPlant::SetState { qpos, qvel, .. } => {
            let [qpos, qvel] = [qpos, qvel].map(|values| values.iter().collect::<Vec<f64>>());
            env.set_state(&qpos, &qvel)
                .map_err(|error| error.to_string())?;
        }
        ToPlant::Step { action: values, .. } => {
            values
                .copy_to(action)
                .map_err(|refusal| refusal.to_string())?;
            let step = env.step(action);
            outcome = (step.reward, step.terminated, step.truncated);
        }
        ToPlant::Render { .. } | ToPlant::Hello { .. } => {
            return Err("this plant draws no pictures".into());
        }
    }
    Ok(Some((index, outcome)))
}

fn greet<R: Read, W: Write>(
    stream: &mut Stream<R, W>,
    sequence: u16,
    env: &dyn Env,
) -> io::Result<()> {
    let spec = env.spec();
    let hello = Hello {
        version: VERSION,
        name: spec.id,
        envs: MOST,
        observation: described(spec.observation),
        action: described(spec.action),
        max_episode_steps: spec.max_episode_steps,
        control_period_us: spec.control_period_us,
        score_range: spec.score_range,
        observation_names: "",
        action_names: "",
    };
    stream.answer(sequence, &FromPlant::Hello(hello))
}

fn described(space: Space<'_>) -> WireSpace<'_> {
    match space {
        Space::Box { low, high } => WireSpace::Box {
            low: Values::new(low),
            high: Values::new(high),
        },
        Space::Discrete { n } => WireSpace::Discrete { n: n as u32 },
        Space::Image {
            height,
            width,
            channels,
        } => WireSpace::Image {
            height: height as u32,
            width: width as u32,
            channels: channels as u32,
        },
    }
}

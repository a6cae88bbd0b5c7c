//! The other end: environments of this program as a plant.

use std::collections::BTreeMap;
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
    let first = make();
    let mut observation = vec![0.0; first.spec().state_dim()];
    let mut action = vec![0.0; first.spec().act_dim()];
    let mut envs = BTreeMap::from([(0, first)]);
    loop {
        let frame = match stream.receive(None) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let sequence = frame.header.sequence;
        let question = frame.decode::<ToPlant<'_>>();
        if let Ok(ToPlant::Reset { env, .. } | ToPlant::SetState { env, .. }) = question
            && env < MOST
        {
            envs.entry(env).or_insert_with(&make);
        }
        let outcome = act(question, &mut envs, &mut action);
        let (index, env, step) = match outcome {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                greet(&mut stream, sequence, envs[&0].as_ref())?;
                continue;
            }
            Err(text) => {
                stream.answer(sequence, &FromPlant::Error { text: &text })?;
                continue;
            }
        };
        if let Some(fault) = env.fault() {
            let text = fault.to_string();
            stream.answer(sequence, &FromPlant::Error { text: &text })?;
            continue;
        }
        env.observation_f64(&mut observation);
        let (reward, terminated, truncated) = step;
        let state = FromPlant::State {
            env: index,
            observation: Numbers::F64(Doubles::new(&observation)),
            reward,
            terminated,
            truncated,
        };
        stream.answer(sequence, &state)?;
    }
}

/// Environments that one host can have.
const MOST: u32 = 1024;

/// [`serve`] for everyone who connects, each in a thread with environments of their own. Does not return unless accepting fails.
///
/// # Errors
/// The listener's.
pub fn listen(
    listener: &TcpListener,
    make: impl Fn() -> Box<dyn Env> + Clone + Send + 'static,
) -> io::Result<()> {
    loop {
        // That one host is gone does not matter to the others.
        let connected = listener.accept().and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            Ok((stream.try_clone()?, stream))
        });
        match connected {
            Ok((reader, writer)) => {
                let make = make.clone();
                thread::spawn(move || serve(make, reader, writer));
            }
            Err(error) if is_of_one_host(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether an error of accepting is one of who connected, not of listening.
fn is_of_one_host(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | Interrupted
            | InvalidInput
            | NotConnected
    )
}

/// What a state says beside the observation.
type Outcome = (f64, bool, bool);

/// Does as asked: the environment's number, itself, and what came of it. `None`: who is there?
fn act<'a>(
    question: Result<ToPlant<'_>, FrameError>,
    envs: &'a mut BTreeMap<u32, Box<dyn Env>>,
    action: &mut [f32],
) -> Result<Option<(u32, &'a dyn Env, Outcome)>, String> {
    let question = question.map_err(|error| error.to_string())?;
    let (ToPlant::Reset { env, .. }
    | ToPlant::Step { env, .. }
    | ToPlant::Render { env }
    | ToPlant::SetState { env, .. }) = question
    else {
        return Ok(None);
    };
    let index = env;
    let env = envs.get_mut(&index).ok_or_else(|| match index {
        ..MOST => format!("environment {index} has not been reset"),
        _ => format!(
            "there is no environment {index}; they are numbered from 0 to {}",
            MOST - 1
        ),
    })?;
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
    Ok(Some((index, &**env, outcome)))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::pendulum::Pendulum;
    use crate::trig::LibmTrig;

    /// Not those of lower numbers, and none of a number that there is not.
    #[test]
    fn an_environment_comes_into_being_when_it_is_reset() {
        let mut asked = Vec::new();
        let mut host = Stream::new(io::empty(), &mut asked, Direction::ToDevice);
        let step = [0.0];
        for question in [
            ToPlant::Reset { env: 1023, seed: 1 },
            ToPlant::Reset {
                env: 65_535,
                seed: 1,
            },
            ToPlant::Step {
                env: 5,
                action: Values::new(&step),
            },
            ToPlant::Step {
                env: 1023,
                action: Values::new(&step),
            },
        ] {
            host.send(&question).unwrap();
        }
        let made = Cell::new(0);
        let make = || -> Box<dyn Env> {
            made.set(made.get() + 1);
            Box::new(Pendulum::<LibmTrig>::new())
        };
        let mut answered = Vec::new();
        serve(make, &*asked, &mut answered).unwrap();
        assert_eq!(made.get(), 2, "the one it describes, and the one asked for");
        let mut host = Stream::new(&*answered, io::sink(), Direction::ToDevice);
        let mut answer = || {
            let frame = host.receive(None).unwrap();
            match frame.decode::<FromPlant<'_>>().unwrap() {
                FromPlant::State { env, .. } => env.to_string(),
                FromPlant::Error { text } => text.to_owned(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(answer(), "1023");
        assert_eq!(
            answer(),
            "there is no environment 65535; they are numbered from 0 to 1023"
        );
        assert_eq!(answer(), "environment 5 has not been reset");
        assert_eq!(answer(), "1023");
    }
}

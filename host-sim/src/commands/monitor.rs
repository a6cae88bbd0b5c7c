//! `host-sim monitor`: a controller's dashboard.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use dt_link::{Side, ToDevice, ToHost};
use host_sim::Blueprint;
use host_sim::Controller;
use host_sim::controller::check_targets;
use host_sim::link::client::Answer;
use host_sim::link::monitor::{Event, Panel};
use host_sim::link::{Client, Connection, LinkError, Place, Remote, in_words};
use host_sim::policy_file::check_env;
use host_sim::rollout::{Episode, EpisodeError, buffer_len, episode};
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind};

use super::{Environment, UsageError};

/// Between two looks at the keyboard.
const FRAME: Duration = Duration::from_millis(50);

/// Between two questions to a controller that does nothing.
const IDLE: Duration = Duration::from_millis(500);

/// Arguments of `host-sim monitor`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where the controller is: a serial device, a pseudo-terminal or a Unix socket, or qemu[:BOARD]
    #[arg(value_name = "DEV", value_parser = Place::of)]
    device: Place,
    /// The environment to simulate in real time, in which the controller acts; without one nothing moves
    #[command(flatten)]
    env: Environment,
    /// Return to aim at first [default: the policy's]
    #[arg(long, value_name = "R", allow_hyphen_values = true)]
    target_return: Option<f32>,
    /// Seed of the first episode
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// With qemu, the image that the board runs
    #[arg(long, value_name = "ELF")]
    image: Option<PathBuf>,
}

/// What the keyboard asks for.
#[derive(Clone, Copy, Debug)]
struct Wishes {
    target_return: f32,
    quit: bool,
    pause: bool,
    next: bool,
}

/// Why an episode was cut short.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("as was asked")]
    Asked,
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Runs the command.
///
/// # Errors
/// No terminal, no controller, an environment that does not fit it, or whatever goes wrong later.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        io::stdout().is_terminal(),
        "the monitor draws on a terminal, and this is none: run it without > or |; `host-sim rollout --controller` prints results"
    );
    check_targets(args.target_return.as_slice())?;
    let mut place = args.device.clone();
    match &mut place {
        Place::Qemu { image, .. } => image.clone_from(&args.image),
        _ if args.image.is_some() => return Err(UsageError::Image.into()),
        Place::Pico { .. } => return Err(UsageError::PicoElsewhere.into()),
        Place::Serial { .. } => {}
    }
    let blueprint = if args.env.is_named() {
        Some(args.env.load()?)
    } else {
        None
    };
    let mut client = Client::new(Connection::open(&place)?)?;
    if let Some(blueprint) = &blueprint {
        check_plant(&client, blueprint)?;
    }
    let greeting = client.greeting().clone();
    let target_return = args.target_return.unwrap_or(greeting.target_return);
    let observation = names(&mut client, Side::Observation, greeting.state_dim)?;
    let action = names(&mut client, Side::Action, greeting.act_dim)?;
    let mut panel = Panel::new(greeting, observation, action, target_return);

    let wishes = Arc::new(Mutex::new(Wishes {
        target_return,
        quit: false,
        pause: false,
        next: false,
    }));
    let (events, happened) = channel();
    let seed = args.seed;
    let worker = thread::spawn({
        let wishes = wishes.clone();
        move || match blueprint {
            Some(blueprint) => act(client, &blueprint, seed, &wishes, &events),
            None => watch(client, &wishes, &events),
        }
    });
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let shown = show(&mut terminal, &mut panel, &wishes, &happened, || {
        worker.is_finished()
    });
    ratatui::restore();
    locked(&wishes).quit = true;
    let worked = worker
        .join()
        .map_err(|_| anyhow::anyhow!("the worker has died"))?;
    shown?;
    Ok(worked?)
}

/// A plant that the policy was trained for.
fn check_plant(client: &Client, blueprint: &Blueprint) -> anyhow::Result<()> {
    let greeting = client.greeting();
    let (actions, act_dim) = match greeting.choices {
        0 => (dt_core::config::Actions::Continuous, greeting.act_dim),
        choices => (dt_core::config::Actions::Discrete, choices),
    };
    let env = blueprint.make();
    let (state_dim, act_dim) = (greeting.state_dim.into(), act_dim.into());
    check_env(&greeting.env, state_dim, act_dim, actions, &env.spec())
        .with_context(|| client.place())
}

fn names(client: &mut Client, of: Side, len: u16) -> Result<Vec<String>, LinkError> {
    let names = (0..len).map(|index| {
        let (name, unit) = client.component(of, index)?;
        Ok(match (&*name, &*unit) {
            ("", _) => index.to_string(),
            (_, "") => name,
            _ => format!("{name} {unit}"),
        })
    });
    names.collect()
}

fn locked(wishes: &Mutex<Wishes>) -> MutexGuard<'_, Wishes> {
    wishes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws, and listens to the keyboard, until somebody wants to leave.
fn show(
    terminal: &mut ratatui::DefaultTerminal,
    panel: &mut Panel,
    wishes: &Mutex<Wishes>,
    happened: &Receiver<Event>,
    ended: impl Fn() -> bool,
) -> io::Result<()> {
    loop {
        happened.try_iter().for_each(|event| panel.take(event));
        terminal.draw(|frame| panel.draw(frame))?;
        if ended() {
            return Ok(());
        }
        if !event::poll(FRAME)? {
            continue;
        }
        let Input::Key(key) = event::read()? else {
            continue;
        };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        let mut wishes = locked(wishes);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            KeyCode::Char('c') if key.modifiers.contains(event::KeyModifiers::CONTROL) => {
                return Ok(());
            }
            KeyCode::Char(' ') => wishes.pause = !wishes.pause,
            KeyCode::Char('r') => wishes.next = true,
            KeyCode::Up => wishes.target_return += step(wishes.target_return),
            KeyCode::Down => wishes.target_return -= step(wishes.target_return),
            _ => {}
        }
        panel.aim(wishes.target_return);
    }
}

/// A twentieth, to one digit.
fn step(target_return: f32) -> f32 {
    let twentieth = target_return.abs() / 20.0;
    match twentieth > 1.0 {
        true => 10_f32.powf(twentieth.log10().floor()),
        false => 1.0,
    }
}

/// Asks a controller that is not to move how it is.
fn watch(
    mut client: Client,
    wishes: &Mutex<Wishes>,
    events: &Sender<Event>,
) -> Result<(), LinkError> {
    while !locked(wishes).quit {
        status(&mut client, events)?;
        thread::sleep(IDLE);
    }
    Ok(())
}

fn status(client: &mut Client, events: &Sender<Event>) -> Result<(), LinkError> {
    let answer = client.ask(
        "the status",
        &ToDevice::Status,
        |_, message| match message {
            ToHost::Status {
                mode,
                refused,
                lost,
                late,
                missed,
            } => Answer::Is((*mode, [*refused, *lost, *late, *missed])),
            _ => Answer::Other,
        },
    );
    let (mode, [refused, lost, late, missed]) = answer?;
    tell(events, Event::Mode(in_words(mode)));
    tell(
        events,
        Event::Counts {
            refused,
            lost,
            late,
            missed,
        },
    );
    Ok(())
}

/// To nobody, once the panel is closed.
fn tell(events: &Sender<Event>, event: Event) {
    let _ = events.send(event);
}

/// Episode after episode, in real time.
fn act(
    client: Client,
    blueprint: &Blueprint,
    seed: u64,
    wishes: &Mutex<Wishes>,
    events: &Sender<Event>,
) -> Result<(), LinkError> {
    let period = Duration::from_micros(client.greeting().period_us.into());
    let mut env = blueprint.make();
    let mut buffer = vec![0.0; buffer_len(env.spec().state_dim(), env.spec().act_dim())];
    let mut watched = Watched {
        remote: Remote::trusting(client),
        wishes,
        events,
        period,
        due: Instant::now(),
    };
    let mut seed = seed;
    loop {
        status(watched.remote.client(), events)?;
        let Wishes {
            target_return,
            quit,
            pause,
            ..
        } = *locked(wishes);
        if quit {
            return watched.remote.stop();
        }
        if pause {
            thread::sleep(IDLE);
            continue;
        }
        locked(wishes).next = false;
        let done = episode(
            env.as_mut(),
            &mut watched,
            &mut (),
            seed,
            target_return,
            &mut buffer,
        );
        seed = seed.wrapping_add(1);
        match done {
            Ok(Episode {
                fault: Some(fault), ..
            }) if fault.is_loss() => {
                watched.remote.stop()?;
                tell(events, Event::Fault(format!("no plant: {fault}")));
                thread::sleep(IDLE);
            }
            Ok(done) => tell(
                events,
                Event::Episode {
                    total_reward: done.total_reward,
                    length: done.length,
                },
            ),
            Err(EpisodeError {
                source: Cut::Asked, ..
            }) => watched.remote.stop()?,
            Err(EpisodeError {
                source: Cut::Link(LinkError::Fault { fault, .. }),
                ..
            }) => {
                tell(events, Event::Fault(fault));
                // Whoever wants to see why has the time.
                thread::sleep(IDLE);
            }
            Err(EpisodeError {
                source: Cut::Link(error),
                ..
            }) => return Err(error),
        }
    }
}

/// The controller, while somebody looks on.
struct Watched<'w> {
    remote: Remote,
    wishes: &'w Mutex<Wishes>,
    events: &'w Sender<Event>,
    period: Duration,
    /// When the next step begins.
    due: Instant,
}

impl Controller for Watched<'_> {
    type Error = Cut;

    fn reset(&mut self, seed: u64, target_return: f32) -> Result<(), Cut> {
        self.remote.reset(seed, target_return)?;
        tell(self.events, Event::Mode("running".into()));
        self.due = Instant::now();
        Ok(())
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Cut> {
        let Wishes {
            quit, pause, next, ..
        } = *locked(self.wishes);
        if quit || pause || next {
            return Err(Cut::Asked);
        }
        thread::sleep(self.due.saturating_duration_since(Instant::now()));
        self.due += self.period;
        let action = self.remote.act(observation)?.to_vec();
        let round_trips = self.remote.round_trips();
        tell(
            self.events,
            Event::Step {
                observation: observation.to_vec(),
                action,
                slack_us: round_trips.slack_us,
                round_trip: round_trips.times.last().copied().unwrap_or_default(),
            },
        );
        Ok(self.remote.action())
    }

    fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), Cut> {
        Ok(self.remote.feedback(applied, reward)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_suit_the_target() {
        for (target, expected) in [(0.0, 1.0), (-150.0, 1.0), (3600.0, 100.0), (-2e5, 1e4)] {
            assert!((step(target) / expected - 1.0).abs() < 1e-6, "{target}");
        }
    }
}

//! An episode in a window while it runs, in real time.
//!
//! A [`Viewer`] sits between the rollout loop and a controller: the loop is the same as without it, and so are the
//! results. After each step it draws, waits until the step's time has passed, and lets the user move the camera, pause
//! or close the window.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::rollout::Controller;
use crate::stage::{DrawError, Gesture, Stage};

mod window;

pub use window::{NoWindow, SIZE, Window};

/// More pictures a second than this nobody sees.
const FRAME: Duration = Duration::from_millis(16);
/// A machine that cannot draw in real time shows the robot this often, and skips pictures in between.
const SLOW_FRAME: Duration = Duration::from_millis(100);
/// If it cannot even simulate in real time, it does not try to catch up.
const LARGEST_LAG: Duration = Duration::from_millis(250);

/// Where pictures go.
pub trait Screen {
    /// Shows a picture, and says what the user did since the last one.
    ///
    /// # Errors
    /// What went wrong, in words.
    fn show(&mut self, picture: &[u8]) -> Result<Input, String>;
}

/// What a user did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// Closed the window.
    pub close: bool,
    /// Asked to pause, or to go on.
    pub pause: bool,
    /// Moved the camera by parts of the picture's height (right, down).
    pub camera: Vec<(Gesture, f64, f64)>,
}

/// Why an episode on show ended early.
#[derive(Debug)]
pub enum ViewError<E> {
    /// The user closed the window.
    Closed,
    /// There is no picture.
    Draw(DrawError),
    /// The window cannot show it.
    Screen(String),
    /// The controller failed.
    Controller(E),
}

impl<E: fmt::Display> fmt::Display for ViewError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the window was closed"),
            Self::Draw(error) => error.fmt(f),
            Self::Screen(error) => f.write_str(error),
            Self::Controller(error) => error.fmt(f),
        }
    }
}

/// A controller under observation.
pub struct Viewer<C, S> {
    controller: C,
    stage: Stage,
    screen: S,
    period: Duration,
    /// When the present step's time will have passed.
    due: Instant,
    /// When the last picture was ready.
    shown: Instant,
}

impl<C: Controller, S: Screen> Viewer<C, S> {
    /// Shows on `screen` what `controller` does to the plant on `stage`, where a control step takes `period`.
    pub fn new(controller: C, stage: Stage, screen: S, period: Duration) -> Self {
        let now = Instant::now();
        Self {
            controller,
            stage,
            screen,
            period,
            due: now,
            shown: now,
        }
    }

    /// Shows the last state for that long, still obeying the user.
    ///
    /// # Errors
    /// [`ViewError`], but not of the controller.
    pub fn linger(&mut self, time: Duration) -> Result<(), ViewError<C::Error>> {
        let end = Instant::now() + time;
        loop {
            self.show()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(FRAME));
        }
    }

    /// Shows the present state, for as long as the user wants it to pause.
    fn show(&mut self) -> Result<(), ViewError<C::Error>> {
        let mut paused = false;
        loop {
            let picture = self.stage.picture().map_err(ViewError::Draw)?;
            let input = self.screen.show(&picture).map_err(ViewError::Screen)?;
            if input.close {
                return Err(ViewError::Closed);
            }
            for (gesture, x, y) in input.camera {
                self.stage.move_camera(gesture, x, y);
            }
            self.shown = Instant::now();
            if input.pause && paused {
                self.due = self.shown;
            }
            paused ^= input.pause;
            if !paused {
                return Ok(());
            }
            sleep(FRAME);
        }
    }

    /// Waits for the end of a step, and shows the state if it is time for a picture.
    fn wait(&mut self) -> Result<(), ViewError<C::Error>> {
        self.due += self.period;
        let now = Instant::now();
        let frame = if now < self.due { FRAME } else { SLOW_FRAME };
        if now - self.shown >= frame {
            self.show()?;
        }
        let now = Instant::now();
        if now - self.due > LARGEST_LAG {
            self.due = now;
        }
        sleep(self.due - now);
        Ok(())
    }
}

impl<C: Controller, S: Screen> Controller for Viewer<C, S> {
    type Error = ViewError<C::Error>;

    fn reset(&mut self, seed: u64, target_return: f32) -> Result<(), Self::Error> {
        self.controller
            .reset(seed, target_return)
            .map_err(ViewError::Controller)?;
        self.stage.reset(seed, target_return);
        self.show()?;
        self.due = Instant::now();
        Ok(())
    }

    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Self::Error> {
        self.controller
            .act(observation)
            .map_err(ViewError::Controller)
    }

    fn predicted_return(&mut self) -> Option<f32> {
        self.controller.predicted_return()
    }

    fn feedback(&mut self, applied: &[f32], reward: f32) -> Result<(), Self::Error> {
        self.controller
            .feedback(applied, reward)
            .map_err(ViewError::Controller)?;
        self.stage.step(applied);
        self.wait()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::registry::Blueprint;
    use crate::rollout::{Episode, EpisodeError, buffer_len, episode};

    /// Pushes to the left.
    struct Push;

    impl Controller for Push {
        type Error = Infallible;
        fn reset(&mut self, _seed: u64, _target_return: f32) -> Result<(), Infallible> {
            Ok(())
        }
        fn act(&mut self, _observation: &[f32]) -> Result<&[f32], Infallible> {
            Ok(&[1.5])
        }
        fn feedback(&mut self, _applied: &[f32], _reward: f32) -> Result<(), Infallible> {
            Ok(())
        }
    }

    /// Keeps the pictures; the user does something at some of them.
    #[derive(Default)]
    struct Album {
        pictures: Vec<Vec<u8>>,
        pause_at: Vec<usize>,
        close_at: Option<usize>,
    }

    impl Screen for &mut Album {
        fn show(&mut self, picture: &[u8]) -> Result<Input, String> {
            let at = self.pictures.len();
            self.pictures.push(picture.to_vec());
            Ok(Input {
                close: self.close_at == Some(at),
                pause: self.pause_at.contains(&at),
                camera: vec![(Gesture::Turn, 0.1, 0.1)],
            })
        }
    }

    const SIZE: (u32, u32) = (160, 120);

    fn run(
        album: &mut Album,
        period: Duration,
    ) -> Result<Episode, EpisodeError<ViewError<Infallible>>> {
        let blueprint = Blueprint::new("pendulum", None).unwrap();
        let stage = Stage::new(&blueprint, SIZE).unwrap();
        let mut viewer = Viewer::new(Push, stage, album, period);
        let mut env = blueprint.make();
        let mut buffer = vec![0.0; buffer_len(3, 1)];
        episode(env.as_mut(), &mut viewer, &mut (), 7, -150.0, &mut buffer)
    }

    #[test]
    fn an_episode_on_show_is_the_same_episode_in_real_time() {
        let mut album = Album::default();
        let start = Instant::now();
        let done = run(&mut album, Duration::from_millis(5)).unwrap();
        assert!(
            start.elapsed() >= Duration::from_secs(1),
            "200 steps of 5 ms"
        );

        let mut env = crate::registry::make("pendulum").unwrap();
        let alone = episode(env.as_mut(), &mut Push, &mut (), 7, -150.0, &mut [0.0; 7]).unwrap();
        assert_eq!(done, alone);

        // At least every tenth of a second, however busy the machine, but for pictures that take longer.
        assert!(album.pictures.len() >= 5, "{}", album.pictures.len());
        assert!(album.pictures.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn closing_the_window_ends_the_episode() {
        let mut album = Album {
            close_at: Some(2),
            ..Album::default()
        };
        let error = run(&mut album, Duration::from_millis(20)).unwrap_err();
        assert!(matches!(error.source, ViewError::Closed));
        assert!((1..200).contains(&error.step), "{}", error.step);
        assert_eq!(album.pictures.len(), 3);
    }

    #[test]
    fn a_pause_stops_the_robot() {
        let mut album = Album {
            pause_at: vec![1, 4],
            close_at: Some(6),
            ..Album::default()
        };
        run(&mut album, Duration::from_millis(20)).unwrap_err();
        let moves: Vec<bool> = album.pictures.windows(2).map(|p| p[0] != p[1]).collect();
        assert_eq!(moves, [true, false, false, false, true, true]);
    }
}

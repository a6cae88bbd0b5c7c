//! An episode to look at: the plant once more, under the actions that the policy's plant took, as pictures.
//!
//! Simulation is deterministic, so these are the states that the policy saw; and the rollout loop knows nothing of
//! cameras. [`film`](crate::film) writes the pictures to files, [`view`](crate::view) shows them while the episode runs.

use plotters::prelude::{BitMapBackend, DrawingBackend};
use plotters::style::{Color, FontStyle, RGBColor, TextStyle, register_font};

use crate::env::Env;
use crate::registry::Blueprint;

mod canvas;
mod cartpole;
mod graph;
mod key_to_door;
mod pendulum;
mod plant;

pub(crate) use cartpole::Drawing as CartPoleDrawing;
pub(crate) use graph::Drawing as GraphDrawing;
pub(crate) use key_to_door::Drawing as KeyToDoorDrawing;
pub(crate) use pendulum::Drawing as PendulumDrawing;
pub(crate) use plant::Drawing as PlantDrawing;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// No OpenGL.
    #[error(
        "cannot draw off-screen: {0}; install an EGL driver (Debian: libegl1 and libegl-mesa0)"
    )]
    OpenGl(String),
    /// The plant draws none.
    #[error("the plant draws no picture: {0}")]
    Plant(String),
    /// The caption, or what plotters draws.
    #[error("cannot draw: {0}")]
    Plot(String),
}

/// A plant that can be drawn.
pub(crate) trait Drawing {
    /// The plant.
    fn env(&mut self) -> &mut dyn Env;

    /// Rows of RGB of the present state; `action` (act_dim) is what led to it, empty at the start.
    fn draw(&mut self, action: &[f32]) -> Result<Vec<u8>, DrawError>;

    /// Moves the camera, where there is one, by parts of the picture's height.
    fn move_camera(&mut self, _gesture: Gesture, _x: f64, _y: f64) {}
}

/// What a mouse can do to a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gesture {
    /// Round what it looks at.
    Turn,
    /// Sideways, with what it looks at.
    Shift,
    /// Nearer and away, by y alone.
    Zoom,
}

/// An environment on show.
pub struct Stage {
    drawing: Box<dyn Drawing>,
    size: (u32, u32),
    seed: u64,
    target_return: f32,
    earned: f64,
    steps: u32,
    action: Vec<f32>,
}

impl Stage {
    /// Sets an environment up, for pictures of `size` (width, height) in pixels.
    ///
    /// # Errors
    /// [`DrawError::OpenGl`] for a MuJoCo environment.
    pub fn new(blueprint: &Blueprint, size: (u32, u32)) -> Result<Self, DrawError> {
        Ok(Self {
            drawing: blueprint.drawing(size)?,
            size,
            seed: 0,
            target_return: 0.0,
            earned: 0.0,
            steps: 0,
            action: Vec::new(),
        })
    }

    /// Starts the episode of that seed; the target only goes into the caption.
    pub fn reset(&mut self, seed: u64, target_return: f32) {
        self.drawing.env().reset(seed);
        (self.seed, self.target_return) = (seed, target_return);
        (self.earned, self.steps) = (0.0, 0);
        self.action.clear();
    }

    /// Applies an action (act_dim).
    pub fn step(&mut self, action: &[f32]) {
        self.earned += self.drawing.env().step(action).reward;
        self.steps += 1;
        self.action.clear();
        self.action.extend(action);
    }

    /// The present state as rows of RGB, with target, return, step and seed written into it.
    ///
    /// # Errors
    /// [`DrawError`].
    pub fn picture(&mut self) -> Result<Vec<u8>, DrawError> {
        let mut picture = self.drawing.draw(&self.action)?;
        let caption = [
            format!("target {}", self.target_return),
            format!("return {:.1}", self.earned),
            format!("step {}", self.steps),
            format!("seed {}", self.seed),
        ];
        label(&mut picture, self.size, &caption)?;
        Ok(picture)
    }

    /// Moves the camera, where there is one, by parts of the picture's height.
    pub fn move_camera(&mut self, gesture: Gesture, x: f64, y: f64) {
        self.drawing.move_camera(gesture, x, y);
    }
}

/// Writes lines into the upper left corner, on a ground that makes them readable before any scene.
fn label(picture: &mut [u8], size: (u32, u32), lines: &[String]) -> Result<(), DrawError> {
    // Registering again replaces the font by itself.
    let _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
    let failed = |error: &dyn std::fmt::Display| DrawError::Plot(error.to_string());
    let mut backend = BitMapBackend::with_buffer(picture, size);
    let ground = RGBColor(255, 255, 255).mix(0.75);
    backend
        .draw_rect(
            (6, 6),
            (136, 10 + 18 * lines.len() as i32),
            &ground.to_backend_color(),
            true,
        )
        .map_err(|e| failed(&e))?;
    let style = TextStyle::from(("sans-serif", 15));
    for (line, y) in lines.iter().zip((12..).step_by(18)) {
        backend
            .draw_text(line, &style, (12, y))
            .map_err(|e| failed(&e))?;
    }
    backend.present().map_err(|e| failed(&e))
}

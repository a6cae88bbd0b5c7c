//! The pendulum: its rod, and the torque as an arrow round the axle.

use std::f64::consts::{FRAC_PI_2, PI};

use plotters::style::RGBColor;

use super::DrawError;
use super::canvas::{Canvas, picture, polar};
use crate::env::Env;
use crate::pendulum::{MAX_TORQUE, Pendulum};

const ROD: RGBColor = RGBColor(204, 77, 77);
const AXLE: RGBColor = RGBColor(40, 40, 40);
const TORQUE: RGBColor = RGBColor(50, 90, 170);

/// In lengths of the rod, where the picture shows 2.4.
const ROD_WIDTH: f64 = 0.2;
const ARROW_RADIUS: f64 = 0.5;
const ARROW_WIDTH: f64 = 0.05;
const ARROW_HEAD: f64 = 0.14;
/// How far round the axle the arrow of the largest torque goes, rad.
const ARROW_SWEEP: f64 = 1.5 * PI;

/// The plant and the size of its pictures.
pub(crate) struct Drawing {
    env: Pendulum,
    size: (u32, u32),
}

impl Drawing {
    pub(crate) fn new(size: (u32, u32)) -> Self {
        Self {
            env: Pendulum::new(),
            size,
        }
    }
}

impl super::Drawing for Drawing {
    fn env(&mut self) -> &mut dyn Env {
        &mut self.env
    }

    fn draw(&mut self, action: &[f32]) -> Result<Vec<u8>, DrawError> {
        // Upright is θ = 0, and θ grows counter-clockwise; angles on the canvas are from the right.
        let end = polar(1.0, self.env.state().0 + FRAC_PI_2);
        picture(self.size, (2.4, 2.4), |canvas| {
            let axle = (0.0, 0.0);
            canvas.bar(axle, end, ROD_WIDTH, ROD)?;
            canvas.disc(axle, ROD_WIDTH / 2.0, ROD)?;
            canvas.disc(end, ROD_WIDTH / 2.0, ROD)?;
            if let [torque] = action {
                let largest = f64::from(MAX_TORQUE);
                let part = f64::from(*torque).clamp(-largest, largest) / largest;
                arrow(canvas, part * ARROW_SWEEP)?;
            }
            canvas.disc(axle, 0.05, AXLE)
        })
    }
}

/// An arc from straight below, counter-clockwise where `sweep` is positive, as long as the torque is strong.
fn arrow(canvas: &mut Canvas<'_>, sweep: f64) -> Result<(), DrawError> {
    let start = -FRAC_PI_2;
    let end = start + sweep;
    let edge =
        |radius: f64| (0..=32).map(move |i| polar(radius, start + sweep * f64::from(i) / 32.0));
    let arc: Vec<(f64, f64)> = edge(ARROW_RADIUS - ARROW_WIDTH / 2.0)
        .chain(edge(ARROW_RADIUS + ARROW_WIDTH / 2.0).rev())
        .collect();
    canvas.polygon(&arc, TORQUE)?;
    // Shorter than a weak torque's arc never gets, so that the head does not hide the direction.
    let head = (ARROW_HEAD / ARROW_RADIUS).min(sweep.abs()).copysign(sweep);
    let reach = ARROW_HEAD / 2.0;
    canvas.polygon(
        &[
            polar(ARROW_RADIUS - reach, end),
            polar(ARROW_RADIUS + reach, end),
            polar(ARROW_RADIUS, end + head),
        ],
        TORQUE,
    )
}

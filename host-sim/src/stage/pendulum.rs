//! The pendulum: its rod, and the torque as an arrow round the axle.

use std::f64::consts::{FRAC_PI_2, PI};

use image::imageops::thumbnail;
use image::{Rgb, RgbImage};
use plotters::prelude::{BitMapBackend, DrawingBackend};
use plotters::style::RGBColor;

use super::DrawError;
use crate::env::Env;
use crate::pendulum::{MAX_TORQUE, Pendulum};

/// Drawn that much larger and then reduced, so that edges are smooth.
const OVERSAMPLING: u32 = 3;
const ROD: RGBColor = RGBColor(204, 77, 77);
const AXLE: RGBColor = RGBColor(40, 40, 40);
const TORQUE: RGBColor = RGBColor(50, 90, 170);

/// In lengths of the rod, where the picture's height is 2.4.
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
        let (width, height) = (self.size.0 * OVERSAMPLING, self.size.1 * OVERSAMPLING);
        let mut large = RgbImage::from_pixel(width, height, Rgb([255; 3]));
        let mut canvas = Canvas {
            scale: f64::from(height) / 2.4,
            centre: (f64::from(width) / 2.0, f64::from(height) / 2.0),
            backend: BitMapBackend::with_buffer(&mut large, (width, height)),
        };
        // Upright is θ = 0, and θ grows counter-clockwise; angles on the canvas are from the right.
        let angle = self.env.state().0 + FRAC_PI_2;
        canvas.rod(angle)?;
        if let [torque] = action {
            let largest = f64::from(MAX_TORQUE);
            canvas.arrow(f64::from(*torque).clamp(-largest, largest) / largest * ARROW_SWEEP)?;
        }
        canvas.disc((0.0, 0.0), 0.05, AXLE)?;
        drop(canvas);
        Ok(thumbnail(&large, self.size.0, self.size.1).into_raw())
    }
}

/// Lengths in rods, the axle at the origin, y upwards.
struct Canvas<'a> {
    backend: BitMapBackend<'a>,
    /// Pixels per rod.
    scale: f64,
    centre: (f64, f64),
}

impl Canvas<'_> {
    fn rod(&mut self, angle: f64) -> Result<(), DrawError> {
        let half = ROD_WIDTH / 2.0;
        let (end, side) = (polar(1.0, angle), polar(half, angle + FRAC_PI_2));
        let corner = |at: (f64, f64), sign: f64| (at.0 + sign * side.0, at.1 + sign * side.1);
        let axle = (0.0, 0.0);
        self.polygon(
            &[
                corner(axle, -1.0),
                corner(axle, 1.0),
                corner(end, 1.0),
                corner(end, -1.0),
            ],
            ROD,
        )?;
        self.disc(axle, half, ROD)?;
        self.disc(end, half, ROD)
    }

    /// An arc from straight below, counter-clockwise where `sweep` is positive, as long as the torque is strong.
    fn arrow(&mut self, sweep: f64) -> Result<(), DrawError> {
        let start = -FRAC_PI_2;
        let end = start + sweep;
        let edge =
            |radius: f64| (0..=32).map(move |i| polar(radius, start + sweep * f64::from(i) / 32.0));
        let arc: Vec<(f64, f64)> = edge(ARROW_RADIUS - ARROW_WIDTH / 2.0)
            .chain(edge(ARROW_RADIUS + ARROW_WIDTH / 2.0).rev())
            .collect();
        self.polygon(&arc, TORQUE)?;
        // Shorter than a weak torque's arc never gets, so that the head does not hide the direction.
        let head = (ARROW_HEAD / ARROW_RADIUS).min(sweep.abs()).copysign(sweep);
        let reach = ARROW_HEAD / 2.0;
        self.polygon(
            &[
                polar(ARROW_RADIUS - reach, end),
                polar(ARROW_RADIUS + reach, end),
                polar(ARROW_RADIUS, end + head),
            ],
            TORQUE,
        )
    }

    fn disc(&mut self, at: (f64, f64), radius: f64, colour: RGBColor) -> Result<(), DrawError> {
        let radius = (radius * self.scale).round() as u32;
        self.backend
            .draw_circle(self.pixel(at), radius, &colour, true)
            .map_err(|error| DrawError::Plot(error.to_string()))
    }

    fn polygon(&mut self, corners: &[(f64, f64)], colour: RGBColor) -> Result<(), DrawError> {
        let pixels: Vec<(i32, i32)> = corners.iter().map(|&corner| self.pixel(corner)).collect();
        self.backend
            .fill_polygon(pixels, &colour)
            .map_err(|error| DrawError::Plot(error.to_string()))
    }

    fn pixel(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let x = self.centre.0 + x * self.scale;
        let y = self.centre.1 - y * self.scale;
        (x.round() as i32, y.round() as i32)
    }
}

fn polar(radius: f64, angle: f64) -> (f64, f64) {
    (radius * angle.cos(), radius * angle.sin())
}

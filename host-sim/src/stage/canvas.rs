//! Shapes in the plant's lengths, with smooth edges.

use image::imageops::thumbnail;
use image::{Rgb, RgbImage};
use plotters::prelude::{BitMapBackend, DrawingBackend};
use plotters::style::RGBColor;

use super::DrawError;

/// Drawn that much larger and then reduced, so that edges are smooth.
const OVERSAMPLING: u32 = 3;

/// Lengths in the plant's unit, the origin in the middle, y upwards.
pub(super) struct Canvas<'a> {
    backend: BitMapBackend<'a>,
    /// Pixels per unit.
    scale: f64,
    centre: (f64, f64),
}

/// Rows of RGB of a white picture of `size` (width, height) that shows at least `extent` (width, height) around the
/// origin, and what `draw` draws there.
pub(super) fn picture(
    size: (u32, u32),
    extent: (f64, f64),
    draw: impl FnOnce(&mut Canvas<'_>) -> Result<(), DrawError>,
) -> Result<Vec<u8>, DrawError> {
    let (width, height) = (size.0 * OVERSAMPLING, size.1 * OVERSAMPLING);
    let mut large = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let scales = [f64::from(width) / extent.0, f64::from(height) / extent.1];
    let mut canvas = Canvas {
        scale: f64::min(scales[0], scales[1]),
        centre: (f64::from(width) / 2.0, f64::from(height) / 2.0),
        backend: BitMapBackend::with_buffer(&mut large, (width, height)),
    };
    draw(&mut canvas)?;
    drop(canvas);
    Ok(thumbnail(&large, size.0, size.1).into_raw())
}

impl Canvas<'_> {
    /// A filled circle.
    pub(super) fn disc(
        &mut self,
        at: (f64, f64),
        radius: f64,
        colour: RGBColor,
    ) -> Result<(), DrawError> {
        let radius = (radius * self.scale).round() as u32;
        self.backend
            .draw_circle(self.pixel(at), radius, &colour, true)
            .map_err(|error| DrawError::Plot(error.to_string()))
    }

    /// A filled polygon.
    pub(super) fn polygon(
        &mut self,
        corners: &[(f64, f64)],
        colour: RGBColor,
    ) -> Result<(), DrawError> {
        let pixels: Vec<(i32, i32)> = corners.iter().map(|&corner| self.pixel(corner)).collect();
        self.backend
            .fill_polygon(pixels, &colour)
            .map_err(|error| DrawError::Plot(error.to_string()))
    }

    /// A bar of that width from one point to the other.
    pub(super) fn bar(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        width: f64,
        colour: RGBColor,
    ) -> Result<(), DrawError> {
        let along = (to.0 - from.0, to.1 - from.1);
        let length = along.0.hypot(along.1);
        let side = (
            -along.1 / length * width / 2.0,
            along.0 / length * width / 2.0,
        );
        let corner = |at: (f64, f64), sign: f64| (at.0 + sign * side.0, at.1 + sign * side.1);
        self.polygon(
            &[
                corner(from, -1.0),
                corner(from, 1.0),
                corner(to, 1.0),
                corner(to, -1.0),
            ],
            colour,
        )
    }

    fn pixel(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let x = self.centre.0 + x * self.scale;
        let y = self.centre.1 - y * self.scale;
        (x.round() as i32, y.round() as i32)
    }
}

/// The point at that distance and angle (from the right, counter-clockwise) from the origin.
pub(super) fn polar(radius: f64, angle: f64) -> (f64, f64) {
    (radius * angle.cos(), radius * angle.sin())
}

//! The cart on its track, the pole, and the push as an arrow.

use plotters::style::RGBColor;

use super::DrawError;
use super::canvas::picture;
use crate::cartpole::{CartPole, State};
use crate::env::Env;

const TRACK: RGBColor = RGBColor(150, 150, 150);
const CART: RGBColor = RGBColor(40, 40, 40);
const POLE: RGBColor = RGBColor(204, 77, 77);
const PUSH: RGBColor = RGBColor(50, 90, 170);

/// All lengths in m: what is shown, at least.
const EXTENT: (f64, f64) = (5.2, 3.0);
/// Of the track, below the middle of the picture.
const GROUND: f64 = -0.9;
const CART_SIZE: (f64, f64) = (0.5, 0.3);
const POLE_LENGTH: f64 = 1.0;
const POLE_WIDTH: f64 = 0.1;
/// Ends of the track: where an episode ends.
const TRACK_END: f64 = 2.4;

/// The plant and the size of its pictures.
pub(crate) struct Drawing {
    env: CartPole,
    size: (u32, u32),
}

impl Drawing {
    pub(crate) fn new(size: (u32, u32)) -> Self {
        Self {
            env: CartPole::new(),
            size,
        }
    }
}

impl super::Drawing for Drawing {
    fn env(&mut self) -> &mut dyn Env {
        &mut self.env
    }

    fn draw(&mut self, action: &[f32]) -> Result<Vec<u8>, DrawError> {
        let State { x, theta, .. } = self.env.state();
        picture(self.size, EXTENT, |canvas| {
            canvas.bar((-TRACK_END, GROUND), (TRACK_END, GROUND), 0.03, TRACK)?;
            for end in [-TRACK_END, TRACK_END] {
                canvas.bar((end, GROUND - 0.1), (end, GROUND + 0.1), 0.03, TRACK)?;
            }
            let (half, top) = (CART_SIZE.0 / 2.0, GROUND + CART_SIZE.1 / 2.0);
            canvas.bar((x - half, GROUND), (x + half, GROUND), CART_SIZE.1, CART)?;
            // θ grows clockwise from upright.
            let tip = (
                x + POLE_LENGTH * theta.sin(),
                top + POLE_LENGTH * theta.cos(),
            );
            canvas.bar((x, top), tip, POLE_WIDTH, POLE)?;
            canvas.disc((x, top), POLE_WIDTH / 2.0, CART)?;
            if let [choice] = action {
                // From the cart's side outwards, to the side that it is pushed to.
                let side = if *choice == 1.0 { 1.0 } else { -1.0 };
                let at = |out: f64, up: f64| (x + side * (half + out), GROUND + up);
                canvas.bar(at(0.05, 0.0), at(0.25, 0.0), 0.05, PUSH)?;
                canvas.polygon(&[at(0.25, 0.08), at(0.4, 0.0), at(0.25, -0.08)], PUSH)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Drawing as _;

    /// Mean column and row of the pixels that are nearly of that colour.
    fn centre(picture: &[u8], colour: RGBColor) -> (f64, f64) {
        let RGBColor(red, green, blue) = colour;
        let is_near = |pixel: &[u8]| {
            let differences = pixel.iter().zip([red, green, blue]);
            differences.into_iter().all(|(&a, b)| a.abs_diff(b) < 8)
        };
        let pixels = picture.chunks_exact(3).enumerate();
        let of_it: Vec<(usize, usize)> = pixels
            .filter(|(_, pixel)| is_near(pixel))
            .map(|(i, _)| (i % 160, i / 160))
            .collect();
        assert!(of_it.len() > 5, "{colour:?} is hardly there");
        let mean = |values: Vec<usize>| values.iter().sum::<usize>() as f64 / values.len() as f64;
        let (columns, rows) = of_it.into_iter().unzip();
        (mean(columns), mean(rows))
    }

    #[test]
    fn cart_pole_and_push_are_where_they_are() {
        let mut drawing = Drawing::new((160, 120));
        let mut draw = |x: f64, theta: f64, action: &[f32]| {
            drawing.env.set_state(&[x, theta], &[0.0; 2]).unwrap();
            drawing.draw(action).unwrap()
        };
        let upright = draw(0.0, 0.0, &[]);
        let (cart, pole) = (centre(&upright, CART), centre(&upright, POLE));
        assert!((cart.0 - 80.0).abs() < 1.5 && (pole.0 - 80.0).abs() < 1.5);
        assert!(pole.1 < cart.1, "the pole stands above the cart");
        // 160 pixels for 5.2 m.
        let moved = draw(1.3, 0.0, &[]);
        assert!((centre(&moved, CART).0 - 120.0).abs() < 1.5);
        assert!(centre(&draw(0.0, 0.2, &[]), POLE).0 > pole.0 + 2.0);
        assert!(centre(&draw(0.0, 0.0, &[1.0]), PUSH).0 > 90.0);
        assert!(centre(&draw(0.0, 0.0, &[0.0]), PUSH).0 < 70.0);
    }
}

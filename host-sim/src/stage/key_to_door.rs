//! The room that the agent is in, with what is in it; the agent turns yellow when it has the key.

use plotters::style::RGBColor;

use super::DrawError;
use super::canvas::picture;
use crate::env::Env;
use crate::key_to_door::{KeyToDoor, Place};

const WALL: RGBColor = RGBColor(90, 90, 90);
const FLOOR: RGBColor = RGBColor(235, 235, 235);
const KEY: RGBColor = RGBColor(230, 170, 20);
const DOOR: RGBColor = RGBColor(60, 150, 80);
const AGENT: RGBColor = RGBColor(50, 90, 170);

/// In cells: the largest room with its walls.
const EXTENT: (f64, f64) = (13.0, 9.0);

/// The plant and the size of its pictures.
pub(crate) struct Drawing {
    env: KeyToDoor,
    size: (u32, u32),
}

impl Drawing {
    pub(crate) fn new(size: (u32, u32)) -> Self {
        let env = KeyToDoor::new();
        Self { env, size }
    }
}

impl super::Drawing for Drawing {
    fn env(&mut self) -> &mut dyn Env {
        &mut self.env
    }

    fn draw(&mut self, _: &[f32]) -> Result<Vec<u8>, DrawError> {
        let env = &self.env;
        let centre = env.centre();
        picture(self.size, EXTENT, |canvas| {
            for (row, column) in (-1..8).flat_map(|row| (-1..12).map(move |column| (row, column))) {
                let [is_wall, is_key, is_door] = env.shown(Place { row, column });
                let x = f64::from(column - centre.column);
                let y = f64::from(centre.row - row);
                let colour = match (is_wall, is_door) {
                    (true, _) => WALL,
                    (_, true) => DOOR,
                    _ => FLOOR,
                };
                canvas.bar((x - 0.47, y), (x + 0.47, y), 0.94, colour)?;
                if is_key {
                    canvas.disc((x, y), 0.25, KEY)?;
                }
                if env.agent() == (Place { row, column }) {
                    canvas.disc((x, y), 0.4, AGENT)?;
                    if env.has_key() {
                        canvas.disc((x, y), 0.2, KEY)?;
                    }
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Drawing as _;

    /// Pixels of that colour.
    fn count(picture: &[u8], RGBColor(red, green, blue): RGBColor) -> usize {
        let pixels = picture.chunks_exact(3);
        pixels.filter(|pixel| *pixel == [red, green, blue]).count()
    }

    #[test]
    fn key_agent_and_door_are_shown_where_there_are_some() {
        let mut drawing = Drawing::new((260, 180));
        drawing.env.set_state(&[3.0, 5.0, 3.0, 7.0], &[]).unwrap();
        let before = drawing.draw(&[]).unwrap();
        assert!(count(&before, KEY) > 10 && count(&before, AGENT) > 50);
        let middle_right = |picture: &[u8]| {
            let at = (90 * 260 + 130 + 40) * 3;
            picture[at..at + 3].to_vec()
        };
        assert_eq!(middle_right(&before), [230, 170, 20]);
        drawing.env.step(&[3.0]);
        drawing.env.step(&[3.0]);
        let taken = drawing.draw(&[]).unwrap();
        // It has moved with the agent, which is now where it was.
        assert_eq!(
            (middle_right(&taken), count(&taken, DOOR)),
            (vec![230, 170, 20], 0)
        );
        assert!(count(&taken, AGENT) < count(&before, AGENT));
        for _ in 2..45 {
            drawing.env.step(&[3.0]);
        }
        let last = drawing.draw(&[]).unwrap();
        assert!(count(&last, DOOR) > 50 && count(&last, WALL) > count(&taken, WALL));
    }
}

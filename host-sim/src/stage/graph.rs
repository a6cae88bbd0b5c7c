//! The nodes on a circle, the edges between them, and who walks on them.

use std::f64::consts::TAU;

use plotters::style::RGBColor;

use super::DrawError;
use super::canvas::{picture, polar};
use crate::env::Env;
use crate::graph::{GOAL, Graph, NODES, is_edge};

const EDGE: RGBColor = RGBColor(190, 190, 190);
const NODE: RGBColor = RGBColor(120, 120, 120);
const END: RGBColor = RGBColor(60, 150, 80);
const WALKER: RGBColor = RGBColor(204, 77, 77);

/// In the circle's radii: what is shown, at least.
const EXTENT: (f64, f64) = (2.5, 2.5);
const NODE_RADIUS: f64 = 0.06;

/// The plant and the size of its pictures.
pub(crate) struct Drawing {
    env: Graph,
    size: (u32, u32),
}

impl Drawing {
    pub(crate) fn new(size: (u32, u32)) -> Self {
        let env = Graph::new();
        Self { env, size }
    }
}

/// The goal on the right, the others counter-clockwise.
fn place(node: usize) -> (f64, f64) {
    polar(1.0, TAU * node as f64 / NODES as f64)
}

impl super::Drawing for Drawing {
    fn env(&mut self) -> &mut dyn Env {
        &mut self.env
    }

    fn draw(&mut self, _: &[f32]) -> Result<Vec<u8>, DrawError> {
        picture(self.size, EXTENT, |canvas| {
            for (from, to) in (0..NODES * NODES).map(|i| (i / NODES, i % NODES)) {
                if is_edge(from, to) {
                    let (a, b) = (place(from), place(to));
                    // Narrower where it arrives.
                    let middle = ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0);
                    canvas.bar(a, middle, 0.02, EDGE)?;
                    canvas.bar(middle, b, 0.008, EDGE)?;
                }
            }
            for node in 0..NODES {
                let colour = if node == GOAL { END } else { NODE };
                canvas.disc(place(node), NODE_RADIUS, colour)?;
            }
            canvas.disc(place(self.env.node()), 0.6 * NODE_RADIUS, WALKER)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Drawing as _;

    #[test]
    fn the_walker_is_where_it_is() {
        let mut drawing = Drawing::new((200, 200));
        let mut columns = |node: f64| {
            drawing.env.set_state(&[node], &[]).unwrap();
            let picture = drawing.draw(&[]).unwrap();
            let is_walker = |pixel: &[u8]| pixel[0] > 190 && pixel[1] < 100;
            let pixels = picture.chunks_exact(3).enumerate();
            let found = pixels.filter(|(_, pixel)| is_walker(pixel));
            let columns: Vec<usize> = found.map(|(i, _)| i % 200).collect();
            columns.iter().sum::<usize>() / columns.len()
        };
        // 80 pixels for the radius, the centre at 100.
        assert!(columns(0.0).abs_diff(180) < 3 && columns(10.0).abs_diff(20) < 3);
    }
}

//! Pictures that a plant draws itself.

use image::RgbImage;
use image::imageops::{self, FilterType};

use super::DrawError;
use crate::env::Env;
use crate::plant::PlantEnv;

/// An environment of a plant, to be drawn.
pub struct Drawing {
    env: PlantEnv,
    size: (u32, u32),
}

impl Drawing {
    pub fn new(env: PlantEnv, size: (u32, u32)) -> Self {
        Self { env, size }
    }
}

impl super::Drawing for Drawing {
    fn env(&mut self) -> &mut dyn Env {
        &mut self.env
    }

    /// As large as fits, on black.
    fn draw(&mut self, _action: &[f32]) -> Result<Vec<u8>, DrawError> {
        let (width, height, rgb) = self.env.picture().map_err(DrawError::Plant)?;
        let picture = RgbImage::from_raw(width, height, rgb).expect("three bytes a pixel");
        let (sheet_width, sheet_height) = self.size;
        let scale = (f64::from(sheet_width) / f64::from(width))
            .min(f64::from(sheet_height) / f64::from(height));
        let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
        let (w, h) = (scaled(width), scaled(height));
        // Pixels of a game of ten by ten stay pixels.
        let filter = if scale >= 2.0 {
            FilterType::Nearest
        } else {
            FilterType::Triangle
        };
        let picture = imageops::resize(&picture, w, h, filter);
        let mut sheet = RgbImage::new(sheet_width, sheet_height);
        let middle = |outer: u32, inner: u32| i64::from(outer.saturating_sub(inner) / 2);
        imageops::replace(
            &mut sheet,
            &picture,
            middle(sheet_width, w),
            middle(sheet_height, h),
        );
        Ok(sheet.into_raw())
    }
}

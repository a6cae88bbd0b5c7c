//! Episodes as files: an animated GIF, or a PNG with six moments of the episode.

use std::path::Path;

use crate::atomic::{self, OutputError};
use crate::registry::Blueprint;
use crate::rollout::{Recorder, Transition};
use crate::stage::{DrawError, Stage};

/// Of one picture, in pixels.
const SIZE: (u32, u32) = (400, 300);
/// Time between two pictures of an animation, s.
const INTERVAL: f64 = 0.04;
/// Pictures in a PNG, three in a row.
const MOMENTS: usize = 6;

/// The actions of an episode.
#[derive(Clone, Debug, Default)]
pub struct Actions(Vec<Vec<f32>>);

impl Recorder for Actions {
    fn record(&mut self, transition: &Transition<'_>) {
        self.0.push(transition.action.to_vec());
    }
}

/// An episode to be drawn.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The environment.
    pub blueprint: &'a Blueprint,
    /// The episode's seed.
    pub seed: u64,
    /// What the policy aimed at, raw units.
    pub target_return: f32,
    /// What it did.
    pub actions: &'a Actions,
}

/// Why an episode cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// The file's name says neither.
    #[error("{0}: pictures are .gif or .png; end the name in one of these")]
    Format(String),
    /// There is no picture.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// A picture cannot be encoded.
    #[error("cannot encode the picture: {0}")]
    Encode(String),
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Which kind of file a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An animation of the whole episode in real time, or nearly.
    Gif,
    /// Six moments from the first to the last step.
    Png,
}

impl Format {
    /// By the end of the file's name.
    ///
    /// # Errors
    /// [`FilmError::Format`].
    pub fn of(path: &Path) -> Result<Self, FilmError> {
        match path.extension().and_then(|end| end.to_str()) {
            Some("gif") => Ok(Self::Gif),
            Some("png") => Ok(Self::Png),
            _ => Err(FilmError::Format(path.display().to_string())),
        }
    }
}

/// Draws an episode and writes it to `path`; `drawn` is called after each picture, of as many as [`pictures`] says.
///
/// # Errors
/// [`FilmError`]; nothing half-written is left.
pub fn write(
    scene: &Scene<'_>,
    path: &Path,
    force: bool,
    drawn: impl FnMut(),
) -> Result<(), FilmError> {
    let format = Format::of(path)?;
    let steps = moments(scene, format);
    let pictures = draw(scene, &steps, drawn)?;
    let bytes = match format {
        Format::Gif => animation(&pictures, &delays(scene, &steps))?,
        Format::Png => sheet(&pictures)?,
    };
    Ok(atomic::write(path, force, &bytes)?)
}

/// How many pictures [`write()`] will draw.
///
/// # Errors
/// [`FilmError::Format`].
pub fn pictures(scene: &Scene<'_>, path: &Path) -> Result<usize, FilmError> {
    Ok(moments(scene, Format::of(path)?).len())
}

/// Numbers of steps taken before each picture, the last of the episode among them.
fn moments(scene: &Scene<'_>, format: Format) -> Vec<usize> {
    let last = scene.actions.0.len();
    match format {
        Format::Gif => {
            let stride = ((INTERVAL / period(scene)).round() as usize).max(1);
            (0..last).step_by(stride).chain([last]).collect()
        }
        Format::Png => (0..MOMENTS).map(|i| i * last / (MOMENTS - 1)).collect(),
    }
}

/// Control period, s.
fn period(scene: &Scene<'_>) -> f64 {
    f64::from(scene.blueprint.make().spec().control_period_us) / 1e6
}

/// Of each picture, in the format's hundredths of a second; viewers slow anything below 2 down. The last one stays.
fn delays(scene: &Scene<'_>, steps: &[usize]) -> Vec<u16> {
    let period = period(scene);
    let hundredths = |steps: usize| ((steps as f64 * period * 100.0).round() as u16).max(2);
    let between = steps.windows(2).map(|pair| hundredths(pair[1] - pair[0]));
    between.chain([200]).collect()
}

/// Pictures as rows of RGB.
fn draw(
    scene: &Scene<'_>,
    steps: &[usize],
    mut drawn: impl FnMut(),
) -> Result<Vec<Vec<u8>>, FilmError> {
    let mut stage = Stage::new(scene.blueprint, SIZE)?;
    let (mut pictures, mut taken) = (Vec::new(), 0);
    stage.reset(scene.seed, scene.target_return);
    for &step in steps {
        for action in &scene.actions.0[taken..step] {
            stage.step(action);
        }
        taken = step;
        pictures.push(stage.picture()?);
        drawn();
    }
    Ok(pictures)
}

fn animation(pictures: &[Vec<u8>], delays: &[u16]) -> Result<Vec<u8>, FilmError> {
    let failed = |error: gif::EncodingError| FilmError::Encode(error.to_string());
    let (width, height) = (SIZE.0 as u16, SIZE.1 as u16);
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, width, height, &[]).map_err(failed)?;
    encoder.set_repeat(gif::Repeat::Infinite).map_err(failed)?;
    for (picture, delay) in pictures.iter().zip(delays) {
        let mut frame = gif::Frame::from_rgb_speed(width, height, picture, 20);
        frame.delay = *delay;
        encoder.write_frame(&frame).map_err(failed)?;
    }
    drop(encoder);
    Ok(bytes)
}

fn sheet(pictures: &[Vec<u8>]) -> Result<Vec<u8>, FilmError> {
    let failed = |error: image::ImageError| FilmError::Encode(error.to_string());
    let (width, height) = SIZE;
    let (columns, rows) = (3, pictures.len().div_ceil(3) as u32);
    let mut sheet = image::RgbImage::new(columns * width, rows * height);
    for (picture, place) in pictures.iter().zip(0..) {
        let picture =
            image::RgbImage::from_raw(width, height, picture.clone()).expect("of that size");
        let (x, y) = (place % columns * width, place / columns * height);
        image::imageops::replace(&mut sheet, &picture, x.into(), y.into());
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    sheet
        .write_to(&mut bytes, image::ImageOutputFormat::Png)
        .map_err(failed)?;
    Ok(bytes.into_inner())
}

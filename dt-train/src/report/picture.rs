//! Charts as files: one below the other under a title, as SVG or as PNG.
//!
//! The PNG is the SVG, rendered by `resvg` with DejaVu Sans, which comes with the program: a machine without fonts
//! gets the same picture.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, anyhow};
use maud::{Markup, PreEscaped, html};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};

use super::chart::{Frame, px};
use super::theme;
use crate::atomic;

/// Units of a picture's width, and of a chart in it.
pub const WIDTH: f64 = 900.0;
pub const CHART_WIDTH: f64 = WIDTH - 2.0 * MARGIN;
const MARGIN: f64 = 24.0;
/// Between two charts.
const GAP: f64 = 18.0;
/// From one line of a key to the next.
const LINE_HEIGHT: f64 = 18.0;
/// Letters of a line of a key, which is broken between entries.
const LINE_LENGTH: usize = 110;
/// Pixels of the PNG per unit, for screens of high resolution.
const SCALE: f32 = 2.0;

/// How an entry of a key looks.
#[derive(Clone, Copy, Debug)]
pub enum Sample {
    Line,
    Dashes,
    Dots,
}

/// What one of a chart's colours or lines means.
pub struct Key {
    /// The class that has the colour.
    pub colour: String,
    /// How it is drawn.
    pub sample: Sample,
    /// What it is.
    pub text: String,
}

impl Key {
    /// Drawn like `sample` in the colour of a class, and what that is.
    pub fn new(colour: impl Into<String>, sample: Sample, text: impl Into<String>) -> Self {
        let (colour, text) = (colour.into(), text.into());
        Self {
            colour,
            sample,
            text,
        }
    }

    /// Letters that look like it; the text after them then stands where they end, in any font.
    fn letters(&self) -> &'static str {
        match self.sample {
            Sample::Line => "━━",
            Sample::Dashes => "╍╍",
            Sample::Dots => "┉┉",
        }
    }
}

/// Charts below each other.
pub struct Picture {
    title: String,
    height: f64,
    charts: usize,
    body: Markup,
}

impl Picture {
    /// A picture without charts.
    pub fn new(title: &str, subtitle: &str) -> Self {
        let mut height = 36.0;
        let body = html! {
            text.title x=(px(MARGIN)) y=(px(height)) { (title) }
            @if !subtitle.is_empty() { text.subtitle x=(px(MARGIN)) y=(px(height + 22.0)) { (subtitle) } }
        };
        height += if subtitle.is_empty() { 0.0 } else { 22.0 };
        Self {
            title: title.to_owned(),
            height,
            charts: 0,
            body,
        }
    }

    /// Adds a chart, `CHART_WIDTH` wide, below what is there.
    pub fn chart(&mut self, heading: &str, key: &[Key], frame: &Frame, body: &Markup) {
        let lines = lines(key);
        let heading_at = self.height + GAP + 12.0;
        let key_at = |i: usize| heading_at + LINE_HEIGHT * (i + 1) as f64;
        let top = key_at(lines.len()) - 10.0;
        let id = format!("chart-{}", self.charts);
        let before = std::mem::take(&mut self.body.0);
        self.body = html! {
            (PreEscaped(before))
            text.heading x=(px(MARGIN)) y=(px(heading_at)) { (heading) }
            @for (i, line) in lines.iter().enumerate() {
                text.key x=(px(MARGIN)) y=(px(key_at(i))) {
                    @for (j, entry) in line.iter().enumerate() {
                        tspan.(entry.colour) dx=[(j > 0).then_some("22")] { (entry.letters()) }
                        tspan dx="7" { (entry.text) }
                    }
                }
            }
            g transform={ "translate(" (px(MARGIN)) " " (px(top)) ")" } { (frame.inside(&id, body)) }
        };
        self.charts += 1;
        self.height = top + frame.height();
    }

    /// Width and height in units.
    pub fn size(&self) -> (f64, f64) {
        (WIDTH, (self.height + MARGIN / 2.0).ceil())
    }

    /// The picture as an SVG file, which loads nothing.
    pub fn svg(&self) -> String {
        let (width, height) = self.size();
        let svg = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) }
                role="img" aria-labelledby="title" {
                title id="title" { (self.title) }
                style { (PreEscaped(theme::picture())) }
                rect.sheet width=(width) height=(height) {}
                (self.body)
            }
        };
        // Names come from file systems, and XML has no way to write these down.
        svg.into_string().replace(not_in_xml, "\u{fffd}")
    }

    /// The picture as a PNG file.
    ///
    /// # Errors
    /// The renderer's.
    pub fn png(&self) -> anyhow::Result<Vec<u8>> {
        let options = Options {
            fontdb: fonts(),
            ..Options::default()
        };
        let pixmap = render(&self.svg(), &options)?;
        pixmap
            .encode_png()
            .context("cannot write the picture as PNG")
    }

    /// Writes it as what the ending says: SVG, or else PNG.
    ///
    /// # Errors
    /// Existing files unless `force`, failed writes.
    pub fn write(&self, path: &Path, force: bool) -> anyhow::Result<()> {
        let bytes = match path.extension() {
            Some(ending) if ending == "svg" => self.svg().into_bytes(),
            _ => self.png()?,
        };
        Ok(atomic::write(path, force, &bytes)?)
    }
}

/// Entries by the line that they stand in.
fn lines(key: &[Key]) -> Vec<Vec<&Key>> {
    let mut lines: Vec<Vec<&Key>> = Vec::new();
    let mut length = 0;
    for entry in key {
        // A sample is about as wide as three letters, a gap too.
        let letters = entry.text.chars().count() + 6;
        match lines.last_mut() {
            Some(line) if length + letters <= LINE_LENGTH => {
                length += letters;
                line.push(entry);
            }
            _ => {
                length = letters;
                lines.push(vec![entry]);
            }
        }
    }
    lines
}

fn render(svg: &str, options: &Options<'_>) -> anyhow::Result<Pixmap> {
    let tree = Tree::from_str(svg, options)
        .map_err(|error| anyhow!("cannot draw the picture: {error}"))?;
    let size = tree.size().to_int_size();
    let size = size.scale_by(SCALE).context("a picture without size")?;
    let mut pixmap =
        Pixmap::new(size.width(), size.height()).context("a picture too large for memory")?;
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut pixmap.as_mut(),
    );
    Ok(pixmap)
}

/// The fonts of every picture. None of the system's are looked for: they differ, and there may be none.
fn fonts() -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let load = || {
        let mut fonts = Database::new();
        for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
            fonts.load_font_data(font.to_vec());
        }
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    };
    FONTS.get_or_init(load).clone()
}

/// Characters that no XML document holds, not even escaped.
fn not_in_xml(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::axis::Axis;
    use super::*;

    pub(crate) fn picture(title: &str) -> Picture {
        let mut picture = Picture::new(title, "");
        let axis = || Axis::linear(0.0, 1.0, 5);
        let frame = Frame::new(axis(), axis(), "updates", 200.0).wide(CHART_WIDTH);
        let line = frame.line([(0.0, 0.2), (1.0, 0.8)]);
        let body = html! { path.line.c1 d=(line) {} };
        let key = [Key::new("c1", Sample::Line, "a line")];
        picture.chart("A chart", &key, &frame, &body);
        picture
    }

    /// Pixels of a colour in a part of the picture, in units.
    fn pixels(
        picture: &Pixmap,
        colour: [u8; 3],
        x: std::ops::Range<u32>,
        y: std::ops::Range<u32>,
    ) -> usize {
        let scale = SCALE as u32;
        let at = |x: u32, y: u32| picture.pixel(x, y).unwrap();
        let all = (y.start * scale..y.end * scale)
            .flat_map(|y| (x.start * scale..x.end * scale).map(move |x| (x, y)));
        all.filter(|&(x, y)| {
            let pixel = at(x, y);
            [pixel.red(), pixel.green(), pixel.blue()] == colour
        })
        .count()
    }

    const INK: [u8; 3] = [0x16, 0x20, 0x2a];
    const C1: [u8; 3] = [0xc6, 0x52, 0x00];
    const WHITE: [u8; 3] = [0xff; 3];

    #[test]
    fn a_png_has_the_colours_of_the_style_sheet_and_letters_without_fonts_of_the_system() {
        let picture = picture("Training of swing-up");
        let png = Pixmap::decode_png(&picture.png().unwrap()).unwrap();
        let (width, height) = picture.size();
        assert_eq!(
            (png.width(), png.height()),
            (2 * width as u32, 2 * height as u32)
        );
        assert_eq!(pixels(&png, WHITE, 0..900, 0..10), 900 * 10 * 4);
        let title = |png: &Pixmap| pixels(png, INK, 24..300, 15..45);
        let chart = |png: &Pixmap| pixels(png, C1, 24..876, 100..height as u32);
        assert!(title(&png) > 500, "{}", title(&png));
        assert!(chart(&png) > 1000, "{}", chart(&png));
        // Both would be seen to be missing.
        let svg = picture.svg();
        let without_fonts = render(&svg, &Options::default()).unwrap();
        assert_eq!(title(&without_fonts), 0);
        let options = Options {
            fontdb: fonts(),
            ..Options::default()
        };
        let unstyled = render(&svg.replace("currentColor", "none"), &options).unwrap();
        assert_eq!(chart(&unstyled), 0);
    }

    #[test]
    fn names_cannot_break_a_picture() {
        let hostile = "a<b>&\"'\u{1}\u{ffff}";
        let picture = picture(hostile);
        assert!(
            picture
                .svg()
                .contains("a&lt;b&gt;&amp;&quot;'\u{fffd}\u{fffd}")
        );
        picture.png().unwrap();
        let raw = picture.svg().replace('\u{fffd}', "\u{1}");
        assert!(render(&raw, &Options::default()).is_err());
    }

    #[test]
    fn keys_are_broken_between_entries() {
        let key = |letters: usize| Key::new("c0", Sample::Line, "x".repeat(letters));
        let keys = [key(40), key(40), key(40), key(200)];
        let lengths: Vec<usize> = lines(&keys).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1]);
    }
}

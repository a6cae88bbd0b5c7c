//! A window on the user's display.

use std::cell::RefCell;
use std::rc::Rc;

use minifb::{InputCallback, Key, MouseButton, MouseMode, ScaleMode, WindowOptions};

use super::{Input, Screen};
use crate::stage::Gesture;

/// Of the pictures it shows (width, height), in pixels; they grow with the window.
pub const SIZE: (u32, u32) = (640, 480);

/// There is no display, or none that can be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot open a window: {0}; a viewer needs an X11 display ($DISPLAY; Xwayland will do) and libX11 and libXcursor \
     (Debian: libx11-6 and libxcursor1). Without them, `host-sim rollout … --render OUT.gif` draws into a file"
)]
pub struct NoWindow(String);

/// A window, and where the mouse was in it.
pub struct Window {
    window: minifb::Window,
    mouse: Option<(f32, f32)>,
    keys: Rc<RefCell<Keys>>,
    pixels: Vec<u32>,
}

impl Window {
    /// Opens it.
    ///
    /// # Errors
    /// [`NoWindow`] says what to do instead.
    pub fn open(title: &str) -> Result<Self, NoWindow> {
        let options = WindowOptions {
            resize: true,
            scale_mode: ScaleMode::AspectRatioStretch,
            ..WindowOptions::default()
        };
        let [width, height] = [SIZE.0, SIZE.1].map(|pixels| pixels as usize);
        let mut window = minifb::Window::new(title, width, height, options)
            .map_err(|error| NoWindow(error.to_string()))?;
        // The viewer waits by itself.
        window.set_target_fps(0);
        let keys = Rc::<RefCell<Keys>>::default();
        window.set_input_callback(Box::new(Listener(keys.clone())));
        Ok(Self {
            window,
            mouse: None,
            keys,
            pixels: Vec::new(),
        })
    }

    /// Dragging turns, with the right button shifts; the wheel zooms.
    fn camera(&mut self) -> Vec<(Gesture, f64, f64)> {
        let height = self.window.get_size().1 as f32;
        let before = self.mouse;
        self.mouse = self.window.get_unscaled_mouse_pos(MouseMode::Pass);
        let mut moves = Vec::new();
        let buttons = [
            (MouseButton::Left, Gesture::Turn),
            (MouseButton::Right, Gesture::Shift),
        ];
        if let (Some(before), Some(now)) = (before, self.mouse) {
            let moved = ((now.0 - before.0) / height, (now.1 - before.1) / height);
            for (button, gesture) in buttons {
                if self.window.get_mouse_down(button) && moved != (0.0, 0.0) {
                    moves.push((gesture, moved.0.into(), moved.1.into()));
                }
            }
        }
        if let Some((_, notches)) = self.window.get_scroll_wheel() {
            moves.push((Gesture::Zoom, 0.0, f64::from(notches) * 0.05));
        }
        moves
    }
}

impl Screen for Window {
    fn show(&mut self, picture: &[u8]) -> Result<Input, String> {
        self.pixels.clear();
        let pixels = picture.as_chunks::<3>().0;
        self.pixels.extend(
            pixels
                .iter()
                .map(|&[r, g, b]| u32::from_be_bytes([0, r, g, b])),
        );
        self.window
            .update_with_buffer(&self.pixels, SIZE.0 as usize, SIZE.1 as usize)
            .map_err(|error| error.to_string())?;
        let keys = std::mem::take(&mut *self.keys.borrow_mut());
        Ok(Input {
            close: !self.window.is_open() || keys.escape,
            pause: keys.space,
            camera: self.camera(),
        })
    }
}

/// What was typed since the last picture. (Which keys are down then, would miss short ones.)
#[derive(Default)]
struct Keys {
    space: bool,
    escape: bool,
}

struct Listener(Rc<RefCell<Keys>>);

impl InputCallback for Listener {
    fn add_char(&mut self, _: u32) {}

    fn set_key_state(&mut self, key: Key, down: bool) {
        let mut keys = self.0.borrow_mut();
        match key {
            // On release, since a key that is held down repeats itself.
            Key::Space if !down => keys.space ^= true,
            Key::Escape if down => keys.escape = true,
            _ => {}
        }
    }
}

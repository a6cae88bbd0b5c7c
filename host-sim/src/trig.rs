//! Where plants get their sines from.

#[cfg(feature = "std")]
use core::hint::black_box;

/// Where sines, cosines and squares come from: implementations differ in the last bit now and then, and an
/// unstable plant amplifies it.
pub trait Trig: Send {
    /// Sine of `x` radians.
    fn sin(x: f64) -> f64;
    /// Cosine of `x` radians.
    fn cos(x: f64) -> f64;
    /// x².
    fn square(x: f64) -> f64 {
        x * x
    }
    /// x², in f32.
    fn square_f32(x: f32) -> f32 {
        x * x
    }
}

/// `libm`'s, the same on every target: for rollouts, on the host and on the controller.
#[derive(Clone, Copy, Debug)]
pub struct LibmTrig;

impl Trig for LibmTrig {
    fn sin(x: f64) -> f64 {
        libm::sin(x)
    }
    fn cos(x: f64) -> f64 {
        libm::cos(x)
    }
}

/// The platform's, as NumPy uses: for comparison with Gymnasium.
///
/// NumPy squares with the C library's `pow`, which rounds one square in a few hundred in another way than a product
/// does. The compiler would make a product of it, too, if it saw the exponent.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug)]
pub struct StdTrig;

#[cfg(feature = "std")]
impl Trig for StdTrig {
    fn sin(x: f64) -> f64 {
        x.sin()
    }
    fn cos(x: f64) -> f64 {
        x.cos()
    }
    fn square(x: f64) -> f64 {
        x.powf(black_box(2.0))
    }
    fn square_f32(x: f32) -> f32 {
        x.powf(black_box(2.0))
    }
}

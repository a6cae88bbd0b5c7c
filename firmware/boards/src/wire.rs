//! A HAL's interrupt-driven UART as the link's port.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use cortex_m::singleton;
use dt_device::board::Port;
use embedded_io_async::{Read, Write};

/// The baud rate on every board: 64 bytes take 0.7 ms.
pub const BAUD: u32 = 921_600;

/// What the UART's interrupts fill and empty.
pub struct Queues {
    /// On their way to the host.
    pub sending: &'static mut [u8],
    /// Not read yet: whatever arrives during a control step.
    pub received: &'static mut [u8],
}

impl Queues {
    /// The only ones.
    pub fn take() -> Option<Self> {
        Some(Self {
            sending: singleton!(: [u8; 1024] = [0; 1024])?,
            received: singleton!(: [u8; 1024] = [0; 1024])?,
        })
    }
}

/// The port over a driver whose `read` and `write` move what their queues have and forget a future that is dropped, as
/// embassy's buffered drivers do. What the driver calls an error are bytes lost or garbled, which the link's frames notice.
pub struct Wire<U>(pub U);

impl<U: Read + Write> Port for Wire<U> {
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        at_once(self.0.read(buffer))
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        at_once(self.0.write(bytes))
    }

    fn is_drained(&mut self) -> bool {
        pin!(self.0.flush())
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }
}

/// What is there without waiting.
fn at_once<E>(transfer: impl Future<Output = Result<usize, E>>) -> usize {
    match pin!(transfer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(bytes)) => bytes,
        Poll::Ready(Err(_)) | Poll::Pending => 0,
    }
}

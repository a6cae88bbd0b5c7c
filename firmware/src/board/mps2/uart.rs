//! The link's wire: CMSDK APB UART 0 (Arm DDI 0479, "APB UART"), which QEMU connects to its first `-serial`.
//!
//! Received bytes are queued by an interrupt; sent ones are written by hand, and an interrupt tells when there is room again.

use core::cell::RefCell;

use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;
use critical_section::Mutex;
use dt_device::board::Port;
use heapless::Deque;

use super::machine::{UART as BASE, UART_INTERRUPT};
use super::register;

const DATA: usize = BASE;
const STATE: usize = BASE + 0x4;
const CONTROL: usize = BASE + 0x8;
const INTERRUPT_STATUS: usize = BASE + 0xC;
const BAUD_DIVISOR: usize = BASE + 0x10;

const TRANSMIT: u32 = 1;
const RECEIVE: u32 = 2;
const TRANSMIT_FULL: u32 = 1;
const RECEIVE_FULL: u32 = 2;
/// Transmitter, receiver, and the interrupts of both.
const ENABLE: u32 = 0b1111;
/// The smallest that there is. The emulator sends as fast as it can in any case.
const DIVISOR: u32 = 16;

/// Bytes that have come and are yet to be read. What does not fit is lost, and found by the frame's CRC.
static RECEIVED: Mutex<RefCell<Deque<u8, 2048>>> = Mutex::new(RefCell::new(Deque::new()));

/// An interrupt of the UART: transmitter or receiver.
#[derive(Clone, Copy)]
struct Line(u16);

// SAFETY: the numbers are those of the board's vector table, and never change.
unsafe impl cortex_m::interrupt::InterruptNumber for Line {
    fn number(self) -> u16 {
        self.0
    }
}

/// The UART, switched on.
pub struct Uart(());

impl Uart {
    /// Switches it on; `None` the second time.
    pub fn take() -> Option<Self> {
        cortex_m::singleton!(: () = ())?;
        register::write(BAUD_DIVISOR, DIVISOR);
        register::write(CONTROL, ENABLE);
        for line in [UART_INTERRUPT, UART_INTERRUPT + 1] {
            // SAFETY: the handler below serves both, and nobody relies on their being masked.
            unsafe { NVIC::unmask(Line(line)) };
        }
        Some(Self(()))
    }
}

/// Whether there is something to read.
pub fn has_received() -> bool {
    critical_section::with(|token| !RECEIVED.borrow_ref(token).is_empty())
}

impl Port for Uart {
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        critical_section::with(|token| {
            let mut received = RECEIVED.borrow_ref_mut(token);
            let mut len = 0;
            for (target, byte) in buffer
                .iter_mut()
                .zip(core::iter::from_fn(|| received.pop_front()))
            {
                *target = byte;
                len += 1;
            }
            len
        })
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        for byte in bytes {
            if register::read(STATE) & TRANSMIT_FULL != 0 {
                break;
            }
            register::write(DATA, u32::from(*byte));
            sent += 1;
        }
        sent
    }

    fn is_drained(&mut self) -> bool {
        register::read(STATE) & TRANSMIT_FULL == 0
    }
}

/// Every interrupt of the board that has no handler of its own: those of the UART are the only ones enabled.
///
/// The status is cleared first: it is set again by a byte that comes while the data register is read.
#[exception]
unsafe fn DefaultHandler(_: i16) {
    register::write(INTERRUPT_STATUS, TRANSMIT | RECEIVE);
    critical_section::with(|token| {
        let mut received = RECEIVED.borrow_ref_mut(token);
        while register::read(STATE) & RECEIVE_FULL != 0 {
            let _ = received.push_back(register::read(DATA) as u8);
        }
    });
}

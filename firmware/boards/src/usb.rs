//! The part's USB as a serial port (CDC-ACM), and the link's wire out of it and the UART.
//!
//! Its tasks run in an interrupt below all others, so that a host is answered while the policy computes; two pipes lie between them and
//! the device.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cortex_m_rt::interrupt;
use dt_device::board::Port;
use embassy_executor::{InterruptExecutor, SendSpawner};
use embassy_futures::join::join4;
use embassy_rp::interrupt::{self, InterruptExt, Priority};
use embassy_rp::peripherals::USB;
use embassy_rp::usb::Driver;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_usb::class::cdc_acm::{CdcAcmClass, ControlChanged, Receiver, Sender, State};
use embassy_usb::driver::EndpointError;
use embassy_usb::{Builder, Config, Handler};
use embedded_io_async::{Read, Write};

use crate::constants::NAME;
use crate::wire::Wire;

/// pid.codes' vendor, and its product for tests: whoever sells a robot takes a number of their own.
const ID: (u16, u16) = (0x1209, 0x0001);

/// Bytes of a packet at full speed.
const PACKET: usize = 64;

/// On their way to the host.
static SENDING: Pipe<CriticalSectionRawMutex, 1024> = Pipe::new();
/// Not read yet.
static RECEIVED: Pipe<CriticalSectionRawMutex, 1024> = Pipe::new();
/// A packet has left `SENDING`, and the host has not taken it yet.
static IN_FLIGHT: AtomicBool = AtomicBool::new(false);
/// A host has the port open: it holds "data terminal ready", as a terminal program does.
static OPEN: AtomicBool = AtomicBool::new(false);
/// The bus is at rest: the host sleeps, or the cable of a board with power of its own is pulled, which never says that it closes the port.
static ASLEEP: AtomicBool = AtomicBool::new(false);

/// Whether there is a host to talk to.
fn has_host() -> bool {
    OPEN.load(Relaxed) && !ASLEEP.load(Relaxed)
}

static EXECUTOR: InterruptExecutor = InterruptExecutor::new();

#[interrupt]
unsafe fn SWI_IRQ_1() {
    // SAFETY: this is the interrupt that `start` gives to the executor, and nobody else sets it off before.
    unsafe { EXECUTOR.on_interrupt() }
}

/// Begins to answer a host. `None` the second time.
pub fn start(driver: Driver<'static, USB>) -> Option<()> {
    interrupt::SWI_IRQ_1.set_priority(Priority::P3);
    let spawner: SendSpawner = EXECUTOR.start(interrupt::SWI_IRQ_1);
    spawner.spawn(serve(driver).ok()?);
    Some(())
}

#[embassy_executor::task]
async fn serve(driver: Driver<'static, USB>) {
    let mut config = Config::new(ID.0, ID.1);
    config.manufacturer = Some("dt-device");
    config.product = Some(NAME);
    let (mut descriptor, mut bos, mut control) = ([0; 128], [0; 16], [0; PACKET]);
    let mut state = State::new();
    let mut bus = Bus;
    let mut builder = Builder::new(
        driver,
        config,
        &mut descriptor,
        &mut bos,
        &mut [],
        &mut control,
    );
    builder.handler(&mut bus);
    let class = CdcAcmClass::new(&mut builder, &mut state, PACKET as u16);
    let mut device = builder.build();
    let (sender, receiver, control) = class.split_with_control();
    join4(device.run(), take(receiver), give(sender), watch(control)).await;
}

/// Keeps `ASLEEP`.
struct Bus;

impl Handler for Bus {
    fn suspended(&mut self, suspended: bool) {
        ASLEEP.store(suspended, Relaxed);
    }
}

type Usb<'a> = Driver<'a, USB>;

/// Puts what the host sends into `RECEIVED`. A host that sends faster than it is read has to wait.
async fn take<'a>(mut receiver: Receiver<'a, Usb<'a>>) {
    let mut packet = [0; PACKET];
    loop {
        receiver.wait_connection().await;
        while let Ok(bytes) = receiver.read_packet(&mut packet).await {
            RECEIVED.write_all(&packet[..bytes]).await;
        }
    }
}

/// Sends what is in `SENDING`.
async fn give<'a>(mut sender: Sender<'a, Usb<'a>>) {
    loop {
        sender.wait_connection().await;
        while packet(&mut sender).await.is_ok() {}
        IN_FLIGHT.store(false, Relaxed);
    }
}

async fn packet<'a>(sender: &mut Sender<'a, Usb<'a>>) -> Result<(), EndpointError> {
    let mut packet = [0; PACKET];
    let bytes = SENDING.read(&mut packet).await;
    IN_FLIGHT.store(true, Relaxed);
    sender.write_packet(&packet[..bytes]).await?;
    if bytes == PACKET && SENDING.is_empty() {
        // A host takes a full packet for a part of more, and waits for the rest.
        sender.write_packet(&[]).await?;
    }
    IN_FLIGHT.store(false, Relaxed);
    Ok(())
}

/// Keeps `OPEN`. Who opens the port gets nothing that was meant for the one before.
async fn watch(control: ControlChanged<'_>) {
    loop {
        control.control_changed().await;
        let open = control.dtr();
        if open && !OPEN.load(Relaxed) {
            SENDING.clear();
            RECEIVED.clear();
        }
        OPEN.store(open, Relaxed);
    }
}

/// The port of a host that has USB's serial port open; the UART's while none has.
pub struct UsbFirst<U>(pub Wire<U>);

impl<U: Read + Write> Port for UsbFirst<U> {
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        match has_host() {
            true => RECEIVED.try_read(buffer).unwrap_or(0),
            false => self.0.receive(buffer),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        match has_host() {
            true => SENDING.try_write(bytes).unwrap_or(0),
            false => self.0.send(bytes),
        }
    }

    fn is_drained(&mut self) -> bool {
        match has_host() {
            true => SENDING.is_empty() && !IN_FLIGHT.load(Relaxed),
            false => self.0.is_drained(),
        }
    }
}

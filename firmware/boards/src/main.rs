#![no_std]
#![no_main]
//! The device of `dt-device` on a board: its policy lies in a slot of the flash, its host is at the other end of a UART.

mod board;
mod clock;
mod controller;
mod flash;
mod lamp;
#[cfg(any(feature = "pico", feature = "pico2"))]
mod usb;
mod wire;

use core::convert::Infallible;
use core::hint::black_box;

use cortex_m::peripheral::SCB;
use cortex_m::{asm, singleton};
use cortex_m_rt::{ExceptionFrame, entry, exception};
use defmt_rtt as _;
use dt_control::{Mode, Processor};
use dt_device::Updater;
use dt_device::blackbox::{BlackBox, Identity};
use dt_device::board::Indicator;
use dt_device::session::{Device, Loaded, Wire, limits, serve};
use dt_device::slots::{Boot, Fit, Reason};
use panic_probe as _;

use board::{Parts, SLOTS};
use clock::Clock;
use controller::Controller;
use flash::in_place;
use wire::Queues;

mod constants {
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}
use constants::{ACT, ARENA_WORDS, BLACK_BOX_LEN, NAME, STATE, TRUST};

/// Longest time without an observation while an episode runs.
const SILENCE_US: u32 = 500_000;

#[entry]
fn main() -> ! {
    match run() {
        Some(never) => match never {},
        None => {
            defmt::error!("the board is unusable");
            loop {
                asm::wfi();
            }
        }
    }
}

/// Where a panic ends, too. Boots of a policy on trial are counted, so one that leads here gives way to the one before.
#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    SCB::sys_reset()
}

/// Boots and serves the host until it asks for a restart. `None` if the board cannot be used: nothing has moved then.
fn run() -> Option<Infallible> {
    let mut core = cortex_m::Peripherals::take()?;
    let Parts {
        dog,
        reset_cause,
        wire: mut port,
        mut lamp,
        flash,
    } = board::start(&mut core, Queues::take()?)?;
    let clock = Clock::start(core.SYST);
    let mut board = Controller::new(clock, dog, reset_cause);
    defmt::info!("{=str}, reset: {}", NAME, reset_cause);
    lamp.show(Mode::SelfTest);

    let arena = singleton!(: [u32; ARENA_WORDS] = [0; ARENA_WORDS])?;
    let fit = Fit {
        state_dim: STATE,
        action_len: ACT,
        arena_words: ARENA_WORDS,
    };
    let mut boot = Boot::new(flash, SLOTS, fit, TRUST);
    let (running, loaded) = loop {
        let Some(candidate) = boot.next() else {
            break (None, None);
        };
        let file = in_place(candidate.policy.clone());
        match Loaded::<_, STATE, ACT>::boot(file, &mut arena[..], limits) {
            Ok(loaded) => {
                let (slot, sequence) = (candidate.slot, candidate.sequence);
                defmt::info!(
                    "slot {=usize}: policy {=u32} passed its self-test",
                    slot,
                    sequence
                );
                break (Some(candidate), Some(loaded));
            }
            Err(error) => defmt::error!("slot {=usize}: {}", candidate.slot, error),
        }
    };
    for slot in 0..SLOTS.slots.len() {
        match boot.reason(slot) {
            None => {}
            Some(Reason::Header(_)) => defmt::info!("slot {=usize}: no policy", slot),
            Some(reason) => defmt::warn!("slot {=usize}: {}", slot, reason),
        }
    }
    let updates = Updater::new(boot.run(running));
    let wire = Wire {
        board: NAME,
        version: env!("CARGO_PKG_VERSION"),
        silence_us: SILENCE_US,
        cause: reset_cause,
    };
    let identity = loaded.as_ref().map(|loaded| identity(&board, loaded));
    let memory = black_box_memory()?;
    // Without a policy there is nothing to remember.
    let history = identity.and_then(|identity| BlackBox::open(memory, identity, reset_cause).ok());
    let mut device = Device::new(wire, loaded, updates, history);
    if let Err(error) = serve(&mut board, &mut port, &mut lamp, &mut device) {
        defmt::error!("{}", error);
        return None;
    }
    board.restart()
}

/// What the black box has to know.
fn identity<P: Processor, A: AsMut<[u32]>>(_: &P, loaded: &Loaded<'_, A, STATE, ACT>) -> Identity {
    loaded.identity::<P>()
}

/// Memory that a warm reset leaves as it is; `None` the second time.
fn black_box_memory() -> Option<&'static mut [u8]> {
    #[unsafe(link_section = ".black_box")]
    static mut MEMORY: [u8; BLACK_BOX_LEN] = [0; BLACK_BOX_LEN];

    singleton!(: () = ())?;
    // The start-up code does not write zeros there, of which the compiler is not to know: any bytes are a black box or none.
    let memory = black_box(&raw mut MEMORY);
    // SAFETY: the one reference to it that there will ever be, since the second call does not get here.
    Some(unsafe { &mut *memory })
}

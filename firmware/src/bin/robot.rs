//! The device as on a real board: the control loop at a wire, whose other end has the sensors and the actuators.
//! `host-sim rollout --controller qemu` runs it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "arm"))]
#[firmware::board::emulated::entry]
fn main() -> ! {
    use dt_control::Board;
    use dt_device::blackbox::BlackBox;
    use dt_device::session::{Device, Loaded, Wire, limits, serve};
    use firmware::board::emulated::{self, Uart};
    use firmware::board::{Emulated, emulated::exit};
    use firmware::image::{ACT, STATE, black_box_memory, policy_and_arena};

    let (Ok(mut board), Some(mut port), Some((file, arena)), Some(memory)) = (
        Emulated::take(),
        Uart::take(),
        policy_and_arena(),
        black_box_memory(),
    ) else {
        defmt::error!("the board is unusable");
        exit(false)
    };
    let loaded = match Loaded::<_, STATE, ACT>::boot(file, arena, limits) {
        Ok(loaded) => {
            defmt::info!("self-test passed");
            Some(loaded)
        }
        Err(error) => {
            defmt::error!("no policy to run: {}", error);
            None
        }
    };
    let wire = Wire {
        board: emulated::NAME,
        version: env!("CARGO_PKG_VERSION"),
        // Of the emulator's clock, which goes on while the host simulates or is busy with something else.
        silence_us: 5_000_000,
        cause: board.reset_cause(),
    };
    let identity = loaded.as_ref().map(Loaded::identity::<Emulated>);
    // Without a policy there is nothing to remember.
    let history = identity.and_then(|identity| BlackBox::open(memory, identity, wire.cause).ok());
    let mut device = Device::new(wire, loaded, (), history);
    if let Err(error) = serve(&mut board, &mut port, &mut (), &mut device) {
        defmt::error!("{}", error);
        exit(false)
    }
    defmt::info!("restarting");
    cortex_m::peripheral::SCB::sys_reset()
}

#[cfg(all(target_os = "none", not(target_arch = "arm")))]
#[firmware::board::emulated::entry]
fn main() -> ! {
    defmt::error!("this board has no wire yet: choose one with an Arm core");
    firmware::board::emulated::exit(false)
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "this is a controller's image: build it with `cargo xtask firmware build --bin robot`"
    );
    std::process::exit(2);
}

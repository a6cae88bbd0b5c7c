//! Not an image to run but a proof: it links only if no input can make `dt-core` panic.
//!
//! It uses every entry point of the control path with inputs the compiler knows nothing about. Its panic handler calls a
//! function that does not exist; if any path to it survives whole-program optimization, the linker says
//! `undefined symbol: dt_core_can_panic`.
//!
//! `cargo xtask firmware prove` links it for several cores, with and without the checks for overflow that a user's profile may
//! ask for, and shows that it can fail.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod proof {
    use core::hint::black_box;
    use core::panic::PanicInfo;

    use dt_core::{Blob, Guard, Policy, golden};

    unsafe extern "C" {
        safe fn dt_core_can_panic(place: *const ()) -> !;
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        let place = info.location().map(core::ptr::from_ref);
        dt_core_can_panic(place.map_or(core::ptr::null(), |place| place.cast()))
    }

    /// What `cargo xtask firmware prove` plants in the image and has to find.
    const PLANT: &[u8] = match option_env!("DT_PLANT") {
        Some(name) => name.as_bytes(),
        None => b"",
    };

    const _: () = assert!(
        matches!(
            PLANT,
            b"" | b"index" | b"overflow" | b"recursion" | b"frame"
        ),
        "there is no such DT_PLANT"
    );

    #[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
    #[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
    fn main() -> ! {
        loop {
            black_box(control(
                black_box(&[]),
                black_box(&mut []),
                black_box(&[]),
                black_box(&[]),
                black_box(&[]),
                black_box(0.0),
                black_box(0.0),
            ));
        }
    }

    /// The bits of everything that the control path returns.
    #[inline(never)]
    fn control(
        file: &[u8],
        arena: &mut [u32],
        observation: &[f32],
        image: &[u8],
        applied: &[f32],
        reward: f32,
        return_to_go: f32,
    ) -> u32 {
        let Ok(blob) = Blob::parse(file) else {
            return 0;
        };
        let Ok(mut policy) = Policy::new(&blob, arena) else {
            return 1;
        };
        let mut bits = u32::from(golden::check(&mut policy, &blob).is_ok());
        let mut guard = Guard::new(&blob);
        bits ^= u32::from(guard.restart(&mut policy, return_to_go).is_ok());
        while black_box(true) {
            bits ^= u32::from(policy.set_return_to_go(return_to_go).is_ok());
            let command = guard.step(&mut policy, observation);
            for action in command.action {
                bits ^= action.to_bits();
            }
            bits ^= u32::from(policy.absorb(applied).is_ok());
            bits ^= u32::from(policy.run_ahead().is_ok());
            bits ^= u32::from(policy.observe_reward(reward).is_ok());
            bits ^= u32::from(policy.absorb_commanded().is_ok());
            if let Ok(action) = policy.act(observation) {
                bits ^= action.first().copied().unwrap_or_default().to_bits();
            }
            if cfg!(feature = "images") {
                let command = guard.step_image(&mut policy, image);
                for action in command.action {
                    bits ^= action.to_bits();
                }
                bits ^= u32::from(policy.absorb_commanded().is_ok());
                if let Ok(action) = policy.act_image(image) {
                    bits ^= action.first().copied().unwrap_or_default().to_bits();
                }
            }
            if let Some(predicted) = policy.predicted() {
                bits ^= predicted
                    .observation
                    .iter()
                    .fold(0, |bits, value| bits ^ value.to_bits());
                bits ^= predicted.return_to_go.map_or(0, f32::to_bits);
            }
            bits ^= planted(policy.timestep(), observation);
        }
        bits
    }

    /// Nothing, or what has to be found; `number` comes from `dt-core` and cannot be known here.
    fn planted(number: u32, values: &[f32]) -> u32 {
        match PLANT {
            b"index" => values[number as usize].to_bits(),
            b"overflow" => number + 1,
            b"recursion" => recursion(number),
            b"frame" => black_box(&[number; 1500]).iter().fold(0, |a, b| a ^ b),
            _ => 0,
        }
    }

    #[inline(never)]
    fn recursion(depth: u32) -> u32 {
        match depth.checked_sub(1) {
            Some(depth) => black_box(recursion(depth)) ^ depth,
            None => 0,
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this only links for a controller: `cargo xtask test` does that");
    std::process::exit(2);
}

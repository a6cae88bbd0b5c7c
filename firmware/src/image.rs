//! What an image carries, and how it boots: nothing moves before the policy has proved itself.

use core::hint::black_box;

use dt_control::{ControlLoop, Limits, Processor, SetupError, Spans};
use dt_core::blob::Blob;
use dt_core::golden;
use dt_core::policy::Policy;
use dt_device::blackbox::{memory_len, records_for};
use host_sim::trace::Trace;

use crate::board::emulated::{self, singleton};
use crate::board::{EMULATED_INSTRUCTIONS_PER_SECOND, Emulated};

mod exported {
    include!(concat!(env!("OUT_DIR"), "/policy.rs"));
}
pub use exported::ARENA_WORDS;

mod dimensions {
    include!(concat!(env!("OUT_DIR"), "/dimensions.rs"));
}
pub use dimensions::{ACT, PERIOD_US, RECEPTIVE_FIELD, STATE};

mod layout {
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

/// Logs why the robot must not move, and ends.
macro_rules! refuse {
    ($($reason:tt)*) => {{
        defmt::error!($($reason)*);
        defmt::error!("refusing to move");
        emulated::exit(false)
    }};
}

/// Bytes of RAM for a policy's arena: what stack (`memory/`) and statics leave.
pub const RAM_FOR_POLICY: usize = (layout::RAM_KIB - 8 - 4) * 1024;
const _: () = assert!(
    RAM_FOR_POLICY.checked_sub(4 * ARENA_WORDS).is_some(),
    "the policy's arena (ARENA_WORDS in policy.rs) does not fit the controller's RAM: export it as int8 or int4 (with --flash 4096 the emulator has more RAM than the controller)"
);

/// Bytes at the alignment that files are used in place with.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

#[unsafe(link_section = ".policy")]
static POLICY: Aligned<[u8; include_bytes!(concat!(env!("OUT_DIR"), "/policy.dtb")).len()]> =
    Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/policy.dtb")));

#[unsafe(link_section = ".episodes")]
static EPISODES: Aligned<[u8; include_bytes!(concat!(env!("OUT_DIR"), "/episodes.bin")).len()]> =
    Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/episodes.bin")));

/// What lies in flash is not the compiler's business: without this it would fit the code to the content.
fn policy_file() -> &'static [u8] {
    black_box(&POLICY.0[..])
}

/// The policy file, and memory for it; `None` the second time.
pub fn policy_and_arena() -> Option<(&'static [u8], &'static mut [u32])> {
    let arena = singleton!(: [u32; ARENA_WORDS] = [0; ARENA_WORDS])?;
    Some((policy_file(), arena))
}

/// Bytes of RAM for a black box: what the last seconds take, if arena, queues and frames leave as much.
pub const BLACK_BOX_LEN: usize = {
    let wanted = memory_len(STATE, ACT, records_for(PERIOD_US, RECEPTIVE_FIELD));
    let left = RAM_FOR_POLICY
        .saturating_sub(4 * ARENA_WORDS)
        .saturating_sub(6 * 1024);
    if wanted < left { wanted } else { left }
};

/// Memory that a warm reset leaves as it is; `None` the second time.
pub fn black_box_memory() -> Option<&'static mut [u8]> {
    #[unsafe(link_section = ".uninit.black_box")]
    static mut MEMORY: [u8; BLACK_BOX_LEN] = [0; BLACK_BOX_LEN];

    singleton!(: () = ())?;
    // The start-up code does not write zeros there, of which the compiler is not to know: any bytes are a black box or none.
    let memory = black_box(&raw mut MEMORY);
    // SAFETY: the one reference to it that there will ever be, since the second call does not get here.
    Some(unsafe { &mut *memory })
}

/// A policy whose memory is the image's static arena.
pub type ImagePolicy = Policy<'static, &'static mut [u32]>;

/// A booted controller, free to move.
pub struct Booted {
    /// Time and watchdog.
    pub board: Emulated,
    /// The policy file.
    pub blob: Blob<'static>,
    /// The policy, yet to be self-tested: by [`self_test`] or the control loop.
    pub policy: ImagePolicy,
}

/// Starts the board, checks the floating-point unit and parses the policy in place. On any failure says why and
/// ends with status 1.
pub fn boot() -> Booted {
    let board = match Emulated::take() {
        Ok(board) => board,
        Err(unusable) => refuse!("the board is unusable: {}", unusable),
    };
    let blob = match Blob::parse(policy_file()) {
        Ok(blob) => blob,
        Err(error) => refuse!("bad policy: {}", error),
    };
    let Some((_, arena)) = policy_and_arena() else {
        refuse!("booted twice")
    };
    let policy = match Policy::new(&blob, arena) {
        Ok(policy) => policy,
        Err(error) => refuse!("policy and policy.rs do not match: {}", error),
    };
    Booted {
        board,
        blob,
        policy,
    }
}

/// Puts a policy into a control loop, or says why not and ends with status 1: its self-test fails, or it is for
/// another robot.
pub fn control_loop<const STATE: usize, const ACT: usize>(
    blob: &Blob<'static>,
    policy: ImagePolicy,
    limits: Limits,
) -> ControlLoop<'static, &'static mut [u32], STATE, ACT> {
    match ControlLoop::new(blob, policy, limits) {
        Ok(control) => control,
        Err(SetupError::SelfTest(error)) => refuse!("self-test failed: {}", error),
        Err(error) => refuse!("the policy is for {=str}: {}", blob.manifest().env, error),
    }
}

/// Runs the golden self-test. If it fails, says so and ends with status 1.
pub fn self_test(policy: &mut ImagePolicy, blob: &Blob<'static>) {
    match golden::check(policy, blob) {
        Ok(steps) => defmt::info!("self-test passed: {=usize} golden steps", steps),
        Err(error) => refuse!("self-test failed: {}", error),
    }
}

/// The recording to compare with. If it is not one of this policy, says so and ends with status 1.
pub fn recording(blob: &Blob<'static>) -> Trace<'static> {
    let trace = match Trace::parse(black_box(&EPISODES.0[..])) {
        Ok(trace) => trace,
        Err(error) => refuse!("no recorded episodes: {}", defmt::Display2Format(&error)),
    };
    // Bytes 12..16 of a policy file are its CRC (BLOB.md).
    if policy_file().get(12..16) != Some(&trace.policy_crc.to_le_bytes()[..]) {
        refuse!("the episodes were recorded with another policy: record them with this one");
    }
    let config = &blob.manifest().config;
    let dims = (config.state_dim as usize, config.action_len() as usize);
    if dims != (trace.state_dim, trace.act_dim) {
        refuse!(
            "the policy has states of length {=usize} and actions of length {=usize}, the recorded episodes {=usize} and {=usize}",
            dims.0,
            dims.1,
            trace.state_dim,
            trace.act_dim
        );
    }
    trace
}

/// How the controller compared with the host.
pub struct Comparison {
    /// Control steps compared.
    pub steps: u32,
    /// Bits of actions that differ.
    pub differing_bits: u64,
    /// Clock counts of the control steps.
    pub busy: Spans,
    /// Mean undiscounted return, where the image runs the plant.
    pub mean_return: Option<f64>,
}

impl Comparison {
    /// Logs the figures, the last line as JSON (see this package's README), and ends with status 0 only if `passed`.
    pub fn finish(self, bin: &str, passed: bool) -> ! {
        let cost = self
            .busy
            .scaled(EMULATED_INSTRUCTIONS_PER_SECOND, Emulated::CLOCK_HZ);
        let stack = emulated::stack_used();
        let arena = 4 * ARENA_WORDS;
        defmt::info!(
            "instructions per control step: {=u64} / {=u64} / {=u64} (min / mean / max)",
            cost.min,
            cost.mean(),
            cost.max
        );
        defmt::info!(
            "RAM: {=usize} bytes of arena, {=usize} bytes of stack at the deepest",
            arena,
            stack
        );
        macro_rules! json {
            ($rest:literal $(, $value:expr)*) => {
                defmt::println!(
                    $rest, emulated::NAME, bin, self.steps, self.differing_bits, cost.mean(), cost.min, cost.max, arena, stack $(, $value)*
                )
            };
        }
        match self.mean_return {
            None => json!(
                "{{\"board\":\"{=str}\",\"bin\":\"{=str}\",\"steps\":{=u32},\"differing_bits\":{=u64},\"instructions_per_step\":{=u64},\"instructions_min\":{=u64},\"instructions_max\":{=u64},\"arena_bytes\":{=usize},\"stack_bytes\":{=usize}}}"
            ),
            Some(mean_return) => json!(
                "{{\"board\":\"{=str}\",\"bin\":\"{=str}\",\"steps\":{=u32},\"differing_bits\":{=u64},\"instructions_per_step\":{=u64},\"instructions_min\":{=u64},\"instructions_max\":{=u64},\"arena_bytes\":{=usize},\"stack_bytes\":{=usize},\"mean_return\":{=f64}}}",
                mean_return
            ),
        }
        emulated::exit(passed)
    }
}

//! Another policy while the robot is on: the safe action is out from the request until the new policy has passed its self-test
//! and begins an episode. One that is no good changes nothing: the old one begins again.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod robot;

use core::convert::Infallible;

use dt_core::{Blob, Error, Fault, Guard, Policy, golden, include_policy};
use robot::Robot;
use static_cell::ConstStaticCell;

include!("pendulum.rs");

static POLICY: &[u8] = include_policy!("pendulum.dtb");
/// Serves one policy after the other. Its size is the largest of theirs.
static ARENA: ConstStaticCell<[u32; ARENA_WORDS]> = ConstStaticCell::new([0; ARENA_WORDS]);

#[cfg_attr(target_os = "none", cortex_m_rt::entry)]
fn main() -> ! {
    let mut robot = Robot::new();
    let Err(error) = control(&mut robot);
    robot.refuse_to_move(error)
}

fn control(robot: &mut Robot) -> Result<Infallible, Error> {
    let mut uploads = Uploads { ticks: 0 };
    let mut arena: &'static mut [u32] = ARENA.take();
    let mut blob = tested(POLICY, arena)?;
    loop {
        let policy = Policy::new(&blob, arena)?;
        let file;
        (arena, file) = run(robot, &blob, policy, &mut uploads);
        // What a good file needs is there, what a bad one leaves is overwritten.
        if let Ok(good) = tested(file, arena) {
            blob = good;
        }
    }
}

/// A file that may move the robot: undamaged, not too large for the arena, the same bits as when it was exported.
fn tested<'a>(file: &'a [u8], arena: &mut [u32]) -> Result<Blob<'a>, Error> {
    let blob = Blob::parse(file)?;
    let mut policy = Policy::new(&blob, arena)?;
    golden::check(&mut policy, &blob)?;
    Ok(blob)
}

/// Runs the policy until there is another file, and gives the memory back. The safe action is out then.
fn run(
    robot: &mut Robot,
    blob: &Blob<'static>,
    mut policy: Policy<'static, &'static mut [u32]>,
    uploads: &mut Uploads,
) -> (&'static mut [u32], &'static [u8]) {
    let mut guard = Guard::new(blob);
    // Refused, it has latched.
    let _ = guard.restart(&mut policy, blob.manifest().target_return);
    loop {
        robot.wait_for_tick();
        if let Some(file) = uploads.next() {
            robot.actuate(guard.safe_action());
            return (policy.into_arena(), file);
        }
        let (observation, reward) = robot.sense();
        if policy.awaits_reward()
            && let Err(error) = policy.observe_reward(reward)
        {
            guard.latch(Fault::Act(error));
        }
        let command = guard.step(&mut policy, &observation);
        let acting = command.fault.is_none();
        let applied = robot.actuate(command.action);
        if acting && let Err(error) = policy.absorb(&applied).and_then(|()| policy.run_ahead()) {
            guard.latch(Fault::Act(error));
            robot.actuate(guard.safe_action());
        }
    }
}

/// Stands for what writes policies into flash: a damaged one after a second, a good one after two.
struct Uploads {
    ticks: u32,
}

impl Uploads {
    fn next(&mut self) -> Option<&'static [u8]> {
        self.ticks += 1;
        match self.ticks {
            20 => POLICY.get(..1000),
            40 => Some(POLICY),
            _ => None,
        }
    }
}

//! A whole firmware around one policy. What it asks of your board is in `robot.rs`.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod robot;

use core::convert::Infallible;

use dt_core::{Blob, Error, Fault, Guard, Policy, golden, include_policy};
use robot::Robot;
use static_cell::ConstStaticCell;

include!("pendulum.rs"); // ARENA_WORDS, as exported with the policy

/// Stays in flash and is used there.
static POLICY: &[u8] = include_policy!("pendulum.dtb");
/// All memory that the policy will ever use, and none of it on the stack.
static ARENA: ConstStaticCell<[u32; ARENA_WORDS]> = ConstStaticCell::new([0; ARENA_WORDS]);

#[cfg_attr(target_os = "none", cortex_m_rt::entry)]
fn main() -> ! {
    let mut robot = Robot::new();
    let Err(error) = control(&mut robot);
    robot.refuse_to_move(error)
}

/// Ends only before it begins: once the loop runs, whatever goes wrong latches the safe action.
fn control(robot: &mut Robot) -> Result<Infallible, Error> {
    let blob = Blob::parse(POLICY)?; // checks every byte, copies none
    let mut policy = Policy::new(&blob, ARENA.take())?;
    golden::check(&mut policy, &blob)?; // same bits as when it was exported, or do not move
    let mut guard = Guard::new(&blob);
    guard.restart(&mut policy, blob.manifest().target_return)?;

    loop {
        robot.wait_for_tick(); // every blob.manifest().control_period_us
        let (observation, reward) = robot.sense();
        if policy.awaits_reward() // as the manifest says, and not before the first action
            && let Err(error) = policy.observe_reward(reward)
        {
            guard.latch(Fault::Act(error));
        }
        let command = guard.step(&mut policy, &observation);
        let acting = command.fault.is_none();
        let applied = robot.actuate(command.action); // what the actuators really did
        if acting && let Err(error) = policy.absorb(&applied).and_then(|()| policy.run_ahead()) {
            guard.latch(Fault::Act(error));
            robot.actuate(guard.safe_action()); // not at the next tick, but now
        }
    }
}

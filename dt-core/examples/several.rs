//! Several policies in one program: each has its file, its memory and its guard, and a fault of one leaves the other alone.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod robot;

use core::convert::Infallible;

use dt_core::{Blob, Error, Fault, Guard, Policy, golden, include_policy};
use robot::Robot;
use static_cell::ConstStaticCell;

include!("pendulum.rs");

// Two robots of one kind. Of two kinds, each has a file and constants of its own.
static LEFT: &[u8] = include_policy!("pendulum.dtb");
static LEFT_ARENA: ConstStaticCell<[u32; ARENA_WORDS]> = ConstStaticCell::new([0; ARENA_WORDS]);
static RIGHT: &[u8] = include_policy!("pendulum.dtb");
static RIGHT_ARENA: ConstStaticCell<[u32; ARENA_WORDS]> = ConstStaticCell::new([0; ARENA_WORDS]);

/// Neither type depends on a policy's dimensions, so all robots are of one type, whatever their files.
struct Controlled {
    robot: Robot,
    policy: Policy<'static, &'static mut [u32]>,
    guard: Guard<'static>,
}

impl Controlled {
    fn new(file: &'static [u8], arena: &'static mut [u32]) -> Result<Self, Error> {
        let blob = Blob::parse(file)?;
        let mut policy = Policy::new(&blob, arena)?;
        golden::check(&mut policy, &blob)?;
        let mut guard = Guard::new(&blob);
        guard.restart(&mut policy, blob.manifest().target_return)?;
        Ok(Self {
            robot: Robot::new(),
            policy,
            guard,
        })
    }

    fn step(&mut self) {
        let Self {
            robot,
            policy,
            guard,
        } = self;
        let (observation, reward) = robot.sense();
        if policy.awaits_reward()
            && let Err(error) = policy.observe_reward(reward)
        {
            guard.latch(Fault::Act(error));
        }
        let command = guard.step(policy, &observation);
        let acting = command.fault.is_none();
        let applied = robot.actuate(command.action);
        if acting && let Err(error) = policy.absorb(&applied).and_then(|()| policy.run_ahead()) {
            guard.latch(Fault::Act(error));
            robot.actuate(guard.safe_action());
        }
    }
}

#[cfg_attr(target_os = "none", cortex_m_rt::entry)]
fn main() -> ! {
    let Err(error) = control();
    Robot::new().refuse_to_move(error)
}

fn control() -> Result<Infallible, Error> {
    // Either both are good, or nothing moves.
    let mut all = [
        Controlled::new(LEFT, LEFT_ARENA.take())?,
        Controlled::new(RIGHT, RIGHT_ARENA.take())?,
    ];
    loop {
        for controlled in &mut all {
            controlled.robot.wait_for_tick();
            controlled.step();
        }
    }
}

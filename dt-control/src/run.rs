//! The loop around the loop: wait for a tick, serve it, feed the watchdog.

use core::ops::ControlFlow;

use crate::board::{AsyncBoard, BlockingBoard, Board, PeriodTooLong, Watchdog};
use crate::control::ControlLoop;
use crate::robot::Robot;

/// Runs until the robot asks for a shutdown. The safe action is out then, and the watchdog is off if the
/// board can stop it.
///
/// # Errors
/// [`PeriodTooLong`] if the board cannot tick at the policy's control period; nothing has moved then.
pub fn run<B, R, A, const STATE: usize, const ACT: usize, const GROUPS: usize>(
    board: &mut B,
    robot: &mut R,
    control: &mut ControlLoop<'_, A, STATE, ACT, GROUPS>,
) -> Result<Watchdog, PeriodTooLong>
where
    B: BlockingBoard,
    R: Robot,
    A: AsMut<[u32]>,
{
    start(board, control)?;
    loop {
        let tick = board.wait_for_tick();
        if control.tick(tick, board, robot) == ControlFlow::Break(()) {
            return Ok(board.stop_watchdog());
        }
        board.feed_watchdog();
    }
}

/// [`run`] in an executor: waits for ticks without keeping the processor from other tasks. A tick itself is
/// not interrupted by them, unless the executor preempts.
///
/// If this future is dropped before it has ended, the watchdog is left armed: nobody serves the robot.
///
/// # Errors
/// As [`run`].
pub async fn run_async<B, R, A, const STATE: usize, const ACT: usize, const GROUPS: usize>(
    board: &mut B,
    robot: &mut R,
    control: &mut ControlLoop<'_, A, STATE, ACT, GROUPS>,
) -> Result<Watchdog, PeriodTooLong>
where
    B: AsyncBoard,
    R: Robot,
    A: AsMut<[u32]>,
{
    start(board, control)?;
    loop {
        let tick = board.next_tick().await;
        if control.tick(tick, board, robot) == ControlFlow::Break(()) {
            return Ok(board.stop_watchdog());
        }
        board.feed_watchdog();
    }
}

fn start<A: AsMut<[u32]>, const STATE: usize, const ACT: usize, const GROUPS: usize>(
    board: &mut impl Board,
    control: &mut ControlLoop<'_, A, STATE, ACT, GROUPS>,
) -> Result<(), PeriodTooLong> {
    control.restarted(board.reset_cause());
    board.start_ticks(control.period_us())?;
    board.start_watchdog(control.limits().watchdog_us);
    Ok(())
}

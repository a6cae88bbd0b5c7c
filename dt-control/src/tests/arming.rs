//! From idle to running and back, and what the loop makes of gaps.

use super::*;

fn requesting(i: usize, request: Request) -> Plan {
    Plan {
        request: Some(request),
        ..healthy(i)
    }
}

fn modes(played: &[Played]) -> Vec<Mode> {
    played.iter().map(|played| played.mode).collect()
}

#[test]
fn arming_takes_as_many_good_readings_as_asked_for() {
    let file = policy_file(RewardMode::Observed);
    let mut plans: Vec<_> = (0..5).map(|_| healthy(1)).collect();
    plans[0].request = Some(Request::Arm { warm_up: 3 });
    plans[1].request = Some(START);
    plans[4].request = Some(START);
    let played = play_exactly(&mut new_loop(&file.blob()), &plans);
    use Mode::{Armed, Arming, Running};
    let expected = [
        Arming { left: 2 },
        Arming { left: 1 },
        Armed,
        Armed,
        Running,
    ];
    assert_eq!(modes(&played), expected);
    assert_eq!(played[1].refusal, Some(Refusal::WarmingUp { left: 2 }));
    for (i, played) in played.iter().enumerate() {
        assert_eq!(played.sensed, 1, "it goes on checking while armed");
        assert_eq!(played.commanded == [SAFE], i < 4);
        assert_eq!(played.refusal.is_some(), i == 1);
    }
    // One reading at least, whatever is asked for.
    let plans = [requesting(1, Request::Arm { warm_up: 0 }), healthy(1)];
    let played = play_exactly(&mut new_loop(&file.blob()), &plans);
    assert_eq!(modes(&played), [Armed, Armed]);
}

#[test]
fn what_would_be_a_fault_disarms() {
    let with = |change: fn(&mut Plan)| change;
    let bad = [
        (with(|p| p.missed = 1), Fault::MissedDeadline),
        (with(|p| p.sensing_us += 2_001), Fault::MissedDeadline),
        (
            with(|p| p.float_mode = Err(FloatMode::FlushToZero)),
            Fault::FloatingPointMode,
        ),
        (
            with(|p| p.ages_us[1] = Some(STALE_US[1] + 1)),
            Fault::StaleSensor { group: 1 },
        ),
        (
            with(|p| p.ages_us[0] = None),
            Fault::StaleSensor { group: 0 },
        ),
        (with(|p| p.observation = None), Fault::NoReading),
        (
            with(|p| p.written = 2),
            Fault::Act(ActError::Observation { index: 2 }),
        ),
        (
            with(|p| p.observation = Some([0.0, -100.5, 0.0])),
            Fault::OutOfRange { index: 1 },
        ),
        (
            with(|p| p.request = Some(Request::Halt(Fault::Robot { code: 3 }))),
            Fault::Robot { code: 3 },
        ),
    ];
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    for (spoil, fault) in bad {
        for warm_up in [1, 9] {
            let mut plans: Vec<_> = (0..5).map(|_| healthy(1)).collect();
            plans[0].request = Some(Request::Arm { warm_up });
            spoil(&mut plans[2]);
            plans[3].request = Some(START);
            let played = play_exactly(&mut new_loop(&blob), &plans);
            assert_ne!(played[1].mode, Mode::Idle);
            assert_eq!(played[2].refusal, Some(Refusal::Disarmed(fault)));
            assert_eq!(played[3].refusal, Some(Refusal::NotArmed), "{fault:?}");
            assert_eq!(modes(&played[2..]), [Mode::Idle; 3]);
            assert!(played.iter().all(|played| played.commanded == [SAFE]));
        }
    }
}

/// What the gap before the start has disarmed is not started, and the reason is the gap.
#[test]
fn a_start_after_a_gap_is_refused_for_the_gap() {
    let file = policy_file(RewardMode::Observed);
    let mut plans = [requesting(1, ARM), requesting(1, START)];
    plans[1].missed = 1;
    let played = play_exactly(&mut new_loop(&file.blob()), &plans);
    let gap = Refusal::Disarmed(Fault::MissedDeadline);
    assert_eq!(played[1].refusal, Some(gap));
    assert_eq!((played[1].mode, played[1].sensed), (Mode::Idle, 0));
}

#[test]
fn an_episode_or_a_fault_has_to_be_stopped_first() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    use Mode::{Armed, Faulted, Idle, Running};
    let fault = Fault::NoReading;
    let mut control = new_loop(&blob);
    let mut plans: Vec<_> = (0..3).map(healthy).collect();
    plans[1].request = Some(ARM);
    plans[2].request = Some(Request::Halt(Fault::Robot { code: 1 }));
    let played = play(&mut control, &plans);
    assert_eq!(played[1].refusal, Some(Refusal::Running));
    let again = [
        requesting(1, Request::Stop),
        requesting(1, ARM),
        requesting(1, START),
        requesting(1, START),
    ];
    let refused = play_exactly(&mut control, &again)[3].refusal;
    assert_eq!(refused, Some(Refusal::Running));
    assert_eq!(played[1].mode, Running, "and goes on");
    let halted = Faulted(Fault::Robot { code: 1 });
    assert_eq!(
        (played[2].mode, &played[2].commanded[..]),
        (halted, &[SAFE][..])
    );

    let mut plans: Vec<_> = (0..6).map(healthy).collect();
    plans[2].observation = None;
    plans[3].request = Some(ARM);
    plans[4].request = Some(Request::Stop);
    plans[5].request = Some(ARM);
    let played = play(&mut control, &plans);
    assert_eq!(played[3].refusal, Some(Refusal::Faulted(fault)));
    let expected = [
        Running,
        Running,
        Faulted(fault),
        Faulted(fault),
        Idle,
        Armed,
    ];
    assert_eq!(modes(&played), expected);
    let again = [requesting(1, Request::Stop), requesting(1, START)];
    let played = play_exactly(&mut control, &again);
    assert_eq!(played[1].refusal, Some(Refusal::NotArmed), "a stop disarms");
}

#[test]
fn a_restart_by_watchdog_or_brown_out_has_to_be_acknowledged() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    for (cause, fault) in [
        (ResetCause::Watchdog, Some(Fault::WatchdogReset)),
        (ResetCause::BrownOut, Some(Fault::BrownOut)),
        (ResetCause::PowerOn, None),
        (ResetCause::Unknown, None),
    ] {
        let mut world = World::new(&[
            requesting(1, ARM),
            requesting(1, Request::Stop),
            requesting(1, ARM),
            requesting(1, Request::Shutdown),
        ]);
        world.reset_cause = cause;
        let mut control = new_loop(&blob);
        let ended = run(&mut &world, &mut &world, &mut control);
        assert_eq!(ended, Ok(Watchdog::Stopped));
        control.restarted(cause);
        assert_eq!(control.mode(), Idle, "that has been acknowledged");
        let played = world.played.into_inner();
        assert_eq!(played[0].refusal, fault.map(Refusal::Faulted));
        use Mode::{Armed, Faulted, Idle};
        let first = fault.map_or(Armed, Faulted);
        assert_eq!(modes(&played), [first, Idle, Armed, Idle]);
        assert!(played.iter().all(|played| played.commanded == [SAFE]));
    }
}

/// At the limit it may move, by one bit more it may not; a limit of its own for each component.
#[test]
fn an_observation_that_moves_faster_than_the_robot_can_is_a_fault() {
    let file = policy_file(RewardMode::Observed);
    let blob = file.blob();
    let limits = [0.5, f32::INFINITY, 0.25];
    let play_steps = |steps: &[[f32; STATE]], missed: u32| {
        let hold = Missed::Hold { at_most: 1 };
        let mut control = loop_with(&blob, |limits| limits.missed = hold).with_max_change(limits);
        let mut plans: Vec<_> = (0..steps.len() + 2).map(|_| healthy(1)).collect();
        plans[0].request = Some(ARM);
        plans[1].request = Some(START);
        plans[1].observation = Some([0.0; STATE]);
        plans[0].observation = plans[1].observation;
        for (plan, step) in plans[2..].iter_mut().zip(steps) {
            plan.observation = Some(*step);
        }
        plans[2].missed = missed;
        play_exactly(&mut control, &plans).last().unwrap().mode
    };
    let above = |x: f32| f32::from_bits(x.to_bits() + 1);
    let fast = |index| Mode::Faulted(Fault::TooFast { index });
    for sign in [1.0, -1.0] {
        let step = |x: f32, y: f32, z: f32| [sign * x, sign * y, sign * z];
        assert_eq!(play_steps(&[step(0.5, 99.0, 0.25)], 0), Mode::Running);
        assert_eq!(play_steps(&[step(above(0.5), 0.0, 0.0)], 0), fast(0));
        assert_eq!(play_steps(&[step(0.0, 0.0, above(0.25))], 0), fast(2));
        // From each reading to the next.
        let there = step(0.5, 0.0, 0.0);
        assert_eq!(play_steps(&[there, step(1.0, 0.0, 0.0)], 0), Mode::Running);
        assert_eq!(play_steps(&[there, step(-0.1, 0.0, 0.0)], 0), fast(0));
        // A held action gives it twice the time.
        assert_eq!(play_steps(&[step(1.0, 0.0, 0.5)], 1), Mode::Running);
        assert_eq!(play_steps(&[step(above(1.0), 0.0, 0.0)], 1), fast(0));
    }
    // The readings of the warm-up count as well, and between episodes it may be carried elsewhere.
    let mut control = new_loop(&blob).with_max_change(limits);
    let at = |x: f32, request| Plan {
        observation: Some([x, 0.0, 0.0]),
        request: Some(request),
        ..healthy(1)
    };
    let warm_up = Request::Arm { warm_up: 2 };
    let plans = [
        at(0.0, warm_up),
        Plan {
            request: None,
            ..at(0.6, ARM)
        },
        at(9.0, ARM),
        at(9.6, START),
        at(-9.0, Request::Stop),
        at(-9.0, ARM),
    ];
    let played = play_exactly(&mut control, &plans);
    let refusal = Some(Refusal::Disarmed(Fault::TooFast { index: 0 }));
    assert_eq!(played[1].refusal, refusal);
    assert_eq!(played[2].mode, Mode::Armed);
    assert_eq!(played[3].mode, fast(0));
    assert_eq!(played[5].mode, Mode::Armed);
    let no_number = new_loop(&blob).with_max_change([f32::NAN; STATE]);
    let mut control = no_number;
    let played = play(&mut control, &[healthy(0)]);
    assert_eq!(played[0].mode, fast(0), "NaN allows nothing");
}

/// A held action is one timestep: to the bit what the policy does that is given the same readings without a gap.
#[test]
fn gaps_within_the_limit_are_one_longer_step() {
    for reward in REWARDS {
        let file = policy_file(reward);
        let blob = file.blob();
        let expected = expected_actions(&blob, 12, f32::INFINITY);
        let mut plans: Vec<_> = (0..12).map(healthy).collect();
        plans[3].missed = 1;
        plans[4].missed = 2;
        plans[9].missed = 2;
        let run = |missed| {
            let mut control = loop_with(&blob, |limits| {
                limits.missed = missed;
                // A host's word may come later by the gap.
                limits.silence_us = 9 * PERIOD_US;
            });
            let played = play(&mut control, &plans);
            (played, control.timing().missed_ticks)
        };
        let (played, missed) = run(Missed::Hold { at_most: 2 });
        for (played, expected) in played.iter().zip(&expected) {
            assert_eq!(played.mode, Mode::Running, "{reward:?}");
            assert_eq!(played.commanded, [*expected], "{reward:?}");
        }
        assert_eq!(missed, 5);
        let fault = Mode::Faulted(Fault::MissedDeadline);
        let (played, _) = run(Missed::Hold { at_most: 1 });
        assert_eq!((played[3].mode, played[4].mode), (Mode::Running, fault));
        assert_eq!(played[4].commanded, [SAFE]);
        let (played, _) = run(Missed::Fault);
        assert_eq!((played[2].mode, played[3].mode), (Mode::Running, fault));
        assert_eq!(played[3].commanded, [SAFE]);
    }
}

/// What is recorded of a step is all that it takes to repeat it.
#[test]
fn records_tell_what_the_policy_was_told() {
    for reward in REWARDS {
        let file = policy_file(reward);
        let blob = file.blob();
        let mut plans: Vec<_> = (0..9).map(healthy).collect();
        plans[3].limit = 0.1;
        plans[7].actuating_us += 1;
        let steps = {
            let mut control = new_loop(&blob);
            play(&mut control, &plans)
        };
        let mut policy = new_policy(&blob);
        policy.reset(TARGET).unwrap();
        for (i, (played, plan)) in steps.iter().zip(&plans).enumerate() {
            let Some((timestep, return_to_go, action)) = played.step else {
                assert_eq!(i, 8, "it has faulted in tick 7, after its step");
                continue;
            };
            if policy.awaits_reward() {
                policy.observe_reward(plan.reward.unwrap()).unwrap();
            }
            policy.set_return_to_go(return_to_go).unwrap();
            assert_eq!(timestep, i as u32);
            let again = policy.act(&plan.observation.unwrap()).unwrap();
            assert_eq!(again, action, "{reward:?}, tick {i}");
            policy
                .absorb(&action.map(|a| if i == 3 { limited(a, 0.1) } else { a }))
                .unwrap();
            assert_eq!(played.mode == Mode::Running, i < 7);
        }
    }
}

fn limited(action: f32, limit: f32) -> f32 {
    if action.abs() > limit {
        limit.copysign(action)
    } else {
        action
    }
}

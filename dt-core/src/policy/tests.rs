use super::*;
use crate::Engine;
use crate::blob::Sampling;
use crate::blob::tests::{forged, offset};
use crate::config::{
    Activation, Attention, Config, Dtype, Head, MAX_CONTEXT_LEN, Order, Predictions,
};
use crate::fixture::{
    Fixture, Random, applied, arena, bytes, config, configs, observation, perceptrons,
};
use crate::linear::Weights;
use crate::model::Mixing;
use proptest::prelude::*;

mod choices;
mod overflow;
mod sight;

#[test]
fn calls_out_of_order_are_refused() {
    let file = Fixture::new(config(), 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut policy = Policy::new(&blob, arena(&config())).unwrap();
    let o = [0.0; 3];
    assert_eq!(policy.act(&o), Err(ActError::NotReset));
    assert_eq!(policy.absorb(&[0.0]), Err(ActError::NotReset));
    assert_eq!(policy.absorb_commanded(), Err(ActError::NotReset));
    assert_eq!(policy.observe_reward(0.0), Err(ActError::NotReset));
    assert_eq!(policy.run_ahead(), Err(ActError::NotReset));
    assert_eq!(policy.set_return_to_go(0.0), Err(ActError::NotReset));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(policy.reset(bad), Err(ActError::Return));
    }
    policy.reset(-100.0).unwrap();
    let refuses_to_absorb = |policy: &mut Policy<'_, Vec<u32>>| {
        let nothing = Err(ActError::NothingToAbsorb);
        policy.absorb(&[0.0]) == nothing && policy.absorb_commanded() == nothing
    };
    let unexpected = Err(ActError::UnexpectedReward);
    for _ in 0..2 {
        assert!(refuses_to_absorb(&mut policy));
        assert_eq!(policy.observe_reward(0.0), unexpected, "before act, twice");
        policy.act(&o).unwrap();
        assert_eq!(policy.act(&o), Err(ActError::AwaitingAbsorb));
        assert_eq!(policy.observe_reward(0.0), unexpected, "before absorb");
        policy.absorb(&[0.0]).unwrap();
        assert!(refuses_to_absorb(&mut policy));
        assert_eq!(policy.act(&o), Err(ActError::MissingReward));
        assert!(policy.awaits_reward());
        policy.observe_reward(0.0).unwrap();
        assert!(!policy.awaits_reward());
    }
}

/// Where rewards are not subtracted, none is due: one that comes all the same is somebody's mistake.
#[test]
fn rewards_are_refused_where_nobody_counts_them() {
    for reward in [RewardMode::Constant, RewardMode::External] {
        let mut fixture = Fixture::new(config(), 1);
        fixture.manifest.reward = reward;
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        assert_eq!(policy.reward_mode(), reward);
        policy.reset(-100.0).unwrap();
        for _ in 0..2 {
            policy.act(&[0.0; 3]).unwrap();
            policy.absorb(&[0.0]).unwrap();
            let unexpected = Err(ActError::UnexpectedReward);
            assert_eq!(policy.observe_reward(-1.0), unexpected, "{reward:?}");
            assert_eq!(policy.return_to_go(), -100.0);
        }
    }
}

/// The memory of one policy serves the next.
#[test]
fn an_arena_is_given_back() {
    let file = Fixture::new(config(), 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let act = |arena| {
        let mut policy = Policy::new(&blob, arena).unwrap();
        policy.reset(-100.0).unwrap();
        let action = policy.act(&[0.1, 0.2, 0.3]).unwrap()[0].to_bits();
        (action, policy.into_arena())
    };
    let (first, arena) = act(arena(&config()));
    let address = arena.as_ptr();
    let (second, arena) = act(arena);
    assert_eq!((first, address), (second, arena.as_ptr()));
}

/// A refused call changes nothing: the episode goes on with the same bits.
#[test]
fn refused_input_leaves_the_policy_as_it_was() {
    let file = Fixture::new(config(), 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut clean = Policy::new(&blob, arena(&config())).unwrap();
    let mut tried = Policy::new(&blob, arena(&config())).unwrap();
    let mut random = Random::new(5);
    clean.reset(-100.0).unwrap();
    tried.reset(-100.0).unwrap();
    for _ in 0..12 {
        let o = observation(&mut random);
        assert_eq!(
            tried.act(&[o[0], f32::NAN, o[2]]),
            Err(ActError::Observation { index: 1 })
        );
        assert_eq!(
            tried.act(&[f32::INFINITY, o[1], o[2]]),
            Err(ActError::Observation { index: 0 })
        );
        let wrong = ActError::WrongLength {
            field: "observation",
            expected: 3,
            got: 2,
        };
        assert_eq!(tried.act(&o[..2]), Err(wrong));
        assert_eq!(tried.set_return_to_go(f32::NAN), Err(ActError::Return));
        let action = clean.act(&o).unwrap().to_vec();
        assert_eq!(tried.act(&o).unwrap(), action);
        let bad = Err(ActError::Action { index: 0 });
        assert_eq!(tried.absorb(&[f32::NAN]), bad);
        let wrong = ActError::WrongLength {
            field: "action",
            expected: 1,
            got: 0,
        };
        assert_eq!(tried.absorb(&[]), Err(wrong));
        clean.absorb(&action).unwrap();
        clean.observe_reward(-1.0).unwrap();
        tried.absorb_commanded().unwrap();
        assert_eq!(tried.act(&o), Err(ActError::MissingReward));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(tried.observe_reward(bad), Err(ActError::Return));
        }
        tried.observe_reward(-1.0).unwrap();
    }
    assert_eq!(tried.return_to_go(), -88.0);
    assert_eq!(tried.timestep(), 12);
}

#[test]
fn arena_of_the_stated_size_suffices_and_a_smaller_one_is_refused() {
    for config in configs() {
        let file = Fixture::new(config, 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let needed = config.arena_words();
        let error = Policy::new(&blob, vec![0; needed - 1]).unwrap_err();
        assert_eq!(
            error,
            ArenaTooSmall {
                needed,
                have: needed - 1
            }
        );
        assert!(error.to_string().contains(&needed.to_string()), "{error}");
        assert!(Policy::new(&blob, vec![0; needed]).is_ok());
    }
}

/// The return-to-go as the network sees it: `Engine` fed by hand gives the same action.
#[test]
fn reward_modes_keep_the_books() {
    for (reward, expected) in [
        (RewardMode::Observed, [-100.0f32, -99.0, -97.0]),
        (RewardMode::Constant, [-100.0, -100.0, -100.0]),
        (RewardMode::External, [-100.0, -50.0, -25.0]),
    ] {
        let mut fixture = Fixture::new(
            Config {
                dtype: Dtype::F32,
                ..config()
            },
            1,
        );
        fixture.manifest.reward = reward;
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config_of(&blob))).unwrap();
        let mut engine = Engine::new(blob.model(), arena(&config_of(&blob))).unwrap();
        policy.reset(-100.0).unwrap();
        let mut previous: Option<[f32; 1]> = None;
        for (t, expected) in expected.into_iter().enumerate() {
            if reward == RewardMode::External {
                policy.set_return_to_go(expected).unwrap();
            }
            assert_eq!(policy.return_to_go(), expected, "{reward:?}");
            let o = [0.3 * t as f32, -0.2, 0.5];
            let state = o.map(|o| (o - 0.1) / 0.9);
            let unscaled = engine
                .step(
                    previous.as_ref().map(|a| &a[..]),
                    expected / 100.0,
                    &state,
                    t as u32,
                )
                .unwrap();
            let action = [unscaled[0] * 2.0];
            assert_eq!(policy.act(&o).unwrap(), action, "{reward:?} {t}");
            let applied = [0.5 * t as f32];
            policy.absorb(&applied).unwrap();
            if reward == RewardMode::Observed {
                policy.observe_reward(-(t as f32 + 1.0)).unwrap();
            }
            previous = Some([applied[0] / 2.0]);
        }
    }
}

fn state_first(config: Config) -> Config {
    Config {
        predictions: Predictions {
            state: false,
            return_to_go: true,
        },
        order: Order::StateFirst,
        ..config
    }
}

/// What the network thinks possible is what it is asked for, within limits, whoever wanted what: `Engine`, asked by hand for what it
/// has just predicted, gives the same action. In the other modes the policy asks for what it is told, and says what is possible.
#[test]
fn a_network_that_predicts_returns_asks_itself() {
    const LIMITS: ReturnLimits = ReturnLimits {
        low: -40.0,
        high: 60.0,
        beyond: BeyondLimits::Clamp,
    };
    for attention in [Attention::Streaming, Attention::Window] {
        for (reward, beyond) in [
            (RewardMode::Predicted, None),
            (RewardMode::Predicted, Some(BeyondLimits::Clamp)),
            (RewardMode::Predicted, Some(BeyondLimits::Fault)),
            (RewardMode::Constant, None),
        ] {
            let config = state_first(Config {
                attention,
                ..config()
            });
            let mut fixture = Fixture::new(config, 1);
            fixture.manifest.reward = reward;
            fixture.manifest.return_limits = beyond.map(|beyond| ReturnLimits { beyond, ..LIMITS });
            let file = fixture.emit().unwrap();
            let blob = Blob::parse(bytes(&file)).unwrap();
            let mut policy = Policy::new(&blob, arena(&config)).unwrap();
            let mut engine = Engine::new(blob.model(), arena(&config)).unwrap();
            let mut random = Random::new(3);
            policy
                .reset(if beyond.is_some() { 1e30 } else { -100.0 })
                .unwrap();
            let mut previous: Option<[f32; 1]> = None;
            let mut limited = 0;
            for t in 0..12 {
                let o = observation(&mut random);
                let state = o.map(|o| (o - 0.1) / 0.9);
                assert_eq!(policy.predicted(), None, "not of this state yet");
                let action = policy.act(&o).unwrap()[0];
                let possible = policy.predicted().unwrap().return_to_go.unwrap();
                let told = match (reward, beyond) {
                    (RewardMode::Predicted, Some(_)) => clamp(possible, LIMITS.low, LIMITS.high),
                    (RewardMode::Predicted, None) => possible,
                    _ => -100.0,
                };
                limited += u32::from(told != possible);
                let before = previous.as_ref().map(|a| &a[..]);
                let unscaled = engine.step(before, told / 100.0, &state, t).unwrap()[0];
                assert_eq!(unscaled * 2.0, action, "{attention:?} {reward:?} {t}");
                let predicted = engine.predicted()[0] * 100.0;
                assert_eq!(predicted, possible, "{attention:?} {reward:?} {t}");
                policy.absorb_commanded().unwrap();
                previous = Some([unscaled]);
            }
            assert_eq!(
                limited > 0,
                beyond.is_some() || reward == RewardMode::Constant
            );
        }
    }
}

/// With observed rewards too, the action goes ahead as soon as it is known, and the reward's return-to-go
/// as soon as that is.
#[test]
fn each_token_goes_ahead_as_soon_as_it_is_known() {
    struct Forwards(u32);
    impl Probe for Forwards {
        fn enter(&mut self, phase: crate::probe::Phase) {
            self.0 += u32::from(phase == crate::probe::Phase::Embed);
        }
    }
    // After a reset, absorb and observe_reward.
    for (reward, expected) in [
        (RewardMode::Observed, [1, 1, 1]),
        (RewardMode::Constant, [1, 1, 0]),
        (RewardMode::External, [0, 1, 0]),
        (RewardMode::Predicted, [0, 1, 0]),
    ] {
        let config = match reward {
            RewardMode::Predicted => state_first(config()),
            _ => config(),
        };
        let mut fixture = Fixture::new(config, 1);
        fixture.manifest.reward = reward;
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config)).unwrap();
        let ahead = |policy: &mut Policy<'_, Vec<u32>>| {
            let mut forwards = Forwards(0);
            policy.run_ahead_probed(&mut forwards).unwrap();
            policy.run_ahead_probed(&mut forwards).unwrap();
            forwards.0
        };
        policy.reset(-100.0).unwrap();
        let reset = ahead(&mut policy);
        policy.act(&[0.1; 3]).unwrap();
        assert_eq!(ahead(&mut policy), 0);
        policy.absorb_commanded().unwrap();
        let absorbed = ahead(&mut policy);
        if reward == RewardMode::Observed {
            policy.observe_reward(-1.0).unwrap();
        }
        assert_eq!(
            [reset, absorbed, ahead(&mut policy)],
            expected,
            "{reward:?}"
        );
    }
}

/// A constant reward carries the return-to-go as far away as one likes. The network is told the limit, to
/// the bit, and the books go on; where nothing clamps, it is told all of it.
#[test]
fn the_network_is_told_no_return_beyond_the_limits_that_clamp() {
    let limits = |beyond| {
        Some(ReturnLimits {
            low: -120.0,
            high: -90.0,
            beyond,
        })
    };
    let (clamp, fault) = (BeyondLimits::Clamp, BeyondLimits::Fault);
    for (limits, reward, told) in [
        (limits(clamp), -1e6, [-100.0, -90.0, -90.0]),
        (limits(clamp), 1e6, [-100.0, -120.0, -120.0]),
        (limits(clamp), 4.0, [-100.0, -104.0, -108.0]),
        (limits(fault), -1e6, [-100.0, 999_900.0, 1_999_900.0]),
        (None, -1e6, [-100.0, 999_900.0, 1_999_900.0]),
    ] {
        let mut fixture = Fixture::new(config(), 1);
        fixture.manifest.return_limits = limits;
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        let mut engine = Engine::new(blob.model(), arena(&config())).unwrap();
        policy.reset(-100.0).unwrap();
        let mut previous: Option<[f32; 1]> = None;
        for (t, told) in told.into_iter().enumerate() {
            assert_eq!(policy.return_to_go(), -100.0 - t as f32 * reward);
            let o = [0.3 * t as f32, -0.2, 0.5];
            let state = o.map(|o| (o - 0.1) / 0.9);
            let before = previous.as_ref().map(|a| &a[..]);
            let unscaled = engine.step(before, told / 100.0, &state, t as u32);
            let unscaled = unscaled.unwrap()[0];
            let action = policy.act(&o).unwrap();
            assert_eq!(action, [unscaled * 2.0], "{limits:?} {reward} {t}");
            previous = Some([unscaled]);
            policy.absorb_commanded().unwrap();
            for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                let refused = Err(ActError::Return);
                assert_eq!(policy.observe_reward(bad), refused, "clamped or not");
            }
            policy.observe_reward(reward).unwrap();
        }
    }
}

fn config_of(blob: &Blob<'_>) -> Config {
    blob.manifest().config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Fused and split steps, mixed at random over several wraps of the ring: running ahead is tried at
    /// every place in the order of calls, and an action applied as commanded absorbed in both ways.
    #[test]
    fn running_ahead_never_changes_a_bit(seed: u64, choice in 0..configs().count(), reward in 0usize..3) {
        let config = configs().nth(choice).unwrap();
        let mut fixture = Fixture::new(config, seed);
        let predicted = [RewardMode::Constant, RewardMode::Predicted][usize::from(config.is_state_first())];
        fixture.manifest.reward = [RewardMode::Observed, predicted, RewardMode::External][reward];
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut fused = Policy::new(&blob, arena(&config)).unwrap();
        let mut split = Policy::new(&blob, arena(&config)).unwrap();
        let mut random = Random::new(seed ^ 1);
        fused.reset(-100.0).unwrap();
        split.reset(-100.0).unwrap();
        let mut distinct = std::collections::BTreeSet::new();
        let maybe_ahead = |split: &mut Policy<'_, Vec<u32>>, random: &mut Random| {
            for _ in 0..random.below(3) {
                split.run_ahead().unwrap();
            }
        };
        for t in 0..40 {
            let external = -100.0 * random.unit();
            maybe_ahead(&mut split, &mut random);
            if reward == 2 {
                fused.set_return_to_go(external).unwrap();
                split.set_return_to_go(external).unwrap();
            }
            let o = observation(&mut random);
            let action = fused.act(&o).unwrap()[0];
            prop_assert_eq!(split.act(&o).unwrap()[0].to_bits(), action.to_bits(), "step {}", t);
            let logits = |policy: &mut Policy<'_, Vec<u32>>| {
                policy.logits().map(|logits| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
            };
            prop_assert_eq!(logits(&mut split), logits(&mut fused), "step {}", t);
            distinct.insert(logits(&mut fused).unwrap_or(vec![action.to_bits()]));
            maybe_ahead(&mut split, &mut random);
            if random.below(2) == 0 {
                fused.absorb(&[action]).unwrap();
                split.absorb_commanded().unwrap();
            } else {
                let applied = [applied(&config, &mut random)];
                fused.absorb(&applied).unwrap();
                split.absorb(&applied).unwrap();
            }
            maybe_ahead(&mut split, &mut random);
            if reward == 0 {
                let reward = random.unit();
                fused.observe_reward(reward).unwrap();
                split.observe_reward(reward).unwrap();
            }
        }
        prop_assert!(distinct.len() > 10, "the actions hardly vary: {distinct:?}");
    }

    /// Actions are finite and within bounds, whatever finite input comes; nothing panics.
    #[test]
    fn extreme_input_gives_a_bounded_action_or_an_error(
        seed: u64,
        choice in 0..configs().count(),
        inputs in proptest::collection::vec((any::<f32>(), any::<[f32; 3]>(), any::<f32>(), any::<f32>()), 1..20),
    ) {
        let config = configs().nth(choice).unwrap();
        let mut fixture = Fixture::new(config, seed);
        if config.is_state_first() {
            fixture.manifest.reward = RewardMode::Predicted;
        }
        let file = fixture.emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config)).unwrap();
        for (target, o, applied, reward) in inputs {
            let _ = policy.set_return_to_go(target);
            if let Ok(action) = policy.act(&o) {
                prop_assert!(action[0].abs() <= 2.0, "{action:?}");
                let _ = policy.absorb(&[applied]);
                let _ = policy.run_ahead();
                let _ = policy.observe_reward(reward);
                let _ = policy.run_ahead();
            } else {
                let _ = policy.reset(target);
            }
        }
    }
}

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

/// Window attention is, by definition, a fresh network on the last K steps.
#[test]
fn window_forgets_what_lies_further_back() {
    for dtype in [Dtype::F32, Dtype::Int8, Dtype::Int4] {
        let config = Config {
            dtype,
            attention: Attention::Window,
            ..config()
        };
        let file = Fixture::new(config, 2).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut random = Random::new(3);
        let steps: Vec<_> = (0..15)
            .map(|_| (random.unit(), observation(&mut random), [random.unit()]))
            .collect();
        let run = |range: core::ops::Range<usize>| {
            let mut engine = Engine::new(blob.model(), arena(&config)).unwrap();
            let mut previous = None;
            let mut output = 0;
            for t in range {
                let (rtg, state, action) = &steps[t];
                output = engine.step(previous, *rtg, state, t as u32).unwrap()[0].to_bits();
                previous = Some(&action[..]);
            }
            output
        };
        for end in 1..=steps.len() {
            let start = end.saturating_sub(config.context_len as usize);
            assert_eq!(run(0..end), run(start..end), "{dtype:?} {end}");
            if start > 0 {
                assert_ne!(run(0..end), run(start + 1..end), "{dtype:?} {end}");
            }
        }
    }
}

/// A streaming token sees K timesteps directly and, through the layers below, n_layer·(K − 1)
/// timesteps before its own. One further back changes nothing, the furthest one does.
#[test]
fn streaming_has_the_stated_receptive_field() {
    let config = Config {
        dtype: Dtype::F32,
        max_ep_len: 0,
        ..config()
    };
    let file = Fixture::new(config, 2).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let reach = (config.n_layer * (config.context_len - 1)) as usize;
    let last = reach + 8;
    let run = |changed: Option<usize>| {
        let mut random = Random::new(4);
        let mut engine = Engine::new(blob.model(), arena(&config)).unwrap();
        let mut previous: Option<[f32; 1]> = None;
        let mut output = 0;
        for t in 0..=last {
            let mut state = observation(&mut random);
            if changed == Some(t) {
                state[0] += 3.0;
            }
            let previous_action = previous.as_ref().map(|a| &a[..]);
            output = engine.step(previous_action, 0.5, &state, 0).unwrap()[0].to_bits();
            previous = Some([random.unit()]);
        }
        output
    };
    let unchanged = run(None);
    for t in 0..last - reach {
        assert_eq!(run(Some(t)), unchanged, "{t}");
    }
    for t in last - reach..=last {
        assert_ne!(run(Some(t)), unchanged, "{t}");
    }
}

/// What a perceptron has seen: K states, with the mean one before an episode's first, whatever the episode before; and neither
/// returns nor actions.
#[test]
fn a_perceptron_sees_the_last_states_alone() {
    for config in perceptrons() {
        let file = Fixture::new(config, 3).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mean: [f32; 3] = blob.vectors().state_mean.try_into().unwrap();
        let mut policy = Policy::new(&blob, arena(&config)).unwrap();
        let mut acted = |target: f32, observations: &[[f32; 3]]| {
            policy.reset(target).unwrap();
            let mut last = Vec::new();
            for observation in observations {
                policy.run_ahead().unwrap();
                let action = policy.act(observation).unwrap().to_vec();
                last = policy.logits().map_or(action, <[f32]>::to_vec);
                policy.absorb(&[f32::from(target > 0.0)]).unwrap();
                policy.observe_reward(target).unwrap();
            }
            last.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let mut random = Random::new(4);
        let k = config.context_len as usize;
        let seen: Vec<_> = (0..2 * k).map(|_| observation(&mut random)).collect();
        let (forgotten, kept) = seen.split_at(k);
        let expected = acted(1.0, kept);
        assert_eq!(acted(-1.0, &[forgotten, kept].concat()), expected);
        let first = acted(1.0, &kept[..1]);
        let after_means = [&vec![mean; k - 1][..], &kept[..1]].concat();
        assert_eq!(acted(-1.0, &after_means), first, "{config:?}");
        if k > 1 {
            // There is something to see of the others.
            assert_ne!(first, acted(1.0, &[kept[1], kept[0]]), "{config:?}");
        }
    }
}

/// From the receptive field on the end of an episode has the bits of the whole one, whatever the engine; before that it
/// has not, so there is something to see.
#[test]
fn an_episode_replayed_from_its_middle_is_the_same_from_the_receptive_field_on() {
    for config in configs() {
        let field = config.receptive_field() as usize;
        let steps = 2 * field + 7;
        let file = Fixture::new(config, 3).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let run = |from: usize, told: &[(f32, u32)]| -> Vec<(f32, u32)> {
            let mut random = Random::new(4);
            let mut policy = Policy::new(&blob, arena(&config)).unwrap();
            let start = told.get(from).map_or(-100.0, |told| told.0);
            policy.reset_at(start, from as u32).unwrap();
            let mut acted = Vec::new();
            for t in 0..steps {
                let observation = observation(&mut random);
                let reward = random.unit();
                if t < from {
                    continue;
                }
                let action = policy.act(&observation).unwrap()[0].to_bits();
                acted.push((policy.return_to_go(), action));
                let applied = told.get(t).map_or(action, |told| told.1);
                policy.absorb(&[f32::from_bits(applied)]).unwrap();
                policy.observe_reward(reward).unwrap();
            }
            acted
        };
        let whole = run(0, &[]);
        let from = field + 3;
        let end = run(from, &whole);
        let differ = |t: &usize| end[*t] != whole[from + t];
        assert_eq!((field - 1..end.len()).find(differ), None, "{config:?}");
        // A choice hides small differences, and of one state nothing is left out.
        let hidden = config.actions == Actions::Discrete || field == 1;
        assert!(hidden || (0..field - 1).any(|t| differ(&t)), "{config:?}");
    }
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

#[test]
fn overflow_inside_the_network_is_an_error_until_reset() {
    let config = Config {
        dtype: Dtype::F32,
        max_ep_len: 0,
        ..config()
    };
    for dtype in [Dtype::F32, Dtype::Int8, Dtype::Int4] {
        let file = Fixture::new(Config { dtype, ..config }, 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config_of(&blob))).unwrap();
        policy.reset(0.0).unwrap();
        assert_eq!(
            policy.act(&[f32::MAX; 3]),
            Err(ActError::NonFinite),
            "{dtype:?}"
        );
        assert_eq!(policy.act(&[0.0; 3]), Err(ActError::NotReset), "{dtype:?}");
        policy.reset(0.0).unwrap();
        assert!(policy.act(&[0.0; 3]).is_ok());
    }
}

/// Scales that a damaged or hostile file may well have. Attention scores overflow to ∞ then, and their
/// differences would be NaN; and tanh would make ±1 of an infinite output.
#[test]
fn infinite_scores_and_outputs_fail_the_step() {
    let file = Fixture::new(config(), 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    assert_eq!(blob.manifest().config.head, Head::Tanh);
    let Mixing::Attention { qkv, .. } = blob.model().layers().next().unwrap().mixer else {
        panic!("the fixture's attention is not folded")
    };
    for (linear, huge) in [(qkv, 1e25_f32), (blob.model().output().head, f32::MAX)] {
        let Weights::Int8 { scale, .. } = linear.weights else {
            panic!("the fixture is int8")
        };
        let start = offset(&file, scale);
        let large = forged(&file, |file| {
            for scale in file[start..][..4 * linear.rows()].as_chunks_mut::<4>().0 {
                *scale = huge.to_le_bytes();
            }
        });
        let blob = Blob::parse(bytes(&large)).unwrap();
        let mut policy = Policy::new(&blob, arena(&config())).unwrap();
        policy.reset(0.0).unwrap();
        assert_eq!(policy.act(&[0.1; 3]), Err(ActError::NonFinite), "{huge}");
    }
}

/// What overflows to −∞ before a ReLU, as a score, or as a variance would become a plausible number: 0, no weight, the bias.
#[test]
fn an_overflow_never_becomes_a_plausible_number() {
    for dtype in [Dtype::F32, Dtype::Int8] {
        let config = Config {
            dtype,
            n_head: 1,
            ..config()
        };
        let file = Fixture::new(config, 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let layer = blob.model().layers().next().unwrap();
        let Mixing::Attention { qkv, .. } = layer.mixer else {
            panic!("the fixture's attention is not folded")
        };
        let d = config.d_model as usize;
        let fails = |change: &dyn Fn(&mut [u8])| {
            let file = forged(&file, |file| change(file));
            let blob = Blob::parse(bytes(&file)).unwrap();
            let mut policy = Policy::new(&blob, arena(&config)).unwrap();
            policy.reset(0.0).unwrap();
            // The first step alone has a single score per token, which softmax makes 1 whatever it is.
            let first = policy.act(&[0.1; 3]).map(<[f32]>::to_vec);
            first.is_err_and(|error| error == ActError::NonFinite)
        };
        let put = |file: &mut [u8], at: usize, value: f32, times: usize| {
            for place in file[at..][..4 * times].as_chunks_mut::<4>().0 {
                *place = value.to_le_bytes();
            }
        };
        assert!(!fails(&|_| ()), "{dtype:?}: the fixture is sound");
        // Hidden values: a bias that overflows together with a large weight or scale.
        let bias = offset(&file, layer.mlp_fc.bias);
        let factors = match layer.mlp_fc.weights {
            Weights::F32(w) => (offset(&file, w), w.len()),
            Weights::Int8 { scale, .. } => (offset(&file, scale), scale.len()),
            _ => panic!("neither f32 nor int8"),
        };
        assert!(
            fails(&|file| {
                put(file, bias, f32::MIN, config.d_ff as usize);
                put(file, factors.0, f32::MAX / 1e3, factors.1);
            }),
            "{dtype:?}: −∞ before ReLU"
        );
        // A residual stream whose variance overflows, though every value is finite.
        let residual = offset(&file, layer.mlp_proj.bias);
        assert!(
            fails(&|file| {
                put(file, residual, 1e30, 1);
                put(file, residual + 4, -1e30, 1);
            }),
            "{dtype:?}: infinite variance"
        );
        // Queries and keys so large that scores overflow, one with another sign than the rest.
        let qk = offset(&file, qkv.bias);
        assert!(
            fails(&|file| {
                put(file, qk, 1e30, d);
                put(file, qk + 4 * d, -1e30, d);
            }),
            "{dtype:?}: −∞ as a score"
        );
    }
}

/// An infinity would become ±1 by tanh, 0 by the other activations where it is −∞, and 0 or 1 by a gate.
#[test]
fn an_overflow_before_an_activation_or_a_gate_fails_the_step() {
    for (dtype, activation) in [Dtype::F32, Dtype::Int8].into_iter().flat_map(|dtype| {
        [
            Activation::Relu,
            Activation::GeluTanh,
            Activation::Gelu,
            Activation::Silu,
            Activation::Tanh,
        ]
        .map(|activation| (dtype, activation))
    }) {
        let config = Config {
            dtype,
            activation,
            glu: true,
            n_head: 1,
            ..config()
        };
        let file = Fixture::new(config, 1).emit().unwrap();
        let blob = Blob::parse(bytes(&file)).unwrap();
        let model = blob.model();
        let fc = model.layers().next().unwrap().mlp_fc;
        let d = config.d_model as usize;
        let glu = model.output().glu.unwrap();
        assert!(glu.rows == 2 * d, "values, then gates");
        for (what, linear, rows) in [("hidden", fc, 0..fc.rows), ("gate", glu, d..2 * d)] {
            let acted = |bias: f32, factor: f32| {
                let first = offset(&file, linear.bias) + 4 * rows.start;
                // Of both signs, so that half of the rows overflow whichever the sum of their inputs has.
                let (factors, each) = match linear.weights {
                    Weights::F32(weights) => (offset(&file, weights), linear.cols),
                    Weights::Int8 { scale, .. } => (offset(&file, scale), 1),
                    _ => panic!("neither f32 nor int8"),
                };
                let large = forged(&file, |file| {
                    for (i, row) in rows.clone().enumerate() {
                        file[first + 4 * i..][..4].copy_from_slice(&bias.to_le_bytes());
                        let sign = match linear.weights {
                            Weights::F32(_) if i % 2 == 1 => -1.0,
                            _ => 1.0, // a scale: the weights have signs of their own
                        };
                        for col in 0..each {
                            let at = factors + 4 * (row * each + col);
                            file[at..][..4].copy_from_slice(&(sign * factor).to_le_bytes());
                        }
                    }
                });
                let blob = Blob::parse(bytes(&large)).unwrap();
                let mut policy = Policy::new(&blob, arena(&config)).unwrap();
                policy.reset(0.0).unwrap();
                policy.act(&[0.1; 3]).map(drop)
            };
            let place = format!("{what}, {dtype:?}, {activation:?}");
            assert_eq!(acted(1.0, 1e-3), Ok(()), "{place}");
            for infinite in [f32::MIN, f32::MAX] {
                let outcome = acted(infinite, f32::MAX / 1e3);
                assert_eq!(outcome, Err(ActError::NonFinite), "{place}: {infinite}");
            }
        }
    }
}

/// Equal scores make every softmax numerator the largest there is.
#[test]
fn the_longest_context_sums_without_overflow() {
    let config = Config {
        d_model: 4,
        n_layer: 1,
        n_head: 1,
        d_ff: 4,
        context_len: MAX_CONTEXT_LEN,
        ..config()
    };
    let mut fixture = Fixture::new(config, 1);
    fixture.manifest.reward = RewardMode::Constant;
    let file = fixture.emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let Mixing::Attention { qkv, .. } = blob.model().layers().next().unwrap().mixer else {
        panic!("the fixture's attention is not folded")
    };
    let Weights::Int8 { scale, .. } = qkv.weights else {
        panic!("the fixture is int8")
    };
    // No query, no preference. The queries' bias is in front of all others.
    let (scale, bias) = (offset(&file, scale), offset(&file, qkv.bias));
    let indifferent = forged(&file, |file| {
        file[scale..][..4 * 4].fill(0);
        file[bias..][..4 * 4].fill(0);
    });
    let blob = Blob::parse(bytes(&indifferent)).unwrap();
    let mut policy = Policy::new(&blob, arena(&config)).unwrap();
    policy.reset(0.0).unwrap();
    for t in 0..MAX_CONTEXT_LEN + 3 {
        let action = policy.act(&[0.1, 0.2, t as f32 / 1000.0]).unwrap().to_vec();
        policy.absorb(&action).unwrap();
    }
}

#[test]
fn saturated_timestep_is_the_last_row() {
    let file = Fixture::new(config(), 1).emit().unwrap();
    let blob = Blob::parse(bytes(&file)).unwrap();
    let run = |timestep| {
        let mut engine = Engine::new(blob.model(), arena(&config())).unwrap();
        engine.step(None, 0.1, &[0.1; 3], timestep).unwrap()[0].to_bits()
    };
    assert_eq!(run(8), run(9));
    assert_eq!(run(8), run(u32::MAX));
    assert_ne!(run(8), run(7));
}

fn discrete() -> Config {
    Config {
        actions: Actions::Discrete,
        head: Head::Linear,
        act_dim: 3,
        ..config()
    }
}

fn sampled(seed: u64) -> Choice {
    Choice::Sampled(Sampling {
        temperature: 2.0,
        top_k: 0,
        seed,
    })
}

fn choosing(choice: Choice) -> Vec<u128> {
    let mut fixture = Fixture::new(discrete(), 1);
    fixture.manifest.choice = choice;
    fixture.manifest.reward = RewardMode::Constant;
    fixture.emit().unwrap()
}

/// A choice is an index, made by the logits that can be looked at; the network reads it as a one-hot vector.
#[test]
fn a_choice_goes_out_as_an_index_and_back_in_as_one_hot() {
    let mut indices = std::collections::BTreeSet::new();
    for choice in [Choice::Greedy, sampled(5)] {
        let file = choosing(choice);
        let blob = Blob::parse(bytes(&file)).unwrap();
        let mut policy = Policy::new(&blob, arena(&discrete())).unwrap();
        let mut engine = Engine::new(blob.model(), arena(&discrete())).unwrap();
        policy.reset(-100.0).unwrap();
        assert_eq!(policy.logits(), None);
        let mut random = Random::new(2);
        let mut previous: Option<[f32; 3]> = None;
        for t in 0..30u32 {
            let o = observation(&mut random);
            let state = o.map(|o| (o - 0.1) / 0.9);
            let engine = engine.step(previous.as_ref().map(|a| &a[..]), -1.0, &state, t);
            let logits = engine.unwrap();
            let [index] = *policy.act(&o).unwrap() else {
                panic!("an action is an index")
            };
            assert_eq!(policy.logits(), Some(logits), "{t}");
            let draw = draw(5, t);
            let chosen = choose(logits, &choice, draw, discrete().math);
            assert_eq!(index, chosen as f32);
            indices.insert((choice == Choice::Greedy, chosen));
            let applied = match random.below(2) {
                0 => {
                    policy.absorb_commanded().unwrap();
                    chosen
                }
                _ => {
                    let other = (chosen + 1) % 3;
                    policy.absorb(&[other as f32]).unwrap();
                    other
                }
            };
            assert_eq!(policy.logits(), None);
            let mut one_hot = [0.0; 3];
            one_hot[applied] = 1.0;
            previous = Some(one_hot);
        }
    }
    assert_eq!(indices.len(), 6, "not all were chosen: {indices:?}");
}

#[test]
fn what_is_no_choice_is_not_absorbed() {
    let file = choosing(Choice::Greedy);
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut policy = Policy::new(&blob, arena(&discrete())).unwrap();
    policy.reset(-100.0).unwrap();
    policy.act(&[0.0; 3]).unwrap();
    let refused = Err(ActError::Action { index: 0 });
    for bad in [-1.0, 3.0, 0.5, 1e30, -1e-9, f32::NAN, f32::INFINITY] {
        assert_eq!(policy.absorb(&[bad]), refused, "{bad}");
    }
    let wrong = ActError::WrongLength {
        field: "action",
        expected: 1,
        got: 3,
    };
    assert_eq!(policy.absorb(&[0.0, 1.0, 0.0]), Err(wrong));
    policy.absorb(&[2.0]).unwrap();
}

/// A step's draw follows from key and timestep: the same key gives the same episode, whatever was before, and another one
/// another; without one the file's counts.
#[test]
fn the_key_of_an_episode_decides_its_draws() {
    let file = choosing(sampled(5));
    let blob = Blob::parse(bytes(&file)).unwrap();
    let mut policy = Policy::new(&blob, arena(&discrete())).unwrap();
    let mut episode = |seed: Option<u64>| -> Vec<f32> {
        if let Some(seed) = seed {
            policy.set_seed(seed);
        }
        policy.reset(-100.0).unwrap();
        let act = |t: u32| {
            // The same past, whatever was chosen.
            let action = policy.act(&[0.1 * t as f32; 3]).unwrap()[0];
            policy.absorb(&[0.0]).unwrap();
            action
        };
        (0..40).map(act).collect()
    };
    let of_file = episode(None);
    assert_eq!(episode(None), of_file);
    let other = episode(Some(6));
    assert_ne!(other, of_file);
    assert_ne!(episode(Some(5 + (1 << 32))), of_file);
    assert_eq!(episode(Some(5)), of_file);
    assert_eq!(episode(Some(6)), other);
}

/// Their memory is as it was before there were others.
#[test]
fn choices_take_no_memory() {
    let continuous = Config {
        actions: Actions::Continuous,
        ..discrete()
    };
    assert_eq!(discrete().arena_words(), continuous.arena_words());
}

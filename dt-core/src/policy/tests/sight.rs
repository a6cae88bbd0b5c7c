//! How far back an action sees, and what it sees there.

use super::*;

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

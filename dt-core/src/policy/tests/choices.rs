//! Discrete actions: indices, draws and their keys.

use super::*;

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

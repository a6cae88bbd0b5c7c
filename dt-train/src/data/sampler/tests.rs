//! Which rows make a batch.

use super::*;

/// Row i holds the number i everywhere, so that a gathered value says where it came from.
fn numbered(episode_lens: &[usize]) -> Trajectories {
    let rows: usize = episode_lens.iter().sum();
    let numbers: Vec<f32> = (0..rows).map(|i| i as f32).collect();
    Trajectories {
        state_dim: 1,
        act_dim: 1,
        kind: Actions::Continuous,
        pixels: None,
        states: numbers.clone(),
        actions: numbers.clone(),
        returns_to_go: numbers,
        episode_lens: episode_lens.to_vec(),
        ..Trajectories::default()
    }
}

fn shape(sequence_len: usize) -> SequenceShape {
    SequenceShape {
        batch_size: 64,
        sequence_len,
        burn_in: 0,
        uniform_starts: false,
        start_fraction: 0.0,
        best_fraction: 0.0,
        best_percent: 100.0,
    }
}

fn sampler(episode_lens: &[usize], shape: SequenceShape, seed: u64) -> Sampler {
    let data = numbered(episode_lens);
    Sampler::new(data, Draw::Sequences(shape), seed, Device::Cpu)
}

fn rows<T: tch::kind::Element + Copy + Default>(tensor: &Tensor) -> Vec<Vec<T>> {
    let flat = tensor.flatten(0, -1);
    let mut values = vec![T::default(); flat.numel()];
    flat.copy_data(&mut values, flat.numel());
    values
        .chunks(tensor.size()[1] as usize)
        .map(<[T]>::to_vec)
        .collect()
}

#[test]
fn sequences_stay_inside_their_episode_and_padding_carries_no_loss() {
    // Episodes: rows 0..3 (shorter than a sequence), 3..12.
    let batch = sampler(
        &[3, 9],
        SequenceShape {
            burn_in: 2,
            ..shape(5)
        },
        1,
    )
    .batch(0);
    let states = rows::<f32>(&batch.inputs.states);
    let times = rows::<i64>(&batch.inputs.timesteps);
    let mask = rows::<f32>(&batch.loss_mask);
    let mut starts = [0; 12];
    for ((states, times), mask) in states.iter().zip(&times).zip(&mask) {
        let first = states[0] as usize;
        starts[first] += 1;
        match first {
            0 => {
                assert_eq!(states[..], [0.0, 1.0, 2.0, 2.0, 2.0]);
                assert_eq!(times[..3], [0, 1, 2]);
                assert_eq!(mask[..], [1.0, 1.0, 1.0, 0.0, 0.0]);
            }
            3..=7 => {
                assert!(states.windows(2).all(|w| w[1] == w[0] + 1.0));
                let expected: Vec<i64> = (0..5).map(|i| first as i64 - 3 + i).collect();
                assert_eq!(*times, expected);
                let burnt: f32 = if first == 3 { 0.0 } else { 2.0 };
                assert_eq!(mask.iter().sum::<f32>(), 5.0 - burnt);
                assert_eq!(mask[4], 1.0);
            }
            _ => panic!("a sequence starts at row {first}"),
        }
    }
    for start in [0, 3, 4, 5, 6, 7] {
        assert!(starts[start] > 0, "row {start} never starts a sequence");
    }
}

/// As the paper's code draws them: any timestep is as likely to be the first, the last one, too, which then stands alone.
#[test]
fn uniform_starts_are_uniform_and_end_with_the_episode() {
    let shape = SequenceShape {
        uniform_starts: true,
        ..shape(4)
    };
    let mut sampler = sampler(&[8], shape, 5);
    let mut starts = [0; 8];
    for update in 0..100 {
        let batch = sampler.batch(update);
        let times = rows::<i64>(&batch.inputs.timesteps);
        let masks = rows::<f32>(&batch.loss_mask);
        for (times, mask) in times.into_iter().zip(masks) {
            starts[times[0] as usize] += 1;
            let real = std::cmp::min(4, 8 - times[0] as usize);
            let expected: Vec<f32> = (0..4).map(|i| f32::from(u8::from(i < real))).collect();
            assert_eq!(mask, expected, "{times:?}");
        }
    }
    // 800 of 6400 each, give or take 26.
    assert!(starts.iter().all(|n| (670..930).contains(n)), "{starts:?}");
}

#[test]
fn a_fraction_of_the_sequences_starts_with_the_episode() {
    let starts = |fraction: f64| {
        let shape = SequenceShape {
            start_fraction: fraction,
            ..shape(10)
        };
        let mut sampler = sampler(&[1000], shape, 5);
        let times =
            (0..100).flat_map(|update| rows::<i64>(&sampler.batch(update).inputs.timesteps));
        times.filter(|times| times[0] == 0).count()
    };
    // Of 6400 sequences; five in a thousand start there by chance.
    assert!((10..60).contains(&starts(0.0)), "{}", starts(0.0));
    assert!((1450..1800).contains(&starts(0.25)), "{}", starts(0.25));
    assert_eq!(starts(1.0), 6400);
}

#[test]
fn a_fraction_of_the_sequences_comes_from_the_best_episodes() {
    // Returns, by the rows' numbers: 0, 100, 200, 300, so the last fits into 25 %, the last two into 50 %.
    let share = |fraction: f64, percent: f64, first_best: f32| {
        let shape = SequenceShape {
            best_fraction: fraction,
            best_percent: percent,
            ..shape(10)
        };
        let mut sampler = sampler(&[100; 4], shape, 5);
        let rows = (0..100).flat_map(|update| rows::<f32>(&sampler.batch(update).inputs.states));
        rows.filter(|rows| rows[0] >= first_best).count() as f64 / 6400.0
    };
    let cases = [
        (0.0, 25.0, 300.0, 0.25),
        (0.5, 25.0, 300.0, 0.5 + 0.5 * 0.25),
        (1.0, 25.0, 300.0, 1.0),
        (0.5, 50.0, 200.0, 0.5 + 0.5 * 0.5),
    ];
    for (fraction, percent, first_best, expected) in cases {
        let share = share(fraction, percent, first_best);
        assert!(
            (share - expected).abs() < 0.03,
            "{fraction} {percent}: {share}"
        );
    }
}

#[test]
fn a_history_ends_with_its_transition_and_starts_with_zeros_where_there_is_no_past() {
    let draw = Draw::Histories {
        batch_size: 64,
        context_len: 3,
    };
    // No row is 0, so that zeros are those of the padding.
    let mut data = numbered(&[1, 2, 5]);
    data.states.iter_mut().for_each(|state| *state += 10.0);
    let Batch { inputs, loss_mask } = Sampler::new(data, draw, 1, Device::Cpu).batch(0);
    assert_eq!(inputs.states.size(), [64, 3, 1]);
    assert_eq!(inputs.actions.size(), [64, 1, 1]);
    assert_eq!(inputs.returns_to_go.size(), [64, 1, 1]);
    assert_eq!(loss_mask.size(), [64, 1]);
    let expected: [(&[f32], i64); 8] = [
        (&[0.0, 0.0, 10.0], 0),
        (&[0.0, 0.0, 11.0], 0),
        (&[0.0, 11.0, 12.0], 1),
        (&[0.0, 0.0, 13.0], 0),
        (&[0.0, 13.0, 14.0], 1),
        (&[13.0, 14.0, 15.0], 2),
        (&[14.0, 15.0, 16.0], 3),
        (&[15.0, 16.0, 17.0], 4),
    ];
    let mut seen = [false; 8];
    let (states, actions) = (rows::<f32>(&inputs.states), rows::<f32>(&inputs.actions));
    let timesteps = rows::<i64>(&inputs.timesteps);
    for ((states, action), timestep) in states.iter().zip(&actions).zip(&timesteps) {
        let row = action[0] as usize;
        assert_eq!((states.as_slice(), timestep[0]), expected[row]);
        seen[row] = true;
    }
    assert_eq!(seen, [true; 8]);
}

#[test]
fn a_sampler_can_be_drawn_from_otherwise() {
    let first = sampler(&[3, 9, 30], shape(5), 1);
    let draw = Draw::Sequences(shape(7));
    let states = |mut sampler: Sampler| rows::<f32>(&sampler.batch(3).inputs.states);
    assert_eq!(
        states(first.redrawn(draw, 2)),
        states(sampler(&[3, 9, 30], shape(7), 2))
    );
}

#[test]
fn tables_larger_than_a_piece_arrive_whole() {
    let values: Vec<f32> = (0..150_000).map(|i| i as f32).collect();
    let table = resident(values.clone(), 3, 1, Device::Cpu);
    let (zeros, rest) = (vec![0.0; 3], rows::<f32>(&table).concat());
    assert_eq!(rest, [values, zeros].concat());
}

#[test]
fn every_timestep_is_seen_at_least_half_as_often_as_the_middle() {
    let mut sampler = sampler(&[40], shape(10), 3);
    let mut seen = [0_u32; 40];
    for update in 0..200 {
        for row in rows::<f32>(&sampler.batch(update).inputs.states).concat() {
            seen[row as usize] += 1;
        }
    }
    let expected = 200.0 * 64.0 * 10.0 / 40.0;
    for (row, &count) in seen.iter().enumerate() {
        assert!(f64::from(count) > 0.45 * expected, "row {row}: {count}");
    }
}

#[test]
fn a_batch_depends_on_seed_and_update_alone() {
    let mut first = sampler(&[3, 9, 30], shape(5), 1);
    let states = |sampler: &mut Sampler, update| rows::<f32>(&sampler.batch(update).inputs.states);
    let expected = states(&mut first, 7);
    first.batch(8);
    assert_eq!(states(&mut first, 7), expected);
    assert_ne!(states(&mut first, 8), expected);
    // One that was drawn together with others, and from the next draw.
    let later = states(&mut first, AT_ONCE + 7);
    assert_ne!(later, expected);
    assert_eq!(states(&mut first, 7), expected);
    assert_eq!(
        states(&mut sampler(&[3, 9, 30], shape(5), 1), AT_ONCE + 7),
        later
    );
    assert_ne!(states(&mut sampler(&[3, 9, 30], shape(5), 2), 7), expected);
}

/// Of two episodes, of 3 and 5 frames 1×2×1 of (i, 100 + i), the present one and the two before it, zeros where there is none.
#[test]
fn images_are_the_frames_of_their_episode_the_oldest_first() {
    let mut frames = Frames::new([1, 2, 1]);
    (0..8u8).for_each(|i| frames.push(&[i, 100 + i]));
    frames.set_stack(3);
    let scale = frames.scale();
    assert_eq!(scale, 127.0);
    let data = Trajectories {
        state_dim: 6,
        states: Vec::new(),
        pixels: Some(Pixels {
            frames,
            image: Image {
                shape: [1, 2, 3],
                scale,
                ground: 20.0,
            },
        }),
        ..numbered(&[3, 5])
    };
    assert_eq!(data.dims().image, Some([1, 2, 3]));
    let expected = |row: usize| -> Vec<f32> {
        let first = if row < 3 { 0 } else { 3 };
        let frame = |back: usize, base: f32| match row >= first + back {
            true => (base + (row - back) as f32 - 20.0) / 127.0,
            // Black, as a controller sees it.
            false => -20.0 / 127.0,
        };
        // A pixel's channels are together.
        [2, 1, 0]
            .map(|back| frame(back, 0.0))
            .into_iter()
            .chain([2, 1, 0].map(|back| frame(back, 100.0)))
            .collect()
    };
    let mut drawn = Sampler::new(data.clone(), Draw::Sequences(shape(4)), 1, Device::Cpu);
    for update in [0, 33, 5] {
        let batch = drawn.batch(update);
        assert_eq!(batch.inputs.states.size(), [64, 4, 6]);
        // Actions tell the row.
        let of = rows::<f32>(&batch.inputs.actions.view([64 * 4, 1]));
        for (states, row) in rows::<f32>(&batch.inputs.states.view([64 * 4, 6]))
            .iter()
            .zip(of)
        {
            assert_eq!(*states, expected(row[0] as usize), "{row:?}");
        }
    }
    let histories = Draw::Histories {
        batch_size: 32,
        context_len: 2,
    };
    let batch = drawn.redrawn(histories, 3).batch(1);
    let of = rows::<f32>(&batch.inputs.actions.view([32, 1]));
    for (states, row) in rows::<f32>(&batch.inputs.states.view([32, 12]))
        .iter()
        .zip(of)
    {
        let row = row[0] as usize;
        let before = if [0, 3].contains(&row) {
            vec![-20.0 / 127.0; 6]
        } else {
            expected(row - 1)
        };
        assert_eq!(*states, [before, expected(row)].concat(), "{row}");
    }
}

//! What is noted, and what is not quite odd enough.

use host_sim::Space;

use super::*;
use crate::data::{Column, Episode, Source};

const SPEC: EnvSpec<'static> = EnvSpec {
    id: "arm",
    observation: Space::Box {
        low: &[-5.0, f32::NEG_INFINITY],
        high: &[5.0, f32::INFINITY],
    },
    action: Space::Box {
        low: &[-2.0],
        high: &[2.0],
    },
    ..host_sim::pendulum::SPEC
};

/// Twelve episodes of four steps, of which nothing is odd.
fn data() -> Dataset {
    let wave = |n: usize, k: f32| (0..n).map(move |i| (k * i as f32).sin());
    Dataset {
        observations: Column::unbounded(2, wave(96, 0.7).collect()),
        actions: Column::unbounded(1, wave(48, 0.3).collect()),
        rewards: wave(48, 0.9).collect(),
        episodes: (0..12)
            .map(|i| Episode {
                rows: 4 * i..4 * i + 4,
                ..Episode::default()
            })
            .collect(),
        last_observations: Column::unbounded(2, Vec::new()),
        sources: vec![Source {
            path: "a.hdf5".into(),
            ..Source::default()
        }],
    }
}

fn recipe(settings: &[&str]) -> Recipe {
    let mut all = vec!["data.return_scale=0".to_owned()];
    all.extend(settings.iter().map(|&setting| setting.to_owned()));
    Recipe::load(None, &all).unwrap()
}

fn noted(data: &Dataset, settings: &[&str]) -> Vec<String> {
    notes(data, Some(&SPEC), &recipe(settings))
}

/// The only note.
#[track_caller]
fn only(data: &Dataset, settings: &[&str]) -> String {
    let mut notes = noted(data, settings);
    assert_eq!(notes.len(), 1, "{notes:#?}");
    notes.remove(0)
}

/// The values of a column of vectors.
fn values(column: &mut Column) -> &mut [f32] {
    match column {
        Column::Box { values, .. } => values,
        _ => unreachable!("data() has vectors"),
    }
}

/// One reward per episode, at its end.
fn with_returns(returns: impl Fn(usize) -> f32) -> Dataset {
    let mut data = data();
    for (i, episode) in data.episodes.iter().enumerate() {
        data.rewards[episode.rows.clone()].fill(0.0);
        data.rewards[episode.rows.end - 1] = returns(i);
    }
    data
}

#[test]
fn nothing_is_noted_where_nothing_is_odd() {
    assert_eq!(noted(&data(), &[]), [""; 0]);
}

#[test]
fn what_readers_note_is_told_with_the_file() {
    let mut data = data();
    data.sources[0].notes = vec!["is in two parts".into()];
    assert_eq!(only(&data, &[]), "a.hdf5: is in two parts");
}

#[test]
fn another_environment_is_noted() {
    let mut data = data();
    data.sources[0].env = Some("arm".into());
    assert_eq!(noted(&data, &[]), [""; 0]);
    data.sources[0].env = Some("leg".into());
    assert_eq!(
        only(&data, &[]),
        "the data are of environment `leg` (a.hdf5), the policy acts in `arm`"
    );
    data.sources.push(Source {
        path: "b.hdf5".into(),
        env: Some("arm".into()),
        ..Source::default()
    });
    assert_eq!(
        only(&data, &[]),
        "the data are of several environments: `leg` (a.hdf5), `arm` (b.hdf5)"
    );
    let pendulum = notes(&self::data(), Some(&host_sim::pendulum::SPEC), &recipe(&[]));
    assert_eq!(
        pendulum,
        ["states have 2 components and actions 1, in environment `pendulum` 3 and 1"]
    );
}

#[test]
fn few_episodes_are_noted() {
    let mut data = data();
    data.episodes.truncate(10);
    assert_eq!(noted(&data, &[]), [""; 0]);
    data.episodes.truncate(9);
    assert!(only(&data, &[]).starts_with("only 9 episode(s): "));
    data.episodes.truncate(1);
    assert!(only(&data, &[]).starts_with("only 1 episode(s): "));
}

#[test]
fn targets_that_say_nothing_are_noted_unless_nobody_is_told_one() {
    let zero = with_returns(|_| 0.0);
    assert!(only(&zero, &[]).starts_with("every reward is 0, "));
    assert_eq!(noted(&zero, &["algo=bc"]), [""; 0]);
    let equal = with_returns(|_| 3.0);
    assert_eq!(
        only(&equal, &[]),
        "all 12 episodes return 3, so asking for more or less changes nothing"
    );
}

#[test]
fn a_scale_that_hides_the_target_is_noted_with_one_that_does_not() {
    // Success or failure.
    let sparse = with_returns(|i| (i % 2) as f32);
    assert_eq!(noted(&sparse, &[]), [""; 0]);
    assert_eq!(noted(&sparse, &["data.return_scale=100"]), [""; 0]);
    assert_eq!(
        only(&sparse, &["data.return_scale=1000"]),
        "returns differ by 1.0 at most, which data.return_scale = 1000.0 makes 0.001 for the network: the target return \
         has next to no effect; add --set data.return_scale=0 for that of the data, 1.0"
    );
    // No scale helps where all returns are nearly the same.
    let high = with_returns(|i| 1000.0 + (i % 2) as f32);
    let note = only(&high, &["data.return_scale=1000"]);
    assert!(
        note.ends_with("; take what all episodes earn alike from the rewards"),
        "{note}"
    );
    assert_eq!(only(&high, &[]), note);
}

#[test]
fn clusters_of_terminal_steps_are_noted() {
    let mut data = data();
    let first = data.episodes[0].rows.start;
    let cluster = [first..first + 2, first + 2..first + 3, first + 3..first + 4];
    let cluster = cluster.map(|rows| Episode {
        rows,
        terminated: true,
        ..Episode::default()
    });
    data.episodes.splice(0..1, cluster);
    assert!(
        only(&data, &[]).starts_with("2 of 14 episodes are a single terminal step right after ")
    );
    // Where as many are single steps after a time limit, episodes are that short now and then.
    let clustered = data.episodes.clone();
    for i in (4..14).step_by(2) {
        let row = data.episodes[i].rows.start;
        data.episodes[i].rows = row..row + 1;
        data.episodes[i].terminated = true;
        data.episodes[i - 1].terminated = false;
    }
    assert_eq!(noted(&data, &[]), [""; 0]);
    data.episodes = clustered;
    // Single steps that time runs out on, or that fail after a time limit, are none.
    data.episodes[1].terminated = false;
    assert_eq!(noted(&data, &[]), [""; 0]);
    // And where every episode is one step, that is what they are.
    data.episodes = (0..48)
        .map(|row| Episode {
            rows: row..row + 1,
            terminated: true,
            ..Episode::default()
        })
        .collect();
    assert_eq!(noted(&data, &[]), [""; 0]);
}

#[test]
fn episodes_beyond_the_timestep_table_are_noted_with_a_size_that_fits() {
    let mut data = data();
    data.episodes[0].rows = 0..5;
    data.episodes[1].rows = 5..8;
    assert_eq!(noted(&data, &["dt.max_ep_len=5"]), [""; 0]);
    assert_eq!(
        only(&data, &["dt.max_ep_len=4"]),
        "1 of 12 episodes are longer than the timestep table, dt.max_ep_len = 4, the longest 5: beyond it the network \
         cannot tell how late it is; add --set dt.max_ep_len=5"
    );
    assert_eq!(noted(&data, &["dt.max_ep_len=0"]), [""; 0]);
    assert_eq!(noted(&data, &["algo=bc"]), [""; 0]);
}

#[test]
fn constant_features_are_named_with_the_range_that_the_guard_lets_through() {
    let mut data = data();
    for row in values(&mut data.observations).chunks_exact_mut(2) {
        row[1] = 0.25;
    }
    assert_eq!(
        only(&data, &[]),
        "1 of 2 state components never vary: state 1 is always 0.25 (guard: 0.2499995…0.2500005); nothing is learned of other \
         values, and outside its guard range a controller stops, so leave out what varies on the robot"
    );
    let note = only(&data, &["data.normalize_states=false"]);
    assert!(note.contains("(guard: -0.25…0.75)"), "{note}");
    // Many are counted, not listed.
    data.observations = Column::unbounded(12, vec![0.5; 12 * 48]);
    let note = &notes(&data, None, &recipe(&[]))[0];
    assert!(note.starts_with("12 of 12 state"), "{note}");
    assert!(note.contains("state 7 is") && note.contains(") and 4 more;"));
    assert!(!note.contains("state 8 is"), "{note}");
}

#[test]
fn what_lies_outside_the_environment_is_counted_with_the_worst() {
    let mut data = data();
    values(&mut data.observations)[2..6].copy_from_slice(&[5.0, 99.0, -6.5, 99.0]);
    values(&mut data.actions)[7..11].copy_from_slice(&[2.000_001, -2.5, 3.25, -2.0]);
    let notes = noted(&data, &[]);
    assert_eq!(
        notes,
        [
            "1 of 48 steps (2.1 %) have observations that `arm` cannot show: state 0 reaches -6.5, its range is -5…5; are \
             they of this environment, in its units?",
            "2 of 48 steps (4.2 %) have actions outside their range: action 0 reaches 3.25, its range is -2…2; a policy \
             gives none of these, so clip them in the file if the robot did, or widen control.action_low and \
             control.action_high if it did not"
        ]
    );
    let range = ["control.action_low=[-2.5]", "control.action_high=[3.25]"];
    assert_eq!(noted(&data, &range), notes[..1]);
}

#[test]
fn a_range_may_have_one_end() {
    let outside = Outside::of(&[-0.5, 0.0, 9.0], &[0.0], &[f32::INFINITY]).unwrap();
    assert_eq!(outside.worst, (0, -0.5, [0.0, f32::INFINITY]));
    assert_eq!(outside.rows, 1);
}

#[test]
fn a_range_that_the_files_name_is_noted_where_it_counts() {
    let mut data = data();
    if let Column::Box { low, high, .. } = &mut data.actions {
        (*low, *high) = (vec![-1.0], vec![1.0]);
    }
    assert_eq!(noted(&data, &[]), [""; 0]);
    assert_eq!(
        notes(&data, None, &recipe(&[])),
        ["the range of actions is what the files name: Box(1), -1…1"]
    );
    let range = ["control.action_low=[-1.0]", "control.action_high=[1.0]"];
    assert_eq!(notes(&data, None, &recipe(&range)), [""; 0]);
}

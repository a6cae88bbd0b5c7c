//! Replay data in parquet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, Float32Array, ListArray, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use dt_train::data::{Column, Dataset, Reading};

use crate::{
    episodes, fixture, flags, floats, integers, put_table, ramp, reads_as_expected, refused,
    rejected, vectors,
};

fn rejected_fixture(name: &str, parts: &[&str]) {
    rejected(&fixture(&format!("parquet/{name}.parquet")), parts);
}

#[test]
fn files_of_every_writer_read_as_pandas_reads_them() {
    let data = reads_as_expected("parquet/pandas.parquet");
    assert_eq!((data.state_dim(), data.act_dim(), data.len()), (3, 2, 9));
    assert_eq!(data.env(), None);
    for name in ["wide", "gzip"] {
        let other = reads_as_expected(&format!("parquet/{name}.parquet"));
        assert_eq!(
            (other.observations, other.episodes),
            (data.observations.clone(), data.episodes.clone())
        );
    }
}

#[test]
fn what_is_missing_is_asked_for_at_once() {
    for column in ["observations", "actions", "rewards"] {
        rejected_fixture(
            &format!("no_{column}"),
            &[&format!("has no `{column}` (or ")],
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    put_table(
        &path,
        vec![
            ("x", floats(&[0.0, 1.0])),
            ("done", flags(2, &[1])),
            ("torque", vectors(1, &[0.5, 0.5])),
        ],
    );
    refused(
        &path,
        &[
            "has no `observations` (or obs, ",
            " and no `actions` (or action, ",
            " and no `rewards` (or reward, ",
            "its columns are x (Float32), done (Boolean), torque (lists of Float32)",
            "--observation-keys",
        ],
    );
}

#[test]
fn an_episode_per_row_needs_no_flags() {
    let data = Dataset::load(&[fixture("parquet/no_dones.parquet")]).unwrap();
    let whole = Dataset::load(&[fixture("parquet/pandas.parquet")]).unwrap();
    assert_eq!(data.observations, whole.observations);
    assert_eq!(episodes(&data), [(4, false), (3, false), (2, false)]);
    let note = "nothing says how episodes ended: taken for time limits";
    assert_eq!(data.sources[0].notes, [note]);
    assert!(whole.sources[0].notes.is_empty());
}

#[test]
fn other_kinds_of_observations_and_actions_are_refused_by_name() {
    rejected_fixture(
        "dictionary",
        &[
            "`observations` is a dictionary: goal (1), robot (2)",
            "--observation-keys goal,robot",
        ],
    );
    rejected_fixture("images", &["`observations` are images (binary data)"]);
    rejected_fixture(
        "pixels",
        &["`observations` are images (nested lists of Float64, shape [2, 2])"],
    );
}

#[test]
fn dictionaries_are_joined_in_the_order_asked_for() {
    let path = fixture("parquet/dictionary.parquet");
    let load = |keys: &[&str]| {
        let reading = Reading {
            observation_keys: keys.iter().map(|&key| key.into()).collect(),
            ..Reading::default()
        };
        Dataset::load_as(&[&path], &reading)
    };
    let data = load(&["robot", "goal"]).unwrap();
    let whole = Dataset::load(&[fixture("parquet/pandas.parquet")]).unwrap();
    let expected: Vec<f32> = whole
        .observations
        .vectors()
        .unwrap()
        .chunks(3)
        .flat_map(|row| [row[1], row[2], row[0]])
        .collect();
    assert_eq!(data.observations.vectors().unwrap(), expected);
    let error = load(&["arm"]).unwrap_err().to_string();
    assert!(error.contains("has no entry `arm`"), "{error}");
}

#[test]
fn integer_rewards_are_numbers() {
    let data = Dataset::load(&[fixture("parquet/integers.parquet")]).unwrap();
    assert_eq!(data.rewards, [1.0; 9]);
}

#[test]
fn lists_that_do_not_fit_are_located() {
    rejected_fixture("null", &["`rewards`[0] has an empty list or a null in it"]);
    rejected_fixture(
        "hollow",
        &["`observations`[0] has an empty list or a null in it"],
    );
    rejected_fixture(
        "ragged",
        &["`actions`[0] has a vector of length 1, the first has 2"],
    );
    rejected_fixture(
        "uneven",
        &["`rewards[0]` has 3 rows but `observations[0]` has 4"],
    );
    rejected_fixture(
        "nan",
        &["`observations`[0, 3, 2] is NaN", "remove that episode"],
    );
    rejected_fixture("inside", &["`dones[0]` is set at step 0 of 4"]);
    rejected_fixture("flags", &["`dones`[0] is 2", "0 or 1"]);
    rejected_fixture("empty", &["`observations` is empty"]);
}

#[test]
fn other_compressions_are_refused_by_name() {
    rejected_fixture(
        "brotli",
        &["`observations` is compressed with BROTLI", "snappy"],
    );
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.parquet");
    let bytes = std::fs::read(fixture("parquet/pandas.parquet")).unwrap();
    for kept in [4, 12, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        rejected(
            &path,
            &["the file cannot be read", "truncated or damaged", "again"],
        );
    }
    // Not every byte matters, but none may do worse than an error of one line that names the file.
    let mut refused = 0;
    for i in 4..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[i] ^= 0xff;
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = Dataset::load(&[&path]) {
            let message = error.to_string();
            assert_eq!(message.lines().count(), 1, "byte {i}: {message}");
            refused += 1;
        }
    }
    assert!(refused > bytes.len() / 4, "{refused} of {}", bytes.len());
}

#[test]
fn choices_and_images_are_read_as_they_are() {
    let data = Dataset::load(&[fixture("parquet/discrete.parquet")]).unwrap();
    let values = vec![1; 9];
    assert_eq!(
        data.actions,
        Column::Discrete {
            n: 2,
            declared: false,
            values
        }
    );
    assert_eq!(data.state_dim(), 3);

    let data = Dataset::load(&[fixture("parquet/frames.parquet")]).unwrap();
    // Pixel number i of the file is i % 256.
    let values: Vec<u8> = (0..9 * 12).map(|i| i as u8).collect();
    assert_eq!(data.observations, Column::image([2, 3, 2], &values));
    let lens: Vec<usize> = data.episodes.iter().map(|e| e.rows.len()).collect();
    assert_eq!(lens, [4, 3, 2]);

    let data = Dataset::load(&[fixture("parquet/grey.parquet")]).unwrap();
    let values: Vec<u8> = (0..9 * 6).map(|i| i as u8).collect();
    assert_eq!(data.observations, Column::image([2, 3, 1], &values));
    rejected_fixture(
        "crooked",
        &["`observations`[1] has a vector of length 2, the first has 3"],
    );
}

/// 9 steps of two numbers each; row i has 2i and 2i + 1, reward i.
fn steps() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("obs", vectors(2, &ramp(18))),
        ("action", vectors(1, &ramp(9))),
        ("reward", floats(&ramp(9))),
    ]
}

struct Table {
    /// Held for what is in it.
    _folder: tempfile::TempDir,
    path: PathBuf,
}

/// [`steps`] and other columns.
fn table(more: Vec<(&'static str, ArrayRef)>) -> Table {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    put_table(&path, steps().into_iter().chain(more).collect());
    Table {
        _folder: folder,
        path,
    }
}

fn load(path: &Path) -> Dataset {
    Dataset::load(&[path]).unwrap()
}

fn limited(path: &Path, steps: usize) -> Dataset {
    let reading = Reading {
        max_episode_steps: Some(steps),
        ..Reading::default()
    };
    Dataset::load_as(&[path], &reading).unwrap()
}

#[test]
fn a_step_per_row_ends_where_flags_say() {
    let file = table(vec![
        ("terminals", flags(9, &[3])),
        ("timeouts", flags(9, &[5])),
    ]);
    let data = load(&file.path);
    assert_eq!(episodes(&data), [(4, true), (2, false)]);
    assert_eq!(data.observations.vectors().unwrap(), ramp(12));
    assert_eq!(data.actions.vectors().unwrap(), ramp(6));
    assert_eq!(data.rewards, ramp(6));
    assert_eq!(data.sources[0].unfinished, 3);
    assert!(data.sources[0].notes.is_empty());
    // What is left is an episode of three steps.
    assert_eq!(
        episodes(&limited(&file.path, 3)),
        [(4, true), (2, false), (3, false)]
    );

    let file = table(vec![("done", flags(9, &[3, 8]))]);
    let data = load(&file.path);
    assert_eq!(episodes(&data), [(4, true), (5, true)]);
    let note = "`done` ends episodes without saying how: taken for terminal states";
    assert_eq!(data.sources[0].notes, [note]);

    let file = table(vec![("done", flags(9, &[]))]);
    rejected(&file.path, &["no episode ends: all 9 rows"]);
}

#[test]
fn a_step_per_row_without_time_limits_asks_for_one() {
    let file = table(vec![("terminated", flags(9, &[3]))]);
    rejected(
        &file.path,
        &[
            "has no end of episodes beside `terminated`, neither `timeouts` (or ",
            "nor `episode_id` (or ",
            "--max-episode-steps",
        ],
    );
    let data = limited(&file.path, 3);
    assert_eq!(episodes(&data), [(3, false), (1, true), (3, false)]);
    assert_eq!(data.sources[0].unfinished, 2);
    let file = table(vec![]);
    rejected(
        &file.path,
        &[
            "has no end of episodes, neither `episode_id`",
            "--max-episode-steps",
        ],
    );
    assert_eq!(episodes(&limited(&file.path, 3)), [(3, false); 3]);
}

#[test]
fn episodes_that_are_numbered_or_named_end_with_their_rows() {
    let names: ArrayRef = Arc::new(StringArray::from(
        vec!["b"; 4].into_iter().chain(["a"; 5]).collect::<Vec<_>>(),
    ));
    let numbers = integers(&[7, 7, 7, 7, 3, 3, 3, 3, 3]);
    for id in [names, numbers] {
        let file = table(vec![("eps_id", id.clone())]);
        assert_eq!(episodes(&load(&file.path)), [(4, false), (5, false)]);
        let file = table(vec![
            ("eps_id", id.clone()),
            ("terminateds", flags(9, &[3])),
        ]);
        assert_eq!(episodes(&load(&file.path)), [(4, true), (5, false)]);
        // An episode that no flag ends is a piece of one where flags tell of limits.
        let file = table(vec![
            ("eps_id", id.clone()),
            ("terminateds", flags(9, &[3])),
            ("truncateds", flags(9, &[])),
        ]);
        let data = load(&file.path);
        assert_eq!(
            (episodes(&data), data.sources[0].unfinished),
            (vec![(4, true)], 5)
        );
        let file = table(vec![("eps_id", id), ("terminateds", flags(9, &[1]))]);
        rejected(
            &file.path,
            &["`terminateds` is set at step 1 of 4", "--skip-bad-episodes"],
        );
    }
    let again = integers(&[7, 7, 7, 7, 3, 3, 3, 7, 7]);
    let file = table(vec![("episode_id", again)]);
    rejected(&file.path, &["`episode_id`[7] is 7 again", "sort the rows"]);
    // A count of steps that starts again tells episodes of one number apart, or of none.
    let time = integers(&[0, 1, 2, 3, 0, 1, 2, 3, 4]);
    let file = table(vec![("episode_id", integers(&[0; 9])), ("t", time.clone())]);
    assert_eq!(episodes(&load(&file.path)), [(4, false), (5, false)]);
    let file = table(vec![("t", time)]);
    assert_eq!(episodes(&load(&file.path)), [(4, false), (5, false)]);
}

#[test]
fn flags_that_stay_set_to_the_end_end_an_episode_once() {
    let id = integers(&[0, 0, 0, 0, 1, 1, 1, 1, 1]);
    let file = table(vec![
        ("episode_id", id),
        ("terminals", flags(9, &[3, 6, 7, 8])),
    ]);
    let data = load(&file.path);
    assert_eq!(episodes(&data), [(4, true), (5, true)]);
    assert_eq!(data.rewards, ramp(9));
    let note = "1 episode(s) go on for some steps after the flag of their end: they are kept";
    assert_eq!(data.sources[0].notes, [note]);
}

#[test]
fn what_came_after_the_last_action_is_kept() {
    let next: Vec<f32> = ramp(18).iter().map(|x| x + 2.0).collect();
    let file = table(vec![
        ("dones", flags(9, &[3, 8])),
        ("new_obs", vectors(2, &next)),
    ]);
    let data = load(&file.path);
    assert_eq!(
        data.last_observations.vectors().unwrap(),
        [8.0, 9.0, 18.0, 19.0]
    );
    let lasts: Vec<_> = data.episodes.iter().map(|episode| episode.last).collect();
    assert_eq!(lasts, [Some(0), Some(1)]);
}

#[test]
fn ends_that_only_the_next_observation_shows_are_refused_or_cut() {
    let mut next: Vec<f32> = ramp(18).iter().map(|x| x + 2.0).collect();
    // Row 1 is not followed by row 2.
    next[2] = 30.0;
    let columns = || vec![("dones", flags(9, &[4, 8])), ("new_obs", vectors(2, &next))];
    let file = table(columns());
    rejected(
        &file.path,
        &[
            "`new_obs`[1] is not the observation of row 2 (1 such rows in all)",
            "--max-episode-steps 4",
        ],
    );
    let data = limited(&file.path, 4);
    assert_eq!(episodes(&data), [(2, false), (3, true), (4, true)]);
    assert_eq!(
        data.last_observations.vectors().unwrap(),
        [30.0, 5.0, 10.0, 11.0, 18.0, 19.0]
    );
    let note = "episodes end at 1 rows that no flag marks, as `new_obs` shows, the first at row 1: they count as cut off";
    assert!(
        data.sources[0].notes.iter().any(|said| said == note),
        "{:?}",
        data.sources[0].notes
    );

    // Across the end of a file's part, all the same: a batch has 8192 rows.
    let rows = 8192 + 3;
    let path = file.path.with_file_name("long.parquet");
    let put = |broken: usize| {
        let mut next = ramp(rows + 1).split_off(1);
        next[broken] = -30.0;
        put_table(
            &path,
            vec![
                ("obs", vectors(1, &ramp(rows))),
                ("new_obs", vectors(1, &next)),
                ("action", vectors(1, &ramp(rows))),
                ("reward", floats(&ramp(rows))),
                ("timeouts", flags(rows, &[rows - 1])),
            ],
        );
    };
    put(8191);
    rejected(
        &path,
        &["`new_obs`[8191] is not the observation of row 8192"],
    );
    assert_eq!(episodes(&limited(&path, 8192)), [(8192, false), (3, false)]);
    // Nothing follows the last row.
    put(rows - 1);
    assert_eq!(episodes(&load(&path)), [(rows, false)]);

    // Where hardly any row goes on, it is no question of ends.
    let file = table(vec![
        ("dones", flags(9, &[4, 8])),
        ("new_obs", vectors(2, &ramp(18))),
    ]);
    let notes = &load(&file.path).sources[0].notes;
    let note = "`new_obs` differs from the observation of the next row in 7 of 7 steps";
    assert!(notes.iter().any(|said| said.starts_with(note)), "{notes:?}");
}

#[test]
fn observations_may_be_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    put_table(
        &path,
        vec![
            ("angle", floats(&[0.0, 1.0])),
            ("rates", vectors(2, &[2.0, 3.0, 4.0, 5.0])),
            ("mode", integers(&[0, 1])),
            ("action", floats(&[0.5, 0.25])),
            ("reward", integers(&[1, 2])),
            ("done", floats(&[0.0, 1.0])),
        ],
    );
    let load = |keys: &[&str]| {
        let reading = Reading {
            observation_keys: keys.iter().map(|&key| key.into()).collect(),
            ..Reading::default()
        };
        Dataset::load_as(&[&path], &reading)
    };
    let data = load(&["rates", "angle"]).unwrap();
    assert_eq!(
        data.observations.vectors().unwrap(),
        [2.0, 3.0, 0.0, 4.0, 5.0, 1.0]
    );
    assert_eq!(data.actions.vectors().unwrap(), [0.5, 0.25]);
    assert_eq!((data.rewards, data.episodes.len()), (vec![1.0, 2.0], 1));
    let message = |keys: &[&str]| load(keys).unwrap_err().to_string();
    let error = message(&["angle", "mode"]);
    assert!(
        error.contains("mode` is Discrete(2), which does not join a vector"),
        "{error}"
    );
    let error = message(&["angle", "speed"]);
    assert!(error.contains("has no `observations`"), "{error}");
}

#[test]
fn bad_episodes_are_left_out_if_asked_and_told() {
    let mut rewards = ramp(9);
    rewards[2] = f32::NAN;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    let mut columns = steps();
    columns[2].1 = floats(&rewards);
    columns.push(("done", flags(9, &[3, 8])));
    put_table(&path, columns);
    rejected(
        &path,
        &[
            "`reward`[2] is NaN",
            "--skip-bad-episodes leaves such episodes out",
        ],
    );
    let skip = Reading {
        skip_bad_episodes: true,
        ..Reading::default()
    };
    let data = Dataset::load_as(&[&path], &skip).unwrap();
    assert_eq!(
        (episodes(&data), &data.rewards[..]),
        (vec![(5, true)], &rewards[4..])
    );
    let note = &data.sources[0].notes[0];
    assert!(
        note.starts_with("1 of 2 episodes left out: `reward`[2] is NaN"),
        "{note}"
    );

    // An episode per row, likewise.
    let path = fixture("parquet/nan.parquet");
    let whole = load(&fixture("parquet/pandas.parquet"));
    // Every row of it is bad.
    let error = Dataset::load_as(&[&path], &skip).unwrap_err().to_string();
    assert!(error.contains("`observations`[0, 3, 2] is NaN"), "{error}");
    let path = fixture("parquet/one_nan.parquet");
    let data = Dataset::load_as(&[&path], &skip).unwrap();
    assert_eq!(data.rewards, whole.rewards[4..]);
}

#[test]
fn integers_that_floats_cannot_hold_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    let mut columns = steps();
    let mut rewards = vec![0; 9];
    rewards[4] = (1 << 24) + 1;
    columns[2].1 = integers(&rewards);
    columns.push(("done", flags(9, &[8])));
    put_table(&path, columns.clone());
    rejected(
        &path,
        &["`reward`[4] is 16777217, which 32-bit floats round"],
    );
    rewards[4] = 1 << 24;
    columns[2].1 = integers(&rewards);
    put_table(&path, columns);
    assert_eq!(load(&path).rewards[4], 16_777_216.0);
}

#[test]
fn dictionaries_of_steps_are_structures() {
    let arm: ArrayRef =
        Arc::new(StructArray::try_from(vec![("q", vectors(2, &ramp(18)))]).unwrap());
    let observation: ArrayRef =
        Arc::new(StructArray::try_from(vec![("arm", arm), ("goal", floats(&ramp(9)))]).unwrap());
    let mut columns = steps();
    columns[0].1 = observation.clone();
    columns.push(("done", flags(9, &[8])));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    put_table(&path, columns.clone());
    rejected(&path, &["`obs` is a dictionary: arm/q (2), goal ()"]);
    let reading = Reading {
        observation_keys: vec!["goal".into(), "arm/q".into()],
        ..Reading::default()
    };
    let data = Dataset::load_as(&[&path], &reading).unwrap();
    assert_eq!(
        data.observations.vectors().unwrap()[..6],
        [0.0, 0.0, 1.0, 1.0, 2.0, 3.0]
    );
    columns.swap(0, 1);
    (columns[0].0, columns[1].0) = ("obs", "action");
    put_table(&path, columns);
    rejected(
        &path,
        &[
            "`action` is a dictionary: arm/q (2), goal ()",
            "one array per step",
        ],
    );
}

#[test]
fn a_step_may_be_in_lists_of_one() {
    let mut columns = steps();
    columns[2].1 = vectors(1, &ramp(9));
    columns.push(("done", flags(9, &[3, 8])));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    put_table(&path, columns);
    let data = load(&path);
    assert_eq!(
        (&data.rewards, episodes(&data)),
        (&ramp(9), vec![(4, true), (5, true)])
    );
}

#[test]
fn whole_numbers_are_components_where_there_are_several() {
    let pairs = (0..9).map(|i| Some([Some(i), Some(10 * i)]));
    let mut columns = steps();
    columns[0].1 = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(pairs));
    columns.push(("done", flags(9, &[8])));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    put_table(&path, columns.clone());
    let data = load(&path);
    assert_eq!(
        data.observations.vectors().unwrap()[..6],
        [0.0, 0.0, 1.0, 10.0, 2.0, 20.0]
    );
    // One is a choice.
    columns[0].1 = integers(&[0, 3, 1, 0, 0, 0, 0, 0, 0]);
    put_table(&path, columns.clone());
    let values = vec![0, 3, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        load(&path).observations,
        Column::Discrete {
            n: 4,
            declared: false,
            values
        }
    );
    columns[0].1 = Arc::new(StringArray::from(vec!["eJw="; 9]));
    put_table(&path, columns);
    rejected(&path, &["`obs` holds Utf8; convert it to lists of numbers"]);
}

#[test]
fn nulls_are_holes_wherever_they_are() {
    let hole = |column: usize, array: ArrayRef, part: &str| {
        let mut columns = steps();
        columns[column].1 = array;
        columns.push(("done", flags(9, &[8])));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.parquet");
        put_table(&path, columns);
        let reading = Reading {
            observation_keys: if column == 0 {
                vec!["q".into()]
            } else {
                Vec::new()
            },
            ..Reading::default()
        };
        let error = Dataset::load_as(&[&path], &reading)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    };
    let mut rewards: Vec<Option<f32>> = vec![Some(0.0); 9];
    rewards[5] = None;
    let part = "`reward`[5] has an empty list or a null in it";
    hole(2, Arc::new(Float32Array::from(rewards)), part);
    let lists = (0..9).map(|i| (i != 4).then_some([Some(0.0)]));
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(lists);
    hole(
        1,
        Arc::new(lists),
        "`action`[4] has an empty list or a null in it",
    );
    let field = Arc::new(Field::new("q", DataType::Float32, true));
    let valid = (0..9).map(|i| i != 3).collect();
    let structure = StructArray::new(vec![field].into(), vec![floats(&ramp(9))], Some(valid));
    hole(
        0,
        Arc::new(structure),
        "`obs`[3] has an empty list or a null in it",
    );
}

#[test]
fn the_files_of_a_folder_are_one_set() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("data");
    std::fs::create_dir(&parts).unwrap();
    let part = |name: &str, rows: std::ops::Range<usize>| {
        let slice =
            |(key, array): (&'static str, ArrayRef)| (key, array.slice(rows.start, rows.len()));
        let columns = steps().into_iter().chain([("dones", flags(9, &[4, 8]))]);
        put_table(&parts.join(name), columns.map(slice).collect());
    };
    // Not in this order by time of writing, and an episode goes over the end of a file.
    part("train-00001-of-00002.parquet", 3..9);
    part("train-00000-of-00002.parquet", 0..3);
    std::fs::write(parts.join("README.md"), "").unwrap();
    for path in [folder.path(), &parts] {
        let data = load(path);
        assert_eq!(
            (data.rewards.clone(), episodes(&data)),
            (ramp(9), vec![(5, true), (4, true)])
        );
        assert_eq!(data.sources.len(), 1);
        assert_eq!(data.sources[0].path, path);
    }
    std::fs::write(parts.join("train-00002.parquet"), "PAR1").unwrap();
    let error = Dataset::load(&[folder.path()]).unwrap_err().to_string();
    assert!(
        error.contains("train-00002.parquet: the file cannot be read"),
        "{error}"
    );
}

#[test]
fn an_episode_ends_where_the_next_file_tells_episodes_apart_in_another_way() {
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str, rows: std::ops::Range<usize>, last: (&'static str, ArrayRef)| {
        let slice = |(key, array): (_, ArrayRef)| (key, array.slice(rows.start, rows.len()));
        let columns = steps().into_iter().map(slice).chain([last]);
        put_table(&folder.path().join(name), columns.collect());
    };
    part(
        "a.parquet",
        0..5,
        ("episode_id", integers(&[0, 0, 0, 1, 1])),
    );
    part("b.parquet", 5..9, ("dones", flags(4, &[3])));
    assert_eq!(
        episodes(&load(folder.path())),
        [(3, false), (2, false), (4, true)]
    );
}

#[test]
fn columns_of_other_projects_are_known_by_their_names() {
    let whole = load(&fixture("parquet/pandas.parquet"));
    let data = load(&fixture("parquet/continuous.parquet"));
    assert_eq!(
        (data.observations, data.actions),
        (whole.observations, whole.actions)
    );
}

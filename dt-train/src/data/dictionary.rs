//! Observations that are dictionaries: several named arrays per step, in groups of a file or columns of a table.
//!
//! A policy reads one vector. Which entries it is of, and in what order, only the user knows: `--observation-keys`.

use hdf5::Group;

use super::h5::{self, Arrays};
use super::{Column, Problem};

/// One array of a dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; `a/b` is the entry `b` of the dictionary `a`.
    pub name: String,
    /// Shape of one element.
    pub shape: Vec<usize>,
}

/// Reads the group `name` of `arrays` as one vector per step: its entries `keys`, in that order, each `completed` with
/// what else is known of it.
///
/// # Errors
/// [`Problem::DictionaryObservations`] where `keys` is empty, [`Problem::NoSuchEntry`] for a name that is none, and
/// whatever is wrong with an entry.
pub fn read(
    arrays: &Arrays<'_>,
    name: &str,
    keys: &[String],
    mut completed: impl FnMut(&str, Column) -> Result<Column, Problem>,
) -> Result<Column, Problem> {
    let group = arrays.group.group(name);
    let group = group.map_err(|error| h5::damaged(&format!("`{}`", arrays.key(name)), &error))?;
    let entries = entries(&group);
    check(&arrays.key(name), &entries, keys)?;
    let columns = keys.iter().map(|key| {
        let column = arrays.entry(&format!("{name}/{key}"), "a float array (N, dim)")?;
        completed(key, column)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    beside(&arrays.key(name), keys, &columns)
}

/// Observations that are an array or, if they are a group, a dictionary; of numbers that need not be finite in the first
/// case.
///
/// # Errors
/// As [`read`], and [`Problem::NotADictionary`] if there are `keys` but it is none.
pub fn or_array(
    arrays: &Arrays<'_>,
    name: &str,
    needs: &'static str,
    keys: &[String],
) -> Result<Column, Problem> {
    if arrays.group.group(name).is_ok() {
        read(arrays, name, keys, |_, column| Ok(column))
    } else if keys.is_empty() {
        arrays.unchecked_observations(name, needs)
    } else {
        let key = arrays.key(name);
        Err(Problem::NotADictionary { key })
    }
}

/// The arrays in a group and in the groups in it.
pub fn entries(group: &Group) -> Vec<Entry> {
    fn add(group: &Group, prefix: &str, entries: &mut Vec<Entry>) {
        for name in group.member_names().unwrap_or_default() {
            let path = format!("{prefix}{name}");
            if let Ok(group) = group.group(&name) {
                add(&group, &format!("{path}/"), entries);
            } else if let Ok(dataset) = group.dataset(&name) {
                let shape = dataset.shape().into_iter().skip(1).collect();
                entries.push(Entry { name: path, shape });
            }
        }
    }
    let mut all = Vec::new();
    add(group, "", &mut all);
    all
}

/// Whether `keys` are entries, at least one.
///
/// # Errors
/// [`Problem::DictionaryObservations`] or [`Problem::NoSuchEntry`], which list the entries.
pub fn check(of: &str, entries: &[Entry], keys: &[String]) -> Result<(), Problem> {
    let is_unknown = |key: &&str| entries.iter().all(|entry| entry.name != **key);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let unknown: Vec<&str> = keys.iter().copied().filter(is_unknown).collect();
    match unknown.as_slice() {
        [_, ..] => Err(Problem::NoSuchEntry {
            key: of.into(),
            asked: unknown.join("`, `"),
            entries: list(entries),
        }),
        [] if keys.is_empty() => Err(Problem::DictionaryObservations {
            key: of.into(),
            entries: list(entries),
            keys: suggestion(entries),
        }),
        [] => Ok(()),
    }
}

/// Lays the columns of the entries `keys` side by side.
///
/// # Errors
/// [`Problem::NotJoined`] where one of them is no vectors, [`Problem::Length`] where they differ in length.
pub fn beside(of: &str, keys: &[String], columns: &[Column]) -> Result<Column, Problem> {
    for (key, column) in keys.iter().zip(columns) {
        if column.vectors().is_none() {
            return Err(Problem::NotJoined {
                key: format!("{of}/{key}"),
                found: column.space().to_string(),
            });
        }
        if column.len() != columns[0].len() {
            return Err(Problem::Length {
                key: format!("{of}/{key}"),
                rows: column.len(),
                other: format!("{of}/{}", keys[0]),
                other_rows: columns[0].len(),
                rule: "every array needs one row per step",
            });
        }
    }
    Ok(Column::beside(columns).expect("vectors of one length"))
}

/// `goal (2), robot/speed (3)`, the first of them.
pub fn list(entries: &[Entry]) -> String {
    const MOST: usize = 12;
    let mut words: Vec<String> = entries
        .iter()
        .take(MOST)
        .map(|Entry { name, shape }| {
            let shape: Vec<_> = shape.iter().map(ToString::to_string).collect();
            format!("{name} ({})", shape.join(", "))
        })
        .collect();
    if entries.len() > MOST {
        words.push(format!("{} more", entries.len() - MOST));
    }
    words.join(", ")
}

/// What most people want: every vector, the observation first. Where a goal is asked for, the goal that is achieved
/// tells nothing that the observation does not (Gymnasium-Robotics' GoalEnv).
fn suggestion(entries: &[Entry]) -> String {
    let has_goal = entries.iter().any(|entry| entry.name == "desired_goal");
    let mut names: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.shape.len() == 1)
        .map(|entry| entry.name.as_str())
        .filter(|name| !(has_goal && *name == "achieved_goal"))
        .collect();
    names.sort_by_key(|name| *name != "observation");
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(of: &[(&str, &[usize])]) -> Vec<Entry> {
        let entry = |&(name, shape): &(&str, &[usize])| Entry {
            name: name.into(),
            shape: shape.into(),
        };
        of.iter().map(entry).collect()
    }

    #[test]
    fn the_suggestion_is_what_can_be_joined_the_observation_first() {
        let plain = entries(&[("eye", &[8, 8, 3]), ("arm/q", &[7]), ("hand", &[2])]);
        assert_eq!(suggestion(&plain), "arm/q,hand");
        let goals = [("achieved_goal", &[2][..]), ("desired_goal", &[2])];
        let goals = [&goals[..], &[("observation", &[4])]].concat();
        assert_eq!(suggestion(&entries(&goals)), "observation,desired_goal");
        assert_eq!(
            suggestion(&entries(&goals[..1])),
            "achieved_goal",
            "without a goal to compare it with"
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..14).map(|i| format!("e{i}")).collect();
        let many: Vec<(&str, &[usize])> = names.iter().map(|name| (&**name, &[3][..])).collect();
        let words = list(&entries(&many));
        assert!(words.starts_with("e0 (3), e1 (3), "), "{words}");
        assert!(words.ends_with("e11 (3), 2 more"), "{words}");
    }
}

//! What one does next with a dataset: train on it, by a command line to paste.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use host_sim::EnvSpec;

use crate::commands::ReadingArgs;
use crate::config::{ConfigError, Recipe, Source};
use crate::data::inspect::Summary;
use crate::data::known::{Known, as_options};
use crate::data::{Column, Dataset, environment, notes, origin};

/// What it is like where this version lacks the data's environment.
const BLIND: &str = "without evaluation; correct what it sets of control, the range of the data and a period for example";

/// The shipped recipe to begin with, and its name.
///
/// # Errors
/// None: they are tested.
pub fn recipe(data: &Dataset) -> Result<(&'static str, Recipe), ConfigError> {
    let name = match data.env() {
        _ if data.sources.iter().any(|source| source.without_rewards) => "bc",
        Some("pendulum") => "pendulum",
        Some("cartpole") => "cartpole",
        Some("graph") => "graph",
        Some("key-to-door") => "key-to-door",
        Some(env) if env.starts_with("gym:MinAtar/") => "minatar",
        Some(env) if env.starts_with("gym:ALE/") => "atari",
        _ => "gym-short",
    };
    let source = Source::new(Path::new(name));
    Ok((name, Recipe::load(Some(&source), &[])?))
}

/// The end of the table: what there is to know of the environment, and the command.
pub fn next(
    data: &Dataset,
    summary: &Summary,
    env: Option<&EnvSpec<'_>>,
    (name, recipe): &(&str, Recipe),
    paths: &[PathBuf],
    reading: &ReadingArgs,
) -> String {
    let observations = data.observations.space();
    let reads_images = recipe.algorithm.reads_images() && data.observations.images().is_some();
    if !reads_images && data.observations.vectors().is_none() {
        return format!(
            "\nnext         the observations are {observations}; this version trains on vectors, Box, and images alone\n"
        );
    }
    if let Column::Image(_) = data.actions {
        let actions = data.actions.space();
        return format!(
            "\nnext         the actions are {actions}; this version trains on vectors, Box, and choices, Discrete\n"
        );
    }
    let mut settings = Vec::new();
    if recipe.algorithm.learns_from_rewards() {
        let targets = &summary.suggested_target_returns;
        settings.push(format!("eval.target_returns={targets:?}"));
    }
    settings.extend(notes::longer_table(data, recipe).map(|(_, setting)| setting));
    let own = env.filter(|spec| {
        origin::has_sizes(spec, data) && environment::refuse_another(data, spec).is_ok()
    });
    let mut nowhere = "";
    let about = match (origin::named(data).as_slice(), env, own) {
        ([], ..) => match origin::candidates(data) {
            Some(names) => format!(
                "no environment is named: if it is {names}, type --env with its name in place of what is set of control"
            ),
            None => format!("no environment is named: this trains {BLIND}"),
        },
        (&[(env, _)], Some(_), Some(_)) => {
            format!("this trains for `{env}` and evaluates in it")
        }
        (&[(env, _)], Some(_), None) => {
            nowhere = " --env none";
            format!("the data's `{env}` is another than this version's: this trains {BLIND}")
        }
        (&[(env, _)], None, _) => {
            format!(
                "this version has no `{env}`: if it is a simulator of your own, type --plant with its command in place of what is set of control; this trains {BLIND}"
            )
        }
        _ => "the files are of several environments; give those of one".into(),
    };
    if let Ok(known) = Known::new(data, own, recipe) {
        settings.extend(known.missing(data));
    }
    let data = paths
        .iter()
        .map(|path| quoted(&path.to_string_lossy()).into_owned());
    format!(
        "\nnext         {about}\n\n  dt-train train --data {}{}{nowhere} --out {} --config {name} {}\n",
        data.collect::<Vec<_>>().join(" "),
        reading.options(),
        quoted(&format!("runs/{}", stem(&paths[0]))),
        as_options(&settings)
    )
}

/// What a data set is called: its file's or folder's name, but for those that all of them have.
fn stem(path: &Path) -> String {
    let stem = |path: &Path| {
        path.file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    };
    let mut names = path.ancestors().filter_map(stem);
    let own = names.find(|name| !["data", "main_data"].contains(&name.as_str()));
    own.unwrap_or_else(|| "first".into())
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "_-./:+@%".contains(c);
    if word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_sets_are_called_by_what_tells_them_apart() {
        for (path, name) in [
            ("logs/a.hdf5", "a"),
            ("minari/hopper/medium-v0", "medium-v0"),
            ("minari/hopper/medium-v0/data", "medium-v0"),
            ("medium-v0/data/main_data.hdf5", "medium-v0"),
            ("data", "first"),
            (".", "first"),
        ] {
            assert_eq!(stem(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("runs/a-1.hdf5"), "runs/a-1.hdf5");
        assert_eq!(quoted("my data.hdf5"), "'my data.hdf5'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}

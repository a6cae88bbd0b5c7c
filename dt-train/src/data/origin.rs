//! Which environment data are of. A policy learns the motion and the rewards of one, so data of another than it is to
//! act in teach it something wrong, and nothing in the numbers would say so.

use std::path::Path;

use anyhow::bail;
use host_sim::registry::NAMES;
use host_sim::{EnvSpec, Space};

use super::{Dataset, environment_name};

/// How to say that it is on purpose.
const ON_PURPOSE: &str = "--set data.any_env=true";

/// Each environment that the files name, with the first that names it.
pub fn named(data: &Dataset) -> Vec<(&str, &Path)> {
    let mut named: Vec<(&str, &Path)> = Vec::new();
    for source in &data.sources {
        if let Some(env) = source.env.as_deref()
            && named.iter().all(|(other, _)| !same(other, env))
        {
            named.push((env, &source.path));
        }
    }
    named
}

/// Whether two names, as `--env` takes them, are of one environment. Versions are environments of their own; a
/// description in a `.toml` is known by its file's name, wherever it lies.
pub fn same(one: &str, other: &str) -> bool {
    let id = |name: &str| {
        // Gymnasium's own Hopper is the one that is built in; arguments make another environment.
        let name = environment_name(name.strip_prefix("gym:").unwrap_or(name));
        let path = Path::new(&name);
        match (path.extension(), path.file_stem()) {
            (Some(extension), Some(stem)) if extension == "toml" => stem.to_owned(),
            _ => name.into(),
        }
    };
    id(one) == id(other)
}

/// Refuses data of several environments, or of another than `asked`, the one that `--env` names. What names none is
/// taken to be of the right one.
///
/// # Errors
/// Says which file names what, and how to go on.
pub fn agree(data: &Dataset, asked: Option<&str>) -> anyhow::Result<()> {
    let named = named(data);
    if named.len() > 1 {
        bail!(
            "the data are of several environments: {}; train on the files of one, or, if they are one to you, add {ON_PURPOSE}",
            list(&named)
        );
    }
    let (Some(asked), Some((env, path))) = (asked, named.first()) else {
        return Ok(());
    };
    if same(asked, env) {
        return Ok(());
    }
    let path = path.display();
    let instead = if NAMES.contains(env) {
        format!("type --env {env}")
    } else {
        format!("leave out --env, since this version has no `{env}`, and train without evaluation")
    };
    bail!(
        "{path}: the data are of environment `{env}`, --env asks for `{asked}`; {instead}, or, to act in another \
         environment than the data's on purpose, add {ON_PURPOSE}"
    )
}

/// The environments of this version whose states and actions are as long as the data's, in words: the only ones that
/// data without a name can be of.
pub fn candidates(data: &Dataset) -> Option<String> {
    let fits = |name: &&&str| {
        let env = host_sim::make(name);
        env.is_ok_and(|env| has_sizes(&env.spec(), data))
    };
    let names: Vec<&str> = NAMES.iter().filter(fits).copied().collect();
    let (last, others) = names.split_last()?;
    Some(match others {
        [] => (*last).into(),
        _ => format!("{} or {last}", others.join(", ")),
    })
}

/// Whether states and actions have as many components in the data as in an environment, and actions are vectors or
/// choices in both.
pub fn has_sizes(spec: &EnvSpec<'_>, data: &Dataset) -> bool {
    let choices = |space: Space<'_>| matches!(space, Space::Discrete { .. });
    let image = |space: Space<'_>| match space {
        Space::Image { height, width, .. } => Some([height, width]),
        _ => None,
    };
    (spec.state_dim(), spec.act_dim()) == (data.state_dim(), data.act_dim())
        && choices(spec.action) == choices(data.actions.space())
        && image(spec.observation) == image(data.observations.space())
}

/// `hopper` (a.hdf5), `hopper-v4` (b.hdf5).
pub fn list(named: &[(&str, &Path)]) -> String {
    let list = named
        .iter()
        .map(|(env, path)| format!("`{env}` ({})", path.display()));
    list.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Column, Source};

    fn data(names: &[Option<&str>]) -> Dataset {
        let sources = names.iter().zip(["a", "b", "c"]);
        Dataset {
            observations: Column::unbounded(11, Vec::new()),
            actions: Column::unbounded(3, Vec::new()),
            rewards: Vec::new(),
            episodes: Vec::new(),
            last_observations: Column::unbounded(11, Vec::new()),
            sources: sources
                .map(|(env, path)| Source {
                    path: path.into(),
                    env: env.map(Into::into),
                    ..Source::default()
                })
                .collect(),
        }
    }

    fn refusal(names: &[Option<&str>], asked: Option<&str>) -> String {
        agree(&data(names), asked).unwrap_err().to_string()
    }

    #[test]
    fn data_of_one_environment_or_of_none_are_taken() {
        for (names, asked) in [
            (&[Some("hopper")][..], None),
            (&[Some("hopper")], Some("hopper-v5")),
            (&[Some("hopper"), None, Some("hopper")], Some("hopper")),
            (&[None, None], Some("walker2d")),
            (&[Some("mountaincarcontinuous-v0")], None),
            (&[Some("here/Arm.toml")], Some("/there/Arm.toml")),
            (&[Some("gym:Hopper-v5")], Some("hopper")),
            (&[Some("pendulum")], Some("gym:Pendulum-v1")),
        ] {
            agree(&data(names), asked).unwrap();
        }
        let moved = data(&[Some("here/Arm.toml"), Some("there/Arm.toml")]);
        agree(&moved, None).unwrap();
        assert_eq!(moved.env(), Some("here/Arm.toml"));
    }

    #[test]
    fn data_of_another_environment_are_refused_with_both_names() {
        assert_eq!(
            refusal(&[None, Some("hopper-v4")], Some("hopper")),
            "b: the data are of environment `hopper-v4`, --env asks for `hopper`; type --env hopper-v4, or, to act in \
             another environment than the data's on purpose, add --set data.any_env=true"
        );
        let unknown = refusal(&[Some("mountaincarcontinuous-v0")], Some("pendulum"));
        assert!(
            unknown
                .contains("leave out --env, since this version has no `mountaincarcontinuous-v0`"),
            "{unknown}"
        );
        refusal(&[Some("here/Arm.toml")], Some("there/Leg.toml"));
    }

    #[test]
    fn data_without_a_name_are_of_what_has_their_sizes() {
        let mut data = data(&[None]);
        let hopper = candidates(&data);
        assert_eq!(hopper.unwrap(), "hopper, hopper-v4 or hopper-v5");
        (data.observations, data.actions) = (
            Column::unbounded(3, Vec::new()),
            Column::unbounded(1, Vec::new()),
        );
        assert_eq!(candidates(&data).unwrap(), "pendulum");
        data.actions = Column::unbounded(2, Vec::new());
        assert_eq!(candidates(&data), None);
    }

    #[test]
    fn two_environments_are_not_joined() {
        for asked in [None, Some("hopper")] {
            assert_eq!(
                refusal(&[Some("hopper"), Some("hopper-v4"), Some("hopper")], asked),
                "the data are of several environments: `hopper` (a), `hopper-v4` (b); train on the files of one, or, if \
                 they are one to you, add --set data.any_env=true"
            );
        }
    }
}

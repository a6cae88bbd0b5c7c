//! Whether actions are vectors or choices, and how many choices: as the environment says, or else the recipe, or else the
//! file; and if nobody does, as many as were seen.

use anyhow::{bail, ensure};
use host_sim::{EnvSpec, Space};

use super::{Column, Dataset};
use crate::config::Recipe;

/// What said how many choices there are.
struct Said<'a> {
    n: usize,
    by: Whose<'a>,
}

enum Whose<'a> {
    Environment(&'a str),
    Recipe,
    File,
}

impl Whose<'_> {
    /// In words, and what to do where it cannot be.
    fn words(&self) -> [String; 2] {
        match self {
            Self::Environment(id) => [
                format!("environment `{id}`"),
                "name the environment the data come from with --env, or train without evaluation with --env none".into(),
            ],
            Self::Recipe => [
                "data.actions_n".into(),
                "set data.actions_n to how many choices there are".into(),
            ],
            Self::File => [
                "the file".into(),
                "set data.actions_n to how many choices there are".into(),
            ],
        }
    }
}

impl Dataset {
    /// Makes choices of the actions where environment or recipe say that they are, whatever number type the files have
    /// them in, and sees to it that there are as many as they say. Nothing changes where it was done before.
    ///
    /// # Errors
    /// An action is none of the choices, or the actions are of another kind: in words, with the step and what to do.
    pub fn settle_actions(
        &mut self,
        env: Option<&EnvSpec<'_>>,
        recipe: &Recipe,
    ) -> anyhow::Result<()> {
        let of_recipe = recipe.data.actions_n as usize;
        let said = match (env.map(|spec| (spec.id, spec.action)), &self.actions) {
            (Some((id, Space::Discrete { n })), _) => Said {
                n,
                by: Whose::Environment(id),
            },
            // Vectors or not, it refuses what is not its own by itself.
            (Some(_), _) if of_recipe == 0 => return Ok(()),
            (None, Column::Discrete { n, .. }) if of_recipe == 0 => Said {
                n: *n,
                by: Whose::File,
            },
            (None, _) if of_recipe == 0 => return Ok(()),
            (Some((id, space)), _) => bail!(
                "data.actions_n is {of_recipe}, but environment `{id}` has actions {space}, which are no choices; leave it at 0"
            ),
            (None, _) => Said {
                n: of_recipe,
                by: Whose::Recipe,
            },
        };
        let [who, remedy] = said.by.words();
        let n = said.n;
        let path = self.sources[0].path.display().to_string();
        if let Whose::Environment(_) = said.by {
            ensure!(
                of_recipe == 0 || of_recipe == n,
                "data.actions_n is {of_recipe}, but {who} has Discrete({n}) actions; leave it at 0"
            );
        }
        if let Column::Discrete {
            n: of_file,
            declared: true,
            ..
        } = self.actions
        {
            ensure!(
                of_file == n,
                "{path}: the actions are Discrete({of_file}), in {who} Discrete({n}); {remedy}"
            );
        }
        let values = match &self.actions {
            Column::Discrete { values, .. } => {
                let strange = values.iter().position(|&value| value as usize >= n);
                if let Some(row) = strange {
                    bail!(
                        "{}: the action is {}; in {who} actions are Discrete({n}), whole numbers from 0 to {}; {remedy}",
                        self.place(row),
                        values[row],
                        n - 1
                    );
                }
                values.clone()
            }
            // Some write whole numbers as floats, in a column of their own.
            Column::Box { low, values, .. } if low.len() == 1 => {
                let space = Space::Discrete { n };
                let strange = values.iter().position(|&value| !space.contains(&[value]));
                if let Some(row) = strange {
                    bail!(
                        "{}: the action is {:?}; in {who} actions are Discrete({n}), whole numbers from 0 to {}; {remedy}",
                        self.place(row),
                        values[row],
                        n - 1
                    );
                }
                values.iter().map(|&value| value as u32).collect()
            }
            other => bail!(
                "{path}: the actions are {}, in {who} Discrete({n}), one whole number from 0 to {}; {remedy}",
                other.space(),
                n - 1
            ),
        };
        let declared = !matches!(said.by, Whose::File) || self.actions_are_declared();
        self.actions = Column::Discrete {
            n,
            declared,
            values,
        };
        Ok(())
    }

    /// Whether somebody says how many choices there are, if actions are choices.
    fn actions_are_declared(&self) -> bool {
        matches!(self.actions, Column::Discrete { declared: true, .. })
    }

    /// File, episode and step of a row, in words.
    fn place(&self, row: usize) -> String {
        let at = self
            .episodes
            .partition_point(|episode| episode.rows.end <= row);
        let (path, step) = match self.episodes.get(at) {
            Some(episode) => (&self.sources[episode.source].path, row - episode.rows.start),
            None => (&self.sources[0].path, 0),
        };
        let mine = |episode: &&super::Episode| self.sources[episode.source].path == *path;
        let before = self.episodes[..at].iter().filter(mine).count();
        format!(
            "{}: `actions`, step {step} of episode {before} (both counted from 0, row {row} of all)",
            path.display()
        )
    }
}

/// That nobody says how many choices there are.
pub(super) fn undeclared(data: &Dataset, env: Option<&EnvSpec<'_>>) -> Option<String> {
    match data.actions {
        Column::Discrete {
            n, declared: false, ..
        } if env.is_none() => Some(format!(
            "nobody says how many choices there are: Discrete({n}) has one more than the largest seen; if there are more, add \
             --set data.actions_n=N"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Episode, Source};

    fn data(actions: Column) -> Dataset {
        let episode = |rows, source| Episode {
            rows,
            source,
            ..Episode::default()
        };
        let source = |path: &str| Source {
            path: path.into(),
            ..Source::default()
        };
        Dataset {
            observations: Column::unbounded(4, vec![0.0; 16]),
            actions,
            rewards: vec![1.0; 4],
            episodes: vec![episode(0..1, 0), episode(1..2, 1), episode(2..4, 1)],
            last_observations: Column::unbounded(4, Vec::new()),
            sources: vec![source("a"), source("b")],
        }
    }

    fn recipe(n: u32) -> Recipe {
        let mut recipe = Recipe::default();
        recipe.data.actions_n = n;
        recipe
    }

    fn choices(n: usize, declared: bool) -> Column {
        Column::Discrete {
            n,
            declared,
            values: vec![0, 1, 1, 0],
        }
    }

    #[test]
    fn the_environment_says_it_first_then_the_recipe_then_the_file() {
        let floats = || Column::unbounded(1, vec![0.0, 1.0, 1.0, 0.0]);
        let cartpole = host_sim::cartpole::SPEC;
        for (actions, env, of_recipe, n, declared) in [
            (choices(2, false), Some(&cartpole), 0, 2, true),
            (choices(2, true), Some(&cartpole), 2, 2, true),
            (floats(), Some(&cartpole), 0, 2, true),
            (choices(2, false), None, 5, 5, true),
            (floats(), None, 3, 3, true),
            (choices(4, true), None, 0, 4, true),
            (choices(2, false), None, 0, 2, false),
        ] {
            let mut data = data(actions);
            for _ in 0..2 {
                data.settle_actions(env, &recipe(of_recipe)).unwrap();
                assert_eq!(data.actions, choices(n, declared));
            }
            assert_eq!(undeclared(&data, env).is_some(), !declared);
        }
        // Vectors are nothing else where nobody says so.
        let mut vectors = data(floats());
        vectors.settle_actions(None, &recipe(0)).unwrap();
        let pendulum = host_sim::pendulum::SPEC;
        vectors.settle_actions(Some(&pendulum), &recipe(0)).unwrap();
        assert_eq!(vectors.actions, floats());
    }

    #[test]
    fn what_is_no_choice_is_refused_with_its_step_and_a_remedy() {
        let cartpole = host_sim::cartpole::SPEC;
        let pendulum = host_sim::pendulum::SPEC;
        let floats = |value| Column::unbounded(1, vec![0.0, 1.0, 1.0, value]);
        for (actions, env, n, parts) in [
            (
                floats(0.5),
                Some(&cartpole),
                0,
                [
                    "b: `actions`, step 1 of episode 1 (both counted from 0, row 3 of all): the action is 0.5; in environment `cartpole`",
                    "whole numbers from 0 to 1; name the environment",
                ],
            ),
            (floats(-1.0), Some(&cartpole), 0, ["is -1.0", "--env none"]),
            (
                floats(2.0),
                None,
                2,
                ["is 2.0; in data.actions_n", "set data.actions_n"],
            ),
            (floats(f32::NAN), None, 2, ["is NaN", "set data.actions_n"]),
            (
                Column::Discrete {
                    n: 4,
                    declared: false,
                    values: vec![0, 3, 2, 1],
                },
                Some(&cartpole),
                0,
                ["b: `actions`, step 0 of episode 0", "the action is 3"],
            ),
            (
                choices(3, true),
                Some(&cartpole),
                0,
                [
                    "a: the actions are Discrete(3), in environment `cartpole` Discrete(2)",
                    "--env",
                ],
            ),
            (
                Column::unbounded(2, vec![0.0; 8]),
                Some(&cartpole),
                0,
                [
                    "a: the actions are Box(2), unbounded, in",
                    "one whole number from 0 to 1",
                ],
            ),
            (
                choices(2, false),
                Some(&cartpole),
                3,
                [
                    "data.actions_n is 3, but environment `cartpole`",
                    "leave it at 0",
                ],
            ),
            (
                floats(1.0),
                Some(&pendulum),
                3,
                [
                    "environment `pendulum` has actions Box(1), -2…2",
                    "leave it at 0",
                ],
            ),
        ] {
            let error = data(actions).settle_actions(env, &recipe(n)).unwrap_err();
            let error = error.to_string();
            for part in parts {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}

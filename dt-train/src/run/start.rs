//! Where training starts that goes on from another run's weights: `--init-from`.
//!
//! A network is the same function as before only in the same units. So the new run keeps, whatever its own data say, what the
//! other one subtracted from states and divided states, returns-to-go and actions by.

use std::path::Path;

use anyhow::bail;
use dt_core::config::Actions;

use super::checkpoint::Weights;
use super::{InitFrom, Run, RunInfo, Which};
use crate::algo::Dims;
use crate::config::Recipe;

/// Another run's weights and units.
#[derive(Clone, Debug)]
pub struct Start {
    run: Run,
    /// None: the run that is resumed has them in its own checkpoint.
    weights: Option<Weights>,
    from: InitFrom,
}

impl Start {
    /// The newest checkpoint of the run in `dir`.
    ///
    /// # Errors
    /// Unreadable runs and checkpoints.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let run = Run::open(dir)?;
        let checkpoint = run.checkpoint(Which::Last)?;
        let from = InitFrom {
            run: dir.display().to_string(),
            update: checkpoint.progress.update,
        };
        Ok(Self {
            run,
            weights: Some(checkpoint.weights),
            from,
        })
    }

    /// That of a run that started so; none if it did not.
    pub fn of(run: Run) -> Option<Self> {
        Some(Self {
            from: run.info.init_from.clone()?,
            run,
            weights: None,
        })
    }

    /// What the states are normalized by.
    pub fn units(&self) -> &RunInfo {
        &self.run.info
    }

    /// What opens the environment that the other run was trained for.
    pub fn env(&self) -> Option<&str> {
        self.run.info.env_to_make()
    }

    /// The weights to begin with; none: the run has begun.
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_ref()
    }

    /// What `run.json` says about it.
    pub fn origin(&self) -> InitFrom {
        self.from.clone()
    }

    /// Gives `recipe` the other run's units, and says so where it had others.
    pub fn set_units(&self, recipe: &mut Recipe) {
        let theirs = &self.run.recipe;
        let InitFrom { run, .. } = &self.from;
        if recipe.data.return_scale != theirs.data.return_scale {
            eprintln!(
                "note: data.return_scale = {} as in {run}, whose weights were trained with it",
                theirs.data.return_scale
            );
            recipe.data.return_scale = theirs.data.return_scale;
        }
        if recipe.data.normalize_states != theirs.data.normalize_states {
            eprintln!(
                "note: states are normalized as in {run}, whose weights were trained with that"
            );
            recipe.data.normalize_states = theirs.data.normalize_states;
        }
        let RunInfo {
            action_low,
            action_high,
            ..
        } = &self.run.info;
        recipe.control.action_low.clone_from(action_low);
        recipe.control.action_high.clone_from(action_high);
        // Choices that these data do not show are there all the same.
        if self.run.info.choices && recipe.data.actions_n == 0 {
            recipe.data.actions_n = self.run.info.act_dim as u32;
        }
    }

    /// Gives `recipe` the other run's control period, where it has none: for when neither data nor environment say one.
    pub fn set_period(&self, recipe: &mut Recipe) {
        if recipe.control.period_us == 0 {
            recipe.control.period_us = self.run.info.control_period_us;
        }
    }

    /// Refuses weights of another network than that of `recipe` for data with `dims`, naming all that differs; notes what
    /// differs without changing a shape.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self, recipe: &Recipe, dims: Dims) -> anyhow::Result<()> {
        let Self { run, from, .. } = self;
        let (ours, theirs) = (&recipe.algorithm, &run.recipe.algorithm);
        if ours.name() != theirs.name() {
            bail!(
                "--init-from {}: it is {}, and the recipe trains {}; use --set algo={}",
                from.run,
                theirs.title(),
                ours.title(),
                theirs.name()
            );
        }
        let kind = |actions| match actions {
            Actions::Continuous => "vectors",
            Actions::Discrete => "choices",
        };
        let [here, there] = [dims.actions, run.dims().actions].map(kind);
        if here != there {
            bail!(
                "--init-from {}: its actions are {there}, those of the data {here}; give it data of its own environment",
                from.run
            );
        }
        let mut differences = Vec::new();
        for (what, here, there) in [
            ("states", dims.state_dim, run.info.state_dim),
            ("actions", dims.act_dim, run.info.act_dim),
        ] {
            if here != there {
                differences.push(format!(
                    "{what} have {there} numbers there, in the data {here}"
                ));
            }
        }
        let name = ours.name();
        let there = theirs.section();
        for (key, here) in &ours.section() {
            if let Some(there) = there.get(key).filter(|there| *there != here) {
                differences.push(format!("{name}.{key} is {there} there, {here} here"));
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        let differences = differences.join("; ");
        let shapes = |recipe: &Recipe, dims| -> Vec<_> {
            let parameters = recipe.algorithm.parameters(dims);
            parameters.into_iter().map(|p| (p.name, p.shape)).collect()
        };
        if shapes(recipe, dims) != shapes(&run.recipe, run.dims()) {
            bail!(
                "--init-from {}: its weights do not fit this network: {differences}. Leave out --config to train that run's \
                 network, and give it data with states and actions as long as its own",
                from.run
            );
        }
        eprintln!(
            "note: the weights of {} fit, but they were trained otherwise: {differences}",
            from.run
        );
        Ok(())
    }
}

//! What a controller is told besides the network, as chosen at export: `--set control.…`.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::algo::Dims;
use crate::config::{Recipe, Source};
use crate::data::Dataset;
use crate::data::prepare::{prepare, safe_action, safe_choice};
use crate::run::{CONFIG, Run, RunInfo};

/// How choices are made.
const CHOICE: [&str; 3] = ["control.choice", "control.temperature", "control.top_k"];

/// `run` as if its recipe had had these `control.` settings; nothing is written.
///
/// # Errors
/// Names the setting that cannot be had, and why.
pub fn with_settings(run: Run, settings: &[String]) -> anyhow::Result<Run> {
    if settings.is_empty() {
        return Ok(run);
    }
    for setting in settings {
        let key = setting.split('=').next().unwrap_or_default().trim();
        ensure!(
            key.starts_with("control."),
            "--set {setting}: only `control.` keys can be chosen at export; the network has learned with `{key}` as it is"
        );
        ensure!(
            run.info.choices || !CHOICE.contains(&key),
            "--set {setting}: the actions of this run are vectors, of which there is nothing to choose"
        );
        ensure!(
            !["control.action_low", "control.action_high"].contains(&key),
            "--set {setting}: the network has learned actions in units of this range, {:?} to {:?}; train with another",
            run.info.action_low,
            run.info.action_high
        );
    }
    let source = Source::File(run.dir.join(CONFIG));
    let recipe = Recipe::load(Some(&source), settings)?;
    let control = &recipe.control;
    let mut info = run.info.clone();
    // 0 says nothing: the period is then that of training.
    if control.period_us > 0 {
        info.control_period_us = control.period_us;
    }
    info.safe_action = match run.info.choices {
        true => safe_choice(control, run.info.act_dim)?,
        false => safe_action(control, &info.action_low, &info.action_high)?,
    };
    if control.state_margin != run.recipe.control.state_margin {
        let fresh = from_data(&run, &recipe).context(
            "--set control.state_margin: limits are so many ranges of the training data away from them",
        )?;
        info.state_low = fresh.state_low;
        info.state_high = fresh.state_high;
        info.return_range = fresh.return_range;
    }
    Ok(Run {
        recipe,
        info,
        ..run
    })
}

/// What the run's data say under another recipe.
fn from_data(run: &Run, recipe: &Recipe) -> anyhow::Result<RunInfo> {
    let paths: Vec<&Path> = run.info.dataset.split(',').map(Path::new).collect();
    let data = Dataset::load_as(&paths, &recipe.data.reading())?;
    let digest: String = data.sha256().map(|byte| format!("{byte:02x}")).concat();
    if digest != run.info.dataset_sha256 {
        bail!("{} has changed since", run.info.dataset);
    }
    let env = run.info.env_to_make();
    let env = env.and_then(|name| host_sim::make(name).ok());
    // One that is only called so is not the data's.
    let spec = env.as_deref().map(|env| env.spec());
    let spec = spec.filter(|spec| Dims::of_env(spec) == run.dims());
    let mut recipe = recipe.clone();
    // As they were, whoever said so.
    recipe.control.period_us = run.info.control_period_us;
    recipe.control.action_low.clone_from(&run.info.action_low);
    recipe.control.action_high.clone_from(&run.info.action_high);
    Ok(prepare(data, spec.as_ref(), &recipe, Some(&run.info))?.info)
}

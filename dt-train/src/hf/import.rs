//! A model's folder as a run, which every command takes.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use dt_core::config::{Dtype, Head, Predictions};
use host_sim::Env;

use super::description::{Description, Own, Said};
use super::statistics::{Conventions, Statistics};
use super::tensors::{self, Tensors};
use super::weights::{BODY, from_transformers, predicts, scale_actions};
use super::{CONFIG, OWN};
use crate::config::Recipe;
use crate::data::prepare::safe_action;
use crate::run::checkpoint::{Checkpoint, Progress};
use crate::run::{self, Existing, LAST, Run, RunInfo, SCHEMA};

/// Observations further than so many standard deviations from their mean are faults, where nobody knows the data's range.
const LIMIT_DEVIATIONS: f32 = 10.0;

/// What to import, and what its files do not say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The model's folder, or its file of weights.
    pub dir: PathBuf,
    /// The run's.
    pub out: PathBuf,
    /// Replace a run there.
    pub force: bool,
    /// As [`Statistics::load`] takes it.
    pub statistics: Option<String>,
    /// Returns-to-go are divided by it.
    pub return_scale: Option<f32>,
    /// The policy's default target return, raw units.
    pub target_return: Option<f32>,
    /// Timesteps in the window.
    pub context_len: Option<u32>,
    /// Environment that the policy is for.
    pub env: Option<String>,
    /// Lowest and highest action, of each component: what −1 and 1 of the network mean.
    pub action_range: Option<[f32; 2]>,
    /// The same of a network whose actions are in the environment's units, which is then scaled to them.
    pub action_limits: Option<[f32; 2]>,
    /// Control period in microseconds.
    pub period_us: Option<u32>,
    /// Keep the heads that predict states and returns.
    pub predictions: bool,
    /// Fields of `config.json` to leave out of account.
    pub ignore: Vec<String>,
    /// What `config.json` would say, where there is none.
    pub said: Said,
}

impl Options {
    /// Lowest and highest action, of each component, if they are said, and the option.
    fn actions(&self) -> Option<([f32; 2], &'static str)> {
        let range = self.action_range.map(|range| (range, "--action-range"));
        range.or(self.action_limits.map(|limits| (limits, "--action-limits")))
    }

    /// Where `config.json` is, if anywhere.
    fn folder(&self) -> &Path {
        match self.dir.is_file() {
            true => self.dir.parent().unwrap_or(&self.dir),
            false => &self.dir,
        }
    }
}

/// A run that was imported, and what is to be said about it.
#[derive(Debug)]
pub struct Imported {
    /// The run.
    pub run: Run,
    /// Notes for people.
    pub notes: Vec<String>,
}

/// Writes the run.
///
/// # Errors
/// A folder that is no Decision Transformer of this version, its faults listed; what is not known, all of it; an output
/// folder that is in use.
pub fn import(options: &Options) -> anyhow::Result<Imported> {
    let existing = match options.force {
        true => Existing::Replace,
        false => Existing::Refuse,
    };
    run::check_folder(&options.out, existing)?;
    let (mut description, tensors) = model(options)?;
    let statistics = options.statistics.as_deref();
    let (statistics, conventions) = match statistics.map(Statistics::load).transpose()? {
        Some((statistics, conventions)) => (Some(statistics), conventions),
        None => (None, None),
    };
    let asked = Asked {
        options,
        statistics,
        conventions,
    };
    let mut notes = Vec::new();
    if description.found_in != CONFIG {
        notes.push(format!(
            "there is no {CONFIG}; taken for what the paper's code trains: window attention, a tanh behind the action head, \
             norms with ε 1e-5"
        ));
    }
    if options.action_limits.is_some() {
        ensure!(
            description.own.is_none(),
            "--action-limits: the units of this model's actions are known, as a run of this program it was exported from; leave \
             it out, or use --action-range"
        );
        ensure!(
            description.dt.head == Head::Linear,
            "--action-limits: this network has a tanh behind its actions, which lie in -1…1; say what these mean with \
             --action-range LOW,HIGH"
        );
    }
    if options.predictions {
        ensure!(
            description.own.is_none(),
            "--predictions: whether this model predicts states and returns is known, as a run of this program it was exported \
             from; leave it out"
        );
        (description.dt.predict_state, description.dt.predict_return) = (1.0, 1.0);
    } else if description.own.is_none() && predicts(&tensors) {
        notes.push(
            "the heads that predict states and returns are left out: published checkpoints have them as they were initialized; \
             --predictions keeps them"
                .to_owned(),
        );
    }
    let (recipe, info) = match description.own.take() {
        Some(own) => asked.over(own, &mut description)?,
        None => asked.complete(&mut description, &mut notes)?,
    };
    recipe
        .algorithm
        .check(&recipe)
        .map_err(|refusal| anyhow!("{}: {}", refusal.key, refusal.message))
        .and_then(|()| Ok(description.network().validate()?))
        .with_context(|| {
            format!(
                "this version's engine has no such network as {} describes",
                options.dir.display()
            )
        })?;
    let mut weights = from_transformers(&description, tensors)
        .with_context(|| format!("{}", options.dir.display()))?;
    if let Some([low, high]) = options.action_limits {
        scale_actions(&mut weights, &description.network(), [low, high])?;
    }
    let checkpoint = Checkpoint {
        progress: Progress::default(),
        weights,
        optimizer: None,
    };
    notes.extend(short_table(&info, description.dt.max_ep_len));
    let (run, _) = run::open(&options.out, existing, recipe, info)?;
    checkpoint.save(&run.dir.join(LAST))?;
    Ok(Imported { run, notes })
}

/// The network, by `config.json` or, of the paper's own code, by the tensors themselves.
fn model(options: &Options) -> anyhow::Result<(Description, Tensors)> {
    let Options {
        dir: path, said, ..
    } = options;
    let folder = options.folder();
    if folder.join(CONFIG).is_file() {
        let description = Description::read(folder, &options.ignore)?;
        let given = [
            (said.n_head.is_some(), "--n-head"),
            (said.activation.is_some(), "--activation"),
        ];
        if let Some((_, option)) = given.iter().find(|(is, _)| *is) {
            bail!(
                "{} says it; leave out {option}",
                folder.join(CONFIG).display()
            );
        }
        return Ok((description, tensors::read(path)?));
    }
    let tensors = match tensors::read(path) {
        Ok(tensors) => tensors,
        // Nothing of a model is there; what a model's folder holds first is what to ask for.
        Err(_) if path.is_dir() && !tensors::are_in(path) => {
            return Err(Description::read(folder, &[]).unwrap_err());
        }
        Err(error) => return Err(error),
    };
    let [theirs, papers] = BODY;
    let has = |body: &str| {
        let block = format!("{body}h.");
        tensors.keys().any(|name| name.starts_with(&block))
    };
    if has(papers) {
        let description = Description::of_papers(&tensors, said);
        return Ok((
            description.with_context(|| path.display().to_string())?,
            tensors,
        ));
    }
    if has(theirs) {
        return Err(Description::read(folder, &[]).unwrap_err());
    }
    let names: Vec<_> = tensors.keys().take(4).map(String::as_str).collect();
    bail!(
        "{} is no Decision Transformer: its tensors are {}{}, and one has `{theirs}h.0…` (transformers; with {CONFIG}) or \
         `{papers}h.0…` (the paper's code)",
        path.display(),
        names.join(", "),
        if tensors.len() > 4 { ", …" } else { "" },
    )
}

/// What was asked for, and what follows from it.
struct Asked<'a> {
    options: &'a Options,
    statistics: Option<Statistics>,
    conventions: Option<Conventions>,
}

impl Asked<'_> {
    /// Recipe and description of a run whose folder says nothing of them.
    fn complete(
        self,
        description: &mut Description,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<(Recipe, RunInfo)> {
        let Self {
            options,
            ref statistics,
            conventions,
        } = self;
        let by_convention = |asked: bool, what: &str, value: &dyn fmt::Display| {
            (!asked).then(|| format!("{what} {value}"))
        };
        let env = options
            .env
            .as_deref()
            .or(conventions.map(|c| c.env).filter(|_| self.needs_env()));
        let world = env.map(host_sim::make).transpose()?;
        let k = options
            .context_len
            .or(Some(description.dt.context_len).filter(|&k| k > 0))
            .or(conventions.map(|c| c.context_len));
        let scale = options.return_scale.or(conventions.map(|c| c.return_scale));
        let target = options
            .target_return
            .or(conventions.map(|c| c.target_return));
        let range = self.action_range(description, world.as_deref())?;
        let period = options
            .period_us
            .or(world.as_deref().map(|env| env.spec().control_period_us));
        let (Some(statistics), Some(scale), Some(target), Some(k), Some(range), Some(period), []) = (
            statistics,
            scale,
            target,
            k,
            &range,
            period,
            description.asks.as_slice(),
        ) else {
            let missing = [
                (
                    statistics.is_none(),
                    "--statistics FILE.json or the name of published data, such as hopper-medium (what was subtracted from \
                     states, and what they were divided by)",
                ),
                (
                    scale.is_none(),
                    "--return-scale X (what returns-to-go were divided by: 1000 in the paper)",
                ),
                (
                    target.is_none(),
                    "--target-return X (what return to ask for)",
                ),
                (
                    k.is_none(),
                    "--context-len K (how many timesteps it was trained on at a time: 20 in the paper)",
                ),
                (
                    range.is_none() || period.is_none(),
                    match (range.is_none(), period.is_none()) {
                        (true, true) => {
                            "--env E (where it acts), or --action-range LOW,HIGH and --period-us US (what a controller has to \
                             know)"
                        }
                        (true, false) => "--env E (where it acts), or --action-range LOW,HIGH",
                        _ => "--env E (where it acts), or --period-us US",
                    },
                ),
            ];
            let missing = missing
                .into_iter()
                .filter_map(|(is, option)| is.then_some(option));
            let missing: Vec<_> = description.asks.iter().copied().chain(missing).collect();
            bail!(
                "{} does not say what its policy needs to act; add {}",
                options.dir.display(),
                missing.join("; ")
            );
        };
        statistics.check(description.dims.state_dim)?;
        if let (Some(c), Some(name)) = (conventions, &options.statistics) {
            let said_k = options.context_len.is_some() || description.dt.context_len > 0;
            let taken: Vec<_> = [
                by_convention(
                    options.return_scale.is_some(),
                    "return scale",
                    &c.return_scale,
                ),
                by_convention(
                    options.target_return.is_some(),
                    "target return",
                    &c.target_return,
                ),
                by_convention(said_k, "context length", &c.context_len),
                by_convention(
                    options.env.is_some() || !self.needs_env(),
                    "environment",
                    &c.env,
                ),
            ]
            .into_iter()
            .flatten()
            .collect();
            if !taken.is_empty() {
                notes.push(format!(
                    "as of the checkpoints published for {name}: {}",
                    taken.join(", ")
                ));
            }
        }
        description.dt.context_len = k;
        let mut recipe = Recipe::new(description.dt.clone());
        recipe.data.return_scale = scale;
        recipe.eval.target_returns = vec![target];
        if let Some(dropout) = description.dropout {
            recipe.train.dropout = dropout;
        }
        let [low, high] = range;
        if options.actions().is_some() {
            recipe.control.action_low.clone_from(low);
            recipe.control.action_high.clone_from(high);
        }
        recipe.control.period_us = options.period_us.unwrap_or(0);
        let (state_low, state_high) = state_limits(statistics, world.as_deref())?;
        notes.push(format!(
            "observations further than {LIMIT_DEVIATIONS} standard deviations from their mean will be faults, unless the \
             environment has them: nobody knows the data's range"
        ));
        let info = RunInfo {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            env: world
                .as_deref()
                .map(|env| env.spec().id.to_owned())
                .unwrap_or_default(),
            dataset: options
                .statistics
                .clone()
                .filter(|_| conventions.is_some())
                .unwrap_or_default(),
            // Not known.
            dataset_sha256: "0".repeat(64),
            transitions: 0,
            episodes: 0,
            return_mean: 0.0,
            return_max: f64::from(target),
            state_dim: description.dims.state_dim,
            act_dim: description.dims.act_dim,
            choices: false,
            image: None,
            state_mean: statistics.mean.clone(),
            state_std: statistics.std.clone(),
            state_low,
            state_high,
            safe_action: safe_action(&recipe.control, low, high)?,
            action_low: low.clone(),
            action_high: high.clone(),
            target_return: target,
            return_range: None,
            control_period_us: period,
            env_file: options.env.clone().filter(|env| env.ends_with(".toml")),
            suggested_target_returns: vec![f64::from(target)],
            init_from: None,
        };
        Ok((recipe, info))
    }

    /// Recipe and description of a run that was exported, but for what is asked for.
    fn over(self, own: Own, description: &mut Description) -> anyhow::Result<(Recipe, RunInfo)> {
        let Self {
            options,
            ref statistics,
            ..
        } = self;
        let origin = format!("{}, {OWN}.recipe", options.folder().join(CONFIG).display());
        let Own {
            recipe,
            run: mut info,
        } = own;
        let table = toml::Table::try_from(recipe).with_context(|| origin.clone())?;
        let settings: toml::Table = options
            .context_len
            .map(|k| toml::toml! { dt = { context_len = k } })
            .unwrap_or_default();
        let mut recipe = Recipe::from_table(&origin, merged(table, settings))?;
        let network = |recipe: &Recipe, info: &RunInfo| {
            let dims = crate::algo::Dims::vectors(info.state_dim, info.act_dim);
            let network = recipe.algorithm.deployable()?.network(dims, Dtype::F32);
            (!network.is_mlp()).then_some(network)
        };
        let Some(theirs) = network(&recipe, &info) else {
            bail!(
                "{origin}: it is {}, no Decision Transformer",
                recipe.algorithm.title()
            );
        };
        // What config.json has no field for.
        description.dt.context_len = theirs.context_len;
        description.dt.attention = theirs.attention;
        description.dt.math = theirs.math;
        let Predictions {
            state,
            return_to_go,
        } = theirs.predictions;
        let weight = |is_there| if is_there { 1.0 } else { 0.0 };
        description.dt.predict_state = weight(state);
        description.dt.predict_return = weight(return_to_go);
        if theirs.max_ep_len == 0 {
            description.dt.max_ep_len = 0;
        }
        let ours = description.network();
        ensure!(
            ours == theirs,
            "{origin}: it describes another network, {theirs:?}, than the fields beside it, {ours:?}; take the key {OWN} out \
             and say what it said with options"
        );
        if let Some(statistics) = statistics {
            statistics.check(info.state_dim)?;
            info.state_mean.clone_from(&statistics.mean);
            info.state_std.clone_from(&statistics.std);
        }
        if let Some(scale) = options.return_scale {
            recipe.data.return_scale = scale;
        }
        if let Some(target) = options.target_return {
            recipe.eval.target_returns = vec![target];
            info.target_return = target;
        }
        let world = options.env.as_deref().map(host_sim::make).transpose()?;
        if let Some(world) = &world {
            info.env = world.spec().id.to_owned();
            info.env_file = options.env.clone().filter(|env| env.ends_with(".toml"));
            info.control_period_us = world.spec().control_period_us;
        }
        if let Some([low, high]) = self.action_range(description, world.as_deref())? {
            info.safe_action = safe_action(&recipe.control, &low, &high)?;
            (info.action_low, info.action_high) = (low, high);
        }
        if let Some(period) = options.period_us {
            info.control_period_us = period;
        }
        Ok((recipe, info))
    }

    /// Whether the conventions' environment has anything to say.
    fn needs_env(&self) -> bool {
        self.options.actions().is_none() || self.options.period_us.is_none()
    }

    /// What was asked for, or that of the environment.
    fn action_range(
        &self,
        description: &Description,
        world: Option<&dyn Env>,
    ) -> anyhow::Result<Option<[Vec<f32>; 2]>> {
        let (state_dim, act_dim) = (description.dims.state_dim, description.dims.act_dim);
        if let Some(world) = world {
            let spec = world.spec();
            let dims = (spec.state_dim(), spec.act_dim());
            ensure!(
                dims == (state_dim, act_dim),
                "the model has states of length {state_dim} and actions of length {act_dim}, environment `{}` has {} and {}; \
                 name the one that it was trained for with --env, or say --action-range LOW,HIGH and --period-us US",
                spec.id,
                dims.0,
                dims.1
            );
        }
        if let Some(([low, high], option)) = self.options.actions() {
            ensure!(
                low < high && low.is_finite() && high.is_finite(),
                "{option} {low},{high}: the first number must be below the second, and both finite"
            );
            return Ok(Some([vec![low; act_dim], vec![high; act_dim]]));
        }
        let Some(world) = world else { return Ok(None) };
        let spec = world.spec();
        let bounds = spec.action_bounds().map_err(|error| anyhow!("{error}"))?;
        let finite = bounds.iter().all(|end| end.iter().all(|x| x.is_finite()));
        Ok(finite.then(|| bounds.map(<[f32]>::to_vec)))
    }
}

/// `over` on top of `table`, section by section.
fn merged(mut table: toml::Table, over: toml::Table) -> toml::Table {
    for (section, values) in over {
        match (table.get_mut(&section), values) {
            (Some(toml::Value::Table(there)), toml::Value::Table(values)) => there.extend(values),
            (_, values) => {
                table.insert(section, values);
            }
        }
    }
    table
}

/// Lowest and highest observation that is no fault: [`LIMIT_DEVIATIONS`], and all that the environment has bounds for.
fn state_limits(
    statistics: &Statistics,
    world: Option<&dyn Env>,
) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
    let spec = world.map(Env::spec);
    let bounds = spec.as_ref().map(|spec| spec.observation_bounds());
    let bounds = bounds.transpose().map_err(|error| anyhow!("{error}"))?;
    let features = statistics.mean.iter().zip(&statistics.std).enumerate();
    let limits = features.map(|(i, (mean, std))| {
        let (low, high) = (mean - LIMIT_DEVIATIONS * std, mean + LIMIT_DEVIATIONS * std);
        match bounds.map(|[low, high]| (low[i], high[i])) {
            Some((env_low, env_high)) => (
                if env_low.is_finite() && env_low < low {
                    env_low
                } else {
                    low
                },
                if env_high.is_finite() && env_high > high {
                    env_high
                } else {
                    high
                },
            ),
            None => (low, high),
        }
    });
    Ok(limits.unzip())
}

/// Says so where episodes are longer than the table of timesteps.
fn short_table(info: &RunInfo, rows: u32) -> Option<String> {
    let world = host_sim::make(info.env_to_make()?).ok()?;
    let steps = world.spec().max_episode_steps;
    (rows > 0 && rows < steps).then(|| {
        format!(
            "the table of timesteps has {rows} rows, and episodes of {} have {steps} steps: the later ones take its last row; \
             to end there, export with --set control.at_max_ep_len=fault",
            info.env
        )
    })
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { dir, recipe, info } = &self.run;
        write!(
            f,
            "{}: {} parameters, {}; states of {}, actions of {}; return scale {}, target return {}",
            dir.display(),
            self.run.parameters(),
            recipe.algorithm.size(),
            info.state_dim,
            info.act_dim,
            recipe.data.return_scale,
            info.target_return,
        )
    }
}

//! Training: data in, run folder out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use cpu_time::ProcessTime;
use host_sim::{Env, EnvSpec, plant};
use tch::Device;

use super::checkpoint::{Best, Progress};
use super::folder::{self, Existing};
use super::metrics::{EvalRecord, Metrics, Record};
use super::start::Start;
use super::tensorboard::Events;
use super::{Run, RunInfo, Sink, Which, progress, read_metrics};
use crate::algo::{Averages, Dims, Learner, Setup};
use crate::config::Recipe;
use crate::data::known::{Known, as_options};
use crate::data::notes::notes;
use crate::data::prepare::{Prepared, prepare};
use crate::data::{Dataset, environment, origin};
use crate::nn::schedule::learning_rate;
use crate::report::learning_curve;
use crate::{evaluate, memory, run};

/// What `--env` says where the data's environment is none of this version's, whatever they call it.
pub const NOWHERE: &str = "none";

/// What to train, where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Run folder.
    pub out: PathBuf,
    /// What to do if it holds a run.
    pub existing: Existing,
    /// The recipe.
    pub recipe: Recipe,
    /// Environment to evaluate in; none: the one the data name, if any. [`NOWHERE`]: there is none.
    pub env: Option<String>,
    /// Where to train.
    pub device: Device,
    /// Folder of the run whose weights and units it starts with.
    pub init_from: Option<PathBuf>,
}

/// A run that goes on reads pixels as it did, though a later version begins others otherwise.
fn keep_pixels(prepared: &mut Prepared, dir: &Path) {
    let Ok(Run {
        info: RunInfo {
            image: Some(earlier),
            ..
        },
        ..
    }) = Run::open(dir)
    else {
        return;
    };
    let trajectories = [&mut prepared.train, &mut prepared.validation];
    let pixels = trajectories.map(|data| data.pixels.as_mut().map(|pixels| &mut pixels.image));
    for image in pixels.into_iter().chain([prepared.info.image.as_mut()]) {
        if let Some(image) = image.filter(|image| image.shape == earlier.shape) {
            *image = earlier;
        }
    }
}

/// Trains on `data`; returns the finished run.
///
/// # Errors
/// If recipe, data, environment and folder do not fit together, or the file system refuses.
pub fn train(mut data: Dataset, mut options: Options) -> anyhow::Result<Run> {
    let start = start(&options)?;
    if let Some(start) = &start {
        start.set_units(&mut options.recipe);
        // Where neither data nor command line name an environment.
        if data.env().is_none() && options.env.is_none() {
            options.env = start.env().map(Into::into);
        }
    }
    if options.recipe.data.return_scale == 0.0 {
        options.recipe.data.return_scale = data.return_scale() as f32;
    }
    let any_env = options.recipe.data.any_env;
    let env = environment(options.env.as_deref(), &data, any_env)?;
    let nowhere = options.env.as_deref() == Some(NOWHERE);
    // As it was called: what it calls itself does not open an environment that is a file.
    let name = options.env.or_else(|| data.env().map(Into::into));
    let name = name.filter(|_| !nowhere);
    let spec = env.as_deref().map(|env| env.spec());
    data.settle_actions(spec.as_ref(), &options.recipe)?;
    let dims = Dims::of(&data);
    if let Some(fitted) = options.recipe.algorithm.fitted(dims) {
        options.recipe.algorithm = fitted;
    }
    options
        .recipe
        .algorithm
        .fits(dims)
        .context("the data do not fit the network")?;
    if let Some(start) = &start {
        start.check(&options.recipe, dims)?;
    }
    refuse_without_rewards(&data, spec.as_ref(), &options.recipe)?;
    if let Some(start) = &start
        && spec.is_none()
        && data.control_period_us().is_none()
    {
        start.set_period(&mut options.recipe);
    }
    let notes = notes(&data, spec.as_ref(), &options.recipe);
    let mut prepared = prepare(
        data,
        spec.as_ref(),
        &options.recipe,
        start.as_ref().map(Start::units),
    )?;
    if options.existing == Existing::Resume {
        keep_pixels(&mut prepared, &options.out);
    }
    let Prepared {
        train,
        validation,
        mut info,
    } = prepared;
    options.recipe.algorithm.accepts(&train)?;
    if nowhere {
        info.env.clear();
    }
    info.init_from = start.as_ref().map(Start::origin);
    for note in notes {
        eprintln!("note: {note}");
    }
    info.env_file = name.clone().filter(|name| name.ends_with(".toml"));
    let (run, checkpoint) = folder::open(&options.out, options.existing, options.recipe, info)?;
    let algorithm = &run.recipe.algorithm;
    if let threads @ 1.. = run.recipe.train.threads {
        tch::set_num_threads(threads.cast_signed());
    }
    let mut learner = algorithm.learner(Setup {
        recipe: &run.recipe,
        train,
        validation,
        device: options.device,
    });
    // Not before the data are loaded: what that freed is given back.
    memory::keep_freed();
    let progress = match &checkpoint {
        Some(checkpoint) => {
            learner
                .restore(checkpoint)
                .with_context(|| format!("cannot resume {}", run.dir.display()))?;
            let progress = checkpoint.progress.clone();
            if progress.update == run.recipe.train.updates {
                eprintln!(
                    "note: {} has had its {} updates; more of them come with --set train.updates=N",
                    run.dir.display(),
                    progress.update
                );
            }
            progress
        }
        None => {
            if let Some(weights) = start.as_ref().and_then(Start::weights) {
                learner.start_from(weights)?;
                // What is resumed before its first checkpoint would else start at random.
                learner
                    .save(Progress::default())
                    .save(&run.dir.join(run::LAST))?;
            }
            Progress::default()
        }
    };
    let mut sinks: Vec<Box<dyn Sink>> = vec![
        progress::sink(run.recipe.train.updates, &progress),
        // Before the checkpoint of the same update: resuming drops what is newer than the checkpoint.
        Box::new(Metrics::open(&run.dir.join(run::METRICS), progress.update)?),
        Box::new(Curve),
    ];
    if run.recipe.train.tensorboard {
        sinks.push(Box::new(Events::begin(&run.dir, progress.update)?));
    }
    let run_has_last = checkpoint.is_some() || start.is_some();
    let mut session = Session {
        run,
        learner,
        env: name.filter(|_| env.is_some()),
        device: options.device,
        sinks,
        last_saved: run_has_last.then_some(progress.update),
        progress,
    };
    session.train()?;
    Ok(session.run)
}

/// Where a run starts that does not start at random.
fn start(options: &Options) -> anyhow::Result<Option<Start>> {
    let dir = &options.out;
    if options.existing == Existing::Resume && dir.join(run::CONFIG).exists() {
        return Ok(Start::of(Run::open(dir)?));
    }
    if let Some(from) = &options.init_from {
        let [ours, theirs] = [dir, from].map(|dir| dir.canonicalize().ok());
        ensure!(
            ours.is_none() || ours != theirs,
            "{} is the run to start from, and would be replaced by the new one; give that a folder of its own with --out",
            from.display()
        );
    }
    options.init_from.as_deref().map(Start::new).transpose()
}

/// Without rewards there are no returns, neither to learn from nor to select by.
fn refuse_without_rewards(
    data: &Dataset,
    spec: Option<&EnvSpec<'_>>,
    recipe: &Recipe,
) -> anyhow::Result<()> {
    let path = match data.sources.iter().find(|source| source.without_rewards) {
        Some(source) => source.path.display(),
        None => return Ok(()),
    };
    if recipe.algorithm.learns_from_rewards() {
        // What would be asked for next, at once.
        let missing = Known::new(data, spec, recipe)?.missing(data);
        let options = match as_options(&missing) {
            none if none.is_empty() => none,
            options => format!(" {options}"),
        };
        bail!(
            "{path}: has no rewards, and `{}` learns from returns; train behaviour cloning with --algo bc{options}, or store \
             the rewards",
            recipe.algorithm.name()
        );
    }
    if recipe.data.top_percent < 100.0 {
        bail!(
            "{path}: has no rewards to choose the best {} % by; leave `data.top_percent` at 100, or store the rewards",
            recipe.data.top_percent
        );
    }
    Ok(())
}

/// The environment asked for, or else the one the data name, if this version has it.
///
/// # Errors
/// As [`host_sim::make`] and [`origin::agree`]; [`environment::refuse_another`] for one that nobody asked for.
fn environment(
    asked: Option<&str>,
    data: &Dataset,
    any_env: bool,
) -> anyhow::Result<Option<Box<dyn Env>>> {
    let nowhere = asked == Some(NOWHERE);
    let asked = asked.filter(|_| !nowhere);
    let env = asked.map(host_sim::make).transpose()?;
    if !any_env {
        let as_data_say = |env: &dyn Env| env.spec().id.to_owned();
        // A command is no name that data could have.
        let of_command = asked.filter(|asked| plant::is_command(asked));
        let of_command = of_command.and(env.as_deref().map(as_data_say));
        origin::agree(data, of_command.as_deref().or(asked))?;
    }
    let without = |why: String| {
        eprintln!("training without evaluation: {why}");
        Ok(None)
    };
    match (env, data.env()) {
        (Some(env), _) => Ok(Some(env)),
        (None, _) if nowhere => Ok(None),
        (None, Some(name)) if plant::is_command(name) => without(format!(
            "the data name a command, `{name}`, and commands are run only if they are typed: --plant CMD"
        )),
        (None, Some(name)) => match host_sim::make(name) {
            Ok(env) => {
                if !any_env {
                    environment::refuse_another(data, &env.spec())?;
                }
                Ok(Some(env))
            }
            Err(error) => without(error.to_string()),
        },
        (None, None) => {
            let named = match origin::named(data).len() {
                0 => "no environment",
                _ => "several environments",
            };
            without(format!("the data name {named}; name one with --env"))
        }
    }
}

/// What a finished run reached, in words.
///
/// # Errors
/// If its checkpoint cannot be read.
pub fn summary(run: &Run) -> anyhow::Result<String> {
    let progress = run.checkpoint(Which::Last)?.progress;
    let records = read_metrics(&run.dir.join(run::METRICS));
    let mut lines = vec![format!(
        "{}: {} updates",
        run.dir.display(),
        progress.update
    )];
    if let Some(record) = records.last() {
        lines.push(format!("loss {:.5}", record.loss));
        for eval in &record.eval {
            lines.push(format!(
                "target {}: return {:.2} ± {:.2} over {} episodes",
                eval.target_return, eval.mean_return, eval.std_return, eval.episodes
            ));
        }
    }
    if let Some(best) = progress.best {
        lines.push(format!(
            "best return {:.2} at update {}",
            best.mean_return, best.update
        ));
    }
    Ok(lines.join("\n  "))
}

/// Parses `auto`, `cpu` or `cuda:N`.
///
/// # Errors
/// If it is none of them or there is no such device.
pub fn device(name: &str) -> anyhow::Result<Device> {
    let cuda = || {
        tch::Cuda::is_available()
            .then(tch::Cuda::device_count)
            .unwrap_or(0)
    };
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Ok(Device::cuda_if_available()),
        _ => {
            let index: usize = name
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .with_context(|| format!("unknown device `{name}`; use auto, cpu or cuda:N"))?;
            let count = cuda();
            anyhow::ensure!(
                (index as i64) < count,
                "device `{name}` is not there: libtorch sees {count} CUDA device(s); use --device cpu"
            );
            Ok(Device::Cuda(index))
        }
    }
}

/// A run in progress.
struct Session {
    run: Run,
    learner: Box<dyn Learner>,
    /// To evaluate in.
    env: Option<String>,
    device: Device,
    sinks: Vec<Box<dyn Sink>>,
    progress: Progress,
    /// Updates that `last.safetensors` has had, if it is there.
    last_saved: Option<u64>,
}

impl Session {
    fn train(&mut self) -> anyhow::Result<()> {
        let recipe = self.run.recipe.train.clone();
        let eval_every = self.run.recipe.eval.every;
        let mut started = (Instant::now(), ProcessTime::now());
        let mut recorded = self.progress.update;
        while self.progress.update < recipe.updates {
            self.learner.update(self.progress.update);
            self.progress.update += 1;
            let done = self.progress.update;
            self.sinks.iter_mut().for_each(|sink| sink.advance(done));
            let due =
                |every: u64| done == recipe.updates || every > 0 && done.is_multiple_of(every);
            let (evaluate, save) = (due(eval_every), due(recipe.checkpoint_every));
            if !(evaluate || save || due(recipe.log_every)) {
                continue;
            }
            let Averages {
                loss,
                accuracy,
                grad_norm,
            } = self.learner.take_averages();
            anyhow::ensure!(
                loss.is_finite(),
                "the loss is {loss} at update {done}: training diverged; lower train.learning_rate \
                 or set train.grad_clip"
            );
            let validation = self.learner.validate();
            let mut record = Record {
                update: done,
                loss,
                fit_loss: validation.map(|losses| losses.fit),
                validation_loss: validation.map(|losses| losses.held_out),
                accuracy,
                validation_accuracy: validation.and_then(|losses| losses.accuracy),
                grad_norm,
                learning_rate: learning_rate(&recipe, done - 1),
                updates_per_second: (done - recorded) as f64 / started.0.elapsed().as_secs_f64(),
                core_seconds: Some(started.1.elapsed().as_secs_f64()),
                eval: Vec::new(),
            };
            if evaluate {
                record.eval = self.evaluate()?;
            }
            for sink in &mut self.sinks {
                sink.record(&self.run, &record)?;
            }
            if save {
                self.keep_last(recipe.checkpoint_keep)?;
                self.learner
                    .save(self.progress.clone())
                    .save(&self.path(run::LAST))?;
                self.last_saved = Some(done);
            }
            recorded = done;
            started = (Instant::now(), ProcessTime::now());
        }
        self.sinks.iter_mut().for_each(|sink| sink.finish());
        Ok(())
    }

    /// Returns at every target, and `best.safetensors` if the first of them is the best so far.
    fn evaluate(&mut self) -> anyhow::Result<Vec<EvalRecord>> {
        let Some(env) = &self.env else {
            return Ok(Vec::new());
        };
        let mut checkpoint = self.learner.save(self.progress.clone());
        let records = {
            let policy = self.run.recipe.algorithm.policy(&self.run, &checkpoint)?;
            evaluate::training_records(&self.run, env, policy.as_ref(), self.device)?
        };
        let Some(first) = records.first() else {
            return Ok(records);
        };
        let mean_return = first.mean_return;
        if self
            .progress
            .best
            .is_none_or(|best| mean_return > best.mean_return)
        {
            let best = Some(Best {
                update: self.progress.update,
                mean_return,
            });
            self.progress.best = best;
            checkpoint.progress.best = best;
            checkpoint.optimizer = None;
            checkpoint.save(&self.path(run::BEST))?;
        }
        Ok(records)
    }

    /// Keeps `last.safetensors`, which is about to be replaced, under the number of its updates, as the newest of `most` such.
    fn keep_last(&self, most: u32) -> anyhow::Result<()> {
        if let Some(update) = self.last_saved.filter(|_| most > 0) {
            let (last, kept) = (self.path(run::LAST), self.path(&run::kept(update)));
            // The file is replaced, not written over, so that a second name of it is enough; some file systems have none.
            if !kept.exists() && fs::hard_link(&last, &kept).is_err() {
                fs::copy(&last, &kept)
                    .with_context(|| format!("cannot write {}", kept.display()))?;
            }
        }
        let kept = run::kept_updates(&self.run.dir);
        let too_many = kept.len().saturating_sub(most as usize);
        for &update in &kept[..too_many] {
            let path = self.path(&run::kept(update));
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.run.dir.join(name)
    }
}

/// The learning curve in the run's folder, drawn anew after every evaluation and at the end.
struct Curve;

impl Sink for Curve {
    fn record(&mut self, run: &Run, record: &Record) -> anyhow::Result<()> {
        if record.eval.is_empty() && record.update < run.recipe.train.updates {
            return Ok(());
        }
        learning_curve::learning_curve(run, &read_metrics(&run.dir.join(run::METRICS)))
    }
}

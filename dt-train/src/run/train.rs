//! Training: data in, run folder out.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use dt_core::config::Dtype;
use host_sim::Env;
use tch::Device;

use super::folder::{self, Existing};
use super::metrics::{EvalRecord, Metrics, Record};
use super::progress::Bar;
use super::read_metrics;
use crate::algo::bc;
use crate::algo::dt::{Averages, Trainer};
use crate::config::{Config, Kind};
use crate::data::Dataset;
use crate::data::prepare;
use crate::data::sampler::Trajectories;
use crate::evaluate;
use crate::memory;
use crate::nn::schedule::learning_rate;
use crate::report::learning_curve;
use crate::run::checkpoint::{Best, Checkpoint, CheckpointError, Progress};
use crate::run::{self, Run, Which};

/// What to train, where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Run folder.
    pub out: PathBuf,
    /// What to do if it holds a run.
    pub existing: Existing,
    /// The recipe.
    pub config: Config,
    /// Environment to evaluate in; none: the one the data name, if any.
    pub env: Option<String>,
    /// Where to train.
    pub device: Device,
}

/// Trains on `data`; returns the finished run.
///
/// # Errors
/// If recipe, data, environment and folder do not fit together, or the file system refuses.
pub fn train(data: Dataset, mut options: Options) -> anyhow::Result<Run> {
    if options.config.data.return_scale == 0.0 {
        options.config.data.return_scale = data.return_scale() as f32;
    }
    let env = environment(options.env.as_deref(), &data)?;
    // As it was called: what it calls itself does not open an environment that is a file.
    let name = options.env.or_else(|| data.env().map(Into::into));
    let spec = env.as_deref().map(|env| env.spec());
    let (mut trajectories, info) = prepare::prepare(data, spec.as_ref(), &options.config)?;
    let percent = options.config.data.validation_percent;
    let validation = if percent > 0.0 {
        let taken = trajectories.split_off(percent);
        anyhow::ensure!(
            !taken.episode_lens.is_empty() && !trajectories.episode_lens.is_empty(),
            "data.validation_percent = {percent} of {} episode(s) leaves no episode to validate or to train on; set it to 0",
            info.episodes
        );
        taken
    } else {
        Trajectories::default()
    };
    if options.config.model.kind == Kind::Transformer {
        options
            .config
            .network(info.state_dim, info.act_dim, Dtype::F32)
            .validate()
            .context("the data do not fit the network")?;
    }
    let (run, checkpoint) = folder::open(&options.out, options.existing, options.config, info)?;
    if let threads @ 1.. = run.config.train.threads {
        tch::set_num_threads(threads.cast_signed());
    }
    let mut trainer = AnyTrainer::new(&run, trajectories, validation, options.device);
    // Not before the data are loaded: what that freed is given back.
    memory::keep_freed();
    let progress = match &checkpoint {
        Some(checkpoint) => {
            trainer
                .restore(checkpoint)
                .with_context(|| format!("cannot resume {}", run.dir.display()))?;
            checkpoint.progress.clone()
        }
        None => Progress::default(),
    };
    let metrics = Metrics::open(&run.dir.join(run::METRICS), progress.update)?;
    let mut session = Session {
        bar: Bar::new(run.config.train.updates, &progress),
        run,
        trainer,
        env: name.filter(|_| env.is_some()),
        device: options.device,
        metrics,
        progress,
    };
    session.train()?;
    Ok(session.run)
}

/// The environment asked for, or else the one the data name, if this version has it.
fn environment(asked: Option<&str>, data: &Dataset) -> anyhow::Result<Option<Box<dyn Env>>> {
    match (asked, data.env()) {
        (Some(name), _) => Ok(Some(host_sim::make(name)?)),
        (None, Some(name)) => Ok(host_sim::make(name)
            .inspect_err(|error| eprintln!("training without evaluation: {error}"))
            .ok()),
        (None, None) => {
            eprintln!(
                "training without evaluation: the data name no environment; name it with --env"
            );
            Ok(None)
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

/// The trainer of either kind of network.
enum AnyTrainer {
    Transformer(Box<Trainer>),
    Bc(Box<bc::Trainer>),
}

impl AnyTrainer {
    fn new(run: &Run, data: Trajectories, validation: Trajectories, device: Device) -> Self {
        match run.config.model.kind {
            Kind::Transformer => {
                let network = run.network(Dtype::F32);
                let trainer = Trainer::new(&run.config, &network, data, validation, device);
                Self::Transformer(Box::new(trainer))
            }
            Kind::Bc => {
                let trainer = bc::Trainer::new(&run.config, data, validation, device);
                Self::Bc(Box::new(trainer))
            }
        }
    }

    fn update(&mut self, update: u64) {
        match self {
            Self::Transformer(trainer) => trainer.update(update),
            Self::Bc(trainer) => trainer.update(update),
        }
    }

    fn take_averages(&mut self) -> Averages {
        match self {
            Self::Transformer(trainer) => trainer.take_averages(),
            Self::Bc(trainer) => trainer.take_averages(),
        }
    }

    fn validation_loss(&mut self) -> Option<f64> {
        match self {
            Self::Transformer(trainer) => trainer.validation_loss(),
            Self::Bc(trainer) => trainer.validation_loss(),
        }
    }

    fn checkpoint(&self, progress: Progress) -> Checkpoint {
        match self {
            Self::Transformer(trainer) => trainer.checkpoint(progress),
            Self::Bc(trainer) => trainer.checkpoint(progress),
        }
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        match self {
            Self::Transformer(trainer) => trainer.restore(checkpoint),
            Self::Bc(trainer) => trainer.restore(checkpoint),
        }
    }
}

/// A run in progress.
struct Session {
    run: Run,
    trainer: AnyTrainer,
    /// To evaluate in.
    env: Option<String>,
    device: Device,
    metrics: Metrics,
    progress: Progress,
    bar: Bar,
}

impl Session {
    fn train(&mut self) -> anyhow::Result<()> {
        let recipe = self.run.config.train.clone();
        let eval_every = self.run.config.eval.every;
        let mut started = Instant::now();
        let mut recorded = self.progress.update;
        while self.progress.update < recipe.updates {
            self.trainer.update(self.progress.update);
            self.progress.update += 1;
            let done = self.progress.update;
            self.bar.advance(done);
            let due =
                |every: u64| done == recipe.updates || every > 0 && done.is_multiple_of(every);
            let (evaluate, save) = (due(eval_every), due(recipe.checkpoint_every));
            if !(evaluate || save || due(recipe.log_every)) {
                continue;
            }
            let Averages { loss, grad_norm } = self.trainer.take_averages();
            anyhow::ensure!(
                loss.is_finite(),
                "the loss is {loss} at update {done}: training diverged; lower train.learning_rate \
                 or set train.grad_clip"
            );
            let mut record = Record {
                update: done,
                loss,
                validation_loss: self.trainer.validation_loss(),
                grad_norm,
                learning_rate: learning_rate(&recipe, done - 1),
                updates_per_second: (done - recorded) as f64 / started.elapsed().as_secs_f64(),
                eval: Vec::new(),
            };
            if evaluate {
                record.eval = self.evaluate()?;
            }
            self.bar.show(&record);
            // Metrics before the checkpoint: resuming drops what is newer than the checkpoint.
            self.metrics.append(&record)?;
            if save {
                self.trainer
                    .checkpoint(self.progress.clone())
                    .save(&self.path(run::LAST))?;
            }
            if evaluate || done == recipe.updates {
                learning_curve::learning_curve(&self.run, &read_metrics(&self.path(run::METRICS)))?;
            }
            recorded = done;
            started = Instant::now();
        }
        self.bar.finish();
        Ok(())
    }

    /// Returns at every target, and `best.safetensors` if the first of them is the best so far.
    fn evaluate(&mut self) -> anyhow::Result<Vec<EvalRecord>> {
        let Some(env) = &self.env else {
            return Ok(Vec::new());
        };
        let mut checkpoint = self.trainer.checkpoint(self.progress.clone());
        let records = match &self.trainer {
            AnyTrainer::Transformer(trainer) => {
                let (run, model) = (&self.run, trainer.network());
                evaluate::training_records(run, env, &checkpoint, &model, self.device)?
            }
            AnyTrainer::Bc(_) => vec![evaluate::bc_record(&self.run, env, &checkpoint)?],
        };
        let mean_return = records[0].mean_return;
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

    fn path(&self, name: &str) -> PathBuf {
        self.run.dir.join(name)
    }
}

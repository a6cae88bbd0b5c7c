//! `dt-train import-hf`: a Hugging Face Decision Transformer as a run.

use std::path::PathBuf;

use host_sim::console;

use crate::hf::description::Said;
use crate::hf::import::{Options, import};

/// Arguments of `dt-train import-hf`.
///
/// What the model's folder does not say is asked for, all of it at once.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of the Hugging Face model: config.json with model.safetensors or pytorch_model.bin, or several such files and
    /// their index; or a file of weights, with config.json beside it, or a state dict of the paper's code
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Folder of the run to write
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// What states were normalized by: published data by name, such as hopper-medium, which also say what the published
    /// checkpoints are run with, or a file {"mean": […], "std": […]}
    #[arg(long, value_name = "NAME|FILE.json")]
    pub statistics: Option<String>,
    /// What returns-to-go were divided by
    #[arg(long, value_name = "X", value_parser = positive)]
    pub return_scale: Option<f32>,
    /// Return to ask for
    #[arg(long, value_name = "X", allow_hyphen_values = true, value_parser = finite)]
    pub target_return: Option<f32>,
    /// Timesteps in the window, where config.json has no max_length
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub context_len: Option<u32>,
    /// Environment that it acts in, which says the range of actions and the control period
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
    /// Lowest and highest action, of every component: what -1 and 1 of the network mean
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true, value_parser = range)]
    pub action_range: Option<[f32; 2]>,
    /// The same of a network without tanh that gives actions as the environment takes them: they are limited to this, and the
    /// network is scaled so that it is what -1 and 1 of it mean
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true, value_parser = range, conflicts_with = "action_range")]
    pub action_limits: Option<[f32; 2]>,
    /// Control period in microseconds
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u32).range(1..))]
    pub period_us: Option<u32>,
    /// Attention heads, where there is no config.json
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub n_head: Option<u32>,
    /// Nonlinearity of the MLP as transformers calls it, where there is no config.json
    #[arg(long, value_name = "NAME")]
    pub activation: Option<String>,
    /// Keep the heads that predict states and returns, which published checkpoints have as they were initialized
    #[arg(long)]
    pub predictions: bool,
    /// Fields of config.json that change nothing in what the network computes
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// Replace the run in --out
    #[arg(long)]
    pub force: bool,
}

fn finite(text: &str) -> Result<f32, String> {
    let number: f32 = text.parse().map_err(|_| "expected a number".to_owned())?;
    match number.is_finite() {
        true => Ok(number),
        false => Err("it must be finite".into()),
    }
}

fn positive(text: &str) -> Result<f32, String> {
    let number = finite(text)?;
    match (1e-30..=1e30).contains(&number) {
        true => Ok(number),
        false => Err("it must lie in 1e-30..=1e30".into()),
    }
}

fn range(text: &str) -> Result<[f32; 2], String> {
    let ends = text.split_once(',').ok_or("expected two, such as -1,1")?;
    Ok([finite(ends.0.trim())?, finite(ends.1.trim())?])
}

/// Runs the command.
///
/// # Errors
/// As [`import`].
pub fn run(args: Args) -> anyhow::Result<()> {
    if let Some(env) = &args.env {
        host_sim::plant::allow(env);
    }
    let imported = import(&Options {
        dir: args.dir,
        out: args.out,
        force: args.force,
        statistics: args.statistics,
        return_scale: args.return_scale,
        target_return: args.target_return,
        context_len: args.context_len,
        env: args.env,
        action_range: args.action_range,
        action_limits: args.action_limits,
        period_us: args.period_us,
        predictions: args.predictions,
        ignore: args.ignore,
        said: Said {
            n_head: args.n_head,
            activation: args.activation,
        },
    })?;
    for note in &imported.notes {
        eprintln!("note: {note}");
    }
    console::line(imported)?;
    Ok(())
}

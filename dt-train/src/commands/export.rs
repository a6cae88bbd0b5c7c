//! `dt-train export`: a run as a policy file for a controller.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use indicatif::ProgressBar;

use host_sim::console;

use crate::atomic;
use crate::deploy::control::with_settings;
use crate::deploy::{Fold, Source, Trained, export, in_pixels, policy_rs, training_data};
use crate::run::records::ExportRecord;
use crate::run::{Run, Which};

/// Arguments of `dt-train export`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Policy file to write; F.rs, the matching constants as Rust source, goes beside it
    #[arg(long, value_name = "F.dtb")]
    pub out: PathBuf,
    /// Number format of the weights
    #[arg(long, value_enum, default_value_t = Dtype::Int8)]
    pub dtype: Dtype,
    /// Multiply out the matrices of attention with one head: a sixth less work per control step, and smaller
    #[arg(long, value_enum, default_value_t = Fold::Auto)]
    pub fold: Fold,
    /// Which checkpoint of the run: the newest, that of the best evaluation, or the one after N updates, if it was kept
    #[arg(long, value_name = "last|best|N", default_value = "last")]
    pub checkpoint: Which,
    /// Tell the controller something else than the recipe said; may be repeated. A key of section control: period_us, safe_action,
    /// state_margin, reward, return_limit, at_max_ep_len, choice, temperature or top_k
    #[arg(long = "set", value_name = "control.KEY=VALUE")]
    pub set: Vec<String>,
    /// Replace existing output files
    #[arg(long)]
    pub force: bool,
}

/// Number formats of a policy file.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 8-bit weights, 16-bit activations
    Int8,
    /// 4-bit weights in the transformer blocks and the timestep table, the rest as int8
    Int4,
    /// The reference
    F32,
}

/// Runs the command.
///
/// # Errors
/// Unreadable runs, a quantized policy that does not match the trained one, failed writes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let dtype = match args.dtype {
        Dtype::Int8 => dt_core::config::Dtype::Int8,
        Dtype::F32 => dt_core::config::Dtype::F32,
        Dtype::Int4 => dt_core::config::Dtype::Int4,
    };
    let source_path = args.out.with_extension("rs");
    ensure!(
        args.out != source_path,
        "--out {} is where the constants go; name the policy otherwise, such as {}",
        args.out.display(),
        args.out.with_extension("dtb").display()
    );
    atomic::check(&args.out, args.force)?;
    atomic::check(&source_path, args.force)
        .context("the constants are written beside the policy file")?;

    let spinner = ProgressBar::new_spinner().with_message("reading the run and its data");
    spinner.enable_steady_tick(Duration::from_millis(100));
    let run = with_settings(Run::open(&args.run)?, &args.set)?;
    let checkpoint = run.checkpoint(args.checkpoint)?;
    let checkpoint = in_pixels(&run, &checkpoint);
    let trained = Trained::new(&run, &checkpoint)?;
    let data = training_data(&run)
        .inspect_err(|reason| {
            spinner.suspend(|| {
                eprintln!("note: checking on random inputs, since the training data cannot be used: {reason}");
            });
        })
        .ok();
    let source = data.as_ref().map_or(Source::Random, Source::Logged);
    spinner.set_message("comparing with libtorch and measuring errors");
    let exported = export(&trained, dtype, args.fold, &source)
        .with_context(|| format!("{}", args.run.display()))?;
    spinner.finish_and_clear();

    let name = args.out.file_name().unwrap_or_default().to_string_lossy();
    let constants = policy_rs(&exported.file.blob(), &name);
    // Both are complete before either gets its name.
    let mut policy = atomic::Staged::new(&args.out, args.force)?;
    policy.file().write_all(exported.file.bytes())?;
    atomic::write(&source_path, args.force, constants.as_bytes())?;
    policy.commit()?;
    let record = ExportRecord {
        control: args.set,
        ..ExportRecord::new(&exported, &args.out, &source)
    };
    super::note("`dt-train report` will lack this export", record.save(&run));
    console::line(exported)?;
    console::line(format_args!(
        "wrote {} and {}",
        args.out.display(),
        source_path.display()
    ))?;
    Ok(())
}

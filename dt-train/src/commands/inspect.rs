//! `dt-train inspect`: what a dataset, a run or a policy file holds.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use host_sim::console;
use host_sim::policy_file::PolicyFile;
use serde_json::Value;

use crate::data::{self, inspect::Summary, notes::notes};
use crate::run::Run;

mod next;
mod policy;
mod run;

/// Arguments of `dt-train inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Trajectory file (several separated by commas) or Minari folder, run folder, or policy file
    #[arg(value_name = "PATH", value_delimiter = ',', required = true)]
    pub path: Vec<PathBuf>,
    /// What the files do not say
    #[command(flatten)]
    pub reading: super::ReadingArgs,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// With `--json`, of data: the return of every episode as well, `episode_returns`
    #[arg(long, requires = "json")]
    pub episodes: bool,
}

/// Runs the command.
///
/// # Errors
/// Paths that are none of the three, or damaged.
pub fn run(args: Args) -> anyhow::Result<()> {
    if let [path] = args.path.as_slice() {
        if path.is_dir()
            && !data::layout::is_folder(path)
            && data::layout::folders_in(path).is_empty()
        {
            return print(run::facts(&Run::open(path)?)?, args.json);
        }
        if is_policy(path) {
            return print(policy::facts(&PolicyFile::load(path)?.blob()), args.json);
        }
    }
    let mut data = super::load(&args.path, &args.reading.reading())?;
    let env = data.env().and_then(|name| host_sim::make(name).ok());
    let spec = env.as_deref().map(|env| env.spec());
    let recipe = next::recipe(&data)?;
    // As training does it, so that the same is said of the same data.
    let refused = data.settle_actions(spec.as_ref(), &recipe.1).err();
    let mut notes = notes(&data, spec.as_ref(), &recipe.1);
    notes.extend(refused.map(|refused| format!("training refuses these actions: {refused:#}")));
    let mut summary = Summary::new(&data, notes);
    if args.episodes {
        summary = summary.with_episodes();
    }
    if args.json {
        console::line(serde_json::to_string(&summary)?)?;
    } else {
        let next = next::next(
            &data,
            &summary,
            spec.as_ref(),
            &recipe,
            &args.path,
            &args.reading,
        );
        console::print(summary.table() + &next)?;
    }
    Ok(())
}

/// What is said about a policy or a run, in the order of the table.
type Facts = Vec<(&'static str, Value)>;

fn print(facts: Facts, json: bool) -> anyhow::Result<()> {
    if json {
        let object: serde_json::Map<_, _> = facts
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        console::line(serde_json::to_string(&object)?)?;
        return Ok(());
    }
    for (key, value) in facts {
        match value {
            Value::String(text) => console::line(format_args!("{key:<20}{text}"))?,
            Value::Null => console::line(format_args!("{key:<20}-"))?,
            // Nested objects are for programs.
            Value::Object(_) => {}
            other => console::line(format_args!("{key:<20}{other}"))?,
        }
    }
    Ok(())
}

/// The name of an enum's variant as configuration files spell it.
fn name(variant: impl std::fmt::Debug) -> Value {
    let mut name = String::new();
    for c in format!("{variant:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    Value::String(name)
}

/// Each f32 as its exact f64 value.
fn exact(values: &[f32]) -> Value {
    values.iter().copied().map(f64::from).collect()
}

/// Whether the file is called or begins like a policy file; files that cannot be read are left to
/// the readers to report.
fn is_policy(path: &Path) -> bool {
    if path.extension().is_some_and(|extension| extension == "dtb") {
        return true;
    }
    let mut magic = [0; 8];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && magic == dt_core::blob::MAGIC
}

//! `dt-train predict`: the next action of given contexts.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write, stdin, stdout};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail, ensure};
use dt_core::config::{Actions, Config, Dtype};
use host_sim::policy_file::PolicyFile;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::deploy::attention::{Weights, check_file};
use crate::deploy::in_pixels;
use crate::deploy::predict::{Context, Core, Predictor, Torch};
use crate::run::{Run, Which};

/// Arguments of `dt-train predict`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run folder (its newest checkpoint runs in libtorch) or policy file (runs in the controller's engine)
    #[arg(value_name = "RUN|F.dtb")]
    pub policy: PathBuf,
    /// One context per line: `{"returns_to_go":[…],"states":[[…]],"actions":[[…]],"timesteps":[…]}`, normalized and scaled, pixels as they are; `-`: standard input
    #[arg(long, value_name = "IN.jsonl")]
    pub contexts: PathBuf,
    /// Say what each token looks at, too: `"attention":{"tokens":["R0","s0","a0","R1",…],"weights":[layer][head][query][key]}`; of a
    /// policy file computed anew in f32, since controllers keep none
    #[arg(long)]
    pub attention: bool,
}

/// Runs the command.
///
/// # Errors
/// Unreadable policies; a bad line, by its number.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.policy.is_dir() {
        let run = Run::open(&args.policy)?;
        let network = run.deployed(Dtype::F32)?;
        ensure!(
            !(args.attention && network.is_mlp()),
            "{}: a perceptron has no attention; leave out --attention",
            args.policy.display()
        );
        ensure!(
            !(args.attention && network.is_convolved()),
            "{}: convolutions mix its tokens, so there is no attention; leave out --attention",
            args.policy.display()
        );
        let checkpoint = run.checkpoint(Which::Last)?;
        let weights = &in_pixels(&run, &checkpoint).weights;
        predict(&mut Torch::new(&network, weights)?, &args)
    } else {
        let file = PolicyFile::load(&args.policy)?;
        if args.attention
            && let Err(reason) = check_file(&file.blob().manifest().config)
        {
            bail!("{}: {reason}; leave out --attention", args.policy.display());
        }
        predict(&mut Core::new(&file.blob()), &args)
    }
}

/// What was predicted of the newest timestep; null where no action before it is known.
fn add_predicted(answer: &mut Value, config: &Config, predicted: &[f32]) {
    let (state, critic) = predicted.split_at(std::cmp::min(
        config.predicted_state_len() as usize,
        predicted.len(),
    ));
    if config.predictions.state {
        let is_known = !predicted.is_empty();
        answer["predicted_state"] = is_known.then(|| numbers(state)).into();
    }
    if config.predictions.return_to_go {
        answer["predicted_return"] = critic.first().map(|&critic| f64::from(critic)).into();
    }
}

fn numbers(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Attention weights as lists in lists.
fn attention(weights: &Weights) -> Value {
    let [layers, heads] = weights.shape;
    let matrix = |layer, head| -> Vec<Vec<f64>> {
        let rows = weights.head(layer, head).chunks(weights.tokens.len());
        rows.map(numbers).collect()
    };
    let of_layer = |layer| (0..heads).map(|head| matrix(layer, head)).collect();
    let all: Vec<Vec<_>> = (0..layers).map(of_layer).collect();
    json!({ "tokens": weights.tokens, "weights": all })
}

fn predict(predictor: &mut impl Predictor, args: &Args) -> anyhow::Result<()> {
    let path = args.contexts.as_path();
    let (name, input): (_, Box<dyn BufRead>) = match path.to_str() {
        Some("-") => ("standard input".into(), Box::new(stdin().lock())),
        _ => {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot read contexts {name}"))?;
            (name, Box::new(BufReader::new(file)))
        }
    };
    let mut output = stdout().lock();
    // On a terminal the results themselves are the progress.
    let bar = match output.is_terminal() {
        true => ProgressBar::hidden(),
        false => ProgressBar::no_length().with_message("contexts"),
    };
    for (index, line) in input.lines().enumerate() {
        let place = || format!("{name}, line {}", index + 1);
        let line = line.with_context(place)?;
        let context = Context::parse(&line, predictor.config()).with_context(place)?;
        let not_finite =
            |_| anyhow!("a value inside the network is not finite; the inputs are too large");
        let answer = predictor
            .action(&context)
            .map_err(not_finite)
            .with_context(place)?;
        let answer = numbers(&answer);
        let mut answer = match predictor.config().actions {
            Actions::Continuous => json!({ "action": answer }),
            Actions::Discrete => json!({ "logits": answer }),
        };
        if predictor.config().predictions.any() {
            let predicted = predictor
                .predicted(&context)
                .map_err(not_finite)
                .with_context(place)?;
            add_predicted(&mut answer, predictor.config(), &predicted);
        }
        if args.attention {
            let weights = predictor.attention(&context);
            let weights = weights.map_err(not_finite).with_context(place)?;
            answer["attention"] = attention(&weights);
        }
        writeln!(output, "{answer}")?;
        bar.inc(1);
    }
    Ok(())
}

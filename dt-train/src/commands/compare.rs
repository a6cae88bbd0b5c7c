//! `dt-train compare`: two policies in the same episodes.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use host_sim::evaluation::Evaluation;

/// Arguments of `dt-train compare`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Results of one policy, as `--json` of `eval` or `host-sim rollout` writes them
    #[arg(value_name = "A.json")]
    pub a: PathBuf,
    /// Results of the other, at the same target returns and seeds
    #[arg(value_name = "B.json")]
    pub b: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Unreadable results, or results of other episodes.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let pair = format!("{} and {}", args.a.display(), args.b.display());
    ensure!(
        a.len() == b.len(),
        "{pair} hold {} and {} target returns; evaluate both at the same",
        a.len(),
        b.len()
    );
    println!("   target  episodes        A        B    A - B  95 % interval");
    for (a, b) in a.iter().zip(&b) {
        ensure!(
            a.env == b.env && a.target_return == b.target_return,
            "{pair} are of different environments or target returns; evaluate both alike"
        );
        let seeds = |e: &Evaluation| e.episodes.iter().map(|e| e.seed).collect::<Vec<_>>();
        ensure!(
            seeds(a) == seeds(b),
            "{pair} are of different seeds; evaluate both with the same --seed and --episodes"
        );
        let paired: Vec<f64> = a
            .episodes
            .iter()
            .zip(&b.episodes)
            .map(|(a, b)| a.total_reward - b.total_reward)
            .collect();
        let difference = Difference::of(&paired);
        let Difference { mean, half_width } = difference;
        println!(
            "{:>9} {:>9} {:>8.2} {:>8.2} {:>8.3}  {:.3} … {:.3}",
            a.target_return as f32,
            paired.len(),
            a.mean_return,
            b.mean_return,
            mean,
            mean - half_width,
            mean + half_width
        );
    }
    Ok(())
}

/// Reads the results of one or several target returns.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Evaluation>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let several = if text.trim_start().starts_with('[') {
        serde_json::from_str(&text)
    } else {
        serde_json::from_str(&text).map(|one| vec![one])
    };
    several.with_context(|| {
        format!("{name}: not what `dt-train eval --json` or `host-sim rollout --json` writes")
    })
}

/// Mean of paired differences, with the half width of its 95 % interval: 1.96 standard errors, the
/// normal approximation for the many episodes that are usual here.
struct Difference {
    mean: f64,
    half_width: f64,
}

impl Difference {
    fn of(paired: &[f64]) -> Self {
        let n = paired.len() as f64;
        let mean = paired.iter().sum::<f64>() / n;
        let squares = paired.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>();
        Self {
            mean,
            half_width: 1.96 * (squares / (n - 1.0) / n).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_paired_differences() {
        let Difference { mean, half_width } = Difference::of(&[1.0, 2.0, 3.0, 6.0]);
        assert_eq!(mean, 3.0);
        // Sample variance 14/3 over 4.
        assert!((half_width - 1.96 * (14.0f64 / 12.0).sqrt()).abs() < 1e-12);
    }
}

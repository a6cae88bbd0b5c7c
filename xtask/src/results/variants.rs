//! Variants of Decision Transformers that are cheap on a controller, beside the plain one: what they return, and what a step costs.

use std::path::Path;

use anyhow::Result;

use super::Workbench;
use super::rivals::{Contender, DT, SEEDS, Set, sets, spent};
use super::table::{Description, Row};
use crate::firmware::bench;

/// Sets unless others are named: whose qualities are mixed, so that there is something to ask for.
const USUAL: [&str; 2] = ["pendulum-medium-replay", "hopper-medium-replay"];

const VARIANTS: [Contender; 4] = [
    DT,
    Contender {
        title: "GLU",
        updates: None,
        more: &["--set", "dt.glu=true"],
        ..DT
    },
    Contender {
        title: "Reinformer",
        updates: None,
        more: &[
            "--set",
            "dt.predict_return=1.0",
            "--set",
            "dt.return_expectile=0.99",
        ],
        ..DT
    },
    Contender {
        title: "ConvFormer",
        updates: None,
        more: &["--set", "dt.mixer=convolution"],
        ..DT
    },
];

/// `cargo xtask results variants`.
///
/// # Errors
/// If a step fails.
pub fn table(bench: &Workbench) -> Result<()> {
    let mut sets = sets(&bench.only)?;
    if bench.only.is_empty() {
        sets.retain(|set| USUAL.contains(&set.name.as_str()));
    }
    let mut rows = Vec::new();
    for set in &sets {
        let mut cells = Vec::new();
        for variant in &VARIANTS {
            variant.results(bench, set)?;
            cells.push(of_variant(bench, set, variant)?);
        }
        rows.push(Row {
            name: set.title,
            data: Some(set.returns.clone()),
            seeds: &SEEDS,
            files: VARIANTS.iter().map(|variant| variant.file(set)).collect(),
            before: None,
            more: cells,
        });
    }
    let titles = VARIANTS.each_ref().map(|variant| variant.title);
    let more = ["updates", "instructions", "RAM"];
    let description = Description::new(titles, rows).line_per_policy(more);
    bench.print("variants", &description)
}

/// Updates in the minute, and what a step of its int8 policy takes on the emulated Cortex-M4F: instructions, bytes of arena and stack.
/// They are the same whatever the weights.
fn of_variant(bench: &Workbench, set: &Set, variant: &Contender) -> Result<Vec<String>> {
    let run = variant.run(bench, set, SEEDS[0]);
    if !run.join("eval.json").exists() {
        return Ok(["–"; 3].map(String::from).into());
    }
    let (_, updates) = spent(&run, 0)?;
    let (instructions, ram) = measured(bench, &run)?;
    Ok(vec![updates.to_string(), instructions, ram])
}

fn measured(bench: &Workbench, run: &Path) -> Result<(String, String)> {
    let policy = run.join("int8.dtb");
    if bench.partial && !policy.exists() {
        return Ok(("–".into(), "–".into()));
    }
    let row = bench::of_policy(&bench.export(run, "int8")?)?;
    Ok((row.fused().to_string(), (row.arena + row.stack).to_string()))
}

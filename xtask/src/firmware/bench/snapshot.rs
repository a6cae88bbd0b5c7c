//! The figures that were written down, and how they are compared with.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::row::Row;
use crate::process::project;

/// What instructions may grow by before somebody has to look, in percent.
const MAX_GROWTH_PERCENT: u64 = 2;

/// A file of figures.
pub struct Snapshot {
    file: &'static str,
    /// What it is made with.
    command: &'static str,
}

/// Of the models in docs/results/controller.md.
pub const ALL: Snapshot = Snapshot {
    file: "firmware/bench.json",
    command: "cargo xtask firmware bench --update",
};

/// Of every activation and head.
pub const HEADS: Snapshot = Snapshot {
    file: "firmware/heads.json",
    command: "cargo xtask firmware bench --heads --update",
};

/// Of multilayer perceptrons.
pub const MLPS: Snapshot = Snapshot {
    file: "firmware/mlp.json",
    command: "cargo xtask firmware bench --mlp --update",
};

/// Of what sees images.
pub const IMAGES: Snapshot = Snapshot {
    file: "firmware/images.json",
    command: "cargo xtask firmware bench --images --update",
};

impl Snapshot {
    fn place(&self) -> PathBuf {
        project().join(self.file)
    }

    /// Writes the figures down.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, rows: &[Row]) -> Result<()> {
        let (text, place) = (serde_json::to_string_pretty(rows)? + "\n", self.place());
        fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))
    }

    /// Compares with what was written down.
    ///
    /// # Errors
    /// If a row is new, or its instructions have grown by more than 2 %.
    pub fn compare(&self, rows: &[Row]) -> Result<()> {
        let (place, command) = (self.place(), self.command);
        let text = fs::read_to_string(&place)
            .with_context(|| format!("cannot read {}; `{command}` writes it", place.display()))?;
        let known: Vec<Row> = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is malformed; `{command}` writes it anew",
                place.display()
            )
        })?;
        let grown = grown(&known, rows);
        if !grown.is_empty() {
            bail!(
                "{}; if that is meant, `{command}` writes it down",
                grown.join("; ")
            );
        }
        Ok(())
    }
}

/// What costs more than was written down, in words.
fn grown(known: &[Row], rows: &[Row]) -> Vec<String> {
    let mut grown = Vec::new();
    for row in rows {
        let (model, board) = (&row.model, row.board);
        let same = |other: &&Row| other.model == *model && other.board == board;
        let Some(known) = known.iter().find(same) else {
            grown.push(format!("{model} on {board:?} is new"));
            continue;
        };
        for (name, &now) in &row.instructions {
            match known.cost(name) {
                Some(then) if 100 * now <= (100 + MAX_GROWTH_PERCENT) * then => {}
                Some(then) => grown.push(format!(
                    "{model} on {board:?}, {name}: {now} instructions instead of {then}"
                )),
                None => grown.push(format!("{model} on {board:?}, {name} is new")),
            }
        }
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn growth_by_more_than_two_percent_is_named() {
        let known = [row("paper", 100_000)];
        assert!(grown(&known, &[row("paper", 102_000)]).is_empty());
        assert!(grown(&known, &[row("paper", 50_000)]).is_empty());
        assert_eq!(
            grown(&known, &[row("paper", 102_001)]),
            ["paper on M4f, fused: 102001 instructions instead of 100000"]
        );
        assert_eq!(grown(&known, &[row("other", 1)]), ["other on M4f is new"]);
    }
}

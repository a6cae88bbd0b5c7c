//! What was measured of one policy on one controller.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::models;
use crate::firmware::Board;

/// One model on one controller.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// Its name in the tables.
    pub model: String,
    /// The controller.
    pub board: Board,
    /// Mean instructions of a control step once the ring is full, and of what happens at boot, by name.
    pub instructions: BTreeMap<String, u64>,
    /// Fewest and most instructions of a step, over so many with input of every kind.
    pub any_input: Option<(u32, u64, u64)>,
    /// Mean instructions of a fused step by phase, in order.
    pub phases: Vec<(String, u64)>,
    /// Multiplications of a fused step with weights and with what is cached.
    pub macs: u64,
    /// Of a fused step, where it was estimated.
    pub estimate: Option<Estimate>,
    /// What `dt-core` promises that a fused step never exceeds.
    pub bound: Option<u64>,
    /// Bytes of flash by what they are.
    pub flash: Vec<(String, u64)>,
    /// Bytes of the policy's memory.
    pub arena: u64,
    /// Bytes of stack at the deepest: parsing, self-test and steps.
    pub stack: u64,
}

/// What a fused step consists of.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Estimate {
    /// 32-bit words loaded: counted.
    pub loaded: u64,
    /// Cycles: estimated.
    pub cycles: u64,
}

impl Row {
    /// Instructions by name.
    pub fn cost(&self, name: &str) -> Option<u64> {
        self.instructions.get(name).copied()
    }

    /// Of a fused step.
    pub fn fused(&self) -> u64 {
        self.cost("fused").unwrap_or_default()
    }

    /// All of the flash.
    pub fn flash_total(&self) -> u64 {
        self.flash.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// A line of the image.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Line {
    Phase {
        phase: String,
        mean: u64,
    },
    Measure {
        measure: String,
        steps: Option<u32>,
        min: Option<u64>,
        mean: u64,
        max: Option<u64>,
    },
}

impl Row {
    /// Takes over what a line of the image says.
    pub fn take(&mut self, line: Line) {
        match line {
            Line::Phase { phase, mean } => self.phases.push((phase.to_lowercase(), mean)),
            Line::Measure {
                measure,
                steps,
                min,
                mean,
                max,
            } => match measure.as_str() {
                "arena" => self.arena = mean,
                "stack" => self.stack = mean,
                "any_input" => {
                    self.any_input = steps.zip(min).zip(max).map(|((n, a), b)| (n, a, b))
                }
                _ => drop(self.instructions.insert(measure, mean)),
            },
        }
    }
}

/// How far the instructions of a step, whatever its input, may be from the mean of usual ones, in percent.
const MAX_SPREAD_PERCENT: u64 = 1;

/// How far above a step the bound that `dt-core` promises may lie, in percent.
const MAX_SLACK_PERCENT: u64 = 15;

/// Arena and stack of the published model together: 64 KiB, and half of one, since the compiler's choices depend on where it is
/// built.
const PAPER_RAM: u64 = 64 * 1024 + 512;

impl Row {
    /// What has to hold of every row by itself.
    ///
    /// # Errors
    /// Names what does not.
    pub fn check(&self) -> Result<()> {
        let Row { model, board, .. } = self;
        if let Some((steps, min, max)) = self.any_input {
            let mean = self.fused();
            let spread = max.saturating_sub(mean).max(mean.saturating_sub(min));
            ensure!(
                100 * spread < MAX_SPREAD_PERCENT * mean,
                "{model} on {board:?}: {steps} steps with input of any kind take {min} to {max} instructions, \
                 {MAX_SPREAD_PERCENT} % or more from the usual {mean}"
            );
        }
        self.check_bound()?;
        if *model == models::PAPER.name && *board == Board::M4f {
            let bytes = self.arena + self.stack;
            ensure!(
                bytes <= PAPER_RAM,
                "{model}: arena and stack take {bytes} bytes; their limit is {PAPER_RAM}"
            );
        }
        Ok(())
    }

    /// Of these, that no step exceeds what `dt-core` promises, and that the promise is worth something.
    ///
    /// # Errors
    /// If it does, or is not.
    pub fn check_bound(&self) -> Result<()> {
        let Row { model, board, .. } = self;
        if let Some(bound) = self.bound {
            let (_, _, most) = self.any_input.unwrap_or_default();
            let most = most.max(self.fused());
            ensure!(
                most <= bound && 100 * bound <= (100 + MAX_SLACK_PERCENT) * most,
                "{model} on {board:?}: a step takes up to {most} instructions; the bound in dt-core/src/cost.rs, {bound}, must be \
                 at least that, and at most {MAX_SLACK_PERCENT} % more"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A model on the M4F of which little is known.
    pub(crate) fn row(model: &str, fused: u64) -> Row {
        Row {
            model: model.into(),
            board: Board::M4f,
            instructions: [("fused".to_owned(), fused)].into(),
            any_input: None,
            phases: Vec::new(),
            macs: 1,
            estimate: None,
            bound: None,
            flash: Vec::new(),
            arena: 0,
            stack: 0,
        }
    }

    #[test]
    fn steps_that_vary_are_refused() {
        let mut row = row("some", 1000);
        row.any_input = Some((10, 991, 1009));
        row.check().unwrap();
        row.any_input = Some((10, 990, 1000));
        row.check().unwrap_err();
        row.any_input = Some((10, 1000, 1010));
        let error = row.check().unwrap_err().to_string();
        assert!(error.contains("take 1000 to 1010 instructions"), "{error}");
    }

    #[test]
    fn a_bound_that_is_none_or_worth_nothing_is_refused() {
        let mut row = row("some", 1000);
        for (bound, holds) in [(999, false), (1000, true), (1150, true), (1151, false)] {
            row.bound = Some(bound);
            assert_eq!(row.check().is_ok(), holds, "{bound}");
        }
        row.bound = Some(1004);
        row.any_input = Some((10, 1000, 1005));
        row.check().unwrap_err();
    }

    #[test]
    fn the_published_model_keeps_within_its_memory() {
        let mut row = row("paper", 1);
        (row.arena, row.stack) = (60_000, 6_048);
        row.check().unwrap();
        row.stack += 1;
        assert!(row.check().is_err());
    }
}

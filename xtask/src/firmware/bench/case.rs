//! Measuring one policy on one controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dt_core::config::{Attention, Config, Dtype, ImageEncoder};

use super::Images;
use super::models::{Aligned, Model};
use super::row::{Estimate, Row};
use super::trace;
use crate::firmware::{Board, Flash, emulator, image};

/// A policy file to measure.
pub struct Case {
    /// As in the tables.
    pub name: String,
    /// The file.
    pub policy: PathBuf,
    pub config: Config,
    /// What it has to fit.
    pub flash: Flash,
    /// Whether to drive it with input of every kind as well, which takes long.
    any_input: bool,
}

impl Case {
    /// One of the models, written into the build folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn of_model(model: &Model) -> Result<Self> {
        let folder = image::target_directory()?.join("bench");
        let folder = folder.join(model.name.replace([' ', ',', ';'], "-"));
        Ok(Self {
            name: model.name.to_owned(),
            policy: model.write(&folder)?,
            config: model.config,
            flash: model.flash,
            any_input: false,
        })
    }

    /// A policy file.
    ///
    /// # Errors
    /// If it is none.
    pub fn of_file(policy: &Path) -> Result<Self> {
        let policy = std::path::absolute(policy)?;
        let file = Aligned::read(&policy)?;
        let blob = file.parse().with_context(|| policy.display().to_string())?;
        let config = blob.manifest().config;
        Ok(Self {
            name: policy.display().to_string(),
            policy,
            config,
            flash: match config.image() {
                Some(_) => Flash::Double,
                None => Flash::Large,
            },
            any_input: false,
        })
    }

    /// The same, driven with input of every kind.
    pub fn with_any_input(self) -> Self {
        Self {
            any_input: true,
            ..self
        }
    }

    /// Measures it on one controller; `quick`: only instructions, and fewer steps.
    ///
    /// # Errors
    /// If the image or the emulator fails.
    pub fn measure(&self, images: &Images, quick: bool) -> Result<Row> {
        let Images {
            board, bench, code, ..
        } = images;
        let job = self.job(*board, quick);
        let ended = emulator::start(*board, bench, &self.arguments(images, job))?;
        ensure!(
            ended.status.success(),
            "{} on {board:?}: the image failed; the reason is in its log above",
            self.name
        );
        let mut row = Row {
            model: self.name.clone(),
            board: *board,
            instructions: BTreeMap::new(),
            any_input: None,
            phases: Vec::new(),
            macs: self.config.step_macs(),
            estimate: None,
            bound: self.bound(*board),
            flash: self.flash(*code)?,
            arena: 0,
            stack: 0,
        };
        for line in &ended.lines {
            row.take(serde_json::from_str(line).with_context(|| line.clone())?);
        }
        if let (false, Some(timing)) = (quick, board.timing()) {
            row.estimate = Some(self.estimate(images, timing, row.fused())?);
        }
        Ok(row)
    }

    /// What `dt-core` promises, where it means this engine and controller.
    fn bound(&self, board: Board) -> Option<u64> {
        self.config
            .step_instructions()
            .filter(|_| !self.is_window() && board.has_dsp() && board != Board::M55)
    }

    /// Whether a step computes a whole window anew.
    fn is_window(&self) -> bool {
        self.config.attention == Attention::Window && !self.config.is_mlp()
    }

    /// From the emulator's record of one step. That step saw a ring that was not full; its mix is that of all steps.
    fn estimate(
        &self,
        images: &Images,
        (core, per_m4): (trace::Core, f64),
        fused: u64,
    ) -> Result<Estimate> {
        let job = Job {
            trace: 1,
            ..Job::default()
        };
        let arguments = self.arguments(images, job);
        let mix = emulator::record(images.board, &images.bench, &arguments, |record| {
            trace::read(record, core)
        })?;
        let scale = fused as f64 / mix.instructions as f64;
        Ok(Estimate {
            loaded: (mix.loaded as f64 * scale) as u64,
            cycles: (mix.cycles as f64 * scale / per_m4) as u64,
        })
    }

    /// How much of it to measure, so that all takes a minute or two.
    fn job(&self, board: Board, quick: bool) -> Job {
        let window = self.is_window();
        let (steps, any_steps) = match (board, self.name.as_str()) {
            _ if window => (2, 0),
            (Board::M4f, "paper") if quick => (20, 0),
            (Board::M4f, "pendulum" | "paper") => (200, 10_000),
            (Board::M4f, _) if self.any_input => (50, 1000),
            (Board::M4f | Board::M7 | Board::M33 | Board::M55, _) => (50, 0),
            (Board::M3 | Board::M0plus | Board::Riscv, _) => (4, 0),
        };
        Job {
            steps,
            any_steps,
            // A perceptron runs nothing ahead.
            split: u32::from(!window && !self.config.is_mlp() && board.has_dsp()),
            trace: 0,
        }
    }

    /// Arguments with which the emulator puts job and policy into the board's spare memory.
    fn arguments(&self, images: &Images, job: Job) -> Vec<String> {
        let spare = images.board.code_address() + images.flash.spare_offset();
        let words = [job.steps, job.any_steps, job.split, job.trace];
        let words = (0..)
            .zip(words)
            .map(|(i, word)| format!("loader,addr={:#x},data={word},data-len=4", spare + 4 * i));
        let policy = self.policy.display().to_string().replace(',', ",,");
        let file = format!("loader,addr={:#x},file={policy},force-raw=on", spare + 16);
        words
            .chain([file])
            .flat_map(|device| ["-device".to_owned(), device])
            .collect()
    }

    /// Flash of an image with this policy in it: its code, and what the policy file consists of.
    fn flash(&self, code: u64) -> Result<Vec<(String, u64)>> {
        let file = Aligned::read(&self.policy)?;
        let blob = file.parse()?;
        let golden = (size_of_val(blob.golden()) + blob.golden_images().len()) as u64;
        let (table, floats) = (table_bytes(&self.config), float_bytes(&self.config));
        let parts = [
            ("code", code),
            ("weights", blob.file_len() as u64 - table - golden - floats),
            ("scales, biases, norms", floats),
            ("timestep table", table),
            ("golden vectors", golden),
        ];
        Ok(parts.map(|(name, bytes)| (name.to_owned(), bytes)).into())
    }
}

/// The first words of the boards' spare memory: `firmware::spare::Job`.
#[derive(Clone, Copy, Default)]
struct Job {
    steps: u32,
    any_steps: u32,
    split: u32,
    trace: u32,
}

/// Bytes of the timestep table and its scales.
fn table_bytes(config: &Config) -> u64 {
    let (rows, d) = (u64::from(config.max_ep_len), u64::from(config.d_model));
    match config.dtype {
        Dtype::F32 => 4 * rows * d,
        _ => rows * (d + 4),
    }
}

/// Bytes of all floats but weights, table and golden vectors.
fn float_bytes(config: &Config) -> u64 {
    let per_row = match config.dtype {
        Dtype::F32 => 1, // no scale
        _ => 2,
    };
    let [d, f, s, a, layers] = [
        config.d_model,
        config.d_ff,
        config.state_vector_len(),
        config.act_dim,
        config.n_layer,
    ]
    .map(u64::from);
    let glu = if config.glu { 2 * d } else { 0 };
    let rows = 3 * d + layers * (3 * d + d + f + d) + glu + a + u64::from(config.predictions_len());
    let filters = |image: &ImageEncoder| image.convolutions.iter().map(|of| of.filters).sum();
    let filters: u32 = config.image().map_or(0, filters);
    let rows = match config.is_mlp() {
        true => layers * f + a,
        false => u64::from(filters) + rows,
    };
    let norms = 2 * d * (2 + 2 * layers);
    4 * (per_row * rows + norms + 4 * s + 3 * a)
}

//! `cargo xtask firmware bench`: what a control step costs on the emulated controllers.
//!
//! Instructions are counted by the emulator and exact; they differ from cycles. Cycles are estimates ([`trace`]).

mod case;
pub(crate) mod models;
mod parts;
mod row;
mod snapshot;
mod table;
mod trace;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::{Board, Flash, Program, Selection, image, size};
use case::Case;
use models::Model;
use row::Row;

/// What to measure.
#[derive(Args)]
pub struct Arguments {
    /// Measure this policy, instead of the models in the tables of docs/results/controller.md
    #[arg(long, value_name = "F.dtb")]
    policy: Option<PathBuf>,
    /// Measure on this controller alone
    #[arg(long, value_enum)]
    board: Option<Board>,
    /// The program whose flash is measured
    #[arg(long, value_enum, default_value_t = Program::Replay)]
    bin: Program,
    /// Only what a test has the time for: instructions of two models on the Cortex-M4F
    #[arg(long, conflicts_with_all = ["policy", "board"])]
    quick: bool,
    /// What every activation and head costs, instead: the published model on the Cortex-M4F, in docs/results/heads.md
    #[arg(long, conflicts_with_all = ["policy", "board", "quick"])]
    heads: bool,
    /// What multilayer perceptrons cost beside the published model, instead: on the Cortex-M4F, in docs/results/mlp.md
    #[arg(long, conflicts_with_all = ["policy", "board", "quick", "heads"])]
    mlp: bool,
    /// What seeing images costs, instead: the paper's network for Atari and a small one on the Cortex-M7 and M4F, in docs/results/images.md
    #[arg(long, conflicts_with_all = ["policy", "board", "quick", "heads", "mlp"])]
    images: bool,
    /// Write the figures down: as those to compare with, and into docs/results/controller.md and README.md, or the document above
    #[arg(long, conflicts_with_all = ["policy", "board", "quick"])]
    update: bool,
}

/// Measures, prints the tables, and compares with what was written down or writes it down anew.
///
/// # Errors
/// If building or emulating fails, or something costs more than it may.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.heads {
        return family(&models::HEADS, &snapshot::HEADS, &table::HEADS, arguments);
    }
    if arguments.mlp {
        return family(&models::MLPS, &snapshot::MLPS, &table::MLPS, arguments);
    }
    if arguments.images {
        return family(
            &models::IMAGES,
            &snapshot::IMAGES,
            &table::IMAGES,
            arguments,
        );
    }
    let cases = cases(arguments)?;
    let mut rows = Vec::new();
    for (board, cases) in &cases {
        let images = Images::build(*board, arguments.bin, cases)?;
        for case in cases {
            eprintln!("bench: {} on {board:?}", case.name);
            rows.push(case.measure(&images, arguments.quick)?);
        }
        if arguments.policy.is_none() && *board == Board::M4f {
            // It has no row in the tables: the image has compared all there is to compare.
            let long = Case::of_model(&models::LONG)?;
            eprintln!("bench: {} on {board:?}", long.name);
            long.measure(&images, true)?;
        }
    }
    print!("{}", table::table(&rows).text());
    rows.iter().try_for_each(Row::check)?;
    if arguments.policy.is_some() {
        return Ok(());
    }
    if arguments.update {
        snapshot::ALL.write(&rows)?;
        table::write(&rows)
    } else {
        snapshot::ALL.compare(&rows)
    }
}

/// The same for models with a table of their own.
fn family(
    models: &[Model],
    snapshot: &snapshot::Snapshot,
    table: &table::Family,
    arguments: &Arguments,
) -> Result<()> {
    let cases: Vec<_> = models
        .iter()
        .map(|model| Case::of_model(model).map(Case::with_any_input))
        .collect::<Result<_>>()?;
    let mut rows = Vec::new();
    for &board in table.boards {
        let images = Images::build(board, Program::Replay, &cases)?;
        for case in &cases {
            eprintln!("bench: {} on {board:?}", case.name);
            rows.push(case.measure(&images, false)?);
        }
    }
    print!("{}", table.of(&rows).text());
    for (model, row) in models.iter().cycle().zip(&rows) {
        match model.is_steady() {
            true => row.check()?,
            false => row.check_bound()?,
        }
    }
    if arguments.update {
        snapshot.write(&rows)?;
        table.write(&rows)
    } else {
        snapshot.compare(&rows)
    }
}

/// A policy file on the Cortex-M4F.
///
/// # Errors
/// If it is none, or does not fit.
pub fn of_policy(policy: &Path) -> Result<Row> {
    let case = [Case::of_file(policy)?];
    let images = Images::build(Board::M4f, Program::Replay, &case)?;
    let [case] = &case;
    case.measure(&images, true)
}

/// What to measure on which controller.
fn cases(arguments: &Arguments) -> Result<Vec<(Board, Vec<Case>)>> {
    if let Some(policy) = &arguments.policy {
        let board = arguments.board.unwrap_or(Board::M4f);
        return Ok(vec![(board, vec![Case::of_file(policy)?])]);
    }
    let all: &[(Board, &[Model])] = &[
        (
            Board::M4f,
            &[
                models::PENDULUM,
                models::PAPER,
                models::PAPER_4_HEADS,
                models::PAPER_INT4,
                models::WIDE_INT4,
                models::ODD,
                models::PAPER_WINDOW,
            ],
        ),
        (Board::M7, &[models::PAPER]),
        (Board::M33, &[models::PAPER]),
        (Board::M55, &[models::PAPER, models::PAPER_INT4]),
        (Board::M3, &[models::PAPER]),
        (Board::Riscv, &[models::PAPER]),
        (
            Board::M0plus,
            &[models::PENDULUM, models::PAPER, models::PAPER_INT4],
        ),
    ];
    let quick: &[(Board, &[Model])] = &[(Board::M4f, &[models::PENDULUM, models::PAPER])];
    let chosen = if arguments.quick { quick } else { all };
    let wanted = |board: Board| arguments.board.is_none_or(|only| only == board);
    let chosen = chosen.iter().filter(|(board, _)| wanted(*board));
    chosen
        .map(|(board, models)| {
            let cases = models.iter().map(Case::of_model).collect::<Result<_>>()?;
            Ok((*board, cases))
        })
        .collect()
}

/// What the models of a controller share, since the code does not depend on the policy.
struct Images {
    board: Board,
    /// The image that measures.
    bench: PathBuf,
    /// Whose layout of memory it has.
    flash: Flash,
    /// Flash of a program without its policy, in bytes.
    code: u64,
}

impl Images {
    fn build(board: Board, bin: Program, cases: &[Case]) -> Result<Self> {
        let mut code = 0;
        let sees = cases.iter().any(|case| case.config.image().is_some());
        for (i, case) in cases.iter().enumerate() {
            // One is as good as another to measure the code; but what is for small controllers has to link.
            if i == 0 || case.flash != Flash::Large {
                let mut selection = Selection::new(board, bin, Some(case.policy.clone()));
                selection.flash = case.flash;
                selection.images = case.config.image().is_some();
                let sizes = size::measure(&image::build(&selection, None)?)?;
                code = sizes.flash_total() - sizes.flash_of(".policy");
            }
        }
        let mut selection = Selection::new(board, Program::Bench, None);
        if sees {
            (selection.flash, selection.images) = (Flash::Double, true);
        }
        Ok(Self {
            board,
            bench: image::build(&selection, None)?,
            flash: selection.flash,
            code,
        })
    }
}

impl Board {
    /// As in the tables.
    fn core_name(self) -> &'static str {
        match self {
            Self::M4f => "M4F",
            Self::M7 => "M7",
            Self::M3 => "M3",
            Self::M0plus => "M0+",
            Self::M33 => "M33",
            Self::M55 => "M55",
            Self::Riscv => "RV32IMAC",
        }
    }

    fn has_dsp(self) -> bool {
        matches!(self, Self::M4f | Self::M7 | Self::M33 | Self::M55)
    }

    /// Whose timing its cycles are estimated by, and what these are divided by; `None` where nobody publishes a timing that an
    /// estimate could rest on.
    fn timing(self) -> Option<(trace::Core, f64)> {
        match self {
            Self::M4f => Some((trace::Core::M4, 1.0)),
            Self::M7 => Some((trace::Core::M4, trace::M7_PER_M4)),
            Self::M3 => Some((trace::Core::M3, 1.0)),
            Self::M0plus => Some((trace::Core::M0plus, 1.0)),
            Self::M33 | Self::M55 | Self::Riscv => None,
        }
    }
}

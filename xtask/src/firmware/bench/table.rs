//! The figures as tables: text for the terminal, Markdown for docs/results/controller.md, and what fits on which controller for README.md.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::parts;
use super::row::Row;
use crate::demo::table::grouped;
use crate::firmware::Board;
use crate::process::project;

/// A table: the head of every column, then the rows with their titles.
pub struct Table {
    head: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

/// One column per row measured.
pub fn table(measured: &[Row]) -> Table {
    let mut table = Table {
        head: measured
            .iter()
            .map(|row| format!("{}, {}", row.model, row.board.core_name()))
            .collect(),
        rows: Vec::new(),
    };
    let mut line = |title: &str, value: &dyn Fn(&Row) -> Option<String>| {
        let cells: Vec<_> = measured.iter().map(value).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| "–".into()));
            table.rows.push((title.to_owned(), cells.collect()));
        }
    };
    for (title, name) in [
        ("fused step", "fused"),
        ("split: R̂ and s to action", "split_return_and_state"),
        ("split: all of that step", "split_return_and_state_total"),
        ("split: s to action", "split_state"),
        ("split: all of that step", "split_state_total"),
    ] {
        line(title, &|row| row.cost(name).map(grouped));
    }
    line("multiplications with weights, fused", &|row| {
        Some(grouped(row.macs))
    });
    line("instructions per multiplication", &|row| {
        Some(format!("{:.3}", row.fused() as f64 / row.macs as f64))
    });
    line("any input: fewest … most", &|row| {
        let (steps, min, max) = row.any_input?;
        Some(format!(
            "{} … {} ({} steps)",
            grouped(min),
            grouped(max),
            grouped(steps.into())
        ))
    });
    line("bound: `Config::step_instructions`", &|row| {
        row.bound.map(grouped)
    });
    let phases: Vec<_> = measured
        .first()
        .map_or(Vec::new(), |row| row.phases.clone());
    for (name, _) in &phases {
        line(&format!("… {name}"), &|row| {
            let (_, cost) = row.phases.iter().find(|(phase, _)| phase == name)?;
            Some(grouped(*cost))
        });
    }
    line("words loaded, fused", &|row| {
        Some(grouped(row.estimate?.loaded))
    });
    line("cycles, fused, estimated", &|row| {
        Some(grouped(row.estimate?.cycles))
    });
    line("boot: parse", &|row| row.cost("parse").map(grouped));
    line("boot: self-test", &|row| row.cost("self_test").map(grouped));
    line("flash, bytes", &|row| Some(grouped(row.flash_total())));
    let sections: Vec<_> = measured.first().map_or(Vec::new(), |row| row.flash.clone());
    for (name, _) in &sections {
        line(&format!("… {name}"), &|row| {
            let (_, bytes) = row.flash.iter().find(|(section, _)| section == name)?;
            Some(grouped(*bytes))
        });
    }
    line("arena, bytes", &|row| Some(grouped(row.arena)));
    line("stack at the deepest, bytes", &|row| {
        Some(grouped(row.stack))
    });
    line("arena and stack, bytes", &|row| {
        Some(grouped(row.arena + row.stack))
    });
    table
}

/// Models with a table of their own.
pub struct Family {
    /// Its document.
    document: &'static str,
    /// Where they are measured.
    pub boards: &'static [Board],
    /// What the table has of them.
    shows: Shows,
}

/// What a family's table has.
enum Shows {
    /// A row for each, compared with the first.
    Steps,
    /// The same, with their memory.
    StepsAndMemory,
    /// A column for each, with everything.
    Everything,
}

/// Every activation and head.
pub const HEADS: Family = Family {
    document: "docs/results/heads.md",
    boards: &[Board::M4f],
    shows: Shows::Steps,
};

/// Multilayer perceptrons.
pub const MLPS: Family = Family {
    document: "docs/results/mlp.md",
    boards: &[Board::M4f],
    shows: Shows::StepsAndMemory,
};

/// What sees images.
pub const IMAGES: Family = Family {
    document: "docs/results/images.md",
    boards: &[Board::M7, Board::M4f],
    shows: Shows::Everything,
};

impl Family {
    /// The table.
    pub fn of(&self, measured: &[Row]) -> Table {
        let memory = match self.shows {
            Shows::Steps => false,
            Shows::StepsAndMemory => true,
            Shows::Everything => return table(measured),
        };
        let first = measured.first().map_or(0, Row::fused) as f64;
        let cells = |row: &Row| {
            let (_, min, max) = row.any_input.unwrap_or_default();
            let fused = row.fused() as f64;
            let mut cells = vec![
                grouped(row.fused()),
                match memory {
                    true => format!("{:.1} %", 100.0 * fused / first),
                    false => format!("{:+.1} %", 100.0 * (fused / first - 1.0)),
                },
                format!("{} … {}", grouped(min), grouped(max)),
                row.bound.map_or("–".into(), grouped),
                row.estimate.map_or("–".into(), |of| grouped(of.cycles)),
            ];
            if memory {
                let code = row.flash.iter().find(|(name, _)| name == "code");
                let file = row.flash_total() - code.map_or(0, |(_, bytes)| *bytes);
                cells.extend([grouped(row.macs), grouped(file), grouped(row.arena)]);
            }
            cells
        };
        let memory: &[&str] = match memory {
            true => &["multiplications", "policy file, bytes", "arena, bytes"],
            false => &[],
        };
        Table {
            head: [
                "fused step",
                "against the first",
                "any input: fewest … most",
                "bound",
                "cycles, estimated",
            ]
            .iter()
            .chain(memory)
            .map(|&title| title.to_owned())
            .collect(),
            rows: measured
                .iter()
                .map(|row| (row.model.clone(), cells(row)))
                .collect(),
        }
    }

    /// Writes the table into its document.
    ///
    /// # Errors
    /// If the document has not the two comments that the table goes between.
    pub fn write(&self, rows: &[Row]) -> Result<()> {
        replace(
            &project().join(self.document),
            "firmware bench",
            &self.of(rows).markdown("instructions"),
        )
    }
}

impl Table {
    /// For a terminal.
    pub fn text(&self) -> String {
        let titles = self.rows.iter().map(|(title, _)| title.chars().count());
        let title_width = titles.fold(0, usize::max);
        let widths: Vec<_> = (0..self.head.len())
            .map(|i| {
                let cells = self.rows.iter().map(|(_, cells)| cells[i].chars().count());
                cells.fold(self.head[i].chars().count(), usize::max)
            })
            .collect();
        let line = |title: &str, cells: &[String]| {
            let cells = cells
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("  {cell:>width$}"));
            format!("{title:title_width$}{}\n", cells.collect::<String>())
        };
        let mut text = line("", &self.head);
        for (title, cells) in &self.rows {
            text += &line(title, cells);
        }
        text
    }

    /// For a document.
    pub fn markdown(&self, corner: &str) -> String {
        let line = |title: &str, cells: &[String]| format!("| {title} | {} |\n", cells.join(" | "));
        let mut text = line(corner, &self.head);
        text += &line("---", &vec!["---:".to_owned(); self.head.len()]);
        for (title, cells) in &self.rows {
            text += &line(title, cells);
        }
        text
    }
}

/// Writes the tables into the documents.
///
/// # Errors
/// If a document has not the two comments that its table goes between.
pub fn write(rows: &[Row]) -> Result<()> {
    let (with_dsp, without): (Vec<_>, Vec<_>) =
        rows.iter().cloned().partition(|row| row.board.has_dsp());
    let results = table(&with_dsp).markdown("instructions")
        + "\n"
        + &table(&without).markdown("instructions");
    replace(
        &project().join("docs/results/controller.md"),
        "firmware bench",
        &results,
    )?;
    replace(
        &project().join("README.md"),
        "firmware bench",
        &parts::table(rows),
    )
}

fn replace(document: &Path, name: &str, content: &str) -> Result<()> {
    let text = fs::read_to_string(document)
        .with_context(|| format!("cannot read {}", document.display()))?;
    let text = replaced(&text, name, content).with_context(|| {
        format!(
            "{}: the comments `<!-- {name} -->` and `<!-- end -->` around the table are missing",
            document.display()
        )
    })?;
    fs::write(document, text).with_context(|| format!("cannot write {}", document.display()))
}

/// `text` with `content` between `<!-- name -->` and the next `<!-- end -->`.
fn replaced(text: &str, name: &str, content: &str) -> Option<String> {
    let begin = format!("<!-- {name} -->\n");
    let start = text.find(&begin)? + begin.len();
    let end = start + text[start..].find("<!-- end -->")?;
    Some(format!("{}{content}{}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn columns_line_up() {
        let text = table(&[row("a", 1_000_000), row("longer than its cells are", 2)]).text();
        let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{text}");
        assert!(text.contains("fused step"), "{text}");
    }

    #[test]
    fn a_table_replaces_the_one_before() {
        let document = "a\n<!-- t -->\nold\n<!-- end -->\nb\n";
        let new = replaced(document, "t", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- t -->\nnew\n<!-- end -->\nb\n");
        assert_eq!(replaced(document, "other", "new\n"), None);
    }
}

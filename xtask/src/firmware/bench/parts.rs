//! What fits on which controller: estimates for common parts from what was measured on the emulated ones.
//!
//! # The estimate
//! Time of a fused step = (cycles of the core + bytes of weights · cycles per byte of flash) / clock. The first are
//! [`super::trace`]'s. Weights are read once per step from first to last, so that caches do not help: `stall` is what one byte
//! costs beyond a memory that answers at once, wait states divided by the bytes of a flash line, as the parts' reference manuals
//! give them; for the RP2040 and RP2350, whose flash is a serial chip, about 58 system clocks for a cache line of eight bytes (28
//! or so of the serial clock, at half the system clock).

use serde::Deserialize;

use super::models;
use super::row::Row;
use crate::demo::table::grouped;
use crate::firmware::Board;

/// A controller that can be bought.
#[derive(Deserialize)]
struct Part {
    name: String,
    /// As in the data sheet.
    core: String,
    /// The emulated one whose figures are used.
    like: Board,
    mhz: f64,
    flash_kib: u64,
    ram_kib: u64,
    /// Cycles that so many bytes of weights cost the core.
    stall: (f64, f64),
}

/// `dt-train report` estimates for the same parts.
fn parts() -> Vec<Part> {
    serde_json::from_str(include_str!("../../../../firmware/parts.json")).expect("tested")
}

/// RAM for static variables other than the arena, and flash for what a product adds: drivers and its own control.
const OTHER_RAM: u64 = 8 * 1024;
const OTHER_FLASH: u64 = 16 * 1024;

/// Control periods of the environments that a model is for, in milliseconds, shortest first.
fn periods(model: &str) -> &'static [(f64, &'static str)] {
    if model == models::PENDULUM.name {
        &[(50.0, "Pendulum")]
    } else {
        &[(8.0, "Hopper and Walker2d"), (50.0, "HalfCheetah")]
    }
}

/// One line per part, one column per model.
pub fn table(rows: &[Row]) -> String {
    let models: Vec<_> = [models::PENDULUM, models::PAPER, models::PAPER_INT4]
        .iter()
        .map(|model| model.name)
        .collect();
    let mut text = format!(
        "| part | core, clock | flash, RAM (KiB) | {} |\n",
        models.join(" | ")
    );
    text += &format!("|---|---|---|{}\n", "---|".repeat(models.len()));
    for part in parts() {
        let cells: Vec<_> = models.iter().map(|model| part.cell(rows, model)).collect();
        text += &format!(
            "| {} | {}, {} MHz | {}, {} | {} |\n",
            part.name,
            part.core,
            part.mhz,
            grouped(part.flash_kib),
            part.ram_kib,
            cells.join(" | ")
        );
    }
    text
}

impl Part {
    fn cell(&self, rows: &[Row], model: &str) -> String {
        let find = |board| {
            rows.iter()
                .find(|row| row.model == model && row.board == board)
        };
        // The M4F's figures stand in for models that were not measured on the M7.
        let Some(row) =
            find(self.like).or_else(|| find(Board::M4f).filter(|_| self.like == Board::M7))
        else {
            return "not measured".into();
        };
        if row.flash_total() + OTHER_FLASH > 1024 * self.flash_kib {
            return "– flash".into();
        }
        if row.arena + row.stack + OTHER_RAM > 1024 * self.ram_kib {
            return "– RAM".into();
        }
        let Some(ms) = self.milliseconds(row) else {
            return format!("{} instructions", grouped(row.fused()));
        };
        let missed: Vec<_> = periods(model)
            .iter()
            .filter(|(period, _)| ms > *period)
            .map(|(_, environment)| *environment)
            .collect();
        let rate = format!("{ms:.1} ms, {:.0} Hz", 1000.0 / ms);
        match missed.as_slice() {
            [] => rate,
            missed => format!("{rate}; too slow for {}", missed.join(" and ")),
        }
    }

    /// `None` where no cycles are known.
    fn milliseconds(&self, row: &Row) -> Option<f64> {
        let weights = row.flash.iter().find(|(name, _)| name == "weights");
        let weights = weights.map_or(0, |(_, bytes)| *bytes);
        let mut cycles = row.estimate?.cycles as f64;
        if self.like != row.board {
            cycles /= self.like.timing()?.1;
        }
        Some((cycles + weights as f64 * self.stall.0 / self.stall.1) / (1000.0 * self.mhz))
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Estimate;
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn a_cell_says_what_is_missing() {
        let mut row = row("paper", 0);
        let cycles = |cycles| Some(Estimate { loaded: 0, cycles });
        row.estimate = cycles(1_680_000);
        let f405 = &parts()[2];
        let cell = |row: &Row| f405.cell(std::slice::from_ref(row), "paper");
        assert_eq!(
            cell(&row),
            "10.0 ms, 100 Hz; too slow for Hopper and Walker2d"
        );
        row.estimate = cycles(840_000);
        assert_eq!(cell(&row), "5.0 ms, 200 Hz");
        row.flash = vec![("weights".into(), 8 * 168_000)];
        assert_eq!(cell(&row), "– flash");
        row.flash.clear();
        row.arena = 125 * 1024;
        assert_eq!(cell(&row), "– RAM");
        assert_eq!(f405.cell(&[], "paper"), "not measured");
    }

    /// Weights that do not come from memory that answers at once take their time.
    #[test]
    fn serial_flash_takes_its_time() {
        let mut row = row("paper", 0);
        row.flash = vec![("weights".into(), 600_000)];
        let rp2040 = &parts()[6];
        assert_eq!(rp2040.milliseconds(&row), None);
        let cycles = 0;
        row.estimate = Some(Estimate { loaded: 0, cycles });
        let ms = 600_000.0 * 58.0 / 8.0 / 133_000.0;
        assert_eq!(rp2040.milliseconds(&row), Some(ms));
    }
}

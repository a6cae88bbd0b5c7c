//! The table that the demo ends with.

use std::fmt;

use crate::firmware::Episodes;

/// Controllers of the same robot in the same episodes.
pub struct Table {
    /// The episodes.
    pub episodes: Episodes,
    /// One row each.
    pub rows: Vec<Controller>,
}

/// A row; what a controller does not have is left out.
#[derive(Default)]
pub struct Controller {
    /// What acts, and where.
    pub name: &'static str,
    /// Over the episodes.
    pub mean_return: f64,
    /// Of the policy file.
    pub policy_bytes: Option<u64>,
    /// Bytes of flash of the whole image, the policy included.
    pub flash: Option<u64>,
    /// Bytes of static memory and of the stack at its deepest.
    pub ram: Option<u64>,
    /// Per control step, mean.
    pub instructions: Option<u64>,
    /// Control steps compared with the host, and how many action bits differed.
    pub compared: Option<(u64, u64)>,
}

const HEADS: [&str; 6] = [
    "",
    "mean return",
    "policy, bytes",
    "flash, bytes",
    "RAM, bytes",
    "instructions/step",
];

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Episodes {
            episodes,
            seed,
            target_return,
        } = self.episodes;
        write!(
            f,
            "Pendulum, {episodes} episodes (seeds {seed} to {})",
            seed + u64::from(episodes) - 1
        )?;
        match target_return {
            Some(target) => writeln!(f, ", target return {target}\n")?,
            None => writeln!(f, "\n")?,
        }
        let mut lines = vec![HEADS.map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let widths: [usize; 6] = std::array::from_fn(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .fold(0, usize::max)
        });
        for line in &lines {
            let cells = line.iter().zip(widths).enumerate();
            let text: Vec<String> = cells
                .map(|(column, (cell, width))| {
                    if column == 0 {
                        format!("{cell:width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect();
            writeln!(f, "{}", text.join("  ").trim_end())?;
        }
        for row in &self.rows {
            if let Some((steps, bits)) = row.compared {
                let steps = grouped(steps);
                writeln!(
                    f,
                    "\n{}: {bits} action bits differ from the host's in {steps} control steps",
                    row.name
                )?;
            }
        }
        Ok(())
    }
}

fn cells(row: &Controller) -> [String; 6] {
    let number = |value: Option<u64>| value.map_or_else(|| "–".into(), grouped);
    [
        row.name.to_owned(),
        format!("{:.2}", row.mean_return),
        number(row.policy_bytes),
        number(row.flash),
        number(row.ram),
        number(row.instructions),
    ]
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(
            [0, 999, 1000, 12_345, 1_234_567].map(grouped),
            ["0", "999", "1,000", "12,345", "1,234,567"]
        );
    }

    #[test]
    fn columns_line_up() {
        let table = Table {
            episodes: Episodes {
                episodes: 20,
                seed: 5,
                target_return: Some(-150.0),
            },
            rows: vec![
                Controller {
                    name: "SAC agent, host",
                    mean_return: -140.256,
                    ..Controller::default()
                },
                Controller {
                    name: "DT int8, Cortex-M4F",
                    mean_return: -9.0,
                    policy_bytes: Some(70_000),
                    flash: Some(123_456),
                    ram: Some(9_999),
                    instructions: Some(1_234_567),
                    compared: Some((8000, 0)),
                },
            ],
        };
        let expected = "\
Pendulum, 20 episodes (seeds 5 to 24), target return -150

                     mean return  policy, bytes  flash, bytes  RAM, bytes  instructions/step
SAC agent, host          -140.26              –             –           –                  –
DT int8, Cortex-M4F        -9.00         70,000       123,456       9,999          1,234,567

DT int8, Cortex-M4F: 0 action bits differ from the host's in 8,000 control steps
";
        assert_eq!(table.to_string(), expected);
    }
}

//! What kinds of instructions a control step consists of, from the emulator's record of executed code, and an estimate of
//! the cycles that real cores take for them.
//!
//! The emulator writes down every translated block, disassembled, and then every execution of one. Between the two marks
//! that the image sets lies one control step.
//!
//! # The estimate
//! Cycles per instruction as in Arm's technical reference manuals: Cortex-M4 (DDI 0439, 3.3.1 and 7.2.3), Cortex-M3 (DDI 0337,
//! 3.3.1), Cortex-M0+ (DDI 0484, 3.3). Memory answers at once, and whatever lies between one cycle and several is put in
//! the middle: a taken branch takes 3 cycles on M3 and M4 (2 to 4), a division 7 (2 to 12), a long multiplication on the M3 4 (3 to 5). A load right after another load
//! takes 1 cycle instead of 2 on M3 and M4, and single stores 1.
//!
//! For the M7 Arm gives no such table. It issues two instructions at a time where it can; its estimate is the M4's divided by
//! [`M7_PER_M4`], which is what Arm publishes for CoreMark: 5.01 per MHz against 3.40.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, ensure};

/// See above.
pub const M7_PER_M4: f64 = 5.01 / 3.40;

/// Whose timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    M4,
    M3,
    /// With the single-cycle multiplier.
    M0plus,
}

/// What was executed between the marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// Instructions.
    pub instructions: u64,
    /// 32-bit words loaded; narrower values count as one.
    pub loaded: u64,
    /// The same, stored.
    pub stored: u64,
    /// Estimate.
    pub cycles: u64,
}

impl Mix {
    fn add(&mut self, other: &Self) {
        self.instructions += other.instructions;
        self.loaded += other.loaded;
        self.stored += other.stored;
        self.cycles += other.cycles;
    }
}

/// Where the image says that the step begins and ends.
const MARK: &str = "dt_bench_mark";

/// Reads the emulator's record (`-d in_asm,exec,nochain`) to its end.
///
/// # Errors
/// If it cannot be read, or has not the two marks.
pub fn read(record: impl Read, core: Core) -> Result<Mix> {
    let mut blocks = HashMap::<u64, Block>::new();
    let mut translated: Option<Block> = None;
    let mut counting = false;
    let mut marks = 0;
    let mut total = Mix::default();
    // Where the last block would go on if its last instruction does not branch.
    let mut left: Option<u64> = None;
    for line in BufReader::new(record).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some((address, text)) = instruction(&line) {
            let block = translated.get_or_insert_with(|| Block::new(address));
            block.push(address, text, core);
        } else if let Some(executed) = Executed::parse(&line) {
            if let Some(block) = translated.take() {
                blocks.insert(executed.host, block);
            }
            let block = blocks
                .get(&executed.host)
                .context("the emulator executed code that it had not disassembled")?;
            ensure!(block.start == executed.address, "malformed record: {line}");
            if executed.symbol == MARK {
                marks += 1;
                counting = marks == 1;
                left = None;
                continue;
            }
            if counting {
                if left.is_some_and(|next| next != executed.address) {
                    total.cycles += core.taken();
                }
                total.add(&block.mix);
                left = Some(block.end);
            }
        }
    }
    ensure!(marks == 2, "the image set {marks} marks, not 2");
    Ok(total)
}

/// A line such as `Trace 0: 0x7fb1dc000240 [00800408/000028f6/00000110/ff000200] main`.
struct Executed<'l> {
    host: u64,
    address: u64,
    symbol: &'l str,
}

impl<'l> Executed<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let (host, rest) = line
            .strip_prefix("Trace ")?
            .split_once(": 0x")?
            .1
            .split_once(" [")?;
        let (place, symbol) = rest.split_once(']')?;
        Some(Self {
            host: u64::from_str_radix(host, 16).ok()?,
            address: u64::from_str_radix(place.split('/').nth(1)?, 16).ok()?,
            symbol: symbol.trim(),
        })
    }
}

/// Address and text of a line such as `0x000028f6:  b580       push     {r7, lr}`.
fn instruction(line: &str) -> Option<(u64, &str)> {
    let (address, rest) = line.strip_prefix("0x")?.split_once(':')?;
    Some((u64::from_str_radix(address, 16).ok()?, rest.trim()))
}

/// A run of instructions without a branch but at its end.
#[derive(Debug)]
struct Block {
    start: u64,
    end: u64,
    mix: Mix,
    /// Whether the last instruction was a load or store that the next may overlap.
    pipelined: bool,
}

impl Block {
    fn new(start: u64) -> Self {
        Self {
            start,
            end: start,
            mix: Mix::default(),
            pipelined: false,
        }
    }

    /// `text` is the code in hexadecimal halfwords, then mnemonic and operands.
    fn push(&mut self, address: u64, text: &str, core: Core) {
        let mut rest = text;
        let mut halfwords = 0;
        while let Some((word, after)) = rest.split_once(' ') {
            if word.len() != 4 || !word.bytes().all(|b| b.is_ascii_hexdigit()) || halfwords == 2 {
                break;
            }
            halfwords += 1;
            rest = after.trim_start();
        }
        self.end = address + 2 * halfwords;
        let (mnemonic, operands) = rest.split_once(' ').unwrap_or((rest, ""));
        let kind = Kind::of(mnemonic, operands.trim());
        let (cycles, pipelined) = core.cycles(&kind, self.pipelined);
        self.pipelined = pipelined;
        self.mix.instructions += 1;
        self.mix.cycles += cycles;
        match kind {
            Kind::Load { words, .. } => self.mix.loaded += words,
            Kind::Store { words, .. } => self.mix.stored += words,
            _ => {}
        }
    }
}

/// What an instruction does, as far as time is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `several`: one of the instructions for more than one register.
    Load {
        words: u64,
        several: bool,
    },
    Store {
        words: u64,
        several: bool,
    },
    Divide,
    MultiplyAdd,
    LongMultiply,
    FloatDivideOrRoot,
    FloatMultiplyAdd,
    /// Its cost lies in being taken.
    Other,
}

impl Kind {
    fn of(mnemonic: &str, operands: &str) -> Self {
        let name = mnemonic.strip_suffix(".w").unwrap_or(mnemonic);
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let registers = listed(operands);
        if starts(&["push", "stm", "vpush", "vstm"]) {
            let (words, several) = (registers, true);
            Self::Store { words, several }
        } else if starts(&["pop", "ldm", "vpop", "vldm"]) {
            let (words, several) = (registers, true);
            Self::Load { words, several }
        } else if starts(&["ldrd"]) {
            let (words, several) = (2, true);
            Self::Load { words, several }
        } else if starts(&["strd"]) {
            let (words, several) = (2, true);
            Self::Store { words, several }
        } else if starts(&["ldr", "tbb", "tbh"]) {
            let (words, several) = (1, false);
            Self::Load { words, several }
        } else if starts(&["str"]) {
            let (words, several) = (1, false);
            Self::Store { words, several }
        } else if starts(&["vldr"]) {
            let (words, several) = (float_words(operands), true);
            Self::Load { words, several }
        } else if starts(&["vstr"]) {
            let (words, several) = (float_words(operands), true);
            Self::Store { words, several }
        } else if starts(&["udiv", "sdiv"]) {
            Self::Divide
        } else if starts(&["umull", "smull", "umlal", "smlal"]) {
            Self::LongMultiply
        } else if ["mla", "mls"].contains(&name) {
            Self::MultiplyAdd
        } else if starts(&["vdiv", "vsqrt"]) {
            Self::FloatDivideOrRoot
        } else if starts(&["vmla", "vmls", "vfma", "vfms", "vnmla", "vnmls"]) {
            Self::FloatMultiplyAdd
        } else {
            Self::Other
        }
    }
}

/// Words in a list of registers such as `{r4, r5, lr}` or `{d8, d9}`.
fn listed(operands: &str) -> u64 {
    let Some((_, list)) = operands.split_once('{') else {
        return 0;
    };
    let list = list.trim_end_matches('}');
    list.split(',')
        .map(|register| float_words(register.trim()))
        .sum()
}

/// Words in a register, of which the double-precision ones have two.
fn float_words(register: &str) -> u64 {
    if register.starts_with('d') { 2 } else { 1 }
}

impl Core {
    /// What a taken branch costs beyond its own cycle.
    fn taken(self) -> u64 {
        match self {
            Self::M4 | Self::M3 => 2,
            Self::M0plus => 1,
        }
    }

    /// Cycles, and whether the next load or store may overlap with this one.
    fn cycles(self, kind: &Kind, pipelined: bool) -> (u64, bool) {
        match (self, kind) {
            (
                Self::M0plus,
                Kind::Load { several: false, .. } | Kind::Store { several: false, .. },
            ) => (2, false),
            (_, Kind::Load { several: false, .. }) => (if pipelined { 1 } else { 2 }, true),
            (_, Kind::Store { several: false, .. }) => (1, true),
            (_, Kind::Load { words, .. } | Kind::Store { words, .. }) => (1 + words, false),
            (_, Kind::Divide) => (7, false),
            (Self::M3, Kind::MultiplyAdd) => (2, false),
            (Self::M3, Kind::LongMultiply) => (4, false),
            (_, Kind::FloatDivideOrRoot) => (14, false),
            (_, Kind::FloatMultiplyAdd) => (3, false),
            _ => (1, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "\
----------------
IN: main
0x00000100:  f000 f802  bl       #0x200

Trace 0: 0x7f00 [00800408/00000100/00000110/ff000200] main
----------------
IN: dt_bench_mark
0x00000200:  4770       bx       lr

Trace 0: 0x7f40 [00800408/00000200/00000110/ff000200] dt_bench_mark
----------------
IN: main
0x00000104:  e8f0 8902  ldrd     r8, r9, [r0], #8
0x00000108:  6801       ldr      r1, [r0]
0x0000010a:  6842       ldr      r2, [r0, #4]
0x0000010c:  fb21 8809  smlad    r8, r1, r9, r8
0x00000110:  e92d 4ff0  push.w   {r4, r5, r6, r7, r8, sb, sl, fp, lr}
0x00000114:  ed2d 8b04  vpush    {d8, d9}
0x00000118:  d1f4       bne      #0x104

Trace 0: 0x7f80 [00800408/00000104/00000110/ff000200] main
Trace 0: 0x7f80 [00800408/00000104/00000110/ff000200] main
----------------
IN: main
0x0000011a:  f000 f871  bl       #0x200

Trace 0: 0x7fc0 [00800408/0000011a/00000110/ff000200] main
Trace 0: 0x7f40 [00800408/00000200/00000110/ff000200] dt_bench_mark
Trace 0: 0x7f80 [00800408/00000104/00000110/ff000200] main
";

    #[test]
    fn what_lies_between_the_marks_is_counted() {
        // Twice the block of seven, of which the first branches back; then the call of the mark.
        let mix = read(RECORD.as_bytes(), Core::M4).unwrap();
        assert_eq!(mix.instructions, 2 * 7 + 1);
        assert_eq!((mix.loaded, mix.stored), (2 * 4, 2 * (9 + 4)));
        let block = 3 + 2 + 1 + 1 + 10 + 5 + 1;
        assert_eq!(mix.cycles, 2 * block + 2 + 1);
        let mix = read(RECORD.as_bytes(), Core::M0plus).unwrap();
        assert_eq!(mix.cycles, 2 * (3 + 2 + 2 + 1 + 10 + 5 + 1) + 1 + 1);
    }

    #[test]
    fn a_record_without_its_marks_is_refused() {
        let cut = RECORD.rsplit_once("Trace 0: 0x7f40").unwrap().0;
        let error = read(cut.as_bytes(), Core::M4).unwrap_err().to_string();
        assert_eq!(error, "the image set 1 marks, not 2");
    }
}

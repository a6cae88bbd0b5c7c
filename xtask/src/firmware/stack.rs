//! A bound on the stack that `dt-core` needs, from the machine code of the image `no_panic`.
//!
//! That image uses every entry point of the control path and nothing else: no logging, no formatting, no panic. So its call
//! graph has neither cycles nor calls through pointers, and the deepest path through it is a bound that no input can exceed.
//! Where the code has something that this reader does not understand, it says so instead of guessing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use super::Selection;

/// What `dt-core` may use.
const LIMIT: u64 = 4 * 1024 + 512;
/// What feature `images` may add. Most of it is in the program's own function, into which `Blob::parse` and `Policy::new` are inlined:
/// 2032 bytes instead of 1176.
const IMAGES_LIMIT: u64 = 1024;

/// The function in which the image puts everything.
const ROOT: &str = "::control";

/// The deepest path.
#[derive(Debug)]
pub struct Bound {
    /// Functions with the bytes they take, innermost first.
    path: Vec<(String, u64)>,
}

impl Bound {
    fn bytes(&self) -> u64 {
        self.path.iter().map(|(_, frame)| frame).sum()
    }

    /// Whether it keeps within its limit, which is another with images.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, selection: &Selection) -> Result<()> {
        let bytes = self.bytes();
        let limit = LIMIT + if selection.images { IMAGES_LIMIT } else { 0 };
        ensure!(
            bytes <= limit,
            "dt-core needs up to {bytes} bytes of stack; its limit is {limit}"
        );
        Ok(())
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:24} {:>8} bytes",
            "stack of dt-core, at most",
            self.bytes()
        )?;
        for (name, frame) in self.path.iter().rev() {
            writeln!(f, "  {frame:>8}  {name}")?;
        }
        Ok(())
    }
}

/// Bounds the stack of the image `no_panic`.
///
/// # Errors
/// If the image cannot be read or its code is not understood.
pub fn bound(image: &Path) -> Result<Bound> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let functions = functions(&bytes).with_context(|| format!("{}", image.display()))?;
    let root = functions.values().find(|f| f.name.ends_with(ROOT));
    let root = root.with_context(|| format!("there is no function `{ROOT}`"))?;
    let (_, path) = deepest(&functions, root.start, &mut BTreeSet::new())?;
    Ok(Bound { path })
}

/// What the names of `dt-core`'s assembly routines begin with.
const ASSEMBLY: &str = "dt_core_";

/// A function of the image.
#[derive(Debug)]
struct Function {
    name: String,
    start: u64,
    /// Bytes it takes of the stack.
    frame: u64,
    /// Where it calls or jumps to.
    calls: BTreeSet<u64>,
}

/// The most that `start` and all it calls take, and the path, innermost first.
fn deepest(
    functions: &BTreeMap<u64, Function>,
    start: u64,
    above: &mut BTreeSet<u64>,
) -> Result<(u64, Vec<(String, u64)>)> {
    let function = functions
        .get(&start)
        .with_context(|| format!("something calls {start:#x}, where no function begins"))?;
    ensure!(above.insert(start), "{} calls itself", function.name);
    let mut most = (0, Vec::new());
    for &callee in &function.calls {
        let below = deepest(functions, callee, above)?;
        if below.0 > most.0 || most.1.is_empty() {
            most = below;
        }
    }
    above.remove(&start);
    most.0 += function.frame;
    most.1.push((function.name.clone(), function.frame));
    Ok(most)
}

/// Every function, by its address.
fn functions(elf: &[u8]) -> Result<BTreeMap<u64, Function>> {
    const THUMB: u64 = 1;
    let file = object::File::parse(elf)?;
    let text = file
        .sections()
        .find(|section| section.kind() == SectionKind::Text && section.name() == Ok(".text"))
        .context("there is no section .text")?;
    let (base, code) = (text.address(), text.data()?);
    // Mapping symbols tell code from the constants between it (ELF for the Arm architecture, 5.5.5).
    let mut data = BTreeMap::new();
    for symbol in file.symbols() {
        match symbol.name()?.get(..2) {
            Some("$d") => drop(data.insert(symbol.address(), true)),
            Some("$t") => drop(data.insert(symbol.address(), false)),
            _ => {}
        }
    }
    let mut functions = BTreeMap::new();
    for symbol in file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text)
    {
        let start = symbol.address() & !THUMB;
        let end = start + symbol.size();
        if start < base || end > base + code.len() as u64 || symbol.size() == 0 {
            continue;
        }
        let mut function = Function {
            name: format!("{}", addr2line::demangle_auto(symbol.name()?.into(), None)),
            start,
            frame: 0,
            calls: BTreeSet::new(),
        };
        let halfword = |address: u64| {
            let at = (address - base) as usize;
            u16::from_le_bytes([code[at], code[at + 1]])
        };
        let mut at = start;
        while at < end {
            let is_data = data.range(..=at).next_back().is_some_and(|(_, &is)| is);
            if is_data {
                at += 2;
                continue;
            }
            let first = halfword(at);
            let wide = first >> 11 >= 0b11101;
            let second = if wide { halfword(at + 2) } else { 0 };
            match Effect::of(at, first, second) {
                Effect::None => {}
                // The assembly routines enter their own unrolled loops.
                Effect::Computed if function.name.starts_with(ASSEMBLY) => {}
                Effect::Computed => bail!(
                    "{} at {at:#x}: a frame, call or jump that is computed",
                    function.name
                ),
                Effect::Stack(bytes) => function.frame += bytes,
                Effect::Call(target) => drop(function.calls.insert(target)),
                Effect::Jump(target) if (start..end).contains(&target) => {}
                Effect::Jump(target) => drop(function.calls.insert(target)),
            }
            at += if wide { 4 } else { 2 };
        }
        functions.insert(start, function);
    }
    Ok(functions)
}

/// What an instruction does to the stack and to the path of execution.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    None,
    /// Takes bytes of the stack. Every such instruction of a function counts, whether or not all are on one path.
    Stack(u64),
    Call(u64),
    Jump(u64),
    /// Something that is not known before the program runs.
    Computed,
}

impl Effect {
    /// Decodes what matters of Thumb-2 (Armv7-M ARM, A5 and A7). `second` is 0 for an instruction of one halfword.
    fn of(address: u64, first: u16, second: u16) -> Self {
        let registers = |list: u16| 4 * u64::from(list.count_ones());
        let low = |bits: u16| u64::from(second & ((1 << bits) - 1));
        match (first, second) {
            // PUSH {…}
            (0xb400..=0xb5ff, _) => Self::Stack(registers(first & 0x1ff)),
            (0xe92d, _) => Self::Stack(registers(second)),
            // STR …, [SP, #-…]! and STRD …, […, #-…]!
            (0xf84d, _) if second & 0x0f00 == 0x0d00 => Self::Stack(low(8)),
            (0xe96d, _) => Self::Stack(4 * low(8)),
            // VPUSH
            (0xed2d | 0xed6d, _) if second & 0x0e00 == 0x0a00 => Self::Stack(4 * low(8)),
            // SUB SP, SP, #…
            (0xb080..=0xb0ff, _) => Self::Stack(4 * u64::from(first & 0x7f)),
            (0xf1ad | 0xf5ad, _) if second & 0x0f00 == 0x0d00 => Self::Stack(expand(first, second)),
            (0xf2ad | 0xf6ad, _) if second & 0x0f00 == 0x0d00 => {
                Self::Stack(immediate12(first, second))
            }
            // SUB SP, SP, a register: a frame of any size.
            (0xebad, _) if second & 0x0f00 == 0x0d00 => Self::Computed,
            // BL
            (0xf000..=0xf7ff, _) if second & 0xd000 == 0xd000 => {
                Self::Call(long_branch(address, first, second))
            }
            // B.W
            (0xf000..=0xf7ff, _) if second & 0xd000 == 0x9000 => {
                Self::Jump(long_branch(address, first, second))
            }
            // B<condition>.W; the conditions 14 and 15 are other instructions.
            (0xf000..=0xf7ff, _) if second & 0xd000 == 0x8000 && first & 0x0380 != 0x0380 => {
                let [s, j1, j2] =
                    [first >> 10, second >> 13, second >> 11].map(|bit| i64::from(bit & 1));
                let low = i64::from(first & 0x3f) << 12 | i64::from(second & 0x7ff) << 1;
                Self::Jump(target(address, low | j1 << 18 | j2 << 19 | s << 20, 21))
            }
            // B
            (0xe000..=0xe7ff, 0) => Self::Jump(target(address, i64::from(first & 0x7ff) << 1, 12)),
            // B<condition>; 14 and 15 are UDF and SVC.
            (0xd000..=0xddff, _) => Self::Jump(target(address, i64::from(first & 0xff) << 1, 9)),
            // BLX to a register
            (0x4780..=0x47ff, _) => Self::Computed,
            // BX to a register other than LR
            (0x4700..=0x477f, _) if first != 0x4770 => Self::Computed,
            // MOV and ADD to PC, LDR to PC
            (0x4400..=0x44ff | 0x4600..=0x46ff, _) if first & 0x87 == 0x87 => Self::Computed,
            (0xf850..=0xf85f | 0xf8d0..=0xf8df, _) if second >> 12 == 15 => Self::Computed,
            _ => Self::None,
        }
    }
}

/// Where a branch leads whose offset has so many bits, the sign among them.
fn target(address: u64, offset: i64, bits: u32) -> u64 {
    let unused = i64::BITS - bits;
    (address + 4).wrapping_add_signed(offset << unused >> unused)
}

/// `BL` and `B.W`, encoding T4.
fn long_branch(address: u64, first: u16, second: u16) -> u64 {
    let [s, j1, j2] = [first >> 10, second >> 13, second >> 11].map(|bit| i64::from(bit & 1));
    let (i1, i2) = (1 ^ j1 ^ s, 1 ^ j2 ^ s);
    let low = i64::from(first & 0x3ff) << 12 | i64::from(second & 0x7ff) << 1;
    target(address, low | i2 << 22 | i1 << 23 | s << 24, 25)
}

fn immediate12(first: u16, second: u16) -> u64 {
    u64::from(first >> 10 & 1) << 11 | u64::from(second >> 12 & 7) << 8 | u64::from(second & 0xff)
}

/// `ThumbExpandImm` (Armv7-M ARM, A5.3.2).
fn expand(first: u16, second: u16) -> u64 {
    let bits = immediate12(first, second);
    let byte = bits & 0xff;
    match bits >> 8 {
        0 => byte,
        1 => byte << 16 | byte,
        2 => byte << 24 | byte << 8,
        3 => byte * 0x0101_0101,
        _ => u64::from((0x80 | bits as u32 & 0x7f).rotate_right((bits >> 7) as u32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::{Board, Program};

    fn effect(first: u16, second: u16) -> Effect {
        Effect::of(0x1000, first, second)
    }

    /// Encodings as an assembler makes them.
    #[test]
    fn what_takes_stack_is_recognized() {
        for (code, bytes) in [
            ([0xb580, 0], 8),         // push {r7, lr}
            ([0xe92d, 0x4ff0], 36),   // push.w {r4-r11, lr}
            ([0xed2d, 0x8b04], 16),   // vpush {d8, d9}
            ([0xb082, 0], 8),         // sub sp, #8
            ([0xf5ad, 0x5d94], 4736), // sub.w sp, sp, #4736
            ([0xf2ad, 0x5d14], 1300), // subw sp, sp, #1300
            ([0xf84d, 0xbd04], 4),    // str r11, [sp, #-4]!
            ([0xe96d, 0x4508], 32),   // strd r4, r5, [sp, #-32]!
        ] {
            assert_eq!(
                effect(code[0], code[1]),
                Effect::Stack(bytes),
                "{code:04x?}"
            );
        }
        for code in [[0xb002, 0], [0xbd80, 0], [0x4770, 0], [0xf5ad, 0x5394]] {
            assert_eq!(effect(code[0], code[1]), Effect::None, "{code:04x?}"); // add sp; pop; bx lr; sub.w r3, sp, …
        }
    }

    #[test]
    fn branches_lead_where_they_lead() {
        assert_eq!(effect(0xf000, 0xf802), Effect::Call(0x1008)); // bl .+8
        assert_eq!(effect(0xf7ff, 0xfffe), Effect::Call(0x1000)); // bl .
        assert_eq!(effect(0xf000, 0xb802), Effect::Jump(0x1008)); // b.w .+8
        assert_eq!(effect(0xe7fe, 0), Effect::Jump(0x1000)); // b .
        assert_eq!(effect(0xd1fd, 0), Effect::Jump(0x0ffe)); // bne .-2
        assert_eq!(effect(0xf43f, 0xaffe), Effect::Jump(0x1000)); // beq.w .
    }

    #[test]
    fn what_cannot_be_bounded_is_refused() {
        // blx r3; bx r3; sub sp, r3; mov pc, r3; ldr.w pc, [sp, #8]
        for (first, second) in [
            (0x4798, 0),
            (0x4718, 0),
            (0xebad, 0x0d03),
            (0x469f, 0),
            (0xf8dd, 0xf008),
        ] {
            assert_eq!(effect(first, second), Effect::Computed);
        }
    }

    #[test]
    fn a_bound_has_a_limit_and_images_their_own() {
        for (images, limit) in [(false, LIMIT), (true, LIMIT + IMAGES_LIMIT)] {
            let selection = Selection {
                images,
                ..Selection::new(Board::M4f, Program::NoPanic, None)
            };
            let check = |bytes| {
                let path = vec![("inner".to_owned(), 1), ("outer".to_owned(), bytes - 1)];
                Bound { path }.check(&selection)
            };
            check(limit).unwrap();
            let error = check(limit + 1).unwrap_err().to_string();
            assert!(error.contains(&limit.to_string()), "{error}");
        }
    }

    #[test]
    fn the_deepest_path_counts() {
        let function = |start: u64, frame, calls: &[u64]| {
            let name = start.to_string();
            let calls = calls.iter().copied().collect();
            (
                start,
                Function {
                    name,
                    start,
                    frame,
                    calls,
                },
            )
        };
        let mut functions: BTreeMap<_, _> = [
            function(1, 8, &[2, 3]),
            function(2, 100, &[]),
            function(3, 16, &[4]),
            function(4, 90, &[]),
        ]
        .into();
        let bound = |functions: &_| deepest(functions, 1, &mut BTreeSet::new());
        let (bytes, path) = bound(&functions).unwrap();
        assert_eq!(bytes, 8 + 16 + 90);
        assert_eq!(
            path.iter().map(|(_, frame)| *frame).collect::<Vec<_>>(),
            [90, 16, 8]
        );
        functions.extend([function(4, 90, &[1])]);
        assert_eq!(bound(&functions).unwrap_err().to_string(), "1 calls itself");
    }
}

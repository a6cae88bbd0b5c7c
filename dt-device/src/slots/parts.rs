//! The slots of the parts there are boards for. Offsets and blocks are those of the reference manuals.
//!
//! The whole device of this project (control loop, link, slots, HAL) is a program of about 100 KB, so layouts that leave 64 KiB are for
//! smaller ones. Each layout leaves the start of the flash to the program ([`Layout::program_len`]). The policies that fit are asserted
//! below: one that says too much does not compile.

use super::layout::{Blocks, Layout, Region};

const KIB: u32 = 1024;

const fn blocks(count: u32, kib: u32) -> Blocks {
    Blocks {
        count,
        len: kib.saturating_mul(KIB),
    }
}

const fn region(start_kib: u32, blocks: &'static [Blocks]) -> Region {
    Region {
        start: start_kib.saturating_mul(KIB),
        blocks,
    }
}

/// Where STM32 parts show their flash.
const STM32: u32 = 0x0800_0000;

/// STM32F446xE (RM0390, table 5): 4 × 16, 64, 3 × 128 KiB. The program has the first 256 KiB.
pub const F446: Layout = Layout {
    base: STM32,
    unit: 4,
    slots: [
        region(256, &[blocks(1, 128)]),
        region(384, &[blocks(1, 128)]),
    ],
}
.checked();

/// The same part with one slot, which only a programmer can fill, and 64 KiB for the program.
pub const F446_SINGLE: Layout<1> = Layout {
    base: STM32,
    unit: 4,
    slots: [region(64, &[blocks(1, 64), blocks(3, 128)])],
}
.checked();

/// STM32F405xG (RM0090, table 5): 4 × 16, 64, 7 × 128 KiB. The program has the first 128 KiB.
pub const F405: Layout = Layout {
    base: STM32,
    unit: 4,
    slots: [
        region(128, &[blocks(3, 128)]),
        region(512, &[blocks(4, 128)]),
    ],
}
.checked();

/// The same part with larger slots and 64 KiB for the program.
pub const F405_COMPACT: Layout = Layout {
    base: STM32,
    unit: 4,
    slots: [
        region(64, &[blocks(1, 64), blocks(3, 128)]),
        region(512, &[blocks(4, 128)]),
    ],
}
.checked();

/// The same part with one slot and 128 KiB for the program.
pub const F405_SINGLE: Layout<1> = Layout {
    base: STM32,
    unit: 4,
    slots: [region(128, &[blocks(7, 128)])],
}
.checked();

/// STM32H743xI (RM0433, table 16): two banks of 8 × 128 KiB, written by 32 bytes that have an error-correcting code. One slot in
/// each bank; the program has the first 256 KiB.
pub const H743: Layout = Layout {
    base: STM32,
    unit: 32,
    slots: [
        region(256, &[blocks(6, 128)]),
        region(1024, &[blocks(6, 128)]),
    ],
}
.checked();

/// nRF52840 (product specification, NVMC): 256 pages of 4 KiB. The program has the first 128 KiB.
pub const NRF52840: Layout = Layout {
    base: 0,
    unit: 4,
    slots: [
        region(128, &[blocks(112, 4)]),
        region(576, &[blocks(112, 4)]),
    ],
}
.checked();

/// The same part with one slot.
pub const NRF52840_SINGLE: Layout<1> = Layout {
    base: 0,
    unit: 4,
    slots: [region(128, &[blocks(224, 4)])],
}
.checked();

/// Raspberry Pi Pico: RP2040 with 2 MiB of serial flash, sectors of 4 KiB, pages of 256 bytes. The program has the first 512 KiB.
pub const RP2040: Layout = Layout {
    base: 0x1000_0000,
    unit: 256,
    slots: [
        region(512, &[blocks(192, 4)]),
        region(1280, &[blocks(192, 4)]),
    ],
}
.checked();

/// Raspberry Pi Pico 2: RP2350 with 4 MiB of such flash. The program has the first MiB.
pub const RP2350: Layout = Layout {
    base: 0x1000_0000,
    unit: 256,
    slots: [
        region(1024, &[blocks(384, 4)]),
        region(2560, &[blocks(384, 4)]),
    ],
}
.checked();

/// Bytes of policy files: the published Hopper model, and the Pendulum model of the README.
const PAPER_INT8: u32 = 767_520;
const PAPER_INT4: u32 = 419_872;
const PENDULUM: u32 = 127_552;

const _: () = {
    assert!(F446.capacity() >= PENDULUM && F446.slots[1].end() == 512 * KIB);
    assert!(F446_SINGLE.capacity() >= PAPER_INT4 && F446_SINGLE.slots[0].end() == 512 * KIB);
    assert!(F405.capacity() >= 3 * PENDULUM && F405.slots[1].end() == 1024 * KIB);
    assert!(F405_COMPACT.capacity() >= PAPER_INT4 && F405_COMPACT.slots[1].end() == 1024 * KIB);
    assert!(F405_SINGLE.capacity() >= PAPER_INT8 && F405_SINGLE.slots[0].end() == 1024 * KIB);
    assert!(H743.capacity() >= PAPER_INT8 && H743.slots[1].end() <= 2048 * KIB);
    assert!(NRF52840.capacity() >= PAPER_INT4 && NRF52840.slots[1].end() == 1024 * KIB);
    assert!(
        NRF52840_SINGLE.capacity() >= PAPER_INT8 && NRF52840_SINGLE.slots[0].end() == 1024 * KIB
    );
    assert!(RP2040.capacity() >= PAPER_INT8 && RP2040.slots[1].end() == 2048 * KIB);
    assert!(RP2350.capacity() >= PAPER_INT8 && RP2350.slots[1].end() == 4096 * KIB);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_slots_md() {
        let table = include_str!("../../SLOTS.md");
        for (name, capacity, program_len) in [
            ("F446", F446.capacity(), F446.program_len()),
            (
                "F446_SINGLE",
                F446_SINGLE.capacity(),
                F446_SINGLE.program_len(),
            ),
            ("F405", F405.capacity(), F405.program_len()),
            (
                "F405_COMPACT",
                F405_COMPACT.capacity(),
                F405_COMPACT.program_len(),
            ),
            (
                "F405_SINGLE",
                F405_SINGLE.capacity(),
                F405_SINGLE.program_len(),
            ),
            ("H743", H743.capacity(), H743.program_len()),
            ("NRF52840", NRF52840.capacity(), NRF52840.program_len()),
            (
                "NRF52840_SINGLE",
                NRF52840_SINGLE.capacity(),
                NRF52840_SINGLE.program_len(),
            ),
            ("RP2040", RP2040.capacity(), RP2040.program_len()),
            ("RP2350", RP2350.capacity(), RP2350.program_len()),
        ] {
            let start = format!("| `{name}` |");
            let line = table.lines().find(|line| line.starts_with(&start)).unwrap();
            let digits = line.replace(',', "");
            assert!(
                digits.contains(&format!("| {capacity}")),
                "{line}: {capacity}"
            );
            let program = match program_len / KIB {
                1024 => "1 MiB".into(),
                kib => format!("{kib} KiB"),
            };
            assert!(line.ends_with(&format!("| {program} |")), "{line}");
        }
    }
}

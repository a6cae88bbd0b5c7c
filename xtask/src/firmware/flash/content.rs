//! What is written to a board's flash, and the files that carry it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dt_device::slots::{Header, Layout, MAX_HEAD};
use object::LittleEndian;
use object::read::elf::{ElfFile32, ProgramHeader};

/// A byte of erased flash.
const ERASED: u8 = 0xFF;

/// Bytes from an address on.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Of the first byte.
    pub address: u32,
    /// What is written there.
    pub bytes: Vec<u8>,
}

/// What an image has in flash, without gaps.
///
/// # Errors
/// If it is no image for this layout.
pub fn program(image: &Path, layout: &Layout) -> Result<Piece> {
    let file = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let elf = ElfFile32::<LittleEndian>::parse(&*file)
        .with_context(|| format!("{} is no image", image.display()))?;
    let mut bytes = Vec::new();
    for segment in elf.elf_program_headers() {
        let data = segment
            .data(LittleEndian, &*file)
            .ok()
            .context("a segment is cut off")?;
        if segment.p_type(LittleEndian) != object::elf::PT_LOAD || data.is_empty() {
            continue;
        }
        let address = segment.p_paddr(LittleEndian);
        let start = address.wrapping_sub(layout.base) as usize;
        let end = start.saturating_add(data.len());
        ensure!(
            end <= layout.program_len() as usize,
            "{} has {} bytes at {address:#010x}, which is not where this board has its program",
            image.display(),
            data.len()
        );
        bytes.resize(bytes.len().max(end), ERASED);
        bytes[start..end].copy_from_slice(data);
    }
    ensure!(!bytes.is_empty(), "{} has no program", image.display());
    Ok(Piece {
        address: layout.base,
        bytes,
    })
}

/// A policy in the first slot under `header`, confirmed, and the second one without a header, so that it is the only one.
///
/// # Errors
/// If the layout has no such slots.
pub fn slots(layout: &Layout, header: &Header, policy: &[u8]) -> Result<[Piece; 2]> {
    let [first, second] = &layout.slots;
    let mut buffer = [0; MAX_HEAD];
    let head = layout.head(header, true, &mut buffer);
    let offsets = layout.policy(0).context("there is no slot")?;
    let mut bytes = head.context("a head fits its buffer")?.to_vec();
    bytes.resize((offsets.start - first.start) as usize, ERASED);
    bytes.extend(policy);
    Ok([
        Piece {
            address: layout.base + first.start,
            bytes,
        },
        Piece {
            address: layout.base + second.start,
            bytes: vec![0; layout.unit as usize],
        },
    ])
}

/// Bytes that a boot loader erases at once.
const SECTOR: usize = 4096;
/// Bytes of content in a block of the UF2 format.
const UF2_CONTENT: usize = 256;

/// A file in the UF2 format (github.com/microsoft/uf2), for boards of `family`. Pieces are filled up to whole sectors, since a boot
/// loader may erase a sector for each of its blocks that is out of the order it expects.
pub fn uf2(pieces: &[Piece], family: u32) -> Vec<u8> {
    let blocks = pieces.iter().flat_map(|piece| {
        let mut bytes = piece.bytes.clone();
        bytes.resize(bytes.len().next_multiple_of(SECTOR), ERASED);
        let addresses = (piece.address..).step_by(UF2_CONTENT);
        let contents = bytes.chunks(UF2_CONTENT).map(<[u8]>::to_vec);
        addresses.zip(contents.collect::<Vec<_>>())
    });
    let blocks = blocks.collect::<Vec<_>>();
    let mut file = Vec::with_capacity(512 * blocks.len());
    for (index, (address, content)) in blocks.iter().enumerate() {
        const FAMILY_PRESENT: u32 = 0x2000;
        let (index, count) = (index as u32, blocks.len() as u32);
        for word in [
            0x0A32_4655,
            0x9E5D_5157,
            FAMILY_PRESENT,
            *address,
            UF2_CONTENT as u32,
            index,
            count,
            family,
        ] {
            file.extend(u32::to_le_bytes(word));
        }
        file.extend(content);
        file.resize(file.len() + 476 - UF2_CONTENT, 0);
        file.extend(0x0AB1_6F30_u32.to_le_bytes());
    }
    file
}

/// A file in Intel's HEX format.
pub fn hex(pieces: &[Piece]) -> String {
    const DATA: u8 = 0;
    const END: u8 = 1;
    const UPPER_ADDRESS: u8 = 4;
    let mut text = String::new();
    let mut record = |kind: u8, offset: u16, data: &[u8]| {
        let [high, low] = offset.to_be_bytes();
        let mut bytes = vec![data.len() as u8, high, low, kind];
        bytes.extend(data);
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes.push(sum.wrapping_neg());
        text.push(':');
        text.extend(bytes.iter().map(|byte| format!("{byte:02X}")));
        text.push('\n');
    };
    for piece in pieces {
        let mut upper = None;
        for (index, chunk) in piece.bytes.chunks(16).enumerate() {
            // Pieces begin at multiples of 16, so no chunk crosses an upper address.
            let address = piece.address + 16 * index as u32;
            let now = (address >> 16) as u16;
            if upper != Some(now) {
                record(UPPER_ADDRESS, 0, &now.to_be_bytes());
                upper = Some(now);
            }
            record(DATA, address as u16, chunk);
        }
    }
    record(END, 0, &[]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use dt_device::slots::parts;

    #[test]
    fn a_slot_holds_the_policy_where_the_device_looks_for_it() {
        for layout in [parts::RP2040, parts::F405, parts::H743] {
            let [first, second] = slots(&layout, &Header::new(1, &[7; 1000]), &[7; 1000]).unwrap();
            let offsets = layout.policy(0).unwrap();
            let start = (layout.base + offsets.start - first.address) as usize;
            assert_eq!(first.bytes[..8], *b"DTSLOT\r\n");
            assert_eq!(first.bytes[start..], [7; 1000]);
            assert_eq!(second.address, layout.base + layout.slots[1].start);
            assert_eq!(second.bytes, vec![0; layout.unit as usize]);
        }
    }

    #[test]
    fn a_block_of_uf2_to_the_byte() {
        let pieces = [Piece {
            address: 0x1000_0000,
            bytes: vec![0xAB; 257],
        }];
        let file = uf2(&pieces, 0xE48B_FF56);
        assert_eq!(file.len(), 512 * SECTOR / UF2_CONTENT);
        let second = &file[512..1024];
        let head = [
            b"UF2\n".as_slice(),
            &[0x57, 0x51, 0x5D, 0x9E, 0, 0x20, 0, 0, 0, 1, 0, 0x10],
            &[0, 1, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 0x56, 0xFF, 0x8B, 0xE4],
        ]
        .concat();
        assert_eq!(second[..32], head);
        assert_eq!(second[32..34], [0xAB, ERASED]);
        assert_eq!(second[288..508], [0; 220]);
        assert_eq!(second[508..], [0x30, 0x6F, 0xB1, 0x0A]);
    }

    #[test]
    fn hex_records_are_those_of_the_specification() {
        let pieces = [Piece {
            address: 0x0001_FFF0,
            bytes: (0..18).collect(),
        }];
        let expected = concat!(
            ":020000040001F9\n",
            ":10FFF000000102030405060708090A0B0C0D0E0F89\n",
            ":020000040002F8\n",
            ":020000001011DD\n",
            ":00000001FF\n",
        );
        assert_eq!(hex(&pieces), expected);
    }
}

//! Flash and RAM of an image, and its code by crate.
//!
//! With whole-program optimization a symbol says little: `dt-core`'s code may be inlined into an image's `main`. So every
//! instruction is attributed, through the debug information, to the innermost inlined function that is not of Rust's own
//! libraries: `core`'s iterators inlined in `dt-core` count as `dt-core`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Context, Result, anyhow, ensure};
use object::{Object, ObjectSection, SectionFlags, SectionKind};

use super::Selection;

/// `dt-core`'s part of any image: two format versions, three sources of exp, five activations, choices, attention as trained and
/// folded. Most of what decodes manifests counts as its own, since it inlines where `dt-core` takes the bytes.
const DT_CORE_LIMIT: u64 = 46 * 1024;

/// What multilayer perceptrons and variants of the transformer may take besides.
const DEFAULT_FEATURES_LIMIT: u64 = 6 * 1024;
/// What feature `images` may add: three convolutions in f32 and integers, from bytes, and from floats too, as hosts have them.
const IMAGES_LIMIT: u64 = 16 * 1024;

/// Loaded into the board's spare memory, where a product has none: see firmware/memory.
const NOT_IN_FLASH: &str = ".episodes";

/// Rust's own libraries: what they inline belongs to their caller.
const LANGUAGE: [&str; 3] = ["core", "alloc", "compiler_builtins"];

/// Assembly, exception handlers and other symbols outside any crate's path.
const NO_CRATE: &str = "(no crate)";

/// Bytes of an image.
#[derive(Debug, Default)]
pub struct Sizes {
    /// Sections in flash, initial values of RAM included, in the order of their addresses.
    pub flash: Vec<(String, u64)>,
    /// Sections in RAM, which the stack shares.
    pub ram: Vec<(String, u64)>,
    /// Code by crate, largest first.
    pub code: Vec<(String, u64)>,
}

impl Sizes {
    /// All of the flash.
    pub fn flash_total(&self) -> u64 {
        total(&self.flash)
    }

    /// One section of the flash.
    pub fn flash_of(&self, section: &str) -> u64 {
        let parts = self.flash.iter().filter(|(name, _)| name == section);
        parts.map(|(_, bytes)| bytes).sum()
    }

    /// All static memory.
    pub fn ram_total(&self) -> u64 {
        total(&self.ram)
    }

    /// Code of one crate.
    pub fn code_of(&self, name: &str) -> u64 {
        self.code
            .iter()
            .filter(|(of, _)| of == name)
            .map(|(_, bytes)| bytes)
            .sum()
    }

    /// Whether `dt-core` keeps within its part, and what features add within theirs.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, selection: &Selection) -> Result<()> {
        let bytes = self.code_of("dt_core");
        let features = if selection.plain {
            0
        } else {
            DEFAULT_FEATURES_LIMIT
        };
        let images = if selection.images { IMAGES_LIMIT } else { 0 };
        let limit = DT_CORE_LIMIT + features + images;
        ensure!(
            bytes <= limit,
            "dt-core takes {bytes} bytes of code; its limit is {limit}"
        );
        Ok(())
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("flash", self.flash_total(), &self.flash),
            ("RAM, static", self.ram_total(), &self.ram),
            ("code by crate", total(&self.code), &self.code),
        ];
        for (title, bytes, entries) in parts {
            writeln!(f, "{title:24} {bytes:>8} bytes")?;
            for (name, bytes) in entries {
                writeln!(f, "  {name:22} {bytes:>8}")?;
            }
        }
        Ok(())
    }
}

fn total(entries: &[(String, u64)]) -> u64 {
    entries.iter().map(|(_, bytes)| bytes).sum()
}

/// Reads the sizes out of an image.
///
/// # Errors
/// If it is not an ELF file with debug information.
pub fn measure(image: &Path) -> Result<Sizes> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{}", image.display()))?;
    let loader = Loader::new(image).map_err(|error| anyhow!("{}: {error}", image.display()))?;
    let mut sizes = Sizes::default();
    let mut code = BTreeMap::<String, u64>::new();
    for section in file.sections() {
        let (name, size) = (section.name()?.to_owned(), section.size());
        if size == 0 || !is_loaded(&section) || name == NOT_IN_FLASH {
            continue;
        }
        if section.kind() == SectionKind::Text {
            attribute(&loader, section.address(), size, &mut code)?;
        }
        match section.kind() {
            SectionKind::UninitializedData => sizes.ram.push((name, size)),
            // Copied from flash to RAM at boot.
            SectionKind::Data => {
                sizes.ram.push((name.clone(), size));
                sizes.flash.push((name, size));
            }
            _ => sizes.flash.push((name, size)),
        }
    }
    sizes.code = code.into_iter().collect();
    sizes
        .code
        .sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(sizes)
}

fn is_loaded<'a>(section: &impl ObjectSection<'a>) -> bool {
    match section.flags() {
        SectionFlags::Elf { sh_flags, .. } => sh_flags & u64::from(object::elf::SHF_ALLOC) != 0,
        _ => false,
    }
}

/// Adds the section's bytes to the crates they come from.
fn attribute(
    loader: &Loader,
    address: u64,
    size: u64,
    code: &mut BTreeMap<String, u64>,
) -> Result<()> {
    const HALFWORD: u64 = 2; // the shortest instruction
    for offset in (0..size).step_by(HALFWORD as usize) {
        let origin = origin(loader, address + offset)?;
        *code.entry(origin).or_default() += HALFWORD.min(size - offset);
    }
    Ok(())
}

fn origin(loader: &Loader, address: u64) -> Result<String> {
    let mut frames = loader
        .find_frames(address)
        .map_err(|error| anyhow!("debug information: {error}"))?;
    let mut innermost = None;
    while let Some(frame) = frames
        .next()
        .map_err(|error| anyhow!("debug information: {error}"))?
    {
        let Some(function) = frame.function else {
            continue;
        };
        let name = crate_of(&function.demangle()?).to_owned();
        if !LANGUAGE.contains(&name.as_str()) {
            return Ok(name);
        }
        innermost.get_or_insert(name);
    }
    // Not inlined in anything: the libraries' own functions, such as memcpy; or assembly, without any name.
    Ok(innermost.unwrap_or_else(|| NO_CRATE.into()))
}

/// The crate in a demangled path: `dt_core` of `<dt_core::policy::Policy<A> as …>::act`.
fn crate_of(path: &str) -> &str {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let first = path.trim_start_matches(|c| !is_name(c));
    let name = &first[..first.find(|c| !is_name(c)).unwrap_or(first.len())];
    if first[name.len()..].starts_with("::") {
        name
    } else if path.starts_with('<') {
        "core" // Implementations for primitive types and references: `<u8 as …>`, `<&mut T as …>`.
    } else {
        NO_CRATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::{Board, Program};

    #[test]
    fn crates_of_paths() {
        assert_eq!(crate_of("dt_core::engine::step"), "dt_core");
        assert_eq!(
            crate_of("<dt_core::policy::Policy<A> as core::fmt::Debug>::fmt"),
            "dt_core"
        );
        assert_eq!(crate_of("<&dt_core::Blob as Format>::format"), "dt_core");
        assert_eq!(crate_of("<&mut W as core::fmt::Write>::write_str"), "core");
        assert_eq!(crate_of("<u8 as core::fmt::Display>::fmt"), "core");
        assert_eq!(crate_of("HardFault"), NO_CRATE);
        assert_eq!(crate_of(""), NO_CRATE);
    }

    #[test]
    fn dt_core_has_a_limit() {
        let sizes = |bytes| Sizes {
            code: vec![("dt_core".into(), bytes), ("firmware".into(), 99_999)],
            ..Sizes::default()
        };
        for (plain, images, limit) in [
            (true, false, DT_CORE_LIMIT),
            (false, false, DT_CORE_LIMIT + DEFAULT_FEATURES_LIMIT),
            (
                false,
                true,
                DT_CORE_LIMIT + DEFAULT_FEATURES_LIMIT + IMAGES_LIMIT,
            ),
        ] {
            let selection = Selection {
                plain,
                images,
                ..Selection::new(Board::M4f, Program::NoPanic, None)
            };
            sizes(limit).check(&selection).unwrap();
            assert!(sizes(limit + 1).check(&selection).is_err());
        }
        let plain = Selection {
            plain: true,
            ..Selection::new(Board::M4f, Program::NoPanic, None)
        };
        let error = sizes(DT_CORE_LIMIT + 1)
            .check(&plain)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "dt-core takes 47105 bytes of code; its limit is 47104"
        );
    }
}

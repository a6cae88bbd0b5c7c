//! Reading HDF5: what the layouts built on it have in common.

mod arrays;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::Duration;

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Attribute, Group, H5Type, MinorErrorCode, OpenMode};

pub use self::arrays::{Arrays, choices, finite, finite_numbers};
use super::Problem;

/// What every HDF5 file begins with, or goes on with behind a block of the user's.
const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// Whether a file is HDF5. Its signature is at the beginning or, as in MATLAB's files, behind a block of 512, 1024,
/// 2048, … bytes.
pub fn is_hdf5(file: &mut File) -> io::Result<bool> {
    let len = file.metadata()?.len();
    let mut at = 0;
    while at + SIGNATURE.len() as u64 <= len {
        let mut found = [0; SIGNATURE.len()];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut found)?;
        if found == SIGNATURE {
            return Ok(true);
        }
        at = std::cmp::max(512, 2 * at);
    }
    Ok(false)
}

/// Opens a file for reading; one that is being written is waited for, a little.
pub fn open(path: &Path) -> Result<hdf5::File, Problem> {
    open_noting(path).map(|(file, _)| file)
}

/// As [`open`], with what is odd about the file.
pub fn open_noting(path: &Path) -> Result<(hdf5::File, Option<String>), Problem> {
    File::open(path).map_err(Problem::Unreadable)?;
    for _ in 0..LOCK_ATTEMPTS {
        match hdf5::File::open(path) {
            Ok(file) => return Ok((file, None)),
            Err(error) if says(&error, "unable to lock file") => thread::sleep(LOCK_WAIT),
            Err(error) if says(&error, "already open for write") => return open_unclosed(path),
            Err(error) => return Err(damaged("the file", &error)),
        }
    }
    Err(Problem::Locked)
}

/// HDF5 locks the files it has open, and a lock can outlive its file for a moment: a process that was
/// just being started holds it until it has loaded.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// Opens a file that says of itself that it is being written, though nobody locks it. What was written for others to
/// read at the same time ("SWMR") is sound up to where it was flushed.
fn open_unclosed(path: &Path) -> Result<(hdf5::File, Option<String>), Problem> {
    let file = hdf5::File::open_as(path, OpenMode::ReadSWMR).map_err(|_| Problem::NotClosed)?;
    let note = format!(
        "its writer has not closed it: steps may be missing at its end; once no program writes it any more, \
         `h5clear -s --increment=0 {}` closes it (with both options: -s alone cuts data off)",
        path.display()
    );
    Ok((file, Some(note)))
}

/// What is in a group, as many entries as a line holds: arrays with their shapes, groups with a slash.
pub fn holds(group: &Group) -> String {
    const MOST: usize = 12;
    let names = group.member_names().unwrap_or_default();
    let word = |name: &String| match (group.group(name), group.dataset(name)) {
        (Ok(_), _) => format!("`{name}/`"),
        (_, Ok(dataset)) => format!("`{name}` {:?}", dataset.shape()),
        _ => format!("`{name}`"),
    };
    let mut words: Vec<String> = names.iter().take(MOST).map(word).collect();
    match names.len().saturating_sub(MOST) {
        0 if words.is_empty() => return "nothing".into(),
        0 => {}
        more => words.push(format!("{more} more")),
    }
    words.join(", ")
}

/// The entries of a group called `prefix` and a number, by that number.
pub fn numbered(group: &Group, prefix: &str) -> Vec<String> {
    let number = |name: &str| name.strip_prefix(prefix)?.parse::<u64>().ok();
    let mut names = group.member_names().unwrap_or_default();
    names.retain(|name| number(name).is_some());
    names.sort_by_key(|name| number(name));
    names
}

/// Why an array could not be read.
fn unreadable(dataset: &hdf5::Dataset, key: &str, error: &hdf5::Error) -> Problem {
    let unknown = dataset
        .filters()
        .into_iter()
        .find(|filter| !filter.decode_enabled());
    match unknown {
        Some(filter) => Problem::Filter {
            key: key.into(),
            filter: filter_name(filter.id()),
            // The library keeps the numbers below for its own.
            is_plugin: filter.id() >= 256,
        },
        None => damaged(&format!("`{key}`"), error),
    }
}

/// A filter as its users call it: the numbers are those that the HDF Group has registered.
fn filter_name(id: i32) -> String {
    match id {
        1 => "gzip".into(),
        4 => "szip".into(),
        305 => "LZO".into(),
        307 => "bzip2".into(),
        32_000 => "LZF".into(),
        32_001 => "Blosc".into(),
        32_004 => "LZ4".into(),
        32_008 => "bitshuffle".into(),
        32_013 => "ZFP".into(),
        32_015 => "Zstandard".into(),
        32_017 | 32_024 => "SZ".into(),
        32_026 => "Blosc2".into(),
        other => format!("number {other}"),
    }
}

/// What HDF5 could not read.
pub fn damaged(what: &str, error: &hdf5::Error) -> Problem {
    let what = what.to_owned();
    if error.contains_minor(MinorErrorCode::Version) || says(error, "version number") {
        let (major, minor, patch) = hdf5::library_version();
        return Problem::Newer {
            what,
            library: format!("{major}.{minor}.{patch}"),
        };
    }
    Problem::Damaged {
        what,
        detail: first_line(error),
    }
}

fn says(error: &hdf5::Error, words: &str) -> bool {
    error.to_string().contains(words)
}

/// HDF5 reports a whole stack of calls; its first line says what happened.
pub fn first_line(error: &hdf5::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().into()
}

/// The first of these attributes that is a text: of either character set, of fixed length or not, alone or the only
/// element of an array.
pub fn first_text(group: &Group, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| text_attribute(group, name))
}

/// A whole number of an attribute, if there is one.
pub fn count_attribute(group: &Group, name: &str) -> Option<usize> {
    let attribute = group.attr(name).ok()?;
    let value = attribute.read_scalar::<u64>().ok()?;
    usize::try_from(value).ok()
}

/// A text attribute, if there is one.
pub fn text_attribute(group: &Group, name: &str) -> Option<String> {
    /// No environment's name is longer.
    const LEN: usize = 1024;
    fn only<T: H5Type + ToString>(attribute: &Attribute) -> Option<String> {
        let values = attribute.read_raw::<T>().ok()?;
        Some(values.first()?.to_string())
    }
    let attribute = group.attr(name).ok()?;
    if attribute.size() != 1 {
        return None;
    }
    let text = match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::VarLenUnicode => only::<VarLenUnicode>(&attribute),
        TypeDescriptor::VarLenAscii => only::<VarLenAscii>(&attribute),
        TypeDescriptor::FixedUnicode(..=LEN) => only::<FixedUnicode<LEN>>(&attribute),
        TypeDescriptor::FixedAscii(..=LEN) => only::<FixedAscii<LEN>>(&attribute),
        _ => None,
    }?;
    // Of fixed length, it may be filled up with blanks.
    Some(text.trim_end().to_owned())
}

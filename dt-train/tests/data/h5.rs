//! Files of HDF5 whatever their layout: how they begin, end, compress and name things.

use std::fs;
use std::path::{Path, PathBuf};

use dt_train::data::Dataset;
use hdf5::types::{FixedAscii, FixedUnicode, VarLenAscii};
use hdf5::{File, FileBuilder, H5Type};

use crate::{d4rl, refused, rejected, text};

const ROWS: usize = 4;
/// So many that compression can be seen.
const WIDTH: usize = 4000;

/// Two episodes of two steps, in chunks that a filter can be put on.
fn chunked(path: &Path, builder: &FileBuilder, lzf: bool) -> File {
    fn array<T: H5Type>(file: &File, key: &str, shape: &[usize], values: &[T], lzf: bool) {
        let builder = file.new_dataset::<T>().chunk(shape).shape(shape);
        let builder = if lzf {
            builder.shuffle().lzf()
        } else {
            builder
        };
        builder.create(key).unwrap().write_raw(values).unwrap();
    }
    // As `create` does.
    let _ = fs::remove_file(path);
    let file = builder.create(path).unwrap();
    array(
        &file,
        "observations",
        &[ROWS, WIDTH],
        &[0.5f32; WIDTH * ROWS],
        lzf,
    );
    array(&file, "actions", &[ROWS, 1], &[0.25f32; ROWS], lzf);
    array(&file, "rewards", &[ROWS], &[1.0, 2.0, 3.0, 4.0f32], lzf);
    array(&file, "terminals", &[ROWS], &[0u8, 1, 0, 0], lzf);
    array(&file, "timeouts", &[ROWS], &[0u8, 0, 0, 1], lzf);
    file
}

fn replace(path: &Path, from: &[u8], to: &[u8]) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - from.len())
        .filter(|&i| &bytes[i..i + from.len()] == from)
        .collect();
    for &place in &places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    fs::write(path, bytes).unwrap();
    places.len()
}

#[test]
fn lzf_is_read_and_filters_without_a_plugin_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lzf.hdf5");
    drop(chunked(&path, &FileBuilder::new(), true));
    let compressed = fs::metadata(&path).unwrap().len();
    let data = Dataset::load(&[&path]).unwrap();
    assert_eq!(data.observations.vectors().unwrap(), [0.5; WIDTH * ROWS]);
    assert_eq!(data.rewards, [1.0, 2.0, 3.0, 4.0]);
    assert!(compressed < 2 * (WIDTH * ROWS) as u64, "{compressed}");

    // The same file, of another filter: its number is 32015 instead of 32000.
    let changed = replace(&path, b"\x00\x7d\x08\x00", b"\x0f\x7d\x08\x00");
    assert_eq!(changed, 5);
    refused(
        &path,
        &[
            "`observations` is compressed with Zstandard",
            "pip install hdf5plugin",
            "HDF5_PLUGIN_PATH",
            &format!("h5repack -f GZIP=4 {} ", path.display()),
        ],
    );
    // And of one that only the library itself could have.
    replace(&path, b"\x0f\x7d\x08\x00", b"\xff\x00\x08\x00");
    let message = rejected(
        &path,
        &["compressed with number 255", "h5repack -f GZIP=4 "],
    );
    assert!(!message.contains("plugin"), "{message}");
}

#[test]
fn a_user_block_before_the_signature_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    for size in [512, 2048] {
        let path = folder.path().join("block.mat");
        let builder = FileBuilder::new().with_fcpl(|p| p.userblock(size)).clone();
        drop(chunked(&path, &builder, false));
        let data = Dataset::load(&[&path]).unwrap();
        assert_eq!(data.rewards, [1.0, 2.0, 3.0, 4.0]);
    }
    // Elsewhere it is none.
    let path = folder.path().join("text");
    for at in [1, 511, 1536] {
        fs::write(
            &path,
            [&vec![b' '; at], &b"\x89HDF\r\n\x1a\n"[..], &[0; 4096]].concat(),
        )
        .unwrap();
        rejected(&path, &["is not a trajectory file"]);
    }
}

#[test]
fn files_of_a_newer_library_are_refused_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("newer.hdf5");
    drop(chunked(&path, &FileBuilder::new(), false));
    // The message that says how an array is laid out: number 8, of version 3, in chunks (2) of three dimensions.
    let message = b"\x08\x00\x18\x00\x00\x00\x00\x00\x03\x02\x03";
    let mut newer = *message;
    newer[8] = 5;
    assert!(replace(&path, message, &newer) > 0);
    refused(
        &path,
        &[
            "`observations` cannot be read: a newer version of HDF5 than ",
            &format!("h5py.File('{}')", path.display()),
            &format!("{}/newer.new.hdf5", folder.path().display()),
        ],
    );
}

/// A copy of the file as it is now, as if the program that writes it were killed.
fn killed(path: &Path) -> PathBuf {
    let copy = path.with_extension("killed");
    fs::copy(path, &copy).unwrap();
    copy
}

#[test]
fn what_a_killed_logger_leaves_is_read_or_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.hdf5");
    let builder = FileBuilder::new().with_fapl(|p| p.libver_latest()).clone();
    let file = chunked(&path, &builder, false);
    file.flush().unwrap();
    refused(
        &killed(&path),
        &[
            "was not closed by the program that wrote it",
            "-s alone cuts data off",
            &format!(
                "`h5clear -s --increment=0 {}/log.killed`",
                folder.path().display()
            ),
        ],
    );
    file.start_swmr().unwrap();
    file.flush().unwrap();
    let data = Dataset::load(&[killed(&path)]).unwrap();
    assert_eq!(data.rewards, [1.0, 2.0, 3.0, 4.0]);
    let note = data.sources[0].notes.concat();
    assert!(note.starts_with("its writer has not closed it"), "{note}");
    assert!(note.contains("`h5clear -s --increment=0 "), "{note}");
    assert!(note.contains("-s alone cuts data off"), "{note}");
    drop(file);
    assert!(Dataset::load(&[&path]).unwrap().sources[0].notes.is_empty());
}

#[test]
fn names_are_read_in_every_form_that_writers_give_them() {
    let folder = tempfile::tempdir().unwrap();
    let named = |change: &dyn Fn(&File)| {
        let path = d4rl::file(folder.path(), |file| change(file));
        let data = Dataset::load(&[path]).unwrap();
        (data.env().map(String::from), data.sources[0].policy.clone())
    };
    fn scalar<T: H5Type>(file: &File, name: &str, value: &T) {
        let attribute = file.new_attr::<T>().create(name).unwrap();
        attribute.write_scalar(value).unwrap();
    }
    fn list<T: H5Type>(file: &File, name: &str, values: &[T]) {
        let builder = file.new_attr::<T>().shape([values.len()]);
        builder.create(name).unwrap().write_raw(values).unwrap();
    }
    let ascii = |words| FixedAscii::<16>::from_ascii(words).unwrap();
    let unicode = |words: &str| words.parse::<FixedUnicode<16>>().unwrap();
    let pendulum = (Some("pendulum".to_owned()), None);
    let forms: [&dyn Fn(&File); 7] = [
        &|file| scalar(file, "env", &text("Pendulum-v1")),
        &|file| {
            scalar(
                file,
                "env",
                &VarLenAscii::from_ascii("Pendulum-v1").unwrap(),
            )
        },
        &|file| scalar(file, "env_id", &ascii("Pendulum-v1")),
        &|file| scalar(file, "env_name", &unicode("Pendulum-v1    ")),
        &|file| list(file, "env", &[text("Pendulum-v1")]),
        &|file| list(file, "env", &[ascii("Pendulum-v1")]),
        &|file| {
            scalar(file, "env_id", &text("Pendulum-v1"));
            scalar(file, "env_name", &text("something else"));
            scalar(file, "env", &7u32);
        },
    ];
    for (number, form) in forms.iter().enumerate() {
        assert_eq!(named(form), pendulum, "{number}");
    }
    let policy = named(&|file| list(file, "policy", &[unicode("größer")]));
    assert_eq!(policy, (None, Some("größer".into())));
    let several = named(&|file| list(file, "env", &["Pendulum-v1", "Hopper-v5"].map(text)));
    assert_eq!(several, (None, None));
    let number = named(&|file| scalar(file, "policy", &7u32));
    assert_eq!(number, (None, None));
}

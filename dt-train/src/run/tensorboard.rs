//! Records for TensorBoard: an event file in the run's folder, where `train.tensorboard` asks for it.
//!
//! A file is a sequence of TFRecords (`tensorflow/core/lib/io/record_writer.h`), numbers little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 8 | length n of the data |
//! | 4 | [masked](masked) CRC-32C of these 8 bytes |
//! | n | data |
//! | 4 | masked CRC-32C of the data |
//!
//! The data are protocol buffers, `Event` of `tensorflow/core/util/event.proto`, of which these fields are written: `wall_time`
//! (1, double), `step` (2, int64), and one of `file_version` (3, string), `summary` (5) and `session_log` (7). A summary is a list
//! of `value` (1): `tag` (1, string) and `simple_value` (2, float).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use super::metrics::Record;
use super::{Run, Sink};
use crate::atomic::OutputError;

/// How every event file is called, so that TensorBoard finds it.
const PREFIX: &str = "events.out.tfevents.";

/// The event files in `dir`.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(PREFIX)
    };
    entries.map(|entry| entry.path()).filter(is_ours).collect()
}

/// An open event file.
#[derive(Debug)]
pub(super) struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// Begins a file of a run that has had so many updates. What other files have of later ones no longer counts: a run
    /// stopped after its last checkpoint repeats these.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn begin(dir: &Path, updates: u64) -> Result<Self, OutputError> {
        let now = now();
        // TensorBoard reads files in the order of their names.
        let name = format!("{PREFIX}{:010}.dt-train.{}", now as u64, std::process::id());
        let path = dir.join(name);
        let file = File::create(&path).map_err(OutputError::io(&path))?;
        let mut events = Self { file, path };
        events.write(&event(now, 0, 3, b"brain.Event:2"))?;
        if updates > 0 {
            // SessionLog.status = START.
            events.write(&event(now, updates + 1, 7, &[0x08, 1]))?;
        }
        Ok(events)
    }

    fn write(&mut self, data: &[u8]) -> Result<(), OutputError> {
        self.file
            .write_all(&framed(data))
            .map_err(OutputError::io(&self.path))
    }
}

impl Sink for Events {
    fn record(&mut self, _: &Run, record: &Record) -> anyhow::Result<()> {
        Ok(self.write(&event(now(), record.update, 5, &summary(&scalars(record))))?)
    }
}

/// What of a record is drawn, by tag; those with the same beginning share a section.
fn scalars(record: &Record) -> Vec<(String, f64)> {
    let mut scalars = vec![("loss/train".to_owned(), record.loss)];
    let others = [
        ("loss/held out", record.validation_loss),
        ("loss/fit", record.fit_loss),
        ("accuracy/train", record.accuracy),
        ("accuracy/held out", record.validation_accuracy),
    ];
    for (tag, loss) in others {
        scalars.extend(loss.map(|loss| (tag.to_owned(), loss)));
    }
    scalars.extend([
        ("optimizer/gradient norm".to_owned(), record.grad_norm),
        ("optimizer/learning rate".to_owned(), record.learning_rate),
        (
            "speed/updates per second".to_owned(),
            record.updates_per_second,
        ),
    ]);
    for eval in &record.eval {
        let target = eval.target_return;
        scalars.push((format!("return/mean at target {target}"), eval.mean_return));
        scalars.push((
            format!("return/deviation at target {target}"),
            eval.std_return,
        ));
    }
    scalars
}

/// A `Summary` of scalars.
fn summary(scalars: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in scalars {
        let mut one = Vec::new();
        field(&mut one, 1, tag.as_bytes());
        // Field 2, four bytes.
        one.push(2 << 3 | 5);
        one.extend((*value as f32).to_le_bytes());
        field(&mut summary, 1, &one);
    }
    summary
}

/// An `Event` with one field of variable length.
fn event(wall_time: f64, step: u64, number: u8, content: &[u8]) -> Vec<u8> {
    // Field 1, eight bytes.
    let mut event = vec![1 << 3 | 1];
    event.extend(wall_time.to_le_bytes());
    // Field 2, a varint.
    event.push(2 << 3);
    varint(&mut event, step);
    field(&mut event, number, content);
    event
}

/// Appends a field of variable length; its number is below 16.
fn field(message: &mut Vec<u8>, number: u8, content: &[u8]) {
    message.push(number << 3 | 2);
    varint(message, content.len() as u64);
    message.extend(content);
}

/// Seven bits per byte, the lowest first; the eighth says that more follow.
fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// A TFRecord.
fn framed(data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u64).to_le_bytes();
    [&len[..], &masked(&len), data, &masked(data)].concat()
}

/// CRC-32C, turned by 15 bits and with a constant added, so that the checksum of data that hold checksums says something.
fn masked(data: &[u8]) -> [u8; 4] {
    let crc = Crc::<u32>::new(&CRC_32_ISCSI).checksum(data);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Recipe;

    /// Step and content of each event: the number of its field, and the field.
    fn read(file: &Path) -> Vec<(u64, u8, Vec<u8>)> {
        let bytes = fs::read(file).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let len = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked(&rest[..8]));
            let data = &rest[12..12 + len];
            assert_eq!(rest[12 + len..16 + len], masked(data));
            rest = &rest[16 + len..];
            assert_eq!((data[0], data[9]), (0x09, 0x10));
            let (step, data) = read_varint(&data[10..]);
            let (len, content) = read_varint(&data[1..]);
            assert_eq!(content.len() as u64, len);
            events.push((step, data[0] >> 3, content.to_vec()));
        }
        events
    }

    fn read_varint(bytes: &[u8]) -> (u64, &[u8]) {
        let len = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let value = bytes[..len].iter().rev();
        let value = value.fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
        (value, &bytes[len..])
    }

    fn read_summary(mut summary: &[u8]) -> Vec<(String, f32)> {
        let mut scalars = Vec::new();
        while !summary.is_empty() {
            assert_eq!(summary[0], 0x0a);
            let (len, rest) = read_varint(&summary[1..]);
            let (value, rest) = rest.split_at(len as usize);
            assert_eq!(value[0], 0x0a);
            let (len, value) = read_varint(&value[1..]);
            let (tag, number) = value.split_at(len as usize);
            assert_eq!((number.len(), number[0]), (5, 0x15));
            let number = f32::from_le_bytes(number[1..].try_into().unwrap());
            scalars.push((String::from_utf8(tag.to_vec()).unwrap(), number));
            summary = rest;
        }
        scalars
    }

    /// As TensorFlow writes it, but for the time: TFRecord of Event(step=300, summary=[Value(tag="a", simple_value=1.5)]).
    #[test]
    fn bytes_are_those_of_the_format() {
        let data = event(0.0, 300, 5, &summary(&[("a".to_owned(), 1.5)]));
        assert_eq!(
            data,
            [
                0x09, 0, 0, 0, 0, 0, 0, 0, 0, // wall_time
                0x10, 0xac, 0x02, // step
                0x2a, 0x0a, // summary
                0x0a, 0x08, // value
                0x0a, 0x01, b'a', // tag
                0x15, 0, 0, 0xc0, 0x3f, // simple_value
            ]
        );
        // CRC-32C("123456789") = e3069283, the check value of its definition.
        let turned = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked(b"123456789"), turned.to_le_bytes());
        assert_eq!(framed(&data)[..8], [24, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(framed(&data).len(), 16 + data.len());
    }

    #[test]
    fn records_become_scalars_and_a_resumed_run_says_where_it_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::for_tests(Recipe::default(), [&[0.0], &[1.0]], [&[-1.0], &[1.0]]);
        let record = Record {
            update: 300,
            loss: 0.25,
            validation_loss: Some(0.5),
            fit_loss: Some(0.125),
            accuracy: None,
            validation_accuracy: None,
            grad_norm: 2.0,
            learning_rate: 0.001,
            updates_per_second: 30.0,
            core_seconds: None,
            eval: vec![super::super::EvalRecord {
                target_return: -150.0,
                episodes: 2,
                mean_return: -160.0,
                std_return: 3.0,
                engine_mean_return: 0.0,
                torch_mean_return: 0.0,
            }],
        };
        let mut events = Events::begin(dir.path(), 0).unwrap();
        events.record(&run, &record).unwrap();
        let [file] = files(dir.path()).try_into().unwrap();
        let written = read(&file);
        assert_eq!(written[0], (0, 3, b"brain.Event:2".to_vec()));
        assert_eq!((written[1].0, written[1].1, written.len()), (300, 5, 2));
        let expected = [
            ("loss/train", 0.25),
            ("loss/held out", 0.5),
            ("loss/fit", 0.125),
            ("optimizer/gradient norm", 2.0),
            ("optimizer/learning rate", 0.001),
            ("speed/updates per second", 30.0),
            ("return/mean at target -150", -160.0),
            ("return/deviation at target -150", 3.0),
        ]
        .map(|(tag, value)| (tag.to_owned(), value));
        assert_eq!(read_summary(&written[1].2), expected);

        fs::remove_file(&file).unwrap();
        Events::begin(dir.path(), 300).unwrap();
        let [file] = files(dir.path()).try_into().unwrap();
        assert_eq!(read(&file)[1], (301, 7, vec![0x08, 1]));
    }
}

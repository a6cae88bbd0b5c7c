//! `pytorch_model.bin`: weights as `torch.save` writes them since PyTorch 1.6, a zip of a pickle and of the numbers.
//!
//! A pickle is a program: it may call whatever Python can import. This runs none. It reads the few instructions that make a
//! dictionary of tensors, takes the names of three functions for what they are to it, and refuses every other name.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use tch::{Kind, Tensor};
use zip::ZipArchive;

use super::tensors::{Tensors, is_without_part};
use crate::nn::parameters::host_values;
use crate::run::checkpoint::Array;

/// Adds the tensors that have part in predicting actions.
///
/// # Errors
/// Another file, one that is cut off, or a pickle that does anything else.
pub(super) fn read(bytes: &[u8], tensors: &mut Tensors) -> anyhow::Result<()> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).context(
        "it is no zip, as PyTorch has written since version 1.6; it is older, was cut off (then download it again), or is \
         something else",
    )?;
    let pickle = zip
        .file_names()
        .find(|name| name.ends_with("/data.pkl"))
        .context("it is a zip without a data.pkl, which torch.save writes")?
        .to_owned();
    let folder = pickle.trim_end_matches("data.pkl").to_owned();
    let mut entry = |name: &str, limit: usize| -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = zip.by_name(&format!("{folder}{name}"));
        file.with_context(|| format!("no {name}"))?
            .take(limit as u64)
            .read_to_end(&mut bytes)
            .with_context(|| format!("{name} is damaged; download the file again"))?;
        Ok(bytes)
    };
    if let Ok(order) = entry("byteorder", 16) {
        ensure!(
            order == b"little",
            "its numbers are big-endian; save it again elsewhere"
        );
    }
    let named = Machine::run(&entry("data.pkl", PICKLE_BYTES)?)?;
    for (
        name,
        Lazy {
            storage,
            offset,
            shape,
            strides,
        },
    ) in named
    {
        if is_without_part(&name) {
            continue;
        }
        let Storage { key, kind, len } = storage;
        let Some(kind) = kind else {
            bail!(
                "tensor `{name}` is of whole numbers; weights are not: load the model unquantized and save it again"
            );
        };
        let expected = len.saturating_mul(kind.elt_size_in_bytes());
        let bytes = entry(&format!("data/{key}"), expected.saturating_add(1))
            .with_context(|| format!("tensor `{name}`"))?;
        ensure!(
            bytes.len() == expected,
            "tensor `{name}`: its numbers are {} bytes instead of {expected}",
            bytes.len()
        );
        let numbers = Tensor::from_data_size(&bytes, &[len as i64], kind).to_kind(Kind::Float);
        let values = strided(&host_values(&numbers), offset, &shape, &strides)
            .with_context(|| format!("tensor `{name}` reaches beyond its numbers"))?;
        tensors.insert(name, Array { shape, values });
    }
    Ok(())
}

/// Names and shapes alone; thousands of tensors take less.
const PICKLE_BYTES: usize = 16 << 20;

/// Row-major values of a view of `numbers`; none if it is none.
fn strided(numbers: &[f32], offset: usize, shape: &[usize], strides: &[usize]) -> Option<Vec<f32>> {
    let count = shape
        .iter()
        .try_fold(1_usize, |n, &dim| n.checked_mul(dim))?;
    if count > numbers.len() || shape.len() != strides.len() {
        return None;
    }
    let value = |i: usize| {
        let (mut rest, mut at) = (i, offset);
        for (&dim, &stride) in shape.iter().zip(strides).rev() {
            at = at.checked_add((rest % dim).checked_mul(stride)?)?;
            rest /= dim;
        }
        numbers.get(at).copied()
    };
    (0..count).map(value).collect()
}

/// A tensor whose numbers are elsewhere in the zip.
#[derive(Clone, Debug)]
struct Lazy {
    storage: Storage,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Storage {
    key: String,
    /// None: whole numbers.
    kind: Option<Kind>,
    len: usize,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Option<Kind>),
}

/// A dictionary: its tensors, and those of its dictionaries that weights are kept in. Nothing else of it is asked for.
#[derive(Debug, Default)]
struct Dict {
    tensors: Vec<(String, Lazy)>,
    /// Key, and place among [`Machine::dicts`].
    wrapped: Vec<(&'static str, usize)>,
}

/// What training loops call the model's weights among the other things that they save.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// What the stack holds.
#[derive(Clone, Debug)]
enum Value {
    Mark,
    Nothing,
    Number(i64),
    Text(Rc<str>),
    Global(Global),
    Tuple(Rc<Vec<Value>>),
    /// By its place, so that one that holds itself is no cycle.
    Dict(usize),
    List,
    Storage(Storage),
    Tensor(Lazy),
}

impl Value {
    fn number(&self) -> Option<usize> {
        match self {
            Self::Number(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    fn numbers(&self) -> Option<Vec<usize>> {
        match self {
            Self::Tuple(values) => values.iter().map(Self::number).collect(),
            _ => None,
        }
    }
}

struct Machine<'a> {
    program: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    dicts: Vec<Dict>,
}

const CUT_OFF: &str = "the pickle ends too early; download the file again";
const OTHER: &str =
    "the pickle makes something else than a dictionary of tensors; save the model's state_dict()";

impl<'a> Machine<'a> {
    fn run(program: &'a [u8]) -> anyhow::Result<Vec<(String, Lazy)>> {
        let mut machine = Self {
            program,
            stack: Vec::new(),
            memo: HashMap::new(),
            dicts: Vec::new(),
        };
        while machine.step()? {}
        let [Value::Dict(outer)] = *machine.stack.as_slice() else {
            bail!(OTHER)
        };
        let weights = match machine.dicts[outer].wrapped.as_slice() {
            [] => outer,
            [(_, inner)] => *inner,
            several => {
                let names: Vec<_> = several.iter().map(|(name, _)| *name).collect();
                bail!(
                    "it holds several dictionaries of weights, {}; save one of them alone",
                    names.join(" and ")
                )
            }
        };
        Ok(std::mem::take(&mut machine.dicts[weights].tensors))
    }

    fn dict(&mut self) -> Value {
        self.dicts.push(Dict::default());
        Value::Dict(self.dicts.len() - 1)
    }

    /// One instruction, by its number in Python's pickletools; false: it was the last.
    fn step(&mut self) -> anyhow::Result<bool> {
        let [code] = self.bytes()?;
        let value = match code {
            0x80 => {
                let [version] = self.bytes()?;
                ensure!(version <= 5, "the pickle is of version {version}");
                return Ok(true);
            }
            b'.' => return Ok(false),
            b'(' => Value::Mark,
            b'N' | b'\x88' | b'\x89' => Value::Nothing,
            b'K' => Value::Number(self.bytes::<1>()?[0].into()),
            b'M' => Value::Number(u16::from_le_bytes(self.bytes()?).into()),
            b'J' => Value::Number(i32::from_le_bytes(self.bytes()?).into()),
            b'\x8a' => {
                let [len] = self.bytes()?;
                let bytes = self.take(len.into())?;
                ensure!(bytes.len() <= 8, OTHER);
                let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) {
                    0xff
                } else {
                    0
                };
                let mut whole = [sign; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                Value::Number(i64::from_le_bytes(whole))
            }
            b'X' => {
                let len = u32::from_le_bytes(self.bytes()?);
                Value::Text(
                    std::str::from_utf8(self.take(len as usize)?)
                        .context(OTHER)?
                        .into(),
                )
            }
            b'c' => Value::Global(self.global()?),
            b'}' => self.dict(),
            b']' => Value::List,
            // Of optimizers, beside the weights.
            b'G' => {
                self.take(8)?;
                Value::Nothing
            }
            b'a' => {
                self.pop()?;
                return self.append();
            }
            b'e' => {
                self.since_mark()?;
                return self.append();
            }
            b')' => Value::Tuple(Rc::default()),
            b't' => {
                let values = self.since_mark()?;
                Self::tuple(values)?
            }
            b'\x85'..=b'\x87' => {
                let at = self
                    .stack
                    .len()
                    .checked_sub(usize::from(code - 0x84))
                    .context(OTHER)?;
                let values = self.stack.split_off(at);
                Self::tuple(values)?
            }
            b'q' | b'r' => {
                let place = self.place(code == b'q')?;
                let top = self.stack.last().context(OTHER)?.clone();
                self.memo.insert(place, top);
                return Ok(true);
            }
            b'h' | b'j' => {
                let place = self.place(code == b'h')?;
                self.memo.get(&place).context(OTHER)?.clone()
            }
            b's' => {
                let at = self.stack.len().checked_sub(2).context(OTHER)?;
                let pair = self.stack.split_off(at);
                return self.set(pair);
            }
            b'u' => {
                let pairs = self.since_mark()?;
                return self.set(pairs);
            }
            // Attributes of the dictionary: versions of modules.
            b'b' => {
                self.pop()?;
                ensure!(matches!(self.stack.last(), Some(Value::Dict(_))), OTHER);
                return Ok(true);
            }
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            other => bail!(
                "the pickle has instruction {:?}, which makes no dictionary of tensors; nothing was run. Save the model's \
                 state_dict()",
                char::from(other)
            ),
        };
        self.stack.push(value);
        Ok(true)
    }

    fn take(&mut self, len: usize) -> anyhow::Result<&'a [u8]> {
        let (taken, rest) = self.program.split_at_checked(len).context(CUT_OFF)?;
        self.program = rest;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("so many"))
    }

    fn line(&mut self) -> anyhow::Result<&'a str> {
        let len = self
            .program
            .iter()
            .position(|byte| *byte == b'\n')
            .context(CUT_OFF)?;
        let line = self.take(len)?;
        self.take(1)?;
        std::str::from_utf8(line).context(OTHER)
    }

    fn place(&mut self, short: bool) -> anyhow::Result<u32> {
        Ok(match short {
            true => self.bytes::<1>()?[0].into(),
            false => u32::from_le_bytes(self.bytes()?),
        })
    }

    fn pop(&mut self) -> anyhow::Result<Value> {
        self.stack.pop().context(OTHER)
    }

    fn since_mark(&mut self) -> anyhow::Result<Vec<Value>> {
        let is_mark = |value: &Value| matches!(value, Value::Mark);
        let at = self.stack.iter().rposition(is_mark).context(OTHER)?;
        let values = self.stack.split_off(at + 1);
        self.stack.pop();
        Ok(values)
    }

    /// A tensor's size is a tuple in the tuple of its arguments, and no tuple is deeper: a million of them would overflow the
    /// stack that frees them.
    fn tuple(values: Vec<Value>) -> anyhow::Result<Value> {
        for value in &values {
            if let Value::Tuple(inner) = value {
                ensure!(
                    !inner.iter().any(|value| matches!(value, Value::Tuple(_))),
                    OTHER
                );
            }
        }
        Ok(Value::Tuple(Rc::new(values)))
    }

    /// What a name stands for here; nothing is imported.
    fn global(&mut self) -> anyhow::Result<Global> {
        let (module, name) = (self.line()?, self.line()?);
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", "FloatStorage") => Global::Storage(Some(Kind::Float)),
            ("torch", "DoubleStorage") => Global::Storage(Some(Kind::Double)),
            ("torch", "HalfStorage") => Global::Storage(Some(Kind::Half)),
            ("torch", "BFloat16Storage") => Global::Storage(Some(Kind::BFloat16)),
            (
                "torch",
                "ByteStorage" | "BoolStorage" | "CharStorage" | "ShortStorage" | "IntStorage"
                | "LongStorage",
            ) => Global::Storage(None),
            _ => bail!(
                "the pickle would run `{module}.{name}`, which no weights need; nothing was run. If you trust it, save the \
                 model's state_dict() alone"
            ),
        })
    }

    /// ("storage", kind, key, device, length): numbers elsewhere.
    fn storage(&mut self) -> anyhow::Result<Value> {
        if let Value::Tuple(values) = self.pop()?
            && let [
                Value::Text(_),
                Value::Global(Global::Storage(kind)),
                Value::Text(key),
                _,
                len,
            ] = values.as_slice()
            && let Some(len) = len.number()
        {
            let (key, kind) = (key.to_string(), *kind);
            return Ok(Value::Storage(Storage { key, kind, len }));
        }
        bail!(OTHER)
    }

    fn call(&mut self) -> anyhow::Result<Value> {
        let arguments = self.pop()?;
        let Value::Tuple(arguments) = arguments else {
            bail!(OTHER)
        };
        let Value::Global(function) = self.pop()? else {
            bail!(OTHER)
        };
        Ok(match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.dict(),
            (Global::RebuildTensor, [Value::Storage(storage), offset, shape, strides, ..]) => {
                Value::Tensor(Lazy {
                    storage: storage.clone(),
                    offset: offset.number().context(OTHER)?,
                    shape: shape.numbers().context(OTHER)?,
                    strides: strides.numbers().context(OTHER)?,
                })
            }
            (Global::RebuildParameter, [Value::Tensor(tensor), ..]) => {
                Value::Tensor(tensor.clone())
            }
            _ => bail!(OTHER),
        })
    }

    fn set(&mut self, pairs: Vec<Value>) -> anyhow::Result<bool> {
        let Some(Value::Dict(dict)) = self.stack.last() else {
            bail!(OTHER)
        };
        let dict = &mut self.dicts[*dict];
        for pair in pairs.chunks(2) {
            let [Value::Text(name), value] = pair else {
                continue;
            };
            match value {
                Value::Tensor(tensor) => dict.tensors.push((name.to_string(), tensor.clone())),
                Value::Dict(inner) => {
                    let wrapper = WRAPPERS.into_iter().find(|wrapper| **wrapper == **name);
                    dict.wrapped.extend(wrapper.map(|name| (name, *inner)));
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// What is in lists is of no interest.
    fn append(&mut self) -> anyhow::Result<bool> {
        ensure!(matches!(self.stack.last(), Some(Value::List)), OTHER);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::{FileOptions, ZipWriter};

    use super::*;

    fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            let stored = FileOptions::default().compression_method(zip::CompressionMethod::Stored);
            zip.start_file(format!("model/{name}"), stored).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn read(pickle: &[u8], numbers: &[f32]) -> Result<Tensors, String> {
        let numbers: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let zip = zipped(&[("data.pkl", pickle), ("data/0", &numbers)]);
        let mut tensors = Tensors::new();
        match super::read(&zip, &mut tensors) {
            Ok(()) => Ok(tensors),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    fn text(text: &str) -> Vec<u8> {
        let len = text.len() as u32;
        [b"X", &len.to_le_bytes()[..], text.as_bytes()].concat()
    }

    /// A (3, 2) view of so many numbers, its strides as given.
    fn tensor(len: u8, strides: [u8; 2]) -> Vec<u8> {
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text("0"),
            text("cpu"),
            vec![b'K', len],
            b"tQK\x00K\x03K\x02\x86".to_vec(),
            vec![b'K', strides[0], b'K', strides[1]],
            b"\x86\x89}tR".to_vec(),
        ]
        .concat()
    }

    /// {key: value, …}
    fn dict(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let pairs = pairs
            .iter()
            .map(|(key, value)| [text(key), value.clone(), b"s".to_vec()].concat());
        [b"}".to_vec(), pairs.collect::<Vec<_>>().concat()].concat()
    }

    fn program(value: &[u8]) -> Vec<u8> {
        [b"\x80\x02", value, b"."].concat()
    }

    /// {"w": a view of 6 numbers}
    fn one_tensor(strides: [u8; 2]) -> Vec<u8> {
        program(&dict(&[("w", tensor(6, strides))]))
    }

    #[test]
    fn views_are_read_by_their_strides() {
        let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let values = |strides| {
            read(&one_tensor(strides), &numbers).map(|tensors| tensors["w"].values.clone())
        };
        assert_eq!(values([2, 1]).unwrap(), numbers);
        assert_eq!(values([1, 3]).unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert!(values([2, 2]).unwrap_err().contains("`w` reaches beyond"));
        let short = read(&one_tensor([2, 1]), &numbers[1..]).unwrap_err();
        assert!(short.contains("20 bytes instead of 24"), "{short}");
        let long = read(&one_tensor([2, 1]), &[0.0; 7]).unwrap_err();
        assert!(long.contains("instead of 24"), "{long}");
        // What repeats numbers could be of any size.
        let expanded = |len: u8, numbers: &[f32]| {
            read(&program(&dict(&[("w", tensor(len, [0, 0]))])), numbers)
        };
        assert_eq!(expanded(6, &numbers).unwrap()["w"].values, [1.0; 6]);
        let error = expanded(5, &numbers[..5]).unwrap_err();
        assert!(error.contains("`w` reaches beyond"), "{error}");
    }

    #[test]
    fn weights_are_found_beside_what_training_saves_with_them() {
        let weights = dict(&[("w", tensor(6, [2, 1]))]);
        // Steps, a list of settings with floats in tuples, a tensor by number.
        let optimizer = [
            b"}".to_vec(),
            text("param_groups"),
            b"]}".to_vec(),
            text("betas"),
            [b'G'].into_iter().chain(0.9f64.to_be_bytes()).collect(),
            b"K\x01\x86sa(K\x00K\x01esK\x00".to_vec(),
            tensor(6, [1, 1]),
            b"s".to_vec(),
        ]
        .concat();
        for wrapper in WRAPPERS {
            let saved = dict(&[
                ("epoch", b"K\x03".to_vec()),
                (wrapper, weights.clone()),
                ("optimizer_state_dict", optimizer.clone()),
            ]);
            let tensors = read(&program(&saved), &[0.5; 6]).unwrap();
            assert_eq!(tensors.into_keys().collect::<Vec<_>>(), ["w"]);
        }
        let two = dict(&[("state_dict", weights.clone()), ("model", weights.clone())]);
        let error = read(&program(&two), &[0.5; 6]).unwrap_err();
        assert!(
            error.contains("several dictionaries of weights, state_dict and model"),
            "{error}"
        );
        // A dictionary in itself holds nothing else, and ends.
        let itself = [b"}q\x00".to_vec(), text("model"), b"h\x00s".to_vec()].concat();
        assert!(read(&program(&itself), &[]).unwrap().is_empty());
        // Lists are appended to, nothing else is.
        for bad in [&b"}K\x00a"[..], b"}(K\x00e", b"a"] {
            assert!(read(&program(bad), &[]).is_err(), "{bad:?}");
        }
    }

    /// Each is whole but for what is refused.
    #[test]
    fn limits_hold_what_would_else_be_read() {
        let read_with = |order: &[u8]| {
            let entries = [
                ("data.pkl", &one_tensor([2, 1])[..]),
                ("data/0", &[0; 24]),
                ("byteorder", order),
            ];
            super::read(&zipped(&entries), &mut Tensors::new())
        };
        read_with(b"little").unwrap();
        let error = read_with(b"big").unwrap_err();
        assert!(format!("{error:#}").contains("big-endian"), "{error:#}");

        let mut newer = one_tensor([2, 1]);
        newer[1] = 5;
        read(&newer, &[0.0; 6]).unwrap();
        newer[1] = 6;
        let error = read(&newer, &[0.0; 6]).unwrap_err();
        assert!(error.contains("of version 6"), "{error}");

        // A tensor takes tuples in a tuple; deeper ones would be freed by as deep a recursion.
        let beside = |depth: usize| {
            let deep = [b")".to_vec(), vec![b'\x85'; depth]].concat();
            let pairs = [("w", tensor(6, [2, 1])), ("deep", deep)];
            read(&program(&dict(&pairs)), &[0.0; 6])
        };
        beside(1).unwrap();
        assert!(beside(2).unwrap_err().contains("something else"));
        beside(1_000_000).unwrap_err();

        let named = |len: usize| {
            let pairs = [(&*"w".repeat(len), tensor(6, [2, 1]))];
            read(&program(&dict(&pairs)), &[0.0; 6])
        };
        named(1000).unwrap();
        let error = named(PICKLE_BYTES).unwrap_err();
        assert!(error.contains("too early"), "{error}");
    }

    #[test]
    fn what_would_run_code_is_refused_by_name() {
        for (name, program) in [
            (
                "posix.system",
                &b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R."[..],
            ),
            (
                "builtins.eval",
                b"\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R.",
            ),
            (
                "torch._utils._rebuild_wrapper",
                b"\x80\x02ctorch._utils\n_rebuild_wrapper\n)R.",
            ),
        ] {
            let error = read(program, &[]).unwrap_err();
            assert!(error.contains(&format!("would run `{name}`")), "{error}");
            assert!(error.contains("nothing was run"), "{error}");
        }
        // Other ways to call: INST, OBJ, NEWOBJ, STACK_GLOBAL, EXT1.
        for code in [b'i', b'o', 0x81, 0x93, 0x82] {
            let error = read(&[0x80, 2, b'(', code, b'.'], &[]).unwrap_err();
            assert!(error.contains("nothing was run"), "{error}");
        }
    }

    #[test]
    fn damaged_pickles_are_refused() {
        let whole = one_tensor([2, 1]);
        for len in 0..whole.len() {
            assert!(read(&whole[..len], &[0.0; 6]).is_err(), "{len}");
        }
        // Instructions without what they take; a mark for an argument.
        for program in [
            &b"t."[..],
            b"\x85.",
            b"s.",
            b"u.",
            b"b.",
            b"Q.",
            b"R.",
            b"h\x05.",
            b"q\x00.",
        ] {
            let error = read(program, &[]).unwrap_err();
            assert!(error.contains("something else"), "{program:?}: {error}");
        }
        let error = super::read(b"PK no zip", &mut Tensors::new()).unwrap_err();
        assert!(format!("{error:#}").contains("no zip"), "{error:#}");
    }
}

//! Decision Transformers of Hugging Face's transformers: what `fixtures.py` made with that library acts here as it does there,
//! and what cannot is refused.

mod export;
mod files;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use dt_train::run::Run;
use dt_train::run::checkpoint::Array;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tempfile::TempDir;

/// What none of the fixtures says.
const SAID: [&str; 12] = [
    "--statistics",
    "statistics.json",
    "--return-scale",
    "10",
    "--target-return",
    "-3",
    "--context-len",
    "4",
    "--action-range",
    "-2,2",
    "--period-us",
    "20000",
];

/// A folder to import in, with `statistics.json` for three states.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let statistics = r#"{"mean": [0.5, -1, 2], "std": [1, 2, 0.25]}"#;
        fs::write(desk.path("statistics.json"), statistics).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dt-train"));
        command
            .current_dir(self.0.path())
            .env("OMP_NUM_THREADS", "1");
        command.args(args).assert()
    }

    fn import(&self, dir: &str, options: &[&str]) -> assert_cmd::assert::Assert {
        self.run(&[&["import-hf", dir, "--out", "RUN"], options].concat())
    }

    /// What `import` says when it refuses; nothing is written then.
    fn refusal(&self, dir: &str, options: &[&str]) -> String {
        let output = self.import(dir, options).code(1);
        assert!(!self.path("RUN").exists());
        String::from_utf8(output.get_output().stderr.clone()).unwrap()
    }

    /// A fixture's copy, `MODEL`.
    fn copy(&self, name: &str) -> PathBuf {
        let copy = self.path("MODEL");
        fs::create_dir_all(&copy).unwrap();
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        copy
    }

    /// The actions of `policy`, flat.
    fn actions(&self, policy: &str, contexts: &Path) -> Vec<f64> {
        numbers(&self.predict(policy, contexts))
    }

    fn predict(&self, policy: &str, contexts: &Path) -> String {
        let output = self.run(&["predict", policy, "--contexts", contexts.to_str().unwrap()]);
        String::from_utf8(output.success().get_output().stdout.clone()).unwrap()
    }
}

fn fixture(name: &str) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hf/fixtures");
    Path::new(fixtures).join(name)
}

/// The key `action` of every line, flat.
fn numbers(lines: &str) -> Vec<f64> {
    let actions = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["action"].as_array().unwrap().clone()
    });
    actions
        .flatten()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn largest_difference(one: &[f64], other: &[f64]) -> f64 {
    assert_eq!(one.len(), other.len());
    let differences = one
        .iter()
        .zip(other)
        .map(|(one, other)| (one - other).abs());
    differences.fold(
        0.0,
        |largest, next| if next > largest { next } else { largest },
    )
}

/// Rewrites a safetensors file of f32 tensors.
fn change(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Array>)) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let words = view.data().chunks(4);
        let values = words
            .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let shape = view.shape().to_vec();
        tensors.insert(name.to_owned(), Array { shape, values });
    }
    change(&mut tensors);
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, array)| {
            (
                name,
                array.values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            )
        })
        .collect();
    let views = tensors.iter().map(|(name, array)| {
        let view = TensorView::new(Dtype::F32, array.shape.clone(), &bytes[name]).unwrap();
        (name, view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// One, two, three and four heads; every activation; tanh and none; scales of attention; one file and several and a pickle; the names of the
/// paper's code, in half precision, with masks. In libtorch, and in the controller's engine, folded too.
#[test]
fn imported_models_act_as_they_do_in_transformers() {
    for name in [
        "relu", "sharded", "scaled", "pickled", "paper", "gelu", "silu", "tanh",
    ] {
        let desk = Desk::new();
        desk.import(fixture(name).to_str().unwrap(), &SAID)
            .success();
        let golden = fixture(name).join("golden.jsonl");
        let theirs = numbers(&fs::read_to_string(&golden).unwrap());
        let mut forms = vec!["RUN".to_owned()];
        for fold in ["never", "always"] {
            if fold == "always" && name != "relu" {
                continue;
            }
            let file = format!("{fold}.dtb");
            desk.run(&[
                "export", "RUN", "--out", &file, "--dtype", "f32", "--fold", fold,
            ])
            .success();
            forms.push(file);
        }
        for form in forms {
            let difference = largest_difference(&desk.actions(&form, &golden), &theirs);
            assert!(difference <= 2e-5, "{name}, {form}: {difference}");
        }
        // A constant would be reproduced whatever went wrong on the way.
        let spread = largest_difference(&theirs, &vec![theirs[0]; theirs.len()]);
        assert!(spread > 0.3, "{name}: {spread}");
    }
}

/// Heads that predict states and returns: left out with a word, or kept, in libtorch and engine as in transformers, and there and
/// back to the bit.
#[test]
fn heads_are_kept_where_they_are_asked_for() {
    for name in ["relu", "pickled", "paper", "scaled"] {
        let desk = Desk::new();
        let model = fixture(name);
        let output = desk.import(model.to_str().unwrap(), &SAID).success();
        let notes = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        assert!(notes.contains("--predictions keeps them"), "{notes}");
        let again = [&SAID[..], &["--force", "--predictions"]].concat();
        let output = desk.import(model.to_str().unwrap(), &again).success();
        let notes = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        assert!(!notes.contains("--predictions"), "{notes}");

        let golden = model.join("golden.jsonl");
        let theirs = predictions(&fs::read_to_string(&golden).unwrap());
        assert_eq!(theirs.len(), 4 * 9, "{name}: of three in four contexts");
        desk.run(&["export", "RUN", "--out", "f32.dtb", "--dtype", "f32"])
            .success();
        for form in ["RUN", "f32.dtb"] {
            let difference =
                largest_difference(&predictions(&desk.predict(form, &golden)), &theirs);
            assert!(difference <= 2e-5, "{name}, {form}: {difference}");
        }
        desk.run(&["export-hf", "RUN", "--out", "BACK"]).success();
        desk.run(&["import-hf", "BACK", "--out", "AGAIN"]).success();
        for file in ["config.toml", "last.safetensors"] {
            let [one, other] = ["RUN", "AGAIN"].map(|run| fs::read(desk.path(run).join(file)));
            assert!(one.unwrap() == other.unwrap(), "{name}: {file}");
        }
        let error = desk
            .run(&["import-hf", "BACK", "--out", "OTHER", "--predictions"])
            .code(1);
        let error = String::from_utf8(error.get_output().stderr.clone()).unwrap();
        assert!(error.contains("leave it out"), "{error}");
    }
}

/// What is predicted in every line, flat.
fn predictions(lines: &str) -> Vec<f64> {
    let mut all = Vec::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let state = line["predicted_state"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let numbers = state.iter().chain([&line["predicted_return"]]);
        all.extend(numbers.filter_map(Value::as_f64));
    }
    all
}

/// As transformers has it in its sums: without, its actions are others.
#[test]
fn the_first_position_counts_and_the_others_do_not() {
    let golden = fixture("relu").join("golden.jsonl");
    let theirs = numbers(&fs::read_to_string(&golden).unwrap());
    for (rows, same) in [(1..12, true), (0..1, false)] {
        let desk = Desk::new();
        let weights = desk.copy("relu").join("model.safetensors");
        change(&weights, |tensors| {
            let positions = tensors.get_mut("encoder.wpe.weight").unwrap();
            positions.values[16 * rows.start..16 * rows.end].fill(0.0);
        });
        desk.import("MODEL", &SAID).success();
        let difference = largest_difference(&desk.actions("RUN", &golden), &theirs);
        assert_eq!(difference <= 2e-5, same, "{difference}");
    }
}

/// A network whose actions are in the environment's units is scaled to its limits: what comes out is what came out, and goes
/// in as it went in, in units of −1…1.
#[test]
fn a_network_without_tanh_is_scaled_to_the_limits_of_its_actions() {
    let desk = Desk::new();
    let said: Vec<&str> = SAID
        .iter()
        .map(|&word| match word {
            "--action-range" => "--action-limits",
            "-2,2" => "-6,2",
            word => word,
        })
        .collect();
    let model = fixture("sharded");
    desk.import(model.to_str().unwrap(), &said).success();
    let golden = fs::read_to_string(model.join("golden.jsonl")).unwrap();
    let scaled: String = golden
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            for action in line["actions"].as_array_mut().unwrap() {
                for number in action.as_array_mut().unwrap() {
                    *number = ((number.as_f64().unwrap() + 2.0) / 4.0).into();
                }
            }
            format!("{line}\n")
        })
        .collect();
    fs::write(desk.path("scaled.jsonl"), scaled).unwrap();
    let theirs = numbers(&golden);
    let ours = desk.actions("RUN", &desk.path("scaled.jsonl"));
    let ours: Vec<f64> = ours.iter().map(|action| 4.0 * action - 2.0).collect();
    let difference = largest_difference(&ours, &theirs);
    assert!(difference <= 2e-5, "{difference}");
    let info = Run::open(&desk.path("RUN")).unwrap().info;
    assert_eq!((info.action_low[0], info.action_high[0]), (-6.0, 2.0));

    let desk = Desk::new();
    let error = desk.refusal(fixture("relu").to_str().unwrap(), &said);
    assert!(
        error.contains("has a tanh") && error.contains("--action-range"),
        "{error}"
    );
}

#[test]
fn a_run_has_what_was_said_of_it() {
    let desk = Desk::new();
    let model = fixture("relu");
    desk.import(model.to_str().unwrap(), &SAID).success();
    let Run { info, recipe, .. } = Run::open(&desk.path("RUN")).unwrap();
    assert_eq!((info.state_dim, info.act_dim), (3, 1));
    assert_eq!(
        (info.state_mean, info.state_std),
        (vec![0.5, -1.0, 2.0], vec![1.0, 2.0, 0.25])
    );
    assert_eq!(
        (info.state_low, info.state_high),
        (vec![-9.5, -21.0, -0.5], vec![10.5, 19.0, 4.5])
    );
    assert_eq!((info.action_low, info.action_high), (vec![-2.0], vec![2.0]));
    assert_eq!(
        (info.safe_action, info.control_period_us),
        (vec![0.0], 20_000)
    );
    assert_eq!((recipe.data.return_scale, info.target_return), (10.0, -3.0));
    assert_eq!((info.env.as_str(), info.return_range), ("", None));
    // Again only where it is to be replaced.
    let error = desk.import(model.to_str().unwrap(), &SAID).code(1);
    let error = String::from_utf8(error.get_output().stderr.clone()).unwrap();
    assert!(
        error.contains("holds another run") && error.contains("--force"),
        "{error}"
    );
    desk.import(model.to_str().unwrap(), &[&SAID[..], &["--force"]].concat())
        .success();
}

/// Its environment says the range of actions, the period and what observations can be, and is where `eval` takes it.
#[test]
fn an_environment_says_the_rest_and_a_short_table_is_noted() {
    let desk = Desk::new();
    let model = fixture("relu");
    let options = [&SAID[..8], &["--env", "pendulum"]].concat();
    let output = desk.import(model.to_str().unwrap(), &options).success();
    let notes = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    assert!(
        notes.contains("12 rows, and episodes of pendulum have 200 steps"),
        "{notes}"
    );
    let info = Run::open(&desk.path("RUN")).unwrap().info;
    assert_eq!(
        (info.env.as_str(), info.control_period_us),
        ("pendulum", 50_000)
    );
    assert_eq!((info.action_low, info.action_high), (vec![-2.0], vec![2.0]));
    // The speed reaches 8, ten deviations of it here 4.5.
    assert_eq!(info.state_high[2], 8.0);
    desk.run(&["eval", "RUN", "--env", "pendulum", "--episodes", "1"])
        .success();
    // Another environment's observations are longer.
    let other = [&SAID[..8], &["--env", "hopper"]].concat();
    fs::remove_dir_all(desk.path("RUN")).unwrap();
    let error = desk.refusal(model.to_str().unwrap(), &other);
    assert!(
        error.contains("environment `hopper` has 11 and 3"),
        "{error}"
    );
}

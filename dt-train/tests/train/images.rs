//! States that are images: from pixels in a file to actions that follow from them.

use std::path::Path;

use dt_train::data::d4rl::{self, Metadata, Recording};
use dt_train::data::frames::Frames;
use dt_train::data::{Dataset, Reading};
use dt_train::deploy::in_pixels;
use dt_train::run::checkpoint::Weights;
use dt_train::run::{Run, Which, read_metrics};
use host_sim::policy_file::PolicyFile;

use crate::workshop::{Workshop, stderr};

/// Edge of an image.
const EDGE: usize = 6;

/// Episodes in which a dot runs to the left, to the right or not at all; what it does is the right choice. One frame says where
/// it is, and only two of them what it does.
fn moving_dots(path: &Path, episodes: usize) {
    dots(path, episodes, [0, 1]);
}

/// The same, of a ground and dots of this brightness.
fn dots(path: &Path, episodes: usize, [ground, brightness]: [u8; 2]) {
    let mut recording = Recording {
        frames: Some(Frames::new([EDGE, EDGE, 1])),
        ..Recording::default()
    };
    let mut random = 1_u32;
    let mut below = |n: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) as usize % n
    };
    let steps = 8;
    for _ in 0..episodes {
        let (row, mut column, mut motion) = (below(EDGE), below(EDGE), below(3));
        for t in 0..steps {
            let mut frame = [ground; EDGE * EDGE];
            frame[row * EDGE + column] = brightness;
            recording.frames.as_mut().unwrap().push(&frame);
            // What it does until now, and then something else.
            recording
                .actions
                .push(if t == 0 { 1.0 } else { motion as f32 });
            recording.rewards.push(1.0);
            recording.terminals.push(false);
            recording.timeouts.push(t + 1 == steps);
            motion = below(3);
            if !(1..=EDGE).contains(&(column + motion)) {
                motion = 1;
            }
            column = column + motion - 1;
        }
    }
    let metadata = Metadata {
        env: "dots",
        policy: "test",
        seed: 0,
        choices: true,
    };
    d4rl::write(path, true, &recording, &metadata).unwrap();
}

const SETTINGS: [&str; 11] = [
    "control.period_us=1000",
    "dt.encoder=[[8, 3, 1]]",
    "dt.d_model=16",
    "dt.n_layer=1",
    "dt.context_len=1",
    "dt.sequence_len=4",
    "train.updates=600",
    "train.learning_rate=5e-3",
    "train.dropout=0",
    "train.ema_decay=0",
    "train.threads=1",
];

fn settings<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let all = SETTINGS.iter().copied().chain(more.iter().copied());
    all.flat_map(|setting| ["--set", setting]).collect()
}

#[test]
fn what_moves_in_stacked_frames_is_learned_and_from_one_frame_it_cannot_be() {
    let workshop = Workshop::new();
    moving_dots(&workshop.path("data.hdf5"), 60);
    let accuracy = |out: &str, more: &[&str]| {
        let args = [more, &settings(&[])].concat();
        workshop.train_ok(out, &args);
        let record = read_metrics(&workshop.path(out).join("metrics.jsonl")).pop();
        record.unwrap().validation_accuracy.unwrap()
    };
    let seen = accuracy("two", &["--frame-stack", "2"]);
    let unseen = accuracy("one", &[]);
    assert!(seen > 0.85, "{seen}");
    assert!(unseen < 0.7, "{unseen}");

    let run = Run::open(&workshop.path("two")).unwrap();
    assert_eq!(run.dims().image, Some([EDGE, EDGE, 2]));
    let weights = run.checkpoint(Which::Last).unwrap().weights;
    assert!(weights.get("conv_1.weight", &[8, 3, 3, 2]).is_ok());
    assert!(weights.get("embed_state.weight", &[16, 4 * 4 * 8]).is_ok());
}

#[test]
fn a_run_with_images_is_resumed_to_the_bit() {
    let workshop = Workshop::new();
    moving_dots(&workshop.path("data.hdf5"), 12);
    let train = |out: &str, updates: &str, more: &[&str]| {
        let updates = format!("train.updates={updates}");
        let args = [
            &["--frame-stack", "2"],
            more,
            &settings(&[&updates, "train.dropout=0.1", "dt.encoder=[]"]),
        ];
        workshop.train_ok(out, &args.concat());
    };
    train("whole", "30", &[]);
    train("part", "10", &[]);
    train("part", "30", &["--resume"]);
    assert!(
        workshop.bytes("whole/last.safetensors") == workshop.bytes("part/last.safetensors"),
        "the weights differ"
    );
    // The encoder that suits the size is what the recipe says.
    let run = Run::open(&workshop.path("whole")).unwrap();
    assert!(
        run.recipe.to_toml().contains("encoder = [[16, 3, 1]]"),
        "{}",
        run.recipe.to_toml()
    );
}

/// What a version began that took nothing off pixels, goes on so.
#[test]
fn a_run_that_goes_on_reads_pixels_as_it_did() {
    let workshop = Workshop::new();
    dots(&workshop.path("data.hdf5"), 12, [40, 200]);
    let ground = || {
        let run = Run::open(&workshop.path("run")).unwrap();
        run.info.image.unwrap().ground
    };
    for run in ["run", "other"] {
        workshop.train_ok(run, &settings(&["train.updates=5"]));
    }
    assert_eq!(ground(), 40.0);
    let path = workshop.path("run/run.json");
    let mut info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    info["image"].as_object_mut().unwrap().remove("ground");
    std::fs::write(&path, info.to_string()).unwrap();
    let more = [&["--resume"], &settings(&["train.updates=8"])[..]].concat();
    for run in ["run", "other"] {
        workshop.train_ok(run, &more);
    }
    assert_eq!(ground(), 0.0);
    // It is what the pixels were, not only what is said of them.
    let weights = |run: &str| workshop.bytes(&format!("{run}/last.safetensors"));
    assert_ne!(weights("run"), weights("other"));
}

#[test]
fn what_does_not_go_with_images_is_refused_by_name() {
    let workshop = Workshop::new();
    moving_dots(&workshop.path("data.hdf5"), 4);
    for (set, fragment) in [
        (
            "dt.encoder=[[8, 7, 1]]",
            "dt.encoder = [[8, 7, 1]] of 6×6×1 pixels: kernel",
        ),
        ("dt.encoder=[[8, 0, 1]]", "each number in 1..=1024"),
        (
            "dt.encoder=[[8, 3, 1], [8, 1, 1], [8, 1, 1], [8, 1, 1]]",
            "up to 3 convolutions",
        ),
        ("dt.predict_state=1.0", "dt.predict_state predicts vectors"),
        ("data.frame_stack=17", "must lie in 1..=16"),
    ] {
        workshop.train_fails("run", &settings(&[set]), &[fragment]);
    }
    let bc = ["--algo", "bc", "--set", "control.period_us=1000"];
    workshop.train_fails(
        "run",
        &bc,
        &["the observations are Image 6×6×1; `bc` learns from vectors alone, Box"],
    );
    let workshop = Workshop::new();
    let vectors = ["--set", "dt.encoder=[[8, 3, 1]]"];
    workshop.train_fails(
        "run",
        &vectors,
        &["dt.encoder is of images, and the data's states are vectors"],
    );
    workshop.train_fails(
        "run",
        &["--frame-stack", "2"],
        &["data.hdf5: the observations are Box(3)", "--frame-stack"],
    );
}

#[test]
fn images_are_inspected_and_kept_small() {
    let workshop = Workshop::new();
    moving_dots(&workshop.path("data.hdf5"), 500);
    // Processes that other tests start may have the file open for a moment, and with it its lock.
    std::fs::copy(workshop.path("data.hdf5"), workshop.path("copy.hdf5")).unwrap();
    let data = Dataset::load(&[workshop.path("copy.hdf5")]).unwrap();
    let frames = data.observations.images().unwrap();
    assert_eq!((frames.len(), frames.scale()), (4000, 1.0));
    // Frames of 36 bytes: most of it is where each of them is.
    let file = std::fs::metadata(workshop.path("data.hdf5")).unwrap().len() as usize;
    assert!(
        frames.memory() < 4000 * 36 && frames.memory() < 4 * file,
        "{} {file}",
        frames.memory()
    );

    let output = workshop
        .command(&["inspect", "data.hdf5", "--frame-stack", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(text.contains("Image 6×6×2"), "{text}");
    assert!(text.contains("--frame-stack 2"), "{text}");
    let reading = Reading {
        frame_stack: 2,
        ..Reading::default()
    };
    let stacked = Dataset::load_as(&[workshop.path("copy.hdf5")], &reading).unwrap();
    assert_eq!((stacked.state_dim(), stacked.len()), (72, 4000));
}

/// The network reads pixels less 40 and divided by 255, the policy file's weights have that in them: both do the same.
#[test]
fn a_policy_file_reads_pixels_and_does_what_the_network_does() {
    let workshop = Workshop::new();
    dots(&workshop.path("data.hdf5"), 30, [40, 200]);
    let args = ["--frame-stack", "2"];
    for (attention, n_head) in [("streaming", 1), ("window", 2)] {
        let more = [
            format!("dt.attention={attention}"),
            format!("dt.n_head={n_head}"),
            "dt.context_len=3".to_owned(),
            "dt.sequence_len=0".to_owned(),
            "train.updates=60".to_owned(),
            "dt.encoder=[[8, 3, 1], [4, 2, 2]]".to_owned(),
        ];
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        workshop.train_ok("run", &[&args[..], &settings(&more), &["--force"]].concat());
        for dtype in ["int8", "int4", "f32"] {
            let export = [
                "export", "run", "--out", "p.dtb", "--dtype", dtype, "--force",
            ];
            let output = workshop.command(&export).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            // 2 · 3 + 3 in a row and three extreme ones.
            assert!(
                said.contains("12 golden steps reproduced to the bit"),
                "{said}"
            );
            assert!(
                said.contains("conv_2") && !stderr(&output).contains("random inputs"),
                "{said}"
            );
        }
        // What it says of contexts, which hold pixels.
        let context = |t: usize| {
            let state = |t: usize| -> Vec<u32> {
                (0..EDGE * EDGE * 2)
                    .map(|i| if i % 17 == t % 17 { 200 } else { 40 })
                    .collect()
            };
            serde_json::json!({
                "returns_to_go": (0..t).map(|i| 1.0 - 0.1 * i as f64).collect::<Vec<_>>(),
                "states": (0..t).map(state).collect::<Vec<_>>(),
                "actions": vec![1; t],
                "timesteps": (0..t).collect::<Vec<_>>(),
            })
        };
        let lines: String = (1..6).map(|t| format!("{}\n", context(t))).collect();
        std::fs::write(workshop.path("in.jsonl"), lines).unwrap();
        let answers = |policy: &str| -> Vec<Vec<f64>> {
            let output = workshop
                .command(&["predict", policy, "--contexts", "in.jsonl"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            let text = String::from_utf8(output.stdout).unwrap();
            let logits = |line: &str| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                serde_json::from_value(line["logits"].clone()).unwrap()
            };
            text.lines().map(logits).collect()
        };
        let (by_torch, by_engine) = (answers("run"), answers("p.dtb"));
        assert_eq!(by_torch.len(), 5);
        assert_ne!(by_torch[0], by_torch[4]);
        for (a, b) in by_torch.concat().iter().zip(by_engine.concat()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

/// A filter on what the network in training reads of a picture is one of other weights on the picture itself.
#[test]
fn what_is_taken_off_pixels_is_in_the_weights_of_a_policy_file() {
    let workshop = Workshop::new();
    dots(&workshop.path("data.hdf5"), 10, [40, 200]);
    workshop.train_ok("run", &settings(&["train.updates=5"]));
    let run = Run::open(&workshop.path("run")).unwrap();
    let image = run.info.image.unwrap();
    assert_eq!((image.scale, image.ground), (255.0, 40.0));
    let trained = run.checkpoint(Which::Last).unwrap();
    let deployed = in_pixels(&run, &trained);
    let filters = |weights: &Weights, pixels: &dyn Fn(usize) -> f32| -> Vec<f32> {
        let weight = weights.get("conv_1.weight", &[8, 3, 3, 1]).unwrap();
        let bias = weights.get("conv_1.bias", &[8]).unwrap();
        let rows = weight.chunks(9).zip(bias);
        rows.map(|(row, bias)| {
            let products = row.iter().enumerate();
            bias + products.map(|(i, w)| w * pixels(i)).sum::<f32>()
        })
        .collect()
    };
    for seed in 0..9 {
        let pixel = |i: usize| ((i * 31 + seed * 97) % 256) as f32;
        let here = filters(&trained.weights, &|i| image.normalized(pixel(i)));
        let there = filters(&deployed.weights, &pixel);
        for (here, there) in here.iter().zip(there) {
            assert!((here - there).abs() < 1e-5, "{here} {there}");
        }
        assert!(here.iter().any(|value| value.abs() > 0.01), "{here:?}");
    }
}

/// What rounding does to a filter's weights does not show on the ground, of which most pixels are: int8 says of it what f32 does.
#[test]
fn rounded_filters_say_of_the_ground_what_exact_ones_do() {
    let workshop = Workshop::new();
    dots(&workshop.path("data.hdf5"), 10, [120, 200]);
    workshop.train_ok("run", &settings(&["train.updates=5"]));
    // Of each filter: of the ground, and of a pixel of it that is black.
    let said = |dtype: &str| -> Vec<[f64; 2]> {
        let name = format!("{dtype}.dtb");
        let export = ["export", "run", "--dtype", dtype, "--out", &name];
        let output = workshop.command(&export).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let file = PolicyFile::from_bytes(&workshop.bytes(&name)).unwrap();
        let blob = file.blob();
        let mut linears = blob.model().linears();
        let (_, filters) = linears
            .find(|(name, _)| name.to_string() == "conv_1")
            .unwrap();
        let weight = |row, column| f64::from(filters.weight(row, column).unwrap());
        let rows = filters.bias().iter().enumerate();
        rows.map(|(row, bias)| {
            let sum: f64 = (0..filters.cols()).map(|column| weight(row, column)).sum();
            [
                f64::from(*bias) + 120.0 * sum,
                f64::from(*bias) + 120.0 * (sum - weight(row, 4)),
            ]
        })
        .collect()
    };
    let exact = said("f32");
    for dtype in ["int8", "int4"] {
        let rounded = said(dtype);
        let apart = |i: usize| {
            let pairs = exact.iter().zip(&rounded);
            pairs.fold(0.0, |most, (a, b)| f64::max(most, (a[i] - b[i]).abs()))
        };
        assert!(apart(0) < 1e-6, "{dtype}: {}", apart(0));
        assert!(apart(1) > 1e-5, "{dtype}: {}", apart(1));
    }
}

#[test]
fn transformers_has_no_images() {
    let workshop = Workshop::new();
    moving_dots(&workshop.path("data.hdf5"), 10);
    workshop.train_ok("run", &settings(&["train.updates=1"]));
    let export = ["export-hf", "run", "--out", "hf"];
    let output = workshop.command(&export).output().unwrap();
    assert!(!output.status.success());
    let error = stderr(&output);
    assert!(error.contains("its states are images"), "{error}");
}

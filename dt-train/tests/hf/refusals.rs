//! What is not imported, and what is said then.

use super::*;

#[test]
fn what_no_file_says_is_asked_for_at_once() {
    let desk = Desk::new();
    let model = fixture("relu");
    let model = model.to_str().unwrap();
    let options = [
        "--statistics",
        "--return-scale",
        "--target-return",
        "--context-len",
        "--env",
        "--period-us",
    ];
    let error = desk.refusal(model, &[]);
    for option in options {
        assert!(error.contains(option), "{option}: {error}");
    }
    // What was said is not asked for again.
    for left_out in (0..SAID.len()).step_by(2) {
        let said = [&SAID[..left_out], &SAID[left_out + 2..]].concat();
        let error = desk.refusal(model, &said);
        for (i, option) in SAID.iter().enumerate().step_by(2) {
            assert_eq!(error.contains(option), i == left_out, "{option}: {error}");
        }
    }
    let file = desk.path("narrow.json");
    fs::write(&file, r#"{"mean": [0, 0], "std": [1, 1]}"#).unwrap();
    let narrow = [&["--statistics", "narrow.json"], &SAID[2..]].concat();
    let error = desk.refusal(model, &narrow);
    assert!(
        error.contains("`mean` has 2 numbers, the model's states have 3"),
        "{error}"
    );
}

#[test]
fn folders_of_something_else_are_refused_by_what_they_hold() {
    let desk = Desk::new();
    let model = desk.copy("relu");
    let refusal = |parts: &[&str]| {
        let error = desk.refusal("MODEL", &SAID);
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    };
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from));
        fs::write(model.join("config.json"), config.replace(from, to)).unwrap();
    };
    with("decision_transformer", "gpt2");
    refusal(&["config.json", "`model_type` is \"gpt2\""]);
    with("\"relu\"", "\"mish\"");
    refusal(&["`activation_function` is \"mish\"", "relu, gelu_new"]);
    with("\"hidden_size\": 16", "\"hidden_size\": 18");
    refusal(&["no such network", "d_model 18 is not a multiple of 4"]);
    with("\"relu\"", "");
    refusal(&["config.json", "line"]);
    with("\"use_cache\"", "\"gate\"");
    refusal(&["`gate`", "--ignore gate"]);
    desk.import("MODEL", &[&SAID[..], &["--ignore", "gate"]].concat())
        .success();
    fs::remove_dir_all(desk.path("RUN")).unwrap();
    fs::remove_file(model.join("config.json")).unwrap();
    refusal(&["holds no config.json (it holds golden.jsonl, model.safetensors)"]);
    fs::write(model.join("config.json"), &config).unwrap();
    fs::remove_file(model.join("model.safetensors")).unwrap();
    refusal(&["holds no model.safetensors (it holds config.json, golden.jsonl)"]);
}

#[test]
fn tensors_that_are_not_the_networks_are_listed_all_of_them() {
    let desk = Desk::new();
    let weights = desk.copy("relu").join("model.safetensors");
    change(&weights, |tensors| {
        let norm = tensors.remove("embed_ln.weight").unwrap();
        tensors.insert("embed_glu.weight".into(), norm);
        tensors.remove("encoder.wpe.weight");
        tensors
            .get_mut("encoder.h.0.mlp.c_fc.weight")
            .unwrap()
            .shape = vec![64, 16];
        tensors.get_mut("embed_state.bias").unwrap().values[3] = f32::NAN;
    });
    let error = desk.refusal("MODEL", &SAID);
    for part in [
        "missing: embed_ln.weight, encoder.wpe.weight",
        "more than the network has: embed_glu.weight",
        "of another shape: encoder.h.0.mlp.c_fc.weight is [64, 16], by config.json [16, 64]",
        "NaN or infinite: embed_state.bias (1 of 16)",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn files_that_are_cut_off_or_not_there_are_named() {
    let desk = Desk::new();
    let weights = desk.copy("relu").join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for len in [0, 7, 100, bytes.len() - 4] {
        fs::write(&weights, &bytes[..len]).unwrap();
        let error = desk.refusal("MODEL", &SAID);
        assert!(
            error.contains("model.safetensors is no safetensors file"),
            "{len}: {error}"
        );
        assert!(error.contains("download it again"), "{len}: {error}");
    }
    let desk = Desk::new();
    let model = desk.copy("sharded");
    fs::remove_file(model.join("model-00003-of-00005.safetensors")).unwrap();
    let error = desk.refusal("MODEL", &SAID);
    assert!(
        error.contains("not beside it: model-00003-of-00005.safetensors"),
        "{error}"
    );
    // An index is no way out of the folder.
    let index = model.join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let outside = desk.path("elsewhere.safetensors");
    fs::copy(
        fixture("sharded").join("model-00003-of-00005.safetensors"),
        outside,
    )
    .unwrap();
    let text = text.replace("model-00003-of-00005", "../elsewhere");
    fs::write(&index, text).unwrap();
    let error = desk.refusal("MODEL", &SAID);
    assert!(
        error.contains("not beside it: ../elsewhere.safetensors"),
        "{error}"
    );
}

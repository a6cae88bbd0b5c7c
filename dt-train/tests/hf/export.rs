//! Runs as models for transformers, and back.

use super::*;

/// Names and shapes of a safetensors file.
fn shapes(path: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let named = file
        .iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec()));
    named.collect()
}

/// Every tensor that `from_pretrained` looks for, in its shape, and no other.
#[test]
fn transformers_finds_what_it_looks_for() {
    for name in ["relu", "scaled"] {
        let desk = Desk::new();
        let model = fixture(name);
        desk.import(model.to_str().unwrap(), &SAID).success();
        let info = desk.path("RUN/run.json");
        let mut described: Value = serde_json::from_slice(&fs::read(&info).unwrap()).unwrap();
        described["dataset"] = "/home/somebody/logs.hdf5,/data/more.hdf5".into();
        described["init_from"] = serde_json::json!({"run": "/home/somebody/first", "update": 3});
        fs::write(&info, described.to_string()).unwrap();
        desk.run(&["export-hf", "RUN", "--out", "BACK"]).success();
        let ours = shapes(&desk.path("BACK/model.safetensors"));
        assert_eq!(ours, shapes(&model.join("model.safetensors")), "{name}");
        let read = |path: PathBuf| -> Value {
            serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap()
        };
        let (ours, theirs) = (read(desk.path("BACK")), read(model));
        for field in [
            "state_dim",
            "act_dim",
            "hidden_size",
            "n_layer",
            "n_head",
            "max_ep_len",
            "n_positions",
            "action_tanh",
        ] {
            assert_eq!(ours[field], theirs[field], "{name}: {field}");
        }
        assert_eq!(
            ours["dt_train"]["run"]["state_mean"],
            serde_json::json!([0.5, -1.0, 2.0])
        );
        // Where it lay is not for others.
        assert_eq!(ours["dt_train"]["run"]["dataset"], "logs.hdf5,more.hdf5");
        assert_eq!(ours["dt_train"]["run"]["init_from"]["run"], "first");
        let card = fs::read_to_string(desk.path("BACK/README.md")).unwrap();
        assert!(
            card.starts_with("---\nlibrary_name: transformers\n"),
            "{card}"
        );
        for part in [
            "std = [1, 2, 0.25]",
            "| data | logs.hdf5,more.hdf5 |",
            "| target return | -3 |",
            "divided by it | 10 |",
        ] {
            assert!(card.contains(part), "{part}: {card}");
        }
    }
}

/// To the bit: weights, recipe and description, with nothing said; of a streaming network as well, and of one without a table.
#[test]
fn what_is_exported_and_imported_is_the_same_run() {
    for (from, to, note) in [
        ("", "", ""),
        (
            "attention = \"window\"",
            "attention = \"streaming\"",
            "others later",
        ),
        ("max_ep_len = 12", "max_ep_len = 0", ""),
    ] {
        let desk = Desk::new();
        desk.import(fixture("scaled").to_str().unwrap(), &SAID)
            .success();
        let config = fs::read_to_string(desk.path("RUN/config.toml")).unwrap();
        assert!(config.contains(from));
        fs::write(desk.path("RUN/config.toml"), config.replace(from, to)).unwrap();
        let output = desk.run(&["export-hf", "RUN", "--out", "BACK"]).success();
        let notes = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        assert!(
            notes.contains(note) && notes.is_empty() == note.is_empty(),
            "{notes}"
        );
        desk.run(&["import-hf", "BACK", "--out", "AGAIN"]).success();
        for file in ["config.toml", "run.json", "last.safetensors"] {
            if file == "last.safetensors" && to == "max_ep_len = 0" {
                // The run still has the table that it makes no use of.
                continue;
            }
            let [one, other] = ["RUN", "AGAIN"].map(|run| fs::read(desk.path(run).join(file)));
            assert!(one.unwrap() == other.unwrap(), "{file} with {to}");
        }
        let golden = fixture("scaled").join("golden.jsonl");
        assert_eq!(desk.actions("RUN", &golden), desk.actions("AGAIN", &golden));
        // What is said holds over what the folder says.
        desk.run(&[
            "import-hf",
            "BACK",
            "--out",
            "OTHER",
            "--target-return",
            "7",
            "--action-range",
            "-1,3",
        ])
        .success();
        let info = Run::open(&desk.path("OTHER")).unwrap().info;
        assert_eq!((info.target_return, info.action_high), (7.0, vec![3.0]));
        assert_eq!(info.state_mean, [0.5, -1.0, 2.0]);
    }
}

#[test]
fn an_export_overwrites_nothing_and_its_key_belongs_to_its_network() {
    let desk = Desk::new();
    desk.import(fixture("relu").to_str().unwrap(), &SAID)
        .success();
    desk.run(&["export-hf", "RUN", "--out", "BACK"]).success();
    let error = desk.run(&["export-hf", "RUN", "--out", "BACK"]).code(1);
    let error = String::from_utf8(error.get_output().stderr.clone()).unwrap();
    assert!(
        error.contains("already exists") && error.contains("--force"),
        "{error}"
    );
    desk.run(&["export-hf", "RUN", "--out", "BACK", "--force"])
        .success();
    let path = desk.path("BACK/config.json");
    let config = fs::read_to_string(&path).unwrap();
    assert!(config.contains("\"action_tanh\": true"));
    fs::write(
        &path,
        config.replace("\"action_tanh\": true", "\"action_tanh\": false"),
    )
    .unwrap();
    fs::remove_dir_all(desk.path("RUN")).unwrap();
    let error = desk.refusal("BACK", &[]);
    assert!(
        error.contains("dt_train.recipe: it describes another network"),
        "{error}"
    );
    // Norms of another ε than the embedding's have no counterpart.
    fs::write(&path, &config).unwrap();
    desk.import("BACK", &[]).success();
    let recipe = desk.path("RUN/config.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("layer_norm_eps"))
        .unwrap();
    fs::write(&recipe, text.replace(line, "layer_norm_eps = 1e-6")).unwrap();
    let error = desk.run(&["export-hf", "RUN", "--out", "NEW"]).code(1);
    let error = String::from_utf8(error.get_output().stderr.clone()).unwrap();
    assert!(error.contains("dt.layer_norm_eps is 0.000001"), "{error}");
    assert!(!desk.path("NEW").exists());
}

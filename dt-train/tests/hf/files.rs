//! Files of weights as they come: alone, in parts, without a description.

use super::*;

/// Whether what was imported of `dir` acts as `fixture` does in transformers.
fn acts_as(desk: &Desk, dir: &str, more: &[&str], name: &str) {
    desk.import(dir, &[&SAID[..], more].concat()).success();
    let golden = fixture(name).join("golden.jsonl");
    let theirs = numbers(&fs::read_to_string(&golden).unwrap());
    let difference = largest_difference(&desk.actions("RUN", &golden), &theirs);
    assert!(difference <= 2e-5, "{dir}: {difference}");
    fs::remove_dir_all(desk.path("RUN")).unwrap();
}

#[test]
fn a_file_of_weights_is_as_good_as_its_folder() {
    let desk = Desk::new();
    let model = desk.copy("pickled");
    acts_as(&desk, "MODEL/pytorch_model.bin", &[], "pickled");
    // In parts, with their index.
    let part = "pytorch_model-00001-of-00001.bin";
    fs::rename(model.join("pytorch_model.bin"), model.join(part)).unwrap();
    let index = format!(r#"{{"weight_map": {{"encoder.ln_f.bias": "{part}"}}}}"#);
    fs::write(model.join("pytorch_model.bin.index.json"), index).unwrap();
    acts_as(&desk, "MODEL", &[], "pickled");
    fs::remove_file(model.join(part)).unwrap();
    let error = desk.refusal("MODEL", &SAID);
    assert!(error.contains(&format!("not beside it: {part}")), "{error}");
    let error = desk.refusal("NOWHERE", &SAID);
    assert!(error.contains("cannot read NOWHERE"), "{error}");
}

/// The paper's code saves a dictionary of tensors, if anything; their shapes say all but two things.
#[test]
fn the_papers_weights_need_no_description() {
    let desk = Desk::new();
    let model = desk.copy("paper");
    // Where there is a description, it is the one.
    let error = desk.refusal("MODEL", &[&SAID[..], &["--n-head", "2"]].concat());
    assert!(
        error.contains("config.json says it; leave out --n-head"),
        "{error}"
    );
    fs::remove_file(model.join("config.json")).unwrap();
    for (dir, said) in [("MODEL", &SAID[2..]), ("MODEL/model.safetensors", &[])] {
        let error = desk.refusal(dir, said);
        for option in ["--n-head", "--activation", "--statistics"] {
            assert!(error.contains(option), "{option}: {error}");
        }
        assert_eq!(error.contains("--return-scale"), said.is_empty(), "{error}");
    }
    let more = ["--n-head", "2", "--activation", "relu"];
    acts_as(&desk, "MODEL", &more, "paper");
    acts_as(&desk, "MODEL/model.safetensors", &more, "paper");
    let output = desk.import("MODEL", &[&SAID[..], &more].concat()).success();
    let notes = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    assert!(notes.contains("a tanh behind the action head"), "{notes}");
    fs::remove_dir_all(desk.path("RUN")).unwrap();
    let error = desk.refusal(
        "MODEL",
        &[&SAID[..], &["--n-head", "2", "--activation", "mish"]].concat(),
    );
    assert!(
        error.contains("--activation mish") && error.contains("relu, gelu_new"),
        "{error}"
    );

    let weights = model.join("model.safetensors");
    fs::copy(fixture("relu").join("model.safetensors"), &weights).unwrap();
    change(&weights, |tensors| {
        let named = std::mem::take(tensors).into_iter();
        let papers = |name: String| name.replace("encoder.", "transformer.");
        tensors.extend(named.map(|(name, array)| (papers(name), array)));
        tensors.remove("embed_timestep.weight");
        tensors.remove("embed_action.weight");
    });
    let error = desk.refusal("MODEL", &[&SAID[..], &more].concat());
    assert!(
        error.contains("are missing: embed_action.weight, embed_timestep.weight"),
        "{error}"
    );
}

#[test]
fn weights_of_something_else_are_told_by_their_names() {
    let desk = Desk::new();
    let model = desk.copy("relu");
    fs::remove_file(model.join("config.json")).unwrap();
    // transformers' own are nothing without their description.
    let error = desk.refusal("MODEL/model.safetensors", &SAID);
    assert!(error.contains("holds no config.json"), "{error}");
    change(&model.join("model.safetensors"), |tensors| {
        let norm = tensors.remove("embed_ln.weight").unwrap();
        tensors.clear();
        tensors.insert("actor.0.weight".into(), norm);
    });
    for dir in ["MODEL", "MODEL/model.safetensors"] {
        let error = desk.refusal(dir, &SAID);
        assert!(
            error.contains("is no Decision Transformer: its tensors are actor.0.weight,"),
            "{error}"
        );
    }
}

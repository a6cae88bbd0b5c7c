//! Recipes: shipped ones, overrides, older spellings, refusals.

use std::path::Path;

use dt_core::config::Attention;

use super::*;
use crate::algo::bc::Bc;

fn load(text: &str, settings: &[&str]) -> Result<Recipe, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recipe.toml");
    std::fs::write(&path, text).unwrap();
    let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
    Recipe::load(Some(&Source::File(path)), &settings).map_err(|e| e.to_string())
}

fn shipped(name: &str) -> Recipe {
    let source = Source::new(Path::new(name));
    assert!(matches!(source, Source::Shipped(..)), "{name}");
    Recipe::load(Some(&source), &[]).unwrap()
}

fn dt(recipe: &Recipe) -> Dt {
    recipe.algorithm.section().try_into().unwrap()
}

#[test]
fn the_default_recipe_lists_every_key_with_its_default() {
    let text: toml::Table = include_str!("../../configs/default.toml").parse().unwrap();
    let defaults = Recipe::default().to_table();
    for (section, keys) in &defaults {
        let Some(keys) = keys.as_table() else {
            assert!(text.contains_key(section));
            continue;
        };
        let listed = text[section].as_table().unwrap();
        for key in keys.keys() {
            assert!(
                listed.contains_key(key),
                "{section}.{key} is not in default.toml"
            );
        }
    }
    assert_eq!(shipped("default"), Recipe::default());
}

/// Chen et al. 2021, appendix A and `gym/experiment.py`.
#[test]
fn the_papers_recipe_is_the_papers() {
    let paper = shipped("paper");
    let mut expected = Recipe::new(Dt {
        attention: Attention::Window,
        timestep_init_std: 1.0,
        uniform_starts: true,
        ..Dt::default()
    });
    expected.data.return_scale = 1000.0;
    expected.eval.episodes = 100;
    assert_eq!(paper, expected);
    // What it says of itself, whatever the defaults become.
    let train = &paper.train;
    assert_eq!(
        (train.updates, train.batch_size, train.warmup_updates),
        (100_000, 64, 10_000)
    );
    assert_eq!(
        (
            train.learning_rate,
            train.learning_rate_final,
            train.weight_decay
        ),
        (1e-4, 1.0, 1e-4)
    );
    assert_eq!(
        (train.grad_clip, train.dropout, train.ema_decay),
        (0.25, 0.1, 0.0)
    );
    let dt = dt(&paper);
    assert_eq!(
        (
            dt.d_model,
            dt.n_layer,
            dt.n_head,
            dt.context_len,
            dt.sequence_len()
        ),
        (128, 3, 1, 20, 20)
    );
    assert_eq!((dt.start_fraction, dt.best_fraction), (0.0, 0.0));
}

#[test]
fn shipped_recipes_are_valid() {
    for (name, _) in source::SHIPPED {
        let scale = shipped(name).data.return_scale;
        // A scale of 1000 makes nothing of returns of 0 and 1; only who asks for the paper gets it.
        let own = match name {
            "paper" => 1000.0,
            // Of an environment whose rewards are known.
            "cartpole" => 100.0,
            "atari" => 50.0,
            "atari-paper" | "key-to-door" => 1.0,
            _ => 0.0,
        };
        assert_eq!(scale, own, "{name}");
    }
    // The paper's network: only the optimization and the sequences differ.
    let short = dt(&shipped("gym-short"));
    let network = |dt: &Dt| {
        let dims = crate::algo::Dims::vectors(3, 1);
        dt.network(dims, dt_core::config::Dtype::F32)
    };
    assert_eq!(network(&short), network(&Dt::default()));
    assert!(short.best_fraction > 0.0);
}

#[test]
fn the_baseline_is_the_papers_unless_the_recipe_says_otherwise() {
    let shipped = shipped("bc");
    let mut paper = Recipe::new(Bc::default());
    paper.data.return_scale = 0.0;
    paper.train.grad_clip = 0.0;
    paper.train.threads = 1;
    assert_eq!(shipped, paper);
    assert_eq!(load(&shipped.to_toml(), &[]).unwrap(), shipped);

    let refused = |setting| load("algo = \"bc\"", &[setting]).unwrap_err();
    for (setting, key) in [
        ("bc.n_layer=0", "`bc.n_layer`: is 0; it must lie in 1..=12"),
        ("dt.burn_in=3", "`dt.burn_in`: is of Decision Transformer"),
        (
            "train.burn_in=3",
            "`dt.burn_in`: is of Decision Transformer",
        ),
        ("bc.n_head=2", "unknown key `bc.n_head`"),
        ("eval.target_returns=[inf]", "`eval.target_returns`"),
        (
            "algo=sarsa",
            "there is no algorithm \"sarsa\"; there are \"dt\"",
        ),
        ("algo=sac", "`dt-train collect --agent sac`"),
        ("algo=3", "`algo`: is 3"),
    ] {
        let message = refused(setting);
        assert!(message.contains(key), "{message}");
    }
    // A file may have sections for both; the other's is not looked at.
    let both = "algo = \"bc\"\n[dt]\nd_model = 30\n[bc]\nd_model = 32";
    assert_eq!(
        load(both, &[]).unwrap(),
        Recipe::new(Bc {
            d_model: 32,
            ..Bc::default()
        })
    );
    assert!(load(both, &["algo=dt"]).unwrap_err().contains("d_model 30"));
}

/// What a shipped recipe of a rival says of its own section is what it is without it; the rest is published, and suits it alone.
#[test]
fn rivals_begin_with_their_published_recipes() {
    for (name, learning_rate) in [("td3bc", 3e-4), ("iql", 3e-4), ("awr", 3e-4), ("cql", 3e-5)] {
        let entry = registry().into_iter().find(|entry| entry.name == name);
        let shipped = shipped(name);
        assert_eq!(
            shipped.algorithm.section(),
            entry.unwrap().defaults().unwrap()
        );
        let by_name = load("", &[&format!("algo={name}")]).unwrap();
        assert_eq!(by_name, shipped);
        let train = &by_name.train;
        assert_eq!(
            (train.learning_rate, train.batch_size),
            (learning_rate, 256)
        );
        // A recipe's own keys come above it.
        let own = load(&format!("algo = \"{name}\"\n[train]\nbatch_size = 3"), &[]).unwrap();
        assert_eq!((own.train.batch_size, own.train.dropout), (3, 0.0));
        let refused = load(
            "",
            &[&format!("algo={name}"), &format!("{name}.discount=1.5")],
        );
        assert!(
            refused
                .unwrap_err()
                .contains(&format!("`{name}.discount`: is 1.5"))
        );
    }
    assert_eq!(load("", &["algo=dt"]).unwrap().train.batch_size, 64);
}

#[test]
fn a_recipe_for_decision_transformers_is_one_for_transformers_without_returns() {
    let text = "[dt]\nd_model = 64\nn_layer = 2\n[bc-transformer]\nn_layer = 1";
    let section = |settings: &[&str]| {
        let recipe = load(text, &[&["algo=bc-transformer"], settings].concat()).unwrap();
        assert_eq!(load(&recipe.to_toml(), &[]).unwrap(), recipe);
        recipe.algorithm.section()
    };
    let network = |section: &toml::Table| {
        ["d_model", "n_layer"].map(|key| section[key].as_integer().unwrap())
    };
    assert_eq!(network(&section(&[])), [64, 1]);
    assert_eq!(network(&section(&["bc-transformer.d_model=32"])), [32, 1]);
    // The other way, nothing is read.
    let dt = load(text, &[]).unwrap().algorithm.section();
    assert_eq!(network(&dt), [64, 2]);
    let refused = load(text, &["algo=bc-transformer", "dt.d_model=32"]).unwrap_err();
    assert!(
        refused.contains("`dt.d_model`: is of Decision Transformer"),
        "{refused}"
    );
}

#[test]
fn recipes_of_earlier_versions_mean_what_they_meant() {
    let old = load(
        "[model]\nkind = \"transformer\"\nd_model = 64\nattention = \"window\"\n\
         [train]\nupdates = 7\nprecision = \"bf16\"\nstart_fraction = 0.25",
        &["model.n_layer=2"],
    )
    .unwrap();
    let new = load(
        "algo = \"dt\"\n[dt]\nd_model = 64\nn_layer = 2\nattention = \"window\"\nprecision = \"bf16\"\n\
         start_fraction = 0.25\n[train]\nupdates = 7",
        &[],
    )
    .unwrap();
    assert_eq!(old, new);
    // The baseline's had the keys of transformers, too.
    let old = load(
        "[model]\nkind = \"bc\"\nd_model = 32\nn_head = 4\n[train]\nburn_in = 0",
        &[],
    );
    let new = load("algo = \"bc\"\n[bc]\nd_model = 32", &[]);
    assert_eq!(old.unwrap(), new.unwrap());
    let by_setting = load("", &["model.kind=bc", "model.d_model=32"]).unwrap();
    assert_eq!(by_setting.algorithm.name(), "bc");
}

#[test]
fn settings_override_the_file_and_toml_round_trips() {
    let recipe = load(
        "[train]\nupdates = 3",
        &[
            "train.updates=7",
            "dt.attention=window",
            "eval.target_returns=[-150, -300.5]",
        ],
    )
    .unwrap();
    assert_eq!(recipe.train.updates, 7);
    assert_eq!(dt(&recipe).attention, Attention::Window);
    assert_eq!(recipe.eval.target_returns, [-150.0, -300.5]);
    assert_eq!(load(&recipe.to_toml(), &[]).unwrap(), recipe);
}

#[test]
fn unknown_keys_name_their_neighbour() {
    let error = load("[train]\nlearnig_rate = 1", &[]).unwrap_err();
    assert!(
        error.contains(
            "recipe.toml: unknown key `train.learnig_rate`; did you mean `train.learning_rate`?"
        ),
        "{error}"
    );
    let error = load("", &["n_head=64"]).unwrap_err();
    assert!(
        error.contains("--set n_head=64: unknown key `n_head`; did you mean `dt.n_head`?"),
        "{error}"
    );
    let error = load("[trian]\nupdates = 1", &[]).unwrap_err();
    assert!(
        error.contains("unknown key `trian.updates`; did you mean `train.updates`?"),
        "{error}"
    );
}

#[test]
fn a_recipe_that_is_neither_a_file_nor_shipped_is_refused_with_the_names() {
    let source = Source::new(Path::new("gym-shrot"));
    let error = Recipe::load(Some(&source), &[]).unwrap_err().to_string();
    assert!(
        error.contains("cannot read config gym-shrot") && error.contains("gym-short"),
        "{error}"
    );
}

#[test]
fn bad_values_name_their_key() {
    for (text, expected) in [
        (
            "[dt]\nd_model = 30",
            "d_model 30 is not a multiple of 4 * n_head = 4",
        ),
        (
            "[dt]\nd_model = 128\nn_head = 3",
            "d_model 128 is not a multiple of 4 * n_head = 12",
        ),
        (
            "[dt]\nattention = \"banded\"",
            "unknown variant `banded`, expected `streaming` or `window`",
        ),
        ("[dt]\nbest_fraction = 1.5", "`dt.best_fraction`: is 1.5"),
        ("[dt]\nbest_percent = -1", "`dt.best_percent`: is -1"),
        ("[dt]\nstart_fraction = nan", "`dt.start_fraction`: is NaN"),
        (
            "[train]\nbatch_size = 0",
            "`train.batch_size`: must be at least 1",
        ),
        ("[train]\nbatch_size = -3", "batch_size"),
        ("[train]\ndropout = nan", "`train.dropout`: is NaN"),
        ("[data]\nreturn_scale = -1", "`data.return_scale`: is -1"),
        ("[data]\ntop_percent = 0", "`data.top_percent`: is 0"),
        ("[data]\ntop_percent = 101", "`data.top_percent`: is 101"),
        ("[data]\ndelayed_reward = true", "`control.reward`"),
        (
            "[dt]\nattention = \"window\"\nsequence_len = 40",
            "`dt.sequence_len`",
        ),
        (
            "[control]\ntemperature = 0",
            "`control.temperature`: is 0; it must lie in",
        ),
        ("[control]\ntemperature = nan", "`control.temperature`"),
        ("[control]\nchoice = \"likeliest\"", "greedy"),
        ("[dt]\nburn_in = 78", "`dt.burn_in`"),
        ("[eval]\ntarget_returns = [inf]", "`eval.target_returns`"),
        (
            "[dt]\nmax_ep_len = 0\n[control]\nat_max_ep_len = \"fault\"",
            "`control.at_max_ep_len`: \"fault\" takes a timestep table that ends",
        ),
        ("dt = 3", "`dt` is a section"),
        ("train = 3", "train"),
        ("[dt", "recipe.toml"),
    ] {
        let error = load(text, &[]).unwrap_err();
        assert!(
            error.contains(expected),
            "{text:?} gave {error:?}, expected {expected:?}"
        );
        assert!(error.contains("recipe.toml"), "{error}");
    }
    assert!(
        load("", &["train.updates"])
            .unwrap_err()
            .contains("--set train.updates: expected KEY=VALUE")
    );
}

#[test]
fn a_recipe_is_the_one_it_extends_but_for_its_own_keys() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let load = |name: &str, settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
        let source = Source::new(&dir.path().join(name));
        Recipe::load(Some(&source), &settings).map_err(|error| error.to_string())
    };
    write(
        "mine.toml",
        "extends = \"gym-short\"\n[train]\nupdates = 7\n[dt]\nn_layer = 2",
    );
    write(
        "sub/other.toml",
        "extends = \"../mine.toml\"\n[train]\nbatch_size = 3",
    );
    let mut expected = shipped("gym-short");
    expected.train.updates = 7;
    expected.algorithm = Arc::new(Dt {
        n_layer: 2,
        ..dt(&expected)
    });
    assert_eq!(load("mine.toml", &[]).unwrap(), expected);
    expected.train.batch_size = 3;
    assert_eq!(load("sub/other.toml", &[]).unwrap(), expected);
    // Settings come last, and what is written into a run's folder is the whole.
    let other = load("sub/other.toml", &["train.updates=9"]).unwrap();
    assert_eq!(other.train.updates, 9);
    assert!(!other.to_toml().contains("extends"));
    // A key may change the algorithm; the section of the other is then not looked at.
    write("bc.toml", "extends = \"mine.toml\"\nalgo = \"bc\"");
    assert_eq!(load("bc.toml", &[]).unwrap().algorithm.name(), "bc");

    write("a.toml", "extends = \"b.toml\"");
    write("b.toml", "extends = \"./sub/../a.toml\"");
    write("itself.toml", "extends = \"itself.toml\"");
    write("nowhere.toml", "extends = \"gym-shrot\"");
    write("number.toml", "extends = 3");
    write("far.toml", "extends = \"wrong.toml\"");
    write("wrong.toml", "[train]\nupdtes = 3");
    for (name, fragments) in [
        (
            "a.toml",
            &["b.toml: `extends`", "leads back here", "a.toml"][..],
        ),
        (
            "itself.toml",
            &["itself.toml: `extends`", "leads back here"],
        ),
        (
            "nowhere.toml",
            &["gym-shrot", "a recipe by name: default, paper, gym-short"],
        ),
        ("number.toml", &["number.toml: `extends`: is 3"]),
        // Of the file that has it.
        ("far.toml", &["wrong.toml: unknown key `train.updtes`"]),
    ] {
        let error = load(name, &[]).unwrap_err();
        for fragment in fragments {
            assert!(error.contains(fragment), "{error:?} lacks {fragment:?}");
        }
    }
    let set = load("mine.toml", &["extends=paper"]).unwrap_err();
    assert!(set.contains("unknown key `extends`"), "{set}");
}

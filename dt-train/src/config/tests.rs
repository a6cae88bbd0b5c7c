//! Recipes: shipped ones, overrides, refusals.

use super::*;

fn load(text: &str, settings: &[&str]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recipe.toml");
    std::fs::write(&path, text).unwrap();
    let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
    Config::load(Some(&path), &settings).map_err(|e| e.to_string())
}

#[test]
fn gym_recipe_lists_every_key_with_its_default() {
    let shipped: toml::Table = include_str!("../../configs/gym.toml").parse().unwrap();
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    for (section, keys) in &defaults {
        let listed = shipped[section].as_table().unwrap();
        for key in keys.as_table().unwrap().keys() {
            assert!(
                listed.contains_key(key),
                "{section}.{key} is not in gym.toml"
            );
        }
    }
    let config = load(include_str!("../../configs/gym.toml"), &[]).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn shipped_recipes_are_valid() {
    load(include_str!("../../configs/pendulum.toml"), &[]).unwrap();
    let short = load(include_str!("../../configs/gym-short.toml"), &[]).unwrap();
    // The paper's network: only the optimization differs.
    assert_eq!(short.model, Config::default().model);
}

#[test]
fn the_baseline_is_the_papers_unless_the_recipe_says_otherwise() {
    let shipped = load(include_str!("../../configs/bc.toml"), &[]).unwrap();
    let mut paper = Config::default();
    paper.model.kind = Kind::Bc;
    paper.train.grad_clip = 0.0;
    paper.train.threads = 1;
    assert_eq!(shipped, paper);
    assert!(load(&shipped.to_toml(), &[]).unwrap() == shipped);

    let refused = |setting| load("[model]\nkind = \"bc\"", &[setting]).unwrap_err();
    for (setting, key) in [
        (
            "model.n_layer=0",
            "`model.n_layer`: is 0; it must lie in 1..=1024",
        ),
        (
            "model.activation=gelu_tanh",
            "`model.activation`: behaviour cloning",
        ),
        (
            "train.sequence_len=20",
            "`train.sequence_len`: behaviour cloning",
        ),
        ("train.burn_in=3", "`train.burn_in`: behaviour cloning"),
        (
            "train.start_fraction=0.5",
            "`train.start_fraction`: behaviour cloning",
        ),
        (
            "train.precision=bf16",
            "`train.precision`: behaviour cloning",
        ),
        ("eval.target_returns=[inf]", "`eval.target_returns`"),
        ("model.kind=cql", "unknown variant `cql`"),
    ] {
        let message = refused(setting);
        assert!(message.contains(key), "{message}");
    }
    // Sizes that only a transformer could not have.
    load("[model]\nkind = \"bc\"\nd_model = 30\nn_head = 4", &[]).unwrap();
}

#[test]
fn settings_override_the_file_and_toml_round_trips() {
    let config = load(
        "[train]\nupdates = 3",
        &[
            "train.updates=7",
            "model.attention=window",
            "eval.target_returns=[-150, -300.5]",
        ],
    )
    .unwrap();
    assert_eq!(config.train.updates, 7);
    assert_eq!(config.model.attention, Attention::Window);
    assert_eq!(config.eval.target_returns, [-150.0, -300.5]);
    assert_eq!(load(&config.to_toml(), &[]).unwrap(), config);
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
    let error = load("", &["d_model=64"]).unwrap_err();
    assert!(
        error.contains("--set d_model=64: unknown key `d_model`; did you mean `model.d_model`?"),
        "{error}"
    );
    let error = load("[trian]\nupdates = 1", &[]).unwrap_err();
    assert!(
        error.contains("unknown key `trian.updates`; did you mean `train.updates`?"),
        "{error}"
    );
}

#[test]
fn bad_values_name_their_key() {
    for (text, expected) in [
        (
            "[model]\nd_model = 30",
            "d_model 30 is not a multiple of 4 * n_head = 4",
        ),
        (
            "[model]\nd_model = 128\nn_head = 3",
            "d_model 128 is not a multiple of 4 * n_head = 12",
        ),
        (
            "[model]\nattention = \"banded\"",
            "unknown variant `banded`, expected `streaming` or `window`",
        ),
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
            "[model]\nattention = \"window\"\n[train]\nsequence_len = 40",
            "`train.sequence_len`",
        ),
        ("[train]\nburn_in = 78", "`train.burn_in`"),
        ("[eval]\ntarget_returns = [inf]", "`eval.target_returns`"),
        (
            "[model]\nmax_ep_len = 0\n[control]\nat_max_ep_len = \"fault\"",
            "`control.at_max_ep_len`: \"fault\" takes a timestep table that ends",
        ),
        ("model = 3", "model"),
        ("[model", "recipe.toml"),
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
fn automatic_sequences_cover_the_receptive_field() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.receptive_field(), 58);
    assert_eq!(config.sequence_len(), 78);
    let config = load("", &["model.attention=window"]).unwrap();
    assert_eq!(config.sequence_len(), 20);
}

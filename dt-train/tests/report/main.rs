//! `dt-train report`, on tiny runs that were really trained, evaluated and exported.

mod errors;
#[path = "../lab/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod lab;

use std::fs;
use std::path::Path;

use dt_core::config::{Attention, Dtype};
use dt_train::report::text::{count, mean_std, num};
use dt_train::run::Run;
use dt_train::run::read_metrics;
use lab::Lab;
use serde_json::{Value, json};

const RECIPE: &str = "
[model]
d_model = 16
n_layer = 2
n_head = 2
context_len = 3
max_ep_len = 200

[train]
updates = 20
batch_size = 8
warmup_updates = 5
log_every = 5
checkpoint_every = 10
threads = 1

[eval]
every = 10
episodes = 2
target_returns = [-300.0, -900.0]
";

fn trained(seeds: &[&str]) -> Lab {
    let lab = Lab::new(Attention::Streaming);
    fs::write(lab.path("recipe.toml"), RECIPE).unwrap();
    for seed in seeds {
        let run = format!("seed{seed}");
        let args = ["--config", "recipe.toml", "--seed", seed, "--device", "cpu"];
        lab.run(
            &[
                &["train", "--data", "data.hdf5", "--out", run.as_str()],
                &args[..],
            ]
            .concat(),
        )
        .success();
    }
    lab
}

/// Evaluates, and returns what `--json` says.
fn evaluate(lab: &Lab, policy: &str, targets: &str, json: &str) -> Vec<Value> {
    let asked = format!("--target-return={targets}");
    lab.run(&[
        "eval",
        policy,
        "--env",
        "pendulum",
        &asked,
        "--episodes",
        "4",
        "--json",
        json,
    ])
    .success();
    match serde_json::from_slice(&fs::read(lab.path(json)).unwrap()).unwrap() {
        Value::Array(all) => all,
        one => vec![one],
    }
}

fn export(lab: &Lab, run: &str, dtype: &str) -> String {
    let folder = format!("{run}-{dtype}");
    fs::create_dir(lab.path(&folder)).unwrap();
    let file = format!("{folder}/policy.dtb");
    lab.run(&["export", run, "--out", &file, "--dtype", dtype])
        .success();
    file
}

fn report(lab: &Lab, args: &[&str]) -> String {
    lab.run(&[&["report"], args, &["--out", "report.html", "--force"]].concat())
        .success()
        .stdout("wrote report.html\n");
    fs::read_to_string(lab.path("report.html")).unwrap()
}

#[track_caller]
fn has(page: &str, fragments: &[&str]) {
    for fragment in fragments {
        assert!(page.contains(fragment), "no {fragment:?} in the page");
    }
}

fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_page_shows_what_was_measured() {
    let lab = trained(&["0", "1"]);
    let f32 = evaluate(&lab, "seed0", "-300,-900,-1500", "f32.json");
    let policy = export(&lab, "seed0", "int8");
    let int8 = evaluate(&lab, &policy, "-300", "int8.json");
    let page = report(&lab, &["seed0", "seed1", "--eval", "int8.json"]);

    let run = Run::open(&lab.path("seed0")).unwrap();
    let records = read_metrics(&lab.path("seed1/metrics.jsonl"));
    let last = records.last().unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let achieved = |e: &Value| mean_std(number(&e["mean_return"]), number(&e["std_return"]));
    has(
        &page,
        &[
            "Achieved against target return",
            "Learning curves",
            "Episode returns",
        ],
    );
    has(
        &page,
        &[
            "Scores beside published ones",
            "Quantization",
            "Cost on the controller",
        ],
    );
    // Summary and learning curves: what training measured of the other run.
    has(
        &page,
        &[&mean_std(last.eval[0].mean_return, last.eval[0].std_return)],
    );
    has(&page, &[&format!("seed1: {} at the end", num(last.loss))]);
    has(&page, &["return when asked for −900", "update 10: "]);
    // Each evaluation, by target and dtype.
    for evaluation in &f32 {
        let target = number(&evaluation["target_return"]);
        let title = format!(
            "seed0, f32, target {}: {}, 4 episodes",
            count_signed(target),
            achieved(evaluation)
        );
        has(&page, &[&title]);
    }
    has(
        &page,
        &[&format!(
            "seed0, int8, target −300: {}, 4 episodes",
            achieved(&int8[0])
        )],
    );
    has(&page, &["seed1, f32, in training", "over 3 targets"]);
    // Over two seeds: the sample deviation, |a − b| / √2.
    let [a, b] = ["seed0", "seed1"].map(|run| {
        let records = read_metrics(&lab.path(run).join("metrics.jsonl"));
        records.last().unwrap().eval[0].mean_return
    });
    let over_seeds = mean_std((a + b) / 2.0, (a - b).abs() / 2.0_f64.sqrt());
    let over_seeds = format!("over 2 seeds (seed0, seed1): <b>{over_seeds}</b>, sample deviation");
    has(&page, &[&over_seeds, "interquartile mean"]);
    // Its histogram is of the int8 policy and of the three episodes in the data.
    let coloured = format!(
        "Coloured, int8 asked for −300: {} over 4 episodes",
        achieved(&int8[0])
    );
    has(
        &page,
        &[
            &coloured,
            "over 3 episodes",
            "seed0: episode returns",
            "seed1: episode returns",
        ],
    );
    has(
        &page,
        &[
            "Normalized scores on pendulum",
            "seed1 has not been quantized",
        ],
    );
    // Nothing is published for it, so nothing is put beside.
    assert!(!page.contains("are not D4RL's") && !page.contains("CORL"));
    // Quantization, as exported.
    let exported = json_of(&lab.path("seed0/export-int8.json"));
    for layer in exported["layers"].as_array().unwrap() {
        let percent = 100.0 * number(&layer["relative_rms"]);
        has(
            &page,
            &[&format!(
                "int8, {}: {} %",
                layer["name"].as_str().unwrap(),
                num(percent)
            )],
        );
    }
    has(
        &page,
        &[
            &num(number(&exported["against_f32"]["rms"])),
            "logged episodes",
        ],
    );
    // Cost.
    let config = run.network(Dtype::Int8).unwrap();
    let file = fs::metadata(lab.path(&policy)).unwrap().len();
    assert_eq!(exported["flash_bytes"], json!(file));
    for exact in [config.step_macs(), config.step_instructions().unwrap()] {
        has(&page, &[&format!("<td class=\"n\">{}</td>", count(exact))]);
    }
    for bytes in [file, 4 * config.arena_words() as u64] {
        has(&page, &[&format!("{} B", count(bytes))]);
    }
    has(
        &page,
        &[
            "Estimates",
            "STM32F405",
            "SHA-256",
            &run.info.dataset_sha256,
        ],
    );

    // It loads nothing, and charts have names.
    for loading in ["http", "src=", "<script", "@import", "<link"] {
        assert!(!page.contains(loading), "{loading} in the page");
    }
    assert_eq!(page.matches("url(").count(), page.matches("url(#").count());
    let charts = page.matches("<svg").count();
    assert!(charts >= 8, "{charts}");
    assert_eq!(
        page.matches("role=\"img\" aria-labelledby=").count(),
        charts
    );
    assert!(page.len() < 300_000, "{}", page.len());
}

fn count_signed(x: f64) -> String {
    format!("−{}", count(x.abs() as u64))
}

#[test]
fn what_is_missing_is_said() {
    let lab = Lab::new(Attention::Streaming);
    fs::remove_file(lab.path("data.hdf5")).unwrap();
    let page = report(&lab, &["RUN"]);
    has(
        &page,
        &[
            "No run has training metrics",
            "RUN has not been evaluated",
            "RUN has not been quantized",
        ],
    );
    has(&page, &["since data.hdf5 is not there", "not exported"]);
}

#[test]
fn evaluations_in_training_lead_only_where_there_are_no_others() {
    let lab = trained(&["0", "1"]);
    has(
        &report(&lab, &["seed0", "seed1"]),
        &["the highest mean of 2 runs"],
    );
    for run in ["seed0", "seed1"] {
        let json = format!("{run}.json");
        evaluate(&lab, run, "-300", &json);
        let page = report(&lab, &["seed0", "seed1"]);
        has(&page, &["over 4 episodes"]);
        if run == "seed0" {
            has(&page, &["<b>seed0</b> as f32"]);
            assert!(!page.contains("the highest mean"));
        } else {
            has(&page, &["the highest mean of 2 runs"]);
        }
    }
}

#[test]
fn a_baseline_is_a_policy_for_controllers() {
    let lab = Lab::new(Attention::Streaming);
    fs::write(lab.path("RUN/config.toml"), "[model]\nkind = \"bc\"\n").unwrap();
    let page = report(&lab, &["RUN"]);
    // K = 20 states of 3 into three layers of 128, one action.
    has(
        &page,
        &["3 × 128, K 20", "40,961", "has not been quantized"],
    );
    assert!(!page.contains("runs on no controller"));
}

#[test]
fn a_line_cut_off_by_a_crash_is_no_error() {
    let lab = trained(&["0"]);
    let path = lab.path("seed0/metrics.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"update\":25,\"lo");
    fs::write(&path, text).unwrap();
    has(&report(&lab, &["seed0"]), &["seed0: episode returns"]);
}

#[test]
fn names_are_escaped() {
    let lab = Lab::new(Attention::Streaming);
    let name = "<b>&\"'";
    fs::rename(lab.path("RUN"), lab.path(name)).unwrap();
    edit(&lab.path(name).join("run.json"), |info| {
        info["env"] = json!("<script>alert(1)</script>");
        info["dataset"] = json!("</style><img>.hdf5");
    });
    let page = report(&lab, &[name]);
    for raw in ["<b>&", "<script", "<img"] {
        assert!(!page.contains(raw), "{raw} in the page");
    }
    has(
        &page,
        &[
            "&lt;b&gt;&amp;&quot;'",
            "&lt;script&gt;alert(1)",
            "&lt;img&gt;.hdf5",
        ],
    );
}

#[test]
fn scores_stand_beside_published_ones() {
    let lab = Lab::new(Attention::Streaming);
    edit(&lab.path("RUN/run.json"), |info| {
        info["env"] = json!("hopper-v5");
        info["dataset"] = json!("sets/hopper-medium-replay.hdf5");
        info["target_return"] = json!(3600.0);
    });
    // Halfway between D4RL's random and expert returns, −20.272305 and 3234.3.
    evaluated(&lab, &[(7, "hopper-v5", [1507.0138475, 1707.0138475])]);
    let page = report(&lab, &["RUN"]);
    let row = "<th scope=\"row\">medium-replay</th><td class=\"n\"><b>50.0 (f32, update 7)</b></td><td class=\"n\">82.7 ± 7.0</td>\
               <td class=\"n\">48.6</td><td class=\"n\">27.6</td><td class=\"n\">70.6</td><td class=\"n\">81.8</td>";
    has(&page, &[row, "The data of these runs are not D4RL's"]);
    assert!(!page.contains("36.6"), "of another environment");
    edit(&lab.path("RUN/run.json"), |info| {
        info["dataset"] = json!("hopper_medium_replay-v2.hdf5");
    });
    has(&report(&lab, &["RUN"]), &["The data are named like D4RL"]);
}

#[test]
fn many_runs_at_one_target_are_all_seen_and_named() {
    let lab = Lab::new(Attention::Streaming);
    evaluated(&lab, &[(7, "hopper", [900.0, 906.0])]);
    let names: Vec<String> = (0..9).map(|i| format!("run{i}")).collect();
    for name in &names {
        fs::create_dir(lab.path(name)).unwrap();
        for file in fs::read_dir(lab.path("RUN")).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), lab.path(name).join(file.file_name())).unwrap();
        }
        edit(&lab.path(name).join("run.json"), |info| {
            info["dataset_sha256"] = json!(name);
        });
    }
    let page = report(&lab, &names.iter().map(String::as_str).collect::<Vec<_>>());
    has(&page, &["<b>run0: 28.4 (f32, update 7)</b>"]);
    let mut charts = page.split("<svg");
    let chart = charts.find(|svg| svg.contains("achieved against target return</title>"));
    let numbers = |before: &str| -> Vec<f64> {
        let found = chart.unwrap().split(before).skip(1);
        found
            .map(|rest| rest.split([' ', '"']).next().unwrap().parse().unwrap())
            .collect()
    };
    let (left, right) = (numbers("class=\"axis\" x1=\"")[0], numbers("\" x2=\"")[0]);
    let marks: Vec<f64> = numbers("translate(")
        .iter()
        .zip(numbers("class=\"mark\" cx=\""))
        .map(|(aside, at)| aside + at)
        .collect();
    assert_eq!(marks.len(), 9);
    for at in marks {
        assert!((left..=right).contains(&at), "{at} in {left} to {right}");
    }
}

/// Makes `RUN` one of Hopper's that was evaluated after these updates, in these environments.
fn evaluated(lab: &Lab, evaluations: &[(u64, &str, [f64; 2])]) {
    edit(&lab.path("RUN/run.json"), |info| {
        info["env"] = json!("hopper");
        info["target_return"] = json!(3600.0);
    });
    let line = |(update, env, returns): &(u64, &str, [f64; 2])| {
        let episodes: Vec<_> = (0..)
            .zip(returns)
            .map(|(seed, r)| json!({ "seed": seed, "return": r, "length": 1000 }))
            .collect();
        let evaluation = json!({
            "env": env, "policy": "RUN", "target_return": 3600.0, "episodes": episodes,
            "mean_return": (returns[0] + returns[1]) / 2.0, "std_return": 0.0, "normalized_score": null,
        });
        json!({ "update": update, "evaluation": evaluation }).to_string() + "\n"
    };
    let lines: String = evaluations.iter().map(line).collect();
    fs::write(lab.path("RUN/evaluations.jsonl"), lines).unwrap();
}

#[test]
fn the_newest_evaluated_checkpoint_leads_or_the_one_asked_for() {
    let lab = Lab::new(Attention::Streaming);
    evaluated(
        &lab,
        &[(5, "hopper", [700.0, 720.0]), (7, "hopper", [900.0, 906.0])],
    );
    let leads = |update: u64, mean: &str| format!("after update {update} achieves <b>{mean}");
    has(&report(&lab, &["RUN"]), &[&leads(7, "903.0 ± 3.0")]);
    let asked = report(&lab, &["RUN", "--checkpoint", "5"]);
    has(&asked, &[&leads(5, "710.0 ± 10.0"), "(f32, update 5)"]);
    let refused = |checkpoint, code, message: &str| {
        let args = [
            "report",
            "RUN",
            "--checkpoint",
            checkpoint,
            "--out",
            "no.html",
        ];
        lab.run(&args)
            .code(code)
            .stderr(predicates::str::contains(message));
    };
    refused("6", 1, "RUN: not evaluated after update 6, only after 5, 7");
    refused("best", 1, "metrics.jsonl has no evaluation");
    refused("newest", 2, "give `last`, `best` or a number of updates");
    // Training measured its best after update 5.
    let record = |update: u64, mean: f64| {
        let eval = json!({
            "target_return": 3600.0, "episodes": 2, "mean_return": mean, "std_return": 1.0,
            "engine_mean_return": mean, "torch_mean_return": mean,
        });
        json!({
            "update": update, "loss": 1.0, "grad_norm": 1.0, "learning_rate": 1e-3,
            "updates_per_second": 1.0, "eval": [eval],
        })
        .to_string()
            + "\n"
    };
    fs::write(
        lab.path("RUN/metrics.jsonl"),
        record(5, 800.0) + &record(7, 100.0),
    )
    .unwrap();
    let best = report(&lab, &["RUN", "--checkpoint", "best"]);
    has(&best, &[&leads(5, "710.0 ± 10.0")]);
}

/// Two recipes with two training seeds each.
#[test]
fn scores_over_seeds_have_a_sample_deviation_and_over_recipes_an_interval() {
    let lab = Lab::new(Attention::Streaming);
    let config = fs::read_to_string(lab.path("RUN/config.toml")).unwrap();
    let scores = [("a0", 40.0), ("a1", 50.0), ("b0", 60.0), ("b1", 60.0)];
    for (name, score) in scores {
        // D4RL's random and expert returns are −20.272305 and 3234.3.
        let r = -20.272_305 + score * 32.545_723_05;
        evaluated(&lab, &[(7, "hopper", [r, r])]);
        let seed = format!("seed = {}", &name[1..]);
        let mut config = config.replacen("seed = 0", &seed, 1);
        if name.starts_with('b') {
            config = config.replacen("log_every = ", "log_every = 1", 1);
        }
        fs::create_dir(lab.path(name)).unwrap();
        for file in ["run.json", "evaluations.jsonl"] {
            fs::copy(lab.path("RUN").join(file), lab.path(name).join(file)).unwrap();
        }
        fs::write(lab.path(name).join("config.toml"), config).unwrap();
    }
    let page = report(&lab, &scores.map(|(name, _)| name));
    // Of 40, 50, 60, 60 the middle two; drawn again by recipe, the lower of them is 40 or 50.
    has(
        &page,
        &[
            "<b>a0, a1: 45.0 ± 7.1 (2 runs)</b>",
            "<b>b0, b1: 60.0 ± 0.0 (2 runs)</b>",
            "Over 2 recipes with several seeds, 4 runs: interquartile mean 55.00 \
             (95 %: 50.00 … 55.00, stratified bootstrap of runs)",
        ],
    );
    let one = report(&lab, &["a0"]);
    has(&one, &["<b>40.0 (f32, update 7)</b>"]);
    assert!(!one.contains("stratified bootstrap"));
}

#[test]
fn versions_of_an_environment_are_never_put_together() {
    let lab = Lab::new(Attention::Streaming);
    let v5 = (7, "hopper", [900.0, 906.0]);
    evaluated(&lab, &[v5, (7, "hopper-v4", [100.0, 104.0])]);
    let page = report(&lab, &["RUN"]);
    has(
        &page,
        &[
            "achieves <b>903.0 ± 3.0",
            "hopper-v5: achieved against target return",
            "hopper-v4: achieved against target return",
            "RUN, f32, target 3,600: 903.0 ± 3.0, 2 episodes",
            "RUN, f32, target 3,600: 102.0 ± 2.0, 2 episodes",
            "<h3>hopper-v4</h3>",
        ],
    );
    // A bare name means v5: the same episodes under both names count once.
    evaluated(&lab, &[v5, (7, "hopper-v5", [900.0, 906.0])]);
    let page = report(&lab, &["RUN"]);
    has(&page, &["RUN, f32, target 3,600: 903.0 ± 3.0, 2 episodes"]);
    assert!(!page.contains("hopper-v4"));
}

/// A policy file that is gone is known by the record of its export.
#[test]
fn exports_are_remembered() {
    let lab = trained(&["0"]);
    let policy = export(&lab, "seed0", "int4");
    evaluate(&lab, &policy, "-300", "int4.json");
    fs::remove_file(lab.path(&policy)).unwrap();
    let page = report(&lab, &["seed0", "--eval", "int4.json"]);
    has(&page, &["seed0, int4, target −300"]);
}

#[test]
fn evaluating_again_replaces_and_training_anew_forgets() {
    let lab = trained(&["0"]);
    export(&lab, "seed0", "int8");
    let lines = || {
        fs::read_to_string(lab.path("seed0/evaluations.jsonl"))
            .unwrap()
            .lines()
            .count()
    };
    evaluate(&lab, "seed0", "-300,-600", "a.json");
    assert_eq!(lines(), 2);
    fs::remove_file(lab.path("a.json")).unwrap();
    evaluate(&lab, "seed0", "-600", "a.json");
    assert_eq!(lines(), 2);
    fs::remove_file(lab.path("a.json")).unwrap();
    evaluate(&lab, "seed0", "-700", "a.json");
    assert_eq!(lines(), 3);
    let again = [
        "train",
        "--data",
        "data.hdf5",
        "--config",
        "recipe.toml",
        "--out",
        "seed0",
        "--force",
        "--device",
        "cpu",
    ];
    lab.run(&again).success();
    for name in ["evaluations.jsonl", "export-int8.json"] {
        assert!(
            !lab.path("seed0").join(name).exists(),
            "{name} is of the run before"
        );
    }
}

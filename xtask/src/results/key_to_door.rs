//! Key-to-Door, from random walks: the Decision Transformer paper's table 5 and figure 5.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use host_sim::Env;
use host_sim::key_to_door::{KeyToDoor, LEAVES_FIRST, LEAVES_MIDDLE, SPEC};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::json;

use super::chart::{Chart, Charts, Mark, Series};
use super::{Episodes, Workbench};
use crate::process;

const ENV: &str = SPEC.id;
const SEEDS: [u32; 3] = [0, 1, 2];
const EPISODES: Episodes = Episodes {
    count: 400,
    seed: 20_000_000,
};
/// Success, so it is asked for.
const TARGET: &str = "1";

/// Random walks, and what the paper has of as many.
struct Set {
    name: &'static str,
    /// Of walks of 58 on average.
    steps: &'static str,
    seed: &'static str,
    /// Of a Decision Transformer that finds the successes by itself.
    updates: &'static str,
    published: Published,
}

struct Published {
    dt: f64,
    best_bc: f64,
    bc: f64,
    cql: f64,
}

const SETS: [Set; 2] = [
    Set {
        name: "1k",
        steps: "58200",
        seed: "0",
        updates: "9000",
        published: Published {
            dt: 71.8,
            best_bc: 69.9,
            bc: 1.4,
            cql: 13.1,
        },
    },
    Set {
        name: "10k",
        steps: "582000",
        seed: "100000",
        updates: "28000",
        published: Published {
            dt: 94.6,
            best_bc: 95.1,
            bc: 1.6,
            cql: 13.3,
        },
    },
];

/// Behaviour cloning sees the present view alone and learns from as many actions.
const BC: [&str; 10] = [
    "--algo",
    "bc",
    "--set",
    "bc.context_len=1",
    "--set",
    "bc.d_model=64",
    "--set",
    "bc.n_layer=2",
    "--set",
    "train.batch_size=960",
];
/// Sequences drawn evenly, as in the paper.
const PLAIN: [&str; 2] = ["--set", "dt.best_fraction=0.0"];
/// As many that the few successes are learned from all the same.
const LONG: [&str; 6] = [
    PLAIN[0],
    PLAIN[1],
    "--set",
    "train.batch_size=256",
    "--set",
    "eval.every=0",
];
/// Of the successes alone, one walk in 35.
const SUCCESSES: [&str; 2] = ["--top-percent", "2.8"];
/// Of choices: a network as large as behaviour cloning's, and published rates but for a shorter training.
const CQL: [&str; 18] = [
    "--algo",
    "cql",
    "--set",
    "cql.d_model=64",
    "--set",
    "cql.n_layer=2",
    "--set",
    "cql.critic_learning_rate=1e-3",
    "--set",
    "cql.alpha=1.0",
    "--set",
    "train.updates=5000",
    "--set",
    "train.batch_size=256",
    "--set",
    "control.choice=\"greedy\"",
    "--set",
    "eval.every=0",
];

/// What is trained on both sets.
struct Method {
    title: &'static str,
    /// Of its runs.
    name: &'static str,
    options: &'static [&'static [&'static str]],
    /// Does it take a GPU, and [`Set::updates`]? On one it is minutes.
    long: bool,
    published: fn(&Published) -> Option<f64>,
}

const METHODS: [Method; 6] = [
    Method {
        title: "DT",
        name: "plain-dt",
        options: &[&PLAIN],
        long: false,
        published: |published| Some(published.dt),
    },
    Method {
        title: "DT, many updates of 256 walks",
        name: "long-dt",
        options: &[&LONG],
        long: true,
        published: |published| Some(published.dt),
    },
    Method {
        title: "DT, half of the draws from the successes",
        name: "dt",
        options: &[],
        long: false,
        published: |_| None,
    },
    Method {
        title: "%BC, of the successes",
        name: "best-bc",
        options: &[&BC, &SUCCESSES],
        long: false,
        published: |published| Some(published.best_bc),
    },
    Method {
        title: "BC",
        name: "bc",
        options: &[&BC],
        long: false,
        published: |published| Some(published.bc),
    },
    Method {
        title: "CQL",
        name: "cql",
        options: &[&CQL],
        long: false,
        published: |published| Some(published.cql),
    },
];

/// A transformer that is told no return, and predicts it: the recipe's network, by keys of its own section. Errors of returns are small
/// beside those of random choices, and successes rare: without the weight, or with the data's one in 35, it says their mean.
const CRITIC: [&str; 8] = [
    "predict_return=100.0",
    "best_fraction=0.15",
    "best_percent=2.8",
    "d_model=32",
    "n_layer=2",
    "context_len=60",
    "max_ep_len=60",
    "sequence_len=60",
];
/// More updates, and no noise.
const CRITIC_TRAINING: [&str; 6] = [
    "--set",
    "train.updates=2000",
    "--set",
    "train.dropout=0.0",
    "--set",
    "eval.every=0",
];

/// `cargo xtask results key-to-door`.
///
/// # Errors
/// If a step fails.
pub fn table(bench: &Workbench) -> Result<()> {
    let folder = bench.out.join("key-to-door");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    println!(
        "| successes of {} episodes, % | random walks | of each training seed | mean | published |",
        EPISODES.count
    );
    println!("|---|---|---:|---:|---:|");
    for set in &SETS {
        let walks = folder.join(set.name).with_extension("hdf5");
        if !walks.exists() {
            let mut collect = bench.dt_train("collect");
            collect.args(["--env", ENV, "--agent", "random"]);
            collect.args(["--steps", set.steps, "--seed", set.seed]);
            bench.step(&walks, collect.arg("--out").arg(&walks))?;
        }
        for method in &METHODS {
            let Method { title, name, .. } = method;
            if method.long && bench.device == "cpu" && !bench.partial {
                continue;
            }
            let updates = format!("train.updates={}", set.updates);
            let updates = ["--set", &updates];
            let options = method.options.concat();
            let options = options
                .into_iter()
                .chain(updates.into_iter().filter(|_| method.long));
            let published = (method.published)(&set.published);
            let published = published.map_or("–".into(), |percent| percent.to_string());
            let mut successes = Vec::new();
            for seed in SEEDS {
                let run = folder.join(format!("{name}-{}-{seed}", set.name));
                bench.train(&run, ENV, walks.as_os_str(), ENV, seed, options.clone())?;
                let json = run.join("episodes.json");
                bench.eval(&run, ENV, TARGET, EPISODES, &json)?;
                let Some(there) = bench.measured(&json)? else {
                    continue;
                };
                let [at] = &there[..] else {
                    anyhow::bail!("{}: not of one target return", json.display())
                };
                let returns = at.episodes.iter().map(|episode| episode.total);
                successes.push(100.0 * returns.sum::<f64>() / at.episodes.len() as f64);
            }
            if successes.is_empty() {
                continue;
            }
            let each: Vec<String> = successes.iter().map(|s| format!("{s:.1}")).collect();
            let mean = successes.iter().sum::<f64>() / successes.len() as f64;
            println!(
                "| {title} | {} | {} | **{mean:.1}** | {published} |",
                set.name,
                each.join("; ")
            );
        }
    }
    println!("| random walks themselves | | | 2.9 | 3.1 |");
    for (title, search) in [
        (
            "a script: to the key where it is seen, else at random",
            Search::AtRandom,
        ),
        (
            "a script: to the key where it is seen, else along the middle row",
            Search::InOrder,
        ),
    ] {
        println!("| {title} | | | {:.1} | – |", 100.0 * scripted(search));
    }
    match bench.partial {
        true => Ok(()),
        false => critic(bench, &folder),
    }
}

/// Predicted returns along an episode with the key and one without, and what is looked at.
fn critic(bench: &Workbench, folder: &Path) -> Result<()> {
    let run = folder.join("critic");
    let walks = folder.join(SETS[1].name).with_extension("hdf5");
    let keys = CRITIC.map(|key| ["--set".to_owned(), format!("bc-transformer.{key}")]);
    let more = ["--algo".to_owned(), "bc-transformer".to_owned()];
    let more = more.into_iter().chain(keys.into_iter().flatten());
    let more = more.chain(CRITIC_TRAINING.map(Into::into));
    bench.train(&run, ENV, walks.as_os_str(), ENV, SEEDS[0], more)?;
    let [with, without] = [Walk::new(true), Walk::new(false)];
    let opinions = [
        opinions(bench, &run, &with, &folder.join("with.jsonl"))?,
        opinions(bench, &run, &without, &folder.join("without.jsonl"))?,
    ];
    let line = |name: &str, opinions: &Opinions| {
        let points = (1..).map(f64::from).zip(opinions.returns.iter().copied());
        Series::line(name, points, false)
    };
    let marks = || {
        let at = |name: &str, x: u32| Mark {
            name: name.to_owned(),
            x: x.into(),
        };
        vec![
            at("the key is taken, or not", Walk::TAKES),
            at("the middle room", LEAVES_FIRST),
            at("the room with the door", LEAVES_MIDDLE),
        ]
    };
    let looks = (0..).zip(&opinions[0].at_key);
    let looks = looks.map(|(layer, weights): (usize, &Vec<f64>)| {
        let points = (Walk::TAKES..).map(f64::from).zip(weights.iter().copied());
        Series::line(&format!("layer {layer}"), points, false)
    });
    let charts = Charts::new(
        "What a transformer that is told no return expects of an episode",
        "the same episode but for one step to the right or to the left; 10k random walks, successes drawn six times as often",
        Chart {
            title: "predicted return",
            x: "steps taken",
            y: Some([-0.1, 1.1]),
            series: vec![
                line("with the key", &opinions[0]),
                line("without", &opinions[1]),
            ],
            mark: marks(),
            ..Chart::default()
        },
    );
    let charts = charts.with(Chart {
        title: "attention of the newest action to the step that takes the key and the view after it, mean of heads",
        x: "steps taken",
        series: looks.collect(),
        mark: marks(),
        ..Chart::default()
    });
    let last = |opinions: &Opinions| opinions.returns.last().copied().unwrap_or(f64::NAN);
    println!(
        "\nPredicted return before the door: with the key {:.2}, without {:.2}.",
        last(&opinions[0]),
        last(&opinions[1])
    );
    bench.draw(&charts, &folder.join("critic.png"))
}

/// How a script looks for a key that it does not see.
#[derive(Clone, Copy)]
enum Search {
    AtRandom,
    /// To the middle row, and along it to the farther side.
    InOrder,
}

/// Part of the table's episodes in which a script succeeds that sees what policies see, and in the middle row also where it is.
fn scripted(search: Search) -> f64 {
    let [up, down, left, right] = [0.0, 1.0, 2.0, 3.0];
    let towards = |rows: i32, columns: i32| match (rows, columns) {
        (..0, _) => up,
        (1.., _) => down,
        (0, ..0) => left,
        (0, _) => right,
    };
    let mut successes = 0.0;
    for seed in 0..EPISODES.count {
        let seed = u64::from(EPISODES.seed + seed);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut env = KeyToDoor::new();
        env.reset(seed);
        let side = if env.agent().column <= 5 { 1 } else { -1 };
        for step in 0..SPEC.max_episode_steps {
            let (agent, key) = (env.agent(), env.key());
            let away = (key.row - agent.row, key.column - agent.column);
            let is_seen = away.0.abs() <= 2 && away.1.abs() <= 2 && !env.has_key();
            let choice = match search {
                _ if step >= LEAVES_MIDDLE => up,
                _ if is_seen => towards(away.0, away.1),
                Search::AtRandom => random.random_range(0..4) as f32,
                Search::InOrder => towards(3 - agent.row, side),
            };
            let outcome = env.step(&[choice]);
            successes += outcome.reward;
            if outcome.terminated {
                break;
            }
        }
    }
    successes / f64::from(EPISODES.count)
}

/// An episode by a script.
struct Walk {
    /// Before each action.
    views: Vec<Vec<f32>>,
    actions: Vec<f32>,
}

impl Walk {
    /// Steps until the key is taken, or stepped away from.
    const TAKES: u32 = 3;

    /// Two steps to the right bring the agent beside the key; what follows is the same in both.
    fn new(takes: bool) -> Self {
        let mut env = KeyToDoor::new();
        let state = [3.0, 4.0, 3.0, 7.0];
        env.set_state(&state, &[]).expect("a place in the room");
        let [up, down, left, right] = [0.0, 1.0, 2.0, 3.0];
        let decisive = if takes { right } else { left };
        let mut actions = vec![right, right, decisive];
        while (actions.len() as u32) < LEAVES_MIDDLE {
            actions.push(if actions.len().is_multiple_of(2) {
                up
            } else {
                down
            });
        }
        // In front of the door.
        actions.push(up);
        let views = actions.iter().map(|&action| {
            let mut view = vec![0.0; SPEC.state_dim()];
            env.observation(&mut view);
            env.step(&[action]);
            view
        });
        Self {
            views: views.collect(),
            actions: actions.clone(),
        }
    }

    /// The episode up to the view after so many steps, as `predict` reads it.
    fn context(&self, steps: usize) -> serde_json::Value {
        let timesteps: Vec<usize> = (0..=steps).collect();
        json!({
            "returns_to_go": vec![0.0; steps + 1],
            "states": self.views[..=steps],
            "actions": self.actions[..=steps].iter().map(|&a| a as u32).collect::<Vec<_>>(),
            "timesteps": timesteps,
        })
    }
}

/// What a policy thinks of a walk.
struct Opinions {
    /// After 1, 2, … steps.
    returns: Vec<f64>,
    /// By layer, after [`Walk::TAKES`] … steps: attention of the newest action to what tells of the key.
    at_key: Vec<Vec<f64>>,
}

fn opinions(bench: &Workbench, run: &Path, walk: &Walk, file: &PathBuf) -> Result<Opinions> {
    #[derive(Deserialize)]
    struct Answer {
        predicted_return: f64,
        attention: Attention,
    }
    #[derive(Deserialize)]
    struct Attention {
        tokens: Vec<String>,
        /// Layer, head, query, key.
        weights: Vec<Vec<Vec<Vec<f64>>>>,
    }
    let contexts = (1..walk.views.len()).map(|steps| format!("{}\n", walk.context(steps)));
    fs::write(file, contexts.collect::<String>())
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut predict = bench.dt_train("predict");
    predict
        .arg(run)
        .arg("--contexts")
        .arg(file)
        .arg("--attention");
    let text = process::output(&mut predict)?;
    let answers = text.lines().map(serde_json::from_str::<Answer>);
    let answers: Vec<Answer> = answers
        .collect::<Result<_, _>>()
        .context("dt-train predict")?;
    ensure!(
        answers.len() + 1 == walk.views.len(),
        "dt-train predict answers too little"
    );
    let newest = answers.last().context("a walk of one step")?;
    let names = &newest.attention.tokens;
    let token = |name: String| names.iter().position(|n| *n == name);
    let step = Walk::TAKES - 1;
    let key = [
        format!("s{step}"),
        format!("a{step}"),
        format!("s{}", step + 1),
    ];
    let key: Vec<usize> = key.into_iter().filter_map(token).collect();
    let at_key = newest.attention.weights.iter().map(|heads| {
        let actions = (step..).map_while(|t| token(format!("a{t}")));
        let weight = |query: usize| {
            let of_head = |head: &Vec<Vec<f64>>| key.iter().map(|&k| head[query][k]).sum::<f64>();
            heads.iter().map(of_head).sum::<f64>() / heads.len() as f64
        };
        actions.map(weight).collect()
    });
    Ok(Opinions {
        at_key: at_key.collect(),
        returns: answers
            .iter()
            .map(|answer| answer.predicted_return)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither is lost, and to look where nothing was seen yet is better.
    #[test]
    fn scripts_find_what_they_see() {
        let [at_random, in_order] = [Search::AtRandom, Search::InOrder].map(scripted);
        assert!((0.35..0.55).contains(&at_random), "{at_random}");
        assert!((0.6..0.8).contains(&in_order), "{in_order}");
    }

    /// That is what the figure compares.
    #[test]
    fn the_walks_differ_in_one_step_and_in_the_key() {
        let walks = [true, false].map(Walk::new);
        let [with, without] = &walks;
        let differs = (0..46).filter(|&t| with.actions[t] != without.actions[t]);
        assert_eq!(differs.collect::<Vec<_>>(), [2]);
        assert_eq!((with.views.len(), without.views.len()), (46, 46));
        // In the last rooms nothing tells them apart.
        assert_eq!(with.views[15..], without.views[15..]);
        for (walk, has_key) in walks.iter().zip([true, false]) {
            let mut env = KeyToDoor::new();
            env.set_state(&[3.0, 4.0, 3.0, 7.0], &[]).unwrap();
            walk.actions.iter().for_each(|&action| {
                env.step(&[action]);
            });
            assert_eq!(env.has_key(), has_key);
            // One more step leads through the door.
            assert!(env.step(&[0.0]).terminated);
        }
        assert_eq!(with.context(1)["actions"], json!([3, 3]));
    }
}

//! MinAtar's five games, from what an agent saw while it learned: policies that play for the score they are asked for.

use std::fs;

use anyhow::{Context, Result};

use super::{Episodes, Workbench, asked_and_returned};

const SEED: u32 = 0;
const EPISODES: Episodes = Episodes {
    count: 20,
    seed: 30_000_000,
};

/// A game, the steps from which PPO learns it (few, so that all is done within a quarter of an hour), what is
/// asked for, and what is published of agents that learned in it for five
/// million frames (Young and Tian 2019): DQN and actor-critic.
struct Game {
    name: &'static str,
    steps: &'static str,
    /// Of the Decision Transformer.
    updates: u32,
    targets: &'static str,
    published: &'static str,
}

const GAMES: [Game; 5] = [
    Game {
        name: "Breakout",
        steps: "400000",
        updates: 2000,
        targets: "2,4,6,8",
        published: "10; 17.5",
    },
    Game {
        name: "Asterix",
        steps: "150000",
        updates: 1000,
        targets: "0,2,4,8",
        published: "17; 19",
    },
    Game {
        name: "Freeway",
        steps: "150000",
        updates: 1000,
        targets: "5,15,30",
        published: "50; 47",
    },
    Game {
        name: "Seaquest",
        steps: "150000",
        updates: 1000,
        targets: "0,1,2,4",
        published: "20; 15",
    },
    Game {
        name: "SpaceInvaders",
        steps: "150000",
        updates: 1000,
        targets: "5,10,20",
        published: "44; 185",
    },
];

/// As an agent learns from images.
const AGENT: [&str; 4] = ["--agent", "ppo", "--seed", "0"];
/// Episodes of the data that tell how good PPO was in the end.
const LAST: usize = 100;

/// `cargo xtask results minatar`.
///
/// # Errors
/// If a step fails.
pub fn table(bench: &Workbench) -> Result<()> {
    let folder = bench.out.join("minatar");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    println!(
        "| game | PPO's steps | its last {LAST} episodes | all episodes: number, mean, best | asked for | returned, {} episodes each | published, online: DQN; AC |",
        EPISODES.count
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let mut results = Vec::new();
    for Game {
        name,
        steps,
        updates,
        targets,
        published,
    } in GAMES
    {
        let env = format!("gym:MinAtar/{name}-v1");
        let data = folder.join(name).with_extension("hdf5");
        if !data.exists() {
            let mut collect = bench.dt_train("collect");
            collect.args(["--env", &env, "--steps", steps]).args(AGENT);
            // What an interrupted command left cannot be gone on with: images are not kept on the way.
            bench.step(&data, collect.arg("--force").arg("--out").arg(&data))?;
        }
        let run = folder.join(name);
        let settings = [
            "--set".to_owned(),
            format!("train.updates={updates}"),
            "--set".to_owned(),
            "eval.episodes=1".to_owned(), // more of them below
        ];
        bench.train(&run, &env, data.as_os_str(), "minatar", SEED, settings)?;
        let policy = bench.export(&run, "int8")?;
        // Its name is the game's in the picture.
        let json = folder.join(name).with_extension("json");
        bench.eval(&policy, &env, targets, EPISODES, &json)?;
        let Some(there) = bench.measured(&json)? else {
            continue;
        };
        let returns = bench.returns(&data, [""; 0])?;
        let mean = |some: &[f64]| some.iter().sum::<f64>() / some.len() as f64;
        let best = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        println!(
            "| {name} | {steps} | {:.1} | {}; {:.1}; {best:.0} | {} | {published} |",
            mean(&returns[returns.len().saturating_sub(LAST)..]),
            returns.len(),
            mean(&returns),
            asked_and_returned(&there)
        );
        results.push(json);
    }
    bench.plot(&results, &folder.join("minatar.png")).map(drop)
}

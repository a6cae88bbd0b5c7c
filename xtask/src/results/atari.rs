//! Atari's Breakout and Pong, from games that scripts played well, badly and at random.

use std::fs;

use anyhow::{Context, Result};

use super::{Episodes, Workbench, asked_and_returned};
use crate::process::{command, deps};
use crate::setup::extras::Extra;

const SEED: u32 = 0;
const EPISODES: Episodes = Episodes {
    count: 10,
    seed: 30_000_000,
};
const STEPS: &str = "60000";
/// Each button is pressed when it is pressed, as the paper's code evaluates.
const SETTINGS: &str = "?repeat_action_probability=0";
const FRAMES: [&str; 2] = ["--frame-stack", "4"];

/// A game, what is asked for, what the paper asks for and achieves, from other data.
struct Game {
    name: &'static str,
    targets: &'static str,
    published: &'static str,
}

const GAMES: [Game; 2] = [
    Game {
        name: "Breakout",
        targets: "5,20,60",
        published: "90 → 76.9 ± 27.3",
    },
    Game {
        name: "Pong",
        targets: "-20,-5,15",
        published: "20 → 17.1 ± 2.9",
    },
];

/// `cargo xtask results atari`.
///
/// # Errors
/// If a step fails.
pub fn table(bench: &Workbench) -> Result<()> {
    let folder = bench.out.join("atari");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    println!(
        "| game | the script's episodes: number, mean, worst, best | asked for | returned, {} episodes each | published |",
        EPISODES.count
    );
    println!("|---|---:|---:|---:|---:|");
    let mut results = Vec::new();
    for Game {
        name,
        targets,
        published,
    } in GAMES
    {
        let env = format!("gym:ALE/{name}-v5{SETTINGS}");
        let data = folder.join(format!("{name}-data"));
        // The last of its files.
        if !data.join("$store$_terminal_ckpt.0.gz").exists() {
            let mut script = command(deps().join("python"));
            script.env("PYTHONPATH", Extra::Atari.link());
            script.args(["dt-train/agents/atari.py", name, STEPS]);
            bench.step(&data, script.arg(&data).args(["1", "0"]))?;
        }
        let run = folder.join(name);
        let settings = [
            "--set".to_owned(),
            format!("eval.target_returns=[{targets}]"),
            "--set".to_owned(),
            "eval.episodes=1".to_owned(), // more of them below
        ];
        bench.train(&run, &env, data.as_os_str(), "atari", SEED, settings)?;
        let policy = bench.export(&run, "int8")?;
        // Its name is the game's in the picture.
        let json = folder.join(name).with_extension("json");
        bench.eval(&policy, &env, targets, EPISODES, &json)?;
        let Some(there) = bench.measured(&json)? else {
            continue;
        };
        let returns = bench.returns(&data, FRAMES)?;
        let mean = returns.iter().sum::<f64>() / returns.len() as f64;
        let worst = returns.iter().copied().fold(f64::INFINITY, f64::min);
        let best = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        println!(
            "| {name} | {}; {mean:.1}; {worst:.0}; {best:.0} | {} | {published} |",
            returns.len(),
            asked_and_returned(&there)
        );
        results.push(json);
    }
    bench.plot(&results, &folder.join("atari.png")).map(drop)
}

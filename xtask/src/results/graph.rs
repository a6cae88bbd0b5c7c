//! The shortest way through a graph, from random walks: the Decision Transformer paper's figure 2.

use std::fs;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use host_sim::graph::{NODES, SPEC, distances, start};

use super::chart::{Chart, Charts, Series};
use super::{Episodes, Measured, Workbench};

const ENV: &str = SPEC.id;
/// Of 1001 walks.
const STEPS: &str = "6050";
const SEEDS: [u32; 3] = [0, 1, 2];
/// Each start node once.
const STARTS: usize = NODES - 1;
const EPISODES: Episodes = Episodes {
    count: STARTS as u32,
    seed: 0,
};
/// All returns that there are.
const TARGETS: &str = "0,-1,-2,-3,-4,-5,-6,-7,-8,-9";
/// Of behaviour cloning: it sees the present node alone, in as many updates.
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
    "train.batch_size=640", // as many actions
];
/// What a walk returns that does not arrive.
const LOST: f64 = -10.0;
/// Lengths of ways that are shown one by one.
const LENGTHS: RangeInclusive<u32> = 1..=10;

/// `cargo xtask results graph`.
///
/// # Errors
/// If a step fails.
pub fn table(bench: &Workbench) -> Result<()> {
    let folder = bench.out.join("graph");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let walks = folder.join("walks.hdf5");
    if !walks.exists() {
        let mut collect = bench.dt_train("collect");
        collect.args(["--env", ENV, "--agent", "random", "--steps", STEPS]);
        bench.step(&walks, collect.args(["--seed", "0", "--out"]).arg(&walks))?;
    }
    let returns = bench.returns(&walks, [""; 0])?;
    ensure!(returns.len() >= 1000, "fewer than 1000 walks");
    let data = Ways::of_data(&returns);
    let optimum = Ways(
        distances()[1..]
            .iter()
            .map(|&edges| vec![Some(edges)])
            .collect(),
    );

    let mut rows = vec![("random walks", vec![data.clone()])];
    for (name, of) in [
        (
            "DT, asked for the best return of the data from that node",
            Asked::Best,
        ),
        ("DT, asked for 0 everywhere", Asked::Nothing),
        ("DT, int8, as the first", Asked::BestInt8),
    ] {
        let transformer = |&seed: &u32| {
            let run = folder.join(format!("dt-{seed}"));
            bench.train(&run, ENV, walks.as_os_str(), ENV, seed, [""; 0])?;
            let policy = match of {
                Asked::BestInt8 => bench.export(&run, "int8")?,
                _ => bench.export(&run, "f32")?,
            };
            let json = policy.with_extension("json");
            bench.eval(&policy, ENV, TARGETS, EPISODES, &json)?;
            let asked = |start| match of {
                Asked::Nothing => 0.0,
                _ => data.best_return(start),
            };
            let there = bench.measured(&json)?;
            Ok(there.map(|evaluations| Ways::achieved(&evaluations, asked)))
        };
        let ways = SEEDS.iter().map(transformer).filter_map(Result::transpose);
        rows.push((name, ways.collect::<Result<_>>()?));
    }
    for (name, file, top) in [
        ("10%BC", "best-bc", Some(["--top-percent", "10"])),
        ("BC", "bc", None),
    ] {
        let cloning = |&seed: &u32| {
            let run = folder.join(format!("{file}-{seed}"));
            let more = BC.iter().chain(top.iter().flatten());
            bench.train(&run, ENV, walks.as_os_str(), ENV, seed, more)?;
            let json = run.join("starts.json");
            bench.eval(&run, ENV, "0", EPISODES, &json)?;
            let there = bench.measured(&json)?;
            Ok(there.map(|evaluations| Ways::achieved(&evaluations, |_| 0.0)))
        };
        let ways = SEEDS.iter().map(cloning).filter_map(Result::transpose);
        rows.push((name, ways.collect::<Result<_>>()?));
    }

    println!(
        "| 19 start nodes | a shortest way, of each training seed | % | arrives, % | edges more than needed, where it arrives |"
    );
    println!("|---|---:|---:|---:|---:|");
    for (name, ways) in rows.iter().filter(|(_, ways)| !ways.is_empty()) {
        let each: Vec<String> = ways
            .iter()
            .map(|ways| format!("{:.1}", ways.shortest()))
            .collect();
        let mean = |of: fn(&Ways) -> f64| ways.iter().map(of).sum::<f64>() / ways.len() as f64;
        let detour = match mean(Ways::detour) {
            detour if detour.is_nan() => "–".to_owned(), // of who never arrives
            detour => format!("{detour:.2}"),
        };
        println!(
            "| {name} | {} | **{:.1}** | {:.1} | {detour} |",
            each.join("; "),
            100.0 / STARTS as f64 * mean(Ways::shortest),
            100.0 * mean(Ways::arrives),
        );
    }
    if !bench.partial {
        // Of the returns that a policy can be asked for in all episodes at once, the one that most nodes need.
        let policy = folder.join("dt-0/int8.dtb");
        let figures = bench.emulate(&policy, EPISODES, Some(-2.0))?;
        println!(
            "\nOn the emulated Cortex-M4F, graph and policy (int8, training seed 0), asked for −2 from each node: {} steps, {} differing bits, {} \
             instructions per step.",
            figures.steps, figures.differing_bits, figures.instructions_per_step
        );
    }
    let picture = folder.join("ways.png");
    let transformers = Ways(rows[1].1.iter().flat_map(|ways| ways.0.clone()).collect());
    let charts = Charts::new(
        "Ways to the goal",
        "20 nodes, 1001 random walks; the Decision Transformer asked for the best return of the data from each node",
        Chart {
            title: "share of walks, %",
            x: "edges to the goal",
            bars: LENGTHS
                .map(|edges| edges.to_string())
                .chain(["never".to_owned()])
                .collect(),
            series: vec![
                Series::bars("random walks", data.histogram()),
                Series::bars("Decision Transformer", transformers.histogram()),
                Series::bars("shortest ways", optimum.histogram()),
            ],
            ..Chart::default()
        },
    );
    bench.draw(&charts, &picture)
}

/// The return that a Decision Transformer is asked for.
#[derive(Clone, Copy)]
enum Asked {
    Best,
    Nothing,
    BestInt8,
}

/// Edges of the walks from each start node, in order, if they arrive.
#[derive(Clone)]
struct Ways(Vec<Vec<Option<u32>>>);

impl Ways {
    /// Walk i starts where the episode of seed i does.
    fn of_data(returns: &[f64]) -> Self {
        let mut ways = vec![Vec::new(); STARTS];
        for (seed, &walk) in (0..).zip(returns) {
            ways[start(seed) - 1].push(edges(walk));
        }
        Self(ways)
    }

    /// Of each start node's episode at the return that was asked for there.
    fn achieved(evaluations: &[Measured], asked: impl Fn(usize) -> f64) -> Self {
        let way = |node: usize| {
            let there = evaluations
                .iter()
                .filter(|e| e.target_return == asked(node));
            let episodes = there.flat_map(|e| &e.episodes);
            let here = episodes.filter(|episode| start(episode.seed) == node);
            here.map(|episode| edges(episode.total)).collect()
        };
        Self((1..NODES).map(way).collect())
    }

    /// What the best walk from a node returned.
    fn best_return(&self, node: usize) -> f64 {
        let shortest = self.0[node - 1].iter().flatten().min();
        shortest.map_or(LOST, |&edges| 1.0 - f64::from(edges))
    }

    /// Start nodes from which walks are as short as can be; where there are several, that part of them.
    fn shortest(&self) -> f64 {
        let needed = &distances()[1..];
        let ways = self.0.iter().zip(needed);
        ways.map(|(ways, &needed)| {
            let shortest = ways.iter().filter(|&&way| way == Some(needed)).count();
            shortest as f64 / ways.len() as f64
        })
        .sum()
    }

    /// Part of the walks that arrive.
    fn arrives(&self) -> f64 {
        let all = self.0.iter().flatten();
        all.clone().flatten().count() as f64 / all.count() as f64
    }

    /// Mean of the edges that were not needed, of walks that arrive.
    fn detour(&self) -> f64 {
        let needed = &distances()[1..];
        let more = self.0.iter().zip(needed).flat_map(|(ways, &needed)| {
            let arrived = ways.iter().flatten();
            arrived.map(move |way| f64::from(way - needed))
        });
        let more: Vec<f64> = more.collect();
        more.iter().sum::<f64>() / more.len() as f64
    }

    /// Walks of each length, then those that do not arrive, in percent.
    fn histogram(&self) -> Vec<f64> {
        let all: Vec<Option<u32>> = self.0.iter().flatten().copied().collect();
        let share = |way| {
            let alike = all.iter().filter(|&&w| w == way).count();
            100.0 * alike as f64 / all.len() as f64
        };
        LENGTHS.map(Some).chain([None]).map(share).collect()
    }
}

/// Edges of a walk of that return.
fn edges(walk: f64) -> Option<u32> {
    (walk > LOST).then_some((1.0 - walk) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Episode;

    #[test]
    fn a_way_is_as_long_as_its_return_says() {
        assert_eq!(
            [0.0, -4.0, -9.0, -10.0].map(edges),
            [Some(1), Some(5), Some(10), None]
        );
        let needed = distances();
        let perfect: Vec<f64> = (0..19)
            .map(|seed| 1.0 - f64::from(needed[start(seed)]))
            .collect();
        let ways = Ways::of_data(&perfect);
        assert_eq!(
            (ways.shortest(), ways.arrives(), ways.detour()),
            (19.0, 1.0, 0.0)
        );
        let mut worse = perfect.clone();
        worse[0] = LOST;
        worse[1] -= 2.0;
        let ways = Ways::of_data(&worse);
        assert_eq!((ways.shortest(), ways.arrives()), (17.0, 18.0 / 19.0));
        assert_eq!(
            (ways.detour(), ways.best_return(start(0))),
            (2.0 / 18.0, LOST)
        );
        let last = ways.histogram().pop().unwrap();
        assert!((last - 100.0 / 19.0).abs() < 1e-9);
    }

    #[test]
    fn each_start_is_judged_at_what_it_was_asked_for() {
        let at = |target_return: f64, total: f64| Measured {
            target_return,
            episodes: (0..19).map(|seed| Episode { seed, total }).collect(),
        };
        let evaluations = [at(0.0, LOST), at(-1.0, -1.0)];
        let asked = |node| if node == 5 { -1.0 } else { 0.0 };
        let ways = Ways::achieved(&evaluations, asked);
        assert_eq!(ways.0.iter().flatten().flatten().count(), 1);
        assert_eq!(ways.0[4], [Some(2)]);
    }
}

//! Decision Transformers, what anyone would try first, and variants, with the same time of one core each.

use std::path::Path;

use anyhow::{Result, ensure};

use super::table::{Description, Row as Described};
use super::{Episodes, Workbench};

const SEEDS: [u32; 3] = [200, 201, 202];
const EPISODES: Episodes = Episodes {
    count: 100,
    seed: 20_000,
};

/// A set, and what is asked of the policies that can be asked.
struct Set {
    title: &'static str,
    file: &'static str,
    env: &'static str,
    target: &'static str,
    /// Mean and largest of the data's episode returns.
    returns: &'static str,
    /// Recipe of the transformers.
    transformer: &'static str,
    /// Time of one core that each training takes, in seconds.
    seconds: f64,
    /// Seconds of a transformer's update.
    transformer_update: f64,
}

/// What is trained.
struct Contender {
    title: &'static str,
    algo: &'static str,
    update: Update,
    /// More options.
    more: &'static [&'static str],
}

/// Time of an update on one core, as it was seen on a server with much other work beside it.
enum Update {
    /// In seconds, with the network that the shipped recipe has.
    Seconds(f64),
    /// In updates of the set's transformer.
    Transformers(f64),
}

const SETS: [Set; 2] = [
    Set {
        title: "Pendulum, medium-replay, 20 s",
        file: "pendulum-medium-replay.hdf5",
        env: "pendulum",
        target: "-150",
        returns: "−345, −1",
        transformer: "pendulum",
        seconds: 20.0,
        transformer_update: 0.050,
    },
    Set {
        title: "Hopper, medium-replay, 30 s",
        file: "hopper-medium-replay.hdf5",
        env: "hopper",
        target: "3200",
        returns: "439, 3213",
        transformer: "gym-short",
        seconds: 30.0,
        transformer_update: 0.105,
    },
];

const DT: Contender = Contender {
    title: "DT",
    algo: "dt",
    update: Update::Transformers(1.0),
    more: &[],
};
const BC: Contender = Contender {
    title: "BC",
    algo: "bc",
    update: Update::Seconds(0.0103),
    more: &[],
};
const BEST_BC: Contender = Contender {
    title: "10%BC",
    more: &["--top-percent", "10"],
    ..BC
};
const CQL: Contender = Contender {
    title: "CQL",
    algo: "cql",
    update: Update::Seconds(0.154),
    more: &[],
};
const RIVALS: [Contender; 8] = [
    DT,
    Contender {
        title: "BC, transformer",
        algo: "bc-transformer",
        update: Update::Transformers(1.0),
        more: &[],
    },
    BEST_BC,
    BC,
    Contender {
        title: "TD3+BC",
        algo: "td3bc",
        update: Update::Seconds(0.0091),
        more: &[],
    },
    Contender {
        title: "IQL",
        algo: "iql",
        update: Update::Seconds(0.0103),
        more: &[],
    },
    Contender {
        title: "AWR",
        algo: "awr",
        update: Update::Seconds(0.0047),
        more: &[],
    },
    CQL,
];

/// All reward of an episode with its last step.
const DELAYED: &[&str] = &["--delayed-reward"];
const DELAYED_RIVALS: [Contender; 4] = [
    Contender {
        title: "DT, delayed reward",
        more: DELAYED,
        ..DT
    },
    Contender {
        title: "CQL, delayed reward",
        more: DELAYED,
        ..CQL
    },
    BEST_BC,
    BC,
];

/// As many actions per update for each: sequences of as many steps as the recipe's, whatever they see.
const CONTEXTS: [Contender; 3] = [
    DT,
    Contender {
        title: "K = 5",
        more: &["--set", "dt.context_len=5", "--set", "dt.sequence_len=20"],
        ..DT
    },
    Contender {
        title: "K = 1",
        more: &["--set", "dt.context_len=1", "--set", "dt.sequence_len=20"],
        ..DT
    },
];

/// `cargo xtask results rivals`.
///
/// # Errors
/// If a step fails.
pub fn rivals(bench: &Workbench) -> Result<()> {
    table(bench, "rivals", &SETS, &RIVALS)
}

/// `cargo xtask results delayed`.
///
/// # Errors
/// If a step fails.
pub fn delayed(bench: &Workbench) -> Result<()> {
    table(bench, "delayed", &SETS[1..], &DELAYED_RIVALS)
}

/// `cargo xtask results context`.
///
/// # Errors
/// If a step fails.
pub fn context(bench: &Workbench) -> Result<()> {
    table(bench, "context", &SETS[1..], &CONTEXTS)
}

/// Refuses a folder that lacks a set.
///
/// # Errors
/// With the names of all that are missing.
pub fn check_data(folder: &Path) -> Result<()> {
    let files = SETS.iter().map(|set| set.file);
    let missing: Vec<_> = files.filter(|file| !folder.join(file).is_file()).collect();
    ensure!(
        missing.is_empty(),
        "{} lacks {}; name the folder of the sets with --data:\n{}",
        folder.display(),
        missing.join(", "),
        super::locomotion::SETS_HELP
    );
    Ok(())
}

fn table<const N: usize>(
    bench: &Workbench,
    name: &str,
    sets: &[Set],
    contenders: &[Contender; N],
) -> Result<()> {
    for set in sets {
        for contender in contenders {
            contender.results(bench, set)?;
        }
    }
    let rows = sets.iter().map(|set| Described {
        name: set.title,
        data: Some(set.returns.into()),
        seeds: &SEEDS,
        files: contenders
            .iter()
            .map(|contender| format!("rivals/{}/seed-{{seed}}/eval.json", contender.name(set)))
            .collect(),
        before: None,
    });
    let titles = contenders.each_ref().map(|contender| contender.title);
    bench.print(name, &Description::new(titles, rows))
}

impl Contender {
    /// What its runs on a set are called.
    fn name(&self, set: &Set) -> String {
        let title = self.title.to_lowercase().replace([' ', ','], "");
        format!("{}-{title}", set.file.trim_end_matches(".hdf5"))
    }

    fn updates(&self, set: &Set) -> u32 {
        let update = match self.update {
            Update::Seconds(seconds) => seconds,
            Update::Transformers(times) => times * set.transformer_update,
        };
        (set.seconds / update / 10.0).round() as u32 * 10
    }

    /// Trains all seeds, side by side, and evaluates each in `seed-N/eval.json`.
    fn results(&self, bench: &Workbench, set: &Set) -> Result<()> {
        let folder = bench.out.join("rivals").join(self.name(set));
        let run = |seed: u32| folder.join(format!("seed-{seed}"));
        if SEEDS
            .iter()
            .all(|&seed| run(seed).join("eval.json").exists())
        {
            return Ok(());
        }
        let seeds = SEEDS.map(|seed| seed.to_string()).join(",");
        let mut train = bench.dt_train("train");
        train.arg("--data").arg(bench.data.join(set.file));
        train.args(["--env", set.env, "--device", &bench.device]);
        train.args(["--seeds", &seeds, "--jobs", "2", "--resume"]);
        let is_transformer = matches!(self.update, Update::Transformers(_));
        let recipe = if is_transformer {
            set.transformer
        } else {
            self.algo
        };
        train.args(["--config", recipe, "--algo", self.algo]);
        for setting in self.settings(set) {
            train.arg("--set").arg(setting);
        }
        bench.step(&folder, train.args(self.more).arg("--out").arg(&folder))?;
        for seed in SEEDS {
            let json = run(seed).join("eval.json");
            bench.eval(&run(seed), set.env, set.target, EPISODES, &json)?;
        }
        Ok(())
    }

    fn settings(&self, set: &Set) -> Vec<String> {
        let mut settings = vec![
            format!("train.updates={}", self.updates(set)),
            format!("eval.target_returns=[{}.0]", set.target),
            // Their own evaluations would choose nothing: the last checkpoint is taken.
            "eval.every=0".into(),
            "eval.episodes=1".into(),
            "train.threads=1".into(),
        ];
        if self.algo == "bc" {
            // As in the table of baselines: schedule and average of the transformers' short recipe.
            let budget = [
                "train.batch_size=1240",
                "train.learning_rate=1e-3",
                "train.learning_rate_final=0.05",
                "train.warmup_updates=100",
                "train.ema_decay=0.998",
            ];
            settings.extend(budget.map(Into::into));
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_differ_have_different_names() {
        let all = || RIVALS.iter().chain(&DELAYED_RIVALS).chain(&CONTEXTS);
        for one in all() {
            for other in all() {
                let same = one.algo == other.algo && one.more == other.more;
                let names = [one, other].map(|contender| contender.name(&SETS[0]));
                assert_eq!(same, names[0] == names[1], "{names:?}");
            }
        }
    }

    #[test]
    fn every_training_takes_the_same_time() {
        assert_eq!(DT.updates(&SETS[0]), 400);
        assert_eq!(CQL.updates(&SETS[0]), 130);
        assert_eq!(RIVALS[4].updates(&SETS[1]), 3300);
    }
}

//! `dt-train collect` from the command line.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use dt_train::algo::ppo;
use dt_train::algo::sac::Settings;
use dt_train::collect::actor::{Actor, AgentSpec};
use dt_train::collect::agent_file::{self, Training};
use dt_train::collect::learn::{Learner, Next, learn};
use dt_train::collect::{Agent, online, part, record};
use dt_train::data::Dataset;
use dt_train::data::d4rl::{self, Metadata, Recording};
use host_sim::{Space, console};

fn collect(folder: &Path, args: &str) -> Output {
    let mut command = Command::cargo_bin("dt-train").unwrap();
    command
        .arg("collect")
        .args(args.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn succeeds(folder: &Path, args: &str) -> String {
    let output = collect(folder, args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn fails(folder: &Path, args: &str, code: i32, parts: &[&str]) {
    let before = std::fs::read_dir(folder).unwrap().count();
    let output = collect(folder, args);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        before,
        "a file was left behind"
    );
}

#[test]
fn random_actions_fill_their_range_and_repeat_with_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let out = succeeds(
        folder,
        "--env pendulum --agent random --steps 1100 --seed 3 --out a.hdf5",
    );
    assert!(
        out.starts_with("a.hdf5: 1100 steps, 5 episodes, mean return -"),
        "{out}"
    );
    succeeds(
        folder,
        "--env pendulum --agent random --steps 1100 --seed 3 --out b.hdf5",
    );
    assert_eq!(
        std::fs::read(folder.join("a.hdf5")).unwrap(),
        std::fs::read(folder.join("b.hdf5")).unwrap()
    );

    let data = Dataset::load(&[folder.join("a.hdf5")]).unwrap();
    assert_eq!(
        (
            data.state_dim(),
            data.act_dim(),
            data.len(),
            data.episodes.len()
        ),
        (3, 1, 1000, 5)
    );
    assert_eq!(
        (data.sources[0].unfinished, data.env()),
        (100, Some("pendulum"))
    );
    assert!(
        data.episodes
            .iter()
            .all(|episode| episode.rows.len() == 200 && !episode.terminated)
    );
    let actions = data.actions.vectors().unwrap();
    let mean = actions.iter().sum::<f32>() / 1000.0;
    // Uniform in ±2: the mean's standard error is 0.037.
    assert!(
        mean.abs() < 0.18
            && actions.iter().any(|a| *a > 1.9)
            && actions.iter().all(|a| a.abs() <= 2.0)
    );

    // Episodes in parallel are the same episodes.
    succeeds(
        folder,
        "--env pendulum --agent random --steps 1100 --seed 3 --out three.hdf5 --envs 3",
    );
    assert_eq!(
        std::fs::read(folder.join("three.hdf5")).unwrap(),
        std::fs::read(folder.join("a.hdf5")).unwrap()
    );

    // Episode i has seed S + i: seed 4 begins where seed 3's second episode does.
    succeeds(
        folder,
        "--env pendulum --agent random --steps 200 --seed 4 --out c.hdf5",
    );
    let shifted = Dataset::load(&[folder.join("c.hdf5")]).unwrap();
    let states = |data: &Dataset| data.observations.vectors().unwrap().to_vec();
    assert_eq!(states(&shifted), states(&data)[600..1200]);
    // Recorded, written and read: what came after the last action of each episode.
    assert_eq!(data.last_observations.len(), data.episodes.len());
    assert!(data.sources[0].notes.is_empty());
    assert_eq!(shifted.rewards, data.rewards[200..400]);
}

#[test]
fn a_sac_agent_is_recorded_saved_and_rolled_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |agent: &str, out: &str| {
        let arguments = format!(
            "--env pendulum --agent sac --steps 220 --seed 1 --out {out} --save-agent {agent}"
        );
        succeeds(folder, &arguments)
    };
    let out = train("agent", "sac.hdf5");
    assert!(out.contains("over 100 episodes"), "{out}");
    train("again", "again.hdf5");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(read("agent"), read("again"), "training does not repeat");
    assert_eq!(read("sac.hdf5"), read("again.hdf5"));

    let (actor, training) = agent_file::load(&folder.join("agent"), "pendulum").unwrap();
    assert_eq!(
        (actor.shape.state_dim, actor.shape.act_dim, training.steps),
        (3, 1, 220)
    );
    let replay = Dataset::load(&[folder.join("sac.hdf5")]).unwrap();
    assert_eq!((replay.len(), replay.sources[0].unfinished), (200, 20));

    succeeds(
        folder,
        "--env pendulum --agent agent --steps 400 --seed 5 --out sampled.hdf5",
    );
    succeeds(
        folder,
        "--env pendulum --agent agent --steps 400 --seed 5 --out mode.hdf5 --deterministic",
    );
    let sampled = Dataset::load(&[folder.join("sampled.hdf5")]).unwrap();
    let mode = Dataset::load(&[folder.join("mode.hdf5")]).unwrap();
    let first = |data: &Dataset| data.observations.vectors().unwrap()[..3].to_vec();
    assert_eq!(first(&sampled), first(&mode));
    assert_ne!(sampled.actions, mode.actions);
    assert_eq!(sampled.sources[0].policy.as_deref(), Some("agent"));
}

#[test]
fn existing_output_is_kept_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("a.hdf5");
    std::fs::write(&path, "precious").unwrap();
    let arguments = "--env pendulum --agent random --steps 200 --out a.hdf5";
    fails(folder, arguments, 1, &["a.hdf5 already exists", "--force"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    succeeds(folder, &format!("{arguments} --force"));
    assert_eq!(Dataset::load(&[path]).unwrap().len(), 200);
}

#[test]
fn what_cannot_be_done_is_refused_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fails(
        folder,
        "--env pendulun --agent random --steps 9 --out a",
        2,
        &["pendulun", "`pendulum`"],
    );
    fails(
        folder,
        "--env hoper --agent random --steps 9 --out a",
        2,
        &["did you mean `hopper`?"],
    );
    fails(
        folder,
        "--env pendulum --agent random --steps 9 --out no/a",
        1,
        &["no", "does not exist"],
    );
    let saving = "--env pendulum --agent random --steps 9 --out a --save-agent b";
    fails(
        folder,
        saving,
        2,
        &["--save-agent only goes with --agent sac"],
    );
    fails(
        folder,
        "--env pendulum --agent sac --steps 9 --out a --deterministic",
        2,
        &["--agent FILE"],
    );
    assert_eq!(
        collect(folder, "--env pendulum --agent random --steps 0 --out a")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn unusable_agents_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rollout = |agent: &str| format!("--env pendulum --agent {agent} --steps 9 --out a");
    fails(
        folder,
        &rollout("nothing"),
        1,
        &["error: nothing: cannot be read", "--save-agent"],
    );

    std::fs::write(folder.join("text"), "not an agent").unwrap();
    fails(
        folder,
        &rollout("text"),
        1,
        &["error: text: is not an intact agent file"],
    );

    let shape = AgentSpec {
        env: "hopper".into(),
        state_dim: 11,
        act_dim: 3,
        hidden: 4,
        action_low: vec![-1.0; 3],
        action_high: vec![1.0; 3],
        choices: None,
        image: None,
    };
    let training = Training {
        steps: 1,
        seed: 1,
        settings: online::Settings::Sac(Settings::for_env("hopper")),
        version: "0".into(),
    };
    let weights = vec![0.5; shape.layout().numel() as usize];
    let actor = Actor { shape, weights };
    agent_file::save(&folder.join("hopper"), false, &actor, &training).unwrap();
    assert_eq!(
        agent_file::load(&folder.join("hopper"), "hopper").unwrap(),
        (actor.clone(), training.clone())
    );
    fails(
        folder,
        &rollout("hopper"),
        1,
        &[
            "hopper: was trained in `hopper`, not in `pendulum`",
            "--env hopper",
        ],
    );

    let mut bytes = std::fs::read(folder.join("hopper")).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(folder.join("cut"), bytes).unwrap();
    let message = agent_file::load(&folder.join("cut"), "hopper")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("cut: is not an intact agent file"),
        "{message}"
    );

    let broken = Actor {
        weights: vec![f32::NAN; actor.weights.len()],
        ..actor
    };
    agent_file::save(&folder.join("nan"), false, &broken, &training).unwrap();
    let message = agent_file::load(&folder.join("nan"), "hopper")
        .unwrap_err()
        .to_string();
    assert!(message.contains("not finite"), "{message}");
}

#[test]
fn a_collection_that_was_stopped_goes_on_to_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sac = "--env pendulum --agent sac --steps 220 --seed 1 --out";
    succeeds(folder, &format!("{sac} whole.hdf5 --save-agent whole"));

    // What a stopped process leaves.
    tch::set_num_threads(1);
    let env = || host_sim::make("pendulum").unwrap();
    let mut learner = Learner::new(env, 1, &pendulum(), 220, 1);
    learner.learn(|_| Ok::<_, ()>(Next::Stop)).unwrap();
    assert_eq!(learner.done(), 200);
    part::save(&folder.join("resumed.hdf5.part"), &learner).unwrap();

    let resumed = format!("{sac} resumed.hdf5 --save-agent resumed");
    fails(
        folder,
        &resumed,
        1,
        &["resumed.hdf5.part", "--resume", "--force"],
    );
    fails(
        folder,
        "--env pendulum --agent sac --steps 220 --seed 2 --out resumed.hdf5 --resume",
        1,
        &["resumed.hdf5.part: was started with --seed 1, not 2"],
    );
    succeeds(folder, &format!("{resumed} --resume"));
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(read("resumed"), read("whole"));
    assert_eq!(read("resumed.hdf5"), read("whole.hdf5"));
    assert!(!folder.join("resumed.hdf5.part").exists());
}

/// Every environment there is, and one described by a user's file: random steps, an agent that learns in two of them
/// at the same time, and that agent saved and loaded.
#[test]
fn every_environment_can_be_collected_from() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent");
    let cartpole = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../host-sim/examples/cartpole/cartpole.toml"
    );
    for name in host_sim::registry::NAMES.iter().chain([&cartpole]) {
        let make_env = host_sim::maker(name).unwrap();
        let env = make_env();
        let spec = env.spec();
        let settings = match online::Settings::for_env(&spec) {
            online::Settings::Sac(published) => online::Settings::Sac(Settings {
                hidden: 16,
                batch_size: 16,
                learning_starts: 40,
                ..published
            }),
            online::Settings::Ppo(published) => online::Settings::Ppo(ppo::Settings {
                horizon: 10,
                ..published
            }),
        };
        let (actor, learned) = learn(&make_env, 2, &settings, 60, 1);
        let training = Training {
            steps: 60,
            seed: 1,
            settings,
            version: "0".into(),
        };
        agent_file::save(&file, true, &actor, &training).unwrap();
        let (saved, _) = agent_file::load(&file, spec.id).unwrap();
        assert_eq!(saved, actor, "{name}");
        let agent = Agent::Trained {
            actor: &saved,
            deterministic: false,
        };
        let sampled = record(&make_env, agent, 60, 1, 0);
        let random = record(&make_env, Agent::Random, 60, 1, 0);
        for data in [&learned, &sampled, &random] {
            assert_eq!(data.rewards.len(), 60, "{name}");
            assert_eq!(data.observations.len(), 60 * spec.state_dim(), "{name}");
            let mut actions = data.actions.chunks_exact(spec.act_dim());
            assert!(actions.all(|action| spec.action.contains(action)), "{name}");
            for i in 0..spec.act_dim() {
                let component = data.actions.iter().skip(i).step_by(spec.act_dim());
                assert!(component.clone().any(|a| *a != data.actions[i]), "{name}");
            }
            let values = data.observations.iter().chain(&data.rewards);
            assert!(values.clone().all(|value| value.is_finite()), "{name}");
        }
        assert_eq!(
            sampled.observations[..spec.state_dim()],
            random.observations[..spec.state_dim()]
        );
        assert_ne!(sampled.actions, random.actions, "{name}");
    }
}

#[test]
fn environments_in_parallel_resume_to_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sac = "--env reacher --agent sac --steps 420 --seed 1 --envs 3 --learning-starts 300 --updates-per-step 0.5 --out";
    succeeds(folder, &format!("{sac} whole.hdf5 --save-agent whole"));

    tch::set_num_threads(1);
    let config = online::Settings::Sac(Settings {
        learning_starts: 300,
        updates_per_step: 0.5,
        ..Settings::for_env("reacher")
    });
    let env = || host_sim::make("reacher").unwrap();
    let mut learner = Learner::new(env, 3, &config, 420, 1);
    let stop_at_300 = |learner: &Learner| match learner.done() {
        300 => Ok::<_, ()>(Next::Stop),
        _ => Ok(Next::Learn),
    };
    learner.learn(stop_at_300).unwrap();
    part::save(&folder.join("resumed.hdf5.part"), &learner).unwrap();
    fails(
        folder,
        "--env reacher --agent sac --steps 420 --seed 1 --learning-starts 300 --updates-per-step 0.5 --out resumed.hdf5 --resume",
        1,
        &["was started with --envs 3, not 1"],
    );
    let resumed = format!("{sac} resumed.hdf5 --save-agent resumed --resume");
    succeeds(folder, &resumed);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(read("resumed"), read("whole"));
    assert_eq!(read("resumed.hdf5"), read("whole.hdf5"));
}

#[test]
fn recipes_make_data_sets_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeeds(
        folder,
        "--env pendulum --agent random --steps 300 --seed 3 --out agent.hdf5",
    );
    succeeds(
        folder,
        "--env pendulum --recipe random --steps 300 --seed 3 --out recipe.hdf5",
    );
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(read("agent.hdf5"), read("recipe.hdf5"));

    // 100 updates make no agent medium.
    let output = collect(
        folder,
        "--env pendulum --recipe medium-replay --steps 200 --out replay.hdf5",
    );
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && note.contains("not medium yet (mean return of -865.02)"),
        "{note}"
    );
    assert_eq!(
        Dataset::load(&[folder.join("replay.hdf5")]).unwrap().len(),
        200
    );
    fails(
        folder,
        "--env pendulum --recipe medium --train-steps 200 --steps 200 --out medium.hdf5",
        1,
        &[
            "after 200 steps the agent is not medium yet",
            "--train-steps",
        ],
    );
    for arguments in [
        "--recipe medium --agent sac --steps 9",
        "--agent sac --train-steps 9 --steps 9",
        "--recipe expert-ish --steps 9",
        "--steps 9",
        "--agent random --steps 9 --resume",
        "--agent random --steps 9 --updates-per-step 2",
        "--agent random --steps 9 --learning-starts 2",
        "--agent sac --steps 9 --updates-per-step 0",
        "--agent sac --steps 9 --updates-per-step nan",
        "--agent sac --steps 9 --envs 0",
        "--agent random --steps 9 --hidden 8",
        "--agent random --steps 9 --discount 0.9",
        "--recipe random --steps 9 --batch-size 8",
        "--agent sac --steps 9 --learning-rate 0",
        "--agent sac --steps 9 --discount 1.1",
        "--agent sac --steps 9 --discount nan",
        "--agent sac --steps 9 --batch-size 0",
        "--agent sac --steps 9 --hidden 0",
        "--agent random --steps 9 --horizon 8",
        "--agent ppo --steps 9 --epochs 0",
        "--agent sac --medium-return 100 --steps 9",
        "--recipe medium --medium-return inf --steps 9",
    ] {
        let output = collect(folder, &format!("--env pendulum --out a {arguments}"));
        assert_eq!(output.status.code(), Some(2), "{arguments}");
    }
}

#[test]
fn agents_are_trained_as_asked_and_say_how() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let asked = [
        "--learning-rate 2e-3",
        "--batch-size 16",
        "--discount 0.9",
        "--hidden 12",
        "--learning-starts 20",
    ];
    let sac = "--env pendulum --agent sac --steps 60 --seed 1";
    let all = asked.join(" ");
    succeeds(folder, &format!("{sac} {all} --out a.hdf5 --save-agent a"));
    let config = online::Settings::Sac(Settings {
        learning_rate: 2e-3,
        batch_size: 16,
        discount: 0.9,
        hidden: 12,
        learning_starts: 20,
        ..Settings::for_env("pendulum")
    });
    let (actor, training) = agent_file::load(&folder.join("a"), "pendulum").unwrap();
    assert_eq!(training.settings, config);
    assert_eq!(actor.shape.hidden, 12);
    tch::set_num_threads(1);
    let env = || host_sim::make("pendulum").unwrap();
    let mut learner = Learner::new(env, 1, &config, 60, 1);
    learner.learn(|_| Ok::<_, ()>(Next::Learn)).unwrap();
    assert_eq!(learner.into_parts().0, actor);
    // Each option changes what is learned.
    for (i, other) in ["--learning-rate 1e-3", "--batch-size 17", "--discount 0.95"]
        .iter()
        .enumerate()
    {
        let mut changed = asked;
        changed[i] = other;
        let changed = changed.join(" ");
        succeeds(
            folder,
            &format!("{sac} {changed} --out b.hdf5 --save-agent b --force"),
        );
        let (other_actor, _) = agent_file::load(&folder.join("b"), "pendulum").unwrap();
        assert_ne!(other_actor, actor, "{other}");
    }
}

fn pendulum() -> online::Settings {
    online::Settings::Sac(Settings::for_env("pendulum"))
}

/// What PPO saw, its agent, and the agent's episodes; actions are integers of one dimension, as Gymnasium has them.
#[test]
fn choices_are_learned_recorded_and_rolled_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let asked = [
        "--learning-rate 2e-3",
        "--batch-size 16",
        "--discount 0.9",
        "--horizon 20",
        "--epochs 3",
        "--hidden 12",
    ];
    let ppo = "--env cartpole --agent ppo --steps 300 --seed 1 --envs 3";
    let all = asked.join(" ");
    succeeds(folder, &format!("{ppo} {all} --out a.hdf5 --save-agent a"));
    let (actor, training) = agent_file::load(&folder.join("a"), "cartpole").unwrap();
    let config = online::Settings::Ppo(ppo::Settings {
        learning_rate: 2e-3,
        batch_size: 16,
        discount: 0.9,
        horizon: 20,
        epochs: 3,
        hidden: 12,
        ..ppo::Settings::default()
    });
    assert_eq!(training.settings, config);
    for (i, other) in [
        "--learning-rate 1e-3",
        "--batch-size 17",
        "--discount 0.95",
        "--horizon 10",
        "--epochs 4",
    ]
    .iter()
    .enumerate()
    {
        let mut changed = asked;
        changed[i] = other;
        let changed = changed.join(" ");
        succeeds(
            folder,
            &format!("{ppo} {changed} --out b.hdf5 --save-agent b --force"),
        );
        let (other_actor, _) = agent_file::load(&folder.join("b"), "cartpole").unwrap();
        assert_ne!(other_actor, actor, "{other}");
    }

    succeeds(
        folder,
        "--env cartpole --agent a --steps 250 --seed 5 --out sampled.hdf5",
    );
    succeeds(
        folder,
        "--env cartpole --agent random --steps 250 --seed 5 --out random.hdf5",
    );
    for name in ["a.hdf5", "sampled.hdf5", "random.hdf5"] {
        let file = hdf5::File::open(folder.join(name)).unwrap();
        let actions = file.dataset("actions").unwrap();
        assert!(actions.dtype().unwrap().is::<i64>(), "{name}");
        assert_eq!(actions.ndim(), 1);
        let data = Dataset::load(&[folder.join(name)]).unwrap();
        assert_eq!(data.actions.space(), Space::Discrete { n: 2 });
    }

    // Three episodes were still going on, the end of which no flag marks. Nothing else explains such rows.
    let file = hdf5::File::open_rw(folder.join("a.hdf5")).unwrap();
    let unfinished = file.attr("unfinished_steps").unwrap();
    let steps = unfinished.read_scalar::<u64>().unwrap();
    let data = Dataset::load(&[folder.join("a.hdf5")]).unwrap();
    assert_eq!(data.sources[0].unfinished as u64, steps);
    unfinished.write_scalar(&(steps - 1)).unwrap();
    file.close().unwrap();
    let error = Dataset::load(&[folder.join("a.hdf5")]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("there an episode ends that no flag marks"),
        "{error}"
    );
}

#[test]
fn who_cannot_learn_an_environments_actions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (arguments, parts) in [
        (
            "--env cartpole --agent sac --steps 9 --learning-starts 3",
            [
                "are Discrete(2), from which sac does not learn",
                "--agent ppo",
            ],
        ),
        (
            "--env pendulum --agent ppo --steps 9",
            ["are Box(1), -2…2, from which ppo", "--agent sac"],
        ),
        (
            "--env pendulum --agent sac --steps 9 --horizon 3",
            ["--horizon is of ppo", "leave it away"],
        ),
        (
            "--env cartpole --recipe medium --steps 9 --updates-per-step 3",
            ["--updates-per-step is of sac", "leave it away"],
        ),
        (
            "--env cartpole --agent ppo --steps 100",
            ["PPO learns from 256 steps at a time", "--horizon"],
        ),
        (
            "--env cartpole --recipe medium --steps 9",
            ["no published returns", "pass --medium-return R"],
        ),
    ] {
        fails(folder, &format!("{arguments} --out a"), 1, &parts);
    }
    // A pole that falls at once is medium where nobody asks for more.
    let output = collect(
        folder,
        "--env cartpole --recipe medium --medium-return 5 --train-steps 400 --steps 100 --out medium.hdf5",
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("medium agent (mean return of 5.00)"),
        "{text}"
    );
}

/// `collect` with a plant as it is typed.
fn collect_plant(folder: &Path, name: &str, args: &str) -> (bool, String) {
    let mut command = Command::cargo_bin("dt-train").unwrap();
    let output = command
        .args(["collect", "--plant", name.strip_prefix("plant:").unwrap()])
        .args(args.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), message)
}

#[test]
fn a_collection_whose_plant_was_lost_goes_on() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let marks = tempfile::tempdir().unwrap();
    let env = host_sim::maker(&mortal(marks.path(), 0)).unwrap();
    let settings = online::Settings::for_env(&env().spec());
    for (out, learns) in [
        ("sac.hdf5", "--agent sac"),
        ("replay.hdf5", "--recipe medium-replay --medium-return 9"),
    ] {
        // What a stopped process leaves: a first episode.
        let part = folder.join(format!("{out}.part"));
        let mut learner = Learner::new(&env, 1, &settings, 30, 1);
        learner.learn(|_| Ok::<_, ()>(Next::Stop)).unwrap();
        part::save(&part, &learner).unwrap();

        let args = format!("{learns} --steps 30 --seed 1 --resume --out {out}");
        let marks = tempfile::tempdir().unwrap();
        let (done, message) = collect_plant(folder, &mortal(marks.path(), 99), &args);
        assert!(!done, "{message}");
        let says = format!(
            "the plant was lost: {out} has the 16 steps before that, of 30; once it is mended, move that file and go on with --resume"
        );
        assert!(message.contains(&says), "{message}");
        assert!(part.exists());

        std::fs::remove_file(folder.join(out)).unwrap();
        let (done, message) = collect_plant(folder, &mortal(marks.path(), 0), &args);
        assert!(done, "{message}");
        assert!(!part.exists());
        let data = Dataset::load(&[folder.join(out)]).unwrap();
        assert_eq!((data.len(), data.episodes.len()), (30, 3));
    }
}

/// However many cores there are, one episode at a time.
#[test]
fn a_plant_elsewhere_that_holds_one_environment_is_not_asked_for_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let [stdin, stdout] =
                [(); 2].map(|()| OwnedFd::from(stream.as_ref().unwrap().try_clone().unwrap()));
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-sim/tests/plant.py");
            let mut python = std::process::Command::new("python3");
            python.arg(script).arg("nothing").env("ENVS", "1");
            let mut python = python.stdin(stdin).stdout(stdout).spawn().unwrap();
            std::thread::spawn(move || python.wait());
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let name = format!("plant:tcp:{address}");
    let (done, message) = collect_plant(
        folder.path(),
        &name,
        "--agent random --steps 60 --out x.hdf5",
    );
    assert!(done && !message.contains("plant"), "{message}");
    let data = Dataset::load(&[folder.path().join("x.hdf5")]).unwrap();
    assert_eq!((data.len(), data.episodes.len()), (60, 6));
}

#[test]
fn a_plant_that_never_begins_leaves_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-sim/tests/plant.py");
    let name = format!("plant:exec python3 {} reset", script.display());
    std::fs::write(folder.join("x.hdf5"), "precious").unwrap();
    for agent in ["random", "sac"] {
        let args = format!("--agent {agent} --steps 30 --out x.hdf5 --force");
        let (done, message) = collect_plant(folder, &name, &args);
        assert!(!done, "{message}");
        for says in [
            "no point on the line",
            "error: the plant was lost before its first step; nothing was written to x.hdf5",
        ] {
            assert!(message.contains(says), "{agent}: {message}");
        }
        assert_eq!(std::fs::read(folder.join("x.hdf5")).unwrap(), b"precious");
    }
    let metadata = Metadata {
        env: "point",
        policy: "random",
        seed: 0,
        choices: false,
    };
    let nothing = d4rl::write(&folder.join("y"), false, &Recording::default(), &metadata);
    let nothing = console::message(&nothing.unwrap_err());
    assert!(nothing.contains("no step was recorded"), "{nothing}");
}

/// The plant in Python of host-sim's tests: `most` of its processes die in the third step of their first episode, of ten.
fn mortal(marks: &Path, most: u32) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-sim/tests/plant.py");
    let (script, marks) = (script.display(), marks.display());
    let name = format!("plant:exec python3 {script} die {marks} {most}");
    host_sim::plant::allow(&name);
    name
}

#[test]
fn episodes_end_where_their_plant_did_and_what_was_before_is_kept() {
    let marks = tempfile::tempdir().unwrap();
    let env = host_sim::maker(&mortal(marks.path(), 1)).unwrap();
    let data = record(&env, Agent::Random, 35, 1, 1);
    assert_eq!(data.rewards.len(), 35);
    let ends: Vec<usize> = (0..35).filter(|&row| data.timeouts[row]).collect();
    assert_eq!(ends, [1, 11, 21, 31]);
    assert!(!data.terminals.contains(&true));
    // It lives on from where it was in every step.
    for row in (0..34).filter(|row| !ends.contains(row)) {
        let [now, next] = [row, row + 1].map(|row| 2 * row..2 * row + 2);
        assert_eq!(
            data.next_observations[now], data.observations[next],
            "row {row}"
        );
    }

    // A plant that is lost again and again is given up, by agents that learn, too, and that is all there is.
    let marks = tempfile::tempdir().unwrap();
    let env = host_sim::maker(&mortal(marks.path(), 99)).unwrap();
    let data = record(&env, Agent::Random, 35, 1, 1);
    assert_eq!(data.timeouts, [false, true].repeat(3));

    let marks = tempfile::tempdir().unwrap();
    let env = host_sim::maker(&mortal(marks.path(), 99)).unwrap();
    let mut learner = Learner::new(env, 1, &pendulum(), 50, 1);
    let Ok(()) = learner.learn(|_| Ok::<_, std::convert::Infallible>(Next::Learn));
    let words = learner.lost().unwrap();
    assert!(words.contains("the spring broke"), "{words}");
    let (_, _, data) = learner.into_parts();
    assert_eq!(data.timeouts, [false, true].repeat(3));
    assert_eq!((data.rewards.len(), data.observations.len()), (6, 12));
}

#[test]
fn data_of_a_plant_name_it_and_no_command() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host-sim/tests/plant.py");
    let mut command = Command::cargo_bin("dt-train").unwrap();
    let output = command
        .args([
            "collect",
            "--agent",
            "random",
            "--steps",
            "20",
            "--out",
            "point.hdf5",
            "--plant",
        ])
        .arg(format!("exec python3 {} nothing", script.display()))
        .current_dir(folder.path())
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    let data = Dataset::load(&[folder.path().join("point.hdf5")]).unwrap();
    assert_eq!(data.env(), Some("point"));
    fails(
        folder.path(),
        "--agent random --steps 5 --out x.hdf5",
        2,
        &["--env E, or --plant CMD"],
    );
}

//! Plants in processes of their own: as good as built in, and what is left of an episode when they are not.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt;
use host_sim::evaluation::{Evaluation, losses};
use host_sim::rollout::{Controller, Episode, Plan, Recorder, Transition, rollout};
use host_sim::{Blueprint, Fault, MakeError, make, plant};

/// The plant in Python, with what is to go wrong.
fn python(fault: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plant.py");
    format!("plant:exec python3 {} {fault}", script.display())
}

/// The plant in Rust.
fn pendulum() -> String {
    let program = Command::cargo_bin("host-sim").unwrap();
    format!("{} plant --env pendulum", program.get_program().display())
}

/// Pushes with whatever moves.
#[derive(Default)]
struct Push([f32; 1], usize);

impl Controller for Push {
    type Error = std::convert::Infallible;
    fn reset(&mut self, _seed: u64, _target_return: f32) -> Result<(), Self::Error> {
        Ok(())
    }
    fn act(&mut self, observation: &[f32]) -> Result<&[f32], Self::Error> {
        self.0 = [if observation.last() > Some(&0.0) {
            -0.5
        } else {
            0.5
        }];
        Ok(&self.0)
    }
    fn feedback(&mut self, _applied: &[f32], _reward: f32) -> Result<(), Self::Error> {
        self.1 += 1;
        Ok(())
    }
}

#[derive(Debug, Default, PartialEq)]
struct Bits(Vec<Vec<u32>>, Vec<u64>);

impl Recorder for Bits {
    fn record(&mut self, transition: &Transition<'_>) {
        let seen = transition
            .observation
            .iter()
            .chain(transition.next_observation);
        self.0.push(seen.map(|value| value.to_bits()).collect());
        self.1.push(transition.reward.to_bits());
    }
}

/// As if it had been typed.
fn open(name: &str) -> Result<Blueprint, MakeError> {
    plant::allow(name);
    Blueprint::new(name, None)
}

fn run(name: &str, episodes: u32, threads: usize) -> Vec<(Episode, Bits)> {
    let blueprint = open(name).unwrap_or_else(|error| panic!("{error}"));
    let plan = Plan {
        target_return: 0.0,
        episodes,
        seed: 11,
        threads,
    };
    rollout::<_, Bits>(&plan, || blueprint.make(), Push::default, |_| {}).unwrap()
}

#[test]
fn a_plant_in_a_process_of_its_own_gives_the_same_bits() {
    let built_in = run("pendulum", 9, 2);
    let piped = format!("plant:{}", pendulum());
    assert_eq!(run(&piped, 9, 2), built_in);
    // Threads and processes do not matter.
    assert_eq!(run(&piped, 9, 5), built_in);

    let mut server = Command::cargo_bin("host-sim")
        .unwrap()
        .args(["plant", "--env", "pendulum", "--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let stderr = server.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut said).unwrap();
    let address = said.trim().strip_prefix("listening on ").unwrap();
    let over_tcp = run(&format!("plant:tcp:{address}"), 9, 2);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(over_tcp, built_in);
    // Nobody listens any more.
    let gone = open("plant:tcp:127.0.0.1:1").unwrap_err();
    assert!(gone.to_string().contains("start the plant first"), "{gone}");
}

#[test]
fn the_document_is_enough_to_write_one() {
    let done = run(&python("nothing"), 5, 2);
    assert_eq!(done.len(), 5);
    for (episode, bits) in &done {
        assert_eq!((episode.length, episode.fault.as_ref()), (10, None));
        // The first step by hand: a push of 0.5 is a quarter of that in velocity.
        let x = (episode.seed % 8) as f32 / 8.0;
        let seen = [x, 0.0, x + 0.125, 0.125].map(f32::to_bits);
        assert_eq!(bits.0[0], seen);
        assert_eq!(bits.1[0], (-f64::from(x + 0.125)).to_bits());
    }
    // What it prints between frames is dropped.
    assert_eq!(run(&python("print"), 5, 2), done);
    let name = python("nothing");
    let env = open(&name).unwrap().make();
    let spec = env.spec();
    assert_eq!((spec.id, spec.max_episode_steps), ("point", 10));
    assert_eq!(spec.control_period_us, 20_000);
    assert_eq!(spec.observation.to_string(), "Box(2), unbounded");
    assert_eq!(spec.action.to_string(), "Box(1), -1…1");
}

/// One episode goes wrong in its third step: what was before is kept, and said; all other episodes are as without.
#[test]
fn a_plant_that_fails_ends_its_episode_with_its_last_words_and_loses_nothing() {
    let well = run(&python("nothing"), 4, 1);
    let deaf = |words: &str| words.ends_with("is NaN");
    for (fault, words) in [
        (
            "die",
            "the plant is gone (exit status: 7); its last words:\nthe spring broke",
        ),
        ("raise", "the spring is stuck"),
        (
            "nan",
            "its observation's component 1 (velocity) is NaN, which is none of Box(2), unbounded",
        ),
        // Without a stderr, too, it is ended: its end is not waited for.
        ("nan", "its observation's component 1 (velocity) is NaN"),
        ("reward", "its reward is -inf"),
        ("shape", "its observation has 3 components instead of 2"),
        ("kind", "it answers with Hello where a State is due"),
        ("other", "it answers for environment 1 instead of 0"),
        ("sequence", "came in answer to frame"),
        (
            "garble",
            "is no frame of the protocol (print to stderr instead): \"half a fra\"",
        ),
    ] {
        let marks = tempfile::tempdir().unwrap();
        let redirection = if deaf(words) { "2>/dev/null" } else { "" };
        let name = format!(
            "{} {} 1 {redirection}",
            python(fault),
            marks.path().display()
        );
        let done = run(&name, 4, 1);
        // Those that answer nonsense while they live are no better in the next episode; this one is told not to fail twice.
        let failed: Vec<usize> = (0..4).filter(|&i| done[i].0.fault.is_some()).collect();
        assert_eq!(
            failed,
            if fault == "raise" {
                vec![0, 1, 2, 3]
            } else {
                vec![0]
            },
            "{fault}: {done:?}"
        );
        let (episode, bits) = &done[0];
        let said = match &episode.fault {
            Some(Fault::Plant(said)) => said,
            other => panic!("{fault}: {other:?}"),
        };
        assert!(said.contains(words), "{fault}: {said}");
        assert_eq!((episode.length, bits.0.len()), (2, 2), "{fault}");
        assert_eq!(bits.1, well[0].1.1[..2], "{fault}");
        if fault != "raise" {
            assert_eq!(done[1..], well[1..], "{fault}");
        }
    }
}

#[test]
fn after_three_in_a_row_nobody_waits_any_more() {
    let marks = tempfile::tempdir().unwrap();
    let name = format!("{} {} 99", python("die"), marks.path().display());
    let done = run(&name, 6, 1);
    let lengths: Vec<u32> = done.iter().map(|(episode, _)| episode.length).collect();
    assert_eq!(lengths, [2, 2, 2, 0, 0, 0]);
    let last = done[5].0.fault.as_ref().unwrap().to_string();
    assert!(
        last.starts_with("given up after 3 ends in a row: the plant is gone"),
        "{last}"
    );
    assert_eq!(
        marks.path().read_dir().unwrap().count(),
        3,
        "processes that were started"
    );
}

#[test]
fn what_is_no_plant_is_refused_with_its_last_words() {
    for (name, problem) in [
        (
            "plant:echo hello; echo oops >&2; exit 3".to_owned(),
            "the plant is gone (exit status: 3); its last words:\noops",
        ),
        (
            "plant:echo hello".into(),
            "(print to stderr instead): \"hello\"",
        ),
        (
            python("version"),
            "the plant speaks version 9 of the protocol, this program version 1",
        ),
        (python("empty"), "its observations have no components"),
        (
            python("names"),
            "it has 1 observation_names for 2 components",
        ),
        ("plant:".into(), "give a command"),
        ("plant:no-such-program-at-all".into(), "not found"),
    ] {
        let refusal = open(&name).unwrap_err().to_string();
        assert!(refusal.contains(problem), "{name}: {refusal}");
        assert!(refusal.starts_with(&format!("`{name}`: ")), "{refusal}");
    }
}

/// Files name environments, too: nothing that they say runs a program, imports a module or opens a file, unless the very same name
/// was typed.
#[test]
fn names_that_nobody_typed_start_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let command = format!("plant:touch {}", mark.display());
    for (name, problem) in [
        (&*command, "a command is only run if it is typed"),
        ("plant:tcp:127.0.0.1:2", "--plant 'tcp:127.0.0.1:2'"),
        (
            "gym:untyped:X-v0",
            "it imports the module `untyped`, and such a name is only taken if it is typed, not from a file: --env 'gym:untyped:X-v0'",
        ),
        (
            "gym:Hopper-v5?xml_file=/untyped.xml",
            "`/untyped.xml` could be a file",
        ),
    ] {
        let refusal = make(name).err().unwrap().to_string();
        assert!(refusal.contains(problem), "{name}: {refusal}");
        assert!(!mark.exists());
    }
    plant::allow(&command);
    assert!(
        make(&command)
            .err()
            .unwrap()
            .to_string()
            .contains("is gone")
    );
    assert!(mark.exists());
}

/// What lies in the current folder is none of the bridge's modules, whatever it is called; a module that an ID names is found there.
#[test]
fn only_modules_that_are_named_are_imported_from_the_current_folder() {
    let folder = tempfile::tempdir().unwrap();
    let own = "import gymnasium\ngymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=5)\n";
    for (file, text) in [
        ("json.py", "open('mark', 'w')"),
        ("gymnasium.py", "open('mark', 'w')"),
        ("numpy.py", "open('mark', 'w')"),
        ("mine.py", own),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    for (env, says) in [
        ("gym:CartPole-v1", "not `gym:CartPole-v1`"),
        ("gym:mine:Mine-v0", "not `gym:mine:Mine-v0`"),
        ("gym:mein:Mine-v0", "No module named 'mein'"),
    ] {
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dt-core/examples/pendulum.dtb");
        let output = Command::cargo_bin("host-sim")
            .unwrap()
            .arg("rollout")
            .arg(&policy)
            .args(["--target-return", "-150", "--episodes", "1", "--env", env])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(says), "{env}: {stderr}");
        assert!(!folder.path().join("mark").exists(), "{env}");
    }
}

#[test]
fn lost_episodes_have_no_part_in_the_statistics() {
    let marks = tempfile::tempdir().unwrap();
    let name = format!("{} {} 1", python("die"), marks.path().display());
    let episodes: Vec<Episode> = run(&name, 3, 1)
        .into_iter()
        .map(|(episode, _)| episode)
        .collect();
    let returns = [episodes[1].total_reward, episodes[2].total_reward];
    let env = open(&name).unwrap().make();
    let evaluation = Evaluation::new(&env.spec(), "push", 0.0, episodes);
    assert_eq!(evaluation.mean_return, (returns[0] + returns[1]) / 2.0);
    let (min, _, max) = evaluation.min_median_max();
    assert_eq!(
        [min, max],
        [returns[0].min(returns[1]), returns[0].max(returns[1])]
    );
    let said = losses(std::slice::from_ref(&evaluation)).unwrap();
    assert!(said.starts_with("1 of 3 episode(s) ended with their plant, the first with seed 11 after 2 step(s): the plant is gone"), "{said}");
    let json = serde_json::to_string(&evaluation).unwrap();
    assert_eq!(
        serde_json::from_str::<Evaluation>(&json).unwrap(),
        evaluation
    );
}

fn command_line(args: &[&str]) -> (Option<i32>, String, String) {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dt-core/examples/pendulum.dtb");
    let output = Command::cargo_bin("host-sim")
        .unwrap()
        .env("DT_PLANT_TIMEOUT", "1")
        .arg("rollout")
        .arg(&policy)
        .args(["--target-return", "-150"])
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// What was finished is printed and written, and it is a failure all the same: of one that dies and of one that hangs, in the
/// second episode of each process.
#[test]
fn rollout_reports_what_was_finished_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let plant = pendulum();
    let (_, whole, _) = command_line(&["--env", "pendulum", "--episodes", "4", "--json", "-"]);
    let whole: Evaluation = serde_json::from_str(&whole).unwrap();
    for (name, command, words) in [
        (
            "die",
            format!("dd bs=1 count=6000 status=none | {plant}"),
            "the plant is gone",
        ),
        (
            "hang",
            format!("{plant} | (dd bs=1 count=15000 status=none; echo thinking >&2; sleep 3)"),
            "no answer to Step in 1 s; DT_PLANT_TIMEOUT=SECONDS gives it more time; its last words:\nthinking",
        ),
    ] {
        let json = folder.path().join(name);
        let episodes = [
            "--episodes",
            "4",
            "--threads",
            "1",
            "--json",
            json.to_str().unwrap(),
        ];
        let (code, stdout, stderr) =
            command_line(&[&["--plant", command.as_str()][..], &episodes].concat());
        assert_eq!(code, Some(1), "{stderr}");
        assert!(
            stdout.contains("in pendulum: 4 episode(s), seeds 0 to 3"),
            "{stdout}"
        );
        let lost = "error: 2 of 4 episode(s) ended with their plant, the first with seed 1 after ";
        assert!(stderr.contains(lost) && stderr.contains(words), "{stderr}");
        let done: Evaluation =
            serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
        for i in [0, 2] {
            assert_eq!(done.episodes[i], whole.episodes[i]);
        }
    }
}

/// Whether a process is there and no corpse.
/// Is it still there after a while? What is killed needs a moment to end.
fn stays(pid: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    is_alive(pid)
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('Z'))
}

/// However a plant ends, or what it runs for: by itself, having said nothing, at the end of the program, or by a signal.
#[test]
fn nothing_that_a_plant_has_started_outlives_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let plant = pendulum();
    let starts = |name: &str| {
        let file = folder.path().join(name);
        (format!("sleep 98765 & echo $! > {}", file.display()), file)
    };
    for (name, rest, code) in [
        ("dies", "exit 3", 1),
        ("hangs", "sleep 98765", 1),
        ("serves", plant.as_str(), 0),
    ] {
        let (start, file) = starts(name);
        let command = format!("{start}; {rest}");
        let (got, _, stderr) = command_line(&["--plant", &command, "--episodes", "1"]);
        assert_eq!(got, Some(code), "{name}: {stderr}");
        let pid = std::fs::read_to_string(file).unwrap();
        assert!(!stays(&pid), "{name}: {pid}");
    }
    for signal in ["INT", "TERM"] {
        let (start, file) = starts(signal);
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dt-core/examples/pendulum.dtb");
        let mut program = Command::cargo_bin("host-sim")
            .unwrap()
            .arg("rollout")
            .arg(&policy)
            .args(["--target-return", "-150", "--episodes", "1", "--plant"])
            .arg(format!("{start}; sleep 98765"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = loop {
            match std::fs::read_to_string(&file) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        assert!(is_alive(&pid));
        let id = program.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(kill.unwrap().success());
        assert_eq!(
            program.wait().unwrap().code(),
            None,
            "by the signal, as ever"
        );
        assert!(!stays(&pid), "{signal}: {pid}");
    }
}

/// It may always refuse to begin in a state that is none: that is no reason to give it up.
#[test]
fn states_that_are_refused_are_no_ends() {
    let name = format!("plant:exec {}", pendulum());
    let blueprint = open(&name).unwrap();
    let mut env = blueprint.make();
    for _ in 0..4 {
        assert!(env.set_state(&[], &[]).is_err());
    }
    let mut other = blueprint.make();
    for env in [&mut env, &mut other] {
        env.reset(1);
        assert_eq!(env.fault(), None);
    }
}

#[test]
fn what_is_typed_wrong_is_wrong_usage() {
    for (args, code, says) in [
        (
            &["--plant", "exec sleep 0"][..],
            1,
            "`plant:exec sleep 0`: the plant is gone",
        ),
        // Its end is not waited for.
        (
            &["--plant", "exec sleep 999 2>/dev/null"],
            1,
            "2>/dev/null`: no answer to Hello in 4 s",
        ),
        (&[], 2, "name an environment: --env E, or --plant CMD"),
        (
            &["--env", "pendulum", "--env-arg", "g=9"],
            2,
            "`pendulum` has no arguments",
        ),
        (
            &["--env", "plant:./sim", "--env-arg", "g=9"],
            2,
            "`plant:./sim` has no arguments",
        ),
        (
            &["--env", "pendulum", "--plant", "x"],
            2,
            "cannot be used with",
        ),
    ] {
        let (is, _, stderr) = command_line(&[args, &["--episodes", "1"]].concat());
        assert!(stderr.contains(says), "{stderr}");
        assert_eq!(is, Some(code), "{stderr}");
    }
    // Sound, but another robot.
    let command = python("nothing");
    let command = command.strip_prefix("plant:").unwrap();
    let (code, _, stderr) = command_line(&["--plant", command, "--episodes", "1"]);
    let says = "trained for environment `pendulum`, not `point`";
    assert!(code == Some(1) && stderr.contains(says), "{stderr}");
}

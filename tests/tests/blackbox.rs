//! The black box of the emulated board: what it did, faults and a restart in it, fetched over the wire and replayed to the bit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dt_control::{Mode, ResetCause};
use dt_core::blob::RewardMode;
use dt_core::guard::Fault;
use dt_link::{Pace, PolicyId, ToDevice, ToHost, Values};
use host_sim::Env;
use host_sim::blackbox::{BlackBox, Verdict, replay};
use host_sim::link::client::Answer;
use host_sim::link::{Client, Connection, Place};
use host_sim::pendulum::Pendulum;
use host_sim::policy_file::PolicyFile;
use tests::{episodes, small_config};

/// The plant at the other end of the wire.
struct Host {
    client: Client,
    policy: PolicyId,
    plant: Pendulum,
    step: u32,
    reward: f32,
}

impl Host {
    /// Shows the plant's state, or another reading of that age; what the board does then moves the plant.
    fn exchange(&mut self, reading: Option<[f32; 3]>, age_us: u32) -> Mode {
        let mut seen = [0.0; 3];
        self.plant.observation(&mut seen);
        let message = ToDevice::Observation {
            step: self.step,
            age_us,
            reward: Some(self.reward),
            return_to_go: None,
            values: Values::new(reading.as_ref().unwrap_or(&seen)),
        };
        let step = self.step;
        let (mode, action) = self
            .client
            .ask("an observation", &message, |_, message| match message {
                ToHost::Action {
                    step: of,
                    mode,
                    values,
                    ..
                } if *of == step => Answer::Is((mode.0, values.iter().next())),
                _ => Answer::Other,
            })
            .unwrap();
        self.step += 1;
        let mode = Mode::from_bytes(mode).unwrap();
        if mode == Mode::Running {
            self.reward = self.plant.step(&[action.unwrap()]).reward as f32;
        }
        mode
    }

    /// An episode of so many steps, from rest.
    fn episode(&mut self, seed: u64, steps: u32) {
        self.plant.reset(seed);
        self.client.order("a stop", &ToDevice::Stop).unwrap();
        let arm = ToDevice::Arm {
            policy: self.policy,
            state_dim: 3,
            act_dim: 1,
            warm_up: 2,
            pace: Pace::Lockstep,
        };
        self.client.order("arming", &arm).unwrap();
        self.step = 0;
        assert_eq!(self.exchange(None, 0), Mode::Arming { left: 1 });
        assert_eq!(self.exchange(None, 0), Mode::Armed);
        let start = ToDevice::Start {
            target_return: -200.0,
            seed: Some(seed),
        };
        self.client.tell(&start).unwrap();
        self.step = 0;
        for _ in 0..steps {
            assert_eq!(self.exchange(None, 0), Mode::Running);
        }
    }

    /// Fetches the box and says of how many steps every bit is the policy file's: all of them.
    fn replayed(&mut self, policy: &PolicyFile) -> (usize, Vec<String>, Vec<(u8, ResetCause)>) {
        let bytes = self.client.black_box(|_, _| {}).unwrap();
        let log = BlackBox::new(Path::new("the board"), &bytes).unwrap();
        let replayed = replay(&log, policy).unwrap();
        assert!(replayed.iter().all(|step| step.verdict == Verdict::Equal));
        let faults = log.faults().into_iter().map(|(_, fault)| fault).collect();
        let boots = log.entries().iter().map(|entry| (entry.boot, entry.cause));
        (replayed.len(), faults, boots.collect())
    }
}

#[test]
fn what_the_emulated_board_did_is_replayed_to_the_bit_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let policy = episodes::policy(small_config(), RewardMode::Observed, 3);
    let file = folder.path().join("policy.dtb");
    fs::write(&file, policy.bytes()).unwrap();
    let words = policy.blob().manifest().config.arena_words();
    let constants = format!("/// Of a random policy.\npub const ARENA_WORDS: usize = {words};\n");
    fs::write(folder.path().join("policy.rs"), constants).unwrap();
    let Ok(Place::Qemu { machine, .. }) = "qemu:m4f".parse() else {
        panic!("the emulated board has another name")
    };
    let place = Place::Qemu {
        machine,
        image: Some(build(&file)),
    };
    let mut host = Host {
        client: Client::new(Connection::open(&place).unwrap()).unwrap(),
        policy: PolicyId {
            crc: policy.crc(),
            len: policy.bytes().len() as u32,
        },
        plant: Pendulum::new(),
        step: 0,
        reward: 0.0,
    };

    host.episode(1, 40);
    let beyond = Fault::OutOfRange { index: 2 };
    assert_eq!(
        host.exchange(Some([1.0, 0.0, 9.5]), 0),
        Mode::Faulted(beyond)
    );
    host.episode(2, 30);
    let stale = Fault::StaleSensor { group: 0 };
    assert_eq!(host.exchange(None, 1_000_000), Mode::Faulted(stale));
    let faults = [beyond.to_string(), stale.to_string()];
    let (steps, seen, boots) = host.replayed(&policy);
    assert_eq!((steps, &seen[..]), (70, &faults[..]));
    assert!(boots.iter().all(|(boot, _)| *boot == 0));

    host.client.order("a restart", &ToDevice::Restart).unwrap();
    host.client = host.client.again().unwrap();
    let (steps, seen, _) = host.replayed(&policy);
    assert_eq!(
        (steps, &seen[..]),
        (70, &faults[..]),
        "it is all still there"
    );
    host.episode(3, 20);
    let (steps, _, boots) = {
        host.client.order("a stop", &ToDevice::Stop).unwrap();
        host.replayed(&policy)
    };
    assert_eq!(steps, 90);
    assert_eq!(boots.iter().map(|(boot, _)| boot).max(), Some(&1));
}

/// The image with this policy, as a user builds it.
fn build(policy: &Path) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["xtask", "firmware", "build", "--bin", "robot", "--board"])
        .args(["m4f", "--policy"])
        .arg(policy)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    stdout.lines().next_back().unwrap().into()
}

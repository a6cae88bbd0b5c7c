//! Hardware in the loop: the plant and the rollout loop on the host, the policy at the other end of a wire.
//!
//! Most of it runs against a device in a thread of its own, behind a socket; the last test emulates the image.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dt_control::{Board, FloatMode, Limits, PeriodTooLong, Processor, ResetCause, Tick, Watchdog};
use dt_core::blob::{Choice, RewardMode, Sampling};
use dt_core::config::{Actions, Config, Head};
use dt_device::blackbox::BlackBox;
use dt_device::board::Port;
use dt_device::nor::Nor;
use dt_device::session::{Device, Loaded, Next, Wire};
use dt_device::slots::{self, Boot, Fit, Flash, Header, Trust, parts};
use dt_device::upload::Updater;
use dt_link::{Direction, Hello, MAX_WIRE, PolicyId, Receiver, Sender, ToDevice, ToHost};
use host_sim::Controller;
use host_sim::link::{Client, Connection, LinkError, Remote, Shared};
#[cfg(feature = "mujoco")]
use host_sim::link::{Place, qemu::Machine};
use host_sim::policy_file::PolicyFile;
use host_sim::rollout::{Episode, EpisodeError, Plan, rollout};
use host_sim::trace::Tape;
use tests::{Sample, episodes, small_config};

const PLAN: Plan = Plan {
    target_return: -200.0,
    episodes: 3,
    seed: 5,
    threads: 1,
};

/// The host's clock as a board.
struct Clock(Instant);

impl Processor for Clock {
    const CLOCK_HZ: u32 = 1_000_000;

    fn now(&mut self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
    fn float_mode(&mut self) -> Result<(), FloatMode> {
        Ok(())
    }
}

impl Board for Clock {
    fn start_ticks(&mut self, _: u32) -> Result<(), PeriodTooLong> {
        Ok(())
    }
    fn start_watchdog(&mut self, _: u32) {}
    fn feed_watchdog(&mut self) {}
    fn stop_watchdog(&mut self) -> Watchdog {
        Watchdog::Armed
    }
}

/// The device's end of the wire; with `damage`, of so many bytes that arrive one is changed.
struct End {
    socket: UnixStream,
    arrived: VecDeque<u8>,
    damage: Option<usize>,
    received: usize,
}

impl End {
    /// Waits for bytes, for a while; `false` when the host has gone.
    fn wait(&mut self) -> bool {
        let mut buffer = [0; 1024];
        match self.socket.read(&mut buffer) {
            Ok(0) => false,
            Ok(len) => {
                for byte in &buffer[..len] {
                    self.received += 1;
                    let hit = self
                        .damage
                        .is_some_and(|every| self.received.is_multiple_of(every));
                    self.arrived
                        .push_back(if hit { byte ^ 0x10 } else { *byte });
                }
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

impl Port for End {
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let len = buffer.len().min(self.arrived.len());
        for (target, byte) in buffer.iter_mut().zip(self.arrived.drain(..len)) {
            *target = byte;
        }
        len
    }
    fn send(&mut self, bytes: &[u8]) -> usize {
        // Where nobody is any more, it does not matter.
        self.socket.write(bytes).unwrap_or(bytes.len())
    }
    fn is_drained(&mut self) -> bool {
        true
    }
}

/// A device with this policy, in a thread of its own, until the connection is dropped.
fn device<const STATE: usize, const ACT: usize>(
    policy: &PolicyFile,
    damage: Option<usize>,
) -> Connection {
    let (host, socket) = UnixStream::pair().unwrap();
    let policy = policy.clone();
    thread::spawn(move || serve::<STATE, ACT>(socket, &policy, damage));
    Connection::over(host)
}

fn serve<const STATE: usize, const ACT: usize>(
    socket: UnixStream,
    policy: &PolicyFile,
    damage: Option<usize>,
) {
    serve_with::<STATE, ACT>(socket, policy, damage, &mut []);
}

/// The same with memory for a black box.
fn serve_with<const STATE: usize, const ACT: usize>(
    socket: UnixStream,
    policy: &PolicyFile,
    damage: Option<usize>,
    memory: &mut [u8],
) {
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let arena = vec![0; policy.blob().manifest().config.arena_words()];
    // This machine may be busy with other things.
    let patient = |period| Limits {
        deadline_us: 10_000_000,
        ..Limits::of_period(period)
    };
    let loaded = Loaded::<_, STATE, ACT>::boot(policy.bytes(), arena, patient).unwrap();
    let wire = Wire {
        board: "thread",
        version: "0",
        silence_us: 10_000_000,
        cause: ResetCause::Unknown,
    };
    let history = BlackBox::open(memory, loaded.identity::<Clock>(), wire.cause).ok();
    let mut device = Device::new(wire, Some(loaded), (), history);
    let mut clock = Clock(Instant::now());
    let mut end = End {
        socket,
        arrived: VecDeque::new(),
        damage,
        received: 0,
    };
    while end.wait() {
        let at = clock.now();
        let mut tick = Some(Tick { at, missed: 0 });
        while tick.is_some() || !end.arrived.is_empty() {
            let _ = device.step(&mut clock, &mut end, &mut (), tick.take());
        }
    }
}

fn remote<const STATE: usize, const ACT: usize>(policy: &PolicyFile) -> Mutex<Remote> {
    let client = Client::new(device::<STATE, ACT>(policy, None)).unwrap();
    Mutex::new(Remote::new(client, policy).unwrap())
}

type Done<E> = Result<Vec<(Episode, Tape)>, EpisodeError<E>>;

fn here(policy: &PolicyFile, env: &str) -> Vec<(Episode, Tape)> {
    let make_env = host_sim::maker(env).unwrap();
    rollout(&PLAN, make_env, policy.controllers(), |_| {}).unwrap()
}

fn there(remote: &Mutex<Remote>, env: &str) -> Done<LinkError> {
    let make_env = host_sim::maker(env).unwrap();
    rollout(&PLAN, make_env, || Shared::new(remote), |_| {})
}

#[test]
fn episodes_at_the_other_end_of_a_wire_are_the_same_to_the_bit() {
    for mode in [
        RewardMode::Observed,
        RewardMode::Constant,
        RewardMode::External,
    ] {
        let policy = episodes::policy(small_config(), mode, 3);
        let remote = remote::<3, 1>(&policy);
        let expected = here(&policy, "pendulum");
        assert_eq!(there(&remote, "pendulum").unwrap(), expected, "{mode:?}");
        // Once more: what was before leaves nothing behind.
        assert_eq!(there(&remote, "pendulum").unwrap(), expected, "{mode:?}");
        let remote = remote.into_inner().unwrap();
        assert_eq!(remote.round_trips().times.len(), 2 * 3 * 200);
        assert_eq!(remote.round_trips().repeated, 0);
        assert!(remote.round_trips().least_slack_us.unwrap() > 0);
    }
}

/// The seed travels, too: draws are the same.
#[test]
fn choices_drawn_at_the_other_end_are_the_same() {
    let config = Config {
        actions: Actions::Discrete,
        head: Head::Linear,
        max_ep_len: 500,
        ..small_config()
    };
    let spec = host_sim::cartpole::SPEC;
    let sample = Sample {
        choice: Choice::Sampled(Sampling {
            temperature: 1.0,
            top_k: 0,
            seed: 1,
        }),
        ..episodes::sample_in(&spec, config, RewardMode::Observed, 3)
    };
    let policy = episodes::proven(&sample, spec.id, 3, |_| {});
    let remote = remote::<4, 1>(&policy);
    assert_eq!(
        there(&remote, "cartpole").unwrap(),
        here(&policy, "cartpole")
    );
}

/// Damaged questions are asked again, and change nothing.
#[test]
fn a_bad_wire_makes_it_slower_but_not_different() {
    let policy = episodes::policy(small_config(), RewardMode::Observed, 3);
    let client = Client::new(device::<3, 1>(&policy, Some(9001))).unwrap();
    let remote = Mutex::new(
        Remote::new(client, &policy)
            .unwrap()
            .with_retry(Duration::from_millis(100)),
    );
    assert_eq!(
        there(&remote, "pendulum").unwrap(),
        here(&policy, "pendulum")
    );
    let repeated = remote.into_inner().unwrap().round_trips().repeated;
    assert!(repeated > 0, "the wire was not bad");
}

#[test]
fn another_policy_and_another_robot_are_refused() {
    let ours = episodes::policy(small_config(), RewardMode::Observed, 3);
    let other = episodes::policy(small_config(), RewardMode::Observed, 4);
    let client = Client::new(device::<3, 1>(&other, None)).unwrap();
    let error = Remote::new(client, &ours).err().unwrap().to_string();
    let names = |policy: &PolicyFile| format!("{:08x}", policy.crc());
    assert!(
        error.contains(&names(&ours)) && error.contains(&names(&other)),
        "{error}"
    );
    assert!(error.contains("host-sim upload"), "{error}");
}

/// A fault at the other end ends the rollout with its reason: here the observation leaves the policy's limits.
#[test]
fn a_fault_at_the_other_end_is_told() {
    let spec = host_sim::pendulum::SPEC;
    let mut sample = episodes::sample_in(&spec, small_config(), RewardMode::Observed, 3);
    sample.state[3][2] = 1.0; // The pendulum soon turns faster.
    let policy = episodes::proven(&sample, spec.id, 3, |_| {});
    let error = there(&remote::<3, 1>(&policy), "pendulum").unwrap_err();
    let text = error.source.to_string();
    assert!(
        text.contains("component 2 of the observation is out of range"),
        "{text}"
    );
}

/// A start that the device refuses is no fault of the robot, and is told as what it is.
#[test]
fn a_refused_start_is_told() {
    let policy = episodes::policy(small_config(), RewardMode::Observed, 3);
    let make_env = host_sim::maker("pendulum").unwrap();
    let remote = remote::<3, 1>(&policy);
    let plan = Plan {
        target_return: f32::INFINITY,
        ..PLAN
    };
    let done = rollout::<_, ()>(&plan, make_env, || Shared::new(&remote), |_| {});
    let text = done.unwrap_err().source.to_string();
    assert!(
        text.contains("the start was refused: the target return is NaN, infinite"),
        "{text}"
    );
}

/// A device that answers everything twice, and a restart not at all, since that comes before its answer has left.
#[test]
fn an_upload_takes_no_answer_for_another_and_a_restart_needs_none() {
    let (host, mut socket) = UnixStream::pair().unwrap();
    let device = thread::spawn(move || {
        let mut receiver = Receiver::<ToDevice<'static>>::new(Direction::ToDevice);
        let mut sender = Sender::new(Direction::ToHost);
        let mut offsets = Vec::new();
        let mut byte = [0];
        while socket.read_exact(&mut byte).is_ok() {
            let Some(Ok((header, message))) = receiver.feed(byte[0]) else {
                continue;
            };
            let hello;
            let answer = match message {
                ToDevice::Hello => {
                    sender.begin(header.session);
                    hello = greeting();
                    ToHost::Hello(hello)
                }
                ToDevice::UploadBegin { .. } => ToHost::Upload { next: 0 },
                ToDevice::UploadChunk { offset, data } => {
                    offsets.push(offset);
                    ToHost::Upload {
                        next: offset + data.0.len() as u32,
                    }
                }
                ToDevice::UploadFinish => ToHost::Done {
                    to: header.sequence,
                },
                _ => continue,
            };
            for _ in 0..2 {
                let mut wire = [0; MAX_WIRE];
                let len = sender.encode(&answer, &mut wire).unwrap();
                socket.write_all(&wire[..len]).unwrap();
            }
        }
        offsets
    });
    let mut client = Client::new(Connection::over(host)).unwrap();
    let policy = PolicyId { crc: 1, len: 1300 };
    client.upload(&[7; 1300], policy, None, |_, _| {}).unwrap();
    client.restart().unwrap();
    drop(client);
    assert_eq!(device.join().unwrap(), [0, 512, 1024]);
}

fn greeting() -> Hello<'static> {
    Hello {
        board: "twice",
        version: "0",
        policy: PolicyId::default(),
        env: "",
        state_dim: 3,
        act_dim: 1,
        choices: 0,
        period_us: 50_000,
        deadline_us: 50_000,
        stale_us: 50_000,
        silence_us: 50_000,
        wants_reward: false,
        wants_return_to_go: false,
        target_return: 0.0,
        mode: dt_link::Mode([2, 0, 0, 0]),
        cause: dt_link::Cause::Unknown,
    }
}

#[test]
fn nobody_at_the_other_end_is_an_error() {
    let (host, device) = UnixStream::pair().unwrap();
    drop(device);
    let error = Client::new(Connection::over(host)).err().unwrap();
    assert!(matches!(error, LinkError::Wire { .. }), "{error}");
    // Somebody of another version.
    let (host, mut device) = UnixStream::pair().unwrap();
    let content = [(dt_link::VERSION + 1) | 0x80, 1, 0, 0, 0];
    let crc = dt_link_crc(&content).to_le_bytes();
    // COBS by hand: each zero ends a block.
    let mut wire = vec![3, content[0], content[1], 1, 1];
    wire.push(5);
    wire.extend(crc);
    wire.push(0);
    assert!(!crc.contains(&0));
    device.write_all(&wire).unwrap();
    let error = Client::new(Connection::over(host))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("speaks version 2") && error.contains("flash it"),
        "{error}"
    );
}

fn dt_link_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            0 => crc >> 1,
            _ => crc >> 1 ^ 0xEDB8_8320,
        })
    })
}

/// The Python client gets the same actions.
#[test]
fn a_client_in_another_language_is_understood() {
    let policy = episodes::policy(small_config(), RewardMode::Observed, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let listener = UnixListener::bind(&path).unwrap();
    let board = policy.clone();
    thread::spawn(move || serve::<3, 1>(listener.accept().unwrap().0, &board, None));

    let seen: Vec<[f32; 3]> = (0..12)
        .map(|step| [(0.3 * step as f32).cos(), (0.3 * step as f32).sin(), 0.25])
        .collect();
    let output = Command::new(project().join(".deps/python"))
        .arg(project().join("dt-link/examples/link.py"))
        .arg(&path)
        .arg("-200")
        .args(seen.iter().map(|[x, y, z]| format!("{x},{y},{z}")))
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(log.contains("thread with policy"), "{log}");

    let mut host = policy.controllers()();
    host.reset(0, -200.0).unwrap();
    let expected: String = seen
        .iter()
        .map(|observation| {
            let action = host.act(observation).unwrap().to_vec();
            host.feedback(&action, 0.0).unwrap();
            format!("{:?}\n", f64::from(action[0]))
        })
        .collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

/// By the command line alone: what a rollout did at the other end of a wire, fetched there and replayed.
#[test]
fn the_black_box_of_a_rollout_is_fetched_and_replayed_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let policy = episodes::policy(small_config(), RewardMode::Observed, 3);
    let [file, saved, board] = ["policy.dtb", "box.bin", "board"].map(|n| folder.path().join(n));
    fs::write(&file, policy.bytes()).unwrap();
    let listener = UnixListener::bind(&board).unwrap();
    thread::spawn(move || {
        let mut memory = tests::life::memory(500);
        // Each connection finds the device restarted.
        for connection in listener.incoming() {
            serve_with::<3, 1>(connection.unwrap(), &policy, None, &mut memory);
        }
    });
    let serial = format!("serial:{}", board.display());
    let plan = "--env pendulum --target-return -200 --episodes 2 --controller";
    let plan: Vec<&str> = ["rollout"].into_iter().chain(plan.split(' ')).collect();
    let rollout = host_sim(&file, &[&plan[..], &[&serial]].concat());
    assert!(
        rollout.status.success(),
        "{}",
        String::from_utf8_lossy(&rollout.stderr)
    );

    let replay = |source: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .current_dir(project())
            .args(["run", "--quiet", "-p", "host-sim", "--", "blackbox", source])
            .arg("--policy")
            .arg(&file)
            .args(more)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        let text = String::from_utf8(output.stdout).unwrap();
        let told = "400 steps equal to the bit, 0 differ, 0 not decidable";
        assert!(text.contains(told), "{text}");
    };
    replay(&serial, &["--save", saved.to_str().unwrap()]);
    replay(board.to_str().unwrap(), &[]);
    replay(saved.to_str().unwrap(), &[]);
}

/// The image as a user builds it, in the emulator, through the command line: the same bytes of JSON.
#[test]
fn rollouts_on_the_emulated_board_give_the_hosts_json() {
    let folder = tempfile::tempdir().unwrap();
    let policy = episodes::policy(small_config(), RewardMode::Observed, 3);
    let file = write(&policy, folder.path());
    let image = build(&file, "m4f");
    let run = |more: &[&str]| {
        let command = [
            "rollout",
            "--env",
            "pendulum",
            "--target-return",
            "-200,-400",
        ];
        host_sim(
            &file,
            &[&command[..], &["--episodes", "2", "--json", "-"], more].concat(),
        )
    };
    let expected = run(&[]);
    let emulated = run(&["--controller", "qemu", "--image", image.to_str().unwrap()]);
    let log = String::from_utf8(emulated.stderr).unwrap();
    assert!(emulated.status.success(), "{log}");
    assert!(log.contains("mps2-an386: 800 round trips"), "{log}");
    assert_eq!(
        String::from_utf8(emulated.stdout).unwrap(),
        String::from_utf8(expected.stdout).unwrap()
    );

    // Another policy, another board, no image.
    let other = folder.path().join("other.dtb");
    fs::write(
        &other,
        episodes::policy(small_config(), RewardMode::Observed, 4).bytes(),
    )
    .unwrap();
    let refused = |file: &Path, controller: &str, image: &Path, why: &str| {
        let command = [
            "rollout",
            "--env",
            "pendulum",
            "--target-return",
            "-200",
            "--episodes",
            "1",
        ];
        let place = [
            "--controller",
            controller,
            "--image",
            image.to_str().unwrap(),
        ];
        let output = host_sim(file, &[&command[..], &place].concat());
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(output.stdout.is_empty() && log.contains(why), "{log}");
    };
    refused(&other, "qemu", &image, "the board runs policy");
    refused(
        &file,
        "qemu:m7",
        &image,
        "the image is for board mps2-an386, not mps2-an500",
    );
    refused(
        &file,
        "qemu",
        &folder.path().join("nothing"),
        "--bin robot --board m4f",
    );
}

/// A device with slots behind a socket, one host after the other; a restart is a boot. Its flash has `policy` in slot 0.
fn updated(listener: &UnixListener, policy: &PolicyFile, trust: Trust) {
    let header = match trust {
        Trust::Key { .. } => {
            Header::sealed(policy.bytes(), &slots::sign(&SECRET, 1, policy.bytes()))
        }
        _ => Header::new(1, policy.bytes()),
    };
    let mut flash = Nor::<256>::new(&parts::RP2040, 1);
    let mut buffer = [0; slots::MAX_HEAD];
    let head = parts::RP2040.head(&header, true, &mut buffer).unwrap();
    let [start, at] = [
        parts::RP2040.policy(0).unwrap().start,
        parts::RP2040.slots[0].start,
    ];
    flash.bytes_mut()[at as usize..][..head.len()].copy_from_slice(head);
    flash.bytes_mut()[start as usize..][..policy.bytes().len()].copy_from_slice(policy.bytes());
    let fit = Fit {
        state_dim: 3,
        action_len: 1,
        arena_words: policy.blob().manifest().config.arena_words(),
    };
    for socket in listener.incoming() {
        let socket = socket.unwrap();
        let timeout = Some(Duration::from_millis(20));
        socket.set_read_timeout(timeout).unwrap();
        flash.run(None);
        let mut boot = Boot::new(&mut flash, parts::RP2040, fit, trust);
        let candidate = boot.next().unwrap();
        let place = candidate.policy.clone();
        let mut slots = boot.run(Some(candidate));
        let file = PolicyFile::from_bytes(slots.flash().mapped(place.clone())).unwrap();
        slots.flash().run(Some(place));
        let arena = vec![0; fit.arena_words];
        let loaded = Loaded::<_, 3, 1>::boot(file.bytes(), arena, Limits::of_period).unwrap();
        let wire = Wire {
            board: "thread",
            version: "0",
            silence_us: 10_000_000,
            cause: ResetCause::Unknown,
        };
        let mut device = Device::new(wire, Some(loaded), Updater::new(slots), ());
        let mut clock = Clock(Instant::now());
        let mut end = End {
            socket,
            arrived: VecDeque::new(),
            damage: None,
            received: 0,
        };
        'connected: while end.wait() {
            while !end.arrived.is_empty() {
                if let Next::Restart = device.step(&mut clock, &mut end, &mut (), None) {
                    break 'connected;
                }
            }
        }
    }
}

const SECRET: [u8; 32] = [3; 32];

#[test]
fn a_policy_is_replaced_over_the_wire() {
    let folder = tempfile::tempdir().unwrap();
    let [board, closed] = ["board", "closed"].map(|name| folder.path().join(name));
    let policy = |seed| episodes::policy(small_config(), RewardMode::Observed, seed);
    let public = slots::public_key(&SECRET);
    for (path, trust) in [
        (&board, Trust::Anyone),
        (&closed, Trust::Key { public, oldest: 1 }),
    ] {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || updated(&listener, &policy(3), trust));
    }
    let [new, seal, other] =
        ["new.dtb", "new.seal", "other.dtb"].map(|name| folder.path().join(name));
    fs::write(&new, policy(4).bytes()).unwrap();
    let upload = |file: &Path, board: &Path, seal: Option<&Path>| {
        let place = format!("serial:{}", board.display());
        let mut arguments = vec!["upload", &place];
        if let Some(seal) = seal {
            arguments.extend(["--seal", seal.to_str().unwrap()]);
        }
        host_sim(file, &arguments)
    };
    let sent = |output: Output| -> bool {
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["policy"], format!("{:08x}", policy(4).crc()));
        result["sent"].as_bool().unwrap()
    };
    let refused = |output: Output, why: &str| {
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(output.stdout.is_empty() && log.contains(why), "{log}");
    };
    let wide = Config {
        state_dim: 4,
        ..small_config()
    };
    fs::write(&other, Sample::random(wide, 1).emit().bytes()).unwrap();
    refused(upload(&other, &board, None), "states of length 4");
    assert!(sent(upload(&new, &board, None)));
    assert!(!sent(upload(&new, &board, None)));
    // Every connection is a boot here: this is the last one of the trial.
    fs::write(&other, policy(5).bytes()).unwrap();
    refused(upload(&other, &board, None), "has not proved itself");

    refused(upload(&new, &closed, None), "signed with the device's key");
    let bytes = fs::read(&new).unwrap();
    let sign = |secret, sequence| {
        let header = Header::sealed(&bytes, &slots::sign(secret, sequence, &bytes));
        fs::write(&seal, header.encode()).unwrap();
        Some(seal.as_path())
    };
    refused(upload(&other, &closed, sign(&SECRET, 2)), "is of policy");
    refused(
        upload(&new, &closed, sign(&[4; 32], 2)),
        "signed with the device's key",
    );
    refused(
        upload(&new, &closed, sign(&SECRET, 1)),
        "older than the device's",
    );
    assert!(sent(upload(&new, &closed, sign(&SECRET, 2))));
    fs::write(&seal, [0; 132]).unwrap();
    refused(upload(&new, &closed, Some(&seal)), "is no seal");
    fs::write(&seal, [0; 131]).unwrap();
    refused(upload(&new, &closed, Some(&seal)), "132 bytes");
}

/// MuJoCo on the host, another robot's policy on the emulated board: the same episodes to the bit.
#[cfg(feature = "mujoco")]
#[test]
fn a_hopper_hops_the_same_with_its_policy_on_the_emulated_board() {
    let spec = host_sim::make("hopper").unwrap();
    let policy = episodes::policy_in(
        &spec.spec(),
        small_config(),
        RewardMode::Observed,
        3,
        |_| {},
    );
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Qemu {
        machine: Machine::M4f,
        image: Some(build(&write(&policy, folder.path()), "m4f")),
    };
    let client = Client::new(Connection::open(&place).unwrap()).unwrap();
    let remote = Mutex::new(Remote::new(client, &policy).unwrap());
    assert_eq!(there(&remote, "hopper").unwrap(), here(&policy, "hopper"));
}

/// The policy file and the constants beside it.
fn write(policy: &PolicyFile, folder: &Path) -> PathBuf {
    let file = folder.join("policy.dtb");
    fs::write(&file, policy.bytes()).unwrap();
    let words = policy.blob().manifest().config.arena_words();
    let constants = format!("/// Of a random policy.\npub const ARENA_WORDS: usize = {words};\n");
    fs::write(folder.join("policy.rs"), constants).unwrap();
    file
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Builds the image, and copies it beside the policy: the next test's goes to the same place.
fn build(policy: &Path, board: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO"))
        .current_dir(project())
        .args([
            "xtask", "firmware", "build", "--bin", "robot", "--board", board,
        ])
        .arg("--policy")
        .arg(policy)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let image = policy.with_file_name("robot");
    fs::copy(stdout.lines().next_back().unwrap(), &image).unwrap();
    image
}

fn host_sim(policy: &Path, arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_first().unwrap();
    Command::new(env!("CARGO"))
        .current_dir(project())
        .args(["run", "--quiet", "-p", "host-sim", "--", command])
        .arg(policy)
        .args(rest)
        .output()
        .unwrap()
}

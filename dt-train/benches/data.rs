//! Memory and speed of data on their way to the network, at the size of the D4RL benchmark.
//!
//! ```sh
//! cargo bench -p dt-train --bench data
//! ```
//!
//! writes a D4RL file of 1,000,000 steps of Hopper's dimensions to a temporary folder, then a second process, on one
//! thread, reads it, moves it to the training device (the CPU) and draws batches of 64 windows of 20 timesteps. It
//! prints the highest resident memory beyond what the process takes without data, against the raw size of what is read:
//! observations, actions, rewards, terminals and timeouts. (What came after each action is in the file too, but only the
//! last of each episode is kept.) Speed is per second that the thread spent on a core, so that
//! it is the same on a busy machine.
//!
//! Then batches of images as the paper draws them for Atari, 128 sequences of 30 observations of four frames: how long one
//! takes, and how long its frames take to be unpacked.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use dt_train::data::Dataset;
use dt_train::data::d4rl::{self, Metadata, Recording};
use dt_train::data::frames::Frames;
use dt_train::data::sampler::{Draw, Pixels, Sampler, SequenceShape, Trajectories};
use dt_train::run::Image;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const STEPS: usize = 1_000_000;
const STATE_DIM: usize = 11;
const ACT_DIM: usize = 3;
const SHAPE: SequenceShape = SequenceShape {
    batch_size: 64,
    sequence_len: 20,
    burn_in: 0,
    uniform_starts: false,
    start_fraction: 0.0,
    best_fraction: 0.0,
    best_percent: 100.0,
};

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().skip_while(|a| a != "measure").nth(1) {
        Some(file) => measure(Path::new(&file)),
        None => {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("data.hdf5");
            write(&file)?;
            let status = Command::new(std::env::current_exe()?)
                .args(["measure".as_ref(), file.as_os_str()])
                .status()?;
            assert!(status.success(), "the measuring process failed");
            images();
            Ok(())
        }
    }
}

/// Random numbers: nothing in them compresses well, as in real data.
fn write(file: &Path) -> Result<(), Box<dyn Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut numbers = |n: usize| (0..n).map(|_| rng.random::<f32>()).collect::<Vec<_>>();
    // Between 100 and 1000 steps each, as when an agent falls.
    let mut timeouts = vec![false; STEPS];
    let mut end = 0;
    for i in 0.. {
        end += 100 + i * 389 % 901;
        match timeouts.get_mut(end - 1) {
            Some(flag) => *flag = true,
            None => break,
        }
    }
    timeouts[STEPS - 1] = true;
    // One row more: what comes after a row is the next one.
    let states = numbers((STEPS + 1) * STATE_DIM);
    let recording = Recording {
        frames: None,
        observations: states[..STEPS * STATE_DIM].to_vec(),
        actions: numbers(STEPS * ACT_DIM),
        rewards: numbers(STEPS),
        next_observations: states[STATE_DIM..].to_vec(),
        terminals: vec![false; STEPS],
        timeouts,
    };
    let metadata = Metadata {
        env: "hopper",
        policy: "noise",
        seed: 0,
        choices: false,
    };
    Ok(d4rl::write(file, false, &recording, &metadata)?)
}

fn measure(file: &Path) -> Result<(), Box<dyn Error>> {
    tch::set_num_threads(1);
    // Loads what libtorch loads on first use.
    let _ = Tensor::zeros([1], (Kind::Float, Device::Cpu)).index_select(0, &Tensor::from(0_i64));
    let without_data = memory("VmRSS")?;
    let raw = STEPS * (4 * (STATE_DIM + ACT_DIM + 1) + 2);
    let report = |what: &str| -> Result<(), Box<dyn Error>> {
        let used = memory("VmHWM")?.saturating_sub(without_data);
        println!(
            "peak memory, {what}: {:.1} MB = {:.2} x raw size of {:.1} MB (wanted: <= 1.5)",
            used as f64 / 1e6,
            used as f64 / raw as f64,
            raw as f64 / 1e6
        );
        Ok(())
    };

    let start = Instant::now();
    let data = Dataset::load(&[file])?;
    println!(
        "{STEPS} steps, {} episodes loaded in {:.2} s",
        data.episodes.len(),
        seconds(start)
    );
    report("loaded")?;

    let trajectories = Trajectories {
        state_dim: data.state_dim(),
        act_dim: data.act_dim(),
        kind: dt_core::config::Actions::Continuous,
        returns_to_go: data.returns_to_go(),
        episode_lens: data
            .episodes
            .iter()
            .map(|episode| episode.rows.len())
            .collect(),
        pixels: None,
        states: data.observations.into_vectors().ok_or("vectors")?,
        actions: data.actions.into_vectors().ok_or("vectors")?,
        ..Trajectories::default()
    };
    let mut sampler = Sampler::new(trajectories, Draw::Sequences(SHAPE), 0, Device::Cpu);
    report("resident as tensors")?;

    const UPDATES: u64 = 3200;
    (0..UPDATES / 10).for_each(|update| drop(sampler.batch(update)));
    let mut rates = Vec::new();
    for round in 1..=5 {
        let start = on_core()?;
        (0..UPDATES).for_each(|update| drop(sampler.batch(round * UPDATES + update)));
        let seconds = (on_core()? - start) as f64 / 1e9;
        rates.push((UPDATES as usize * SHAPE.batch_size) as f64 / seconds);
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "windows/s on one core, batches of {} x {} timesteps: median {:.0}, least {:.0} (wanted: >= 300000)",
        SHAPE.batch_size, SHAPE.sequence_len, rates[2], rates[0]
    );
    Ok(())
}

/// Frames of a game, 84 × 84: a wall, a ball, a paddle, and some pixels that flicker.
fn game(i: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut frame = vec![0; SIDE * SIDE];
    for row in 20..32 {
        frame[SIDE * row..][..SIDE].fill(60 + 10 * (row / 2) as u8);
    }
    let (ball, paddle) = (SIDE * (34 + i * 3 % 47) + i * 2 % 82, i * 2 % 72);
    frame[ball..ball + 2].fill(180);
    frame[SIDE * 82 + paddle..][..12].fill(150);
    (0..8).for_each(|_| frame[rng.random_range(0..SIDE * SIDE)] = rng.random());
    frame
}

const SIDE: usize = 84;

/// Prints how long a batch of images takes.
fn images() {
    const EPISODES: usize = 20;
    const LEN: usize = 1000;
    const ROUNDS: u64 = 20;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut frames = Frames::new([SIDE, SIDE, 1]);
    (0..EPISODES * LEN).for_each(|i| frames.push(&game(i, &mut rng)));
    let packed = frames.clone();
    frames.set_stack(4);
    let rows = vec![0.0; EPISODES * LEN];
    let trajectories = Trajectories {
        state_dim: 4 * SIDE * SIDE,
        act_dim: 1,
        kind: dt_core::config::Actions::Continuous,
        returns_to_go: rows.clone(),
        episode_lens: vec![LEN; EPISODES],
        pixels: Some(Pixels {
            image: Image {
                shape: [SIDE, SIDE, 4],
                scale: 255.0,
                ground: 0.0,
            },
            frames,
        }),
        actions: rows,
        ..Trajectories::default()
    };
    let shape = SequenceShape {
        batch_size: 128,
        sequence_len: 30,
        ..SHAPE
    };
    let mut sampler = Sampler::new(trajectories, Draw::Sequences(shape), 0, Device::Cpu);
    let median = |run: &mut dyn FnMut()| {
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                run();
                1e3 * seconds(start)
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let mut updates = 0..;
    let batch = median(&mut || drop(sampler.batch(updates.next().unwrap_or(0))));
    // Sequences and the three frames before each.
    let len = shape.sequence_len + 3;
    let mut unpacked = vec![0; shape.batch_size * len * SIDE * SIDE];
    let unpack = median(&mut || {
        let rows: Vec<_> = (0..shape.batch_size)
            .flat_map(|_| {
                let first = rng.random_range(0..EPISODES * LEN - len);
                first..first + len
            })
            .map(Some)
            .collect();
        packed.gather(&rows, &mut unpacked);
    });
    println!(
        "images, batches of {} x {} x 4 frames of {SIDE} x {SIDE} on {} threads: median {batch:.0} ms, {unpack:.0} ms of \
         them to unpack frames",
        shape.batch_size,
        shape.sequence_len,
        rayon::current_num_threads()
    );
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

/// Nanoseconds that the main thread has spent on a core.
fn on_core() -> Result<u64, Box<dyn Error>> {
    let statistics = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(statistics
        .split(' ')
        .next()
        .ok_or("schedstat is empty")?
        .parse()?)
}

/// A line of `/proc/self/status`, in bytes.
fn memory(key: &str) -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or(key)?;
    Ok(kib.parse::<usize>()? * 1024)
}

//! Measures updates of Decision Transformer training as `dt-train train` runs them, sampling included, on random data
//! of Hopper's dimensions. `dt-train/benches/train.py` runs it in turns with PyTorch and Hugging Face.
//!
//! Usage: `train_speed DEVICE UPDATES THREADS ATTENTION BATCH_SIZE PRECISION`; prints updates per second.

use std::time::Instant;

use dt_train::algo::Setup;
use dt_train::config::Recipe;
use dt_train::data::sampler::Trajectories;
use dt_train::memory;
use dt_train::run::train;

/// Transitions in all, and per episode.
const ROWS: usize = 200_000;
const EPISODE_LEN: usize = 500;
const STATE_DIM: usize = 11;
const ACT_DIM: usize = 3;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, updates, threads, attention, batch_size, precision] = arguments.as_slice() else {
        anyhow::bail!("usage: train_speed DEVICE UPDATES THREADS ATTENTION BATCH_SIZE PRECISION");
    };
    let recipe = Recipe::load(
        None,
        &[
            format!("dt.attention={attention}"),
            format!("dt.precision={precision}"),
            format!("train.batch_size={batch_size}"),
        ],
    )?;
    let (device, updates) = (train::device(device)?, updates.parse::<u64>()?);
    tch::set_num_threads(threads.parse()?);
    let mut learner = recipe.algorithm.learner(Setup {
        recipe: &recipe,
        train: trajectories(),
        validation: Trajectories::default(),
        device,
    });
    memory::keep_freed();
    const WARM_UP: u64 = 3;
    (0..WARM_UP).for_each(|update| learner.update(update));
    learner.take_averages();
    let start = Instant::now();
    (WARM_UP..WARM_UP + updates).for_each(|update| learner.update(update));
    let averages = learner.take_averages();
    let seconds = start.elapsed().as_secs_f64();
    anyhow::ensure!(averages.loss.is_finite(), "the loss is {}", averages.loss);
    println!("{}", updates as f64 / seconds);
    Ok(())
}

/// What is in them does not change how long an update takes.
fn trajectories() -> Trajectories {
    let waves = |columns: usize| -> Vec<f32> {
        let values = 0..ROWS * columns;
        values.map(|i| (i as f32 * 0.37).sin()).collect()
    };
    Trajectories {
        pixels: None,
        state_dim: STATE_DIM,
        act_dim: ACT_DIM,
        kind: dt_core::config::Actions::Continuous,
        states: waves(STATE_DIM),
        actions: waves(ACT_DIM),
        returns_to_go: waves(1),
        episode_lens: vec![EPISODE_LEN; ROWS / EPISODE_LEN],
        ..Trajectories::default()
    }
}

//! Measures SAC on Pendulum as `dt-train collect --agent sac` runs it: acting, stepping, recording and one update
//! per step. `dt-train/benches/sac.py` runs it in turns with Stable-Baselines3.
//!
//! Usage: `sac_speed STEPS THREADS`; prints updates per second.

use std::time::Instant;

use dt_train::algo::sac::Settings;
use dt_train::collect::learn::learn;
use dt_train::collect::online;

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("usage: sac_speed STEPS THREADS"));
    let (Some(steps), Some(threads)) = (numbers.next(), numbers.next()) else {
        panic!("usage: sac_speed STEPS THREADS");
    };
    tch::set_num_threads(threads as i32);
    let settings = Settings::for_env("pendulum");
    let config = online::Settings::Sac(settings.clone());
    let env = || host_sim::make("pendulum").expect("a built-in environment");
    let warm_up = settings.learning_starts as usize + 100;
    learn(env, 1, &config, warm_up, 0);
    let start = Instant::now();
    learn(env, 1, &config, steps, 0);
    let updates = steps as u64 - settings.learning_starts;
    println!("{}", updates as f64 / start.elapsed().as_secs_f64());
}

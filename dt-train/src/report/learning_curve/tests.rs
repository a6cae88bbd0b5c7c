//! Both pictures, also of runs with hardly any records.

use super::*;
use crate::config::Recipe;

fn run(dir: &str) -> Run {
    let info = serde_json::json!({
        "version": "", "env": "pendulum", "dataset": "", "dataset_sha256": "",
        "transitions": 100_000, "episodes": 500, "return_mean": -146.6, "return_max": -1.6,
        "state_dim": 3, "act_dim": 1, "state_mean": [], "state_std": [], "state_low": [],
        "state_high": [], "action_low": [], "action_high": [], "safe_action": [],
        "target_return": -150.0, "control_period_us": 50_000
    });
    Run {
        dir: dir.into(),
        recipe: Recipe::default(),
        info: serde_json::from_value(info).unwrap(),
    }
}

fn record(update: u64, mean_return: Option<f64>) -> Record {
    let eval = |target_return, mean_return| EvalRecord {
        target_return,
        episodes: 20,
        mean_return,
        std_return: 80.0,
        engine_mean_return: mean_return,
        torch_mean_return: mean_return,
    };
    Record {
        update,
        loss: 0.09 + 40.0 / update as f64,
        validation_loss: None,
        fit_loss: None,
        grad_norm: 1.0,
        learning_rate: 1e-3,
        updates_per_second: 10.0,
        eval: mean_return
            .map(|mean| vec![eval(-150.0, mean), eval(-600.0, mean - 300.0)])
            .unwrap_or_default(),
    }
}

#[test]
fn both_pictures_show_loss_returns_and_targets() {
    let run = run("swing-up");
    let records: Vec<Record> = (1..=40)
        .map(|i| {
            let mean = -150.0 - 90_000.0 / f64::from(i * 50);
            record(i as u64 * 50, (i % 5 == 0).then_some(mean))
        })
        .collect();
    let curve = Curve {
        run: &run,
        records: &records,
    };
    let svg = curve.svg().unwrap();
    for text in [
        "Training of swing-up on pendulum",
        "loss (mean squared error)",
        "episode return",
        "updates",
        "target -150",
        "target -600",
        "mean of the data",
        "2,000",
    ] {
        assert!(svg.contains(text), "no {text:?} in the picture");
    }
    let png = image::load_from_memory(&curve.png().unwrap())
        .unwrap()
        .to_rgb8();
    assert_eq!(png.dimensions(), (2 * WIDTH, 2 * HEIGHT));
    // Text is drawn, not only measured: the title's letters are there.
    let dark = |x: u32, y: u32| png.get_pixel(x, y).0 == [INK.0, INK.1, INK.2];
    let title = (40..600).flat_map(|x| (30..70).map(move |y| (x, y)));
    assert!(title.filter(|&(x, y)| dark(x, y)).count() > 500);
}

#[test]
fn a_run_without_evaluation_or_with_one_record_is_drawn() {
    let run = run("r");
    for records in [vec![], vec![record(10, None)], vec![record(10, Some(-3.0))]] {
        let curve = Curve {
            run: &run,
            records: &records,
        };
        curve.svg().unwrap();
        curve.png().unwrap();
    }
}

#[test]
fn numbers_are_short() {
    let grouped = [0.0, 12.0, 1234.0, -1_234_567.0, -0.2].map(thousands);
    assert_eq!(grouped, ["0", "12", "1,234", "−1,234,567", "0"]);
    assert_eq!(short(0.30000000000000004), "0.3");
}

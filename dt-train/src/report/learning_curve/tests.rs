//! The picture, also of runs with hardly any records.

use std::path::Path;

use super::*;
use crate::config::{Recipe, Source};
use crate::run::EvalRecord;

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
        accuracy: None,
        validation_accuracy: None,
        grad_norm: 1.0,
        learning_rate: 1e-3,
        updates_per_second: 10.0,
        core_seconds: None,
        eval: mean_return
            .map(|mean| vec![eval(-150.0, mean), eval(-600.0, mean - 300.0)])
            .unwrap_or_default(),
    }
}

#[test]
fn the_picture_shows_loss_returns_and_targets() {
    let run = run("swing-up");
    let mut records: Vec<Record> = (1..=40)
        .map(|i| {
            let mean = -150.0 - 90_000.0 / f64::from(i * 50);
            record(i as u64 * 50, (i % 5 == 0).then_some(mean))
        })
        .collect();
    let svg = picture(&run, &records).svg();
    for text in [
        "Training of swing-up on pendulum",
        "100,000 transitions in 500 episodes, mean return −146.6, best −1.6",
        "loss (mean squared error)",
        "episode return",
        "updates",
        "target −150",
        "target −600",
        "mean of the data",
        "2,000",
    ] {
        assert!(svg.contains(text), "no {text:?} in the picture");
    }
    let mut choices = records.clone();
    choices[3].accuracy = Some(0.8);
    let svg_of_choices = picture(&run, &choices).svg();
    assert!(svg_of_choices.contains("loss (cross-entropy)"));
    let mut rival = self::run("swing-up");
    rival.recipe = Recipe::load(Some(&Source::new(Path::new("iql"))), &[]).unwrap();
    let svg_of_rival = picture(&rival, &records).svg();
    assert!(svg_of_rival.contains("loss (sum over the networks)"));
    // A dot for each evaluation; a line for the loss and each target.
    assert_eq!(svg.matches("<circle").count(), 2 * 8);
    assert_eq!(svg.matches("<path class=\"line c").count(), 3);
    let compared = [
        "without dropout",
        "on others",
        "<path class=\"line c1\"",
        "<path class=\"line dashes c1\"",
    ];
    let found = |svg: &str| compared.map(|text| svg.matches(text).count());
    // The second target has that colour, too.
    assert_eq!(found(&svg), [0, 0, 1, 0]);
    for record in &mut records {
        record.fit_loss = Some(0.1);
        record.validation_loss = Some(0.2);
    }
    assert_eq!(found(&picture(&run, &records).svg()), [1, 1, 2, 1]);
}

#[test]
fn a_run_without_evaluation_or_with_one_record_is_drawn() {
    let run = run("r");
    for records in [vec![], vec![record(10, None)], vec![record(10, Some(-3.0))]] {
        let picture = picture(&run, &records);
        let evaluated = records.iter().any(|record| !record.eval.is_empty());
        assert_eq!(picture.svg().contains("episode return"), evaluated);
        picture.png().unwrap();
    }
}

/// What diverged is left out of the line instead of breaking it.
#[test]
fn losses_that_are_no_numbers_leave_a_gap() {
    let mut records: Vec<Record> = (1..=5).map(|i| record(i * 10, None)).collect();
    records[2].loss = f64::NAN;
    let picture = picture(&run("r"), &records);
    let svg = picture.svg();
    assert!(!svg.contains("NaN"));
    let line = svg.split("class=\"line c0\" d=\"").nth(1).unwrap();
    let line = line.split('"').next().unwrap();
    assert_eq!(
        (line.matches('M').count(), line.matches('L').count()),
        (2, 2)
    );
    picture.png().unwrap();
}

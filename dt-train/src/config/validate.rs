//! Ranges of a recipe's values, and values that only make sense together.

use dt_core::blob::RewardMode;

use super::{ConfigError, Recipe};

impl Recipe {
    /// Refuses the first value out of range; `origin` is the file or option it came from.
    pub(super) fn validate(&self, origin: &str) -> Result<(), ConfigError> {
        let refuse = |key: &str, message: String| {
            Err(ConfigError::Value {
                origin: origin.to_owned(),
                key: key.to_owned(),
                message,
            })
        };
        if let Err(refusal) = self.algorithm.check(self) {
            return refuse(&refusal.key, refusal.message);
        }
        let (train, data, control) = (&self.train, &self.data, &self.control);
        let at_least_one = [
            ("train.updates", train.updates),
            ("train.batch_size", u64::from(train.batch_size)),
            ("train.log_every", train.log_every),
            ("train.checkpoint_every", train.checkpoint_every),
            ("eval.episodes", u64::from(self.eval.episodes)),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return refuse(key, "must be at least 1".to_owned());
            }
        }
        let within = [
            ("train.learning_rate", train.learning_rate, 0.0, 1.0),
            (
                "train.learning_rate_final",
                train.learning_rate_final,
                0.0,
                1.0,
            ),
            ("train.weight_decay", train.weight_decay, 0.0, 100.0),
            ("train.beta_1", train.beta_1, 0.0, 0.999_999),
            ("train.beta_2", train.beta_2, 0.0, 0.999_999),
            ("train.ema_decay", train.ema_decay, 0.0, 0.999_999),
            (
                "data.validation_percent",
                data.validation_percent,
                0.0,
                99.0,
            ),
            ("train.grad_clip", train.grad_clip, 0.0, f64::MAX),
            ("train.dropout", train.dropout, 0.0, 0.9),
            (
                "control.state_margin",
                f64::from(control.state_margin),
                0.0,
                1e30,
            ),
        ];
        for (key, value, low, high) in within {
            if !(low..=high).contains(&value) {
                return refuse(key, format!("is {value}; it must lie in {low}..={high}"));
            }
        }
        if !(data.return_scale == 0.0 || (1e-30..=1e30).contains(&data.return_scale)) {
            return refuse(
                "data.return_scale",
                format!(
                    "is {}; it must lie in 1e-30..=1e30, or be 0 for that of the data",
                    data.return_scale
                ),
            );
        }
        if !(1..=16).contains(&data.frame_stack) {
            return refuse(
                "data.frame_stack",
                format!("is {}; it must lie in 1..=16", data.frame_stack),
            );
        }
        if !(data.top_percent > 0.0 && data.top_percent <= 100.0) {
            return refuse(
                "data.top_percent",
                format!(
                    "is {}; it must lie above 0 and be at most 100",
                    data.top_percent
                ),
            );
        }
        // Softmax divides by it in f32.
        if !(1e-30..=1e30).contains(&control.temperature) {
            return refuse(
                "control.temperature",
                format!("is {}; it must lie in 1e-30..=1e30", control.temperature),
            );
        }
        if data.delayed_reward && control.reward == RewardMode::Observed {
            return refuse(
                "control.reward",
                "\"observed\" rewards would count down a return-to-go that data.delayed_reward keeps the same \
                 until the last step; use \"constant\" or \"external\""
                    .to_owned(),
            );
        }
        let vectors = [
            ("eval.target_returns", &self.eval.target_returns),
            ("control.action_low", &control.action_low),
            ("control.action_high", &control.action_high),
            ("control.safe_action", &control.safe_action),
        ];
        for (key, values) in vectors {
            if values.iter().any(|v| !v.is_finite()) {
                return refuse(key, "every number must be finite".to_owned());
            }
        }
        Ok(())
    }
}

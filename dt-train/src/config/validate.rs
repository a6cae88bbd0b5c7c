//! Ranges of a recipe's values, and values that only make sense together.

use dt_core::blob::{AtMaxEpLen, RewardMode};
use dt_core::config::{Activation, Attention, Dtype};

use super::{Config, ConfigError, Kind, Precision};

impl Config {
    /// Refuses the first value out of range; `origin` is the file or option it came from.
    pub(super) fn validate(&self, origin: &str) -> Result<(), ConfigError> {
        let refuse = |key: &str, message: String| {
            Err(ConfigError::Value {
                origin: origin.to_owned(),
                key: key.to_owned(),
                message,
            })
        };
        if let Err((key, message)) = self.validate_model() {
            return refuse(key, message);
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
            (
                "model.timestep_init_std",
                self.model.timestep_init_std,
                0.0,
                10.0,
            ),
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
            ("train.start_fraction", train.start_fraction, 0.0, 1.0),
            ("train.best_fraction", train.best_fraction, 0.0, 1.0),
            ("train.best_percent", train.best_percent, 0.0, 100.0),
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
        if !(data.top_percent > 0.0 && data.top_percent <= 100.0) {
            return refuse(
                "data.top_percent",
                format!(
                    "is {}; it must lie above 0 and be at most 100",
                    data.top_percent
                ),
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
        if self.sequence_len() <= train.burn_in as usize {
            return refuse(
                "train.burn_in",
                format!(
                    "must be smaller than the {} timesteps of a sequence",
                    self.sequence_len()
                ),
            );
        }
        if self.model.attention == Attention::Window
            && self.sequence_len() > self.model.context_len as usize
        {
            return refuse(
                "train.sequence_len",
                format!(
                    "window attention sees context_len = {} timesteps, so longer sequences would train \
                     something that is never run; use 0",
                    self.model.context_len
                ),
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
    /// What `model` and the shape of its inputs must be, by kind; the first key refused, and why.
    fn validate_model(&self) -> Result<(), (&'static str, String)> {
        let (model, train) = (&self.model, &self.train);
        if model.kind == Kind::Transformer {
            // Dimensions of the data are checked when there are data.
            let network = self.network(1, 1, Dtype::F32).validate();
            network.map_err(|error| ("model", error.to_string()))?;
            // Without a table there is no timestep at which the policy would have to fault.
            if model.max_ep_len == 0 && self.control.at_max_ep_len == AtMaxEpLen::Fault {
                return Err((
                    "control.at_max_ep_len",
                    "\"fault\" takes a timestep table that ends, and model.max_ep_len is 0; use \"saturate\""
                        .to_owned(),
                ));
            }
            return Ok(());
        }
        for (key, value, most) in [
            ("model.d_model", model.d_model, 1 << 14),
            ("model.n_layer", model.n_layer, 1 << 10),
            ("model.context_len", model.context_len, 1 << 14),
        ] {
            if !(1..=most).contains(&value) {
                return Err((key, format!("is {value}; it must lie in 1..={most}")));
            }
        }
        let refuse = |key, message: &str| {
            Err((
                key,
                format!("behaviour cloning (model.kind = \"bc\") {message}"),
            ))
        };
        if model.activation != Activation::Relu {
            return refuse("model.activation", "knows \"relu\" only");
        }
        if train.sequence_len != 0 {
            return refuse(
                "train.sequence_len",
                "sees the context_len states up to each action, not sequences; use 0",
            );
        }
        if train.burn_in != 0 {
            return refuse("train.burn_in", "learns from every action; use 0");
        }
        for (key, fraction) in [
            ("train.start_fraction", train.start_fraction),
            ("train.best_fraction", train.best_fraction),
        ] {
            if fraction != 0.0 {
                return refuse(key, "draws all actions equally often; use 0");
            }
        }
        if train.precision != Precision::F32 {
            return refuse("train.precision", "is trained in \"f32\" only");
        }
        Ok(())
    }
}

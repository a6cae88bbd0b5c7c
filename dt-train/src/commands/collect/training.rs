//! How agents learn, as options say it.

use anyhow::{Result, bail};
use host_sim::EnvSpec;

use super::super::WrongUsage;
use crate::collect::online::Settings;

/// How agents learn; what is not given is as published: for sac by Haarnoja et al. (2018), for ppo by RL Baselines3 Zoo.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Where agents are trained (--agent sac or ppo, --recipe)")]
pub struct TrainingArgs {
    /// sac: uniformly random steps before the first update [default: 100 for pendulum, else 10000]
    #[arg(long, value_name = "N")]
    pub learning_starts: Option<u64>,
    /// sac: gradient steps per environment step after that [default: 1]
    #[arg(long, value_name = "X")]
    pub updates_per_step: Option<f64>,
    /// Learning rate of all networks [default: sac 1e-3 for pendulum, else 3e-4; ppo 1e-3, falling to 0]
    #[arg(long, value_name = "X")]
    pub learning_rate: Option<f64>,
    /// Transitions per gradient step [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch_size: Option<u32>,
    /// Discount γ of the return [default: sac 0.99, ppo 0.98, of images 0.99]
    #[arg(long, value_name = "X")]
    pub discount: Option<f64>,
    /// Width of both hidden layers of actor and critics [default: sac 256, ppo 64, of images 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub hidden: Option<u32>,
    /// ppo: steps of each environment between two rounds of updates [default: 32, of images 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub horizon: Option<u32>,
    /// ppo: passes over these steps [default: 20, of images 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub epochs: Option<u32>,
}

impl TrainingArgs {
    /// Those that are given and go with any algorithm, with SAC alone, with PPO alone.
    pub(super) fn given(&self) -> [Vec<&'static str>; 3] {
        let Self {
            learning_starts,
            updates_per_step,
            learning_rate,
            batch_size,
            discount,
            hidden,
            horizon,
            epochs,
        } = self;
        let given = |options: &[(&'static str, bool)]| {
            let given = options.iter().filter(|(_, is_given)| *is_given);
            given.map(|(name, _)| *name).collect()
        };
        [
            given(&[
                ("--learning-rate", learning_rate.is_some()),
                ("--batch-size", batch_size.is_some()),
                ("--discount", discount.is_some()),
                ("--hidden", hidden.is_some()),
            ]),
            given(&[
                ("--learning-starts", learning_starts.is_some()),
                ("--updates-per-step", updates_per_step.is_some()),
            ]),
            given(&[
                ("--horizon", horizon.is_some()),
                ("--epochs", epochs.is_some()),
            ]),
        ]
    }

    pub(super) fn check(&self) -> Result<(), WrongUsage> {
        let lies = |value: Option<f64>, low: f64, high: f64| {
            value.is_none_or(|value| value > low && value <= high)
        };
        if !lies(self.updates_per_step, 0.0, 100.0) {
            return Err(WrongUsage(
                "--updates-per-step must lie above 0 and be at most 100",
            ));
        }
        if !lies(self.learning_rate, 0.0, 1.0) {
            return Err(WrongUsage(
                "--learning-rate must lie above 0 and be at most 1",
            ));
        }
        if !self
            .discount
            .is_none_or(|value| (0.0..=1.0).contains(&value))
        {
            return Err(WrongUsage("--discount must lie in 0..=1"));
        }
        Ok(())
    }

    /// The algorithm that learns in an environment, as asked for.
    ///
    /// # Errors
    /// An option is given that this algorithm does not have.
    pub(super) fn settings(&self, spec: &EnvSpec<'_>) -> Result<Settings> {
        let mut settings = Settings::for_env(spec);
        let [_, sac_only, ppo_only] = self.given();
        let (strange, other) = match settings {
            Settings::Sac(_) => (ppo_only, "ppo"),
            Settings::Ppo(_) => (sac_only, "sac"),
        };
        if let Some(option) = strange.first() {
            bail!(
                "{option} is of {other}, and {} learns in environment `{}`; leave it away",
                settings.name(),
                spec.id
            );
        }
        fn set<T>(value: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *value = given;
            }
        }
        let count = |given: Option<u32>| given.map(|n| n as usize);
        match &mut settings {
            Settings::Sac(sac) => {
                set(&mut sac.learning_starts, self.learning_starts);
                set(&mut sac.updates_per_step, self.updates_per_step);
                set(&mut sac.learning_rate, self.learning_rate);
                set(&mut sac.batch_size, count(self.batch_size));
                set(&mut sac.discount, self.discount);
                set(&mut sac.hidden, count(self.hidden));
            }
            Settings::Ppo(ppo) => {
                set(&mut ppo.learning_rate, self.learning_rate);
                set(&mut ppo.batch_size, count(self.batch_size));
                set(&mut ppo.discount, self.discount);
                set(&mut ppo.hidden, count(self.hidden));
                set(&mut ppo.horizon, count(self.horizon));
                set(&mut ppo.epochs, count(self.epochs));
            }
        }
        Ok(settings)
    }
}

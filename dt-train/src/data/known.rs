//! What a controller needs and trajectories seldom hold: the range of actions, and the period in which it acts. The
//! recipe says it, or else the environment, or else the files; what nobody says is asked for, all of it at once.

use anyhow::{bail, ensure};
use host_sim::registry::NAMES;
use host_sim::{EnvSpec, Space};

use super::{Dataset, origin, power_of_ten, round};
use crate::config::Recipe;

/// What is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Lowest action, (act_dim); the first choice, 0.
    pub action_low: Option<Vec<f32>>,
    /// Highest action, (act_dim); the last choice.
    pub action_high: Option<Vec<f32>>,
    /// Control period in microseconds.
    pub period_us: Option<u32>,
}

impl Known {
    /// Asks recipe, environment and files.
    ///
    /// # Errors
    /// If the recipe's range is of another length than the data's actions, or the wrong way round.
    pub fn new(data: &Dataset, env: Option<&EnvSpec<'_>>, recipe: &Recipe) -> anyhow::Result<Self> {
        let control = &recipe.control;
        let period_us = match control.period_us {
            0 => env.map_or_else(
                || data.control_period_us(),
                |spec| Some(spec.control_period_us),
            ),
            period => Some(period),
        };
        if let Space::Discrete { n } = data.actions.space() {
            let range = [vec![0.0], vec![n as f32 - 1.0]];
            for (key, given, index) in [
                ("action_low", &control.action_low, &range[0]),
                ("action_high", &control.action_high, &range[1]),
            ] {
                ensure!(
                    given.is_empty() || given == index,
                    "`control.{key}` is {given:?}, but the data's actions are choices, Discrete({n}), which have no range; \
                     leave it empty"
                );
            }
            let [action_low, action_high] = range.map(Some);
            return Ok(Self {
                action_low,
                action_high,
                period_us,
            });
        }
        let space = env.map_or_else(|| data.actions.space(), |spec| spec.action);
        let bounds = space.bounds();
        let end = |key: &str, given: &Vec<f32>, of_space: Option<&[f32]>| {
            let (n, act_dim) = (given.len(), data.act_dim());
            ensure!(
                n == 0 || n == act_dim,
                "`control.{key}` has {n} numbers, the data's actions have {act_dim}"
            );
            // A space without bounds says nothing.
            let of_space = of_space.filter(|bounds| bounds.iter().all(|bound| bound.is_finite()));
            Ok(match n {
                0 => of_space.map(<[f32]>::to_vec),
                _ => Some(given.clone()),
            })
        };
        let [lowest, highest] = [0, 1].map(|end| bounds.map(|bounds| bounds[end]));
        let action_low = end("action_low", &control.action_low, lowest)?;
        let action_high = end("action_high", &control.action_high, highest)?;
        if let (Some(low), Some(high)) = (&action_low, &action_high)
            && low.iter().zip(high).any(|(low, high)| low > high)
        {
            bail!("`control.action_low` is above `control.action_high`");
        }
        Ok(Self {
            action_low,
            action_high,
            period_us,
        })
    }

    /// What is not, as settings of a recipe: the range of the data's actions, rounded outwards, and 50 Hz.
    pub fn missing(&self, data: &Dataset) -> Vec<String> {
        let seen = |end: usize| -> Vec<f64> {
            let range = data.actions.range();
            range.iter().map(|&range| outwards(range)[end]).collect()
        };
        let low = || format!("control.action_low={:?}", seen(0));
        let high = || format!("control.action_high={:?}", seen(1));
        let period = || "control.period_us=20000".to_owned();
        let settings = [
            self.action_low.is_none().then(low),
            self.action_high.is_none().then(high),
            self.period_us.is_none().then(period),
        ];
        settings.into_iter().flatten().collect()
    }

    /// All of it: lowest and highest action, period.
    ///
    /// # Errors
    /// Names what is missing as options to type.
    pub fn all(self, data: &Dataset) -> anyhow::Result<(Vec<f32>, Vec<f32>, u32)> {
        let missing = self.missing(data);
        if let (Some(low), Some(high), Some(period)) =
            (self.action_low, self.action_high, self.period_us)
        {
            return Ok((low, high, period));
        }
        let which = match data.env() {
            Some(env) if !NAMES.contains(&env) => format!("this version has no `{env}`"),
            Some(_) => "no environment is asked for".to_owned(),
            None => "no environment is named".to_owned(),
        };
        let candidates = origin::candidates(data).filter(|_| data.env().is_none());
        let name = match candidates {
            Some(candidates) => format!("name it with --env, if it is {candidates}, or "),
            None => String::new(),
        };
        bail!(
            "{which} that would tell what a controller has to know: {name}add {} (the range is that of the data, the period \
             an example, which training makes no use of)",
            as_options(&missing)
        )
    }
}

/// A range, made wider to two digits.
fn outwards([low, high]: [f64; 2]) -> [f64; 2] {
    let largest = f64::max(-low, high);
    let step = power_of_ten(largest.abs()) / 10.0;
    // A millionth of a step is what f32 made of a round number.
    let steps = [(low / step + 1e-6).floor(), (high / step - 1e-6).ceil()];
    // Adding 0 turns -0 into 0.
    steps.map(|steps| round(steps * step, step) + 0.0)
}

/// Settings as a shell takes them.
pub fn as_options(settings: &[String]) -> String {
    let options = settings.iter().map(|setting| match setting.contains('[') {
        true => format!("--set '{setting}'"),
        false => format!("--set {setting}"),
    });
    options.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_round_and_lose_nothing() {
        for (range, round) in [
            ([-0.998, 0.9971], [-1.0, 1.0]),
            ([-2.0, 1.87], [-2.0, 1.9]),
            ([f64::from(-0.1_f32), f64::from(0.4_f32)], [-0.1, 0.4]),
            ([-5.6951, 5.6906], [-5.7, 5.7]),
            ([0.0, 0.0], [0.0, 0.0]),
            ([312.0, 1204.5], [300.0, 1300.0]),
            ([-3.0, -0.52], [-3.0, -0.5]),
        ] {
            assert_eq!(outwards(range), round, "{range:?}");
        }
    }
}

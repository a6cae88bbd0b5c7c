//! How far what a policy expects to earn is from what it then earns.

use serde::{Deserialize, Serialize};

use crate::evaluation::mean;
use crate::rollout::{Recorder, Transition};

/// The return head of a policy as a critic of its own acting: at every step but the first of each episode, what it
/// predicted to be still earned from there on, against what was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Critic {
    /// Steps compared.
    pub steps: u64,
    /// Root of the mean squared difference.
    pub rmse: f64,
    /// The same of the return-to-go that was asked for: target less rewards so far. A critic that tells no more than that
    /// only repeats what it was told.
    pub asked_rmse: f64,
    /// Pearson's, of predicted and earned; none if one of them does not vary.
    pub correlation: Option<f64>,
}

/// One episode's opinions and rewards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opinions(Vec<(Option<f32>, f64)>);

impl Recorder for Opinions {
    fn record(&mut self, transition: &Transition<'_>) {
        self.0
            .push((transition.predicted_return, transition.reward));
    }
}

impl Critic {
    /// Of episodes that aimed at `target_return`; none if the policy had no opinion.
    #[must_use]
    pub fn of(target_return: f32, episodes: &[Opinions]) -> Option<Self> {
        let (mut predicted, mut earned, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        for Opinions(steps) in episodes {
            let total: f64 = steps.iter().map(|(_, reward)| reward).sum();
            let mut before = 0.0;
            for (opinion, reward) in steps {
                if let Some(opinion) = opinion {
                    predicted.push(f64::from(*opinion));
                    earned.push(total - before);
                    asked.push(f64::from(target_return) - before);
                }
                before += reward;
            }
        }
        (!predicted.is_empty()).then(|| Self {
            steps: predicted.len() as u64,
            rmse: rmse(&predicted, &earned),
            asked_rmse: rmse(&asked, &earned),
            correlation: correlation(&predicted, &earned),
        })
    }
}

fn rmse(ours: &[f64], theirs: &[f64]) -> f64 {
    let squares: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b) * (a - b))
        .collect();
    mean(&squares).sqrt()
}

fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mean_x, mean_y) = (mean(x), mean(y));
    let of = |a: &[f64], mean_a: f64, b: &[f64], mean_b: f64| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - mean_a) * (b - mean_b))
            .sum()
    };
    let product = of(x, mean_x, x, mean_x) * of(y, mean_y, y, mean_y);
    (product > 0.0).then(|| of(x, mean_x, y, mean_y) / product.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opinions(steps: &[(Option<f32>, f64)]) -> Opinions {
        let mut opinions = Opinions::default();
        for &(predicted_return, reward) in steps {
            opinions.record(&Transition {
                observation: &[],
                action: &[],
                predicted_return,
                reward,
                next_observation: &[],
                terminated: false,
                truncated: false,
            });
        }
        opinions
    }

    #[test]
    fn predicted_is_compared_with_what_was_still_earned() {
        // Still to be earned: 6, 5, 3 and 1, 1.
        let one = opinions(&[(None, 1.0), (Some(5.0), 2.0), (Some(4.0), 3.0)]);
        let two = opinions(&[(None, 0.0), (Some(1.0), 1.0)]);
        let critic = Critic::of(8.0, &[one, two]).unwrap();
        assert_eq!(critic.steps, 3);
        assert!((critic.rmse - (1.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        // Asked for: 8, 7, 5 and 8, 8.
        assert!((critic.asked_rmse - (57.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        // Of (5, 4, 1) and (5, 3, 1): 8 / √(26/3 · 8).
        let expected = 8.0 / (26.0_f64 / 3.0 * 8.0).sqrt();
        assert!((critic.correlation.unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn no_opinion_is_no_critic_and_a_constant_one_correlates_with_nothing() {
        let silent = opinions(&[(None, 1.0), (None, 2.0)]);
        assert_eq!(Critic::of(0.0, &[silent]), None);
        let constant = opinions(&[(None, 1.0), (Some(2.0), 2.0), (Some(2.0), 1.0)]);
        let critic = Critic::of(0.0, &[constant]).unwrap();
        assert_eq!(critic.correlation, None);
    }
}

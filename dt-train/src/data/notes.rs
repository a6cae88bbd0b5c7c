//! What is odd about data for who wants to learn from them, a sentence each. None of it keeps anyone from training, and
//! all of it has been why a policy was bad, or a controller stopped.

use dt_core::config::{Dtype, MAX_EP_LEN};
use host_sim::EnvSpec;

use super::known::Known;
use super::prepare::{input_scale, state_limits};
use super::{Dataset, Episode, choices, environment, origin, power_of_ten, round};
use crate::algo::Dims;
use crate::config::Recipe;

/// Fewer episodes than these are noted.
const FEW: usize = 10;

/// A target return, as the network is told it, that goes over less than this changes nothing: it is one input among
/// states of standard deviation 1.
const FLAT: f64 = 0.01;

/// As many components are named one by one.
const NAMED: usize = 8;

/// Everything odd about `data`, learned from by `recipe` for a controller of `env`.
pub fn notes(data: &Dataset, env: Option<&EnvSpec<'_>>, recipe: &Recipe) -> Vec<String> {
    let of_files = data.sources.iter().flat_map(|source| {
        let path = source.path.display();
        let notes = source.notes.iter();
        notes.map(move |note| format!("{path}: {note}"))
    });
    let fitting = env.filter(|spec| origin::has_sizes(spec, data));
    let of_all = [
        other_environment(data, env),
        other_sizes(data, env.filter(|spec| !origin::has_sizes(spec, data))),
        few_episodes(data),
        choices::undeclared(data, env),
        returns(data, recipe),
        terminal_clusters(data),
        longer_table(data, recipe).map(|(note, _)| note),
        constant_features(data, fitting, recipe),
        outside_observations(data, fitting),
        range_of_files(data, env, recipe),
        outside_actions(data, fitting, recipe),
    ];
    let of_environments = environment::notes(data, env);
    let of_all = of_environments
        .into_iter()
        .chain(of_all.into_iter().flatten());
    of_files.chain(of_all).collect()
}

/// [`origin::agree`] refuses these in training, unless told not to.
fn other_environment(data: &Dataset, env: Option<&EnvSpec<'_>>) -> Option<String> {
    let named = origin::named(data);
    let list = origin::list(&named);
    match (named.as_slice(), env) {
        ([], _) => None,
        (&[(name, _)], Some(spec)) if !origin::same(name, spec.id) => {
            let id = spec.id;
            Some(format!(
                "the data are of environment {list}, the policy acts in `{id}`"
            ))
        }
        ([_], _) => None,
        _ => Some(format!("the data are of several environments: {list}")),
    }
}

/// Training refuses these.
fn other_sizes(data: &Dataset, env: Option<&EnvSpec<'_>>) -> Option<String> {
    let spec = env?;
    Some(format!(
        "states have {} components and actions {}, in environment `{}` {} and {}",
        data.state_dim(),
        data.act_dim(),
        spec.id,
        spec.state_dim(),
        spec.act_dim()
    ))
}

fn few_episodes(data: &Dataset) -> Option<String> {
    let n = data.episodes.len();
    (n < FEW).then(|| {
        format!("only {n} episode(s): what is learned from so few seldom holds beyond them")
    })
}

/// Where asking for a return says nothing.
fn returns(data: &Dataset, recipe: &Recipe) -> Option<String> {
    if !recipe.algorithm.learns_from_rewards() {
        return None;
    }
    if data.rewards.iter().all(|&reward| reward == 0.0) {
        return Some(
            "every reward is 0, so no target return says anything; add rewards, or imitate the data with --algo bc"
                .into(),
        );
    }
    let returns = data.returns();
    let lowest = returns.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = returns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let spread = highest - lowest;
    // One episode cannot differ from itself.
    if returns.len() == 1 {
        return None;
    }
    if spread == 0.0 {
        return Some(format!(
            "all {} episodes return {highest}, so asking for more or less changes nothing",
            returns.len()
        ));
    }
    let own = data.return_scale();
    let scale = match f64::from(recipe.data.return_scale) {
        0.0 => own,
        scale => scale,
    };
    if spread / scale >= FLAT {
        return None;
    }
    let digits = |x: f64| round(x, power_of_ten(x) / 100.0);
    let seen = format!(
        "returns differ by {:?} at most, which data.return_scale = {scale:?} makes {:?} for the network: the target \
         return has next to no effect",
        digits(spread),
        digits(spread / scale)
    );
    Some(if spread / own >= FLAT {
        format!("{seen}; add --set data.return_scale=0 for that of the data, {own:?}")
    } else {
        format!("{seen}; take what all episodes earn alike from the rewards")
    })
}

/// As in AntMaze, whose robots stay in the goal for a while, each step of it terminal.
fn terminal_clusters(data: &Dataset) -> Option<String> {
    let episodes = &data.episodes;
    let is_single = |episode: &Episode| episode.terminated && episode.rows.len() == 1;
    // Of the episodes after a terminal one, and after one that time ran out on: how many, and how many of them are single steps.
    let mut after = [(0, 0); 2];
    for pair in episodes.windows(2) {
        if let [before, episode] = pair
            && before.source == episode.source
        {
            let (all, single) = &mut after[usize::from(!before.terminated)];
            *all += 1;
            *single += usize::from(is_single(episode));
        }
    }
    let [(terminal, behind), (elsewhere, single)] = after;
    let n = episodes.len();
    // Single steps may be all there is to an episode, and some may be that short by chance: then they follow all others alike.
    let by_chance = episodes.iter().all(|episode| episode.rows.len() == 1)
        || behind * elsewhere <= 3 * single * terminal && single > 0;
    (behind * 100 >= n && behind > 0 && !by_chance).then(|| {
        format!(
            "{behind} of {n} episodes are a single terminal step right after a terminal one: where an environment goes on \
             after its goal, the flag stays set; remove these rows unless they are episodes"
        )
    })
}

/// That the timestep table is too short for some episodes, and the setting with which it is not.
pub(crate) fn longer_table(data: &Dataset, recipe: &Recipe) -> Option<(String, String)> {
    let dims = Dims::of(data);
    let network = recipe.algorithm.deployable()?.network(dims, Dtype::F32);
    let rows = network.max_ep_len as usize;
    let lengths = data.episodes.iter().map(|episode| episode.rows.len());
    let longest = lengths.clone().max()?;
    if rows == 0 || longest <= rows {
        return None;
    }
    let longer = lengths.filter(|&len| len > rows).count();
    let key = format!("{}.max_ep_len", recipe.algorithm.name());
    // No table is the way out where none can be so long.
    let enough = Some(longest).filter(|&rows| rows <= MAX_EP_LEN as usize);
    let setting = format!("{key}={}", enough.unwrap_or(0));
    let note = format!(
        "{longer} of {} episodes are longer than the timestep table, {key} = {rows}, the longest {longest}: beyond it the \
         network cannot tell how late it is; add --set {setting}",
        data.episodes.len()
    );
    Some((note, setting))
}

fn constant_features(data: &Dataset, env: Option<&EnvSpec<'_>>, recipe: &Recipe) -> Option<String> {
    let stats = data.state_stats()?;
    let scale = input_scale(&stats, recipe);
    let (guard_low, guard_high) = state_limits(&stats, &scale, env, recipe.control.state_margin);
    let constant: Vec<usize> = (0..stats.low.len())
        .filter(|&i| stats.low[i] == stats.high[i])
        .collect();
    let named = constant.iter().take(NAMED).map(|&i| {
        let (value, low, high) = (stats.low[i], guard_low[i], guard_high[i]);
        format!("state {i} is always {value} (guard: {low}…{high})")
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match constant.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!constant.is_empty()).then(|| {
        format!(
            "{} of {} state components never vary: {named}{more}; nothing is learned of other values, and outside its guard range \
             a controller stops, so leave out what varies on the robot",
            constant.len(),
            stats.low.len()
        )
    })
}

fn outside_observations(data: &Dataset, env: Option<&EnvSpec<'_>>) -> Option<String> {
    let spec = env?;
    let [low, high] = spec.observation.bounds()?;
    let outside = Outside::of(data.observations.vectors()?, low, high)?;
    Some(format!(
        "{} have observations that `{}` cannot show: {}; are they of this environment, in its units?",
        outside.share(data.len()),
        spec.id,
        outside.worst("state")
    ))
}

fn range_of_files(data: &Dataset, env: Option<&EnvSpec<'_>>, recipe: &Recipe) -> Option<String> {
    let control = &recipe.control;
    let known = Known::new(data, env, recipe).ok()?;
    let of_files = env.is_none()
        && data.actions.space().bounds().is_some()
        && (control.action_low.is_empty() && known.action_low.is_some()
            || control.action_high.is_empty() && known.action_high.is_some());
    let space = data.actions.space();
    of_files.then(|| format!("the range of actions is what the files name: {space}"))
}

fn outside_actions(data: &Dataset, env: Option<&EnvSpec<'_>>, recipe: &Recipe) -> Option<String> {
    let known = Known::new(data, env, recipe).ok()?;
    let (low, high) = (known.action_low?, known.action_high?);
    let outside = Outside::of(data.actions.vectors()?, &low, &high)?;
    Some(format!(
        "{} have actions outside their range: {}; a policy gives none of these, so clip them in the file if the robot did, \
         or widen control.action_low and control.action_high if it did not",
        outside.share(data.len()),
        outside.worst("action")
    ))
}

/// Rows that leave a range.
struct Outside {
    rows: usize,
    /// The component that is farthest outside, its value there, and its range.
    worst: (usize, f32, [f32; 2]),
}

impl Outside {
    /// Of `values`, (rows, low.len()); none if all are within.
    fn of(values: &[f32], low: &[f32], high: &[f32]) -> Option<Self> {
        let mut rows = 0;
        let mut farthest = 0.0;
        let mut worst = (0, 0.0, [0.0, 0.0]);
        for row in values.chunks_exact(low.len()) {
            let mut is_outside = false;
            for (i, ((&x, &low), &high)) in row.iter().zip(low).zip(high).enumerate() {
                if low <= x && x <= high {
                    continue;
                }
                let end = if x < low { low } else { high };
                let distance = (x - end).abs();
                // Rounding leaves a range by that much, too.
                if distance <= 1e-6 * end.abs() {
                    continue;
                }
                is_outside = true;
                if distance > farthest {
                    farthest = distance;
                    worst = (i, x, [low, high]);
                }
            }
            rows += usize::from(is_outside);
        }
        (rows > 0).then_some(Self { rows, worst })
    }

    fn share(&self, of: usize) -> String {
        let percent = 100.0 * self.rows as f64 / of as f64;
        format!("{} of {of} steps ({percent:.1} %)", self.rows)
    }

    fn worst(&self, name: &str) -> String {
        let (i, x, [low, high]) = self.worst;
        format!("{name} {i} reaches {x}, its range is {low}…{high}")
    }
}

#[cfg(test)]
mod tests;

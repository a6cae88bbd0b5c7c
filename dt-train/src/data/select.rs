//! What of the data is trained on, and how its rewards are seen: the variations of the Decision Transformer paper.

use super::Dataset;
use crate::config;

/// The data files of a run and what of them it was trained on, in words.
pub fn describe(files: &str, recipe: &config::Data) -> String {
    let mut words = files.to_owned();
    if recipe.top_percent < 100.0 {
        words += &format!(", best {} % by return", recipe.top_percent);
    }
    if recipe.delayed_reward {
        words += ", delayed reward";
    }
    words
}

/// The episodes of the highest returns, as many as fit into `percent` % of the rows, at least one; ascending. Of equal
/// returns the earlier comes first.
pub(crate) fn best_episodes(
    returns: &[f64],
    rows: impl Fn(usize) -> usize,
    percent: f64,
) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..returns.len()).collect();
    ranked.sort_by(|&a, &b| returns[b].total_cmp(&returns[a]));
    let limit = percent / 100.0 * (0..returns.len()).map(&rows).sum::<usize>() as f64;
    let mut sum = 0;
    let fitting = ranked.iter().take_while(|&&episode| {
        sum += rows(episode);
        sum as f64 <= limit
    });
    let count = std::cmp::max(fitting.count(), 1);
    let mut best: Vec<usize> = ranked.into_iter().take(count).collect();
    best.sort_unstable();
    best
}

impl Dataset {
    /// Leaves what a recipe trains on.
    pub fn select(&mut self, recipe: &config::Data) {
        if recipe.top_percent < 100.0 {
            self.keep_top(recipe.top_percent);
        }
        if recipe.delayed_reward {
            self.delay_rewards();
        }
    }

    /// Takes `percent` of the episodes out, evenly spread: whatever order the data are in, both parts have some of all.
    pub fn split_off(&mut self, percent: f64) -> Self {
        let due = |episodes: usize| (episodes as f64 * percent / 100.0).floor();
        let is_due = |&i: &usize| due(i + 1) > due(i);
        let (taken, kept): (Vec<usize>, Vec<usize>) =
            (0..self.episodes.len()).partition(|i| is_due(i));
        let mut part = Self {
            observations: self.observations.emptied(),
            actions: self.actions.emptied(),
            rewards: Vec::new(),
            episodes: Vec::new(),
            last_observations: self.last_observations.emptied(),
            sources: self.sources.clone(),
        };
        for &episode in &taken {
            let mut episode = self.episodes[episode].clone();
            let start = part.rewards.len();
            let rows = episode.rows;
            episode.rows = start..start + rows.len();
            part.observations
                .extend_from(&self.observations, rows.clone());
            part.actions.extend_from(&self.actions, rows.clone());
            part.rewards.extend_from_slice(&self.rewards[rows]);
            if let Some(last) = &mut episode.last {
                let row = *last..*last + 1;
                *last = part.last_observations.len();
                part.last_observations
                    .extend_from(&self.last_observations, row);
            }
            part.episodes.push(episode);
        }
        if !taken.is_empty() {
            self.keep(&kept);
        }
        part
    }

    /// Keeps the best episodes by return, as many as fit into `percent` % of the transitions, at least one; their order
    /// stays. (Chen et al. 2021, "%BC".)
    pub fn keep_top(&mut self, percent: f64) {
        let rows = |episode: usize| self.episodes[episode].rows.len();
        let kept = best_episodes(&self.returns(), rows, percent);
        self.keep(&kept);
    }

    /// Moves all reward of each episode to its last step. (Chen et al. 2021, "delayed returns".)
    pub fn delay_rewards(&mut self) {
        for (episode, sum) in self.episodes.iter().zip(self.returns()) {
            let rewards = &mut self.rewards[episode.rows.clone()];
            rewards.fill(0.0);
            if let Some(last) = rewards.last_mut() {
                *last = sum as f32;
            }
        }
    }

    /// Drops all episodes but these, which ascend; in place, since the data may fill half the memory.
    pub(super) fn keep(&mut self, kept: &[usize]) {
        let (mut end, mut ends) = (0, 0);
        let mut episodes = Vec::with_capacity(kept.len());
        for &episode in kept {
            let mut episode = self.episodes[episode].clone();
            let rows = episode.rows;
            self.observations.copy_within(rows.clone(), end);
            self.actions.copy_within(rows.clone(), end);
            self.rewards.copy_within(rows.clone(), end);
            episode.rows = end..end + rows.len();
            end = episode.rows.end;
            if let Some(last) = &mut episode.last {
                self.last_observations.copy_within(*last..*last + 1, ends);
                *last = ends;
                ends += 1;
            }
            episodes.push(episode);
        }
        self.episodes = episodes;
        self.observations.truncate(end);
        self.actions.truncate(end);
        self.rewards.truncate(end);
        self.rewards.shrink_to_fit();
        self.last_observations.truncate(ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Column, Episode};

    /// Episodes of the given lengths and returns; row i has i in every column. What came after the last action is
    /// known of episodes longer than one step: 100 + the row of it.
    fn data(episodes: &[(usize, f32)]) -> Dataset {
        let rows: usize = episodes.iter().map(|&(steps, _)| steps).sum();
        let numbers: Vec<f32> = (0..rows).map(|row| row as f32).collect();
        let mut data = Dataset {
            observations: Column::unbounded(2, numbers.iter().flat_map(|&x| [x; 2]).collect()),
            actions: Column::unbounded(1, numbers),
            rewards: Vec::new(),
            episodes: Vec::new(),
            last_observations: Column::unbounded(1, Vec::new()),
            sources: Vec::new(),
        };
        for &(steps, total) in episodes {
            let start = data.len();
            data.rewards.extend(vec![total / steps as f32; steps]);
            let last = (steps > 1).then(|| {
                let after = Column::unbounded(1, vec![100.0 + (data.len() - 1) as f32]);
                data.last_observations.append(after).unwrap();
                data.last_observations.len() - 1
            });
            data.episodes.push(Episode {
                rows: start..start + steps,
                terminated: total > 5.0,
                last,
                source: 0,
            });
        }
        data
    }

    fn top(percent: f64) -> (Vec<usize>, Vec<f32>) {
        let mut data = data(&[(4, 1.0), (2, 8.0), (1, 3.0), (1, 8.0), (2, 2.0)]);
        data.keep_top(percent);
        let (states, actions) = (data.observations.vectors(), data.actions.vectors());
        let (states, actions) = (states.unwrap(), actions.unwrap().to_vec());
        assert_eq!(
            states,
            actions.iter().flat_map(|&x| [x; 2]).collect::<Vec<_>>()
        );
        let ends: Vec<usize> = data.episodes.iter().map(|e| e.rows.end).collect();
        assert_eq!(ends.last(), Some(&data.len()));
        let mut known = 0;
        for episode in &data.episodes {
            assert_eq!(episode.last.is_some(), episode.rows.len() > 1);
            if let Some(last) = episode.last {
                known += 1;
                let after = data.last_observations.vectors().unwrap()[last];
                assert_eq!(after, 100.0 + actions[episode.rows.end - 1]);
            }
        }
        assert_eq!(data.last_observations.len(), known);
        (ends, actions)
    }

    #[test]
    fn the_best_episodes_are_kept_in_their_order() {
        // By return: rows 4 and 5 (8), row 7 (8), row 6 (3), rows 8 and 9 (2), rows 0 to 3 (1).
        assert_eq!(top(30.0), (vec![2, 3], vec![4.0, 5.0, 7.0]));
        assert_eq!(top(40.0), (vec![2, 3, 4], vec![4.0, 5.0, 6.0, 7.0]));
        // The next one does not fit whole, and what comes after it is worse.
        assert_eq!(top(59.0).1, [4.0, 5.0, 6.0, 7.0]);
        assert_eq!(top(60.0).1, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(top(100.0).1.len(), 10);
        // At least one, whatever the limit.
        assert_eq!(top(0.1).1, [4.0, 5.0]);
    }

    #[test]
    fn episodes_are_split_off_whole_and_evenly() {
        let lens = [2, 1, 3, 1, 2, 1, 1, 1, 1, 1];
        let mut kept = data(&lens.map(|len| (len, 1.0)));
        let taken = kept.split_off(20.0);
        let rows = |data: &Dataset| {
            let rows = data.episodes.iter().map(|episode| episode.rows.clone());
            rows.collect::<Vec<_>>()
        };
        assert_eq!(rows(&taken), [0..2, 2..3]);
        let actions = |data: &Dataset| data.actions.vectors().unwrap().to_vec();
        assert_eq!(actions(&taken), [7.0, 8.0, 13.0]);
        let states = taken.observations.vectors().unwrap();
        assert_eq!(states, [7.0, 7.0, 8.0, 8.0, 13.0, 13.0]);
        assert_eq!(taken.rewards, [0.5, 0.5, 1.0]);
        assert_eq!(taken.last_observations.vectors().unwrap(), [108.0]);
        assert_eq!(kept.last_observations.vectors().unwrap(), [101.0, 105.0]);
        let lasts = |data: &Dataset| data.episodes.iter().map(|e| e.last).collect::<Vec<_>>();
        assert_eq!(lasts(&taken), [Some(0), None]);
        assert_eq!(lasts(&kept)[..3], [Some(0), None, Some(1)]);
        assert_eq!(kept.episodes.len(), 8);
        let rest: Vec<f32> = (0..7).chain(9..13).map(|i| i as f32).collect();
        assert_eq!(actions(&kept), rest);
        assert!(kept.split_off(0.0).episodes.is_empty());
        assert_eq!(actions(&kept), rest);
    }

    #[test]
    fn nothing_can_be_selected_from() {
        let mut none = data(&[]);
        none.keep_top(50.0);
        assert!(none.episodes.is_empty());
    }

    #[test]
    fn a_selection_is_told_in_words() {
        let mut recipe = config::Data::default();
        assert_eq!(describe("a,b", &recipe), "a,b");
        recipe.top_percent = 12.5;
        recipe.delayed_reward = true;
        assert_eq!(
            describe("a", &recipe),
            "a, best 12.5 % by return, delayed reward"
        );
    }

    #[test]
    fn a_delayed_reward_is_the_return() {
        let mut data = data(&[(4, 2.0), (1, 8.0)]);
        data.delay_rewards();
        assert_eq!(data.rewards, [0.0, 0.0, 0.0, 2.0, 8.0]);
        assert_eq!(data.returns(), [2.0, 8.0]);
        assert_eq!(data.returns_to_go(), [2.0, 2.0, 2.0, 2.0, 8.0]);
    }
}

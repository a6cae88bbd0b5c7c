//! Episodes that a file holds one by one, gathered to a [`Dataset`].

use super::{Column, Dataset, Episode, Problem, Reading, Source, join};

/// One episode of T steps as a file has it.
pub struct Whole {
    /// Before each action, (T).
    pub observations: Column,
    /// After the last action, (1), if the file has it.
    pub last_observation: Option<Column>,
    /// (T)
    pub actions: Column,
    /// (T)
    pub rewards: Vec<f32>,
    /// Whether it ended in a terminal state; none: nothing says that it ended.
    pub terminated: Option<bool>,
}

/// A data set that grows by whole episodes.
pub struct Gathering<'a> {
    reading: &'a Reading,
    source: Source,
    data: Option<Dataset>,
    /// Episodes given, good or bad.
    given: usize,
    /// What was wrong with those that were left out.
    bad: Vec<Problem>,
}

impl<'a> Gathering<'a> {
    /// Nothing yet of `source`.
    pub fn new(source: Source, reading: &'a Reading) -> Self {
        Self {
            reading,
            source,
            data: None,
            given: 0,
            bad: Vec::new(),
        }
    }

    /// Adds an episode, whose arrays are called `key` of `observations` and `actions` in errors. One without an end is
    /// counted as unfinished.
    ///
    /// # Errors
    /// What is wrong with it, unless bad episodes are to be left out and it may be right in others.
    pub fn add(
        &mut self,
        key: impl Fn(&str) -> String,
        whole: Result<Whole, Problem>,
    ) -> Result<(), Problem> {
        self.given += 1;
        match whole.and_then(|whole| self.push(key, whole)) {
            Err(problem) if problem.is_of_an_episode() => {
                if self.reading.skip_bad_episodes {
                    self.bad.push(problem);
                    return Ok(());
                }
                Err(Problem::BadEpisode(Box::new(problem)))
            }
            other => other,
        }
    }

    fn push(&mut self, key: impl Fn(&str) -> String, whole: Whole) -> Result<(), Problem> {
        let steps = whole.rewards.len();
        let data = self.data.get_or_insert_with(|| Dataset {
            observations: whole.observations.emptied(),
            actions: whole.actions.emptied(),
            rewards: Vec::new(),
            episodes: Vec::new(),
            last_observations: whole.observations.emptied(),
            sources: vec![self.source.clone()],
        });
        let limit = self.reading.max_episode_steps;
        let terminated = match (whole.terminated, limit) {
            (None, Some(limit)) if steps > limit => {
                let key = key("rewards");
                return Err(Problem::BeyondLimit { key, steps, limit });
            }
            (None, Some(limit)) if steps == limit => false,
            (None, _) => {
                data.sources[0].unfinished += steps;
                return Ok(());
            }
            (Some(terminated), _) => terminated,
        };
        const FIRST: &str = "the first episode";
        // Both before either is changed.
        for (name, mut to, from) in [
            (
                "observations",
                data.observations.emptied(),
                &whole.observations,
            ),
            ("actions", data.actions.emptied(), &whole.actions),
        ] {
            join(key(name), &mut to, from.emptied(), FIRST)?;
        }
        join(
            key("observations"),
            &mut data.observations,
            whole.observations,
            FIRST,
        )?;
        join(key("actions"), &mut data.actions, whole.actions, FIRST)?;
        let mut last = None;
        if let Some(observation) = whole.last_observation {
            last = Some(data.last_observations.len());
            join(
                key("observations"),
                &mut data.last_observations,
                observation,
                FIRST,
            )?;
        }
        let start = data.rewards.len();
        data.rewards.extend(whole.rewards);
        data.episodes.push(Episode {
            rows: start..start + steps,
            terminated,
            last,
            source: 0,
        });
        Ok(())
    }

    /// Whether an episode was left out.
    pub fn has_left_out(&self) -> bool {
        !self.bad.is_empty()
    }

    /// Steps so far, those of unfinished episodes among them.
    pub fn steps(&self) -> usize {
        let steps = |data: &Dataset| data.len() + data.sources[0].unfinished;
        self.data.as_ref().map_or(0, steps)
    }

    /// All episodes. `flags` and `set` say what marks their ends, and what should.
    ///
    /// # Errors
    /// If there is none, or none with an end.
    pub fn finish(self, flags: &'static str, set: &'static str) -> Result<Dataset, Problem> {
        let Some(mut data) = self.data else {
            let first = self.bad.into_iter().next();
            return Err(first.unwrap_or(Problem::Empty {
                key: "observations".into(),
                shape: vec![0],
            }));
        };
        if data.episodes.is_empty() {
            let rows = data.sources[0].unfinished;
            return Err(Problem::NoEpisodeEnd { rows, flags, set });
        }
        if let Some(note) = left_out(&self.bad, self.given) {
            data.sources[0].notes.push(note);
        }
        Ok(data)
    }
}

/// `2 of 9 episodes left out: …`, with the first reasons.
fn left_out(bad: &[Problem], of: usize) -> Option<String> {
    const REASONS: usize = 3;
    // Without the remedy: this is one.
    let cause = |problem: &Problem| {
        let message = problem.to_string();
        message.split("; ").next().unwrap_or_default().to_owned()
    };
    let mut reasons: Vec<String> = bad.iter().take(REASONS).map(cause).collect();
    if bad.len() > REASONS {
        reasons.push(format!("and {} more", bad.len() - REASONS));
    }
    (!bad.is_empty()).then(|| {
        let count = bad.len();
        format!("{count} of {of} episodes left out: {}", reasons.join(", "))
    })
}

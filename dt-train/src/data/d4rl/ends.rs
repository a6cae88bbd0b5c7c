//! Where the episodes of flat arrays end: what flags say of it, what `next_observations` shows, and a limit.

use super::{ARRAYS, FLAGS};
use crate::data::h5::Arrays;
use crate::data::{Column, Dataset, Episode, Problem};

/// The arrays that tell where episodes end, by the name they have in the file.
pub struct Flags {
    /// The step ended in a terminal state.
    terminals: Option<&'static str>,
    /// The step was the last one before a time limit.
    timeouts: Option<&'static str>,
    /// The step was the last one of its episode, for either reason.
    ends: Option<&'static str>,
}

impl Flags {
    /// Finds them. All that this layout needs has to be there, and what is missing is asked for at once.
    pub fn find(arrays: &Arrays<'_>, limit: Option<usize>) -> Result<Self, Problem> {
        let [terminals, timeouts, ends] = [
            ["terminals", "terminations", "terminated"],
            ["timeouts", "truncations", "truncated"],
            ["dones", "done", "episode_terminals"],
        ]
        .map(|names| {
            let is_there = |name: &&str| arrays.group.link_exists(name);
            names.into_iter().find(is_there)
        });
        let mut needed = ARRAYS.to_vec();
        // Either of the first two tells half of it; the third, or a limit, tells the other.
        if ends.is_none() && limit.is_none() {
            let or_limit = "a bool array (N), or --max-episode-steps N if every episode that does not end in a \
                            terminal state has N steps";
            let flags = [
                (terminals, "terminals", FLAGS),
                (timeouts, "timeouts", or_limit),
            ];
            let missing = flags.into_iter().filter(|(found, ..)| found.is_none());
            needed.extend(missing.map(|(_, name, needs)| (name, needs)));
        }
        arrays.require(&needed)?;
        Ok(Self {
            terminals,
            timeouts,
            ends,
        })
    }

    /// Reads those that say something the others do not.
    pub fn read(&self, arrays: &Arrays<'_>, rows: usize) -> Result<Marks, Problem> {
        let mut ends = vec![false; rows];
        let mut read = |name: Option<&str>| -> Result<_, Problem> {
            let Some(name) = name else { return Ok(None) };
            let flags = arrays.flags(name, rows, "observations")?;
            let marks = ends.iter_mut().zip(&flags);
            marks.for_each(|(end, &flag)| *end |= flag);
            Ok(Some(flags))
        };
        let (terminals, timeouts) = (read(self.terminals)?, read(self.timeouts)?);
        let terminals = match (terminals, timeouts) {
            (Some(terminals), Some(_)) => Some(terminals),
            (Some(terminals), None) => {
                read(self.ends)?;
                Some(terminals)
            }
            // An end that is no time-out is terminal.
            (None, Some(timeouts)) => {
                let ends = read(self.ends)?.unwrap_or_else(|| vec![false; rows]);
                let both = ends.iter().zip(&timeouts);
                Some(both.map(|(&end, &timeout)| end && !timeout).collect())
            }
            (None, None) => read(self.ends)?.is_none().then(|| vec![false; rows]),
        };
        Ok(Marks {
            ends,
            terminals,
            unmarked: Vec::new(),
        })
    }

    /// Their names, for errors.
    pub fn words(&self) -> String {
        let names = [self.terminals, self.timeouts, self.ends];
        let names = names.into_iter().flatten().map(|name| format!("`{name}`"));
        names.collect::<Vec<_>>().join(" and ")
    }

    /// What is odd about the episodes they make.
    pub fn notes(&self, marks: &Marks, episodes: &[Episode], limit: Option<usize>) -> Vec<String> {
        let count = episodes.len();
        let mut notes = Vec::new();
        if let (None, Some(ends)) = (&marks.terminals, self.ends) {
            let terminated = episodes.iter().filter(|episode| episode.terminated).count();
            notes.push(match limit {
                Some(limit) => format!(
                    "`{ends}` does not say which ends are terminal: those before step {limit} count as such, \
                     {terminated} of {count}"
                ),
                None => format!(
                    "`{ends}` does not say which ends are terminal: none counts as such; if N steps are the time \
                     limit, --max-episode-steps N lets those before it count"
                ),
            });
        }
        let at_limit = |episode: &&Episode| !marks.ends[episode.rows.end - 1];
        let cut = episodes.iter().filter(at_limit).count() - marks.unmarked.len();
        if let (1.., Some(limit)) = (cut, limit) {
            notes.push(format!(
                "{cut} of {count} episodes end after {limit} steps (--max-episode-steps): nothing in the file marks \
                 their ends"
            ));
        }
        notes
    }
}

/// Steps that are the last of their episode.
pub struct Marks {
    /// A flag says so, (N).
    pub ends: Vec<bool>,
    /// The step ended in a terminal state, (N); none: nobody knows.
    terminals: Option<Vec<bool>>,
    /// No flag says so, but the next row does not go on; ascending.
    unmarked: Vec<usize>,
}

impl Marks {
    /// Leaves the last `steps` rows out, if they are what follows the last end that a flag marks.
    pub fn leave_out(&mut self, steps: usize) {
        let unmarked = self.ends.iter().rev().take_while(|&&end| !end).count();
        if unmarked == steps {
            self.ends.truncate(self.ends.len() - steps);
        }
    }

    /// The finished ones. Where nothing marks an end, one is over after `limit` steps.
    pub fn episodes(&self, limit: Option<usize>) -> Vec<Episode> {
        let mut unmarked = self.unmarked.iter().peekable();
        let mut episodes = Vec::new();
        let mut start = 0;
        for (row, &end) in self.ends.iter().enumerate() {
            let steps = row + 1 - start;
            let is_limit = limit == Some(steps);
            if end | is_limit | unmarked.next_if_eq(&&row).is_some() {
                let terminated = match &self.terminals {
                    Some(terminals) => terminals[row],
                    None => end && limit.is_some_and(|limit| steps < limit),
                };
                episodes.push(Episode {
                    rows: start..row + 1,
                    terminated,
                    ..Episode::default()
                });
                start = row + 1;
            }
        }
        episodes
    }

    /// Steps of the longest stretch in which nothing marks an end.
    fn longest(&self) -> usize {
        let mut unmarked = self.unmarked.iter().peekable();
        let (mut longest, mut start) = (0, 0);
        for (row, end) in self.ends.iter().enumerate() {
            longest = std::cmp::max(longest, row + 1 - start);
            if end | unmarked.next_if_eq(&&row).is_some() {
                start = row + 1;
            }
        }
        longest
    }
}

/// What came after some of the actions: the last row, those with the mark of an end, and those that the next row does
/// not go on from.
pub struct After {
    /// Numbers of an observation.
    width: usize,
    /// Those rows, ascending.
    rows: Vec<usize>,
    /// What came after them, (rows, width).
    values: Vec<f32>,
    /// The rows that no flag marks but the next one does not go on from, ascending.
    breaks: Vec<usize>,
    /// Steps that no flag marks.
    inside: usize,
    /// Of these, those after which the next row is not the same to the bit.
    different: usize,
}

impl After {
    const KEY: &str = "next_observations";

    /// None if the file does not have it, or not in a form that can be read, which is then noted. Rows beyond `ends` say
    /// nothing.
    pub fn read(
        arrays: &Arrays<'_>,
        observations: &Column,
        ends: &[bool],
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>, Problem> {
        let key = Self::KEY;
        if !arrays.group.link_exists(key) {
            return Ok(None);
        }
        let (rows, width) = (observations.len(), observations.width());
        let Some(observations) = observations.vectors() else {
            notes.push(format!("`{key}` is read with vectors alone: left out"));
            return Ok(None);
        };
        let Some(blocks) = arrays.blocks(key, [rows, width]) else {
            let needed = [rows, width];
            notes.push(format!("`{key}` is no float array {needed:?}: left out"));
            return Ok(None);
        };
        let mut after = Self {
            width,
            rows: Vec::new(),
            values: Vec::new(),
            breaks: Vec::new(),
            inside: 0,
            different: 0,
        };
        for block in blocks {
            let (first, values) = block?;
            for (row, next) in (first..ends.len()).zip(values.chunks_exact(width)) {
                let mut keep = ends[row] || row + 1 == ends.len();
                if !keep {
                    let following = &observations[(row + 1) * width..][..width];
                    after.inside += 1;
                    if next != following {
                        after.different += 1;
                        keep = differ(next, following);
                        after.breaks.extend(keep.then_some(row));
                    }
                }
                if keep {
                    after.rows.push(row);
                    after.values.extend_from_slice(next);
                }
            }
        }
        Ok(Some(after))
    }

    /// Marks the ends of episodes that nothing else does, if a limit is given: without one, they are refused, since it
    /// cannot be told whether they are ends or steps are missing. Returns what is odd, in words.
    pub fn unmarked_ends(
        &self,
        marks: &mut Marks,
        limit: Option<usize>,
    ) -> Result<Option<String>, Problem> {
        let Self {
            inside, different, ..
        } = *self;
        let (key, count) = (Self::KEY, self.breaks.len());
        let differs = || {
            format!(
                "`{key}` differs from the observation of the next row in {different} of {inside} steps inside episodes"
            )
        };
        match self.breaks.first() {
            None => Ok((different > 0).then(|| differs() + ", by no more than rounding")),
            // So many are no ends: it is another observation, or the order of the rows is none.
            Some(_) if 2 * count > inside => Ok(Some(format!(
                "{}; if the rows are not in the order of the steps, no sequence can be learned from them",
                differs()
            ))),
            Some(&row) => {
                marks.unmarked.clone_from(&self.breaks);
                if limit.is_some() {
                    return Ok(Some(format!(
                        "episodes end at {count} rows that no flag marks, as `{key}` shows, the first at row {row}: \
                         they count as cut off"
                    )));
                }
                Err(Problem::UnmarkedEnd {
                    key: key.into(),
                    row,
                    count,
                    longest: marks.longest(),
                })
            }
        }
    }

    /// Adds what came after the last action of each episode, or says why not.
    pub fn add_last(self, data: &mut Dataset) -> Option<String> {
        let Self { width, .. } = self;
        let observations = data.observations.vectors()?;
        let mut lasts = Vec::with_capacity(data.episodes.len() * width);
        for episode in &data.episodes {
            let row = episode.rows.end - 1;
            lasts.extend_from_slice(match self.rows.binary_search(&row) {
                Ok(i) => &self.values[i * width..][..width],
                // The next row goes on from here.
                Err(_) => &observations[(row + 1) * width..][..width],
            });
        }
        if let Some(i) = lasts.iter().position(|value| !value.is_finite()) {
            let row = data.episodes[i / width].rows.end - 1;
            let key = Self::KEY;
            return Some(format!(
                "`{key}`[{row}] is not finite: all of it is left out"
            ));
        }
        let episodes = data.episodes.iter_mut().enumerate();
        episodes.for_each(|(row, episode)| episode.last = Some(row));
        data.last_observations = Column::unbounded(width, lasts);
        None
    }
}

/// Whether two observations are two: by more than it takes to store one of them with 16 bits.
pub fn differ(a: &[f32], b: &[f32]) -> bool {
    let differ = |(&a, &b): (&f32, &f32)| {
        let largest = if a.abs() > b.abs() { a.abs() } else { b.abs() };
        (a - b).abs() > largest / 512.0 + 1e-6
    };
    a.iter().zip(b).any(differ)
}

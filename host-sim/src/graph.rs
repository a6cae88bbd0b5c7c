//! The shortest way through a graph: the Decision Transformer paper's first example (Chen et al. 2021, figure 2).
//!
//! 20 nodes, each of the 380 directed edges there with probability 0.1: 38 of them are. A choice is the node to go to;
//! where no edge leads there, the walker stays. Node 0 is the goal, and every other node has a way to it, of 5 edges at
//! most.
//!
//! ```text
//! reward: 0 for the step that arrives at the goal, −1 for any other
//! terminated: at the goal
//! observation: the walker's node, one-hot (20)
//! ```
//!
//! So a walk that arrives after d steps returns 1 − d, and one that does not within 10 steps returns −10. The paper names
//! the node by its number; networks here read vectors, in which numbers would be neighbours that the nodes are not.
//! Few of the 20 choices lead anywhere, so a random walker chooses among the edges ([`is_open`]), as the paper's does.

use crate::env::{Env, EnvSpec, StateError, Step, check_state};
use crate::space::Space;

/// Number of nodes.
pub const NODES: usize = 20;
/// Where walks end.
pub const GOAL: usize = 0;

/// What `Graph` is called and looks like. Nobody publishes returns to score it by.
pub const SPEC: EnvSpec<'static> = EnvSpec {
    id: "graph",
    observation: Space::Box {
        low: &[0.0; NODES],
        high: &[1.0; NODES],
    },
    action: Space::Discrete { n: NODES },
    max_episode_steps: 10,
    control_period_us: 100_000,
    score_range: None,
};

/// Bit j of the i-th is the edge from i to j. Drawn from ChaCha8, whose key is the little-endian number 11: for each i and
/// then each j ≠ i in order, the edge is there if the next number in [0, 1) is below 0.1. 11 is the first key whose graph leads
/// to the goal from everywhere within the time limit; a test draws it again.
const EDGES: [u32; NODES] = [
    0x0, 0x200, 0x10, 0x2c800, 0x5, 0x4, 0x10030, 0x4100, 0x420, 0x20, 0x44005, 0x5000, 0x44000,
    0x80000, 0x200, 0x2020, 0x40004, 0x40026, 0x4, 0x2400,
];

/// Whether an edge leads from one node to another.
#[must_use]
pub fn is_edge(from: usize, to: usize) -> bool {
    EDGES
        .get(from)
        .is_some_and(|edges| to < NODES && edges >> to & 1 == 1)
}

/// Whether an edge leads to node `choice` from the node that is observed: Gymnasium's action mask. A random walker draws
/// among these.
#[must_use]
pub fn is_open(observation: &[f32], choice: usize) -> bool {
    let node = observation.iter().position(|&value| value == 1.0);
    node.is_some_and(|node| is_edge(node, choice))
}

/// Edges on the shortest way from each node to the goal (breadth-first search).
#[must_use]
pub fn distances() -> [u32; NODES] {
    let mut distances = [u32::MAX; NODES];
    distances[GOAL] = 0;
    for distance in 0..NODES as u32 {
        for from in 0..NODES {
            let arrives = |to| is_edge(from, to) && distances[to] == distance;
            if distances[from] == u32::MAX && (0..NODES).any(arrives) {
                distances[from] = distance + 1;
            }
        }
    }
    distances
}

/// Where the episode of a seed starts: each node but the goal, in turn, so that 19 consecutive episodes are all there are.
#[must_use]
pub const fn start(seed: u64) -> usize {
    1 + (seed % (NODES as u64 - 1)) as usize
}

/// The graph and who walks on it. Stands on node 1 until [`Env::reset`] or [`Env::set_state`].
#[derive(Clone, Debug)]
pub struct Graph {
    node: usize,
    steps: u32,
}

impl Graph {
    /// A walker on node 1.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            node: start(0),
            steps: 0,
        }
    }

    /// Where the walker is.
    #[must_use]
    pub const fn node(&self) -> usize {
        self.node
    }
}

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for Graph {
    fn spec(&self) -> EnvSpec<'_> {
        SPEC
    }

    /// See [`start`]: nothing is drawn.
    fn reset(&mut self, seed: u64) {
        *self = Self {
            node: start(seed),
            steps: 0,
        };
    }

    /// `action` is the index of a node; what is none earns NaN, so that it is noticed.
    fn step(&mut self, action: &[f32]) -> Step {
        self.steps = self.steps.saturating_add(1);
        let is_choice = SPEC.action.contains(action);
        if is_choice && is_edge(self.node, action[0] as usize) {
            self.node = action[0] as usize;
        }
        let terminated = self.node == GOAL;
        Step {
            reward: match (is_choice, terminated) {
                (false, _) => f64::NAN,
                (true, true) => 0.0,
                (true, false) => -1.0,
            },
            terminated,
            truncated: self.steps >= SPEC.max_episode_steps,
        }
    }

    fn observation(&self, out: &mut [f32]) {
        out.fill(0.0);
        out[self.node] = 1.0;
    }

    fn observation_f64(&self, out: &mut [f64]) {
        out.fill(0.0);
        out[self.node] = 1.0;
    }

    /// `qpos` is `[node]`, `qvel` is empty.
    fn set_state(&mut self, qpos: &[f64], qvel: &[f64]) -> Result<(), StateError> {
        check_state("qpos", qpos, 1)?;
        check_state("qvel", qvel, 0)?;
        let node = (0..NODES).find(|&node| node as f64 == qpos[0]);
        let node = node.ok_or(StateError::NoSuchPlace {
            field: "qpos",
            index: 0,
        })?;
        *self = Self { node, steps: 0 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn drawn(seed: u64) -> [u32; NODES] {
        let mut random = Random::new(seed);
        core::array::from_fn(|from| {
            let there = |to: &usize| *to != from && random.unit() < 0.1;
            (0..NODES).filter(there).map(|to| 1 << to).sum()
        })
    }

    #[test]
    fn the_graph_is_the_one_that_is_drawn() {
        assert_eq!(drawn(11), EDGES);
        assert_ne!(drawn(10), EDGES);
        let edges: u32 = EDGES.iter().map(|edges| edges.count_ones()).sum();
        assert_eq!(edges, 38);
    }

    #[test]
    fn every_node_has_a_way_and_neighbours_differ_by_one() {
        let distances = distances();
        assert_eq!((distances[GOAL], distances.iter().max()), (0, Some(&5)));
        for from in (0..NODES).filter(|&from| from != GOAL) {
            let next = (0..NODES).filter(|&to| is_edge(from, to));
            assert_eq!(
                next.map(|to| distances[to] + 1).min(),
                Some(distances[from])
            );
        }
    }

    #[test]
    fn who_follows_an_edge_arrives_and_who_does_not_stays() {
        let mut env = Graph::new();
        env.set_state(&[4.0], &[]).unwrap();
        // There are edges from 4 to 0 and 2.
        let stays = env.step(&[7.0]);
        assert_eq!(
            (env.node(), stays.reward, stays.terminated),
            (4, -1.0, false)
        );
        let moves = env.step(&[2.0]);
        assert_eq!(
            (env.node(), moves.reward, moves.terminated),
            (2, -1.0, false)
        );
        env.set_state(&[4.0], &[]).unwrap();
        let arrives = env.step(&[0.0]);
        assert_eq!(
            (env.node(), arrives.reward, arrives.terminated),
            (GOAL, 0.0, true)
        );
        // It goes on, but nowhere.
        let after = env.step(&[4.0]);
        assert_eq!(
            (env.node(), after.reward, after.terminated),
            (GOAL, 0.0, true)
        );
    }

    #[test]
    fn a_walk_that_does_not_arrive_is_cut_off_after_ten_steps() {
        let mut env = Graph::new();
        env.reset(5);
        for step in 1..=12 {
            assert_eq!(env.step(&[19.0]).truncated, step >= 10, "step {step}");
        }
        env.reset(5);
        assert!(!env.step(&[19.0]).truncated);
    }

    #[test]
    fn nineteen_seeds_start_everywhere_but_at_the_goal() {
        let mut env = Graph::new();
        let mut seen = [0; NODES];
        for seed in 1000..1019 {
            env.reset(seed);
            seen[env.node()] += 1;
        }
        assert_eq!((seen[GOAL], seen[1..].iter().all(|&n| n == 1)), (0, true));
    }

    #[test]
    fn open_choices_are_the_edges_of_what_is_observed() {
        let mut env = Graph::new();
        env.set_state(&[10.0], &[]).unwrap();
        let mut observation = [0.5; NODES];
        env.observation(&mut observation);
        assert!(SPEC.observation.contains(&observation));
        let open = (0..25).filter(|&to| is_open(&observation, to));
        assert!(open.eq([0, 2, 14, 18]));
        assert!(!is_open(&[0.0; NODES], 2));
    }

    #[test]
    fn an_action_that_is_no_choice_shows_in_the_reward() {
        for action in [20.0, -1.0, 0.5, f32::NAN] {
            let mut env = Graph::new();
            assert!(env.step(&[action]).reward.is_nan(), "{action}");
        }
    }

    #[test]
    fn refused_states_leave_the_walker_alone() {
        let mut env = Graph::new();
        for place in [20.0, -1.0, 0.5] {
            let index = 0;
            let field = "qpos";
            assert_eq!(
                env.set_state(&[place], &[]),
                Err(StateError::NoSuchPlace { field, index })
            );
        }
        assert!(env.set_state(&[1.0], &[0.0]).is_err() && env.set_state(&[f64::NAN], &[]).is_err());
        assert_eq!(env.node(), start(0));
    }
}

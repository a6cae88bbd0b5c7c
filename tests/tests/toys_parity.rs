//! host-sim's graph and Key-to-Door against a second implementation of their definitions.
//!
//! `data/toys.safetensors` was made by `reference/toys.py` (its docstring says how): all nodes, walks along edges and against
//! them, keys taken, missed and passed by, 60 steps and more, and what is drawn from seeds.

use host_sim::env::Env;
use host_sim::graph::{Graph, NODES, distances, is_edge};
use host_sim::key_to_door::KeyToDoor;
use tests::plant::{Case, Episodes};

static DATA: &[u8] = include_bytes!("../data/toys.safetensors");

/// Steps `env` through a case: whatever it shows, earns and says of its end is the reference's.
fn relive(case: &Case<'_>, env: &mut dyn Env) {
    let name = case.name;
    let width = env.spec().state_dim();
    let seen = |env: &dyn Env| {
        let mut observation = vec![0.0; width];
        env.observation(&mut observation);
        observation
    };
    let expected: Vec<f32> = case
        .bytes("observations")
        .iter()
        .map(|&x| x.into())
        .collect();
    let mut expected = expected.chunks_exact(width);
    let rewards = case.numbers("rewards");
    let (terminated, truncated) = (case.flags("terminated"), case.flags("truncated"));
    env.set_state(&case.numbers("start"), &[]).unwrap();
    assert_eq!(seen(env), expected.next().unwrap(), "{name}");
    for (t, &action) in case.bytes("actions").iter().enumerate() {
        let step = env.step(&[action.into()]);
        let at = format!("{name}, step {t}");
        assert_eq!(seen(env), expected.next().unwrap(), "{at}");
        assert_eq!(step.reward, rewards[t], "{at}");
        assert_eq!(step.terminated, terminated[t], "{at}");
        assert_eq!(step.truncated, truncated[t], "{at}");
    }
    assert!(expected.next().is_none());
}

#[test]
fn whole_episodes_are_those_of_the_reference() {
    let file = Episodes::new(DATA);
    let of = |kind: &'static str| -> Vec<Case<'_>> {
        let cases = file.cases().into_iter();
        cases.filter(|case| case.name.starts_with(kind)).collect()
    };
    let (graph, key) = (of("graph"), of("key"));
    assert_eq!((graph.len(), key.len()), (25, 17));
    for case in &graph {
        relive(case, &mut Graph::new());
    }
    for case in &key {
        relive(case, &mut KeyToDoor::new());
    }
    // What is compared has all that can happen in it.
    let ends = |cases: &[Case<'_>], reward: f64| {
        let with = cases.iter().filter(|case| {
            let ends = case
                .flags("terminated")
                .into_iter()
                .zip(case.numbers("rewards"));
            ends.into_iter().any(|end| end == (true, reward))
        });
        with.count()
    };
    let cut_off = |case: &&Case<'_>| !case.flags("terminated").contains(&true);
    assert!(ends(&graph, 0.0) > 5 && graph.iter().filter(cut_off).count() > 5);
    assert!(ends(&key, 1.0) > 2 && ends(&key, 0.0) > 4);
    assert!(key.iter().filter(cut_off).count() > 4);
}

#[test]
fn what_is_drawn_from_seeds_is_what_another_chacha8_draws() {
    let file = Episodes::new(DATA);
    let edges = file.case("edges");
    for (i, there) in edges.flags("matrix").into_iter().enumerate() {
        assert_eq!(is_edge(i / NODES, i % NODES), there, "{i}");
    }
    let known = edges.bytes("distances").iter().map(|&d| u32::from(d));
    assert!(known.eq(distances()));
    let starts: Vec<[f64; 5]> = file.case("seeds").f64s("starts");
    assert_eq!(starts.len(), 200);
    let mut env = KeyToDoor::new();
    for [seed, place @ ..] in starts {
        env.reset(seed as u64);
        let (agent, key) = (env.agent(), env.key());
        let drawn = [agent.row, agent.column, key.row, key.column];
        assert_eq!(drawn.map(f64::from), place, "seed {seed}");
    }
}

//! Physics parity: what an environment does from a given state under given actions.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::env::{Env, Fault};
use crate::space::Space;

/// The first line of the input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    qpos: Vec<f64>,
    qvel: Vec<f64>,
}

/// Every further line: a vector of f64, since numbers written from f64 must be rounded as f64, not as the decimals they
/// print as; where actions are choices, an index.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Act<T> {
    action: T,
}

/// One line of the output.
#[derive(Serialize)]
struct Outcome<'a> {
    observation: &'a [f64],
    reward: f64,
    terminated: bool,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A line of the input is not what it should be.
    #[error("line {line}: {problem}; expected {expected}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
        /// What should stand there.
        expected: String,
    },
    /// The input could not be read.
    #[error("line {line}: {source}")]
    Read {
        /// Counted from 1.
        line: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The output could not be written.
    #[error("cannot write the result")]
    Write(#[source] io::Error),
}

/// Steps `env` through `input` and writes what happens to `output`, both JSON lines.
///
/// The first line is `{"qpos":[…],"qvel":[…]}`, every further one `{"action":[…]}`, or `{"action":k}` where actions are
/// choices; each action gives `{"observation":[…],"reward":…,"terminated":…,"truncated":…}`. It goes on after
/// termination and after the time limit, with `truncated` true from there on. Where the simulation
/// has broken down, `"fault"` is added ([`Env::fault`]). Actions are rounded to f32, as policies
/// give them. Blank lines are skipped.
///
/// # Errors
/// [`ReplayError`]; outcomes of the lines before have then been written.
pub fn replay(
    env: &mut dyn Env,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), ReplayError> {
    let mut observation = vec![0.0; env.spec().state_dim()];
    let mut started = false;
    let mut last = 0;
    for (index, text) in input.lines().enumerate() {
        let line = index + 1;
        last = line;
        let text = text.map_err(|source| ReplayError::Read { line, source })?;
        if text.trim().is_empty() {
            continue;
        }
        if !started {
            start(env, &text).map_err(|problem| bad_start(line, problem))?;
            started = true;
            continue;
        }
        let action = parse_action(&text, env.spec().action).map_err(|(problem, expected)| {
            ReplayError::Line {
                line,
                problem,
                expected,
            }
        })?;
        let step = env.step(&action);
        env.observation_f64(&mut observation);
        let outcome = Outcome {
            observation: &observation,
            reward: step.reward,
            terminated: step.terminated,
            truncated: step.truncated,
            fault: env.fault(),
        };
        serde_json::to_writer(&mut output, &outcome)
            .map_err(io::Error::from)
            .and_then(|()| output.write_all(b"\n"))
            .map_err(ReplayError::Write)?;
    }
    if !started {
        return Err(bad_start(last + 1, "the input ends".into()));
    }
    output.flush().map_err(ReplayError::Write)
}

fn start(env: &mut dyn Env, text: &str) -> Result<(), String> {
    let Start { qpos, qvel } = parse(text)?;
    env.set_state(&qpos, &qvel).map_err(|e| e.to_string())
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| {
        let message = e.to_string();
        // serde_json counts lines within `text`, which is always its first.
        let what = message.split(" at line 1 ").next().unwrap_or(&message);
        format!("column {}: {what}", e.column())
    })
}

fn bad_start(line: usize, problem: String) -> ReplayError {
    let expected = r#"the initial state {"qpos":[…],"qvel":[…]}"#.into();
    ReplayError::Line {
        line,
        problem,
        expected,
    }
}

/// An action as [`Env::step`] takes it; else what is wrong, and what is expected.
fn parse_action(text: &str, space: Space<'_>) -> Result<Vec<f32>, (String, String)> {
    match space {
        Space::Discrete { n } => parse_choice(text, n)
            .map_err(|problem| (problem, format!(r#"{{"action":k}} with k of 0…{}"#, n - 1))),
        _ => parse_vector(text, space.len()).map_err(|problem| {
            let len = space.len();
            let expected = format!(r#"{{"action":[…]}} with {len} finite number(s)"#);
            (problem, expected)
        }),
    }
}

fn parse_choice(text: &str, n: usize) -> Result<Vec<f32>, String> {
    let Act::<u64> { action } = parse(text)?;
    match action {
        choice if choice < n as u64 => Ok(vec![choice as f32]),
        other => Err(format!("there is no choice {other}")),
    }
}

fn parse_vector(text: &str, len: usize) -> Result<Vec<f32>, String> {
    let Act::<Vec<f64>> { action } = parse(text)?;
    if action.len() != len {
        return Err(format!("the action has {} value(s)", action.len()));
    }
    let rounded: Vec<f32> = action.iter().map(|value| *value as f32).collect();
    match rounded.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(format!("action[{index}] is too large for f32")),
        None => Ok(rounded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cartpole::CartPole;
    use crate::pendulum::Pendulum;
    use crate::trig::StdTrig;

    fn run(input: &str) -> Result<Vec<serde_json::Value>, String> {
        run_in(&mut Pendulum::<StdTrig>::new(), input)
    }

    fn run_in(env: &mut dyn Env, input: &str) -> Result<Vec<serde_json::Value>, String> {
        let mut output = Vec::new();
        replay(env, input.as_bytes(), &mut output).map_err(|e| e.to_string())?;
        let lines = std::str::from_utf8(&output).unwrap().lines();
        Ok(lines.map(|l| serde_json::from_str(l).unwrap()).collect())
    }

    #[test]
    fn one_outcome_per_action_with_exact_numbers() {
        let input = "{\"qpos\":[1.0],\"qvel\":[-2.0]}\n{\"action\":[1.5]}\n\n{\"action\":[99]}";
        let lines = run(input).unwrap();
        let mut env = Pendulum::<StdTrig>::new();
        env.set_state(&[1.0], &[-2.0]).unwrap();
        assert_eq!(lines.len(), 2);
        for (line, action) in lines.iter().zip([1.5, 99.0]) {
            let step = env.step(&[action]);
            let mut observation = [0.0; 3];
            env.observation_f64(&mut observation);
            assert_eq!(line["reward"].as_f64(), Some(step.reward));
            let printed: Vec<f64> = serde_json::from_value(line["observation"].clone()).unwrap();
            assert_eq!(printed, observation);
            assert_eq!(line["terminated"], false);
            assert_eq!(line["truncated"], false);
        }
    }

    /// 1 + 2⁻²⁴ lies halfway between two f32 values and rounds to the even one; the shortest
    /// decimals that name it in f64 lie a little above.
    #[test]
    fn actions_are_rounded_from_f64() {
        let halfway = 1.0 + f64::EPSILON * f64::from(1 << 28);
        let start = "{\"qpos\":[1.0],\"qvel\":[0.0]}\n";
        let of = |action: f64| run(&format!("{start}{{\"action\":[{action}]}}")).unwrap();
        assert_eq!(of(halfway), of(1.0));
        assert_ne!(of(halfway), of(f64::from(1.0_f32.next_up())));
    }

    #[test]
    fn goes_on_past_the_time_limit_with_truncated_set() {
        let mut input = String::from("{\"qpos\":[0.1],\"qvel\":[0]}\n");
        input.push_str(&"{\"action\":[0.5]}\n".repeat(203));
        let lines = run(&input).unwrap();
        assert_eq!(lines.len(), 203);
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(line["truncated"], index >= 199, "action {index}");
        }
    }

    #[test]
    fn bad_lines_are_named() {
        let start = "{\"qpos\":[0.1],\"qvel\":[0]}\n";
        let message = |lines: &str| run(lines).unwrap_err();
        let begins = |lines: &str, expected: &str| {
            let message = message(lines);
            assert!(message.starts_with(expected), "{message}");
        };
        begins("", "line 1: the input ends; expected the initial state");
        begins("\n\n", "line 3: the input ends");
        begins(
            "{\"action\":[0]}",
            "line 1: column 9: unknown field `action`",
        );
        begins(
            "{\"qpos\":[0.1]}",
            "line 1: column 14: missing field `qvel`",
        );
        begins("{\"qpos\":[0,0],\"qvel\":[0]}", "line 1: qpos has 2 values");
        let action = |text: &str| format!("{start}{{\"action\":[0]}}\n{text}\n");
        begins(&action("nonsense"), "line 3: column 2: expected ident");
        begins(
            &action("{\"action\":[]}"),
            "line 3: the action has 0 value(s); expected {\"action\"",
        );
        begins(&action("{\"action\":[1,2]}"), "line 3: the action has 2");
        begins(
            &action("{\"action\":[1e999]}"),
            "line 3: column 16: number out of range;",
        );
        begins(
            &action("{\"action\":[-1e39]}"),
            "line 3: action[0] is too large for f32;",
        );
        begins(
            &action("{\"action\":[null]}"),
            "line 3: column 15: invalid type: null",
        );
        begins(
            &action(start.trim()),
            "line 3: column 7: unknown field `qpos`",
        );
    }

    #[test]
    fn choices_are_indices() {
        let start = "{\"qpos\":[0,0.1],\"qvel\":[0,0]}\n";
        let run = |line: &str| {
            let mut env = CartPole::<StdTrig>::new();
            run_in(&mut env, &format!("{start}{line}\n"))
        };
        let lines = run("{\"action\":1}").unwrap();
        let mut env = CartPole::<StdTrig>::new();
        env.set_state(&[0.0, 0.1], &[0.0, 0.0]).unwrap();
        env.step(&[1.0]);
        let mut observation = [0.0; 4];
        env.observation_f64(&mut observation);
        assert_eq!(lines[0]["observation"], serde_json::json!(observation));
        assert_ne!(lines, run("{\"action\":0}").unwrap());
        for (line, expected) in [
            (
                "{\"action\":2}",
                "line 2: there is no choice 2; expected {\"action\":k} with k of 0…1",
            ),
            (
                "{\"action\":[1]}",
                "line 2: column 10: invalid type: sequence",
            ),
            (
                "{\"action\":0.5}",
                "line 2: column 13: invalid type: floating point",
            ),
            ("{\"action\":-1}", "line 2: column 12: invalid value"),
        ] {
            let message = run(line).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}

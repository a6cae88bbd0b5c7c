//! Wrong usage ends with exit code 2, before anything is set up or built.

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

fn xtask(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("xtask")
        .unwrap()
        .args(arguments)
        .assert()
}

#[test]
fn an_unknown_board_is_refused_with_the_known_ones() {
    let refusal = xtask(&["firmware", "build", "--board", "m0"]).code(2);
    refusal.stderr(contains("'m0'").and(contains(
        "[possible values: m4f, m7, m3, m0plus, m33, m55, riscv]",
    )));
}

#[test]
fn an_unknown_program_is_refused_with_the_known_ones() {
    let refusal = xtask(&["firmware", "run", "--bin", "blink"]).code(2);
    refusal.stderr(contains("'blink'").and(contains(
        "[possible values: replay, closed_loop, robot, kernels]",
    )));
}

/// It would wait for ever.
#[test]
fn what_waits_for_a_host_is_not_run_alone() {
    xtask(&["firmware", "run", "--bin", "robot", "--policy", "p.dtb"])
        .code(1)
        .stderr(contains("--controller qemu"));
}

#[test]
fn no_episodes_are_refused() {
    xtask(&["firmware", "run", "--episodes", "0"])
        .code(2)
        .stderr(contains("--episodes"));
}

#[test]
fn figures_of_one_policy_are_not_written_down() {
    xtask(&["firmware", "bench", "--update", "--policy", "p.dtb"])
        .code(2)
        .stderr(contains("--update"));
}

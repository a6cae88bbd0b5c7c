//! The suite of `dt_core::kernels` on emulated controllers; on the host it is one of dt-core's own tests.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The assembly, and the portable kernels compiled for the smallest core.
#[test]
fn every_kernel_passes_the_suite_on_the_controller() {
    for (board, kernels) in [
        ("m4f", 2),
        ("m0plus", 1),
        ("m33", 2),
        ("m55", 2),
        ("riscv", 1),
    ] {
        let output = Command::new(env!("CARGO"))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .args([
                "xtask", "firmware", "run", "--bin", "kernels", "--board", board,
            ])
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{board}:\n{log}");
        assert_eq!(log.matches(" comparisons").count(), kernels, "{log}");
        let figures = String::from_utf8(output.stdout).unwrap();
        let figures: Value = serde_json::from_str(figures.lines().next_back().unwrap()).unwrap();
        assert_eq!(figures["differing_bits"], 0);
    }
}

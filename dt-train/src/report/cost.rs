//! What a control step costs on a controller: exact where it is counted, estimated in time.

use std::collections::BTreeMap;

use dt_core::config::{Attention, Config, Dtype, Mixer};
use maud::{Markup, html};
use serde::Deserialize;

use super::gather::Gathered;
use super::returns::swatch;
use super::text::count;
use crate::config::names::activation;
use crate::run::records::{dtype_name, dtype_of};

/// A network in one dtype, and the runs that have it.
struct Cost {
    config: Config,
    runs: Vec<usize>,
    /// Bytes of the policy file, if it was exported.
    file: Option<u64>,
    period_us: u32,
}

/// A controller; `xtask/src/firmware/bench/parts.rs` says where the figures come from.
#[derive(Deserialize)]
struct Part {
    name: String,
    core: String,
    /// The emulated one whose figures are used.
    like: String,
    mhz: f64,
    flash_kib: u64,
    ram_kib: u64,
    /// Cycles that so many bytes of weights cost the core.
    stall: (f64, f64),
}

/// What `cargo xtask firmware bench` measured of one model on one emulated controller.
#[derive(Deserialize)]
struct Measured {
    board: String,
    instructions: BTreeMap<String, u64>,
    estimate: Option<Estimate>,
    flash: Vec<(String, u64)>,
    stack: u64,
}

#[derive(Deserialize)]
struct Estimate {
    cycles: u64,
}

/// RAM for variables other than the arena, and flash for what a product adds; as in the README's table.
const OTHER_RAM: u64 = 8 * 1024;
const OTHER_FLASH: u64 = 16 * 1024;

/// The section.
pub fn section(all: &Gathered) -> Markup {
    let costs = costs(all);
    let names = |cost: &Cost| {
        let names: Vec<&str> = cost
            .runs
            .iter()
            .map(|&i| all.runs[i].name.as_str())
            .collect();
        names.join(", ")
    };
    if costs.is_empty() {
        return html! { p.missing { "None of these runs becomes a policy file, so none runs on a controller." } };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Work and memory of a control step" {
            table {
                thead { tr {
                    th scope="col" { "policy" } th.n scope="col" { "parameters" } th.n scope="col" { "MACs per step" }
                    th.n scope="col" { "instructions, at most" } th.n scope="col" { "RAM: arena" } th.n scope="col" { "flash: policy file" }
                } }
                tbody { @for cost in &costs { tr {
                    th scope="row" { @for &i in &cost.runs { (swatch(i)) } (names(cost)) br; span.again { (kind(&cost.config)) } }
                    td.n { (count(parameters(&cost.config))) }
                    td.n { (count(cost.config.step_macs())) }
                    td.n { @match cost.config.step_instructions() { Some(n) => (count(n)), None => "not measured" } }
                    td.n { (count(arena(cost))) " B" }
                    td.n { @match cost.file { Some(bytes) => { (count(bytes)) " B" }, None => "not exported" } }
                } } }
            }
        }
        p.fact {
            "Exact, but for the instructions of an Armv7E-M core (Cortex-M4F, M7), which are a bound that no input exceeds. A step is a whole one: "
            "the action applied, the return-to-go and the state go through the network together; of a perceptron, the states it sees. MACs: multiplications with weights."
        }
        h3 { "Estimated time of a control step" }
        @let timed: Vec<&Cost> = costs.iter().filter(|cost| cost.config.step_instructions().is_some()).collect();
        @if timed.is_empty() {
            p.missing { "No policy here has a dtype and a dt.math whose instructions were measured; export as int8 or int4, with math polynomial, for an estimate." }
        } @else { (parts_table(&timed, &names)) }
    }
}

fn parts_table(costs: &[&Cost], names: &dyn Fn(&Cost) -> String) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Estimated time of a control step on common controllers" {
            table {
                thead { tr {
                    th scope="col" { "controller" }
                    @for cost in costs { th.n scope="col" { (names(cost)) br; (kind(&cost.config)) } }
                    th.n scope="col" { "flash, RAM" }
                } }
                tbody { @for part in parts() { @if let Some(cycles) = part.cycles_per_instruction() { tr {
                    th scope="row" { (part.name) br; span.again { (part.core) ", " (part.mhz) " MHz" } }
                    @for cost in costs { (cell(&part, cost, cycles)) }
                    td.n { (count(part.flash_kib)) ", " (part.ram_kib) " KiB" }
                } } } }
            }
        }
        p.fact {
            strong { "Estimates" } ", on the high side: the bound on instructions, times the cycles per instruction estimated for the emulated core, plus the "
            "wait for weights from flash, over the clock. No emulator counts cycles; measure on the part before relying on it. "
            "“Too slow” is by the control period of the run’s environment. The bound does not hold for a Cortex-M0+ (RP2040), so that it is left out."
        }
    }
}

fn cell(part: &Part, cost: &Cost, cycles_per_instruction: f64) -> Markup {
    let file = cost.file.unwrap_or(0);
    if file + part.code() + OTHER_FLASH > 1024 * part.flash_kib {
        return html! { td.n.bad { "too large for the flash" } };
    }
    if arena(cost) + part.stack() + OTHER_RAM > 1024 * part.ram_kib {
        return html! { td.n.bad { "too large for the RAM" } };
    }
    let instructions = cost.config.step_instructions().unwrap_or_default() as f64;
    let stall = weight_bytes(&cost.config) as f64 * part.stall.0 / part.stall.1;
    let ms = (instructions * cycles_per_instruction + stall) / (1000.0 * part.mhz);
    let period = f64::from(cost.period_us) / 1000.0;
    let slow = cost.period_us > 0 && ms > period;
    html! { td.n.bad[slow] {
        (format!("{ms:.1} ms")) @if slow { ", too slow for " (period) " ms" } @else { span.again { (format!(", {:.0} Hz", 1000.0 / ms)) } }
    } }
}

/// Networks in the dtypes that they were exported in; those that were not as the default, int8.
fn costs(all: &Gathered) -> Vec<Cost> {
    let mut costs: Vec<Cost> = Vec::new();
    let runs = all.runs.iter().enumerate();
    for (i, run) in runs {
        // Only what becomes a policy file runs on controllers.
        let Some(network) = run.run.network(Dtype::Int8) else {
            continue;
        };
        let mut configs: Vec<(Config, Option<u64>)> = run
            .exports
            .iter()
            .filter_map(|export| {
                let mut config = Config {
                    dtype: dtype_of(&export.dtype)?,
                    ..network
                };
                if export.folded {
                    config.mixer = Mixer::Folded;
                }
                Some((config, Some(export.flash_bytes as u64)))
            })
            .collect();
        if configs.is_empty() {
            configs.push((network, None));
        }
        let period_us = run.run.info.control_period_us;
        for (config, file) in configs {
            match costs.iter_mut().find(|cost| {
                cost.config == config && cost.file == file && cost.period_us == period_us
            }) {
                Some(cost) => cost.runs.push(i),
                None => costs.push(Cost {
                    config,
                    runs: vec![i],
                    file,
                    period_us,
                }),
            }
        }
    }
    costs
}

impl Part {
    fn measured(&self) -> impl Iterator<Item = Measured> {
        let rows: Vec<Measured> =
            serde_json::from_str(include_str!("../../../firmware/bench.json")).expect("tested");
        rows.into_iter().filter(|row| row.board == self.like)
    }

    /// The most of any model that was measured on a core for which `dt-core` bounds the instructions.
    fn cycles_per_instruction(&self) -> Option<f64> {
        let armv7em = ["m4f", "m7"].contains(&self.like.as_str());
        self.measured()
            .filter(|_| armv7em)
            .filter_map(|row| {
                Some(row.estimate?.cycles as f64 / *row.instructions.get("fused")? as f64)
            })
            .reduce(f64::max)
    }

    /// Bytes of the program beside the policy file.
    fn code(&self) -> u64 {
        let of = |row: Measured| {
            row.flash
                .iter()
                .find(|(name, _)| name == "code")
                .map(|(_, bytes)| *bytes)
        };
        self.measured().filter_map(of).max().unwrap_or(0)
    }

    fn stack(&self) -> u64 {
        self.measured().map(|row| row.stack).max().unwrap_or(0)
    }
}

fn parts() -> Vec<Part> {
    serde_json::from_str(include_str!("../../../firmware/parts.json")).expect("tested")
}

/// What its work depends on besides its size.
fn kind(config: &Config) -> String {
    let network = match (config.is_mlp(), config.is_convolved()) {
        (true, _) => ", perceptron",
        (false, true) => ", convolution",
        (false, false) => "",
    };
    let glu = if config.glu { ", GLU" } else { "" };
    let heads = if config.is_state_first() {
        ", predicts the returns it asks for"
    } else {
        predictions(config)
    };
    let (dtype, activation) = (dtype_name(config.dtype), activation(config.activation));
    format!("{dtype}{network}, {activation}{glu}{heads}")
}

fn predictions(config: &Config) -> &'static str {
    match (config.predictions.state, config.predictions.return_to_go) {
        (false, false) => "",
        (true, false) => ", predicts states",
        (false, true) => ", predicts returns",
        (true, true) => ", predicts states and returns",
    }
}

fn arena(cost: &Cost) -> u64 {
    4 * cost.config.arena_words() as u64
}

/// Weights and biases.
pub fn parameters(config: &Config) -> u64 {
    crate::nn::parameters_of(config)
        .iter()
        .map(|parameter| parameter.shape.iter().product::<i64>().unsigned_abs())
        .sum()
}

/// Bytes of weights that a step reads: once each, or with window attention once for each step of the window.
fn weight_bytes(config: &Config) -> u64 {
    if config.is_mlp() {
        let width = u64::from(config.d_ff);
        let between = u64::from(config.n_layer - 1) * width * width;
        return match config.dtype {
            Dtype::Int4 => config.step_macs() - between / 2,
            Dtype::Int8 | Dtype::F32 => config.step_macs(),
        };
    }
    let (d, f) = (u64::from(config.d_model), u64::from(config.d_ff));
    let blocks = u64::from(config.n_layer) * (4 * d * d + 2 * d * f);
    let glu = if config.glu { 2 * d * d } else { 0 };
    let heads = d * u64::from(config.predictions_len());
    let ports = d * u64::from(1 + config.state_dim + 2 * config.act_dim) + glu + heads;
    let blocks = match config.dtype {
        Dtype::Int4 => blocks / 2,
        // The time of f32 is not estimated.
        Dtype::Int8 | Dtype::F32 => blocks,
    };
    match config.attention {
        Attention::Streaming => blocks + ports,
        Attention::Window => u64::from(config.context_len) * (blocks + ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::Dims;
    use crate::algo::dt::Dt;

    /// As in the README's table, whose times come from instructions that were counted rather than bounded.
    #[test]
    fn the_published_model_is_as_fast_as_the_bench_estimates() {
        let dims = Dims::vectors(11, 3);
        let config = Config {
            mixer: Mixer::Folded,
            ..Dt::default().network(dims, Dtype::Int8)
        };
        let cost = Cost {
            config,
            runs: vec![0],
            file: Some(665_520),
            period_us: 50_000,
        };
        let at = |name: &str| {
            let part = parts().into_iter().find(|part| part.name == name).unwrap();
            let cycles = part.cycles_per_instruction();
            cycles.map(|cycles| cell(&part, &cost, cycles).into_string())
        };
        // 12.5 ms by counting; at most 1 % more by the bound and 8 % more by the most cycles per instruction.
        let cell = at("STM32F405").unwrap();
        let ms: f64 = cell
            .split(['>', ' '])
            .find_map(|word| word.parse().ok())
            .unwrap();
        assert!((12.5..=13.8).contains(&ms), "{cell}");
        assert!(at("STM32F411").unwrap().contains("too large for the flash"));
        assert!(at("nRF52840").unwrap().contains("Hz"));
        assert_eq!(at("RP2040"), None);
    }
}

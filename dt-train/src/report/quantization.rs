//! What quantization costs: errors of weights, layer by layer, and of actions.

use maud::{Markup, html};

use super::axis::{Axis, round_step};
use super::chart::{Caption, Frame, colour, px};
use super::gather::Gathered;
use super::returns::swatch;
use super::text::{count, num, target};
use crate::deploy::quantized_tolerance;
use crate::run::records::{ExportRecord, dtype_of};

/// Errors less than this part of the largest are not told apart.
const LEAST: f64 = 1e-3;

/// The section.
pub fn section(all: &Gathered) -> Markup {
    let exports: Vec<(usize, &ExportRecord)> = all
        .runs
        .iter()
        .enumerate()
        .flat_map(|(i, run)| run.exports.iter().map(move |export| (i, export)))
        .collect();
    let quantized: Vec<_> = exports
        .iter()
        .copied()
        .filter(|(_, export)| export.dtype != "f32")
        .collect();
    html! {
        @for run in all.runs.iter().filter(|run| run.exports.iter().all(|export| export.dtype == "f32") && run.run.recipe.algorithm.deployable().is_some()) {
            p.missing { (run.name) " has not been quantized: " code { "dt-train export " (run.run.dir.display()) " --out F.dtb" }
                " leaves its errors in the run folder." }
        }
        @if !quantized.is_empty() {
            div.beside {
                (chart(&quantized))
                div.numbers { (table(all, &exports)) }
            }
        }
    }
}

fn chart(exports: &[(usize, &ExportRecord)]) -> Markup {
    let mut layers: Vec<&str> = Vec::new();
    for layer in exports.iter().flat_map(|(_, export)| &export.layers) {
        if !layers.contains(&layer.name.as_str()) {
            layers.push(&layer.name);
        }
    }
    let errors = || {
        exports
            .iter()
            .flat_map(|(_, export)| &export.layers)
            .map(|layer| 100.0 * layer.relative_rms)
    };
    // Matrices of one column are stored without error but for rounding.
    let least = LEAST * round_step(errors().fold(1e-9, f64::max));
    let mut axis = Axis::log(errors().map(|percent| f64::max(percent, least)));
    for (_, label) in &mut axis.ticks {
        label.push_str(" %");
    }
    let frame = Frame::of_rows(axis, &layers, "relative RMS error of the weights");
    let row = |name: &str| frame.y.ticks.iter().find(|(_, label)| label == name);
    let body = html! {
        @for (i, export) in exports {
            g.(colour(*i)).(export.dtype) {
                @for layer in &export.layers { @if let Some((row, name)) = row(&layer.name) {
                    @let percent = 100.0 * layer.relative_rms;
                    circle.mark cx=(px(frame.px(f64::max(percent, least)))) cy=(px(frame.py(*row))) r="4.2" {
                        title { (export.dtype) ", " (name) ": " (num(percent)) " %, largest error " (num(layer.largest)) }
                    }
                } }
            }
        }
    };
    let hollow = if exports.iter().any(|(_, export)| export.dtype == "int4") {
        " Filled: int8; ringed: int4."
    } else {
        ""
    };
    let caption = Caption {
        id: "quantization".to_owned(),
        title: "Quantization error per layer".to_owned(),
        note: format!(
            "√(Σ error² / Σ weight²) of each matrix and of the timestep table, input side first. Logarithmic; less than {} % is \
             drawn at the left end.{hollow}",
            target(least)
        ),
    };
    frame.figure(&caption, &body)
}

fn table(all: &Gathered, exports: &[(usize, &ExportRecord)]) -> Markup {
    html! {
        p.fact { "Errors of the unscaled actions, which span −1…1, or of the logits of choices: quantized against f32 on " (measured_on(exports)) ", and the f32 engine "
            "against libtorch. The golden steps are reproduced to the bit." }
        div.scroll tabindex="0" role="region" aria-label="Errors of the exported policies' actions" {
            table {
                thead { tr {
                    th scope="col" { "export" } th.n scope="col" { "RMS" } th.n scope="col" { "accepted" } th.n scope="col" { "largest" }
                    th.n scope="col" { "engine – libtorch" } th.n scope="col" { "golden steps" }
                } }
                tbody { @for (i, export) in exports { tr {
                    th scope="row" { (swatch(*i)) (all.runs[*i].name) br; span.again { (export.dtype) @if export.folded { ", folded" } ", update " (count(export.update)) } }
                    @match export.against_f32 {
                        Some(error) => {
                            td.n { (num(error.rms)) }
                            td.n { "≤ " @if let Some(dtype) = dtype_of(&export.dtype) { (target(quantized_tolerance(dtype, error.actions()))) } }
                            td.n { (num(error.largest)) }
                        }
                        None => { td.n { "–" } td.n { "–" } td.n { "–" } }
                    }
                    td.n { (num(export.engine_against_torch.largest)) }
                    td.n { (export.golden_steps) }
                } } }
            }
        }
    }
}

fn measured_on(exports: &[(usize, &ExportRecord)]) -> String {
    let mut sources: Vec<&str> = exports
        .iter()
        .map(|(_, export)| export.measured_on.as_str())
        .collect();
    sources.sort_unstable();
    sources.dedup();
    sources.join(" or ")
}

//! A page that compares runs: learning curves, achieved against target return, scores, quantization errors, costs.
//!
//! - `gather`: what run folders and evaluations say, checked; `owner`: which run an evaluation is of.
//! - `page`: the page and its sections; `curves`, `returns`, `quantization`: those with charts;
//!   `scores`: beside published ones; `cost`: on controllers.
//! - `chart`, `axis`: charts as SVG; `text`: numbers for people.

mod axis;
mod chart;
mod cost;
mod curves;
pub mod demo;
mod gather;
pub mod learning_curve;
mod owner;
mod page;
mod quantization;
mod returns;
mod scores;
pub mod targets;
pub mod text;

pub use gather::{Achieved, Gathered, Leading, Policy, RunData};

/// The page: one HTML file that loads nothing else.
pub fn html(gathered: &Gathered) -> String {
    page::page(gathered).into_string()
}

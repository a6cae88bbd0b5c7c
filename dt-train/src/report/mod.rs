//! Charts: a page that compares runs, and pictures of a run, of a policy's returns, of the demo's episode.
//!
//! - `gather`: what run folders and evaluations say, checked; `owner`: which run an evaluation is of.
//! - `page`: the page and its sections; `curves`, `returns`, `quantization`: those with charts;
//!   `scores`: beside published ones; `cost`: on controllers.
//! - [`learning_curve`], [`targets`], [`demo`]: pictures as SVG and PNG; [`described`]: those of a file that says what they show.
//! - `chart`, `axis`: charts as SVG, for both; `picture`: files of them; `theme`: colours; `text`: numbers for people.

mod axis;
mod chart;
mod cost;
mod curves;
pub mod demo;
pub mod described;
mod gather;
pub mod learning_curve;
mod owner;
mod page;
mod picture;
mod quantization;
mod returns;
mod scores;
pub mod targets;
pub mod text;
mod theme;

pub use gather::{Achieved, Gathered, Leading, Policy, RunData};
pub use picture::Picture;

/// The page: one HTML file that loads nothing else.
pub fn html(gathered: &Gathered) -> String {
    page::page(gathered).into_string()
}

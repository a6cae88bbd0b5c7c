//! `dt-train train` and `eval` as a user calls them: exact resume, refusals, results.

mod baseline;
mod choices;
mod evaluate;
mod finetune;
mod images;
mod recipes;
mod resume;
mod rivals;
mod seeds;
mod start;
mod workshop;

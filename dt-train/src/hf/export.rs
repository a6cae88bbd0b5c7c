//! A run as a model's folder.

/// Rows of the table of timesteps, all 0, where the network has none.
pub const NO_TABLE: u32 = 1000;

//! What `dt-train table` is told: which results make which row.

use serde::Serialize;

/// A table.
#[derive(Serialize)]
pub struct Description {
    /// Headings; each policy but the first is compared with the first.
    policies: Vec<&'static str>,
    row: Vec<Row>,
}

impl Description {
    /// A table of these rows.
    pub fn new<const N: usize>(
        policies: [&'static str; N],
        rows: impl IntoIterator<Item = Row>,
    ) -> Self {
        Self {
            policies: policies.to_vec(),
            row: rows.into_iter().collect(),
        }
    }
}

/// A row: the same task for every policy.
#[derive(Serialize)]
pub struct Row {
    /// Its heading.
    pub name: &'static str,
    /// Mean and best return in the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Training seeds.
    pub seeds: &'static [u32],
    /// The results of each policy, beside the description; `{seed}` stands for the training seed.
    pub files: Vec<String>,
    /// Means of an earlier recipe, by training seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<&'static [f64]>,
}

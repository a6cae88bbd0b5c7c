//! What `dt-train table` is told: which results make which row.

use serde::Serialize;

/// A table.
#[derive(Serialize)]
pub struct Description {
    /// Headings; each policy but the first is compared with the first.
    policies: Vec<&'static str>,
    /// A table of each row instead of one of all.
    line_per_policy: bool,
    /// Headings of more columns, then.
    more: Vec<&'static str>,
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
            line_per_policy: false,
            more: Vec::new(),
            row: rows.into_iter().collect(),
        }
    }

    /// A table of each row, a line per policy, with more columns.
    pub fn line_per_policy<const N: usize>(mut self, more: [&'static str; N]) -> Self {
        self.line_per_policy = true;
        self.more = more.to_vec();
        self
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
    /// More cells, by policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Vec<String>>,
}

//! What `dt-train plot` is told: charts with their numbers.

use serde::Serialize;

/// A picture.
#[derive(Serialize)]
pub struct Charts {
    title: &'static str,
    subtitle: &'static str,
    chart: Vec<Chart>,
}

/// A chart of lines, or of bars where they have names.
#[derive(Default, Serialize)]
pub struct Chart {
    /// What is counted upwards.
    pub title: &'static str,
    /// What is counted to the right.
    pub x: &'static str,
    /// Names of the groups of bars.
    pub bars: Vec<String>,
    /// Ends of the vertical axis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<[f64; 2]>,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Places with a meaning.
    pub mark: Vec<Mark>,
}

/// Numbers that belong together.
#[derive(Serialize)]
pub struct Series {
    name: String,
    x: Vec<f64>,
    y: Vec<f64>,
    dashed: bool,
}

/// A place on the horizontal axis.
#[derive(Serialize)]
pub struct Mark {
    /// What happens there.
    pub name: String,
    /// Where.
    pub x: f64,
}

impl Charts {
    /// A picture of one chart.
    pub fn new(title: &'static str, subtitle: &'static str, chart: Chart) -> Self {
        let chart = vec![chart];
        Self {
            title,
            subtitle,
            chart,
        }
    }

    /// With another chart below.
    pub fn with(mut self, chart: Chart) -> Self {
        self.chart.push(chart);
        self
    }
}

impl Series {
    /// Heights of bars.
    pub fn bars(name: &str, y: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            x: Vec::new(),
            y,
            dashed: false,
        }
    }

    /// A line through points.
    pub fn line(name: &str, points: impl IntoIterator<Item = (f64, f64)>, dashed: bool) -> Self {
        let (x, y) = points.into_iter().unzip();
        Self {
            name: name.into(),
            x,
            y,
            dashed,
        }
    }
}

//! A controller's dashboard: what it says of itself, drawn in a terminal.
//!
//! [`Panel`] is what is shown, [`Panel::take`] changes it by one [`Event`], [`Panel::draw`] draws it. Where the events come from is
//! not its business.

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Text};
use ratatui::widgets::{Axis, BarChart, Block, Chart, Dataset, GraphType, Paragraph};

use super::Greeting;

/// Steps that traces show.
const TRACE: usize = 200;

/// Bars of the histogram of slack.
const BARS: usize = 8;

/// Lines of the list of faults.
const FAULTS: usize = 50;

/// Of components that are drawn together.
const COLORS: [Color; 6] = [
    Color::Cyan,
    Color::Yellow,
    Color::Magenta,
    Color::Green,
    Color::Red,
    Color::Blue,
];

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A control step.
    Step {
        /// What the controller saw.
        observation: Vec<f32>,
        /// What it did.
        action: Vec<f32>,
        /// Time left until its deadline, in µs.
        slack_us: u32,
        /// From the observation sent to the action received.
        round_trip: Duration,
    },
    /// An episode has ended.
    Episode {
        /// Undiscounted sum of rewards.
        total_reward: f64,
        /// Steps.
        length: u32,
    },
    /// Its mode, in words.
    Mode(String),
    /// A fault, in words.
    Fault(String),
    /// What it has counted since it booted.
    Counts {
        /// Frames refused.
        refused: u32,
        /// Frames missing.
        lost: u32,
        /// Actions that were late.
        late: u32,
        /// Ticks that nobody served.
        missed: u32,
    },
}

/// What is shown.
#[derive(Debug)]
pub struct Panel {
    greeting: Greeting,
    mode: String,
    /// Return that the next episode aims at.
    target_return: f32,
    steps: u64,
    round_trip: Duration,
    slack: [u64; BARS],
    observations: Traces,
    actions: Traces,
    faults: VecDeque<String>,
    fault_count: u64,
    last_episode: Option<(f64, u32)>,
    episodes: u64,
    counts: Option<[u32; 4]>,
}

/// The last values of some components.
#[derive(Debug)]
struct Traces {
    title: &'static str,
    names: Vec<String>,
    values: Vec<VecDeque<f64>>,
}

impl Panel {
    /// Nothing has happened yet. `observation` and `action` are the components' names, with their units.
    #[must_use]
    pub fn new(
        greeting: Greeting,
        observation: Vec<String>,
        action: Vec<String>,
        target_return: f32,
    ) -> Self {
        Self {
            mode: super::in_words(greeting.mode),
            greeting,
            target_return,
            steps: 0,
            round_trip: Duration::ZERO,
            slack: [0; BARS],
            observations: Traces::new("observation", observation),
            actions: Traces::new("action", action),
            faults: VecDeque::new(),
            fault_count: 0,
            last_episode: None,
            episodes: 0,
            counts: None,
        }
    }

    /// Return that the next episode aims at.
    pub const fn aim(&mut self, target_return: f32) {
        self.target_return = target_return;
    }

    /// Something happened.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Step {
                observation,
                action,
                slack_us,
                round_trip,
            } => {
                self.steps += 1;
                self.round_trip = round_trip;
                let deadline = u64::from(self.greeting.deadline_us.max(1));
                let bar = u64::from(slack_us) * BARS as u64 / deadline;
                self.slack[(bar as usize).min(BARS - 1)] += 1;
                self.observations.push(&observation);
                self.actions.push(&action);
            }
            Event::Episode {
                total_reward,
                length,
            } => {
                self.episodes += 1;
                self.last_episode = Some((total_reward, length));
            }
            Event::Mode(mode) => self.mode = mode,
            Event::Fault(fault) => {
                self.fault_count += 1;
                self.faults
                    .push_front(format!("step {}: {fault}", self.steps));
                self.faults.truncate(FAULTS);
            }
            Event::Counts {
                refused,
                lost,
                late,
                missed,
            } => self.counts = Some([refused, lost, late, missed]),
        }
    }

    /// Draws it all.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let [top, middle, keys] = Layout::vertical([
            Constraint::Length(5),
            Constraint::Min(8),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(65), Constraint::Percentage(35)])
                .areas(middle);
        let [observations, actions] =
            Layout::vertical([Constraint::Percentage(60), Constraint::Percentage(40)]).areas(left);
        let [slack, faults] =
            Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(right);
        frame.render_widget(self.summary(), top);
        self.observations.draw(frame, observations);
        self.actions.draw(frame, actions);
        self.draw_slack(frame, slack);
        let title = format!("faults: {}", self.fault_count);
        let list: Vec<Line<'_>> = self
            .faults
            .iter()
            .map(|fault| fault.as_str().into())
            .collect();
        frame.render_widget(
            Paragraph::new(list).block(Block::bordered().title(title)),
            faults,
        );
        let help =
            "q quit   ↑ ↓ target of the next episode   space stop, go on   r next episode now";
        frame.render_widget(Paragraph::new(help.dim()), keys);
    }

    fn summary(&self) -> Paragraph<'_> {
        let Greeting {
            board,
            version,
            policy,
            env,
            period_us,
            ..
        } = &self.greeting;
        let last = match self.last_episode {
            None => String::new(),
            Some((total, length)) => format!(", the last one {total:.2} in {length} steps"),
        };
        let counts = match self.counts {
            None => String::new(),
            Some([refused, lost, late, missed]) => format!(
                "   frames refused {refused}, lost {lost}; actions late {late}; ticks missed {missed}"
            ),
        };
        let text = Text::from(vec![
            Line::from(format!(
                "policy {policy} for {env}, {:.3} ms   program {version}",
                f64::from(*period_us) / 1e3
            )),
            Line::from(vec![
                "mode ".into(),
                self.mode.clone().bold(),
                format!(
                    "   target return {}   {} episodes{last}",
                    self.target_return, self.episodes
                )
                .into(),
            ]),
            Line::from(format!(
                "{} steps, round trip {:.2} ms{counts}",
                self.steps,
                self.round_trip.as_secs_f64() * 1e3
            )),
        ]);
        Paragraph::new(text).block(Block::bordered().title(board.clone().bold()))
    }

    /// How often which part of the time until the deadline was left.
    fn draw_slack(&self, frame: &mut Frame<'_>, area: Rect) {
        let deadline = f64::from(self.greeting.deadline_us) / 1e3;
        let digits = usize::from(deadline < BARS as f64);
        let labels: Vec<String> = (0..BARS)
            .map(|bar| format!("{:.digits$}", deadline * bar as f64 / BARS as f64))
            .collect();
        let bars: Vec<(&str, u64)> = labels.iter().map(String::as_str).zip(self.slack).collect();
        let width = (area.width.saturating_sub(2) / BARS as u16)
            .saturating_sub(1)
            .max(1);
        let title = format!("slack, ms of {deadline:.1}");
        let chart = BarChart::default()
            .data(&bars[..])
            .bar_width(width)
            .bar_gap(1)
            .bar_style(Style::new().fg(Color::Green))
            .block(Block::bordered().title(title));
        frame.render_widget(chart, area);
    }
}

impl Traces {
    fn new(title: &'static str, names: Vec<String>) -> Self {
        Self {
            title,
            values: vec![VecDeque::new(); names.len()],
            names,
        }
    }

    fn push(&mut self, values: &[f32]) {
        for (trace, value) in self.values.iter_mut().zip(values) {
            trace.push_back((*value).into());
            if trace.len() > TRACE {
                trace.pop_front();
            }
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let points: Vec<Vec<(f64, f64)>> = self
            .values
            .iter()
            .map(|trace| {
                trace
                    .iter()
                    .enumerate()
                    .map(|(x, y)| (x as f64, *y))
                    .collect()
            })
            .collect();
        let all = || {
            points
                .iter()
                .flatten()
                .map(|(_, y)| *y)
                .filter(|y| y.is_finite())
        };
        let low = all().fold(f64::INFINITY, f64::min);
        let high = all().fold(f64::NEG_INFINITY, f64::max);
        // Before the first step, and of a constant.
        let (low, high) = match high > low {
            true => (low, high),
            false if low.is_finite() => (low - 1.0, low + 1.0),
            false => (-1.0, 1.0),
        };
        let datasets = points.iter().enumerate().map(|(i, points)| {
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(Style::new().fg(COLORS[i % COLORS.len()]))
                .data(points)
        });
        let mut title = vec![self.title.into()];
        for (i, name) in self.names.iter().enumerate() {
            let color = COLORS[i % COLORS.len()];
            title.push(format!("  {name}").fg(color));
        }
        let chart = Chart::new(datasets.collect())
            .block(Block::bordered().title(Line::from(title)))
            .x_axis(Axis::default().bounds([0.0, TRACE as f64]))
            .y_axis(
                Axis::default()
                    .bounds([low, high])
                    .labels([format!("{low:.2}"), format!("{high:.2}")]),
            );
        frame.render_widget(chart, area);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn greeting() -> Greeting {
        Greeting {
            board: "pico".into(),
            version: "0.1.0".into(),
            policy: dt_link::PolicyId {
                crc: 0xC0DE,
                len: 7,
            },
            env: "pendulum".into(),
            state_dim: 2,
            act_dim: 1,
            choices: 0,
            period_us: 50_000,
            deadline_us: 40_000,
            wants_reward: true,
            wants_return_to_go: false,
            target_return: -150.0,
            mode: dt_link::Mode([2, 0, 0, 0]),
        }
    }

    fn text(panel: &Panel, size: (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        terminal.draw(|frame| panel.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| {
            (0..size.0)
                .map(move |x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..size.1).map(|y| row(y) + "\n").collect()
    }

    #[test]
    fn everything_is_on_the_panel() {
        let names = ["cos θ", "θ̇ rad/s"].map(str::to_owned).to_vec();
        let mut panel = Panel::new(greeting(), names, vec!["torque N·m".into()], -150.0);
        let before = text(&panel, (110, 30));
        for expected in [
            "pico",
            "0000c0de (7 bytes) for pendulum",
            "50.000 ms",
            "mode idle",
            "target return -150",
            "faults: 0",
        ] {
            assert!(before.contains(expected), "{expected}:\n{before}");
        }
        for step in 0..300_u16 {
            panel.take(Event::Step {
                observation: vec![f32::from(step % 7), f32::NAN],
                action: vec![0.5],
                slack_us: if step < 299 { 38_000 } else { 0 },
                round_trip: Duration::from_micros(1250),
            });
        }
        panel.take(Event::Episode {
            total_reward: -123.456,
            length: 200,
        });
        panel.take(Event::Mode("running".into()));
        panel.take(Event::Fault("the host was silent".into()));
        panel.take(Event::Counts {
            refused: 3,
            lost: 4,
            late: 5,
            missed: 6,
        });
        panel.aim(-300.0);
        let after = text(&panel, (110, 30));
        for expected in [
            "mode running",
            "target return -300   1 episodes, the last one -123.46 in 200 steps",
            "300 steps, round trip 1.25 ms   frames refused 3, lost 4; actions late 5; ticks missed 6",
            "faults: 1",
            "step 300: the host was sil",
            "observation  cos θ  θ̇ rad/s─",
            "action  torque N·m─",
            "6.00",
            "slack, ms of 40.0",
        ] {
            assert!(after.contains(expected), "{expected}:\n{after}");
        }
        assert_eq!(panel.slack, [1, 0, 0, 0, 0, 0, 0, 299]);
        assert_eq!(panel.observations.values[0].len(), TRACE);
    }

    #[test]
    fn no_terminal_is_too_small() {
        let panel = Panel::new(greeting(), vec!["x".into(); 11], vec!["y".into()], 0.0);
        for size in [(1, 1), (10, 5), (40, 12), (300, 100)] {
            text(&panel, size);
        }
    }
}

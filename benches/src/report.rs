//! Figures, and how they are shown: a line, JSON, or a row of the results' page.

use std::fmt::Write;

use crate::compare::Medians;
use crate::machine;

/// One measured figure of reaped's, and what it is beside its peers.
pub struct Figure {
    name: String,
    /// The median of reaped's.
    value: f64,
    unit: &'static str,
    /// reaped's value through the peer's.
    ratios: Vec<(&'static str, f64)>,
    /// What is to be reached: the most that a ratio to this peer, or with no peer the value, may be.
    aims: Vec<(&'static str, f64)>,
    note: String,
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Figure { name: name.into(), value, unit, ratios: Vec::new(), aims: Vec::new(), note: String::new() }
    }

    /// The first is reaped, the others are its peers; `scale` makes the unit out of what was measured.
    pub fn of(name: impl Into<String>, medians: &Medians, scale: f64, unit: &'static str) -> Self {
        let reaped = medians[0].1;
        medians[1..].iter().fold(Figure::new(name, reaped * scale, unit), |figure, (peer, value)| {
            figure.beside(peer, reaped / value)
        })
    }

    pub fn beside(mut self, peer: &'static str, ratio: f64) -> Self {
        self.ratios.push((peer, ratio));
        self
    }

    /// The most that the ratio to this peer may be.
    pub fn aim(mut self, peer: &'static str, most: f64) -> Self {
        self.aims.push((peer, most));
        self
    }

    /// The most that the value may be.
    pub fn aim_value(self, most: f64) -> Self {
        self.aim("", most)
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// `name value unit peer=ratio …`
    pub fn line(&self) -> String {
        let mut line = format!("{} {} {}", self.name, short(self.value), self.unit);
        for (peer, ratio) in &self.ratios {
            let _ = write!(line, " {peer}={}", short(*ratio));
        }
        if !self.note.is_empty() {
            let _ = write!(line, " # {}", self.note);
        }
        line
    }

    pub fn json(&self) -> String {
        let map = |pairs: &[(&str, f64)]| {
            let pairs: Vec<String> =
                pairs.iter().map(|(name, value)| format!("{name:?}:{}", number(*value))).collect();
            format!("{{{}}}", pairs.join(","))
        };
        format!(
            r#"{{"name":{:?},"value":{},"unit":{:?},"ratios":{},"at_most":{},"note":{:?}}}"#,
            self.name,
            number(self.value),
            self.unit,
            map(&self.ratios),
            map(&self.aims),
            self.note
        )
    }

    /// A row of the page, of the same figure in each run.
    fn row(runs: &[&Figure]) -> String {
        let first = runs[0];
        let each = |value: &dyn Fn(&Figure) -> Option<f64>| {
            let values: Vec<String> = runs.iter().filter_map(|figure| value(figure)).map(short).collect();
            values.join(" · ")
        };
        let ratios: Vec<String> = first
            .ratios
            .iter()
            .map(|(peer, _)| format!("{peer} {}", each(&|figure| figure.found(peer))))
            .collect();
        let aims: Vec<String> = first
            .aims
            .iter()
            .map(|(peer, most)| {
                let reached = runs.iter().filter(|run| run.found(peer).is_some_and(|found| found <= *most));
                let space = if peer.is_empty() { "" } else { " " };
                let (reached, of) = (reached.count(), runs.len());
                format!("{peer}{space}≤ {}: {reached} of {of}", short(*most))
            })
            .collect();
        format!(
            "| {} | {} {} | {} | {} | {} |",
            first.name,
            each(&|figure| Some(figure.value)),
            first.unit,
            ratios.join("<br>"),
            aims.join("<br>"),
            first.note
        )
    }

    /// The ratio to a peer, or the value where there is none.
    fn found(&self, peer: &str) -> Option<f64> {
        if peer.is_empty() {
            return Some(self.value);
        }
        self.ratios.iter().find(|(name, _)| *name == peer).map(|(_, ratio)| *ratio)
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 || small == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// JSON knows no NaN.
fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { "null".into() }
}

/// The results' page, of several runs of each family, and what is known about them.
pub fn page(families: &[(&str, Vec<Vec<Figure>>)]) -> String {
    let mut page = format!(
        "# Results\n\nWritten by `cargo run --release -p reaped-bench` on {}.\nMedians of each run, one run after the \
         other; a ratio is reaped's value through the peer's, so that less is better.\n",
        machine::size()
    );
    for (family, runs) in families {
        let _ = write!(
            page,
            "\n## {family}\n\n| figure | reaped | beside | aim, and in how many runs it was reached | note |\n| --- | --- | --- | --- | --- |\n"
        );
        for index in 0..runs[0].len() {
            let figures: Vec<&Figure> = runs.iter().map(|figures| &figures[index]).collect();
            let _ = writeln!(page, "{}", Figure::row(&figures));
        }
    }
    page
}

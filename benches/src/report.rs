//! Figures, and how one is shown: a line, or JSON.

use std::fmt::Write;

use serde::{Deserialize, Deserializer, Serialize};

use crate::compare::{Medians, median};

/// One measured figure of reaped, and its ratios to the peers.
#[derive(Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    /// The median of reaped's samples; NaN if it measured nothing, which JSON knows as null.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    pub unit: String,
    /// reaped's value divided by the peer's.
    pub ratios: Vec<(String, f64)>,
    /// The aims: the most that a ratio to this peer may be, or the value if there is no peer.
    pub aims: Vec<(String, f64)>,
    pub note: String,
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        let (name, unit) = (name.into(), unit.into());
        Figure { name, value, unit, ratios: Vec::new(), aims: Vec::new(), note: String::new() }
    }

    /// The first is reaped, and the others are its peers. `scale` converts the measurement to the unit.
    pub fn of(name: impl Into<String>, medians: &Medians, scale: f64, unit: &str) -> Self {
        let reaped = medians[0].1;
        medians[1..].iter().fold(Figure::new(name, reaped * scale, unit), |figure, (peer, value)| {
            figure.beside(peer, reaped / value)
        })
    }

    /// A peer that measured nothing is left out.
    pub fn beside(mut self, peer: &str, ratio: f64) -> Self {
        if ratio.is_finite() {
            self.ratios.push((peer.into(), ratio));
        }
        self
    }

    /// The most that the ratio to this peer may be.
    pub fn aim(mut self, peer: &str, most: f64) -> Self {
        self.aims.push((peer.into(), most));
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
        serde_json::to_string(self).expect("names are strings")
    }

    /// The ratio to a peer, or the value if none is named.
    pub fn found(&self, peer: &str) -> Option<f64> {
        if peer.is_empty() {
            return Some(self.value).filter(|value| !value.is_nan());
        }
        self.ratios.iter().find(|(name, _)| name == peer).map(|(_, ratio)| *ratio)
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The same figure in each run that has it.
pub struct Same<'a>(pub Vec<&'a Figure>);

impl Same<'_> {
    /// The ratio to a peer, or the value if none is named, in each run that has it.
    pub fn found(&self, peer: &str) -> Vec<f64> {
        self.0.iter().filter_map(|figure| figure.found(peer)).collect()
    }

    /// The median over the runs.
    pub fn median(&self, peer: &str) -> Option<f64> {
        let found = self.found(peer);
        if found.is_empty() { None } else { Some(median(found)) }
    }

    /// In how many runs it was at most this.
    pub fn reached(&self, peer: &str, most: f64) -> usize {
        self.found(peer).into_iter().filter(|found| *found <= most).count()
    }
}

/// Rounded to three significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 || small == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

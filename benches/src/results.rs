//! The stored results, `results.json`: every page and picture is made from them. Code that measures does not
//! format, and code that formats does not measure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::Facts;
use crate::report::{Figure, Same};

/// All runs of all families, and the machine.
#[derive(Default, Serialize, Deserialize)]
pub struct Results {
    pub machine: Facts,
    pub families: Vec<Family>,
}

/// One family's figures, run by run.
#[derive(Serialize, Deserialize)]
pub struct Family {
    pub name: String,
    pub runs: Vec<Vec<Figure>>,
}

impl Family {
    /// The figures, each with all of its runs.
    pub fn figures(&self) -> Vec<Same<'_>> {
        let Some(first) = self.runs.first() else { return Vec::new() };
        let all = |name: &str| self.runs.iter().flatten().filter(|figure| figure.name == name).collect();
        first.iter().map(|figure| Same(all(&figure.name))).collect()
    }
}

impl Results {
    /// No results yet, for this machine.
    pub fn here() -> Self {
        Results { machine: Facts::look(), families: Vec::new() }
    }

    /// One more run of this family.
    pub fn add(&mut self, family: &str, figures: Vec<Figure>) {
        match self.families.iter_mut().find(|known| known.name == family) {
            Some(known) => known.runs.push(figures),
            None => self.families.push(Family { name: family.into(), runs: vec![figures] }),
        }
    }

    /// One figure in all runs. Its name begins with its family.
    pub fn figure(&self, name: &str) -> Option<Same<'_>> {
        let figures = self.families.iter().flat_map(Family::figures);
        figures.into_iter().find(|same| same.0[0].name == name)
    }

    pub fn load() -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(stored())?)?)
    }

    pub fn store(&self) -> io::Result<()> {
        fs::write(stored(), self.text())
    }

    /// As JSON, one line for each figure, so two versions can be compared.
    fn text(&self) -> String {
        let run = |figures: &Vec<Figure>| {
            format!("[\n{}\n]", figures.iter().map(Figure::json).collect::<Vec<_>>().join(",\n"))
        };
        let family = |family: &Family| {
            let runs: Vec<String> = family.runs.iter().map(run).collect();
            format!(r#"{{"name":{:?},"runs":[{}]}}"#, family.name, runs.join(","))
        };
        let families: Vec<String> = self.families.iter().map(family).collect();
        let machine = serde_json::to_string_pretty(&self.machine).expect("names and numbers");
        format!("{{\"machine\": {machine},\n\"families\": [\n{}\n]}}\n", families.join(",\n"))
    }
}

/// This package's folder.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn stored() -> PathBuf {
    home().join("results.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_read_again() {
        let mut results = Results::default();
        let figure = Figure::new("many/tokio-ct", 0.1 + 0.2, "s").beside("bare", 1.0 / 3.0).aim_value(2.0);
        results.add("many", vec![figure.note("a \"note\" … of ≤ 2")]);
        results.add("many", vec![Figure::new("many/tokio-ct", f64::NAN, "s")]);
        let text = results.text();
        let again: Results = serde_json::from_str(&text).expect("what was written");
        assert_eq!(again.text(), text);
        let same = again.figure("many/tokio-ct").expect("stored");
        assert_eq!((same.found(""), same.found("bare")), (vec![0.1 + 0.2], vec![1.0 / 3.0]));
    }
}

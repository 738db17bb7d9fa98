//! Measures `reaped` against its peers: `cargo run --release -p reaped-bench -- [NAME] [--json] [--smoke]`.
//!
//! Each family is a file of its own. Without a name all of them run, three times, and `RESULTS.md` is written.

mod bare;
mod build;
mod bulk;
mod child;
mod compare;
mod duplex;
mod fairness;
mod fds;
mod latency;
mod lines;
mod machine;
mod many;
mod report;
mod waiting;

use std::process::ExitCode;

use report::Figure;

#[global_allocator]
static HEAP: machine::Counting = machine::Counting;

/// How long to run: in a smoke run only what is needed to see that the results are right.
#[derive(Clone, Copy)]
struct Scale {
    smoke: bool,
}

impl Scale {
    fn pick<T>(self, full: T, smoke: T) -> T {
        if self.smoke { smoke } else { full }
    }
}

/// One run shows little on a machine that others use too.
const RUNS: usize = 3;

type Family = fn(Scale) -> Vec<Figure>;

const FAMILIES: [(&str, Family); 9] = [
    ("latency", latency::run),
    ("bulk", bulk::run),
    ("duplex", duplex::run),
    ("lines", lines::run),
    ("fds", fds::run),
    ("many", many::run),
    ("waiting", waiting::run),
    ("fairness", fairness::run),
    ("build", build::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("--child", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return child::run(rest);
    }
    let (mut json, mut scale, mut name) = (false, Scale { smoke: false }, None);
    for argument in &arguments {
        match argument.as_str() {
            "--json" => json = true,
            "--smoke" => scale.smoke = true,
            known if name.is_none() && FAMILIES.iter().any(|(family, _)| *family == known) => {
                name = Some(known);
            }
            _ => return usage(),
        }
    }
    let runs = if name.is_none() && !scale.smoke { RUNS } else { 1 };
    let mut all: Vec<(&str, Vec<Vec<Figure>>)> = Vec::new();
    for _ in 0..runs {
        for (family, run) in FAMILIES {
            if name.is_none_or(|name| name == family) {
                let figures = run(scale);
                for figure in &figures {
                    println!("{}", if json { figure.json() } else { figure.line() });
                }
                match all.iter_mut().find(|(known, _)| *known == family) {
                    Some((_, runs)) => runs.push(figures),
                    None => all.push((family, vec![figures])),
                }
            }
        }
    }
    if runs == RUNS {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md");
        std::fs::write(path, report::page(&all)).expect("the suite's own folder can be written");
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let names: Vec<&str> = FAMILIES.iter().map(|(family, _)| *family).collect();
    eprintln!("usage: reaped-bench [{}] [--json] [--smoke]", names.join("|"));
    ExitCode::from(2)
}

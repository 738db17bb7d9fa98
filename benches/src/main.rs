//! Measures `reaped` against its peers: `cargo run --release -p reaped-bench -- [NAME] [--json] [--smoke] [--count N]`.
//!
//! Each family is a file of its own. Without a name all of them run, three times, and the program writes
//! `results.json`. From it come `RESULTS.md`, the pictures in `figures` and README's table. At the end the
//! program prints each claim of README and each aim that does not hold on this machine. `render` makes the
//! pages anew and measures nothing. `check` fails if the pages differ from `results.json`.

mod bare;
mod build;
mod bulk;
mod child;
mod compare;
mod duplex;
mod fairness;
mod fds;
mod instructions;
mod latency;
mod lines;
mod machine;
mod many;
mod page;
mod picture;
mod pipelines;
mod python;
mod report;
mod results;
mod talkers;
mod waiting;

use std::io;
use std::process::ExitCode;

use report::Figure;
use results::Results;

#[global_allocator]
static HEAP: machine::Counting = machine::Counting;

/// How long to run. A smoke run does only enough to check the results.
#[derive(Clone, Copy)]
struct Scale {
    smoke: bool,
    /// How many children, instead of the family's own number.
    count: Option<usize>,
}

impl Scale {
    fn new(smoke: bool) -> Self {
        Scale { smoke, count: None }
    }

    fn pick<T>(self, full: T, smoke: T) -> T {
        if self.smoke { smoke } else { full }
    }

    /// Like `pick`, unless the caller gave a number.
    fn children(self, full: usize, smoke: usize) -> usize {
        self.count.unwrap_or(self.pick(full, smoke))
    }
}

/// One run shows little on a machine that others use too.
const RUNS: usize = 3;

type Family = fn(Scale) -> Vec<Figure>;

const FAMILIES: [(&str, Family); 12] = [
    ("latency", latency::run),
    ("bulk", bulk::run),
    ("duplex", duplex::run),
    ("lines", lines::run),
    ("fds", fds::run),
    ("many", many::run),
    ("pipelines", pipelines::run),
    ("talkers", talkers::run),
    ("waiting", waiting::run),
    ("fairness", fairness::run),
    ("instructions", instructions::run),
    ("build", build::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--child", ..] => return child::run(&arguments[1..]),
        ["render"] => render(),
        ["check"] => check(),
        _ => match measure(&words) {
            Some(done) => done,
            None => return usage(),
        },
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("reaped-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn render() -> io::Result<ExitCode> {
    page::render(&Results::load()?)?;
    Ok(ExitCode::SUCCESS)
}

fn check() -> io::Result<ExitCode> {
    let stale = page::stale(&Results::load()?)?;
    for line in &stale {
        eprintln!("{line}");
    }
    if stale.is_empty() {
        println!("RESULTS.md and README's table are what results.json gives");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("`cargo run --release -p reaped-bench -- render` makes them anew");
    Ok(ExitCode::FAILURE)
}

/// `None` if no family has these words.
fn measure(words: &[&str]) -> Option<io::Result<ExitCode>> {
    let (mut json, mut scale, mut name) = (false, Scale::new(false), None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--json" => json = true,
            "--smoke" => scale.smoke = true,
            "--count" => scale.count = Some(words.next()?.parse().ok()?),
            known if name.is_none() && FAMILIES.iter().any(|(family, _)| *family == known) => {
                name = Some(known);
            }
            _ => return None,
        }
    }
    let full = name.is_none() && !scale.smoke;
    if scale.count.is_some() && !matches!(name, Some("talkers" | "waiting")) {
        return None;
    }
    let mut results = Results::here();
    for skipped in &results.machine.skipped {
        eprintln!("not measured: {skipped}");
    }
    for _ in 0..if full { RUNS } else { 1 } {
        for (family, run) in FAMILIES {
            if name.is_none_or(|name| name == family) {
                let figures = run(scale);
                for figure in &figures {
                    println!("{}", if json { figure.json() } else { figure.line() });
                }
                results.add(family, figures);
            }
        }
    }
    Some(if full { finish(&results) } else { Ok(ExitCode::SUCCESS) })
}

/// Stores a full run, and prints the claims of README that it does not confirm.
fn finish(results: &Results) -> io::Result<ExitCode> {
    let before = Results::load();
    results.store()?;
    page::render(results)?;
    if let Err(error) = &before {
        println!("README's table was not looked at: there are no results that it was made from ({error})");
    }
    let broken = page::broken(results, before.as_ref().ok());
    if broken.is_empty() {
        println!("every claim of README and every aim holds on this machine");
    } else {
        println!("{} claims and aims do not hold on this machine:", broken.len());
    }
    for line in broken {
        println!("- {line}");
    }
    Ok(ExitCode::SUCCESS)
}

fn usage() -> ExitCode {
    let names: Vec<&str> = FAMILIES.iter().map(|(family, _)| *family).collect();
    eprintln!("usage: reaped-bench [{}] [--json] [--smoke]", names.join("|"));
    eprintln!("       reaped-bench talkers|waiting [--count CHILDREN] [--json] [--smoke]");
    eprintln!("       reaped-bench render | check");
    ExitCode::from(2)
}

//! Python's asyncio and Twisted, if they are installed: `peers.py` is a contestant like the others.

use std::process::Command;
use std::sync::LazyLock;

use crate::child::program;
use crate::compare::{Contest, Executor};
use crate::machine::said;

/// A kit and its version, if there is one.
static KITS: LazyLock<[(&str, Option<String>); 2]> = LazyLock::new(|| {
    let asks = |code: &str| said(Command::new("python3"), &["-c", code]);
    [
        ("asyncio", asks("import asyncio, platform; print(platform.python_version())")),
        ("twisted", asks("import twisted.internet.reactor, twisted; print(twisted.__version__)")),
    ]
});

/// asyncio's version is Python's.
pub fn versions() -> impl Iterator<Item = (String, String)> {
    let there = |(name, version): &(&str, Option<String>)| Some((name.to_string(), version.clone()?));
    KITS.iter().filter_map(there)
}

/// What is not installed.
pub fn missing() -> Vec<String> {
    let missing = KITS.iter().filter(|(_, version)| version.is_none());
    missing.map(|(name, _)| format!("{name}, which this machine's python3 does not have")).collect()
}

/// A contestant that is a program of its own, and the number of rounds that it takes part in.
pub struct Script {
    pub name: &'static str,
    pub rounds: usize,
    pub command: Command,
}

/// The contestants. Python brings its own loop, so one executor stands for all. `total` and `piece` say how
/// much there is to do.
pub fn scripts(contest: Contest) -> Vec<Script> {
    let (total, piece, rounds) = match (contest.family, contest.executor) {
        ("latency", Executor::Futures) => (0, 0, 100),
        ("bulk", Executor::Futures) => (crate::bulk::total(contest.scale), contest.variant, 2),
        ("lines", Executor::Futures) => (crate::lines::total(contest.scale), 0, 1),
        ("many", Executor::Smol) => (crate::many::total(contest.scale), 0, 2),
        _ => return Vec::new(),
    };
    let there = KITS.iter().filter(|(_, version)| version.is_some());
    let script = |name: &'static str| {
        let mut command = Command::new("python3");
        command.arg(crate::results::home().join("peers.py")).args([name, contest.family]);
        command.args([total, piece].map(|number| number.to_string())).arg(program());
        Script { name, rounds, command }
    };
    there.map(|(name, _)| script(name)).collect()
}

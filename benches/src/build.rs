//! A clean release build of two crates, one that depends on reaped, and one on async-process alone: the time,
//! and the number of crates.
//!
//! Each is built once, because twice would take more than a minute. Both are built in a temporary folder,
//! offline if the crates were downloaded before. A smoke run only counts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::Scale;
use crate::compare::{Contestant, compare_here, timed_call};
use crate::report::Figure;

pub fn run(scale: Scale) -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder");
    let crates = [("reaped", format!("{{ path = {path:?} }}")), ("async-process", "\"2.5\"".into())];
    let mut counts = Vec::new();
    let mut contestants = Vec::new();
    for (name, dependency) in crates {
        let home = folder.path().join(name);
        fs::create_dir_all(home.join("src")).expect("a folder");
        fs::write(home.join("src/lib.rs"), "").expect("a file");
        let manifest = format!(
            "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[dependencies]\n\
             {name} = {dependency}\n[workspace]\n"
        );
        fs::write(home.join("Cargo.toml"), manifest).expect("a file");
        counts.push(count(&home));
        contestants.push(Contestant::blocking(name, move || build(&home)));
    }
    let (reaped, alone) = (counts[0] as f64, counts[1] as f64);
    let mut figures = vec![
        Figure::new("build/crates", reaped, "crates")
            .beside("async-process", reaped / alone)
            .aim_value(alone + 10.0)
            .note(format!("async-process alone: {alone}")),
    ];
    if !scale.smoke {
        let medians = compare_here(1, contestants);
        figures.insert(0, Figure::of("build/time", &medians, 1.0, "s").aim("async-process", 1.5));
    }
    figures
}

/// Crates that are built for this machine, without the crate itself.
fn count(home: &Path) -> usize {
    let output = cargo(home, &["tree", "--prefix", "none", "--edges", "normal,build", "--format", "{p}"]);
    let text = String::from_utf8(output.stdout).expect("names of crates");
    let named = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let crates: BTreeSet<String> = text.lines().map(named).filter(|line| !line.is_empty()).collect();
    assert!(crates.iter().any(|name| name.starts_with("async-process ")), "what both build on");
    crates.len() - 1
}

/// Seconds of a clean build.
fn build(home: &Path) -> f64 {
    let target = home.join("target");
    if target.exists() {
        fs::remove_dir_all(&target).expect("an old build goes");
    }
    timed_call(|| cargo(home, &["build", "--release", "--target-dir", "target"])).0
}

/// Offline, and if that fails, online.
fn cargo(home: &Path, arguments: &[&str]) -> Output {
    let run = |offline: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(home).args(arguments).args(offline);
        // The variables of a build that may have started this program.
        command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        command.output().expect("cargo")
    };
    let mut output = run(&["--offline"]);
    if !output.status.success() {
        output = run(&[]);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

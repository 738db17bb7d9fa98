//! 512 MiB of stdout collected, on each executor, and the peak of memory meanwhile.
//!
//! The source is this program. It writes one buffer of 64 KiB over and over, 64 KiB at each write. For a
//! second figure it writes 8 KiB at each write, as many programs do.

use std::process::Stdio;

use crate::Scale;
use crate::child::{is_pattern, program};
use crate::compare::{Contest, Contestant, Executor, compare, timed, timed_call};
use crate::machine;
use crate::report::Figure;

const LARGE: usize = 64 * 1024;
const SMALL: usize = 8 * 1024;
const QUARTER: usize = 4;

pub fn run(scale: Scale) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (piece, kind) in [(LARGE, ""), (SMALL, "-8k")] {
        for executor in Executor::ALL {
            if piece == LARGE || executor == Executor::Futures {
                let contest = Contest { family: "bulk", executor, variant: piece, scale };
                let medians = compare(contest, scale.pick(7, 1), contestants);
                let name = format!("bulk/{}{kind}", executor.name());
                let most = if piece == LARGE { 1.0 } else { 1.03 };
                figures.push(Figure::of(name, &medians, 1.0, "s").aim("std", most).aim("async-process", 0.3));
            }
        }
    }
    figures.push(peak(total(scale)).aim_value(1.15));
    figures
}

pub fn total(scale: Scale) -> usize {
    scale.pick(512 << 20, (4 << 20) + 1)
}

fn arguments(total: usize, piece: usize) -> [String; 4] {
    ["--child".into(), "out".into(), total.to_string(), piece.to_string()]
}

/// The contestants; the variant is how much the source writes at once.
pub fn contestants(contest: Contest) -> Vec<Contestant> {
    let (total, piece) = (total(contest.scale), contest.variant);
    let mut contestants = vec![
        Contestant::new("reaped", move || async move {
            let (seconds, output) = timed(|| reaped::output(program(), arguments(total, piece))).await;
            let output = output.expect("a child");
            assert!(output.status.success() && is_pattern(&output.stdout, total));
            seconds
        }),
        Contestant::blocking("std", move || {
            let mut command = std::process::Command::new(program());
            let (seconds, output) = timed_call(|| command.args(arguments(total, piece)).output());
            let output = output.expect("a child");
            assert!(output.status.success() && is_pattern(&output.stdout, total));
            seconds
        }),
        Contestant::new("async-process", move || async move {
            let total = total / QUARTER;
            let mut command = async_process::Command::new(program());
            let (seconds, output) = timed(|| command.args(arguments(total, piece)).output()).await;
            let output = output.expect("a child");
            assert!(output.status.success() && is_pattern(&output.stdout, total));
            seconds * QUARTER as f64
        })
        .at_most(1),
    ];
    if contest.executor.is_tokio() {
        contestants.push(Contestant::new("tokio", move || async move {
            let mut command = tokio::process::Command::new(program());
            let (seconds, output) = timed(|| command.args(arguments(total, piece)).output()).await;
            let output = output.expect("a child");
            assert!(output.status.success() && is_pattern(&output.stdout, total));
            seconds
        }));
        contestants.push(Contestant::new("processkit", move || async move {
            let command = processkit::Command::new(program()).args(arguments(total, piece));
            let (seconds, output) = timed(|| command.output_bytes()).await;
            let output = output.expect("a child");
            assert!(output.is_success() && is_pattern(output.stdout(), total));
            seconds
        }));
    } else {
        // They block, so one executor is enough.
        contestants.push(Contestant::blocking("duct", move || {
            let expression = duct::cmd(program(), arguments(total, piece)).stdin_null();
            let (seconds, output) = timed_call(|| expression.stdout_capture().stderr_capture().run());
            assert!(is_pattern(&output.expect("a child").stdout, total));
            seconds
        }));
        contestants.push(Contestant::blocking("subprocess", move || {
            use subprocess::{Exec, Redirection};
            let exec = Exec::cmd(program()).args(arguments(total, piece)).stdin(Redirection::Null);
            let exec = exec.stdout(Redirection::Pipe).stderr(Redirection::Pipe);
            let (seconds, capture) = timed_call(|| exec.capture());
            let capture = capture.expect("a child");
            assert!(capture.exit_status.success() && is_pattern(&capture.stdout, total));
            seconds
        }));
    }
    contestants
}

/// The peak of memory above the memory before, divided by the bytes collected.
fn peak(total: usize) -> Figure {
    let measure = |collect: &dyn Fn() -> Vec<u8>| {
        machine::forget_peak();
        let before = machine::resident();
        let bytes = collect();
        let most = machine::peak();
        assert!(is_pattern(&bytes, total));
        most.saturating_sub(before) as f64 / total as f64
    };
    let reaped = measure(&|| {
        let promise = reaped::read_bytes(program(), arguments(total, LARGE));
        futures::executor::block_on(promise).expect("a child")
    });
    let std = measure(&|| {
        let mut command = std::process::Command::new(program());
        command.args(arguments(total, LARGE)).stdin(Stdio::null());
        command.output().expect("a child").stdout
    });
    Figure::new("bulk/peak", reaped, "x the bytes").beside("std", reaped / std)
}

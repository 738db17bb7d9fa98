//! 512 MiB of stdout collected, on each executor, and the peak of memory meanwhile.
//!
//! The source is this program itself, which writes one buffer of 64 KiB over and over, 64 KiB at a write; a
//! second figure has it write 8 KiB at a time, as many programs do.

use std::process::Stdio;

use crate::Scale;
use crate::child::{is_pattern, program};
use crate::compare::{Contestant, Executor, Medians, compare, timed, timed_call};
use crate::machine;
use crate::report::Figure;

const LARGE: usize = 64 * 1024;
const SMALL: usize = 8 * 1024;

pub fn run(scale: Scale) -> Vec<Figure> {
    let total = scale.pick(512 << 20, (4 << 20) + 1);
    let mut figures = Vec::new();
    for (piece, kind) in [(LARGE, ""), (SMALL, "-8k")] {
        for executor in Executor::ALL {
            if piece == LARGE || executor == Executor::Futures {
                let medians = on(executor, scale.pick(5, 1), total, piece);
                let name = format!("bulk/{}{kind}", executor.name());
                figures.push(Figure::of(name, &medians, 1.0, "s").aim("std", 1.0).aim("async-process", 0.3));
            }
        }
    }
    figures.push(peak(total).aim_value(1.15));
    figures
}

fn arguments(total: usize, piece: usize) -> [String; 4] {
    ["--child".into(), "out".into(), total.to_string(), piece.to_string()]
}

fn on(executor: Executor, rounds: usize, total: usize, piece: usize) -> Medians {
    let mut contestants = vec![
        Contestant::new("reaped", move || async move {
            let (seconds, output) = timed(reaped::output(program(), arguments(total, piece))).await;
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
            let mut command = async_process::Command::new(program());
            let (seconds, output) = timed(command.args(arguments(total, piece)).output()).await;
            let output = output.expect("a child");
            assert!(output.status.success() && is_pattern(&output.stdout, total));
            seconds
        })
        .at_most(1),
    ];
    if executor.is_tokio() {
        contestants.push(Contestant::new("tokio", move || async move {
            let mut command = tokio::process::Command::new(program());
            let (seconds, output) = timed(command.args(arguments(total, piece)).output()).await;
            let output = output.expect("a child");
            assert!(output.status.success() && is_pattern(&output.stdout, total));
            seconds
        }));
    }
    compare(executor, rounds, contestants)
}

/// The peak of memory above what was there before, through the bytes collected.
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

//! From the call to the result of `/bin/true` with both streams captured, on each executor.
//!
//! `bare` waits for the child in the calling thread. `bare-relay` does what a library must do if it does not
//! own the executor: a second thread waits, and wakes the first. The difference of the two is the machine's
//! price for one more change of threads.

use std::process::Output;

use crate::Scale;
use crate::bare;
use crate::compare::{Contest, Contestant, Executor, compare, timed, timed_call};
use crate::report::Figure;

const TRUE: &str = "/bin/true";

pub fn run(scale: Scale) -> Vec<Figure> {
    Executor::ALL.map(|executor| on(executor, scale)).into()
}

fn on(executor: Executor, scale: Scale) -> Figure {
    let contest = Contest { family: "latency", executor, variant: 0, scale };
    let medians = compare(contest, scale.pick(1000, 10), contestants);
    let figure = Figure::of(format!("latency/{}", executor.name()), &medians, 1e6, "us");
    let figure = figure.aim("std", 1.08).aim("async-process", 1.0);
    if executor.is_tokio() { figure.aim("tokio", 1.0) } else { figure }
}

/// The contestants.
pub fn contestants(contest: Contest) -> Vec<Contestant> {
    let mut contestants = vec![
        Contestant::new("reaped", async || {
            let (seconds, output) = timed(|| reaped::output(TRUE, [""; 0])).await;
            let output = output.expect("a child");
            assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
            seconds
        }),
        Contestant::blocking("std", || {
            let (seconds, output) = timed_call(|| std::process::Command::new(TRUE).output());
            check(&output.expect("a child"));
            seconds
        }),
        Contestant::new("async-process", async || {
            let (seconds, output) = timed(|| async_process::Command::new(TRUE).output()).await;
            check(&output.expect("a child"));
            seconds
        }),
        Contestant::blocking("bare", || {
            let (seconds, output) = timed_call(|| bare::output(&[c"/bin/true"]));
            check(&output.expect("a child"));
            seconds
        }),
    ];
    let mut relay = None;
    contestants.push(Contestant::blocking("bare-relay", move || {
        let relay = relay.get_or_insert_with(|| bare::Relay::start().expect("a thread"));
        let (seconds, output) = timed_call(|| relay.output(&[c"/bin/true"]));
        check(&output.expect("a child"));
        seconds
    }));
    if contest.executor.is_tokio() {
        contestants.push(Contestant::new("tokio", async || {
            let (seconds, output) = timed(|| tokio::process::Command::new(TRUE).output()).await;
            check(&output.expect("a child"));
            seconds
        }));
        contestants.push(Contestant::new("processkit", async || {
            let command = processkit::Command::new(TRUE);
            let (seconds, output) = timed(|| command.output_bytes()).await;
            let output = output.expect("a child");
            assert!(output.is_success() && output.stdout().is_empty() && output.stderr().is_empty());
            seconds
        }));
    } else {
        // They block, so one executor is enough.
        contestants.push(Contestant::blocking("duct", || {
            let expression = || duct::cmd!(TRUE).stdin_null().stdout_capture().stderr_capture().run();
            let (seconds, output) = timed_call(expression);
            check(&output.expect("a child"));
            seconds
        }));
        contestants.push(Contestant::blocking("subprocess", || {
            use subprocess::{Exec, Redirection};
            let capture = || {
                Exec::cmd(TRUE)
                    .stdin(Redirection::Null)
                    .stdout(Redirection::Pipe)
                    .stderr(Redirection::Pipe)
                    .capture()
            };
            let (seconds, capture) = timed_call(capture);
            let capture = capture.expect("a child");
            assert!(capture.exit_status.success() && capture.stdout.is_empty() && capture.stderr.is_empty());
            seconds
        }));
    }
    contestants
}

fn check(output: &Output) {
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
}

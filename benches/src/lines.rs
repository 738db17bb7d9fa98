//! 5 million short lines, as `lines()`, as lent lines and as events, beside tokio's and std's `BufReader::lines`.
//!
//! This program itself writes them. Each contestant counts the lines, and sums their bytes.

use std::io::BufRead;
use std::process::Stdio;

use futures::AsyncBufReadExt;
use futures::StreamExt;

use crate::Scale;
use crate::child::{line, program};
use crate::compare::{Contest, Contestant, Executor, compare, timed, timed_call};
use crate::report::Figure;

pub fn run(scale: Scale) -> Vec<Figure> {
    let mut figures = Vec::new();
    for executor in [Executor::TokioCt, Executor::Futures] {
        let contest = Contest { family: "lines", executor, variant: 0, scale };
        let medians = compare(contest, scale.pick(15, 1), contestants);
        let (ours, peers) = medians.split_at(3);
        for (kind, seconds) in ours {
            let name = format!("lines/{kind}-{}", executor.name());
            let figure = peers.iter().fold(Figure::new(name, *seconds, "s"), |figure, (peer, value)| {
                figure.beside(peer, seconds / value)
            });
            let (peer, most) = match (*kind, executor.is_tokio()) {
                ("lines", true) => ("tokio", 0.8),
                ("lines", false) => ("std", 0.65),
                ("lent", true) => ("tokio", 0.6),
                ("lent", false) => ("std", 0.5),
                (_, true) => ("tokio", 1.0),
                (_, false) => ("std", 1.0),
            };
            figures.push(figure.aim(peer, most));
        }
    }
    figures
}

/// What a contestant has counted.
#[derive(Default, PartialEq, Debug)]
struct Sum {
    lines: usize,
    bytes: usize,
    digits: usize,
}

impl Sum {
    fn expected(total: usize) -> Self {
        let mut sum = Sum::default();
        (0..total.min(1000)).map(line).for_each(|line| sum.line(&line));
        let thousand = Sum { ..sum };
        if total > 1000 {
            let rounds = total / 1000;
            sum.lines *= rounds;
            sum.bytes = thousand.bytes * rounds;
            sum.digits = thousand.digits * rounds;
            (0..total % 1000).map(line).for_each(|line| sum.line(&line));
        }
        sum
    }

    fn line(&mut self, line: &str) {
        self.lines += 1;
        self.bytes += line.len();
        self.digits += usize::from(line.as_bytes()[7]);
    }
}

fn arguments(total: usize) -> [String; 3] {
    ["--child".into(), "lines".into(), total.to_string()]
}

pub fn total(scale: Scale) -> usize {
    scale.pick(5_000_000, 10_007)
}

/// The contestants.
pub fn contestants(contest: Contest) -> Vec<Contestant> {
    let total = total(contest.scale);
    let mut contestants = vec![
        summing("lines", total, as_lines),
        summing("lent", total, as_lent_lines),
        Contestant::new("events", move || async move {
            let (seconds, (lines, bytes)) = timed(|| as_events(total)).await;
            assert_eq!((lines, bytes), (total, total + Sum::expected(total).bytes));
            seconds
        }),
        summing_blocked("std", total, with_std),
    ];
    if contest.executor.is_tokio() {
        contestants.push(summing("tokio", total, with_tokio));
        contestants.push(summing("processkit", total, with_processkit));
    } else {
        contestants.push(summing("async-process", total, with_async_process).at_most(1));
        // They block, so one executor is enough.
        let blocking: [(&'static str, Read); 2] = [("duct", with_duct), ("subprocess", with_subprocess)];
        contestants.extend(blocking.map(|(name, read)| summing_blocked(name, total, read)));
    }
    contestants
}

/// A contestant that reads so many lines, and must have seen what is in them.
fn summing<F: Future<Output = Sum> + Send + 'static>(
    name: &'static str,
    total: usize,
    read: fn(usize) -> F,
) -> Contestant {
    Contestant::new(name, move || async move {
        let (seconds, sum) = timed(|| read(total)).await;
        assert_eq!(sum, Sum::expected(total));
        seconds
    })
}

/// The same for a contestant that blocks.
fn summing_blocked(name: &'static str, total: usize, read: Read) -> Contestant {
    Contestant::blocking(name, move || {
        let (seconds, sum) = timed_call(|| read(total));
        assert_eq!(sum, Sum::expected(total));
        seconds
    })
}

/// Reads this many lines with the contestant of that name, under tokio.
pub async fn read(name: &str, total: usize) -> std::io::Result<()> {
    let sum = match name {
        "reaped" => as_lines(total).await,
        "std" => with_std(total),
        "tokio" => with_tokio(total).await,
        _ => with_async_process(total).await,
    };
    if sum == Sum::expected(total) { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

fn started(total: usize) -> reaped::Process {
    let mut command = reaped::Command::new(program());
    command.args(arguments(total)).stdin(reaped::Stdio::null()).spawn().expect("a child")
}

async fn as_lines(total: usize) -> Sum {
    let mut process = started(total);
    let mut sum = Sum::default();
    let mut lines = process.lines();
    while let Some(line) = lines.next().await {
        sum.line(&line.text);
    }
    assert!(process.status().await.expect("a status").success());
    sum
}

async fn as_lent_lines(total: usize) -> Sum {
    let mut process = started(total);
    let mut sum = Sum::default();
    let mut lines = process.lines();
    while let Some(line) = lines.next_borrowed().await {
        sum.line(&line.text);
    }
    assert!(process.status().await.expect("a status").success());
    sum
}

/// Events are not lines: line ends are counted.
async fn as_events(total: usize) -> (usize, usize) {
    let mut process = started(total);
    let (mut lines, mut bytes) = (0, 0);
    while let Some(event) = process.next().await {
        match event {
            reaped::Event::Data { data, .. } => {
                lines += data.iter().filter(|byte| **byte == b'\n').count();
                bytes += data.len();
            }
            reaped::Event::Ended(status) => assert!(status.success()),
            _ => {}
        }
    }
    (lines, bytes)
}

fn with_std(total: usize) -> Sum {
    let mut command = std::process::Command::new(program());
    let mut child = command.args(arguments(total)).stdout(Stdio::piped()).spawn().expect("a child");
    let mut sum = Sum::default();
    for line in std::io::BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        sum.line(&line.expect("a line"));
    }
    assert!(child.wait().expect("a status").success());
    sum
}

async fn with_tokio(total: usize) -> Sum {
    use tokio::io::AsyncBufReadExt;
    let mut command = tokio::process::Command::new(program());
    let mut child = command.args(arguments(total)).stdout(Stdio::piped()).spawn().expect("a child");
    let mut sum = Sum::default();
    let mut lines = tokio::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    while let Some(line) = lines.next_line().await.expect("a line") {
        sum.line(&line);
    }
    assert!(child.wait().await.expect("a status").success());
    sum
}

async fn with_async_process(total: usize) -> Sum {
    let mut command = async_process::Command::new(program());
    let mut child = command.args(arguments(total)).stdout(Stdio::piped()).spawn().expect("a child");
    let mut sum = Sum::default();
    let mut lines = futures::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    while let Some(line) = lines.next().await {
        sum.line(&line.expect("a line"));
    }
    assert!(child.status().await.expect("a status").success());
    sum
}

async fn with_processkit(total: usize) -> Sum {
    let command = processkit::Command::new(program()).args(arguments(total));
    let mut child = command.start().await.expect("a child");
    let mut sum = Sum::default();
    let mut lines = child.stdout_lines().expect("not taken yet");
    while let Some(line) = lines.next().await {
        sum.line(&line);
    }
    assert_eq!(child.finish().await.expect("a status").outcome, processkit::Outcome::Exited(0));
    sum
}

/// Reads this many lines, and blocks meanwhile.
type Read = fn(usize) -> Sum;

fn with_duct(total: usize) -> Sum {
    // If the child fails, the reader returns an error.
    let reader = duct::cmd(program(), arguments(total)).stdin_null().reader().expect("a child");
    sum_of(reader)
}

fn with_subprocess(total: usize) -> Sum {
    let exec = subprocess::Exec::cmd(program()).args(arguments(total)).stdin(subprocess::Redirection::Null);
    sum_of(exec.stream_stdout().expect("a child"))
}

fn sum_of(reader: impl std::io::Read) -> Sum {
    let mut sum = Sum::default();
    for line in std::io::BufReader::new(reader).lines() {
        sum.line(&line.expect("a line"));
    }
    sum
}

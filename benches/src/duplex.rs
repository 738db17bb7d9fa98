//! 256 MiB through `cat`, fed from memory and collected, on each executor; std with two threads.
//! async-process gets a quarter, and its time counts four times.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use futures::io::{AsyncReadExt, AsyncWriteExt};

use crate::Scale;
use crate::child::pattern;
use crate::compare::{Contest, Contestant, Executor, compare, timed, timed_call};
use crate::report::Figure;

const QUARTER: usize = 4;

pub fn run(scale: Scale) -> Vec<Figure> {
    let on = |executor: Executor| {
        let contest = Contest { family: "duplex", executor, variant: 0, scale };
        let medians = compare(contest, scale.pick(7, 1), contestants);
        Figure::of(format!("duplex/{}", executor.name()), &medians, 1.0, "s").aim("std", 0.95)
    };
    Executor::ALL.map(on).into()
}

/// The bytes; made once, at the first use.
type Bytes = Arc<LazyLock<Vec<u8>, Box<dyn FnOnce() -> Vec<u8> + Send>>>;

/// The same bytes for the command, as the peers use them. A copy of its own would be farther away in memory.
struct Shared(Bytes);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The contestants.
pub fn contestants(contest: Contest) -> Vec<Contestant> {
    let scale = contest.scale;
    let bytes: Bytes =
        Arc::new(LazyLock::new(Box::new(move || pattern(scale.pick(256 << 20, (4 << 20) + 1)))));
    // The command keeps the bytes, and feeds each run from them.
    let mut cat = None;
    let all = bytes.clone();
    let reaped = Contestant::new("reaped", move || {
        let cat = cat.get_or_insert_with(|| {
            let mut cat = reaped::Command::new("cat");
            cat.stdin(reaped::Stdio::shared(Arc::new(Shared(all.clone()))));
            cat
        });
        // Made here and not in the future, because it borrows the command. The start is measured too.
        let start = Instant::now();
        let promise = cat.read_bytes();
        let all = all.clone();
        async move {
            let through = promise.await.expect("a child");
            let seconds = start.elapsed().as_secs_f64();
            assert!(through == **all);
            seconds
        }
    });
    let all = bytes.clone();
    let std = Contestant::blocking("std", move || {
        let all: &[u8] = &all;
        let (seconds, through) = timed_call(|| with_two_threads(all));
        assert!(through == all);
        seconds
    });
    let all = bytes.clone();
    let async_process = Contestant::new("async-process", move || {
        let all = all.clone();
        async move {
            let some: &[u8] = &all[..all.len() / QUARTER];
            let (seconds, through) = timed(|| with_async_process(some)).await;
            assert!(through == some);
            seconds * QUARTER as f64
        }
    });
    let mut contestants = vec![reaped, std];
    if contest.executor.is_tokio() {
        let all = bytes.clone();
        contestants.push(Contestant::new("tokio", move || {
            let all = all.clone();
            async move {
                let all: &[u8] = &all;
                let (seconds, through) = timed(|| with_tokio(all)).await;
                assert!(through == all);
                seconds
            }
        }));
    } else {
        contestants.push(async_process.at_most(1));
    }
    contestants
}

fn with_two_threads(bytes: &[u8]) -> Vec<u8> {
    let mut command = std::process::Command::new("cat");
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
    let mut stdin = cat.stdin.take().expect("a pipe");
    let mut stdout = cat.stdout.take().expect("a pipe");
    let mut through = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).expect("cat reads"));
        stdout.read_to_end(&mut through).expect("cat writes");
    });
    assert!(cat.wait().expect("a status").success());
    through
}

async fn with_async_process(bytes: &[u8]) -> Vec<u8> {
    let mut command = async_process::Command::new("cat");
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
    let mut stdin = cat.stdin.take().expect("a pipe");
    let mut stdout = cat.stdout.take().expect("a pipe");
    let mut through = Vec::new();
    let feed = async move { stdin.write_all(bytes).await.expect("cat reads") };
    let collect = async { stdout.read_to_end(&mut through).await.expect("cat writes") };
    futures::join!(feed, collect);
    assert!(cat.status().await.expect("a status").success());
    through
}

async fn with_tokio(bytes: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut command = tokio::process::Command::new("cat");
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
    let mut stdin = cat.stdin.take().expect("a pipe");
    let mut stdout = cat.stdout.take().expect("a pipe");
    let mut through = Vec::new();
    let feed = async move { stdin.write_all(bytes).await.expect("cat reads") };
    let collect = async { stdout.read_to_end(&mut through).await.expect("cat writes") };
    futures::join!(feed, collect);
    assert!(cat.wait().await.expect("a status").success());
    through
}

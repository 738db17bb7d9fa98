//! 1000 children that sleep: heap for each child, threads, and processor time of a second in which nothing
//! happens.
//!
//! The heap once more with a timeout, with a taken reader that is awaited, and with a tee.
//!
//! Each contestant measures itself in a process of its own, with an allocator that counts. The heap is all
//! memory that is there with the children and was not there without them: the futures and the reactor too.

use std::fmt::Write;
use std::fs;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;

use crate::Scale;
use crate::child::program;
use crate::compare::Executor;
use crate::machine;
use crate::report::Figure;

const PEERS: [&str; 2] = ["async-process", "tokio"];

/// The states in which a task waits for a child, beside `output`.
const STATES: [&str; 3] = ["timeout", "reader", "tee"];

pub fn run(scale: Scale) -> Vec<Figure> {
    let count = scale.children(1000, 20);
    let plain = ["reaped", PEERS[0], PEERS[1]].map(|contestant| take_turn(contestant, "plain", count));
    let names = ["waiting/heap", "waiting/threads", "waiting/idle"];
    let units = ["bytes a child", "threads", "us of CPU in a second"];
    let aims = [2048.0, 2.0, 1000.0];
    let mut figures: Vec<Figure> = (0..3)
        .map(|what| {
            let found = plain.map(|numbers| numbers[what]);
            figure(names[what], found, units[what], plain[0][3]).aim_value(aims[what])
        })
        .collect();
    for (index, state) in STATES.into_iter().enumerate() {
        let name = format!("waiting/heap-{state}");
        let ours = take_turn("reaped", state, count);
        // Neither peer has a tee.
        let peers =
            PEERS.map(|peer| if state == "tee" { f64::NAN } else { take_turn(peer, state, count)[0] });
        figures.insert(1 + index, figure(&name, [ours[0], peers[0], peers[1]], units[0], ours[3]));
    }
    figures
}

/// reaped's first, then the peers'.
fn figure(name: &str, found: [f64; 3], unit: &str, count: f64) -> Figure {
    let mut said = String::new();
    let mut figure = Figure::new(name, found[0], unit);
    for (peer, number) in PEERS.into_iter().zip(&found[1..]) {
        // A time may be too short to be measured.
        if *number > 0.0 {
            figure = figure.beside(peer, found[0] / number);
        }
        if number.is_finite() {
            let _ = write!(said, "{} {peer}: {number:.0}", if said.is_empty() { ";" } else { "," });
        }
    }
    figure.note(format!("{count:.0} children{said}"))
}

/// Heap for each child, threads, idle time, and the number of children.
fn take_turn(contestant: &str, state: &str, count: usize) -> [f64; 4] {
    let output = Command::new(program())
        .args(["--child", "waiting", contestant, state, &count.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("a child");
    assert!(output.status.success(), "{contestant} fails");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    <[f64; 4]>::try_from(numbers).expect("four numbers")
}

/// Longer than any run waits.
const LONG: Duration = Duration::from_secs(1000);

/// In the child: starts the sleepers, and prints heap per child, threads, idle time, and how many there are.
pub fn measure(contestant: &str, state: &str, count: usize) -> io::Result<()> {
    // At most four descriptors for each child, and some to spare.
    let count = count.min((machine::raise_open_files() as usize).saturating_sub(64) / 4);
    let plain = state == "plain";
    let boxed = |start: fn() -> Started| Executor::Futures.block_on(report(true, count, pause(plain), start));
    let smol = |start: fn() -> Started| Executor::Futures.block_on(report(false, count, pause(plain), start));
    let tokio =
        |start: fn() -> Started| Executor::TokioCt.block_on(report(false, count, tokio_pause(plain), start));
    match (contestant, state) {
        // Only the promise, without a box.
        ("reaped", "plain") => Executor::Futures
            .block_on(report(true, count, pause(plain), || reaped::output("/bin/sleep", ["1000"]))),
        ("reaped", "timeout") => Executor::Futures.block_on(report(true, count, pause(plain), || {
            reaped::Command::new("/bin/sleep").arg("1000").timeout(LONG).output()
        })),
        ("reaped", "tee") => Executor::Futures.block_on(report(true, count, pause(plain), || {
            let sink = reaped::Stdio::tee(futures::io::sink());
            reaped::Command::new("/bin/sleep").arg("1000").stdout(sink).output()
        })),
        ("reaped", "reader") => boxed(|| {
            Box::pin(async {
                let mut process = reaped::Command::new("/bin/sleep").arg("1000").spawn().expect("a child");
                let mut reader = process.reader(1).expect("a pipe");
                let _: io::Result<usize> = futures::AsyncReadExt::read(&mut reader, &mut [0; 16]).await;
            })
        }),
        ("async-process", "plain") => smol(|| Box::pin(async_sleeper().output().map(drop))),
        ("async-process", "timeout") => smol(|| {
            let timer = smol::Timer::after(LONG);
            Box::pin(futures::future::select(async_sleeper().output().boxed(), timer).map(drop))
        }),
        ("async-process", "reader") => smol(|| {
            Box::pin(async {
                let mut command = async_sleeper();
                command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                let mut child = command.stdin(std::process::Stdio::null()).spawn().expect("a child");
                let mut reader = child.stdout.take().expect("a pipe");
                let _: io::Result<usize> = futures::AsyncReadExt::read(&mut reader, &mut [0; 16]).await;
            })
        }),
        ("tokio", "plain") => tokio(|| Box::pin(async { drop(tokio_sleeper().output().await) })),
        ("tokio", "timeout") => {
            tokio(|| Box::pin(async { drop(tokio::time::timeout(LONG, tokio_sleeper().output()).await) }))
        }
        ("tokio", "reader") => tokio(|| {
            Box::pin(async {
                let mut command = tokio_sleeper();
                command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                let mut child = command.stdin(std::process::Stdio::null()).spawn().expect("a child");
                let mut reader = child.stdout.take().expect("a pipe");
                let _: io::Result<usize> = tokio::io::AsyncReadExt::read(&mut reader, &mut [0; 16]).await;
            })
        }),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// A child, and the future that waits for it.
type Started = Pin<Box<dyn Future<Output = ()> + Send>>;

fn async_sleeper() -> async_process::Command {
    let mut command = async_process::Command::new("/bin/sleep");
    command.arg("1000").kill_on_drop(true);
    command
}

fn tokio_sleeper() -> tokio::process::Command {
    let mut command = tokio::process::Command::new("/bin/sleep");
    command.arg("1000").kill_on_drop(true);
    command
}

/// The second in which nothing happens; only one state has it.
async fn pause(plain: bool) {
    if plain {
        smol::Timer::after(Duration::from_secs(1)).await;
    }
}

async fn tokio_pause(plain: bool) {
    if plain {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn report<F: Future + Unpin>(
    are_reaped: bool,
    count: usize,
    pause: impl Future<Output = ()>,
    start: impl Fn() -> F,
) -> io::Result<()> {
    machine::count_heap();
    let before = machine::live_heap();
    let mut children = Vec::with_capacity(count);
    children.resize_with(count, start);
    poll_fn(|cx: &mut Context<'_>| {
        for child in &mut children {
            assert!(Pin::new(child).poll(cx).is_pending(), "a sleeper has ended");
        }
        Poll::Ready(())
    })
    .await;
    let heap = (machine::live_heap() - before) as f64 / count as f64;
    let alive = children_alive();
    assert_eq!(alive, count, "children that live");
    // Lets the started children settle.
    std::thread::sleep(Duration::from_millis(200));
    let used = machine::cpu_seconds();
    pause.await;
    let idle = (machine::cpu_seconds() - used) * 1e6;
    let threads = machine::threads();
    println!("{heap:.0} {threads} {idle:.0} {count}");
    drop(children);
    if are_reaped {
        // They are killed, and reaped soon.
        let start = Instant::now();
        while children_alive() > 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "children that are not reaped");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// Children of this process, zombies included, proc_pid_task_children(5).
fn children_alive() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("proc is mounted");
    let children = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children.map(|children| children.split_whitespace().count()).sum()
}

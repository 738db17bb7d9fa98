//! 1000 children that sleep: heap per child, threads, and processor time of a second in which nothing
//! happens.
//!
//! Each contestant measures itself in a process of its own, with an allocator that counts. The heap is all
//! that lives with the children beside what lived without them, the futures and the reactor included.

use std::fs;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::Scale;
use crate::child::program;
use crate::compare::Executor;
use crate::machine;
use crate::report::Figure;

pub fn run(scale: Scale) -> Vec<Figure> {
    let count = scale.pick(1000, 20);
    let contestants = ["reaped", "async-process", "tokio"];
    let found = contestants.map(|contestant| {
        let output = Command::new(program())
            .args(["--child", "waiting", contestant, &count.to_string()])
            .stderr(std::process::Stdio::inherit())
            .output()
            .expect("a child");
        assert!(output.status.success(), "{contestant} fails");
        let text = String::from_utf8(output.stdout).expect("numbers");
        let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        <[f64; 4]>::try_from(numbers).expect("four numbers")
    });
    let names = ["waiting/heap", "waiting/threads", "waiting/idle"];
    let units = ["bytes a child", "threads", "us of CPU in a second"];
    let aims = [2048.0, 2.0, 1000.0];
    (0..3)
        .map(|what| {
            let mut figure = Figure::new(names[what], found[0][what], units[what]).aim_value(aims[what]);
            let mut said = Vec::new();
            for (contestant, numbers) in contestants.iter().zip(found).skip(1) {
                said.push(format!("{contestant}: {:.0}", numbers[what]));
                if numbers[what] > 0.0 {
                    figure = figure.beside(contestant, found[0][what] / numbers[what]);
                }
            }
            figure.note(format!("{:.0} children; {}", found[0][3], said.join(", ")))
        })
        .collect()
}

/// In the child: starts the sleepers, and prints heap per child, threads, idle time, and how many there are.
pub fn measure(contestant: &str, count: usize) -> io::Result<()> {
    // At most four descriptors a child, and some to spare.
    let count = count.min((machine::raise_open_files() as usize).saturating_sub(64) / 4);
    match contestant {
        "reaped" => Executor::Futures
            .block_on(report(contestant.into(), count, pause(), || reaped::output("/bin/sleep", ["1000"]))),
        "async-process" => Executor::Futures.block_on(report(contestant.into(), count, pause(), || {
            let mut command = async_process::Command::new("/bin/sleep");
            Box::pin(command.arg("1000").kill_on_drop(true).output())
        })),
        "tokio" => Executor::TokioCt.block_on(report(contestant.into(), count, tokio_pause(), || {
            let mut command = tokio::process::Command::new("/bin/sleep");
            command.arg("1000").kill_on_drop(true);
            Box::pin(async move { command.output().await })
        })),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

async fn pause() {
    smol::Timer::after(Duration::from_secs(1)).await;
}

async fn tokio_pause() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn report<F: Future + Unpin>(
    contestant: String,
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
    // Let what was started settle.
    std::thread::sleep(Duration::from_millis(200));
    let used = machine::cpu_seconds();
    pause.await;
    let idle = (machine::cpu_seconds() - used) * 1e6;
    let threads = machine::threads();
    println!("{heap:.0} {threads} {idle:.0} {count}");
    drop(children);
    if contestant == "reaped" {
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

//! Many children that each write a line every second, and one thread that reads them: processor time for each
//! line.
//!
//! 1000 of them. `reaped-bench talkers --count 10000` takes more, or as many as there are descriptors for.
//! Each contestant is a process of its own, and counts the time of all of its threads, a reactor's too. A
//! child writes its first line when it has started, so they do not all write at the same moment. The
//! measurement begins once every child has written. The children's own time does not count.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all, select};
use futures::{AsyncBufReadExt, FutureExt, StreamExt};

use crate::Scale;
use crate::child::program;
use crate::compare::Executor;
use crate::machine;
use crate::report::Figure;

/// reaped, and the peer that it is compared with, on the same executor.
const PAIRS: [(Executor, &str); 2] = [(Executor::TokioCt, "tokio"), (Executor::Smol, "async-process")];

pub fn run(scale: Scale) -> Vec<Figure> {
    let count = scale.children(1000, 20);
    let pair = |(executor, peer): (Executor, &'static str)| {
        let [ours, theirs] = ["reaped", peer].map(|contestant| take_turn(contestant, executor, count, scale));
        Figure::new(format!("talkers/{}", executor.name()), ours.a_line, "us of CPU a line")
            .beside(peer, ours.a_line / theirs.a_line)
            .note(format!(
                "{} children, each a line a second; us a child and second: {:.1}, {peer} {:.1}",
                ours.children, ours.a_child_second, theirs.a_child_second
            ))
    };
    PAIRS.map(pair).into()
}

/// The measurements of a contestant.
struct Measured {
    children: f64,
    a_line: f64,
    a_child_second: f64,
}

fn take_turn(contestant: &str, executor: Executor, count: usize, scale: Scale) -> Measured {
    let milliseconds = scale.pick(10_000, 1_000).to_string();
    let output = Command::new(program())
        .args(["--child", "talkers", contestant, executor.name(), &count.to_string(), &milliseconds])
        .stderr(Stdio::inherit())
        .output()
        .expect("a child");
    assert!(output.status.success(), "{contestant} fails");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let [children, a_line, a_child_second] = numbers.try_into().expect("three numbers");
    Measured { children, a_line, a_child_second }
}

/// In a talker: writes a line every second, until nobody reads.
pub fn talk() -> io::Result<()> {
    loop {
        io::stdout().write_all(b"still here\n")?;
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// In the contestant: starts the talkers, reads, and prints how many there are, and the us for each line and
/// for each child and second.
pub fn measure(contestant: &str, executor: &str, count: usize, milliseconds: usize) -> io::Result<()> {
    // Two descriptors for each child, its stdout and its pidfd, and some to spare.
    let count = count.min((machine::raise_open_files() as usize).saturating_sub(200) / 2);
    let executor = Executor::ALL.into_iter().find(|known| known.name() == executor);
    let executor = executor.ok_or(io::ErrorKind::InvalidInput)?;
    let listen: fn(Arc<Heard>) -> BoxFuture<'static, ()> = match contestant {
        "reaped" => |heard| with_reaped(heard).boxed(),
        "tokio" => |heard| with_tokio(heard).boxed(),
        "async-process" => |heard| with_async_process(heard).boxed(),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let window = Duration::from_millis(milliseconds as u64);
    let pause: fn(Duration) -> BoxFuture<'static, ()> = if executor.is_tokio() {
        |time| tokio::time::sleep(time).boxed()
    } else {
        |time| {
            async move {
                let _at: Instant = smol::Timer::after(time).await;
            }
            .boxed()
        }
    };
    executor.block_on(async move {
        let heard = Arc::new(Heard::default());
        let listeners = join_all((0..count).map(|_| listen(heard.clone())));
        let clock = async {
            let start = Instant::now();
            while heard.children.load(Ordering::Relaxed) < count {
                assert!(start.elapsed() < Duration::from_secs(300), "a talker that says nothing");
                pause(Duration::from_millis(100)).await;
            }
            let (lines, used, start) = (heard.lines(), machine::cpu_seconds(), Instant::now());
            pause(window).await;
            let (lines, used) = (heard.lines() - lines, machine::cpu_seconds() - used);
            let seconds = start.elapsed().as_secs_f64();
            assert!(lines > 0, "nobody said a line");
            println!("{count} {} {}", used * 1e6 / lines as f64, used * 1e6 / (count as f64 * seconds));
        };
        // The talkers end once nobody reads their pipes.
        select(listeners, Box::pin(clock)).await;
    });
    Ok(())
}

/// What came from all children.
#[derive(Default)]
struct Heard {
    /// The children that have written something.
    children: AtomicUsize,
    lines: AtomicUsize,
}

impl Heard {
    fn lines(&self) -> usize {
        self.lines.load(Ordering::Relaxed)
    }

    /// One line, the child's first or not.
    fn line(&self, text: &str, said: &mut bool) {
        assert_eq!(text, "still here");
        self.lines.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(said, true) {
            self.children.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn with_reaped(heard: Arc<Heard>) {
    let mut command = reaped::Command::new(program());
    command.args(["--child", "talk"]).stdin(reaped::Stdio::null()).stderr(reaped::Stdio::null());
    let mut process = command.spawn().expect("a child");
    let (mut lines, mut said) = (process.lines(), false);
    while let Some(line) = lines.next().await {
        heard.line(&line.text, &mut said);
    }
}

async fn with_tokio(heard: Arc<Heard>) {
    use tokio::io::AsyncBufReadExt;
    let mut command = tokio::process::Command::new(program());
    command.args(["--child", "talk"]).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("a child");
    let mut lines = tokio::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut said = false;
    while let Some(line) = lines.next_line().await.expect("a line") {
        heard.line(&line, &mut said);
    }
}

async fn with_async_process(heard: Arc<Heard>) {
    let mut command = async_process::Command::new(program());
    command.args(["--child", "talk"]).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("a child");
    let mut lines = futures::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut said = false;
    while let Some(line) = lines.next().await {
        heard.line(&line.expect("a line"), &mut said);
    }
}

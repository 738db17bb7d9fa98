//! How much a child that keeps its parent busy disturbs the other tasks of the same thread.
//!
//! Each work runs as a task of its own, beside one that sleeps for 5 ms over and over, on one thread. The
//! figures are the polls of the work's task, by the clock and in processor time, and how late the sleeper
//! wakes. Starting the child, looking at the result and dropping it are not part of a poll. Each turn is a
//! process of its own. The works take turns alone, and once more beside four processes that spin.
//!
//! reaped and async-process run under smol. reaped once more, and tokio, run under tokio's current thread,
//! because the timers differ: a ratio to tokio compares these two. Notes show reaped, async-process, reaped
//! under tokio, and tokio, in this order.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use crate::Scale;
use crate::child::program;
use crate::compare::{Executor, median};
use crate::machine;
use crate::report::Figure;

mod works;

use works::{Seen, Who};

const NAP: Duration = Duration::from_millis(5);
const HOGS: usize = 4;
/// This many of the largest samples are passed on: enough to find 99.9 % of a million.
const TOP: usize = 1000;

/// Each contestant and its executor. A peer comes after the one that it is compared with.
const SEATS: [(Who, Executor); 4] = [
    (Who::Reaped, Executor::Smol),
    (Who::AsyncProcess, Executor::Smol),
    (Who::Reaped, Executor::TokioCt),
    (Who::Tokio, Executor::TokioCt),
];

pub fn run(scale: Scale) -> Vec<Figure> {
    let mut figures = Vec::new();
    for work in works::WORKS {
        let alone = rounds(work, 4, scale);
        let name = |what: &str| format!("fairness/{work}{what}");
        // In processor time, to which other processes add nothing.
        figures.push(figure(name("/poll-999"), &alone, |seat| seat.cpu.at_999()).aim_value(1.0).note(
            format!("{} polls; by the clock {}", alone[0].cpu.count, each(&alone, |seat| seat.wall.at_999())),
        ));
        figures.push(
            figure(name("/poll-most"), &alone, |seat| seat.cpu.top())
                .aim_value(5.0)
                .note(format!("by the clock {}", each(&alone, |seat| seat.wall.top()))),
        );
        figures.push(
            figure(name("/late"), &alone, |seat| seat.late.most())
                .note(format!("99.9 %: {}", each(&alone, |seat| seat.late.at_999()))),
        );
        // By the clock: if a task gives the processor away within a poll, it uses no processor time.
        let loaded = {
            let _hogs = Hogs::start(scale.pick(HOGS, 1));
            rounds(work, 3, scale)
        };
        figures.push(no_worse(figure(name("/hogs-poll"), &loaded, |seat| seat.wall.most())).note(format!(
            "99.9 %: {}; in processor time {}",
            each(&loaded, |seat| seat.wall.at_999()),
            each(&loaded, |seat| seat.cpu.top())
        )));
        figures.push(
            no_worse(figure(name("/hogs-late"), &loaded, |seat| seat.late.most()))
                .note(format!("99.9 %: {}", each(&loaded, |seat| seat.late.at_999()))),
        );
    }
    figures
}

/// An aim: no more than async-process, if that can do the work.
fn no_worse(figure: Figure) -> Figure {
    if figure.found("async-process").is_some() { figure.aim("async-process", 1.0) } else { figure }
}

/// The values of all seats, in milliseconds; a dash for a seat that cannot do the work.
fn each(seats: &[Measured], value: impl Fn(&Measured) -> f64) -> String {
    let shown = seats.iter().map(value).map(|seconds| match seconds.is_nan() {
        true => "-".to_owned(),
        false => format!("{:.2}", seconds * 1e3),
    });
    shown.collect::<Vec<_>>().join(" / ")
}

/// In milliseconds, of reaped under smol. A peer that cannot do the work has measured nothing.
fn figure(name: String, seats: &[Measured], value: impl Fn(&Measured) -> f64) -> Figure {
    let values: Vec<f64> = seats.iter().map(value).collect();
    let mut figure = Figure::new(name, values[0] * 1e3, "ms");
    for pair in [0, 2] {
        let ratio = values[pair] / values[pair + 1];
        if ratio.is_finite() {
            figure = figure.beside(SEATS[pair + 1].0.name(), ratio);
        }
    }
    figure
}

/// All seats, in turn.
fn rounds(work: &str, count: usize, scale: Scale) -> Vec<Measured> {
    let mut seats = SEATS.map(|_| Measured::default());
    for round in 0..scale.pick(count, 1) {
        for turn in 0..SEATS.len() {
            let index = if round % 2 == 0 { turn } else { SEATS.len() - 1 - turn };
            let (who, executor) = SEATS[index];
            if works::can(who, work) {
                seats[index].add(&take_turn(work, who, executor, scale));
            }
        }
    }
    seats.into()
}

/// Processes that each keep a processor busy, until this is dropped.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start(count: usize) -> Self {
        let hog = |_| {
            let mut command = Command::new(program());
            // It ends with its stdin, however this program ends.
            command
                .args(["--child", "hog"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("a child")
        };
        Hogs((0..count).map(hog).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            // It may have ended by itself.
            let _: io::Result<()> = hog.kill();
            let _: io::Result<std::process::ExitStatus> = hog.wait();
        }
    }
}

/// Samples in seconds. The largest are kept.
#[derive(Default)]
struct Samples {
    count: usize,
    /// In falling order.
    top: Vec<f64>,
    /// The largest sample of each turn.
    most: Vec<f64>,
}

impl Samples {
    fn add(&mut self, text: &str) {
        let mut numbers = text.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
        self.count += numbers.next().expect("how many there were") as usize;
        let mut numbers = numbers.peekable();
        self.most.extend(numbers.peek());
        self.top.extend(numbers);
        self.top.sort_by(|one, other| other.total_cmp(one));
        self.top.truncate(TOP);
    }

    /// One in a thousand is longer.
    fn at_999(&self) -> f64 {
        self.top.get(self.count / 1000).copied().unwrap_or(f64::NAN)
    }

    fn top(&self) -> f64 {
        self.top.first().copied().unwrap_or(f64::NAN)
    }

    /// The median of the longest samples of all turns.
    fn most(&self) -> f64 {
        median(self.most.clone())
    }
}

/// The measurements of one seat in its turns.
#[derive(Default)]
struct Measured {
    wall: Samples,
    cpu: Samples,
    late: Samples,
}

impl Measured {
    fn add(&mut self, text: &str) {
        let mut lines = text.lines();
        for samples in [&mut self.wall, &mut self.cpu, &mut self.late] {
            samples.add(lines.next().expect("three lines"));
        }
    }
}

fn take_turn(work: &str, who: Who, executor: Executor, scale: Scale) -> String {
    let output = Command::new(program())
        .args(["--child", "fairness", work, who.name(), executor.name(), scale.pick("full", "smoke")])
        .stderr(Stdio::inherit())
        .output()
        .expect("a child");
    assert!(output.status.success(), "{work} of {} fails", who.name());
    String::from_utf8(output.stdout).expect("numbers")
}

/// In the child: does the work for some time, and prints the samples of its polls, and of the sleeper.
pub fn measure(work: &str, who: &str, executor: &str, scale: Scale) -> io::Result<()> {
    machine::raise_open_files();
    let who = Who::of(who).ok_or(io::ErrorKind::InvalidInput)?;
    let log = Arc::<Mutex<Log>>::default();
    if executor == Executor::Smol.name() {
        let local = smol::LocalExecutor::new();
        let spawn = |task| local.spawn(task).boxed();
        smol::block_on(
            local.run(turn(work, who, scale, &log, &spawn, |until| {
                smol::Timer::at(until).map(|_| ()).boxed()
            })),
        );
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let spawn = |task| tokio::spawn(task).map(|ended| ended.expect("no task panics")).boxed();
        runtime.block_on(turn(work, who, scale, &log, &spawn, |until| {
            tokio::time::sleep_until(until.into()).boxed()
        }));
    }
    let log = lock(&log);
    for samples in [&log.wall, &log.cpu, &log.late] {
        let mut seconds = samples.clone();
        seconds.sort_by(|one, other| other.total_cmp(one));
        print!("{}", seconds.len());
        seconds.iter().take(TOP).for_each(|seconds| print!(" {seconds:e}"));
        println!();
    }
    Ok(())
}

type Task = BoxFuture<'static, Seen>;

type Pause = fn(Instant) -> BoxFuture<'static, ()>;

/// What is measured, in seconds.
#[derive(Default)]
struct Log {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    late: Vec<f64>,
    /// When the sleeper should wake; `None` ends it.
    wakes: Option<Instant>,
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same on both executors. They differ in how they spawn a task and how a task sleeps.
async fn turn(
    work: &str,
    who: Who,
    scale: Scale,
    log: &Arc<Mutex<Log>>,
    spawn: &dyn Fn(Task) -> Task,
    pause: Pause,
) {
    let began = Instant::now();
    let least = scale.pick(Duration::from_millis(50), Duration::ZERO);
    loop {
        let works = works::start(work, who, scale);
        lock(log).wakes = Some(Instant::now() + NAP);
        let sleeper = spawn(sleep(log.clone(), pause).boxed());
        let polled = |work| spawn(Polled { work, log: log.clone() }.boxed());
        let seen = join_all(works.into_iter().map(polled)).await;
        // The sleeper may be late already, and may not have run yet.
        lock(log).woke();
        lock(log).wakes = None;
        sleeper.await;
        seen.into_iter().for_each(Seen::check);
        if began.elapsed() >= least {
            break;
        }
    }
}

impl Log {
    /// Notes how late the sleeper is, if it is late.
    fn woke(&mut self) {
        let late = self.wakes.and_then(|wakes| Instant::now().checked_duration_since(wakes));
        self.late.extend(late.map(|late| late.as_secs_f64()));
    }
}

async fn sleep(log: Arc<Mutex<Log>>, pause: Pause) -> Seen {
    loop {
        let Some(wakes) = lock(&log).wakes else { return Seen::nothing() };
        pause(wakes).await;
        let mut log = lock(&log);
        log.woke();
        log.wakes = log.wakes.map(|_| Instant::now() + NAP);
    }
}

/// Measures each poll of a work.
struct Polled {
    work: Task,
    log: Arc<Mutex<Log>>,
}

impl Future for Polled {
    type Output = Seen;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Seen> {
        let (wall, cpu) = (Instant::now(), machine::thread_seconds());
        let polled = self.work.as_mut().poll(cx);
        let (wall, cpu) = (wall.elapsed(), machine::thread_seconds() - cpu);
        let mut log = lock(&self.log);
        log.wall.push(wall.as_secs_f64());
        log.cpu.push(cpu);
        polled
    }
}

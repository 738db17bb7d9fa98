//! Thousands of runs, many at a time. Each has a random child, and a random end at a random moment.
//! Afterwards nothing is left of them.
//!
//! A failure prints the seed and the plan of the run. To see the output of a run that passes, use
//! `REAPED_TEST_ALONE=1 cargo test --test it -- soak --nocapture`. `REAPED_SOAK_RUNS` is the number of runs, or
//! `REAPED_SOAK_SECONDS` the time for them. `REAPED_SOAK_SEED` is the seed of an earlier run. The moments depend on
//! the clock: the same seed gives the same plans, and not quite the same events.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use futures::io::{AsyncReadExt, AsyncWriteExt, Cursor};
use futures::{StreamExt, future};
use reaped::{Command, Error, Event, Output, Process, Promise, Stdio};

use super::helper::pattern;
use super::support::{Never, alone, descriptors, eventually, no_children, nothing_waits, sh, warm_up};

const RUNS: u64 = 10_000;
/// For each of the four executors.
const AT_ONCE: usize = 16;
/// At the end the process may use this much more memory than after the first quarter.
const GROWTH: u64 = 8 << 20;
/// Only makes a run that hangs fail, and print its plan.
const HUNG: Duration = Duration::from_secs(40);

/// glibc gives each thread a heap, and keeps the free memory of all but the first: tens of megabytes here.
/// This must be set before there are threads.
#[cfg(target_env = "gnu")]
#[ctor::ctor(unsafe)]
fn one_heap() {
    if std::env::args().any(|arg| arg.starts_with("soak")) {
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

#[test]
fn nothing_is_left_of_ten_thousand_runs() {
    alone("soak::nothing_is_left_of_ten_thousand_runs", || {
        let runs = number("REAPED_SOAK_RUNS").unwrap_or(RUNS);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let seed = number("REAPED_SOAK_SEED").unwrap_or(now.as_nanos() as u64);
        let seconds = number("REAPED_SOAK_SECONDS");
        println!("REAPED_SOAK_SEED={seed} REAPED_SOAK_RUNS={runs}");

        // After this every thread that the process needs only once has started: the reactor's, and
        // async-process's.
        warm_up();
        side_by_side(!seed, 0..200);
        settled();
        let before = (descriptors(), threads());
        println!("before: {before:?}");

        let (mut after_first, mut next) = (0, 0);
        for quarter in 0..4 {
            let start = Instant::now();
            let mut ends = BTreeMap::new();
            let first = next;
            loop {
                let count = if seconds.is_some() { 1_000 } else { runs / 4 };
                for (end, count) in side_by_side(seed, next..next + count) {
                    *ends.entry(end).or_insert(0) += count;
                }
                next += count;
                if seconds.is_none_or(|seconds| start.elapsed() >= Duration::from_secs(seconds) / 4) {
                    break;
                }
            }
            let rate = (next - first) as f64 / start.elapsed().as_secs_f64();
            settled();
            eventually("descriptors and threads are as before", || (descriptors(), threads()) == before);
            let memory = resident();
            println!("quarter {quarter}: {rate:.0} runs a second, {} KiB; {ends:?}", memory >> 10);
            if quarter == 0 {
                after_first = memory;
            }
        }
        let memory = resident();
        println!(
            "at the end: {next} runs; {} descriptors, {} threads, {} KiB",
            before.0.len(),
            before.1,
            memory >> 10
        );
        assert!(memory < after_first + GROWTH, "memory grew from {after_first} to {memory}");
    });
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// A child sleeps this long, until it is killed. The fraction distinguishes it from any other process.
fn for_long() -> String {
    format!("120.{:07}", std::process::id())
}

fn settled() {
    no_children();
    nothing_waits();
    // Grandchildren in a group of their own are not this process's children. A zombie has no command line.
    let mark = for_long();
    eventually("no descendant is left", || {
        let processes = std::fs::read_dir("/proc").expect("procfs").flatten();
        let mut lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        !lines.any(|line| String::from_utf8_lossy(&line).contains(&mark))
    });
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("procfs").count()
}

/// Bytes of memory in use.
fn resident() -> u64 {
    // Gives freed memory back, so only memory that is really in use counts.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Four threads, each with an executor. Returns how many runs ended in each way.
fn side_by_side(seed: u64, runs: Range<u64>) -> BTreeMap<&'static str, usize> {
    let length = runs.end - runs.start;
    let part = |n: u64| at_once(seed, runs.start + length * n / 4..runs.start + length * (n + 1) / 4);
    std::thread::scope(|scope| {
        let others = [
            scope.spawn(|| smol::block_on(part(1))),
            scope.spawn(|| async_std::task::block_on(part(2))),
            scope.spawn(|| {
                let tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                tokio.block_on(part(3))
            }),
        ];
        let mut ends = futures::executor::block_on(part(0));
        for other in others {
            for (end, count) in other.join().expect("no panic") {
                *ends.entry(end).or_default() += count;
            }
        }
        ends
    })
}

async fn at_once(seed: u64, runs: Range<u64>) -> BTreeMap<&'static str, usize> {
    let mut ends = BTreeMap::new();
    let mut running = futures::stream::iter(runs.map(|run| one(seed, run))).buffer_unordered(AT_ONCE);
    while let Some(end) = running.next().await {
        *ends.entry(end).or_default() += 1;
    }
    ends
}

/// xorshift64*
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, run: u64) -> Self {
        // Generators with neighbouring seeds give similar first numbers.
        let mut dice = Dice((seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        (0..8).for_each(|_| _ = dice.below(2));
        dice
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Mostly little, sometimes more than a pipe holds.
    pub fn size(&mut self) -> usize {
        let end = [10, 5_000, 5_000, 200_000][self.below(4) as usize];
        self.below(end) as usize
    }

    fn moment(&mut self) -> Duration {
        let end = [1, 1_000, 20_000, 80_000][self.below(4) as usize];
        Duration::from_micros(self.below(end))
    }
}

/// Prints the plan if the run failed.
struct Plan(String);

impl Drop for Plan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {}", self.0);
        }
    }
}

/// What a child does, and what may end it.
struct Run {
    command: Command,
    /// All of its stdout if nothing ends it; `None` for `yes`.
    says: Option<Vec<u8>>,
    /// Whether it ends by itself.
    ends: bool,
    may_time_out: bool,
    limit: Option<u64>,
    /// The signals that the test itself sends; a bound may send others.
    signals: &'static [i32],
    /// Whether grandchildren may keep its pipes open without an error.
    may_leave: bool,
}

impl Run {
    fn new(dice: &mut Dice, talks: bool) -> Self {
        let (long, short) = (for_long(), format!("0.{:03}", dice.below(50)));
        let size = dice.size();
        let mut ends = true;
        let mut group = dice.one_in(3);
        let (mut command, mut says) = match dice.below(10) {
            0 => (Command::new("true"), Vec::new()),
            1 => (sh("echo hi"), b"hi\n".to_vec()),
            2 => (sh(&format!("exec head -c {size} /dev/zero")), vec![0; size]),
            3 => (sh(&format!("echo half; sleep {short}; echo whole")), b"half\nwhole\n".to_vec()),
            4 => (sh(&format!("sleep {short} & echo started")), b"started\n".to_vec()),
            5 => (Command::new("cat"), Vec::new()),
            endless => {
                ends = false;
                match endless {
                    6 => (Command::new("yes"), Vec::new()),
                    7 => (sh(&format!("echo half; exec sleep {long}")), b"half\n".to_vec()),
                    8 => (sh(&format!("trap '' TERM; echo half; exec sleep {long}")), b"half\n".to_vec()),
                    _ => {
                        group = true;
                        let script = format!("echo half; sleep {long} & sleep {long} | sleep {long}");
                        (sh(&script), b"half\n".to_vec())
                    }
                }
            }
        };
        let (is_cat, is_yes) = (command.get_program() == "cat", command.get_program() == "yes");
        let fed = pattern(dice.size());
        match dice.below(5) {
            // With `spawn`, a descriptor that is not set is a pipe to the caller.
            0 if talks => says = if is_cat { fed.clone() } else { says },
            0 => {}
            1 => drop(command.stdin(Stdio::null())),
            2 => {
                says = if is_cat { fed.clone() } else { says };
                command.stdin(Stdio::bytes(fed));
            }
            3 => {
                says = if is_cat { fed.clone() } else { says };
                command.stdin(Stdio::reader(Cursor::new(fed)));
            }
            _ => {
                (says, ends) = if is_cat { (fed.clone(), false) } else { (says, ends) };
                command.stdin(Stdio::reader(Cursor::new(fed).chain(Never)));
            }
        }
        if group {
            command.new_group();
        }
        command.grace(dice.moment());
        let says = (!is_yes).then_some(says);
        Run { command, says, ends, may_time_out: false, limit: None, signals: &[], may_leave: false }
    }

    fn timeout(&mut self, dice: &mut Dice) {
        self.command.timeout(dice.moment());
        self.may_time_out = true;
    }

    fn idle_timeout(&mut self, dice: &mut Dice) {
        self.command.idle_timeout(dice.moment());
        self.may_time_out = true;
    }

    fn limit(&mut self, dice: &mut Dice) {
        // Half of the runs reach it exactly.
        let exact = self.says.as_ref().filter(|_| dice.one_in(2)).map(|says| says.len() as u64);
        let most = exact.unwrap_or_else(|| dice.size() as u64);
        if dice.one_in(2) {
            self.command.limit(most)
        } else {
            self.command.limit_fd(1, most)
        };
        self.limit = Some(most);
    }

    fn drain_timeout(&mut self, dice: &mut Dice) {
        self.command.drain_timeout(dice.moment());
        self.may_leave = true;
    }

    /// Any of the bounds; if the child does not end by itself, at least one that ends it.
    fn bounds(&mut self, dice: &mut Dice, ends: bool) {
        if dice.one_in(4) {
            self.idle_timeout(dice);
        }
        if dice.one_in(4) {
            self.limit(dice);
        }
        if dice.one_in(4) {
            self.drain_timeout(dice);
        }
        if dice.one_in(4) || !ends {
            self.timeout(dice);
        }
    }

    /// Checks the output, as far as it came.
    fn check_said(&self, said: &[u8]) {
        match &self.says {
            Some(says) => assert!(says.starts_with(said), "{} bytes that it never wrote", said.len()),
            None => assert!(said.iter().enumerate().all(|(n, byte)| *byte == b"y\n"[n % 2]), "only y"),
        }
        assert!(self.limit.is_none_or(|most| said.len() as u64 <= most), "{} bytes said", said.len());
    }

    fn check_status(&self, status: ExitStatus, said: &[u8]) {
        self.check_said(said);
        match status.signal() {
            None => {
                assert!(status.success() && self.ends, "by itself: {status}");
                assert_eq!(Some(said), self.says.as_deref(), "complete");
            }
            Some(signal) => assert!(self.signals.contains(&signal), "by a signal: {status}"),
        }
    }

    /// `before` is the output that the test has read already.
    fn check(&self, result: Result<Output, Error>, before: &[u8]) -> &'static str {
        let all = |output: &Output| [before, &output.stdout].concat();
        match result {
            Ok(output) => {
                self.check_status(output.status, &all(&output));
                assert!(self.may_leave || output.still_open().is_empty(), "{:?}", output.still_open());
                assert_eq!(output.stderr, b"");
                if output.status.success() { "ended" } else { "signalled" }
            }
            Err(error @ Error::TimedOut(_)) => {
                assert!(self.may_time_out, "{error}");
                self.check_said(&all(error.output().expect("it ran")));
                "timed out"
            }
            Err(error @ Error::OutputLimit(_)) => {
                let said = all(error.output().expect("it ran"));
                self.check_said(&said);
                assert_eq!(Some(said.len() as u64), self.limit, "up to the limit");
                assert_ne!(Some(said), self.says, "it wrote more");
                "over the limit"
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// For a verb that returns no output.
    fn check_end(&self, result: Result<ExitStatus, Error>) -> &'static str {
        match result {
            Ok(status) => {
                let by_signal = status.signal().is_some_and(|signal| self.signals.contains(&signal));
                assert!(status.success() || by_signal, "{status}");
                "awaited"
            }
            Err(Error::TimedOut(_)) if self.may_time_out => "timed out",
            Err(Error::OutputLimit(_)) if self.limit.is_some() => "over the limit",
            Err(error) => panic!("{error}"),
        }
    }
}

async fn one(seed: u64, number: u64) -> &'static str {
    let mut dice = Dice::new(seed, number);
    let ending = dice.below(12);
    let talks = ending >= 8;
    let mut run = Run::new(&mut dice, talks);
    let ends = run.ends;
    match ending {
        0 => run.bounds(&mut dice, ends),
        1 => run.timeout(&mut dice),
        2 => {
            run.idle_timeout(&mut dice);
            // `yes` is never idle.
            if run.says.is_none() {
                run.timeout(&mut dice)
            }
        }
        3 => {
            run.limit(&mut dice);
            if !ends {
                run.timeout(&mut dice)
            }
        }
        4 => {
            run.drain_timeout(&mut dice);
            if !ends {
                run.timeout(&mut dice)
            }
        }
        5 if ends => drop(run.command.kill_on_drop(dice.one_in(2))),
        5 | 7 => run.bounds(&mut dice, true),
        6 => {
            run.bounds(&mut dice, true);
            run.signals = &[libc::SIGTERM, libc::SIGKILL];
            run.may_leave = true;
        }
        _ => run.bounds(&mut dice, ends),
    }
    let _plan = Plan(format!(
        "run {number}, seed {seed}: ending {ending} of {:?}, timeout {}, limit {:?}",
        run.command, run.may_time_out, run.limit
    ));
    let play = async {
        match ending {
            0..=4 => {
                let result = run.command.output().await;
                run.check(result, &[])
            }
            5 => drop_in_the_middle(&mut run, &mut dice).await,
            6 => signal_in_the_middle(&mut run, &mut dice).await,
            7 => detach(&mut run, &mut dice).await,
            _ => talk(&mut run, &mut dice).await,
        }
    };
    match future::select(std::pin::pin!(play), smol::Timer::after(HUNG)).await {
        future::Either::Left((end, _)) => end,
        future::Either::Right(_) => panic!("it hung"),
    }
}

/// Polls a few times, and drops the promise at once or a little later.
async fn drop_in_the_middle(run: &mut Run, dice: &mut Dice) -> &'static str {
    let mut promise = run.command.output();
    let (times, later) = (dice.below(8), dice.one_in(2).then(|| dice.moment()));
    let mut polled = 0;
    let ended = future::poll_fn(|cx| {
        if polled == times {
            return Poll::Ready(None);
        }
        polled += 1;
        cx.waker().wake_by_ref();
        Pin::new(&mut promise).poll(cx).map(Some)
    })
    .await;
    if let Some(result) = ended {
        return run.check(result, &[]);
    }
    if let Some(later) = later {
        smol::Timer::after(later).await;
    }
    "dropped"
}

async fn signal_in_the_middle(run: &mut Run, dice: &mut Dice) -> &'static str {
    let promise = run.command.output();
    let (control, moment, kill) = (promise.control(), dice.moment(), dice.one_in(2));
    let signal = async {
        smol::Timer::after(moment).await;
        if kill { control.kill() } else { control.terminate() }
    };
    let (result, told) = future::join(promise, signal).await;
    assert!(matches!(told, Ok(()) | Err(Error::AlreadyEnded(_))), "{told:?}");
    assert!(matches!(control.kill(), Err(Error::AlreadyEnded(_))), "it was reaped");
    run.check(result, &[])
}

async fn detach(run: &mut Run, dice: &mut Dice) -> &'static str {
    let promise: Promise<_> = run.command.output();
    smol::Timer::after(dice.moment()).await;
    if !run.ends {
        return "dropped";
    }
    promise.detach().expect("it was started");
    "detached"
}

async fn talk(run: &mut Run, dice: &mut Dice) -> &'static str {
    let mut process = run.command.spawn().expect("it starts");
    let fed = if run.command.get_program() == "cat" { run.says.clone() } else { None };
    let fed = fed.unwrap_or_else(|| pattern(dice.size()));
    let writer = process.writer(0);
    let feed = async move {
        if let Some(mut writer) = writer {
            // The child may not read it.
            let _: std::io::Result<()> = writer.write_all(&fed).await;
        }
    };
    future::join(listen(run, dice, process), feed).await.0
}

/// Takes some or all events. Then it drops the process, closes all pipes, or awaits the rest.
async fn listen(run: &mut Run, dice: &mut Dice, mut process: Process) -> &'static str {
    let mut seen = Seen::default();
    let mut left = if dice.one_in(3) { u64::MAX } else { dice.below(6) };
    while left > 0 {
        let Some(event) = process.next().await else { return seen.check(run) };
        seen.see(event);
        left -= 1;
    }
    match dice.below(4) {
        0 => "events dropped",
        1 => {
            process.close_all();
            run.signals = &[libc::SIGPIPE];
            run.check_end(process.status().await)
        }
        2 => run.check_end(process.status().await),
        _ => run.check(process.output().await, &seen.said),
    }
}

#[derive(Default)]
struct Seen {
    said: Vec<u8>,
    closed: Vec<i32>,
    fault: Option<Event>,
    exited: Option<ExitStatus>,
    ended: bool,
}

impl Seen {
    fn see(&mut self, event: Event) {
        assert!(!self.ended, "the end is last");
        match event {
            Event::Data { fd, data } => {
                assert!(fd == 1 && !data.is_empty() && !self.closed.contains(&fd), "data of {fd}");
                self.said.extend(data);
            }
            Event::Closed { fd } => {
                assert!(!self.closed.contains(&fd), "{fd} closes once");
                self.closed.push(fd);
            }
            Event::TimedOut | Event::LimitReached { .. } => {
                assert!(self.fault.is_none(), "one bound decides");
                self.fault = Some(event);
            }
            Event::Exited(status) => assert!(self.exited.replace(status).is_none(), "it exits once"),
            Event::Ended(status) => {
                assert_eq!(self.exited, Some(status));
                self.ended = true;
            }
            other => panic!("{other:?}"),
        }
    }

    fn check(&self, run: &Run) -> &'static str {
        assert!(self.ended && self.closed.contains(&1) && self.closed.contains(&2), "{:?}", self.closed);
        match self.fault {
            None => run.check_status(self.exited.expect("it exited"), &self.said),
            Some(Event::TimedOut) => assert!(run.may_time_out, "it may not time out"),
            Some(_) => assert_eq!(Some(self.said.len() as u64), run.limit, "up to the limit"),
        }
        run.check_said(&self.said);
        "told to the end"
    }
}

/// A waker that lets the thread go on.
struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future this many times, each time after it has woken its task, and drops it. Returns whether it
/// was ready before that.
fn poll_and_drop(future: impl Future, times: usize) -> bool {
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    for time in 0..times {
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return true;
        }
        // The future is dropped now, so there is nothing to wait for.
        if time + 1 < times {
            std::thread::park_timeout(HUNG);
        }
    }
    false
}

/// For each number: polls a new future that many times and drops it, until one is ready before its last poll.
#[test]
fn dropped_after_every_poll() {
    alone("soak::dropped_after_every_poll", || {
        warm_up();
        let before = descriptors();
        let echoes = "read line; echo $line; echo err >&2; sleep 0.01; echo $line";
        type Job = Box<dyn Fn() -> future::BoxFuture<'static, ()>>;
        let jobs: Vec<(&str, Job)> = vec![
            (
                "output",
                Box::new(move || {
                    let promise = sh(echoes).stdin(Stdio::bytes("line\n")).new_group().output();
                    Box::pin(async { drop(promise.await.expect("it ends")) })
                }),
            ),
            (
                "a bound and a tee",
                Box::new(move || {
                    let mut command = sh(echoes);
                    command.stdin(Stdio::reader(Cursor::new("line\n"))).stdout(Stdio::tee(Vec::new()));
                    let promise = command.timeout(HUNG).idle_timeout(HUNG).drain_timeout(HUNG).read();
                    Box::pin(async { assert_eq!(promise.await.expect("it ends"), "line\nline") })
                }),
            ),
            (
                "too much",
                Box::new(|| {
                    let promise = Command::new("yes").limit(100_000).output();
                    Box::pin(async { drop(promise.await.expect_err("too much")) })
                }),
            ),
            (
                "too late",
                Box::new(|| {
                    let mut command = sh("trap '' TERM; echo a; sleep 100 & wait");
                    command.timeout(Duration::from_millis(5)).grace(Duration::from_millis(5)).new_group();
                    let promise = command.output();
                    Box::pin(async { drop(promise.await.expect_err("too late")) })
                }),
            ),
            (
                "events",
                Box::new(move || {
                    let mut process = sh(echoes).spawn().expect("starts");
                    Box::pin(async move {
                        let mut writer = process.writer(0).expect("a pipe");
                        writer.write_all(b"line\n").await.expect("it reads");
                        drop(writer);
                        while process.next().await.is_some() {}
                    })
                }),
            ),
            (
                "a reader, lines and a status",
                Box::new(move || {
                    let mut process = sh(echoes).stdin(Stdio::bytes("line\n")).spawn().expect("starts");
                    Box::pin(async move {
                        let mut reader = process.reader(2).expect("a pipe");
                        let (mut said, mut errors) = (0, String::new());
                        let mut lines = process.lines();
                        while lines.next().await.is_some() {
                            said += 1;
                        }
                        reader.read_to_string(&mut errors).await.expect("text");
                        assert_eq!((said, &errors[..]), (2, "err\n"));
                        assert!(process.status().await.expect("a status").success());
                    })
                }),
            ),
        ];
        for (name, job) in jobs {
            // The number of polls that a future needs varies.
            let sweep =
                |_| (0..10_000).find(|times| poll_and_drop(job(), *times)).expect("it ends some time");
            let most: Vec<usize> = (0..20).map(sweep).collect();
            println!("{name}: polled up to {most:?} times");
            settled();
        }
        eventually("the descriptors are as before", || descriptors() == before);
    });
}

//! Runs contestants in turn, on an executor, and takes medians.
//!
//! Each contestant is a process of its own, with one long `block_on`, as in a program that lives longer than
//! one child. In one process they would disturb each other. async-process leaves a thread in async-io's
//! `block_on`. While any thread is in there, async-io's own thread sleeps between two looks (50 us to 10 ms),
//! which slows everything on that reactor. Each round runs every contestant once. Every other round runs them
//! backwards, so none always comes after the same neighbour.

use std::future::Future;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use futures::future::BoxFuture;

use crate::Scale;
use crate::python;

/// What drives the futures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// futures' `block_on`, which knows no I/O.
    Futures,
    Smol,
    /// tokio, current thread.
    TokioCt,
    /// tokio, multi-thread; the contest is a spawned task.
    TokioMt,
}

impl Executor {
    pub const ALL: [Executor; 4] = [Executor::Futures, Executor::Smol, Executor::TokioCt, Executor::TokioMt];

    pub fn name(self) -> &'static str {
        match self {
            Executor::Futures => "futures",
            Executor::Smol => "smol",
            Executor::TokioCt => "tokio-ct",
            Executor::TokioMt => "tokio-mt",
        }
    }

    /// Whether tokio's own processes work under it.
    pub fn is_tokio(self) -> bool {
        matches!(self, Executor::TokioCt | Executor::TokioMt)
    }

    pub fn block_on<T: Send + 'static>(self, future: impl Future<Output = T> + Send + 'static) -> T {
        use tokio::runtime::Builder;
        match self {
            Executor::Futures => futures::executor::block_on(future),
            Executor::Smol => smol::block_on(future),
            Executor::TokioCt => {
                let runtime = Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime can be made").block_on(future)
            }
            Executor::TokioMt => {
                let runtime = Builder::new_multi_thread().enable_all().build();
                let runtime = runtime.expect("a runtime can be made");
                runtime.block_on(runtime.spawn(future)).expect("the contest does not panic")
            }
        }
    }
}

/// A contestant runs the same task as the others, and returns what it cost.
pub struct Contestant {
    name: &'static str,
    /// Slow ones take part only in the first rounds.
    rounds: usize,
    run: Box<dyn FnMut() -> BoxFuture<'static, f64> + Send>,
}

impl Contestant {
    /// `run` measures itself, so that checking the result costs nothing.
    pub fn new<F>(name: &'static str, mut run: impl FnMut() -> F + Send + 'static) -> Self
    where
        F: Future<Output = f64> + Send + 'static,
    {
        Contestant { name, rounds: usize::MAX, run: Box::new(move || Box::pin(run())) }
    }

    /// A contestant that blocks the thread.
    pub fn blocking(name: &'static str, mut run: impl FnMut() -> f64 + Send + 'static) -> Self {
        Contestant::new(name, move || std::future::ready(run()))
    }

    /// Takes part in only this many rounds.
    pub fn at_most(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }
}

/// The median of each contestant, in the order in which they were given.
pub type Medians = Vec<(&'static str, f64)>;

/// Interleaves the contestants within this process.
pub fn compare_here(rounds: usize, mut contestants: Vec<Contestant>) -> Medians {
    Executor::Futures.block_on(async move {
        let mut samples = vec![Vec::new(); contestants.len()];
        for (round, index) in turns(rounds, contestants.len()) {
            if round < contestants[index].rounds {
                samples[index].push((contestants[index].run)().await);
            }
        }
        contestants.iter().zip(samples).map(|(c, samples)| (c.name, median(samples))).collect()
    })
}

/// The rounds, and the contestant whose turn it is.
fn turns(rounds: usize, count: usize) -> impl Iterator<Item = (usize, usize)> {
    let index = move |round, turn| if round % 2 == 0 { turn } else { count - 1 - turn };
    (0..rounds).flat_map(move |round| (0..count).map(move |turn| (round, index(round, turn))))
}

/// The contest of one figure. A contestant's process finds it again by its words.
#[derive(Clone, Copy)]
pub struct Contest {
    pub family: &'static str,
    pub executor: Executor,
    /// What else the family passes to its contestants.
    pub variant: usize,
    pub scale: Scale,
}

/// The contestants of a contest.
pub type Contestants = fn(Contest) -> Vec<Contestant>;

/// Interleaves the contestants, each in a process of its own.
pub fn compare(contest: Contest, rounds: usize, contestants: Contestants) -> Medians {
    let mut players: Vec<Player> = contestants(contest)
        .iter()
        .map(|c| Player::start(c.name, c.rounds, this_program(contest, c.name)))
        .collect();
    let scripts = python::scripts(contest).into_iter();
    players.extend(scripts.map(|script| Player::start(script.name, script.rounds, script.command)));
    let mut samples = vec![Vec::new(); players.len()];
    for (round, index) in turns(rounds, players.len()) {
        if round < players[index].rounds {
            samples[index].push(players[index].turn());
        }
    }
    let names: Vec<&str> = players.iter().map(|player| player.name).collect();
    players.into_iter().for_each(Player::end);
    names.into_iter().zip(samples).map(|(name, samples)| (name, median(samples))).collect()
}

/// This program, as the contestant of that name.
fn this_program(contest: Contest, name: &str) -> Command {
    let mut command = Command::new(crate::child::program());
    command.args(["--child", "contest", contest.family, contest.executor.name()]).args([
        contest.variant.to_string().as_str(),
        contest.scale.pick("full", "smoke"),
        name,
    ]);
    command
}

/// A contestant's process: an empty line asks for one turn, and seconds are the answer.
struct Player {
    name: &'static str,
    rounds: usize,
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Player {
    fn start(name: &'static str, rounds: usize, mut command: Command) -> Self {
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = process.expect("a contestant starts");
        let ask = process.stdin.take().expect("a pipe");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Player { name, rounds, process, ask, answers }
    }

    fn turn(&mut self) -> f64 {
        self.ask.write_all(b"\n").expect("the contestant lives");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("text");
        answer.trim().parse().expect("the contestant answers with seconds")
    }

    fn end(mut self) {
        drop(self.ask);
        assert!(self.process.wait().expect("a status").success());
    }
}

/// In a contestant's process: takes its turns, within one long `block_on`.
pub fn play(contest: Contest, name: &str, contestants: Contestants) -> io::Result<()> {
    let mut contestants = contestants(contest);
    let index = contestants.iter().position(|c| c.name == name).ok_or(io::ErrorKind::InvalidInput)?;
    let mut contestant = contestants.swap_remove(index);
    contest.executor.block_on(async move {
        // Nothing else runs meanwhile, so reading may block.
        while io::stdin().read_line(&mut String::new())? > 0 {
            let seconds = (contestant.run)().await;
            println!("{seconds:e}");
        }
        Ok(())
    })
}

/// The middle one, or the mean of the two in the middle.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let half = samples.len() / 2;
    match samples.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => samples[half],
        _ => (samples[half - 1] + samples[half]) / 2.0,
    }
}

/// Seconds of a call and its future, and the future's result. If a call starts a child before its future is
/// polled, the call must be measured too.
pub async fn timed<F: Future>(call: impl FnOnce() -> F) -> (f64, F::Output) {
    let start = Instant::now();
    let value = call().await;
    (start.elapsed().as_secs_f64(), value)
}

/// Seconds of a call, and its result.
pub fn timed_call<T>(call: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = call();
    (start.elapsed().as_secs_f64(), value)
}

//! Runs contestants in turn, on an executor, and takes medians.
//!
//! All contestants of one figure run inside one long `block_on`, as in a program that lives longer than
//! one child. Each round runs every contestant once, and every other round runs them backwards, so that
//! nobody always comes after the same neighbour.

use std::future::Future;
use std::time::Instant;

use futures::future::BoxFuture;

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

/// One who runs the same task as the others, and says what it cost.
pub struct Contestant {
    name: &'static str,
    /// Slow ones take part in the first rounds only.
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

    /// One that blocks the thread.
    pub fn blocking(name: &'static str, mut run: impl FnMut() -> f64 + Send + 'static) -> Self {
        Contestant::new(name, move || std::future::ready(run()))
    }

    /// Takes part in so many rounds only.
    pub fn at_most(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }
}

/// The median of each contestant, in the order in which they were given.
pub type Medians = Vec<(&'static str, f64)>;

/// Interleaves the contestants.
pub fn compare(executor: Executor, rounds: usize, mut contestants: Vec<Contestant>) -> Medians {
    executor.block_on(async move {
        let mut samples = vec![Vec::new(); contestants.len()];
        for round in 0..rounds {
            for turn in 0..contestants.len() {
                let index = if round % 2 == 0 { turn } else { contestants.len() - 1 - turn };
                let contestant = &mut contestants[index];
                if round < contestant.rounds {
                    samples[index].push((contestant.run)().await);
                }
            }
        }
        contestants.iter().zip(samples).map(|(c, samples)| (c.name, median(samples))).collect()
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

/// Seconds of a future, and what it gave.
pub async fn timed<T>(future: impl Future<Output = T>) -> (f64, T) {
    let start = Instant::now();
    let value = future.await;
    (start.elapsed().as_secs_f64(), value)
}

/// Seconds of a call, and what it gave.
pub fn timed_call<T>(call: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = call();
    (start.elapsed().as_secs_f64(), value)
}

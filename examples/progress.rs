//! Runs twelve programs, four at a time, under a progress bar: `cargo run --example progress`, or with another number
//! at a time, `cargo run --example progress -- 2`. Needs Unix.

use std::cell::Cell;
use std::time::Instant;

use futures::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use reaped::{Command, Error};

/// Every fifth job fails.
const JOB: &str = "sleep 0.$1; [ $(($1 % 5)) != 0 ] || { echo 'no more paper' >&2; exit 1; }";
const JOBS: u64 = 12;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let most = match &words[..] {
        [] => Some(4),
        [word] => word.parse().ok().filter(|most| *most > 0),
        _ => None,
    };
    let Some(most) = most else {
        eprintln!("usage: progress [NUMBER]");
        std::process::exit(2);
    };
    futures::executor::block_on(run(most));
}

async fn run(most: usize) {
    let style = ProgressStyle::with_template("[{elapsed}] {bar:40} {pos}/{len} {msg}");
    let bar = ProgressBar::new(JOBS).with_style(style.expect("a valid template"));
    let (start, failed) = (Instant::now(), Cell::new(0));
    let (running, peak) = (Cell::new(0), Cell::new(0));

    // A promise starts its program at once. The stream makes it only when it is its turn.
    let mut results = stream::iter(1..=JOBS)
        .map(|job| {
            running.set(running.get() + 1);
            peak.set(running.get().max(peak.get()));
            let promise = Command::new("sh").args(["-c", JOB, "sh", &job.to_string()]).read();
            let running = &running;
            async move {
                let result = promise.await;
                running.set(running.get() - 1);
                (job, result)
            }
        })
        .buffer_unordered(most);
    while let Some((job, result)) = results.next().await {
        if let Err(error) = result {
            failed.set(failed.get() + 1);
            // Above the bar, and also without one, if stderr is no terminal.
            bar.suspend(|| println!("job {job}: {}", told(&error)));
        }
        bar.inc(1);
    }
    drop(results);
    bar.finish_with_message("done");
    println!("{JOBS} jobs, {} of them failed; never more than {} at a time", failed.get(), peak.get());
    println!("took {:.1} s", start.elapsed().as_secs_f32());
}

/// The program's own message, or else the whole error.
fn told(error: &Error) -> String {
    match error.output() {
        Some(output) if !output.stderr.is_empty() => output.stderr.trim_ascii().escape_ascii().to_string(),
        _ => error.to_string(),
    }
}

//! 2000 children, 64 at a time, output captured: tokio's current thread and smol, beside a bare loop with
//! two pipes a child.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::stream;

use crate::Scale;
use crate::bare;
use crate::compare::{Contest, Contestant, Executor, compare, timed, timed_call};
use crate::report::Figure;

pub const WIDTH: usize = 64;

pub fn run(scale: Scale) -> Vec<Figure> {
    [Executor::TokioCt, Executor::Smol].map(|executor| on(executor, scale)).into()
}

fn on(executor: Executor, scale: Scale) -> Figure {
    let contest = Contest { family: "many", executor, variant: 0, scale };
    let medians = compare(contest, scale.pick(5, 1), contestants);
    let figure = Figure::of(format!("many/{}", executor.name()), &medians, 1.0, "s");
    if executor.is_tokio() { figure.aim("tokio", 1.05).aim("bare", 1.12) } else { figure }
}

pub fn total(scale: Scale) -> usize {
    scale.pick(2000, 100)
}

/// The contestants.
pub fn contestants(contest: Contest) -> Vec<Contestant> {
    let total = total(contest.scale);
    let mut contestants = vec![
        Contestant::new("reaped", move || async move {
            let start = || async {
                let output = reaped::output("/bin/echo", ["hi"]).await.map_err(io::Error::from)?;
                Ok((output.status.success(), output.stdout))
            };
            let (seconds, right) = timed(|| run_all(total, WIDTH, start)).await;
            assert_eq!(right, total);
            seconds
        }),
        Contestant::new("async-process", move || async move {
            let start = || async {
                let output = async_process::Command::new("/bin/echo").arg("hi").output().await?;
                Ok((output.status.success(), output.stdout))
            };
            let (seconds, right) = timed(|| run_all(total, WIDTH, start)).await;
            assert_eq!(right, total);
            seconds
        }),
        Contestant::blocking("bare", move || {
            let (seconds, outputs) = timed_call(|| bare::outputs(&[c"/bin/echo", c"hi"], total, WIDTH));
            let outputs = outputs.expect("children");
            assert_eq!(outputs.len(), total);
            assert!(outputs.iter().all(|output| output.status.success() && output.stdout == b"hi\n"));
            seconds
        }),
    ];
    if contest.executor.is_tokio() {
        contestants.push(Contestant::new("tokio", move || async move {
            let start = || async {
                let output = tokio::process::Command::new("/bin/echo").arg("hi").output().await?;
                Ok((output.status.success(), output.stdout))
            };
            let (seconds, right) = timed(|| run_all(total, WIDTH, start)).await;
            assert_eq!(right, total);
            seconds
        }));
        contestants.push(Contestant::new("processkit", move || async move {
            let start = || async {
                let command = processkit::Command::new("/bin/echo").arg("hi");
                let output = command.output_bytes().await.map_err(io::Error::other)?;
                Ok((output.is_success(), output.into_stdout()))
            };
            let (seconds, right) = timed(|| run_all(total, WIDTH, start)).await;
            assert_eq!(right, total);
            seconds
        }));
    } else {
        contestants.push(in_threads("duct", total, with_duct));
        contestants.push(in_threads("subprocess", total, with_subprocess));
    }
    contestants
}

fn with_duct() -> io::Result<Vec<u8>> {
    let expression = duct::cmd!("/bin/echo", "hi").stdin_null();
    Ok(expression.stdout_capture().stderr_capture().run()?.stdout)
}

fn with_subprocess() -> io::Result<Vec<u8>> {
    use subprocess::{Exec, Redirection};
    let exec = Exec::cmd("/bin/echo").arg("hi").stdin(Redirection::Null).stdout(Redirection::Pipe);
    let capture = exec.stderr(Redirection::Pipe).capture()?;
    if capture.exit_status.success() { Ok(capture.stdout) } else { Err(io::ErrorKind::Other.into()) }
}

/// A contestant whose call blocks. It needs a thread for each run that is alive at the same time.
pub fn in_threads(name: &'static str, total: usize, run: fn() -> io::Result<Vec<u8>>) -> Contestant {
    Contestant::blocking(name, move || {
        let (seconds, right) = timed_call(|| right_in_threads(total, run));
        assert_eq!(right, total);
        seconds
    })
}

/// How many of `total` runs, in `WIDTH` threads, had the right output.
fn right_in_threads(total: usize, run: fn() -> io::Result<Vec<u8>>) -> usize {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            let mut right = 0;
            while next.fetch_add(1, Ordering::Relaxed) < total {
                right += usize::from(run().is_ok_and(|said| said == b"hi\n"));
            }
            right
        };
        let threads: Vec<_> = (0..WIDTH).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}

/// How many of `total` children, `width` at a time, had the right output.
pub async fn run_all<F>(total: usize, width: usize, start: impl Fn() -> F) -> usize
where
    F: Future<Output = io::Result<(bool, Vec<u8>)>>,
{
    let children = stream::iter(0..total).map(|_| start()).buffer_unordered(width);
    let right = children.filter(|result| {
        let right = matches!(result, Ok((true, said)) if said == b"hi\n");
        std::future::ready(right)
    });
    right.count().await
}

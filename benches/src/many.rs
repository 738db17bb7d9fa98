//! 2000 children, 64 at a time, output captured: tokio's current thread and smol, beside a bare loop with
//! two pipes a child.

use std::future::Future;
use std::io;

use futures::StreamExt;
use futures::stream;

use crate::Scale;
use crate::bare;
use crate::compare::{Contest, Contestant, Executor, compare, timed, timed_call};
use crate::report::Figure;

const WIDTH: usize = 64;

pub fn run(scale: Scale) -> Vec<Figure> {
    [Executor::TokioCt, Executor::Smol].map(|executor| on(executor, scale)).into()
}

fn on(executor: Executor, scale: Scale) -> Figure {
    let contest = Contest { family: "many", executor, variant: 0, scale };
    let medians = compare(contest, scale.pick(5, 1), contestants);
    let figure = Figure::of(format!("many/{}", executor.name()), &medians, 1.0, "s");
    if executor.is_tokio() { figure.aim("tokio", 1.0).aim("bare", 1.1) } else { figure }
}

/// Who takes part.
pub fn contestants(contest: Contest) -> Vec<Contestant> {
    let total = contest.scale.pick(2000, 100);
    let mut contestants = vec![
        Contestant::new("reaped", move || async move {
            let start = || async {
                let output = reaped::output("/bin/echo", ["hi"]).await.map_err(io::Error::from)?;
                Ok((output.status, output.stdout))
            };
            let (seconds, right) = timed(|| run_all(total, start)).await;
            assert_eq!(right, total);
            seconds
        }),
        Contestant::new("async-process", move || async move {
            let start = || async {
                let output = async_process::Command::new("/bin/echo").arg("hi").output().await?;
                Ok((output.status, output.stdout))
            };
            let (seconds, right) = timed(|| run_all(total, start)).await;
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
                Ok((output.status, output.stdout))
            };
            let (seconds, right) = timed(|| run_all(total, start)).await;
            assert_eq!(right, total);
            seconds
        }));
    }
    contestants
}

/// How many children said what they should.
async fn run_all<F>(total: usize, start: impl Fn() -> F) -> usize
where
    F: Future<Output = io::Result<(std::process::ExitStatus, Vec<u8>)>>,
{
    let children = stream::iter(0..total).map(|_| start()).buffer_unordered(WIDTH);
    let right = children.filter(|result| {
        let right = matches!(result, Ok((status, said)) if status.success() && said == b"hi\n");
        std::future::ready(right)
    });
    right.count().await
}

//! 1000 pipelines of three, `echo hi | cat | cat`, under tokio's current thread: 64 at a time, and all of them at once.
//!
//! tokio and async-process have no pipelines: their children are connected by hand, as their documentation
//! shows. The crates that block need a thread for each pipeline that runs, so they take part at 64 only.
//! processkit too takes part at 64 only, because it needs half a minute for all at once. reaped and processkit capture the stderr of
//! every member, for their messages. The others leave it alone.

use std::io;
use std::process::Stdio;

use crate::Scale;
use crate::compare::{Contest, Contestant, Executor, compare, timed};
use crate::many::{WIDTH, in_threads, run_all};
use crate::report::Figure;

pub fn run(scale: Scale) -> Vec<Figure> {
    let on = |(name, width)| {
        let contest = Contest { family: "pipelines", executor: Executor::TokioCt, variant: width, scale };
        Figure::of(name, &compare(contest, scale.pick(3, 1), contestants), 1.0, "s")
    };
    [("pipelines/64", WIDTH), ("pipelines/at-once", total(scale))].map(on).into()
}

fn total(scale: Scale) -> usize {
    scale.pick(1000, 70)
}

/// The contestants; the variant is how many run at the same time.
pub fn contestants(contest: Contest) -> Vec<Contestant> {
    let (total, width) = (total(contest.scale), contest.variant);
    macro_rules! contestant {
        ($name:literal, $run:path) => {
            Contestant::new($name, move || async move {
                let start = || async { Ok((true, $run().await?)) };
                let (seconds, right) = timed(|| run_all(total, width, start)).await;
                assert_eq!(right, total);
                seconds
            })
        };
    }
    let mut contestants = vec![
        contestant!("reaped", with_reaped),
        contestant!("tokio", with_tokio),
        contestant!("async-process", with_async_process),
    ];
    if width == WIDTH {
        contestants.push(contestant!("processkit", with_processkit).at_most(1));
        contestants.push(in_threads("duct", total, with_duct));
        contestants.push(in_threads("subprocess", total, with_subprocess));
    }
    contestants
}

async fn with_reaped() -> io::Result<Vec<u8>> {
    let cat = reaped::Command::new("/bin/cat");
    let mut pipeline = reaped::Command::new("/bin/echo").arg("hi").pipe(&cat).pipe(&cat);
    Ok(pipeline.read_bytes().await?)
}

async fn with_tokio() -> io::Result<Vec<u8>> {
    use tokio::process::{Child, Command};
    let next = |before: &mut Child| -> io::Result<Child> {
        let stdin: Stdio = before.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?.try_into()?;
        Command::new("/bin/cat").stdin(stdin).stdout(Stdio::piped()).spawn()
    };
    let mut echo = Command::new("/bin/echo").arg("hi").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut first = next(&mut echo)?;
    let second = next(&mut first)?;
    let (echo, first, output) = futures::join!(echo.wait(), first.wait(), second.wait_with_output());
    let output = output?;
    said([echo?, first?, output.status], output.stdout)
}

async fn with_async_process() -> io::Result<Vec<u8>> {
    use async_process::{Child, Command};
    async fn next(before: &mut Child) -> io::Result<Child> {
        let stdin = before.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?.into_stdio().await?;
        Command::new("/bin/cat").stdin(stdin).stdout(Stdio::piped()).spawn()
    }
    let mut echo = Command::new("/bin/echo").arg("hi").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut first = next(&mut echo).await?;
    let second = next(&mut first).await?;
    let (echo, first, output) = futures::join!(echo.status(), first.status(), second.output());
    let output = output?;
    said([echo?, first?, output.status], output.stdout)
}

fn said(statuses: [std::process::ExitStatus; 3], stdout: Vec<u8>) -> io::Result<Vec<u8>> {
    if statuses.iter().all(|status| status.success()) { Ok(stdout) } else { Err(io::ErrorKind::Other.into()) }
}

async fn with_processkit() -> io::Result<Vec<u8>> {
    let cat = || processkit::Command::new("/bin/cat");
    let pipeline = processkit::Command::new("/bin/echo").arg("hi").pipe(cat()).pipe(cat());
    let output = pipeline.output_bytes().await.map_err(io::Error::other)?;
    if output.is_success() { Ok(output.into_stdout()) } else { Err(io::ErrorKind::Other.into()) }
}

fn with_duct() -> io::Result<Vec<u8>> {
    let pipeline = duct::cmd!("/bin/echo", "hi").pipe(duct::cmd!("/bin/cat")).pipe(duct::cmd!("/bin/cat"));
    Ok(pipeline.stdin_null().stdout_capture().run()?.stdout)
}

fn with_subprocess() -> io::Result<Vec<u8>> {
    use subprocess::{Exec, Redirection};
    let pipeline = Exec::cmd("/bin/echo").arg("hi") | Exec::cmd("/bin/cat") | Exec::cmd("/bin/cat");
    let capture = pipeline.stdin(Redirection::Null).stdout(Redirection::Pipe).capture()?;
    if capture.exit_status.success() { Ok(capture.stdout) } else { Err(io::ErrorKind::Other.into()) }
}

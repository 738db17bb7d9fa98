//! A caller that polls late: what happened before a deadline counts before the deadline.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::sleep;
use std::time::Duration;

use futures::FutureExt;
use futures::io::{AsyncRead, AsyncWriteExt};
use reaped::{Command, Event, Stdio};

use super::support::{Never, alone, children, eventually, everywhere, helper, patiently, pipe, sh, state_of};

/// A timeout works even if nobody polls, so the children get this long to end by themselves.
const BOUND: Duration = Duration::from_secs(3);

/// Everything ends at once, and the caller polls only after the time is over.
#[test]
fn an_end_that_was_in_time() {
    // In a process of its own, so all children are this test's.
    alone("late::an_end_that_was_in_time", || everywhere(in_time));
}

/// Fails at each read.
struct Failing;

impl AsyncRead for Failing {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Other.into()))
    }
}

async fn in_time() {
    let fed = |stdin| Command::new("true").stdin(stdin).timeout(BOUND).idle_timeout(BOUND).output();
    let fed: Vec<_> = (0..20).flat_map(|_| [Stdio::reader(Never), Stdio::reader(Failing)]).map(fed).collect();
    let mut echo = sh("echo out; echo err >&2");
    let mut idle = echo.clone();
    echo.timeout(BOUND);
    idle.idle_timeout(BOUND);
    let many = helper(&["out:60000", "err:60000"]).timeout(BOUND).output();
    let promises = [echo.output(), idle.output()];
    let mut joined = sh("echo out; echo err >&2").pipe(Command::new("cat"));
    let pipelines = [joined.timeout(BOUND).output(), joined.idle_timeout(BOUND).output()];
    let silent = sh("exit 3").timeout(BOUND).exit_code();
    let talk = [echo.spawn(), idle.spawn()].map(|process| process.expect("starts"));
    let mut events = echo.spawn().expect("starts");
    eventually("all have exited", || children().iter().all(|(_, state, _)| *state == 'Z'));
    sleep(BOUND);

    for promise in promises.into_iter().chain(pipelines) {
        let output = promise.await.expect("in time");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    }
    for promise in fed {
        assert!(promise.await.expect("nobody reads any more").status.success());
    }
    let output = many.await.expect("in time");
    assert_eq!((output.stdout.len(), output.stderr.len()), (60_000, 60_000));
    assert_eq!(silent.await.expect("in time"), 3);
    for process in talk {
        assert_eq!(process.output().await.expect("in time").stdout, b"out\n");
    }
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::TimedOut), "it was in time");
    }
}

/// Output that is there and not read yet ends the silence. From then on the idle time begins anew.
#[test]
fn unread_is_not_silent() {
    everywhere(unread);
}

async fn unread() {
    patiently(|longer| async move {
        let silence = longer * Duration::from_secs(1);
        let dir = tempfile::tempdir().expect("a folder");
        let said = ["alone", "joined"].map(|name| dir.path().join(name));
        let script = "echo a; : >$said; read -r word; echo $word";
        let mut process = sh(script).env("said", &said[0]).idle_timeout(silence).spawn().expect("starts");
        let mut writer = process.writer(0).expect("a pipe");
        let (asks, answers) = pipe();
        // Only the last member of the pipeline writes something that is read here.
        let mut joined = sh(script).env("said", &said[1]).stdin(asks).pipe(Command::new("cat"));
        let joined = joined.idle_timeout(silence).read();
        eventually("both have talked", || said.iter().all(|path| path.exists()));
        sleep(silence);

        let (text, lines) = futures::join!(joined, async {
            std::fs::File::from(answers).write_all(b"b\n").expect("a reader");
            let first = process.next_line().await.expect("a line").text;
            // If it is late here, it was silent too long.
            let _ = writer.write_all(b"b\n").await;
            [Some(first), process.next_line().await.map(|line| line.text)]
        });
        let status = process.status().await?;
        assert_eq!((text?, status.success()), ("a\nb".into(), true));
        assert_eq!(lines.each_ref().map(Option::as_deref), [Some("a"), Some("b")]);
        Ok::<_, reaped::Error>(())
    })
    .await;
}

/// If the child has ended, one look sees it, as with std's `try_wait`.
#[test]
fn the_first_look_sees_the_end() {
    // In a process of its own: a program that another test starts has copies of this test's pipe ends until
    // it runs. A pipe is not at its end while any process has it open.
    alone("late::the_first_look_sees_the_end", || everywhere(first_look));
}

async fn first_look() {
    for _ in 0..20 {
        let mut command = sh("echo out; exit 3");
        let mut promise = command.output();
        let pid = promise.pid().expect("it runs");
        eventually("it has exited", || state_of(pid) == Some('Z'));
        let output = (&mut promise).now_or_never().expect("at once").expect("a value");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"out\n"[..]));
    }
}

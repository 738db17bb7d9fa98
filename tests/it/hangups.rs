//! Pipes that the child closes, with every way to wait for that. Kernels differ most here, so the file runs
//! on every Unix.

use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};
use futures::io::AsyncWriteExt;
use reaped::{Error, Event, Stdio};

use super::support::{Never, everywhere, sh};

/// If the hang-up is never seen, the test fails and does not hang.
async fn seen<T>(what: &str, future: impl Future<Output = T>) -> T {
    let late = smol::Timer::after(Duration::from_secs(60));
    match select(std::pin::pin!(future), late).await {
        Either::Left((value, _)) => value,
        Either::Right(_) => panic!("{what}: nobody saw it"),
    }
}

#[test]
fn events_and_lines_come_to_their_end() {
    everywhere(|| async {
        let mut process = sh("true").spawn().expect("starts");
        let mut closed = Vec::new();
        loop {
            match seen("an event", process.next()).await.expect("the end comes first") {
                Event::Closed { fd } => closed.push(fd),
                Event::Ended(status) => break assert!(status.success()),
                _ => {}
            }
        }
        closed.sort_unstable();
        assert_eq!(closed, [0, 1, 2]);

        let mut process = sh("exec <&-; echo one; echo two").spawn().expect("starts");
        let mut lines = Vec::new();
        while let Some(line) = seen("a line", process.next_line()).await {
            lines.push(String::from_utf8_lossy(line.bytes()).into_owned());
        }
        assert_eq!(lines, ["one", "two"]);
    });
}

/// The pipe has room, so only the hang-up itself can wake the writer.
#[test]
fn a_child_that_closes_its_input_and_keeps_running() {
    everywhere(|| async {
        let mut process = sh("sleep 0.1; exec <&-; exec sleep 1000").spawn().expect("starts");
        let mut writer = process.writer(0).expect("a pipe");
        seen("the writer alone", writer.closed()).await;
        let error = writer.write_all(b"x").await.expect_err("nobody reads");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);

        let mut process = sh("sleep 0.1; exec <&-; exec sleep 1000").spawn().expect("starts");
        let event = seen("the process alone", process.next()).await;
        assert!(matches!(event, Some(Event::Closed { fd: 0 })), "{event:?}");

        let mut command = sh("sleep 0.1; exec <&-; exec sleep 1000");
        let mut process = command.stdin(Stdio::reader(Never)).spawn().expect("starts");
        let event = seen("a reader that has nothing", process.next()).await;
        assert!(matches!(event, Some(Event::Closed { fd: 0 })), "{event:?}");
    });
}

/// The writer has just written, and knows at its first look that the child closed the pipe meanwhile.
#[test]
fn a_pipe_that_was_closed_after_the_last_write() {
    everywhere(|| async {
        let mut process = sh("read x; exec <&-; echo closed; exec sleep 1000").spawn().expect("starts");
        let mut writer = process.writer(0).expect("a pipe");
        for text in [" ", " ", "x\n"] {
            writer.write_all(text.as_bytes()).await.expect("it is read");
        }
        assert_eq!(process.next_line().await.expect("a line").text, "closed");
        assert!(writer.closed().now_or_never().is_some());
        assert!(writer.closed().now_or_never().is_some());
    });
}

/// The pipe is full, so the writer waits for room.
#[test]
fn a_child_that_closes_a_full_pipe_and_keeps_running() {
    everywhere(|| async {
        let mut command = sh("sleep 0.1; exec <&-; exec sleep 1000");
        let mut process = command.stdin(Stdio::bytes(vec![b'x'; 1 << 20])).spawn().expect("starts");
        let event = seen("the feed", process.next()).await;
        assert!(matches!(event, Some(Event::Closed { fd: 0 })), "{event:?}");

        let mut process = sh("sleep 0.1; exec <&-; exec sleep 1000").spawn().expect("starts");
        let mut writer = process.writer(0).expect("a pipe");
        let error =
            seen("the writer", writer.write_all(&vec![b'x'; 1 << 20])).await.expect_err("nobody reads");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    });
}

/// After a kill each pipe is looked at once: its end may be all that is in it.
#[test]
fn only_what_a_process_has_open_is_still_open() {
    everywhere(|| async {
        let mut command = sh("head -c 70000 /dev/zero; exec sleep 1000");
        let error =
            seen("the end", command.timeout(Duration::from_millis(300)).output()).await.expect_err("late");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        assert!(error.output().expect("it ran").still_open().is_empty(), "{error:?}");

        let mut command = sh("sleep 5 2>/dev/null & echo up; exit 0");
        let output = seen("the end", command.drain_timeout(Duration::from_millis(10)).output()).await;
        let output = output.expect("it succeeded");
        assert_eq!((&output.stdout[..], output.still_open()), (&b"up\n"[..], &[1][..]));
    });
}

//! Lines, and copies of the captured output.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::FusedFuture;
use futures::io::{AllowStdIo, AsyncRead, AsyncReadExt, AsyncWrite};
use futures::stream::FusedStream;
use futures::{FutureExt, Stream};
use reaped::{Command, Error, Event, InvalidReason, Line, Process, Stdio, Writer};

use super::helper::pattern;
use super::support::{
    alone, eventually, everywhere, helper, in_time, patiently, peak, reset_peak, sh, state_of, warm_up,
};

async fn all(process: &mut Process, limit: usize) -> Vec<Line> {
    let mut lines = process.lines().limit(limit);
    let mut all = Vec::new();
    while let Some(line) = lines.next().await {
        all.push(line);
    }
    assert!(lines.next().await.is_none());
    all
}

#[test]
fn every_kind_of_line() {
    everywhere(|| async {
        let text = r"one\n\ntwo\r\nabcdefgh\ncaf\351\nlast";
        let mut process = Command::new("printf").arg(text).spawn().expect("starts");
        let lines = all(&mut process, 5).await;
        let seen: Vec<(&[u8], bool)> = lines.iter().map(|line| (line.bytes(), line.complete)).collect();
        let expected: [(&[u8], bool); 7] = [
            (b"one", true),
            (b"", true),
            (b"two", true),
            (b"abcde", false),
            (b"fgh", true),
            (b"caf\xe9", true),
            (b"last", false),
        ];
        assert_eq!(seen, expected);
        assert_eq!(lines[5].text, "caf\u{fffd}");
        assert!(process.status().await.expect("a status").success());
    });
}

/// A lent line is the line that `next` would have returned, whichever of the two calls reads it.
#[test]
fn lent_lines() {
    // More than a batch, bytes that are not UTF-8, pieces, both streams' ends, and a last line without an end.
    let script = r"seq 30000; printf 'abcdefgh\r\ncaf\351\n\n'; seq 30000; printf last";
    everywhere(|| async {
        let expected = all(&mut sh(script).spawn().expect("starts"), 5).await;
        assert_eq!(expected.len(), 60_005);
        for every in [1, 2, 1000] {
            let mut process = sh(script).spawn().expect("starts");
            let mut lines = process.lines().limit(5);
            let mut seen = Vec::new();
            loop {
                let line = match seen.len() % every {
                    0 => lines.next_borrowed().await.cloned(),
                    _ => lines.next().await,
                };
                let Some(line) = line else { break };
                seen.push(line);
            }
            assert!(seen == expected);
            assert!(lines.next_borrowed().await.is_none() && lines.next_borrowed().await.is_none());
            assert!(lines.is_terminated());
        }
    });
}

/// A copy that uses up the time of each poll does not keep back the lines that were already read.
#[test]
fn lines_come_beside_a_slow_copy() {
    /// Counts the writes. Each takes longer than a poll should.
    struct Slow(Arc<AtomicUsize>);
    impl std::io::Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(1));
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    everywhere(|| async {
        let writes = Arc::<AtomicUsize>::default();
        let mut command = sh("exec yes >&2");
        command.stderr(Stdio::tee(AllowStdIo::new(Slow(writes.clone()))));
        let mut process = command.spawn().expect("starts");
        let mut lines = process.lines();
        for _ in 0..100_000 {
            assert_eq!(lines.next().await.expect("a line").text, "y");
        }
        let writes = writes.load(Ordering::Relaxed);
        assert!(writes < 5_000, "{writes} writes of the copy for 100,000 lines");
    });
}

/// A future of a lent line that is dropped before it is ready has taken no line.
#[test]
fn a_lent_line_that_is_not_waited_for() {
    everywhere(|| async {
        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.01; done";
        let mut process = sh(script).spawn().expect("starts");
        let mut lines = process.lines();
        let (mut seen, mut dropped) = (Vec::new(), 0);
        loop {
            match lines.next_borrowed().now_or_never() {
                None => dropped += 1,
                Some(None) => break,
                Some(Some(line)) => seen.push(line.text.clone()),
            }
            smol::Timer::after(Duration::from_millis(1)).await;
        }
        assert!(dropped > 0);
        assert_eq!(seen, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    });
}

#[test]
fn lines_of_two_streams() {
    everywhere(|| async {
        let script = "i=0; while [ $i -lt 1000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
        let mut process = sh(script).spawn().expect("starts");
        let lines = all(&mut process, 1000).await;
        for (fd, name) in [(1, "out"), (2, "err")] {
            let of: Vec<&str> = lines.iter().filter(|l| l.fd == fd).map(|l| l.text.as_str()).collect();
            let expected: Vec<String> = (0..1000).map(|i| format!("{name} {i}")).collect();
            assert_eq!(of, expected);
        }
    });
}

/// If the lines are dropped in the middle of a line, the bytes read so far stay. They come again, as lines or
/// as data.
#[test]
fn dropping_the_lines_loses_nothing() {
    everywhere(|| async {
        let mut process =
            sh("printf 'one\ntw'; read x; printf 'o\nthr'; read x; echo ee").spawn().expect("starts");
        let mut writer = process.writer(0).expect("an input");
        assert_eq!(process.lines().next().await.expect("a line").text, "one");
        let half = futures::FutureExt::now_or_never(process.lines().next());
        assert!(half.is_none(), "{half:?}");
        futures::AsyncWriteExt::write_all(&mut writer, b"\n").await.expect("read");
        assert_eq!(process.lines().next().await.expect("a line").text, "two");
        let mut rest = Vec::new();
        futures::AsyncWriteExt::write_all(&mut writer, b"\n").await.expect("read");
        while let Some(event) = process.next().await {
            if let Event::Data { data, .. } = event {
                rest.extend(data);
            }
        }
        assert_eq!(rest, b"three\n");

        let mut process = sh("printf 'one\ntwo\nthree'").spawn().expect("starts");
        assert_eq!(process.lines().next().await.expect("a line").text, "one");
        assert_eq!(process.output().await.expect("a value").stdout, b"two\nthree");
    });
}

/// The caller makes other calls between two lines, and each byte comes once and in order.
#[test]
fn lines_and_other_calls_by_turns() {
    everywhere(|| async {
        let numbered = |count: usize| (0..count).map(|n| format!("{n}\n")).collect::<String>();
        let mut command = Command::new("cat");
        for kind in ["events", "pause", "a limit", "a reader", "the rest", "close"] {
            let count = 50_000;
            let mut process = command.stdin(Stdio::bytes(numbered(count))).spawn().expect("starts");
            let mut said = String::new();
            for round in 0..1000 {
                // A few events are enough for all of the output.
                let Some(line) = process.next_line().await else { break };
                said += &line.text;
                said.push('\n');
                match kind {
                    "events" if round % 100 == 0 => match process.next().await {
                        Some(Event::Data { data, .. }) => said += std::str::from_utf8(&data).expect("text"),
                        // By now the child has all of its input.
                        other => assert!(matches!(other, Some(Event::Closed { fd: 0 })), "{other:?}"),
                    },
                    "pause" => {
                        assert!(process.pause(1));
                        assert!(process.next_line().now_or_never().is_none(), "it is held back");
                        assert!(process.resume(1));
                    }
                    "a limit" => {
                        // No line is this long without its end.
                        let line = process.lines().limit(5).next().await.expect("there are more");
                        said += &line.text;
                        said.push('\n');
                    }
                    _ => {}
                }
            }
            match kind {
                "a reader" => {
                    let mut reader = process.reader(1).expect("not taken");
                    reader.read_to_string(&mut said).await.expect("text");
                }
                "the rest" => {
                    let output = process.output().await.expect("runs");
                    said += std::str::from_utf8(&output.stdout).expect("text");
                }
                "close" => {
                    // Bytes that were read before the close are still returned.
                    assert!(process.close(1));
                    for line in all(&mut process, 100).await {
                        said += &line.text;
                        said.extend(line.complete.then_some('\n'));
                    }
                    assert!(numbered(count).starts_with(&said), "{kind}: {} bytes", said.len());
                    continue;
                }
                _ => {
                    for line in all(&mut process, 100).await {
                        said += &line.text;
                        said.extend(line.complete.then_some('\n'));
                    }
                }
            }
            assert!(said == numbered(count), "{kind}: {} bytes", said.len());
        }
    });
}

#[test]
fn an_endless_line_is_bounded() {
    alone("lines::an_endless_line_is_bounded", || {
        warm_up();
        let before = reset_peak();
        futures::executor::block_on(async {
            let mut process = helper(&["out:100000000"]).spawn().expect("starts");
            let mut place = 0;
            let mut lines = process.lines().limit(1 << 16);
            // The pattern has one line end in 251 bytes, and it never contains "\r\n".
            while let Some(line) = lines.next().await {
                place += line.bytes().len() + usize::from(line.complete);
            }
            assert_eq!(place, 100_000_000);
            let mut process = sh("head -c 100000000 /dev/zero").spawn().expect("starts");
            let mut lines = process.lines().limit(1 << 16);
            let mut count = 0;
            while let Some(line) = lines.next().await {
                assert!(line.bytes().len() <= 1 << 16 && !line.complete);
                count += line.bytes().len();
            }
            assert_eq!(count, 100_000_000);
        });
        let grown = peak() - before;
        assert!(grown < 4 << 20, "{grown} bytes more at the peak");
    });
}

/// Keeps the written bytes. It can be slow, or fail.
#[derive(Clone, Default)]
struct Copy {
    kept: Arc<Mutex<Vec<u8>>>,
    closed: Arc<Mutex<bool>>,
    fail_after: Option<usize>,
    stutter: bool,
    ready: bool,
}

impl AsyncWrite for Copy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.ready = !self.ready;
        if self.stutter && self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut kept = self.kept.lock().expect("no panic");
        if self.fail_after.is_some_and(|most| kept.len() >= most) {
            return Poll::Ready(Err(io::Error::other("disk full")));
        }
        let count = if self.stutter { bytes.len().min(777) } else { bytes.len() };
        kept.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self.closed.lock().expect("no panic") = true;
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_tee_copies_all_and_is_closed() {
    everywhere(|| async {
        for stutter in [false, true] {
            let (one, two) = (Copy { stutter, ..Copy::default() }, Copy::default());
            let mut command = helper(&["out:300000", "err:5", "fill:7:300000"]);
            command.stdout(Stdio::tee(one.clone())).fd(7, Stdio::tee(two.clone()));
            let output = command.output().await.expect("runs");
            assert_eq!(output.stdout, pattern(300_000));
            assert_eq!(output.fd(7), Some(&pattern(300_000)[..]));
            for copy in [one, two] {
                assert_eq!(*copy.kept.lock().expect("no panic"), pattern(300_000));
                assert!(*copy.closed.lock().expect("no panic"));
            }
            let error = command.output().await.expect_err("used up");
            assert!(matches!(error, Error::Invalid { reason: InvalidReason::ReaderUsed, .. }));
        }
    });
}

#[test]
fn a_tee_beside_events_and_readers() {
    everywhere(|| async {
        let copy = Copy { stutter: true, ..Copy::default() };
        let mut process = helper(&["out:300000"]).stdout(Stdio::tee(copy.clone())).spawn().expect("starts");
        let mut data = Vec::new();
        while let Some(event) = process.next().await {
            if let Event::Data { fd: 1, data: more } = event {
                data.extend(more);
                assert!(copy.kept.lock().expect("no panic").len() >= data.len(), "copied before it is told");
            }
        }
        assert_eq!(data, pattern(300_000));

        let copy = Copy::default();
        let mut process = helper(&["out:300000"]).stdout(Stdio::tee(copy.clone())).spawn().expect("starts");
        let mut data = Vec::new();
        let mut reader = process.reader(1).expect("an output");
        futures::AsyncReadExt::read_to_end(&mut reader, &mut data).await.expect("data");
        assert_eq!(data, pattern(300_000));
        assert_eq!(*copy.kept.lock().expect("no panic"), data);
        assert!(process.status().await.expect("a status").success());
    });
}

#[test]
fn a_tee_that_fails_is_an_error_with_what_was_captured() {
    everywhere(|| async {
        let copy = Copy { fail_after: Some(1000), ..Copy::default() };
        let error =
            helper(&["out:100000000"]).stdout(Stdio::tee(copy)).output().await.expect_err("disk full");
        assert!(matches!(&error, Error::Io { .. }), "{error}");
        assert!(error.to_string().ends_with("failed on descriptor 1: disk full"), "{error}");
        let output = error.into_output().expect("it ran");
        assert!(output.stdout.len() >= 1000 && pattern(output.stdout.len()) == output.stdout);

        // The failure comes as an event.
        let copy = Copy { fail_after: Some(0), ..Copy::default() };
        let mut process = sh("echo hi; exec sleep 1000").stdout(Stdio::tee(copy)).spawn().expect("starts");
        let mut events = Vec::new();
        while let Some(event) = process.next().await {
            events.push(event);
        }
        assert!(
            events.iter().any(|e| matches!(e, Event::Data { fd: 1, data } if data == b"hi\n")),
            "{events:?}"
        );
        assert!(events.iter().any(|e| matches!(e, Event::Failed { fd: 1, .. })), "{events:?}");
        assert!(matches!(events.last(), Some(Event::Ended(status)) if !status.success()), "{events:?}");
    });
}

/// A copy that never takes a byte. It may ask to be tried again nevertheless.
struct Stuck {
    wakes_itself: bool,
}

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        if self.wakes_itself {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// The child writes no faster than the copy takes the bytes.
#[test]
fn a_stuck_tee_blocks_the_child() {
    everywhere(|| async {
        let mut promise = Command::new("yes").stdout(Stdio::tee(Stuck { wakes_itself: false })).output();
        let pid = promise.pid().expect("runs");
        let timer = smol::Timer::after(Duration::from_millis(100));
        let first = futures::future::select(&mut promise, timer).await;
        assert!(matches!(first, futures::future::Either::Right(_)));
        eventually("the child sleeps", || state_of(pid) == Some('S'));
    });
}

/// A copy that takes its time with each write, and closes only when it is released.
struct Slow {
    at_once: usize,
    takes: Duration,
    end: futures::future::Shared<futures::channel::oneshot::Receiver<()>>,
}

impl AsyncWrite for Slow {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        std::thread::sleep(self.takes);
        Poll::Ready(Ok(bytes.len().min(self.at_once)))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll(cx).map(|_| Ok(()))
    }
}

/// While the copy is not closed there is nothing to do: a poll returns, and no task is woken for nothing.
#[test]
fn a_tee_that_closes_late_is_waited_for() {
    everywhere(|| async {
        for taken_out in [false, true] {
            let (tell, end) = futures::channel::oneshot::channel();
            let copy = Slow { at_once: 1_000, takes: Duration::ZERO, end: end.shared() };
            let mut process = helper(&["out:5000"]).stdout(Stdio::tee(copy)).spawn().expect("starts");
            let polls = std::sync::atomic::AtomicUsize::new(0);
            let reads = async {
                let mut data = Vec::new();
                let mut reader = taken_out.then(|| process.reader(1).expect("an output"));
                let mut chunk = vec![0; 10_000];
                loop {
                    let read = futures::future::poll_fn(|cx| {
                        polls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        match &mut reader {
                            Some(reader) => Pin::new(reader).poll_read(cx, &mut chunk).map(|count| {
                                let count = count.expect("data");
                                (count > 0).then(|| chunk[..count].to_vec())
                            }),
                            None => Pin::new(&mut process).poll_next(cx).map(|event| match event {
                                Some(Event::Data { data, .. }) => Some(data),
                                Some(_) => Some(Vec::new()),
                                None => None,
                            }),
                        }
                    });
                    let Some(more) = read.await else { break data };
                    data.extend(more);
                }
            };
            let tells = async {
                smol::Timer::after(Duration::from_millis(100)).await;
                tell.send(()).expect("it is waited for");
            };
            let (data, ()) = futures::join!(reads, tells);
            assert_eq!(data, pattern(5_000));
            let polls = polls.into_inner();
            assert!(polls < 60, "{taken_out}: {polls} polls");
        }
    });
}

/// A copy takes little at each write, and needs longer for it than one poll may take.
#[test]
fn a_slow_tee_of_a_reader() {
    everywhere(|| async {
        let copy = Slow {
            at_once: 1_000,
            takes: Duration::from_micros(50),
            end: futures::channel::oneshot::channel().1.shared(),
        };
        let mut process = helper(&["out:300000"]).stdout(Stdio::tee(copy)).spawn().expect("starts");
        let mut data = Vec::new();
        let mut reader = process.reader(1).expect("an output");
        futures::AsyncReadExt::read_to_end(&mut reader, &mut data).await.expect("data");
        assert_eq!(data, pattern(300_000));
        assert!(process.status().await.expect("a status").success());
    });
}

/// A copy that never closes delays the end no longer than the bounds of the call.
#[test]
fn a_tee_that_never_closes_is_bounded() {
    everywhere(|| async {
        let (tell, end) = futures::channel::oneshot::channel::<()>();
        let end = end.shared();
        let copy = || Slow { at_once: 1_000, takes: Duration::ZERO, end: end.clone() };
        let bound = Duration::from_millis(100);
        let error = helper(&["out:5000"]).stdout(Stdio::tee(copy())).timeout(bound).output().await;
        assert!(matches!(error, Err(Error::TimedOut(_))), "{error:?}");
        let output = helper(&["out:5000"]).stdout(Stdio::tee(copy())).drain_timeout(bound).output().await;
        assert_eq!(output.expect("it ended").stdout, pattern(5_000));
        // The exit comes before the copy's end.
        let mut process = helper(&["out:5000"]).stdout(Stdio::tee(copy())).spawn().expect("starts");
        while !matches!(process.next().await.expect("the exit comes"), Event::Exited(_)) {}
        drop(tell);
    });
}

/// Awaiting any handle moves a copy on, also after a pause.
#[test]
fn a_tee_that_is_resumed_goes_on() {
    everywhere(|| async {
        let mut command = helper(&["err:300000", "out:5"]);
        let mut process = command.stderr(Stdio::tee(Copy::default())).spawn().expect("starts");
        assert!(process.pause(2));
        let mut reader = process.reader(1).expect("an output");
        let reads = smol::spawn(async move {
            let mut data = Vec::new();
            futures::AsyncReadExt::read_to_end(&mut reader, &mut data).await.expect("data");
            data
        });
        smol::Timer::after(Duration::from_millis(50)).await;
        assert!(process.resume(2));
        assert_eq!(reads.await, pattern(5));
        assert!(process.status().await.expect("a status").success());
    });
}

/// If this program has ended the child, a reader that was taken gets the bytes that its copy does not take.
#[test]
fn a_reader_does_not_wait_for_the_copy_of_a_killed_child() {
    const SOON: Duration = Duration::from_millis(100);
    let who =
        ["timeout", "silence", "kill", "drop", "output", "nobody else", "detached", "asked", "wakes itself"];
    for ends_by in who {
        everywhere(|| async move {
            let mut command = sh("echo said; exec sleep 1000");
            let copy = Stuck { wakes_itself: ends_by == "wakes itself" };
            command.stdout(Stdio::tee(copy)).grace(Duration::ZERO);
            match ends_by {
                "kill" | "drop" | "wakes itself" => {}
                "detached" => drop(command.kill_on_drop(false)),
                "asked" => drop(command.terminate_on_drop(true).grace(Duration::from_secs(60))),
                "silence" => drop(command.idle_timeout(SOON)),
                _ => drop(command.timeout(SOON)),
            }
            let mut process = command.spawn().expect("starts");
            let mut reader = process.reader(1).expect("an output");
            let reads = async {
                let mut said = String::new();
                futures::AsyncReadExt::read_to_string(&mut reader, &mut said).await.expect("text");
                said
            };
            let ends = async {
                match ends_by {
                    "nobody else" => return Some(process),
                    "output" => drop(process.output().await.expect_err("it is late")),
                    "timeout" | "silence" => drop(process.wait().await.expect_err("it is late")),
                    _ => {
                        smol::Timer::after(SOON).await;
                        let control = process.control();
                        match ends_by {
                            "kill" | "wakes itself" => {
                                control.kill().expect("it runs");
                                return Some(process);
                            }
                            "detached" => {
                                drop(process);
                                control.kill().expect("it runs");
                            }
                            _ => {}
                        }
                    }
                }
                None
            };
            let (said, _process) = in_time(ends_by, async { futures::join!(reads, ends) }).await;
            assert_eq!(said, "said\n");
        });
    }
}

/// A copy that takes nothing until it is open, and then everything.
struct Later {
    opens: futures::future::Fuse<futures::channel::oneshot::Receiver<()>>,
    copied: Arc<AtomicUsize>,
}

impl AsyncWrite for Later {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.opens.is_terminated() && self.opens.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.copied.fetch_add(bytes.len(), Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// If the child exited by itself, a reader that was taken copies all of the output, whatever comes later.
#[test]
fn a_copy_goes_on_after_the_exit() {
    for comes in ["timeout", "silence", "a drain timeout", "drop"] {
        everywhere(|| {
            patiently(move |longer| async move {
                let soon = longer * Duration::from_millis(50);
                // Another process holds stderr.
                let mut command = sh("seq 1 2000; sleep 1 >/dev/null &");
                let ((open, opens), copied) = (futures::channel::oneshot::channel(), Arc::default());
                let copy = Later { opens: opens.fuse(), copied: Arc::clone(&copied) };
                command.stdout(Stdio::tee(copy));
                match comes {
                    "timeout" => drop(command.timeout(soon)),
                    "silence" => drop(command.idle_timeout(soon)),
                    "a drain timeout" => drop(command.drain_timeout(soon)),
                    _ => {}
                }
                let mut process = command.spawn().expect("starts");
                let mut reader = process.reader(1).expect("an output");
                if comes == "drop" {
                    // It has ended, and nobody has looked.
                    let pid = process.pid().expect("nobody has looked");
                    eventually("the exit", || state_of(pid) == Some('Z'));
                    drop(process);
                } else if let Err(error) = in_time("the end", process.output()).await {
                    // On a busy machine the child is late, and is killed.
                    if !error.output().is_some_and(|output| output.status.success()) {
                        return Err(error);
                    }
                }
                let mut data = Vec::new();
                let waits = reader.read_to_end(&mut data).now_or_never();
                assert!(waits.is_none(), "{comes}: the copy is not open");
                open.send(()).expect("it is waited for");
                in_time(comes, reader.read_to_end(&mut data)).await.expect("data");
                assert_eq!((data.len(), copied.load(Ordering::Relaxed)), (8893, 8893), "{comes}");
                Ok(())
            })
        });
    }
}

/// A copy may poll another handle of the same child. If it must wait for that, nobody polls it again and again.
#[test]
fn a_copy_that_polls_its_own_child() {
    struct Asks {
        writer: Arc<Mutex<Option<Writer>>>,
        calls: Arc<AtomicUsize>,
    }
    impl AsyncWrite for Asks {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let mut writer = self.writer.lock().expect("no panic");
            let closed = std::pin::pin!(writer.as_mut().expect("it is there").closed());
            closed.poll(cx).map(|()| Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    everywhere(|| async {
        let (writer, calls) = (Arc::<Mutex<Option<Writer>>>::default(), Arc::<AtomicUsize>::default());
        let copy = Asks { writer: writer.clone(), calls: calls.clone() };
        let mut process = sh("echo said; sleep 0.3").stdout(Stdio::tee(copy)).spawn().expect("starts");
        *writer.lock().expect("no panic") = process.writer(0);
        let mut said = Vec::new();
        while let Some(event) = in_time("an event", process.next()).await {
            if let Event::Data { data, .. } = event {
                said.extend(data);
            }
        }
        assert_eq!(said, b"said\n");
        let calls = calls.load(Ordering::Relaxed);
        assert!(calls < 30, "{calls} calls");
    });
}

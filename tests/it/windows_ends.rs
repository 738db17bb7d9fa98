//! How a child ends on Windows, and what the caller learns: events, bounds, `Control`, and which processes a
//! group includes.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::io::{AllowStdIo, AsyncReadExt};
use reaped::{Command, Error, Event, InvalidReason, Process, Signal, SpawnReason, Stdio};

use super::helper::pattern;
use super::support::{eventually, everywhere, helper};
use super::windows::runs;

/// Longer than a child takes to start under Wine.
const SOON: Duration = Duration::from_secs(2);

/// The exit code of a program that does not handle Ctrl-Break (STATUS_CONTROL_C_EXIT).
pub const BROKEN: i32 = 0xc000_013a_u32 as i32;

/// All events from now on.
async fn told(process: &mut Process) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = process.next().await {
        events.push(event);
    }
    assert!(process.next().await.is_none(), "nothing comes after the end");
    events
}

fn data(events: &[Event], wanted: i32) -> Vec<u8> {
    let of_it = events.iter().filter_map(|event| match event {
        Event::Data { fd, data } if *fd == wanted => Some(&data[..]),
        _ => None,
    });
    of_it.collect::<Vec<_>>().concat()
}

fn place(events: &[Event], what: &str) -> usize {
    let mut found = events.iter().enumerate().filter(|(_, event)| format!("{event:?}").starts_with(what));
    let (place, _) = found.next().unwrap_or_else(|| panic!("no {what}: {events:?}"));
    assert!(found.next().is_none(), "more than one {what}: {events:?}");
    place
}

#[test]
fn events_come_in_order_and_once() {
    everywhere(|| async {
        let mut process = helper(&["out:200000", "err:70000", "exit:3"]).spawn().expect("starts");
        let events = told(&mut process).await;
        for (fd, length) in [(1, 200_000), (2, 70_000)] {
            assert!(data(&events, fd) == pattern(length));
            let last =
                events.iter().rposition(|event| matches!(event, Event::Data { fd: n, .. } if *n == fd));
            assert!(last < Some(place(&events, &format!("Closed {{ fd: {fd} }}"))));
        }
        assert!(place(&events, "Exited") < place(&events, "Ended"));
        assert!(
            matches!(events.last(), Some(Event::Ended(status)) if status.code() == Some(3)),
            "{events:?}"
        );
    });
}

/// A paused descriptor comes complete after the pause, and delays no other.
#[test]
fn pausing() {
    everywhere(|| async {
        // It reads to the end: if a child exits, its input closes while its last bytes are still in the pipe.
        let mut process = helper(&["out:300000", "err:3", "copy:0:1"]).spawn().expect("starts");
        assert!(process.pause(2) && !process.pause(0) && !process.pause(7));
        let mut seen = Vec::new();
        while seen.len() < 300_000 {
            match process.next().await {
                Some(Event::Data { fd: 1, data }) => seen.extend(data),
                other => panic!("{other:?}"),
            }
        }
        assert!(seen == pattern(300_000));
        assert!(process.resume(2) && process.close(0));
        assert_eq!(data(&told(&mut process).await, 2), pattern(3));
    });
}

#[test]
fn lines_of_a_child_that_is_killed() {
    everywhere(|| async {
        let mut process = helper(&["say:1:one", "say:1:two", "sleep:100000"]).spawn().expect("starts");
        assert_eq!(process.next_line().await.expect("a line").text, "one");
        assert_eq!(process.next_line().await.expect("a line").text, "two");
        process.control().kill().expect("it runs");
        assert_eq!(process.next_line().await, None);
        assert_eq!(process.status().await.expect("a status").code(), Some(1));
    });
}

#[test]
fn a_code_of_the_system_is_named() {
    let error = block_on(helper(&[&format!("exit:{}", 0xc000_0005_u32)]).run()).expect_err("a failure");
    assert!(error.to_string().ends_with("exited with code 0xC0000005 (STATUS_ACCESS_VIOLATION)"), "{error}");
}

/// Windows reports no hang-up of a pipe that is only written to, so a read waits for it.
#[test]
fn a_child_that_closes_its_input_and_keeps_running() {
    everywhere(|| async {
        let mut process = helper(&["close:0", "sleep:100000"]).spawn().expect("starts");
        process.writer(0).expect("a pipe").closed().await;
        let mut process = helper(&["close:0", "sleep:100000"]).spawn().expect("starts");
        let event = process.next().await;
        assert!(matches!(event, Some(Event::Closed { fd: 0 })), "{event:?}");
    });
}

#[test]
fn control_from_another_thread() {
    everywhere(|| async {
        for which in 0..4 {
            let promise = helper(&["sleep:100000"]).output();
            let control = promise.control();
            let other = std::thread::spawn(move || match which {
                0 => control.kill(),
                1 => control.terminate(),
                2 => control.signal(Signal::INT),
                _ => control.signal(Signal::from_raw(15)),
            });
            assert_eq!(promise.await.expect("a value").status.code(), Some(1));
            other.join().expect("no panic").expect("it ran");
        }
    });
}

#[test]
fn control_of_a_child_that_has_ended() {
    everywhere(|| async {
        let promise = helper(&["exit:0"]).status();
        let control = promise.control();
        let unknown = control.signal(Signal::from_raw(1));
        assert!(matches!(unknown, Err(Error::Invalid { reason: InvalidReason::Signal, .. })), "{unknown:?}");
        promise.await.expect("a status");
        for told in [control.kill(), control.terminate(), control.signal(Signal::INT)] {
            assert!(matches!(told, Err(Error::AlreadyEnded(_))), "{told:?}");
        }
        let nobody = Command::new("no-such-program").run();
        assert!(matches!(nobody.control().kill(), Err(Error::AlreadyEnded(_))));
    });
}

#[test]
fn limits() {
    everywhere(|| async {
        let output = helper(&["out:1000", "err:1000"]).limit(1000).output().await.expect("it is met exactly");
        assert_eq!((output.stdout.len(), output.stderr.len()), (1000, 1000));
        let mut command = helper(&["out:500000", "err:11", "sleep:100000"]);
        let error = command.limit_fd(2, 10).output().await.expect_err("too much");
        assert!(matches!(error, Error::OutputLimit(_)), "{error}");
        let kept = error.output().expect("it ran");
        assert_eq!((kept.stderr.clone(), kept.stdout.len()), (pattern(10), 500_000));

        let mut process = command.spawn().expect("starts");
        let events = told(&mut process).await;
        assert_eq!(data(&events, 2), pattern(10));
        assert!(place(&events, "LimitReached { fd: 2 }") < place(&events, "Ended"), "{events:?}");
    });
}

#[test]
fn silence() {
    let steps = ["say:1:a", "sleep:1000", "say:1:b", "sleep:1000", "say:1:c", "sleep:100000"];
    let error = block_on(helper(&steps).idle_timeout(SOON).output()).expect_err("silent");
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
    assert!(error.to_string().contains("was silent for 2s"), "{error}");
    assert_eq!(error.output().expect("it ran").stdout, b"a\nb\nc\n");
    let mut process = helper(&["say:1:a", "sleep:100000"]).timeout(SOON).spawn().expect("starts");
    let events = block_on(told(&mut process));
    assert!(place(&events, "TimedOut") < place(&events, "Ended"), "{events:?}");
}

/// A grandchild holds the pipes: the call waits for it, but no longer than the drain timeout.
#[test]
fn draining() {
    everywhere(|| async {
        let start = Instant::now();
        let mut command = helper(&["say:1:out", "leave:15000", "say:2:err"]);
        let output = command.drain_timeout(Duration::from_millis(200)).output().await.expect("a value");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.still_open(), [1, 2]);
        assert!(start.elapsed() < Duration::from_secs(12), "it waited for the descendant");

        let mut command = helper(&["say:1:out", "leave:1500"]);
        let output = command.drain_timeout(Duration::from_secs(60)).output().await.expect("a value");
        assert_eq!((&output.stdout[..], output.still_open()), (&b"out\n"[..], &[][..]));
        assert!(output.elapsed() >= Duration::from_millis(1400), "{output:?}");
    });
}

#[test]
fn a_tee_copies_what_is_captured() {
    everywhere(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("copy");
        let mut command = helper(&["out:300000"]);
        command.stdout(Stdio::tee(AllowStdIo::new(File::create(&path).expect("a file"))));
        let output = command.output().await.expect("runs");
        assert!(output.stdout == pattern(300_000));
        assert!(std::fs::read(&path).expect("written") == output.stdout);
        let again = command.output().await;
        assert!(matches!(again, Err(Error::Invalid { reason: InvalidReason::ReaderUsed, .. })));

        let full = AllowStdIo::new(std::io::Cursor::new([0; 1000]));
        let mut command = helper(&["out:3000", "sleep:100000"]);
        let error = command.stdout(Stdio::tee(SmallFile(full))).output().await.expect_err("it is full");
        assert!(matches!(error, Error::Io { .. }), "{error}");
        let kept = error.into_output().expect("it ran").stdout;
        assert!(kept.len() >= 1000 && kept == pattern(kept.len()));

        let path = folder.path().join("beside a reader");
        let mut command = helper(&["out:300000"]);
        command.stdout(Stdio::tee(AllowStdIo::new(File::create(&path).expect("a file"))));
        let mut process = command.spawn().expect("starts");
        let mut all = Vec::new();
        process.reader(1).expect("an output").read_to_end(&mut all).await.expect("data");
        assert!(all == pattern(300_000));
        assert!(process.status().await.expect("a status").success());
        assert!(std::fs::read(&path).expect("written") == all);
    });
}

/// Takes this much, and then nothing.
struct SmallFile(AllowStdIo<std::io::Cursor<[u8; 1000]>>);

impl futures::io::AsyncWrite for SmallFile {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        match std::task::ready!(std::pin::Pin::new(&mut self.0).poll_write(cx, buffer)) {
            Ok(0) => std::task::Poll::Ready(Err(std::io::Error::other("disk full"))),
            other => std::task::Poll::Ready(other),
        }
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_close(cx)
    }
}

#[test]
fn stderr_as_a_failure_and_detaching() {
    everywhere(|| async {
        let error = helper(&["say:1:out", "say:2:hm"]).fail_on_stderr(true).read().await.expect_err("stderr");
        assert!(matches!(error, Error::UnexpectedStderr(_)), "{error}");
        assert_eq!(error.output().expect("it ran").stdout, b"out\n");
        helper(&["out:10"]).fail_on_stderr(true).read().await.expect("silence");
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("said");
    let mut command = helper(&["sleep:300", "say:1:on"]);
    command.stdout(File::create(&path).expect("a file")).run().detach().expect("it started");
    eventually("it runs to its end", || std::fs::read(&path).is_ok_and(|said| said == b"on\n"));
    assert!(matches!(Command::new("no-such-program").run().detach(), Err(Error::Spawn { .. })));
}

/// A child that starts a grandchild, writes its pid to a file, and goes on with `after`. The grandchild lives
/// for some seconds, and holds the captured pipes.
pub fn family(said: &Path, milliseconds: u32, after: &str) -> Command {
    let descendant = format!("leave:{milliseconds}:2");
    let mut command = helper(&[&descendant, after]);
    command.stderr(File::create(said).expect("a file"));
    command
}

/// The grandchild's pid, once it is there.
pub fn descendant(said: &Path) -> u32 {
    let mut pid = None;
    eventually("a descendant", || {
        let text = std::fs::read_to_string(said).unwrap_or_default();
        pid = text.strip_suffix('\n').and_then(|text| text.parse().ok());
        pid.is_some()
    });
    pid.expect("just seen")
}

#[test]
fn a_group_ends_as_a_whole() {
    everywhere(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let start = Instant::now();

        // By a timeout.
        let said = folder.path().join("timeout");
        let error = family(&said, 30_000, "sleep:30000").new_group().timeout(SOON).output().await;
        let error = error.expect_err("late");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        let pid = descendant(&said);
        eventually("the descendant is gone", || !runs(pid));

        // By a limit.
        let said = folder.path().join("limit");
        let error = family(&said, 30_000, "out:1000").new_group().limit(10).output().await;
        assert!(matches!(error, Err(Error::OutputLimit(_))), "{error:?}");
        let pid = descendant(&said);
        eventually("the descendant is gone", || !runs(pid));

        // By dropping.
        let said = folder.path().join("drop");
        let promise = family(&said, 30_000, "sleep:30000").new_group().output();
        let (child, pid) = (promise.pid().expect("it runs"), descendant(&said));
        assert!(runs(child) && runs(pid));
        drop(promise);
        eventually("both are gone", || !runs(child) && !runs(pid));

        // By a Control, in each of its ways.
        for way in 0..3 {
            let said = folder.path().join("control");
            let promise = family(&said, 30_000, "sleep:30000").new_group().output();
            let (control, pid) = (promise.control(), descendant(&said));
            let told = match way {
                0 => control.kill(),
                1 => control.terminate(),
                _ => control.signal(Signal::INT),
            };
            told.expect("they run");
            let code = promise.await.expect("a value").status.code();
            // If the tests have a console, the child was asked, and the system ended it.
            assert!(code == Some(1) || way > 0 && code == Some(BROKEN), "{code:?}");
            eventually("the descendant is gone", || !runs(pid));
            assert!(matches!(control.kill(), Err(Error::AlreadyEnded(_))));
        }
        assert!(start.elapsed() < Duration::from_secs(25), "it waited for a descendant");
    });
}

/// A group still exists after its child has exited.
#[test]
fn a_group_without_its_child() {
    everywhere(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let said = folder.path().join("said");
        let mut process = family(&said, 30_000, "exit:5").new_group().spawn().expect("starts");
        while !matches!(process.next().await.expect("an event"), Event::Exited(_)) {}
        let (control, pid) = (process.control(), descendant(&said));
        assert!(runs(pid), "it holds a pipe, and nobody has ended it");
        control.kill().expect("the group is there");
        let events = told(&mut process).await;
        assert!(
            matches!(events.last(), Some(Event::Ended(status)) if status.code() == Some(5)),
            "{events:?}"
        );
        eventually("the descendant is gone", || !runs(pid));
        assert!(matches!(control.kill(), Err(Error::AlreadyEnded(_))));

        // Dropping the call that waits for the grandchild.
        let mut process = family(&said, 30_000, "exit:5").new_group().spawn().expect("starts");
        while !matches!(process.next().await.expect("an event"), Event::Exited(_)) {}
        let pid = descendant(&said);
        assert!(runs(pid));
        drop(process);
        eventually("the descendant is gone", || !runs(pid));
    });
}

/// Processes that were not ended keep running: the rest of a group whose child has ended by itself, and a
/// detached child.
#[test]
fn a_group_that_is_not_ended_keeps_running() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = folder.path().join("ended");
    let mut command = family(&said, 4000, "exit:0");
    block_on(command.new_group().stdout(Stdio::null()).run()).expect("success");
    let pid = descendant(&said);
    drop(command);
    std::thread::sleep(Duration::from_millis(300));
    assert!(runs(pid), "it was ended with its parent");

    let said = folder.path().join("let run");
    let mut command = family(&said, 4000, "sleep:4000");
    command.new_group().stdout(Stdio::null()).kill_on_drop(false);
    let promise = command.run();
    let (child, pid) = (promise.pid().expect("it runs"), descendant(&said));
    drop(promise);
    std::thread::sleep(Duration::from_millis(300));
    assert!(runs(child) && runs(pid), "they were ended");
}

/// Without a group only the child itself is ended.
#[test]
fn a_grandchild_without_a_group_keeps_running() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = folder.path().join("said");
    let promise = family(&said, 4000, "sleep:30000").output();
    let (child, pid) = (promise.pid().expect("it runs"), descendant(&said));
    promise.control().kill().expect("it runs");
    let output = block_on(promise).expect("a value");
    assert_eq!((output.status.code(), output.still_open()), (Some(1), &[1][..]));
    assert!(!runs(child) && runs(pid));
}

/// A group changes nothing else: neither the output nor the exit, nor the reason if a program does not start.
#[test]
fn a_group_runs_as_any_child() {
    everywhere(|| async {
        let mut command = helper(&["copy:0:1", "err:5", "exit:9"]);
        let output =
            command.new_group().stdin(Stdio::bytes(pattern(200_000))).output().await.expect("a value");
        assert!(output.stdout == pattern(200_000));
        assert_eq!((output.stderr, output.status.code()), (pattern(5), Some(9)));
        let missing = Command::new("no-such-program").new_group().run().await;
        assert!(
            matches!(missing, Err(Error::Spawn { reason: SpawnReason::ProgramNotFound, .. })),
            "{missing:?}"
        );
    });
    // Many at once, each in a job of its own.
    let mut command = helper(&["say:1:here"]);
    let all = futures::future::join_all((0..20).map(|_| command.new_group().read()));
    assert!(block_on(all).into_iter().all(|said| said.expect("text") == "here"));
}

//! The exit of a process that is only borrowed: `wait` and `try_wait`, and what they leave to other calls.

use std::future::{Future, poll_fn};
use std::os::unix::process::ExitStatusExt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::executor::block_on;
use futures::future::{Either, select};
use futures::io::{AllowStdIo, AsyncReadExt, AsyncWriteExt};
use futures::{FutureExt, StreamExt, TryStreamExt};
use reaped::{Command, Error, Event, Process, PtySize, Stdio};

use super::support::{Never, at_last, children, eventually, everywhere, sh, statuses_survive};

/// All that the events return for one descriptor, and whether they end.
async fn told(process: &mut Process, fd: i32) -> Vec<u8> {
    let (mut all, mut ended) = (Vec::new(), false);
    while let Some(event) = process.next().await {
        match event {
            Event::Data { fd: of, data } if of == fd => all.extend(data),
            Event::Ended(_) => ended = true,
            _ => {}
        }
    }
    assert!(ended, "the end is told");
    all
}

#[test]
fn as_often_as_asked() {
    everywhere(|| async {
        let mut process = sh("echo out; echo err >&2; exit 3").spawn().expect("starts");
        assert!(process.pid().is_some());
        for _ in 0..3 {
            assert_eq!(process.wait().await.expect("a value").code(), Some(3));
            assert_eq!(process.try_wait().expect("a value").expect("it has exited").code(), Some(3));
            assert_eq!(process.pid(), None, "reaped");
        }
        let output = process.output().await.expect("a value");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));

        // Also after the end, and if a signal ended the child.
        let mut process = sh("kill -9 $$").spawn().expect("starts");
        assert_eq!(told(&mut process, 1).await, b"");
        for _ in 0..3 {
            assert_eq!(process.try_wait().expect("a value").expect("it has exited").signal(), Some(9));
            assert_eq!(process.wait().await.expect("a value").signal(), Some(9));
        }
        assert_eq!(process.status().await.expect("a value").signal(), Some(9));
    });
}

/// More than any pipe holds: the child does not block, and any later call returns all of it.
#[test]
fn no_byte_is_lost() {
    const MUCH: &str = "seq 300000; echo err >&2";
    everywhere(|| async {
        let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
        let waited = || async {
            let mut process = sh(MUCH).spawn().expect("starts");
            assert!(process.wait().await.expect("a value").success());
            process
        };
        let output = waited().await.output().await.expect("a value");
        assert!(output.stdout == expected.as_bytes() && output.stderr == b"err\n");
        assert!(told(&mut waited().await, 1).await == expected.as_bytes());

        let mut process = waited().await;
        let (mut all, mut reader) = (String::new(), process.reader(1).expect("a pipe, not taken yet"));
        reader.read_to_string(&mut all).await.expect("it is there");
        assert!(all == expected);
        assert!(process.reader(1).is_none(), "taken");
        // An end of file that was reported or made before is not reported again.
        let mut cat = Command::new("cat").spawn().expect("starts");
        assert!(cat.close(1) && cat.reader(1).is_none(), "closed");
        assert!(cat.wait().await.expect("a value").success() && cat.reader(1).is_none(), "still closed");
        let mut process = waited().await;
        while !matches!(process.next().await, Some(Event::Closed { fd: 1 })) {}
        assert!(process.reader(1).is_none(), "its end was told");
        let mut all = String::new();
        let mut reader = process.reader(2).expect("its end was not told");
        reader.read_to_string(&mut all).await.expect("it is there");
        assert_eq!((&all[..], reader.read(&mut [0]).await.expect("it has ended")), ("err\n", 0));
        assert_eq!(process.output().await.expect("a value").fd(2), None);

        // In the middle of a line.
        let mut process = sh("seq 300000").spawn().expect("starts");
        for n in 1..=1000 {
            assert_eq!(process.next_line().await.expect("a line").text, n.to_string());
            if n % 100 == 0 {
                assert!(process.wait().await.expect("a value").success());
            }
        }
        assert!(process.lines().map(|line| line.text + "\n").collect::<String>().await == expected[3893..]);
    });
}

/// Polled and dropped again and again, with events in between.
#[test]
fn dropped_before_it_is_ready() {
    everywhere(|| async {
        let mut process = sh("seq 100000; sleep 0.1; exit 4").spawn().expect("starts");
        let mut all = Vec::new();
        let status = loop {
            if let Some(status) = process.wait().now_or_never() {
                break status.expect("a value");
            }
            if let Some(status) = process.try_wait().expect("a value") {
                break status;
            }
            match process.next().await.expect("an event") {
                Event::Data { fd: 1, data } => all.extend(data),
                Event::Ended(_) => panic!("the exit is known before the end is told"),
                _ => {}
            }
        };
        assert_eq!(status.code(), Some(4));
        all.extend(told(&mut process, 1).await);
        let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        assert!(all == expected.as_bytes());
        assert_eq!(process.wait().await.expect("a value"), status);
    });
}

/// The exit is not the end: a grandchild holds the output pipes. The shell closes stdin first: a copy of the
/// shell would close it at some time after the exit.
#[test]
fn the_exit_and_not_the_end() {
    everywhere(|| async {
        for looks in [false, true] {
            let mut process =
                sh("exec <&-; echo hi; sleep 1000 & exit 5").new_group().spawn().expect("starts");
            let status = if looks {
                loop {
                    if let Some(status) = process.try_wait().expect("a value") {
                        break status;
                    }
                    smol::Timer::after(Duration::from_millis(1)).await;
                }
            } else {
                process.wait().await.expect("a value")
            };
            assert_eq!(status.code(), Some(5));
            let mut said = Vec::new();
            loop {
                match process.next().await.expect("it goes on") {
                    Event::Data { fd: 1, data } => said.extend(data),
                    Event::Exited(exit) => break assert_eq!(exit, status),
                    Event::Closed { fd: 0 } => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(said, b"hi\n");
            let more = process.next().now_or_never();
            assert!(more.is_none(), "the pipes are held: {more:?}");
            assert_eq!(process.wait().await.expect("a value"), status);
        }
    });
}

/// Whether a child has exited, reaped or not. Does not use the crate.
fn has_exited(pid: u32) -> bool {
    !children().iter().any(|(other, state, _)| *other == pid as i32 && *state != 'Z')
}

/// Nobody has polled, and a full pipe is ready.
#[test]
fn an_exit_that_is_there_is_seen_at_once() {
    for script in ["exit 6", "head -c 60000 /dev/zero; exit 6", "sleep 1000 & exit 6"] {
        for _ in 0..20 {
            let mut process = sh(script).new_group().spawn().expect("starts");
            let pid = process.pid().expect("it was not reaped");
            eventually("it has exited", || has_exited(pid));
            let status = process.try_wait().expect("a value").expect("it has exited");
            assert_eq!((status.code(), process.pid()), (Some(6), None));
            if script.starts_with("head") {
                assert_eq!(block_on(process.output()).expect("a value").stdout.len(), 60_000);
            }
        }
    }
}

/// A task that waits for events keeps its wake-up if another call looks at the process: in the same task, or
/// in another thread.
#[test]
fn a_look_keeps_the_wake_ups_of_others() {
    everywhere(|| async {
        let mut process = sh("sleep 0.1; echo hi; sleep 0.1").spawn().expect("starts");
        let (mut all, mut looks) = (Vec::new(), 0);
        let events = poll_fn(|cx| {
            loop {
                let event = process.poll_next_unpin(cx);
                looks += 1;
                process.try_wait().expect("a value");
                match event {
                    Poll::Ready(Some(Event::Data { data, .. })) => all.extend(data),
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        in_time(events).await;
        assert!(all == b"hi\n" && looks > 1);
    });
    for script in ["sleep 0.05; echo hi", "sleep 0.05; exec >&- 2>&-; sleep 0.05", "sleep 0.05 & exit 0"] {
        let process = Arc::new(Mutex::new(sh(script).spawn().expect("starts")));
        let other = process.clone();
        let looking = std::thread::spawn(move || {
            while other.lock().expect("no panic").try_wait().expect("a value").is_none() {
                std::thread::yield_now();
            }
        });
        block_on(in_time(poll_fn(|cx| {
            let mut process = process.lock().expect("no panic");
            while let Some(event) = std::task::ready!(process.poll_next_unpin(cx)) {
                assert!(!matches!(event, Event::TimedOut));
            }
            Poll::Ready(())
        })));
        looking.join().expect("no panic");
    }
}

/// A lost wake-up would make this wait for ever.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    // The timer is polled first. If it wakes the task, the task would then find the future ready.
    match select(smol::Timer::after(Duration::from_secs(60)), pin!(future)).await {
        Either::Left(_) => panic!("nobody woke it"),
        Either::Right((value, _)) => value,
    }
}

/// A future that is made anew at each poll does not wake itself.
#[test]
fn made_anew_at_each_poll() {
    let mut process = sh("cat; sleep 0.3").spawn().expect("starts");
    let mut polls = 0;
    let status = block_on(poll_fn(|cx| {
        polls += 1;
        pin!(process.wait()).as_mut().poll(cx)
    }));
    assert!(status.expect("a value").success());
    assert!(polls < 50, "{polls} polls");
}

#[test]
fn stdin_is_closed_unless_it_was_taken() {
    everywhere(|| async {
        let mut cat = Command::new("cat").spawn().expect("starts");
        assert!(in_time(cat.wait()).await.expect("a value").success());

        // A look leaves stdin open. A writer that was taken belongs to the caller.
        let mut cat = Command::new("cat").spawn().expect("starts");
        assert!(cat.try_wait().expect("a value").is_none());
        let mut writer = cat.writer(0).expect("a pipe, not taken yet");
        writer.write_all(b"before ").await.expect("it reads");
        assert!(cat.wait().now_or_never().is_none(), "it reads on");
        writer.write_all(b"after").await.expect("it reads");
        drop(writer);
        assert!(in_time(cat.wait()).await.expect("a value").success());
        assert_eq!(cat.output().await.expect("a value").stdout, b"before after");
    });
}

/// The end of file of a terminal is typed.
#[test]
fn a_terminal() {
    everywhere(|| async {
        let mut cat = Command::new("cat").pty(PtySize::default()).spawn().expect("starts");
        assert!(in_time(cat.wait()).await.expect("a value").success());
        let cat = Command::new("cat").pty(PtySize::default()).spawn().expect("starts");
        assert!(in_time(cat.status()).await.expect("a value").success());
    });
}

/// A paused descriptor stays paused, and the child blocks.
#[test]
fn a_paused_descriptor_is_not_read() {
    everywhere(|| async {
        let mut process = sh("seq 300000").spawn().expect("starts");
        assert!(process.pause(1));
        let some_time = smol::Timer::after(Duration::from_millis(200));
        let waits = matches!(select(pin!(process.wait()), some_time).await, Either::Right(_));
        assert!(waits, "it has more to say than a pipe holds");
        assert!(process.resume(1));
        assert!(process.wait().await.expect("a value").success());
        assert_eq!(process.output().await.expect("a value").stdout.len(), 1_988_895);
    });
}

/// Feeds, copies and readers go on while the caller awaits only the exit.
#[test]
fn feeds_copies_and_readers_go_on() {
    everywhere(|| async {
        let (copied, fed) = (Arc::new(Mutex::new(Vec::new())), vec![b'x'; 500_000]);
        let mut command = sh("cat; cat <&3 >&2");
        command.stdin(Stdio::bytes(fed.clone())).fd(3, Stdio::bytes(fed.clone()));
        command.stderr(Stdio::tee(AllowStdIo::new(Shared(copied.clone()))));
        let mut process = command.spawn().expect("starts");
        let mut reader = process.reader(1).expect("a pipe, not taken yet");
        let mut read = Vec::new();
        let (status, count) = futures::join!(process.wait(), reader.read_to_end(&mut read));
        assert!(status.expect("a value").success() && count.expect("no error") == fed.len());
        assert!(process.output().await.expect("a value").stderr == fed);
        assert!(*copied.lock().expect("no panic") == fed && read == fed);
    });
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A failure is reported each time, with the status. The output so far stays.
#[test]
fn failures_are_reported_each_time() {
    everywhere(|| async {
        let mut late = sh("echo half; exec sleep 1000");
        let mut process = late.timeout(Duration::from_millis(300)).spawn().expect("starts");
        for _ in 0..3 {
            for error in
                [process.wait().await.expect_err("late"), process.try_wait().map(drop).expect_err("late")]
            {
                assert!(matches!(error, Error::TimedOut(_)), "{error}");
                assert_eq!(error.status().expect("known").signal(), Some(15));
                assert!(
                    error
                        .to_string()
                        .ends_with("timed out after 300ms and was killed by SIGTERM (signal 15)"),
                    "{error}"
                );
                assert_eq!(error.output().expect("it ran").fd(1), None);
            }
        }
        assert!(matches!(process.status().await, Err(Error::TimedOut(_))));

        let mut silent = sh("exec sleep 1000");
        let mut process = silent.idle_timeout(Duration::from_millis(50)).spawn().expect("starts");
        assert!(matches!(process.wait().await, Err(Error::TimedOut(_))));
        let mut timed_out = 0;
        while let Some(event) = process.next().await {
            timed_out += u32::from(matches!(event, Event::TimedOut));
        }
        assert_eq!(timed_out, 1, "it is told as ever");

        // Also if the child exits before it is killed.
        for looks in [false, true] {
            let mut process = sh("printf 123456").limit(5).spawn().expect("starts");
            if looks {
                let pid = process.pid().expect("it was not reaped");
                eventually("it has exited", || has_exited(pid));
                assert!(matches!(process.try_wait(), Err(Error::OutputLimit(_))));
            }
            assert!(matches!(process.wait().await, Err(Error::OutputLimit(_))));
            let error = process.output().await.expect_err("too much");
            assert_eq!(error.output().expect("it ran").stdout, b"12345");
        }

        let mut fed = sh("exec sleep 1000");
        let broken = futures::stream::iter([Err::<&[u8], _>(std::io::ErrorKind::InvalidData.into())]);
        let mut process = fed.stdin(Stdio::reader(broken.into_async_read())).spawn().expect("starts");
        let error = process.wait().await.expect_err("nothing to read");
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert_eq!(error.status().expect("known").signal(), Some(9));
    });
}

/// If something goes wrong with its grandchildren after the exit, no answer changes.
#[test]
fn failures_after_the_exit_change_no_answer() {
    block_on(async {
        // The child must exit in time, on a busy machine too.
        for asks_before in [true, false] {
            let mut command = sh("sleep 1000 & exit 7");
            command.new_group().timeout(Duration::from_secs(3)).grace(Duration::ZERO);
            let mut process = command.spawn().expect("starts");
            if asks_before {
                assert_eq!(process.wait().await.expect("it was in time").code(), Some(7));
            }
            let mut timed_out = false;
            while let Some(event) = process.next().await {
                timed_out |= matches!(event, Event::TimedOut);
            }
            assert!(timed_out);
            assert_eq!(process.wait().await.expect("it was in time").code(), Some(7));
            assert_eq!(process.try_wait().expect("as well").expect("it has exited").code(), Some(7));
            assert!(matches!(process.status().await, Err(Error::TimedOut(_))), "the whole was late");
        }
    });
}

/// If another thread took the status, the answer is an error, and nothing hangs.
#[test]
fn a_stranger_reaps() {
    let survive = statuses_survive();
    let mut process = sh("sleep 0.1; exit 3").stdin(Stdio::reader(Never)).spawn().expect("starts");
    let pid = process.pid().expect("it was not reaped") as i32;
    let taken = loop {
        match unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } {
            -1 if unsafe { *libc::__errno_location() } == libc::EINTR => {}
            taken => break taken == pid,
        }
    };
    for _ in 0..2 {
        match block_on(in_time(process.wait())) {
            Ok(status) => assert!((survive || !taken) && status.code() == Some(3), "{status}"),
            Err(error) => assert!(taken && !survive && matches!(error, Error::StatusLost(_)), "{error}"),
        }
    }
}

/// The future can be sent to another task, as a process can.
#[test]
fn it_can_be_sent() {
    let mut process = Command::new("true").spawn().expect("starts");
    let boxed: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(process.wait());
    assert!(block_on(boxed).expect("a value").success());
}

/// A grandchild never stops writing, to a slow reader. The exit and the bounds are not delayed.
#[test]
fn a_pipe_that_always_has_more() {
    struct Slow;
    impl std::io::Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            std::thread::sleep(Duration::from_millis(1));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let flood = || {
        let mut command = sh("yes & exit 3");
        command.stdout(Stdio::tee(AllowStdIo::new(Slow)));
        command
    };
    block_on(async {
        let mut process = flood().spawn().expect("starts");
        eventually("it is seen to have exited", || process.try_wait().expect("a value").is_some());
        let mut process = flood().spawn().expect("starts");
        assert_eq!(at_last(process.wait()).await.expect("a value").code(), Some(3));
        let output = at_last(flood().drain_timeout(Duration::from_millis(100)).output()).await;
        assert_eq!(output.expect("a value").still_open(), [1, 2]);
        let error = at_last(flood().timeout(Duration::from_millis(300)).output()).await.expect_err("late");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");

        // Many at once, which nobody copies.
        let mut many = sh("for n in 1 2 3 4 5 6 7 8 9; do yes >&$n & done; exit 3");
        for fd in 3..=9 {
            many.fd(fd, Stdio::output());
        }
        let mut process = many.spawn().expect("starts");
        assert_eq!(at_last(process.wait()).await.expect("a value").code(), Some(3));
    });
}

//! A child to talk to: the order of its events, its writers and readers.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use futures::{FutureExt, StreamExt};
use reaped::{Command, Event, ExitStatus, Process, Stdio};

use super::helper::pattern;
use super::support::{
    alone, descriptors, eventually, everywhere, helper, no_children, peak, pipe, reset_peak, sh, warm_up,
};

/// Events in short, for comparison.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Seen {
    Data(i32, String),
    Closed(i32),
    Exited,
    Ended,
}

/// Collects all events, and checks the promises for them. Data come before the close of their descriptor. Each close,
/// the exit and the end come once, and the end is last.
async fn events(process: Process) -> (Vec<Seen>, ExitStatus) {
    events_and(process, || ()).await
}

/// The same, and runs `at_exit` when the exit is reported.
async fn events_and(mut process: Process, mut at_exit: impl FnMut()) -> (Vec<Seen>, ExitStatus) {
    let mut seen: Vec<Seen> = Vec::new();
    let mut statuses = Vec::new();
    while let Some(event) = process.next().await {
        assert!(!seen.contains(&Seen::Ended), "{event:?} after the end");
        match event {
            Event::Data { fd, data } => {
                assert!(!seen.contains(&Seen::Closed(fd)), "data after the close of {fd}");
                assert!(!data.is_empty());
                let text = String::from_utf8(data).expect("text");
                match seen.last_mut() {
                    Some(Seen::Data(last, before)) if *last == fd => before.push_str(&text),
                    _ => seen.push(Seen::Data(fd, text)),
                }
            }
            Event::Closed { fd } => {
                assert!(!seen.contains(&Seen::Closed(fd)), "{fd} closed twice");
                seen.push(Seen::Closed(fd));
            }
            Event::Exited(status) => {
                assert!(!seen.contains(&Seen::Exited), "exited twice");
                assert_eq!(process.pid(), None, "reaped");
                seen.push(Seen::Exited);
                statuses.push(status);
                at_exit();
            }
            Event::Ended(status) => {
                assert!(seen.contains(&Seen::Exited), "ended before it exited");
                seen.push(Seen::Ended);
                statuses.push(status);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen.last(), Some(&Seen::Ended));
    assert!(process.next().await.is_none(), "still over");
    assert_eq!(statuses[0], statuses[1]);
    (seen, statuses[0])
}

fn data(fd: i32, text: &str) -> Seen {
    Seen::Data(fd, text.to_owned())
}

#[test]
fn all_that_was_written_before_death_comes_before_the_end() {
    everywhere(|| async {
        let process = sh("echo out; echo err >&2; kill -9 $$").spawn().expect("starts");
        let (seen, status) = events(process).await;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        for wanted in [data(1, "out\n"), data(2, "err\n"), Seen::Closed(0), Seen::Closed(1), Seen::Closed(2)]
        {
            assert!(seen.contains(&wanted), "{wanted:?} in {seen:?}");
        }
    });
}

#[test]
fn the_exit_may_come_before_the_pipes_close() {
    everywhere(|| async {
        // The grandchild writes only after the exit was reported.
        let (asks, answers) = pipe();
        let mut answers = Some(answers);
        let script = "exec 3<&0; (read -r end; echo late) <&3 2>&- & echo early >&2";
        let process = sh(script).stdin(asks).spawn().expect("starts");
        let (seen, _) = events_and(process, || drop(answers.take())).await;
        let place = |wanted: &Seen| seen.iter().position(|s| s == wanted).expect("seen");
        assert!(place(&data(2, "early\n")) < place(&Seen::Exited), "what it wrote itself: {seen:?}");
        assert!(place(&Seen::Exited) < place(&data(1, "late\n")), "{seen:?}");
        assert!(place(&data(1, "late\n")) < place(&Seen::Closed(1)), "{seen:?}");
    });
}

#[test]
fn the_exit_may_come_after_the_pipes_close() {
    everywhere(|| async {
        let (seen, _) = events(sh("exec <&- >&- 2>&-; sleep 0.2").spawn().expect("starts")).await;
        assert_eq!(seen[3..], [Seen::Exited, Seen::Ended], "{seen:?}");
    });
}

/// Waits for the next event of a kind that is not data.
async fn closed(process: &mut Process) -> i32 {
    match process.next().await {
        Some(Event::Closed { fd }) => fd,
        other => panic!("not a close: {other:?}"),
    }
}

#[test]
fn closing_one_by_one_is_told_one_by_one() {
    everywhere(|| async {
        let script =
            "exec 0<&-; read x <&3; exec 2>&-; read x <&3; exec 1>&-; read x <&3; exec 3<&-; sleep 0.1";
        let mut process = sh(script).fd(3, Stdio::input()).spawn().expect("starts");
        let mut go = process.writer(3).expect("an input");
        for wanted in [0, 2, 1] {
            assert_eq!(closed(&mut process).await, wanted);
            go.write_all(b"go\n").await.expect("read");
        }
        assert_eq!(closed(&mut process).await, 3);
        go.closed().await;
        assert!(matches!(process.next().await, Some(Event::Exited(status)) if status.success()));
        assert!(matches!(process.next().await, Some(Event::Ended(_))));
    });
}

#[test]
fn closing_the_input_ends_cat() {
    everywhere(|| async {
        let mut cat = Command::new("cat").spawn().expect("starts");
        assert!(cat.close(0));
        assert!(!cat.close(0), "closed before");
        assert!(!cat.close(9), "no such pipe");
        assert!(events(cat).await.1.success());

        let mut cat = Command::new("cat").spawn().expect("starts");
        let mut writer = cat.writer(0).expect("an input");
        assert!(cat.writer(0).is_none(), "taken");
        writer.write_all(b"x").await.expect("room");
        // Closing works although the writer is taken, and wakes the writer.
        assert!(cat.close(0));
        let error = writer.write_all(b"y").await.expect_err("closed");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        writer.closed().await;
        let (seen, status) = events(cat).await;
        assert!(status.success() && seen.contains(&data(1, "x")), "{seen:?}");

        let mut cat = Command::new("cat").spawn().expect("starts");
        cat.close_all();
        assert!(cat.status().await.expect("a status").success());
    });
}

/// Polls once; returns whether it is still pending.
async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    futures::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

#[test]
fn a_writer_dropped_in_the_middle_is_the_end_of_file() {
    everywhere(|| async {
        let mut count = sh("sleep 0.1; wc -c").spawn().expect("starts");
        let mut writer = count.writer(0).expect("an input");
        let much = vec![b'x'; 1 << 20];
        let mut writing = writer.write_all(&much);
        assert!(is_pending(&mut writing).await, "more than a pipe holds");
        drop(writer);
        let counted = count.output().await.expect("a value").stdout;
        let counted: usize = String::from_utf8_lossy(&counted).trim().parse().expect("a number");
        assert!((1..1 << 20).contains(&counted), "{counted}");
    });
}

#[test]
fn writing_to_a_child_that_does_not_read() {
    everywhere(|| async {
        let mut process = sh("exec <&-; sleep 0.1; echo fine").spawn().expect("starts");
        let mut writer = process.writer(0).expect("an input");
        writer.closed().await;
        let error = writer.write_all(b"x").await.expect_err("nobody reads");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        writer.closed().await;
        let (seen, status) = events(process).await;
        assert!(status.success() && seen.contains(&data(1, "fine\n")), "nothing else goes wrong: {seen:?}");
    });
}

/// While nobody polls the process itself.
#[test]
fn the_writer_alone_sees_the_close() {
    everywhere(|| async {
        let mut process = sh("sleep 0.1; exec <&-; exec sleep 1000").spawn().expect("starts");
        let mut writer = process.writer(0).expect("an input");
        writer.closed().await;
        // If both wait, both are woken.
        let mut process = sh("sleep 0.1; exec <&-; exec sleep 1000").spawn().expect("starts");
        let mut writer = process.writer(0).expect("an input");
        let (event, ()) = futures::future::join(process.next(), writer.closed()).await;
        assert!(matches!(event, Some(Event::Closed { fd: 0 })), "{event:?}");
    });
}

#[test]
fn vectored_writes_keep_their_order() {
    everywhere(|| async {
        let mut cat = Command::new("cat").spawn().expect("starts");
        let mut writer = cat.writer(0).expect("an input");
        let parts = [&b"one "[..], b"", b"two ", b"three"];
        let slices = parts.map(IoSlice::new);
        let count = futures::future::poll_fn(|cx| Pin::new(&mut writer).poll_write_vectored(cx, &slices));
        assert_eq!(count.await.expect("written"), 13);
        writer.close().await.expect("closes");
        assert_eq!(cat.output().await.expect("a value").stdout, b"one two three");
    });
}

/// Both pipes are closed and there is nothing to do: the task sleeps until the exit.
#[test]
fn waiting_for_the_exit_costs_no_polls() {
    // In a process of its own: if SIGCHLD reports exits, any child's exit wakes every task that waits for
    // one.
    alone("talk::waiting_for_the_exit_costs_no_polls", || everywhere(waiting));
}

async fn waiting() {
    let mut process = sh("exec <&- >&- 2>&-; sleep 0.5; exit 4").spawn().expect("starts");
    for _ in 0..3 {
        closed(&mut process).await;
    }
    let mut polls = 0;
    let mut next = std::pin::pin!(process.next());
    let event = futures::future::poll_fn(|cx| {
        polls += 1;
        next.as_mut().poll(cx)
    });
    assert!(matches!(event.await, Some(Event::Exited(status)) if status.code() == Some(4)));
    assert!(polls <= 5, "{polls} polls");
}

#[test]
fn dropping_a_reader_is_sigpipe_for_the_child() {
    everywhere(|| async {
        let mut yes = Command::new("yes").spawn().expect("starts");
        let mut reader = yes.reader(1).expect("an output");
        assert!(yes.reader(1).is_none(), "taken");
        assert!(yes.reader(0).is_none(), "leads the other way");
        let mut some = [0; 100];
        reader.read_exact(&mut some).await.expect("data");
        drop(reader);
        let status = yes.status().await.expect("a status");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGPIPE));
    });
}

/// A reader that is taken later gets the bytes that were read ahead.
#[test]
fn a_reader_takes_what_was_read_before() {
    everywhere(|| async {
        let script = "printf def >&2; printf abc; read x; printf ghi; exec >&-; read x";
        let mut process = sh(script).spawn().expect("starts");
        let mut writer = process.writer(0).expect("an input");
        // One poll may read both and return only one. In either case nothing is lost.
        process.pause(2);
        let first = process.next().await;
        assert!(matches!(&first, Some(Event::Data { fd: 1, data }) if data == b"abc"), "{first:?}");
        writer.write_all(b"\n\n").await.expect("room");
        let mut errors = String::new();
        let mut reader = process.reader(2).expect("an output");
        reader.read_to_string(&mut errors).await.expect("text");
        assert_eq!(errors, "def");
        let output = process.output().await.expect("a value");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"ghi"[..], &b""[..]), "what was not told");
        assert_eq!(output.fd(2), None, "taken out");
    });
}

#[test]
fn a_descendant_that_holds_only_stdin() {
    everywhere(|| async {
        let script = "exec 3<&0; sleep 1000 <&3 >/dev/null 2>&1 3<&- & echo $!";
        let mut process = sh(script).spawn().expect("starts");
        let writer = process.writer(0).expect("an input");
        let mut pid = String::new();
        loop {
            match process.next().await.expect("not ended") {
                Event::Data { data, .. } => pid.push_str(&String::from_utf8_lossy(&data)),
                Event::Exited(_) => break,
                _ => {}
            }
        }
        for _ in 0..5 {
            process.next().now_or_never();
        }
        drop(writer);
        let mut last = None;
        while let Some(event) = process.next().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Ended(_))), "{last:?}");
        let pid = pid.trim().parse().expect("a pid");
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0, "it still ran");
    });
}

/// A dialogue on six descriptors. The parent has 0 to 16 others open, so the pipes get every number once.
#[test]
fn a_dialogue_on_colliding_numbers() {
    alone("talk::a_dialogue_on_colliding_numbers", || {
        for others in 0..=16 {
            let _open: Vec<_> =
                (0..others).map(|_| std::fs::File::open("/dev/null").expect("opens")).collect();
            let log = tempfile::NamedTempFile::new().expect("a file");
            let script = "while read a <&0; do read b <&3; read c <&5; echo \"$a$b\"; echo \"$b$c\" >&4; echo \"$c\" >&2; done";
            futures::executor::block_on(async {
                let mut command = sh(script);
                command.stderr(Stdio::parent_fd(log.as_file()));
                for (n, stdio) in [(3, Stdio::input()), (4, Stdio::output()), (5, Stdio::input())] {
                    command.fd(n, stdio);
                }
                let mut process = command.spawn().expect("starts");
                let mut writers = [0, 3, 5].map(|n| process.writer(n).expect("an input"));
                let mut readers = [1, 4].map(|n| process.reader(n).expect("an output"));
                for round in 0..3 {
                    for (writer, name) in writers.iter_mut().zip(["a", "b", "c"]) {
                        writer.write_all(format!("{name}{round}\n").as_bytes()).await.expect("room");
                    }
                    for (reader, pair) in readers.iter_mut().zip(["ab", "bc"]) {
                        let mut line = [0; 5];
                        reader.read_exact(&mut line).await.expect("a line");
                        let wanted: String = pair.chars().map(|name| format!("{name}{round}")).collect();
                        assert_eq!(String::from_utf8_lossy(&line), wanted + "\n");
                    }
                }
                drop(writers);
                assert!(process.status().await.expect("a status").success());
            });
            assert_eq!(std::fs::read_to_string(log.path()).expect("text"), "c0\nc1\nc2\n");
        }
    });
}

#[test]
fn a_gibibyte_through_cat_in_constant_memory() {
    alone("talk::a_gibibyte_through_cat_in_constant_memory", || {
        const CHUNK: usize = 251 * 1024;
        const ROUNDS: usize = (1 << 30) / CHUNK;
        let chunk = pattern(CHUNK);
        warm_up();
        let before = reset_peak();
        futures::executor::block_on(async {
            let mut cat = Command::new("cat").spawn().expect("starts");
            let mut writer = cat.writer(0).expect("an input");
            let write = async {
                for _ in 0..ROUNDS {
                    writer.write_all(&chunk).await.expect("cat reads");
                }
                drop(writer);
            };
            let read = async {
                let mut place = 0;
                while let Some(event) = cat.next().await {
                    if let Event::Data { data, .. } = event {
                        let mut rest = &data[..];
                        while !rest.is_empty() {
                            let at = place % CHUNK;
                            let (head, tail) = rest.split_at(rest.len().min(CHUNK - at));
                            assert!(head == &chunk[at..at + head.len()], "bytes differ after {place}");
                            place += head.len();
                            rest = tail;
                        }
                    }
                }
                assert_eq!(place, CHUNK * ROUNDS);
            };
            futures::future::join(write, read).await;
        });
        let grown = peak() - before;
        assert!(grown < 16 << 20, "{grown} bytes more at the peak");
    });
}

#[test]
fn a_slow_consumer_blocks_the_child() {
    alone("talk::a_slow_consumer_blocks_the_child", || {
        warm_up();
        let before = reset_peak();
        futures::executor::block_on(async {
            let mut yes = Command::new("yes").spawn().expect("starts");
            let mut taken = 0;
            for _ in 0..20 {
                let Some(Event::Data { data, .. }) = yes.next().await else { panic!("no data") };
                taken += data.len();
                smol::Timer::after(Duration::from_millis(10)).await;
            }
            assert!(taken <= 20 << 16, "{taken} bytes at once");
            // The kernel shows that it waits in write(2).
            let pid = yes.pid().expect("runs");
            eventually("the child sleeps", || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("procfs");
                stat.rsplit_once(") ").expect("a state").1.starts_with('S')
            });
        });
        assert!(peak() - before < 4 << 20);
        no_children();
    });
}

#[test]
fn a_paused_descriptor_delays_no_other() {
    everywhere(|| async {
        let mut process = helper(&["out:300000", "sleep:1", "err:3"]).spawn().expect("starts");
        let mut both = sh("yes >&2 & exec cat").stderr(Stdio::output()).spawn().expect("starts");
        // stderr floods and is paused; stdout goes on.
        assert!(both.pause(2) && !both.pause(0));
        let mut writer = both.writer(0).expect("an input");
        writer.write_all(b"through").await.expect("room");
        let event = both.next().await;
        assert!(matches!(&event, Some(Event::Data { fd: 1, data }) if data == b"through"), "{event:?}");
        assert!(both.resume(2));
        let event = both.next().await;
        assert!(matches!(&event, Some(Event::Data { fd: 2, .. })), "{event:?}");
        // Dropping the parent's end ends the flood.
        both.close_all();
        drop(writer);
        both.status().await.expect("a status");

        // Paused from the start, the output comes complete after the pause.
        process.pause(1);
        smol::Timer::after(Duration::from_millis(20)).await;
        process.next().now_or_never();
        process.resume(1);
        let mut collected = Vec::new();
        while let Some(event) = process.next().await {
            if let Event::Data { fd: 1, data } = event {
                collected.extend(data);
            }
        }
        assert_eq!(collected, pattern(300_000));
    });
}

/// The process does not end while output is paused, and a promise of the end pauses nothing.
#[test]
fn nothing_paused_is_lost() {
    everywhere(|| async {
        let mut process = sh("echo hi").spawn().expect("starts");
        process.pause(1);
        let mut seen = Vec::new();
        loop {
            let timer = smol::Timer::after(Duration::from_millis(300));
            let event = futures::future::select(StreamExt::next(&mut process), timer).await;
            match event {
                futures::future::Either::Left((Some(event), _)) => seen.push(event),
                futures::future::Either::Left((None, _)) => panic!("ended: {seen:?}"),
                futures::future::Either::Right(_) => break,
            }
        }
        assert!(seen.iter().all(|e| !matches!(e, Event::Data { .. } | Event::Ended(_))), "{seen:?}");
        assert_eq!(process.output().await.expect("a value").stdout, b"hi\n");
    });
}

#[test]
fn five_hundred_at_once_in_one_thread() {
    alone("talk::five_hundred_at_once_in_one_thread", || {
        warm_up();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let higher = rustix::process::Rlimit { current: limit.maximum, ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, higher).expect("raised");
        let before = descriptors();
        futures::executor::block_on(async {
            let mut all: Vec<Process> =
                (0..500).map(|_| Command::new("cat").spawn().expect("starts")).collect();
            let mut writers: Vec<_> = all.iter_mut().map(|p| p.writer(0).expect("an input")).collect();
            for (number, writer) in writers.iter_mut().enumerate() {
                writer.write_all(format!("{number}").as_bytes()).await.expect("room");
            }
            for (number, process) in all.iter_mut().enumerate() {
                match process.next().await {
                    Some(Event::Data { fd: 1, data }) => assert_eq!(data, format!("{number}").as_bytes()),
                    other => panic!("{other:?}"),
                }
            }
            // Half of them run to their end, and the others are dropped in the middle.
            let (kept, dropped): (Vec<_>, Vec<_>) =
                all.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
            drop(dropped);
            drop(writers);
            for (_, process) in kept {
                assert!(process.status().await.expect("a status").success());
            }
        });
        no_children();
        eventually("the descriptors are as before", || descriptors() == before);
    });
}

/// Through the traits of `futures`, as a user of streams would use them.
#[test]
fn it_is_a_stream() {
    everywhere(|| async {
        let process = sh("echo a; echo b >&2").spawn().expect("starts");
        let closed = process.filter(|event| futures::future::ready(matches!(event, Event::Closed { .. })));
        assert_eq!(closed.count().await, 3);
    });
}

#[test]
fn spawn_fails_at_the_call() {
    let error = Command::new("no-such-program").spawn().expect_err("missing");
    assert_eq!(error.to_string(), "cannot start `no-such-program`: program not found in PATH");
}

#[test]
fn a_process_that_is_dropped_is_killed() {
    alone("talk::a_process_that_is_dropped_is_killed", || {
        warm_up();
        let before = descriptors();
        for _ in 0..50 {
            let mut process = Command::new("cat").spawn().expect("starts");
            let writer = process.writer(0).expect("an input");
            let reader = process.reader(1).expect("an output");
            drop(process);
            no_children();
            drop((writer, reader));
        }
        eventually("the descriptors are as before", || descriptors() == before);
    });
}

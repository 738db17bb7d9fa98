//! The handles of one child. Awaiting any of them drives all of the child. A poll is bounded by time. No drop wakes a
//! task on its own thread.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use std::{fmt, io};

use futures::executor::block_on;
use futures::future::{join, select};
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};
use futures::{FutureExt, pin_mut};
use reaped::{Command, Error, Event, Process, PtySize, Stdio, Writer};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::support::{EVER, Fails, everywhere, in_time, sh};

/// A reader of the caller that always has more.
struct Always;

impl AsyncRead for Always {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        buffer.fill(b'x');
        Poll::Ready(Ok(buffer.len()))
    }
}

/// A writer that takes one byte at each call.
struct OneByOne;

impl AsyncWrite for OneByOne {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len().min(1)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_reader_drives_all_of_it() {
    everywhere(|| async {
        let mut said = String::new();
        let mut process = Command::new("cat").stdin(Stdio::bytes("hi\n")).spawn().expect("starts");
        let mut reader = process.reader(1).expect("piped");
        in_time("a feed of bytes", reader.read_to_string(&mut said)).await.expect("text");
        assert_eq!(said, "hi\n");

        let source = futures::io::Cursor::new(vec![b'y'; 300_000]);
        let mut process = Command::new("cat").stdin(Stdio::reader(source)).spawn().expect("starts");
        let mut reader = process.reader(1).expect("piped");
        let mut read = Vec::new();
        in_time("a feed from a reader", reader.read_to_end(&mut read)).await.expect("bytes");
        assert_eq!(read, vec![b'y'; 300_000]);

        let mut command = sh("cat <&3; cat");
        command.fd(3, Stdio::secret("secret ".as_bytes().to_vec()));
        let mut process = command.spawn().expect("starts");
        let (mut writer, mut reader) = (process.writer(0).expect("piped"), process.reader(1).expect("piped"));
        let writes = async {
            writer.write_all(b"and plain").await.expect("it reads");
            writer.close().await.expect("closes");
        };
        let mut said = String::new();
        let (_, read) =
            in_time("a secret beside a stream", join(writes, reader.read_to_string(&mut said))).await;
        assert_eq!((read.expect("text"), said.as_str()), (16, "secret and plain"));

        let copied = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut command = sh("head -c 300000 /dev/zero >&2; echo done");
        command.stderr(Stdio::tee(futures::io::AllowStdIo::new(Shared(copied.clone()))));
        let mut process = command.spawn().expect("starts");
        let mut said = String::new();
        let mut reader = process.reader(1).expect("piped");
        in_time("a copy of stderr", reader.read_to_string(&mut said)).await.expect("text");
        assert_eq!(said, "done\n");
        let output = process.output().await.expect("runs");
        assert_eq!((output.stderr.len(), copied.lock().expect("whole").len()), (300_000, 300_000));
    });
}

struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A timeout ends the child even if the caller awaits only a reader, only a writer, or only the close.
#[test]
fn a_timeout_strikes_whoever_is_awaited() {
    everywhere(|| async {
        let bounded = || {
            let mut command = sh("exec sleep 100");
            command.timeout(Duration::from_millis(50)).spawn().expect("starts")
        };
        let late = |end: Result<_, Error>| assert!(matches!(end, Err(Error::TimedOut(_))), "{end:?}");

        let mut process = bounded();
        let mut reader = process.reader(1).expect("piped");
        let read = in_time("a reader", reader.read(&mut [0; 10])).await;
        assert_eq!(read.expect("the end of file"), 0);
        late(process.output().await);

        let mut process = bounded();
        let mut writer = process.writer(0).expect("piped");
        let written = in_time("a writer", writer.write_all(&[0; 1 << 20])).await;
        assert_eq!(written.expect_err("nobody reads").kind(), io::ErrorKind::BrokenPipe);
        late(process.output().await);

        let mut process = bounded();
        let mut writer = process.writer(0).expect("piped");
        in_time("the close", writer.closed()).await;
        late(process.output().await);
    });
}

/// Several handles wait in tasks of their own, and each comes to its end. One of them was polled and is not
/// polled again, or was dropped while it drove the others.
#[test]
fn handles_in_tasks_of_their_own() {
    const MANY: usize = 1 << 20;
    for forgets in [false, true] {
        let mut command = sh("head -c 1048576 /dev/zero >&2 & cat <&4 >&3; cat; wait");
        command.fd(3, Stdio::output()).fd(4, Stdio::bytes(vec![b'f'; MANY]));
        let mut process = command.spawn().expect("starts");
        let (mut one, mut two) = (process.reader(2).expect("piped"), process.reader(3).expect("piped"));
        let (mut echo, mut writer) = (process.reader(1).expect("piped"), process.writer(0).expect("piped"));
        let held = if forgets {
            // This task drives the child, and is then left alone.
            let mut held = Box::pin(async move { two.read_to_end(&mut Vec::new()).await });
            assert!(held.as_mut().now_or_never().is_none());
            Err(held)
        } else {
            Ok(two)
        };
        let count = |mut reader: reaped::Reader| async move {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).await.expect("bytes");
            read.len()
        };
        // It is polled, and then dropped at once.
        assert!(process.next().now_or_never().is_none());
        let first = smol::spawn(async move {
            let mut read = vec![0; 1000];
            one.read_exact(&mut read).await.expect("bytes");
            drop(one);
            read.len()
        });
        let second = match held {
            Ok(two) => smol::spawn(count(two)),
            Err(held) => {
                drop(held);
                smol::spawn(async { MANY })
            }
        };
        let third = thread::spawn(move || {
            block_on(async {
                writer.write_all(&[b'w'; MANY]).await.expect("it reads");
                writer.close().await.expect("closes");
            });
        });
        let mut read = Vec::new();
        block_on(in_time("the echo", echo.read_to_end(&mut read))).expect("bytes");
        assert_eq!(read, vec![b'w'; MANY]);
        assert_eq!(block_on(in_time("the first", first)), 1000);
        assert_eq!(block_on(in_time("the second", second)), MANY);
        third.join().expect("it wrote all");
        block_on(in_time("the process", process.status())).expect("a status");
    }
}

/// Even if a child writes or takes bytes without an end, the next task gets its turn.
#[test]
fn endless_work_lets_others_run() {
    fn yes() -> Command {
        Command::new("yes")
    }
    async fn events(mut process: Process) {
        while process.next().await.is_some() {}
    }
    async fn lines(mut process: Process) {
        let mut lines = process.lines();
        while lines.next().await.is_some() {}
    }
    type Work = fn() -> Pin<Box<dyn Future<Output = ()> + Send>>;
    let works: [(&str, Work); 6] = [
        ("a limit", || {
            Box::pin(async { drop(yes().stdout(Stdio::output()).limit(1 << 40).exit_code().await) })
        }),
        ("events", || Box::pin(async { events(yes().spawn().expect("starts")).await })),
        ("lines", || Box::pin(async { lines(yes().spawn().expect("starts")).await })),
        ("a reader", || {
            Box::pin(async {
                let mut process = yes().spawn().expect("starts");
                let reader = process.reader(1).expect("piped");
                copy(reader, &mut sink()).await.expect("bytes");
            })
        }),
        ("a copy byte by byte", || {
            Box::pin(async { events(yes().stdout(Stdio::tee(OneByOne)).spawn().expect("starts")).await })
        }),
        ("a source that is always ready", || {
            Box::pin(async {
                let mut command = sh("exec cat >/dev/null");
                drop(command.stdin(Stdio::reader(Always)).status().await);
            })
        }),
    ];
    everywhere(move || async move {
        for (name, work) in works {
            // Several turns, because the first may come before everything runs.
            let others = async {
                for _ in 0..5 {
                    smol::Timer::after(Duration::from_millis(10)).await;
                }
            };
            let work = work();
            pin_mut!(others);
            let done = in_time(name, select(others, work)).await;
            assert!(matches!(done, futures::future::Either::Left(_)), "{name} has ended");
        }
    });
}

/// A child's last output can hold many lines. If the caller takes its time with each, other tasks still get
/// their turns, even if only these lines are left.
#[test]
fn the_last_lines_let_others_run() {
    block_on(async {
        let mut process = sh("seq 10000").spawn().expect("starts");
        // Until the child has written everything and has exited.
        let pid = process.pid().and_then(|pid| Pid::from_raw(pid as i32)).expect("it starts");
        // If the child is reaped already, it has exited.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let mut lines = process.lines();
        let (mut count, mut turns) = (0, 0);
        poll_fn(|cx| {
            turns += 1;
            loop {
                let line = std::pin::pin!(lines.next()).poll(cx);
                match line {
                    Poll::Ready(Some(_)) => count += 1,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
                let began = Instant::now();
                while began.elapsed() < Duration::from_micros(5) {}
            }
        })
        .await;
        // 10,000 times 5 microseconds are 50 milliseconds.
        assert!(count == 10_000 && turns >= 10, "{count} lines in {turns} turns");
    });
}

/// A copy that reports when it is written to, and takes nothing until it is released.
struct Gate {
    entered: mpsc::Sender<()>,
    open: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.entered.send(()).expect("the test waits");
        self.open.lock().expect("one at a time").recv().expect("the test opens it");
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A caller takes a reader while another thread writes that descriptor's copy. The reader gets the pipe once
/// the thread is done, even if the process has ended or was dropped meanwhile.
#[test]
fn a_reader_gets_its_pipe_after_the_process_has_ended() {
    for ends in [true, false] {
        let ((entered, enters), (opens, open)) = (mpsc::channel(), mpsc::channel());
        let gate = Gate { entered, open: Arc::new(Mutex::new(open)) };
        let mut process = sh("echo said >&2; exec 2>&-; read end")
            .stdin(Stdio::piped())
            .stderr(Stdio::tee(gate))
            .spawn()
            .expect("starts");
        let mut stdout = process.reader(1).expect("piped");
        let mut stdin = process.writer(0).expect("piped");
        let drives = thread::spawn(move || {
            let mut text = String::new();
            block_on(in_time("stdout", stdout.read_to_string(&mut text))).expect("text");
        });
        enters.recv().expect("the copy is asked");

        let mut stderr = process.reader(2).expect("piped");
        if ends {
            block_on(stdin.close()).expect("closes");
            block_on(in_time("the end", process.status())).expect("a status");
        } else {
            drop(process);
        }
        let reads = thread::spawn(move || {
            let mut text = String::new();
            block_on(in_time("stderr", stderr.read_to_string(&mut text))).expect("text");
            text
        });
        opens.send(()).expect("the copy waits");
        assert_eq!(reads.join().expect("it reads"), "said\n", "ends: {ends}");
        drives.join().expect("it drives");
    }
}

/// A caller takes a reader while another thread writes that descriptor's copy, and drops the reader. The pipe
/// is closed, whether the thread is done or not.
#[test]
fn a_reader_that_never_got_its_pipe_closes_it() {
    for back in [false, true] {
        let ((entered, enters), (opens, open)) = (mpsc::channel(), mpsc::channel());
        let gate = Gate { entered, open: Arc::new(Mutex::new(open)) };
        let mut process = Command::new("yes").stdout(Stdio::tee(gate)).spawn().expect("starts");
        let mut stderr = process.reader(2).expect("piped");
        let drives = thread::spawn(move || {
            block_on(in_time("stderr", stderr.read_to_end(&mut Vec::new()))).expect("an end");
        });
        enters.recv().expect("the copy is asked");
        let stdout = process.reader(1).expect("piped");
        if back {
            opens.send(()).expect("the copy waits");
            thread::sleep(Duration::from_millis(50));
        }
        drop(stdout);
        // If the copy still waits, it returns now.
        let _ = opens.send(());
        let status = block_on(in_time("yes, which has no reader", process.status())).expect("a status");
        assert!(!status.success(), "{status}");
        drives.join().expect("it drives");
    }
}

/// A source of a mebibyte, which reports when it is at its end.
struct Mebibyte(usize, Arc<AtomicBool>);

impl AsyncRead for Mebibyte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let count = buffer.len().min((1 << 20) - self.0);
        self.0 += count;
        self.1.store(count == 0, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }
}

/// A child gets its input while the caller takes its lines one by one, even if thousands of lines are ready.
#[test]
fn lines_that_are_there_hold_up_no_feed() {
    everywhere(|| async {
        let done = Arc::new(AtomicBool::new(false));
        let mut command = sh("seq 5000; cat >/dev/null");
        let mut process = command.stdin(Stdio::reader(Mebibyte(0, done.clone()))).spawn().expect("starts");
        let mut lines = process.lines();
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            lines.next().await.expect("it was fed before its lines were all taken");
            count += 1;
            if count > 1 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(count < 5000, "all were taken first");
    });
}

/// Counts the wake-ups that come from a drop on this thread.
struct InDrop {
    thread: ThreadId,
    drops: AtomicBool,
    woken: AtomicUsize,
}

impl Wake for InDrop {
    fn wake(self: Arc<Self>) {
        if thread::current().id() == self.thread && self.drops.load(Ordering::SeqCst) {
            self.woken.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Every handle, in every order, at every await point. If a drop wakes a task, the wake-up comes from the
/// reactor's thread, because the executor may hold a lock that its wakers take.
#[test]
fn no_order_of_drops_wakes_on_the_spot() {
    type Held = Pin<Box<dyn Future<Output = ()>>>;
    let handles = |pty: bool| -> [Option<Held>; 4] {
        let mut command = sh("echo ready; exec sleep 100");
        if pty {
            command.pty(PtySize::default());
        }
        let mut process = command.spawn().expect("starts");
        let (mut writer, mut reader) = (process.writer(0).expect("piped"), process.reader(1).expect("piped"));
        let control = process.control();
        [
            Some(Box::pin(async move { while process.next().await.is_some() {} })),
            Some(Box::pin(async move {
                drop(writer.write_all(b"one").await);
                writer.closed().await;
            })),
            Some(Box::pin(async move { drop(copy(&mut reader, &mut sink()).await) })),
            Some(Box::pin(async move {
                pending::<()>().await;
                drop(control);
            })),
        ]
    };
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for pty in [false, true] {
        for order in orders {
            for polls in 0..4 {
                let watch = Arc::new(InDrop {
                    thread: thread::current().id(),
                    drops: AtomicBool::new(false),
                    woken: AtomicUsize::new(0),
                });
                let waker = Waker::from(watch.clone());
                let mut handles = handles(pty);
                for poll in 0..polls {
                    for handle in handles.iter_mut().flatten() {
                        assert!(handle.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                    }
                    // The child writes meanwhile, or has written.
                    thread::sleep(Duration::from_millis(poll));
                }
                for place in order.into_iter().chain([3]) {
                    let handle = handles[place].take();
                    watch.drops.store(true, Ordering::SeqCst);
                    drop(handle);
                    watch.drops.store(false, Ordering::SeqCst);
                    for left in &mut handles {
                        let cx = &mut Context::from_waker(&waker);
                        if left.as_mut().is_some_and(|handle| handle.as_mut().poll(cx).is_ready()) {
                            *left = None;
                        }
                    }
                }
                let woken = watch.woken.load(Ordering::SeqCst);
                assert_eq!(woken, 0, "pty {pty}, order {order:?}, {polls} polls");
            }
        }
    }
    // A task is still woken: the one that waits for the writer of the dropped process.
    let mut process = sh("exec sleep 100").pty(PtySize::default()).spawn().expect("starts");
    let mut writer = process.writer(0).expect("a terminal");
    let mut closed = Box::pin(async move { writer.closed().await });
    block_on(async {
        let mut dropped = Some(process);
        let told = poll_fn(|cx| {
            let told = closed.as_mut().poll(cx);
            drop(dropped.take());
            told
        });
        in_time("the close", told).await;
    });
}

/// An error of the caller that uses a handle of the same process when it is shown and when it is dropped.
struct UsesHandle(Arc<Mutex<Option<Writer>>>);

impl UsesHandle {
    fn use_it(&self) {
        let Ok(mut writer) = self.0.try_lock() else { return };
        if let Some(writer) = &mut *writer {
            let closed = writer.closed();
            pin_mut!(closed);
            let _: Poll<()> = closed.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl Drop for UsesHandle {
    fn drop(&mut self) {
        self.use_it();
    }
}

impl fmt::Display for UsesHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.use_it();
        f.write_str("of the user's")
    }
}

impl fmt::Debug for UsesHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UsesHandle")
    }
}

impl std::error::Error for UsesHandle {}

#[test]
fn an_error_of_the_users_may_use_the_handles() {
    /// What the test does with the process. Returns whether it must fail.
    fn run(what: &str) -> bool {
        let writer = Arc::<Mutex<Option<Writer>>>::default();
        let mut command = sh("echo out; echo err >&2; exec <&-; sleep 1");
        command.fd(3, Stdio::input());
        let held = writer.clone();
        let error = move || io::Error::other(UsesHandle(held.clone()));
        match what {
            "source" => command.stdin(Stdio::reader(Fails(move || {
                // By now the child has closed its end.
                thread::sleep(Duration::from_millis(300));
                error()
            }))),
            "both" => command.stdout(Stdio::tee(Fails(error.clone()))).stderr(Stdio::tee(Fails(error))),
            _ => command.stdout(Stdio::tee(Fails(error))),
        };
        let mut process = command.spawn().expect("starts");
        *writer.lock().expect("nobody panics") = process.writer(3);
        let mut has_failed = false;
        block_on(async {
            if what == "reader" {
                let read = process.reader(1).expect("piped").read_to_end(&mut Vec::new()).await;
                assert_eq!(read.expect_err("the copy fails").to_string(), "of the user's");
            }
            while let Some(event) = process.next().await {
                if let Event::Failed { error, .. } = event {
                    assert_eq!(error.to_string(), "of the user's");
                    has_failed = true;
                }
            }
        });
        drop(process);
        let left = writer.lock().expect("nobody panics").take();
        drop(left);
        has_failed
    }
    for (what, fails) in [("source", false), ("events", true), ("reader", true), ("both", true)] {
        // If the call deadlocks, dropping it would not get this thread out.
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(run(what)));
        assert_eq!(told.recv_timeout(EVER).expect(what), fails, "{what}");
    }
}

#[test]
fn what_a_quick_copy_takes_comes_before_the_exit() {
    block_on(async {
        for round in 0..100 {
            let mut command = sh("echo out");
            let mut process = command.stdout(Stdio::tee(sink())).spawn().expect("starts");
            if round % 2 == 0 {
                // The first look finds everything.
                smol::Timer::after(Duration::from_millis(5)).await;
            }
            let mut data = Vec::new();
            while let Some(event) = in_time("events", process.next()).await {
                match event {
                    Event::Data { data: some, .. } => data.extend(some),
                    Event::Exited(_) => assert_eq!(data, b"out\n", "round {round}"),
                    _ => {}
                }
            }
        }
    });
}

#[test]
fn a_reader_of_a_descriptor_above_its_limit_has_no_hole() {
    block_on(async {
        for round in 0..20 {
            let mut command = sh("i=100000; while [ $i -lt 130000 ]; do echo $i; i=$((i+1)); done");
            let mut process = command.limit_fd(1, 20_001 + 97 * round).new_group().spawn().expect("starts");
            let mut all = Vec::new();
            while let Some(event) = in_time("events", process.next()).await {
                match event {
                    Event::Data { fd: 1, data } => all.extend(data),
                    Event::LimitReached { .. } => break,
                    _ => {}
                }
            }
            if let Some(mut reader) = process.reader(1) {
                in_time("the rest", reader.read_to_end(&mut all)).await.expect("read");
            }
            let expected = (100_000..).flat_map(|n| format!("{n}\n").into_bytes());
            assert!(all.iter().copied().eq(expected.take(all.len())), "round {round}: {} bytes", all.len());
        }
    });
}

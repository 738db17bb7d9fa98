//! Cases with two parties: a waker that acts on the spot, a group without its leader, a terminal that is
//! closed in parts. Also members with bounds of their own, and a host that changes signals.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::executor::block_on;
use futures::io::{AsyncRead, AsyncWriteExt};
use reaped::{Command, Error, Event, Process, Promise, PtySize, Stdio};

use super::harness::skip;
use super::support::{EVER, alone, everywhere, helper, patiently, sh, state_of, within};

/// A task that does something to its promise inside its waker, in the thread that wakes it.
struct Task {
    promise: Mutex<Option<Promise<()>>>,
    polls: bool,
}

impl Task {
    fn poll(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut place = self.promise.lock().expect("whole");
        let Some(promise) = &mut *place else { return };
        if Pin::new(promise).poll(&mut Context::from_waker(&waker)).is_ready() {
            *place = None;
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.polls {
            self.poll();
        } else {
            // As the run queue of an executor that is gone would do.
            drop(self.promise.lock().expect("whole").take());
        }
    }
}

#[test]
fn wakers_that_poll_or_drop_on_the_spot() {
    for polls in [true, false] {
        for new_group in [true, false] {
            let mut command = Command::new("sleep");
            command.arg("0.1");
            if new_group {
                command.new_group();
            }
            let task = Arc::new(Task { promise: Mutex::new(Some(command.run())), polls });
            task.poll();
            super::support::eventually("it is done", || task.promise.lock().expect("whole").is_none());
            // All else still works.
            block_on(within(EVER, command.run())).expect("no deadlock").expect("success");
        }
    }
}

/// An executor that drops its futures under the lock that its wakers take.
#[derive(Default)]
struct Queue(Mutex<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().expect("whole"));
    }
}

impl Queue {
    fn polls_and_drops(self: Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        let mut future = Box::pin(future);
        let waker = Waker::from(self.clone());
        for _ in 0..5 {
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.0.lock().expect("whole").push(future);
        self.0.lock().expect("whole").clear();
    }
}

#[test]
fn a_drop_wakes_nobody() {
    fn sleep() -> Command {
        let mut sleep = Command::new("sleep");
        sleep.arg("100");
        sleep
    }
    async fn talk(mut command: Command) {
        let mut process = command.spawn().expect("starts");
        while process.next().await.is_some() {}
    }
    alone("edges::a_drop_wakes_nobody", || {
        // A failure hangs this thread, and perhaps the reactor, so another thread watches.
        let test = std::thread::spawn(|| {
            for _ in 0..3 {
                Arc::<Queue>::default().polls_and_drops(async { drop(sleep().output().await) });
                Arc::<Queue>::default().polls_and_drops(async { talk(sleep()).await });
                Arc::<Queue>::default().polls_and_drops(async {
                    drop(sleep().pipe(Command::new("cat")).output().await);
                });
                Arc::<Queue>::default()
                    .polls_and_drops(async { talk(sleep().pty(PtySize::default()).clone()).await });
                block_on(Command::new("sleep").arg("0.1").run()).expect("the reactor goes on");
            }
        });
        super::support::eventually("all are dropped", || test.is_finished());
        test.join().expect("no panic");
    });
}

/// If a descriptor is paused and then closed, the process does not wait for it.
#[test]
fn paused_and_closed() {
    everywhere(|| async {
        for all in [true, false] {
            let mut process = sh("echo hi").spawn().expect("starts");
            assert!(process.pause(1));
            if all {
                process.close_all();
            } else {
                assert!(process.close(1));
            }
            let end = async { while process.next().await.is_some() {} };
            within(EVER, Box::pin(end)).await.expect("it ends");
        }
    });
}

/// A member has exited, and a grandchild holds its stderr. Once the others are told to end, the call does not
/// wait for the grandchild.
#[test]
fn a_grandchild_of_a_member_is_not_waited_for_after_a_signal() {
    for kills in [true, false] {
        let output = block_on(patiently(|longer| async move {
            let first = sh("sleep 100 >&2 & exit 0");
            let mut promise = first.pipe(sh("exec sleep 100")).output();
            let control = promise.control();
            // Until the call knows that the first one has exited.
            assert!(within(longer * Duration::from_millis(500), &mut promise).await.is_none());
            if kills { control.kill() } else { control.terminate() }.expect("one of them runs");
            let output = within(EVER, promise).await.expect("it ends").expect("a value");
            if output.members()[0].status.success() { Ok(output) } else { Err(output) }
        }));
        assert_eq!(output.members()[0].still_open(), [2]);
    }
}

/// Another part of the program takes the status of a child. The system gives its number to a process that is
/// not this crate's child.
#[test]
fn a_number_that_is_used_again() {
    alone("edges::a_number_that_is_used_again", || {
        const LAST: &str = "/proc/sys/kernel/ns_last_pid";
        if std::fs::read_to_string(LAST).and_then(|last| std::fs::write(LAST, last)).is_err() {
            skip(format!("{LAST} cannot be written"));
        }
        let mut rounds = 0;
        for new_group in [true, false] {
            for drops in [true, false] {
                // Long enough that it still runs when its promise is made.
                let mut command = sh("sleep 0.1");
                // The portable engine starts a child with a umask.
                command.umask(0o022);
                if new_group {
                    command.new_group();
                }
                let promise = command.run();
                let pid = promise.pid().expect("a child") as i32;
                assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
                let script = "for n in $(seq 100); do
                    echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid
                    setsid sleep 100 <&- >&- 2>&- &
                    if [ $! = $1 ]; then exit 0; fi
                    kill $!
                done
                exit 1";
                let found =
                    std::process::Command::new("sh").args(["-c", script, "-", &pid.to_string()]).status();
                if !found.expect("sh").success() {
                    continue;
                }
                rounds += 1;
                let is_there = || unsafe { libc::kill(pid, 0) } == 0;
                assert!(is_there());
                if drops {
                    drop(promise);
                } else {
                    let told = promise.control().kill();
                    assert!(matches!(told, Err(Error::AlreadyEnded(_))), "{told:?}");
                }
                std::thread::sleep(Duration::from_millis(100));
                assert!(is_there(), "it was hit: new_group {new_group}, drops {drops}");
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        assert!(rounds > 0, "no number was used again");
    });
}

/// A group is killed after its leader has exited. The call does not wait for a process that has left the
/// group.
#[test]
fn a_group_that_is_killed_after_its_leader() {
    everywhere(|| async {
        patiently(|longer| async move {
            let mut promise = sh(&format!("setsid sleep {} & echo out", 4 * longer)).new_group().output();
            let early = within(longer * Duration::from_millis(300), &mut promise).await;
            assert!(early.is_none(), "a descendant has the pipe");
            // If the leader is reaped at once, no process is left to kill. A refused signal changes nothing.
            let killed = promise.control().kill().is_ok();
            let output = within(EVER.max(5 * longer * Duration::from_secs(1)), promise).await;
            let output = output.expect("it ends").expect("a value");
            if !killed {
                assert!(output.status.success());
                assert_eq!((&output.stdout[..], output.still_open()), (&b"out\n"[..], &[][..]));
                return Ok(());
            }
            // The child may not have exited yet, or not have left the group.
            if !output.status.success() || output.still_open().is_empty() {
                return Err(output);
            }
            assert_eq!((&output.stdout[..], output.still_open()), (&b"out\n"[..], &[1, 2][..]));
            Ok(())
        })
        .await;
    });
}

/// If the output of a terminal is closed, the whole terminal is.
#[test]
fn a_terminal_whose_output_is_closed() {
    everywhere(|| async {
        for takes in [true, false] {
            let mut process = Command::new("yes").pty(PtySize::default()).spawn().expect("starts");
            match takes {
                true => drop(process.reader(1).expect("a terminal")),
                false => assert!(process.close(1)),
            }
            let end = async {
                loop {
                    if let Event::Ended(status) = process.next().await.expect("an event") {
                        return status;
                    }
                }
            };
            let status = within(EVER, Box::pin(end)).await.expect("it hangs up");
            assert!(!status.success());
        }
    });
}

/// If a bound or a call ends the members, each has the grace that its own command set.
#[test]
fn members_have_a_grace_of_their_own() {
    everywhere(|| async {
        patiently(|longer| async move {
            let mut first = sh("trap 'sleep 0.5; exit 5' TERM; echo up; sleep 100 & wait");
            first.grace(EVER);
            let mut last = Command::new("cat");
            last.grace(Duration::from_millis(50));
            let mut promise = first.pipe(&last).output();
            assert!(within(longer * Duration::from_millis(300), &mut promise).await.is_none());
            promise.control().terminate().expect("they run");
            let output = within(EVER, promise).await.expect("it ends").expect("a value");
            // The member may not have set its trap yet.
            if output.members()[0].status.code() == Some(5) { Ok(()) } else { Err(output) }
        })
        .await;
    });
}

/// A member has a short idle timeout, in a pipeline with a long one.
#[test]
fn members_have_a_silence_of_their_own() {
    everywhere(|| async {
        let mut silent = sh("exec sleep 100");
        silent.idle_timeout(Duration::from_millis(200));
        let loud = sh("while echo x; do sleep 0.05; done & cat; kill $!");
        let error = silent.pipe(&loud).idle_timeout(EVER).output().await.expect_err("one is silent");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        assert!(error.to_string().contains("was silent for 200ms"), "{error}");
    });
}

struct Panics(bool);

impl AsyncRead for Panics {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        if !std::mem::replace(&mut self.0, true) {
            // A panic that prints nothing on stderr.
            resume_unwind(Box::new("the first read"));
        }
        Poll::Ready(Ok(0))
    }
}

/// A panic in the caller's code goes through. If the handle is polled again, it goes on.
#[test]
fn after_a_panic() {
    let cat = Command::new("cat");
    let mut fed = cat.clone();
    let mut single = fed.stdin(Stdio::reader(Panics(false))).output();
    let mut joined = fed.stdin(Stdio::reader(Panics(false))).pipe(&cat).output();
    for promise in [&mut single, &mut joined] {
        catch_unwind(AssertUnwindSafe(|| drop(block_on(&mut *promise)))).expect_err("it panics");
        let output = block_on(within(EVER, promise)).expect("it goes on").expect("a value");
        assert!(output.status.success());
    }
}

/// SIGPIPE has its default action and is blocked in the thread that writes. No SIGPIPE from this crate is
/// left pending.
#[test]
fn a_sigpipe_that_is_blocked() {
    alone("edges::a_sigpipe_that_is_blocked", || {
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGPIPE);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        }
        let write = || {
            let mut process = sh("exec <&-; exec sleep 100").spawn().expect("starts");
            let mut writer = process.writer(0).expect("a pipe");
            block_on(writer.closed());
            let error = block_on(writer.write(b"x")).expect_err("nobody reads");
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        };
        let pending = || {
            let mut pending: libc::sigset_t = unsafe { std::mem::zeroed() };
            unsafe { libc::sigpending(&mut pending) };
            unsafe { libc::sigismember(&pending, libc::SIGPIPE) == 1 }
        };
        write();
        assert!(!pending());
        // A pending SIGPIPE of the host stays.
        unsafe { libc::raise(libc::SIGPIPE) };
        write();
        assert!(pending());
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    });
}

/// Waits until the child is a zombie.
fn has_exited(process: &Process) {
    let pid = process.pid().expect("it runs");
    super::support::eventually("it has exited", || state_of(pid) == Some('Z'));
}

/// How many bytes came before the exit, and how many in all.
async fn until_exited(process: &mut Process) -> (Option<usize>, usize) {
    let (mut told, mut exited) = (0, None);
    while let Some(event) = process.next().await {
        match event {
            Event::Data { data, .. } => told += data.len(),
            Event::Exited(_) => exited = Some(told),
            _ => {}
        }
    }
    (exited, told)
}

/// The child's own output comes before its exit, about as much as a pipe can hold.
#[test]
fn output_of_a_large_pipe_comes_before_the_exit() {
    everywhere(|| async {
        let mut process = helper(&["room:1:1048576", "out:1000000"]).spawn().expect("starts");
        has_exited(&process);
        let (exited, told) = until_exited(&mut process).await;
        assert_eq!((exited, told), (Some(1_000_000), 1_000_000));
    });
}

/// In packet mode each read returns one packet, so the crate asks for the bytes that are there and does not
/// count reads.
#[test]
fn small_packets_are_told_before_the_exit() {
    const MANY: usize = 20_000;
    everywhere(|| async {
        let steps = ["room:1:1048576", "packets:1:200"];
        for late in [false, true] {
            let mut process = helper(&steps).spawn().expect("starts");
            if late {
                has_exited(&process);
            }
            let (exited, told) = until_exited(&mut process).await;
            assert_eq!((exited, told), (Some(MANY), MANY), "late: {late}");
        }
        // A megabyte of packets. If the child ended in time, it did not time out, no matter when the caller
        // polls.
        let output = helper(&["packets:1:10000"]).output().await.expect("runs");
        assert_eq!(output.stdout.len(), 1_000_000);
    });
    let bound = Duration::from_secs(2);
    let promise = helper(&["room:1:1048576", "packets:1:200"]).timeout(bound).output();
    std::thread::sleep(bound + Duration::from_millis(10));
    assert_eq!(block_on(promise).expect("in time").stdout.len(), MANY);
}

/// Whether the kernel reports the status of every child.
fn knows_all() -> bool {
    #[cfg(target_os = "linux")]
    return super::support::statuses_survive();
    #[cfg(not(target_os = "linux"))]
    false
}

/// The host replaces any handler of SIGCHLD by its own setting. No call hangs.
#[test]
fn sigchld_is_handled_by_the_host() {
    alone("edges::sigchld_is_handled_by_the_host", || {
        block_on(Command::new("true").run()).expect("success");
        for disposition in [libc::SIG_DFL, libc::SIG_IGN] {
            unsafe { libc::signal(libc::SIGCHLD, disposition) };
            let result = block_on(within(EVER, Command::new("sleep").arg("0.1").run())).expect("it ends");
            match result {
                Ok(()) => assert!(disposition == libc::SIG_DFL || knows_all()),
                Err(error) => {
                    let lost = matches!(error, Error::StatusLost(_));
                    assert!(lost && disposition == libc::SIG_IGN && !knows_all(), "{error}");
                }
            }
            drop(sh("exec sleep 100").run());
            super::support::no_children();
        }
    });
}

//! Children that leave their group, lead one of their own, or are held by a debugger.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::{Child, Stdio as StdStdio};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use reaped::{Command, Error, Event, Process, Promise, Stdio};

use super::{NATIVE, again_and_again, block_on, fault, no_child};
use crate::support::{eventually, helper};

/// Starts it, and waits until it is ready.
fn ready(command: &mut Command) -> Process {
    let mut process = command.spawn().expect("starts");
    let event = block_on(process.next());
    assert!(matches!(&event, Some(Event::Data { fd: 1, data }) if data == b"ready\n"), "{event:?}");
    process
}

fn is_gone(pid: u32) -> bool {
    unsafe { libc::kill(pid as libc::pid_t, 0) == -1 }
}

/// The child takes these steps first. Every way to end a child still ends it.
fn each_way_ends(steps: &[&str], new_group: bool) {
    let steps = [steps, &["say:1:ready", "sleep:100000"]].concat();
    let command = || {
        let mut command = helper(&steps);
        command.grace(Duration::from_millis(20));
        if new_group {
            command.new_group();
        }
        command
    };

    let process = ready(&mut command());
    process.control().kill().expect("it runs");
    assert_eq!(block_on(process.status()).expect("a value").signal(), Some(libc::SIGKILL));

    let process = ready(&mut command());
    process.control().terminate().expect("it runs");
    let signal = block_on(process.status()).expect("a value").signal();
    assert!([Some(libc::SIGTERM), Some(libc::SIGKILL)].contains(&signal), "{signal:?}");

    let process = ready(command().stdin(Stdio::null()));
    let pid = process.pid().expect("it runs");
    drop(process);
    eventually("dropped, it is gone", || is_gone(pid));

    let error = block_on(command().timeout(Duration::from_millis(100)).output()).expect_err("slow");
    assert!(matches!(error, Error::TimedOut(_)), "{error}");

    let error = block_on(command().limit(3).output()).expect_err("it says more");
    assert!(matches!(error, Error::OutputLimit(_)), "{error}");
    no_child();
}

#[test]
fn a_child_leads_a_group() {
    fault("leaders::a_child_leads_a_group", || {
        again_and_again(2, || each_way_ends(&["group:own"], false));
    });
}

#[test]
fn a_child_leads_a_session() {
    fault("leaders::a_child_leads_a_session", || {
        again_and_again(2, || each_way_ends(&["group:session"], false));
    });
}

#[test]
fn a_child_leads_its_group_twice() {
    fault("leaders::a_child_leads_its_group_twice", || {
        again_and_again(2, || each_way_ends(&["group:own"], true));
    });
}

/// No process is left in the group of the child's number, and the call still has to end the child.
#[test]
fn a_leader_leaves_its_group() {
    fault("leaders::a_leader_leaves_its_group", || {
        again_and_again(2, || each_way_ends(&["group:join"], true));
    });
}

/// Some processes of the group are left. They end with the child, although it has left the group.
#[test]
fn a_leader_leaves_its_group_to_others() {
    fault("leaders::a_leader_leaves_its_group_to_others", || {
        again_and_again(2, || {
            let helper = std::env::current_exe().expect("this binary");
            let mut command = crate::support::sh(
                "sleep 1000 & echo $!; exec \"$0\" --helper group:join say:1:ready sleep:100000",
            );
            let mut process = command.arg(helper).new_group().spawn().expect("starts");
            let mut said = String::new();
            while !said.ends_with("ready\n") {
                match block_on(process.next()) {
                    Some(Event::Data { fd: 1, data }) => said += &String::from_utf8_lossy(&data),
                    other => panic!("{other:?} after {said:?}"),
                }
            }
            let other: u32 = said.lines().next().expect("a line").parse().expect("a number");
            process.control().kill().expect("it runs");
            assert_eq!(block_on(process.status()).expect("a value").signal(), Some(libc::SIGKILL));
            eventually("the other one is gone", || is_gone(other) || is_zombie(other));
        });
    });
}

fn is_zombie(pid: u32) -> bool {
    state(pid) == Some('Z')
}

fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The signal at which a traced child stopped.
fn stopped_by(pid: u32) -> Option<i32> {
    let mut info = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
    // PTRACE_GETSIGINFO fails if the child is not stopped.
    let asked = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, pid as libc::pid_t, 0, &mut info) };
    (asked == 0).then_some(info.si_signo)
}

/// Polls it several times, for a while: it is not ready.
fn is_pending<T>(promise: &mut Promise<T>) {
    for _ in 0..20 {
        let polled = Pin::new(&mut *promise).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "it is held, and has not ended");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// If this process traces the child, it stops at each signal, and waitpid(2) reports that to the tracer in
/// any case. Stopped is not ended.
#[test]
fn a_child_has_itself_traced() {
    fault("leaders::a_child_has_itself_traced", || {
        again_and_again(2, || {
            for new_group in [false, true] {
                let mut command = helper(&["traced", "raise:10", "say:1:more", "raise:19", "exit:3"]);
                if new_group {
                    command.new_group();
                }
                let stopped = |promise: &mut Promise<_>| {
                    let pid = promise.pid().expect("it runs");
                    eventually("it is stopped", || state(pid) == Some('t'));
                    is_pending(promise);
                    assert_eq!(promise.pid(), Some(pid));
                    pid
                };
                // Continued twice, it ends by itself.
                let mut promise = command.output();
                for raised in [10, 19] {
                    let pid = promise.pid().expect("it runs");
                    eventually("it has raised that", || stopped_by(pid) == Some(raised));
                    stopped(&mut promise);
                    // This thread has started the child, so it is the tracer.
                    let on = unsafe { libc::ptrace(libc::PTRACE_CONT, pid as libc::pid_t, 0, 0) };
                    assert_eq!(on, 0, "{}", std::io::Error::last_os_error());
                }
                let output = block_on(promise).expect("a value");
                assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"more\n"[..]));

                let mut promise = command.output();
                stopped(&mut promise);
                promise.control().kill().expect("it is there");
                assert_eq!(block_on(promise).expect("a value").status.signal(), Some(libc::SIGKILL));

                // All pipes are closed, so the crate looks for the exit.
                let mut silent = helper(&["traced", "close:0", "close:1", "close:2", "raise:10", "exit:3"]);
                if new_group {
                    silent.new_group();
                }
                let mut promise = silent.stdin(Stdio::bytes("x")).output();
                stopped(&mut promise);
                let kill = promise.control();
                let output = awaited(promise, || {
                    std::thread::sleep(Duration::from_millis(20));
                    kill.kill().expect("it is there");
                });
                assert_eq!(output.expect("a value").status.signal(), Some(libc::SIGKILL));

                // The polite signal stops the child once more, and SIGKILL ends it.
                let mut promise = command.grace(Duration::from_millis(20)).output();
                stopped(&mut promise);
                promise.control().terminate().expect("it is there");
                assert_eq!(block_on(promise).expect("a value").status.signal(), Some(libc::SIGKILL));

                let mut promise = command.output();
                stopped(&mut promise);
                drop(promise);
                no_child();

                let error = block_on(command.timeout(Duration::from_millis(50)).output());
                let error = error.expect_err("it never goes on");
                assert!(matches!(error, Error::TimedOut(_)), "{error}");
                let status = error.output().expect("it ran").status;
                // If the child has not asked to be traced yet, the polite signal ends it.
                assert!([Some(libc::SIGKILL), Some(libc::SIGTERM)].contains(&status.signal()), "{status}");
                no_child();
            }
        });
    });
}

/// Another process that traces a child of this one, until it is dropped.
struct Debugger(Child);

impl Debugger {
    fn new(how: &str, pid: u32) -> Self {
        let mut child = std::process::Command::new(std::env::current_exe().expect("this binary"))
            .args(["--helper", &format!("{how}:{pid}"), "say:1:holds", "copy:0:1"])
            .stdin(StdStdio::piped())
            .stdout(StdStdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line);
        assert_eq!((said.expect("it says something"), &*line), (6, "holds\n"));
        Debugger(child)
    }

    fn let_go(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("ours").success());
    }
}

/// The processor time of this process and all its threads.
fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waits, and checks that the whole process is idle.
fn idles() {
    const FOR: Duration = Duration::from_millis(400);
    let (before, start) = (busy(), Instant::now());
    while start.elapsed() < FOR {
        std::thread::sleep(Duration::from_millis(50));
    }
    let used = busy() - before;
    // async-process asks again whenever the descriptor is readable, and it is readable all the while.
    let may = if NATIVE { FOR / 4 } else { 2 * FOR };
    assert!(used < may, "busy for {used:?} with waiting");
}

/// Awaits the promise in a thread of its own, as an executor does.
fn awaited<T: Send>(promise: Promise<T>, meanwhile: impl FnOnce()) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| block_on(promise));
        meanwhile();
        ended.join().expect("no panic")
    })
}

/// A child has exited, but its debugger has not looked, so the parent cannot reap it yet. The call waits, and
/// is not busy.
#[test]
fn a_debugger_holds_a_child_that_exited() {
    fault("leaders::a_debugger_holds_a_child_that_exited", || {
        again_and_again(1, || {
            for new_group in [false, true] {
                let mut command = crate::support::sh("read line; exit 3");
                if new_group {
                    command.new_group();
                }
                let mut process = command.stdin(Stdio::input()).spawn().expect("starts");
                let pid = process.pid().expect("it runs");
                let debugger = Debugger::new("seize", pid);
                process.close(0);
                eventually("it exited", || is_zombie(pid));
                let status = std::thread::scope(|scope| {
                    let ended = scope.spawn(|| block_on(process.status()));
                    idles();
                    assert!(!ended.is_finished(), "nobody knows how it ended");
                    debugger.let_go();
                    ended.join().expect("no panic").expect("a value")
                });
                assert_eq!(status.code(), Some(3));
            }
        });
    });
}

#[test]
fn a_debugger_holds_a_child_that_was_killed() {
    fault("leaders::a_debugger_holds_a_child_that_was_killed", || {
        again_and_again(1, || {
            for how in ["seize", "attach"] {
                let promise = helper(&["sleep:100000"]).output();
                let (control, pid) = (promise.control(), promise.pid().expect("it runs"));
                let debugger = Debugger::new(how, pid);
                let output = awaited(promise, || {
                    control.kill().expect("it is there");
                    eventually("it is dead", || is_zombie(pid));
                    idles();
                    debugger.let_go();
                });
                assert_eq!(output.expect("a value").status.signal(), Some(libc::SIGKILL));
            }
        });
    });
}

#[test]
fn a_debugger_holds_a_child_that_was_dropped() {
    fault("leaders::a_debugger_holds_a_child_that_was_dropped", || {
        again_and_again(1, || {
            for how in ["seize", "attach"] {
                let promise = helper(&["sleep:100000"]).output();
                let pid = promise.pid().expect("it runs");
                let debugger = Debugger::new(how, pid);
                drop(promise);
                eventually("it is dead", || is_zombie(pid));
                idles();
                debugger.let_go();
                no_child();
            }
        });
    });
}

#[test]
fn a_debugger_holds_a_child_that_timed_out() {
    fault("leaders::a_debugger_holds_a_child_that_timed_out", || {
        again_and_again(1, || {
            let mut command = helper(&["sleep:100000"]);
            command.timeout(Duration::from_millis(300)).grace(Duration::from_millis(20));
            let promise = command.output();
            let pid = promise.pid().expect("it runs");
            let debugger = Debugger::new("attach", pid);
            let result = awaited(promise, || {
                eventually("it is dead", || is_zombie(pid));
                idles();
                debugger.let_go();
            });
            let error = result.expect_err("it never ended by itself");
            assert!(matches!(error, Error::TimedOut(_)), "{error}");
            assert_eq!(error.output().expect("it ran").status.signal(), Some(libc::SIGKILL));
        });
    });
}

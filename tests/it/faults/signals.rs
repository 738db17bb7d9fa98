//! Hosts with odd signals: ignored, blocked, with their default action, or one after the other.

use std::os::unix::process::ExitStatusExt;
use std::ptr;
use std::time::Duration;

use reaped::{Command, Error, Stdio};

use super::{
    Traces, again_and_again, all_calls, block_on, exited, fault, meanwhile, no_child, on_old_kernels_too,
    statuses_survive, works,
};
use crate::support::{sh, warm_up};

/// All signals that a process can handle.
fn all_but(exceptions: &[i32]) -> impl Iterator<Item = i32> {
    let special = [libc::SIGKILL, libc::SIGSTOP, 32, 33];
    let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGALRM];
    let exceptions = [&special[..], &faults[..], exceptions].concat();
    (1..=64).filter(move |signal| !exceptions.contains(signal))
}

fn block_all() {
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::sigdelset(&mut set, libc::SIGALRM);
        assert_eq!(libc::pthread_sigmask(libc::SIG_SETMASK, &set, ptr::null_mut()), 0);
    }
}

/// A child blocks and ignores no signal, no matter what the parent does.
fn a_child_starts_afresh() {
    let mut command = Command::new("grep");
    let said = block_on(command.args(["-E", "^Sig(Blk|Ign)", "/proc/self/status"]).read()).expect("runs");
    for line in said.lines() {
        let (name, set) = line.split_once(":\t").expect("a set");
        let set = u64::from_str_radix(set, 16).expect("bits");
        assert_eq!(set, 0, "{name}");
    }
}

fn a_child_obeys() {
    let promise = sh("exec sleep 1000").status();
    promise.control().terminate().expect("runs");
    assert_eq!(block_on(promise).expect("a value").signal(), Some(libc::SIGTERM));
    let mut slow = sh("exec sleep 1000");
    let error = block_on(slow.timeout(Duration::from_millis(20)).run()).expect_err("slow");
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
    assert_eq!(error.output().expect("it ran").status.signal(), Some(libc::SIGTERM));
    // A program that gets SIGPIPE.
    let said = block_on(sh("yes | head -c 2").read()).expect("runs");
    assert_eq!(said, "y");
}

fn everything() {
    all_calls();
    a_child_starts_afresh();
    a_child_obeys();
}

#[test]
fn all_signals_ignored_but_sigchld() {
    fault("signals::all_signals_ignored_but_sigchld", || {
        for signal in all_but(&[libc::SIGCHLD]) {
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        again_and_again(3, everything);
    });
}

/// In the calling thread, and in all threads that it starts: the reactor's, and async-process's.
#[test]
fn all_signals_blocked() {
    fault("signals::all_signals_blocked", || {
        block_all();
        again_and_again(3, everything);
    });
}

#[test]
fn all_signals_ignored_and_blocked_later() {
    fault("signals::all_signals_ignored_and_blocked_later", || {
        warm_up();
        for signal in all_but(&[libc::SIGCHLD]) {
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        block_all();
        again_and_again(3, everything);
    });
}

/// A host in another language may leave SIGPIPE at its default. If a child does not read, that must not kill
/// the host.
#[test]
fn sigpipe_has_its_default_action() {
    fault("signals::sigpipe_has_its_default_action", || {
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        again_and_again(3, || {
            everything();
            for _ in 0..10 {
                let mut command = Command::new("true");
                block_on(command.stdin(Stdio::bytes(vec![0; 1 << 20])).run()).expect("no error");
                let mut command = sh("exec <&-; exec sleep 0.01");
                block_on(command.stdin(Stdio::bytes(vec![0; 1 << 20])).run()).expect("no error");
            }
        });
    });
}

/// The system reaps each child, because SIGCHLD is ignored or SA_NOCLDWAIT is set.
fn reaped_by_the_system() {
    let survive = statuses_survive();
    let mut command = sh("cat; echo said; exit 3");
    let output = block_on(command.stdin(Stdio::bytes("in ")).output());
    assert_eq!(exited(&output, b"in said\n"), survive.then_some(3), "{output:?}");
    for group in [false, true] {
        let mut command = sh("echo half; exec sleep 1000");
        if group {
            command.new_group();
        }
        let error = block_on(command.timeout(Duration::from_millis(30)).output()).expect_err("slow");
        let timed_out = matches!(error, Error::TimedOut(_));
        assert!(timed_out || !survive && matches!(error, Error::StatusLost(_)), "{error}");
        let command = command.timeout(Duration::from_secs(60));
        let promise = command.output();
        promise.control().kill().expect("runs");
        match block_on(promise) {
            Ok(output) => assert!(survive && output.status.signal() == Some(libc::SIGKILL), "{output:?}"),
            Err(error) => assert!(!survive && matches!(error, Error::StatusLost(_)), "{error}"),
        }
        drop(command.output());
        drop(command.spawn().expect("starts"));
    }
    let error = block_on(Command::new("/no/such/program").run()).expect_err("missing");
    assert!(matches!(error, Error::Spawn { .. }), "{error}");
}

fn with_action(handler: libc::sighandler_t, flags: i32, body: impl FnOnce()) {
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        let mut before = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGCHLD, &action, &mut before), 0);
        body();
        no_child();
        assert_eq!(libc::sigaction(libc::SIGCHLD, &before, ptr::null_mut()), 0);
    }
}

#[test]
fn sigchld_ignored() {
    on_old_kernels_too("signals::sigchld_ignored", || {
        again_and_again(3, || with_action(libc::SIG_IGN, 0, reaped_by_the_system));
    });
}

#[test]
fn children_not_to_be_waited_for() {
    on_old_kernels_too("signals::children_not_to_be_waited_for", || {
        again_and_again(3, || with_action(libc::SIG_DFL, libc::SA_NOCLDWAIT, reaped_by_the_system));
    });
}

/// The host ignores SIGCHLD while a child runs already.
#[test]
fn sigchld_ignored_in_the_middle() {
    on_old_kernels_too("signals::sigchld_ignored_in_the_middle", || {
        again_and_again(10, || {
            let running = sh("read line; exit 3");
            let mut running = { running }.spawn().expect("starts");
            with_action(libc::SIG_IGN, 0, || {
                running.close(0);
                match block_on(running.status()) {
                    Ok(status) => assert!(statuses_survive() && status.code() == Some(3), "{status}"),
                    Err(error) => {
                        assert!(!statuses_survive() && matches!(error, Error::StatusLost(_)), "{error}")
                    }
                }
            });
        });
    });
}

/// A signal interrupts every system call that can be interrupted.
#[test]
fn one_signal_after_the_other() {
    extern "C" fn nothing(_: i32) {}
    fault("signals::one_signal_after_the_other", || {
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as libc::sighandler_t;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()), 0);
        }
        everything();
        works();
        let before = Traces::now();
        // A number, because it is a pointer in some C libraries.
        let caller = unsafe { libc::pthread_self() } as usize;
        let signals = || unsafe {
            libc::pthread_kill(caller as libc::pthread_t, libc::SIGUSR1);
            libc::kill(libc::getpid(), libc::SIGUSR1);
            std::thread::sleep(Duration::from_micros(200));
        };
        meanwhile(signals, || {
            for _ in 0..10 {
                everything();
                works();
            }
        });
        before.are_all(1 << 10);
        works();
    });
}

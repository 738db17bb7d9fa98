//! Hosts that take the exit status away: the call does not hang, and does not report a false success.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reaped::{Command, Error, Stdio};

use super::faults::become_an_old_kernel;
use super::harness::skip;
use super::support::{alone, everywhere, no_children, sh, statuses_survive};

/// If async-process waits for SIGCHLD, it handles the signal from the first call on. `edges` tests what comes
/// after that.
fn skip_if_handled() {
    if cfg!(async_process_force_signal_backend) {
        skip("the signal is handled there");
    }
}

#[test]
fn sigchld_ignored() {
    skip_if_handled();
    alone("strangers::sigchld_ignored", with_sigchld_ignored);
}

#[test]
fn sigchld_ignored_on_an_old_kernel() {
    skip_if_handled();
    alone("strangers::sigchld_ignored_on_an_old_kernel", || {
        become_an_old_kernel();
        with_sigchld_ignored();
    });
}

fn with_sigchld_ignored() {
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    everywhere(|| async {
        let survive = statuses_survive();
        for _ in 0..10 {
            let mut command = sh("cat; echo said; exit 3");
            let result = command.stdin(Stdio::bytes("in ")).output().await;
            assert_eq!(result.is_ok(), survive, "{result:?}");
            if let Ok(output) = result {
                assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"in said\n"[..]));
                continue;
            }
            let error = result.expect_err("nobody knows");
            assert!(matches!(error, Error::StatusLost(_)), "{error}");
            let output = error.output().expect("what was collected");
            assert_eq!(output.stdout, b"in said\n");
            assert!(!output.status.success() && output.status.code().is_none());
        }
        match Command::new("sh").args(["-c", "exit 4"]).exit_code().await {
            Ok(code) => assert!(survive && code == 4, "{code}"),
            Err(error) => assert!(!survive && matches!(error, Error::StatusLost(_)), "{error}"),
        }
        match Command::new("true").run().await {
            Ok(()) => assert!(survive),
            Err(error) => {
                assert!(
                    !survive && error.to_string().contains("somebody else took its exit status"),
                    "{error}"
                );
            }
        }
        // If a program did not start, its error is the usual one.
        let error = Command::new("no-such-program").run().await.expect_err("missing");
        assert!(matches!(error, Error::Spawn { .. }), "{error}");
        drop(sh("exec sleep 1000").output());
    });
    no_children();
}

#[test]
fn a_stranger_reaps_everything() {
    alone("strangers::a_stranger_reaps_everything", beside_a_stranger);
}

#[test]
fn a_stranger_reaps_everything_on_an_old_kernel() {
    alone("strangers::a_stranger_reaps_everything_on_an_old_kernel", || {
        become_an_old_kernel();
        beside_a_stranger();
    });
}

fn beside_a_stranger() {
    let stop = Arc::new(AtomicBool::new(false));
    let stranger = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } <= 0 {
                    std::thread::yield_now();
                }
            }
        })
    };
    let (mut lost, mut known, mut taken) = (0, 0, 0);
    futures::executor::block_on(async {
        for round in 0..200 {
            let output = sh("echo said; exit 3").output().await;
            match output {
                Ok(output) => {
                    known += 1;
                    // Only the process that reaps a child learns what the child used.
                    taken += usize::from(output.usage().is_none());
                    assert_eq!(output.status.code(), Some(3), "the true status or none");
                    assert_eq!(output.stdout, b"said\n");
                }
                Err(error) => {
                    lost += 1;
                    assert!(matches!(error, Error::StatusLost(_)), "{error}");
                    assert_eq!(error.output().expect("what was collected").stdout, b"said\n");
                }
            }
            if round % 10 == 0 {
                drop(sh("exec sleep 1000").output());
            }
        }
    });
    stop.store(true, Ordering::Relaxed);
    stranger.join().expect("no panic");
    println!("{lost} lost, {known} known");
    let survive = statuses_survive();
    assert!(if survive { taken } else { lost } > 0, "the stranger never came first, so nothing was tested");
    assert!(!survive || lost == 0, "{lost} were lost, and the pidfd could have told");
    no_children();
}

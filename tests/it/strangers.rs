//! Hosts that take the exit status away: no hang, and no false success.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reaped::{Command, Error, Stdio};

use super::support::{alone, everywhere, no_children, sh};

/// Where async-process waits for SIGCHLD, it handles it from the first call on; `edges` has what comes after that.
#[cfg_attr(async_process_force_signal_backend, ignore = "the signal is handled there")]
#[test]
fn sigchld_ignored() {
    alone("strangers::sigchld_ignored", || {
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        everywhere(|| async {
            for _ in 0..10 {
                let mut command = sh("cat; echo said; exit 3");
                let error = command.stdin(Stdio::bytes("in ")).output().await.expect_err("nobody knows");
                assert!(matches!(error, Error::StatusLost(_)), "{error}");
                let output = error.output().expect("what was collected");
                assert_eq!(output.stdout, b"in said\n");
                assert!(!output.status.success() && output.status.code().is_none());
            }
            let error = Command::new("true").exit_code().await.expect_err("nobody knows");
            assert!(matches!(error, Error::StatusLost(_)), "{error}");
            let error = Command::new("true").run().await.expect_err("nobody knows");
            assert!(error.to_string().contains("somebody else took its exit status"), "{error}");
            // What never started is told as ever.
            let error = Command::new("no-such-program").run().await.expect_err("missing");
            assert!(matches!(error, Error::Spawn { .. }), "{error}");
            drop(sh("exec sleep 1000").output());
        });
        no_children();
    });
}

#[test]
fn a_stranger_reaps_everything() {
    alone("strangers::a_stranger_reaps_everything", || {
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
        let (mut lost, mut known) = (0, 0);
        futures::executor::block_on(async {
            for round in 0..200 {
                let output = sh("echo said; exit 3").output().await;
                match output {
                    Ok(output) => {
                        known += 1;
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
        assert!(lost > 0, "the stranger never came first, so nothing was tested");
        no_children();
    });
}

//! How a child can end, as the output, the code and the message show it; and what it starts with.

use std::os::unix::process::ExitStatusExt;

#[cfg(target_os = "linux")]
use reaped::Command;
use reaped::{Error, Stdio};

#[cfg(target_os = "linux")]
use super::support::alone;
use super::support::{everywhere, helper, sh};

#[test]
fn codes_and_signals_are_told_apart() {
    everywhere(|| async {
        for code in [0, 1, 255] {
            let step = format!("exit:{code}");
            let output = helper(&[&step]).output().await.expect("a value");
            assert_eq!((output.status.code(), output.status.signal()), (Some(code), None));
            assert_eq!(helper(&[&step]).exit_code().await.expect("a code"), code);
            if code != 0 {
                let error = helper(&[&step]).hide_args(true).run().await.expect_err("failed").to_string();
                assert!(error.ends_with(&format!("exited with code {code}")), "{error}");
            }
        }
        for (signal, name) in [(15, "SIGTERM"), (9, "SIGKILL"), (11, "SIGSEGV")] {
            let step = format!("raise:{signal}");
            let output = helper(&[&step]).output().await.expect("a value");
            assert_eq!((output.status.code(), output.status.signal()), (None, Some(signal)));
            assert!(!output.status.success());
            let error = helper(&[&step]).exit_code().await.expect_err("no code");
            assert!(matches!(error, Error::Failed(_)));
            assert!(error.to_string().contains(&format!("was killed by {name} (signal {signal}")), "{error}");
        }
    });
}

#[test]
fn fail_on_stderr() {
    everywhere(|| async {
        assert_eq!(sh("echo fine").fail_on_stderr(true).read().await.expect("silent"), "fine");
        let error = sh("echo out; echo oops >&2").fail_on_stderr(true).read().await.expect_err("not silent");
        assert!(matches!(error, Error::UnexpectedStderr(_)));
        let output = error.output().expect("it ran");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"oops\n"[..]));
        assert!(output.status.success());
        // A verb that discards stderr reads it if a byte on stderr is an error.
        let error =
            sh("echo oops >&2; exit 2").fail_on_stderr(true).exit_code().await.expect_err("not silent");
        assert!(matches!(error, Error::UnexpectedStderr(_)));
        assert_eq!(sh("exit 2").fail_on_stderr(true).exit_code().await.expect("silent"), 2);
        // Any byte counts, also if the caller took it as an event or discards it.
        let mut process = sh("echo oops >&2").fail_on_stderr(true).spawn().expect("starts");
        while process.next().await.is_some() {}
        let error = process.status().await.expect_err("not silent");
        assert!(matches!(error, Error::UnexpectedStderr(_)));
    });
}

/// The kernel shows that a new child blocks and ignores no signal.
#[cfg(target_os = "linux")]
#[test]
fn signals_start_afresh() {
    alone("endings::signals_start_afresh", || {
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        unsafe { libc::sigaddset(&mut set, libc::SIGTERM) };
        unsafe { libc::sigaddset(&mut set, libc::SIGUSR1) };
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT, libc::SIGRTMAX()] {
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        // glibc reserves these signals and lets no program set them. The kernel does. The first field of an
        // ignored one is 1, and the others are zeros.
        for signal in [32, 33] {
            let ignored = [libc::SIG_IGN as u64, 0, 0, 0, 0, 0, 0, 0];
            let before = std::ptr::null_mut::<u64>();
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, ignored.as_ptr(), before, 8) };
        }
        let told = futures::executor::block_on(helper(&["signals"]).read()).expect("runs");
        let bits = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(name)).expect("told");
            u64::from_str_radix(line.trim(), 16).expect("a mask")
        };
        assert_eq!((bits("SigBlk:"), bits("SigIgn:")), (0, 0));
        // So a polite signal works.
        let promise = sh("kill -TERM $$; sleep 100").output();
        let output = futures::executor::block_on(promise).expect("a value");
        assert_eq!(output.status.signal(), Some(libc::SIGTERM));
    });
}

#[test]
fn usage_and_elapsed() {
    let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let output = futures::executor::block_on(sh(busy).output()).expect("runs");
    assert!(output.elapsed() > std::time::Duration::ZERO);
    if cfg!(all(target_os = "linux", not(reaped_portable))) {
        let usage = output.usage().expect("the native engine knows");
        assert!(usage.user + usage.system > std::time::Duration::ZERO);
        assert!(usage.user + usage.system <= output.elapsed() * 4);
    } else {
        assert_eq!(output.usage(), None);
    }
}

/// A child that needs 200 MiB, more than this process ever had.
#[test]
#[cfg(all(target_os = "linux", not(reaped_portable)))]
fn usage_has_the_peak_memory() {
    alone("endings::usage_has_the_peak_memory", || {
        let peak = |bytes: &str| {
            let script = format!("head -c {bytes} /dev/zero | tail -c {bytes} >/dev/null");
            let output = futures::executor::block_on(sh(&script).output()).expect("runs");
            output.usage().expect("the native engine knows").peak_memory
        };
        let (small, large) = (peak("1"), peak("200000000"));
        assert!((200_000_000..400_000_000).contains(&large), "{large} bytes");
        assert!((500_000..150_000_000).contains(&small), "{small} bytes");
    });
}

/// A grandchild that keeps stdout open delays the end, and none of its bytes is lost.
#[test]
fn the_end_waits_for_a_descendant_that_holds_a_pipe() {
    everywhere(|| async {
        let output = sh("(sleep 0.3; echo late) & echo early").output().await.expect("a value");
        assert_eq!(output.stdout, b"early\nlate\n");
    });
}

/// If both pipes close long before the exit, the promise still waits for the exit.
#[test]
fn the_end_waits_for_the_exit() {
    everywhere(|| async {
        let output =
            sh("exec >&- 2>&-; sleep 0.2; exit 6").stdin(Stdio::null()).output().await.expect("a value");
        assert_eq!(output.status.code(), Some(6));
    });
}

/// A task whose waker does not recognise its own clone, as the compiler may make it. Waiting still costs no
/// polls.
#[test]
#[cfg(target_os = "linux")]
fn waiting_costs_no_polls_with_any_waker() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

    static WAKES: AtomicUsize = AtomicUsize::new(0);
    fn wake(_: *const ()) {
        WAKES.fetch_add(1, Ordering::SeqCst);
    }
    fn clone(_: *const ()) -> RawWaker {
        RawWaker::new(std::ptr::null(), &CLONES)
    }
    static FIRST: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, |_| {});
    static CLONES: RawWakerVTable = RawWakerVTable::new(clone, wake, |_| wake(std::ptr::null()), |_| {});
    let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &FIRST)) };
    assert!(!waker.will_wake(&waker.clone()), "the case that this is about");

    alone("endings::waiting_costs_no_polls_with_any_waker", || {
        let mut promise =
            sh("exec sleep 0.5").stdin(Stdio::input()).timeout(std::time::Duration::from_secs(60)).output();
        let mut cat = Command::new("cat").spawn().expect("starts");
        let mut writer = cat.writer(0).expect("an input");
        let mut reader = cat.reader(1).expect("an output");
        let mut polls = 0;
        let ended = loop {
            let cx = &mut Context::from_waker(&waker);
            let seen = WAKES.load(Ordering::SeqCst);
            polls += 1;
            if let Poll::Ready(output) = std::pin::Pin::new(&mut promise).poll(cx) {
                break output;
            }
            // Everything else that waits, too: events, a reader, and a writer that waits for the close.
            assert!(futures::StreamExt::poll_next_unpin(&mut cat, cx).is_pending());
            let mut buffer = [0; 10];
            assert!(
                futures::AsyncRead::poll_read(std::pin::Pin::new(&mut reader), cx, &mut buffer).is_pending()
            );
            assert!(std::pin::pin!(writer.closed()).poll(cx).is_pending());
            while WAKES.load(Ordering::SeqCst) == seen {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        assert!(ended.expect("a value").status.success());
        assert!(polls < 20, "{polls} polls");
    });
}

//! Sizes that deadlock a caller that reads or writes in the wrong order.

use reaped::{Command, Stdio};

use super::helper::pattern;
#[cfg(target_os = "linux")]
use super::support::helper;
use super::support::{everywhere, sh};

const MIB: usize = 1 << 20;

#[test]
fn two_hundred_fifty_six_mib_through_cat() {
    let data = pattern(256 * MIB);
    let back =
        futures::executor::block_on(Command::new("cat").stdin(Stdio::bytes(data.clone())).read_bytes());
    assert!(back.expect("runs") == data);
}

#[test]
fn cat_with_stderr_flooding_and_both_extra_directions() {
    let data = pattern(256 * MIB);
    let extra = pattern(16 * MIB);
    // Four copies at once, each in a process of its own.
    let script = r#"
        "$0" --helper err:67108864 &
        "$0" --helper fill:3:16777216 &
        "$0" --helper copy:4:5 4<&4 &
        cat
        wait
    "#;
    let mut command = sh(script);
    command.arg(std::env::current_exe().expect("this binary"));
    command
        .stdin(Stdio::bytes(data.clone()))
        .fd(3, Stdio::output())
        .fd(4, Stdio::bytes(extra.clone()))
        .fd(5, Stdio::output());
    let output = smol::block_on(command.output()).expect("runs");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout == data, "stdout");
    assert!(output.stderr == pattern_of(64 * MIB), "stderr");
    assert!(output.fd(3) == Some(&pattern_of(16 * MIB)), "descriptor 3");
    assert!(output.fd(5) == Some(&extra[..]), "descriptor 5");
}

/// The bytes that the helper's `fill` writes: the pattern, begun anew for each chunk.
fn pattern_of(length: usize) -> Vec<u8> {
    pattern(length)
}

#[test]
fn a_child_that_never_reads_its_input_succeeds() {
    everywhere(|| async {
        let output = sh("exit 0").stdin(Stdio::bytes(vec![0; 64 * MIB])).output().await.expect("no EPIPE");
        assert!(output.status.success());
        let output = sh("exec <&-; echo on; exit 0").stdin(Stdio::bytes(vec![0; 64 * MIB])).output().await;
        assert_eq!(output.expect("no EPIPE").stdout, b"on\n");
    });
}

/// The same in a host that leaves SIGPIPE at its default, as C programs do.
#[test]
fn a_default_sigpipe_does_not_kill_the_host() {
    super::support::alone("bulk::a_default_sigpipe_does_not_kill_the_host", || {
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        for _ in 0..20 {
            let mut command = sh("exec <&-; exit 0");
            let output = futures::executor::block_on(command.stdin(Stdio::bytes(vec![0; MIB])).output());
            assert!(output.expect("runs").status.success());
        }
        // SIGPIPE is not pending for later either, and is not left blocked.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        unsafe { libc::sigpending(&mut set) };
        assert_eq!(unsafe { libc::sigismember(&set, libc::SIGPIPE) }, 0);
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut set) };
        assert_eq!(unsafe { libc::sigismember(&set, libc::SIGPIPE) }, 0);
    });
}

/// If a verb discards the output, none of it is kept in memory. A limit still counts, and its error carries
/// the bytes up to it.
#[cfg(target_os = "linux")]
#[test]
fn discarded_output_needs_no_memory() {
    super::support::alone("bulk::discarded_output_needs_no_memory", || {
        let flood = || helper(&["out:134217728", "err:134217728"]);
        let peak = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a size");
            line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
        };
        super::support::warm_up();
        let before = peak();
        let status = futures::executor::block_on(flood().spawn().expect("starts").status());
        assert!(status.expect("runs").success());
        let grown = peak() - before;
        assert!(grown < 32 * MIB, "{grown} bytes more");

        let result = futures::executor::block_on(flood().limit_fd(2, 5).spawn().expect("starts").status());
        let error = result.expect_err("it says more");
        assert!(matches!(error, reaped::Error::OutputLimit(_)), "{error}");
        let output = error.output().expect("it ran");
        assert_eq!((output.stdout.len(), &output.stderr[..]), (0, &pattern(5)[..]));

        let loud = sh("echo out; echo err >&2").fail_on_stderr(true).spawn().expect("starts");
        let error = futures::executor::block_on(loud.status()).expect_err("it complains");
        assert!(matches!(error, reaped::Error::UnexpectedStderr(_)), "{error}");
        let output = error.output().expect("it ran");
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b""[..], &b"err\n"[..]));
    });
}

/// If the child fills both pipes and is then killed, and the caller reads much later, no byte is missing.
#[cfg(target_os = "linux")]
#[test]
fn output_of_a_killed_child_is_complete() {
    everywhere(|| async {
        let promise = helper(&["out:65536", "err:65536", "sleep:100000"]).output();
        let pid = promise.pid().expect("runs") as i32;
        let full = |fd: i32| {
            let file = std::fs::File::open(format!("/proc/{pid}/fd/{fd}")).ok();
            file.and_then(|file| rustix::io::ioctl_fionread(&file).ok()).unwrap_or(0) == 65536
        };
        super::support::eventually("both pipes are full", || full(1) && full(2));
        std::thread::sleep(std::time::Duration::from_millis(1));
        unsafe { libc::kill(pid, libc::SIGKILL) };
        std::thread::sleep(std::time::Duration::from_millis(200));
        let output = promise.await.expect("a value");
        assert_eq!(output.status.code(), None);
        assert!(output.stdout == pattern(65536) && output.stderr == pattern(65536));
    });
}

//! Faults of the host and of the system, made for real if possible: limits, sandboxes, odd signals, odd
//! descriptors, other threads that reap or fork, debuggers.
//!
//! After each the result has the right type, and the next call works. No child, descriptor, thread or memory is left.
//!
//! Each fault has a test of its name, in a process of its own.

mod descriptors;
mod isolation;
mod leaders;
mod limits;
mod memory;
mod sandbox;
mod signals;
mod starts;
mod strangers;

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reaped::{Command, Error, Event, Output, PtySize, SpawnReason, Stdio};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use sandbox::become_an_old_kernel;

use super::support::{alone, descriptors, eventually, root_needed, sh, statuses_survive, warm_up};

/// Which engine starts a child without special settings.
const NATIVE: bool = cfg!(not(reaped_portable));

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// Runs the body in a process of its own, which ends even if something hangs.
fn fault(name: &str, body: impl FnOnce()) {
    alone(&format!("faults::{name}"), || {
        watch_dog();
        body();
    });
}

/// Ends this process, by SIGALRM, if it hangs.
fn watch_dog() {
    unsafe { libc::alarm(600) };
}

/// Runs the body once for each case, each time in a process of its own: for what a process does only once.
/// Then judges all results.
fn each_alone(
    name: &str,
    cases: Range<usize>,
    body: impl FnOnce(usize) -> &'static str,
    judge: impl FnOnce(Vec<String>),
) {
    const VARIABLE: &str = "REAPED_TEST_CASE";
    const MARK: &str = "came to: ";
    let name = format!("faults::{name}");
    if let Ok(case) = std::env::var(VARIABLE) {
        watch_dog();
        println!("\n{MARK}{}", body(case.parse().expect("a number")));
        return;
    }
    let verdicts = cases.map(|case| {
        let output = std::process::Command::new(std::env::current_exe().expect("this binary"))
            .args([&name, "--exact", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, case.to_string())
            .output()
            .expect("the case starts");
        let said = String::from_utf8_lossy(&output.stdout);
        let verdict = said.lines().find_map(|line| line.strip_prefix(MARK));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}, case {case}: {}\n{said}\n{complaint}", output.status);
        verdict.unwrap_or_else(|| panic!("{name}, case {case}: no verdict\n{said}\n{complaint}")).to_owned()
    });
    judge(verdicts.collect());
}

/// Like `fault`, and once more as on an old kernel. There a pidfd does not report a child that another thread has
/// reaped, and does not reach a group.
fn on_old_kernels_too(name: &str, body: impl FnOnce()) {
    each_alone(
        name,
        0..2,
        |case| {
            if case == 1 {
                become_an_old_kernel();
            }
            body();
            "done"
        },
        |verdicts| assert_eq!(verdicts, ["done", "done"]),
    );
}

/// The exit code, if the child wrote this output; `None` if the status is lost.
fn exited(result: &Result<Output, Error>, said: &[u8]) -> Option<i32> {
    match result {
        Ok(output) => {
            assert_eq!(output.stdout, said);
            Some(output.status.code().expect("a code"))
        }
        Err(error) => {
            assert!(matches!(error, Error::StatusLost(_)), "{error}");
            assert_eq!(error.output().expect("what was collected").stdout, said);
            None
        }
    }
}

/// What calls could leave behind in this process.
struct Traces {
    descriptors: Vec<(i32, String)>,
    threads: usize,
    bytes: isize,
}

impl Traces {
    /// After other threads have reaped and forgotten all that ended.
    fn now() -> Self {
        no_child();
        // If a group was asked to end, members that still run keep their grace, and the leader keeps its
        // pidfd.
        let pidfds = || descriptors().iter().any(|(_, what)| what.contains("pidfd"));
        eventually("nothing waits any more", || !pidfds());
        let look = || Traces { descriptors: descriptors(), threads: threads(), bytes: memory::in_use() };
        let (mut before, start) = (look(), Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let still = before.changes(0).is_empty();
            let now = look();
            // A pidfd belongs to a child that another thread still has to forget. On a busy machine that can
            // take long.
            let waits = now.descriptors.iter().any(|(_, what)| what.contains("pidfd"));
            if still && before.bytes <= now.bytes && (!waits || start.elapsed() > Duration::from_secs(20)) {
                return now;
            }
            before = now;
        }
    }

    /// What there is more of, or less of. The allocator and the collections may keep some memory.
    fn changes(&self, slack: isize) -> Vec<String> {
        // Before anything else, because the rest makes strings.
        let grown = memory::in_use() - self.bytes;
        let mut changes = Vec::new();
        let descriptors = descriptors();
        if descriptors != self.descriptors {
            changes.push(format!("descriptors: {:?} became {descriptors:?}", self.descriptors));
        }
        if threads() != self.threads {
            changes.push(format!("threads: {} became {}", self.threads, threads()));
        }
        if grown > slack {
            changes.push(format!("memory: {grown} bytes more"));
        }
        changes
    }

    fn sees(&self, what: &str, slack: isize) -> bool {
        self.changes(slack).iter().any(|change| change.starts_with(what))
    }

    fn are_all(&self, slack: isize) {
        no_child();
        let start = Instant::now();
        while !self.changes(slack).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "left behind: {:#?}", self.changes(slack));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a fault again and again. After each round no child is left and the next call works. The second half
/// of the rounds leaves no more than the first half did.
fn again_and_again(rounds: usize, mut fault: impl FnMut()) {
    warm_up();
    let mut once = || {
        fault();
        no_child();
        works();
    };
    (0..rounds).for_each(|_| once());
    let before = Traces::now();
    (0..rounds).for_each(|_| once());
    // Less than the smallest box that each round could leave.
    before.are_all(8 * rounds as isize);
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("procfs").count()
}

/// Waits until the system shows no child of this process. Reaps none itself.
fn no_child() {
    eventually("there is no child", || !has_children());
}

fn has_children() -> bool {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
    let mut info = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
    let asked = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, options) };
    asked == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ECHILD)
}

/// Runs the body while another thread repeats its own work.
fn meanwhile(stranger: impl Fn() + Sync, body: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _stop = Stop(&stop);
            while !stop.load(Ordering::Relaxed) {
                stranger();
            }
        });
        let _stop = Stop(&stop);
        body();
    });
}

/// Set when this is dropped, also after a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The next call works in every respect.
fn works() {
    let mut command = sh("cat; cat <&3 >&4; exit 7");
    command.stdin(Stdio::bytes("in")).fd(3, Stdio::bytes("three")).fd(4, Stdio::output());
    let output = block_on(command.output()).expect("the next call works");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(7), &b"in"[..]), "{output:?}");
    assert_eq!(output.fd(4), Some(&b"three"[..]));
}

type Call = fn() -> Result<(), Error>;

/// Calls of every kind. Each needs something else from the system. If a call does not fail, its result is
/// right.
const CALLS: &[(&str, Call)] = &[
    ("nothing of its own", || block_on(Command::new("true").run())),
    ("bytes in and out", || {
        let said = block_on(Command::new("cat").stdin(Stdio::bytes("x\ny")).read())?;
        assert_eq!(said, "x\ny");
        Ok(())
    }),
    ("many pipes", || {
        let mut command = sh("env echo out; env echo err >&2; cat <&3 >&4; exec cat <&6 >&5");
        for fd in [3, 6] {
            command.fd(fd, Stdio::bytes(fd.to_string()));
        }
        let output = block_on(command.fd(4, Stdio::output()).fd(5, Stdio::output()).output())?.check()?;
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!((output.fd(4), output.fd(5)), (Some(&b"3"[..]), Some(&b"6"[..])));
        Ok(())
    }),
    ("two swapped", || {
        let (first, second) = (Stdio::bytes("first"), Stdio::bytes("second"));
        let mut command = sh("cat <&4; exec cat <&3");
        assert_eq!(block_on(command.fd(3, second).fd(4, first).read())?, "firstsecond");
        Ok(())
    }),
    ("one pipe for both", || {
        let mut command = sh("env echo out; exec env echo err >&2");
        assert_eq!(block_on(command.stderr(Stdio::same_as(1)).read())?, "out\nerr");
        Ok(())
    }),
    ("a folder and others inherited", || {
        let mut command = Command::new("pwd");
        assert_eq!(block_on(command.current_dir("/").inherit_fds(true).read())?, "/");
        Ok(())
    }),
    ("a group with time", || {
        let mut command = Command::new("cat");
        command.new_group().timeout(Duration::from_secs(60)).stdin(Stdio::bytes("x"));
        assert_eq!(block_on(command.read())?, "x");
        Ok(())
    }),
    ("a terminal", || {
        let mut command = Command::new("echo");
        let output = block_on(command.arg("x").pty(PtySize::default()).output())?.check()?;
        assert_eq!(output.stdout, b"x\r\n");
        Ok(())
    }),
    ("another mask of modes", || {
        let said = block_on(Command::new("cat").umask(0o27).stdin(Stdio::bytes("x")).read())?;
        assert_eq!(said, "x");
        Ok(())
    }),
    ("talk", || {
        let mut process = Command::new("cat").spawn()?;
        let mut writer = process.writer(0).expect("a pipe");
        block_on(futures::AsyncWriteExt::write_all(&mut writer, b"x")).expect("it reads");
        let mut said = Vec::new();
        while let Some(event) = block_on(process.next()) {
            if let Event::Data { data, .. } = event {
                said.extend(data);
                block_on(futures::AsyncWriteExt::close(&mut writer)).expect("it is open");
            }
        }
        assert_eq!(said, b"x");
        Ok(())
    }),
    ("one that is dropped", || sh("exec sleep 1000").stdin(Stdio::bytes(vec![0; 1 << 20])).spawn().map(drop)),
];

/// Makes each of these calls once, so that everything that the first call sets up is there.
fn all_calls() {
    for (kind, call) in CALLS {
        call().unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

/// A limit of this process, until this is dropped.
struct Lowered(Resource, Rlimit);

impl Lowered {
    fn new(resource: Resource, current: u64) -> Self {
        let before = getrlimit(resource);
        let lowered = Rlimit { current: Some(current), ..before };
        setrlimit(resource, lowered).unwrap_or_else(|errno| panic!("{current} of {resource:?}: {errno}"));
        Lowered(resource, before)
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        setrlimit(self.0, self.1).expect("raised");
    }
}

/// Becomes a user that no other process has, with the limits of an ordinary one. Otherwise a count for a user
/// would include all other tests.
fn private_user() {
    root_needed();
    let user = 200_000_000 + std::process::id();
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setgid(user), 0);
        assert_eq!(libc::setuid(user), 0);
        // A process that changes its user can no longer read its own files in /proc.
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
    }
}

/// The reason that a child was not started.
fn reason(error: &Error) -> SpawnReason {
    match error {
        Error::Spawn { reason, .. } => *reason,
        _ => panic!("not a refusal to start: {error:?}"),
    }
}

/// The system's error number.
fn errno(error: &Error) -> Option<i32> {
    match error {
        Error::Spawn { source, .. } | Error::Io { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// The harness notices what is left behind.
#[test]
fn the_harness_sees_what_is_left() {
    fault("the_harness_sees_what_is_left", || {
        again_and_again(20, || {});
        let before = Traces::now();
        assert_eq!(before.changes(0), [""; 0]);
        let leaked = std::fs::File::open("/dev/null").expect("opens");
        assert!(before.sees("descriptors", 1 << 20));
        drop(leaked);
        let stop = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| stop.wait());
            assert!(before.sees("threads", 1 << 20));
            stop.wait();
        });
        let leaked = std::hint::black_box(vec![0u8; 4096]);
        assert!(before.sees("memory", 1 << 10));
        drop(leaked);
        let child = std::process::Command::new("true").spawn().expect("starts");
        assert!(has_children());
        drop(child.wait_with_output());
        assert!(!has_children());
        before.are_all(0);
    });
}

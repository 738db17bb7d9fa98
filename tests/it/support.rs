//! What the tests share: every executor, the helper program, looks at this process.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::io::AsyncRead;
use reaped::Command;

/// Runs the test under each executor that the crate promises to work with.
pub fn everywhere<F: Future<Output = ()> + Send + 'static>(test: impl Fn() -> F) {
    futures::executor::block_on(test());
    smol::block_on(smol::spawn(test()));
    async_std::task::block_on(async_std::task::spawn(test()));
    let current = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    current.block_on(test());
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    multi.block_on(async { tokio::spawn(test()).await.expect("the test passes") });
}

/// The scripted program, see `helper.rs`.
pub fn helper(steps: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.arg("--helper").args(steps);
    command
}

#[cfg(unix)]
pub fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// A reader that has nothing to say, and never will.
pub struct Never;

impl AsyncRead for Never {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

/// Runs the body in a process of its own, for tests that change or count what a process has only one
/// of. `name` is the test's full path.
pub fn alone(name: &str, body: impl FnOnce()) {
    const VARIABLE: &str = "REAPED_TEST_ALONE";
    if std::env::var_os(VARIABLE).is_some() {
        return body();
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, "1")
        .output()
        .expect("the test starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name} alone: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Says that a test was skipped, past what the harness holds back: who runs the tests is to see it.
#[cfg(unix)]
pub fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let told =
        io::Write::write_all(&mut io::stderr(), format!("test {name} ... skipped: {why}\n").as_bytes());
    told.expect("stderr is open");
}

/// Waits until it is so. The limit is only there so that a failure ends.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A pipe, reading end first, that no child inherits.
#[cfg(unix)]
pub fn pipe() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    #[cfg(not(target_vendor = "apple"))]
    return rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    #[cfg(target_vendor = "apple")]
    {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        for end in [&reader, &writer] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).expect("open");
        }
        (reader, writer)
    }
}

/// Our children that exist, zombies included: pid, state, and name.
#[cfg(target_os = "linux")]
pub fn children() -> Vec<(i32, char, String)> {
    let own = std::process::id() as i32;
    let pids = std::fs::read_dir("/proc").expect("procfs").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses, and may contain any character.
        let (head, tail) = stat.rsplit_once(')')?;
        let mut fields = tail.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent: i32 = fields.next()?.parse().ok()?;
        (parent == own).then(|| (pid, state, head.split_once('(').map_or("", |p| p.1).to_owned()))
    })
    .collect()
}

/// Waits until no child is left, not even a zombie.
#[cfg(target_os = "linux")]
pub fn no_children() {
    eventually("no child is left", || children().is_empty());
}

/// The names of this process's open descriptors that a call of ours may have made: pipes, pidfds.
#[cfg(target_os = "linux")]
pub fn descriptors() -> Vec<(i32, String)> {
    let mut open: Vec<(i32, String)> = super::helper::open_descriptors()
        .into_iter()
        .filter_map(|fd| {
            Some((fd, std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?.to_str()?.to_owned()))
        })
        .collect();
    open.sort();
    open
}

/// What the reactor, the reaper and the first look at a file keep open for good.
#[cfg(target_os = "linux")]
pub fn warm_up() {
    for _ in 0..2 {
        futures::executor::block_on(sh("cat; exit 0").stdin(reaped::Stdio::bytes("x")).output())
            .expect("sh runs");
        drop(sh("exec sleep 100").output());
    }
    no_children();
    // What waited for a dropped one is closed in another thread, a moment after it was reaped.
    let pidfds = || descriptors().iter().filter(|(_, what)| what.contains("pidfd")).count();
    eventually("nothing waits any more", || pidfds() == 0);
}

/// The most memory of this process since `reset_peak`, in bytes.
#[cfg(target_os = "linux")]
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    1024 * line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
}

/// Starts anew, from what is in use.
#[cfg(target_os = "linux")]
pub fn reset_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("procfs");
    peak()
}

//! What the tests share: every executor, the helper program, and questions about this process.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::io::AsyncRead;
#[cfg(unix)]
use futures::io::AsyncWrite;
use reaped::Command;
#[cfg(target_os = "linux")]
use reaped::{Error, Output};

use super::harness::skip;

/// A reader or a writer that fails with the error that the call makes.
#[cfg(unix)]
pub struct Fails<F>(pub F);

#[cfg(unix)]
impl<F: Fn() -> io::Error> AsyncRead for Fails<F> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.0()))
    }
}

#[cfg(unix)]
impl<F: Fn() -> io::Error> AsyncWrite for Fails<F> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.0()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

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

/// A reader that never has anything.
pub struct Never;

impl AsyncRead for Never {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

/// Runs the body in a process of its own: for tests that change or count something that a process has only
/// once. `name` is the test's full path.
pub fn alone(name: &str, body: impl FnOnce()) {
    alone_as(name, |_| (), body);
}

/// The same, with a hidden console of its own, or with none.
#[cfg(windows)]
pub fn alone_at_console(name: &str, has_one: bool, body: impl FnOnce()) {
    use std::os::windows::process::CommandExt;
    use windows_sys::Win32::System::Threading::{CREATE_NO_WINDOW, DETACHED_PROCESS};
    let flags = if has_one { CREATE_NO_WINDOW } else { DETACHED_PROCESS };
    alone_as(
        name,
        |command| {
            command.creation_flags(flags);
        },
        || {
            assert_eq!(super::helper::at_console() > 0, has_one);
            body();
        },
    );
}

fn alone_as(name: &str, set: impl FnOnce(&mut std::process::Command), body: impl FnOnce()) {
    const VARIABLE: &str = "REAPED_TEST_ALONE";
    if std::env::var_os(VARIABLE).is_some() {
        return body();
    }
    let mut again = std::process::Command::new(std::env::current_exe().expect("this binary"));
    again.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(VARIABLE, "1");
    set(&mut again);
    check_again(name, &again.output().expect("the test starts"));
}

/// Runs the test once more, by a program that starts another one, and with this variable. Skips the test if
/// that program is missing or not permitted.
#[cfg(target_os = "linux")]
pub fn again_through(program: &[&str], name: &str, variable: &str) {
    let [program, options @ ..] = program else { panic!("no program") };
    let mut again = std::process::Command::new(program);
    again.args(options).arg(std::env::current_exe().expect("this binary")).env(variable, "1");
    match again.args([name, "--exact", "--nocapture", "--test-threads=1"]).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => skip(format!("{program} is missing")),
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("failed: Operation not permitted") => {
            skip(format!("{program} is not permitted"))
        }
        output => check_again(name, &output.expect("it starts")),
    }
}

/// Judges how the test ended in a process of its own.
fn check_again(name: &str, output: &std::process::Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && said.contains(" 0 passed; 0 failed; 1 ignored;") {
        let why = said.lines().find_map(|line| line.split_once("ignored (")).expect("a reason").1;
        skip(why.trim_end_matches(')'));
    }
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name} again: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Skips the test if it does not run as root.
#[cfg(unix)]
pub fn root_needed() {
    if !rustix::process::geteuid().is_root() {
        skip("only root can do this");
    }
}

/// Runs the test once more, as a user who is not root, and with this variable. Only root can do this.
#[cfg(unix)]
pub fn again_as_ordinary_user(name: &str, variable: &str, value: impl AsRef<std::ffi::OsStr>) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("for all");
    let copy = dir.path().join("it");
    std::fs::copy(std::env::current_exe().expect("this binary"), &copy).expect("a copy that others may run");
    let mut again = Command::new(&copy);
    again.args([name, "--exact", "--nocapture"]).env(variable, value);
    let output = again.uid(65534).gid(65534).current_dir("/").output();
    let output = futures::executor::block_on(output).expect("runs");
    let (status, stdout, stderr) = (output.status, output.stdout.clone(), output.stderr.clone());
    check_again(name, &std::process::Output { status, stdout, stderr });
}

/// A bound that a child exceeds. If the machine is not busy, the child has done its first steps before.
#[cfg(target_os = "linux")]
pub const SOON: Duration = Duration::from_millis(150);

/// The error of a call that timed out after the child had done its first steps. On a busy machine it may not
/// have done them: then the call is made again, with more time.
#[cfg(target_os = "linux")]
pub async fn late<F>(so_far: impl Fn(&Output) -> bool, call: impl Fn(Duration) -> F) -> Error
where
    F: Future<Output = Result<Output, Error>>,
{
    let mut time = SOON;
    loop {
        let error = call(time).await.expect_err("it is late");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        // If the time is long enough, the test itself reports what is missing.
        if so_far(error.output().expect("it ran")) || time > Duration::from_secs(20) {
            return error;
        }
        time *= 4;
    }
}

/// Tries something that depends on speed: first with the usual times, then, on a busy machine, with all times
/// longer by this factor.
#[cfg(target_os = "linux")]
pub async fn patiently<T, E: std::fmt::Debug, F>(attempt: impl Fn(u32) -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
    for longer in [1, 4] {
        if let Ok(value) = attempt(longer).await {
            return value;
        }
    }
    attempt(16).await.expect("there was time enough")
}

/// Awaits a future that must become ready. The limit only makes a hang fail.
#[cfg(target_os = "linux")]
pub async fn at_last<T>(comes: impl Future<Output = T>) -> T {
    within(EVER, comes).await.expect("it never came")
}

/// Nothing takes this long on any machine. It only makes a hang fail.
#[cfg(target_os = "linux")]
pub const EVER: Duration = Duration::from_secs(30);

/// The future's result, if it comes in time.
#[cfg(target_os = "linux")]
pub async fn within<T>(most: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (future, timer) = (std::pin::pin!(future), smol::Timer::after(most));
    match futures::future::select(future, timer).await {
        futures::future::Either::Left((value, _)) => Some(value),
        futures::future::Either::Right(_) => None,
    }
}

#[cfg(target_os = "linux")]
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(EVER, future).await.unwrap_or_else(|| panic!("it hangs: {what}"))
}

/// The letter of a process's state, as proc(5) lists them; `None` if there is no such process.
#[cfg(target_os = "linux")]
pub fn state_of(pid: impl std::fmt::Display) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have brackets of its own.
    stat.rsplit_once(") ").expect("a state").1.chars().next()
}

/// Waits until it is true. The limit only makes a hang fail.
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

/// The children of this process, zombies included: pid, state, and name.
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

/// The names of this process's open descriptors that a call of this crate may have made: pipes, pidfds.
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

/// Opens the descriptors that the reactor, the reaper and the first look at a file keep for good.
#[cfg(target_os = "linux")]
pub fn warm_up() {
    for _ in 0..2 {
        futures::executor::block_on(sh("cat; exit 0").stdin(reaped::Stdio::bytes("x")).output())
            .expect("sh runs");
        drop(sh("exec sleep 100").output());
    }
    no_children();
    nothing_waits();
}

/// Another thread closes the descriptors of a dropped child, a moment after it was reaped.
#[cfg(target_os = "linux")]
pub fn nothing_waits() {
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

/// Resets the peak to the memory in use now.
#[cfg(target_os = "linux")]
pub fn reset_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("procfs");
    peak()
}

/// Whether this engine and this kernel know the status of a child that another thread has reaped: Linux 6.15.
/// The test asks each time, about a process that was reaped just now.
#[cfg(target_os = "linux")]
pub fn statuses_survive() -> bool {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    if cfg!(reaped_portable) {
        return false;
    }
    let mut info = [0_u64; 8];
    let told = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::pause();
        }
        let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(pidfd >= 0, "{}", std::io::Error::last_os_error());
        let pidfd = OwnedFd::from_raw_fd(pidfd as i32);
        libc::kill(pid, libc::SIGKILL);
        // Reaped here or by another thread: afterwards it is gone.
        while libc::waitpid(pid, std::ptr::null_mut(), 0) < 0 && *libc::__errno_location() == libc::EINTR {}
        info[0] = 1 << 3;
        libc::ioctl(pidfd.as_raw_fd(), 0xc040_ff0b_u32 as _, &mut info)
    };
    told == 0 && info[0] & 1 << 3 != 0
}

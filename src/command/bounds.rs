//! The part of the builder that bounds a run: how long it takes, how much it writes, and which processes a signal
//! reaches.

use std::sync::Arc;
use std::time::Duration;

use super::Command;
use crate::signal::Signal;
use crate::transport::Bounds;

/// Bounds. You can combine them; the first one that is reached decides.
///
/// | reached | what happens |
/// | --- | --- |
/// | [`timeout`](Self::timeout), [`idle_timeout`](Self::idle_timeout) | [`stop_signal`](Self::stop_signal) (SIGTERM by default), SIGKILL after the [`grace`](Self::grace), then [`Error::TimedOut`](crate::Error::TimedOut) |
/// | [`limit`](Self::limit) | SIGKILL, then [`Error::OutputLimit`](crate::Error::OutputLimit) |
/// | [`drain_timeout`](Self::drain_timeout) | the call ends without an error; see [`Output::still_open`](crate::Output::still_open) |
/// | `Control::terminate`, `Control::kill` | the same signals; the result is the child's own status |
/// | a drop | SIGKILL, or as [`terminate_on_drop`](Self::terminate_on_drop) or [`kill_on_drop`](Self::kill_on_drop) says; there is no result |
///
/// Except after a drop, all output up to then is kept, and the call does not wait for grandchildren that hold a pipe.
///
/// If two of them meet:
///
/// | the one | the other | result |
/// | --- | --- | --- |
/// | timeout | limit | the first one reached |
/// | timeout or limit | drain timeout | before the child's exit, only the timeout or limit counts; after it, the first one reached (the drain timeout is no error) |
/// | timeout | `terminate`, `kill` | the child's own status, unless it outlives the timeout |
/// | limit | `terminate`, `kill` | the first one reached |
/// | drain timeout | `terminate`, `kill` | the call ends at once, without draining |
/// | timeout or limit | input that is still written | `TimedOut` or `OutputLimit`; writing stops |
/// | drain timeout | input that nobody reads any more | writing stops |
/// | `terminate`, `kill` | input that is still written | writing stops |
/// | timeout | a grandchild that holds a pipe | `TimedOut`, with the child's own status |
/// | limit | a grandchild that holds a pipe | `OutputLimit` |
/// | drain timeout, `terminate`, `kill` | a grandchild that holds a pipe | the call ends, with `still_open` |
/// | nothing | a grandchild that holds a pipe | the call waits for it, and goes on writing input |
impl Command {
    /// The most time from the start to the end; without bound by default. The clock starts at the call.
    ///
    /// After that time the child gets its [`stop_signal`](Self::stop_signal) (SIGTERM by default), and SIGKILL after
    /// the [`grace`](Self::grace). With [`new_group`](Self::new_group) its descendants get both too. The timer's
    /// thread sends them in time even if nobody polls.
    ///
    /// If the child has already ended when you poll, you get its result. If the child has exited but a grandchild
    /// holds its pipes, you get `TimedOut`, and no signal is sent to the child.
    ///
    /// With [`spawn`](Self::spawn) the timeout comes as [`Event::TimedOut`](crate::Event::TimedOut).
    ///
    /// # Platform
    /// On Windows a child with a [`new_group`](Self::new_group) gets Ctrl-Break, if that is possible. Any other child
    /// is ended at once.
    ///
    /// # Errors
    /// [`Error::TimedOut`](crate::Error::TimedOut), with the output up to then. The child's reaction to the signal
    /// does not matter.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut slow = reaped::Command::new("sh");
    /// slow.args(["-c", "echo half; exec sleep 100"]).timeout(Duration::from_secs(1));
    /// let error = slow.read().await.unwrap_err();
    /// assert!(
    ///     error
    ///         .to_string()
    ///         .ends_with("timed out after 1s and was killed by SIGTERM (signal 15)")
    /// );
    /// assert_eq!(error.output().unwrap().stdout, b"half\n");
    /// # });
    /// ```
    pub fn timeout(&mut self, most: Duration) -> &mut Self {
        self.bounds_mut().timeout = Some(most);
        self
    }

    /// The most time without a byte on any pipe, in either direction; without bound by default. After that the same
    /// happens as after a [`timeout`](Self::timeout).
    ///
    /// Unread output does not count as silence. A descriptor that is [paused](crate::Process::pause), or whose
    /// [`tee`](crate::Stdio::tee) or [`Reader`](crate::Reader) is behind, does not count as activity. Bytes in a pipe
    /// that you gave to another child do not count either.
    ///
    /// # Errors
    /// [`Error::TimedOut`](crate::Error::TimedOut). If the child has no pipe to this program, as with `run` and
    /// `status` by default, the run returns [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut stuck = reaped::Command::new("sh");
    /// stuck
    ///     .args(["-c", "echo a; sleep 0.1; echo b; exec sleep 100"])
    ///     .idle_timeout(Duration::from_secs(1));
    /// let error = stuck.read().await.unwrap_err();
    /// assert_eq!(error.output().unwrap().stdout, b"a\nb\n");
    /// # });
    /// ```
    pub fn idle_timeout(&mut self, most: Duration) -> &mut Self {
        self.bounds_mut().idle = Some(most);
        self
    }

    /// The time between the polite signal ([`stop_signal`](Self::stop_signal)) and SIGKILL; two seconds by default.
    /// With zero there is no polite signal.
    ///
    /// It applies to [`timeout`](Self::timeout), [`idle_timeout`](Self::idle_timeout),
    /// [`Control::terminate`](crate::Control::terminate) and [`terminate_on_drop`](Self::terminate_on_drop).
    ///
    /// # Platform
    /// On Windows the polite signal is Ctrl-Break. It needs a [`new_group`](Self::new_group) and a common console. If
    /// one of them is missing, the child is ended at once, without a grace.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut deaf = reaped::Command::new("sh");
    /// deaf.args(["-c", "trap '' TERM; while :; do sleep 0.01; done"]);
    /// deaf.timeout(Duration::from_secs(1)).grace(Duration::from_millis(50));
    /// let error = deaf.run().await.unwrap_err();
    /// assert!(error.to_string().ends_with("was killed by SIGKILL (signal 9)"));
    /// # });
    /// ```
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.bounds_mut().grace = grace;
        self
    }

    /// The polite signal of [`timeout`](Self::timeout), [`idle_timeout`](Self::idle_timeout),
    /// [`terminate`](crate::Control::terminate) and [`terminate_on_drop`](Self::terminate_on_drop); SIGTERM by
    /// default.
    ///
    /// If the system does not have the signal, the child gets SIGKILL at once.
    ///
    /// # Platform
    /// On Windows INT and TERM are the same: Ctrl-Break for a [`new_group`](Self::new_group). See
    /// [`Signal`](crate::Signal).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use reaped::{Command, Signal};
    /// let mut slow = Command::new("sleep");
    /// slow.arg("100").stop_signal(Signal::INT).timeout(Duration::from_millis(50));
    /// let error = slow.run().await.unwrap_err();
    /// assert!(error.to_string().ends_with("was killed by SIGINT (signal 2)"));
    /// # });
    /// ```
    pub fn stop_signal(&mut self, signal: Signal) -> &mut Self {
        self.bounds_mut().stop_signal = signal;
        self
    }

    /// How long to wait, after the child's exit, while grandchildren hold its pipes; without bound by default, as in
    /// std and Twisted.
    ///
    /// After that time the call takes what is in the pipes and ends without an error.
    /// [`Output::still_open`](crate::Output::still_open) names the descriptors. The grandchildren keep running.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut daemon = reaped::Command::new("sh");
    /// daemon.args(["-c", "sleep 5 & echo started"]).drain_timeout(Duration::from_millis(50));
    /// assert_eq!(daemon.read().await?, "started");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn drain_timeout(&mut self, most: Duration) -> &mut Self {
        self.bounds_mut().drain = Some(most);
        self
    }

    /// The most bytes that the child may write to each descriptor that this program reads; without bound by default.
    /// It also counts bytes that are not kept ([`tee`](crate::Stdio::tee), [`writer`](crate::Stdio::writer)).
    ///
    /// One byte more kills the child; exactly `bytes` is no error. A copy may get up to one read more than the limit.
    /// Bytes that a [`Reader`](crate::Reader) returns do not count.
    ///
    /// With [`spawn`](Self::spawn) it comes as [`Event::LimitReached`](crate::Event::LimitReached).
    ///
    /// # Errors
    /// [`Error::OutputLimit`](crate::Error::OutputLimit), with the first `bytes`. The bytes after the limit are lost.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// let error = reaped::Command::new("yes").limit(5).read().await.unwrap_err();
    /// assert_eq!(error.output().unwrap().stdout, b"y\ny\ny");
    /// # });
    /// ```
    pub fn limit(&mut self, bytes: u64) -> &mut Self {
        self.bounds_mut().limits.push((None, bytes));
        self
    }

    /// [`limit`](Self::limit) for one descriptor, instead of the one for all.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// let mut noisy = reaped::Command::new("sh");
    /// noisy.args(["-c", "echo fine; yes >&2"]).limit_fd(2, 1000);
    /// let error = noisy.output().await.unwrap_err();
    /// assert_eq!(error.output().unwrap().stderr.len(), 1000);
    /// # });
    /// ```
    pub fn limit_fd(&mut self, fd: i32, bytes: u64) -> &mut Self {
        self.bounds_mut().limits.push((Some(fd), bytes));
        self
    }

    /// Keeps the first and the last bytes of each captured descriptor, and drops the middle. It never stops the
    /// child. Use it for output that a person or a model reads.
    ///
    /// [`Output::omitted`](crate::Output::omitted) counts the dropped bytes. [`read`](Self::read),
    /// [`stdout_lossy`](crate::Output::stdout_lossy) and [`stderr_lossy`](crate::Output::stderr_lossy) mark the place
    /// with a line `[… 4096 bytes left out …]`, and never cut a character in two. [`read_bytes`](Self::read_bytes)
    /// and the fields of [`Output`](crate::Output) have both ends without a mark.
    ///
    /// An error quotes the last lines of stderr if `last` covers them; 1,200 bytes are always enough.
    ///
    /// Memory holds `first + last` bytes for each descriptor, plus one read. At the end the two parts are joined by a
    /// copy.
    ///
    /// It applies to what a promise collects, also for [`Process::output`](crate::Process::output).
    /// [`Process::wait`](crate::Process::wait) keeps every byte for later. Events, lines, a [`Reader`](crate::Reader)
    /// and a [`tee`](crate::Stdio::tee) get every byte, and a [`limit`](Self::limit) counts every byte.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut talkative = reaped::Command::new("seq");
    /// let shown = talkative.args(["1", "100000"]).capture_ends(8, 13).read().await?;
    /// assert_eq!(shown, "1\n2\n3\n4\n[… 588874 bytes left out …]\n99999\n100000");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn capture_ends(&mut self, first: usize, last: usize) -> &mut Self {
        self.bounds_mut().ends = Some((first, last));
        self
    }

    /// Whether dropping the promise or the [`Process`](crate::Process) kills the child; `true` by default.
    ///
    /// With `false` the child keeps running and is reaped when it ends, as with
    /// [`Promise::detach`](crate::Promise::detach). Its pipes close with the promise: it reads end of file, and a
    /// write to a captured descriptor raises SIGPIPE (on Windows the write fails).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let promise = Command::new("true").stdout(Stdio::null()).kill_on_drop(false).run();
    /// drop(promise); // `true` ends by itself
    /// # });
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// Whether dropping the promise or the [`Process`](crate::Process) asks the child to end before killing it;
    /// `false` by default. Nobody need poll.
    ///
    /// The child gets its [`stop_signal`](Self::stop_signal) at once, and SIGKILL after the [`grace`](Self::grace).
    /// With [`new_group`](Self::new_group) the whole group gets both.
    ///
    /// The pipes close with the promise. So the child reads end of file, and a write to a captured descriptor raises
    /// SIGPIPE. A terminal stays open.
    ///
    /// This setting overrides [`kill_on_drop`](Self::kill_on_drop). [`detach`](crate::Promise::detach) still lets the
    /// child keep running.
    ///
    /// If an executor drops the task, that is a drop like any other. If this program ends within the grace, no
    /// SIGKILL is sent, and a child that ignores the signal keeps running.
    #[cfg_attr(unix, doc = "[`die_with_parent`](Self::die_with_parent) kills it then.")]
    ///
    /// # Platform
    /// On Windows a child with a [`new_group`](Self::new_group) gets Ctrl-Break, if that is possible. Any other child
    /// is ended at once.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut server = Command::new("sh");
    /// server
    ///     .args(["-c", "trap 'rm -f lock; exit' TERM; while :; do sleep 0.1; done"])
    ///     .stdout(Stdio::null());
    /// drop(server.terminate_on_drop(true).run()); // and the lock is removed
    /// # });
    /// ```
    pub fn terminate_on_drop(&mut self, terminate: bool) -> &mut Self {
        self.terminate_on_drop = terminate;
        self
    }

    /// Gives the child a process group of its own. Every signal that this crate sends then goes to the whole group:
    /// by a bound, by a drop, and by [`Control`](crate::Control).
    ///
    /// When this crate ends the child, everything left in its group is ended too, after the grace if there is one. So
    /// a shell script does not leave its programs behind. A descendant that has left the group (setsid(2)) keeps
    /// running. After the promise or process has ended by itself, no signal is sent any more.
    ///
    /// Ctrl-C at the terminal does not reach the group. Handle it in your program and call `control().terminate()`;
    /// the [cookbook](crate::guide::cookbook) has a recipe.
    ///
    /// At a terminal the group is in the background, tcsetpgrp(3). If a member reads from that terminal, or changes
    /// its settings, the system stops it (SIGTTIN, SIGTTOU), and the call waits until its timeout. The same happens
    /// to a write if the terminal is set to `tostop`. So do not use a group for a child that needs the parent's
    /// terminal. Give a child that needs none [`Stdio::null`](crate::Stdio::null) as stdin, and a child that needs
    /// any a `pty`.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut script = reaped::Command::new("sh");
    /// script
    ///     .args(["-c", "sleep 100 | sleep 100"])
    ///     .new_group()
    ///     .timeout(Duration::from_millis(50));
    /// assert!(script.run().await.is_err()); // and no `sleep` is left
    /// # });
    /// ```
    ///
    /// # Platform
    /// On Windows the group is a job object that the child enters before it runs. No process can leave it, and ending
    /// the child ends all of it. It is also a group of console processes (`CREATE_NEW_PROCESS_GROUP`): Ctrl-C at the
    /// console does not reach it, but Ctrl-Break does.
    ///
    /// The polite signal is Ctrl-Break (`CTRL_BREAK_EVENT`) to the group. A program handles it by
    /// SetConsoleCtrlHandler, or by `SIGBREAK` of the C runtime. Otherwise it ends the program, with the code
    /// 0xC000013A. `cmd` may ask whether to end a batch file, and then waits until the grace is over. After the
    /// [`grace`](Self::grace) the job is ended.
    ///
    /// Ctrl-Break cannot reach the child if this program has no console, or if the child has another one
    /// (`no_window`), has none, or has not run yet. Then the whole job is ended at once, with exit code 1.
    ///
    /// Wine has no Ctrl-Break, so the tests send Ctrl-C instead. It was never tried on Windows itself.
    #[doc(alias = "process_group")]
    #[doc(alias = "setpgid")]
    pub fn new_group(&mut self) -> &mut Self {
        self.new_group = true;
        self
    }

    /// The exit codes, besides 0, that count as success for [`run`](Self::run), [`read`](Self::read),
    /// [`read_bytes`](Self::read_bytes) and [`Output::check`](crate::Output::check). In a pipeline they count for
    /// this member.
    ///
    /// For example, grep exits with 1 if it found nothing, and diff if the files differ. A later call replaces the
    /// codes.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut grep = Command::new("grep");
    /// grep.arg("needle").stdin(Stdio::bytes("hay\n")).ok_codes([1]);
    /// assert_eq!(grep.read().await?, "");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn ok_codes(&mut self, codes: impl IntoIterator<Item = i32>) -> &mut Self {
        self.ok_codes = Some(Arc::new(codes.into_iter().collect()));
        self
    }

    /// Whether the call fails with [`Error::UnexpectedStderr`](crate::Error::UnexpectedStderr) if the child writes to
    /// stderr; `false` by default. Twisted's `getProcessOutput` does this.
    ///
    /// The program runs to its end first, so the error has all of stderr. The exit status does not matter then. A
    /// verb that does not capture stderr by default captures it now.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Error};
    /// let result =
    ///     Command::new("sh").args(["-c", "echo hm >&2"]).fail_on_stderr(true).read().await;
    /// assert!(matches!(result, Err(Error::UnexpectedStderr(_))));
    /// # });
    /// ```
    ///
    /// # Errors
    /// If you set stderr to something that is not captured, the run returns
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
    pub fn fail_on_stderr(&mut self, fail: bool) -> &mut Self {
        self.fail_on_stderr = fail;
        self
    }

    /// This command's own copy; runs that have started keep theirs.
    pub(super) fn bounds_mut(&mut self) -> &mut Bounds {
        Arc::make_mut(&mut self.bounds)
    }
}

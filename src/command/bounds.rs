//! The part of the builder that bounds a run: how long, how much, and whom a signal reaches.

use std::sync::Arc;
use std::time::Duration;

use super::Command;
use crate::transport::Bounds;

/// Bounds. They can be combined in any way; the first one that is met decides.
///
/// | meets | what happens |
/// | --- | --- |
/// | [`timeout`](Self::timeout), [`idle_timeout`](Self::idle_timeout) | the [`stop_signal`](Self::stop_signal) (SIGTERM unless set), SIGKILL after the [`grace`](Self::grace), then [`Error::TimedOut`](crate::Error::TimedOut) |
/// | [`limit`](Self::limit) | SIGKILL, then [`Error::OutputLimit`](crate::Error::OutputLimit) |
/// | [`drain_timeout`](Self::drain_timeout) | the end, and no error: [`Output::still_open`](crate::Output::still_open) |
/// | `Control::terminate`, `Control::kill` | the same signals; how the child ended is told as it is |
/// | dropping | SIGKILL, or what [`terminate_on_drop`](Self::terminate_on_drop) and [`kill_on_drop`](Self::kill_on_drop) say; nobody is told |
///
/// In every case but the last what the child had written by then is kept, and nothing waits for a descendant that holds
/// a pipe. If two of them meet:
///
/// | | and a limit | and a drain timeout | and `terminate` or `kill` | and input that is still fed | and a descendant that holds a pipe |
/// | --- | --- | --- | --- | --- | --- |
/// | a timeout | the first one met is told | a child that has exited ends by the first one of them, by the drain timeout without an error; one that runs, by the timeout | the child ends by the signal, without an error, unless it outlives the timeout | `TimedOut`; the feed stops | `TimedOut`, with the child's own status |
/// | a limit | | as with a timeout | as the signal or the limit comes first | `OutputLimit`; the feed stops | `OutputLimit` |
/// | a drain timeout | | | the signal needs no drain: the end is at once | a feed that nobody takes any more ends too | the end, and `still_open` |
/// | `terminate` or `kill` | | | | the feed stops | the end at once, and `still_open` |
/// | neither | | | | | the end waits for the descendant, and a feed with it |
///
/// Dropping beats all of them: the pipes are closed, and nobody is told. The child is killed; with
/// [`terminate_on_drop(true)`](Self::terminate_on_drop) it is asked to end first, and with
/// [`kill_on_drop(false)`](Self::kill_on_drop) it runs on.
impl Command {
    /// The most time from the start to the end; without bound by default.
    ///
    /// Then the child is asked to end, by its [`stop_signal`](Self::stop_signal) (SIGTERM unless set), and killed after the
    /// [`grace`](Self::grace). With [`new_group`](Self::new_group) its descendants are, too. The signals are sent in time
    /// whether or not anybody polls, by the thread that runs the timers; the next poll tells of it. A child that has exited
    /// by then gets no signal, and if its pipes are closed too, its end is told. With [`spawn`](Self::spawn) the timeout
    /// comes as [`Event::TimedOut`](crate::Event::TimedOut).
    ///
    /// With other bounds: a limit that is met first is told instead. A child that has exited, and whose pipes
    /// descendants hold until then, is `TimedOut` too, without a signal to it.
    ///
    /// # Platform
    /// On Windows a child with a [`new_group`](Self::new_group) is asked by Ctrl-Break, if that is possible; any other
    /// is ended at once.
    ///
    /// # Errors
    /// The call is [`Error::TimedOut`](crate::Error::TimedOut), with all that was collected, however the child took
    /// the signal.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut slow = reaped::Command::new("sh");
    /// slow.args(["-c", "echo half; exec sleep 100"]).timeout(Duration::from_secs(1));
    /// let error = slow.read().await.unwrap_err();
    /// assert!(error.to_string().ends_with("timed out after 1s and was killed by SIGTERM (signal 15)"));
    /// assert_eq!(error.output().unwrap().stdout, b"half\n");
    /// # });
    /// ```
    pub fn timeout(&mut self, most: Duration) -> &mut Self {
        self.bounds_mut().timeout = Some(most);
        self
    }

    /// The most time without a byte on any descriptor that is a pipe, in either direction; without bound by default.
    ///
    /// What follows is as with [`timeout`](Self::timeout). What the child has written and nobody has read yet is no
    /// silence; a [paused](crate::Process::pause) descriptor says nothing, and no more does one whose
    /// [`tee`](crate::Stdio::tee) or whose taken [`Reader`](crate::Reader) has a backlog. What goes through a pipe that was
    /// handed on to another child is not heard here.
    ///
    /// # Errors
    /// The call is [`Error::TimedOut`](crate::Error::TimedOut). If nothing is a pipe (with `run` and `status` all is
    /// inherited unless set), nothing could be heard: [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut stuck = reaped::Command::new("sh");
    /// stuck.args(["-c", "echo a; sleep 0.1; echo b; exec sleep 100"]).idle_timeout(Duration::from_secs(1));
    /// let error = stuck.read().await.unwrap_err();
    /// assert_eq!(error.output().unwrap().stdout, b"a\nb\n");
    /// # });
    /// ```
    pub fn idle_timeout(&mut self, most: Duration) -> &mut Self {
        self.bounds_mut().idle = Some(most);
        self
    }

    /// The time between the polite signal ([`stop_signal`](Self::stop_signal)) and SIGKILL, for
    /// [`timeout`](Self::timeout), [`idle_timeout`](Self::idle_timeout),
    /// [`Control::terminate`](crate::Control::terminate) and [`terminate_on_drop`](Self::terminate_on_drop); two seconds
    /// by default.
    ///
    /// A child that obeys ends at once. With zero there is no polite signal.
    ///
    /// # Platform
    /// On Windows the polite signal is Ctrl-Break, which takes a [`new_group`](Self::new_group) and a console in common.
    /// If one of them is missing, the child is ended at once, whatever the grace.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut deaf = reaped::Command::new("sh");
    /// deaf.args(["-c", "trap '' TERM; while :; do sleep 0.01; done"]);
    /// let error = deaf.timeout(Duration::from_secs(1)).grace(Duration::from_millis(50)).run().await.unwrap_err();
    /// assert!(error.to_string().ends_with("was killed by SIGKILL (signal 9)"));
    /// # });
    /// ```
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.bounds_mut().grace = grace;
        self
    }

    /// How long after the child's exit to wait for pipes that its descendants still hold; without bound by default, as
    /// std and Twisted do it.
    ///
    /// Then what is in the pipes is taken, and the call ends without an error:
    /// [`Output::still_open`](crate::Output::still_open) names the descriptors. The descendants live on.
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

    /// The most bytes that the child may write to each descriptor that this program reads, kept or not
    /// ([`tee`](crate::Stdio::tee), [`writer`](crate::Stdio::writer) too); without bound by default.
    ///
    /// One byte more kills the child. A limit that is met exactly is no error. A copy may get up to one read more than the
    /// limit. If a [`Reader`](crate::Reader) was taken out, the limit does not hold for what it reads. With
    /// [`spawn`](Self::spawn) it comes as [`Event::LimitReached`](crate::Event::LimitReached).
    ///
    /// # Errors
    /// The call is [`Error::OutputLimit`](crate::Error::OutputLimit), with the bytes up to the limit.
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

    /// [`limit`](Self::limit) for one descriptor, in place of the one for all.
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

    /// Keeps the first bytes and the last ones of each captured descriptor, and drops what comes between. It never stops
    /// the child. Use it if a person or a model reads the output. Sizes are in bytes.
    ///
    /// Memory holds `first + last` bytes for each descriptor, and what one read gives; when the call ends, the last bytes
    /// are copied behind the first ones. [`Output::omitted`](crate::Output::omitted) counts the bytes that were left out. [`read`](Self::read),
    /// [`stdout_lossy`](crate::Output::stdout_lossy) and [`stderr_lossy`](crate::Output::stderr_lossy) say so in a line of
    /// its own, `[… 4096 bytes left out …]`, and never cut a character in two. [`read_bytes`](Self::read_bytes) and the
    /// fields of [`Output`](crate::Output) have the first bytes and the last, next to each other. A message quotes
    /// the last lines of stderr, as far as the last bytes have them: 1,200 are enough for any message.
    ///
    /// It is about what a promise collects, that of [`Process::output`](crate::Process::output) too, and not
    /// [`Process::wait`](crate::Process::wait), which keeps all for whoever asks later. Events, lines and a
    /// taken [`Reader`](crate::Reader) tell every byte, and a [`tee`](crate::Stdio::tee) gets every byte. A
    /// [`limit`](Self::limit) counts them all.
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

    /// Gives the child a process group of its own, and sends to the whole group what would be sent to the child:
    /// by a bound, by dropping, and by [`Control`](crate::Control).
    ///
    /// So the children of a shell script end with it. If this crate ends the child, what is left of the group is killed,
    /// after the grace if there is one. A descendant that has left the group, for a session of its own (setsid(2)), lives
    /// on. Once the promise or the process has ended by itself, nothing is sent any more. Ctrl-C at the parent's terminal
    /// does not reach the group: a program that is used at one passes it on.
    ///
    /// At a terminal the group is in the background, tcsetpgrp(3). If a member reads from that terminal, or sets it up,
    /// or writes to it while it is set to `tostop`, the system stops the member by SIGTTIN or SIGTTOU, and nobody
    /// continues it: the call waits until its timeout. A child that is to use the parent's terminal has no group of
    /// its own; one that only wants a terminal gets one with `pty`, and one that wants none gets
    /// [`Stdio::null`](crate::Stdio::null) as its stdin.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut script = reaped::Command::new("sh");
    /// script.args(["-c", "sleep 100 | sleep 100"]).new_group().timeout(Duration::from_millis(50));
    /// assert!(script.run().await.is_err()); // and no `sleep` is left
    /// # });
    /// ```
    ///
    /// # Platform
    /// On Windows the group is a job object, which the child is put into before it runs; nobody can leave it, and what
    /// ends the child ends all of it. It is a group of console processes, too (`CREATE_NEW_PROCESS_GROUP`), so Ctrl-C at
    /// the console does not reach it; Ctrl-Break does.
    ///
    /// The polite signal is a Ctrl-Break (`CTRL_BREAK_EVENT`) to the group, if it is at the console of this program. A
    /// program takes it by SetConsoleCtrlHandler, or by `SIGBREAK` of the C runtime; one that does not is ended by it,
    /// with the code 0xC000013A. `cmd` may ask whether to end a batch file, and then waits for an answer until the grace
    /// is over.
    ///
    /// If Ctrl-Break cannot reach the child, the whole job is ended at once, with exit code 1. It cannot if this program
    /// has no console, or the child has another one (`no_window`), or none, or has not run yet. If Ctrl-Break was sent,
    /// the job is ended after the [`grace`](Self::grace).
    ///
    /// Wine has no Ctrl-Break, so the tests send Ctrl-C in its place. It was never tried on Windows itself.
    #[doc(alias = "process_group")]
    #[doc(alias = "setpgid")]
    pub fn new_group(&mut self) -> &mut Self {
        self.new_group = true;
        self
    }

    /// The exit codes beside 0 that count as success, for [`run`](Self::run), [`read`](Self::read),
    /// [`read_bytes`](Self::read_bytes), [`Output::check`](crate::Output::check), and for this member of a pipeline.
    ///
    /// grep exits with 1 if it found nothing, diff if the files differ; rsync with 24 if a file went away meanwhile. 0
    /// always counts as success. If it is called again, the new codes replace the old.
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

    /// Its own from here on; what has started keeps what it started with.
    pub(super) fn bounds_mut(&mut self) -> &mut Bounds {
        Arc::make_mut(&mut self.bounds)
    }
}

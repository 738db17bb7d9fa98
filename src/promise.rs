//! Noun: the future that owns a child and runs it to its end.

mod members;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::future::FusedFuture;

use crate::control::Control;
use crate::error::{Details, Error, TAIL, explain, push_tail, unshared};
use crate::output::{Exit, Output};
use crate::protocol::{Ending, Fault, Keep};
use crate::transport::{Bounds, Transport};

pub(crate) use members::Members;

/// A running child as a future. It resolves once the child has **ended**: the child was reaped and every pipe to it
/// is closed, so its output is complete.
///
/// Every verb except [`spawn`](crate::Command::spawn) returns one, and most callers only await it. You meet the type
/// if you store a run, signal it ([`control`](Self::control)), let it run on ([`detach`](Self::detach)), or are not
/// async ([`wait`](Self::wait)).
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::read;
/// let hi = read("echo", ["hi"]);
/// // The program runs already.
/// assert_eq!(hi.await?, "hi");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// The child and the clock of its [`timeout`](crate::Command::timeout) start at the call. If the child cannot start,
/// the promise resolves to an `Err`; the call itself never fails.
///
/// The thread that polls the promise reads the child's output and writes its input. If nobody polls, a child that
/// fills a pipe blocks. The timeout is kept even then.
///
/// A promise is `Send`, `Sync` and `Unpin`. Any executor can poll it, and it can move to another one between polls.
///
/// # Cancellation
/// Dropping the promise kills the child (SIGKILL) and reaps it in the background, so no zombie is left. `let _ = …`
/// drops it at once. With [`terminate_on_drop(true)`](crate::Command::terminate_on_drop) the child is asked to end
/// first. With [`kill_on_drop(false)`](crate::Command::kill_on_drop) it keeps running.
///
/// Grandchildren keep running unless you set [`new_group`](crate::Command::new_group).
///
/// If this program ends without running destructors (`exit`, an abort, any unhandled signal), nothing is dropped and
/// the child keeps running. `Command::die_with_parent` (Unix) ends it even then.
///
/// The promise waits while a grandchild keeps a pipe open. Limit that with
/// [`drain_timeout`](crate::Command::drain_timeout). After this crate has killed the child, the promise does not wait
/// for grandchildren.
///
/// A [`Pipeline`](crate::Pipeline)'s promise owns all members, and this section applies to each.
///
/// # Fork
/// Only the process that started the child can use the promise. In a forked copy of that process, fork(2), the copied
/// promise is harmless. Dropping, killing and detaching it do nothing, and no byte is read or written.
/// [`Control`](crate::Control) returns [`Error::AlreadyEnded`], and awaiting returns [`Error::StatusLost`].
///
/// The copy has duplicates of the pipes until it drops the handle, executes another program or exits. Until then a
/// child that reads to the end of file does not see it.
#[must_use = "dropping a promise kills its child; await it, or `detach` it"]
pub struct Promise<T> {
    state: State,
    conclude: fn(Output) -> Result<T, Error>,
}

enum State {
    Running(Box<Call>),
    Several(Box<Members>),
    Refused(Error),
    Resolved,
}

impl<T> Promise<T> {
    pub(crate) fn new(call: Call, conclude: fn(Output) -> Result<T, Error>) -> Self {
        Promise { state: State::Running(Box::new(call)), conclude }
    }

    pub(crate) fn several(members: Members, conclude: fn(Output) -> Result<T, Error>) -> Self {
        Promise { state: State::Several(Box::new(members)), conclude }
    }

    pub(crate) fn refused(error: Error) -> Self {
        // Never called: there is no output.
        Promise {
            state: State::Refused(error),
            conclude: |output| Err(Error::Failed(Details::ended(output))),
        }
    }

    /// The child's process id. It is `None` if the child did not start, and after it was reaped: the system may then
    /// give the number to another process. A pipeline returns the last member's, as a shell's `$!` does.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::run;
    /// let sleep = run("sleep", ["0"]);
    /// assert!(sleep.pid().is_some());
    /// # sleep.await.unwrap();
    /// let gone = run("no-such", ["0"]);
    /// assert!(gone.pid().is_none());
    /// # });
    /// ```
    pub fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Running(call) => call.transport.pid(),
            State::Several(members) => members.pid(),
            State::Refused(_) | State::Resolved => None,
        }
    }

    /// The process ids of all members of a pipeline, in order, each as [`pid`](Self::pid) returns it.
    ///
    /// A single program has one entry. A call that could not start or has resolved has one `None`.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let two = Command::new("sleep")
    ///     .arg("0.1")
    ///     .pipe(Command::new("cat"))
    ///     .run();
    /// assert_eq!(two.pids().len(), 2);
    /// # two.await.unwrap();
    /// # });
    /// ```
    pub fn pids(&self) -> Vec<Option<u32>> {
        match &self.state {
            State::Several(members) => members.pids(),
            _ => vec![self.pid()],
        }
    }

    /// Blocks this thread until the end, for code that is not async.
    ///
    /// To end the child from another thread, keep its [`control`](Self::control) or set a
    /// [`timeout`](crate::Command::timeout).
    ///
    /// Do not call it in an executor's thread: use `.await` there. `wait` stops the other tasks of that thread. If
    /// the promise needs one of them, such as the task behind a [`Stdio::reader`](crate::Stdio::reader) or
    /// [`Stdio::tee`](crate::Stdio::tee), it never returns.
    ///
    /// # Errors
    /// The same errors as awaiting the promise.
    ///
    /// ```
    /// use reaped::read;
    /// let hi = read("echo", ["hi"]);
    /// assert_eq!(hi.wait()?, "hi");
    /// # Ok::<(), reaped::Error>(())
    /// ```
    pub fn wait(self) -> Result<T, Error> {
        async_io::block_on(self)
    }

    /// Lets the child keep running by itself. It is reaped when it ends. Dropping does the same after
    /// [`kill_on_drop(false)`](crate::Command::kill_on_drop).
    ///
    /// The child's pipes close with the promise. The child then reads end of file, and gets SIGPIPE if it writes to a
    /// captured descriptor. A terminal (`Command::pty`, Unix) stays open while the child runs.
    ///
    /// # Errors
    /// If the child could not be started, `detach` returns that error.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// Command::new("true")
    ///     .stdout(Stdio::null())
    ///     .stderr(Stdio::null())
    ///     .run()
    ///     .detach()?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn detach(self) -> Result<(), Error> {
        match self.state {
            State::Running(call) => call.transport.keep_running_on_drop(),
            State::Several(members) => members.keep_running_on_drop(),
            State::Refused(error) => return Err(error),
            State::Resolved => {}
        }
        Ok(())
    }

    /// A handle that signals the child from any thread.
    ///
    /// If the child did not start, each signal returns [`Error::AlreadyEnded`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let sleep = Command::new("sleep")
    ///     .arg("1000")
    ///     .status();
    /// sleep.control().kill()?;
    /// let status = sleep.await?;
    /// assert!(!status.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn control(&self) -> Control {
        match &self.state {
            State::Running(call) => call.control(),
            State::Several(members) => members.control(),
            State::Refused(error) => Control::nobody(error.command()),
            State::Resolved => Control::nobody("a program"),
        }
    }
}

impl<T> Future for Promise<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Running(call) => ready!(call.transport.poll_end(cx)),
            State::Several(members) => ready!(members.poll_end(cx)),
            State::Refused(_) | State::Resolved => {}
        }
        Poll::Ready(match std::mem::replace(&mut self.state, State::Resolved) {
            State::Running(call) => call.conclude().and_then(self.conclude),
            State::Several(members) => members.conclude().and_then(self.conclude),
            State::Refused(error) => Err(error),
            State::Resolved => panic!("a promise was polled after it had resolved"),
        })
    }
}

/// True once the promise has resolved, as `futures::select!` needs it.
impl<T> FusedFuture for Promise<T> {
    fn is_terminated(&self) -> bool {
        matches!(self.state, State::Resolved)
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Promise");
        match &self.state {
            State::Running(call) => debug.field("command", &call.command).field("pid", &self.pid()),
            State::Several(members) => debug.field("command", &members.command()).field("pid", &self.pid()),
            State::Refused(error) => debug.field("error", error),
            State::Resolved => debug.field("resolved", &true),
        };
        debug.finish_non_exhaustive()
    }
}

/// One run of a command, and how its result is made.
pub(crate) struct Call {
    pub(crate) transport: Transport,
    pub(crate) command: Box<str>,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) fail_on_stderr: bool,
    /// stderr is connected to stdout.
    pub(crate) merged: bool,
    pub(crate) is_shell: bool,
    pub(crate) ok_codes: Option<Arc<Vec<i32>>>,
}

impl Call {
    pub(crate) fn control(&self) -> Control {
        Control::new(self.transport.remote(), &self.command, self.bounds.grace)
    }

    /// Collects every byte of the captured descriptors.
    pub(crate) fn collect(&mut self) {
        if let Some((first, last)) = self.bounds.ends {
            self.transport.keep(|_| Keep::Ends(first, last));
        }
    }

    /// Collects only what an error shows: bounded descriptors, and the end of stderr.
    pub(crate) fn collect_little(&mut self) {
        self.collect();
        let stderr_or_merged = if self.merged { 1 } else { 2 };
        self.transport.keep(|fd| match fd {
            _ if self.bounds.ends.is_some() || self.bounds.limit(fd).is_some() => Keep::All,
            _ if fd == stderr_or_merged => Keep::Ends(0, TAIL),
            _ => Keep::Nothing,
        });
    }

    /// How the child exited. Its output stays with the transport.
    pub(crate) fn exited(&self, (exit, fault): (Exit, Option<Fault>)) -> Result<ExitStatus, Error> {
        let output = collect(exit, Vec::new(), self.transport.elapsed(), self.command.to_string());
        Ok(judge(&self.bounds, exit, fault, output)?.status)
    }

    /// The part that all verbs share; the child has ended.
    fn conclude(self) -> Result<Output, Error> {
        let wrote_to_stderr = self.transport.spoke(2);
        let (ending, elapsed) = self.transport.into_ending();
        let Ending { exit, fault, collected, gaps, still_open } = ending;
        let mut output = collect(exit, collected, elapsed, self.command.into());
        (output.still_open, output.gaps) = (still_open, gaps);
        (output.merged, output.is_shell, output.ok_codes) = (self.merged, self.is_shell, self.ok_codes);
        let output = judge(&self.bounds, exit, fault, output)?;
        if self.fail_on_stderr && wrote_to_stderr {
            let mut text = format!("wrote to stderr and {}", explain(&output));
            push_tail(&mut text, output.stderr_or_merged());
            return Err(Error::UnexpectedStderr(Details::of(output, text)));
        }
        Ok(output)
    }
}

/// An error, if the run itself went wrong (a bound, a descriptor, a lost status). The exit status does not matter
/// here.
fn judge(bounds: &Bounds, exit: Exit, fault: Option<Fault>, output: Output) -> Result<Output, Error> {
    Err(match fault {
        None if exit == Exit::Lost => {
            let text = "ended, but somebody else took its exit status".to_owned();
            Error::StatusLost(Details::of(output, text))
        }
        None => return Ok(output),
        Some(Fault::Io { fd, error }) => {
            let text = format!("failed on descriptor {fd}: {error}");
            Error::Io { source: unshared(error), details: Details::of(output, text) }
        }
        Some(Fault::TimedOut) => {
            let most = bounds.timeout.unwrap_or_default();
            Error::TimedOut(Details::stopped(output, format!("timed out after {most:?}")))
        }
        Some(Fault::Idle) => {
            let most = bounds.silence().unwrap_or_default();
            Error::TimedOut(Details::stopped(output, format!("was silent for {most:?}")))
        }
        Some(Fault::Limit { fd }) => {
            let most = bounds.limit(fd).unwrap_or_default();
            let text = format!("wrote more than {most} bytes to descriptor {fd}");
            Error::OutputLimit(Details::stopped(output, text))
        }
    })
}

fn collect(exit: Exit, collected: Vec<(i32, Vec<u8>)>, elapsed: Duration, command: String) -> Output {
    let (status, usage) = (exit.status(), exit.usage());
    let (stdout, stderr) = (Vec::new(), Vec::new());
    let mut output = Output {
        status,
        stdout,
        stderr,
        extra: Vec::new(),
        captured: [false; 2],
        merged: false,
        is_shell: false,
        memory_short: matches!(exit, Exit::MemoryShort(..)),
        ok_codes: None,
        still_open: Vec::new(),
        gaps: Vec::new(),
        elapsed,
        usage,
        command,
        members: Vec::new(),
        decisive: 0,
    };
    for (fd, bytes) in collected {
        match fd {
            1 => (output.stdout, output.captured[0]) = (bytes, true),
            2 => (output.stderr, output.captured[1]) = (bytes, true),
            _ => output.extra.push((fd, bytes)),
        }
    }
    output
}

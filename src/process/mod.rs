//! Noun: the handle of a child to talk to: its events, its lines, its writers and readers.

mod ends;
mod lines;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};

use crate::control::Control;
use crate::error::Error;
#[cfg(unix)]
use crate::error::{Details, InvalidReason};
use crate::output::Output;
use crate::promise::{Call, Promise};
use crate::protocol::{Fault, Notice};
#[cfg(unix)]
use crate::stdio::PtySize;

pub use ends::{Reader, Writer};
pub use lines::{Line, Lines};

/// What happened to a child, as [`Process`] tells it.
///
/// | event | in Twisted |
/// | --- | --- |
/// | `Data` | `childDataReceived`, `outReceived`, `errReceived` |
/// | `Closed` | `childConnectionLost`, `inConnectionLost`, … |
/// | `Exited` | `processExited` |
/// | `Ended` | `processEnded` |
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::{Command, Event, Stdio};
/// let mut sh = Command::new("sh");
/// let mut process = sh.args(["-c", "echo hi"]).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
/// let mut told = Vec::new();
/// while let Some(event) = process.next().await {
///     told.push(match event {
///         Event::Data { fd, data } => format!("{fd}: {}", data.escape_ascii()),
///         Event::Closed { fd } => format!("{fd} closed"),
///         Event::Exited(status) => format!("exited: {}", status.success()),
///         Event::Ended(_) => "ended".to_owned(),
///         Event::TimedOut | Event::LimitReached { .. } | Event::Failed { .. } => continue,
///         other => format!("{other:?}"),
///     });
/// }
/// assert_eq!(told[0], r"1: hi\n");
/// assert_eq!(told.last().unwrap(), "ended");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The child wrote this.
    Data {
        /// The descriptor, by the child's number.
        fd: i32,
        /// At least one byte; how many at once says nothing of how the child wrote them.
        data: Vec<u8>,
    },
    /// A pipe is closed: the child, and whoever inherited it, closed its end, or we closed ours.
    Closed {
        /// The descriptor, by the child's number.
        fd: i32,
    },
    /// A [`Stdio::reader`](crate::Stdio::reader), a [`Stdio::tee`](crate::Stdio::tee) or a
    /// [`Stdio::writer`](crate::Stdio::writer) failed, and the child is killed for it.
    Failed {
        /// The descriptor, by the child's number.
        fd: i32,
        /// What the reader or the writer said.
        error: io::Error,
    },
    /// The child ran for longer than its [`timeout`](crate::Command::timeout), or was silent for longer than its
    /// [`idle_timeout`](crate::Command::idle_timeout), and is asked to end.
    TimedOut,
    /// The child wrote more than its [`limit`](crate::Command::limit), and is killed. Nothing above the limit is
    /// told.
    LimitReached {
        /// The descriptor, by the child's number.
        fd: i32,
    },
    /// The child was reaped. What it wrote itself was told before, unless it is held back, or waits for a slow
    /// [`tee`](crate::Stdio::tee); its descendants may still hold pipes, so more may follow.
    ///
    /// If somebody else reaped it ([`Error::StatusLost`](crate::Error::StatusLost)), the status is
    /// neither a code nor a signal, and not a success.
    Exited(ExitStatus),
    /// The child was reaped and every pipe is closed. Always the last event, and told once.
    Ended(ExitStatus),
}

/// A running child to talk to, as [`Command::spawn`](crate::Command::spawn) makes it: a [`Stream`] of
/// [`Event`]s.
///
/// Every byte comes before the [`Closed`](Event::Closed) of its descriptor and before
/// [`Ended`](Event::Ended), which is last. The events are read only while somebody awaits them, so a child that writes
/// more than a pipe holds waits.
///
/// A [`reader`](Self::reader) and a [`writer`](Self::writer) can be used in tasks and threads of their own. Whichever of
/// them or the process is awaited keeps all of the child going: what it is fed, what is copied, its exit and its bounds.
///
/// | to | call | in Twisted |
/// | --- | --- | --- |
/// | write | [`writer`](Self::writer) | `write`, `writeToChild`, `registerProducer` |
/// | read one descriptor by itself | [`reader`](Self::reader) | `childDataReceived` |
/// | read lines | [`lines`](Self::lines) | `LineReceiver` |
/// | hold a descriptor back | [`pause`](Self::pause), [`resume`](Self::resume) | `pauseProducing`, `resumeProducing` |
/// | close | [`close`](Self::close), [`close_all`](Self::close_all) | `closeChildFD`, `loseConnection` |
/// | signal | [`control`](Self::control) | `signalProcess` |
/// | await the exit, as often as asked | [`wait`](Self::wait), [`try_wait`](Self::try_wait) | `processExited` |
/// | await the end | [`status`](Self::status), [`output`](Self::output) | `processEnded` |
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::{Command, Event};
/// let mut process = Command::new("sh").args(["-c", "echo hi; exit 3"]).spawn()?;
/// let mut said = Vec::new();
/// while let Some(event) = process.next().await {
///     match event {
///         Event::Data { fd: 1, data } => said.extend(data),
///         Event::Ended(status) => assert_eq!(status.code(), Some(3)),
///         _ => {}
///     }
/// }
/// assert_eq!(said, b"hi\n");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// # Cancellation
/// Dropping the process kills and reaps the child, as with [`Promise`]; writers and readers that were
/// taken out stay open until they are dropped. With [`terminate_on_drop(true)`](crate::Command::terminate_on_drop) the
/// child is asked to end first. With [`kill_on_drop(false)`](crate::Command::kill_on_drop) it runs on.
///
/// Dropping the future of [`next`](Self::next) loses nothing.
#[must_use = "dropping a process kills its child; await its end, or `status().detach()` it"]
pub struct Process {
    call: Box<Call>,
}

impl Process {
    pub(crate) fn new(call: Call) -> Self {
        Process { call: Box::new(call) }
    }

    /// The next event; `None` after [`Event::Ended`]. The same as the [`Stream`]'s.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("true").spawn()?;
    /// while let Some(event) = process.next().await {
    ///     println!("{event:?}");
    /// }
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[expect(clippy::should_implement_trait, reason = "the name that every stream has for it")]
    pub fn next(&mut self) -> impl Future<Output = Option<Event>> + Send + '_ {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx))
    }

    /// The writing end of a pipe into the child: stdin, if it was not set, and every
    /// [`Stdio::input`](crate::Stdio::input).
    ///
    /// `None` if there is no such pipe, it was taken before, or it is closed. A writer that nobody takes stays open until
    /// it is [closed](Self::close), or [`status`](Self::status), [`output`](Self::output) or [`wait`](Self::wait) is
    /// called. One that was taken stays open until it is dropped, and a child that reads to the end of file waits for
    /// that.
    ///
    /// A child that answers while it reads has to be read meanwhile (`futures::join!`), or both wait once the pipes
    /// are full. [`Stdio::bytes`](crate::Stdio::bytes) and [`Stdio::reader`](crate::Stdio::reader) see to that.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::io::AsyncWriteExt;
    /// let mut process = reaped::Command::new("wc").arg("-l").spawn()?;
    /// let mut writer = process.writer(0).expect("a pipe, not taken yet");
    /// writer.write_all(b"one\ntwo\n").await?;
    /// drop(writer);
    /// assert_eq!(process.output().await?.stdout.trim_ascii(), b"2");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "writeToChild")]
    pub fn writer(&mut self, fd: i32) -> Option<Writer> {
        self.call.transport.writer(fd).map(|pipe| Writer { pipe })
    }

    /// The reading end of a pipe out of the child, which takes that descriptor out of the events: neither
    /// [`Event::Ended`] nor [`output`](Self::output) wait for it any more.
    ///
    /// What was read and not yet told comes first. Descriptors that nobody reads still hold the child back
    /// once their pipes are full: take, poll or [close](Self::close) them, or set them to something else
    /// ([`Stdio::inherit`](crate::Stdio::inherit)). `None` if there is no such pipe, it was taken before, you have
    /// closed it, or an event has told that it is closed. So it is there after [`wait`](Self::wait), too.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::io::AsyncReadExt;
    /// let mut process = reaped::Command::new("echo").arg("hi").spawn()?;
    /// let mut text = String::new();
    /// process.reader(1).expect("a pipe, not taken yet").read_to_string(&mut text).await?;
    /// assert_eq!(text, "hi\n");
    /// assert!(process.status().await?.success());
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn reader(&mut self, fd: i32) -> Option<Reader> {
        let (read, pipe) = self.call.transport.reader(fd)?;
        Some(Reader { read, given: 0, pipe })
    }

    /// The lines of all descriptors, each as a whole. A `\r` alone ends none.
    ///
    /// If a bound is met, the lines end as they always do: [`status`](Self::status) tells of it.
    ///
    /// What was read of a line that has no end yet stays in the process: dropping the `Lines` loses nothing,
    /// and the rest comes with the next `Lines`, or as [`Event::Data`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("sh").args(["-c", "echo one; printf two"]).spawn()?;
    /// let mut lines = process.lines();
    /// assert_eq!(lines.next().await.unwrap().text, "one");
    /// assert_eq!(lines.next().await.unwrap().text, "two");
    /// assert!(lines.next().await.is_none());
    /// assert!(process.status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "LineReceiver")]
    pub fn lines(&mut self) -> Lines<'_> {
        Lines { process: self, limit: Lines::LIMIT, over: false }
    }

    /// The next line of [`lines`](Self::lines), with the process free for other calls in between.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("cat").spawn()?;
    /// process.close(0);
    /// while let Some(line) = process.next_line().await {
    ///     println!("{} {}", process.pid().unwrap_or(0), line.text);
    /// }
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub async fn next_line(&mut self) -> Option<Line> {
        self.lines().next().await
    }

    /// Holds back what the child writes to a descriptor: it is not read, so the child waits once the pipe
    /// is full. Other descriptors go on. [`Event::Ended`] waits too.
    ///
    /// Returns whether there is such a pipe out of the child.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("echo").arg("hi").spawn()?;
    /// assert!(process.pause(1));
    /// assert!(process.resume(1));
    /// assert!(!process.pause(7));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "pauseProducing")]
    pub fn pause(&mut self, fd: i32) -> bool {
        self.call.transport.pause(fd, true)
    }

    /// Ends what [`pause`](Self::pause) began.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("true").spawn()?;
    /// process.pause(1);
    /// process.resume(1);
    /// assert!(process.status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "resumeProducing")]
    pub fn resume(&mut self, fd: i32) -> bool {
        self.call.transport.pause(fd, false)
    }

    /// Closes our end of a pipe, also if a [`Writer`] was taken: the child reads end of file, or gets
    /// SIGPIPE when it writes. What was not read yet is lost.
    ///
    /// Returns whether it was open. A [`Reader`] that was taken is closed by dropping it.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut cat = reaped::Command::new("cat").spawn()?;
    /// assert!(cat.close(0)); // the end of file, and so the end
    /// assert!(cat.status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "closeChildFD")]
    #[doc(alias = "closeStdin")]
    pub fn close(&mut self, fd: i32) -> bool {
        self.call.transport.close(fd)
    }

    /// Closes our end of every pipe; a terminal hangs up.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut cat = reaped::Command::new("cat").spawn()?;
    /// cat.close_all();
    /// assert!(cat.status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "loseConnection")]
    pub fn close_all(&mut self) {
        self.call.transport.close_all();
    }

    /// Sets the size of the terminal that [`pty`](crate::Command::pty) gave to the child, which gets
    /// SIGWINCH.
    ///
    /// # Errors
    /// [`Error::AlreadyEnded`] once the child was reaped or the terminal closed;
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict) if the child was given none.
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, PtySize};
    /// let mut process = Command::new("cat").pty(PtySize::default()).spawn()?;
    /// process.resize(PtySize { rows: 50, columns: 132 })?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[cfg(unix)]
    pub fn resize(&mut self, size: PtySize) -> Result<(), Error> {
        match self.call.transport.resize(size) {
            Ok(true) => Ok(()),
            Ok(false) if self.call.transport.had_terminal() => {
                let text = "has ended, and its terminal with it".to_owned();
                Err(Error::AlreadyEnded(Details::about(&self.call.command, text)))
            }
            Ok(false) => {
                let details = Details::about(&self.call.command, "was given no terminal (pty)".to_owned());
                Err(Error::Invalid { reason: InvalidReason::Conflict, details })
            }
            Err(error) => {
                let details =
                    Details::about(&self.call.command, format!("cannot resize its terminal: {error}"));
                Err(Error::Io { source: error, details })
            }
        }
    }

    /// The child's process id; `None` once it was reaped, since the system may then use the number again.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("true").spawn()?;
    /// assert!(process.pid().is_some());
    /// while process.next().await.is_some() {}
    /// assert!(process.pid().is_none());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "id")]
    pub fn pid(&self) -> Option<u32> {
        self.call.transport.pid()
    }

    /// A handle to signal the child with, from anywhere.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let process = reaped::Command::new("cat").spawn()?;
    /// process.control().kill()?;
    /// assert!(!process.status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "signalProcess")]
    pub fn control(&self) -> Control {
        self.call.control()
    }

    /// Awaits the exit, as std's `wait`: the child was reaped. `wait` does not wait for descendants that still hold its
    /// pipes. You may ask as often as you like; the answer stays the same.
    ///
    /// No byte is lost. What the child writes meanwhile is collected in memory, without bound, so the child does not wait
    /// for room in a pipe, unless the descriptor is [paused](Self::pause), its reader was taken, or a
    /// [`tee`](crate::Stdio::tee) is slow. If it may be much, set a [`limit`](crate::Command::limit). Events,
    /// [`lines`](Self::lines), a [`reader`](Self::reader) and [`output`](Self::output) tell of it later.
    ///
    /// A stdin that was not taken is closed first, as std's `wait` does it. A [`Writer`] that was taken stays open, and a
    /// child that reads to the end of file waits for it.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing. A stdin that it closed stays closed.
    ///
    /// # Errors
    /// What [`status`](Self::status) would say of anything that went wrong until the exit: [`Error::TimedOut`],
    /// [`Error::OutputLimit`], [`Error::Io`] and [`Error::StatusLost`]. The error comes once the child has exited, and
    /// carries its status; what the child wrote stays in the process. `status` and `output` alone tell what went wrong
    /// after the exit, and of a stderr that fails the call ([`fail_on_stderr`](crate::Command::fail_on_stderr)).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("sh").args(["-c", "echo hi; exit 3"]).spawn()?;
    /// assert_eq!(process.wait().await?.code(), Some(3));
    /// assert_eq!(process.wait().await?.code(), Some(3));
    /// assert_eq!(process.output().await?.stdout, b"hi\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.call.transport.close_untaken_inputs();
        let outcome = poll_fn(|cx| self.call.transport.poll_outcome(cx)).await;
        self.call.exited(outcome)
    }

    /// Looks whether the child has exited, and returns at once: `None` if it still runs. An exit that is there is seen,
    /// whether or not anybody has awaited the process.
    ///
    /// It reads nothing of a child that still runs, so a child that writes more than a pipe holds waits until somebody
    /// reads or [waits](Self::wait). It leaves stdin open, as std's `try_wait` does.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut cat = reaped::Command::new("cat").spawn()?;
    /// assert!(cat.try_wait()?.is_none());
    /// cat.wait().await?; // closes its stdin, so it ends
    /// assert!(cat.try_wait()?.expect("it has exited").success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.call.transport.look().map(|outcome| self.call.exited(outcome)).transpose()
    }

    /// Awaits the end; what the child writes is read and thrown away. `status().detach()` lets the child run on by itself.
    ///
    /// If you have only a `&mut Process`, use [`wait`](Self::wait) for the exit and [`next`](Self::next) for the end.
    ///
    /// What a [`limit`](crate::Command::limit) bounds, and the end of stderr, is kept for the error.
    ///
    /// A stdin that was not taken is closed first, as std's `wait` does it, and nothing is paused any more.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::StatusLost`](crate::Error::StatusLost), and, if asked for,
    /// [`Error::TimedOut`](crate::Error::TimedOut), [`Error::OutputLimit`](crate::Error::OutputLimit) and
    /// [`Error::UnexpectedStderr`](crate::Error::UnexpectedStderr).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let process = reaped::Command::new("sh").args(["-c", "exit 3"]).spawn()?;
    /// assert_eq!(process.status().await?.code(), Some(3));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "processEnded")]
    pub fn status(self) -> Promise<ExitStatus> {
        self.call.collect_little();
        self.promise(|output| Ok(output.status))
    }

    /// Awaits the end and collects what was not told as an event before, and was not taken by a
    /// [`reader`](Self::reader).
    ///
    /// A stdin that was not taken is closed first, as std's `wait_with_output` does it, and nothing is
    /// paused any more.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child.
    ///
    /// # Errors
    /// As of [`status`](Self::status).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let process = reaped::Command::new("echo").arg("hi").spawn()?;
    /// assert_eq!(process.output().await?.stdout, b"hi\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "wait_with_output")]
    #[doc(alias = "communicate")]
    pub fn output(self) -> Promise<Output> {
        self.call.collect();
        self.promise(Ok)
    }

    fn promise<T>(self, conclude: fn(Output) -> Result<T, Error>) -> Promise<T> {
        self.call.transport.talk_no_more();
        Promise::new(*self.call, conclude)
    }
}

impl Stream for Process {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let notice = ready!(self.call.transport.poll_notice(cx));
        Poll::Ready(notice.map(|notice| match notice {
            Notice::Data { fd, data } => Event::Data { fd, data },
            Notice::Closed { fd } => Event::Closed { fd },
            Notice::Fault(Fault::Io { fd, error }) => Event::Failed { fd, error },
            Notice::Fault(Fault::TimedOut | Fault::Idle) => Event::TimedOut,
            Notice::Fault(Fault::Limit { fd }) => Event::LimitReached { fd },
            Notice::Exited(exit) => Event::Exited(exit.status()),
            Notice::Ended(exit) => Event::Ended(exit.status()),
        }))
    }
}

impl FusedStream for Process {
    fn is_terminated(&self) -> bool {
        self.call.transport.is_over()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Process");
        debug.field("command", &self.call.command).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

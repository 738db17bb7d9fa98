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
#[cfg(unix)]
use crate::error::{Details, InvalidReason};
use crate::error::{Error, unshared};
use crate::output::Output;
use crate::promise::{Call, Promise};
use crate::protocol::{Fault, Notice};
#[cfg(unix)]
use crate::stdio::PtySize;

pub use ends::{Reader, Writer};
pub use lines::{Line, Lines};

/// What happened to a child; [`Process`] returns these.
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
/// let mut process =
///     sh.args(["-c", "echo hi"]).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
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
        /// At least one byte. The chunks do not show how the child wrote them.
        data: Vec<u8>,
    },
    /// A pipe is closed: every process closed the child's end, or this program closed its own.
    Closed {
        /// The descriptor, by the child's number.
        fd: i32,
    },
    /// A [`Stdio::reader`](crate::Stdio::reader), [`tee`](crate::Stdio::tee) or [`writer`](crate::Stdio::writer)
    /// failed, and the child is killed for it.
    Failed {
        /// The descriptor, by the child's number.
        fd: i32,
        /// The error of the reader or the writer.
        error: io::Error,
    },
    /// The child ran longer than its [`timeout`](crate::Command::timeout), or was silent longer than its
    /// [`idle_timeout`](crate::Command::idle_timeout). It is asked to end.
    TimedOut,
    /// The child wrote more than its [`limit`](crate::Command::limit), and is killed. No event has the bytes above
    /// the limit.
    LimitReached {
        /// The descriptor, by the child's number.
        fd: i32,
    },
    /// The child was reaped. Its own output came before, unless it is paused or a [`tee`](crate::Stdio::tee) is slow.
    /// Grandchildren may still hold pipes and write more.
    ///
    /// If another part of this program reaped it ([`Error::StatusLost`](crate::Error::StatusLost)), the status is no
    /// success, and has neither a code nor a signal.
    Exited(ExitStatus),
    /// The child was reaped and every pipe is closed. This is always the last event, and comes once.
    Ended(ExitStatus),
}

/// A running child to talk to, which [`Command::spawn`](crate::Command::spawn) returns: a
/// [`Stream`](https://docs.rs/futures-core/latest/futures_core/stream/trait.Stream.html) of [`Event`]s.
///
/// Use it to read output while the child runs, or to write input that depends on the answers. To run to the end and
/// get a result, another verb and its [`Promise`] are shorter.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::Event::{Data, Ended};
/// let script = "echo hi; exit 3";
/// let mut sh =
///     reaped::sh(script).spawn()?;
/// let mut said = Vec::new();
/// let mut code = None;
/// while let Some(event) =
///     sh.next().await
/// {
///     match event {
///         Data { data, .. } => {
///             said.extend(data);
///         }
///         Ended(status) => {
///             code = status.code();
///         }
///         _ => {}
///     }
/// }
/// assert_eq!(said, b"hi\n");
/// assert_eq!(code, Some(3));
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// | to | call | in Twisted |
/// | --- | --- | --- |
/// | write | [`writer`](Self::writer) | `write`, `writeToChild`, `registerProducer` |
/// | read one descriptor by itself | [`reader`](Self::reader) | `childDataReceived` |
/// | read lines | [`lines`](Self::lines) | `LineReceiver` |
/// | stop reading a descriptor for a while | [`pause`](Self::pause), [`resume`](Self::resume) | `pauseProducing`, `resumeProducing` |
/// | close | [`close`](Self::close), [`close_all`](Self::close_all) | `closeChildFD`, `loseConnection` |
/// | signal | [`control`](Self::control) | `signalProcess` |
/// | await the exit, as often as asked | [`wait`](Self::wait), [`try_wait`](Self::try_wait) | `processExited` |
/// | await the end | [`status`](Self::status), [`output`](Self::output) | `processEnded` |
///
/// Every byte comes before the [`Closed`](Event::Closed) of its descriptor. [`Ended`](Event::Ended) is last.
///
/// Output is read only while you poll. A child that fills its pipe blocks until then: this is the back-pressure.
///
/// Each [`reader`](Self::reader) and [`writer`](Self::writer) can go to a task or thread of its own. While you await
/// one of them, or the process, this crate also writes the other inputs, makes the copies, and watches the exit and
/// the bounds. It reads no descriptor that another handle reads.
///
/// # Cancellation
/// Dropping the process kills and reaps the child, as with [`Promise`]. Writers and readers that you took stay open
/// until you drop them. With [`terminate_on_drop(true)`](crate::Command::terminate_on_drop) the child is asked to end
/// first. With [`kill_on_drop(false)`](crate::Command::kill_on_drop) it keeps running.
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

    /// The next event; `None` after [`Event::Ended`]. It is the same as `next` of the stream.
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

    /// The writing end of a pipe into the child: of stdin, if you did not set it, and of every
    /// [`Stdio::input`](crate::Stdio::input).
    ///
    /// It is `None` if there is no such pipe, or if the pipe was taken before or is closed.
    ///
    /// If nobody takes the writer, the pipe stays open until [`close`](Self::close), [`status`](Self::status),
    /// [`output`](Self::output) or [`wait`](Self::wait) closes it. If you take the writer, drop it: a child that
    /// reads to the end of file waits for that.
    ///
    /// If the child answers while it reads, read while you write (`futures::join!`). Otherwise both sides wait once
    /// the pipes are full. [`Stdio::bytes`](crate::Stdio::bytes) and [`Stdio::reader`](crate::Stdio::reader) do this
    /// for you.
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

    /// The reading end of a pipe out of the child. It takes that descriptor out of the events, and neither
    /// [`Event::Ended`] nor [`output`](Self::output) waits for it any more.
    ///
    /// Bytes that were read before, and that no event has returned, come first. A child still blocks on a full pipe
    /// that nobody reads. Take, poll or [close](Self::close) every descriptor, or connect it to something else, such
    /// as [`Stdio::inherit`](crate::Stdio::inherit).
    ///
    /// It is `None` if there is no such pipe, if the reader was taken before, if you closed the pipe, or if an event
    /// has reported its end. After [`wait`](Self::wait) you can still take it.
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

    /// The whole lines of all descriptors. A `\r` alone ends no line.
    ///
    /// On a timeout or limit the lines just end; call [`status`](Self::status) to see the error.
    ///
    /// Dropping the `Lines` loses nothing. An unfinished line stays in the process, and comes with the next `Lines`
    /// or as [`Event::Data`].
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
        Lines::new(self)
    }

    /// The next line of [`lines`](Self::lines). Between two lines you can call other methods of the process.
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

    /// Stops reading a descriptor, so the child blocks once that pipe is full. Other descriptors go on, and
    /// [`Event::Ended`] waits.
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

    /// Reads the descriptor again after [`pause`](Self::pause).
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

    /// Closes this program's end of a pipe, even if its [`Writer`] was taken. The child reads end of file, or gets
    /// SIGPIPE when it writes. Unread output is lost.
    ///
    /// Returns whether the pipe was open. To close a [`Reader`] that you took, drop it.
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

    /// Closes this program's end of every pipe; a terminal hangs up.
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

    /// Sets the size of the child's terminal ([`pty`](crate::Command::pty)). The child gets SIGWINCH.
    ///
    /// # Errors
    /// If the child was reaped or its terminal is closed, [`Error::AlreadyEnded`]. If the child has no terminal,
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
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

    /// The child's process id. It is `None` after the child was reaped: the system may then give the number to
    /// another process.
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

    /// A handle that signals the child from any thread.
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

    /// Awaits the exit of the child, as std's `wait`. It does not wait for grandchildren that hold the pipes. You may
    /// ask as often as you like, and always get the same answer.
    ///
    /// No byte is lost. Output that comes meanwhile is kept in memory, without bound, so the child does not block on
    /// a full pipe. Set a [`limit`](crate::Command::limit) if it may be much. Events, [`lines`](Self::lines), a
    /// [`reader`](Self::reader) and [`output`](Self::output) return it later.
    ///
    /// Three kinds of descriptors are not read meanwhile: a [paused](Self::pause) one, one whose reader was taken,
    /// and one whose [`tee`](crate::Stdio::tee) is slow.
    ///
    /// A stdin that you did not take is closed first, as std's `wait` does. A [`Writer`] that you took stays open,
    /// and a child that reads to the end of file waits for it.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing. If it has closed stdin, stdin stays closed.
    ///
    /// # Errors
    /// The errors of [`status`](Self::status) that happened before the exit: [`Error::TimedOut`],
    /// [`Error::OutputLimit`], [`Error::Io`] and [`Error::StatusLost`]. The error comes after the exit, and has the
    /// child's status. The child's output stays in the process.
    ///
    /// Only `status` and `output` report errors after the exit, and the error of
    /// [`fail_on_stderr`](crate::Command::fail_on_stderr).
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

    /// Returns at once: the exit status if the child has exited, `None` if it still runs. It sees an exit even if
    /// nobody has awaited the process.
    ///
    /// It reads no output of a running child. A child that has filled a pipe blocks until you read or
    /// [wait](Self::wait). It leaves stdin open, as std's `try_wait` does.
    ///
    /// # Errors
    /// The same errors as [`wait`](Self::wait).
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

    /// Awaits the end, and throws the output away. `status().detach()` lets the child keep running by itself.
    ///
    /// If you have only a `&mut Process`, use [`wait`](Self::wait) for the exit and [`next`](Self::next) for the end.
    ///
    /// For an error it keeps the end of stderr, and the descriptors that a [`limit`](crate::Command::limit) bounds.
    ///
    /// A stdin that you did not take is closed first, as std's `wait` does. Paused descriptors are read again.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) and [`Error::StatusLost`](crate::Error::StatusLost). If you set the bound or
    /// `fail_on_stderr`: [`Error::TimedOut`](crate::Error::TimedOut),
    /// [`Error::OutputLimit`](crate::Error::OutputLimit) and
    /// [`Error::UnexpectedStderr`](crate::Error::UnexpectedStderr).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let process = reaped::Command::new("sh").args(["-c", "exit 3"]).spawn()?;
    /// assert_eq!(process.status().await?.code(), Some(3));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "processEnded")]
    pub fn status(mut self) -> Promise<ExitStatus> {
        self.call.collect_little();
        self.promise(|output| Ok(output.status))
    }

    /// Waits for the end, and returns the output that you have not received as events or through a
    /// [`reader`](Self::reader).
    ///
    /// A stdin that you did not take is closed first, as std's `wait_with_output` does. Paused descriptors are read
    /// again.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child.
    ///
    /// # Errors
    /// The same errors as [`status`](Self::status).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let process = reaped::Command::new("echo").arg("hi").spawn()?;
    /// assert_eq!(process.output().await?.stdout, b"hi\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "wait_with_output")]
    #[doc(alias = "communicate")]
    pub fn output(mut self) -> Promise<Output> {
        self.call.collect();
        self.promise(Ok)
    }

    fn promise<T>(mut self, conclude: fn(Output) -> Result<T, Error>) -> Promise<T> {
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
            Notice::Fault(Fault::Io { fd, error }) => Event::Failed { fd, error: unshared(error) },
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

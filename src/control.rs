//! Noun: the handle that signals a child, from any thread.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Details, Error, InvalidReason};
use crate::signal::Signal;
use crate::spawn::ChildRef;

/// A handle that signals a child from any thread, at any time. Get it from
/// [`Promise::control`](crate::Promise::control) or [`Process::control`](crate::Process::control) before you await.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::Command;
/// use std::thread;
/// let sleep = Command::new("sleep")
///     .arg("1000")
///     .status();
/// let control = sleep.control();
/// thread::spawn(move || {
///     control.terminate()
/// });
/// assert!(!sleep.await?.success());
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// | signal | call |
/// | --- | --- |
/// | SIGTERM, then SIGKILL after the grace | [`terminate`](Self::terminate) |
/// | SIGKILL | [`kill`](Self::kill) |
/// | any other | [`signal`](Self::signal) |
///
/// After the child was reaped, every method returns [`Error::AlreadyEnded`]. So a signal never hits another process
/// that got the same number. A child that has exited but was not reaped ignores signals.
///
/// With [`new_group`](crate::Command::new_group) each signal goes to the whole group, until the promise or the
/// process has ended. A [`Pipeline`](crate::Pipeline)'s `Control` signals all members that were not reaped; with none
/// left it returns `AlreadyEnded`.
///
/// After [`terminate`](Self::terminate) or [`kill`](Self::kill) the promise does not wait for grandchildren. Once the
/// child is gone, it takes what is in the pipes and ends.
///
/// In a forked copy of this program every method returns `AlreadyEnded`.
///
/// # Cancellation
/// Dropping it does nothing, and holding it keeps nothing open.
#[derive(Clone)]
pub struct Control {
    child: ChildRef,
    /// The other members of a pipeline.
    others: Vec<(ChildRef, Duration)>,
    command: Arc<str>,
    grace: Duration,
}

impl Control {
    pub(crate) fn new(child: ChildRef, command: &str, grace: Duration) -> Self {
        Control { child, others: Vec::new(), command: command.into(), grace }
    }

    pub(crate) fn with_others(mut self, others: impl Iterator<Item = (ChildRef, Duration)>) -> Self {
        self.others.extend(others);
        self
    }

    /// For a child that was never started.
    pub(crate) fn nobody(command: &str) -> Self {
        Control::new(ChildRef::default(), command, Duration::ZERO)
    }

    /// Sends a signal; Twisted's `signalProcess`.
    ///
    /// # Platform
    /// [`Signal`] says what Windows does.
    ///
    /// # Errors
    /// - [`Error::AlreadyEnded`], if the child was reaped.
    /// - [`Error::Invalid`], if the system has no signal of that number.
    /// - [`Error::Io`], if the child is now another user's and this program may not signal it.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Signal};
    /// let sleep = Command::new("sleep")
    ///     .arg("9")
    ///     .run();
    /// let control = sleep.control();
    /// control.signal(Signal::HUP)?;
    /// let result = sleep.await;
    /// let error = result.unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "`sleep 9` was killed by \
    ///      SIGHUP (signal 1)"
    /// );
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "signalProcess")]
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let send = |child: &ChildRef, _| child.signal(signal);
        let sent = if signal == Signal::KILL { self.end(send) } else { self.each(send) };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let details = Details::about(&self.command, format!("the system knows no {signal}"));
                Err(Error::Invalid { reason: InvalidReason::Signal, details })
            }
            sent => self.outcome(sent, &format!("get {signal}")),
        }
    }

    /// Asks the child to end by its [`stop_signal`](crate::Command::stop_signal) (SIGTERM by default). If it still
    /// runs after the [`grace`](crate::Command::grace) (two seconds by default), SIGKILL ends it.
    ///
    /// It also continues a stopped child (SIGSTOP), so that the child can react. SIGKILL is sent in time even if
    /// nobody polls.
    ///
    /// # Errors
    /// The same errors as [`signal`](Self::signal).
    ///
    /// # Platform
    /// On Windows a child with a [`new_group`](crate::Command::new_group) gets Ctrl-Break, if it shares this
    /// program's console. Its whole job is ended after the grace. Any other child is ended at once.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let sleep = Command::new("sleep")
    ///     .arg("9")
    ///     .run();
    /// sleep.control().terminate()?;
    /// let result = sleep.await;
    /// let error = result.unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "`sleep 9` was killed by \
    ///      SIGTERM (signal 15)"
    /// );
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn terminate(&self) -> Result<(), Error> {
        self.outcome(self.end(ChildRef::terminate), "be asked to end")
    }

    /// Ends the child with SIGKILL.
    ///
    /// # Errors
    /// The same errors as [`signal`](Self::signal).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Error};
    /// let sleep = Command::new("sleep")
    ///     .arg("9")
    ///     .run();
    /// let control = sleep.control();
    /// control.kill()?;
    /// assert!(sleep.await.is_err());
    /// assert!(matches!(
    ///     control.kill(),
    ///     Err(Error::AlreadyEnded(_))
    /// ));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "start_kill")]
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::KILL)
    }

    /// If the signal reached any member, the pipeline stops waiting for grandchildren of all.
    fn end(&self, send: impl Fn(&ChildRef, Duration) -> io::Result<bool>) -> io::Result<bool> {
        let sent = self.each(send);
        if let (Ok(true), false) = (&sent, self.others.is_empty()) {
            self.others.iter().map(|(child, _)| child).chain([&self.child]).for_each(ChildRef::mark_stopped);
        }
        sent
    }

    /// Whether any member was reached; all are tried.
    fn each(&self, send: impl Fn(&ChildRef, Duration) -> io::Result<bool>) -> io::Result<bool> {
        let first = send(&self.child, self.grace);
        self.others.iter().map(|(child, grace)| send(child, *grace)).fold(first, |sent, one| Ok(sent? | one?))
    }

    fn outcome(&self, sent: io::Result<bool>, what: &str) -> Result<(), Error> {
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => {
                let text = format!("does not run, and cannot {what}");
                Err(Error::AlreadyEnded(Details::about(&self.command, text)))
            }
            Err(error) => {
                let details = Details::about(&self.command, format!("cannot {what}: {error}"));
                Err(Error::Io { source: error, details })
            }
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("command", &self.command).finish_non_exhaustive()
    }
}

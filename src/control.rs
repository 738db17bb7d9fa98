//! Noun: the handle that signals a child, from anywhere.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Details, Error, InvalidReason};
use crate::signal::Signal;
use crate::spawn::ChildRef;

/// Signals a child, from any thread, before, during and after its end.
///
/// Every method is [`Error::AlreadyEnded`] once the child was reaped, so that no other process which got
/// the same number is ever hit. A child that has exited and was not reaped yet takes signals without
/// effect. With [`new_group`](crate::Command::new_group) every signal goes to the whole group, until the
/// promise or the process has ended. That of a [`Pipeline`](crate::Pipeline) signals every member that was not reaped,
/// and is `AlreadyEnded` if none is left.
///
/// In a forked copy of the process that has started the child, every method is `AlreadyEnded`, and does nothing.
///
/// After [`terminate`](Self::terminate) and [`kill`](Self::kill) nobody waits for descendants that hold pipes:
/// once the child is gone, what is in the pipes is taken, and that is the end.
///
/// # Cancellation
/// Dropping it does nothing. It keeps nothing of the child alive.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// let promise = reaped::Command::new("sleep").arg("1000").output();
/// let control = promise.control();
/// std::thread::spawn(move || control.terminate());
/// assert!(!promise.await?.status.success());
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
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

    /// Of a child that was never started.
    pub(crate) fn nobody(command: &str) -> Self {
        Control::new(ChildRef::never_started(), command, Duration::ZERO)
    }

    /// Sends a signal; Twisted's `signalProcess`.
    ///
    /// # Platform
    /// What the three signals of Windows do there, [`Signal`] tells.
    ///
    /// # Errors
    /// [`Error::AlreadyEnded`]; [`Error::Invalid`] for a number that the system does not know;
    /// [`Error::Io`] if the child has become another user, and may not be signalled.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Signal};
    /// let promise = Command::new("sleep").arg("1000").run();
    /// promise.control().signal(Signal::HUP)?;
    /// let error = promise.await.unwrap_err();
    /// assert_eq!(error.to_string(), "`sleep 1000` was killed by SIGHUP (signal 1)");
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
            sent => self.told(sent, &format!("get {signal}")),
        }
    }

    /// Asks the child to end, by its [`stop_signal`](crate::Command::stop_signal) (SIGTERM unless set), and kills it with
    /// SIGKILL after the [`grace`](crate::Command::grace), two seconds if nothing else was set.
    ///
    /// A stopped child (SIGSTOP) is continued, so that it can obey. The second step comes whether or not
    /// anybody polls, unless the child was reaped by then.
    ///
    /// # Errors
    /// As of [`signal`](Self::signal).
    ///
    /// # Platform
    /// On Windows a child with a [`new_group`](crate::Command::new_group) is asked by Ctrl-Break, if it shares the
    /// console of this program, and ended after the grace with all of its job. Any other child is ended at once.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// let promise = reaped::Command::new("sleep").arg("1000").run();
    /// promise.control().terminate()?;
    /// let error = promise.await.unwrap_err();
    /// assert_eq!(error.to_string(), "`sleep 1000` was killed by SIGTERM (signal 15)");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn terminate(&self) -> Result<(), Error> {
        self.told(self.end(ChildRef::terminate), "be asked to end")
    }

    /// Ends the child with SIGKILL.
    ///
    /// # Errors
    /// As of [`signal`](Self::signal).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// let promise = reaped::Command::new("sleep").arg("1000").run();
    /// let control = promise.control();
    /// control.kill()?;
    /// assert!(promise.await.is_err());
    /// assert!(matches!(control.kill(), Err(reaped::Error::AlreadyEnded(_))));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "start_kill")]
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::KILL)
    }

    /// Where any member was reached, those that are gone are waited for no more.
    fn end(&self, send: impl Fn(&ChildRef, Duration) -> io::Result<bool>) -> io::Result<bool> {
        let sent = self.each(send);
        if let (Ok(true), false) = (&sent, self.others.is_empty()) {
            self.others.iter().map(|(child, _)| child).chain([&self.child]).for_each(ChildRef::mark_stopped);
        }
        sent
    }

    /// Whether any was reached; all are tried.
    fn each(&self, send: impl Fn(&ChildRef, Duration) -> io::Result<bool>) -> io::Result<bool> {
        let first = send(&self.child, self.grace);
        self.others.iter().map(|(child, grace)| send(child, *grace)).fold(first, |sent, one| Ok(sent? | one?))
    }

    fn told(&self, sent: io::Result<bool>, what: &str) -> Result<(), Error> {
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

//! The preparation of a start, and the help if it goes wrong.
//!
//! Refuses to know how it is started.

use std::ffi::c_int;
use std::io;
use std::panic::{UnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_io::Async;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::super::launch::{Attributes, Launch, StartAnother};
use super::descriptors::{Descriptors, pipe};
use super::exec_arguments::ExecArguments;
use super::forked;
use super::guardian::{self, Registration};
use crate::error::Refusal;

/// Everything that must be ready before the child exists.
#[derive(Debug)]
pub(in crate::spawn) struct Prepared<'a> {
    pub(in crate::spawn) exec: ExecArguments,
    pub(in crate::spawn) descriptors: Descriptors,
    pub(in crate::spawn) attributes: &'a Attributes,
    pub(in crate::spawn) new_group: bool,
    /// With the guardian's entry, if the child must die with the parent.
    pub(in crate::spawn) registration: Option<Registration>,
}

impl<'a> Prepared<'a> {
    pub(in crate::spawn) fn new(launch: &Launch<'a>, start: StartAnother) -> Result<Self, Refusal> {
        let exec = ExecArguments::new(launch)?;
        let descriptors = Descriptors::new(launch)?;
        forked::claim()?;
        start_reactor()?;
        let registration = match launch.die_with_parent {
            true => Some(guardian::register(launch.new_group, start)?),
            false => None,
        };
        let (attributes, new_group) = (launch.attributes, launch.new_group);
        Ok(Prepared { exec, descriptors, attributes, new_group, registration })
    }
}

/// How often to ask for the exit of a traced child, if nothing else reports it.
pub(in crate::spawn) const AGAIN: Duration = Duration::from_millis(10);

/// Starts async-io's reactor before the first child. It would start itself, but panics if it lacks a descriptor or a
/// thread, and then never starts again.
fn start_reactor() -> Result<(), Refusal> {
    static STARTED: OnceLock<()> = OnceLock::new();
    if STARTED.get().is_some() {
        return Ok(());
    }
    // It needs an epoll, an eventfd and a timerfd, or a kqueue; and one descriptor to try it with.
    let (tried, rest) = (pipe()?, pipe()?);
    drop(rest);
    refuse_panics(|| Async::new_nonblocking(tried.0).map(drop))?;
    STARTED.get_or_init(|| ());
    Ok(())
}

/// Runs code that panics if there is no thread, and turns the panic into an error. The panic's message goes to
/// stderr.
pub(in crate::spawn) fn refuse_panics<T>(
    start: impl FnOnce() -> io::Result<T> + UnwindSafe,
) -> Result<T, Refusal> {
    catch_unwind(start).unwrap_or_else(|_| Err(Errno::AGAIN.into())).map_err(Refusal::os)
}

/// A program that was just written is "busy" (ETXTBSY) while a fork in another thread still holds the descriptor that
/// wrote it. That ends with that fork's exec, much less than a millisecond later, so the start is tried again for a
/// while.
///
/// It does not sleep, because this is an executor's thread. It holds the thread no longer than a few starts do.
///
/// Measured on two cores under a load of 27: four threads each write a program and run it, 1,200 in all. Without a
/// second try 5 were busy. With tries for a millisecond or more it was none on the native engine, and up to 6 on the
/// portable one. Those have a reason of their own, and so has a file that is written for longer.
pub(in crate::spawn) fn retry_busy<T>(mut attempt: impl FnMut() -> Result<T, c_int>) -> Result<T, c_int> {
    let mut first = None;
    loop {
        match attempt() {
            Err(libc::ETXTBSY) if first.get_or_insert_with(Instant::now).elapsed() < BUSY => {}
            result => return result,
        }
    }
}

/// How long a busy program is tried.
const BUSY: Duration = Duration::from_millis(2);

/// Kills and reaps a child that cannot be watched. Returns whether a stranger had reaped it before.
pub(in crate::spawn) fn abandon(pid: Pid) -> bool {
    // The number still belongs to the child, because only this code reaps it. (If a stranger has, this may hit
    // another process of that number within microseconds, as every library that uses pids may.)
    if kill_process(pid, Signal::KILL) == Err(Errno::PERM) {
        // The child has become another user, and may run for a year, so this must not wait for it.
        return false;
    }
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            reaped => return reaped.err() == Some(Errno::CHILD),
        }
    }
}

//! What has to be there before a child is, and what helps where its start goes wrong.
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

/// All that has to be there before a child is.
#[derive(Debug)]
pub(in crate::spawn) struct Prepared<'a> {
    pub(in crate::spawn) exec: ExecArguments,
    pub(in crate::spawn) descriptors: Descriptors,
    pub(in crate::spawn) attributes: &'a Attributes,
    pub(in crate::spawn) new_group: bool,
    /// With the guardian, if the child is to die with the parent.
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

/// How often to ask for the exit of a child that is traced, where nothing else tells of it.
pub(in crate::spawn) const AGAIN: Duration = Duration::from_millis(10);

/// Starts async-io's reactor while there is no child yet. It would start by itself, but panics where it lacks a
/// descriptor or a thread, and then never starts again.
fn start_reactor() -> Result<(), Refusal> {
    static STARTED: OnceLock<()> = OnceLock::new();
    if STARTED.get().is_some() {
        return Ok(());
    }
    // What it needs: an epoll, an eventfd and a timerfd, or a kqueue; and one to try it with.
    let (tried, rest) = (pipe()?, pipe()?);
    drop(rest);
    refuse_panics(|| Async::new_nonblocking(tried.0).map(drop))?;
    STARTED.get_or_init(|| ());
    Ok(())
}

/// Does what panics where there is no thread to be had, and tells so on stderr.
pub(in crate::spawn) fn refuse_panics<T>(
    start: impl FnOnce() -> io::Result<T> + UnwindSafe,
) -> Result<T, Refusal> {
    catch_unwind(start).unwrap_or_else(|_| Err(Errno::AGAIN.into())).map_err(Refusal::os)
}

/// A program that was just written is "busy" (ETXTBSY) while a fork in another thread still holds the
/// descriptor that it was written through. That lasts until that fork's exec, much less than a millisecond, so it is
/// tried again for a while.
///
/// Nobody sleeps: this is an executor's thread, and what it may be held for is some starts' time. Measured on two
/// cores under a load of 27, with four threads that each write a program and run it, 1200 in all: without another try
/// 5 were busy, with tries for a millisecond or more none on the native engine, and up to 6 on the portable one. Such
/// a one, as a file that is being written for longer, is told with a reason of its own.
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

/// Kills and reaps a child that cannot be watched; whether somebody else had reaped it before.
pub(in crate::spawn) fn abandon(pid: Pid) -> bool {
    // The number is the child's own still: nobody but us reaps it (or else it is gone, and killing a
    // number that was given away within these microseconds is what every pid-based library risks).
    if kill_process(pid, Signal::KILL) == Err(Errno::PERM) {
        // It has become another user, and may live for a year: nobody is to wait here for that.
        return false;
    }
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            reaped => return reaped.err() == Some(Errno::CHILD),
        }
    }
}

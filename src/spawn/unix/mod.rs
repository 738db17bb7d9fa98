//! What all of Unix shares, and the engine that works on all of it: see [`portable`].
//!
//! Refuses to know other engines: `linux` stands on this folder, and not the other way round.

mod descriptors;
mod diagnosis;
mod fds;
mod forked;
mod guardian;
mod image;
mod portable;
mod program;
mod raw;
mod setup;

use std::ffi::c_int;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{UnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_io::Async;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

#[cfg(not(target_os = "linux"))]
use super::launch::Ours;
use super::launch::{Attributes, Launch};
use crate::error::Refusal;
use crate::stdio::OpenFile;

pub(super) use descriptors::{Descriptors, pipe};
pub(crate) use descriptors::{check_inherited, resize};
#[cfg(target_os = "linux")]
pub(super) use fds::Action;
pub(crate) use forked::{Hosted, is_copy};
#[cfg(target_os = "linux")]
pub(super) use guardian::Guarded;
pub(super) use guardian::Registration;
pub(super) use image::Image;
pub(super) use portable::{Portable, spawn as spawn_portable};
pub(crate) use raw::write_quietly;
#[cfg(target_os = "linux")]
pub(super) use raw::{send, send_to_group, was_sent};
#[cfg(target_os = "linux")]
pub(super) use setup::{Failure, Setup, keeps_its_groups, nice_value};

/// The parent's end of a pipe: non-blocking, close-on-exec.
pub(crate) type Pipe = OwnedFd;

/// A child of this folder. In a box: it is large.
#[cfg(not(target_os = "linux"))]
pub(super) type Process = Box<Portable>;

/// Starts a child.
#[cfg(not(target_os = "linux"))]
pub(super) fn spawn(launch: &Launch<'_>) -> Result<(Process, Ours), Refusal> {
    let mut prepared = Prepared::new(launch)?;
    let ours = std::mem::take(&mut prepared.descriptors.ours);
    Ok((Box::new(spawn_portable(prepared)?), ours))
}

/// All that has to be there before a child is.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    pub(super) image: Image,
    pub(super) descriptors: Descriptors,
    pub(super) attributes: &'a Attributes,
    pub(super) new_group: bool,
    /// With the guardian, if the child is to die with the parent.
    pub(super) registration: Option<Registration>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(launch: &Launch<'a>) -> Result<Self, Refusal> {
        let image = Image::new(launch)?;
        let descriptors = Descriptors::new(launch)?;
        forked::claim()?;
        start_reactor()?;
        let registration = match launch.die_with_parent {
            true => Some(guardian::register(launch.new_group)?),
            false => None,
        };
        let (attributes, new_group) = (launch.attributes, launch.new_group);
        Ok(Prepared { image, descriptors, attributes, new_group, registration })
    }
}

/// A pipe from one child to another, reading end first; both ends are ours and no child inherits them.
pub(crate) fn joint() -> Result<(OpenFile, OpenFile), Refusal> {
    pipe()
}

/// How often to ask for the exit of a child that is traced, where nothing else tells of it.
pub(super) const AGAIN: Duration = Duration::from_millis(10);

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
    caught(|| Async::new_nonblocking(tried.0).map(drop))?;
    STARTED.get_or_init(|| ());
    Ok(())
}

/// Does what panics where there is no thread to be had, and tells so on stderr.
pub(super) fn caught<T>(start: impl FnOnce() -> io::Result<T> + UnwindSafe) -> Result<T, Refusal> {
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
pub(super) fn retry_busy<T>(mut attempt: impl FnMut() -> Result<T, c_int>) -> Result<T, c_int> {
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
pub(super) fn abandon(pid: Pid) -> bool {
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

//! The engine of Linux: a new process takes the steps of a script in the parent's memory, and a pidfd tells of its end.
//!
//! Where a kernel (before 5.4), an emulator or a sandbox lacks what that needs, a child is started as on every other
//! Unix.

mod child;
mod pidfd;
mod script;
mod start;

use std::task::{Poll, Waker};
use std::{io, mem};

use super::SystemProcess;
use super::launch::{Attributes, Launch, Ours};
use super::unix::{self, Descriptors, Image, Portable, retry_busy};
use crate::error::Refusal;
use crate::output::Exit;
use crate::signal::Signal;
use pidfd::PidfdProcess;
use script::{Script, limits};
use start::{NotStarted, Started};

pub(crate) use unix::{Pipe, is_copy, joint};

/// A child of this folder.
#[derive(Debug)]
pub(super) enum Process {
    Pidfd(PidfdProcess),
    /// In a box: it is five times as large as the other.
    Portable(Box<Portable>),
}

/// Starts a child.
pub(super) fn spawn(launch: &Launch<'_>) -> Result<(Process, Ours), Refusal> {
    let (image, mut descriptors) = unix::prepare(launch)?;
    let ours = mem::take(&mut descriptors.ours);
    if pidfd::available() {
        if let Some(started) = run_script(&image, &descriptors, launch.attributes, launch.new_group)? {
            // The child has its ends of the pipes.
            drop(descriptors);
            return Ok((Process::Pidfd(PidfdProcess::new(started, launch.new_group)?), ours));
        }
    }
    let child = unix::spawn_portable(image, descriptors, launch.attributes, launch.new_group)?;
    Ok((Process::Portable(Box::new(child)), ours))
}

/// `None` if this system does not make such a process just now: in a time namespace before Linux 5.19 a process can be
/// forked, and not share its memory.
fn run_script(
    image: &Image,
    descriptors: &Descriptors,
    attributes: &Attributes,
    new_group: bool,
) -> Result<Option<Started>, Refusal> {
    let limits = limits(attributes);
    let script = Script::new(image, descriptors, attributes, &limits, new_group);
    // Each try is a new process.
    let mut not_started = None;
    let started = retry_busy(|| {
        start::start(&script).map_err(|failed| {
            let errno = match failed {
                NotStarted::Process(errno) | NotStarted::Step(_, errno) => errno,
            };
            not_started = Some(failed);
            errno
        })
    });
    match (started, not_started) {
        (Ok(started), _) => Ok(Some(started)),
        (Err(_), Some(NotStarted::Step(step, errno))) => {
            Err(script.failure(step, errno).explain(image, attributes))
        }
        (Err(libc::EINVAL | libc::ENOSYS | libc::EPERM), _) => Ok(None),
        (Err(errno), _) => Err(Refusal::os(io::Error::from_raw_os_error(errno))),
    }
}

impl Process {
    fn inner(&mut self) -> &mut dyn SystemProcess {
        match self {
            Process::Pidfd(child) => child,
            Process::Portable(child) => &mut **child,
        }
    }
}

impl SystemProcess for Process {
    fn pid(&self) -> Option<u32> {
        match self {
            Process::Pidfd(child) => child.pid(),
            Process::Portable(child) => child.pid(),
        }
    }

    fn watch(&mut self, waker: &Waker) {
        self.inner().watch(waker);
    }

    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        self.inner().poll_seen(waker)
    }

    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        self.inner().poll_exit(waker)
    }

    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        self.inner().signal(signal)
    }

    fn has_members(&mut self) -> bool {
        self.inner().has_members()
    }
}

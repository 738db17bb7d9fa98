//! From a plan to a started child and the parent's ends of its pipes.
//!
//! Refuses to know what flows through the pipes, and when a child counts as ended.
//!
//! What is true everywhere is here, in [`launch`], [`child`] and [`later`]. Each operating system has a folder, which
//! hands up a `spawn`, and a `Process` that is a [`SystemProcess`]:
//! - `linux`: a script of system calls that the new process runs in the parent's memory, and a pidfd. Where a kernel or a
//!   sandbox lacks what that needs, it is what `unix` does.
//! - `unix`: async-process, which forks.
//! - `windows`: std and async-io.
//!
//! Rule: every descriptor that is needed is open before a child exists; what fails after that kills
//! and reaps the child before the error is told.

mod child;
mod later;
mod launch;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io;
use std::task::{Poll, Waker};

#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(all(unix, not(target_os = "linux")))]
use unix as sys;
#[cfg(windows)]
use windows as sys;

use crate::error::{InvalidReason, Refusal};
use crate::output::Exit;
use crate::signal::Signal;

pub(crate) use child::{Cause, Child, ChildRef};
pub(crate) use later::{wake as wake_later, wake_after};
#[cfg(unix)]
pub(crate) use launch::Attributes;
pub(crate) use launch::{End, Launch, Ours};
pub(crate) use sys::{Pipe, is_copy, joint};
#[cfg(unix)]
pub(crate) use unix::{Hosted, check_inherited, resize, write_quietly};

/// A child that was just started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) ours: Ours,
}

/// Starts a child.
pub(crate) fn spawn(launch: &Launch<'_>) -> Result<Started, Refusal> {
    if launch.program.is_empty() {
        return Err(Refusal::invalid(InvalidReason::EmptyProgram, "the program has no name"));
    }
    let (process, ours) = sys::spawn(launch)?;
    Ok(Started { child: Child::new(Process(process)), ours })
}

/// What the folder of an operating system hands up: a process that was started. It is used under the lock of the
/// child's state only.
trait SystemProcess {
    /// `None` if a stranger has reaped it before it could be watched.
    fn pid(&self) -> Option<u32>;

    /// Has the waker woken when the child has exited, as far as that can be had without reaping it.
    fn watch(&mut self, waker: &Waker);

    /// Ready once the child has exited, which leaves the exit to be taken. Else the waker is woken as after `watch`, or
    /// as after the last `poll_exit`.
    fn poll_seen(&mut self, waker: &Waker) -> Poll<()>;

    /// Takes the exit, once. If there is none, the waker is woken once there is.
    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit>;

    /// Sends a signal to the child, or to its group; `false` if nobody is there any more.
    fn signal(&mut self, signal: Signal) -> io::Result<bool>;

    /// Whether anybody may be left in the group of a child that has exited.
    fn has_members(&mut self) -> bool;
}

/// A process that was started. In a forked copy of the parent it does nothing: the child is not the copy's.
#[derive(Debug)]
struct Process(sys::Process);

impl Process {
    fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    fn watch(&mut self, waker: &Waker) {
        if !is_copy() {
            self.0.watch(waker);
        }
    }

    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        if is_copy() { Poll::Ready(()) } else { self.0.poll_seen(waker) }
    }

    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        if is_copy() { Poll::Ready(Exit::Lost) } else { self.0.poll_exit(waker) }
    }

    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        if is_copy() { Ok(false) } else { self.0.signal(signal) }
    }

    fn has_members(&mut self) -> bool {
        !is_copy() && self.0.has_members()
    }
}

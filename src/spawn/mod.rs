//! From a plan to a started child and the parent's ends of its pipes.
//!
//! Refuses to know what flows through the pipes, and when a child counts as ended.
//!
//! [`launch`], [`child`] and [`later`] hold for every system. Each operating system has a folder, which gives a
//! `spawn` and a `Process` that is a [`SystemProcess`](system::SystemProcess):
//! - `linux`: a script of system calls, which the new process runs in the parent's memory, and a pidfd. If a kernel
//!   or a sandbox lacks what that needs, it does what `unix` does.
//! - `unix`: async-process, which forks.
//! - `windows`: std and async-io.
//!
//! Rule: every descriptor is open before the child exists. If something fails after that, the child is killed and
//! reaped before the error is returned.

mod child;
mod later;
mod launch;
#[cfg(target_os = "linux")]
mod linux;
mod system;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(all(unix, not(target_os = "linux")))]
use unix as sys;
#[cfg(windows)]
use windows as sys;

use crate::error::{InvalidReason, Refusal};

pub(crate) use child::{Cause, Child, ChildFate, ChildRef, OnDrop};
pub(crate) use later::{wake as wake_later, wake_after};
#[cfg(unix)]
pub(crate) use launch::Attributes;
pub(crate) use launch::{End, Launch, ParentEnds};
pub(crate) use sys::is_copy;
#[cfg(windows)]
pub(crate) use sys::{Pending, is_broken, or_broken};
pub(crate) use sys::{Pipe, pipe_between};
#[cfg(unix)]
pub(crate) use unix::{Hosted, check_inherited, grow, prefault, raises_sigpipe, resize, write_quietly};

/// A child that was just started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) ours: ParentEnds,
}

/// Starts a child.
pub(crate) fn spawn(launch: &Launch<'_>) -> Result<Started, Refusal> {
    if launch.program.is_empty() {
        return Err(Refusal::invalid(InvalidReason::EmptyProgram, "the program has no name"));
    }
    let (process, ours) = sys::spawn(launch, keep_running)?;
    Ok(Started { child: Child::new(process), ours })
}

/// Starts a process, and keeps it running after the handle is dropped.
fn keep_running(launch: &Launch<'_>) -> Result<ParentEnds, Refusal> {
    let started = spawn(launch)?;
    started.child.remote().on_drop(OnDrop::RunOn);
    Ok(started.ours)
}

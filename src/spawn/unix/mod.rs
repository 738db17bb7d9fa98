//! The parts that all of Unix shares, and the engine that works everywhere on it: see [`portable`].
//!
//! Refuses to know other engines: `linux` stands on this folder, and not the other way round.

mod after_fork;
mod descriptors;
mod diagnosis;
mod exec_arguments;
mod fds;
mod forked;
mod guardian;
mod pages;
mod portable;
mod prepare;
mod program;
mod raw;
mod setup;

#[cfg(not(target_os = "linux"))]
use super::launch::{Launch, ParentEnds, StartAnother};
use crate::error::Refusal;
use crate::stdio::OpenFile;

pub(crate) use descriptors::{check_inherited, resize};
#[cfg(target_os = "linux")]
pub(super) use fds::Action;
pub(crate) use forked::{Hosted, is_copy};
#[cfg(target_os = "linux")]
pub(super) use guardian::{DIGITS, Guarded, Registration};
pub(crate) use pages::{grow, prefault};
pub(super) use portable::{Portable, spawn as spawn_portable};
pub(super) use prepare::Prepared;
#[cfg(target_os = "linux")]
pub(super) use prepare::{AGAIN, abandon, retry_busy};
pub(crate) use raw::{raises_sigpipe, write_quietly};
#[cfg(target_os = "linux")]
pub(super) use raw::{send, send_to_group, was_sent};
#[cfg(target_os = "linux")]
pub(super) use setup::{Failure, Setup, keeps_its_groups, nice_value};

/// The parent's end of a pipe: non-blocking, close-on-exec.
pub(crate) type Pipe = OpenFile;

/// A child of this folder; in a box, because it is large.
#[cfg(not(target_os = "linux"))]
pub(super) type Process = Box<Portable>;

/// Starts a child.
#[cfg(not(target_os = "linux"))]
pub(super) fn spawn(launch: &Launch<'_>, start: StartAnother) -> Result<(Process, ParentEnds), Refusal> {
    let mut prepared = Prepared::new(launch, start)?;
    let ours = std::mem::take(&mut prepared.descriptors.ours);
    Ok((Box::new(spawn_portable(prepared)?), ours))
}

/// A pipe from one child to another, reading end first. Both ends are this program's, and no child inherits them.
pub(crate) fn pipe_between() -> Result<(OpenFile, OpenFile), Refusal> {
    descriptors::pipe()
}

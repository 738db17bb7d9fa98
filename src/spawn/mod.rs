//! From a plan to a started child and the parent's ends of its pipes.
//!
//! Refuses to know what flows through the pipes, and when a child counts as ended.
//!
//! Two engines hand up the same thing, a [`Child`]:
//! - *native* (Linux with pidfd and glibc 2.34 or later): `posix_spawn`, which shares the parent's
//!   memory until the program runs, so the parent's size does not matter.
//! - *portable* (async-process; on Windows std and async-io): everywhere else, and for what `posix_spawn`
//!   cannot say.
//!
//! Rule: every descriptor that is needed is open before a child exists; what fails after that kills
//! and reaps the child before the error is told.

mod child;
#[cfg(unix)]
mod diagnosis;
#[cfg(unix)]
mod fds;
#[cfg(unix)]
mod forked;
#[cfg(windows)]
mod handles;
#[cfg(windows)]
mod job;
mod later;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod native;
#[cfg(unix)]
mod portable;
#[cfg(unix)]
mod program;
#[cfg(unix)]
mod raw;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::task::{Poll, Waker};
#[cfg(unix)]
use std::time::Duration;

use crate::error::{InvalidReason, Refusal};
use crate::output::Exit;
use crate::signal::Signal;
use crate::stdio::OpenFile;
#[cfg(unix)]
use crate::stdio::PtySize;

pub(crate) use child::{Cause, Child, ChildRef};
#[cfg(unix)]
pub(crate) use forked::{Hosted, is_copy};
#[cfg(windows)]
pub(crate) use handles::Pipe;
pub(crate) use later::{wake as wake_later, wake_after};
#[cfg(unix)]
pub(crate) use raw::write_quietly;
#[cfg(unix)]
pub(crate) use unix::{Pipe, check_inherited, resize};

/// All that is needed to start one child.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a OsStr,
    #[cfg_attr(windows, allow(dead_code, reason = "Windows has one command line"))]
    pub(crate) arg0: Option<&'a OsStr>,
    pub(crate) args: &'a [OsString],
    /// The whole environment of the child.
    #[cfg(unix)]
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Where to look for a program without a slash.
    #[cfg(unix)]
    pub(crate) path: Option<OsString>,
    /// The child inherits no variable.
    #[cfg(windows)]
    pub(crate) env_clear: bool,
    /// What is set and removed (`None`) of the environment, each variable once.
    #[cfg(windows)]
    pub(crate) env: Vec<(&'a OsStr, Option<&'a OsStr>)>,
    pub(crate) cwd: Option<&'a Path>,
    /// Sorted by number, each number once. What is not listed is closed, unless `inherit_fds`.
    pub(crate) ends: Vec<(i32, End<'a>)>,
    #[cfg_attr(windows, allow(dead_code, reason = "nothing to choose there"))]
    pub(crate) inherit_fds: bool,
    #[cfg(unix)]
    pub(crate) identity: &'a Identity,
    /// The child's descriptors 0, 1 and 2 are a terminal of this size; the ends name none of them.
    #[cfg(unix)]
    pub(crate) terminal: Option<PtySize>,
    /// The child leads a process group, or a job on Windows, and what is sent to it is sent to all of them.
    pub(crate) new_group: bool,
}

/// The child's side of one descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End<'a> {
    Closed,
    Inherit,
    Null,
    Open(&'a OpenFile),
    /// A pipe that the child writes.
    Output,
    /// A pipe that the child reads.
    Input,
    SameAs(i32),
}

/// Who the child is; what `posix_spawn` cannot say.
#[cfg(unix)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) umask: Option<u32>,
}

#[cfg(unix)]
impl Identity {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn is_parents(&self) -> bool {
        self.uid.is_none() && self.gid.is_none() && self.groups.is_none() && self.umask.is_none()
    }
}

/// A child that was just started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) ours: Ours,
}

/// The parent's ends.
#[derive(Debug, Default)]
pub(crate) struct Ours {
    /// In the order of `Launch::ends`; a terminal's are 0, to write, and 1, to read.
    pub(crate) pipes: Vec<(i32, Pipe)>,
    /// The terminal once more, which hangs up when nobody here has it open.
    pub(crate) terminal: Option<Pipe>,
    /// The child's side of it, to be held open until the child was reaped, on systems where that is known to do no harm.
    pub(crate) child_end: Option<Pipe>,
}

/// A pipe from one child to another, reading end first; both ends are ours and no child inherits them.
pub(crate) fn joint() -> Result<(OpenFile, OpenFile), Refusal> {
    #[cfg(unix)]
    return unix::pipe();
    #[cfg(windows)]
    handles::pipe().map(|(reader, writer)| (reader.into(), writer.into())).map_err(Refusal::os)
}

/// Starts a child.
pub(crate) fn spawn(launch: &Launch<'_>) -> Result<Started, Refusal> {
    if launch.program.is_empty() {
        return Err(Refusal::invalid(InvalidReason::EmptyProgram, "the program has no name"));
    }
    #[cfg(unix)]
    let (process, ours) = unix::spawn(launch)?;
    #[cfg(windows)]
    let (process, ours) = windows::spawn(launch)?;
    Ok(Started { child: Child::new(process), ours })
}

/// How often to ask for the exit of a child that is traced, where nothing else tells of it.
#[cfg(unix)]
const AGAIN: Duration = Duration::from_millis(10);

/// What an engine hands up: a process that was started. It is used under the lock of the child's state only.
#[derive(Debug)]
enum Process {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    Native(native::Native),
    #[cfg(unix)]
    /// In a box: it is five times as large as the others.
    Portable(Box<portable::Portable>),
    /// Started, but somebody else reaped it before it could be watched.
    #[cfg(unix)]
    Lost,
    #[cfg(windows)]
    Windows(windows::Handle),
}

/// Whether the children are another process's, of which this one is a forked copy.
fn in_a_copy() -> bool {
    #[cfg(unix)]
    return is_copy();
    #[cfg(not(unix))]
    false
}

impl Process {
    fn pid(&self) -> Option<u32> {
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Process::Native(child) => Some(child.pid()),
            #[cfg(unix)]
            Process::Portable(child) => child.pid(),
            #[cfg(unix)]
            Process::Lost => None,
            #[cfg(windows)]
            Process::Windows(child) => Some(child.pid()),
        }
    }

    /// Has the waker woken when the child has exited, as far as that can be had without reaping it.
    fn watch(&mut self, waker: &Waker) {
        if in_a_copy() {
            return;
        }
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Process::Native(child) => child.watch(waker),
            #[cfg(unix)]
            Process::Portable(child) => child.watch(waker),
            #[cfg(unix)]
            Process::Lost => {}
            #[cfg(windows)]
            Process::Windows(child) => drop(child.poll_seen(waker)),
        }
    }

    /// Ready once the child has exited, which leaves the exit to be taken. Else the waker is woken as after `watch`, or
    /// as after the last `poll_exit`.
    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        if in_a_copy() {
            return Poll::Ready(());
        }
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Process::Native(child) => child.poll_seen(waker),
            #[cfg(unix)]
            Process::Portable(child) => child.poll_seen(waker),
            #[cfg(unix)]
            Process::Lost => Poll::Ready(()),
            #[cfg(windows)]
            Process::Windows(child) => child.poll_seen(waker),
        }
    }

    /// Takes the exit, once. If there is none, the waker is woken once there is.
    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        if in_a_copy() {
            return Poll::Ready(Exit::Lost);
        }
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Process::Native(child) => child.poll_exit(waker),
            #[cfg(unix)]
            Process::Portable(child) => child.poll_exit(waker),
            #[cfg(unix)]
            Process::Lost => Poll::Ready(Exit::Lost),
            #[cfg(windows)]
            Process::Windows(child) => child.poll_exit(waker),
        }
    }

    /// Sends a signal to the child, or to its group; `false` if nobody is there any more.
    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        if in_a_copy() {
            return Ok(false);
        }
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Process::Native(child) => child.signal(signal),
            #[cfg(unix)]
            Process::Portable(child) => child.signal(signal),
            #[cfg(unix)]
            Process::Lost => Ok(false),
            #[cfg(windows)]
            Process::Windows(child) => child.signal(signal),
        }
    }

    /// Whether anybody may be left in the group of a child that has exited.
    fn has_members(&mut self) -> bool {
        if in_a_copy() {
            return false;
        }
        match self {
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            Process::Native(child) => child.has_members(),
            #[cfg(unix)]
            Process::Portable(child) => child.has_members(),
            #[cfg(unix)]
            Process::Lost => false,
            // There a job is ended at once.
            #[cfg(windows)]
            Process::Windows(_) => false,
        }
    }
}

//! Everything that starts one child, and the result: plain data.
//!
//! Refuses to know how a child is started.

use std::ffi::{OsStr, OsString};
#[cfg(unix)]
use std::os::fd::OwnedFd as Pipe;
use std::path::Path;

#[cfg(windows)]
use super::windows::pipe::Pipe;
use crate::error::Refusal;
#[cfg(unix)]
use crate::limit::Resource;
use crate::stdio::OpenFile;
#[cfg(unix)]
use crate::stdio::PtySize;

/// Everything that starts one child.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a OsStr,
    #[cfg_attr(windows, allow(dead_code, reason = "Windows has one command line"))]
    pub(crate) arg0: Option<&'a OsStr>,
    pub(crate) args: &'a [OsString],
    /// The places of the arguments that must not be quoted, in order.
    #[cfg(windows)]
    pub(crate) raw_args: &'a [usize],
    /// The child inherits no variable.
    pub(crate) env_clear: bool,
    /// The variables that are set (`Some`) and removed (`None`), each once; on Unix in the order of the names.
    pub(crate) env: Vec<(&'a OsStr, Option<&'a OsStr>)>,
    /// The `PATH` for a program without a slash.
    #[cfg(unix)]
    pub(crate) path: Option<OsString>,
    pub(crate) cwd: Option<&'a Path>,
    /// Sorted by number, each once. Every other descriptor is closed, unless `inherit_fds`.
    pub(crate) ends: Vec<(i32, End<'a>)>,
    #[cfg_attr(windows, allow(dead_code, reason = "nothing to choose there"))]
    pub(crate) inherit_fds: bool,
    #[cfg(unix)]
    pub(crate) attributes: &'a Attributes,
    /// The child's descriptors 0, 1 and 2 are a terminal of this size; the ends name none of them.
    #[cfg(unix)]
    pub(crate) terminal: Option<PtySize>,
    /// The child, or its group, is killed once the parent is gone.
    #[cfg(unix)]
    pub(crate) die_with_parent: bool,
    /// The child leads a process group, or a job on Windows, and each signal goes to all of it.
    pub(crate) new_group: bool,
    /// The child has a hidden console.
    #[cfg(windows)]
    pub(crate) no_window: bool,
}

#[cfg(windows)]
impl Launch<'_> {
    /// Whether the argument at this place goes into the command line without quotes.
    pub(super) fn is_raw(&self, place: usize) -> bool {
        self.raw_args.binary_search(&place).is_ok()
    }
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

/// What the new process changes about itself before it becomes the program.
#[cfg(unix)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) umask: Option<u32>,
    pub(crate) new_session: bool,
    /// Added to the parent's nice value.
    pub(crate) nice: Option<i32>,
    /// Each resource once, with its soft and its hard limit.
    pub(crate) limits: Vec<(Resource, u64, u64)>,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) no_new_privileges: bool,
}

/// Starts one more process and lets it run on, for a system that needs a process of its own.
#[cfg_attr(windows, allow(dead_code, reason = "nothing there needs one"))]
pub(super) type StartAnother = fn(&Launch<'_>) -> Result<ParentEnds, Refusal>;

/// The parent's ends.
#[derive(Debug, Default)]
pub(crate) struct ParentEnds {
    /// In the order of `Launch::ends`; a terminal has 0, to write, and 1, to read.
    pub(crate) pipes: Vec<(i32, Pipe)>,
    /// The terminal once more. It hangs up when nothing in this program has it open.
    pub(crate) terminal: Option<Pipe>,
    /// The child's side of the terminal. It stays open until the child is reaped, on systems that are known to permit
    /// that.
    pub(crate) child_end: Option<Pipe>,
}

//! The interface of each operating system's folder.
//!
//! Refuses to know any of them.

use std::io;
use std::process::ExitStatus;
use std::task::{Poll, Waker};

use crate::output::Exit;
use crate::signal::Signal;

/// A started process, as the folder of an operating system gives it. It is used only under the lock of the child's
/// state.
pub(super) trait SystemProcess {
    /// `None` if a stranger reaped it before it could be watched.
    fn pid(&self) -> Option<u32>;

    /// Wakes the waker when the child has exited, if that is possible without reaping it.
    fn watch(&mut self, waker: &Waker);

    /// Ready once the child has exited; the exit stays to be taken. Otherwise the waker of the last `watch` or
    /// `poll_exit` is woken.
    fn poll_seen(&mut self, waker: &Waker) -> Poll<()>;

    /// Takes the exit, once. If there is none, the waker is woken once there is.
    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit>;

    /// Sends a signal to the child, or to its group; `false` if no process is left.
    fn signal(&mut self, signal: Signal) -> io::Result<bool>;

    /// Whether a process may be left in the group of a child that has exited.
    fn has_members(&mut self) -> bool;

    /// For a child that has ended like this, and that this program did not end: whether the kernel's OOM killer has
    /// killed while it ran, in the child's cgroup.
    fn memory_was_short(&self, _: ExitStatus) -> bool {
        false
    }
}

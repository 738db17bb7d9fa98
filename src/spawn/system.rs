//! What each operating system's folder hands up.
//!
//! Refuses to know any of them.

use std::io;
use std::process::ExitStatus;
use std::task::{Poll, Waker};

use crate::output::Exit;
use crate::signal::Signal;

/// What the folder of an operating system hands up: a process that was started. It is used under the lock of the
/// child's state only.
pub(super) trait SystemProcess {
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

    /// Of a child that has ended so, and by nobody here: whether the system has killed for want of memory while it ran,
    /// among the processes that it counts the child to.
    fn memory_was_short(&self, _: ExitStatus) -> bool {
        false
    }
}

//! Which process the children belong to, and what a forked copy of it may still do: nothing that they feel.
//!
//! Refuses to know how a child is started or waited for.
//!
//! fork(2) copies the memory of the host, and not its threads. In the copy nobody watches pipes, exits and timers
//! any more, so that a call there would wait for ever, its timeout included. And what the copy has of the reactor
//! is no copy: the kernel's list of what is watched is shared, and taking a pipe off it in the copy takes it off in
//! the host. So the first start remembers the process, and in any other one each start is refused, no signal is
//! sent, no pipe is moved, and what is watched is left as it is.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use async_io::Async;

use super::raw;
use crate::error::{Refusal, SpawnReason};

/// The process that started the first child; 0 before.
static HOST: AtomicU32 = AtomicU32::new(0);

/// From now on the children are this process's. Refused in a copy of a process that has started one.
pub(super) fn claim() -> Result<(), Refusal> {
    let own = process::id();
    match HOST.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
        Err(host) if host != own => {
            let text = format!(
                "this process is a forked copy of process {host}, which has started children before the fork, and has \
                 none of its threads"
            );
            Err(Refusal::spawn(SpawnReason::Forked, text, io::ErrorKind::Unsupported.into()))
        }
        _ => Ok(()),
    }
}

/// Whether this is a copy of the process that the children belong to.
pub(crate) fn is_copy() -> bool {
    let host = HOST.load(Ordering::Relaxed);
    host != 0 && host != process::id()
}

/// What the host takes down, and a copy of the host leaves as it is.
#[derive(Debug)]
pub(crate) struct Hosted<T: Leave>(Option<T>);

/// How a copy parts with it.
pub(crate) trait Leave {
    fn leave(self);
}

impl<T: Leave> From<T> for Hosted<T> {
    fn from(inner: T) -> Self {
        Hosted(Some(inner))
    }
}

impl<T: Leave> Hosted<T> {
    /// In the host: a copy may only leave it.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("taken only once")
    }
}

impl<T: Leave> Deref for Hosted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken only when it is dropped")
    }
}

impl<T: Leave> std::ops::DerefMut for Hosted<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken only when it is dropped")
    }
}

impl<T: Leave> Drop for Hosted<T> {
    fn drop(&mut self) {
        if let (true, Some(inner)) = (is_copy(), self.0.take()) {
            inner.leave();
        }
    }
}

impl Leave for Async<OwnedFd> {
    /// Closes the copy's descriptor, so that the child sees its end of file when the host closes its own, and takes
    /// nothing off the list.
    fn leave(self) {
        raw::close(self.as_raw_fd());
        std::mem::forget(self);
    }
}

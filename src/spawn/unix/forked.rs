//! Which process the children belong to, and what a forked copy of it may still do: nothing that affects the
//! children.
//!
//! Refuses to know how a child is started or waited for.
//!
//! fork(2) copies the host's memory, but not its threads. In the copy no thread watches pipes, exits and timers, so a
//! call there would wait for ever, its timeout included. And the copy shares the kernel's list of watched
//! descriptors: if it takes a pipe off that list, the host loses it too.
//!
//! So the first start remembers the process. In any other process each start is refused, no signal is sent, no pipe
//! is read or written, and the list stays unchanged.

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

/// From now on the children belong to this process. Refused in a copy of a process that has started one.
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

/// A resource that the host releases, and a copy of the host leaves alone.
#[derive(Debug)]
pub(crate) struct Hosted<T: Leave>(Option<T>);

/// How a copy lets go of it.
pub(crate) trait Leave {
    fn leave(self);
}

impl<T: Leave> From<T> for Hosted<T> {
    fn from(inner: T) -> Self {
        Hosted(Some(inner))
    }
}

impl<T: Leave> Hosted<T> {
    /// In the host; a copy must leave it alone.
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
    /// Closes the copy's descriptor and takes nothing off the list. So the child sees its end of file when the host
    /// closes its own.
    fn leave(self) {
        raw::close(self.as_raw_fd());
        std::mem::forget(self);
    }
}

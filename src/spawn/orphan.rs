//! Reaps the children that nobody waits for any more, without a thread of its own: each is a waker
//! that the engine's own thread, which runs anyway, wakes when the child has exited.
//!
//! Until then the child can be signalled by whoever holds a name of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use super::{Look, Shared};

/// Sees to it that the child is reaped when it exits, be that now or in a year.
pub(super) fn adopt(child: Arc<Shared>) {
    Arc::new(Orphan(Mutex::new(Some(child)))).wake();
}

/// Alive for as long as what it waits for holds its waker, which is until the child has exited: that the waker is
/// registered with is owned by the child, and is dropped last.
struct Orphan(Mutex<Option<Arc<Shared>>>);

impl Wake for Orphan {
    /// Never while it looks, in the same thread: it is always the same waker, so that it replaces no other, and the
    /// engines wake from the reactor.
    fn wake(self: Arc<Self>) {
        // A clone: see what the transport says of wakers and `will_wake`.
        let waker = Waker::from(self.clone()).clone();
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shared) = &*child else { return };
        // A killed child is often gone by now: look before waiting.
        let mut look = Look::Likely;
        if shared.engine.poll_exit(&mut look, &mut Context::from_waker(&waker)).is_ready() {
            shared.engine.release();
            *child = None;
        }
    }
}

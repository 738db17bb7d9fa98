//! Reaps the children that nobody waits for any more, without a thread of its own: each is a waker
//! that async-io's reactor thread, which runs anyway, wakes when the child has exited.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use super::{Engine, Shared};

/// Sees to it that the child is reaped when it exits, be that now or in a year.
pub(super) fn adopt(child: Arc<Shared>) {
    Arc::new(Orphan(Mutex::new(Some(child)))).wake();
}

/// Alive for as long as the reactor holds its waker, which is until the child has exited: the child's
/// descriptor is what the waker is registered with, and is dropped last.
struct Orphan(Mutex<Option<Arc<Shared>>>);

impl Wake for Orphan {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Engine::Native(native)) = child.as_deref().map(|shared| &shared.engine) {
            // A killed child is often gone by now: look before waiting.
            let mut look = true;
            if native.poll_exit(&mut look, &mut Context::from_waker(&waker)).is_ready() {
                native.release();
                *child = None;
            }
        }
    }
}

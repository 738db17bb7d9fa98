//! Passes a wake-up on a moment later, from the reactor's thread and under no lock.
//!
//! Where async-process waits for SIGCHLD, it wakes under a lock that asking for an exit takes as well; and whom we wake
//! may ask, or drop the child, then and there. For the same reason this is no `AtomicWaker`, which wakes whoever
//! registers while it wakes another, then and there.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use async_io::Timer;

#[derive(Default)]
pub(super) struct Hop {
    to: Mutex<Option<Waker>>,
    later: Mutex<Option<Timer>>,
}

impl Hop {
    /// A waker that wakes this one. What happened before this is for the caller to look at.
    pub(super) fn before(self: &Arc<Self>, waker: &Waker) -> Waker {
        let before = self.to().replace(waker.clone());
        drop(before);
        // A clone: see what the transport says of wakers and `will_wake`.
        Waker::from(self.clone()).clone()
    }

    fn to(&self) -> MutexGuard<'_, Option<Waker>> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Hop {
    fn wake(self: Arc<Self>) {
        let landing = Waker::from(Arc::new(Landing(self.clone())));
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let timer = later.insert(Timer::after(Duration::from_micros(100)));
            if Pin::new(timer).poll(&mut Context::from_waker(&landing)).is_pending() {
                return;
            }
        }
    }
}

struct Landing(Arc<Hop>);

impl Wake for Landing {
    fn wake(self: Arc<Self>) {
        // The timer has this waker, and so would keep the hop for ever.
        drop(self.0.later.lock().unwrap_or_else(PoisonError::into_inner).take());
        let to = self.0.to().take();
        if let Some(waker) = to {
            waker.wake();
        }
    }
}

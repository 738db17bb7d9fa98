//! Wakes a task a moment later, from the reactor's thread and with no lock held.
//!
//! Refuses to know which task it is, and why.
//!
//! Rule: no task is woken from a drop, or by an event that comes under a foreign lock. A woken task may poll, drop or
//! lock anything at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use async_io::Timer;

/// Wakes the task a moment later.
pub(crate) fn wake(waker: Waker) {
    wake_after(Duration::ZERO, waker);
}

/// Wakes the task after this delay, or a moment later.
pub(crate) fn wake_after(delay: Duration, waker: Waker) {
    let later = Arc::new(Later { waker, timer: Mutex::new(None) });
    let expired = Waker::from(later.clone());
    let mut timer = later.timer.lock().unwrap_or_else(PoisonError::into_inner);
    let mut delay = delay.max(Duration::from_micros(5));
    // A timer that is over at its first poll never wakes.
    while Pin::new(timer.insert(Timer::after(delay))).poll(&mut Context::from_waker(&expired)).is_ready() {
        delay *= 2;
    }
}

/// A waker that may be woken under any lock: it passes each wake-up on a moment later.
#[cfg(unix)]
pub(super) fn deferred(waker: Waker) -> Waker {
    // A clone: the transport says why, at `will_wake`.
    Waker::from(Arc::new(Deferred(waker))).clone()
}

#[cfg(unix)]
struct Deferred(Waker);

#[cfg(unix)]
impl Wake for Deferred {
    fn wake(self: Arc<Self>) {
        wake(self.0.clone());
    }
}

struct Later {
    waker: Waker,
    /// The reactor holds this waker while the timer runs.
    timer: Mutex<Option<Timer>>,
}

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        drop(self.timer.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.waker.wake_by_ref();
    }
}

//! Wakes somebody a moment later, from the reactor's thread and with no lock held.
//!
//! Refuses to know who is woken, and why.
//!
//! Rule: nobody is woken from a drop, nor by an event that comes under a lock of somebody else's. Whoever is woken may
//! poll, drop or lock whatever it likes, then and there.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use async_io::Timer;

/// Wakes it a moment later.
pub(crate) fn wake(waker: Waker) {
    wake_after(Duration::ZERO, waker);
}

/// Wakes it once this time is over, or a moment later.
pub(crate) fn wake_after(delay: Duration, waker: Waker) {
    let later = Arc::new(Later { waker, timer: Mutex::new(None) });
    let lands = Waker::from(later.clone());
    let mut timer = later.timer.lock().unwrap_or_else(PoisonError::into_inner);
    let mut delay = delay.max(Duration::from_micros(5));
    // A timer that is over when it is first asked never wakes.
    while Pin::new(timer.insert(Timer::after(delay))).poll(&mut Context::from_waker(&lands)).is_ready() {
        delay *= 2;
    }
}

/// A waker that can be woken under any lock: it passes each wake-up on a moment later.
#[cfg(unix)]
pub(super) fn deferred(waker: Waker) -> Waker {
    // A clone: see what the transport says of wakers and `will_wake`.
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
    /// The reactor holds this waker for as long as the timer runs.
    timer: Mutex<Option<Timer>>,
}

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        drop(self.timer.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.waker.wake_by_ref();
    }
}

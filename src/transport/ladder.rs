//! The ladder: asks a child to end, and some time later does not ask any more.
//!
//! It climbs by itself, woken by the reactor, so that a child which is to end ends even while nobody
//! polls its promise.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use async_io::Timer;

use crate::signal::Signal;
use crate::spawn::Remote;

/// SIGTERM now, SIGKILL after the grace. `false` where the child was reaped already.
pub(crate) fn terminate(child: &Remote, grace: Duration) -> io::Result<bool> {
    if grace.is_zero() {
        return child.signal(Signal::KILL);
    }
    if !child.end(Signal::TERM)? {
        return Ok(false);
    }
    // A stopped child takes no signal but this one and SIGKILL.
    #[cfg(unix)]
    child.signal(Signal::CONT)?;
    let rung = Rung { child: child.clone(), timer: Mutex::new(Timer::after(grace)) };
    Arc::new(rung).wake();
    Ok(true)
}

/// Alive for as long as the reactor holds its waker, which is until the time is up. A child that ended
/// meanwhile is only named here, not held.
struct Rung {
    child: Remote,
    timer: Mutex<Timer>,
}

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        if Pin::new(&mut *timer).poll(&mut Context::from_waker(&waker)).is_ready() {
            // "Not permitted" is all that can go wrong, and nothing can be done about it.
            let _: io::Result<bool> = self.child.signal(Signal::KILL);
        }
    }
}

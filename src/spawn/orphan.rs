//! Reaps the children that nobody waits for any more, without a thread of its own: each is a waker
//! that the engine's own thread, which runs anyway, wakes when the child has exited.
//!
//! Until then the child can be signalled by whoever holds a name of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use async_io::Timer;

use super::{Engine, Look, Shared};

/// Sees to it that the child is reaped when it exits, be that now or in a year.
pub(super) fn adopt(child: Arc<Shared>) {
    Arc::new(Orphan { child: Mutex::new(Some(child)), later: Mutex::default() }).look();
}

/// Alive for as long as what it waits for holds its waker, which is until the child has exited: that the waker is
/// registered with is owned by the child, and is dropped last.
struct Orphan {
    child: Mutex<Option<Arc<Shared>>>,
    later: Mutex<Option<Timer>>,
}

impl Orphan {
    fn look(self: Arc<Self>) {
        // A clone: see what the transport says of wakers and `will_wake`.
        let waker = Waker::from(self.clone()).clone();
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shared) = &*child else { return };
        // A killed child is often gone by now: look before waiting.
        let mut look = Look::Likely;
        if shared.engine.poll_exit(&mut look, &mut Context::from_waker(&waker)).is_ready() {
            shared.engine.release();
            *child = None;
        }
    }

    /// Has the reactor's thread look.
    fn look_later(self: Arc<Self>) {
        let waker = Waker::from(Arc::new(Later(self.clone())));
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let timer = later.insert(Timer::after(Duration::from_micros(100)));
            if Pin::new(timer).poll(&mut Context::from_waker(&waker)).is_pending() {
                return;
            }
        }
    }
}

impl Wake for Orphan {
    fn wake(self: Arc<Self>) {
        // Not while anybody looks: what wakes may be what was just asked.
        let is_portable = match self.child.try_lock() {
            Ok(child) => child.as_ref().is_some_and(|shared| is_portable(&shared.engine)),
            Err(_) => true,
        };
        if is_portable {
            // Where async-process waits for SIGCHLD it wakes under a lock that looking takes as well.
            self.look_later();
        } else {
            self.look();
        }
    }
}

fn is_portable(engine: &Engine) -> bool {
    #[cfg(unix)]
    return matches!(engine, Engine::Portable(_));
    #[cfg(not(unix))]
    {
        let _: &Engine = engine;
        false
    }
}

struct Later(Arc<Orphan>);

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        let orphan = self.0.clone();
        // The timer has this waker, and so would keep the orphan for ever.
        *orphan.later.lock().unwrap_or_else(PoisonError::into_inner) = None;
        orphan.look();
    }
}

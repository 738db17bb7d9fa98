//! What the reactor rings: one waker for each thing that is waited for, whoever polls.
//!
//! async-io keeps one waker a descriptor. Three of its habits cost more than the I/O itself:
//! - It wakes the waker that another one replaces, and tells them apart by `Waker::will_wake`. A task's waker and its
//!   own clone may differ there, since the compiler may give them two copies of one table. Then each poll wakes the
//!   task that polls, for ever, and a processor is busy with waiting.
//! - An event that arrives in the round in which it was asked for wakes the task, but is not believed: `poll_readable`
//!   asks the kernel again, and the thread that runs the reactor goes round once more. Where that thread is not
//!   the one that polls, this is so for every event.
//! - Which descriptor is ready is only told by asking each.
//!
//! So the reactor gets a waker of ours, always the same for a descriptor, that notes that it was rung and passes the
//! wake-up on to the task that polled last; and what was rung is tried at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use atomic_waker::AtomicWaker;

/// The task that polled last.
#[derive(Debug)]
pub(crate) struct Task {
    polls: Arc<Polls>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Polls(AtomicWaker);

impl Wake for Polls {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl Default for Task {
    fn default() -> Self {
        let polls = Arc::<Polls>::default();
        Task { waker: stable(polls.clone()), polls }
    }
}

/// Who is gone is not woken: async-io wakes the waker that another one replaces, under a lock of its own, and whoever
/// drops a future may hold one that the task's waker takes.
impl Drop for Task {
    fn drop(&mut self) {
        drop(self.polls.0.take());
    }
}

impl Task {
    /// To be done before the bells are asked, so that none is missed.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.polls.0.register(cx.waker());
    }

    pub(super) fn wake(&self) {
        self.polls.0.wake();
    }

    /// To wake this task with, for as long as it is there.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// A bell that wakes this task.
    pub(crate) fn bell(&self) -> Bell {
        Bell::new(self.waker.clone())
    }
}

/// Notes that it was rung, and wakes somebody.
#[derive(Debug)]
pub(crate) struct Bell {
    ring: Arc<Ring>,
    waker: Waker,
}

#[derive(Debug)]
struct Ring {
    rung: AtomicBool,
    wakes: Waker,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.wakes.wake_by_ref();
    }
}

impl Bell {
    pub(super) fn new(wakes: Waker) -> Self {
        let ring = Arc::new(Ring { rung: AtomicBool::new(false), wakes });
        Bell { waker: stable(ring.clone()), ring }
    }

    /// Whether it was rung since the last time that somebody asked.
    pub(super) fn rung(&self) -> bool {
        // Only looked at first: this is asked far more often than it is rung.
        self.ring.rung.load(Ordering::Relaxed) && self.ring.rung.swap(false, Ordering::Acquire)
    }

    /// As if it was rung, for the one who asks next.
    pub(super) fn pretend(&self) {
        self.ring.rung.store(true, Ordering::Relaxed);
    }

    /// To wait with.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

/// A waker that its clones will always be known by: it is a clone itself, and all clones have one table.
pub(super) fn stable(wake: Arc<impl Wake + Send + Sync + 'static>) -> Waker {
    Waker::from(wake).clone()
}

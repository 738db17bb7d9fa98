//! One waker for the reactor, whoever polls.
//!
//! async-io keeps one waker a descriptor, and wakes it when another takes its place; it tells two wakers apart by
//! `Waker::will_wake`. A task's waker and its own clone may differ there, since the compiler may give them two copies
//! of one table. Then each poll wakes the task that polls, for ever, and a processor is busy with waiting. So the
//! reactor gets a waker of ours, always the same, that passes on to the task that polled last.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use futures::task::AtomicWaker;

/// Passes a wake-up on.
#[derive(Debug)]
pub(crate) struct Relay {
    task: Arc<Task>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Task(AtomicWaker);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl Default for Relay {
    fn default() -> Self {
        let task = Arc::<Task>::default();
        Relay { waker: stable(task.clone()), task }
    }
}

impl Relay {
    /// To poll with, in place of the task's own.
    pub(crate) fn context(&self, cx: &Context<'_>) -> Context<'_> {
        self.task.0.register(cx.waker());
        Context::from_waker(&self.waker)
    }
}

/// A waker that its clones will always be known by: it is a clone itself, and all clones have one table.
pub(super) fn stable(wake: Arc<impl Wake + Send + Sync + 'static>) -> Waker {
    Waker::from(wake).clone()
}

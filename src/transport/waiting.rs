//! The tasks that wait for one child, and the flags that the reactor sets to wake them.
//!
//! Refuses to know what a task waits for.
//!
//! async-io keeps one waker for each descriptor and direction. Three of its habits cost more than the I/O itself:
//! - If a new waker replaces the old one, it wakes the old one, under its own lock. It compares them by
//!   `Waker::will_wake`. That may call a task's waker and its clone different, because the compiler may make two copies
//!   of their vtable. Then each poll wakes its own task, without end, and a busy loop uses a processor.
//! - If an event arrives in the round in which it was asked for, `poll_readable` does not trust it: it asks the kernel
//!   again. So the reactor's thread goes round once more. If that thread is not the one that polls, this happens for
//!   every event.
//! - It does not report which descriptor is ready. The task must ask for each.
//!
//! So async-io never gets a handle's waker. It gets one [`Flag`] for each descriptor and direction, for the life of the
//! descriptor. The flag notes the event and wakes the tasks that wait. A descriptor whose flag was set is tried at
//! once.
//!
//! Rule: wakers are woken, and dropped, with no lock held.

#[cfg(test)]
mod tests;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::protocol::Slot;
use crate::spawn::{is_copy, wake_after};

/// A handle that can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handle {
    /// The promise, the process or its lines.
    Main,
    /// Reads the output of this slot.
    Reader(Slot),
    /// Writes to the pipe of this slot.
    Writer(Slot),
    /// Waits until the pipe of this slot is closed.
    Closed(Slot),
    /// No handle: it does the shared work for one poll, and reads nothing for itself.
    Anybody,
}

/// The tasks that wait for one child.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    wakers: Mutex<Wakers>,
    /// Whether the main handle waits, and whether another handle does. Written under the lock. A handle reads its own
    /// without the lock. Others are read under the state's lock, which each handle takes after it was registered.
    main: AtomicBool,
    others: AtomicBool,
    /// Something happened that any handle may attend to.
    news: AtomicBool,
}

#[derive(Debug, Default)]
struct Wakers {
    main: Option<Waker>,
    /// The handles that the caller took out. Most children have none.
    others: Vec<(Handle, Waker)>,
}

impl Waiting {
    fn change<T>(&self, change: impl FnOnce(&mut Wakers) -> T) -> T {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut wakers);
        self.main.store(wakers.main.is_some(), Ordering::Relaxed);
        self.others.store(!wakers.others.is_empty(), Ordering::Relaxed);
        changed
    }

    /// Called before the handle looks, so that it misses no wake-up.
    pub(super) fn register(&self, handle: Handle, waker: &Waker) {
        // The waker is cloned and dropped with no lock held, because that may run the caller's code.
        if !self.change(|wakers| wakers.of(handle).is_some_and(|known| known.will_wake(waker))) {
            let waker = waker.clone();
            let replaced = self.change(|wakers| wakers.replace(handle, waker));
            drop(replaced);
        }
    }

    /// The handle no longer waits.
    pub(super) fn forget(&self, handle: Handle) {
        let known = if handle == Handle::Main { &self.main } else { &self.others };
        // In a forked copy nobody releases a lock that another thread held at the fork.
        if known.load(Ordering::Relaxed) && !is_copy() {
            let forgotten = self.change(|wakers| wakers.take(handle));
            drop(forgotten);
        }
    }

    /// Whether something happened that any handle may attend to, since the last call.
    pub(super) fn take_news(&self) -> bool {
        // Loaded first, because it is rarely set.
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::Acquire)
    }

    fn wake(&self, whom: Option<Handle>) {
        let Some(handle) = whom else { return self.wake_others(None) };
        match (self.change(|wakers| wakers.take(handle)), handle) {
            (Some(waker), _) => waker.wake(),
            // If no reader was taken out, the main handle reads the output.
            (None, Handle::Reader(_)) => {
                self.change(|wakers| wakers.main.take()).into_iter().for_each(Waker::wake)
            }
            // The handle may be gone and may have left work: a terminal's end of file may wait for room.
            (None, _) => self.hand_on(None),
        }
    }

    /// Work is left that another handle may have to do.
    pub(super) fn hand_on(&self, from: Option<Handle>) {
        self.news.store(true, Ordering::Release);
        self.wake_others(from);
    }

    /// Whether a handle other than the main one waits. Called under the state's lock.
    pub(super) fn has_others(&self) -> bool {
        self.others.load(Ordering::Relaxed)
    }

    /// Wakes all tasks that wait, except one handle's.
    pub(super) fn wake_others(&self, but: Option<Handle>) {
        let (main, mut woken): (_, Vec<(Handle, Waker)>) = self.change(|wakers| {
            let main = if but == Some(Handle::Main) { None } else { wakers.main.take() };
            let (left, woken) =
                mem::take(&mut wakers.others).into_iter().partition(|(handle, _)| Some(*handle) == but);
            wakers.others = left;
            (main, woken)
        });
        if woken.is_empty() {
            main.into_iter().for_each(Waker::wake);
            return;
        }
        // If two handles wait in one task, it is woken once.
        if let Some(waker) = main {
            woken.retain(|(_, other)| !other.will_wake(&waker));
            woken.push((Handle::Main, waker));
        }
        for (_, waker) in woken {
            // If a waker panics, the others are still woken. The reactor survives such a panic too.
            drop(catch_unwind(AssertUnwindSafe(|| waker.wake())));
        }
    }

    /// This handle has more work, after the pause or at once. Other tasks run first.
    pub(super) fn go_on(self: &Arc<Self>, me: Handle, waker: &Waker, pause: Option<Duration>) {
        self.register(me, waker);
        if pause.is_some() || !self.goes_on_alone(me, waker) {
            self.wake_all_after(pause.unwrap_or_default());
        }
    }

    /// If no other handle waits, this wakes the handle at once. Otherwise another handle may be polled next, and this
    /// one not for long.
    fn goes_on_alone(&self, me: Handle, waker: &Waker) -> bool {
        let is_alone = self.change(|wakers| match me {
            Handle::Main => wakers.others.is_empty(),
            _ => wakers.main.is_none() && wakers.others.iter().all(|(other, _)| *other == me),
        });
        if is_alone {
            // If it is not polled again, the next handle must do its work.
            self.news.store(true, Ordering::Release);
            waker.wake_by_ref();
        }
        is_alone
    }

    /// Wakes all tasks that wait, a moment later: from a drop, or after an operation of the caller.
    pub(super) fn wake_all_later(self: &Arc<Self>) {
        self.wake_all_after(Duration::ZERO);
    }

    /// Wakes all tasks that wait after this delay: to go on after a poll that used up its time.
    pub(super) fn wake_all_after(self: &Arc<Self>, delay: Duration) {
        if self.somebody_waits() {
            wake_after(delay, Waker::from(Flag::new(self, None)));
        }
    }

    fn somebody_waits(&self) -> bool {
        self.change(|wakers| wakers.main.is_some() || !wakers.others.is_empty())
    }
}

impl Wakers {
    fn of(&self, handle: Handle) -> Option<&Waker> {
        match handle {
            Handle::Main => self.main.as_ref(),
            _ => self.others.iter().find(|(of, _)| *of == handle).map(|(_, waker)| waker),
        }
    }

    fn replace(&mut self, handle: Handle, waker: Waker) -> Option<Waker> {
        let replaced = self.take(handle);
        match handle {
            Handle::Main => self.main = Some(waker),
            _ => self.others.push((handle, waker)),
        }
        replaced
    }

    fn take(&mut self, handle: Handle) -> Option<Waker> {
        if handle == Handle::Main {
            return self.main.take();
        }
        let place = self.others.iter().position(|(of, _)| *of == handle)?;
        Some(self.others.swap_remove(place).1)
    }
}

/// Notes that something happened, and wakes the tasks that wait for it.
#[derive(Debug)]
pub(super) struct Flag {
    set: AtomicBool,
    /// `None` wakes all.
    whom: Option<Handle>,
    waiting: Arc<Waiting>,
}

impl Flag {
    pub(super) fn new(waiting: &Arc<Waiting>, whom: Option<Handle>) -> Arc<Self> {
        Arc::new(Flag { set: AtomicBool::new(false), whom, waiting: waiting.clone() })
    }

    /// Whether it was set since the last call.
    pub(super) fn take(&self) -> bool {
        // Loaded first, because it is rarely set.
        self.set.load(Ordering::Relaxed) && self.set.swap(false, Ordering::Acquire)
    }

    /// Sets it for the next poll, and wakes no task.
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::Release);
        if self.whom.is_none() {
            self.waiting.news.store(true, Ordering::Release);
        }
    }

    /// Wakes all tasks that wait, a moment later.
    pub(super) fn wake_all_later(&self) {
        self.waiting.wake_all_later();
    }

    /// The waker that sets the flag. It is always a clone of a clone. All of these have the same vtable, so
    /// `Waker::will_wake` recognizes it.
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(self.clone()).clone()
    }

    /// Polls something that sets this flag when it can go on.
    pub(super) fn wait<T>(self: &Arc<Self>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        poll(&mut Context::from_waker(&self.waker()))
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set();
        self.waiting.wake(self.whom);
    }
}

//! Who waits for a child, and the flags that the reactor sets to wake them.
//!
//! Refuses to know what anybody waits for.
//!
//! async-io keeps one waker for each descriptor and direction. Three of its habits cost more than the I/O itself:
//! - It wakes the waker that another one replaces, under a lock of its own, and tells them apart by
//!   `Waker::will_wake`. A task's waker and its own clone may differ there, since the compiler may give them two copies of
//!   one table. Then each poll wakes the task that polls, for ever, and a processor is busy with waiting.
//! - An event that arrives in the round in which it was asked for wakes the task, but is not believed: `poll_readable`
//!   asks the kernel again, and the thread that runs the reactor goes round once more. If that thread is not
//!   the one that polls, this is so for every event.
//! - Which descriptor is ready is only told by asking each.
//!
//! So no handle's waker is ever given to async-io. It gets a [`Flag`] for each descriptor and direction, the same one for
//! life, which notes the event and wakes whoever waits; and a descriptor whose flag was set is tried at once.
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
use crate::spawn::wake_after;

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
}

/// The tasks that wait for one child.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    wakers: Mutex<Wakers>,
    /// Whether the main handle waits, and whether any of the others does. Written under the lock; read without it by a
    /// handle that asks for itself, or under the lock of the state, which each handle takes after it was registered.
    main: AtomicBool,
    others: AtomicBool,
    /// Something has happened that any handle may attend to.
    news: AtomicBool,
}

#[derive(Debug, Default)]
struct Wakers {
    main: Option<Waker>,
    /// Of handles that were taken out. Most children have none.
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

    /// To be done before the handle looks, so that it misses nothing.
    pub(super) fn register(&self, handle: Handle, waker: &Waker) {
        // It is cloned and dropped with nothing held, since that may be code of the user's.
        if !self.change(|wakers| wakers.of(handle).is_some_and(|known| known.will_wake(waker))) {
            let waker = waker.clone();
            let replaced = self.change(|wakers| wakers.replace(handle, waker));
            drop(replaced);
        }
    }

    /// The handle waits no more.
    pub(super) fn forget(&self, handle: Handle) {
        let known = if handle == Handle::Main { &self.main } else { &self.others };
        if known.load(Ordering::Relaxed) {
            let forgotten = self.change(|wakers| wakers.take(handle));
            drop(forgotten);
        }
    }

    /// Whether something has happened that any handle may attend to, since the last time that somebody asked.
    pub(super) fn take_news(&self) -> bool {
        // Only looked at first: this is asked far more often than it is so.
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::Acquire)
    }

    fn wake(&self, whom: Option<Handle>) {
        let Some(handle) = whom else { return self.wake_others(None) };
        match (self.change(|wakers| wakers.take(handle)), handle) {
            (Some(waker), _) => waker.wake(),
            // What nobody has taken out is read by the main handle.
            (None, Handle::Reader(_)) => {
                self.change(|wakers| wakers.main.take()).into_iter().for_each(Waker::wake)
            }
            // The handle may be gone, and have left something to be done: a terminal's end of file waits for room.
            (None, _) => {
                self.news.store(true, Ordering::Release);
                self.wake_others(None);
            }
        }
    }

    /// There is work left, which one of the others may have to do.
    pub(super) fn hand_on(&self, from: Handle) {
        self.news.store(true, Ordering::Release);
        self.wake_others(Some(from));
    }

    /// Whether anybody but the main handle waits. Asked under the lock of the state.
    pub(super) fn has_others(&self) -> bool {
        self.others.load(Ordering::Relaxed)
    }

    /// Wakes all who wait, but for one.
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
        // Handles that wait in one task are woken once.
        if let Some(waker) = main {
            woken.retain(|(_, other)| !other.will_wake(&waker));
            woken.push((Handle::Main, waker));
        }
        for (_, waker) in woken {
            // A waker that panics, which the reactor bears, does not keep the others from being woken.
            drop(catch_unwind(AssertUnwindSafe(|| waker.wake())));
        }
    }

    /// This handle has more to do, after this time or at once, and lets others go first.
    pub(super) fn go_on(self: &Arc<Self>, me: Handle, waker: &Waker, pause: Option<Duration>) {
        self.register(me, waker);
        if pause.is_some() || !self.goes_on_alone(me, waker) {
            self.wake_all_after(pause.unwrap_or_default());
        }
    }

    /// If nobody else waits, this handle is woken at once. Otherwise it may be another one that is polled next, and this one
    /// not for long.
    fn goes_on_alone(&self, me: Handle, waker: &Waker) -> bool {
        let is_alone = self.change(|wakers| match me {
            Handle::Main => wakers.others.is_empty(),
            _ => wakers.main.is_none() && wakers.others.iter().all(|(other, _)| *other == me),
        });
        if is_alone {
            // If it is not polled again, whoever comes next is to do what it has left.
            self.news.store(true, Ordering::Release);
            waker.wake_by_ref();
        }
        is_alone
    }

    /// Wakes all who wait, a moment later: from a drop, or because of what somebody asked for.
    pub(super) fn wake_all_later(self: &Arc<Self>) {
        self.wake_all_after(Duration::ZERO);
    }

    /// Wakes all who wait once this time is over: to go on after a poll that took its time.
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

/// Notes that something has happened, and wakes whoever waits for it.
#[derive(Debug)]
pub(super) struct Flag {
    set: AtomicBool,
    /// `None` is everybody.
    whom: Option<Handle>,
    waiting: Arc<Waiting>,
}

impl Flag {
    pub(super) fn new(waiting: &Arc<Waiting>, whom: Option<Handle>) -> Arc<Self> {
        Arc::new(Flag { set: AtomicBool::new(false), whom, waiting: waiting.clone() })
    }

    /// Whether it was set since the last time that somebody asked.
    pub(super) fn take(&self) -> bool {
        // Only looked at first: this is asked far more often than it is set.
        self.set.load(Ordering::Relaxed) && self.set.swap(false, Ordering::Acquire)
    }

    /// Sets it for whoever looks next, and wakes nobody.
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::Release);
        if self.whom.is_none() {
            self.waiting.news.store(true, Ordering::Release);
        }
    }

    /// Wakes all who wait, a moment later.
    pub(super) fn wake_all_later(&self) {
        self.waiting.wake_all_later();
    }

    /// The waker that sets it. It is a clone of a clone, all of which have one table, so that it is known by
    /// `Waker::will_wake`.
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(self.clone()).clone()
    }

    /// Polls something that sets this flag once it has more to say.
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

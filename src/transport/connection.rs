//! One running child and all of its handles: the lock around the child's state, and the loop that every awaited handle
//! runs.
//!
//! Refuses to know what a step does, and what the caller gets.
//!
//! Rules:
//! - The handle that is awaited drives everything: feeds, tees, the exit and the bounds.
//! - The state's lock is held for one step, never for a whole poll. It is never held while the caller's code runs: a
//!   source, a tee's writer, a waker, or a destructor of these.
//! - Every poll ends in one of two ways. Either all shared work is armed, so that its flag wakes all waiting tasks. Or
//!   all waiting tasks are woken, and the next one that polls looks at all the work. So another handle may be dropped
//!   or no longer polled, and no work is left undone.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};

use super::pipe::Armed;
use super::slice::Slice;
use super::state::{State, Step};
use super::waiting::{Handle, Waiting};
use crate::protocol::Next;

/// What all handles of one child share.
pub(crate) struct Connection {
    pub(super) waiting: Arc<Waiting>,
    /// `None` once the main handle is gone.
    state: Mutex<Option<State>>,
}

impl Connection {
    pub(super) fn new(waiting: Arc<Waiting>, state: State) -> Self {
        Connection { waiting, state: Mutex::new(Some(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the state out, when the main handle no longer needs it.
    pub(super) fn take_state(&self) -> Option<State> {
        self.lock().take()
    }

    /// In a forked copy the state is dropped with the last handle. If another thread had locked it at the fork, it may be
    /// half changed, and it is never dropped.
    pub(super) fn leave(self: &Arc<Self>) {
        if let Err(TryLockError::WouldBlock) = self.state.try_lock() {
            std::mem::forget(self.clone());
        }
    }

    /// Changes the state.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut guard = self.lock();
        let result = guard.as_mut().map(change);
        unlock(guard);
        result
    }

    /// Moves all that can be moved, until `wanted` returns something.
    pub(super) fn poll<T>(
        &self,
        me: Handle,
        slice: &mut Slice,
        cx: &Context<'_>,
        mut wanted: impl FnMut(&mut State) -> Option<T>,
    ) -> Poll<T> {
        let (mut registered, mut happened) = (false, false);
        let result = loop {
            let is_over = slice.is_over();
            let mut guard = self.lock();
            let Some(state) = &mut *guard else {
                drop(guard);
                self.waiting.register(me, cx.waker());
                break Poll::Pending;
            };
            if is_over && !state.is_about_to_end() {
                drop(guard);
                self.waiting.go_on(me, cx.waker(), slice.pauses());
                break Poll::Pending;
            }
            if let Some(found) = wanted(state) {
                if state.protocol.next() == Next::Ended {
                    state.child.release();
                    state.trace.close();
                }
                // Other handles may wait for work that this handle leaves undone, and this one may not be polled again
                // for long.
                let hands_on = self.waiting.has_others() && state.has_work_for_others();
                unlock(guard);
                if hands_on {
                    self.waiting.hand_on(Some(me));
                }
                break Poll::Ready(found);
            }
            // Register before the first step, so that no wake-up is missed.
            if !std::mem::replace(&mut registered, true) {
                drop(guard);
                self.waiting.register(me, cx.waker());
                continue;
            }
            let step = state.step(me);
            unlock(guard);
            match step {
                Step::Moved => slice.moved(),
                Step::Happened => happened = true,
                Step::Copy(tee) => tee.run(),
                Step::Source(source) => source.run(),
                Step::Nothing => {
                    slice.waits();
                    break Poll::Pending;
                }
            }
        };
        if result.is_ready() {
            self.waiting.forget(me);
        }
        if happened {
            self.waiting.wake_others(Some(me));
        }
        result
    }

    /// Moves all that can be moved, for a handle that itself needs nothing from the state.
    pub(super) fn drive(&self, me: Handle, slice: &mut Slice, cx: &Context<'_>) {
        let driven = self.poll(me, slice, cx, |_| None::<Infallible>);
        debug_assert!(driven.is_pending(), "it wants nothing");
    }

    /// For a handle that the caller took out: attempts what needs no state, and arms the end if that must wait. The
    /// handle drives all other work only if there is news, or before it waits.
    pub(super) fn poll_taken<E, T>(
        &self,
        me: Handle,
        slice: &mut Slice,
        cx: &Context<'_>,
        end: &mut E,
        mut attempt: impl FnMut(&mut E, &mut Slice) -> Poll<T>,
        arm: impl Fn(&mut E) -> Armed,
    ) -> Poll<T> {
        let mut drives = self.waiting.take_news();
        slice.is_over();
        loop {
            if slice.is_spent() {
                self.waiting.go_on(me, cx.waker(), slice.pauses());
                return Poll::Pending;
            }
            if drives {
                self.drive(me, slice, cx);
            }
            if let Poll::Ready(done) = attempt(end, slice) {
                slice.moved();
                if drives {
                    self.waiting.forget(me);
                }
                return Poll::Ready(done);
            }
            // If the attempt used up the slice, no flag will be set.
            if !std::mem::replace(&mut drives, true) || slice.is_spent() {
                continue;
            }
            if arm(end) != Armed::Ready {
                slice.waits();
                return Poll::Pending;
            }
        }
    }
}

/// Releases the lock, then drops what was closed under it.
fn unlock(mut guard: MutexGuard<'_, Option<State>>) {
    let garbage = guard.as_mut().map(|state| std::mem::take(&mut state.garbage));
    drop(guard);
    drop(garbage);
}

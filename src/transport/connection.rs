//! One running child and all of its handles: the lock around its state, and the loop that whoever is awaited runs.
//!
//! Refuses to know what a step does, and what the user gets.
//!
//! Rules:
//! - Whoever is awaited drives all of it: feeds, copies, the exit and the bounds.
//! - The state's lock is held for one step, never over a poll, and never while code of the user's runs: sources, copies,
//!   wakers, and whatever their dropping does.
//! - Every poll leaves one of two things behind: all that anybody may attend to is armed, so that its flag wakes all
//!   who wait; or all who wait are woken, and whoever is polled next looks after all of it. So a handle that is dropped,
//!   or polled no more, leaves nothing undone that another one waits for.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::ANYBODY;
use super::slice::Slice;
use super::state::{State, Step};
use super::waiting::{Handle, Waiting};
use crate::protocol::Next;
use crate::spawn::Child;

/// What all handles of one child share.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) waiting: Arc<Waiting>,
    /// Dropped before the pipes: the child is killed, and not by them.
    pub(super) child: Child,
    /// As long as the main handle is there.
    state: Mutex<Option<State>>,
}

impl Connection {
    pub(super) fn new(waiting: Arc<Waiting>, child: Child, state: State) -> Self {
        Connection { waiting, child, state: Mutex::new(Some(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, when the main handle needs it no more.
    pub(super) fn take_state(&self) -> Option<State> {
        self.lock().take()
    }

    /// Changes the state, and drops with nothing held what was closed by that.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut guard = self.lock();
        let state = guard.as_mut()?;
        let result = change(state);
        let garbage = std::mem::take(&mut state.garbage);
        drop(guard);
        drop(garbage);
        Some(result)
    }

    /// Moves all that can be moved, until `wanted` gives something.
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
            if is_over && !guard.as_ref().is_some_and(State::is_about_to_end) {
                drop(guard);
                self.waiting.go_on(me, cx.waker(), slice.pauses());
                break Poll::Pending;
            }
            let Some(state) = &mut *guard else {
                drop(guard);
                self.waiting.register(me, cx.waker());
                break Poll::Pending;
            };
            if let Some(found) = wanted(state) {
                if state.protocol.next() == Next::Ended {
                    self.child.release();
                    state.trace.close();
                }
                // The others may wait for what this handle leaves undone, and it may not be polled again for long.
                let hands_on = self.waiting.has_others() && state.has_work_for_others(&self.child);
                let garbage = std::mem::take(&mut state.garbage);
                drop(guard);
                drop(garbage);
                if hands_on {
                    self.waiting.hand_on(me);
                }
                break Poll::Ready(found);
            }
            // Before the first step, so that nothing is missed.
            if !std::mem::replace(&mut registered, true) {
                drop(guard);
                self.waiting.register(me, cx.waker());
                continue;
            }
            let step = state.step(me, &self.child);
            let looks_again = cfg!(unix) && me != ANYBODY && state.streams();
            let spins = matches!(step, Step::Nothing) && looks_again && slice.spins();
            if spins {
                state.expect_all();
            }
            let garbage = std::mem::take(&mut state.garbage);
            drop(guard);
            drop(garbage);
            match step {
                Step::Moved => slice.moved(),
                Step::Happened => happened = true,
                Step::Copy(tee) => tee.ask(),
                Step::Source(source) => source.ask(),
                Step::Nothing if spins => {}
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

    /// Moves all that can be moved, by a handle that wants nothing of it for itself.
    pub(super) fn drive(&self, me: Handle, slice: &mut Slice, cx: &Context<'_>) {
        let driven = self.poll(me, slice, cx, |_| None::<Infallible>);
        debug_assert!(driven.is_pending(), "it wants nothing");
    }
}

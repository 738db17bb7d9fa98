//! One running child and all of its handles: the lock around its state, and the loop that whoever is awaited runs.
//!
//! Refuses to know what a step does, and what the user gets.
//!
//! Rules:
//! - Whoever is awaited drives all of it: feeds, copies, the exit and the bounds.
//! - The state's lock is held for one step, never over a poll, and never while code of the user's runs: sources, copies,
//!   wakers, and whatever their dropping does.
//! - Every poll leaves one of two things behind: all that anybody may attend to is armed, so that its flag wakes all
//!   who wait; or all who wait are woken a moment later. So a handle that is dropped, or polled no more, leaves nothing
//!   undone that another one waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::slice::Slice;
use super::state::{PipeState, State, Step};
use super::waiting::{Handle, Waiting};
use crate::protocol::{Next, Slot};
use crate::spawn::Child;

/// What all handles of one child share.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) waiting: Arc<Waiting>,
    /// Dropped before the pipes: the child is killed, and not by them.
    pub(super) child: Child,
    /// Empty once the main handle was dropped, or has the end.
    pub(super) state: Mutex<Option<State>>,
}

impl Connection {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
                self.waiting.register(me, cx.waker());
                self.waiting.wake_all_after(slice.pauses());
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
            let spins = matches!(step, Step::Nothing) && cfg!(unix) && state.streams() && slice.spins();
            if spins {
                state.expect_all();
            }
            let garbage = std::mem::take(&mut state.garbage);
            drop(guard);
            drop(garbage);
            match step {
                Step::Moved => slice.moved(),
                Step::Happened => happened = true,
                Step::Call(slot, pipe) => self.call(slot, pipe),
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

    /// Calls code of the user's, with nothing held. Meanwhile others find the pipe busy.
    fn call(&self, slot: Slot, pipe: PipeState) {
        let mut called = Called { connection: self, slot, pipe: Some(pipe), returned: false };
        match &mut called.pipe {
            Some(PipeState::Output(output)) => output.tee.iter_mut().for_each(|tee| tee.ask()),
            Some(PipeState::Feed(feeder)) => feeder.ask(),
            _ => {}
        }
        called.returned = true;
    }
}

/// Puts a pipe back, also after a panic.
struct Called<'a> {
    connection: &'a Connection,
    slot: Slot,
    pipe: Option<PipeState>,
    returned: bool,
}

impl Drop for Called<'_> {
    fn drop(&mut self) {
        self.connection.with(|state| {
            // It may have been closed or taken over meanwhile.
            match (&mut state.pipes[self.slot], self.pipe.take()) {
                (place @ PipeState::Busy, Some(pipe)) => *place = pipe,
                (PipeState::Taken(place), Some(PipeState::Output(output))) => {
                    *place = Some(output);
                    self.returned = false;
                }
                (_, pipe) => self.pipe = pipe,
            }
        });
        if !self.returned {
            self.connection.waiting.wake_all_later();
        }
    }
}

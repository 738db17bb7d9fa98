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
use super::state::{Output, PipeState, State, Step};
use super::waiting::{Handle, Waiting};
use crate::protocol::{Next, Slot};
use crate::spawn::Child;

/// What all handles of one child share.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) waiting: Arc<Waiting>,
    /// Dropped before the pipes: the child is killed, and not by them.
    pub(super) child: Child,
    stage: Mutex<Stage>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what nearly all children are at, and a box is dearer"
)]
enum Stage {
    /// As long as the main handle is there.
    Runs(State),
    /// It was dropped, or has the end. Left are the pipes that a reader has taken over while code of the user's ran for
    /// them: each comes as soon as that is over.
    Over(Vec<(Slot, Option<Output>)>),
}

impl Stage {
    fn state(&mut self) -> Option<&mut State> {
        match self {
            Stage::Runs(state) => Some(state),
            Stage::Over(_) => None,
        }
    }

    /// Where a pipe is put that was taken over while code of the user's runs for it.
    fn place(&mut self, slot: Slot) -> Option<&mut Option<Output>> {
        match self {
            Stage::Runs(state) => match &mut state.pipes[slot] {
                PipeState::Taken(place) => Some(place),
                _ => None,
            },
            Stage::Over(left) => left.iter_mut().find(|(of, _)| *of == slot).map(|(_, place)| place),
        }
    }
}

impl Connection {
    pub(super) fn new(waiting: Arc<Waiting>, child: Child, state: State) -> Self {
        Connection { waiting, child, stage: Mutex::new(Stage::Runs(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, when the main handle needs it no more.
    pub(super) fn take_state(&self) -> Option<State> {
        let mut guard = self.lock();
        let pipes = &mut guard.state()?.pipes;
        let taken = pipes.iter_mut().enumerate().filter_map(|(slot, pipe)| match pipe {
            PipeState::Taken(output) => Some((slot, output.take())),
            _ => None,
        });
        let left = taken.collect();
        match std::mem::replace(&mut *guard, Stage::Over(left)) {
            Stage::Runs(state) => Some(state),
            Stage::Over(_) => None,
        }
    }

    /// A pipe that was taken over while code of the user's ran for it, once that is over.
    pub(super) fn taken(&self, slot: Slot) -> Option<Output> {
        self.lock().place(slot)?.take()
    }

    /// The reader of this pipe is gone: if it has not got the pipe yet, nobody is to get it any more.
    pub(super) fn leave(&self, slot: Slot) {
        let left = match &mut *self.lock() {
            Stage::Runs(state) => match &mut state.pipes[slot] {
                PipeState::Taken(output) => {
                    let output = output.take();
                    state.pipes[slot] = PipeState::Gone;
                    output
                }
                _ => None,
            },
            Stage::Over(left) => {
                let place = left.iter().position(|(of, _)| *of == slot);
                place.and_then(|place| left.swap_remove(place).1)
            }
        };
        drop(left);
    }

    /// Changes the state, and drops with nothing held what was closed by that.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut guard = self.lock();
        let state = guard.state()?;
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
            if is_over && !guard.state().is_some_and(|state| state.is_about_to_end()) {
                drop(guard);
                self.waiting.go_on(me, cx.waker(), slice.pauses());
                break Poll::Pending;
            }
            let Some(state) = guard.state() else {
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

    /// Moves all that can be moved, by a handle that wants nothing of it for itself.
    pub(super) fn drive(&self, me: Handle, slice: &mut Slice, cx: &Context<'_>) {
        let driven = self.poll(me, slice, cx, |_| None::<Infallible>);
        debug_assert!(driven.is_pending(), "it wants nothing");
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
        // It may have been closed or taken over meanwhile.
        let mut stage = self.connection.lock();
        match (self.pipe.take(), stage.place(self.slot)) {
            (Some(PipeState::Output(output)), Some(place)) => {
                *place = Some(output);
                self.returned = false;
            }
            (pipe, _) => match (pipe, stage.state().map(|state| &mut state.pipes[self.slot])) {
                (Some(pipe), Some(place @ PipeState::Busy)) => *place = pipe,
                (pipe, _) => self.pipe = pipe,
            },
        }
        drop(stage);
        if !self.returned {
            self.connection.waiting.wake_all_later();
        }
    }
}

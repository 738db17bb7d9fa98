//! The engine room: moves bytes between pipes and the protocol, and waits for the exit. No other module awaits I/O.
//!
//! Refuses to decide what an event means: it reports each event to the protocol, and does what the protocol returns.
//!
//! | room | owns |
//! | --- | --- |
//! | here | the main handle: the operations of a promise or a process |
//! | `start` | a start: it gives each pipe its source or its tee |
//! | `connection` | the lock around one child's state, and the loop that every awaited handle runs |
//! | `state` | the state, and what one step does |
//! | `waiting` | the wakers of the waiting tasks, and the flags that the reactor sets |
//! | `slice` | how long one handle may go on |
//! | `reader`, `writer` | the handles that the caller took out |
//! | `pipe` | an end of a pipe: a non-blocking attempt, then the reactor |
//! | `output` | a pipe out of the child, with its tee |
//! | `feed`, `tee` | sources and copies |
//! | `user_code` | the cell that holds the caller's code |
//! | `parent_output` | the parent's own stdout and stderr, for a tee |
//! | `terminal`, `clock`, `trace` | the pseudoterminal, the bounds, the `tracing` span |
//!
//! Rules:
//! - Bytes are read straight into the buffer that the caller gets.
//! - A pipe is read only if its bytes are wanted. This is the back-pressure.
//! - One poll takes a bounded time.

mod clock;
mod connection;
mod feed;
mod output;
mod parent_output;
#[cfg(unix)]
mod pipe;
#[cfg(windows)]
#[path = "pipe_windows.rs"]
mod pipe;
mod reader;
mod slice;
mod start;
mod state;
mod tee;
mod terminal;
mod trace;
mod user_code;
mod waiting;
mod writer;

#[cfg(unix)]
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::output::Exit;
use crate::protocol::{Direction, Ending, Fault, Keep, LineBatch, Next, Notice, Piece, Protocol, Slot};
use crate::spawn::{ChildRef, OnDrop, is_copy, wake_later};
#[cfg(unix)]
use crate::stdio::PtySize;

pub(crate) use clock::{Activity, Bounds};
use connection::Connection;
pub(crate) use parent_output::ParentOutput;
pub(crate) use reader::TakenReader;
use slice::Slice;
pub(crate) use start::{Flow, Flows};
use state::{PipeState, State};
pub(crate) use trace::Trace;
use waiting::Handle;
pub(crate) use writer::TakenWriter;

/// The main handle of a running child. Dropping it kills the child.
pub(crate) struct Transport {
    connection: Arc<Connection>,
    slice: Slice,
    started: Instant,
    /// Lines that were already read, taken out of the state so that a line costs no lock. They are given back before
    /// any other operation.
    ahead: Option<Box<LineBatch>>,
    /// To name and signal the child without the state's lock. In a forked copy nobody releases a lock that another
    /// thread held at the fork.
    child: ChildRef,
}

impl Drop for Transport {
    fn drop(&mut self) {
        if is_copy() {
            return self.connection.leave();
        }
        self.connection.waiting.forget(Handle::Main);
        let Some(mut state) = self.connection.take_state() else { return };
        // If the child keeps running, it keeps its terminal and gets no SIGHUP.
        #[cfg(unix)]
        if let (true, Some(terminal)) = (state.child.runs_on_when_dropped(), &mut state.terminal) {
            terminal.take_master().into_iter().for_each(|master| state.child.hold_open(master));
        }
        state.child.abandon();
        // A terminal hangs up, even if the caller took its writer out.
        if state.terminal.is_some() {
            state.hang_up();
            drop(state);
            self.connection.waiting.wake_all_later();
        }
    }
}

impl Transport {
    /// Moves bytes until the child has ended, and collects the output.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = |protocol: &mut Protocol| (protocol.next() == Next::Ended).then(|| protocol.join());
        if ready!(self.poll(cx, ended)) {
            return Poll::Ready(());
        }
        // A long secret is joined chunk by chunk, and other tasks run in between.
        wake_later(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the last poll used up its time and has more to do.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.slice.was_spent()
    }

    /// Moves bytes until there is a notice. `None` after the end was reported.
    pub(crate) fn poll_notice(&mut self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.poll(cx, |protocol| match protocol.notice() {
            None if protocol.is_over() => Some(None),
            notice => notice.map(Some),
        })
    }

    /// A line of the batch that was already checked.
    #[inline]
    pub(crate) fn ready_line(&mut self, limit: usize) -> Option<(i32, &str, bool)> {
        let ready = self.ahead.as_mut()?;
        if self.slice.is_new() || self.slice.is_over_for_line() { None } else { ready.line(limit) }
    }

    /// Moves bytes until there is a line. `None` if the child has ended and no line is left. Called if `ready_line`
    /// returns none.
    #[cold]
    pub(crate) fn poll_line(&mut self, limit: usize, cx: &Context<'_>) -> Poll<Option<(i32, Piece)>> {
        if self.ahead.is_some() {
            // All other work goes on meanwhile, once in each slice, because a line does none of it.
            if self.slice.is_new() && !self.slice.is_over() {
                self.connection.drive(Handle::Anybody, &mut Slice::default(), cx);
                self.connection.waiting.forget(Handle::Anybody);
                // That has a slice of its own: if it uses up all of it, in each poll, lines come nevertheless.
                self.slice.waits();
            }
            // Even if the child is about to end: thousands of lines may be left.
            if self.slice.is_over() {
                self.connection.waiting.go_on(Handle::Main, cx.waker(), self.slice.pauses());
                return Poll::Pending;
            }
            let line = self.ahead.as_mut().and_then(|ready| {
                let of_batch = ready.line(limit).map(|(fd, text, complete)| (fd, Piece::of(text, complete)));
                of_batch.or_else(|| ready.line_apart(limit))
            });
            if let Some(line) = line {
                return Poll::Ready(Some(line));
            }
        }
        let line = ready!(self.poll(cx, |protocol| match protocol.line(limit) {
            None if protocol.next() == Next::Ended && !protocol.holds_back() => Some(None),
            line => line.map(Some),
        }));
        let Some((slot, fd, piece)) = line else { return Poll::Ready(None) };
        if piece.complete {
            self.ahead = self.with(|state| state.protocol.lend(slot));
        }
        Poll::Ready(Some((fd, piece)))
    }

    /// Puts the batch back into the state.
    fn give_back(&mut self) {
        if let Some(ready) = self.ahead.take() {
            self.connection.with(|state| state.protocol.give_back(*ready));
        }
    }

    /// Moves some of what is there, even if the time is over.
    pub(crate) fn catch_up(&mut self) {
        self.with(State::catch_up);
    }

    /// Moves bytes until the child has exited, and collects the output.
    pub(crate) fn poll_outcome(&mut self, cx: &Context<'_>) -> Poll<(Exit, Option<Fault>)> {
        self.poll(cx, |protocol| protocol.outcome())
    }

    /// Whether the child has exited at this moment. Before the exit its output stays in the pipes, and waiting tasks
    /// keep waiting.
    pub(crate) fn look(&mut self) -> Option<(Exit, Option<Fault>)> {
        // The reactor may not have set the flag yet.
        self.with(|state| state.child_flag.set());
        loop {
            let (mut slice, cx) = (Slice::default(), Context::from_waker(Waker::noop()));
            let looked =
                self.connection.poll(Handle::Anybody, &mut slice, &cx, |state| state.protocol.outcome());
            self.connection.waiting.forget(Handle::Anybody);
            // After the exit, only what the pipes held at the exit must still be read.
            if looked.is_ready() || !slice.was_spent() || !self.with(|state| state.protocol.has_exited()) {
                return match looked {
                    Poll::Ready(outcome) => Some(outcome),
                    Poll::Pending => None,
                };
            }
        }
    }

    fn poll<T>(&mut self, cx: &Context<'_>, mut wanted: impl FnMut(&mut Protocol) -> Option<T>) -> Poll<T> {
        self.give_back();
        self.connection.poll(Handle::Main, &mut self.slice, cx, |state| wanted(&mut state.protocol))
    }

    /// When the child ended, if it has.
    pub(crate) fn ended_at(&self) -> Option<Instant> {
        self.connection.with(|state| state.ended_at)?
    }

    /// From the start to the exit, or to now.
    pub(crate) fn elapsed(&self) -> Duration {
        let exited_at = self.connection.with(|state| state.exited_at).flatten();
        exited_at.unwrap_or_else(Instant::now).saturating_duration_since(self.started)
    }

    /// The result of the child, and how long it took. Called after `poll_end` was ready.
    pub(crate) fn into_ending(mut self) -> (Ending, Duration) {
        self.give_back();
        let state = self.connection.take_state();
        // The state exists until the main handle is dropped, and this is the main handle.
        let state = state.expect("the state is the main handle's");
        let ended_at = state.ended_at.unwrap_or_else(Instant::now);
        (state.protocol.into_ending(), ended_at.saturating_duration_since(self.started))
    }
}

/// The operations on a running child.
impl Transport {
    /// Changes the state, which exists as long as this handle. It has all of the output.
    fn with<T: Default>(&mut self, change: impl FnOnce(&mut State) -> T) -> T {
        self.give_back();
        self.connection.with(change).unwrap_or_default()
    }

    /// Whether the end was reported.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.with(|state| state.protocol.is_over()).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.pid()
    }

    pub(crate) fn remote(&self) -> ChildRef {
        self.child.clone()
    }

    /// Whether there is a fault: `true` if the child must be killed for it, `false` if the child was only late.
    pub(crate) fn has_failed(&mut self) -> Option<bool> {
        self.with(|state| state.protocol.fault().map(|fault| !matches!(fault, Fault::TimedOut | Fault::Idle)))
    }

    /// Ends the child as if it were late, because of another member of its pipeline.
    pub(crate) fn stop(&mut self, at_once: bool) {
        self.with(|state| {
            if at_once {
                state.child.forfeit_grace();
            }
            state.protocol.timed_out();
        });
    }

    /// The child keeps running when this handle is dropped.
    pub(crate) fn keep_running_on_drop(&self) {
        self.child.on_drop(OnDrop::RunOn);
    }

    /// Takes out the pipe into the child, once.
    pub(crate) fn writer(&mut self, fd: i32) -> Option<TakenWriter> {
        let (slot, pipe, activity) = self.with(|state| {
            let slot = state.protocol.slot(fd, Direction::In)?;
            match &mut state.pipes[slot] {
                PipeState::Writer { pipe, taken } => {
                    let first = !mem::replace(taken, true);
                    first.then(|| (slot, pipe.clone(), state.activity.clone()))
                }
                _ => None,
            }
        })?;
        Some(TakenWriter::new(self.connection.clone(), slot, pipe, activity))
    }

    /// Takes out the pipe out of the child, once, with the bytes that were read but not reported. The pipe may have
    /// ended already.
    pub(crate) fn reader(&mut self, fd: i32) -> Option<(Vec<u8>, TakenReader)> {
        let (read, slot, output, activity, is_terminal, child) = self.with(|state| {
            let slot = state.protocol.slot(fd, Direction::Out)?;
            let output = match mem::replace(&mut state.pipes[slot], PipeState::Gone) {
                PipeState::Output(output) if !state.protocol.is_cut_off(slot) => Some(output),
                // Between the bytes that were read and the next ones there would be a hole.
                output @ PipeState::Output(_) => {
                    state.garbage.push(output);
                    None
                }
                _ if state.protocol.has_unreported_end(slot) => None,
                _ => return None,
            };
            let read = state.protocol.released(slot);
            state.note_end();
            let is_terminal = state.terminal.is_some() && fd <= 1;
            Some((read, slot, output, state.activity.clone(), is_terminal, state.child.fate()))
        })?;
        let connection = self.connection.clone();
        Some((read, TakenReader::new(connection, child, slot, output, activity, is_terminal)))
    }

    /// Closes the parent's end. Returns whether it was open.
    pub(crate) fn close(&mut self, fd: i32) -> bool {
        let closed = self.with(|state| {
            let ways = [Direction::In, Direction::Out];
            let slot = ways.into_iter().find_map(|way| state.protocol.slot(fd, way))?;
            if let PipeState::Gone = state.pipes[slot] {
                return None;
            }
            state.protocol.pause(slot, false);
            state.close_by_hand(slot);
            Some(())
        });
        self.connection.waiting.wake_all_later();
        closed.is_some()
    }

    pub(crate) fn close_all(&mut self) {
        self.with(|state| {
            state.protocol.resume_all();
            (0..state.pipes.len()).for_each(|slot| state.close_by_hand(slot));
            state.hang_up();
        });
        self.connection.waiting.wake_all_later();
    }

    /// The caller no longer talks to the child. This closes the inputs that the caller did not take, and resumes all
    /// descriptors.
    pub(crate) fn talk_no_more(&mut self) {
        self.close_untaken_inputs();
        self.with(|state| state.protocol.resume_all());
        self.connection.waiting.wake_all_later();
    }

    /// Closes the inputs whose writer the caller did not take.
    pub(crate) fn close_untaken_inputs(&mut self) {
        let closed = self.with(|state| {
            let is_untaken =
                |slot: &Slot| matches!(state.pipes[*slot], PipeState::Writer { taken: false, .. });
            let untaken: Vec<Slot> = (0..state.pipes.len()).filter(is_untaken).collect();
            // If the input is a terminal, its end of file is typed.
            untaken.iter().for_each(|slot| state.close_by_hand(*slot));
            !untaken.is_empty()
        });
        // A caller that does this at each poll must not wake tasks for nothing.
        if closed {
            self.connection.waiting.wake_all_later();
        }
    }

    /// Whether the child wrote to a descriptor that the caller did not take over.
    pub(crate) fn spoke(&self, fd: i32) -> bool {
        self.connection.with(|state| state.protocol.spoke(fd)).unwrap_or_default()
    }

    /// From now on all output is collected, and this much of each descriptor is kept.
    pub(crate) fn keep(&mut self, how_much: impl Fn(i32) -> Keep) {
        self.with(|state| state.protocol.keep(how_much));
    }

    /// Pauses or resumes a descriptor. Returns whether it leads out of the child.
    pub(crate) fn pause(&mut self, fd: i32, paused: bool) -> bool {
        let found = self.with(|state| {
            let slot = state.protocol.slot(fd, Direction::Out)?;
            state.protocol.pause(slot, paused);
            Some(())
        });
        if !paused {
            self.connection.waiting.wake_all_later();
        }
        found.is_some()
    }

    #[cfg(unix)]
    pub(crate) fn had_terminal(&mut self) -> bool {
        self.with(|state| state.terminal.is_some())
    }

    /// Sets the size of the terminal. `false` if there is none, or it is closed.
    #[cfg(unix)]
    pub(crate) fn resize(&mut self, size: PtySize) -> io::Result<bool> {
        if is_copy() {
            return Ok(false);
        }
        let resized = self.with(|state| state.terminal.as_ref().map(|terminal| terminal.resize(size)));
        resized.unwrap_or(Ok(false))
    }
}

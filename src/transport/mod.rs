//! The engine room: moves bytes between pipes and the protocol, and waits for the exit. The only place
//! that awaits I/O.
//!
//! Refuses to decide what any of it means: it tells the protocol what happened, and does what it says.
//!
//! | room | owns |
//! | --- | --- |
//! | here | the main handle: what a promise or a process asks for |
//! | `connection` | the lock around one child's state, and the loop that whoever is awaited runs |
//! | `state` | the state, and what one step does |
//! | `waiting` | who is to be woken, and the flags that the reactor sets |
//! | `slice` | how long one handle may go on |
//! | `reader`, `writer` | the handles that were taken out |
//! | `pipe` | an end of a pipe: tried, then waited for |
//! | `output` | a pipe out of the child, with its copy |
//! | `feed`, `tee` | sources and copies |
//! | `lent` | code of the user's, and its place |
//! | `shown` | the parent's own stdout and stderr, to copy to |
//! | `terminal`, `clock`, `trace` | what their names say |
//!
//! Rules: bytes are read straight into the buffer that the user gets; nothing is read that nobody takes, which is the
//! backpressure; one poll takes a bounded time.

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
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::output::Exit;
use crate::protocol::{Direction, Ending, Fault, Keep, LineBatch, Next, Notice, Piece, Protocol, Slot};
#[cfg(unix)]
use crate::spawn::is_copy;
use crate::spawn::{ChildRef, OnDrop, wake_later};
#[cfg(unix)]
use crate::stdio::PtySize;

pub(crate) use clock::{Activity, Bounds};
use connection::Connection;
pub(crate) use feed::Source;
pub(crate) use parent_output::ParentOutput;
pub(crate) use reader::TakenReader;
use slice::Slice;
pub(crate) use start::Flows;
use state::{PipeState, State};
pub(crate) use trace::Trace;
use waiting::Handle;
pub(crate) use writer::TakenWriter;

/// Does what anybody may do, and reads nothing for itself.
const ANYBODY: Handle = Handle::Reader(Slot::MAX);

/// The main handle of a running child. Dropping it kills the child.
#[derive(Debug)]
pub(crate) struct Transport {
    connection: Arc<Connection>,
    slice: Slice,
    started: Instant,
    /// Lines that are there, taken out of the state so that each of them costs no lock. Given back before anything else is
    /// asked for.
    ahead: Mutex<Option<Box<LineBatch>>>,
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.connection.waiting.forget(Handle::Main);
        // If the child is to run on, it keeps its terminal, and gets no SIGHUP.
        #[cfg(unix)]
        if self.connection.child.runs_on_when_dropped() {
            if let Some(master) = self.with(|state| state.terminal.as_mut()?.take_master()) {
                self.connection.child.hold_open(master);
            }
        }
        // Before the pipes are closed: the child is killed, and not by them.
        self.connection.child.abandon();
        let state = self.connection.take_state();
        // A terminal hangs up, whoever has taken out what is typed there.
        if let Some(mut state) = state.filter(|state| state.terminal.is_some()) {
            state.hang_up();
            drop(state);
            self.connection.waiting.wake_all_later();
        }
    }
}

impl Transport {
    /// Moves bytes until the child has ended, and collects them.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = |protocol: &mut Protocol| (protocol.next() == Next::Ended).then(|| protocol.join());
        if ready!(self.poll(cx, ended)) {
            return Poll::Ready(());
        }
        // A long secret is put together piece by piece, with others in between.
        wake_later(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the last poll took all the time that it may have, and has more to do.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.slice.was_spent()
    }

    /// Moves bytes until there is something to tell; `None` after the end was told.
    pub(crate) fn poll_notice(&mut self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.poll(cx, |protocol| match protocol.notice() {
            None if protocol.is_over() => Some(None),
            notice => notice.map(Some),
        })
    }

    /// A line that is there, of those that were looked at together.
    #[inline]
    pub(crate) fn ready_line(&mut self, limit: usize) -> Option<(i32, &str, bool)> {
        let ahead = self.ahead.get_mut().unwrap_or_else(PoisonError::into_inner);
        let ready = ahead.as_mut()?;
        if self.slice.is_new() || self.slice.is_over_for_line() { None } else { ready.line(limit) }
    }

    /// Moves bytes until there is a line to tell; `None` when the child has ended and there is none. Asked when
    /// `ready_line` gives none.
    #[cold]
    pub(crate) fn poll_line(&mut self, limit: usize, cx: &Context<'_>) -> Poll<Option<(i32, Piece)>> {
        if self.ahead.get_mut().unwrap_or_else(PoisonError::into_inner).is_some() {
            // All else goes on meanwhile: once in each slice, since a line takes none of it along.
            if self.slice.is_new() && !self.slice.is_over() {
                self.connection.drive(ANYBODY, &mut self.slice, cx);
                self.connection.waiting.forget(ANYBODY);
                if self.slice.was_spent() {
                    self.connection.waiting.go_on(Handle::Main, cx.waker(), None);
                    return Poll::Pending;
                }
                self.slice.is_over();
            }
            // Also if the child is about to end: there may be thousands of lines until then.
            if self.slice.is_spent() {
                self.connection.waiting.go_on(Handle::Main, cx.waker(), self.slice.pauses());
                return Poll::Pending;
            }
            let ahead = self.ahead.get_mut().unwrap_or_else(PoisonError::into_inner);
            let line = ahead.as_mut().and_then(|ready| {
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
            self.ahead = Mutex::new(self.with(|state| state.protocol.lend(slot)));
        }
        Poll::Ready(Some((fd, piece)))
    }

    /// The state is whole again.
    fn give_back(&self) {
        let ready = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ready) = ready {
            self.connection.with(|state| state.protocol.give_back(*ready));
        }
    }

    /// Moves some of what is there, whatever the time.
    pub(crate) fn catch_up(&mut self) {
        self.with(State::catch_up);
    }

    /// Moves bytes until the child has exited, and collects them.
    pub(crate) fn poll_outcome(&mut self, cx: &Context<'_>) -> Poll<(Exit, Option<Fault>)> {
        self.poll(cx, |protocol| protocol.outcome())
    }

    /// Whether the child has exited, at this moment. What it wrote is left in its pipes until then, and whoever waits goes on
    /// waiting.
    pub(crate) fn look(&mut self) -> Option<(Exit, Option<Fault>)> {
        // The reactor may not have come round to tell.
        self.with(|state| state.child_flag.set());
        loop {
            let (mut slice, cx) = (Slice::default(), Context::from_waker(Waker::noop()));
            let looked = self.connection.poll(ANYBODY, &mut slice, &cx, |state| state.protocol.outcome());
            self.connection.waiting.forget(ANYBODY);
            // Once it has exited, only what its pipes held then is to be read before.
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

    /// When the child had ended, once it had.
    pub(crate) fn ended_at(&self) -> Option<Instant> {
        self.with(|state| state.ended_at)
    }

    /// From the start to the exit.
    pub(crate) fn elapsed(&self) -> Duration {
        let exited_at = self.with(|state| state.exited_at).unwrap_or_else(Instant::now);
        exited_at.saturating_duration_since(self.started)
    }

    /// What the child left, and how long it took; once `poll_end` was ready.
    pub(crate) fn into_ending(self) -> (Ending, Duration) {
        self.give_back();
        let state = self.connection.take_state();
        // It is there until the main handle is dropped, which is this one.
        let state = state.expect("the state is the main handle's");
        let ended_at = state.ended_at.unwrap_or_else(Instant::now);
        (state.protocol.into_ending(), ended_at.saturating_duration_since(self.started))
    }
}

/// What a living child is asked for.
impl Transport {
    /// Something of the state, which is there for as long as this handle is.
    fn with<T: Default>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.give_back();
        self.connection.with(change).unwrap_or_default()
    }

    /// Whether the end was told.
    pub(crate) fn is_over(&self) -> bool {
        self.with(|state| state.protocol.is_over())
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.connection.child.pid()
    }

    pub(crate) fn remote(&self) -> ChildRef {
        self.connection.child.remote()
    }

    /// Whether something went wrong, once that is known: `true` if the child is to be killed for it, `false` if it was
    /// only late.
    pub(crate) fn has_failed(&self) -> Option<bool> {
        self.with(|state| state.protocol.fault().map(|fault| !matches!(fault, Fault::TimedOut | Fault::Idle)))
    }

    /// Ends the child as if it were late, because of what somebody else did.
    pub(crate) fn stop(&self, at_once: bool) {
        if at_once {
            self.connection.child.forfeit_grace();
        }
        self.with(|state| state.protocol.timed_out());
    }

    /// Lets the child run on when this is dropped.
    pub(crate) fn keep_running_on_drop(&self) {
        self.connection.child.on_drop(OnDrop::RunOn);
    }

    /// The pipe into the child, once.
    pub(crate) fn writer(&self, fd: i32) -> Option<TakenWriter> {
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

    /// The pipe out of the child, once, with what was read from it and not told. It may have ended since.
    pub(crate) fn reader(&self, fd: i32) -> Option<(Vec<u8>, TakenReader)> {
        let (read, slot, output, activity, is_terminal) = self.with(|state| {
            let slot = state.protocol.slot(fd, Direction::Out)?;
            let output = match mem::replace(&mut state.pipes[slot], PipeState::Gone) {
                PipeState::Output(output) => Some(output),
                _ if state.protocol.has_unreported_end(slot) => None,
                _ => return None,
            };
            let read = state.protocol.released(slot);
            state.note_end();
            let is_terminal = state.terminal.is_some() && fd <= 1;
            Some((read, slot, output, state.activity.clone(), is_terminal))
        })?;
        let connection = self.connection.clone();
        Some((read, TakenReader::new(connection, slot, output, activity, is_terminal)))
    }

    /// Closes our end; whether it was open.
    pub(crate) fn close(&self, fd: i32) -> bool {
        let closed = self.with(|state| {
            let slots = [Direction::In, Direction::Out].map(|way| state.protocol.slot(fd, way));
            let is_open = |slot: &Slot| !matches!(state.pipes[*slot], PipeState::Gone);
            let open: Vec<Slot> = slots.into_iter().flatten().filter(is_open).collect();
            for slot in &open {
                state.protocol.pause(*slot, false);
                state.close_by_hand(*slot);
            }
            !open.is_empty()
        });
        self.connection.waiting.wake_all_later();
        closed
    }

    pub(crate) fn close_all(&self) {
        self.with(|state| {
            state.protocol.resume_all();
            (0..state.pipes.len()).for_each(|slot| state.close_by_hand(slot));
            state.hang_up();
        });
        self.connection.waiting.wake_all_later();
    }

    /// Nobody will talk to the child any more: what could have been written to and was not taken is
    /// closed, and nothing is held back.
    pub(crate) fn talk_no_more(&self) {
        self.close_untaken_inputs();
        self.with(|state| state.protocol.resume_all());
        self.connection.waiting.wake_all_later();
    }

    /// Closes what could have been written to and was not taken.
    pub(crate) fn close_untaken_inputs(&self) {
        let closed = self.with(|state| {
            let is_untaken =
                |slot: &Slot| matches!(state.pipes[*slot], PipeState::Writer { taken: false, .. });
            let untaken: Vec<Slot> = (0..state.pipes.len()).filter(is_untaken).collect();
            // To a terminal its end of file is typed.
            untaken.iter().for_each(|slot| state.close_by_hand(*slot));
            !untaken.is_empty()
        });
        // Nobody is woken for nothing by one who asks at each poll.
        if closed {
            self.connection.waiting.wake_all_later();
        }
    }

    /// Whether the child wrote to a descriptor, other than to a user who took it over.
    pub(crate) fn spoke(&self, fd: i32) -> bool {
        self.with(|state| state.protocol.spoke(fd))
    }

    /// From now on all is collected, and so much of it is kept of each descriptor.
    pub(crate) fn keep(&self, how_much: impl Fn(i32) -> Keep) {
        self.with(|state| state.protocol.keep(how_much));
    }

    /// Holds one descriptor back, or no longer; whether it leads out of the child.
    pub(crate) fn pause(&self, fd: i32, paused: bool) -> bool {
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
    pub(crate) fn had_terminal(&self) -> bool {
        self.with(|state| state.terminal.is_some())
    }

    /// Sets the size of the terminal; `false` if there is none, or it is closed.
    #[cfg(unix)]
    pub(crate) fn resize(&self, size: PtySize) -> io::Result<bool> {
        if is_copy() {
            return Ok(false);
        }
        let resized = self.with(|state| state.terminal.as_ref().map(|terminal| terminal.resize(size)));
        resized.unwrap_or(Ok(false))
    }
}

//! The state of one running child: the child, its facts, its pipes, its clock, its terminal.
//!
//! Refuses to know which task waits, and never runs the caller's code: the connection does, with no lock held.
//!
//! Rules:
//! - One step is at most one read or write, and no step depends on how many steps came before. What must be read before
//!   an exit or an alarm is measured in bytes.
//! - A pipe out of the child is read only by the handle that takes its bytes. This is the back-pressure. Any handle
//!   does all the other work.

use std::sync::Arc;
use std::time::Instant;

use super::clock::{Activity, Alarm, Clock};
use super::feed::{self, Chunks, Feeder};
use super::output::{self, Output};
use super::pipe::Armed;
use super::tee::Tee;
use super::terminal::Terminal;
use super::trace::Trace;
use super::user_code::UserCodeGuard;
use super::waiting::{Flag, Handle};
use super::writer::WriterPipe;
use crate::output::Exit;
use crate::protocol::{Fault, Next, Protocol, Slot};
use crate::spawn::{Cause, Child};

/// The most pipes that are armed in one step.
const ARMED_AT_ONCE: usize = 16;

pub(super) struct State {
    /// Dropped before the pipes. So the child dies of the kill, not of a closed pipe.
    pub(super) child: Child,
    pub(super) protocol: Protocol,
    /// By the protocol's slot.
    pub(super) pipes: Vec<PipeState>,
    pub(super) clock: Option<Box<Clock>>,
    pub(super) terminal: Option<Box<Terminal>>,
    /// Set when the child has changed.
    pub(super) child_flag: Arc<Flag>,
    /// Counts the bytes that move, if a bound or the trace needs it.
    pub(super) activity: Option<Activity>,
    pub(super) trace: Trace,
    /// The pipe whose turn it is. After the last pipe comes the clock.
    pub(super) turn: usize,
    pub(super) exited_at: Option<Instant>,
    pub(super) ended_at: Option<Instant>,
    /// After the exit a pipe was open and empty.
    pub(super) outlived: bool,
    /// An alarm is due, once the pipes are read.
    pub(super) is_due: bool,
    /// The rest of an ended child's group was killed, too.
    pub(super) is_cut_off: bool,
    /// Closed once all are drained. A process that writes to one of them may die of the close, and then close the
    /// others.
    pub(super) drained: Vec<PipeState>,
    /// Closed pipes. They may hold the caller's code, so they are dropped after the lock is released.
    pub(super) garbage: Vec<PipeState>,
}

/// One pipe.
pub(super) enum PipeState {
    Output(Output),
    Feed(Feeder),
    Writer {
        pipe: Arc<WriterPipe>,
        /// The caller has taken the writer out.
        taken: bool,
    },
    /// Closed, or taken over by the caller.
    Gone,
}

/// The result of one step.
pub(super) enum Step {
    /// Something moved, and there may be more.
    Moved,
    /// Something happened that other handles may wait for.
    Happened,
    /// A tee's writer must be polled, with no lock held.
    Copy(UserCodeGuard<Tee>),
    /// A source must be polled, with no lock held.
    Source(UserCodeGuard<Chunks>),
    /// Nothing can be done now. All shared work is armed.
    Nothing,
}

impl State {
    /// Does one thing.
    pub(super) fn step(&mut self, me: Handle) -> Step {
        if self.child_flag.take() && self.look() {
            return Step::Happened;
        }
        match self.protocol.next() {
            Next::Terminate => {
                let sent = self.child.ask();
                self.protocol.terminated();
                return self.lost_if_refused(sent.is_err());
            }
            Next::Kill => return self.kill(),
            Next::Drain(slot) if !self.is_copying(slot) => return self.drain(slot),
            Next::Drain(_) | Next::Wait | Next::Ended => {}
        }
        // In a round, each pipe has its turn, then the clock. So a pipe that always has more bytes does not delay the
        // exit or the bounds.
        let places = self.pipes.len() + 1;
        for offset in 0..places {
            let place = (self.turn + offset) % places;
            let step = if place < self.pipes.len() { self.step_pipe(place, me) } else { self.step_clock() };
            if let Some(step) = step {
                self.turn = place + 1;
                return step;
            }
        }
        if self.terminal.as_mut().is_some_and(|terminal| terminal.step()) {
            return Step::Moved;
        }
        // An attempt that found nothing may have been the last one before an alarm.
        self.step_clock().unwrap_or_else(|| self.arm(me))
    }

    /// One read, write or call for this pipe.
    fn step_pipe(&mut self, slot: Slot, me: Handle) -> Option<Step> {
        match &mut self.pipes[slot] {
            PipeState::Gone => None,
            PipeState::Output(output) => {
                let is_main = me == Handle::Main;
                let reads =
                    self.protocol.wants(slot) && (is_main || output.has_copy() || output.owes().is_some());
                match output.step(self.protocol.buffer(slot), reads) {
                    output::Step::Nothing => None,
                    output::Step::Moved => Some(Step::Moved),
                    output::Step::Bytes(count) => {
                        self.received(slot, count);
                        // The main handle returns the bytes.
                        Some(if is_main { Step::Moved } else { Step::Happened })
                    }
                    output::Step::Ask(tee) => Some(Step::Copy(tee)),
                    output::Step::End => Some(self.close(slot)),
                    output::Step::Failed(error) => Some(self.fail(slot, error)),
                    output::Step::CopyFailed(count, error) => {
                        self.received(slot, count);
                        Some(self.fail(slot, error))
                    }
                }
            }
            PipeState::Feed(feeder) => match feeder.step() {
                feed::Step::Wrote(count) => {
                    self.moved(count);
                    Some(Step::Moved)
                }
                feed::Step::Ask(source) => Some(Step::Source(source)),
                feed::Step::Done => Some(self.close(slot)),
                feed::Step::Failed(error) => Some(self.fail(slot, error)),
                feed::Step::Nothing => None,
            },
            PipeState::Writer { pipe, .. } => pipe.is_closed().then(|| self.close(slot)),
        }
    }

    fn received(&mut self, slot: Slot, count: usize) {
        self.protocol.received(slot, count);
        self.moved(count);
    }

    fn moved(&self, count: usize) {
        self.activity.iter().for_each(|activity| activity.moved(count));
    }

    fn is_copying(&self, slot: Slot) -> bool {
        matches!(&self.pipes[slot], PipeState::Output(output) if output.is_copying())
    }

    /// Closes the parent's end of a pipe.
    pub(super) fn close(&mut self, slot: Slot) -> Step {
        if let PipeState::Gone = self.pipes[slot] {
            return Step::Moved;
        }
        let pipe = self.take(slot);
        self.let_go(pipe);
        self.protocol.closed(slot);
        self.closed();
        Step::Happened
    }

    /// Closes the parent's end of a pipe for the caller. A terminal's end of file is typed, or the terminal hangs up.
    pub(super) fn close_by_hand(&mut self, slot: Slot) {
        match (&self.pipes[slot], &mut self.terminal) {
            (PipeState::Writer { pipe, .. }, Some(terminal)) if pipe.is_terminal() => {
                pipe.close_typed(terminal)
            }
            (PipeState::Output(_), Some(_)) if self.protocol.fd(slot) == 1 => self.hang_up(),
            _ => {}
        }
        self.close(slot);
        self.protocol.close_by_user(slot);
    }

    fn fail(&mut self, slot: Slot, error: std::io::Error) -> Step {
        let pipe = self.take(slot);
        self.protocol.failed(slot, error);
        // The child is killed before its pipe is closed, so that it does not take half of the input for all of it.
        if self.protocol.next() == Next::Kill {
            self.kill();
        }
        self.let_go(pipe);
        self.closed();
        Step::Happened
    }

    /// Kills the child for a fault.
    fn kill(&mut self) -> Step {
        let sent = self.child.kill();
        self.close_inputs(|_| true);
        self.protocol.killed();
        self.lost_if_refused(sent.is_err())
    }

    fn take(&mut self, slot: Slot) -> PipeState {
        std::mem::replace(&mut self.pipes[slot], PipeState::Gone)
    }

    fn let_go(&mut self, pipe: PipeState) {
        if let PipeState::Writer { pipe, .. } = &pipe {
            pipe.close();
        }
        self.garbage.push(pipe);
    }

    fn closed(&mut self) {
        // Usually a child closes its pipes by exiting.
        if self.protocol.all_closed() {
            self.child_flag.set();
        }
        self.note_end();
    }

    /// Notes when the child ended. That may be long before a task polls, so it is the time of the exit, unless another
    /// process kept a pipe open for longer.
    pub(super) fn note_end(&mut self) {
        if self.ended_at.is_none() && self.protocol.next() == Next::Ended {
            self.ended_at = if self.outlived { Some(Instant::now()) } else { self.exited_at };
            // No alarm is due after the end, even if the main handle is not polled for long.
            self.clock = None;
        }
    }

    /// Takes what changed in the child. Returns whether anything did.
    fn look(&mut self) -> bool {
        let before = (self.protocol.has_exited(), self.protocol.was_stopped());
        let seen = self.child.look();
        // The cause of the exit is reported before the exit.
        if seen.ended_by == Some(Cause::Timeout) {
            self.clock.iter_mut().for_each(|clock| clock.dismiss(Alarm::TimedOut));
            self.protocol.timed_out();
        }
        if seen.ended_by.is_some() {
            self.protocol.terminated();
        }
        if let (Some((exit, at)), false) = (seen.exit, self.protocol.has_exited()) {
            self.exited(exit, at);
        }
        let had_grace = self.protocol.set_grace(seen.grace_runs);
        self.lost_if_refused(seen.out_of_reach);
        before != (self.protocol.has_exited(), self.protocol.was_stopped()) || had_grace != seen.grace_runs
    }

    fn exited(&mut self, exit: Exit, at: Instant) {
        self.protocol.exited(exit);
        self.trace.exited(exit);
        self.exited_at = Some(at);
        // No process reads the caller's typed input any more.
        self.hang_up();
        // The child's output is there, even if the reactor has set no flag yet.
        self.owe_all();
        // Each pipe has its turn before the clock, so that a pipe that the child closed is reported before its exit.
        self.turn = 0;
        self.note_end();
    }

    /// The system may refuse a signal to a child that became another user. That child keeps running, and is reaped when
    /// it exits.
    fn lost_if_refused(&mut self, refused: bool) -> Step {
        if refused && !self.protocol.has_exited() {
            self.exited(Exit::Lost, Instant::now());
        }
        Step::Happened
    }

    /// What the pipes hold now must be read before the next event.
    fn owe_all(&mut self) {
        for pipe in &mut self.pipes {
            if let PipeState::Output(output) = pipe {
                output.owe();
            }
        }
        self.expect_all();
    }

    /// Whether a pipe that is not paused still has such bytes.
    fn owes(&self) -> bool {
        self.pipes.iter().enumerate().any(|(slot, pipe)| match pipe {
            PipeState::Output(output) => self.protocol.wants(slot) && output.owes().is_some(),
            _ => false,
        })
    }

    /// The clock's turn. It waits until these bytes are read.
    fn step_clock(&mut self) -> Option<Step> {
        if self.owes() {
            return None;
        }
        if self.protocol.has_exited() && self.protocol.settled() {
            return Some(Step::Happened);
        }
        self.note_end();
        let Some(alarm) = self.clock.as_ref()?.due(self.exited_at) else {
            self.is_due = false;
            return None;
        };
        // The task may poll late: what is there now comes before the alarm.
        if !std::mem::replace(&mut self.is_due, true) {
            self.owe_all();
            self.child_flag.set();
            return Some(Step::Moved);
        }
        self.is_due = false;
        self.clock.iter_mut().for_each(|clock| clock.dismiss(alarm));
        match alarm {
            Alarm::TimedOut => self.protocol.timed_out(),
            Alarm::Idle => self.protocol.idle(),
            Alarm::Waited => self.protocol.waited(),
        }
        Some(Step::Happened)
    }

    /// Arms all shared work, and what `me` reads.
    fn arm(&mut self, me: Handle) -> Step {
        let (mut armed, mut anew) = (Armed::Yes, 0);
        for slot in 0..self.pipes.len() {
            let is_wanted = self.protocol.wants(slot);
            let pipe = match &mut self.pipes[slot] {
                PipeState::Output(output) if is_wanted && (me == Handle::Main || output.has_copy()) => {
                    output.arm()
                }
                PipeState::Feed(feeder) => feeder.arm(),
                _ => Armed::Yes,
            };
            match pipe {
                Armed::Yes => {}
                Armed::Ready => armed = pipe,
                // Arming costs as much as a read, and there may be hundreds of pipes. The others are armed in the next
                // step.
                Armed::Anew if anew == ARMED_AT_ONCE => return Step::Moved,
                Armed::Anew => anew += 1,
            }
        }
        let terminal = self.terminal.as_mut().map(|terminal| terminal.arm());
        let clock = self.clock.as_mut().map(|clock| clock.arm(self.exited_at));
        if [Some(armed), terminal, clock].contains(&Some(Armed::Ready)) {
            return Step::Moved;
        }
        self.outlived |= self.protocol.has_exited() && !self.protocol.all_closed();
        Step::Nothing
    }

    /// Whether shared work is left after the main handle's poll. If not, all of it is armed.
    pub(super) fn has_work_for_others(&mut self) -> bool {
        self.protocol.next() != Next::Ended && !matches!(self.step(Handle::Anybody), Step::Nothing)
    }

    /// Whether all that is left to do is to read the rest of the output, and that is little.
    ///
    /// Then it is read at once, even if the time is over. So a handle that is polled once finds an end that is there,
    /// on a busy machine too.
    pub(super) fn is_about_to_end(&self) -> bool {
        const LITTLE: usize = 64 * 1024;
        /// To read and close a pipe takes as long as to read this many bytes more.
        const OF_A_PIPE: usize = 4096;
        let mut left = 0;
        let plain = self.pipes.iter().enumerate().all(|(slot, pipe)| match pipe {
            PipeState::Output(output) => output.owes().is_some_and(|owed| {
                left += owed + OF_A_PIPE;
                self.protocol.wants(slot) && !output.has_copy()
            }),
            PipeState::Writer { .. } | PipeState::Gone => true,
            _ => false,
        });
        let takes = matches!(self.protocol.next(), Next::Wait | Next::Ended);
        self.protocol.has_exited() && takes && plain && left <= LITTLE
    }

    /// Lets all pipes be tried before the reactor reports them.
    fn expect_all(&mut self) {
        for pipe in &mut self.pipes {
            match pipe {
                PipeState::Output(output) => output.end.expect(),
                PipeState::Feed(feeder) => {
                    feeder.pipe.expect();
                    feeder.pipe.expect_hangup();
                }
                PipeState::Writer { pipe, .. } => pipe.expect_hangup(),
                PipeState::Gone => {}
            }
        }
    }

    /// One read or write for each pipe, even if the time is over.
    pub(super) fn catch_up(&mut self) {
        self.expect_all();
        self.child_flag.set();
        for slot in 0..self.pipes.len() {
            // A source is not polled here: its bytes are no sign of life of the child.
            drop(self.step_pipe(slot, Handle::Main));
        }
    }

    pub(super) fn close_inputs(&mut self, which: impl Fn(&PipeState) -> bool) {
        for slot in 0..self.pipes.len() {
            if self.protocol.leads_in(slot) && which(&self.pipes[slot]) {
                self.close(slot);
            }
        }
    }

    /// Closes the terminal, if there is one.
    pub(super) fn hang_up(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.hang_up();
            self.close_inputs(|pipe| matches!(pipe, PipeState::Writer { pipe, .. } if pipe.is_terminal()));
        }
    }

    /// Takes what a pipe holds at this moment, even if another process keeps writing to it.
    fn drain(&mut self, slot: Slot) -> Step {
        if self.protocol.was_stopped() && !self.is_cut_off {
            // If this crate ends a child that leads a group, it ends the whole group. If the child was only late, and
            // was not yet asked to end, the members get their grace too.
            let is_late = matches!(self.protocol.fault(), Some(Fault::TimedOut | Fault::Idle));
            if is_late && !self.child.was_asked() && matches!(self.child.ask(), Ok(true)) {
                self.child_flag.set();
                return Step::Happened;
            }
            // If the signal is not permitted, nothing can be done.
            let _: std::io::Result<bool> = self.child.kill();
            self.is_cut_off = true;
        }
        let mut is_open = false;
        if let PipeState::Output(output) = &mut self.pipes[slot] {
            let buffer = self.protocol.buffer(slot);
            let before = buffer.len();
            is_open = !output.drain(buffer);
            let count = buffer.len() - before;
            self.received(slot, count);
        }
        let pipe = self.take(slot);
        self.drained.push(pipe);
        self.protocol.drained(slot, is_open);
        if self.protocol.all_closed() {
            std::mem::take(&mut self.drained).into_iter().for_each(|pipe| self.let_go(pipe));
        }
        self.outlived = true;
        self.note_end();
        Step::Happened
    }
}

//! All that belongs to one running child but the child itself: its facts, its pipes, its clock, its terminal.
//!
//! Refuses to know who waits, and never calls code of the user's: that is done by the connection, with nothing held.
//!
//! Rules:
//! - One step is at most one read or write, and no step depends on how many there were before. What was there at the exit,
//!   or when it is time for something, is asked for in bytes.
//! - A pipe out of the child is read only for the one who takes its bytes, which is the backpressure. All else is moved
//!   by whoever steps.

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

/// So many pipes are armed in one step.
const ARMED_AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct State {
    pub(super) protocol: Protocol,
    /// By slot of the protocol.
    pub(super) pipes: Vec<PipeState>,
    pub(super) clock: Option<Box<Clock>>,
    pub(super) terminal: Option<Box<Terminal>>,
    /// There is news of the child.
    pub(super) child_flag: Arc<Flag>,
    /// What moves is counted there, if anybody wants to know.
    pub(super) activity: Option<Activity>,
    pub(super) trace: Trace,
    /// The pipe that has its turn; after the last one it is the clock's.
    pub(super) turn: usize,
    pub(super) exited_at: Option<Instant>,
    pub(super) ended_at: Option<Instant>,
    /// A pipe was seen to be open after the exit, with nothing in it.
    pub(super) outlived: bool,
    /// It is time for something, once what is there was read.
    pub(super) is_due: bool,
    /// Whoever was left of an ended child's group was ended, too.
    pub(super) is_cut_off: bool,
    /// Closed once all are drained: whoever writes to one of them may end by that, and close the others.
    pub(super) drained: Vec<PipeState>,
    /// A pipe that failed, which is closed once the child was killed for it.
    pub(super) failing: Option<Box<PipeState>>,
    /// What is closed, and may hold code of the user's: to be dropped with nothing held.
    pub(super) garbage: Vec<PipeState>,
}

/// One pipe.
#[derive(Debug)]
pub(super) enum PipeState {
    Output(Output),
    Feed(Feeder),
    Writer {
        pipe: Arc<WriterPipe>,
        /// The user has it.
        taken: bool,
    },
    /// Closed, or taken over by the user.
    Gone,
}

/// What one step came to.
pub(super) enum Step {
    /// Something moved, and there may be more.
    Moved,
    /// Something happened that others may wait for.
    Happened,
    /// A copy is to be asked, with nothing held.
    Copy(UserCodeGuard<Tee>),
    /// A source is to be asked, with nothing held.
    Source(UserCodeGuard<Chunks>),
    /// Nothing can be done. All that anybody may attend to has its flag set once there is.
    Nothing,
}

impl State {
    /// Does one thing.
    pub(super) fn step(&mut self, me: Handle, child: &Child) -> Step {
        if self.child_flag.take() && self.look(child) {
            return Step::Happened;
        }
        match self.protocol.next() {
            Next::Terminate => {
                let sent = child.ask();
                self.protocol.terminated();
                return self.lost_if_refused(sent.is_err());
            }
            Next::Kill => {
                let sent = child.kill();
                self.garbage.extend(self.failing.take().map(|pipe| *pipe));
                self.close_inputs(|_| true);
                self.protocol.killed();
                return self.lost_if_refused(sent.is_err());
            }
            Next::Drain(slot) if !self.is_copying(slot) => return self.drain(slot, child),
            Next::Drain(_) | Next::Wait | Next::Ended => {}
        }
        // A round: each pipe has its turn, and then the clock. So a pipe that always has more to say keeps neither the exit
        // nor the bounds back.
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
        // A look that found nothing may have been the last that was owed.
        self.step_clock().unwrap_or_else(|| self.arm(me))
    }

    /// One read, write, or call for this pipe.
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
                        // The main handle tells of it.
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

    /// Closes our end of a pipe.
    pub(super) fn close(&mut self, slot: Slot) -> Step {
        if let PipeState::Gone = self.pipes[slot] {
            return Step::Moved;
        }
        self.discard(slot);
        self.protocol.closed(slot);
        self.closed();
        Step::Happened
    }

    /// Closes our end of a pipe, because the user wants it closed: a terminal is typed its end of file, or hangs up.
    pub(super) fn close_by_hand(&mut self, slot: Slot) {
        let is_terminals = match &self.pipes[slot] {
            PipeState::Writer { pipe, .. } if pipe.is_terminal() => {
                if let Some(terminal) = &mut self.terminal {
                    pipe.close_typed(terminal);
                }
                false
            }
            PipeState::Output(_) => self.terminal.is_some() && self.protocol.fd(slot) == 1,
            _ => false,
        };
        self.close(slot);
        self.protocol.close_by_user(slot);
        if is_terminals {
            self.hang_up();
        }
    }

    fn fail(&mut self, slot: Slot, error: std::io::Error) -> Step {
        self.discard(slot);
        self.protocol.failed(slot, error);
        if self.protocol.next() == Next::Kill {
            // The child is killed before its pipe is closed: it is not to take half of the input for the whole.
            self.failing = self.garbage.pop().map(Box::new);
        }
        self.closed();
        Step::Happened
    }

    fn discard(&mut self, slot: Slot) {
        let pipe = std::mem::replace(&mut self.pipes[slot], PipeState::Gone);
        self.let_go(pipe);
    }

    fn let_go(&mut self, pipe: PipeState) {
        if let PipeState::Writer { pipe, .. } = &pipe {
            pipe.close();
        }
        self.garbage.push(pipe);
    }

    fn closed(&mut self) {
        // A child closes its pipes by exiting, most of the time.
        if self.protocol.all_closed() {
            self.child_flag.set();
        }
        self.note_end();
    }

    /// When the child has ended. That may be long before anybody looks: then the exit tells it, unless somebody else has
    /// held a pipe for longer.
    pub(super) fn note_end(&mut self) {
        if self.ended_at.is_none() && self.protocol.next() == Next::Ended {
            self.ended_at = if self.outlived { Some(Instant::now()) } else { self.exited_at };
            // It is never time for anything again, also if the main handle does not look for long.
            self.clock = None;
        }
    }

    /// Takes the news of the child. Whether there was any.
    fn look(&mut self, child: &Child) -> bool {
        let before = (self.protocol.has_exited(), self.protocol.was_stopped());
        let seen = child.look();
        // Why it ends comes before its exit.
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
        // What is typed has nobody to read it any more.
        self.hang_up();
        // What it wrote is there, whether the reactor has said so or not.
        self.owe_all();
        self.note_end();
    }

    /// A child that became another user may not be signalled: it is left to run, and reaped when it ends.
    fn lost_if_refused(&mut self, refused: bool) -> Step {
        if refused && !self.protocol.has_exited() {
            self.exited(Exit::Lost, Instant::now());
        }
        Step::Happened
    }

    /// What the pipes hold is to be read before anything else is told.
    fn owe_all(&mut self) {
        for pipe in &mut self.pipes {
            if let PipeState::Output(output) = pipe {
                output.owe();
            }
        }
        self.expect_all();
    }

    /// Whether something that was there is still to be read, of what is not held back.
    fn owes(&self) -> bool {
        self.pipes.iter().enumerate().any(|(slot, pipe)| match pipe {
            PipeState::Output(output) => self.protocol.wants(slot) && output.owes().is_some(),
            _ => false,
        })
    }

    /// What comes once all was read that was there.
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
        // Whoever polls may have come late: what is there by now comes before what it is time for.
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

    /// Has the flags set of all that anybody may attend to, and of what `me` reads.
    fn arm(&mut self, me: Handle) -> Step {
        let (mut armed, mut anew) = (Armed::Yes, 0);
        for slot in 0..self.pipes.len() {
            let is_wanted = self.protocol.wants(slot);
            let told = match &mut self.pipes[slot] {
                PipeState::Output(output) if is_wanted && (me == Handle::Main || output.has_copy()) => {
                    output.arm()
                }
                PipeState::Feed(feeder) => feeder.arm(),
                _ => Armed::Yes,
            };
            match told {
                Armed::Yes => {}
                Armed::Ready => armed = told,
                // Each costs as much as a read, and there may be hundreds: the others have their turn in the next step.
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

    /// Whether something is left to be done that anybody may attend to, beside the main handle. If not, all of it is armed.
    pub(super) fn has_work_for_others(&mut self, child: &Child) -> bool {
        if self.protocol.next() == Next::Ended {
            return false;
        }
        !matches!(self.step(super::ANYBODY, child), Step::Nothing)
    }

    /// Whether all that is left is to take what the child has left, and that is little.
    ///
    /// Then it is taken at once, whatever the time: whoever looks once finds an end that is there, on a busy machine too.
    pub(super) fn is_about_to_end(&self) -> bool {
        const LITTLE: usize = 64 * 1024;
        /// To read from a pipe, and to close it, takes as long as to read so many bytes more.
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

    /// Whether so much moves that more is likely to come at once.
    pub(super) fn streams(&self) -> bool {
        self.pipes.iter().any(|pipe| match pipe {
            PipeState::Output(output) => output.end.streams(),
            PipeState::Feed(feeder) => feeder.streams(),
            _ => false,
        })
    }

    /// Has all tried before the reactor says that it can be done.
    pub(super) fn expect_all(&mut self) {
        for pipe in &mut self.pipes {
            match pipe {
                PipeState::Output(output) => output.end.expect(),
                PipeState::Feed(feeder) => feeder.expect(),
                PipeState::Writer { pipe, .. } => pipe.expect_hangup(),
                PipeState::Gone => {}
            }
        }
    }

    /// One read or write for each pipe, whatever the time.
    pub(super) fn catch_up(&mut self) {
        self.expect_all();
        self.child_flag.set();
        for slot in 0..self.pipes.len() {
            // A source is not asked here: what it has to give is no sign of life of the child's.
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

    /// Takes what a pipe holds at this moment, whoever else may write to it.
    fn drain(&mut self, slot: Slot, child: &Child) -> Step {
        if self.protocol.was_stopped() && !self.is_cut_off {
            // If we end a child that leads a group, nobody of the group is to survive it. They have their grace, too, if
            // they are only late and were not asked yet.
            let is_late = matches!(self.protocol.fault(), Some(Fault::TimedOut | Fault::Idle));
            if is_late && !child.was_asked() && matches!(child.ask(), Ok(true)) {
                self.child_flag.set();
                return Step::Happened;
            }
            // What is not permitted cannot be helped.
            let _: std::io::Result<bool> = child.kill();
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
        let pipe = std::mem::replace(&mut self.pipes[slot], PipeState::Gone);
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

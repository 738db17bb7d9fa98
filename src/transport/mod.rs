//! The engine room: moves bytes between pipes and the protocol, and waits for the exit. The only place
//! that awaits I/O.
//!
//! Refuses to decide what any of it means: it tells the protocol what happened, and does what it says.
//!
//! Rules: bytes are read straight into the buffer that the user gets; nothing is read or fed while
//! nobody polls, which is the backpressure; one poll does a bounded amount of work.

mod bell;
mod clock;
mod feed;
mod inlet;
mod ladder;
mod outlet;
mod patience;
#[cfg(unix)]
mod pipe;
#[cfg(windows)]
#[path = "pipe_windows.rs"]
mod pipe;
mod trace;

use std::io;
#[cfg(unix)]
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::error::Refusal;
use crate::output::Exit;
use crate::protocol::{Direction, Ending, Fault, Next, Notice, Piece, Protocol, Slot};
use crate::spawn::{Child, Launch, Remote, spawn};
#[cfg(unix)]
use crate::spawn::{is_copy, resize};
#[cfg(unix)]
use crate::stdio::PtySize;
use crate::stdio::WriterSlot;

use bell::{Bell, Task};
pub(crate) use clock::{Activity, Bounds};
use clock::{Alarm, Clock};
use feed::Feeder;
pub(crate) use feed::Source;
pub(crate) use inlet::Inlet;
pub(crate) use ladder::terminate;
pub(crate) use outlet::Taken;
use outlet::{Outlet, Terminal};
use patience::Patience;
pub(crate) use trace::Trace;

/// How many rounds of reads and writes, or of looking for something to read, one poll may do before it lets
/// other tasks run. At 64 KiB a read this is about a millisecond.
const BUDGET: usize = 32;

/// After so many rounds all that a pipe held at the exit was read: 1 MiB is the most that a pipe of an
/// ordinary user holds, pipe(7), and the first reads are small.
const SETTLING: usize = 20;

/// A running child with its pipes. Dropping it kills the child.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Who polls. Dropped first, so that dropping the rest wakes nobody.
    task: Task,
    // Dropped before its pipes: the child is killed, and not by them.
    child: Child,
    protocol: Protocol,
    /// By slot of the protocol.
    lanes: Vec<Lane>,
    clock: Clock,
    /// Between the polite signal and the other one.
    grace: Duration,
    rounds_since_exit: usize,
    /// Rounds since it was time for something.
    rounds_since_alarm: usize,
    polled: bool,
    /// `poll_end` has seen the end.
    ended: bool,
    terminal: Option<Arc<Terminal>>,
    /// Rounds since the last time that other tasks were let run.
    spent: usize,
    patience: Patience,
    /// The child has exited.
    exit: Bell,
    trace: Trace,
}

#[derive(Debug)]
enum Lane {
    Read(Outlet),
    /// In a box, since it is larger than the others.
    Feed(Box<Feeder>),
    Write {
        inlet: Arc<Inlet>,
        /// The user has it.
        taken: bool,
    },
    /// Closed, or taken over by the user.
    Gone,
}

/// What flows through the pipes, by the child's descriptor, and for how long.
#[derive(Default)]
pub(crate) struct Flows {
    pub(crate) bounds: Bounds,
    pub(crate) kill_on_drop: bool,
    /// Of each pipe into the child.
    pub(crate) sources: Vec<(i32, Source)>,
    /// Copies of pipes out of the child.
    pub(crate) copies: Vec<(i32, WriterSlot)>,
    /// Pipes out of the child that carry secrets.
    #[cfg(unix)]
    pub(crate) wiped: Vec<i32>,
    pub(crate) trace: Trace,
}

impl Transport {
    /// Starts a child. Each of the launch's `Input` ends has a source of its number; all `Output` ends
    /// are collected.
    pub(crate) fn start(launch: &Launch<'_>, mut flows: Flows) -> Result<Self, Refusal> {
        let started = Instant::now();
        let spawned = spawn(launch)?;
        flows.trace.started(spawned.child.pid());
        let counted =
            flows.trace.activity().or_else(|| flows.bounds.silence().is_some().then(Activity::default));
        let activity = counted
            .map(|activity| activity.within(flows.bounds.idle_of_whole.as_ref().map(|(_, whole)| whole)));
        let terminal = spawned.ours.terminal.map(Terminal::new);
        let task = Task::default();
        let mut channels = Vec::with_capacity(spawned.ours.pipes.len());
        let mut lanes = Vec::with_capacity(spawned.ours.pipes.len());
        for (fd, pipe) in spawned.ours.pipes {
            let terminal = terminal.as_ref().filter(|_| fd <= 1);
            // Where this fails the child is dropped, and so killed and reaped.
            let lane = match take(&mut flows.sources, fd) {
                Some(Source::Writer) => Inlet::new(pipe, terminal.is_some(), activity.clone())
                    .map(|inlet| Lane::Write { inlet, taken: false }),
                Some(Source::Bytes(feed)) => Feeder::of_bytes(pipe, feed, &task, activity.clone())
                    .map(|feeder| Lane::Feed(Box::new(feeder))),
                Some(Source::Reader(slot)) => {
                    Feeder::of_reader(pipe, take_out(fd, &slot)?, &task, activity.clone())
                        .map(|feeder| Lane::Feed(Box::new(feeder)))
                }
                None => {
                    let copy = match take(&mut flows.copies, fd) {
                        Some(slot) => Some(take_out(fd, &slot)?),
                        None => None,
                    };
                    Outlet::new(pipe, copy, terminal.cloned(), &task, activity.clone()).map(Lane::Read)
                }
            };
            let lane = lane.map_err(Refusal::os)?;
            channels.push((fd, if let Lane::Read(_) = lane { Direction::Out } else { Direction::In }));
            lanes.push(lane);
        }
        let mut protocol = Protocol::new(channels.iter().copied());
        for (slot, (fd, direction)) in channels.iter().enumerate() {
            if let (Some(most), Direction::Out) = (flows.bounds.limit(*fd), direction) {
                protocol.limit(slot, most);
            }
            #[cfg(unix)]
            if let (true, Lane::Read(outlet)) = (flows.wiped.contains(fd), &mut lanes[slot]) {
                outlet.wipe();
                protocol.wipe(slot);
            }
        }
        let clock = Clock::new(started, &flows.bounds, activity, &task);
        let mut child = spawned.child;
        if !flows.kill_on_drop {
            child.let_run();
        }
        if let (Some(terminal), Some(slot)) = (&terminal, protocol.slot(0, Direction::In)) {
            // A terminal is one thing, and closes when its output does.
            if let Lane::Write { inlet, .. } = &lanes[slot] {
                protocol.released(slot);
                terminal.is_typed_into(inlet);
            }
        }
        Ok(Transport {
            child,
            protocol,
            lanes,
            clock,
            grace: flows.bounds.grace,
            rounds_since_exit: 0,
            rounds_since_alarm: 0,
            polled: false,
            ended: false,
            terminal,
            spent: 0,
            patience: Patience::default(),
            exit: task.bell(),
            task,
            trace: flows.trace,
        })
    }

    /// Whether the end was told.
    pub(crate) fn is_over(&self) -> bool {
        self.protocol.is_over()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.pid()
    }

    pub(crate) fn remote(&self) -> Remote {
        self.child.remote()
    }

    /// Moves bytes until the child has ended, and collects them.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended {
            ready!(self.poll_until(cx, |protocol| (protocol.next() == Next::Ended).then_some(())));
            self.ended = true;
        }
        if self.protocol.join() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves bytes until there is something to tell; `None` after the end was told.
    pub(crate) fn poll_notice(&mut self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.poll_until(cx, |protocol| match protocol.notice() {
            None if protocol.is_over() => Some(None),
            notice => notice.map(Some),
        })
    }

    /// Moves bytes until there is a line to tell; `None` when the child has ended and there is none.
    pub(crate) fn poll_line(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<Option<(i32, Piece)>> {
        self.poll_until(cx, |protocol| match protocol.line(limit) {
            None if protocol.next() == Next::Ended && !protocol.holds_back() => Some(None),
            line => line.map(Some),
        })
    }

    fn poll_until<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Protocol) -> Option<T>,
    ) -> Poll<T> {
        let mut registered = false;
        // The first poll finds what is there without the reactor's word. How long ago the start was says nothing:
        // `true` was seen to end in 0.6 ms, and this thread may have been away for longer.
        if !std::mem::replace(&mut self.polled, true) {
            self.look_at_all();
        }
        loop {
            if self.protocol.next() == Next::Ended {
                self.clock.ended();
            }
            if let Some(found) = wanted(&mut self.protocol) {
                if self.protocol.next() == Next::Ended {
                    self.kill_the_rest();
                    self.child.release();
                    self.trace.close();
                }
                return Poll::Ready(found);
            }
            if !std::mem::replace(&mut registered, true) {
                self.task.register(cx);
            }
            if self.spent == BUDGET {
                self.spent = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.spent += 1;
            let looks_again = self.patience.once_more();
            if self.advance(looks_again, cx) {
                continue;
            }
            if looks_again {
                self.patience.wait();
                self.look();
            } else {
                self.patience.in_vain();
                self.spent = 0;
                return Poll::Pending;
            }
        }
    }

    /// Moves some of what is there, whatever the time.
    pub(crate) fn catch_up(&mut self, cx: &mut Context<'_>) {
        self.look();
        self.poll_lanes(true, cx);
    }

    /// What the child left, and how long it took; once `poll_end` was ready.
    pub(crate) fn into_ending(self) -> (Ending, Duration) {
        let elapsed = self.clock.elapsed();
        (self.protocol.into_ending(), elapsed)
    }

    /// Does what the protocol says and one round over all pipes. Whether anything happened; if not, the task is woken
    /// once something does, unless the caller looks again by itself.
    fn advance(&mut self, looks_again: bool, cx: &mut Context<'_>) -> bool {
        // A group that was ended after its leader has exited: no exit tells of it.
        if self.protocol.has_exited() && !self.protocol.was_stopped() && self.child.was_reached(cx) {
            self.protocol.terminated();
        }
        match self.protocol.next() {
            Next::Terminate => {
                let told = terminate(&self.remote(), self.grace);
                self.protocol.terminated();
                self.give_up_unless(told.is_ok());
            }
            Next::Kill => self.kill_for_fault(),
            Next::Drain => {
                self.kill_the_rest();
                self.drain();
                return true;
            }
            Next::Wait | Next::Ended => {}
        }
        let mut progress = self.poll_lanes(looks_again, cx);
        let had_exited = self.protocol.has_exited();
        progress |= !had_exited && self.poll_exit();
        progress |= self.poll_clock(progress);
        if had_exited {
            // A descendant may go on writing for ever.
            self.rounds_since_exit += 1;
            let settled = !progress || self.rounds_since_exit > SETTLING;
            progress |= settled && self.protocol.settled();
        }
        progress
    }

    /// One round over all pipes. Whether anything happened.
    fn poll_lanes(&mut self, looks_again: bool, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        for slot in 0..self.lanes.len() {
            progress |= self.poll_lane(slot, looks_again, cx);
        }
        progress
    }

    /// One read or write. Whether anything happened.
    fn poll_lane(&mut self, slot: Slot, looks_again: bool, cx: &mut Context<'_>) -> bool {
        let done = match &mut self.lanes[slot] {
            Lane::Gone => return false,
            Lane::Read(_) if !self.protocol.wants(slot) => return false,
            Lane::Read(outlet) => {
                let buffer = self.protocol.buffer(slot);
                let before = buffer.len();
                let Poll::Ready(read) = outlet.poll_read(looks_again, buffer, cx) else { return false };
                // A copy that failed leaves what was read.
                let count = buffer.len() - before;
                if count > 0 {
                    self.protocol.received(slot, count);
                    self.patience.paid(count);
                }
                match read {
                    Ok(0) => Ok(()),
                    Ok(_) => return true,
                    Err(error) => Err(error),
                }
            }
            Lane::Feed(feeder) => match feeder.poll_feed(looks_again, cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(Some(count))) => {
                    self.patience.paid(count);
                    return true;
                }
                Poll::Ready(result) => result.map(drop),
            },
            Lane::Write { inlet, .. } => match inlet.poll_closed(&self.task.context()) {
                Poll::Pending => return false,
                Poll::Ready(()) => Ok(()),
            },
        };
        match done {
            Ok(()) => {
                self.shut(slot);
                // A child that exits closes all of them at once, and the reactor tells of one after the other.
                self.patience.hope();
                self.look();
            }
            Err(error) => {
                let failing = std::mem::replace(&mut self.lanes[slot], Lane::Gone);
                self.protocol.failed(slot, error);
                // The child is killed before its pipe is closed: it is not to take half of the input for the whole.
                if self.protocol.next() == Next::Kill {
                    self.kill_for_fault();
                }
                drop(failing);
            }
        }
        true
    }

    /// Closes our end of a pipe.
    fn shut(&mut self, slot: Slot) {
        match std::mem::replace(&mut self.lanes[slot], Lane::Gone) {
            Lane::Gone => return,
            Lane::Write { inlet, .. } => inlet.close(),
            Lane::Read(_) | Lane::Feed(_) => {}
        }
        self.protocol.closed(slot);
    }

    fn poll_exit(&mut self) -> bool {
        if self.exit.rung() {
            self.child.told();
        }
        match self.child.poll_exit(&mut self.exit.context()) {
            Poll::Ready(exit) => {
                self.protocol.exited(exit);
                self.trace.exited(exit);
                if self.child.was_ended() {
                    self.protocol.terminated();
                }
                self.hang_up();
                // What it wrote is there, whether the reactor has said so or not.
                self.look();
                true
            }
            Poll::Pending => false,
        }
    }

    /// Has all tried before the reactor says that it can be done.
    fn look(&mut self) {
        for lane in &mut self.lanes {
            match lane {
                Lane::Read(outlet) => outlet.look(),
                Lane::Feed(feeder) => feeder.look(),
                Lane::Write { inlet, .. } => inlet.look(),
                Lane::Gone => {}
            }
        }
        // A child closes its pipes by exiting, most of the time.
        if self.protocol.all_closed() {
            self.child.look();
        }
    }

    fn look_at_all(&mut self) {
        self.look();
        self.child.look();
    }

    /// Closes the terminal, if there is one.
    fn hang_up(&mut self) {
        let Some(terminal) = &self.terminal else { return };
        terminal.hang_up();
        for slot in 0..self.lanes.len() {
            // What is typed has nobody to read it any more.
            if matches!(&self.lanes[slot], Lane::Write { inlet, .. } if inlet.is_terminal()) {
                self.shut(slot);
            }
        }
    }

    /// Tells the protocol what time it is. Whether that matters.
    ///
    /// Whoever polls may have come late: what is there by now comes before what it is time for.
    fn poll_clock(&mut self, progress: bool) -> bool {
        let Some(alarm) = self.clock.poll_alarm(self.protocol.has_exited()) else {
            // What was there was a sign of life.
            self.rounds_since_alarm = 0;
            return false;
        };
        self.rounds_since_alarm += 1;
        if self.rounds_since_alarm == 1 {
            self.look_at_all();
            return true;
        }
        if progress && self.rounds_since_alarm <= SETTLING {
            return true;
        }
        self.rounds_since_alarm = 0;
        self.clock.told(alarm);
        match alarm {
            Alarm::TimedOut => self.protocol.timed_out(),
            Alarm::Idle => self.protocol.idle(),
            Alarm::Waited => self.protocol.waited(),
        }
        true
    }

    /// Where we ended a child that leads a group: once it is gone, nobody of the group is to survive it.
    fn kill_the_rest(&self) {
        if self.protocol.was_stopped() {
            // A child without a group was reaped, and nothing is sent; what is not permitted cannot be helped.
            let _: io::Result<()> = self.child.kill();
        }
    }

    fn kill_for_fault(&mut self) {
        let told = self.child.kill();
        self.close_inputs(|_| true);
        self.protocol.killed();
        self.give_up_unless(told.is_ok());
    }

    /// A child that became another user may not be signalled: it is left to run, and reaped when it ends.
    fn give_up_unless(&mut self, permitted: bool) {
        if !permitted && !self.protocol.has_exited() {
            self.protocol.exited(Exit::Lost);
            self.trace.exited(Exit::Lost);
        }
    }

    fn close_inputs(&mut self, which: impl Fn(&Lane) -> bool) {
        for slot in 0..self.lanes.len() {
            if !matches!(self.lanes[slot], Lane::Read(_)) && which(&self.lanes[slot]) {
                self.shut(slot);
            }
        }
    }

    /// Takes what the pipes hold at this moment, whoever else may write to them.
    fn drain(&mut self) {
        let mut open = Vec::new();
        for slot in 0..self.lanes.len() {
            if let Lane::Read(outlet) = &mut self.lanes[slot] {
                let buffer = self.protocol.buffer(slot);
                let before = buffer.len();
                if !outlet.drain(buffer) {
                    open.push(slot);
                }
                let count = buffer.len() - before;
                self.protocol.received(slot, count);
            }
            match std::mem::replace(&mut self.lanes[slot], Lane::Gone) {
                Lane::Write { inlet, .. } => inlet.close(),
                Lane::Gone | Lane::Read(_) | Lane::Feed(_) => {}
            }
        }
        self.protocol.drained(&open);
    }
}

/// What a living child is asked for.
impl Transport {
    /// What went wrong, once that is known.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.protocol.fault()
    }

    /// Ends the child as if it were late, because of what somebody else did.
    pub(crate) fn stop(&mut self, at_once: bool) {
        if at_once {
            self.grace = Duration::ZERO;
        }
        self.protocol.timed_out();
    }

    /// Lets the child run on when this is dropped.
    pub(crate) fn let_run(&mut self) {
        self.child.let_run();
    }

    /// The pipe into the child, once.
    pub(crate) fn writer(&mut self, fd: i32) -> Option<Arc<Inlet>> {
        match &mut self.lanes[self.protocol.slot(fd, Direction::In)?] {
            Lane::Write { inlet, taken } if !*taken => {
                *taken = true;
                Some(inlet.clone())
            }
            _ => None,
        }
    }

    /// The pipe out of the child, once, with what was read from it and not told.
    pub(crate) fn reader(&mut self, fd: i32) -> Option<(Vec<u8>, Taken)> {
        let slot = self.protocol.slot(fd, Direction::Out)?;
        match std::mem::replace(&mut self.lanes[slot], Lane::Gone) {
            Lane::Read(outlet) => Some((self.protocol.released(slot), Taken::new(outlet))),
            _ => None,
        }
    }

    /// Closes our end; whether it was open.
    pub(crate) fn close(&mut self, fd: i32) -> bool {
        let slots = [Direction::In, Direction::Out].map(|direction| self.protocol.slot(fd, direction));
        let open: Vec<Slot> =
            slots.into_iter().flatten().filter(|slot| !matches!(self.lanes[*slot], Lane::Gone)).collect();
        for slot in &open {
            self.protocol.pause(*slot, false);
            self.shut(*slot);
        }
        !open.is_empty()
    }

    pub(crate) fn close_all(&mut self) {
        self.protocol.resume_all();
        (0..self.lanes.len()).for_each(|slot| self.shut(slot));
        self.hang_up();
    }

    /// Nobody will talk to the child any more: what could have been written to and was not taken is
    /// closed, and nothing is held back.
    pub(crate) fn leave_alone(&mut self) {
        self.close_inputs(|lane| matches!(lane, Lane::Write { taken: false, .. }));
        self.protocol.resume_all();
    }

    /// Whether the child wrote to a descriptor, other than to a user who took it over.
    pub(crate) fn spoke(&self, fd: i32) -> bool {
        self.protocol.spoke(fd)
    }

    /// What the child writes is thrown away, but for the descriptors that are to be kept.
    pub(crate) fn discard_unless(&mut self, keeps: impl Fn(i32) -> bool) {
        self.protocol.discard_unless(keeps);
    }

    /// Holds one descriptor back, or no longer; whether it leads out of the child.
    pub(crate) fn pause(&mut self, fd: i32, paused: bool) -> bool {
        match self.protocol.slot(fd, Direction::Out) {
            Some(slot) => {
                self.protocol.pause(slot, paused);
                true
            }
            None => false,
        }
    }

    #[cfg(unix)]
    pub(crate) fn had_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Sets the size of the terminal; `false` where there is none, or it is closed.
    #[cfg(unix)]
    pub(crate) fn resize(&self, size: PtySize) -> io::Result<bool> {
        if is_copy() {
            return Ok(false);
        }
        match self.terminal.as_ref().map(|terminal| terminal.held()).as_deref() {
            Some(Some(terminal)) => resize(terminal.as_fd(), size).map(|()| true),
            _ => Ok(false),
        }
    }
}

/// What serves one run only. A run that was started at the same moment may have it.
fn take_out<T>(fd: i32, slot: &Mutex<Option<T>>) -> Result<T, Refusal> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| Refusal::used_up(fd))
}

fn take<T>(list: &mut Vec<(i32, T)>, fd: i32) -> Option<T> {
    let place = list.iter().position(|(n, _)| *n == fd)?;
    Some(list.swap_remove(place).1)
}

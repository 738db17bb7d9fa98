//! Facts: what has happened to one child, what was collected from it, whether it has ended, and how.
//! Twisted's ProcessProtocol, turned inside out: it is told what happened, and says what to do next and
//! what there is to tell the user.
//!
//! Refuses to know descriptors, clocks, wakers and locks; nothing here waits.
//!
//! Rules, decided here alone:
//! - Exit and end of file are separate facts that come in either order.
//! - A child has ended when it was reaped *and* every pipe to it is closed, feeds included. A pipe that
//!   the user took over is the user's own affair.
//! - The first fault is the one that is told, and it costs the child its life: at once, or politely where
//!   it was only late. Whoever ends the child: what is in the pipes when it is gone is taken, and the end
//!   does not wait for descendants that hold them.
//! - After the exit the end waits for descendants that hold pipes, for as long as was set; then what is in
//!   the pipes is taken, and that is no fault.
//! - No channel gives more than its limit; one byte more is a fault.
//! - Every byte is told before its pipe's end, and everything before the end, which is told once.
//! - The exit is told once the pipes were looked at after it, so that what the child itself wrote comes
//!   first.
//! - What is held back (paused) is neither read nor told, and so holds back the end.
//! - Nothing is accepted after the end.

mod batch;
mod ends;
mod lines;
mod secret;
#[cfg(test)]
mod tests;

use std::io;

use crate::error::copy;
use crate::output::{Exit, Gap};

pub(crate) use batch::LineBatch;
use ends::Ends;
pub(crate) use lines::Piece;
use lines::Splitter;

/// What is known of one child.
#[derive(Debug)]
pub(crate) struct Protocol {
    channels: Vec<Channel>,
    exit: Option<Exit>,
    /// What the pipes held at the exit was read.
    settled: bool,
    fault: Option<Fault>,
    /// It came after the exit could be told, so it is not why the child exited.
    fault_after_exit: bool,
    /// `Next::Terminate` or `Next::Kill` was done, or somebody else of ours has ended the child.
    ended_by_us: bool,
    /// `Next::Kill` was done.
    killed: bool,
    /// The members of the child's group were asked to end, and still have time for it.
    grace_runs: bool,
    /// The end has waited long enough for descendants.
    waited: bool,
    reported: Reported,
}

/// What of the facts the user was told as an event.
#[derive(Debug, Default)]
struct Reported {
    fault: bool,
    exit: bool,
    end: bool,
}

#[derive(Debug)]
struct Channel {
    fd: i32,
    direction: Direction,
    state: State,
    paused: bool,
    /// Somebody else still held it when the end was there.
    left_open: bool,
    closing_reported: bool,
    /// The user has closed it.
    closed_by_user: bool,
    /// Bytes that may still be taken.
    room: u64,
    kept: Kept,
    /// It gave a byte.
    spoke: bool,
    /// What was read and not yet told.
    collected: Splitter,
}

/// What is kept of what a channel gave and was not told.
#[derive(Debug)]
enum Kept {
    All,
    Ends(Box<Ends>),
    Nothing,
}

/// What is to be kept of what a channel gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    All,
    /// The first bytes, and the last.
    Ends(usize, usize),
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closed,
    /// The user took the pipe over.
    Released,
}

/// Which way the bytes of a channel flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Into the child.
    In,
    /// Out of the child: collected.
    Out,
}

/// What went wrong while the child ran.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A descriptor failed.
    Io { fd: i32, error: io::Error },
    /// The child ran for too long.
    TimedOut,
    /// Nothing moved on any descriptor for too long.
    Idle,
    /// The child wrote more than the limit.
    Limit { fd: i32 },
}

/// What the transport is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Move bytes and watch for the exit.
    Wait,
    /// Send SIGTERM, and SIGKILL some time later, then say `terminated`.
    Terminate,
    /// Send SIGKILL, then say `killed`.
    Kill,
    /// Take what this pipe holds at this moment, then say `drained`.
    Drain(Slot),
    /// The child has ended: nothing more will happen.
    Ended,
}

/// One thing to tell the user.
#[derive(Debug)]
pub(crate) enum Notice {
    Data { fd: i32, data: Vec<u8> },
    Closed { fd: i32 },
    Fault(Fault),
    Exited(Exit),
    Ended(Exit),
}

/// Names one channel, in the order in which they were given to [`Protocol::new`].
pub(crate) type Slot = usize;

/// What is left when a child has ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) exit: Exit,
    pub(crate) fault: Option<Fault>,
    /// What each descriptor that leads out of the child gave and was not told before, in the order of
    /// the channels.
    pub(crate) collected: Vec<(i32, Vec<u8>)>,
    /// What is missing of these.
    pub(crate) gaps: Vec<(i32, Gap)>,
    /// The descriptors that descendants still held.
    pub(crate) still_open: Vec<i32>,
}

impl Protocol {
    /// A child that was just started, with a pipe on each of these descriptors.
    pub(crate) fn new(channels: impl IntoIterator<Item = (i32, Direction)>) -> Self {
        let channel = |(fd, direction)| Channel {
            fd,
            direction,
            state: State::Open,
            paused: false,
            left_open: false,
            closing_reported: false,
            closed_by_user: false,
            room: u64::MAX,
            kept: Kept::All,
            spoke: false,
            collected: Splitter::default(),
        };
        Protocol {
            channels: channels.into_iter().map(channel).collect(),
            exit: None,
            settled: false,
            fault: None,
            fault_after_exit: false,
            ended_by_us: false,
            killed: false,
            grace_runs: false,
            waited: false,
            reported: Reported::default(),
        }
    }

    /// The most bytes that a channel gives.
    pub(crate) fn limit(&mut self, slot: Slot, most: u64) {
        self.channels[slot].room = most;
    }

    /// What a channel gives is secret: what nobody takes is wiped.
    #[cfg(unix)]
    pub(crate) fn wipe(&mut self, slot: Slot) {
        self.channels[slot].collected.wipe();
    }

    /// The channel of a descriptor that leads this way.
    pub(crate) fn slot(&self, fd: i32, direction: Direction) -> Option<Slot> {
        self.channels.iter().position(|channel| channel.fd == fd && channel.direction == direction)
    }

    /// The child's number of a channel.
    pub(crate) fn fd(&self, slot: Slot) -> i32 {
        self.channels[slot].fd
    }

    /// Where the bytes of a channel are collected; the transport reads into its spare capacity.
    pub(crate) fn buffer(&mut self, slot: Slot) -> &mut Vec<u8> {
        debug_assert!(self.channels[slot].state == State::Open, "no byte comes after the end of file");
        self.channels[slot].collected.buffer()
    }

    /// So many bytes were appended to the buffer.
    pub(crate) fn received(&mut self, slot: Slot, count: usize) {
        let channel = &mut self.channels[slot];
        channel.spoke |= count > 0;
        match channel.room.checked_sub(count as u64) {
            Some(room) => channel.room = room,
            None => {
                let excess = count as u64 - channel.room;
                channel.room = 0;
                channel.collected.cut_off(excess as usize);
                let fd = channel.fd;
                self.fails(Fault::Limit { fd });
            }
        }
        self.channels[slot].trim();
    }

    /// The first fault counts.
    fn fails(&mut self, fault: Fault) {
        if self.fault.is_none() {
            (self.fault, self.fault_after_exit) = (Some(fault), self.exit_is_known().is_some());
        }
    }

    /// Whether it leads into the child.
    pub(crate) fn leads_in(&self, slot: Slot) -> bool {
        self.channels[slot].direction == Direction::In
    }

    /// A pipe is closed: end of file, or no one left to read our feed, or all of it was fed, or the user
    /// wanted it closed.
    pub(crate) fn closed(&mut self, slot: Slot) {
        let state = &mut self.channels[slot].state;
        debug_assert!(*state != State::Closed, "a channel closes once");
        if *state == State::Open {
            *state = State::Closed;
        }
    }

    /// A descriptor failed; it counts as closed.
    pub(crate) fn failed(&mut self, slot: Slot, error: io::Error) {
        self.closed(slot);
        let fd = self.channels[slot].fd;
        self.fails(Fault::Io { fd, error });
    }

    /// The copy failed of a descriptor that the user has taken over, and closes by himself.
    pub(crate) fn copy_failed(&mut self, slot: Slot, error: &io::Error) {
        let fd = self.channels[slot].fd;
        self.fails(Fault::Io { fd, error: copy(error) });
    }

    /// The user takes the pipe over, with what was read from it and not told.
    pub(crate) fn released(&mut self, slot: Slot) -> Vec<u8> {
        debug_assert!(self.channels[slot].state != State::Released, "a pipe is taken over once");
        self.channels[slot].state = State::Released;
        self.channels[slot].collected.take()
    }

    /// Whether it has ended, and the user does not know.
    pub(crate) fn has_unreported_end(&self, slot: Slot) -> bool {
        let channel = &self.channels[slot];
        channel.state == State::Closed && !channel.closing_reported && !channel.closed_by_user
    }

    /// The user has closed it.
    pub(crate) fn close_by_user(&mut self, slot: Slot) {
        self.channels[slot].closed_by_user = true;
    }

    /// From now on all is collected, and so much of it is kept of each descriptor, and of what it gave before. Of what is not
    /// kept already, nothing will be.
    pub(crate) fn keep(&mut self, how_much: impl Fn(i32) -> Keep) {
        for channel in &mut self.channels {
            match (how_much(channel.fd), &channel.kept) {
                (_, Kept::Nothing) | (Keep::All, _) => {}
                (Keep::Ends(first, last), _) => {
                    channel.kept = Kept::Ends(Box::new(Ends::new(first, last)));
                    channel.collected.forget_given();
                }
                (Keep::Nothing, _) => channel.kept = Kept::Nothing,
            }
            channel.trim();
        }
    }

    /// Whether a descriptor gave a byte, other than to a user who took it over.
    pub(crate) fn spoke(&self, fd: i32) -> bool {
        self.slot(fd, Direction::Out).is_some_and(|slot| self.channels[slot].spoke)
    }

    /// Holds a channel back, or no longer.
    pub(crate) fn pause(&mut self, slot: Slot, paused: bool) {
        self.channels[slot].paused = paused;
    }

    /// Nothing is held back any more.
    pub(crate) fn resume_all(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.paused = false);
    }

    /// Whether something was read that is not to be told now.
    pub(crate) fn holds_back(&self) -> bool {
        self.channels.iter().any(|channel| channel.paused && !channel.collected.is_empty())
    }

    /// Whether a channel is to be read.
    pub(crate) fn wants(&self, slot: Slot) -> bool {
        !self.channels[slot].paused
    }

    /// The child is no more.
    pub(crate) fn exited(&mut self, exit: Exit) {
        debug_assert!(self.exit.is_none(), "a child exits once");
        self.exit = Some(exit);
    }

    /// What the pipes held when the child exited was read, as far as it is not held back. Whether this is
    /// new.
    pub(crate) fn settled(&mut self) -> bool {
        !std::mem::replace(&mut self.settled, true)
    }

    /// The child has run for as long as it may; an end that is there comes first.
    pub(crate) fn timed_out(&mut self) {
        self.late(Fault::TimedOut);
    }

    /// Nothing has moved for as long as it may; an end that is there comes first.
    pub(crate) fn idle(&mut self) {
        self.late(Fault::Idle);
    }

    fn late(&mut self, fault: Fault) {
        if self.next() != Next::Ended {
            self.fails(fault);
        }
    }

    /// The end has waited for descendants for as long as it may.
    pub(crate) fn waited(&mut self) {
        self.waited = true;
    }

    /// `Next::Terminate` was done.
    pub(crate) fn terminated(&mut self) {
        self.ended_by_us = true;
    }

    /// `Next::Kill` was done.
    pub(crate) fn killed(&mut self) {
        (self.ended_by_us, self.killed) = (true, true);
    }

    /// Whether the members of the child's group still have time to end; and whether they had before.
    pub(crate) fn set_grace(&mut self, runs: bool) -> bool {
        std::mem::replace(&mut self.grace_runs, runs)
    }

    /// `Next::Drain` was done. The channel counts as closed, whoever holds it; `is_open` if somebody does.
    pub(crate) fn drained(&mut self, slot: Slot, is_open: bool) {
        self.channels[slot].left_open = is_open;
        self.closed(slot);
    }

    /// Whether the end is our doing, and not the child's.
    pub(crate) fn was_stopped(&self) -> bool {
        self.fault.is_some() || self.ended_by_us
    }

    /// The first thing that went wrong.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether the child was seen to exit.
    pub(crate) fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// The exit, once the pipes were looked at after it.
    fn exit_is_known(&self) -> Option<Exit> {
        self.exit.filter(|_| self.settled || self.all_closed())
    }

    /// How the child exited, and what went wrong before: once both are known, and for good. What goes wrong after that is
    /// the end's affair.
    pub(crate) fn outcome(&self) -> Option<(Exit, Option<Fault>)> {
        let fault = self.fault.as_ref().filter(|_| !self.fault_after_exit);
        Some((self.exit_is_known()?, fault.map(Fault::copy)))
    }

    /// Whether every pipe is closed.
    pub(crate) fn all_closed(&self) -> bool {
        self.channels.iter().all(|channel| channel.state != State::Open)
    }

    /// What to do now, from all that was told.
    pub(crate) fn next(&self) -> Next {
        if self.has_exited() {
            let is_over = self.was_stopped() && !self.grace_runs || self.waited;
            return match self.channels.iter().position(|channel| channel.state == State::Open) {
                None => Next::Ended,
                Some(slot) if is_over => Next::Drain(slot),
                Some(_) => Next::Wait,
            };
        }
        match &self.fault {
            Some(Fault::TimedOut | Fault::Idle) if !self.ended_by_us => Next::Terminate,
            Some(Fault::Io { .. } | Fault::Limit { .. }) if !self.killed => Next::Kill,
            _ => Next::Wait,
        }
    }

    /// The next thing to tell the user, of what is known by now.
    pub(crate) fn notice(&mut self) -> Option<Notice> {
        for channel in self.channels.iter_mut().filter(|channel| !channel.paused) {
            let fd = channel.fd;
            if !channel.collected.is_empty() && channel.state != State::Released {
                return Some(Notice::Data { fd, data: channel.collected.take() });
            }
            if channel.state == State::Closed && !std::mem::replace(&mut channel.closing_reported, true) {
                return Some(Notice::Closed { fd });
            }
        }
        if let (Some(fault), false) = (&self.fault, self.reported.fault) {
            self.reported.fault = true;
            return Some(Notice::Fault(fault.copy()));
        }
        let exit = self.exit_is_known()?;
        if !std::mem::replace(&mut self.reported.exit, true) {
            return Some(Notice::Exited(exit));
        }
        let nothing_held = self.channels.iter().all(|c| c.state == State::Released || c.closing_reported);
        if self.all_closed() && nothing_held && !std::mem::replace(&mut self.reported.end, true) {
            return Some(Notice::Ended(exit));
        }
        None
    }

    /// Whether the end was told.
    pub(crate) fn is_over(&self) -> bool {
        self.reported.end
    }

    /// The next whole line of any channel, or a piece of `limit` bytes of one that is longer, or what is
    /// left at the end of file.
    pub(crate) fn line(&mut self, limit: usize) -> Option<(Slot, i32, Piece)> {
        let mut channels = self.channels.iter_mut().enumerate();
        channels.find_map(|(slot, channel)| {
            if channel.paused || channel.state == State::Released {
                return None;
            }
            let at_end = channel.state == State::Closed;
            Some((slot, channel.fd, channel.collected.line(limit, at_end)?))
        })
    }

    /// What was read from a descriptor and not told, for whoever takes many lines at a time; if there is any. It is to be
    /// given back before anything else is asked for.
    pub(crate) fn lend(&mut self, slot: Slot) -> Option<Box<LineBatch>> {
        let Channel { fd, collected, .. } = &mut self.channels[slot];
        (!collected.is_empty()).then(|| Box::new(LineBatch::new(slot, *fd, std::mem::take(collected))))
    }

    /// Takes back what is left of it.
    pub(crate) fn give_back(&mut self, batch: LineBatch) {
        self.channels[batch.slot].collected.prepend(batch.into_rest());
    }

    /// Puts together some of what is secret, once `next` said `Ended`; whether that is done. A step costs less than 1 MiB or
    /// so, so that no poll needs more.
    pub(crate) fn join(&mut self) -> bool {
        self.channels.iter_mut().all(|channel| channel.collected.join())
    }

    /// All that is known, once `next` said `Ended`.
    pub(crate) fn into_ending(self) -> Ending {
        let still_open = self.channels.iter().filter(|c| c.left_open).map(|c| c.fd).collect();
        let out = |c: &Channel| c.direction == Direction::Out && c.state != State::Released;
        let (mut collected, mut gaps) = (Vec::new(), Vec::new());
        for mut channel in self.channels.into_iter().filter(out) {
            match channel.kept {
                Kept::All => {}
                Kept::Ends(ends) => {
                    let gap = ends.join(channel.collected.buffer());
                    gaps.extend(gap.map(|gap| (channel.fd, gap)));
                }
                // That is not to say that it gave nothing.
                Kept::Nothing => continue,
            }
            collected.push((channel.fd, channel.collected.take()));
        }
        Ending { exit: self.exit.unwrap_or(Exit::Lost), fault: self.fault, collected, gaps, still_open }
    }
}

impl Channel {
    /// Lets go what is not to be kept.
    fn trim(&mut self) {
        match &mut self.kept {
            Kept::All => {}
            Kept::Ends(ends) => ends.take_in(self.collected.buffer()),
            Kept::Nothing => self.collected.clear(),
        }
    }
}

impl Fault {
    fn copy(&self) -> Self {
        match self {
            Fault::Io { fd, error } => Fault::Io { fd: *fd, error: copy(error) },
            Fault::TimedOut => Fault::TimedOut,
            Fault::Idle => Fault::Idle,
            Fault::Limit { fd } => Fault::Limit { fd: *fd },
        }
    }
}

//! Facts: what happened to one child, its collected output, whether it has ended, and how. This is Twisted's
//! ProcessProtocol, turned inside out. The transport reports what happened; the protocol returns what to do next, and
//! what to report to the caller.
//!
//! Refuses to know descriptors, clocks, wakers and locks; nothing here waits.
//!
//! Rules, decided here alone:
//! - The exit and the end of file are separate facts, and come in either order.
//! - A child has ended when it was reaped *and* every pipe to it is closed, feeds included. A pipe that the caller took
//!   over does not count.
//! - Only the first fault is reported. It ends the child: with SIGKILL, or with the stop signal first if the child was
//!   only late.
//! - After a fault, or if this program ended the child, the end takes what is in the pipes. It does not wait for a
//!   grandchild that keeps one open.
//! - Otherwise the end waits for such a grandchild, up to the drain timeout. Then it takes what is in the pipes, and
//!   this is no fault.
//! - No channel gives more bytes than its limit. One byte more is a fault.
//! - Every byte is reported before the end of its pipe, and everything before the end of the child, which is reported
//!   once.
//! - The exit is reported after the pipes were read once more. So the child's own output comes first.
//! - A paused channel is neither read nor reported, so the end waits for it.
//! - Nothing is accepted after the end.

mod batch;
mod ends;
mod lines;
mod secret;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use crate::output::{Exit, Gap};

pub(crate) use batch::LineBatch;
use ends::Ends;
pub(crate) use lines::Piece;
use lines::Splitter;

/// All that is known of one child.
pub(crate) struct Protocol {
    channels: Vec<Channel>,
    exit: Option<Exit>,
    /// The pipes were read after the exit.
    settled: bool,
    /// Only the first one counts. The others are kept until this is dropped: to drop an error may be code of the user's, and
    /// that must not run under the lock of the transport.
    faults: Vec<Fault>,
    /// The first fault came after the exit could be reported, so it did not cause the exit.
    fault_after_exit: bool,
    /// `Next::Terminate` or `Next::Kill` was done, or another part of this program ended the child.
    ended_by_us: bool,
    /// `Next::Kill` was done.
    killed: bool,
    /// The members of the child's group were asked to end, and their grace is not over.
    grace_runs: bool,
    /// The drain timeout expired.
    waited: bool,
    reported: Reported,
}

/// Which facts were reported to the caller as events.
#[derive(Debug, Default)]
struct Reported {
    fault: bool,
    exit: bool,
    end: bool,
}

struct Channel {
    fd: i32,
    direction: Direction,
    state: State,
    paused: bool,
    /// At the end another process still had it open.
    left_open: bool,
    closing_reported: bool,
    /// The caller has closed it.
    closed_by_user: bool,
    /// How many more bytes it may give.
    room: u64,
    kept: Kept,
    /// It gave a byte.
    spoke: bool,
    /// Bytes that were read and not yet reported.
    collected: Splitter,
}

/// Which of these bytes are kept.
enum Kept {
    All,
    Ends(Box<Ends>),
    Nothing,
}

/// Which bytes of a channel to keep.
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
    /// The caller took the pipe over.
    Released,
}

/// The direction of a channel's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Into the child.
    In,
    /// Out of the child: collected.
    Out,
}

/// What went wrong while the child ran.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A descriptor failed.
    Io { fd: i32, error: Arc<io::Error> },
    /// The child ran for too long.
    TimedOut,
    /// Nothing moved on any descriptor for too long.
    Idle,
    /// The child wrote more than the limit.
    Limit { fd: i32 },
}

/// What the transport must do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Move bytes and watch for the exit.
    Wait,
    /// Send the stop signal, and SIGKILL some time later; then call `terminated`.
    Terminate,
    /// Send SIGKILL, then call `killed`.
    Kill,
    /// Take what this pipe holds at this moment, then call `drained`.
    Drain(Slot),
    /// The child has ended: nothing more will happen.
    Ended,
}

/// One fact to report to the caller.
#[derive(Debug)]
pub(crate) enum Notice {
    Data { fd: i32, data: Vec<u8> },
    Closed { fd: i32 },
    Fault(Fault),
    Exited(Exit),
    Ended(Exit),
}

/// The index of a channel, in the order given to [`Protocol::new`].
pub(crate) type Slot = usize;

/// What is known when a child has ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) exit: Exit,
    pub(crate) fault: Option<Fault>,
    /// The unreported output of each descriptor, in the order of the channels.
    pub(crate) collected: Vec<(i32, Vec<u8>)>,
    /// The gaps in this output.
    pub(crate) gaps: Vec<(i32, Gap)>,
    /// The descriptors that another process still had open.
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
            faults: Vec::new(),
            fault_after_exit: false,
            ended_by_us: false,
            killed: false,
            grace_runs: false,
            waited: false,
            reported: Reported::default(),
        }
    }

    /// Sets the most bytes that a channel may give.
    pub(crate) fn limit(&mut self, slot: Slot, most: u64) {
        self.channels[slot].room = most;
    }

    /// A channel's bytes are secret: bytes that are not taken are wiped.
    #[cfg(unix)]
    pub(crate) fn wipe(&mut self, slot: Slot) {
        self.channels[slot].collected.wipe();
    }

    /// The channel of this descriptor in this direction.
    pub(crate) fn slot(&self, fd: i32, direction: Direction) -> Option<Slot> {
        self.channels.iter().position(|channel| channel.fd == fd && channel.direction == direction)
    }

    /// The child's descriptor of a channel.
    pub(crate) fn fd(&self, slot: Slot) -> i32 {
        self.channels[slot].fd
    }

    /// The buffer of a channel. The transport reads into its spare capacity.
    pub(crate) fn buffer(&mut self, slot: Slot) -> &mut Vec<u8> {
        debug_assert!(self.channels[slot].state == State::Open, "no byte comes after the end of file");
        self.channels[slot].collected.buffer()
    }

    /// This many bytes were appended to the buffer.
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

    fn fails(&mut self, fault: Fault) {
        if self.faults.is_empty() {
            self.fault_after_exit = self.exit_is_known().is_some();
        }
        self.faults.push(fault);
    }

    /// Whether bytes of a channel were dropped because they were above its limit.
    pub(crate) fn is_cut_off(&self, slot: Slot) -> bool {
        let of = self.channels[slot].fd;
        self.faults.iter().any(|fault| matches!(fault, Fault::Limit { fd } if *fd == of))
    }

    /// Whether it leads into the child.
    pub(crate) fn leads_in(&self, slot: Slot) -> bool {
        self.channels[slot].direction == Direction::In
    }

    /// A pipe is closed: by its end of file, because the child no longer reads it, because all was written, or by the
    /// caller.
    pub(crate) fn closed(&mut self, slot: Slot) {
        let state = &mut self.channels[slot].state;
        debug_assert!(*state != State::Closed, "a channel closes once");
        if *state == State::Open {
            *state = State::Closed;
        }
    }

    /// A descriptor failed. It counts as closed.
    pub(crate) fn failed(&mut self, slot: Slot, error: io::Error) {
        self.closed(slot);
        let fd = self.channels[slot].fd;
        self.fails(Fault::Io { fd, error: Arc::new(error) });
    }

    /// The tee failed of a descriptor that the caller has taken over. The caller closes it.
    pub(crate) fn copy_failed(&mut self, slot: Slot, error: Arc<io::Error>) {
        let fd = self.channels[slot].fd;
        self.fails(Fault::Io { fd, error });
    }

    /// The caller takes the pipe over, with the bytes that were read and not reported.
    pub(crate) fn released(&mut self, slot: Slot) -> Vec<u8> {
        debug_assert!(self.channels[slot].state != State::Released, "a pipe is taken over once");
        self.channels[slot].state = State::Released;
        self.channels[slot].collected.take()
    }

    /// Whether the channel has ended and the caller does not know it.
    pub(crate) fn has_unreported_end(&self, slot: Slot) -> bool {
        let channel = &self.channels[slot];
        channel.state == State::Closed && !channel.closing_reported && !channel.closed_by_user
    }

    /// The caller has closed it.
    pub(crate) fn close_by_user(&mut self, slot: Slot) {
        self.channels[slot].closed_by_user = true;
    }

    /// From now on all output is collected, and this much of each descriptor is kept, earlier bytes included. If
    /// nothing of a channel is kept already, that does not change.
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

    /// Whether a descriptor gave a byte, apart from bytes to a reader that the caller took.
    pub(crate) fn spoke(&self, fd: i32) -> bool {
        self.slot(fd, Direction::Out).is_some_and(|slot| self.channels[slot].spoke)
    }

    /// Pauses or resumes a channel.
    pub(crate) fn pause(&mut self, slot: Slot, paused: bool) {
        self.channels[slot].paused = paused;
    }

    /// Resumes all channels.
    pub(crate) fn resume_all(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.paused = false);
    }

    /// Whether a paused channel has bytes that were read.
    pub(crate) fn holds_back(&self) -> bool {
        self.channels.iter().any(|channel| channel.paused && !channel.collected.is_empty())
    }

    /// Whether a channel may be read.
    pub(crate) fn wants(&self, slot: Slot) -> bool {
        !self.channels[slot].paused
    }

    /// The child has exited.
    pub(crate) fn exited(&mut self, exit: Exit) {
        debug_assert!(self.exit.is_none(), "a child exits once");
        self.exit = Some(exit);
    }

    /// The pipes that are not paused were read after the exit. Returns whether this is new.
    pub(crate) fn settled(&mut self) -> bool {
        !std::mem::replace(&mut self.settled, true)
    }

    /// The timeout expired. An end that is there comes first.
    pub(crate) fn timed_out(&mut self) {
        self.late(Fault::TimedOut);
    }

    /// An idle timeout expired. An end that is there comes first.
    pub(crate) fn idle(&mut self) {
        self.late(Fault::Idle);
    }

    fn late(&mut self, fault: Fault) {
        if self.next() != Next::Ended {
            self.fails(fault);
        }
    }

    /// The drain timeout expired.
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

    /// Sets whether the grace of the group's members still runs. Returns whether it did before.
    pub(crate) fn set_grace(&mut self, runs: bool) -> bool {
        std::mem::replace(&mut self.grace_runs, runs)
    }

    /// `Next::Drain` was done, and the channel counts as closed. `is_open` says that another process still has it open.
    pub(crate) fn drained(&mut self, slot: Slot, is_open: bool) {
        self.channels[slot].left_open = is_open;
        self.closed(slot);
    }

    /// Whether there is a fault, or this program ended the child.
    pub(crate) fn was_stopped(&self) -> bool {
        !self.faults.is_empty() || self.ended_by_us
    }

    /// The first fault.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.faults.first()
    }

    /// Whether the child has exited.
    pub(crate) fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// The exit, once the pipes were read after it.
    fn exit_is_known(&self) -> Option<Exit> {
        self.exit.filter(|_| self.settled || self.all_closed())
    }

    /// The exit, and the fault before it. Once they are known they do not change. A later fault belongs to the end.
    pub(crate) fn outcome(&self) -> Option<(Exit, Option<Fault>)> {
        let fault = self.fault().filter(|_| !self.fault_after_exit);
        Some((self.exit_is_known()?, fault.cloned()))
    }

    /// Whether every pipe is closed.
    pub(crate) fn all_closed(&self) -> bool {
        self.channels.iter().all(|channel| channel.state != State::Open)
    }

    /// What to do now.
    pub(crate) fn next(&self) -> Next {
        if self.has_exited() {
            let is_over = self.was_stopped() && !self.grace_runs || self.waited;
            return match self.channels.iter().position(|channel| channel.state == State::Open) {
                None => Next::Ended,
                Some(slot) if is_over => Next::Drain(slot),
                Some(_) => Next::Wait,
            };
        }
        match self.fault() {
            Some(Fault::TimedOut | Fault::Idle) if !self.ended_by_us => Next::Terminate,
            Some(Fault::Io { .. } | Fault::Limit { .. }) if !self.killed => Next::Kill,
            _ => Next::Wait,
        }
    }

    /// The next fact to report to the caller.
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
        if let (Some(fault), false) = (self.faults.first(), self.reported.fault) {
            self.reported.fault = true;
            return Some(Notice::Fault(fault.clone()));
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

    /// Whether the end was reported.
    pub(crate) fn is_over(&self) -> bool {
        self.reported.end
    }

    /// The next whole line of any channel, or a piece of `limit` bytes of a longer line, or the rest at the end of
    /// file.
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

    /// Lends the unreported bytes of a channel, if there are any, to a caller that takes many lines. They must be given
    /// back before any other call.
    pub(crate) fn lend(&mut self, slot: Slot) -> Option<Box<LineBatch>> {
        let Channel { fd, collected, .. } = &mut self.channels[slot];
        (!collected.is_empty()).then(|| Box::new(LineBatch::new(slot, *fd, std::mem::take(collected))))
    }

    /// Takes back the rest of these bytes.
    pub(crate) fn give_back(&mut self, batch: LineBatch) {
        self.channels[batch.slot].collected.prepend(batch.into_rest());
    }

    /// Joins some of the secret bytes, after `next` returned `Ended`. Returns whether all are joined. A step joins
    /// about 1 MiB at most, so that a poll stays short.
    pub(crate) fn join(&mut self) -> bool {
        self.channels.iter_mut().all(|channel| channel.collected.join())
    }

    /// All that is known, after `next` returned `Ended`.
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
                // It may have given bytes, so it is left out.
                Kept::Nothing => continue,
            }
            collected.push((channel.fd, channel.collected.take()));
        }
        let (exit, fault) = (self.exit.unwrap_or(Exit::Lost), self.faults.into_iter().next());
        Ending { exit, fault, collected, gaps, still_open }
    }
}

impl Channel {
    /// Drops the bytes that are not kept.
    fn trim(&mut self) {
        match &mut self.kept {
            Kept::All => {}
            Kept::Ends(ends) => ends.take_in(self.collected.buffer()),
            Kept::Nothing => self.collected.clear(),
        }
    }
}

//! Facts: what has happened to one child, what was collected from it, whether it has ended, and how.
//! Twisted's ProcessProtocol, turned inside out: it is told what happened, and says what to do next.
//!
//! Refuses to know descriptors, clocks, wakers and locks; nothing here waits.
//!
//! Rules, decided here alone:
//! - Exit and end of file are separate facts that come in either order.
//! - A child has ended when it was reaped *and* every pipe to it is closed, feeds included.
//! - The first fault is the one that is told. It costs the child its life; what is in the pipes by
//!   then is taken, and the end does not wait for descendants that hold them.
//! - Nothing is accepted after the end.

#[cfg(test)]
mod tests;

use std::io;

use crate::output::Exit;

/// What is known of one child.
#[derive(Debug)]
pub(crate) struct Protocol {
    channels: Vec<Channel>,
    exit: Option<Exit>,
    fault: Option<Fault>,
    /// A kill was asked for, so that it is asked for once.
    kill_said: bool,
    /// The pipes were emptied after a fault; whoever still holds them does not matter any more.
    drained: bool,
}

#[derive(Debug)]
struct Channel {
    fd: i32,
    direction: Direction,
    open: bool,
    collected: Vec<u8>,
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
pub(crate) struct Fault {
    pub(crate) fd: i32,
    pub(crate) error: io::Error,
}

/// What the transport is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Move bytes and watch for the exit.
    Wait,
    /// Send SIGKILL, then go on. Said once.
    Kill,
    /// Take what the output pipes hold at this moment, then say `drained`.
    Drain,
    /// The child has ended: nothing more will happen.
    Ended,
}

/// Names one channel, in the order in which they were given to [`Protocol::new`].
pub(crate) type Slot = usize;

/// What is left when a child has ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) exit: Exit,
    pub(crate) fault: Option<Fault>,
    /// What each descriptor that leads out of the child gave, in the order of the channels.
    pub(crate) collected: Vec<(i32, Vec<u8>)>,
}

impl Protocol {
    /// A child that was just started, with a pipe on each of these descriptors.
    pub(crate) fn new(channels: impl IntoIterator<Item = (i32, Direction)>) -> Self {
        let channel = |(fd, direction)| Channel { fd, direction, open: true, collected: Vec::new() };
        Protocol {
            channels: channels.into_iter().map(channel).collect(),
            exit: None,
            fault: None,
            kill_said: false,
            drained: false,
        }
    }

    /// Where the bytes of a channel are collected; the transport reads into its spare capacity.
    pub(crate) fn buffer(&mut self, slot: Slot) -> &mut Vec<u8> {
        debug_assert!(self.channels[slot].open, "no byte comes after the end of file");
        &mut self.channels[slot].collected
    }

    /// A pipe is closed: end of file, or no one left to read our feed, or all of it was fed.
    pub(crate) fn closed(&mut self, slot: Slot) {
        debug_assert!(self.channels[slot].open, "a channel closes once");
        self.channels[slot].open = false;
    }

    /// A descriptor failed; it counts as closed.
    pub(crate) fn failed(&mut self, slot: Slot, error: io::Error) {
        self.closed(slot);
        let fd = self.channels[slot].fd;
        self.fault.get_or_insert(Fault { fd, error });
    }

    /// The child is no more.
    pub(crate) fn exited(&mut self, exit: Exit) {
        debug_assert!(self.exit.is_none(), "a child exits once");
        self.exit = Some(exit);
    }

    /// `Next::Drain` was done.
    pub(crate) fn drained(&mut self) {
        self.drained = true;
    }

    /// Whether the child was seen to exit.
    pub(crate) fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// Whether every pipe is closed.
    pub(crate) fn all_closed(&self) -> bool {
        self.channels.iter().all(|channel| !channel.open)
    }

    /// What to do now, from all that was told.
    pub(crate) fn next(&mut self) -> Next {
        match (self.has_exited(), &self.fault) {
            (true, _) if self.all_closed() || self.drained => Next::Ended,
            (true, Some(_)) => Next::Drain,
            (false, Some(_)) if !self.kill_said => {
                self.kill_said = true;
                Next::Kill
            }
            _ => Next::Wait,
        }
    }

    /// All that is known, once `next` said `Ended`.
    pub(crate) fn into_ending(self) -> Ending {
        let out = self.channels.into_iter().filter(|channel| channel.direction == Direction::Out);
        Ending {
            exit: self.exit.unwrap_or(Exit::Lost),
            fault: self.fault,
            collected: out.map(|channel| (channel.fd, channel.collected)).collect(),
        }
    }
}

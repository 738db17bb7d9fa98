//! The engine room: moves bytes between pipes and the protocol, and waits for the exit. The only place
//! that awaits I/O.
//!
//! Refuses to decide what any of it means: it tells the protocol what happened, and does what it says.
//!
//! Rules: bytes are read straight into the buffer that the user gets; nothing is read or fed while
//! nobody polls, which is the backpressure; one poll does a bounded amount of work.

mod feed;
#[cfg(unix)]
mod pipe;
#[cfg(windows)]
#[path = "pipe_windows.rs"]
mod pipe;

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::Refusal;
use crate::protocol::{Direction, Ending, Next, Protocol, Slot};
use crate::spawn::{Child, Launch, spawn};

use feed::Feeder;
pub(crate) use feed::Source;
use pipe::ReadEnd;

/// How many reads and writes one poll may do before it lets other tasks run. At 64 KiB a read this is
/// about a millisecond.
const BUDGET: usize = 64;

/// A running child with its pipes. Dropping it kills the child.
#[derive(Debug)]
pub(crate) struct Transport {
    // Dropped first: the child is killed before its pipes close, and not by them.
    child: Child,
    protocol: Protocol,
    /// By slot of the protocol.
    lanes: Vec<Lane>,
    started: Instant,
    /// All pipes were seen closed, and the exit was looked for right then.
    looked: bool,
}

#[derive(Debug)]
enum Lane {
    Read(ReadEnd),
    Feed(Feeder),
    Closed,
}

impl Transport {
    /// Starts a child. Each of the launch's `Input` ends is fed from the source of its number; all
    /// `Output` ends are collected.
    pub(crate) fn start(launch: &Launch<'_>, mut sources: Vec<(i32, Source)>) -> Result<Self, Refusal> {
        let started = Instant::now();
        let spawned = spawn(launch)?;
        let mut channels = Vec::with_capacity(spawned.pipes.len());
        let mut lanes = Vec::with_capacity(spawned.pipes.len());
        for (fd, pipe) in spawned.pipes {
            // Where this fails the child is dropped, and so killed and reaped.
            match sources.iter().position(|(n, _)| *n == fd) {
                Some(place) => {
                    let (_, source) = sources.swap_remove(place);
                    lanes.push(Lane::Feed(Feeder::new(pipe, source).map_err(Refusal::os)?));
                    channels.push((fd, Direction::In));
                }
                None => {
                    lanes.push(Lane::Read(ReadEnd::new(pipe).map_err(Refusal::os)?));
                    channels.push((fd, Direction::Out));
                }
            }
        }
        Ok(Transport {
            child: spawned.child,
            protocol: Protocol::new(channels),
            lanes,
            started,
            looked: false,
        })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.pid()
    }

    /// Moves bytes until the child has ended.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..BUDGET {
            match self.protocol.next() {
                Next::Ended => return Poll::Ready(()),
                Next::Kill => self.kill(),
                Next::Drain => {
                    self.drain();
                    continue;
                }
                Next::Wait => {}
            }
            let mut progress = false;
            for slot in 0..self.lanes.len() {
                progress |= self.poll_lane(slot, cx);
            }
            progress |= self.poll_exit(cx);
            if !progress {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What the child left, and how long it took; once `poll_end` was ready.
    pub(crate) fn into_ending(self) -> (Ending, Duration) {
        let elapsed = self.started.elapsed();
        (self.protocol.into_ending(), elapsed)
    }

    /// One read, or as much feeding as the pipe takes. Whether anything happened.
    fn poll_lane(&mut self, slot: Slot, cx: &mut Context<'_>) -> bool {
        let done = match &mut self.lanes[slot] {
            Lane::Closed => return false,
            Lane::Read(pipe) => match pipe.poll_read(cx, self.protocol.buffer(slot)) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0)) => Ok(()),
                Poll::Ready(Ok(_)) => return true,
                Poll::Ready(Err(error)) => Err(error),
            },
            Lane::Feed(feeder) => match feeder.poll_feed(cx) {
                Poll::Pending => return false,
                Poll::Ready(result) => result,
            },
        };
        self.lanes[slot] = Lane::Closed;
        match done {
            Ok(()) => self.protocol.closed(slot),
            Err(error) => self.protocol.failed(slot, error),
        }
        true
    }

    fn poll_exit(&mut self, cx: &mut Context<'_>) -> bool {
        if self.protocol.has_exited() {
            return false;
        }
        // A child closes its pipes by exiting, most of the time.
        if self.protocol.all_closed() && !self.looked {
            self.looked = true;
            self.child.look();
        }
        match self.child.poll_exit(cx) {
            Poll::Ready(exit) => {
                self.protocol.exited(exit);
                true
            }
            Poll::Pending => false,
        }
    }

    /// Kills the child and stops feeding it.
    fn kill(&mut self) {
        self.child.kill();
        for (slot, lane) in self.lanes.iter_mut().enumerate() {
            if let Lane::Feed(_) = lane {
                *lane = Lane::Closed;
                self.protocol.closed(slot);
            }
        }
    }

    /// Takes what the pipes hold at this moment, whoever else may write to them.
    fn drain(&mut self) {
        for (slot, lane) in self.lanes.iter_mut().enumerate() {
            if let Lane::Read(pipe) = lane {
                pipe.drain(self.protocol.buffer(slot));
            }
        }
        self.protocol.drained();
    }
}

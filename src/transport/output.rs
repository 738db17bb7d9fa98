//! A pipe out of the child, with its tee if it has one.
//!
//! Refuses to know who takes the bytes: the main handle, or a reader that the caller took out.

use std::io;
use std::task::Poll;

use super::pipe::{Armed, ReadEnd};
use super::tee::{self, Tee};
use super::user_code::{UserCodeCell, UserCodeGuard};

#[derive(Debug)]
pub(super) struct Output {
    pub(super) end: ReadEnd,
    /// Few pipes have one.
    tee: Option<UserCodeCell<Tee>>,
    /// How many bytes must be read before the next event: what the pipe held, and one more attempt.
    owed: Option<usize>,
}

/// The result of a step.
pub(super) enum Step {
    Nothing,
    /// Some bytes were read, and must be copied.
    Moved,
    /// How many bytes were appended to the buffer.
    Bytes(usize),
    /// The tee's writer must be polled, with no lock held.
    Ask(UserCodeGuard<Tee>),
    End,
    /// The pipe failed.
    Failed(io::Error),
    /// The tee failed. This many bytes, which were read before, were appended.
    CopyFailed(usize, io::Error),
}

impl Output {
    pub(super) fn new(end: ReadEnd, tee: Option<Tee>) -> Self {
        Output { end, tee: tee.map(UserCodeCell::new), owed: None }
    }

    pub(super) fn has_copy(&self) -> bool {
        self.tee.is_some()
    }

    /// Whether a task runs the tee's writer now.
    pub(super) fn is_copying(&self) -> bool {
        self.tee.as_ref().is_some_and(|tee| tee.with(|_| ()).is_none())
    }

    /// At most one read, if `reads` is set, or what the tee must do next.
    pub(super) fn step(&mut self, buffer: &mut Vec<u8>, reads: bool) -> Step {
        let Some(tee) = &self.tee else {
            return if reads { read(&mut self.end, &mut self.owed, buffer) } else { Step::Nothing };
        };
        let (end, owed) = (&mut self.end, &mut self.owed);
        let step = tee.step(|tee| {
            Some(match tee.next() {
                tee::Next::Read if !reads => Step::Nothing,
                tee::Next::Read => match read(end, owed, &mut tee.chunk) {
                    Step::Bytes(_) => Step::Moved,
                    Step::End => {
                        tee.end();
                        Step::Moved
                    }
                    other => other,
                },
                tee::Next::Ask => return None,
                tee::Next::HandOn => Step::Bytes(tee.hand_on(buffer)),
                tee::Next::Close => Step::End,
                // The tee leaves the bytes that were read.
                tee::Next::Fail(error) => Step::CopyFailed(tee.hand_on(buffer), error),
                tee::Next::Wait => Step::Nothing,
            })
        });
        match step {
            Some(Ok(step)) => step,
            Some(Err(tee)) => Step::Ask(tee),
            None => Step::Nothing,
        }
    }

    /// Whether this waits for the pipe. If not, it waits for the tee, which sets its own flag.
    fn waits_for_pipe(&self) -> bool {
        let waits = |tee: &UserCodeCell<Tee>| tee.with(|tee| tee.waits_for_pipe()).unwrap_or(false);
        self.tee.as_ref().is_none_or(waits)
    }

    /// If this waits for the pipe: asks for the flag to be set when there is something to read.
    pub(super) fn arm(&mut self) -> Armed {
        if self.waits_for_pipe() { self.end.arm() } else { Armed::Yes }
    }

    /// What the pipe holds now must be read before the next event.
    pub(super) fn owe(&mut self) {
        self.owed = Some(self.end.holds());
    }

    /// How many of these bytes are left to be read. With a tee it stays owed until the tee has taken the last chunk. `None`
    /// while the tee's writer takes no more.
    pub(super) fn owes(&self) -> Option<usize> {
        let is_quick = |tee: &UserCodeCell<Tee>| tee.with(|tee| !tee.waits_for_writer()).unwrap_or(false);
        self.owed.filter(|_| self.tee.as_ref().is_none_or(is_quick))
    }

    /// Takes what the pipe holds at this moment, even if another process keeps writing to it. Returns whether the pipe
    /// is at its end.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> bool {
        if let Some(tee) = &self.tee {
            tee.with(|tee| tee.hand_on(buffer));
        }
        self.end.drain(buffer)
    }
}

fn read(end: &mut ReadEnd, owed: &mut Option<usize>, buffer: &mut Vec<u8>) -> Step {
    match end.try_read(buffer) {
        Poll::Pending => {
            *owed = None;
            Step::Nothing
        }
        Poll::Ready(Ok(0)) => Step::End,
        Poll::Ready(Ok(count)) => {
            *owed = owed.and_then(|owed| owed.checked_sub(count));
            Step::Bytes(count)
        }
        Poll::Ready(Err(error)) => Step::Failed(error),
    }
}

//! A pipe out of the child, with its tee if it has one.
//!
//! Refuses to know who takes the bytes: the main handle, or a reader that the caller took out.

use std::io;
use std::task::Poll;

use super::pipe::{Armed, ReadEnd};
use super::tee::Tee;
use super::user_code::{Answer, UserCodeCell, UserCodeGuard};

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
    pub(super) fn new(end: ReadEnd, tee: Option<UserCodeCell<Tee>>) -> Self {
        Output { end, tee, owed: None }
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
        let (end, owed) = (&mut self.end, &mut self.owed);
        let mut read = |buffer: &mut Vec<u8>| if reads { read(end, owed, buffer) } else { Step::Nothing };
        match &self.tee {
            None => read(buffer),
            Some(tee) => {
                let step = tee.step(|asked| Tee::step(asked, buffer, read), Step::Ask);
                step.unwrap_or(Step::Nothing)
            }
        }
    }

    /// Whether this waits for the pipe. If not, it waits for the tee, which sets its own flag.
    pub(super) fn waits_for_pipe(&self) -> bool {
        let waits = |tee: &UserCodeCell<Tee>| tee.with(|tee| tee.code.waits_for_pipe()).unwrap_or(false);
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
        let waits =
            |tee: &UserCodeCell<Tee>| tee.with(|tee| matches!(tee.answer, Answer::Waits)).unwrap_or(true);
        self.owed.filter(|_| !self.tee.as_ref().is_some_and(waits))
    }

    /// Appends the chunk that is being copied, and copies no more. Returns its length. While a task runs the writer, it
    /// does nothing.
    pub(super) fn stop_copy(&mut self, buffer: &mut Vec<u8>) -> usize {
        let chunk = self.tee.as_ref().and_then(|tee| tee.with(|tee| tee.code.hand_on(buffer)));
        if chunk.is_some() {
            self.tee = None;
        }
        chunk.unwrap_or_default()
    }

    /// Takes what the pipe holds at this moment, even if another process keeps writing to it. Returns whether the pipe
    /// is at its end.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> bool {
        if let Some(tee) = &self.tee {
            tee.with(|tee| tee.code.hand_on(buffer));
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

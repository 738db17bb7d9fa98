//! A pipe out of the child, with its copy if it has one.
//!
//! Refuses to know who takes the bytes: the main handle, or a reader that was taken out.

use std::io;
use std::task::Poll;

use super::pipe::{Armed, ReadEnd};
use super::tee::{self, Tee};
use super::user_code::{UserCodeCell, UserCodeGuard};

#[derive(Debug)]
pub(super) struct Output {
    pub(super) end: ReadEnd,
    /// Few have one.
    tee: Option<UserCodeCell<Tee>>,
    /// So much is to be read before what comes next: what it held, and one look more.
    owed: Option<usize>,
}

/// What a step came to.
pub(super) enum Step {
    Nothing,
    /// Something was read, and is to be copied.
    Moved,
    /// So many bytes were appended to the buffer.
    Bytes(usize),
    /// The copy is to be asked, with nothing held.
    Ask(UserCodeGuard<Tee>),
    End,
    /// The pipe failed.
    Failed(io::Error),
    /// The copy failed. So many bytes that were read before were appended.
    CopyFailed(usize, io::Error),
}

impl Output {
    pub(super) fn new(end: ReadEnd, tee: Option<Tee>) -> Self {
        Output { end, tee: tee.map(UserCodeCell::new), owed: None }
    }

    pub(super) fn has_copy(&self) -> bool {
        self.tee.is_some()
    }

    /// Whether somebody calls the copy just now.
    pub(super) fn is_copying(&self) -> bool {
        self.tee.as_ref().is_some_and(|tee| tee.with(|_| ()).is_none())
    }

    /// At most one read, if this is the time for it, or what its copy has to do.
    pub(super) fn step(&mut self, buffer: &mut Vec<u8>, reads: bool) -> Step {
        let Some(tee) = &self.tee else {
            return if reads { read(&mut self.end, &mut self.owed, buffer) } else { Step::Nothing };
        };
        let (end, owed) = (&mut self.end, &mut self.owed);
        let step = tee.with(|tee| {
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
                // It leaves what was read.
                tee::Next::Fail(error) => Step::CopyFailed(tee.hand_on(buffer), error),
                tee::Next::Wait => Step::Nothing,
            })
        });
        match step {
            Some(Some(step)) => step,
            Some(None) => tee.try_take().map_or(Step::Nothing, Step::Ask),
            None => Step::Nothing,
        }
    }

    /// Whether it waits for the pipe, and not for the copy, which sets a flag by itself.
    fn waits_for_pipe(&self) -> bool {
        let waits = |tee: &UserCodeCell<Tee>| tee.with(|tee| tee.waits_for_pipe()).unwrap_or(false);
        self.tee.as_ref().is_none_or(waits)
    }

    /// Has the flag of the pipe set once there is something to read, if that is what it waits for.
    pub(super) fn arm(&mut self) -> Armed {
        if self.waits_for_pipe() { self.end.arm() } else { Armed::Yes }
    }

    /// What it holds now is to be read before what comes next.
    pub(super) fn owe(&mut self) {
        self.owed = Some(self.end.holds());
    }

    /// How much of that is left. A slow copy has its own time.
    pub(super) fn owes(&self) -> Option<usize> {
        self.owed.filter(|_| self.waits_for_pipe())
    }

    /// Takes what is there at this moment, whoever else may write to it. Whether the pipe is at its end.
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

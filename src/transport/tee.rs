//! A copy of what a pipe out of the child gives, on its way to a writer of the user's.
//!
//! Refuses to know the pipe, and where the bytes go after that.
//!
//! Rule: what was read is handed on only after the copy has taken it, so the child runs no faster than that.

use std::io;
use std::sync::Arc;
use std::task::Poll;

use super::user_code::UserCode;
use super::waiting::Flag;
use crate::stdio::BoxWriter;

pub(super) struct Tee {
    copy: BoxWriter,
    /// Set once the writer takes more.
    flag: Arc<Flag>,
    /// Read, and not yet handed on.
    pub(super) chunk: Vec<u8>,
    /// So much of it was copied.
    copied: usize,
    at_end: bool,
    state: State,
}

/// What the writer has said last.
enum State {
    Takes,
    /// It sets the flag.
    Waits,
    Failed(io::Error),
    Closed,
}

/// What is to be done.
pub(super) enum Next {
    /// Read a chunk.
    Read,
    /// Ask the writer, which is code of the user's.
    Ask,
    /// Hand the chunk on.
    HandOn,
    /// The copy is complete.
    Close,
    /// It failed.
    Fail(io::Error),
    /// Nothing, until the flag is set.
    Wait,
}

impl Tee {
    pub(super) fn new(copy: BoxWriter, flag: Arc<Flag>) -> Self {
        Tee { copy, flag, chunk: Vec::new(), copied: 0, at_end: false, state: State::Takes }
    }

    /// The pipe is at its end.
    pub(super) fn end(&mut self) {
        self.at_end = true;
    }

    /// Whether it waits for the pipe, and not for the writer, which sets the flag by itself.
    pub(super) fn waits_for_pipe(&self) -> bool {
        self.chunk.is_empty() && !self.at_end
    }

    pub(super) fn next(&mut self) -> Next {
        if let State::Failed(_) = self.state {
            return match std::mem::replace(&mut self.state, State::Closed) {
                State::Failed(error) => Next::Fail(error),
                _ => Next::Close,
            };
        }
        if !self.chunk.is_empty() && self.copied == self.chunk.len() {
            return Next::HandOn;
        }
        match self.state {
            State::Closed => Next::Close,
            _ if self.waits_for_pipe() => Next::Read,
            State::Waits if !self.flag.take() => Next::Wait,
            _ => {
                // Whoever is told so may leave it to another: the flag is not set again.
                self.state = State::Takes;
                Next::Ask
            }
        }
    }

    /// Hands the chunk on; how much that is.
    pub(super) fn hand_on(&mut self, buffer: &mut Vec<u8>) -> usize {
        let count = self.chunk.len();
        buffer.append(&mut self.chunk);
        self.copied = 0;
        count
    }
}

impl UserCode for Tee {
    /// Gives the writer some of the chunk, or tells it of the end.
    fn ask(&mut self) {
        let copy = self.copy.as_mut();
        let rest = &self.chunk[self.copied..];
        let asked = self.flag.wait(|cx| match rest.is_empty() {
            true => copy.poll_close(cx).map_ok(|()| None),
            false => copy.poll_write(cx, rest).map_ok(Some),
        });
        self.state = match asked {
            Poll::Pending => State::Waits,
            Poll::Ready(Ok(None)) => State::Closed,
            Poll::Ready(Ok(Some(0))) => State::Failed(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(Some(count))) => {
                self.copied += count.min(rest.len());
                State::Takes
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => State::Takes,
            Poll::Ready(Err(error)) => State::Failed(error),
        };
    }

    fn flag(&self) -> &Arc<Flag> {
        &self.flag
    }
}

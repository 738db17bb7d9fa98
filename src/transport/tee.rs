//! A tee: writes a copy of a pipe's output to the caller's writer.
//!
//! Refuses to know the pipe, and where the bytes go afterwards.
//!
//! Rule: bytes are handed on only after the writer has taken them. So the child runs no faster than the writer.

use std::io;
use std::sync::Arc;
use std::task::Poll;

use super::user_code::UserCode;
use super::waiting::Flag;
use crate::stdio::BoxWriter;

pub(super) struct Tee {
    copy: BoxWriter,
    /// Set when the writer can take more.
    flag: Arc<Flag>,
    /// Read, and not yet handed on.
    pub(super) chunk: Vec<u8>,
    /// How many of these bytes the writer has taken.
    copied: usize,
    at_end: bool,
    state: State,
}

/// What the writer returned last.
enum State {
    Takes,
    /// It sets the flag.
    Waits,
    Failed(io::Error),
    Closed,
}

/// What must be done next.
pub(super) enum Next {
    /// Read a chunk.
    Read,
    /// Poll the writer, which is the caller's code.
    Ask,
    /// Hand the chunk on.
    HandOn,
    /// The copy is complete.
    Close,
    /// The writer failed.
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

    /// Whether this waits for the pipe. If not, it waits for the writer, which sets its own flag.
    pub(super) fn waits_for_pipe(&self) -> bool {
        self.chunk.is_empty() && !self.at_end
    }

    /// Whether the writer has said that it takes no more now.
    pub(super) fn waits_for_writer(&self) -> bool {
        matches!(self.state, State::Waits)
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
                // The flag is taken, and is not set again. So any other handle must find `Takes`.
                self.state = State::Takes;
                Next::Ask
            }
        }
    }

    /// Appends the chunk to the buffer. Returns its length.
    pub(super) fn hand_on(&mut self, buffer: &mut Vec<u8>) -> usize {
        let count = self.chunk.len();
        buffer.append(&mut self.chunk);
        self.copied = 0;
        count
    }
}

impl UserCode for Tee {
    /// Writes some of the chunk, or closes the writer at the end.
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

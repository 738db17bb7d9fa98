//! A tee: writes a copy of a pipe's output to the caller's writer.
//!
//! Refuses to know the pipe, and where the bytes go afterwards.
//!
//! Rule: bytes are handed on only after the writer has taken them. So the child runs no faster than the writer.

use std::io;
use std::task::{Context, Poll};

use super::output::Step;
use super::user_code::{Answer, Asked, UserCode};
use crate::stdio::BoxWriter;

pub(super) struct Tee {
    copy: BoxWriter,
    /// Read, and not yet handed on.
    chunk: Vec<u8>,
    /// How many of these bytes the writer has taken.
    copied: usize,
    /// The pipe is at its end.
    at_end: bool,
}

impl Tee {
    pub(super) fn new(copy: BoxWriter) -> Self {
        Tee { copy, chunk: Vec::new(), copied: 0, at_end: false }
    }

    /// Whether this waits for the pipe. If not, it waits for the writer.
    pub(super) fn waits_for_pipe(&self) -> bool {
        self.chunk.is_empty() && !self.at_end
    }

    /// Reads a chunk, or hands one on. `None` if the writer must be run.
    pub(super) fn step(
        asked: &mut Asked<Tee>,
        buffer: &mut Vec<u8>,
        read: impl FnOnce(&mut Vec<u8>) -> Step,
    ) -> Option<Step> {
        let Asked { code: tee, answer } = asked;
        if let Some(error) = answer.take_error() {
            return Some(Step::CopyFailed(tee.hand_on(buffer), error));
        }
        Some(match answer {
            Answer::AtEnd => Step::End,
            Answer::Waits => Step::Nothing,
            _ if tee.waits_for_pipe() => match read(&mut tee.chunk) {
                Step::Bytes(_) => Step::Moved,
                Step::End => {
                    tee.at_end = true;
                    Step::Moved
                }
                other => other,
            },
            _ if tee.copied == tee.chunk.len() && !tee.chunk.is_empty() => Step::Bytes(tee.hand_on(buffer)),
            _ => return None,
        })
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
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Answer>> {
        let rest = &self.chunk[self.copied..];
        if rest.is_empty() {
            return self.copy.as_mut().poll_close(cx).map_ok(|()| Answer::AtEnd);
        }
        self.copy.as_mut().poll_write(cx, rest).map_ok(|count| match count {
            0 => Answer::Failed(io::ErrorKind::WriteZero.into()),
            _ => {
                self.copied += count.min(rest.len());
                Answer::Goes
            }
        })
    }
}

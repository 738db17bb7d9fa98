//! A feed: the bytes, or the caller's reader, that this crate writes into a pipe of the child.
//!
//! Refuses to know when it is its turn.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::pipe::{Armed, WriteEnd};
use super::user_code::{Answer, Asked, UserCode, UserCodeCell, UserCodeGuard};
use super::waiting::Flag;
use crate::stdio::{BoxReader, Feed};

/// The size of the chunk that is read from a reader: a pipe's usual size.
const CHUNK: usize = 64 * 1024;

/// One pipe and its source. Dropping it gives the child its end of file.
pub(super) struct Feeder {
    // Dropped first, so that the end of file does not wait until the source is wiped.
    pub(super) pipe: WriteEnd,
    source: From,
}

enum From {
    /// The bytes from the offset on are not yet written.
    Bytes(Feed, usize),
    Reader(UserCodeCell<Chunks>),
}

/// A reader, and the chunk that was read from it.
pub(super) struct Chunks {
    reader: BoxReader,
    /// `chunk[start..end]` is not yet written.
    chunk: Vec<u8>,
    start: usize,
    end: usize,
}

/// The result of a step.
pub(super) enum Step {
    /// How many bytes went into the pipe.
    Wrote(usize),
    /// The reader must be polled. It is the caller's code.
    Ask(UserCodeGuard<Chunks>),
    /// All is written, or the child no longer reads. The latter is no error.
    Done,
    /// The reader failed.
    Failed(io::Error),
    /// Nothing can be done now.
    Nothing,
}

impl Feeder {
    pub(super) fn of_bytes(pipe: WriteEnd, feed: Feed) -> Self {
        Feeder { pipe, source: From::Bytes(feed, 0) }
    }

    pub(super) fn of_reader(pipe: WriteEnd, reader: BoxReader, flag: Arc<Flag>) -> Self {
        let chunks = Chunks { reader, chunk: Vec::new(), start: 0, end: 0 };
        Feeder { pipe, source: From::Reader(UserCodeCell::new(chunks, flag)) }
    }

    /// At most one write.
    pub(super) fn step(&mut self) -> Step {
        let pipe = &mut self.pipe;
        match &mut self.source {
            From::Bytes(feed, offset) => {
                // A second `as_slice` may return fewer bytes.
                let left = feed.as_slice().get(*offset..).unwrap_or_default();
                if left.is_empty() { Step::Done } else { write(pipe, left, offset) }
            }
            From::Reader(cell) => {
                let step = cell.step(|asked| Chunks::step(asked, pipe), Step::Ask);
                step.unwrap_or(Step::Nothing)
            }
        }
    }

    /// Asks for a flag to be set when there is something to do.
    pub(super) fn arm(&mut self) -> Armed {
        let has_chunk = match &self.source {
            From::Bytes(..) => true,
            // The reader sets its own flag, and `is_closed` in `step` has armed the flag for a hang-up.
            From::Reader(cell) => cell.with(|asked| asked.code.start < asked.code.end).unwrap_or(false),
        };
        if has_chunk { self.pipe.arm() } else { Armed::Yes }
    }
}

fn write(pipe: &mut WriteEnd, bytes: &[u8], written: &mut usize) -> Step {
    match pipe.try_write(&[IoSlice::new(bytes)]) {
        Poll::Pending => Step::Nothing,
        Poll::Ready(Ok(count)) => {
            *written += count;
            Step::Wrote(count)
        }
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Step::Done,
        Poll::Ready(Err(error)) => Step::Failed(error),
    }
}

impl Chunks {
    /// Writes some of the chunk. `None` if the reader must be run.
    fn step(asked: &mut Asked<Chunks>, pipe: &mut WriteEnd) -> Option<Step> {
        let Asked { code: Chunks { chunk, start, end, .. }, answer } = asked;
        if start < end {
            return Some(write(pipe, &chunk[*start..*end], start));
        }
        match answer {
            Answer::Goes => None,
            Answer::AtEnd => Some(Step::Done),
            // The child no longer reads. So do not wait for the reader, which may have nothing for a year, and forget its
            // error. It is dropped with the pipe: to drop it is code of the user's.
            _ if pipe.is_closed() => Some(Step::Done),
            Answer::Waits => Some(Step::Nothing),
            Answer::Failed(_) => answer.take_error().map(Step::Failed),
        }
    }
}

impl UserCode for Chunks {
    /// Reads a chunk.
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Answer>> {
        self.chunk.resize(CHUNK, 0);
        self.reader.as_mut().poll_read(cx, &mut self.chunk).map_ok(|count| {
            (self.start, self.end) = (0, count.min(CHUNK));
            if count == 0 { Answer::AtEnd } else { Answer::Goes }
        })
    }
}

//! A feed: the bytes, or the caller's reader, that this crate writes into a pipe of the child.
//!
//! Refuses to know when it is its turn.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Poll;

use super::pipe::{Armed, WriteEnd};
use super::user_code::{UserCode, UserCodeCell, UserCodeGuard};
use super::waiting::Flag;
use crate::stdio::{BoxReader, Feed, ReaderSlot};

/// The size of the chunk that is read from a reader: a pipe's usual size.
const CHUNK: usize = 64 * 1024;

/// Where the bytes come from.
pub(crate) enum Source {
    Bytes(Feed),
    /// Taken out once the child exists, so that a failed start does not use up the reader.
    Reader(ReaderSlot),
    /// The caller writes, with a writer that is taken out.
    Writer,
}

/// One pipe and its source. Dropping it gives the child its end of file.
pub(super) struct Feeder {
    // Dropped first, so that the end of file does not wait until the source is wiped.
    pipe: WriteEnd,
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
    /// Set when the reader has more.
    flag: Arc<Flag>,
    /// `chunk[start..end]` is not yet written.
    chunk: Vec<u8>,
    start: usize,
    end: usize,
    state: State,
}

/// What the reader returned last.
enum State {
    Gives,
    /// It sets the flag.
    Waits,
    Failed(io::Error),
    AtEnd,
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
        let chunks = Chunks { reader, flag, chunk: Vec::new(), start: 0, end: 0, state: State::Gives };
        Feeder { pipe, source: From::Reader(UserCodeCell::new(chunks)) }
    }

    /// The pipe likely has room, or no reader any more.
    pub(super) fn expect(&mut self) {
        self.pipe.expect();
        self.pipe.expect_hangup();
    }

    pub(super) fn streams(&self) -> bool {
        self.pipe.streams()
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
                let step = cell.step(|chunks| match chunks.start < chunks.end {
                    true => Some(write(pipe, &chunks.chunk[chunks.start..chunks.end], &mut chunks.start)),
                    false => chunks.next(pipe),
                });
                match step {
                    Some(Ok(step)) => step,
                    Some(Err(source)) => Step::Ask(source),
                    None => Step::Nothing,
                }
            }
        }
    }

    /// Asks for a flag to be set when there is something to do.
    pub(super) fn arm(&mut self) -> Armed {
        let has_chunk = match &self.source {
            From::Bytes(..) => true,
            // The reader sets its own flag, and `is_closed` in `step` has armed the flag for a hang-up.
            From::Reader(cell) => cell.with(|chunks| chunks.start < chunks.end).unwrap_or(false),
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
    /// What to do if there is no chunk. `None` means: poll the reader.
    fn next(&mut self, pipe: &mut WriteEnd) -> Option<Step> {
        let waits = matches!(self.state, State::Waits) && !self.flag.take();
        match std::mem::replace(&mut self.state, State::Gives) {
            State::AtEnd => Some(Step::Done),
            // The reader's error does not matter if the child no longer reads.
            // It is dropped with the pipe: to drop it is code of the user's.
            State::Failed(error) if pipe.is_closed() => {
                self.state = State::Failed(error);
                Some(Step::Done)
            }
            State::Failed(error) => Some(Step::Failed(error)),
            // A reader may have nothing for a year. Do not wait for it if the child no longer reads.
            State::Waits if waits => {
                self.state = State::Waits;
                Some(if pipe.is_closed() { Step::Done } else { Step::Nothing })
            }
            State::Waits | State::Gives => None,
        }
    }
}

impl UserCode for Chunks {
    /// Reads a chunk.
    fn ask(&mut self) {
        let Chunks { reader, flag, chunk, .. } = self;
        chunk.resize(CHUNK, 0);
        self.state = match flag.wait(|cx| reader.as_mut().poll_read(cx, chunk)) {
            Poll::Pending => State::Waits,
            Poll::Ready(Ok(0)) => State::AtEnd,
            Poll::Ready(Ok(count)) => {
                (self.start, self.end) = (0, count.min(CHUNK));
                State::Gives
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => State::Gives,
            Poll::Ready(Err(error)) => State::Failed(error),
        };
    }

    fn flag(&self) -> &Arc<Flag> {
        &self.flag
    }
}

/// Never shows the bytes.
impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

//! What flows into a child: bytes that are at hand, or a reader of the user's as it goes.
//!
//! Refuses to know when it is its turn.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Poll;

use super::pipe::{Armed, WriteEnd};
use super::user_code::{UserCode, UserCodeCell, UserCodeGuard};
use super::waiting::Flag;
use crate::stdio::{BoxReader, Feed, ReaderSlot};

/// How much of a reader is held at once: a pipe's usual size.
const CHUNK: usize = 64 * 1024;

/// Where the bytes come from.
pub(crate) enum Source {
    Bytes(Feed),
    /// Taken out once the child exists, so that a failed start does not cost the reader.
    Reader(ReaderSlot),
    /// The user writes, through a writer that is taken out.
    Writer,
}

/// One pipe and what flows into it. Dropping it is the child's end of file.
pub(super) struct Feeder {
    // Dropped first: the end of file does not wait for the source to be wiped.
    pipe: WriteEnd,
    source: From,
}

enum From {
    /// What is left begins at the offset.
    Bytes(Feed, usize),
    Reader(UserCodeCell<Chunks>),
}

/// A reader, of which a chunk is held.
pub(super) struct Chunks {
    reader: BoxReader,
    /// Set once the reader has more.
    flag: Arc<Flag>,
    /// What is left of the chunk is `chunk[start..end]`.
    chunk: Vec<u8>,
    start: usize,
    end: usize,
    state: State,
}

/// What the reader has said last.
enum State {
    Gives,
    /// It sets the flag.
    Waits,
    Failed(io::Error),
    AtEnd,
}

/// What a step came to.
pub(super) enum Step {
    /// So many bytes went into the pipe.
    Wrote(usize),
    /// The reader is to be asked, which is code of the user's.
    Ask(UserCodeGuard<Chunks>),
    /// All is fed, or nobody reads any more, which is no error.
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

    /// There is likely room in the pipe, or nobody who reads it.
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
                // An owner might give less than it did before.
                let left = feed.as_slice().get(*offset..).unwrap_or_default();
                if left.is_empty() { Step::Done } else { write(pipe, left, offset) }
            }
            From::Reader(cell) => {
                let step = cell.with(|chunks| match chunks.start < chunks.end {
                    true => Some(write(pipe, &chunks.chunk[chunks.start..chunks.end], &mut chunks.start)),
                    false => chunks.next(pipe),
                });
                match step {
                    Some(Some(step)) => step,
                    Some(None) => cell.try_take().map_or(Step::Nothing, Step::Ask),
                    None => Step::Nothing,
                }
            }
        }
    }

    /// Has a flag set once there is something to do.
    pub(super) fn arm(&mut self) -> Armed {
        let has_chunk = match &self.source {
            From::Bytes(..) => true,
            // The reader sets its own flag, and `step` has asked for the pipe's.
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
    /// What to do without a chunk; `None` is to ask the reader.
    fn next(&mut self, pipe: &mut WriteEnd) -> Option<Step> {
        let waits = matches!(self.state, State::Waits) && !self.flag.take();
        match std::mem::replace(&mut self.state, State::Gives) {
            State::AtEnd => Some(Step::Done),
            // What it has to say is no matter once nobody reads.
            State::Failed(_) if pipe.is_closed() => Some(Step::Done),
            State::Failed(error) => Some(Step::Failed(error)),
            // A reader may have nothing for a year: do not wait for it longer than the child does.
            State::Waits if waits => {
                self.state = State::Waits;
                Some(if pipe.is_closed() { Step::Done } else { Step::Nothing })
            }
            State::Waits | State::Gives => None,
        }
    }
}

impl UserCode for Chunks {
    /// Asks the reader for a chunk.
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

/// Never what is fed.
impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

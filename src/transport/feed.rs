//! What flows into a child: bytes that are at hand, or a reader of the user's as it goes.
//!
//! Refuses to know when it is its turn.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use super::pipe::{Armed, WriteEnd};
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
    Reader(Box<Chunks>),
}

/// A reader, of which a chunk is held.
struct Chunks {
    /// Never locked: it makes what need not be `Sync` so.
    reader: Mutex<BoxReader>,
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
    Ask,
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
        let (reader, chunk, state) = (Mutex::new(reader), Vec::new(), State::Gives);
        let chunks = Chunks { reader, flag, chunk, start: 0, end: 0, state };
        Feeder { pipe, source: From::Reader(Box::new(chunks)) }
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
        let bytes = match &mut self.source {
            // An owner might give less than it did before.
            From::Bytes(feed, offset) => feed.as_slice().get(*offset..).unwrap_or_default(),
            From::Reader(chunks) if chunks.start < chunks.end => &chunks.chunk[chunks.start..chunks.end],
            From::Reader(chunks) => {
                let waits = matches!(chunks.state, State::Waits) && !chunks.flag.take();
                return match std::mem::replace(&mut chunks.state, State::Gives) {
                    State::AtEnd => Step::Done,
                    // What it has to say is no matter once nobody reads.
                    State::Failed(_) if self.pipe.is_closed() => Step::Done,
                    State::Failed(error) => Step::Failed(error),
                    // A reader may have nothing for a year: do not wait for it longer than the child does.
                    State::Waits if waits => {
                        chunks.state = State::Waits;
                        if self.pipe.is_closed() { Step::Done } else { Step::Nothing }
                    }
                    State::Waits | State::Gives => Step::Ask,
                };
            }
        };
        if bytes.is_empty() {
            return Step::Done;
        }
        let count = match self.pipe.try_write(&[IoSlice::new(bytes)]) {
            Poll::Pending => return Step::Nothing,
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Step::Done,
            Poll::Ready(Err(error)) => return Step::Failed(error),
        };
        match &mut self.source {
            From::Bytes(_, offset) => *offset += count,
            From::Reader(chunks) => chunks.start += count,
        }
        Step::Wrote(count)
    }

    /// Asks the reader for a chunk.
    pub(super) fn ask(&mut self) {
        let From::Reader(chunks) = &mut self.source else { return };
        let Chunks { reader, flag, chunk, .. } = &mut **chunks;
        chunk.resize(CHUNK, 0);
        let reader = reader.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut();
        chunks.state = match flag.wait(|cx| reader.poll_read(cx, chunk)) {
            Poll::Pending => State::Waits,
            Poll::Ready(Ok(0)) => State::AtEnd,
            Poll::Ready(Ok(count)) => {
                (chunks.start, chunks.end) = (0, count.min(CHUNK));
                State::Gives
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => State::Gives,
            Poll::Ready(Err(error)) => State::Failed(error),
        };
    }

    /// Has a flag set once there is something to do.
    pub(super) fn arm(&mut self) -> Armed {
        match &self.source {
            From::Bytes(..) => self.pipe.arm(),
            From::Reader(chunks) if chunks.start < chunks.end => self.pipe.arm(),
            // The reader sets its own, and `step` has asked for the pipe's.
            From::Reader(_) => Armed::Yes,
        }
    }
}

/// Never what is fed.
impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

//! Feeds a pipe into the child: bytes that are at hand, or a reader as it goes.

use std::io::{self, IoSlice};
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};

use super::clock::Activity;
use super::pipe::WriteEnd;
use crate::spawn::Pipe;
use crate::stdio::{BoxReader, Feed, ReaderSlot};

/// How much of a reader is held at once: a pipe's usual size.
const CHUNK: usize = 64 * 1024;

/// Where the bytes come from.
pub(crate) enum Source {
    Bytes(Feed),
    /// Taken out once the child exists, so that a failed start does not cost the reader.
    Reader(ReaderSlot),
    /// The user writes, through an `Inlet`.
    Writer,
}

/// One pipe and what flows into it. Dropping it is the child's end of file.
pub(super) struct Feeder {
    // Dropped first: the end of file does not wait for the source to be wiped.
    pipe: WriteEnd,
    state: State,
    activity: Option<Activity>,
}

enum State {
    /// What is left begins at the offset.
    Bytes(Feed, usize),
    /// What is left of the chunk is `chunk[start..end]`.
    Reader { reader: BoxReader, chunk: Vec<u8>, start: usize, end: usize },
}

impl Feeder {
    pub(super) fn new(pipe: Pipe, source: Source, activity: Option<Activity>) -> io::Result<Self> {
        let state = match source {
            Source::Writer => unreachable!("what the user writes is not fed"),
            Source::Bytes(feed) => State::Bytes(feed, 0),
            Source::Reader(slot) => {
                let reader = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                let reader = reader.ok_or_else(|| io::Error::other("the reader was used up meanwhile"))?;
                State::Reader { reader, chunk: Vec::new(), start: 0, end: 0 }
            }
        };
        Ok(Feeder { pipe: WriteEnd::new(pipe)?, state, activity })
    }

    /// Feeds until all is fed or nobody reads any more, which is no error. Only a failing reader is.
    pub(super) fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_write_all(cx) {
            Poll::Ready(Err(Stop::NobodyReads)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(Stop::Failed(error))) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let Feeder { pipe, state, activity } = self;
        let write = |cx: &mut Context<'_>, pipe: &mut WriteEnd, bytes: &[u8]| {
            let written = ready!(pipe.poll_write(cx, &[IoSlice::new(bytes)])).map_err(Stop::writing);
            activity.iter().for_each(Activity::touch);
            Poll::Ready(written)
        };
        match state {
            State::Bytes(feed, offset) => {
                while *offset < feed.as_slice().len() {
                    *offset += ready!(write(cx, pipe, &feed.as_slice()[*offset..]))?;
                }
                Poll::Ready(Ok(()))
            }
            State::Reader { reader, chunk, start, end } => loop {
                while start < end {
                    *start += ready!(write(cx, pipe, &chunk[*start..*end]))?;
                }
                chunk.resize(CHUNK, 0);
                let read = match reader.as_mut().poll_read(cx, chunk) {
                    Poll::Ready(read) => read,
                    // A reader may have nothing for a year: do not wait for it longer than the child does.
                    Poll::Pending => match pipe.poll_closed(cx) {
                        Poll::Ready(()) => return Poll::Ready(Err(Stop::NobodyReads)),
                        Poll::Pending => return Poll::Pending,
                    },
                };
                match read {
                    Ok(0) => return Poll::Ready(Ok(())),
                    Ok(count) => (*start, *end) = (0, count),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Poll::Ready(Err(Stop::Failed(error))),
                }
            },
        }
    }
}

/// Why a feed stops before its end.
enum Stop {
    NobodyReads,
    Failed(io::Error),
}

impl Stop {
    fn writing(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Stop::NobodyReads } else { Stop::Failed(error) }
    }
}

/// Never what is fed.
impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

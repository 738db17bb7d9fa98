//! Feeds a pipe into the child: bytes that are at hand, or a reader as it goes.

use std::io::{self, IoSlice};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use super::bell::{Bell, Task};
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
    /// There is room in the pipe.
    room: Bell,
    state: State,
    activity: Option<Activity>,
}

enum State {
    /// What is left begins at the offset.
    Bytes(Feed, usize),
    /// What is left of the chunk is `chunk[start..end]`.
    ///
    /// Never locked: it makes what need not be `Sync` so.
    Reader {
        reader: Mutex<BoxReader>,
        chunk: Vec<u8>,
        start: usize,
        end: usize,
        /// The pipe is closed: rung while the reader has nothing.
        closed: Bell,
    },
}

impl Feeder {
    pub(super) fn of_bytes(
        pipe: Pipe,
        feed: Feed,
        task: &Task,
        activity: Option<Activity>,
    ) -> io::Result<Self> {
        let state = State::Bytes(feed, 0);
        Ok(Feeder { pipe: WriteEnd::new(pipe)?, room: task.bell(), state, activity })
    }

    pub(super) fn of_reader(
        pipe: Pipe,
        reader: BoxReader,
        task: &Task,
        activity: Option<Activity>,
    ) -> io::Result<Self> {
        let state = State::Reader {
            reader: Mutex::new(reader),
            chunk: Vec::new(),
            start: 0,
            end: 0,
            closed: task.bell(),
        };
        Ok(Feeder { pipe: WriteEnd::new(pipe)?, room: task.bell(), state, activity })
    }

    /// There is likely room in the pipe, or nobody who reads it.
    pub(super) fn look(&mut self) {
        self.pipe.look();
        if let State::Reader { closed, .. } = &self.state {
            closed.pretend();
        }
    }

    /// One write: how much it took, or `None` when all is fed or nobody reads any more, which is no error. Only a
    /// failing reader is one. Where there is nothing to do, the task is woken once there is, unless the caller looks
    /// again by itself.
    pub(super) fn poll_feed(
        &mut self,
        looks_again: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        Poll::Ready(match ready!(self.poll_write(looks_again, cx)) {
            Ok(count) => Ok(Some(count)),
            Err(Stop::AllFed | Stop::NobodyReads) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        })
    }

    fn poll_write(&mut self, looks_again: bool, cx: &mut Context<'_>) -> Poll<Result<usize, Stop>> {
        let bytes = match &mut self.state {
            State::Bytes(feed, offset) => &feed.as_slice()[*offset..],
            State::Reader { reader, chunk, start, end, closed } => {
                while start == end {
                    chunk.resize(CHUNK, 0);
                    let reader = reader.get_mut().unwrap_or_else(PoisonError::into_inner);
                    let failure = match reader.as_mut().poll_read(cx, chunk) {
                        Poll::Ready(Ok(count)) => {
                            (*start, *end) = (0, count);
                            break;
                        }
                        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Poll::Ready(Err(error)) => {
                            closed.pretend();
                            Some(error)
                        }
                        Poll::Pending => None,
                    };
                    // A reader may have nothing for a year: do not wait for it longer than the child does. And
                    // what it has to say is no matter once nobody reads.
                    return match (self.pipe.poll_closed(closed), failure) {
                        (Poll::Ready(()), _) => Poll::Ready(Err(Stop::NobodyReads)),
                        (Poll::Pending, Some(error)) => Poll::Ready(Err(Stop::Failed(error))),
                        (Poll::Pending, None) => Poll::Pending,
                    };
                }
                &chunk[*start..*end]
            }
        };
        if bytes.is_empty() {
            return Poll::Ready(Err(Stop::AllFed));
        }
        let written = self.pipe.poll_write(&self.room, looks_again, &[IoSlice::new(bytes)]);
        let count = ready!(written).map_err(Stop::writing)?;
        match &mut self.state {
            State::Bytes(_, given) | State::Reader { start: given, .. } => *given += count,
        }
        self.activity.iter().for_each(|activity| activity.moved(count));
        Poll::Ready(Ok(count))
    }
}

/// Why a feed stops before its end.
enum Stop {
    AllFed,
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

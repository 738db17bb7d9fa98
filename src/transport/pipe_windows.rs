//! The parent's ends of pipes on Windows, as futures.
//!
//! Programs expect a pipe of the blocking kind as a standard handle. Windows cannot report when such a pipe is ready.
//! So an end first asks whether the next step would block. If it would, a thread of the `blocking` crate's pool does
//! the step and wakes the task. One end uses at most one thread. A reading end uses none while there is something to
//! read.
//!
//! Rules:
//! - One operation at a time: Windows makes a second one wait for the first, even a query.
//! - No thread stays in a pipe that was given up.
//! - The pool has 500 threads, unless `BLOCKING_MAX_THREADS` is set. Further pipes wait for a free thread.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::thread;
use std::time::Duration;

use async_io::Timer;
use blocking::{Task, unblock};
use zeroize::Zeroizing;

use super::waiting::Flag;
use crate::spawn::Pipe;

/// The most bytes that the thread reads. Bytes that come with these are read without a thread.
const FIRST: usize = 4 * 1024;

/// The most bytes of one read or write: a pipe's usual size.
const MOST: usize = 64 * 1024;

/// How often an idle writing end looks whether the pipe still has a reader.
const LOOK: Duration = Duration::from_millis(100);

/// Whether the flag of an end will be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    Yes,
    #[expect(dead_code, reason = "a pipe is waited in, which costs the poll nothing")]
    Anew,
    /// The end is ready: try it.
    Ready,
}

/// The parent's end of a pipe that the child writes to.
#[derive(Debug)]
pub(super) struct ReadEnd {
    pipe: Arc<Pipe>,
    flag: Arc<Flag>,
    waiting: Option<Waiting>,
}

impl ReadEnd {
    pub(super) fn new(pipe: Pipe, flag: Arc<Flag>) -> io::Result<Self> {
        Ok(ReadEnd { pipe: Arc::new(pipe), flag, waiting: None })
    }

    /// Nothing to do: an attempt always asks the pipe first.
    pub(super) fn expect(&mut self) {}

    /// A second look is never worthwhile here: a thread waits in the pipe.
    pub(super) fn streams(&self) -> bool {
        false
    }

    /// Nothing to do: the attempt has started a thread.
    pub(super) fn arm(&mut self) -> Armed {
        Armed::Yes
    }

    /// How many bytes the pipe holds.
    pub(super) fn holds(&self) -> usize {
        // If a thread waits in the pipe, a query would wait for that thread.
        if self.waiting.is_some() { FIRST } else { self.pipe.available().ok().flatten().unwrap_or(0) }
    }

    /// Appends the bytes of one read; 0 is end of file. If there is nothing, the flag is set when there is.
    pub(super) fn try_read(&mut self, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                let chunk = ready!(self.flag.wait(|cx| Pin::new(&mut waiting.task).poll(cx)));
                self.waiting = None;
                let chunk = chunk?;
                if !chunk.is_empty() {
                    buffer.extend_from_slice(&chunk);
                    return Poll::Ready(Ok(chunk.len()));
                }
                // Some programs write zero bytes, which looks like an end of file. So ask the pipe.
            }
            match self.pipe.available()? {
                None => return Poll::Ready(Ok(0)),
                Some(0) => self.waiting = Some(Waiting::new(self.pipe.clone())),
                Some(count) => match self.pipe.read_available(count.min(MOST), buffer)? {
                    0 => {}
                    count => return Poll::Ready(Ok(count)),
                },
            }
        }
    }

    /// Appends what the pipe holds at this moment, and not what another process keeps writing. Returns whether the pipe
    /// is at its end.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> bool {
        if let Some(waiting) = self.waiting.take() {
            match waiting.call_back(&self.pipe) {
                Some(read) => buffer.extend_from_slice(&read),
                // A query would wait for the thread.
                None => return false,
            }
        }
        if let Ok(Some(count @ 1..)) = self.pipe.available() {
            // Bytes that cannot be read are lost.
            let _: io::Result<usize> = self.pipe.read_available(count, buffer);
        }
        matches!(self.pipe.available(), Ok(None))
    }
}

/// A grandchild may keep the pipe open for a year. No thread stays in it.
impl Drop for ReadEnd {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.call_back(&self.pipe);
        }
    }
}

/// A thread that reads, or will read once the pool has a free one.
#[derive(Debug)]
struct Waiting {
    task: Task<io::Result<Vec<u8>>>,
    /// The thread sets it before it enters the pipe; the parent sets it to keep the thread out. The first one decides.
    decided: Arc<AtomicBool>,
}

impl Waiting {
    fn new(pipe: Arc<Pipe>) -> Self {
        let decided = Arc::new(AtomicBool::new(false));
        let threads = decided.clone();
        let task = unblock(move || {
            if threads.swap(true, Ordering::SeqCst) {
                return Ok(Vec::new());
            }
            let mut chunk = vec![0; FIRST];
            let count = pipe.read(&mut chunk)?;
            chunk.truncate(count);
            Ok(chunk)
        });
        Waiting { task, decided }
    }

    /// Calls the thread out of the pipe, and returns what it has read, if anything. This takes a moment only. `None` if
    /// the system does not let the thread go.
    fn call_back(mut self, pipe: &Pipe) -> Option<Vec<u8>> {
        if !self.decided.swap(true, Ordering::SeqCst) {
            return Some(Vec::new());
        }
        for attempt in 0..200 {
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(read) = Pin::new(&mut self.task).poll(&mut cx) {
                return Some(read.unwrap_or_default());
            }
            // Cancel at each attempt: the thread may not have been in the pipe yet.
            pipe.cancel();
            if attempt < 20 { thread::yield_now() } else { thread::sleep(Duration::from_millis(1)) }
        }
        None
    }
}

/// The parent's end of a pipe that the child reads from. Dropping it gives the child its end of file, after the
/// accepted bytes.
#[derive(Debug)]
pub(super) struct WriteEnd {
    pipe: Arc<Pipe>,
    /// For writing and for the look: both wait for the same thread.
    flag: Arc<Flag>,
    writing: Option<Task<io::Result<()>>>,
    /// When to look next whether the pipe still has a reader.
    look: Option<Timer>,
}

impl WriteEnd {
    pub(super) fn new(pipe: Pipe, _room: Arc<Flag>, flag: Arc<Flag>) -> io::Result<Self> {
        Ok(WriteEnd { pipe: Arc::new(pipe), flag, writing: None, look: None })
    }

    /// Nothing to do: the accepted bytes are being written.
    pub(super) fn expect(&mut self) {}

    /// Nothing to do: each call asks the pipe.
    pub(super) fn expect_hangup(&mut self) {}

    /// A second look is never worthwhile here: a thread waits in the pipe.
    pub(super) fn streams(&self) -> bool {
        false
    }

    /// Nothing to do: the attempt has started a thread.
    pub(super) fn arm(&mut self) -> Armed {
        Armed::Yes
    }

    /// Accepts some bytes, as if the pipe had room for them. `BrokenPipe` if no process can read the pipe any more. The
    /// next call returns any other error. If there is no room, the flag is set when there is.
    pub(super) fn try_write(&mut self, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_written())?;
        // The thread needs a copy, as a pipe has one. It may be a secret, so it must not move as it grows.
        let mut chunk = Zeroizing::new(Vec::with_capacity(MOST));
        for buffer in buffers {
            let room = MOST - chunk.len();
            chunk.extend_from_slice(&buffer[..buffer.len().min(room)]);
        }
        let (pipe, count) = (self.pipe.clone(), chunk.len());
        self.writing = Some(unblock(move || pipe.write_all(&chunk)));
        Poll::Ready(Ok(count))
    }

    fn poll_written(&mut self) -> Poll<io::Result<()>> {
        let Some(writing) = &mut self.writing else { return Poll::Ready(Ok(())) };
        let written = ready!(self.flag.wait(|cx| Pin::new(writing).poll(cx)));
        self.writing = None;
        Poll::Ready(written)
    }

    /// Whether every reader has closed its end; `false` while bytes are being written. Windows does not report a
    /// hang-up, so if it returns `false` the flag is set when it is time to ask again.
    pub(super) fn is_closed(&mut self) -> bool {
        match self.poll_written() {
            Poll::Pending => return false,
            Poll::Ready(Err(_)) => return true,
            Poll::Ready(Ok(())) => {}
        }
        loop {
            if self.pipe.is_closed() {
                return true;
            }
            let look = self.look.get_or_insert_with(|| Timer::after(LOOK));
            if self.flag.wait(|cx| Pin::new(look).poll(cx)).is_pending() {
                return false;
            }
            self.look = None;
        }
    }
}

/// The accepted bytes are still written, unless the child closes its end first.
impl Drop for WriteEnd {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.detach();
        }
    }
}

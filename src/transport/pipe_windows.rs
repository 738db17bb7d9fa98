//! The parent's ends of pipes on Windows, as something that can be polled.
//!
//! A pipe of the kind that programs expect as their standard handles cannot be waited for there, only
//! waited in. So an end asks whether the next step would wait; if it would, a thread of the `blocking`
//! crate's pool does it, and wakes us. One end takes one such thread at the most, and a reading end none
//! while there is something to read.
//!
//! Rules: at most one operation at a time, since Windows makes a second one wait for the first, questions
//! included; nobody is left waiting in a pipe that was given up. The pool has 500 threads unless
//! `BLOCKING_MAX_THREADS` says otherwise; the pipes beyond wait for a free one.

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

/// What is read while waiting. What comes at once with it is read without a thread.
const FIRST: usize = 4 * 1024;

/// The most that is read or written at once: a pipe's usual size.
const MOST: usize = 64 * 1024;

/// How often a writing end with nothing to write looks whether anybody still reads.
const LOOK: Duration = Duration::from_millis(100);

/// Whether the flag of an end will be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    Yes,
    #[expect(dead_code, reason = "a pipe is waited in, which costs the poll nothing")]
    Anew,
    /// The end is ready by now: try it.
    Ready,
}

/// An end that the child writes to.
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

    /// What is there is asked for before waiting in any case.
    pub(super) fn expect(&mut self) {}

    /// Nobody looks again here: a pipe is waited in.
    pub(super) fn streams(&self) -> bool {
        false
    }

    /// Trying has seen to it.
    pub(super) fn arm(&mut self) -> Armed {
        Armed::Yes
    }

    /// How much is there to be read.
    pub(super) fn holds(&self) -> usize {
        // A thread that waits in the pipe would have us wait for it.
        if self.waiting.is_some() { FIRST } else { self.pipe.available().ok().flatten().unwrap_or(0) }
    }

    /// Appends what one read gives; 0 is end of file. If there is nothing, the flag is set once there is.
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
                // A write of no bytes at all, which some programs do, looks like an end of file: ask.
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

    /// Appends what the pipe holds at this moment, and not what a descendant may go on writing. Whether it
    /// is at its end.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> bool {
        if let Some(waiting) = self.waiting.take() {
            match waiting.call_back(&self.pipe) {
                Some(read) => buffer.extend_from_slice(&read),
                // Asking the pipe would wait for the thread.
                None => return false,
            }
        }
        if let Ok(Some(count @ 1..)) = self.pipe.available() {
            // What cannot be read is lost.
            let _: io::Result<usize> = self.pipe.read_available(count, buffer);
        }
        matches!(self.pipe.available(), Ok(None))
    }
}

/// A descendant of the child may hold the pipe open for a year: no thread stays in it for that.
impl Drop for ReadEnd {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.call_back(&self.pipe);
        }
    }
}

/// A thread that reads, or will when there is one to be had.
#[derive(Debug)]
struct Waiting {
    task: Task<io::Result<Vec<u8>>>,
    /// Set by the thread when it sets out for the pipe, or by us so that none does: who is first counts.
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

    /// Gets the thread out of the pipe, with what it has read, if anything. It comes at once; `None` where
    /// the system does not let it go.
    fn call_back(mut self, pipe: &Pipe) -> Option<Vec<u8>> {
        if !self.decided.swap(true, Ordering::SeqCst) {
            return Some(Vec::new());
        }
        for attempt in 0..200 {
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(read) = Pin::new(&mut self.task).poll(&mut cx) {
                return Some(read.unwrap_or_default());
            }
            // Once more each time: it may have been on its way in.
            pipe.cancel();
            if attempt < 20 { thread::yield_now() } else { thread::sleep(Duration::from_millis(1)) }
        }
        None
    }
}

/// An end that the child reads from. Dropping it is the child's end of file, after what was taken to be
/// written.
#[derive(Debug)]
pub(super) struct WriteEnd {
    pipe: Arc<Pipe>,
    /// For writing and for watching: both wait for one and the same thread.
    flag: Arc<Flag>,
    writing: Option<Task<io::Result<()>>>,
    /// When to look again whether anybody still reads.
    look: Option<Timer>,
}

impl WriteEnd {
    pub(super) fn new(pipe: Pipe, _room: Arc<Flag>, flag: Arc<Flag>) -> io::Result<Self> {
        Ok(WriteEnd { pipe: Arc::new(pipe), flag, writing: None, look: None })
    }

    /// What was taken is on its way already.
    pub(super) fn expect(&mut self) {}

    /// It is asked for each time.
    pub(super) fn expect_hangup(&mut self) {}

    /// Nobody looks again here: a pipe is waited in.
    pub(super) fn streams(&self) -> bool {
        false
    }

    /// Trying has seen to it.
    pub(super) fn arm(&mut self) -> Armed {
        Armed::Yes
    }

    /// Takes some to be written, as if the pipe had room for it; `BrokenPipe` if nobody can read it any more. Another
    /// failure is told by the call after. If there is no room, the flag is set once there is.
    pub(super) fn try_write(&mut self, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_written())?;
        // A copy, as in a pipe's buffer; it may be of a secret, and so must not move while it grows.
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

    /// Whether every reader has closed its end, while we have nothing to write. If not, the flag is set once that is to
    /// be asked again: Windows tells it only to who asks, so this asks now and then.
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

/// What was taken is written, unless the child closes its end before.
impl Drop for WriteEnd {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            writing.detach();
        }
    }
}

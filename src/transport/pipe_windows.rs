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
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::thread;
use std::time::Duration;

use async_io::Timer;
use blocking::{Task, unblock};
use zeroize::Zeroizing;

use crate::spawn::Pipe;

/// What is read while waiting. What comes at once with it is read without a thread.
const FIRST: usize = 4 * 1024;

/// The most that is read or written at once: a pipe's usual size.
const MOST: usize = 64 * 1024;

/// How often a writing end with nothing to write looks whether anybody still reads.
const LOOK: Duration = Duration::from_millis(100);

/// An end that the child writes to.
#[derive(Debug)]
pub(super) struct ReadEnd {
    pipe: Arc<Pipe>,
    waiting: Option<Task<io::Result<Vec<u8>>>>,
}

impl ReadEnd {
    pub(super) fn new(pipe: Pipe) -> io::Result<Self> {
        Ok(ReadEnd { pipe: Arc::new(pipe), waiting: None })
    }

    /// Appends what one read gives; 0 is end of file.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                let chunk = ready!(Pin::new(waiting).poll(cx));
                self.waiting = None;
                let chunk = chunk?;
                buffer.extend_from_slice(&chunk);
                if !chunk.is_empty() {
                    return Poll::Ready(Ok(chunk.len()));
                }
            }
            match self.read_available(MOST, buffer) {
                // A write of no bytes, which some programs do, looks like an end of file.
                Ok(Some(0)) => {}
                Ok(Some(count)) => return Poll::Ready(Ok(count)),
                Ok(None) => return Poll::Ready(Ok(0)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            let pipe = self.pipe.clone();
            self.waiting = Some(unblock(move || {
                let mut chunk = vec![0; FIRST];
                let count = pipe.read(&mut chunk)?;
                chunk.truncate(count);
                Ok(chunk)
            }));
        }
    }

    /// Appends what can be had without waiting; `None` at the end of file. Nobody may be waiting.
    fn read_available(&mut self, most: usize, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        match self.pipe.available()? {
            None => Ok(None),
            Some(0) => Ok(Some(0)),
            Some(count) => self.pipe.read_available(count.min(most), buffer).map(Some),
        }
    }

    /// Appends what the pipe holds at this moment, and not what a descendant may go on writing.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) {
        if let Some(mut waiting) = self.waiting.take() {
            // The thread comes back at once, with an error or with what it has just read.
            for _ in 0..100 {
                self.pipe.cancel();
                if let Poll::Ready(read) =
                    Pin::new(&mut waiting).poll(&mut Context::from_waker(Waker::noop()))
                {
                    buffer.extend_from_slice(&read.unwrap_or_default());
                    // What cannot be read is lost.
                    let _: io::Result<Option<usize>> = self.read_available(usize::MAX, buffer);
                    return;
                }
                thread::sleep(Duration::from_millis(1));
            }
            // It got no thread yet. Asking the pipe might wait for it.
            self.waiting = Some(waiting);
        } else {
            let _: io::Result<Option<usize>> = self.read_available(usize::MAX, buffer);
        }
    }
}

/// Calls a waiting thread back: a descendant of the child may hold the pipe open for a year.
impl Drop for ReadEnd {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        if waiting.is_finished() || self.pipe.cancel() {
            return;
        }
        // It is on its way into the pipe, or out of it.
        let pipe = self.pipe.clone();
        unblock(move || {
            // One is ours, one is that of the end which is being dropped, for a moment more.
            while Arc::strong_count(&pipe) > 1 {
                pipe.cancel();
                thread::sleep(Duration::from_millis(1));
            }
        })
        .detach();
    }
}

/// An end that the child reads from. Dropping it is the child's end of file, after what was taken to be
/// written.
#[derive(Debug)]
pub(super) struct WriteEnd {
    pipe: Arc<Pipe>,
    writing: Option<Task<io::Result<()>>>,
    /// When to look again whether anybody still reads.
    look: Option<Timer>,
}

impl WriteEnd {
    pub(super) fn new(pipe: Pipe) -> io::Result<Self> {
        Ok(WriteEnd { pipe: Arc::new(pipe), writing: None, look: None })
    }

    /// Takes some to be written, as if the pipe had room for it; `BrokenPipe` where nobody can read it
    /// any more. Another failure is told by the call after.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(cx))?;
        // A copy, as in a pipe's buffer; it may be of a secret.
        let chunk = Zeroizing::new(bytes[..bytes.len().min(MOST)].to_vec());
        let (pipe, count) = (self.pipe.clone(), chunk.len());
        self.writing = Some(unblock(move || pipe.write_all(&chunk)));
        Poll::Ready(Ok(count))
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(writing) = &mut self.writing else { return Poll::Ready(Ok(())) };
        let written = ready!(Pin::new(writing).poll(cx));
        self.writing = None;
        Poll::Ready(written)
    }

    /// Ready once every reader has closed its end, while we have nothing to write.
    ///
    /// Windows tells that only to who asks, so this asks now and then.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if ready!(self.poll_written(cx)).is_err() {
            return Poll::Ready(());
        }
        loop {
            if self.pipe.is_closed() {
                return Poll::Ready(());
            }
            let look = self.look.get_or_insert_with(|| Timer::after(LOOK));
            ready!(Pin::new(look).poll(cx));
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

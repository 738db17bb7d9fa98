//! The parent's ends of pipes, on Windows: each is tried without blocking, then waited for.
//!
//! Refuses to know what the bytes are, and which task waits.
//!
//! The pipe is asked how much it holds, and that much is read at once. If it holds nothing, a read of no bytes is started.
//! The system finishes it once the pipe holds something, and sets the flag. So the bytes stay in the pipe until they are
//! taken, and nothing is lost when a wait is given up. A write is different: the system gets a copy of the bytes, and
//! sets the flag when the pipe has taken them. No thread is held for either.
//!
//! Rules:
//! - A reading end is tried if its wait is over, or if a caller expects it to be ready. It waits only after an attempt
//!   found nothing.
//! - One write at a time, so that the bytes stay in order.
//! - Dropping an end leaves nothing behind but accepted bytes. These belong to the write itself: it keeps the pipe open
//!   until the child has read them or has closed the pipe. Then the system's thread pool closes it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Poll, ready};

use zeroize::Zeroizing;

use super::waiting::Flag;
use crate::spawn::{Pending, Pipe, is_broken, or_broken};

/// The most bytes of one read or write: a pipe's usual size.
const MOST: usize = 64 * 1024;

/// The room to look for a write of no bytes.
const LEAST: usize = 4 * 1024;

/// Whether the flag of an end will be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    /// It was armed before.
    Yes,
    /// It was armed just now.
    Anew,
    /// The end is ready: try it.
    Ready,
}

/// The parent's end of a pipe that the child writes to.
#[derive(Debug)]
pub(super) struct ReadEnd {
    pipe: Pipe,
    flag: Arc<Flag>,
    /// A caller expects bytes.
    ready: bool,
    wait: Option<Pending>,
    /// The system refused to wait. The next attempt returns this error.
    broken: Option<io::Error>,
}

impl ReadEnd {
    pub(super) fn new(pipe: Pipe, flag: Arc<Flag>) -> io::Result<Self> {
        Ok(ReadEnd { pipe, flag, ready: true, wait: None, broken: None })
    }

    /// The pipe likely has bytes: try it.
    pub(super) fn expect(&mut self) {
        self.ready = true;
    }

    /// How many bytes the pipe holds.
    pub(super) fn holds(&self) -> usize {
        self.pipe.available().ok().flatten().unwrap_or(0)
    }

    /// Appends the bytes of one read; 0 is end of file. If there is nothing it is `Pending`, and the end must be armed.
    pub(super) fn try_read(&mut self, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        let is_over = self.wait.take_if(|wait| wait.is_finished()).is_some();
        if !self.ready && !is_over && self.wait.is_some() {
            return Poll::Pending;
        }
        self.ready = true;
        let count = match self.pipe.available()? {
            None => return Poll::Ready(Ok(0)),
            Some(0) if !is_over => 0,
            // A program may have written no bytes. That ends a wait, and would end the next one if it stayed in the pipe.
            Some(0) => self.pipe.read(LEAST, buffer)?,
            Some(count) => self.pipe.read(count.min(MOST), buffer)?,
        };
        match count {
            0 => {
                self.ready = false;
                Poll::Pending
            }
            _ => Poll::Ready(Ok(count)),
        }
    }

    /// Asks for the flag to be set when there is something to read.
    pub(super) fn arm(&mut self) -> Armed {
        match &self.wait {
            _ if self.ready => return Armed::Ready,
            Some(wait) if wait.is_finished() => return Armed::Ready,
            Some(_) => return Armed::Yes,
            None => {}
        }
        match self.pipe.wait(self.flag.waker()) {
            Ok(wait) => {
                self.wait = Some(wait);
                Armed::Anew
            }
            Err(error) => {
                // The next attempt finds the end of file.
                (self.ready, self.broken) = (true, Some(error).filter(|error| !is_broken(error)));
                Armed::Ready
            }
        }
    }

    /// Appends what the pipe holds at this moment, and not what another process keeps writing. Returns whether the pipe
    /// is at its end.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> bool {
        let mut left = self.holds();
        while left > 0 {
            match self.pipe.read(left.min(MOST), buffer) {
                Ok(count @ 1..) => left = left.saturating_sub(count),
                // Bytes that cannot be read are lost.
                Ok(0) | Err(_) => break,
            }
        }
        matches!(self.pipe.available(), Ok(None))
    }
}

/// The parent's end of a pipe that the child reads from. Dropping it gives the child its end of file, after the
/// accepted bytes.
#[derive(Debug)]
pub(super) struct WriteEnd {
    pipe: Pipe,
    /// Set when the accepted bytes are written.
    room: Arc<Flag>,
    /// Set when no process can read the pipe any more.
    hangup: Arc<Flag>,
    write: Option<Pending>,
    /// The pipe likely hung up.
    looks: bool,
    wait: Option<Pending>,
}

impl WriteEnd {
    pub(super) fn new(pipe: Pipe, room: Arc<Flag>, hangup: Arc<Flag>) -> io::Result<Self> {
        Ok(WriteEnd { pipe, room, hangup, write: None, looks: true, wait: None })
    }

    /// Nothing to do: an attempt asks the last write.
    pub(super) fn expect(&mut self) {}

    /// The pipe likely hung up: look.
    pub(super) fn expect_hangup(&mut self) {
        self.looks = true;
    }

    /// Whether the last write is over. If not, it sets the flag.
    pub(super) fn arm(&mut self) -> Armed {
        match &self.write {
            Some(write) if !write.is_finished() => Armed::Yes,
            _ => Armed::Ready,
        }
    }

    /// Accepts some bytes, as if the pipe had room for them. `BrokenPipe` if no process can read the pipe any more. The
    /// next call returns any other error. While the last bytes are being written it is `Pending`, and the flag is set
    /// afterwards.
    pub(super) fn try_write(&mut self, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_written())?;
        let count = buffers.iter().map(|buffer| buffer.len()).fold(0, usize::saturating_add).min(MOST);
        if count == 0 {
            // To the child a write of no bytes looks like an end of file.
            return Poll::Ready(Ok(0));
        }
        // The bytes may be a secret, so the copy must not move as it grows.
        let mut bytes = Zeroizing::new(Vec::with_capacity(count));
        for buffer in buffers {
            let room = count - bytes.len();
            bytes.extend_from_slice(&buffer[..buffer.len().min(room)]);
        }
        self.write = Some(self.pipe.write(bytes, self.room.waker())?);
        Poll::Ready(Ok(count))
    }

    fn poll_written(&mut self) -> Poll<io::Result<()>> {
        let Some(write) = &self.write else { return Poll::Ready(Ok(())) };
        let Some(outcome) = write.outcome() else { return Poll::Pending };
        self.write = None;
        Poll::Ready(outcome.map(drop).map_err(or_broken))
    }

    /// Whether every reader has closed its end. If not, `hangup` is set when the last one does.
    pub(super) fn is_closed(&mut self) -> bool {
        let waits = self.wait.as_ref().is_some_and(|wait| !wait.is_finished());
        if waits && !std::mem::take(&mut self.looks) {
            return false;
        }
        if matches!(self.pipe.available(), Ok(None)) {
            return true;
        }
        if !waits {
            match self.pipe.wait(self.hangup.waker()) {
                Ok(wait) => self.wait = Some(wait),
                Err(error) => return is_broken(&error),
            }
        }
        false
    }
}

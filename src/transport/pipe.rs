//! The parent's ends of pipes, as something that can be polled.

use std::io;
use std::task::{Context, Poll, ready};

use async_io::Async;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread, read};

use crate::spawn::{Pipe, write_quietly};

/// The least room that a read is given. Small, since most children say little.
const LEAST: usize = 4 * 1024;

/// The most room that a read asks for at once: a pipe's usual size.
const MOST: usize = 64 * 1024;

/// An end that the child writes to.
#[derive(Debug)]
pub(super) struct ReadEnd {
    pipe: Async<Pipe>,
    /// The last call did not find it empty. False at first: a child needs longer to say something than
    /// the parent to ask.
    ready: bool,
}

impl ReadEnd {
    pub(super) fn new(pipe: Pipe) -> io::Result<Self> {
        Ok(ReadEnd { pipe: Async::new_nonblocking(pipe)?, ready: false })
    }

    /// Appends what one read gives; 0 is end of file.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if !self.ready {
                ready!(self.pipe.poll_readable(cx))?;
                self.ready = true;
            }
            make_room(buffer);
            match read(self.pipe.get_ref(), spare_capacity(buffer)) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::AGAIN) => self.ready = false,
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }

    /// Appends what the pipe holds at this moment, and not what a descendant may go on writing.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) {
        let mut left = ioctl_fionread(self.pipe.get_ref()).unwrap_or(0) as usize;
        while left > 0 {
            make_room(buffer);
            match read(self.pipe.get_ref(), spare_capacity(buffer)) {
                Ok(0) => return,
                Ok(count) => left = left.saturating_sub(count),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Room for the next read: doubling, so that each byte is moved a bounded number of times.
fn make_room(buffer: &mut Vec<u8>) {
    if buffer.capacity() - buffer.len() < LEAST {
        buffer.reserve(buffer.len().clamp(LEAST, MOST));
    }
}

/// An end that the child reads from. Dropping it is the child's end of file.
#[derive(Debug)]
pub(super) struct WriteEnd {
    pipe: Async<Pipe>,
}

impl WriteEnd {
    pub(super) fn new(pipe: Pipe) -> io::Result<Self> {
        Ok(WriteEnd { pipe: Async::new_nonblocking(pipe)? })
    }

    /// Writes some; `BrokenPipe` where nobody can read it any more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match write_quietly(rustix::fd::AsFd::as_fd(self.pipe.get_ref()), bytes) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::AGAIN) => ready!(self.pipe.poll_writable(cx))?,
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }

    /// Ready once every reader has closed its end, while we have nothing to write.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_closed() {
                return Poll::Ready(());
            }
            // A writing end never becomes readable, but the error condition is always reported.
            if ready!(self.pipe.poll_readable(cx)).is_err() {
                return Poll::Pending;
            }
        }
    }

    fn is_closed(&self) -> bool {
        let mut asked = [PollFd::new(self.pipe.get_ref(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // poll(2): POLLERR is set for the writing end of a pipe when the reading end was closed.
        // The BSDs and macOS say POLLHUP.
        poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }
}

//! The parent's ends of pipes, as something that can be polled.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::task::{Poll, ready};

use async_io::Async;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread, read};
use zeroize::Zeroize;

use super::bell::Bell;
use super::patience::STREAM;
use crate::spawn::{Hosted, Pipe, is_copy, write_quietly};

/// The room that the first read is given. Small, since most children say little.
const LEAST: usize = 4 * 1024;

/// The most room that a read asks for: a pipe's usual size.
const MOST: usize = 64 * 1024;

/// The most that a write is given: macOS refuses 2 GiB and more, writev(2), where Linux writes a part.
const AT_ONCE: usize = 1 << 30;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Room for a stream. A user's pipes may have 64 MiB in all before the kernel makes new ones one page
/// small (pipe-user-pages-soft, pipe(7)), so this is not the most that one may have.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ROOM: usize = 256 * 1024;

/// An end that the child writes to.
#[derive(Debug)]
pub(super) struct ReadEnd {
    pipe: Hosted<Async<Pipe>>,
    /// The last call did not find it empty. False at first: a child needs longer to say something than
    /// the parent to ask.
    ready: bool,
    /// The room for the next read, which grows while reads fill it.
    room: usize,
    traffic: usize,
    /// What is read is secret.
    wipes: bool,
}

impl ReadEnd {
    pub(super) fn new(pipe: Pipe) -> io::Result<Self> {
        Ok(ReadEnd {
            pipe: Async::new_nonblocking(pipe)?.into(),
            ready: false,
            room: LEAST,
            traffic: 0,
            wipes: false,
        })
    }

    /// What is read is secret: a buffer that it grows out of is wiped.
    pub(super) fn wipe(&mut self) {
        self.wipes = true;
    }

    /// There is likely something to read: try before waiting to be told.
    pub(super) fn look(&mut self) {
        self.ready = true;
    }

    /// Appends what one read gives; 0 is end of file. Where there is nothing, the bell is rung once there is,
    /// unless the caller looks again by itself.
    pub(super) fn poll_read(
        &mut self,
        bell: &Bell,
        looks_again: bool,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        self.poll_ready(bell, looks_again, |this| this.read(buffer))
    }

    /// One read into a buffer of the caller's.
    pub(super) fn poll_read_into(
        &mut self,
        bell: &Bell,
        looks_again: bool,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_ready(bell, looks_again, |this| end_of_terminal(read(this.pipe.get_ref(), &mut *buffer)))
    }

    fn poll_ready(
        &mut self,
        bell: &Bell,
        looks_again: bool,
        mut read: impl FnMut(&mut Self) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        // What a forked copy of the host takes, the host misses.
        if is_copy() {
            return Poll::Ready(Ok(0));
        }
        self.ready |= bell.rung();
        loop {
            if !self.ready {
                if looks_again {
                    return Poll::Pending;
                }
                ready!(self.pipe.poll_readable(&mut bell.context()))?;
                self.ready = true;
            }
            match read(self) {
                Ok(count) => {
                    widen(&self.pipe, &mut self.traffic, count);
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => self.ready = false,
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }

    /// Appends what is there at this moment, and not what a descendant may go on writing. Whether it is at
    /// its end.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> bool {
        if is_copy() {
            return true;
        }
        let mut left = MOST.max(ioctl_fionread(self.pipe.get_ref()).unwrap_or(0) as usize);
        while left > 0 {
            match self.read(buffer) {
                Ok(0) => return true,
                Ok(count) => left = left.saturating_sub(count),
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        // All was taken that was there at first, which may be all that there will be.
        let mut asked = [PollFd::new(self.pipe.get_ref(), PollFlags::IN)];
        poll(&mut asked, Some(&NOW)).is_ok()
            && asked[0].revents().contains(PollFlags::HUP)
            && !asked[0].revents().contains(PollFlags::IN)
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        // A vector doubles at least, so that each byte that is collected is moved a bounded number of times.
        if buffer.capacity() - buffer.len() < self.room {
            if self.wipes {
                let mut larger = Vec::with_capacity((2 * buffer.capacity()).max(buffer.len() + self.room));
                larger.extend_from_slice(buffer);
                std::mem::replace(buffer, larger).zeroize();
            } else {
                buffer.reserve(self.room);
            }
        }
        let read = end_of_terminal(read(self.pipe.get_ref(), spare_capacity(buffer)));
        if read.is_err() && self.traffic == 0 && buffer.is_empty() {
            // Of a child that has said nothing yet, and may be one of thousands.
            *buffer = Vec::new();
        }
        let count = read?;
        if count >= self.room {
            self.room = MOST.min(2 * self.room);
        }
        Ok(count)
    }
}

/// EIO is what a terminal says when nobody has it open any more; no pipe says so.
fn end_of_terminal(read: Result<usize, Errno>) -> Result<usize, Errno> {
    if read == Err(Errno::IO) { Ok(0) } else { read }
}

/// Counts what moved, and gives a pipe more room once it carries a stream.
fn widen(_pipe: &Async<Pipe>, traffic: &mut usize, count: usize) {
    let was_stream = *traffic >= STREAM;
    *traffic = traffic.saturating_add(count);
    if !was_stream && *traffic >= STREAM {
        // Not permitted where the user has too many already; then it goes on as it is.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _: Result<usize, Errno> = rustix::pipe::fcntl_setpipe_size(_pipe.get_ref(), ROOM);
    }
}

/// An end that the child reads from. Dropping it is the child's end of file.
#[derive(Debug)]
pub(super) struct WriteEnd {
    pipe: Hosted<Async<Pipe>>,
    /// The last call did not find it full.
    ready: bool,
    traffic: usize,
}

impl WriteEnd {
    pub(super) fn new(pipe: Pipe) -> io::Result<Self> {
        Ok(WriteEnd { pipe: Async::new_nonblocking(pipe)?.into(), ready: true, traffic: 0 })
    }

    /// There is likely room: try before waiting to be told.
    pub(super) fn look(&mut self) {
        self.ready = true;
    }

    /// Writes some of the buffers, in their order; `BrokenPipe` where nobody can read it any more. Where there is no
    /// room, the bell is rung once there is, unless the caller looks again by itself.
    pub(super) fn poll_write(
        &mut self,
        bell: &Bell,
        looks_again: bool,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if is_copy() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.ready |= bell.rung();
        let part;
        let buffers = match buffers {
            [all] if all.len() > AT_ONCE => {
                part = [IoSlice::new(&all[..AT_ONCE])];
                &part
            }
            _ => buffers,
        };
        loop {
            if !self.ready {
                if looks_again {
                    return Poll::Pending;
                }
                ready!(self.pipe.poll_writable(&mut bell.context()))?;
                self.ready = true;
            }
            match write_quietly(self.pipe.get_ref().as_fd(), buffers) {
                Ok(count) => {
                    widen(&self.pipe, &mut self.traffic, count);
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => self.ready = false,
                Err(Errno::INTR) => {}
                // A terminal that nobody has open.
                Err(Errno::IO) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }

    /// Ready once every reader has closed its end, while we have nothing to write.
    pub(super) fn poll_closed(&mut self, bell: &Bell) -> Poll<()> {
        if is_copy() {
            return Poll::Ready(());
        }
        let mut look = bell.rung();
        loop {
            if look && self.is_closed() {
                return Poll::Ready(());
            }
            // A writing end never becomes readable, but the error condition is always reported.
            if ready!(self.pipe.poll_readable(&mut bell.context())).is_err() {
                return Poll::Pending;
            }
            look = true;
        }
    }

    fn is_closed(&self) -> bool {
        let mut asked = [PollFd::new(self.pipe.get_ref(), PollFlags::empty())];
        // poll(2): POLLERR is set for the writing end of a pipe when the reading end was closed.
        // The BSDs and macOS say POLLHUP.
        poll(&mut asked, Some(&NOW)).is_ok() && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    // Miri knows no reactor.
    #[cfg_attr(miri, ignore)]
    fn silence_takes_no_room() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("a pipe");
        let mut end = ReadEnd::new(reader).expect("it can be waited for");
        let bell = Bell::new(Waker::noop().clone());
        let mut buffer = Vec::new();
        end.look();
        assert!(end.poll_read(&bell, true, &mut buffer).is_pending());
        assert_eq!(buffer.capacity(), 0);

        rustix::io::write(&writer, b"word").expect("there is room");
        end.look();
        assert!(matches!(end.poll_read(&bell, true, &mut buffer), Poll::Ready(Ok(4))));
        assert_eq!(buffer, b"word");
    }
}

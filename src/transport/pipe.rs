//! The parent's ends of pipes, on Unix: each is tried without blocking, then waited for.
//!
//! Refuses to know what the bytes are, and which task waits.
//!
//! Rule: an end is tried if its flag was set, or if a caller expects it to be ready. It is armed only after an attempt
//! found it not ready; then the reactor sets the flag.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::{Async, Timer};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread, read};
use zeroize::Zeroize;

use super::waiting::Flag;
use crate::spawn::{Hosted, Pipe, grow, is_copy, prefault, raises_sigpipe, write_quietly};

/// A pipe that carried this many bytes carries a stream.
const STREAM: u32 = 128 * 1024;

/// The room for the first read. Small, because most children write little.
const LEAST: u32 = 4 * 1024;

/// The most room for one read: a pipe's usual size.
const MOST: u32 = 64 * 1024;

/// The most bytes for one write. If given 2 GiB or more, macOS refuses (writev(2)); Linux writes a part.
const AT_ONCE: usize = 1 << 30;

/// PIPE_BUF: the most bytes of one packet. A pipe that is writable has room for at least this many.
pub(super) const PACKET: usize = 4096;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The pipe size for a stream. It is not the largest possible one: all pipes of a user may hold 64 MiB together, and
/// beyond that a new pipe gets one page (pipe-user-pages-soft, pipe(7)).
#[cfg(any(target_os = "linux", target_os = "android"))]
const ROOM: usize = 256 * 1024;

/// A writing end that has room gets no event when its last reader closes: `filt_pipenotsup` in FreeBSD's
/// sys/kern/sys_pipe.c never fires. The filter of that name in xnu does fire, and so do the filters of NetBSD and
/// OpenBSD. DragonFly's source was not read.
const HANGS_UP_UNSEEN: bool = cfg!(any(target_os = "freebsd", target_os = "dragonfly", reaped_bsd));

/// If a pipe has no reader any more, the system refuses to watch it for room: `pipe_kqfilter` in sys/kern/sys_pipe.c
/// returns EPIPE. The crate `polling` takes that for success, and no event comes. (NetBSD returns EBADF, which is an
/// error. xnu watches the pipe.)
const REFUSES_UNSEEN: bool =
    cfg!(any(target_os = "freebsd", target_os = "dragonfly", target_os = "openbsd", reaped_bsd));

/// How long to wait before the next look for a hang-up, at first and at most.
const LOOKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// Whether the reactor will set the flag of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    /// It was armed before.
    Yes,
    /// It was armed just now.
    Anew,
    /// The end is ready: try it.
    Ready,
}

/// One end, and whether it is worth an attempt.
struct Watched {
    pipe: Hosted<Async<Pipe>>,
    /// Set when the end is ready.
    flag: Arc<Flag>,
    /// The last attempt succeeded, or a caller expects that the next one does.
    ready: bool,
    armed: bool,
    /// The reactor failed. The next attempt returns this error.
    broken: Option<io::Error>,
    traffic: u32,
}

impl Watched {
    fn new(pipe: Pipe, flag: Arc<Flag>) -> io::Result<Self> {
        let pipe = Async::new_nonblocking(pipe)?.into();
        Ok(Watched { pipe, flag, ready: true, armed: false, broken: None, traffic: 0 })
    }

    /// Takes the pipe from the reactor, and makes it blocking again.
    fn into_pipe(self) -> io::Result<Pipe> {
        let pipe = self.pipe.into_inner().into_inner()?;
        ioctl_fionbio(&pipe, false)?;
        Ok(pipe)
    }

    fn pipe(&self) -> &Pipe {
        self.pipe.get_ref()
    }

    fn has_hung_up(&self) -> bool {
        is_hung_up(look(self.pipe()))
    }

    /// Tries `step`. If it would block this is `Pending`, and the end must be armed. A forked copy of this program gets
    /// `in_copy`: it must not take bytes away from the original, or add some.
    fn attempt(
        &mut self,
        in_copy: Result<usize, Errno>,
        mut step: impl FnMut(&Self) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        if is_copy() {
            return Poll::Ready(in_copy.map_err(io::Error::from));
        }
        if self.flag.take() {
            (self.ready, self.armed) = (true, false);
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        while self.ready {
            match step(self) {
                Ok(count) => {
                    self.moved(count);
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => self.ready = false,
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
        Poll::Pending
    }

    /// Counts the bytes, and makes the pipe larger once it carries a stream.
    fn moved(&mut self, count: usize) {
        let before = self.traffic;
        self.traffic = self.traffic.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if before < STREAM && self.traffic >= STREAM {
            // Refused if the user's pipes are already too large. Then the pipe keeps its size.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            let _: Result<usize, Errno> = rustix::pipe::fcntl_setpipe_size(self.pipe(), ROOM);
        }
    }

    /// Asks by `poll` for the flag to be set when the end is ready.
    fn arm(&mut self, poll: impl FnOnce(&Self, &mut Context<'_>) -> Poll<io::Result<()>>) -> Armed {
        if !self.ready && !self.armed {
            match self.flag.wait(|cx| poll(self, cx)) {
                Poll::Pending => {
                    self.armed = true;
                    return Armed::Anew;
                }
                Poll::Ready(result) => (self.ready, self.broken) = (true, result.err()),
            }
        }
        if self.ready { Armed::Ready } else { Armed::Yes }
    }
}

/// The parent's end of a pipe that the child writes to.
pub(super) struct ReadEnd {
    end: Watched,
    room: Room,
}

/// The room for the bytes of one read.
struct Room {
    /// It grows while reads fill it.
    next: u32,
    /// The bytes are secret: a buffer that becomes too small is wiped.
    wipes: bool,
}

impl ReadEnd {
    pub(super) fn new(pipe: Pipe, flag: Arc<Flag>) -> io::Result<Self> {
        Ok(ReadEnd { end: Watched::new(pipe, flag)?, room: Room { next: LEAST, wipes: false } })
    }

    /// The bytes are secret.
    pub(super) fn wipe(&mut self) {
        self.room.wipes = true;
    }

    /// The pipe itself, blocking again as programs expect it.
    pub(super) fn into_pipe(self) -> io::Result<Pipe> {
        self.end.into_pipe()
    }

    pub(super) fn pipe(&self) -> &Pipe {
        self.end.pipe()
    }

    /// The pipe likely has bytes: try it.
    pub(super) fn expect(&mut self) {
        self.end.ready = true;
    }

    /// Appends the bytes of one read; 0 is end of file. If there is nothing it is `Pending`, and the end must be armed.
    pub(super) fn try_read(&mut self, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        self.end.attempt(Ok(0), |end| self.room.read(end, buffer))
    }

    /// One read into the caller's buffer.
    pub(super) fn try_read_into(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.end.attempt(Ok(0), |end| end_of_terminal(read(end.pipe(), &mut *buffer)))
    }

    /// Asks for the flag to be set when there is something to read.
    pub(super) fn arm(&mut self) -> Armed {
        self.end.arm(|end, cx| end.pipe.poll_readable(cx))
    }

    /// How many bytes the pipe holds.
    pub(super) fn holds(&self) -> usize {
        // FIONREAD of a terminal shows fewer bytes than it has. It never has this many.
        const TERMINAL: usize = 68 * 1024;
        match rustix::termios::isatty(self.pipe()) {
            true => TERMINAL,
            false => ioctl_fionread(self.pipe()).map_or(0, |count| count as usize),
        }
    }

    #[cfg(test)]
    fn is_armed(&self) -> bool {
        self.end.armed
    }

    /// Appends what the pipe holds at this moment, and not what another process keeps writing. Returns whether the pipe
    /// is at its end.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) -> bool {
        if is_copy() {
            return true;
        }
        let mut left = self.holds().max(MOST as usize);
        while left > 0 {
            match self.room.read(&self.end, buffer) {
                Ok(0) => return true,
                Ok(count) => left = left.saturating_sub(count),
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        // All bytes that were there at first are taken. There may be no more.
        is_at_end(look(self.pipe()), self.holds())
    }
}

impl Room {
    /// If the buffer is full, this reads before it makes room. A larger buffer means a copy of all the output, and two
    /// hundred pipes may have nothing to read just now. Each read has room for a packet: in packet mode (O_DIRECT,
    /// pipe(2)) the rest of a packet would be lost.
    fn read(&mut self, end: &Watched, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        let room = self.next as usize;
        let spare = |buffer: &Vec<u8>| buffer.capacity() - buffer.len();
        if spare(buffer) < room && buffer.len() <= PACKET {
            self.grow(buffer);
        } else if spare(buffer) < PACKET {
            return self.probe(end, buffer);
        }
        let asked = room.min(spare(buffer));
        let read = end_of_terminal(read(end.pipe(), spare_capacity(buffer)));
        if read.is_err() && end.traffic == 0 && buffer.is_empty() {
            // This child has written nothing yet, and there may be thousands like it: keep no memory.
            *buffer = Vec::new();
        }
        let count = read?;
        if count >= asked {
            self.next = MOST.min(2 * self.next);
        }
        prefault(buffer, count);
        Ok(count)
    }

    /// Reads a little, and makes room only if there was something.
    fn probe(&self, end: &Watched, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        let mut few = [0; PACKET];
        let count = end_of_terminal(read(end.pipe(), &mut few))?;
        if count > 0 {
            self.grow(buffer);
            buffer.extend_from_slice(&few[..count]);
        }
        if self.wipes {
            few.zeroize();
        }
        Ok(count)
    }

    /// The buffer at least doubles, so that each byte is moved a bounded number of times.
    fn grow(&self, buffer: &mut Vec<u8>) {
        let room = self.next as usize;
        if self.wipes {
            let mut larger = Vec::with_capacity((2 * buffer.capacity()).max(buffer.len() + room));
            larger.extend_from_slice(buffer);
            std::mem::replace(buffer, larger).zeroize();
        } else {
            grow(buffer, room);
        }
    }
}

/// What poll(2) returns for an end at this moment.
///
/// This asks for input, even for a writing end. If no event is asked for, xnu watches nothing and never reports a
/// hang-up (`poll_nocancel` in its bsd/kern/sys_generic.c). Other systems always report it.
fn look(pipe: &Pipe) -> PollFlags {
    let mut asked = [PollFd::new(pipe, PollFlags::IN)];
    let revents = poll(&mut asked, Some(&NOW)).map_or(PollFlags::empty(), |_| asked[0].revents());
    #[cfg(reaped_bsd)]
    let revents = as_on_bsd(PollFlags::IN, revents);
    revents
}

/// What xnu (`poll_nocancel`, `poll_callback`) and FreeBSD (`pipe_poll` in sys/kern/sys_pipe.c) return for a pipe,
/// derived from what Linux returns. They have no POLLERR, and the end of a pipe counts as input.
#[cfg(any(test, reaped_bsd))]
fn as_on_bsd(asked: PollFlags, revents: PollFlags) -> PollFlags {
    match revents.intersects(PollFlags::ERR | PollFlags::HUP) {
        _ if !asked.contains(PollFlags::IN) => PollFlags::empty(),
        true => PollFlags::HUP | PollFlags::IN,
        false => revents,
    }
}

/// Whether no more bytes can come out of an end that holds this many. On the BSDs and macOS the end of a pipe counts as
/// input.
fn is_at_end(revents: PollFlags, holds: usize) -> bool {
    revents.contains(PollFlags::HUP) && (holds == 0 || !revents.contains(PollFlags::IN))
}

/// poll(2): POLLERR is set for the writing end of a pipe when the reading end was closed. The BSDs and macOS set
/// POLLHUP.
fn is_hung_up(revents: PollFlags) -> bool {
    revents.intersects(PollFlags::ERR | PollFlags::HUP)
}

/// A terminal returns EIO if no process has it open any more. A pipe never does.
fn end_of_terminal(read: Result<usize, Errno>) -> Result<usize, Errno> {
    if read == Err(Errno::IO) { Ok(0) } else { read }
}

/// The parent's end of a pipe that the child reads from. Dropping it gives the child its end of file.
pub(super) struct WriteEnd {
    end: Watched,
    /// Set when no process can read the pipe any more.
    hangup: Arc<Flag>,
    hangup_armed: bool,
    /// If the reactor does not report a hang-up: the timer for the next look, and the pause before it. Boxed, because
    /// most systems need none.
    looks: Option<Box<(Timer, Duration)>>,
}

impl WriteEnd {
    pub(super) fn new(pipe: Pipe, room: Arc<Flag>, hangup: Arc<Flag>) -> io::Result<Self> {
        raises_sigpipe(pipe.as_fd(), false);
        Ok(WriteEnd { end: Watched::new(pipe, room)?, hangup, hangup_armed: false, looks: None })
    }

    /// The pipe itself, blocking again and with SIGPIPE, as programs expect it.
    pub(super) fn into_pipe(self) -> io::Result<Pipe> {
        let pipe = self.end.into_pipe()?;
        raises_sigpipe(pipe.as_fd(), true);
        Ok(pipe)
    }

    /// The pipe likely has room: try it.
    pub(super) fn expect(&mut self) {
        self.end.ready = true;
    }

    /// Writes some of the buffers, in order. `BrokenPipe` if no process can read the pipe any more. If there is no room
    /// it is `Pending`, and the end must be armed.
    pub(super) fn try_write(&mut self, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let part;
        let buffers = match buffers {
            [all] if all.len() > AT_ONCE => {
                part = [IoSlice::new(&all[..AT_ONCE])];
                &part
            }
            _ => buffers,
        };
        self.end.attempt(Err(Errno::PIPE), |end| match write_quietly(end.pipe().as_fd(), buffers) {
            // No process has the terminal open.
            Err(Errno::IO) => Err(Errno::PIPE),
            written => written,
        })
    }

    /// Asks for the flag to be set when there is room.
    pub(super) fn arm(&mut self) -> Armed {
        self.end.arm(|end, cx| match Self::poll_room(end, cx) {
            // The pipe may have hung up before it was watched.
            Poll::Pending if REFUSES_UNSEEN && end.has_hung_up() => Poll::Ready(Ok(())),
            // NetBSD returns an error for a pipe without a reader. The next write returns a better one.
            Poll::Ready(Err(_)) if end.has_hung_up() => Poll::Ready(Ok(())),
            polled => polled,
        })
    }

    fn poll_room(end: &Watched, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As on FreeBSD: the pipe is not watched, and no error shows that.
        if cfg!(reaped_bsd) && end.has_hung_up() { Poll::Pending } else { end.pipe.poll_writable(cx) }
    }

    /// The pipe likely hung up: look.
    pub(super) fn expect_hangup(&mut self) {
        self.hangup_armed = false;
    }

    /// Whether every reader has closed its end. If not, `hangup` is set when the last one does.
    pub(super) fn is_closed(&mut self) -> bool {
        if is_copy() {
            return true;
        }
        if self.hangup.take() {
            self.hangup_armed = false;
        }
        while !self.hangup_armed {
            if self.end.has_hung_up() {
                return true;
            }
            match self.poll_hangup() {
                Poll::Pending => self.hangup_armed = true,
                Poll::Ready(Ok(())) => {}
                // The reactor failed.
                Poll::Ready(Err(_)) => return self.end.has_hung_up(),
            }
        }
        false
    }

    /// Ready when the pipe likely hung up, or when it is time for the next look.
    fn poll_hangup(&mut self) -> Poll<io::Result<()>> {
        if !HANGS_UP_UNSEEN {
            // A writing end never becomes readable, but the error condition is always reported.
            return self.hangup.wait(|cx| self.end.pipe.poll_readable(cx));
        }
        let looks = || Box::new((Timer::after(LOOKS[0]), LOOKS[0]));
        let (timer, pause) = &mut **self.looks.get_or_insert_with(looks);
        let polled = self.hangup.wait(|cx| Pin::new(&mut *timer).poll(cx));
        if polled.is_ready() {
            *pause = LOOKS[1].min(2 * *pause);
            timer.set_after(*pause);
        }
        polled.map(|_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::waiting::{Handle, Waiting};
    use super::*;

    #[test]
    // Miri has no reactor.
    #[cfg_attr(miri, ignore)]
    fn silence_takes_no_room() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("a pipe");
        let flag = Flag::new(&Arc::<Waiting>::default(), Some(Handle::Main));
        let mut end = ReadEnd::new(reader, flag).expect("it can be waited for");
        let mut buffer = Vec::new();
        assert!(end.try_read(&mut buffer).is_pending());
        assert_eq!(buffer.capacity(), 0);
        assert_eq!((end.arm(), end.arm(), end.is_armed()), (Armed::Anew, Armed::Yes, true));

        rustix::io::write(&writer, b"word").expect("there is room");
        assert_eq!(end.holds(), 4);
        end.expect();
        assert!(matches!(end.try_read(&mut buffer), Poll::Ready(Ok(4))));
        assert_eq!(buffer, b"word");
    }

    /// For both ends: what Linux returns, and what the BSDs return for the same pipe.
    #[test]
    fn what_poll_says_elsewhere() {
        let (input, hangup, error, none) =
            (PollFlags::IN, PollFlags::HUP, PollFlags::ERR, PollFlags::empty());
        assert!(
            is_hung_up(error) && is_hung_up(as_on_bsd(input, error)) && !is_hung_up(as_on_bsd(input, none))
        );
        assert_eq!(as_on_bsd(none, error), none, "xnu watches nothing that was not asked for");

        // A pipe at its end, one with bytes before its end, and an open one.
        assert!(is_at_end(hangup, 0) && is_at_end(as_on_bsd(input, hangup), 0));
        assert!(!is_at_end(hangup | input, 1) && !is_at_end(as_on_bsd(input, hangup | input), 1));
        assert!(!is_at_end(none, 0) && !is_at_end(input, 1));
    }

    fn full_pipe() -> (Pipe, WriteEnd) {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("a pipe");
        let waiting = Arc::<Waiting>::default();
        let flag = || Flag::new(&waiting, Some(Handle::Main));
        let mut end = WriteEnd::new(writer, flag(), flag()).expect("it can be waited for");
        while end.try_write(&[IoSlice::new(&[0; PACKET])]).is_ready() {}
        (reader, end)
    }

    /// Waits until `room` is set or the end is ready.
    fn wait_for_room(end: &mut WriteEnd) {
        let started = std::time::Instant::now();
        while end.arm() != Armed::Ready && !end.end.flag.take() {
            assert!(started.elapsed() < Duration::from_secs(20), "nobody said so");
            std::thread::sleep(Duration::from_millis(1));
        }
        end.expect();
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn a_reader_that_closes_before_the_pipe_is_watched_is_seen() {
        let (reader, mut end) = full_pipe();
        drop(reader);
        wait_for_room(&mut end);
        let written = end.try_write(&[IoSlice::new(b"word")]);
        assert!(matches!(written, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe));
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn a_pipe_that_hangs_up_later_says_so() {
        let (reader, mut end) = full_pipe();
        assert!(!end.is_closed() && !end.is_closed());
        drop(reader);
        let started = std::time::Instant::now();
        while !end.is_closed() {
            assert!(started.elapsed() < Duration::from_secs(20), "nobody said so");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// As much as is read at once, so that no read finds the end.
    #[test]
    #[cfg_attr(miri, ignore)]
    fn a_full_pipe_is_at_its_end_once_nobody_writes() {
        for is_open in [true, false] {
            let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
            for end in [&reader, &writer] {
                rustix::io::ioctl_fionbio(end, true).expect("a pipe");
            }
            while rustix::io::write(&writer, &[0; PACKET]).is_ok() {}
            let _open = is_open.then_some(writer);
            let flag = Flag::new(&Arc::<Waiting>::default(), Some(Handle::Main));
            let mut end = ReadEnd::new(reader, flag).expect("it can be waited for");
            let (all, mut buffer) = (end.holds(), Vec::new());
            assert_eq!((end.drain(&mut buffer), buffer.len()), (!is_open, all));
        }
    }
}

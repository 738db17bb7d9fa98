//! A pipe into the child that the user writes: shared between the one who writes and the transport,
//! either of whom can close it at any moment.
//!
//! Rules: the descriptor lives in one place, so that closing is the child's end of file at once, whoever
//! else holds the inlet; nobody waits under the lock.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;

use super::bell::{Bell, Task, stable};
use super::clock::Activity;
use super::pipe::WriteEnd;
use crate::spawn::Pipe;

/// The shared pipe.
#[derive(Debug)]
pub(crate) struct Inlet {
    /// Empty once it was closed.
    open: Mutex<Option<Open>>,
    terminal: bool,
    activity: Option<Activity>,
    waiting: Arc<Waiting>,
    /// Wakes all who wait.
    all: Bell,
    /// Wakes the one who writes.
    #[cfg(unix)]
    room: Bell,
}

#[derive(Debug)]
struct Open {
    pipe: WriteEnd,
    /// The last byte written ended no line.
    within_line: bool,
}

/// Who is to be woken when the pipe closes. The reactor holds one waker for all of them, since a
/// descriptor has room for one.
#[derive(Debug, Default)]
struct Waiting {
    transport: AtomicWaker,
    watcher: AtomicWaker,
    writer: Task,
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.transport.wake();
        self.watcher.wake();
        #[cfg(windows)]
        self.writer.wake();
    }
}

impl Inlet {
    pub(super) fn new(pipe: Pipe, terminal: bool, activity: Option<Activity>) -> io::Result<Arc<Self>> {
        let open = Open { pipe: WriteEnd::new(pipe)?, within_line: false };
        let waiting = Arc::<Waiting>::default();
        let all = Bell::new(stable(waiting.clone()));
        let open = Mutex::new(Some(open));
        Ok(Arc::new(Inlet {
            open,
            terminal,
            activity,
            all,
            #[cfg(unix)]
            room: waiting.writer.bell(),
            waiting,
        }))
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the one writer: writes some of the buffers.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.waiting.writer.register(cx);
        let mut open = self.lock();
        let Some(open) = &mut *open else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        #[cfg(unix)]
        let bell = &self.room;
        // There writing and watching wait for one and the same thread.
        #[cfg(windows)]
        let bell = &self.all;
        let written = open.pipe.poll_write(bell, false, buffers);
        if let Poll::Ready(Ok(count @ 1..)) = written {
            self.activity.iter().for_each(|activity| activity.moved(count));
            open.within_line = last_byte(buffers, count) != Some(b'\n');
        }
        written
    }

    /// It is likely to be closed: ask before waiting to be told.
    pub(super) fn look(&self) {
        self.all.pretend();
    }

    /// For the transport: ready once the pipe is closed on either side.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.waiting.transport.register(cx.waker());
        self.poll_hangup()
    }

    /// For the one who watches beside the transport.
    pub(crate) fn poll_watch(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.watcher.register(cx.waker());
        self.poll_hangup()
    }

    fn poll_hangup(&self) -> Poll<()> {
        match &mut *self.lock() {
            // A terminal has more to tell than its end, all of which its reader is told.
            Some(_) if self.terminal => Poll::Pending,
            Some(open) => open.pipe.poll_closed(&self.all),
            None => Poll::Ready(()),
        }
    }

    /// Closes the pipe: the child's end of file, once it has read what was written.
    pub(crate) fn close(&self) {
        let closed = self.lock().take();
        if let (Some(Open { mut pipe, within_line }), true) = (closed, self.terminal) {
            // The reader still holds the terminal open. Its end of file is a character, termios(3), that
            // within a line only hands out the line so far.
            let ends = if within_line { &b"\x04\x04"[..] } else { b"\x04" };
            // Where there is no room, nobody reads; then the hang-up at the end of all has to do.
            pipe.look();
            let nobody = Bell::new(Waker::noop().clone());
            let _: Poll<io::Result<usize>> = pipe.poll_write(&nobody, true, &[IoSlice::new(ends)]);
        }
        self.waiting.transport.wake();
        self.waiting.watcher.wake();
        self.waiting.writer.wake();
    }
}

fn last_byte(buffers: &[IoSlice<'_>], count: usize) -> Option<u8> {
    buffers.iter().flat_map(|buffer| buffer.iter()).nth(count.checked_sub(1)?).copied()
}

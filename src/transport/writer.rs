//! A pipe into the child that the caller writes. The caller's writer and the child's state share it, and either can
//! close it at any moment.
//!
//! Refuses to know what the bytes are.
//!
//! Rules:
//! - The descriptor is kept in one place. So closing it gives the child its end of file at once, even if the other side
//!   still shares the pipe.
//! - No task waits under its lock, and no other lock of this crate is taken under it.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use super::clock::Activity;
use super::connection::Connection;
use super::pipe::{Armed, WriteEnd};
use super::slice::Slice;
use super::terminal::Terminal;
use super::waiting::{Flag, Handle};
use crate::protocol::Slot;
#[cfg(unix)]
use crate::spawn::is_copy;
#[cfg(unix)]
use crate::stdio::OpenFile;

/// The shared pipe.
pub(super) struct WriterPipe {
    /// `None` once it was closed.
    open: Mutex<Option<Open>>,
    terminal: bool,
    /// Set when it was closed, on either side.
    closed: Arc<Flag>,
}

struct Open {
    pipe: WriteEnd,
    /// The last byte written was no line end.
    within_line: bool,
}

impl WriterPipe {
    pub(super) fn new(pipe: WriteEnd, terminal: bool, closed: Arc<Flag>) -> Arc<Self> {
        let open = Mutex::new(Some(Open { pipe, within_line: false }));
        Arc::new(WriterPipe { open, terminal, closed })
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is closed on either side. If not, the flag is set when it is.
    pub(super) fn is_closed(&self) -> bool {
        match &mut *self.lock() {
            // A terminal reports more than its end, and its reader gets all of that.
            Some(_) if self.terminal => false,
            Some(open) => open.pipe.is_closed(),
            None => true,
        }
    }

    /// Writes some of the buffers. `BrokenPipe` if no process can read the pipe any more, or it was closed.
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut open = self.lock();
        let Some(open) = &mut *open else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let written = open.pipe.try_write(buffers);
        if let Poll::Ready(Ok(count @ 1..)) = written {
            open.within_line = last_byte(buffers, count) != Some(b'\n');
        }
        written
    }

    fn arm(&self) -> Armed {
        self.lock().as_mut().map_or(Armed::Ready, |open| open.pipe.arm())
    }

    /// The pipe likely hung up: look.
    pub(super) fn expect_hangup(&self) {
        if let Some(open) = &mut *self.lock() {
            open.pipe.expect_hangup();
        }
    }

    /// Closes the pipe. The child gets its end of file after the bytes that were written.
    pub(super) fn close(&self) {
        drop(self.take());
    }

    /// Closes the input of a terminal. The reader still holds the terminal open, so the end of file is a character.
    pub(super) fn close_typed(&self, terminal: &mut Terminal) {
        if let Some(Open { pipe, within_line }) = self.take() {
            terminal.owe_end(pipe, within_line);
            terminal.step();
        }
    }

    fn take(&self) -> Option<Open> {
        let open = self.lock().take();
        if open.is_some() {
            self.closed.set();
        }
        open
    }
}

/// The writing end. Dropping it closes the pipe.
pub(crate) struct TakenWriter {
    connection: Arc<Connection>,
    slot: Slot,
    pipe: Arc<WriterPipe>,
    activity: Option<Activity>,
    slice: Slice,
}

impl TakenWriter {
    pub(super) fn new(
        connection: Arc<Connection>,
        slot: Slot,
        pipe: Arc<WriterPipe>,
        activity: Option<Activity>,
    ) -> Self {
        TakenWriter { connection, slot, pipe, activity, slice: Slice::default() }
    }

    /// Writes some of the buffers. `BrokenPipe` if the child no longer reads the pipe, or the pipe was closed.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let TakenWriter { connection, slot, pipe, activity, slice } = self;
        let me = Handle::Writer(*slot);
        let write = |pipe: &mut Arc<WriterPipe>, _: &mut Slice| pipe.try_write(buffers);
        let written = ready!(connection.poll_taken(me, slice, cx, pipe, write, |pipe| pipe.arm()));
        if let Ok(count @ 1..) = written {
            activity.iter().for_each(|activity| activity.moved(count));
        }
        Poll::Ready(written)
    }

    /// The pipe itself, for another child, or the reason why that is impossible.
    #[cfg(unix)]
    pub(crate) fn into_pipe(self) -> Result<io::Result<OpenFile>, &'static str> {
        match self.pipe.is_terminal() {
            _ if is_copy() => Err("it belongs to the program that this one was forked from"),
            true => Err("it is a terminal"),
            false => {
                let open = self.pipe.take();
                // For the child that reads it, the pipe is now closed here.
                self.connection.waiting.wake_all_later();
                open.map(|open| open.pipe.into_pipe()).ok_or("it is closed")
            }
        }
    }

    /// Ready once the pipe is closed on either side.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let TakenWriter { connection, slot, pipe, slice, .. } = self;
        let me = Handle::Closed(*slot);
        // A caller that polls only once is told the truth. So this looks whatever is armed, and before any slice is asked:
        // the last write may have left one, and time has passed since.
        pipe.expect_hangup();
        if pipe.is_closed() {
            connection.waiting.forget(me);
            return Poll::Ready(());
        }
        let is_closed = |pipe: &mut Arc<WriterPipe>, _: &mut Slice| match pipe.is_closed() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        // `is_closed` arms the flag.
        connection.poll_taken(me, slice, cx, pipe, is_closed, |_| Armed::Yes)
    }

    /// Closes the pipe. The child gets its end of file after the bytes that were written.
    pub(crate) fn close(&self) {
        if self.pipe.lock().is_none() {
            return;
        }
        if self.pipe.terminal {
            // If the main handle is gone, the terminal hung up.
            self.connection.with(|state| state.terminal.iter_mut().for_each(|it| self.pipe.close_typed(it)));
        }
        self.pipe.close();
        self.connection.waiting.wake_all_later();
    }
}

impl Drop for TakenWriter {
    fn drop(&mut self) {
        self.connection.waiting.forget(Handle::Writer(self.slot));
        self.connection.waiting.forget(Handle::Closed(self.slot));
        self.close();
    }
}

fn last_byte(buffers: &[IoSlice<'_>], count: usize) -> Option<u8> {
    buffers.iter().flat_map(|buffer| buffer.iter()).nth(count.checked_sub(1)?).copied()
}

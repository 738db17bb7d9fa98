//! A pipe into the child that the user writes: shared between the one who writes and the state of the child, either of
//! whom can close it at any moment.
//!
//! Refuses to know what is written.
//!
//! Rules: the descriptor lives in one place, so that closing is the child's end of file at once, whoever else holds the
//! pipe; nobody waits under its lock, which is a leaf.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

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
#[derive(Debug)]
pub(super) struct WriterPipe {
    /// Empty once it was closed.
    open: Mutex<Option<Open>>,
    terminal: bool,
    /// It is closed, on whichever side.
    closed: Arc<Flag>,
}

#[derive(Debug)]
struct Open {
    pipe: WriteEnd,
    /// The last byte written ended no line.
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

    /// Whether it is closed on either side. If not, the flag is set once it is.
    pub(super) fn is_closed(&self) -> bool {
        match &mut *self.lock() {
            // A terminal has more to tell than its end, all of which its reader is told.
            Some(_) if self.terminal => false,
            Some(open) => open.pipe.is_closed(),
            None => true,
        }
    }

    /// It is likely to be closed by now.
    pub(super) fn expect_hangup(&self) {
        if let Some(open) = &mut *self.lock() {
            open.pipe.expect_hangup();
        }
    }

    /// Closes the pipe: the child's end of file, once it has read what was written.
    pub(super) fn close(&self) {
        drop(self.take());
    }

    /// Closes what is typed into a terminal. The reader still holds it open, so its end of file is a character.
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
#[derive(Debug)]
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

    /// Writes some of the buffers; `BrokenPipe` if nobody reads it any more, or it was closed.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = Handle::Writer(self.slot);
        let waiting = &self.connection.waiting;
        if self.slice.is_over() {
            waiting.go_on(me, cx.waker(), self.slice.pauses());
            return Poll::Pending;
        }
        let mut drives = waiting.take_news();
        loop {
            if drives {
                self.connection.drive(me, &mut self.slice, cx);
            }
            if let Poll::Ready(written) = self.try_write(buffers) {
                self.slice.moved();
                if drives {
                    self.connection.waiting.forget(me);
                }
                return Poll::Ready(written);
            }
            if !std::mem::replace(&mut drives, true) {
                continue;
            }
            let armed = self.pipe.lock().as_mut().map(|open| open.pipe.arm());
            if matches!(armed, Some(Armed::Yes | Armed::Anew)) {
                self.slice.waits();
                return Poll::Pending;
            }
        }
    }

    fn try_write(&self, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut open = self.pipe.lock();
        let Some(open) = &mut *open else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let written = open.pipe.try_write(buffers);
        if let Poll::Ready(Ok(count @ 1..)) = written {
            self.activity.iter().for_each(|activity| activity.moved(count));
            open.within_line = last_byte(buffers, count) != Some(b'\n');
        }
        written
    }

    /// The pipe itself, for another child; or why that cannot be.
    #[cfg(unix)]
    pub(crate) fn into_pipe(self) -> Result<io::Result<OpenFile>, &'static str> {
        match self.pipe.is_terminal() {
            _ if is_copy() => Err("it belongs to the program that this one was forked from"),
            true => Err("it is a terminal"),
            false => {
                let open = self.pipe.take();
                // For the child that reads it, it is closed here.
                self.connection.waiting.wake_all_later();
                open.map(|open| open.pipe.into_pipe()).ok_or("it is closed")
            }
        }
    }

    /// Ready once the pipe is closed on either side.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let me = Handle::Closed(self.slot);
        if !self.pipe.is_closed() {
            self.connection.drive(me, &mut self.slice, cx);
            if !self.pipe.is_closed() {
                return Poll::Pending;
            }
        }
        self.connection.waiting.forget(me);
        Poll::Ready(())
    }

    /// Closes the pipe: the child's end of file, once it has read what was written.
    pub(crate) fn close(&self) {
        if self.pipe.lock().is_none() {
            return;
        }
        self.connection.with(|state| match &mut state.terminal {
            Some(terminal) if self.pipe.terminal => self.pipe.close_typed(terminal),
            _ => self.pipe.close(),
        });
        // If the main handle is gone, there is no state.
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

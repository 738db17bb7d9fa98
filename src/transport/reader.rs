//! A pipe out of the child that the user reads, in whatever task.
//!
//! Refuses to know the state of the child: it asks the connection to drive it.
//!
//! Rule: the end of the pipe lives here alone, and is read without a lock.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::clock::Activity;
use super::connection::Connection;
use super::pipe::Armed;
use super::slice::Slice;
use super::state::Output;
use super::tee;
use super::waiting::Handle;
use crate::protocol::Slot;
#[cfg(unix)]
use crate::spawn::is_copy;
#[cfg(unix)]
use crate::stdio::OpenFile;

/// The reading end. Dropping it closes the pipe; of a terminal, it hangs up.
#[derive(Debug)]
pub(crate) struct TakenReader {
    connection: Arc<Connection>,
    slot: Slot,
    /// Empty while code of the user's still runs for it, that was called by another handle; and if it had ended before.
    output: Option<Output>,
    activity: Option<Activity>,
    slice: Slice,
    is_terminal: bool,
    at_end: bool,
    /// The copy has failed: told once what was read was handed on.
    failed: Option<io::Error>,
}

impl TakenReader {
    pub(super) fn new(
        connection: Arc<Connection>,
        slot: Slot,
        output: Option<Output>,
        activity: Option<Activity>,
        is_terminal: bool,
        at_end: bool,
    ) -> Self {
        let (slice, failed) = (Slice::default(), None);
        let mut this = TakenReader { connection, slot, output, activity, slice, is_terminal, at_end, failed };
        this.expect();
        this
    }

    /// Whatever the flag has told by now, it may tell it no more.
    fn expect(&mut self) {
        self.output.iter_mut().for_each(|output| output.end.expect());
    }

    /// Takes the pipe over, if it was not there at first.
    fn take_over(&mut self) {
        if self.output.is_none() {
            self.output = self.connection.taken(self.slot);
            self.expect();
        }
    }

    /// Appends what one read gives; 0 is end of file.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let mut failed = None;
        let read = self.poll(cx, |output, slice| match &mut output.tee {
            None => output.end.try_read(buffer),
            Some(tee) => loop {
                match tee.next() {
                    tee::Next::Read => match ready!(output.end.try_read(&mut tee.chunk)) {
                        Ok(0) => tee.end(),
                        Ok(_) => {}
                        Err(error) => return Poll::Ready(Err(error)),
                    },
                    tee::Next::Ask if slice.is_over() => return Poll::Pending,
                    tee::Next::Ask => tee.ask(),
                    tee::Next::HandOn => {
                        let count = tee.chunk.len();
                        buffer.append(&mut tee.chunk);
                        return Poll::Ready(Ok(count));
                    }
                    tee::Next::Close => return Poll::Ready(Ok(0)),
                    tee::Next::Fail(error) => {
                        // A copy that failed leaves what was read.
                        let count = tee.chunk.len();
                        buffer.append(&mut tee.chunk);
                        failed = Some(error);
                        return Poll::Ready(Ok(count));
                    }
                    tee::Next::Wait => return Poll::Pending,
                }
            },
        });
        let Some(error) = failed else { return read };
        // As where nobody has taken it: the child is killed, and the call fails.
        self.connection.with(|state| state.protocol.copy_failed(self.slot, &error));
        self.connection.waiting.wake_all_later();
        if matches!(read, Poll::Ready(Ok(0))) {
            return Poll::Ready(Err(error));
        }
        self.failed = Some(error);
        read
    }

    /// The pipe itself, for another child; or why that cannot be.
    #[cfg(unix)]
    pub(crate) fn into_pipe(mut self) -> Result<io::Result<OpenFile>, &'static str> {
        self.take_over();
        match self.output.take() {
            _ if is_copy() => Err("it belongs to the program that this one was forked from"),
            _ if self.is_terminal => Err("it is a terminal"),
            Some(Output { end, tee: None, .. }) => Ok(end.into_pipe()),
            None if self.at_end => Err("it has ended"),
            _ => Err("what it gives is copied"),
        }
    }

    /// `None` while code of the user's runs for it, in another thread.
    #[cfg(unix)]
    pub(crate) fn pipe(&self) -> Option<&OpenFile> {
        self.output.as_ref().map(|output| output.end.pipe())
    }

    /// Whether `poll_read_into` can be used: nothing is to be copied.
    #[cfg(unix)]
    pub(crate) fn reads_directly(&self) -> bool {
        self.output.as_ref().is_some_and(|output| output.tee.is_none())
    }

    /// One read into the buffer; 0 is end of file.
    #[cfg(unix)]
    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll(cx, |output, _| output.end.try_read_into(buffer))
    }

    fn poll(
        &mut self,
        cx: &Context<'_>,
        mut read: impl FnMut(&mut Output, &mut Slice) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.at_end && self.output.is_none() {
            return Poll::Ready(Ok(0));
        }
        let me = Handle::Reader(self.slot);
        let mut drives = self.connection.waiting.take_news();
        self.slice.is_over();
        loop {
            if self.slice.is_spent() {
                self.connection.waiting.go_on(me, cx.waker(), self.slice.pauses());
                return Poll::Pending;
            }
            if drives {
                self.connection.drive(me, &mut self.slice, cx);
            }
            self.take_over();
            let read = self.output.as_mut().map(|output| read(output, &mut self.slice));
            if let Some(Poll::Ready(read)) = read {
                if drives {
                    self.connection.waiting.forget(me);
                }
                if let Ok(count) = read {
                    self.slice.moved();
                    self.at_end |= count == 0;
                    self.activity.iter().for_each(|activity| activity.moved(count));
                }
                return Poll::Ready(read);
            }
            // The time may be over in the midst of a copy, which then waits for nobody.
            if !std::mem::replace(&mut drives, true) || self.slice.is_spent() {
                continue;
            }
            let armed = self.output.as_mut().map(|output| match &output.tee {
                Some(tee) if !tee.waits_for_pipe() => Armed::Yes,
                _ => output.end.arm(),
            });
            if armed != Some(Armed::Ready) {
                self.slice.waits();
                return Poll::Pending;
            }
        }
    }
}

impl Drop for TakenReader {
    fn drop(&mut self) {
        self.connection.waiting.forget(Handle::Reader(self.slot));
        if self.output.is_none() {
            self.connection.leave(self.slot);
        }
        if self.is_terminal && !self.at_end {
            self.connection.with(|state| state.hang_up());
            self.connection.waiting.wake_all_later();
        }
    }
}

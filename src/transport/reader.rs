//! A pipe out of the child that the user reads, in whatever task.
//!
//! Refuses to know the state of the child: it asks the connection to drive it.
//!
//! Rule: the end of the pipe lives here alone, and is read without a lock.

use std::convert::Infallible;
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

/// The reading end. Dropping it closes the pipe; of a terminal, it hangs up.
#[derive(Debug)]
pub(crate) struct TakenReader {
    connection: Arc<Connection>,
    slot: Slot,
    output: Output,
    activity: Option<Activity>,
    slice: Slice,
    is_terminal: bool,
    at_end: bool,
}

impl TakenReader {
    pub(super) fn new(
        connection: Arc<Connection>,
        slot: Slot,
        mut output: Output,
        activity: Option<Activity>,
        is_terminal: bool,
    ) -> Self {
        // Whatever the flag has told by now, it may tell it no more.
        output.end.expect();
        let (slice, at_end) = (Slice::default(), false);
        TakenReader { connection, slot, output, activity, slice, is_terminal, at_end }
    }

    /// Appends what one read gives; 0 is end of file.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |output, slice| match &mut output.tee {
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
                    tee::Next::Fail(error) => return Poll::Ready(Err(error)),
                    tee::Next::Wait => return Poll::Pending,
                }
            },
        })
    }

    /// Whether `poll_read_into` can be used: nothing is to be copied.
    #[cfg(unix)]
    pub(crate) fn reads_directly(&self) -> bool {
        self.output.tee.is_none()
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
        let me = Handle::Reader(self.slot);
        let waiting = &self.connection.waiting;
        let mut drives = waiting.take_news();
        self.slice.is_over();
        loop {
            if self.slice.is_spent() {
                waiting.register(me, cx.waker());
                waiting.wake_all_later();
                self.slice.waits();
                return Poll::Pending;
            }
            if drives {
                let driven = self.connection.poll(me, &mut self.slice, cx, |_| None::<Infallible>);
                debug_assert!(driven.is_pending(), "it wants nothing");
            }
            if let Poll::Ready(read) = read(&mut self.output, &mut self.slice) {
                if drives {
                    self.connection.waiting.forget(me);
                }
                if let Ok(count) = read {
                    self.at_end |= count == 0;
                    self.activity.iter().for_each(|activity| activity.moved(count));
                }
                return Poll::Ready(read);
            }
            // The time may be over in the midst of a copy, which then waits for nobody.
            if !std::mem::replace(&mut drives, true) || self.slice.is_spent() {
                continue;
            }
            let waits_for_pipe = self.output.tee.as_ref().is_none_or(|tee| tee.waits_for_pipe());
            if !waits_for_pipe || self.output.end.arm() == Armed::Yes {
                self.slice.waits();
                return Poll::Pending;
            }
        }
    }
}

impl Drop for TakenReader {
    fn drop(&mut self) {
        self.connection.waiting.forget(Handle::Reader(self.slot));
        if self.is_terminal && !self.at_end {
            self.connection.with(|state| state.hang_up());
            self.connection.waiting.wake_all_later();
        }
    }
}

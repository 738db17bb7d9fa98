//! A pipe out of the child that the caller reads, in any task.
//!
//! Refuses to know the state of the child: it asks the connection to drive that.
//!
//! Rule: the reader alone owns its end of the pipe, and reads it without a lock.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::clock::Activity;
use super::connection::Connection;
use super::output::{Output, Step};
use super::slice::Slice;
use super::waiting::Handle;
use crate::error::unshared;
use crate::protocol::Slot;
use crate::spawn::ChildFate;
#[cfg(unix)]
use crate::spawn::is_copy;
#[cfg(unix)]
use crate::stdio::OpenFile;

/// The reading end. Dropping it closes the pipe. If it is a terminal, dropping it hangs up.
pub(crate) struct TakenReader {
    connection: Arc<Connection>,
    child: ChildFate,
    slot: Slot,
    /// `None` if the pipe had ended before.
    output: Option<Output>,
    activity: Option<Activity>,
    slice: Slice,
    is_terminal: bool,
    at_end: bool,
    /// The tee failed. The next read returns this, after the bytes that were read before it.
    failed: Option<io::Error>,
}

impl TakenReader {
    pub(super) fn new(
        connection: Arc<Connection>,
        child: ChildFate,
        slot: Slot,
        output: Option<Output>,
        activity: Option<Activity>,
        is_terminal: bool,
    ) -> Self {
        let (slice, at_end, failed) = (Slice::default(), output.is_none(), None);
        let mut this =
            TakenReader { connection, child, slot, output, activity, slice, is_terminal, at_end, failed };
        // The flag may have been set and taken before. So try once without it.
        this.output.iter_mut().for_each(|output| output.end.expect());
        this
    }

    /// Appends the bytes of one read; 0 is end of file.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let mut failed = None;
        let read = self.poll(cx, |output, child, slice| {
            loop {
                // As for a pipe that was not taken: if this program has ended the child, the copy stops.
                if !output.waits_for_pipe() && child.was_ended() {
                    let count = output.stop_copy(buffer);
                    if count > 0 {
                        return Poll::Ready(Ok(count));
                    }
                }
                match output.step(buffer, true) {
                    Step::Moved => {}
                    Step::Ask(tee) if !slice.is_over() => tee.run(),
                    Step::Nothing | Step::Ask(_) => return Poll::Pending,
                    Step::Bytes(count) => return Poll::Ready(Ok(count)),
                    Step::End => return Poll::Ready(Ok(0)),
                    Step::Failed(error) => return Poll::Ready(Err(error)),
                    Step::CopyFailed(count, error) => {
                        failed = Some(error);
                        return Poll::Ready(Ok(count));
                    }
                }
            }
        });
        let Some(error) = failed else { return read };
        // As for a pipe that was not taken: the child is killed, and the call fails.
        let error = Arc::new(error);
        self.connection.with(|state| state.protocol.copy_failed(self.slot, error.clone()));
        self.connection.waiting.wake_all_later();
        if matches!(read, Poll::Ready(Ok(0))) {
            return Poll::Ready(Err(unshared(error)));
        }
        self.failed = Some(unshared(error));
        read
    }

    /// The pipe itself, for another child, or the reason why that is impossible.
    #[cfg(unix)]
    pub(crate) fn into_pipe(mut self) -> Result<io::Result<OpenFile>, &'static str> {
        match self.output.take() {
            _ if is_copy() => Err("it belongs to the program that this one was forked from"),
            _ if self.is_terminal => Err("it is a terminal"),
            Some(output) if !output.has_copy() => Ok(output.end.into_pipe()),
            Some(_) => Err("what it gives is copied"),
            None => Err("it has ended"),
        }
    }

    /// `None` if the pipe had ended before.
    #[cfg(unix)]
    pub(crate) fn pipe(&self) -> Option<&OpenFile> {
        self.output.as_ref().map(|output| output.end.pipe())
    }

    /// Whether `poll_read_into` can be used: the pipe has no tee.
    #[cfg(unix)]
    pub(crate) fn reads_directly(&self) -> bool {
        self.output.as_ref().is_some_and(|output| !output.has_copy())
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
        self.poll(cx, |output, _, _| output.end.try_read_into(buffer))
    }

    fn poll(
        &mut self,
        cx: &Context<'_>,
        mut read: impl FnMut(&mut Output, &ChildFate, &mut Slice) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Some(output) = &mut self.output else { return Poll::Ready(Ok(0)) };
        let me = Handle::Reader(self.slot);
        let child = &self.child;
        let read = |output: &mut Output, slice: &mut Slice| read(output, child, slice);
        let read = ready!(self.connection.poll_taken(me, &mut self.slice, cx, output, read, Output::arm));
        if let Ok(count) = read {
            self.at_end |= count == 0;
            self.activity.iter().for_each(|activity| activity.moved(count));
        }
        Poll::Ready(read)
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

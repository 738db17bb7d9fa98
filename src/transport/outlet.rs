//! A pipe out of the child, and where a copy of it goes.
//!
//! Rule: what is read is handed on only after the copy has taken it, so the child runs no faster than
//! that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::AsyncWrite;

use super::pipe::ReadEnd;
use crate::spawn::Pipe;
use crate::stdio::BoxWriter;

#[derive(Debug)]
pub(crate) struct Outlet {
    pipe: ReadEnd,
    tee: Option<Tee>,
}

struct Tee {
    copy: BoxWriter,
    /// Read, and not yet handed on.
    chunk: Vec<u8>,
    /// So much of it was copied.
    copied: usize,
    end_of_file: bool,
}

impl Outlet {
    pub(super) fn new(pipe: Pipe, copy: Option<BoxWriter>) -> io::Result<Self> {
        let tee = copy.map(|copy| Tee { copy, chunk: Vec::new(), copied: 0, end_of_file: false });
        Ok(Outlet { pipe: ReadEnd::new(pipe)?, tee })
    }

    /// There is likely something to read: try before waiting to be told.
    pub(super) fn look(&mut self) {
        self.pipe.look();
    }

    /// Appends what one read gives; 0 is end of file.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match &mut self.tee {
            None => self.pipe.poll_read(cx, buffer),
            Some(tee) => {
                let result = ready!(tee.poll_read(&mut self.pipe, cx));
                let count = tee.chunk.len();
                buffer.append(&mut tee.chunk);
                tee.copied = 0;
                Poll::Ready(result.map(|()| count))
            }
        }
    }

    pub(crate) fn has_copy(&self) -> bool {
        self.tee.is_some()
    }

    /// One read into the buffer; 0 is end of file. Only where there is no copy.
    pub(crate) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.pipe.poll_read_into(cx, buffer)
    }

    /// Appends what is there at this moment; the copy goes without it.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>) {
        if let Some(tee) = &mut self.tee {
            buffer.append(&mut tee.chunk);
        }
        self.pipe.drain(buffer);
    }

    #[cfg(unix)]
    pub(super) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pipe.descriptor()
    }
}

impl Tee {
    /// Ready when a chunk was read and copied, or at the end of file when the copy is complete.
    fn poll_read(&mut self, pipe: &mut ReadEnd, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.chunk.is_empty() && !self.end_of_file {
            self.end_of_file = ready!(pipe.poll_read(cx, &mut self.chunk))? == 0;
        }
        while self.copied < self.chunk.len() {
            match ready!(Pin::new(&mut self.copy).poll_write(cx, &self.chunk[self.copied..])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.copied += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.end_of_file { Pin::new(&mut self.copy).poll_close(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl std::fmt::Debug for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tee").field("waiting", &(self.chunk.len() - self.copied)).finish_non_exhaustive()
    }
}

//! The parent's own stdout or stderr, as the writer of a tee.
//!
//! Refuses to know what the bytes are.
//!
//! Why a thread writes: other processes share the open file (open(2)), such as the shell that started the parent. So it
//! must not become non-blocking. And a write may block, if the terminal was stopped or the pipe is full. That must not
//! hold up the executor.
//!
//! Rule: the thread waits until there is room, and writes no more than fits. So it stops soon after the call ended.

use std::fs::File;
#[cfg(unix)]
use std::io::IoSlice;
use std::io::{self, ErrorKind, Write};
#[cfg(unix)]
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use blocking::Unblock;
use futures_io::AsyncWrite;
#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[cfg(unix)]
use super::pipe::PACKET;
use crate::error::Refusal;
#[cfg(unix)]
use crate::spawn::write_quietly;
use crate::stdio::OpenFile;

/// The most bytes that wait for the thread: as many as a pipe holds.
const BEHIND: usize = 64 * 1024;

pub(crate) struct ParentOutput {
    /// Dropped first, so that the thread sees it.
    _call: Arc<()>,
    thread: Unblock<Sink>,
}

/// The thread's part.
struct Sink {
    /// `None` once the output can no longer be written. That is not the child's fault.
    file: Option<File>,
    call: Weak<()>,
}

impl ParentOutput {
    /// For descriptor 1 or 2. If the parent has closed it, the bytes are dropped.
    pub(crate) fn new(n: i32) -> Result<Self, Refusal> {
        let file = match own(n) {
            Ok(file) => Some(file.into()),
            Err(error) if is_closed(&error) => None,
            Err(error) => return Err(Refusal::os(error)),
        };
        let call = Arc::new(());
        let sink = Sink { file, call: Arc::downgrade(&call) };
        Ok(ParentOutput { _call: call, thread: Unblock::with_capacity(BEHIND, sink) })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(bytes.len()) };
        loop {
            if self.call.strong_count() == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match write_some(file, bytes) {
                // Another process that shares the open file may have made it non-blocking.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) if is_gone_for_good(&error) => {
                    self.file = None;
                    return Ok(bytes.len());
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A file has no buffer.
        Ok(())
    }
}

/// Writes as much as there is room for. `WouldBlock` if there is none for 100 ms.
#[cfg(unix)]
fn write_some(file: &File, bytes: &[u8]) -> io::Result<usize> {
    const WHILE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let mut asked = [PollFd::new(file, PollFlags::OUT)];
    if poll(&mut asked, Some(&WHILE))? == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    let bytes = IoSlice::new(&bytes[..bytes.len().min(PACKET)]);
    Ok(write_quietly(file.as_fd(), &[bytes])?)
}

#[cfg(windows)]
fn write_some(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    file.write(bytes)
}

impl AsyncWrite for ParentOutput {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.thread).poll_write(cx, bytes)) {
            // The thread has failed. A flush returns its error.
            Ok(0) if !bytes.is_empty() => self.poll_flush(cx).map_ok(|()| 0),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.thread).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.thread).poll_close(cx)
    }
}

#[cfg(unix)]
fn own(n: i32) -> io::Result<OpenFile> {
    match n {
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    }
}

#[cfg(windows)]
fn own(n: i32) -> io::Result<OpenFile> {
    use std::os::windows::io::AsHandle;
    let own = match n {
        1 => io::stdout().as_handle().try_clone_to_owned(),
        _ => io::stderr().as_handle().try_clone_to_owned(),
    };
    own.map(OpenFile::from)
}

#[cfg(unix)]
fn is_closed(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADF)
}

/// A program without a console has no such handle.
#[cfg(windows)]
fn is_closed(_: &io::Error) -> bool {
    true
}

/// A pipe without a reader, a terminal that hung up, or a closed descriptor.
fn is_gone_for_good(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_gone = matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADF));
    #[cfg(windows)]
    let is_gone = false;
    error.kind() == io::ErrorKind::BrokenPipe || is_gone
}

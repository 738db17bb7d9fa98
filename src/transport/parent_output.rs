//! The parent's own stdout or stderr, as a place that a copy goes to.
//!
//! Refuses to know what is copied.
//!
//! Why a thread writes: the open file is shared with whoever else has it (open(2)), such as the shell that has started the
//! parent. It must not become non-blocking for them, and a write that blocks, to a terminal that was stopped or a pipe that
//! nobody empties, must not hold up the executor.
//!
//! Rule: the thread waits for room before it writes, and writes no more than that, so that it leaves soon after the call.

use std::fs::File;
#[cfg(unix)]
use std::io::IoSlice;
use std::io::{self, ErrorKind, Write};
#[cfg(unix)]
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// What the thread may have before it: as much as a pipe.
const BEHIND: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct ParentOutput {
    thread: Unblock<Sink>,
    is_gone: Arc<AtomicBool>,
}

/// The thread's part.
#[derive(Debug)]
struct Sink {
    /// `None` once nobody can see it any more, which is no failure of the child's.
    file: Option<File>,
    /// The call is.
    is_gone: Arc<AtomicBool>,
}

impl ParentOutput {
    /// Of descriptor 1 or 2. One that the parent has closed shows nothing.
    pub(crate) fn new(n: i32) -> Result<Self, Refusal> {
        let file = match own(n) {
            Ok(file) => Some(file.into()),
            Err(error) if is_closed(&error) => None,
            Err(error) => return Err(Refusal::os(error)),
        };
        let is_gone = Arc::<AtomicBool>::default();
        let sink = Sink { file, is_gone: is_gone.clone() };
        Ok(ParentOutput { thread: Unblock::with_capacity(BEHIND, sink), is_gone })
    }
}

impl Drop for ParentOutput {
    fn drop(&mut self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(bytes.len()) };
        loop {
            if self.is_gone.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match write_some(file, bytes) {
                // Whoever shares the open file may have made it non-blocking.
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
        // A file keeps nothing back.
        Ok(())
    }
}

/// Writes as much as there is room for, or is `WouldBlock` if there is none for a while.
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
            // The thread has failed, and tells why when it is asked to flush.
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

/// A program without a console has none.
#[cfg(windows)]
fn is_closed(_: &io::Error) -> bool {
    true
}

/// A pipe without a reader, a terminal that was hung up, or one that is closed.
fn is_gone_for_good(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_gone = matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADF));
    #[cfg(windows)]
    let is_gone = false;
    error.kind() == io::ErrorKind::BrokenPipe || is_gone
}

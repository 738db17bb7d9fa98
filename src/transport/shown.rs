//! The parent's own stdout or stderr, as a place that a copy goes to.
//!
//! Refuses to know what is copied.
//!
//! Why a thread writes: the open file is shared with whoever else has it (open(2)), such as the shell that has started the
//! parent. It must not become non-blocking for them, and a write that blocks, to a terminal that was stopped or a pipe that
//! nobody empties, must not hold up the executor.

use std::fs::File;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use blocking::Unblock;
use futures_io::AsyncWrite;

use crate::error::Refusal;
use crate::stdio::OpenFile;

/// What the thread may have before it: as much as a pipe.
const BEHIND: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Shown(Unblock<Seen>);

/// `None` once nobody can see it any more, which is no failure of the child's.
#[derive(Debug)]
struct Seen(Option<File>);

impl Shown {
    /// Of descriptor 1 or 2. One that the parent has closed shows nothing.
    pub(crate) fn new(n: i32) -> Result<Self, Refusal> {
        match own(n) {
            Ok(file) => Ok(Shown(Unblock::with_capacity(BEHIND, Seen(Some(file.into()))))),
            Err(error) if is_closed(&error) => Ok(Shown(Unblock::new(Seen(None)))),
            Err(error) => Err(Refusal::os(error)),
        }
    }
}

impl Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.as_mut().map(|file| file.write(bytes)) {
            None => Ok(bytes.len()),
            Some(Err(error)) if nobody_sees(&error) => {
                self.0 = None;
                Ok(bytes.len())
            }
            Some(written) => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A file keeps nothing back.
        Ok(())
    }
}

impl AsyncWrite for Shown {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.0).poll_write(cx, bytes)) {
            // The thread has failed, and tells why when it is asked to flush.
            Ok(0) if !bytes.is_empty() => self.poll_flush(cx).map_ok(|()| 0),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

#[cfg(unix)]
fn own(n: i32) -> io::Result<OpenFile> {
    use std::os::fd::AsFd;
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
fn nobody_sees(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_gone = matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADF));
    #[cfg(windows)]
    let is_gone = false;
    error.kind() == io::ErrorKind::BrokenPipe || is_gone
}

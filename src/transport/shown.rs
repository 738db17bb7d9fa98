//! The parent's own stdout or stderr, as a place that a copy goes to.
//!
//! Refuses to know what is copied.
//!
//! Why a thread writes: the open file is shared with whoever else has it (open(2)), such as the shell that has started the
//! parent. It must not become non-blocking for them, and a write that blocks, to a terminal that was stopped or a pipe that
//! nobody empties, must not hold up the executor.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use blocking::Unblock;
use futures_io::AsyncWrite;

use crate::error::Refusal;
use crate::stdio::OpenFile;

/// What the thread may have before it: as much as a pipe.
const BEHIND: usize = 64 * 1024;

/// `None` once nobody can see it any more, which is no failure of the child's.
#[derive(Debug)]
pub(crate) struct Shown(Option<Unblock<File>>);

impl Shown {
    /// Of descriptor 1 or 2. One that the parent has closed shows nothing.
    pub(crate) fn new(n: i32) -> Result<Self, Refusal> {
        match own(n) {
            Ok(file) => Ok(Shown(Some(Unblock::with_capacity(BEHIND, file.into())))),
            Err(error) if is_closed(&error) => Ok(Shown(None)),
            Err(error) => Err(Refusal::os(error)),
        }
    }

    /// `done` if nobody can see it.
    fn poll<T>(
        &mut self,
        done: T,
        ask: impl FnOnce(Pin<&mut Unblock<File>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(file) = &mut self.0 else { return Poll::Ready(Ok(done)) };
        match ready!(ask(Pin::new(file))) {
            Err(error) if nobody_sees(&error) => {
                self.0 = None;
                Poll::Ready(Ok(done))
            }
            other => Poll::Ready(other),
        }
    }
}

impl AsyncWrite for Shown {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(bytes.len(), |file| file.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll((), |file| file.poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll((), |file| file.poll_close(cx))
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

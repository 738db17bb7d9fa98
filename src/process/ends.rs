//! The pipe ends that a user takes out of a process.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
#[cfg(unix)]
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

#[cfg(unix)]
use crate::stdio::{Kind, OpenFile, Stdio};
use crate::transport::{TakenReader, TakenWriter};

/// The writing end of a pipe into a child; see [`Process::writer`](crate::Process::writer).
///
/// A write waits while the pipe is full. It fails with `BrokenPipe` if no process can read the pipe any more, or you
/// [closed](crate::Process::close) it. Nothing is buffered here, so `flush` does nothing.
///
/// # Cancellation
/// If you drop or close it, the child reads end of file after the last written byte. It may outlive the
/// [`Process`](crate::Process).
///
/// ```
/// # futures::executor::block_on(async {
/// use futures::io::AsyncWriteExt;
/// use reaped::Command;
/// let mut cat =
///     Command::new("cat").spawn()?;
/// let stdin = cat.writer(0);
/// let mut stdin = stdin.unwrap();
/// stdin.write_all(b"text").await?;
/// // The child reads end of file.
/// stdin.close().await?;
/// let result = cat.output().await?;
/// let stdout = result.stdout;
/// assert_eq!(stdout, b"text");
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub struct Writer {
    pub(super) pipe: TakenWriter,
}

impl Writer {
    /// Resolves once the pipe is closed: by all processes that could read it, or by this program. You need not write
    /// to find out.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("sh").args(["-c", "exec <&-; sleep 1000"]).spawn()?;
    /// process.writer(0).expect("a pipe, not taken yet").closed().await;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Platform
    /// A terminal's writer (`Command::pty`) resolves once the process has seen the end of the terminal. FreeBSD does
    /// not report that the child has closed the pipe. There the pipe is asked now and then, so it may take a second.
    pub fn closed(&mut self) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(|cx| self.pipe.poll_closed(cx))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pipe.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pipe.poll_write(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is buffered here: written bytes are in the pipe, or on Windows on their way.
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.close();
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// The reading end of a pipe out of a child; see [`Process::reader`](crate::Process::reader).
///
/// # Cancellation
/// Dropping it closes the pipe, and the child gets SIGPIPE on its next write. It may outlive the
/// [`Process`](crate::Process).
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use futures::io::AsyncReadExt;
/// use reaped::Command;
/// let mut yes =
///     Command::new("yes").spawn()?;
/// let stdout = yes.reader(1);
/// let mut out = stdout.unwrap();
/// let mut two = [0; 4];
/// out.read_exact(&mut two).await?;
/// assert_eq!(&two, b"y\ny\n");
/// drop(out); // Two are enough.
/// let status = yes.status().await?;
/// assert!(!status.success());
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub struct Reader {
    /// Bytes that were read before, or that cannot be read straight into the user's buffer. `given` of them were
    /// returned.
    pub(super) read: Vec<u8>,
    pub(super) given: usize,
    pub(super) pipe: TakenReader,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.given == this.read.len() {
            #[cfg(unix)]
            if this.pipe.reads_directly() {
                return this.pipe.poll_read_into(cx, buffer);
            }
            this.read.clear();
            this.given = 0;
            ready!(this.pipe.poll_read(cx, &mut this.read))?;
        }
        let rest = &this.read[this.given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        this.given += count;
        Poll::Ready(Ok(count))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Gives the pipe itself to another child, which then reads from the kernel what this child writes. No byte passes
/// through this program.
///
/// This program no longer sees the end of file. The command keeps the pipe until you drop the command. Until then the
/// first child gets no SIGPIPE if the second one ends early.
///
/// Take the reader before you await the process.
///
/// # Errors
/// Running that command returns [`InvalidReason::PipeInUse`](crate::InvalidReason::PipeInUse) in four cases:
///
/// - bytes were read ahead, which the other child would miss;
/// - the descriptor is copied ([`tee`](Stdio::tee), [`tee_inherit`](Stdio::tee_inherit) or
///   [`writer`](Stdio::writer));
/// - it is a terminal;
/// - the pipe had ended before you took the reader, for example during [`Process::wait`](crate::Process::wait).
///
/// # Platform
/// Unix.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Command, Stdio};
/// let mut hosts = Command::new("echo").arg("one two").spawn()?;
/// let said = hosts.reader(1).expect("a pipe, not taken yet");
/// let count = Command::new("wc").arg("-w").stdin(Stdio::from(said)).read().await?;
/// assert_eq!(count.trim(), "2");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[cfg(unix)]
impl From<Reader> for Stdio {
    fn from(reader: Reader) -> Self {
        match reader.given == reader.read.len() {
            true => handed_on(reader.pipe.into_pipe()),
            false => Stdio(Kind::InUse("bytes were read ahead from it")),
        }
    }
}

/// Gives the pipe itself to another child, which then writes into the kernel what this child reads.
///
/// A command keeps its `Stdio` for the next run. So the child reads end of file only after every writer has ended
/// **and** you have dropped the command and its clones.
///
/// # Errors
/// If the writer is closed, or writes to a terminal, running that command returns
/// [`InvalidReason::PipeInUse`](crate::InvalidReason::PipeInUse).
///
/// # Platform
/// Unix.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Command, Stdio};
/// let mut count = Command::new("wc").arg("-w").spawn()?;
/// let input = count.writer(0).expect("a pipe, not taken yet");
/// Command::new("echo").arg("one two").stdout(Stdio::from(input)).run().await?;
/// assert_eq!(count.output().await?.stdout.trim_ascii(), b"2");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[cfg(unix)]
impl From<Writer> for Stdio {
    fn from(writer: Writer) -> Self {
        handed_on(writer.pipe.into_pipe())
    }
}

#[cfg(unix)]
fn handed_on(pipe: Result<io::Result<OpenFile>, &'static str>) -> Stdio {
    Stdio(match pipe {
        Ok(Ok(pipe)) => Kind::Open(Arc::new(pipe)),
        Ok(Err(error)) => Kind::Broken(Arc::new(error)),
        Err(why) => Kind::InUse(why),
    })
}

/// Borrows the pipe's file descriptor, for example for an ioctl(2). It is non-blocking. If you read bytes from it,
/// the `Reader` misses them.
///
/// # Panics
/// If the pipe had ended before you took the reader, for example during [`wait`](crate::Process::wait).
///
/// # Platform
/// Unix.
///
/// ```
/// # futures::executor::block_on(async {
/// let mut cat = reaped::Command::new("cat").spawn()?;
/// let reader = cat.reader(1).expect("a pipe, not taken yet");
/// assert_eq!(rustix::io::ioctl_fionread(&reader)?, 0); // no byte is there yet
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
#[cfg(unix)]
impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.pipe().expect("a pipe that is open, and nobody uses at this moment").as_fd()
    }
}

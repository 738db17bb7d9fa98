//! The lines of a process, as a stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::stream::{FusedStream, Stream};

use super::Process;
use crate::protocol::Piece;

/// One line that a child wrote; see [`Process::lines`].
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// let mut process = reaped::Command::new("sh").args(["-c", "printf 'no end' >&2"]).spawn()?;
/// let line = process.next_line().await.expect("a line");
/// assert_eq!((line.fd, &line.text[..], line.complete), (2, "no end", false));
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// The descriptor, by the child's number.
    pub fd: i32,
    /// The line without its end (`\n` or `\r\n`). Bytes that are not UTF-8 are shown as U+FFFD;
    /// [`bytes`](Self::bytes) returns the original.
    pub text: String,
    /// Whether a line end followed. It is false for a last line without an end, and for every piece of a line above
    /// the [limit](Lines::limit) except the last piece.
    pub complete: bool,
    /// The original bytes, if the text differs from them.
    raw: Option<Box<[u8]>>,
}

impl Line {
    /// The bytes of the line, without its end.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("printf").arg(r"caf\351\n").spawn()?;
    /// let line = process.lines().next().await.unwrap();
    /// assert_eq!((&line.text[..], line.bytes()), ("caf\u{fffd}", &b"caf\xe9"[..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.text.as_bytes())
    }
}

/// A stream of [`Line`]s, which ends when the process has ended; see [`Process::lines`].
///
/// Lines of one descriptor come in their order. Two descriptors have no common order.
///
/// # Cancellation
/// Dropping it loses nothing, and leaves the process running.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use futures::StreamExt;
/// use reaped::Command;
/// let mut seq = Command::new("seq")
///     .arg("3")
///     .spawn()?;
/// let texts = seq
///     .lines()
///     .map(|line| line.text);
/// let all: Vec<String> =
///     texts.collect().await;
/// assert_eq!(all, ["1", "2", "3"]);
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Lines<'a> {
    pub(super) process: &'a mut Process,
    pub(super) limit: usize,
    pub(super) over: bool,
}

impl Lines<'_> {
    pub(super) const LIMIT: usize = 1024 * 1024;

    /// The most bytes of one line; 1 MiB by default. It bounds the memory.
    ///
    /// A longer line comes in pieces of at most this size. Only the last piece is [complete](Line::complete).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("echo").arg("abcdef").spawn()?;
    /// let mut lines = process.lines().limit(4);
    /// assert_eq!(lines.next().await.unwrap().text, "abcd");
    /// assert_eq!(lines.next().await.unwrap().text, "ef");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The next line; `None` when the process has ended. It is the same as `next` of the stream.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("ls").arg("/").spawn()?;
    /// let mut lines = process.lines();
    /// while let Some(line) = lines.next().await {
    ///     println!("{}: {}", line.fd, line.text);
    /// }
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[expect(clippy::should_implement_trait, reason = "the name that every stream has for it")]
    #[inline]
    pub fn next(&mut self) -> impl Future<Output = Option<Line>> + Send + '_ {
        NextLine(self)
    }
}

impl Stream for Lines<'_> {
    type Item = Line;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        let limit = self.limit;
        // The line is made where it stays: moving it costs more than finding it.
        if let Some((fd, text, complete)) = self.process.call.transport.ready_line(limit) {
            return Poll::Ready(Some(Line { fd, text: text.to_owned(), complete, raw: None }));
        }
        let line = ready!(self.process.call.transport.poll_line(limit, cx));
        self.over |= line.is_none();
        Poll::Ready(line.map(|(fd, Piece { text, raw, complete })| Line { fd, text, complete, raw }))
    }
}

impl FusedStream for Lines<'_> {
    fn is_terminated(&self) -> bool {
        self.over
    }
}

/// A named future: the compiler does not inline a closure of another crate.
struct NextLine<'a, 'b>(&'a mut Lines<'b>);

impl Future for NextLine<'_, '_> {
    type Output = Option<Line>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}

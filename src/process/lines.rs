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
    limit: usize,
    over: bool,
    /// The line that was lent last. The next one is made in its place.
    lent: Option<Line>,
}

impl<'a> Lines<'a> {
    const LIMIT: usize = 1024 * 1024;

    pub(super) fn new(process: &'a mut Process) -> Self {
        Lines { process, limit: Self::LIMIT, over: false, lent: None }
    }

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

    /// Lends the next line until the next call; `None` when the process has ended.
    ///
    /// It reads the same lines as [`next`](Self::next). But it makes each line in the memory of the one before, so a
    /// caller that only looks at millions of short lines takes about two thirds of the time.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut process = reaped::Command::new("printf").arg(r"ok\nerror: a\nok\nerror: b\n").spawn()?;
    /// let (mut lines, mut errors) = (process.lines(), 0);
    /// while let Some(line) = lines.next_borrowed().await {
    ///     errors += usize::from(line.text.starts_with("error:"));
    /// }
    /// assert_eq!(errors, 2);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn next_borrowed(&mut self) -> impl Future<Output = Option<&Line>> + Send {
        NextBorrowed(Some(self))
    }

    /// The next line, and no batch has it.
    #[inline]
    fn poll_apart(&mut self, cx: &Context<'_>) -> Poll<Option<Line>> {
        let line = ready!(self.process.call.transport.poll_line(self.limit, cx));
        self.over |= line.is_none();
        Poll::Ready(line.map(|(fd, Piece { text, raw, complete })| Line { fd, text, complete, raw }))
    }

    /// Makes the next line in the memory of the last one.
    #[inline]
    fn poll_lent(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Some((fd, text, complete)) = self.process.call.transport.ready_line(self.limit) {
            let line = self.lent.get_or_insert_with(|| Line { fd, text: String::new(), complete, raw: None });
            (line.fd, line.complete, line.raw) = (fd, complete, None);
            line.text.clear();
            line.text.push_str(text);
            return Poll::Ready(());
        }
        self.lent = ready!(self.poll_apart(cx));
        Poll::Ready(())
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
        self.poll_apart(cx)
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

/// `None` once it was ready.
struct NextBorrowed<'a, 'b>(Option<&'a mut Lines<'b>>);

impl<'a> Future for NextBorrowed<'a, '_> {
    type Output = Option<&'a Line>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<&'a Line>> {
        match &mut self.0 {
            Some(lines) => ready!(lines.poll_lent(cx)),
            None => return Poll::Pending,
        }
        Poll::Ready(self.0.take().and_then(|lines| lines.lent.as_ref()))
    }
}

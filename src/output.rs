//! Ground: what a child left behind. Plain data; it does not know how the bytes were collected.
//!
//! Rule: what a user gets keeps no more memory than twice its bytes, or 512; see [`most_room`].

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

/// What a child process left behind: its exit status and the captured output.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::Command;
/// let script =
///     "echo a; echo b >&2; exit 3";
/// let output = Command::new("sh")
///     .args(["-c", script])
///     .output()
///     .await?;
/// let code = output.status.code();
/// assert_eq!(code, Some(3));
/// assert_eq!(output.stdout, b"a\n");
/// assert_eq!(output.stderr, b"b\n");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Output {
    /// How the process ended.
    ///
    /// If a signal ended it, `code()` is `None`, and `signal()` of std's `ExitStatusExt` is the signal.
    ///
    /// In an [`Error::StatusLost`](crate::Error::StatusLost) the status is no success, and has neither a code nor a
    /// signal.
    pub status: ExitStatus,
    /// The captured bytes of descriptor 1; empty if it was not captured.
    ///
    /// `read`, `read_bytes` and `output` keep every byte, unless you set
    /// [`capture_ends`](crate::Command::capture_ends) or [`Stdio::writer`](crate::Stdio::writer).
    ///
    /// In an error of `run`, `status` and `exit_code` it is empty, unless a [`limit`](crate::Command::limit) or
    /// `capture_ends` bounds it, or stderr goes there too.
    pub stdout: Vec<u8>,
    /// The captured bytes of descriptor 2; empty if it was not captured.
    ///
    /// `read`, `read_bytes` and `output` keep every byte, unless you set
    /// [`capture_ends`](crate::Command::capture_ends) or [`Stdio::writer`](crate::Stdio::writer).
    ///
    /// An error of `run`, `status` and `exit_code` has only the end, unless a [`limit`](crate::Command::limit) or
    /// `capture_ends` bounds it.
    pub stderr: Vec<u8>,
    /// The captured descriptors other than 1 and 2, by number.
    pub(crate) extra: Vec<(i32, Vec<u8>)>,
    /// Whether 1 and 2 were captured, so `fd(1)` can tell "nothing" from "not captured".
    pub(crate) captured: [bool; 2],
    /// stderr was connected to stdout.
    pub(crate) merged: bool,
    /// The program is a shell, so its exit code may report another program's end.
    pub(crate) is_shell: bool,
    /// The kernel's OOM killer has killed while it ran.
    pub(crate) memory_short: bool,
    /// The codes other than 0 that count as success.
    pub(crate) ok_codes: Option<Arc<Vec<i32>>>,
    pub(crate) still_open: Vec<i32>,
    /// The missing parts of the descriptors, in order.
    pub(crate) gaps: Vec<(i32, Gap)>,
    pub(crate) elapsed: Duration,
    pub(crate) usage: Option<Usage>,
    /// The command as messages show it.
    pub(crate) command: String,
    /// Only of a pipeline.
    pub(crate) members: Vec<Output>,
    /// The member that gives the status.
    pub(crate) decisive: usize,
}

/// Dropped bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The number of kept bytes before it.
    pub(crate) at: usize,
    pub(crate) bytes: u64,
    /// The number of kept bytes after it, up to the end or the next gap.
    pub(crate) last: usize,
}

impl Output {
    /// The captured bytes of descriptor `n`. It is `None` if `n` was not captured, or none of it was kept.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let output = Command::new("sh")
    ///     .args(["-c", "echo three >&3"])
    ///     .fd(3, Stdio::output())
    ///     .output()
    ///     .await?;
    /// assert_eq!(output.fd(3), Some(&b"three\n"[..]));
    /// assert_eq!(output.fd(4), None);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn fd(&self, n: i32) -> Option<&[u8]> {
        match n {
            1 => self.captured[0].then_some(&self.stdout[..]),
            2 => self.captured[1].then_some(&self.stderr[..]),
            _ => self.extra.iter().find(|(fd, _)| *fd == n).map(|(_, bytes)| &bytes[..]),
        }
    }

    /// [`fd`](Self::fd), moved out without a copy.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let output = reaped::output("echo", ["hi"]).await?;
    /// assert_eq!(output.into_fd(1), Some(b"hi\n".to_vec()));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn into_fd(self, n: i32) -> Option<Vec<u8>> {
        match n {
            1 => self.captured[0].then_some(self.stdout),
            2 => self.captured[1].then_some(self.stderr),
            _ => self.extra.into_iter().find(|(fd, _)| *fd == n).map(|(_, bytes)| bytes),
        }
    }

    /// The captured descriptors that grandchildren still held open when the call ended. That happens after a
    /// [`drain_timeout`](crate::Command::drain_timeout), or if this crate killed the child. The output lacks what
    /// they write later.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// let mut daemon = reaped::Command::new("sh");
    /// daemon.args(["-c", "sleep 5 & echo started"]).drain_timeout(Duration::from_millis(50));
    /// let output = daemon.output().await?;
    /// assert_eq!((&output.stdout[..], output.still_open()), (&b"started\n"[..], &[1, 2][..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn still_open(&self) -> &[i32] {
        &self.still_open
    }

    /// The time from the start until the end: the child was reaped, and every pipe closed.
    ///
    /// The exit is noted when it happens, even if nobody polls then. If a grandchild holds a pipe longer, the time
    /// ends when a poll sees that pipe closed.
    ///
    /// # Platform
    /// On systems other than Linux and Windows the exit is noted without a poll only after the first poll, because
    /// watching it reaps the child there.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let output = reaped::output("true", [""; 0]).await?;
    /// println!("took {:?}", output.elapsed());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The processor time and memory that the child used, if the system reports it.
    ///
    /// # Platform
    /// 64-bit Linux with pidfd (5.4 and later). Elsewhere, and if another part of this program reaped the child, it
    /// is `None`. The figures come from `getrusage(2)`: the child, and the descendants that it waited for.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let output = reaped::output("true", [""; 0]).await?;
    /// if let Some(usage) = output.usage() {
    ///     println!("{:?} in user mode, {} bytes at most", usage.user, usage.peak_memory);
    /// }
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The output of each member of a [`Pipeline`](crate::Pipeline), in order; empty for a single program.
    ///
    /// Each member has its own status, stderr, times and other descriptors. The last member's stdout is in the
    /// pipeline's own output. That output also has the status [that counts](crate::Pipeline#which-failure-counts),
    /// every stderr in order, and as [`usage`](Self::usage) the sum of the times and the greatest peak.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let output = Command::new("false").pipe(Command::new("true")).output().await?;
    /// let codes: Vec<_> = output.members().iter().map(|member| member.status.code()).collect();
    /// assert_eq!(codes, [Some(1), Some(0)]);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn members(&self) -> &[Output] {
        &self.members
    }

    /// How many bytes of descriptor `n` were dropped; 0 if it is whole or was not captured.
    ///
    /// With [`capture_ends`](crate::Command::capture_ends) these are the bytes in the middle. With `run`, `status`
    /// and `exit_code` it counts the bytes of stderr before its end.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let output =
    ///     reaped::Command::new("echo").arg("0123456789").capture_ends(2, 3).output().await?;
    /// assert_eq!((&output.stdout[..], output.omitted(1)), (&b"0189\n"[..], 6));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn omitted(&self, n: i32) -> u64 {
        self.gaps.iter().filter(|(fd, _)| *fd == n).map(|(_, gap)| gap.bytes).sum()
    }

    /// A descriptor's bytes as text, with a line in each place that lacks bytes. A character that was cut in two
    /// counts as missing.
    pub(crate) fn text_of<E>(
        &self,
        n: i32,
        bytes: &[u8],
        push: impl Fn(&mut String, &[u8]) -> Result<(), E>,
    ) -> Result<String, E> {
        let (mut text, mut from) = (String::with_capacity(bytes.len()), 0);
        for (_, gap) in self.gaps.iter().filter(|(fd, _)| *fd == n) {
            let before = &bytes[from..gap.at.min(bytes.len()).max(from)];
            let whole = before.len() - begun_character(before);
            push(&mut text, &before[..whole])?;
            from += before.len();
            let rest = bytes[from..]
                .iter()
                .take(gap.last.min(3))
                .take_while(|byte| (0x80..0xc0).contains(*byte))
                .count();
            from += rest;
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            let missing = gap.bytes + (before.len() - whole + rest) as u64;
            text.push_str(&format!("[… {missing} bytes left out …]\n"));
        }
        push(&mut text, &bytes[from..])?;
        Ok(text)
    }

    fn lossy<'a>(&self, n: i32, bytes: &'a [u8]) -> Cow<'a, str> {
        if self.omitted(n) == 0 {
            return String::from_utf8_lossy(bytes);
        }
        let pushed = self.text_of(n, bytes, |text, bytes| {
            text.push_str(&String::from_utf8_lossy(bytes));
            Ok::<(), Infallible>(())
        });
        let Ok(text) = pushed;
        Cow::Owned(text)
    }

    /// stdout as text; a replacement character stands for what is not UTF-8, and the bytes are in
    /// [`stdout`](Self::stdout). If bytes were [dropped](Self::omitted), a line says how many.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let output = reaped::output("printf", [r"caf\351"]).await?;
    /// assert_eq!(output.stdout_lossy(), "caf\u{fffd}");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn stdout_lossy(&self) -> Cow<'_, str> {
        self.lossy(1, &self.stdout)
    }

    /// stderr as text; a replacement character stands for what is not UTF-8, and the bytes are in
    /// [`stderr`](Self::stderr). If bytes were [dropped](Self::omitted), a line says how many.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let output = reaped::output("sh", ["-c", "echo no >&2"]).await?;
    /// assert_eq!(output.stderr_lossy(), "no\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn stderr_lossy(&self) -> Cow<'_, str> {
        self.lossy(2, &self.stderr)
    }

    /// Whether the program counts as successful: code 0, or one of its `ok_codes`.
    pub(crate) fn succeeded(&self) -> bool {
        let is_ok = |code: i32| self.ok_codes.as_ref().is_some_and(|codes| codes.contains(&code));
        self.status.success() || self.status.code().is_some_and(is_ok)
    }

    /// The end of stderr, also if it went to stdout: whole lines, if there are any.
    pub(crate) fn stderr_or_merged(&self) -> &[u8] {
        if self.merged { self.end_of(1, &self.stdout) } else { self.end_of(2, &self.stderr) }
    }

    /// The bytes after the last gap, from the first whole line.
    pub(crate) fn end_of<'a>(&self, n: i32, bytes: &'a [u8]) -> &'a [u8] {
        let Some((_, gap)) = self.gaps.iter().rfind(|(fd, _)| *fd == n) else { return bytes };
        let end = bytes.get(gap.at..).unwrap_or_default();
        let whole = end.iter().position(|byte| *byte == b'\n').map(|line_end| &end[line_end + 1..]);
        whole.filter(|whole| !whole.is_empty()).unwrap_or(end)
    }

    /// The member that gives the status of the whole.
    pub(crate) fn decisive(&self) -> Option<&Output> {
        self.members.get(self.decisive)
    }
}

/// Drops what std's does not have: other descriptors, times, members of a pipeline.
///
/// ```
/// # futures::executor::block_on(async {
/// let output: std::process::Output = reaped::output("echo", ["hi"]).await?.into();
/// assert_eq!(output.stdout, b"hi\n");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
impl From<Output> for std::process::Output {
    fn from(Output { status, stdout, stderr, .. }: Output) -> Self {
        std::process::Output { status, stdout, stderr }
    }
}

/// How many of the last bytes begin a UTF-8 character that has no end.
fn begun_character(bytes: &[u8]) -> usize {
    let lead = bytes.iter().rev().take(3).position(|byte| !(0x80..0xc0).contains(byte));
    let Some(count) = lead.map(|after| after + 1) else { return 0 };
    let length = match bytes[bytes.len() - count] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if count < length { count } else { 0 }
}

/// How much memory a value of this length may keep once the user has it. A buffer is as large as a pipe, and often
/// holds one word; a user who keeps many words must not keep their buffers.
pub(crate) fn most_room(length: usize) -> usize {
    length.saturating_mul(2).max(512)
}

/// The processor time and memory that a child used; see [`Output::usage`].
///
/// ```
/// # futures::executor::block_on(async {
/// let output = reaped::output("sort", ["--version"]).await?;
/// if let Some(usage) = output.usage() {
///     let time = usage.user + usage.system;
///     println!("{time:?} of {:?}, {} KiB", output.elapsed(), usage.peak_memory / 1024);
/// }
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time in the program itself.
    pub user: Duration,
    /// Processor time in the kernel, for the program.
    pub system: Duration,
    /// The most memory that was resident at one moment, in bytes.
    ///
    /// Linux also counts the time before the `exec`, when child and parent share their memory. So a small child shows
    /// what the parent had resident at the start (`ru_maxrss` in getrusage(2)).
    pub peak_memory: u64,
}

/// How the child ended, if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Reaped(ExitStatus, Option<Usage>),
    /// The same, and the kernel's OOM killer has killed while it ran.
    MemoryShort(ExitStatus, Option<Usage>),
    /// Another part of this program took the status.
    Lost,
}

impl Exit {
    /// The status. A lost one is no success, and has neither a code nor a signal.
    pub(crate) fn status(self) -> ExitStatus {
        if let Exit::Reaped(status, _) | Exit::MemoryShort(status, _) = self {
            return status;
        }
        // On Unix this means "continued", which is never asked for and so never comes otherwise (wait(2)). On Windows
        // the status is never lost.
        #[cfg(unix)]
        return std::os::unix::process::ExitStatusExt::from_raw(0xffff);
        #[cfg(windows)]
        return std::os::windows::process::ExitStatusExt::from_raw(u32::MAX);
    }

    pub(crate) fn usage(self) -> Option<Usage> {
        match self {
            Exit::Reaped(_, usage) | Exit::MemoryShort(_, usage) => usage,
            Exit::Lost => None,
        }
    }
}

/// Shows the first bytes of each stream, so a failed assertion stays readable.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Output");
        debug.field("status", &self.status);
        debug.field("stdout", &Excerpt(&self.stdout)).field("stderr", &Excerpt(&self.stderr));
        for (fd, bytes) in &self.extra {
            debug.field(&format!("fd{fd}"), &Excerpt(bytes));
        }
        if !self.members.is_empty() {
            debug.field("members", &self.members);
        }
        debug.field("elapsed", &self.elapsed).finish_non_exhaustive()
    }
}

struct Excerpt<'a>(&'a [u8]);

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 200;
        let shown = &self.0[..self.0.len().min(MOST)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() { write!(f, "… ({} bytes)", self.0.len()) } else { Ok(()) }
    }
}

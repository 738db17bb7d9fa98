//! Ground: everything that can go wrong, and its message for a person. Plain data and text; it does not know how
//! processes run.
//!
//! Rules:
//! - A message is one line of visible characters, even if it quotes other text.
//! - A POSIX shell reads the quoted command back.
//! - The command, the quoted stderr and the whole message have a bounded length.
//! - A message never shows the environment or the input.

mod cause;
mod of_output;

use std::ffi::OsStr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::{fmt, io};

use crate::output::Output;
use cause::describe;
pub(crate) use cause::explain;

/// Why a call failed.
///
/// An error after the start carries the output captured so far; see [`Error::output`]. Its message is one line, made
/// for a person. It quotes the end of stderr if stderr was captured ([`run`](crate::Command::run) does not capture
/// it):
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::Command;
/// let script = "echo a>&2; exit 3";
/// let error = Command::new("sh")
///     .args(["-c", script])
///     .read()
///     .await
///     .unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`sh -c 'echo a>&2; exit 3'` \
///      exited with code 3: a"
/// );
/// let output = error.output();
/// let output = output.unwrap();
/// let code = output.status.code();
/// assert_eq!(code, Some(3));
/// # });
/// ```
///
/// You can tell a missing program from one that failed:
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::SpawnReason::*;
/// use reaped::{Error, read};
/// match read("cobol", ["a"]).await {
///     Err(Error::Spawn {
///         reason: ProgramNotFound,
///         ..
///     }) => println!("get cobol"),
///     other => panic!("{other:?}"),
/// }
/// # });
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program could not be started; nothing runs.
    #[error("cannot start {details}")]
    Spawn {
        /// Why it did not start.
        reason: SpawnReason,
        /// The system's error.
        source: io::Error,
        /// The command, and what is wrong with it.
        details: Details,
    },
    /// The command can never start like this, and nothing was tried. Or you asked for an operation that the running
    /// child does not support; the child is unaffected.
    #[error("invalid command {details}")]
    Invalid {
        /// What is wrong with it.
        reason: InvalidReason,
        /// The command, and the part of it that is wrong.
        details: Details,
    },
    /// A signal killed the program, or it exited with a code that is neither 0 nor one of its
    /// [`ok_codes`](crate::Command::ok_codes).
    ///
    /// If more is known, the message says more:
    ///
    /// - the usual reason for SIGXCPU, SIGXFSZ and SIGSYS;
    /// - a shell's meaning of the codes 126, 127, and 128 plus a signal's number, if the program has a shell's name
    ///   (`sh`, `bash`, `dash`, `zsh`, `ksh`, `ash`, `busybox sh`);
    /// - "probably out of memory", after a SIGKILL that this crate did not send.
    ///
    /// The last one needs Linux, and a `/sys/fs/cgroup` that shows this program's own cgroup. The kernel's OOM killer
    /// must have killed there while the child ran, or up to 20 ms before. It also covers a SIGKILL that a shell
    /// reports for its program.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// let error = reaped::sh("exit 127").run().await.unwrap_err();
    /// let said = "exited with code 127, which a shell says if a program was not found";
    /// assert!(error.to_string().ends_with(said));
    /// # });
    /// ```
    #[error("{0}")]
    Failed(Details),
    /// The program wrote to stderr, and [`Command::fail_on_stderr`](crate::Command::fail_on_stderr) forbade it.
    #[error("{0}")]
    UnexpectedStderr(Details),
    /// The program ran longer than its [`timeout`](crate::Command::timeout), or was silent longer than its
    /// [`idle_timeout`](crate::Command::idle_timeout), and was ended.
    #[error("{0}")]
    TimedOut(Details),
    /// The program wrote more than its [`limit`](crate::Command::limit), and was killed. The bytes up to the limit
    /// are in [`Error::output`].
    #[error("{0}")]
    OutputLimit(Details),
    /// stdout is not UTF-8. The bytes are in [`Error::output`].
    #[error("{0}")]
    NotUtf8(Details),
    /// Reading or writing a pipe of the child failed, and the child was killed. Or the system refused a signal or a
    /// resize, and the child keeps running.
    #[error("{details}")]
    Io {
        /// The error of the system, the reader or the writer.
        source: io::Error,
        /// The command, and the output so far.
        details: Details,
    },
    /// Another part of this program reaped the child (a `waitpid(-1)`, or an ignored `SIGCHLD`), and the status is
    /// lost. This cannot happen on Linux 6.15 and later with the first engine.
    ///
    /// In a forked copy of the program that started the child, every promise returns this.
    #[error("{0}")]
    StatusLost(Details),
    /// The signal was not sent: the child was reaped before, never ran, or belongs to another process, because
    /// this one is a forked copy.
    #[error("{0}")]
    AlreadyEnded(Details),
}

/// Why a command did not start.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Command, Error, SpawnReason};
/// let error = Command::new("true").current_dir("/no/such/folder").run().await.unwrap_err();
/// assert!(matches!(error, Error::Spawn { reason: SpawnReason::WorkingDirectory, .. }));
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpawnReason {
    /// There is no such program at its path, or in any folder of `PATH`.
    ProgramNotFound,
    /// The file exists, but it or its interpreter cannot be executed: it is no plain file, lacks the permission, or
    /// has an unknown format.
    NotExecutable,
    /// The working directory does not exist, is no directory, or may not be entered.
    WorkingDirectory,
    /// The program exists, but not its interpreter: the one in its `#!` line, or the loader in its ELF header.
    InterpreterMissing,
    /// The program's file is open for writing (`ETXTBSY`, execve(2)), and still was after some milliseconds.
    ///
    /// This can happen to a program that you have just written and closed. If another thread starts a process at that
    /// moment, that process has the file open until its own program runs. This crate tries again for that time, but
    /// never sleeps. If you know that it takes longer, sleep and call again.
    Busy,
    /// This process is a forked copy (fork(2)) of one that had started children. It has their handles, but not the
    /// threads that watch them.
    ///
    /// Fork before the first call, or execute a program after the fork. [`Promise`](crate::Promise) says what the
    /// copied handles do.
    Forked,
    /// Arguments and environment are longer than the system allows (`E2BIG`, execve(2)).
    ArgumentsTooLong,
    /// This process or the whole system has no file descriptor left (`EMFILE`, `ENFILE`).
    OutOfDescriptors,
    /// This user or the whole system has no process left (`EAGAIN`, fork(2)).
    OutOfProcesses,
    /// The child cannot become the user or group, or cannot set its supplementary groups (setuid(2), setgid(2),
    /// setgroups(2)).
    User,
    /// A limit or the nice value cannot be set (setrlimit(2), setpriority(2)).
    Limits,
    /// The system has no terminal to give, or does not let the child have it (pty(7), tty_ioctl(4)).
    Terminal,
    /// Anything else. The message and the error's source have the system's words.
    Other,
}

/// What is wrong with a command.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Error, InvalidReason};
/// let error = reaped::run("echo", ["a\0b"]).await.unwrap_err();
/// assert!(matches!(error, Error::Invalid { reason: InvalidReason::Nul, .. }));
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidReason {
    /// The program's name is empty, or a pipeline has no member.
    EmptyProgram,
    /// A NUL byte in the program, an argument, the environment or the working directory: the system
    /// would cut the text there.
    Nul,
    /// An environment variable's name is empty or contains `=`.
    EnvironmentName,
    /// A descriptor is negative or above the limit of open files, or must be inherited and is not open in the parent.
    Descriptor,
    /// Two settings contradict each other.
    Conflict,
    /// An earlier run of the command used up its `Stdio::reader`, `Stdio::tee` or `Stdio::writer`.
    ReaderUsed,
    /// A [`Reader`](crate::Reader) or [`Writer`](crate::Writer) cannot go to another child. Bytes were read ahead
    /// from it, it is copied, it belongs to a terminal, it is closed, or it had ended before it was taken.
    PipeInUse,
    /// The system has no signal of that number.
    Signal,
    /// The program is a batch file (`.bat`, `.cmd`), and an argument contains a line end. `cmd` runs the file, and
    /// stops reading there. Windows only.
    BatchArgument,
}

/// The command that failed, the system's words, and the output so far.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::Error;
/// match reaped::Command::new("false").run().await {
///     Err(Error::Failed(details)) => {
///         assert_eq!(details.to_string(), "`false` exited with code 1")
///     }
///     other => panic!("{other:?}"),
/// }
/// # });
/// ```
pub struct Details(Box<Inner>);

struct Inner {
    command: String,
    /// The member that failed, if the command is a pipeline.
    member: Option<String>,
    /// What follows the command in the message, without the separator.
    text: String,
    output: Option<Output>,
}

impl Error {
    /// The output captured before the error, and the exit status if it is known.
    ///
    /// It is `None` if the command never started. It is also `None` if a method of [`Control`](crate::Control) or a
    /// resize failed, because the promise keeps the output.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let error = reaped::run("sh", ["-c", "exit 3"]).await.unwrap_err();
    /// assert_eq!(error.output().unwrap().status.code(), Some(3));
    /// # });
    /// ```
    pub fn output(&self) -> Option<&Output> {
        self.details().output()
    }

    /// [`output`](Self::output), taken out without a copy.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let error = reaped::read("printf", [r"\377"]).await.unwrap_err();
    /// assert_eq!(error.into_output().unwrap().stdout, [0xff]);
    /// # });
    /// ```
    pub fn into_output(mut self) -> Option<Output> {
        self.take_output()
    }

    /// How the program ended, if it ran and the status is known.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let error = reaped::run("false", [""; 0]).await.unwrap_err();
    /// assert!(!error.status().unwrap().success());
    /// # });
    /// ```
    pub fn status(&self) -> Option<ExitStatus> {
        match self {
            // Neither a code nor a signal.
            Error::StatusLost(_) => None,
            error => error.output().map(|output| output.status),
        }
    }

    /// The exit code. It is `None` if a signal killed the program; see [`status`](Self::status).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::run("sh", ["-c", "exit 3"]).await.unwrap_err().code(), Some(3));
    /// # });
    /// ```
    pub fn code(&self) -> Option<i32> {
        self.status()?.code()
    }

    /// Why the program did not start; `None` for every other error.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::SpawnReason;
    /// let error = reaped::run("no-such-program", [""; 0]).await.unwrap_err();
    /// assert_eq!(error.spawn_reason(), Some(SpawnReason::ProgramNotFound));
    /// # });
    /// ```
    pub fn spawn_reason(&self) -> Option<SpawnReason> {
        match self {
            Error::Spawn { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// The member of a pipeline that failed, as the message quotes it.
    ///
    /// It is `None` outside of a [`Pipeline`](crate::Pipeline), and for errors of the whole pipeline: stdout that is
    /// not UTF-8, or a bound that contradicts another.
    ///
    /// A program that SIGPIPE killed because its reader had read enough (`yes | head`) has not failed.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let error = Command::new("false").pipe(Command::new("cat")).run().await.unwrap_err();
    /// assert_eq!(error.member(), Some("false"));
    /// # });
    /// ```
    pub fn member(&self) -> Option<&str> {
        self.details().0.member.as_deref()
    }

    /// The command as the message quotes it.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let error = reaped::run("no-such-program", ["a b"]).await.unwrap_err();
    /// assert_eq!(error.command(), "no-such-program 'a b'");
    /// # });
    /// ```
    pub fn command(&self) -> &str {
        &self.details().0.command
    }

    /// For the gpg recipe, which removes secrets from the message and from the quoted stderr.
    #[cfg(unix)]
    pub(crate) fn edit(&mut self, mut edit: impl FnMut(&mut [u8])) {
        let inner = &mut self.details_mut().0;
        let mut text = std::mem::take(&mut inner.text).into_bytes();
        edit(&mut text);
        inner.text = String::from_utf8(text)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        inner.output.iter_mut().for_each(|output| edit(&mut output.stderr));
    }

    /// This error of one member, as the error of its whole pipeline.
    pub(crate) fn of_pipeline(mut self, command: String, output: Option<Output>) -> Self {
        let inner = &mut self.details_mut().0;
        inner.member = Some(std::mem::replace(&mut inner.command, command));
        inner.output = output;
        self
    }

    /// Takes the output out; [`of_pipeline`](Self::of_pipeline) puts it back.
    pub(crate) fn take_output(&mut self) -> Option<Output> {
        self.details_mut().0.output.take()
    }

    /// For the gpg recipe, which removes the plaintext.
    #[cfg(unix)]
    pub(crate) fn output_mut(&mut self) -> Option<&mut Output> {
        self.details_mut().0.output.as_mut()
    }

    fn details(&self) -> &Details {
        match self {
            Error::Spawn { details, .. }
            | Error::Invalid { details, .. }
            | Error::Io { details, .. }
            | Error::Failed(details)
            | Error::UnexpectedStderr(details)
            | Error::TimedOut(details)
            | Error::OutputLimit(details)
            | Error::NotUtf8(details)
            | Error::StatusLost(details)
            | Error::AlreadyEnded(details) => details,
        }
    }

    fn details_mut(&mut self) -> &mut Details {
        match self {
            Error::Spawn { details, .. }
            | Error::Invalid { details, .. }
            | Error::Io { details, .. }
            | Error::Failed(details)
            | Error::UnexpectedStderr(details)
            | Error::TimedOut(details)
            | Error::OutputLimit(details)
            | Error::NotUtf8(details)
            | Error::StatusLost(details)
            | Error::AlreadyEnded(details) => details,
        }
    }

    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Error::Spawn { reason, source, .. } => match reason {
                SpawnReason::ProgramNotFound | SpawnReason::InterpreterMissing => io::ErrorKind::NotFound,
                SpawnReason::NotExecutable => io::ErrorKind::PermissionDenied,
                SpawnReason::ArgumentsTooLong => io::ErrorKind::ArgumentListTooLong,
                // Not the kind of the program: "not found" would be mistaken for it.
                SpawnReason::Other | SpawnReason::Terminal if source.kind() == io::ErrorKind::NotFound => {
                    io::ErrorKind::Other
                }
                _ => source.kind(),
            },
            Error::Invalid { .. } => io::ErrorKind::InvalidInput,
            Error::NotUtf8(_) => io::ErrorKind::InvalidData,
            Error::Io { source, .. } => source.kind(),
            // ESRCH, for which std has no kind.
            Error::AlreadyEnded(_) => io::ErrorKind::NotFound,
            Error::TimedOut(_) => io::ErrorKind::TimedOut,
            Error::Failed(_) | Error::UnexpectedStderr(_) | Error::OutputLimit(_) | Error::StatusLost(_) => {
                io::ErrorKind::Other
            }
        }
    }
}

/// The error has the fitting kind, so `?` works in functions that return [`io::Result`]. This error stays inside
/// ([`io::Error::into_inner`]).
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}

/// As derived, but always on one line.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, reason, source): (_, Option<&dyn fmt::Debug>, _) = match self {
            Error::Spawn { reason, source, .. } => ("Spawn", Some(reason), Some(source)),
            Error::Invalid { reason, .. } => ("Invalid", Some(reason), None),
            Error::Io { source, .. } => ("Io", None, Some(source)),
            Error::Failed(_) => ("Failed", None, None),
            Error::UnexpectedStderr(_) => ("UnexpectedStderr", None, None),
            Error::TimedOut(_) => ("TimedOut", None, None),
            Error::OutputLimit(_) => ("OutputLimit", None, None),
            Error::NotUtf8(_) => ("NotUtf8", None, None),
            Error::StatusLost(_) => ("StatusLost", None, None),
            Error::AlreadyEnded(_) => ("AlreadyEnded", None, None),
        };
        if reason.is_none() && source.is_none() {
            return f.debug_tuple(name).field(self.details()).finish();
        }
        let mut debug = f.debug_struct(name);
        if let Some(reason) = reason {
            debug.field("reason", reason);
        }
        if let Some(source) = source {
            debug.field("source", &format_args!("{}", one_line(&format!("{source:?}"))));
        }
        debug.field("details", self.details()).finish()
    }
}

/// Why a child was not started, before the command's text is known.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// The text after the command.
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) enum Reason {
    Spawn(SpawnReason, io::Error),
    Invalid(InvalidReason),
}

impl Refusal {
    pub(crate) fn invalid(reason: InvalidReason, text: impl Into<String>) -> Self {
        Refusal { reason: Reason::Invalid(reason), text: text.into() }
    }

    /// The `Stdio` of this descriptor serves one run only.
    pub(crate) fn used_up(fd: i32) -> Self {
        let text = format!("what was given for descriptor {fd} was used up by an earlier run");
        Refusal::invalid(InvalidReason::ReaderUsed, text)
    }

    pub(crate) fn spawn(reason: SpawnReason, text: impl Into<String>, source: io::Error) -> Self {
        Refusal { reason: Reason::Spawn(reason, source), text: text.into() }
    }

    /// A system file that this crate needs could not be opened. The program itself is not missing.
    #[cfg(unix)]
    pub(crate) fn of_file(file: &str, error: io::Error) -> Self {
        let mut refusal = Refusal::os(error);
        if let Reason::Spawn(SpawnReason::Other, _) = refusal.reason {
            refusal.text = format!("cannot open {file}: {}", refusal.text);
        }
        refusal
    }

    /// A failure that its number explains.
    pub(crate) fn os(error: io::Error) -> Self {
        #[cfg(unix)]
        {
            let (reason, what) = match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => {
                    (SpawnReason::OutOfDescriptors, "no file descriptor left")
                }
                Some(libc::EAGAIN) => (SpawnReason::OutOfProcesses, "no process left"),
                Some(libc::E2BIG) => (
                    SpawnReason::ArgumentsTooLong,
                    "arguments and environment are longer than the system allows",
                ),
                _ => return Refusal::spawn(SpawnReason::Other, error.to_string(), error),
            };
            Refusal::spawn(reason, what, error)
        }
        #[cfg(not(unix))]
        Refusal::spawn(SpawnReason::Other, error.to_string(), error)
    }

    pub(crate) fn into_error(self, command: String) -> Error {
        let details = Details::new(command, self.text, None);
        match self.reason {
            Reason::Spawn(reason, source) => Error::Spawn { reason, source, details },
            Reason::Invalid(reason) => Error::Invalid { reason, details },
        }
    }
}

impl Details {
    /// The output captured before the error, and the exit status if it is known; see [`Error::output`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::Error;
    /// match reaped::read("sh", ["-c", "echo half; exit 1"]).await {
    ///     Err(Error::Failed(details)) => assert_eq!(details.output().unwrap().stdout, b"half\n"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # });
    /// ```
    pub fn output(&self) -> Option<&Output> {
        self.0.output.as_ref()
    }

    /// The text may quote anything: a path, an error of the caller's reader, the child.
    fn new(command: String, text: String, output: Option<Output>) -> Self {
        Details(Box::new(Inner { command, member: None, text: shorten(one_line(&text)), output }))
    }

    /// For a child whose output is elsewhere.
    pub(crate) fn about(command: &str, text: String) -> Self {
        Details::new(command.to_owned(), text, None)
    }

    /// For a child that ran: how it ended, then the end of its stderr.
    pub(crate) fn ended(output: Output) -> Self {
        let member = output.decisive();
        let decisive = member.unwrap_or(&output);
        let mut text = explain(decisive);
        // The last member's stdout is in the output of the whole.
        let end = match output.merged {
            true => output.stderr_or_merged(),
            false => decisive.end_of(2, &decisive.stderr),
        };
        push_tail(&mut text, end);
        let member = member.map(|member| member.command.clone());
        let mut details = Details::of(output, text);
        details.0.member = member;
        details
    }

    /// For a child that this crate ended: why, how it ended, then the end of its stderr.
    pub(crate) fn stopped(output: Output, why: String) -> Self {
        let mut text = format!("{why} and {}", describe(output.status));
        push_tail(&mut text, output.stderr_or_merged());
        Details::of(output, text)
    }

    /// For a child that ran, with a given text.
    pub(crate) fn of(output: Output, text: String) -> Self {
        let command = output.command.clone();
        Details::new(command, text, Some(output))
    }
}

/// The message after "cannot start" or "invalid command", or alone: `` `command` what happened``.
impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.0.output.is_some() { "" } else { ":" };
        write!(f, "`{}`", self.0.command)?;
        if let Some(member) = &self.0.member {
            write!(f, ": `{member}`")?;
        }
        write!(f, "{separator} {}", self.0.text)
    }
}

/// The message, because a `main` that returns the error shows this.
impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error itself if nobody else holds it, or a copy.
pub(crate) fn unshared(error: Arc<io::Error>) -> io::Error {
    Arc::try_unwrap(error).unwrap_or_else(|shared| copy(&shared))
}

/// A system error cannot be cloned, but its number can. Any other keeps its kind and text.
pub(crate) fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// A message shows only these last bytes of stderr.
pub(crate) const TAIL: usize = 1200;

/// Appends `: ` and the last lines of stderr, on one line.
pub(crate) fn push_tail(text: &mut String, said: &[u8]) {
    const LINES: usize = 3;
    const MOST: usize = TAIL / 4;
    // Bound the work first: a line can be as long as all memory.
    let end = &said[said.len().saturating_sub(TAIL)..];
    let end = String::from_utf8_lossy(end);
    let mut lines: Vec<&str> =
        end.lines().rev().map(str::trim).filter(|l| !l.is_empty()).take(LINES).collect();
    lines.reverse();
    let tail = one_line(&lines.join("; "));
    if tail.is_empty() {
        return;
    }
    text.push_str(": ");
    match tail.char_indices().rev().nth(MOST - 1) {
        Some((cut, _)) if cut > 0 => {
            text.push('…');
            text.push_str(&tail[cut..]);
        }
        _ => text.push_str(&tail),
    }
}

/// Escapes what would break the line, control the reader's terminal, or be invisible.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Whether a character is invisible or changes the text around it. These are Unicode's control and format characters
/// (some turn the direction of writing), line and paragraph separators, and blank fillers. Variation selectors
/// (U+FE0F) pass, because emoji end in one.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Drops the middle of a very long text, such as a path or a reader's error. The words around it stay.
fn shorten(text: String) -> String {
    const HALF: usize = 250;
    if text.chars().nth(2 * HALF).is_none() {
        return text;
    }
    let place = |found: Option<(usize, char)>| found.map_or(0, |(start, _)| start);
    let first = &text[..place(text.char_indices().nth(HALF))];
    let last = &text[place(text.char_indices().rev().nth(HALF - 1))..];
    format!("{first}…{last}")
}

/// The most characters of a command.
const MOST_SHOWN: usize = 160;

/// A command as a person would type it, with a bounded length. A shell reads the same words back.
pub(crate) fn quote<'a>(program: &'a OsStr, args: impl IntoIterator<Item = &'a OsStr>) -> String {
    let mut line = String::new();
    let (mut args, mut next) = (args.into_iter(), Some(program));
    while let Some(word) = next {
        let is_first = line.is_empty();
        if !is_first {
            line.push(' ');
        }
        push_quoted(&mut line, word.as_encoded_bytes(), is_first);
        if cut(&mut line) {
            break;
        }
        next = args.next();
    }
    line
}

/// A pipeline as a person would type it, cut at the same length.
pub(crate) fn join(commands: impl Iterator<Item = String>) -> String {
    let mut line = commands.collect::<Vec<_>>().join(" | ");
    cut(&mut line);
    line
}

/// Cuts a command to the bounded length. Returns whether it was too long.
fn cut(line: &mut String) -> bool {
    let Some((place, _)) = line.char_indices().nth(MOST_SHOWN) else { return false };
    line.truncate(place);
    line.push('…');
    true
}

/// Quotes one word so that a POSIX shell reads it back.
fn push_quoted(line: &mut String, word: &[u8], is_first: bool) {
    // Not more than this of a longer word: a character has at most four bytes.
    let (word, is_whole) = match word.get(..4 * (MOST_SHOWN + 1)) {
        Some(part) if part.len() < word.len() => (part, false),
        _ => (word, true),
    };
    let text = match std::str::from_utf8(word) {
        Ok(text) => Some(text),
        // The cut may be within a character.
        Err(error) if !is_whole && error.error_len().is_none() => {
            std::str::from_utf8(&word[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text {
        Some(text) if is_plain(text, is_first) => line.push_str(text),
        Some(text) if !text.chars().any(is_unseen) => {
            line.push('\'');
            line.push_str(&text.replace('\'', r"'\''"));
            line.push('\'');
        }
        _ => push_printed(line, word),
    }
}

/// Whether a shell takes the word as it is.
fn is_plain(word: &str, is_first: bool) -> bool {
    /// Words that begin or end a construct in a command's place, in POSIX and bash.
    const RESERVED: &[&str] = &[
        "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in",
        "select", "then", "time", "until", "while",
    ];
    let plain = |c: char| c.is_alphanumeric() && !is_unseen(c) || "_-./=:,@%+".contains(c);
    // `a=b` in front of a command sets a variable; zsh expands `=a`.
    let assigns = |word: &str| word.contains('=') && is_first || word.starts_with('=');
    let reserved = |word: &str| is_first && RESERVED.contains(&word);
    !word.is_empty() && word.chars().all(plain) && !assigns(word) && !reserved(word)
}

/// Any bytes, as an argument of printf(1): not every `sh` has `$'…'`.
fn push_printed(line: &mut String, word: &[u8]) {
    // `$(…)` removes line ends at the end.
    let printed = word.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
    let line_ends = word.len() - printed;
    line.push('"');
    if printed > 0 {
        line.push_str("$(printf '");
        let start = line.len();
        for chunk in word[..printed].utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' => line.push_str(r"\n"),
                    '\t' => line.push_str(r"\t"),
                    '\r' => line.push_str(r"\r"),
                    '\\' => line.push_str(r"\\"),
                    '%' => line.push_str("%%"),
                    // It would end the quotation, be an option, or start bash's history, which works in double quotes
                    // too.
                    '\'' | '!' => push_octal(line, c),
                    '-' if line.len() == start => push_octal(line, c),
                    c if is_unseen(c) => push_octal(line, c),
                    c => line.push(c),
                }
            }
            push_octal_bytes(line, chunk.invalid());
        }
        line.push_str("')");
    }
    for _ in 0..line_ends {
        // A shell starts with space, tab and line end in IFS, even if it inherits another value.
        line.push_str("${IFS#??}");
    }
    line.push('"');
}

fn push_octal(line: &mut String, c: char) {
    push_octal_bytes(line, c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn push_octal_bytes(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        line.push_str(&format!("\\{byte:03o}"));
    }
}

//! Ground: everything that can go wrong, and how it is told to a person. Plain data and text; knows
//! nothing of how processes run.
//!
//! Rules: each message is one line of characters that can be seen, whoever wrote its parts; the quoted command is read
//! back by a POSIX shell; it, the quoted stderr and the whole are cut at a sane length; neither the environment nor
//! what was fed to a descriptor is ever shown.

mod cause;
mod of_output;

use std::ffi::OsStr;
use std::process::ExitStatus;
use std::{fmt, io};

use crate::output::Output;
use cause::describe;
pub(crate) use cause::explain;

/// Why a call did not give its value.
///
/// Every error after the start carries what was collected until then: see [`Error::output`].
/// The text is one line, made to be shown to a person:
///
/// ```
/// # futures::executor::block_on(async {
/// let error = reaped::read("sh", ["-c", "echo no such branch >&2; exit 4"]).await.unwrap_err();
/// assert_eq!(error.to_string(), "`sh -c 'echo no such branch >&2; exit 4'` exited with code 4: no such branch");
/// assert_eq!(error.output().unwrap().status.code(), Some(4));
/// # });
/// ```
///
/// A missing program can be told apart from one that failed:
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Error, SpawnReason};
/// match reaped::read("no-such-program", [""; 0]).await {
///     Err(Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }) => println!("please install it"),
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
        /// What stood in the way.
        reason: SpawnReason,
        /// What the system said.
        source: io::Error,
        /// The command, and what was wrong with it.
        details: Details,
    },
    /// The command can never be started as it is, and nothing was tried; or a running child was asked for what it
    /// cannot do, which it does not feel.
    #[error("invalid command {details}")]
    Invalid {
        /// What is wrong with it.
        reason: InvalidReason,
        /// The command, and where in it the fault lies.
        details: Details,
    },
    /// The program was killed by a signal, or exited with a code that is neither 0 nor one of its
    /// [`ok_codes`](crate::Command::ok_codes).
    ///
    /// If more was seen, the message says more:
    ///
    /// - what the system sends SIGXCPU, SIGXFSZ and SIGSYS for;
    /// - what a shell means by the codes 126, 127, and 128 plus the number of a signal, if the program is a shell by its
    ///   name (`sh`, `bash`, `dash`, `zsh`, `ksh`, `ash`, `busybox sh`);
    /// - "probably out of memory", if SIGKILL has ended the child, or a shell says so of its program; if nobody sent it
    ///   through this crate; and if the kernel's OOM killer has killed in this program's cgroup while the child ran, or up
    ///   to 20 ms before. That is known on Linux, if `/sys/fs/cgroup` shows this program's own cgroup.
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
    /// The program ran for longer than [`Command::timeout`](crate::Command::timeout), or was silent for
    /// longer than [`Command::idle_timeout`](crate::Command::idle_timeout), and was ended for it.
    #[error("{0}")]
    TimedOut(Details),
    /// The program wrote more than [`Command::limit`](crate::Command::limit), and was killed for it; the
    /// bytes up to the limit are in [`Error::output`].
    #[error("{0}")]
    OutputLimit(Details),
    /// What the program wrote to stdout is not UTF-8; the bytes are in [`Error::output`].
    #[error("{0}")]
    NotUtf8(Details),
    /// Moving bytes from or to the running child failed, and the child was killed for it; or the system refused a
    /// signal or a resize, and the child runs on.
    #[error("{details}")]
    Io {
        /// What the system or the reader said.
        source: io::Error,
        /// The command, and what was collected.
        details: Details,
    },
    /// Somebody else reaped the child (a stray `waitpid(-1)`, or `SIGCHLD` is ignored), and nobody knows how it ended:
    /// before Linux 6.15, and on other systems. Or this is a forked copy of the process whose child it is.
    #[error("{0}")]
    StatusLost(Details),
    /// A signal was to be sent to a child that had ended and was reaped, or never ran, or is another process's, of
    /// which this one is a forked copy.
    #[error("{0}")]
    AlreadyEnded(Details),
}

/// What stood in the way of a start.
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
    /// No such program, neither at its path nor in any folder of `PATH`.
    ProgramNotFound,
    /// There is a file, but it or its interpreter is a directory or another thing that is no plain file, lacks the
    /// permission, or has no known format.
    NotExecutable,
    /// The working directory is missing, is no directory, or may not be entered.
    WorkingDirectory,
    /// The program is there, but the interpreter that its first line names is not, or the loader that its ELF header
    /// names, or what one of these needs in turn.
    InterpreterMissing,
    /// The program's file is open for writing (`ETXTBSY`, execve(2)), and was still so after some milliseconds.
    ///
    /// Whoever writes a program and then runs it may see this although the file was closed before: another thread has
    /// started a process at that moment, which had the file open until its own program ran. For as long as that
    /// usually takes the start is tried again. A call never sleeps; a caller who knows better sleeps, and calls again.
    Busy,
    /// This process is a forked copy (fork(2)) of one that had started children before: it has their handles, and
    /// not the threads that watch them.
    ///
    /// A host that forks does so before its first call, or executes a program after it. What happens to the handles
    /// in the copy, [`Promise`](crate::Promise) tells.
    Forked,
    /// Arguments and environment are longer than the system allows (`E2BIG`, execve(2)).
    ArgumentsTooLong,
    /// This process or the whole system has no file descriptor left (`EMFILE`, `ENFILE`).
    OutOfDescriptors,
    /// This user or the whole system has no process left (`EAGAIN`, fork(2)).
    OutOfProcesses,
    /// The child cannot become the user or the group, or its supplementary groups cannot be set (setuid(2), setgid(2),
    /// setgroups(2)).
    User,
    /// A limit or the nice value cannot be set (setrlimit(2), setpriority(2)).
    Limits,
    /// The system has no terminal to give, or does not let the child have it (pty(7), tty_ioctl(4)).
    Terminal,
    /// Anything else; the system's own words are in the message and in the error's source.
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
    /// A descriptor number that is negative or above the limit of open files; or a descriptor that was to be inherited,
    /// and is not open in the parent.
    Descriptor,
    /// Two settings contradict each other.
    Conflict,
    /// What was given to `Stdio::reader`, `Stdio::tee` or `Stdio::writer` was used up by an earlier run of the same
    /// command.
    ReaderUsed,
    /// A [`Reader`](crate::Reader) or [`Writer`](crate::Writer) cannot be handed on to another child: bytes were read
    /// ahead from it, it is copied, it is a terminal's, it is closed, or it had ended before it was taken.
    PipeInUse,
    /// The system knows no signal of that number.
    Signal,
    /// The program is a batch file (`.bat`, `.cmd`), and an argument has a line end in it: `cmd`, which runs the file,
    /// reads no further than that. Windows only.
    BatchArgument,
}

/// The command that an error is about, what the system said, and what was collected.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::Error;
/// match reaped::Command::new("false").run().await {
///     Err(Error::Failed(details)) => assert_eq!(details.to_string(), "`false` exited with code 1"),
///     other => panic!("{other:?}"),
/// }
/// # });
/// ```
pub struct Details(Box<Inner>);

struct Inner {
    command: String,
    /// Whose fault it is, where the command is a pipeline.
    member: Option<String>,
    /// What follows the command in the message, without the separator.
    text: String,
    output: Option<Output>,
}

impl Error {
    /// What was collected before the error, with the exit status if it is known.
    ///
    /// `None` for a command that never started, and if a call of [`Control`](crate::Control) or a resize failed: the
    /// child and its output are the promise's.
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

    /// How the program ended, if it ran and that is known.
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

    /// The exit code; `None` also for a death by signal.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::run("sh", ["-c", "exit 3"]).await.unwrap_err().code(), Some(3));
    /// # });
    /// ```
    pub fn code(&self) -> Option<i32> {
        self.status()?.code()
    }

    /// Why the program was not started; `None` for every other error.
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

    /// The member of a pipeline that is to blame, as the message quotes it.
    ///
    /// `None` for a call that is not of a [`Pipeline`](crate::Pipeline), and for what no member alone has done: stdout
    /// that is not UTF-8, a bound that contradicts the whole.
    ///
    /// A program that was killed because its reader had read enough (SIGPIPE, as of `yes | head`) is not to blame.
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

    /// For the gpg recipe, which takes secrets out of the message and of what it quotes.
    #[cfg(unix)]
    pub(crate) fn edit(&mut self, mut edit: impl FnMut(&mut [u8])) {
        let inner = &mut self.details_mut().0;
        let mut text = std::mem::take(&mut inner.text).into_bytes();
        edit(&mut text);
        inner.text = String::from_utf8(text)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        inner.output.iter_mut().for_each(|output| edit(&mut output.stderr));
    }

    /// This error of one member, as that of its whole pipeline.
    pub(crate) fn of_pipeline(mut self, command: String, output: Option<Output>) -> Self {
        let inner = &mut self.details_mut().0;
        inner.member = Some(std::mem::replace(&mut inner.command, command));
        inner.output = output;
        self
    }

    /// What was collected, to be put back by [`of_pipeline`](Self::of_pipeline).
    pub(crate) fn take_output(&mut self) -> Option<Output> {
        self.details_mut().0.output.take()
    }

    /// For the gpg recipe, which takes the plaintext out.
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
                // Not the program: "not found" would be taken for that.
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

/// With the fitting kind, so that `?` works in functions that return [`io::Result`]; the error
/// itself stays inside ([`io::Error::into_inner`]).
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}

/// As a derived one, but on one line, whatever the source's author has made of it.
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
    /// What to tell after the command.
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

    /// What was given for the descriptor serves one run only.
    pub(crate) fn used_up(fd: i32) -> Self {
        let text = format!("what was given for descriptor {fd} was used up by an earlier run");
        Refusal::invalid(InvalidReason::ReaderUsed, text)
    }

    pub(crate) fn spawn(reason: SpawnReason, text: impl Into<String>, source: io::Error) -> Self {
        Refusal { reason: Reason::Spawn(reason, source), text: text.into() }
    }

    /// A file of the system's that we needed could not be opened: it is not the program that was missing.
    #[cfg(unix)]
    pub(crate) fn of_file(file: &str, error: io::Error) -> Self {
        let mut refusal = Refusal::os(error);
        if let Reason::Spawn(SpawnReason::Other, _) = refusal.reason {
            refusal.text = format!("cannot open {file}: {}", refusal.text);
        }
        refusal
    }

    /// A failure whose meaning lies in its number alone.
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
    /// What was collected before the error, with the exit status if it is known; see [`Error::output`].
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

    /// The text may quote anybody: a path of the caller's, the caller's reader, the child.
    fn new(command: String, text: String, output: Option<Output>) -> Self {
        Details(Box::new(Inner { command, member: None, text: shorten(one_line(&text)), output }))
    }

    /// Of a child of which nothing was collected here.
    pub(crate) fn about(command: &str, text: String) -> Self {
        Details::new(command.to_owned(), text, None)
    }

    /// Of a child that ran: how it ended, then the end of what it wrote to stderr.
    pub(crate) fn ended(output: Output) -> Self {
        let member = output.decisive();
        let decisive = member.unwrap_or(&output);
        let mut text = explain(decisive);
        // What the last member of a pipeline wrote to stdout is in the whole.
        let end = match output.merged {
            true => output.complaints(),
            false => decisive.end_of(2, &decisive.stderr),
        };
        push_tail(&mut text, end);
        let member = member.map(|member| member.command.clone());
        let mut details = Details::of(output, text);
        details.0.member = member;
        details
    }

    /// Of a child that we ended: why, how it ended, then the end of what it wrote to stderr.
    pub(crate) fn stopped(output: Output, why: String) -> Self {
        let mut text = format!("{why} and {}", describe(output.status));
        push_tail(&mut text, output.complaints());
        Details::of(output, text)
    }

    /// Of a child that ran, with a text of its own.
    pub(crate) fn of(output: Output, text: String) -> Self {
        let command = output.command.clone();
        Details::new(command, text, Some(output))
    }
}

/// The message behind "cannot start", "invalid command", or alone: `` `command` what happened``.
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

/// The message, since this is what a `main` that returns the error shows.
impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An error of the system cannot be cloned, but its number can; of any other the kind and the words.
pub(crate) fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// A message shows nothing that comes before so many of the last bytes.
pub(crate) const TAIL: usize = 1200;

/// Appends `: ` and the last lines of what a child has complained of, on one line.
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

/// Escapes what would break the line, play with the reader's terminal, or hide.
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

/// Whether a character does something to the text around it, or looks like nothing at all: Unicode's control and
/// format characters (among them those that turn the direction of writing), its line and paragraph separators, and
/// fillers without a shape. Selectors of a variant (U+FE0F) are let through: emoji end in one.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Leaves out the middle of what is very long: a path or the words of a reader. What is said of it stands around it.
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

/// A command as a person would type it, cut at a sane length. A shell that is given it reads the same words.
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

/// Cuts a command at a sane length; whether it was too long.
fn cut(line: &mut String) -> bool {
    let Some((place, _)) = line.char_indices().nth(MOST_SHOWN) else { return false };
    line.truncate(place);
    line.push('…');
    true
}

/// One word in the way in which a POSIX shell reads it back.
fn push_quoted(line: &mut String, word: &[u8], is_first: bool) {
    // Of a longer word more than this is not shown: four bytes make a character at the most.
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
    /// What begins or ends a construct where a command could stand, in POSIX and bash.
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

/// Any bytes, as what printf(1) prints: `$'…'` is not known to every `sh`.
fn push_printed(line: &mut String, word: &[u8]) {
    // `$(…)` takes line ends off the end.
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
                    // Of a quotation; of an option; of bash's history, which double quotes do not keep out.
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
        // A shell begins with space, tab and line end in IFS, whatever it has inherited.
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

//! Ground: what one descriptor of a child is to be connected to. Plain data; opens nothing, except
//! that a descriptor which the caller lends is duplicated at once.

use std::fmt;
use std::fs::File;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};

use futures_io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

/// What one descriptor of a child is connected to.
///
/// | constructor | the child's end | in Twisted's `childFDs` |
/// | --- | --- | --- |
/// | [`inherit`](Self::inherit) | the parent's descriptor of the same number | the same integer |
/// | [`null`](Self::null) | the null device | |
#[cfg_attr(
    unix,
    doc = "| [`parent_fd`](Self::parent_fd), `From<OwnedFd>`, `From<File>`, … | that open file | an integer |"
)]
#[cfg_attr(not(unix), doc = "| `From<File>`, … | that open file | an integer |")]
/// | [`output`](Self::output) | a pipe out of the child, captured | `"r"` |
/// | [`bytes`](Self::bytes), [`shared`](Self::shared), [`secret`](Self::secret) | a pipe with these bytes, then end of file | `"w"`, write, close |
/// | [`reader`](Self::reader) | a pipe fed from an `AsyncRead` | `registerProducer` |
/// | [`same_as`](Self::same_as) | the same open file as another of its descriptors | `errortoo` |
/// | [`input`](Self::input) | a pipe that [`Process::writer`](crate::Process::writer) writes | `"w"` |
/// | [`tee`](Self::tee) | a pipe out of the child, captured and copied to an `AsyncWrite` | |
/// | [`tee_inherit`](Self::tee_inherit) | the same, copied to the parent's own stdout or stderr | |
/// | [`writer`](Self::writer) | a pipe out of the child, copied and not kept | |
/// | [`piped`](Self::piped) | [`input`](Self::input) on stdin, [`output`](Self::output) elsewhere | |
/// | [`closed`](Self::closed) | nothing | an absent key |
///
/// A `Stdio` stays in its `Command` and serves every run of it; only a [`reader`](Self::reader),
/// a [`tee`](Self::tee) and a [`writer`](Self::writer) are used up by the first.
///
/// A child that does not read its input is no error: the feed ends quietly when the child closes its
/// end (`EPIPE`).
///
/// # Platform
/// Windows has 0, 1 and 2, and no `parent_fd`: a `File` is given, or one that was duplicated with `try_clone`.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Command, Stdio};
/// let upper = Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdio::bytes("shout")).read().await?;
/// assert_eq!(upper, "SHOUT");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// A clone is connected to the same: an open file is shared, and a reader, a tee or a writer is used up by the first
/// run of either.
#[derive(Clone)]
pub struct Stdio(pub(crate) Kind);

/// An open file of the parent's.
#[cfg(unix)]
pub(crate) type OpenFile = OwnedFd;
#[cfg(windows)]
pub(crate) type OpenFile = File;

#[derive(Clone)]
pub(crate) enum Kind {
    Inherit,
    Null,
    Closed,
    /// A pipe out of the child.
    Output,
    /// `Output`, of which no copy stays behind with us: neither where the buffer grows, nor where nobody takes it.
    #[cfg(unix)]
    Wiped,
    /// `Output`, or on stdin what std does there: a pipe that nobody feeds.
    Piped,
    Open(Arc<OpenFile>),
    /// Lending failed; told when the command is run, since constructors do not fail.
    Broken(Arc<std::io::Error>),
    /// A pipe end of another child's that cannot be handed on, and why.
    #[cfg(unix)]
    InUse(&'static str),
    Bytes(Feed),
    Reader(ReaderSlot),
    /// A pipe into the child that the user writes.
    Input,
    /// `Output`, with a copy.
    Tee(WriterSlot),
    /// `Tee`, to the parent's own.
    TeeInherit,
    /// `Tee`, of which nothing is kept.
    Writer(WriterSlot),
    SameAs(i32),
}

impl Kind {
    /// Whether bytes go through our hands.
    pub(crate) fn is_pipe(&self) -> bool {
        match self {
            Kind::Output | Kind::Piped | Kind::Input | Kind::Bytes(_) | Kind::Reader(_) => true,
            Kind::Tee(_) | Kind::TeeInherit | Kind::Writer(_) => true,
            #[cfg(unix)]
            Kind::InUse(_) => false,
            #[cfg(unix)]
            Kind::Wiped => true,
            Kind::Inherit | Kind::Null | Kind::Closed | Kind::Open(_) | Kind::Broken(_) | Kind::SameAs(_) => {
                false
            }
        }
    }
}

/// Bytes to feed into a child. Shared, so that many runs feed from one buffer without a copy.
#[derive(Clone)]
pub(crate) enum Feed {
    Plain(Arc<Vec<u8>>),
    /// The user's own, whoever else has them.
    Shared(Arc<dyn Bytes>),
    /// Wiped when the last run that feeds it and its command are gone.
    Secret(Arc<Zeroizing<Vec<u8>>>),
}

impl Feed {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Feed::Plain(bytes) => bytes,
            Feed::Shared(bytes) => bytes.as_slice(),
            Feed::Secret(bytes) => bytes,
        }
    }
}

/// Bytes that somebody else may have, too.
pub(crate) trait Bytes: Send + Sync {
    fn as_slice(&self) -> &[u8];
}

struct Owner<T: ?Sized>(Arc<T>);

impl<T: AsRef<[u8]> + Send + Sync + ?Sized> Bytes for Owner<T> {
    fn as_slice(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

pub(crate) type BoxReader = Pin<Box<dyn AsyncRead + Send>>;

/// Emptied by the first run.
pub(crate) type ReaderSlot = Arc<Mutex<Option<BoxReader>>>;

pub(crate) type BoxWriter = Pin<Box<dyn AsyncWrite + Send>>;

/// Emptied by the first run.
pub(crate) type WriterSlot = Arc<Mutex<Option<BoxWriter>>>;

/// The size of a terminal in characters; see [`Command::pty`](crate::Command::pty). Unix only.
///
/// ```
/// let size = reaped::PtySize { rows: 50, ..Default::default() };
/// assert_eq!(size.columns, 80);
/// ```
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PtySize {
    /// Lines; 24 by default.
    pub rows: u16,
    /// Characters in a line; 80 by default.
    pub columns: u16,
}

#[cfg(unix)]
impl Default for PtySize {
    fn default() -> Self {
        PtySize { rows: 24, columns: 80 }
    }
}

impl Stdio {
    /// The parent's descriptor of the same number, as a shell would do.
    ///
    /// A standard descriptor (0, 1, 2) that the parent itself has closed stays closed in the child;
    /// any other that is not open is [`InvalidReason::Descriptor`](crate::InvalidReason::Descriptor).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// Command::new("true").stdout(Stdio::inherit()).output().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn inherit() -> Self {
        Stdio(Kind::Inherit)
    }

    /// The null device, open for reading and writing: end of file for whoever reads, a sink for whoever writes.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// assert_eq!(Command::new("cat").stdin(Stdio::null()).read().await?, "");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn null() -> Self {
        Stdio(Kind::Null)
    }

    /// Closed in the child.
    ///
    /// Few programs expect this of 0, 1 or 2: the next file that they open gets that number. Prefer
    /// [`null`](Self::null).
    ///
    /// # Platform
    /// On Windows, closing all three is [`InvalidReason::Conflict`](crate::InvalidReason::Conflict): the
    /// system would give the child the console's.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let output = Command::new("cat").stdin(Stdio::closed()).output().await?;
    /// assert!(!output.status.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn closed() -> Self {
        Stdio(Kind::Closed)
    }

    /// A pipe out of the child; what it writes is captured, on any descriptor.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let output = Command::new("sh").args(["-c", "echo five >&5"]).fd(5, Stdio::output()).output().await?;
    /// assert_eq!(output.fd(5), Some(&b"five\n"[..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn output() -> Self {
        Stdio(Kind::Output)
    }

    /// std's word for a pipe: [`input`](Self::input) on stdin, [`output`](Self::output) elsewhere.
    ///
    /// With a verb other than `spawn` stdin is closed at once, as std's `output` does it: the child
    /// reads end of file.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let output = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).output().await?;
    /// assert_eq!(output.stdout, b"");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn piped() -> Self {
        Stdio(Kind::Piped)
    }

    /// A pipe into the child that carries these bytes and then end of file.
    ///
    /// The bytes are fed while output is read, so no size deadlocks. A `Vec` or `String` is moved in,
    /// not copied, and serves every run of the command.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let count = Command::new("wc").arg("-c").stdin(Stdio::bytes(vec![b'x'; 1 << 20])).read().await?;
    /// assert_eq!(count.trim(), "1048576");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Stdio(Kind::Bytes(Feed::Plain(Arc::new(bytes.into()))))
    }

    /// [`bytes`](Self::bytes) that the caller has behind an `Arc`, which are fed from where they are: `Arc<[u8]>`,
    /// `Arc<str>`, or an `Arc` of any owner of bytes, such as a file that was mapped, or a `Bytes` of the crate of that
    /// name.
    ///
    /// The `Arc` is released when the command and the runs that feed it are gone; it is not wiped.
    ///
    /// The call asks the owner's `as_ref` again for each write, under a lock of its own. So `as_ref` must not wait for
    /// anything, and is to give the same bytes each time.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use std::sync::Arc;
    /// use reaped::{Command, Stdio};
    /// let page: Arc<str> = "as many children as you like".into();
    /// let count = Command::new("wc").arg("-w").stdin(Stdio::shared(page.clone())).read().await?;
    /// assert_eq!(count.trim(), "6");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn shared<T: AsRef<[u8]> + Send + Sync + ?Sized + 'static>(bytes: Arc<T>) -> Self {
        Stdio(Kind::Bytes(Feed::Shared(Arc::new(Owner(bytes)))))
    }

    /// [`bytes`](Self::bytes) for a password: wiped from memory after use, and never shown by `Debug`
    /// or an error.
    ///
    /// It is wiped when the command and every run of it that still feeds are gone. A `Vec` or `String`
    /// is moved in, so that this is the only copy; of a `&str` the caller keeps the original. What is
    /// in the kernel's pipe buffer or in the child is out of reach.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "read -r password <&3; echo ${#password}"]).fd(3, Stdio::secret(String::from("hunter2")));
    /// assert!(!format!("{command:?}").contains("hunter2"));
    /// assert_eq!(command.read().await?, "7");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn secret(secret: impl Into<Vec<u8>>) -> Self {
        Stdio(Kind::Bytes(Feed::Secret(Arc::new(Zeroizing::new(secret.into())))))
    }

    /// A pipe into the child that streams `reader` to its end, no faster than the child takes it.
    ///
    /// The reader serves one run; a second run of the same command is
    /// [`InvalidReason::ReaderUsed`](crate::InvalidReason::ReaderUsed). If the reader fails, the child
    /// is killed, since it would take the shortened input for the whole, and the call fails with
    /// [`Error::Io`](crate::Error::Io). If the child closes its end first, the reader is dropped.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::io::AsyncReadExt;
    /// use reaped::{Command, Stdio};
    /// let endless = futures::io::repeat(b'y').take(100_000);
    /// let count = Command::new("wc").arg("-c").stdin(Stdio::reader(endless)).read().await?;
    /// assert_eq!(count.trim(), "100000");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Stdio(Kind::Reader(Arc::new(Mutex::new(Some(Box::pin(reader))))))
    }

    /// A pipe out of the child that is captured, and copied to `writer` as it comes, no faster than
    /// `writer` takes it; with `spawn` what was copied comes as events.
    ///
    /// At the end of file the writer is closed (`poll_close`), which the end of the call waits for. What
    /// is captured after the child was killed, or a [`drain_timeout`](crate::Command::drain_timeout) has passed, is not
    /// copied, and the writer is dropped as it is then: one that buffers keeps its last bytes to itself.
    ///
    /// A copied descriptor is read while any handle of the process is awaited, also if only a
    /// [`Reader`](crate::Reader) of another one is. What was copied is kept until the process is asked for it;
    /// [`limit_fd`](crate::Command::limit_fd) bounds it.
    ///
    /// # Errors
    /// If the writer fails, the child is killed and the call fails with [`Error::Io`](crate::Error::Io). The writer
    /// serves one run; a second run of the same command is
    /// [`InvalidReason::ReaderUsed`](crate::InvalidReason::ReaderUsed).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let terminal = futures::io::AllowStdIo::new(std::io::stdout());
    /// let output = Command::new("echo").arg("shown and kept").stdout(Stdio::tee(terminal)).output().await?;
    /// assert_eq!(output.stdout, b"shown and kept\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn tee(writer: impl AsyncWrite + Send + 'static) -> Self {
        Stdio(Kind::Tee(Arc::new(Mutex::new(Some(Box::pin(writer))))))
    }

    /// A pipe out of the child that is captured, and shown on the parent's own stdout or stderr as it comes.
    ///
    /// A thread writes, so that a slow terminal holds up neither the executor nor another child. The child runs no
    /// faster than it is shown, and the end of the call waits until all is shown. If nobody can see it any more, because
    /// the parent's descriptor is closed, its pipe has no reader, or the terminal was hung up, nothing is shown from then
    /// on, and the call goes on as if it were. Any other failure, such as a full disk, is one as of [`tee`](Self::tee).
    ///
    /// If the call is dropped, or the child is killed, the rest is not shown. The thread then leaves as soon as a write that it
    /// has begun ends.
    ///
    /// What is shown bypasses the buffer of `std::io::stdout`; what the parent has printed there without a line end
    /// comes later. It serves every run of the command.
    ///
    /// # Errors
    /// On a descriptor other than 1 and 2, running the command is
    /// [`InvalidReason::Descriptor`](crate::InvalidReason::Descriptor).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut build = Command::new("echo");
    /// build.arg("shown and kept").stdout(Stdio::tee_inherit()).stderr(Stdio::tee_inherit());
    /// assert_eq!(build.read().await?, "shown and kept");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn tee_inherit() -> Self {
        Stdio(Kind::TeeInherit)
    }

    /// A pipe out of the child that is copied to `writer` as it comes, and not kept: [`tee`](Self::tee) without the
    /// capture.
    ///
    /// An error cannot quote a stderr that goes there; use `tee` for that. With `spawn` there are no `Data` events of it, and
    /// a [`Reader`](crate::Reader) of it tells only what comes after it was taken.
    ///
    /// # Errors
    /// As of [`tee`](Self::tee).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let log = futures::io::AllowStdIo::new(std::fs::File::create("/dev/null")?);
    /// let output = Command::new("echo").arg("much").stdout(Stdio::writer(log)).output().await?;
    /// assert_eq!(output.stdout, b"");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn writer(writer: impl AsyncWrite + Send + 'static) -> Self {
        Stdio(Kind::Writer(Arc::new(Mutex::new(Some(Box::pin(writer))))))
    }

    /// A pipe into the child that is written through [`Process::writer`](crate::Process::writer).
    ///
    /// With a verb other than `spawn` nobody can write it: the child reads end of file.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use futures::io::AsyncWriteExt;
    /// use reaped::{Command, Stdio};
    /// let mut process = Command::new("sh").args(["-c", "cat <&3"]).fd(3, Stdio::input()).spawn()?;
    /// let mut writer = process.writer(3).expect("an input that was not taken");
    /// writer.write_all(b"hi").await?;
    /// drop(writer); // the child's end of file
    /// assert_eq!(process.output().await?.stdout, b"hi");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn input() -> Self {
        Stdio(Kind::Input)
    }

    /// The same open file as the child's descriptor `n`, so that the order of writes is kept.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let both = Command::new("sh")
    ///     .args(["-c", "echo one; echo two >&2; echo three"])
    ///     .stderr(Stdio::same_as(1))
    ///     .read()
    ///     .await?;
    /// assert_eq!(both, "one\ntwo\nthree");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// A circle of `same_as`, or an `n` that the child does not have, is
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict) when the command is run.
    pub fn same_as(n: i32) -> Self {
        Stdio(Kind::SameAs(n))
    }

    /// An open descriptor of the parent, which keeps it: it is duplicated at once, and the duplicate is
    /// closed with the command.
    ///
    /// The child shares the open file description (open(2)): offset and flags are common to both.
    ///
    /// # Errors
    /// If the duplicate cannot be made, running the command fails with
    /// [`SpawnReason::OutOfDescriptors`](crate::SpawnReason::OutOfDescriptors).
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let file = std::fs::File::open("/dev/null")?;
    /// assert_eq!(Command::new("cat").stdin(Stdio::parent_fd(&file)).read().await?, "");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[cfg(unix)]
    pub fn parent_fd(fd: impl AsFd) -> Self {
        Stdio(match fd.as_fd().try_clone_to_owned() {
            Ok(fd) => Kind::Open(Arc::new(fd)),
            Err(error) => Kind::Broken(Arc::new(error)),
        })
    }
}

/// Given, not lent: closed when the command is dropped, and not before.
#[cfg(unix)]
impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Stdio(Kind::Open(Arc::new(fd)))
    }
}

macro_rules! lent {
    ($($type:ty),*) => {$(
        /// The parent's, duplicated at once.
        impl From<$type> for Stdio {
            fn from(lent: $type) -> Self {
                #[cfg(unix)]
                return Stdio::parent_fd(lent);
                #[cfg(windows)]
                Stdio(match std::os::windows::io::AsHandle::as_handle(&lent).try_clone_to_owned() {
                    Ok(handle) => Kind::Open(Arc::new(handle.into())),
                    Err(error) => Kind::Broken(Arc::new(error)),
                })
            }
        }
    )*};
}

lent!(std::io::Stdout, std::io::Stderr);

macro_rules! from_std {
    ($($(#[$attribute:meta])* $type:ty),*) => {$(
        $(#[$attribute])*
        #[cfg(unix)]
        impl From<$type> for Stdio {
            fn from(given: $type) -> Self {
                OwnedFd::from(given).into()
            }
        }
        $(#[$attribute])*
        #[cfg(windows)]
        impl From<$type> for Stdio {
            fn from(given: $type) -> Self {
                Stdio(Kind::Open(Arc::new(File::from(std::os::windows::io::OwnedHandle::from(given)))))
            }
        }
    )*};
}

from_std! {
    /// Given, not lent: closed when the command is dropped, and not before.
    File,
    /// Reads on from a child of std's; closed when the command is dropped.
    std::process::ChildStdout,
    /// Reads on from a child of std's; closed when the command is dropped.
    std::process::ChildStderr,
    /// Writes on to a child of std's; closed when the command is dropped.
    std::process::ChildStdin
}

/// What it is, never what is fed.
impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Inherit => f.write_str("Inherit"),
            Kind::Null => f.write_str("Null"),
            Kind::Closed => f.write_str("Closed"),
            Kind::Output => f.write_str("Output"),
            #[cfg(unix)]
            Kind::Wiped => f.write_str("Wiped"),
            Kind::Piped => f.write_str("Piped"),
            Kind::Open(file) => f.debug_tuple("Open").field(file).finish(),
            Kind::Broken(error) => f.debug_tuple("Broken").field(error).finish(),
            Kind::Bytes(Feed::Plain(bytes)) => write!(f, "Bytes({} bytes)", bytes.len()),
            Kind::Bytes(Feed::Shared(bytes)) => write!(f, "Bytes({} bytes)", bytes.as_slice().len()),
            Kind::Bytes(Feed::Secret(_)) => f.write_str("Secret"),
            Kind::Reader(_) => f.write_str("Reader"),
            Kind::Input => f.write_str("Input"),
            Kind::Tee(_) => f.write_str("Tee"),
            Kind::TeeInherit => f.write_str("TeeInherit"),
            Kind::Writer(_) => f.write_str("Writer"),
            #[cfg(unix)]
            Kind::InUse(why) => f.debug_tuple("InUse").field(why).finish(),
            Kind::SameAs(n) => write!(f, "SameAs({n})"),
        }
    }
}

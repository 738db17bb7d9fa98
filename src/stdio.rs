//! Ground: what one descriptor of a child is connected to. Plain data. It opens nothing, but duplicates at once a
//! descriptor that the caller lends.

use std::fmt;
use std::fs::File;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};

use futures_io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

/// What one descriptor of a child is connected to. Give it to [`Command::stdin`](crate::Command::stdin), `stdout`,
/// `stderr` or `fd` if the verb's default is not what you need.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Command, Stdio};
/// let upper = Command::new("tr")
///     .args(["a-z", "A-Z"])
///     .stdin(Stdio::bytes("shout"))
///     .read()
///     .await?;
/// assert_eq!(upper, "SHOUT");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
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
/// A command keeps its `Stdio` and uses it for every run. A [`reader`](Self::reader), a [`tee`](Self::tee) and a
/// [`writer`](Self::writer) serve one run only. A clone shares all of this with the original.
///
/// A child may leave its input unread. If it closes the pipe early (`EPIPE`), this crate stops writing, and that is
/// no error.
///
/// # Platform
/// Windows has descriptors 0, 1 and 2, and no `parent_fd`: give a `File`, or a duplicate (`try_clone`).
#[derive(Clone)]
pub struct Stdio(pub(crate) Kind);

/// An open file of the parent.
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
    /// `Output`, but this program keeps no copy of the bytes: not in a buffer that grows, and not if nobody takes
    /// them.
    #[cfg(unix)]
    Wiped,
    /// `Output`; on stdin a pipe into the child that nobody writes, as in std.
    Piped,
    Open(Arc<OpenFile>),
    /// Duplicating failed. The run reports it, because constructors do not fail.
    Broken(Arc<std::io::Error>),
    /// A pipe end of another child that cannot be handed on, and why.
    #[cfg(unix)]
    InUse(&'static str),
    Bytes(Feed),
    Reader(ReaderSlot),
    /// A pipe into the child that the user writes.
    Input,
    /// `Output`, copied to a writer.
    Tee(WriterSlot),
    /// `Tee`, to the parent's own stdout or stderr.
    TeeInherit,
    /// `Tee`, but nothing is kept.
    Writer(WriterSlot),
    SameAs(i32),
}

impl Kind {
    /// Whether bytes pass through this program.
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

/// Bytes for a child. They are shared, so many runs write from one buffer without a copy.
#[derive(Clone)]
pub(crate) enum Feed {
    Plain(Arc<Vec<u8>>),
    /// Shared with the user.
    Shared(Arc<dyn Bytes>),
    /// Wiped after the command and the last run that writes it are gone.
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

/// Bytes that the user may share.
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
    /// The parent's descriptor of the same number, as a shell does it.
    ///
    /// If the parent has closed a standard descriptor (0, 1, 2), it is closed in the child too. Any other descriptor
    /// that is not open is [`InvalidReason::Descriptor`](crate::InvalidReason::Descriptor).
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

    /// The null device, open for reading and writing. The child reads end of file, and its output is discarded.
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
    /// Prefer [`null`](Self::null) for 0, 1 and 2: if one of them is closed, the next file that the child opens gets
    /// its number.
    ///
    /// # Platform
    /// If all three are closed on Windows, the run returns
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict): the system would connect the child to the
    /// console.
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

    /// A pipe out of the child, on any descriptor; its output is captured.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let output = Command::new("sh")
    ///     .args(["-c", "echo five >&5"])
    ///     .fd(5, Stdio::output())
    ///     .output()
    ///     .await?;
    /// assert_eq!(output.fd(5), Some(&b"five\n"[..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn output() -> Self {
        Stdio(Kind::Output)
    }

    /// std's word for a pipe: [`input`](Self::input) on stdin, [`output`](Self::output) elsewhere.
    ///
    /// With a verb other than `spawn`, stdin is closed at once and the child reads end of file, as with std's
    /// `output`.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let output =
    ///     Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).output().await?;
    /// assert_eq!(output.stdout, b"");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn piped() -> Self {
        Stdio(Kind::Piped)
    }

    /// A pipe into the child that carries these bytes and then end of file.
    ///
    /// They are written while the output is read, so no size deadlocks. A `Vec` or `String` is moved in without a
    /// copy, and serves every run.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let count =
    ///     Command::new("wc").arg("-c").stdin(Stdio::bytes(vec![b'x'; 1 << 20])).read().await?;
    /// assert_eq!(count.trim(), "1048576");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Stdio(Kind::Bytes(Feed::Plain(Arc::new(bytes.into()))))
    }

    /// [`bytes`](Self::bytes) behind an `Arc`, written without a copy. It takes `Arc<[u8]>`, `Arc<str>`, or an `Arc`
    /// of another owner of bytes, such as a mapped file or a `bytes::Bytes`.
    ///
    /// The `Arc` is released after the command and its runs are gone. It is not wiped.
    ///
    /// Each write calls the owner's `as_ref` again, under a lock. So `as_ref` must not wait, and must return the same
    /// bytes each time.
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

    /// [`bytes`](Self::bytes) for a password. `Debug` and errors never show it, and its memory is wiped after use:
    /// once the command and every run that still writes it are gone.
    ///
    /// A `Vec` or `String` is moved in, so this is the only copy. If you give a `&str`, you keep the original. Copies
    /// in the kernel's pipe buffer and in the child cannot be wiped.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "read -r password <&3; echo ${#password}"]);
    /// command.fd(3, Stdio::secret(String::from("hunter2")));
    /// assert!(!format!("{command:?}").contains("hunter2"));
    /// assert_eq!(command.read().await?, "7");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn secret(secret: impl Into<Vec<u8>>) -> Self {
        Stdio(Kind::Bytes(Feed::Secret(Arc::new(Zeroizing::new(secret.into())))))
    }

    /// A pipe into the child. `reader` is read to its end and written there, no faster than the child reads.
    ///
    /// The reader serves one run. A second run of the command returns
    /// [`InvalidReason::ReaderUsed`](crate::InvalidReason::ReaderUsed).
    ///
    /// If the child closes its end first, the reader is dropped.
    ///
    /// # Errors
    /// If the reader fails, the child is killed, and the call returns [`Error::Io`](crate::Error::Io). Otherwise the
    /// child would take half of the input for the whole.
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

    /// A pipe out of the child. Its output is captured, and also copied to `writer` as it comes, no faster than
    /// `writer` takes it.
    ///
    /// At the end of file the writer is closed (`poll_close`), and the call waits for that. After a kill or a
    /// [`drain_timeout`](crate::Command::drain_timeout) the copy stops: the writer is dropped without a flush, so
    /// buffered bytes are lost. A [`Reader`](crate::Reader) of that descriptor stops copying only if this program
    /// has ended the child or the rest of its group; a bound that expires later does not stop it.
    ///
    /// With `spawn` the bytes come as events after they were copied. They are copied while you await any handle of
    /// the process, and kept in memory until you take them. [`limit_fd`](crate::Command::limit_fd) bounds that.
    ///
    /// # Errors
    /// If the writer fails, the child is killed, and the call returns [`Error::Io`](crate::Error::Io). The writer
    /// serves one run. A second run of the command returns
    /// [`InvalidReason::ReaderUsed`](crate::InvalidReason::ReaderUsed).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let terminal = futures::io::AllowStdIo::new(std::io::stdout());
    /// let output = Command::new("echo")
    ///     .arg("shown and kept")
    ///     .stdout(Stdio::tee(terminal))
    ///     .output()
    ///     .await?;
    /// assert_eq!(output.stdout, b"shown and kept\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn tee(writer: impl AsyncWrite + Send + 'static) -> Self {
        Stdio(Kind::Tee(Arc::new(Mutex::new(Some(Box::pin(writer))))))
    }

    /// A pipe out of the child. Its output is captured, and also shown on the parent's own stdout or stderr as it
    /// comes.
    ///
    /// A thread writes, so a slow terminal delays this child only. The call ends after everything was shown. It
    /// serves every run of the command.
    ///
    /// If nobody can see the output any more (the parent's descriptor is closed, its pipe has no reader, the terminal
    /// hung up), showing stops and the call goes on. Another failure, such as a full disk, is an error as with
    /// [`tee`](Self::tee).
    ///
    /// If you drop the call or the child is killed, the rest is not shown. The thread ends after the write that it
    /// has begun.
    ///
    /// The text bypasses the buffer of `std::io::stdout`, so an unfinished line that the parent printed there comes
    /// later.
    ///
    /// # Errors
    /// On a descriptor other than 1 and 2, the run returns
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

    /// A pipe out of the child. Its output is copied to `writer` and not kept: [`tee`](Self::tee) without the
    /// capture.
    ///
    /// An error cannot quote a stderr that goes there; use `tee` for that. With `spawn` it has no `Data` events. A
    /// [`Reader`](crate::Reader) returns only the bytes that come after you took it.
    ///
    /// # Errors
    /// The same errors as [`tee`](Self::tee).
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

    /// A pipe into the child; you write it through [`Process::writer`](crate::Process::writer).
    ///
    /// With a verb other than `spawn` nobody can write it, so the child reads end of file.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use futures::io::AsyncWriteExt;
    /// use reaped::{Command, Stdio};
    /// let mut process =
    ///     Command::new("sh").args(["-c", "cat <&3"]).fd(3, Stdio::input()).spawn()?;
    /// let mut writer = process.writer(3).expect("an input that was not taken");
    /// writer.write_all(b"hi").await?;
    /// drop(writer); // the child's end of file
    /// assert_eq!(process.output().await?.stdout, b"hi");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn input() -> Self {
        Stdio(Kind::Input)
    }

    /// The same open file as the child's descriptor `n`, so the order of writes is kept.
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
    /// If `same_as` goes in a circle, or the child does not have `n`, the run returns
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
    pub fn same_as(n: i32) -> Self {
        Stdio(Kind::SameAs(n))
    }

    /// An open descriptor of the parent. It is duplicated at once: the parent keeps the original, and the duplicate
    /// is closed with the command.
    ///
    /// Child and parent share the open file description (open(2)), so they share its offset and flags.
    ///
    /// # Errors
    /// If it cannot be duplicated, the run returns
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

/// The command owns it, and closes it when the command is dropped.
#[cfg(unix)]
impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Stdio(Kind::Open(Arc::new(fd)))
    }
}

macro_rules! lent {
    ($($type:ty),*) => {$(
        /// The parent's own, duplicated at once.
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
    /// The command owns it, and closes it when the command is dropped.
    File,
    /// Reads on from a child of std. It is closed when the command is dropped.
    std::process::ChildStdout,
    /// Reads on from a child of std. It is closed when the command is dropped.
    std::process::ChildStderr,
    /// Writes on to a child of std. It is closed when the command is dropped.
    std::process::ChildStdin
}

/// Shows the kind of connection, never the bytes.
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

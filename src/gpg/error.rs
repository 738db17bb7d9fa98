//! Calls, gpg: why there is no plaintext, for a person and for a program. Plain data; decides nothing.
//!
//! Rules: each message is one line. An error never contains a passphrase or plaintext.

use std::{fmt, io};

use super::status::StatusLine;
use crate::error::{Error as ProcessError, one_line};

/// Why a message was not decrypted.
///
/// No error carries plaintext: it was wiped. Each has gpg's [status lines](Self::status) and the end of its
/// [stderr](Self::stderr).
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::gpg;
/// match gpg::Decrypt::new("just text").passphrase("secret").decrypt().await {
///     Err(gpg::Error::NotEncrypted(_)) => println!("it can be read as it is"),
///     Err(gpg::Error::GpgMissing { .. }) => println!("please install gpg"),
///     other => panic!("{other:?}"),
/// }
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The passphrase does not open the message, or the secret key that the message needs.
    ///
    /// A changed message can look the same: if its first bytes were changed, and it is encrypted with a passphrase
    /// alone. If such a message has no MDC (OCB, for example) and is shorter than some kilobytes, a change anywhere
    /// looks the same.
    #[error("cannot decrypt: {0}")]
    WrongPassphrase(Report),
    /// A passphrase is needed and [`Decrypt::passphrase`](super::Decrypt::passphrase) was not called.
    #[error("cannot decrypt: {0}")]
    PassphraseMissing(Report),
    /// gpg cannot take the passphrase. It contains a line end or a NUL byte (gpg was not started then), or is too
    /// long for gpg-agent.
    #[error("cannot decrypt: {0}")]
    InvalidPassphrase(Report),
    /// There is no secret key that opens the message.
    ///
    /// gpg reports the same in two other cases. It cannot reach its gpg-agent: the path of its home is too long, the
    /// home is read-only, or `no-autostart` is set. Or the passphrase is wrong, and the message hides its recipient.
    /// This error quotes the end of gpg's stderr, which names an unreachable agent.
    #[error("cannot decrypt: {0}")]
    NoSecretKey(Report),
    /// The message was cut off or changed, is not protected against that, or has other content beside the encrypted
    /// one. Or gpg's report does not exclude one of these.
    #[error("cannot decrypt: {0}")]
    Damaged(Report),
    /// The input is no encrypted message: other data, nothing at all, or a message that is only signed.
    #[error("cannot decrypt: {0}")]
    NotEncrypted(Report),
    /// A signature does not fit this text, or its key is marked as never to be trusted. A change in an encrypted and
    /// signed message can look like this too.
    #[error("cannot decrypt: {0}")]
    BadSignature(Report),
    /// A valid signature was [required](super::Decrypt::require_signature), and there is none.
    #[error("cannot decrypt: {0}")]
    SignatureMissing(Report),
    /// There is no gpg program.
    #[error("{source}; is GnuPG installed?")]
    GpgMissing {
        /// The failed start.
        source: ProcessError,
        /// It has no status line.
        report: Report,
    },
    /// gpg did not run to its end, or failed for a reason that its status lines do not name.
    #[error("{source}")]
    Process {
        /// The error of the process. Its `output` has gpg's stderr without session keys, and neither the plaintext
        /// nor the report.
        source: ProcessError,
        /// The status lines up to then.
        report: Report,
    },
}

/// What gpg reported before an error; see [`Error::status`].
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::gpg::{Decrypt, Error};
/// match Decrypt::new("a message").passphrase("two\nlines").decrypt().await {
///     Err(Error::InvalidPassphrase(report)) => println!("{report}"),
///     other => panic!("{other:?}"),
/// }
/// # });
/// ```
pub struct Report(Box<Inner>);

struct Inner {
    text: String,
    status: Vec<StatusLine>,
    /// Empty if the source has it.
    stderr: Vec<u8>,
}

/// The most bytes of gpg's stderr that are kept.
const MOST: usize = 4096;

impl Report {
    pub(super) fn new(text: String, status: Vec<StatusLine>) -> Self {
        Report(Box::new(Inner { text: one_line(&text), status, stderr: Vec::new() }))
    }

    /// Adds the end of gpg's stderr.
    pub(super) fn with_stderr(mut self, stderr: &[u8]) -> Self {
        self.0.stderr = stderr[stderr.len().saturating_sub(MOST)..].to_vec();
        self
    }
}

impl Error {
    /// gpg's status lines up to the error.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::gpg;
    /// let error = gpg::Decrypt::new("just text").program("true").decrypt().await.unwrap_err();
    /// assert!(error.status().is_empty());
    /// # });
    /// ```
    pub fn status(&self) -> &[StatusLine] {
        &self.report().0.status
    }

    /// The end of gpg's stderr: text for people, in their language, without session keys.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::gpg;
    /// # if reaped::read("gpg", ["--version"]).await.is_err() { return }
    /// let error = gpg::Decrypt::new("just text").decrypt().await.unwrap_err();
    /// println!("{error}\n{}", String::from_utf8_lossy(error.stderr()));
    /// assert!(!error.stderr().is_empty());
    /// # });
    /// ```
    pub fn stderr(&self) -> &[u8] {
        match self {
            Error::GpgMissing { source, .. } | Error::Process { source, .. } => {
                source.output().map_or(&[], |output| &output.stderr)
            }
            _ => &self.report().0.stderr,
        }
    }

    fn report(&self) -> &Report {
        match self {
            Error::WrongPassphrase(report)
            | Error::PassphraseMissing(report)
            | Error::InvalidPassphrase(report)
            | Error::NoSecretKey(report)
            | Error::Damaged(report)
            | Error::NotEncrypted(report)
            | Error::BadSignature(report)
            | Error::SignatureMissing(report)
            | Error::GpgMissing { report, .. }
            | Error::Process { report, .. } => report,
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Error::WrongPassphrase(_) | Error::PassphraseMissing(_) | Error::NoSecretKey(_) => {
                io::ErrorKind::PermissionDenied
            }
            Error::InvalidPassphrase(_) => io::ErrorKind::InvalidInput,
            Error::Damaged(_)
            | Error::NotEncrypted(_)
            | Error::BadSignature(_)
            | Error::SignatureMissing(_) => io::ErrorKind::InvalidData,
            Error::GpgMissing { .. } => io::ErrorKind::NotFound,
            Error::Process { source, .. } => source.kind(),
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stderr = String::from_utf8_lossy(&self.0.stderr);
        let mut debug = f.debug_struct("Report");
        debug.field("text", &self.0.text).field("status", &self.0.status).field("stderr", &stderr).finish()
    }
}

//! Calls, gpg: why there is no plaintext, told to a person and to a program. Plain data; decides nothing.
//!
//! Rules: each message is one line; neither a passphrase nor any plaintext is ever in an error.

use std::{fmt, io};

use super::status::StatusLine;
use crate::error::{Error as ProcessError, one_line};

/// Why a message was not decrypted.
///
/// None of them carries any plaintext: what gpg had written until then was wiped. Each carries gpg's
/// status lines, see [`status`](Self::status), and the end of what it wrote to stderr, see [`stderr`](Self::stderr).
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
    /// In a message that is encrypted with a passphrase alone, a change in its first bytes looks just the same; and if it
    /// has no MDC (OCB, for example), a change anywhere in a message of less than some kilobytes.
    #[error("cannot decrypt: {0}")]
    WrongPassphrase(Report),
    /// A passphrase is needed and [`Decrypt::passphrase`](super::Decrypt::passphrase) was not called.
    #[error("cannot decrypt: {0}")]
    PassphraseMissing(Report),
    /// The passphrase cannot be given to gpg: it has a line end or a NUL byte in it (gpg was not
    /// started then), or is longer than gpg-agent takes.
    #[error("cannot decrypt: {0}")]
    InvalidPassphrase(Report),
    /// None of the secret keys that could open the message is there.
    ///
    /// gpg says the same if it cannot reach its gpg-agent (the path of its home is too long or read-only, `no-autostart`
    /// is set), and if the message hides to whom it is encrypted, of a wrong passphrase. The message of this error quotes
    /// the end of gpg's stderr, where an agent that cannot be reached is told.
    #[error("cannot decrypt: {0}")]
    NoSecretKey(Report),
    /// The message was cut off or changed, is not protected against that, has other content beside
    /// the encrypted one, or gpg's report does not prove that none of this is so.
    #[error("cannot decrypt: {0}")]
    Damaged(Report),
    /// The input is no encrypted message: other data, nothing at all, or a message that is only signed.
    #[error("cannot decrypt: {0}")]
    NotEncrypted(Report),
    /// A signature was not made over this text, or is by a key that the keyring marks as never to be
    /// trusted. A change in an encrypted and signed message can show itself this way too.
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
        /// Without a status line.
        report: Report,
    },
    /// gpg could not be run to its end, or failed for a reason that its status lines do not tell.
    #[error("{source}")]
    Process {
        /// What happened to the process. Its `output` has gpg's stderr, without a session key, and neither the
        /// plaintext nor the report.
        source: ProcessError,
        /// The status lines until then.
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

    /// With the end of what gpg wrote to stderr.
    pub(super) fn with_stderr(mut self, stderr: &[u8]) -> Self {
        self.0.stderr = stderr[stderr.len().saturating_sub(MOST)..].to_vec();
        self
    }
}

impl Error {
    /// gpg's status lines, as far as they came.
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

    /// The end of what gpg wrote to stderr: words for people, in their language, without a session key.
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

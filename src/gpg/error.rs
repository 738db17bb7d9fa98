//! Why there is no plaintext, as a user sees it.

use std::io;

use super::status::StatusLine;
use super::verdict::Fault;
use crate::error::Error as ProcessError;

/// Why a message was not decrypted. It never carries any plaintext.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The passphrase is not that of the message or of its key, or none was given and one is needed.
    ///
    /// Where the first bytes of a symmetrically encrypted message are damaged, gpg cannot tell that from a
    /// wrong passphrase.
    #[error("gpg: wrong passphrase")]
    WrongPassphrase {
        /// What gpg said.
        status: Vec<StatusLine>,
    },
    /// The message was encrypted to keys of which none is here.
    #[error("gpg: no secret key for this message")]
    NoSecretKey {
        /// What gpg said.
        status: Vec<StatusLine>,
    },
    /// The message was changed or cut off: its integrity check failed, or it has none.
    #[error("gpg: the message is damaged")]
    Damaged {
        /// What gpg said.
        status: Vec<StatusLine>,
    },
    /// There is no encrypted message in the input.
    #[error("gpg: this is no encrypted message")]
    NotEncrypted {
        /// What gpg said.
        status: Vec<StatusLine>,
    },
    /// The message holds a signature that is not that of its content.
    #[error("gpg: the message has a bad signature")]
    BadSignature {
        /// What gpg said.
        status: Vec<StatusLine>,
    },
    /// [`require_signature`](super::Decrypt::require_signature) was set, and the message has no good
    /// signature of a key that is here.
    #[error("gpg: the message has no good signature of a known key")]
    SignatureMissing {
        /// What gpg said.
        status: Vec<StatusLine>,
    },
    /// The passphrase contains a line end or a NUL byte, at which gpg would cut it off.
    #[error("gpg: the passphrase contains a line end or a NUL byte, and gpg reads one line")]
    InvalidPassphrase,
    /// gpg is not installed, or not where it was said to be.
    #[error("gpg is missing: {source}")]
    GpgMissing {
        /// What stood in the way of the start.
        source: ProcessError,
    },
    /// gpg could not be run, or failed for a reason that its status lines do not tell.
    #[error("gpg failed: {source}")]
    Process {
        /// What happened to the process. Its output is without the plaintext.
        source: ProcessError,
        /// What gpg said.
        status: Vec<StatusLine>,
    },
}

impl Error {
    pub(super) fn new(fault: Fault, status: Vec<StatusLine>, process: impl FnOnce() -> ProcessError) -> Self {
        match fault {
            Fault::WrongPassphrase => Error::WrongPassphrase { status },
            Fault::NoSecretKey => Error::NoSecretKey { status },
            Fault::Damaged => Error::Damaged { status },
            Fault::NotEncrypted => Error::NotEncrypted { status },
            Fault::BadSignature => Error::BadSignature { status },
            Fault::SignatureMissing => Error::SignatureMissing { status },
            Fault::Unexplained => Error::Process { source: process(), status },
        }
    }

    /// What gpg said on its status descriptor; empty where it did not run.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let error = reaped::gpg::Decrypt::new("").program("no-such-gpg").decrypt().await.unwrap_err();
    /// assert!(error.status().is_empty());
    /// # });
    /// ```
    pub fn status(&self) -> &[StatusLine] {
        match self {
            Error::WrongPassphrase { status }
            | Error::NoSecretKey { status }
            | Error::Damaged { status }
            | Error::NotEncrypted { status }
            | Error::BadSignature { status }
            | Error::SignatureMissing { status }
            | Error::Process { status, .. } => status,
            Error::InvalidPassphrase | Error::GpgMissing { .. } => &[],
        }
    }
}

/// With the fitting kind, so that `?` works in functions that return [`io::Result`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::WrongPassphrase { .. } => io::ErrorKind::PermissionDenied,
            Error::NoSecretKey { .. } | Error::GpgMissing { .. } => io::ErrorKind::NotFound,
            Error::InvalidPassphrase => io::ErrorKind::InvalidInput,
            Error::Damaged { .. }
            | Error::NotEncrypted { .. }
            | Error::BadSignature { .. }
            | Error::SignatureMissing { .. } => io::ErrorKind::InvalidData,
            Error::Process { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

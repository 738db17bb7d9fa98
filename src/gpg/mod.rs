//! Decrypts with gpg: the passphrase goes in on one extra descriptor and the status lines come back on
//! another, with stdin and stdout free for the data.
//!
//! ```no_run
//! # futures::executor::block_on(async {
//! # let message = Vec::new();
//! let letter = reaped::gpg::decrypt(message, "the passphrase").await?.plaintext;
//! # Ok::<(), reaped::gpg::Error>(()) }).unwrap();
//! ```
//!
//! It fails closed: there is a plaintext only where gpg has said that the decryption succeeded and that the
//! integrity check passed. Otherwise what gpg wrote is wiped, and the [`Error`] says what was wrong.
//!
//! gpg starts its agent where none runs, and the agent stays. It may keep the passphrase of a *secret key* in
//! memory for some time (`default-cache-ttl` in gpg-agent.conf), and then a wrong passphrase for that key
//! succeeds too. The passphrase of a symmetrically encrypted message is not kept.
//!
//! # Platform
//! Unix, with GnuPG 2.2.7 or later.

mod error;
mod status;
mod verdict;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use zeroize::{Zeroize, Zeroizing};

use crate::command::Command;
use crate::error::{Details, Error as ProcessError, SpawnReason};
use crate::output::Output;
use crate::promise::Promise;
use crate::stdio::{Feed, Kind, Stdio};

pub use error::Error;
pub use status::StatusLine;

/// The child's descriptors.
const PASSPHRASE: i32 = 3;
const STATUS: i32 = 4;

/// Decrypts a message, armoured or binary, with the passphrase of the message or of the secret key.
///
/// The same as [`Decrypt::new`]`(ciphertext)`[`.passphrase`](Decrypt::passphrase)`(passphrase)`[`.decrypt()`](Decrypt::decrypt).
/// A `Vec` or `String` is moved in. Of a passphrase given as `&str` the caller keeps the original.
///
/// # Cancellation
/// gpg starts at the call. Dropping the [`Decryption`] kills and reaps it.
///
/// # Errors
/// An [`Error`] that tells a wrong passphrase, a missing key, a damaged message, a bad signature and a
/// missing gpg apart. There is no plaintext in it.
///
/// # Platform
/// Unix.
///
/// ```no_run
/// # futures::executor::block_on(async {
/// let message = std::fs::read("letter.gpg")?;
/// let letter = reaped::gpg::decrypt(message, "the passphrase").await?;
/// println!("{}", String::from_utf8_lossy(&letter.plaintext));
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub fn decrypt(ciphertext: impl Into<Vec<u8>>, passphrase: impl Into<Vec<u8>>) -> Decryption {
    Decrypt::new(ciphertext).passphrase(passphrase).decrypt()
}

/// Decrypts a message, with more to say about how.
///
/// ```no_run
/// # futures::executor::block_on(async {
/// use reaped::gpg::Decrypt;
/// let message = std::fs::read("letter.gpg")?;
/// let letter = Decrypt::new(message)
///     .homedir("/var/lib/letters/gnupg")
///     .passphrase("the passphrase")
///     .require_signature(true)
///     .decrypt()
///     .await?;
/// println!("signed by {}", letter.signatures[0].fingerprint);
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub struct Decrypt {
    program: OsString,
    homedir: Option<PathBuf>,
    ciphertext: Arc<Vec<u8>>,
    passphrase: Option<Arc<Zeroizing<Vec<u8>>>>,
    require_signature: bool,
}

impl Decrypt {
    /// A message to decrypt, armoured or binary.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use reaped::gpg::{Decrypt, Error};
    /// let result = Decrypt::new("no message").program("no-such-gpg").decrypt().await;
    /// assert!(matches!(result, Err(Error::GpgMissing { .. })));
    /// # });
    /// ```
    pub fn new(ciphertext: impl Into<Vec<u8>>) -> Self {
        Decrypt {
            program: "gpg".into(),
            homedir: None,
            ciphertext: Arc::new(ciphertext.into()),
            passphrase: None,
            require_signature: false,
        }
    }

    /// The program; `gpg`, looked up in `PATH`, at first.
    ///
    /// ```
    /// reaped::gpg::Decrypt::new("").program("/opt/gnupg/bin/gpg");
    /// ```
    pub fn program(&mut self, program: impl AsRef<OsStr>) -> &mut Self {
        self.program = program.as_ref().to_owned();
        self
    }

    /// The folder of keys and settings, in place of `GNUPGHOME` or `~/.gnupg`.
    ///
    /// ```
    /// reaped::gpg::Decrypt::new("").homedir("/var/lib/letters/gnupg");
    /// ```
    pub fn homedir(&mut self, homedir: impl AsRef<Path>) -> &mut Self {
        self.homedir = Some(homedir.as_ref().to_owned());
        self
    }

    /// The passphrase of the message or of the secret key, wiped after use.
    ///
    /// Without one, only a key without a passphrase, or one that the agent has unlocked, can decrypt; gpg
    /// never asks.
    ///
    /// # Errors
    /// Decrypting is [`Error::InvalidPassphrase`] where it contains a line end or a NUL byte, at which gpg
    /// would cut it off.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// # use reaped::gpg::{Decrypt, Error};
    /// let result = Decrypt::new("").passphrase("read from a file\n").decrypt().await;
    /// assert!(matches!(result, Err(Error::InvalidPassphrase)));
    /// # });
    /// ```
    pub fn passphrase(&mut self, passphrase: impl Into<Vec<u8>>) -> &mut Self {
        self.passphrase = Some(Arc::new(Zeroizing::new(passphrase.into())));
        self
    }

    /// Whether the message must have a good signature of a key that is here; `false` at first.
    ///
    /// A signature of an expired or a revoked key is not enough. Whose key it is, and whether it is trusted,
    /// is for the caller to see: compare [`Signature::primary`] with what is expected. A signature that is
    /// *bad* is an error in any case.
    ///
    /// # Errors
    /// Decrypting a message without one is [`Error::SignatureMissing`].
    ///
    /// ```
    /// reaped::gpg::Decrypt::new("").require_signature(true);
    /// ```
    pub fn require_signature(&mut self, require: bool) -> &mut Self {
        self.require_signature = require;
        self
    }

    /// Starts gpg; can be called again.
    ///
    /// # Cancellation
    /// Dropping the [`Decryption`] kills and reaps gpg.
    ///
    /// # Errors
    /// See [`decrypt`](decrypt()).
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// let message = std::fs::read("letter.gpg")?;
    /// let letter = reaped::gpg::Decrypt::new(message).passphrase("the passphrase").decrypt().await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn decrypt(&self) -> Decryption {
        let cut_off = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'\0');
        if self.passphrase.as_ref().is_some_and(|passphrase| passphrase.iter().any(cut_off)) {
            return Decryption { gpg: None, require_signature: false };
        }
        Decryption { gpg: Some(self.command().output()), require_signature: self.require_signature }
    }

    fn command(&self) -> Command {
        let mut gpg = Command::new(&self.program);
        gpg.args(["--batch", "--no-tty", "--status-fd", &STATUS.to_string()]);
        // A message must not make gpg talk to the network, nor its passphrase stay in the agent.
        gpg.args(["--no-auto-key-retrieve", "--no-symkey-cache"]);
        if let Some(homedir) = &self.homedir {
            gpg.arg("--homedir").arg(homedir);
        }
        match &self.passphrase {
            // gpg 2.1 and later ignores the descriptor without --batch and this mode.
            Some(passphrase) => gpg
                .args(["--pinentry-mode", "loopback", "--passphrase-fd", &PASSPHRASE.to_string()])
                .fd(PASSPHRASE, Stdio(Kind::Bytes(Feed::Secret(passphrase.clone())))),
            None => gpg.args(["--pinentry-mode", "error"]),
        };
        gpg.arg("--decrypt").fd(STATUS, Stdio::output());
        gpg.stdin(Stdio(Kind::Bytes(Feed::Plain(self.ciphertext.clone()))));
        gpg
    }
}

/// Neither the message nor the passphrase.
impl fmt::Debug for Decrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Decrypt");
        debug.field("program", &self.program).field("homedir", &self.homedir);
        debug.field("require_signature", &self.require_signature).finish_non_exhaustive()
    }
}

/// A decryption that runs: a future of [`Decrypted`].
///
/// # Cancellation
/// Dropping it kills and reaps gpg. What gpg had written by then is freed, but not wiped.
#[must_use = "dropping it kills gpg; await it"]
pub struct Decryption {
    /// `None` for a passphrase that gpg would not read whole.
    gpg: Option<Promise<Output>>,
    require_signature: bool,
}

impl Future for Decryption {
    type Output = Result<Decrypted, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(gpg) = &mut self.gpg else { return Poll::Ready(Err(Error::InvalidPassphrase)) };
        let output = ready!(Pin::new(gpg).poll(cx));
        Poll::Ready(conclude(output, self.require_signature))
    }
}

impl fmt::Debug for Decryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decryption").field("gpg", &self.gpg).finish_non_exhaustive()
    }
}

fn conclude(output: Result<Output, ProcessError>, require_signature: bool) -> Result<Decrypted, Error> {
    let mut output = match output {
        Ok(output) => output,
        Err(source @ ProcessError::Spawn { reason: SpawnReason::ProgramNotFound, .. }) => {
            return Err(Error::GpgMissing { source });
        }
        Err(mut source) => {
            let mut status = Vec::new();
            if let Some(output) = source.output_mut() {
                status = StatusLine::parse(output.fd(STATUS).unwrap_or_default());
                output.stdout.zeroize();
            }
            return Err(Error::Process { source, status });
        }
    };
    let status = StatusLine::parse(output.fd(STATUS).unwrap_or_default());
    match verdict::verdict(&status, output.status.code(), require_signature) {
        Ok(signatures) => Ok(Decrypted { plaintext: output.stdout, status, signatures }),
        Err(fault) => {
            output.stdout.zeroize();
            Err(Error::new(fault, status, || ProcessError::Failed(Details::ended(output))))
        }
    }
}

/// A message that was decrypted.
#[derive(Clone)]
#[non_exhaustive]
pub struct Decrypted {
    /// The content of the message.
    pub plaintext: Vec<u8>,
    /// All that gpg said on its status descriptor.
    pub status: Vec<StatusLine>,
    /// The valid signatures, none of them bad. A signature of a key that is not here is not among them.
    pub signatures: Vec<Signature>,
}

/// Not the plaintext.
impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Decrypted");
        debug.field("plaintext", &format_args!("{} bytes", self.plaintext.len()));
        debug.field("status", &self.status).field("signatures", &self.signatures).finish()
    }
}

/// A signature that fits the content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signature {
    /// Neither the signature nor its key has expired, and the key was not revoked.
    pub good: bool,
    /// The fingerprint of the key that signed, which may be a subkey.
    pub fingerprint: String,
    /// The fingerprint of the primary key, which names the signer.
    pub primary: String,
}

//! Decryption by GnuPG: [`decrypt`](decrypt()) in one line, [`Decrypt`] with settings.
//!
//! gpg reads the passphrase from one extra descriptor and reports over another. You get a plaintext only if gpg
//! confirms that all was decrypted and that the integrity check held. Any other plaintext is wiped.
//!
//! ```
//! # futures::executor::block_on(async {
//! use reaped::gpg::Error::*;
//! use reaped::gpg::decrypt;
//! let letter = "\
//! -----BEGIN PGP MESSAGE-----
//!
//! jA0ECQMCepU8zKh0zR3/0kABEa2w3syZ
//! fo/n0fnXQa+MDgwi3ud3pGMtJo7G9D0m
//! o5zPphzH9tmd9ntkMeTOG++6XVJ9g9LO
//! 2sqrRX0/aEbq
//! =lr0e
//! -----END PGP MESSAGE-----";
//! let letter =
//!     decrypt(letter, "secret");
//! match letter.await {
//!     Ok(it) => {
//!         let text = it.plaintext;
//!         assert!(text.len() == 11);
//!     }
//!     Err(GpgMissing { .. }) => {
//!         println!("install gpg");
//!     }
//!     Err(e) => panic!("{e}"),
//! }
//! # });
//! ```

// Calls: runs gpg so that it decrypts and does nothing else. Owns the command line, the descriptors and the wiping;
// `verdict` decides what gpg's report means.
//
// Rules: passphrase and plaintext travel through pipes only. A plaintext either goes into a `Decrypted` or is wiped.

mod error;
mod outline;
mod signature;
mod status;
mod verdict;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use zeroize::{Zeroize, Zeroizing};

use crate::command::Command;
use crate::error::{Details, Error as ProcessError, SpawnReason, push_tail};
use crate::output::Output;
use crate::promise::Promise;
use crate::stdio::{Feed, Kind, Stdio};

pub use error::{Error, Report};
pub use signature::{Signature, Validity};
pub use status::StatusLine;

use outline::Outline;
use status::Status;
use verdict::{Cause, Facts};

/// The child's extra descriptors; 0, 1 and 2 carry the ciphertext, the plaintext and gpg's messages.
const PASSPHRASE: i32 = 3;
const STATUS: i32 = 4;

/// The most bytes of gpg's report, and of its messages: enough for some two thousand signatures. A message may have
/// any number of them, and gpg reports each.
const REPORT: u64 = 1024 * 1024;

/// The most bytes of a message that one poll inspects, or of a plaintext that it wipes: about a millisecond.
const PIECE: usize = 1024 * 1024;

/// Decrypts an OpenPGP message with the `gpg` program. The passphrase opens the message itself, or the user's secret
/// key that the message is encrypted to.
///
/// The message may be binary or armoured, and of any size. A `Vec` or `String` is moved in without a copy.
/// [`Decrypt`] has more settings.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::gpg::Error::*;
/// use reaped::gpg::decrypt;
/// let letter = "\
/// -----BEGIN PGP MESSAGE-----
///
/// jA0ECQMCpjt6vtB5eEz/0j8Btt4Iyso/
/// gYcbTxvMjqRqixSIubOaDZEcUtohfOaM
/// Dxj4JSdgA7xuU0QL3OWpsdPysZapj5wQ
/// o14uknzAXNw=
/// =chaB
/// -----END PGP MESSAGE-----";
/// let letter =
///     decrypt(letter, "secret");
/// match letter.await {
///     Ok(it) => {
///         let text = it.plaintext;
///         assert!(text.len() == 14);
///     }
///     Err(GpgMissing { .. }) => {
///         println!("install gpg");
///     }
///     Err(e) => return Err(e),
/// }
/// # Ok(()) }).unwrap();
/// ```
///
/// # Cancellation
/// Dropping the future kills gpg; see [`Decryption`].
///
/// # Errors
/// It fails closed: you get no plaintext unless gpg confirms that all was decrypted and that the integrity check
/// held. [`Error`] says why.
///
/// # Platform
/// Unix, with gpg 2.2.7 or later.
pub fn decrypt(ciphertext: impl Into<Vec<u8>>, passphrase: impl Into<Vec<u8>>) -> Decryption {
    Decrypt::new(ciphertext).passphrase(passphrase).decrypt()
}

/// A message to decrypt and its settings; the builder behind [`decrypt`].
///
/// It can run again, and several runs may be alive at once. They share one copy of the message.
///
/// gpg takes its other settings from the user's `gpg.conf`. It asks nobody and does not use the network. If it needs
/// a secret key, it starts the user's `gpg-agent`. The agent remembers for a configured time that a secret key was
/// opened: **within that time a wrong passphrase opens it as well**. For a message that is encrypted with a
/// passphrase alone nothing is remembered.
///
/// # Sound messages that are refused
/// gpg exits with a code other than 0 for many reasons, and tells only people which. The code is excused if an MDC
/// proves the plaintext (gpg 2.2 always writes one), and a status line names another reason:
///
/// - a signature that cannot be checked;
/// - a first attempt at the session key that failed, before another succeeded;
/// - a recipient that the message hides.
///
/// These remain [`Error::Process`], with gpg's words:
///
/// - armour without its blank line, with a wrong checksum, or without a checksum if the data needs no padding;
/// - bytes after a binary message (text around an armoured one does not matter);
/// - a home folder that does not exist, even if no key is needed. A read-only home is enough if no key is needed. A
///   secret key needs a reachable agent; without one you get [`Error::NoSecretKey`].
///
/// A message can also have two session keys, one of a version that this gpg does not know. It is refused too, as
/// `Process` or as [`Error::Damaged`].
///
/// A message without an MDC (AEAD; gpg 2.4 writes it as OCB for keys that ask for it) is proved only by exit code 0
/// and by its length. gpg does not report a wrong length, and before 2.2.45 it goes on after a wrong tag. So these
/// are [`Error::Damaged`]:
///
/// - a signature that cannot be checked (import its key);
/// - a message that is encrypted twice;
/// - armour with text around it, or with an unusual form.
///
/// ```
/// # futures::executor::block_on(async {
/// # let home = tempfile::tempdir()?;
/// # let home = home.path();
/// use reaped::{Command, Stdio, gpg};
/// # // If there is no gpg, the call says so.
/// # if let Err(gpg::Error::GpgMissing { .. }) = gpg::decrypt("", "").await { return Ok(()) }
/// let message = Command::new("gpg")
///     .args([
///         "--batch",
///         "--pinentry-mode",
///         "loopback",
///         "--passphrase-fd",
///         "3",
///         "--symmetric",
///         "--homedir",
///     ])
///     .arg(home)
///     .fd(3, Stdio::secret("pass phrase"))
///     .stdin(Stdio::bytes("hello"))
///     .read_bytes()
///     .await?;
/// let decrypted =
///     gpg::Decrypt::new(message).homedir(home).passphrase("pass phrase").decrypt().await?;
/// assert_eq!(decrypted.plaintext, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
///
/// # Cancellation
/// Dropping it does not affect its runs. The passphrase is wiped after it and the last run are gone.
pub struct Decrypt {
    program: OsString,
    homedir: Option<PathBuf>,
    /// Always [`Feed::Secret`].
    passphrase: Option<Feed>,
    require_signature: bool,
    /// Always [`Feed::Plain`].
    ciphertext: Feed,
    timeout: Option<Duration>,
    limit: Option<u64>,
}

impl Decrypt {
    /// This message, with the `gpg` in `PATH`, the user's keyring, and no passphrase.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::gpg;
    /// let error =
    ///     gpg::Decrypt::new("a message").program("no-such-gpg").decrypt().await.unwrap_err();
    /// assert!(matches!(error, gpg::Error::GpgMissing { .. }));
    /// # });
    /// ```
    pub fn new(ciphertext: impl Into<Vec<u8>>) -> Self {
        Decrypt {
            program: "gpg".into(),
            homedir: None,
            passphrase: None,
            require_signature: false,
            timeout: None,
            limit: None,
            ciphertext: Feed::Plain(Arc::new(ciphertext.into())),
        }
    }

    /// The program to run; `gpg` by default. It is searched as [`Command::new`] does it.
    ///
    /// ```
    /// let mut decrypt = reaped::gpg::Decrypt::new("a message");
    /// decrypt.program("/usr/local/bin/gpg");
    /// ```
    pub fn program(&mut self, program: impl AsRef<OsStr>) -> &mut Self {
        self.program = program.as_ref().to_owned();
        self
    }

    /// The folder with the keyring and the configuration, instead of `GNUPGHOME` or `~/.gnupg`.
    ///
    /// ```
    /// let mut decrypt = reaped::gpg::Decrypt::new("a message");
    /// decrypt.homedir("/var/lib/backup/gnupg");
    /// ```
    pub fn homedir(&mut self, folder: impl AsRef<Path>) -> &mut Self {
        self.homedir = Some(folder.as_ref().to_owned());
        self
    }

    /// The passphrase of the message, or of the secret key that opens it.
    ///
    /// It reaches gpg through a pipe, is never shown, and is wiped after use. A `Vec` or `String` is moved in, so
    /// this is the only copy; if you give a `&str`, you keep the original. gpg gets the bytes unchanged; its own
    /// tools use UTF-8.
    ///
    /// Without a passphrase, gpg can use only a secret key that has none, or that the agent still has open. Nobody is
    /// asked.
    ///
    /// ```
    /// let mut decrypt = reaped::gpg::Decrypt::new("a message");
    /// decrypt.passphrase("correct horse");
    /// assert!(!format!("{decrypt:?}").contains("horse"));
    /// ```
    pub fn passphrase(&mut self, passphrase: impl Into<Vec<u8>>) -> &mut Self {
        self.passphrase = Some(Feed::Secret(Arc::new(Zeroizing::new(passphrase.into()))));
        self
    }

    /// Whether the message must have a valid signature inside of its encryption; `false` by default.
    ///
    /// A valid signature covers the text, has not expired, and its key has neither expired nor been revoked. **Any**
    /// key in the keyring counts, unless it is marked as distrusted. So compare [`Signature::primary_fingerprint`]
    /// with the one you expect. One valid signature is enough; others may be unknown.
    ///
    /// A *bad* signature always fails the call.
    ///
    /// ```
    /// let mut decrypt = reaped::gpg::Decrypt::new("a message");
    /// decrypt.passphrase("correct horse").require_signature(true);
    /// ```
    ///
    /// # Errors
    /// Without a valid signature the run returns [`Error::SignatureMissing`].
    pub fn require_signature(&mut self, require: bool) -> &mut Self {
        self.require_signature = require;
        self
    }

    /// The most time that gpg may take; without bound by default. See [`Command::timeout`].
    ///
    /// # Errors
    /// The run returns [`Error::Process`] with [`Error::TimedOut`](crate::Error::TimedOut) in it.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::gpg::{Decrypt, Error};
    /// use std::time::Duration;
    /// // `yes` in gpg's place never comes to an end.
    /// let result =
    ///     Decrypt::new("").program("yes").timeout(Duration::from_millis(50)).decrypt().await;
    /// assert!(matches!(result, Err(Error::Process { .. })));
    /// # });
    /// ```
    pub fn timeout(&mut self, most: Duration) -> &mut Self {
        self.timeout = Some(most);
        self
    }

    /// The most bytes of the plaintext; without bound by default. gpg decompresses, so a small message can become a
    /// very long text. gpg's report and its messages are bounded by 1 MiB each.
    ///
    /// # Errors
    /// The run returns [`Error::Process`] with [`Error::OutputLimit`](crate::Error::OutputLimit) in it, and no
    /// plaintext.
    ///
    /// ```
    /// reaped::gpg::Decrypt::new("").limit(1 << 20);
    /// ```
    pub fn limit(&mut self, bytes: u64) -> &mut Self {
        self.limit = Some(bytes);
        self
    }

    /// Starts gpg, and returns a future of the plaintext.
    ///
    /// # Cancellation
    /// Dropping the future kills gpg; see [`Decryption`].
    ///
    /// # Errors
    /// [`Error`] says why there is no plaintext.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::gpg;
    /// let result = gpg::Decrypt::new("a message").passphrase("two\nlines").decrypt().await;
    /// assert!(matches!(result, Err(gpg::Error::InvalidPassphrase(_))));
    /// # });
    /// ```
    pub fn decrypt(&mut self) -> Decryption {
        let passphrase_given = self.passphrase.is_some();
        let require_signature = self.require_signature;
        // gpg reads the first line, and as a C string: it would take a part for the whole.
        let cut = |feed: &Feed| feed.as_slice().iter().any(|byte| matches!(byte, b'\n' | b'\0'));
        let mut look = None;
        let state = if self.passphrase.as_ref().is_some_and(cut) {
            let text = "a passphrase with a line end or a NUL byte cannot be given to gpg".to_owned();
            State::Refused(Error::InvalidPassphrase(Report::new(text, Vec::new())))
        } else {
            look = Some(Look { message: self.ciphertext.clone(), place: 0 });
            State::Running(self.command().output())
        };
        Decryption { state, look, outline: Outline::default(), passphrase_given, require_signature }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // gpg 2.1 and later ignore --passphrase-fd without --batch and loopback mode (gpg(1)). Without a
        // passphrase, loopback would inquire in vain and end with no status line; `error` says why.
        let mode = if self.passphrase.is_some() { "loopback" } else { "error" };
        command.args(["--batch", "--no-tty", "--pinentry-mode", mode]);
        if let Some(passphrase) = &self.passphrase {
            command.args(["--passphrase-fd", &PASSPHRASE.to_string()]);
            command.fd(PASSPHRASE, Stdio(Kind::Bytes(passphrase.clone())));
        }
        // Otherwise the agent would open a message with the passphrase of an earlier run, even if this one is wrong.
        // Since gpg 2.2.7.
        command.arg("--no-symkey-cache");
        // A signature must not make gpg look for its key in the network, even if gpg.conf allows it. (There
        // is --no-auto-key-locate too, but it is about encryption only.)
        command.args(["--no-auto-key-retrieve", "--disable-dirmngr"]);
        if let Some(homedir) = &self.homedir {
            command.arg("--homedir").arg(homedir);
        }
        command.args(["--status-fd", &STATUS.to_string()]);
        // With `show-session-key` in gpg.conf, report and messages have the key in them.
        for secret in [1, 2, STATUS] {
            command.fd(secret, Stdio(Kind::Wiped));
        }
        command.limit_fd(2, REPORT).limit_fd(STATUS, REPORT);
        // `output` in gpg.conf would send the plaintext to a file.
        command.args(["--output", "-", "--decrypt"]);
        command.stdin(Stdio(Kind::Bytes(self.ciphertext.clone())));
        if let Some(most) = self.timeout {
            command.timeout(most);
        }
        if let Some(most) = self.limit {
            command.limit_fd(1, most);
        }
        command
    }
}

/// Shows the settings, whether there is a passphrase, and the length of the message.
impl fmt::Debug for Decrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Decrypt");
        debug.field("program", &self.program).field("homedir", &self.homedir);
        debug.field("passphrase", &self.passphrase.as_ref().map(|_| "hidden"));
        debug.field("require_signature", &self.require_signature);
        debug.field("ciphertext", &format_args!("{} bytes", self.ciphertext.as_slice().len())).finish()
    }
}

/// A running gpg as a future. It resolves to the plaintext, or to the reason why there is none.
///
/// gpg starts at the call, and works while you poll. Any executor can poll it.
///
/// # Cancellation
/// Dropping it kills and reaps gpg, as with a [`Promise`], and wipes the plaintext up to then. A `gpg-agent` that gpg
/// started keeps running: it belongs to the user, and ends by itself when its home folder is gone.
///
/// ```
/// # futures::executor::block_on(async {
/// let decryption = reaped::gpg::Decrypt::new("a message").program("cat").decrypt();
/// drop(decryption);
/// # });
/// ```
#[must_use = "dropping a decryption kills gpg; await it"]
pub struct Decryption {
    state: State,
    /// `Some` until enough of the message was inspected.
    look: Option<Look>,
    outline: Outline,
    passphrase_given: bool,
    require_signature: bool,
}

enum State {
    Running(Promise<Output>),
    /// gpg has ended.
    Ended(Result<Output, ProcessError>),
    /// The error is known; the rest of the plaintext is wiped before it is returned.
    Wiping(Error, Unproved),
    Refused(Error),
    Resolved,
}

/// The part of the message to inspect next.
struct Look {
    message: Feed,
    place: usize,
}

impl Look {
    /// Inspects one piece, whose size bounds the time. It breaks after the last piece that matters.
    fn step(&mut self, outline: &mut Outline) -> ControlFlow<()> {
        let rest = &self.message.as_slice()[self.place..];
        let (piece, rest) = rest.split_at(rest.len().min(PIECE));
        self.place += piece.len();
        outline.push(piece)?;
        if rest.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Decryption {
    /// gpg's process id. It is `None` if gpg did not start, and after it was reaped.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let decryption = reaped::gpg::Decrypt::new("a message").program("cat").decrypt();
    /// assert!(decryption.pid().is_some());
    /// # });
    /// ```
    pub fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Running(promise) => promise.pid(),
            State::Ended(_) | State::Wiping(..) | State::Refused(_) | State::Resolved => None,
        }
    }

    /// The result, and the plaintext that must be wiped before it is returned.
    fn conclude(&mut self, ended: Result<Output, ProcessError>) -> (Result<Decrypted, Error>, Unproved) {
        let mut output = match ended {
            Ok(output) => output,
            Err(mut error) => {
                // A part of the plaintext, which nothing has proved.
                let part = error.output_mut().map(|output| std::mem::take(&mut output.stdout));
                return (Err(interrupted(error)), Unproved::new(part.unwrap_or_default()));
            }
        };
        let mut plaintext = Unproved::new(std::mem::take(&mut output.stdout));
        let status = take_status(&mut output);
        let facts = Facts {
            status: &status,
            exit: output.status.code(),
            plaintext: plaintext.0.len(),
            is_aead: self.outline.is_aead(),
            begins_encrypted: self.outline.begins_encrypted(),
            passphrase_given: self.passphrase_given,
            require_signature: self.require_signature,
        };
        match verdict::judge(&facts) {
            Ok(signatures) => {
                output.stderr.zeroize();
                let plaintext = std::mem::take(&mut *plaintext.0);
                (Ok(Decrypted { plaintext, status: status.lines, signatures }), Unproved::default())
            }
            Err(refusal) => (Err(error_of(refusal, status, output)), plaintext),
        }
    }
}

/// A plaintext that nobody gets. It is wiped in steps; a drop wipes the rest.
#[derive(Default)]
struct Unproved(Zeroizing<Vec<u8>>);

impl Unproved {
    fn new(plaintext: Vec<u8>) -> Self {
        Unproved(Zeroizing::new(plaintext))
    }

    /// Wipes one piece, whose size bounds the time. Returns whether all is wiped.
    fn wipe(&mut self) -> bool {
        let left = self.0.len().saturating_sub(PIECE);
        self.0[left..].zeroize();
        self.0.truncate(left);
        // Wiping a vector also wipes its spare room. A small vector has some that was used; a large one was joined
        // and has none.
        if left == 0 && self.0.capacity() > 4 * PIECE {
            drop(std::mem::take(&mut *self.0));
        }
        left == 0
    }
}

/// Takes gpg's report out of the output, and session keys out of gpg's messages: they would open the message.
fn take_status(output: &mut Output) -> Status {
    let report = take_report(output);
    for key in status::session_keys(&report) {
        hide(&mut output.stderr, key);
    }
    status::parse(&report)
}

fn take_report(output: &mut Output) -> Zeroizing<Vec<u8>> {
    let place = output.extra.iter().position(|(fd, _)| *fd == STATUS);
    Zeroizing::new(place.map_or_else(Vec::new, |place| output.extra.swap_remove(place).1))
}

fn hide(text: &mut [u8], key: &[u8]) {
    // Not by memchr, which may leave what it looked at on the stack.
    let find = |text: &[u8], part: &[u8]| text.windows(part.len()).position(|window| window == part);
    let mut rest = &mut *text;
    while let Some(place) = find(rest, key) {
        let (hidden, after) = rest[place..].split_at_mut(key.len());
        hidden.fill(b'*');
        rest = after;
    }
    // An error quotes the end of stderr, and may begin inside a key.
    if let Some(place) = find(text, "…".as_bytes()) {
        let quoted = &mut text[place + "…".len()..];
        let cut = (1..key.len()).map(|from| &key[from..]).find(|part| quoted.starts_with(part));
        cut.into_iter().for_each(|part| quoted[..part.len()].fill(b'*'));
    }
}

/// The process had no end that can be judged.
fn interrupted(mut error: ProcessError) -> Error {
    let mut lines = Vec::new();
    if let Some(output) = error.output_mut() {
        let report = take_report(output);
        for key in status::session_keys(&report) {
            error.edit(|text| hide(text, key));
        }
        lines = status::parse(&report).lines;
    }
    let report = Report::new(String::new(), lines);
    match error {
        ProcessError::Spawn { reason: SpawnReason::ProgramNotFound, .. } => {
            Error::GpgMissing { source: error, report }
        }
        source => Error::Process { source, report },
    }
}

fn error_of(refusal: verdict::Refusal, status: Status, output: Output) -> Error {
    let (cause, mut text) = (refusal.cause, refusal.text);
    // The status lines do not distinguish an unreachable agent from a missing key.
    if cause == Cause::NoSecretKey {
        push_tail(&mut text, &without_names(&output.stderr));
    }
    let mut report = Report::new(text, status.lines);
    if cause != Cause::Unexplained {
        report = report.with_stderr(&output.stderr);
    }
    match cause {
        Cause::WrongPassphrase => Error::WrongPassphrase(report),
        Cause::PassphraseMissing => Error::PassphraseMissing(report),
        Cause::InvalidPassphrase => Error::InvalidPassphrase(report),
        Cause::NoSecretKey => Error::NoSecretKey(report),
        Cause::Damaged => Error::Damaged(report),
        Cause::NotEncrypted => Error::NotEncrypted(report),
        Cause::BadSignature => Error::BadSignature(report),
        Cause::SignatureMissing => Error::SignatureMissing(report),
        Cause::Unexplained => {
            let details = if output.status.success() {
                let text = format!("exited with code 0, but {report}: is it gpg?");
                Details::of(output, text)
            } else {
                Details::ended(output)
            };
            Error::Process { source: ProcessError::Failed(details), report }
        }
    }
}

/// Drops the lines that name the owner of a key, which gpg indents.
fn without_names(stderr: &[u8]) -> Vec<u8> {
    let lines = stderr.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b" "));
    lines.collect::<Vec<_>>().concat()
}

impl Future for Decryption {
    type Output = Result<Decrypted, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.look.as_mut().is_some_and(|look| look.step(&mut this.outline).is_break()) {
            this.look = None;
        }
        if let State::Running(promise) = &mut this.state {
            let ended = ready!(Pin::new(promise).poll(cx));
            this.state = State::Ended(ended);
        }
        if let (State::Ended(Ok(_)), Some(_)) = (&this.state, &this.look) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (error, mut unproved) = match std::mem::replace(&mut this.state, State::Resolved) {
            State::Ended(ended) => match this.conclude(ended) {
                (Ok(decrypted), _) => return Poll::Ready(Ok(decrypted)),
                (Err(error), unproved) => (error, unproved),
            },
            State::Wiping(error, unproved) => (error, unproved),
            State::Refused(error) => return Poll::Ready(Err(error)),
            State::Running(_) | State::Resolved => panic!("a decryption was polled after it had resolved"),
        };
        if unproved.wipe() {
            return Poll::Ready(Err(error));
        }
        this.state = State::Wiping(error, unproved);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl fmt::Debug for Decryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Decryption");
        match &self.state {
            State::Running(promise) => debug.field("promise", promise),
            State::Ended(_) | State::Wiping(..) => debug.field("ended", &true),
            State::Refused(error) => debug.field("error", error),
            State::Resolved => debug.field("resolved", &true),
        };
        debug.field("require_signature", &self.require_signature).finish()
    }
}

/// A message that gpg decrypted, and whose integrity check held.
///
/// Integrity means that nobody changed the message on its way. It does not say who wrote it: everybody who has the
/// public key can write one. The [`signatures`](Self::signatures) say who did.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::gpg;
/// let message = "-----BEGIN PGP MESSAGE-----
///
/// jA0ECQMCpjt6vtB5eEz/0j8Btt4Iyso/gYcbTxvMjqRqixSIubOaDZEcUtohfOaM
/// Dxj4JSdgA7xuU0QL3OWpsdPysZapj5wQo14uknzAXNw=
/// =chaB
/// -----END PGP MESSAGE-----";
/// # // If there is no gpg, the call says so.
/// # if let Err(gpg::Error::GpgMissing { .. }) = gpg::decrypt(message, "secret").await { return Ok(()) }
/// let decrypted = gpg::decrypt(message, "secret").await?;
/// assert_eq!(decrypted.plaintext, b"attack at dawn");
/// assert!(decrypted.signatures.is_empty());
/// # Ok::<(), gpg::Error>(()) }).unwrap();
/// ```
#[non_exhaustive]
pub struct Decrypted {
    /// The plaintext, every byte. It is yours, and is not wiped; no other copy is left.
    pub plaintext: Vec<u8>,
    /// gpg's status lines.
    pub status: Vec<StatusLine>,
    /// The signatures inside of the encryption, in order; none of them is bad.
    pub signatures: Vec<Signature>,
}

/// Shows only the length of the plaintext.
impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted")
            .field("plaintext", &format_args!("{} bytes", self.plaintext.len()))
            .field("status", &self.status)
            .field("signatures", &self.signatures)
            .finish()
    }
}

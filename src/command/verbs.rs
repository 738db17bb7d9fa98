//! The verbs: each starts the child, and says how its end becomes a result.

use std::process::ExitStatus;

use super::Command;
use super::start::Unset;
use crate::error::Error;
use crate::output::Output;
use crate::process::Process;
use crate::promise::{Call, Promise};

/// A verb of a command and of a pipeline.
pub(super) struct Verb<T> {
    pub(super) unset: [Unset; 3],
    /// How much output is kept.
    pub(super) collect: fn(&mut Call),
    /// How the end becomes the result.
    pub(super) conclude: fn(Output) -> Result<T, Error>,
}

const CAPTURES: [Unset; 3] = [Unset::Null, Unset::Capture, Unset::Capture];

pub(super) const RUN: Verb<()> = Verb {
    unset: [Unset::Inherit; 3],
    collect: Call::collect_little,
    conclude: |output| output.check().map(drop),
};
pub(super) const READ: Verb<String> =
    Verb { unset: CAPTURES, collect: Call::collect, conclude: |output| output.check()?.into_text() };
pub(super) const READ_BYTES: Verb<Vec<u8>> =
    Verb { unset: CAPTURES, collect: Call::collect, conclude: |output| Ok(output.check()?.stdout) };
pub(super) const EXIT_CODE: Verb<i32> =
    Verb { unset: [Unset::Null; 3], collect: Call::collect_little, conclude: Output::into_code };
pub(super) const STATUS: Verb<ExitStatus> =
    Verb { unset: [Unset::Inherit; 3], collect: Call::collect_little, conclude: |output| Ok(output.status) };
pub(super) const OUTPUT: Verb<Output> = Verb { unset: CAPTURES, collect: Call::collect, conclude: Ok };

/// Verbs. Each starts the child at once. All but `spawn` return a [`Promise`]. Your settings win over a verb's
/// defaults.
impl Command {
    /// Runs to the end and expects success. stdin, stdout and stderr are the parent's.
    ///
    /// An error cannot quote stderr, because the user has seen it already. To capture and quote it instead, set
    /// `stderr(Stdio::output())`: the error then carries its end. Other captured output is kept only if a
    /// [`limit`](Self::limit) or [`capture_ends`](Self::capture_ends) bounds it.
    ///
    /// # Cancellation
    /// As with every verb, dropping the promise kills and reaps the child; see [`Promise`].
    ///
    /// # Errors
    /// [`Error::Failed`]. And as with every verb: [`Error::Invalid`], [`Error::Spawn`], [`Error::Io`] and
    /// [`Error::StatusLost`]. If you set the bound or `fail_on_stderr`: [`Error::TimedOut`], [`Error::OutputLimit`]
    /// and [`Error::UnexpectedStderr`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("true").run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn run(&mut self) -> Promise<()> {
        self.promise(RUN)
    }

    /// Returns stdout as text, without the last line end. stdin is the null device. If you set stdout to something
    /// that is not captured, the text is empty.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`run`](Self::run), and [`Error::NotUtf8`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("echo").arg("hi").read().await?, "hi");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn read(&mut self) -> Promise<String> {
        self.promise(READ)
    }

    /// Returns every byte of stdout. stdin is the null device. If you set stdout to something that is not captured,
    /// there are none.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`run`](Self::run).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("printf").arg(r"\0\n").read_bytes().await?, b"\0\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "getProcessOutput")]
    #[doc(alias = "check_output")]
    pub fn read_bytes(&mut self) -> Promise<Vec<u8>> {
        self.promise(READ_BYTES)
    }

    /// Returns the exit code, also if it is not 0. stdin, stdout and stderr are the null device, so no error quotes
    /// stderr.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`run`](Self::run). [`Error::Failed`] comes only if a signal killed the child: there is no code
    /// then.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("false").exit_code().await?, 1);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "getProcessValue")]
    pub fn exit_code(&mut self) -> Promise<i32> {
        self.promise(EXIT_CODE)
    }

    /// Returns the exit status, also of a failure. stdin, stdout and stderr are the parent's, as in std.
    ///
    /// If a signal killed the child, `status.code()` is `None`, and `signal()` of std's `ExitStatusExt` is the
    /// signal.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`run`](Self::run), but never [`Error::Failed`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert!(reaped::Command::new("true").status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn status(&mut self) -> Promise<ExitStatus> {
        self.promise(STATUS)
    }

    /// Returns the status, stdout, stderr and every other captured descriptor. stdin is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`run`](Self::run), but never [`Error::Failed`]: see [`Output::check`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let output = reaped::Command::new("sh").args(["-c", "echo hi; exit 3"]).output().await?;
    /// assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"hi\n"[..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "getProcessOutputAndValue")]
    pub fn output(&mut self) -> Promise<Output> {
        self.promise(OUTPUT)
    }

    /// Starts the child and returns a [`Process`] to talk to it; Twisted's `spawnProcess`.
    ///
    /// What you did not set is a pipe, as in Twisted and not as in std: you can [write](Process::writer) stdin, and
    /// stdout and stderr are read.
    ///
    /// # Cancellation
    /// Dropping the process kills and reaps the child; see [`Process`].
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Spawn`]. This is the only verb that fails at the call.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use futures::io::AsyncWriteExt;
    /// let mut process = reaped::Command::new("cat").spawn()?;
    /// let mut writer = process.writer(0).expect("a pipe, not taken yet");
    /// writer.write_all(b"hi").await?;
    /// drop(writer); // the child's end of file
    /// assert_eq!(process.output().await?.stdout, b"hi");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "spawnProcess")]
    #[doc(alias = "Popen")]
    pub fn spawn(&mut self) -> Result<Process, Error> {
        match self.start([Unset::Talk, Unset::Capture, Unset::Capture]) {
            Ok(transport) => Ok(Process::new(self.call(transport))),
            Err(refusal) => Err(refusal.into_error(self.text())),
        }
    }

    fn promise<T>(&self, verb: Verb<T>) -> Promise<T> {
        match self.start(verb.unset) {
            Ok(transport) => {
                let mut call = self.call(transport);
                (verb.collect)(&mut call);
                Promise::new(call, verb.conclude)
            }
            Err(refusal) => Promise::refused(refusal.into_error(self.text())),
        }
    }
}

//! The verbs: each starts the child and says what to make of its end.

use std::process::ExitStatus;

use super::Command;
use super::start::Unset;
use crate::error::Error;
use crate::output::Output;
use crate::process::Process;
use crate::promise::{Call, Promise};

/// What a verb is, of a command and of a pipeline.
pub(super) struct Verb<T> {
    pub(super) unset: [Unset; 3],
    /// How much is kept for the end.
    pub(super) collect: fn(&Call),
    /// What to make of the end.
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

/// The verbs: each starts the child at once and returns a promise of its end. What was set on the
/// command wins over a verb's defaults.
impl Command {
    /// Runs to the end and expects success; stdin, stdout and stderr are the parent's.
    ///
    /// What the program says on stderr is shown there, and an error cannot quote it.
    /// [`Stdio::output`](crate::Stdio::output) as its stderr has it captured and quoted instead; the error then carries
    /// the end of it. Of other captured descriptors nothing is kept, unless a [`limit`](Self::limit) or
    /// [`capture_ends`](Self::capture_ends) bounds them.
    ///
    /// # Cancellation
    /// As of every verb: dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of every verb: [`Error::Invalid`], [`Error::Spawn`], [`Error::Io`], [`Error::StatusLost`], and, if asked for,
    /// [`Error::TimedOut`], [`Error::OutputLimit`] and [`Error::UnexpectedStderr`]. Of this one also [`Error::Failed`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("true").run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn run(&mut self) -> Promise<()> {
        self.promise(RUN)
    }

    /// What the program wrote to stdout, as text without its last line end; stdin is the null device. Empty if
    /// stdout was set to something that is not captured.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run), and [`Error::NotUtf8`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("echo").arg("hi").read().await?, "hi");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn read(&mut self) -> Promise<String> {
        self.promise(READ)
    }

    /// What the program wrote to stdout, every byte; stdin is the null device. Empty if stdout was set to
    /// something that is not captured.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run).
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

    /// The exit code, whatever it is; stdin, stdout and stderr are the null device, so that no error quotes them.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run); [`Error::Failed`] only for a death by signal, which has no code.
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

    /// How the program ended, whatever that is; stdin, stdout and stderr are the parent's, as in std.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run), but never [`Error::Failed`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert!(reaped::Command::new("true").status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn status(&mut self) -> Promise<ExitStatus> {
        self.promise(STATUS)
    }

    /// Status, stdout, stderr and every other captured descriptor; stdin is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run), but never [`Error::Failed`]: see [`Output::check`].
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

    /// Starts the child and hands out a [`Process`] to talk to it; Twisted's `spawnProcess`.
    ///
    /// If nothing else was set, stdin is a pipe to [write](Process::writer), and stdout and stderr are captured; as
    /// Twisted does it, and not std.
    ///
    /// # Cancellation
    /// Dropping the process kills and reaps the child, see [`Process`].
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
                let call = self.call(transport);
                (verb.collect)(&call);
                Promise::new(call, verb.conclude)
            }
            Err(refusal) => Promise::refused(refusal.into_error(self.text())),
        }
    }
}

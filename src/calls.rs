//! Calls: the one-liners. Each is a short form of a [`Command`] and a verb.

use std::ffi::OsStr;

use crate::command::Command;
use crate::output::Output;
use crate::promise::Promise;

/// Runs a program to its end and expects success. stdin, stdout and stderr are the parent's, so an error cannot quote
/// stderr: the user has seen it already.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Command, run};
/// use std::path::PathBuf;
/// run("test", ["-d", "/"]).await?;
///
/// // Without arguments, `Command`
/// // is shorter than `[""; 0]`. It
/// // takes several types, too.
/// Command::new("true").run().await?;
/// let option = String::from("-d");
/// let folder = PathBuf::from("/");
/// Command::new("test")
///     .arg(&option)
///     .arg(&folder)
///     .run()
///     .await?;
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed) if a signal killed the program, or its exit code is not 0; and the other
/// errors of [`Command::run`].
pub fn run(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Promise<()> {
    Command::new(program).args(args).run()
}

/// Runs a program and returns its stdout as text, without the last line end. stdin is the null device. stderr is
/// captured for the error.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::{Command, read};
/// use std::path::PathBuf;
/// let hi = read("echo", ["hi"]);
/// assert_eq!(hi.await?, "hi");
///
/// // Without arguments, `Command`
/// // is shorter than `[""; 0]`. It
/// // takes several types, too.
/// let system = Command::new("uname")
///     .read()
///     .await?;
/// let option = String::from("-d");
/// let folder = PathBuf::from("/");
/// let listed = Command::new("ls")
///     .arg(&option)
///     .arg(&folder)
///     .read()
///     .await?;
/// assert_eq!(listed, "/");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed); [`Error::NotUtf8`](crate::Error::NotUtf8); and the other errors of
/// [`Command::run`].
pub fn read(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Promise<String> {
    Command::new(program).args(args).read()
}

/// Runs a program and returns every byte of its stdout; Twisted's `getProcessOutput`. stdin is the null device.
/// stderr is captured for the error.
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed), and the other errors of [`Command::run`].
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::read_bytes;
/// let a = read_bytes("echo", ["a"]);
/// assert_eq!(a.await?, b"a\n");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[doc(alias = "getProcessOutput")]
pub fn read_bytes(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Promise<Vec<u8>> {
    Command::new(program).args(args).read_bytes()
}

/// Runs a program and returns its exit code, also if it is not 0; Twisted's `getProcessValue`. stdin, stdout and
/// stderr are the null device.
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed) only if a signal killed the program, because there is no code then; and
/// the other errors of [`Command::run`].
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::exit_code;
/// let script = ["-c", "exit 3"];
/// let sh = exit_code("sh", script);
/// assert_eq!(sh.await?, 3);
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[doc(alias = "getProcessValue")]
pub fn exit_code(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Promise<i32> {
    Command::new(program).args(args).exit_code()
}

/// Runs a program and returns status, stdout and stderr, also if it fails; Twisted's `getProcessOutputAndValue`.
/// stdin is the null device.
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// The errors of [`Command::output`]. A failing program is no error here; [`Output::check`] makes it one.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::output;
/// let sh = ["-c", "echo a; exit 3"];
/// let all = output("sh", sh).await?;
/// assert_eq!(all.stdout, b"a\n");
/// let code = all.status.code();
/// assert_eq!(code, Some(3));
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[doc(alias = "getProcessOutputAndValue")]
pub fn output(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Promise<Output> {
    Command::new(program).args(args).output()
}

/// A [`Command`] that runs a line of shell: `/bin/sh -c script sh`.
///
/// [`arg`](Command::arg) adds `$1`, `$2`, and so on; `"$@"` is all of them. This crate puts nothing into the script.
///
/// Do not build the script with `format!`: the shell would run a value such as `; rm -rf ~`. Give the value as an
/// argument, and write `"$1"` with the quotes, or the shell splits it at blanks.
///
/// # Cancellation
/// If you drop the call or it times out, only the shell is ended; the programs that it started keep running. Set
/// [`new_group()`](Command::new_group) to end all of them.
///
/// # Errors
/// If the line fails, the error has the shell's exit code:
///
/// - 127: a program was not found;
/// - 126: it could not be run;
/// - 128 plus a signal's number: that signal killed it.
///
/// If a signal kills the shell itself, the error names the signal. So it does for a program that the shell has become
/// (`exec`, often the last command).
///
/// The message quotes the script and its arguments; [`hide_args`](Command::hide_args) leaves them out.
///
/// # Platform
/// Unix.
///
/// ```
/// # futures::executor::block_on(async {
/// let name = "two words; echo oops";
/// let script = "echo \"$1\"|wc -l";
/// let lines = reaped::sh(script)
///     .arg(name)
///     .read()
///     .await?;
/// assert_eq!(lines.trim(), "1");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[cfg(unix)]
pub fn sh(script: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg("sh");
    command
}

//! Calls: the one-liners. Each is a few words over [`Command`].

use std::ffi::OsStr;

use crate::command::Command;
use crate::output::Output;
use crate::promise::Promise;

/// Runs a program to its end and expects success; stdin, stdout and stderr are the parent's.
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed) if a signal has killed the program, or it exited with a code other than 0;
/// the others are those of [`Command::run`].
///
/// ```
/// # futures::executor::block_on(async {
/// reaped::run("true", [""; 0]).await?;
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
pub fn run(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Promise<()> {
    Command::new(program).args(args).run()
}

/// What a program writes to stdout, as text without its last line end.
///
/// stdin is the null device; stderr is captured for the error.
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed), [`Error::NotUtf8`](crate::Error::NotUtf8), and those of
/// [`Command::run`].
///
/// ```
/// # futures::executor::block_on(async {
/// assert_eq!(reaped::read("echo", ["hi"]).await?, "hi");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
pub fn read(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Promise<String> {
    Command::new(program).args(args).read()
}

/// What a program writes to stdout, every byte; Twisted's `getProcessOutput`.
///
/// stdin is the null device; stderr is captured for the error.
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed), and those of [`Command::run`].
///
/// ```
/// # futures::executor::block_on(async {
/// assert_eq!(reaped::read_bytes("echo", ["hi"]).await?, b"hi\n");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[doc(alias = "getProcessOutput")]
pub fn read_bytes(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Promise<Vec<u8>> {
    Command::new(program).args(args).read_bytes()
}

/// A program's exit code, whatever it is; Twisted's `getProcessValue`.
///
/// stdin, stdout and stderr are the null device.
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// [`Error::Failed`](crate::Error::Failed) only for a death by signal, which has no code; the others are
/// those of [`Command::run`].
///
/// ```
/// # futures::executor::block_on(async {
/// assert_eq!(reaped::exit_code("sh", ["-c", "exit 3"]).await?, 3);
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[doc(alias = "getProcessValue")]
pub fn exit_code(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Promise<i32> {
    Command::new(program).args(args).exit_code()
}

/// A program's status, stdout and stderr, however it ends; Twisted's `getProcessOutputAndValue`.
///
/// stdin is the null device.
///
/// # Cancellation
/// Dropping the promise kills and reaps the child; see [`Promise`].
///
/// # Errors
/// Those of [`Command::output`]: a failing program is a value here. [`Output::check`] turns it into an error.
///
/// ```
/// # futures::executor::block_on(async {
/// let output = reaped::output("sh", ["-c", "echo hi; exit 3"]).await?;
/// assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"hi\n"[..]));
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
/// [`arg`](Command::arg) adds `$1`, `$2`, and so on, and `"$@"` is all of them. This crate never puts anything into the
/// script itself. Do not build the script by `format!`: the shell runs whatever a name or a number has in it, such as
/// `; rm -rf ~`. Give it as an argument, and write `"$1"`, in quotes, or the shell splits it at blanks.
///
/// # Cancellation
/// If the call is dropped or times out, the shell alone is ended and what it has started lives on. Set
/// [`new_group()`](Command::new_group), and the whole line ends.
///
/// # Errors
/// If the line fails, the error has the shell's exit code: 127 if a program was not found, 126 if it could not be run,
/// 128 plus the signal's number if a signal killed it. If a signal kills the shell itself, or the program that the shell
/// has become (`exec`, often the last command), the error names the signal.
///
/// The message quotes the script and its arguments; [`hide_args`](Command::hide_args) leaves them out.
///
/// # Platform
/// Unix.
///
/// ```
/// # futures::executor::block_on(async {
/// let name = "two words; echo oops";
/// assert_eq!(reaped::sh("echo \"$1\" | wc -l").arg(name).read().await?.trim(), "1");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
#[cfg(unix)]
pub fn sh(script: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg("sh");
    command
}

//! Promise-style child processes: one-line calls that run a program and return a future.
//!
//! ```
//! # futures::executor::block_on(async {
//! let weekday = reaped::read("date", ["+%A"]).await?;
//! # assert!(!weekday.is_empty() && weekday.trim() == weekday);
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```
//!
//! The program starts at the call. The future, a [`Promise`], resolves once the process has **ended**: it
//! was reaped, and every pipe to it is closed, so nothing that it wrote is missing. Any executor will do:
//! smol, async-std, tokio, or a bare `block_on`.
//!
//! # Which call do I want?
//!
//! | I want | call | a failing program is |
//! | --- | --- | --- |
//! | to run it, as at a prompt | [`run`] | an error |
//! | what it prints, as text | [`read`] | an error |
//! | what it prints, every byte | [`read_bytes`] | an error |
//! | its exit code | [`exit_code`] | a value |
//! | status, stdout and stderr | [`output`] | a value |
//! | its status; it uses my terminal | [`Command::status`] | a value |
//! | anything else set before | [`Command`], which has the same verbs | as above |
//! | one program to read what another writes | [`Command::pipe`] | as above |
//! | to talk to it while it runs | [`Command::spawn`], which gives a [`Process`] | an event |
//! | its exit status, and to keep the [`Process`] | [`Process::wait`], [`Process::try_wait`] | a value |
//! | what it prints, and to see it meanwhile | the same calls, with [`Stdio::tee_inherit`] | as above |
//! | the first and the last of what it prints, however much | the same calls, with [`Command::capture_ends`] | as above |
//! | a command line in one piece, without a shell | [`cmd!`], which gives a [`Command`] | as above |
#![cfg_attr(unix, doc = "| a line of shell, with arguments | [`sh`], which gives a [`Command`] | as above |")]
//! | the result in code that is not async | [`Promise::wait`] on any of these promises | as above |
#![cfg_attr(unix, doc = "| to decrypt a message | [`gpg::decrypt`](gpg::decrypt()) | an error |")]
//!
//! For a program without arguments, `Command::new("true").run()` is shorter than `run("true", [""; 0])`. What stdin,
//! stdout and stderr are with each call, [`Command`] shows in a table.
//!
//! The [`guide`] has a [cookbook](guide::cookbook), three [ports](guide::ports), and a page for whoever comes from
//! [std](guide::from_std), [async-process](guide::from_async_process), [tokio](guide::from_tokio),
//! [duct](guide::from_duct) or [Twisted](guide::from_twisted).
//!
//! # A program that grows
//!
//! It sorts words. First it only **captures** what `sort` prints:
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("words");
//! # std::fs::write(&file, "pear\napple\n")?;
//! use reaped::Command;
//! let sorted = Command::new("sort").arg(&file).read().await?;
//! assert_eq!(sorted, "apple\npear");
//! # Ok::<(), std::io::Error>(()) }).unwrap();
//! ```
//!
//! The words are in memory, so it **feeds** them, while the output is read: no size deadlocks. [`Stdio`] says what
//! else a descriptor can be connected to.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, Stdio};
//! let sorted = Command::new("sort").stdin(Stdio::bytes("pear\napple\n")).read().await?;
//! assert_eq!(sorted, "apple\npear");
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```
//!
//! It can **fail**. An [`Error`] reads as one line that a person can act on, and carries what was collected until
//! then; a program that is not there is told apart from one that did not succeed.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, Error, SpawnReason};
//! match Command::new("sort").arg("no-such-file").env("LC_ALL", "C").read().await {
//!     Ok(sorted) => println!("{sorted}"),
//!     Err(Error::Spawn { reason: SpawnReason::ProgramNotFound, .. }) => println!("please install sort"),
//!     Err(error) => {
//!         // `sort no-such-file` exited with code 2: sort: cannot read: no-such-file: No such file or directory
//!         eprintln!("{error}");
//!         assert!(error.output().is_some_and(|output| output.stdout.is_empty()));
//!     }
//! }
//! # });
//! ```
//!
//! It is part of a script that may hang, so it is **bounded**, in time and in size, with all its descendants.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use std::time::Duration;
//! use reaped::{Command, Error};
//! let mut sort = Command::new("sh");
//! sort.args(["-c", "echo half; sort | sleep 100"]);
//! sort.timeout(Duration::from_secs(1)).limit(1 << 20).new_group();
//! let error = sort.read().await.unwrap_err(); // and no `sleep` is left
//! assert!(matches!(error, Error::TimedOut(_)));
//! assert_eq!(error.into_output().unwrap().stdout, b"half\n");
//! # });
//! ```
//!
//! The words come one by one, so it **talks**: a [`Process`] is a stream of [`Event`]s, with [`Writer`]s and
//! [`Reader`]s for its descriptors, whole [`lines`](Process::lines), and a [`Control`] to signal it from anywhere.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use futures::io::AsyncWriteExt;
//! let mut sort = reaped::Command::new("sort").spawn()?;
//! let mut writer = sort.writer(0).expect("a pipe, not taken yet");
//! for word in ["pear", "apple"] {
//!     writer.write_all(format!("{word}\n").as_bytes()).await?;
//! }
//! drop(writer); // the child's end of file
//! assert_eq!(sort.next_line().await.expect("a line").text, "apple");
//! assert_eq!(sort.next_line().await.expect("a line").text, "pear");
//! assert!(sort.status().await?.success());
//! # Ok::<(), std::io::Error>(()) }).unwrap();
//! ```
//!
//! Two sorted lists are merged, which takes **extra descriptors** and no temporary file.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, Stdio};
//! let mut merge = Command::new("sort");
//! merge.args(["-m", "/dev/fd/3", "/dev/fd/4"]);
//! merge.fd(3, Stdio::bytes("apple\npear\n")).fd(4, Stdio::bytes("banana\n"));
//! assert_eq!(merge.read().await?, "apple\nbanana\npear");
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```
//!
//! And the words are a secret, so it **decrypts** them first. The passphrase goes over a descriptor too.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, Stdio, gpg};
//! let message = "-----BEGIN PGP MESSAGE-----
//!
//! jA0ECQMCepU8zKh0zR3/0kABEa2w3syZfo/n0fnXQa+MDgwi3ud3pGMtJo7G9D0m
//! o5zPphzH9tmd9ntkMeTOG++6XVJ9g9LO2sqrRX0/aEbq
//! =lr0e
//! -----END PGP MESSAGE-----";
//! # // If there is no gpg, the call says so.
//! # if let Err(gpg::Error::GpgMissing { .. }) = gpg::decrypt(message, "secret").await { return Ok(()) }
//! let words = gpg::decrypt(message, "secret").await?.plaintext;
//! let sorted = Command::new("sort").stdin(Stdio::secret(words)).read().await?;
//! assert_eq!(sorted, "apple\npear");
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # Pipelines
//!
//! [`Command::pipe`] connects commands by pipes of the kernel. A [`Pipeline`] has the same verbs and bounds, fails when
//! any member does, and keeps the status of each. [`cmd!`] makes a command of one line, without a shell.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, cmd};
//! let digits = "[1-5]";
//! let count = Command::new("seq").arg("9").pipe(cmd!("grep {}", digits)).pipe(cmd!("wc -l")).read().await?;
//! assert_eq!(count.trim(), "5");
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```
//!
//! # What happens when I drop it?
//!
//! | dropped | what happens |
//! | --- | --- |
//! | [`Promise`], [`Process`] | SIGKILL, and the child is reaped in the background: no orphan, no zombie, no thread that stays for it |
//! | the same, with `new_group` | SIGKILL to the whole group |
//! | the same, with [`terminate_on_drop(true)`](Command::terminate_on_drop) | the [`stop_signal`](Command::stop_signal) (SIGTERM unless set), and SIGKILL after the grace, with nobody polling; the pipes close |
//! | the same, with [`kill_on_drop(false)`](Command::kill_on_drop), or [`Promise::detach`] | the pipes close, a terminal stays; the child runs on, and is reaped when it ends |
//! | [`Writer`] | the child reads end of file |
//! | [`Reader`] | the child gets SIGPIPE when it writes |
//! | [`Lines`], the futures of [`Process::next`] and [`Process::wait`] | nothing: the process runs on, and no byte is lost |
//! | [`Control`] | nothing |
//! | [`Command`], [`Pipeline`] | nothing to what runs; secrets are wiped and descriptors closed when no run uses them any more |
//!
//! Descendants live on, unless the child has a group and they are in it. So does a child of ours if nothing is
//! dropped: after [`std::process::exit`], an abort, or a SIGKILL to this program, in a task that the runtime
//! does not drop at its end, and after [`std::mem::forget`].
#![cfg_attr(unix, doc = "[`die_with_parent`](Command::die_with_parent) ends it all the same.")]
//! And a child that nobody polls is not read: it waits once its pipes are full.
//!
//! # How it works
//!
//! **Engines.** On Linux 5.4 and later, with any C library, the new process works in the parent's memory until the
//! program runs (`CLONE_VM`, clone(2)): it takes the steps of a script, each of them one system call, and a pidfd tells
//! of its end. Nothing is forked, so the parent's size does not matter, and neither do extra descriptors, a working
//! directory, a group, limits or a terminal. A child that becomes another user (`uid`, `gid`, `groups`) gets a copy of
//! the memory, as with a fork. Elsewhere, and if a sandbox, gVisor, qemu-user or valgrind lacks what that needs,
//! async-process starts the child, on Unix with a fork. The first start finds out which one it is;
//! `--cfg reaped_portable` chooses the second.
//!
//! **Threads.** Pipes, the exit and timers are watched by async-io's reactor: one thread, `async-io`, for the whole
//! program, started at the first call, which sleeps while nothing happens. Under smol and async-std, whose reactor it
//! is, the executor's threads do its work when they are idle. Under tokio or a bare `block_on` each wake-up comes
//! from that thread, which costs a short child some per cent of its time. The second engine adds async-process's one
//! thread, `async-process`, which waits for exits. Bytes are moved when a promise, a process or one of its handles is
//! polled. While nobody polls, three things are done all the same: a [`timeout`](Command::timeout) ends the child,
//! SIGKILL comes at the end of a [`grace`](Command::grace), and what was dropped is reaped.
//!
//! **Signals.** The first engine installs no handler, for SIGCHLD or anything else, waits for its own children alone,
//! and signals through the pidfd, so that a number which was given away is never hit (a group by its number, which
//! its leader keeps for as long as it is not reaped). async-process uses pidfd if it can, and a handler for
//! SIGCHLD if it cannot. The child starts with no signal blocked or ignored, whatever is so here. If a stranger's
//! `waitpid(-1)` reaps the child, or SIGCHLD is ignored, the pidfd still tells how it ended on Linux 6.15 and later;
//! before that, and with the second engine, it is [`Error::StatusLost`].
//!
//! **Fork.** A host that forks, fork(2), does so before its first call, and before any executor on async-io starts:
//! a copy has no threads. In a copy that was forked later every start is [`SpawnReason::Forked`], and a copied handle
//! does nothing to the host's child (see [`Promise`]). A program that is executed after the fork is free of all this.
//!
//! **Descriptors.** The child gets 0, 1, 2 and what was named, whatever other threads have open. Here each running
//! child has one for each of its pipes and one pidfd, all close-on-exec; the reactor has a few for the whole program.
//! A busy pipe is made larger, up to 256 KiB, if the system lets us.
//!
//! **Windows.** std starts the child, and async-io waits for its end. Pipes are waited for on threads of the `blocking`
//! crate's pool: one for each pipe that has nothing to read or no room to write. It is tested under Wine only. Wine has
//! no Ctrl-Break, so the tests send Ctrl-C in its place. It was never tried on Windows itself.
//!
//! # What Windows does not have
//!
//! Descriptors are 0, 1 and 2 there. There is no `Command::fd`, `inherit_fds`, `arg0`, `uid`, `gid`, `groups`,
//! `umask`, `pty`, `new_session`, `rlimit`, `nice`, `no_new_privileges` and `die_with_parent`; no `Resource` and
//! `PtySize`; no `Stdio::parent_fd`, and no `Stdio` from a `Reader` or a `Writer`; no `AsFd` of a `Reader`; no
//! `Process::resize`; no `sh` and no `gpg`.
//!
//! A [`new_group`](Command::new_group) is a job object, which is asked by Ctrl-Break at a common console; any other child
//! is ended at once by INT, TERM and KILL. Any other signal is an error.
//!
//! A program is found as std finds it there, and then by `PATHEXT`, and a child also inherits what other parts of the
//! program have marked inheritable. What only Windows has is `Command::raw_arg` and `Command::no_window`.
//!
//! # When not to use this
//!
//! - Nothing in the program is async, and nothing is to run side by side: [`std::process`] has all that is needed, and
//!   duct has pipelines on top.
//! - The program lives on tokio, starts very many short children, needs no more than 0, 1 and 2, and every
//!   microsecond counts: `tokio::process` waits in the reactor that runs already.
//! - Something has to be done in the child before the program runs that no setting says: namespaces, seccomp. There is
//!   no `pre_exec`; either a program does it (`setpriv`, `unshare`), or [`std::process::Command`] with its `pre_exec`.
//! - The child must outlive this program and be looked after: that is a service, and systemd's or another supervisor's.
//! - This program is to *become* the other one: `std::os::unix::process::CommandExt::exec`.
//! - Terminals and extra descriptors on Windows: they are not there.
//! - OpenPGP without a `gpg` on the machine: that takes a library, such as Sequoia.
//!
//! # Features
//!
//! `tracing`, off by default: each child is a span `child` of the target `reaped`, at level INFO, from the call to the
//! end, or until it is dropped. Nothing is recorded if nobody subscribed to it, and there are no events.
//!
//! | field | |
//! | --- | --- |
//! | `program` | as it was given; never the arguments, the environment or what was fed |
//! | `pid` | if it started |
//! | `error` | if it did not: the [`SpawnReason`] and what the system said, or the [`InvalidReason`] |
//! | `status` | as [`ExitStatus`] shows it; `lost` for [`Error::StatusLost`], and absent if it was dropped |
//! | `bytes` | that went through its pipes until then, in either direction |
//! | `elapsed` | from the call |

mod calls;
mod cmd;
mod command;
mod control;
mod error;
#[cfg(unix)]
pub mod gpg;
pub mod guide;
#[cfg(unix)]
mod limit;
mod output;
mod process;
mod promise;
mod protocol;
mod signal;
mod spawn;
mod stdio;
mod transport;

#[cfg(unix)]
pub use calls::sh;
pub use calls::{exit_code, output, read, read_bytes, run};
pub use command::{Command, Pipeline};
pub use control::Control;
pub use error::{Details, Error, InvalidReason, SpawnReason};
#[cfg(unix)]
pub use limit::Resource;
pub use output::{Output, Usage};
pub use process::{Event, Line, Lines, Process, Reader, Writer};
pub use promise::Promise;
pub use signal::{Signal, UnknownSignal};
pub use std::process::ExitStatus;
#[cfg(unix)]
pub use stdio::PtySize;
pub use stdio::Stdio;

/// What [`cmd!`] expands to.
#[doc(hidden)]
pub mod __cmd {
    pub use crate::cmd::{Number, Text, Value, Word, check, command, list, one};
}

/// The README's examples run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

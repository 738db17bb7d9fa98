//! Child processes for async Rust: one-line calls that run a program and return a future.
//!
//! ```
//! use futures::executor::block_on;
//! use reaped::{Error, read};
//!
//! fn main() -> Result<(), Error> {
//!     let ls = read("ls", ["/"]);
//!     block_on(async {
//!         println!("{}", ls.await?);
//!         Ok(())
//!     })
//! }
//! ```
//!
//! The program starts at the call. The future, a [`Promise`], resolves once the child has **ended**: it was reaped and
//! every pipe to it is closed, so its output is complete. Dropping the promise kills the child. Any executor will do:
//! smol, async-std, tokio, or a bare `block_on`.
//!
//! # Which call do I want?
//!
//! | I want | call | a failing program is |
//! | --- | --- | --- |
//! | to run it, as at a prompt | [`run`] | an error |
//! | its stdout, as text | [`read`] | an error |
//! | its stdout, every byte | [`read_bytes`] | an error |
//! | its exit code | [`exit_code`] | a value |
//! | status, stdout and stderr | [`output`] | a value |
//! | its status, with my terminal | [`Command::status`] | a value |
//! | settings before that | [`Command`], with the same verbs | as above |
//! | a pipe into the next program | [`Command::pipe`] | as above |
//! | to talk to it while it runs | [`Command::spawn`], which returns a [`Process`] | an event |
//! | to see the output, and have it | the same calls with [`Stdio::tee_inherit`] | as above |
//! | the ends of a long output | the same calls with [`Command::capture_ends`] | as above |
//! | a command line, checked at compile time | [`cmd!`], which makes a [`Command`] | as above |
#![cfg_attr(unix, doc = "| a line of shell with arguments | [`sh`], which makes a [`Command`] | as above |")]
//! | the result without async | [`Promise::wait`] on any promise | as above |
#![cfg_attr(unix, doc = "| to decrypt a message | [`gpg::decrypt`](gpg::decrypt()) | an error |")]
//!
//! Without arguments, `Command::new("true").run()` is shorter than `run("true", [""; 0])`. For arguments of several
//! types, add each with [`Command::arg`]. [`Command`] has a table of what stdin, stdout and stderr are with each verb.
//!
//! The [`guide`] has a [cookbook](guide::cookbook), three [ports](guide::ports), and a page for those who come from
//! [std](guide::from_std), [async-process](guide::from_async_process), [tokio](guide::from_tokio),
//! [duct](guide::from_duct) or [Twisted](guide::from_twisted).
//!
//! # A program that grows
//!
//! It sorts words. First it **captures** the output of `sort`:
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("words");
//! # std::fs::write(&file, "pear\napple\n")?;
//! use reaped::Command;
//! let sorted = Command::new("sort")
//!     .arg(&file)
//!     .read()
//!     .await?;
//! assert_eq!(sorted, "apple\npear");
//! # Ok::<(), std::io::Error>(()) }).unwrap();
//! ```
//!
//! If the words are in memory, it writes them to **stdin** while it reads the output, so no size deadlocks. [`Stdio`]
//! lists what else a descriptor can be connected to.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, Stdio};
//! let words = "pear\napple\n";
//! let sorted = Command::new("sort")
//!     .stdin(Stdio::bytes(words))
//!     .read()
//!     .await?;
//! assert_eq!(sorted, "apple\npear");
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```
//!
//! It can **fail**. An [`Error`] is one line for a person, and carries the output captured so far. You can tell a
//! missing program from one that failed.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::SpawnReason::*;
//! use reaped::{Command, Error};
//! let sorted = Command::new("sort")
//!     .arg("gone")
//!     .read()
//!     .await;
//! match sorted {
//!     Ok(all) => println!("{all}"),
//!     Err(Error::Spawn {
//!         reason: ProgramNotFound,
//!         ..
//!     }) => println!("no sort yet"),
//!     // `sort gone` exited with
//!     // code 2: sort: cannot read …
//!     Err(e) => println!("{e}"),
//! }
//! # });
//! ```
//!
//! It may hang, so it is **bounded**, in time and in size, with all its descendants.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Error, sh};
//! use std::time::Duration;
//! let soon = Duration::from_secs(1);
//! let error = sh("echo a; sleep 99")
//!     .timeout(soon)
//!     .limit(1 << 20)
//!     .new_group()
//!     .read()
//!     .await
//!     .unwrap_err();
//! // No `sleep` is left.
//! assert!(matches!(
//!     error,
//!     Error::TimedOut(_)
//! ));
//! let output = error.into_output();
//! let half = output.unwrap().stdout;
//! assert_eq!(half, b"a\n");
//! # });
//! ```
//!
//! The words come one by one, so it **talks**. A [`Process`] is a stream of [`Event`]s. It has [`Writer`]s,
//! [`Reader`]s and whole [`lines`](Process::lines), and a [`Control`] that signals the child from any thread.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use futures::io::AsyncWriteExt;
//! use reaped::Command;
//! let mut sort =
//!     Command::new("sort").spawn()?;
//! let stdin = sort.writer(0);
//! let mut stdin = stdin.unwrap();
//! stdin.write_all(b"pear\n").await?;
//! stdin.write_all(b"fig\n").await?;
//! drop(stdin); // the end of file
//! let line = sort.next_line().await;
//! let line = line.unwrap().text;
//! assert_eq!(line, "fig");
//! let line = sort.next_line().await;
//! let line = line.unwrap().text;
//! assert_eq!(line, "pear");
//! let status = sort.status().await?;
//! assert!(status.success());
//! # Ok::<(), std::io::Error>(()) }).unwrap();
//! ```
//!
//! It merges two sorted lists through **extra descriptors**, without a temporary file.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, Stdio};
//! let merged = Command::new("sort")
//!     .args(["-m", "/dev/fd/3"])
//!     .arg("/dev/fd/4")
//!     .fd(3, Stdio::bytes("a\nc\n"))
//!     .fd(4, Stdio::bytes("b\n"))
//!     .read()
//!     .await?;
//! assert_eq!(merged, "a\nb\nc");
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```
//!
//! The words are a secret, so it **decrypts** them first. The passphrase goes through a descriptor too.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, Stdio, gpg};
//! let letter = "\
//! -----BEGIN PGP MESSAGE-----
//!
//! jA0ECQMCepU8zKh0zR3/0kABEa2w3syZ
//! fo/n0fnXQa+MDgwi3ud3pGMtJo7G9D0m
//! o5zPphzH9tmd9ntkMeTOG++6XVJ9g9LO
//! 2sqrRX0/aEbq
//! =lr0e
//! -----END PGP MESSAGE-----";
//! # // If there is no gpg, the call says so.
//! # if let Err(gpg::Error::GpgMissing { .. }) = gpg::decrypt(letter, "secret").await { return Ok(()) }
//! let words =
//!     gpg::decrypt(letter, "secret")
//!         .await?
//!         .plaintext;
//! let sorted = Command::new("sort")
//!     .stdin(Stdio::secret(words))
//!     .read()
//!     .await?;
//! assert_eq!(sorted, "apple\npear");
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # Pipelines
//!
//! [`Command::pipe`] connects commands by kernel pipes. A [`Pipeline`] has the same methods. It fails if any member
//! fails, and keeps the status of each. [`cmd!`] checks a command line at compile time; no shell runs.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::cmd;
//! let digits = "[1-5]";
//! let count = cmd!("seq 9")
//!     .pipe(cmd!("grep {}", digits))
//!     .pipe(cmd!("wc -l"))
//!     .read()
//!     .await?;
//! assert_eq!(count.trim(), "5");
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```
//!
//! # What happens when I drop it?
//!
//! | dropped | what happens |
//! | --- | --- |
//! | [`Promise`], [`Process`] | the child gets SIGKILL, and is reaped in the background: no zombie is left |
//! | the same, with [`new_group`](Command::new_group) | the whole group gets SIGKILL |
//! | the same, with [`terminate_on_drop(true)`](Command::terminate_on_drop) | the pipes close; the child gets its [`stop_signal`](Command::stop_signal) (SIGTERM by default), and SIGKILL after the grace, even if nobody polls |
//! | the same, with [`kill_on_drop(false)`](Command::kill_on_drop), or [`Promise::detach`] | the pipes close, a terminal stays; the child keeps running, and is reaped when it ends |
//! | [`Writer`] | the child reads end of file |
//! | [`Reader`] | the child gets SIGPIPE when it writes |
//! | [`Lines`], the futures of [`Process::next`] and [`Process::wait`] | nothing: the process keeps running, and no byte is lost |
//! | [`Control`] | nothing |
//! | [`Command`], [`Pipeline`] | running children are unaffected; secrets are wiped and descriptors closed after the last run |
//!
//! Grandchildren keep running unless you set [`new_group`](Command::new_group).
//!
//! If your program ends without running destructors, nothing is dropped and **the children keep running**:
//!
//! - after [`std::process::exit`], an abort or [`std::mem::forget`];
//! - in a task that its runtime does not drop at the end;
//! - after a signal that you do not handle, such as SIGTERM or SIGINT. (Ctrl-C at a terminal sends SIGINT to your
//!   program and to its children; it does not reach a child with a [`new_group`](Command::new_group).)
//!
//! Three things help. Handle the signal and drop or [`terminate`](Control::terminate) your promises: the
//! [cookbook](guide::cookbook) has a recipe. [`terminate_on_drop`](Command::terminate_on_drop) makes each drop polite.
#![cfg_attr(
    unix,
    doc = "And [`die_with_parent`](Command::die_with_parent) kills the child whenever your program ends."
)]
//!
//! # What you can rely on
//!
//! | question | answer |
//! | --- | --- |
//! | Which thread does the I/O? | The thread that polls. One more thread, async-io's, waits and wakes. |
//! | What if nobody polls? | Nothing is read or written, so a child that fills a pipe blocks. A [`timeout`](Command::timeout), a [`grace`](Command::grace) and reaping work all the same. |
//! | When does a timeout start? | At the call. If the child has already ended when you poll, you get its result. |
//! | Can two runs of one [`Command`] be alive? | Yes. Only a [`Stdio::reader`], [`tee`](Stdio::tee) or [`writer`](Stdio::writer) serves one run. |
//! | What is stdin in [`read`]? | The null device. [`run`] and [`Command::status`] inherit it. |
//! | What if stdout is not UTF-8? | [`read`] returns [`Error::NotUtf8`] with the bytes; use [`read_bytes`]. |
//! | Is stderr in the error of [`run`]? | No, the user has seen it. [`read`], [`read_bytes`] and [`output`] capture it. |
//! | Are bytes after a [`limit`](Command::limit) kept? | No: the first `n` are, and the child is killed. |
//! | What is the [`ExitStatus`] of a death by signal? | `code()` is `None`, and `signal()` of std's `ExitStatusExt` is the signal. |
//! | What is [`exit_code`] then? | [`Error::Failed`], because there is no code. |
//! | What is the pid after the end? | `None`, because the system may give the number to another process. |
//! | Is a [`Promise`] `Send`, `Sync`, `Unpin`? | Yes, all of them, and `'static`. |
//! | Does it work after fork(2)? | Only if the first call comes after the fork; see below. |
//! | And beside my own handler for SIGCHLD? | Yes: the first engine installs no handler; see below. |
//!
//! # How it works
//!
//! **Engines.** The engine is chosen when the first child starts. The first engine needs Linux 5.4, with any C library.
//! The new process shares the parent's memory until the program runs (`CLONE_VM`, clone(2)), and makes a prepared list
//! of system calls. A pidfd reports its end. Nothing is copied, so the parent's size does not matter. Extra
//! descriptors, a working directory, a group, limits and a terminal do not change that. Only a child that becomes
//! another user (`uid`, `gid`, `groups`) gets a copy of the memory, as in a fork.
//!
//! The second engine, async-process, serves every other system. It also serves sandboxes, gVisor, qemu-user and
//! valgrind if they lack what the first engine needs. On Unix it forks. `--cfg reaped_portable` chooses it.
//!
//! **Threads.** I/O happens on the thread that polls. One thread for the whole program, async-io's `async-io`, watches
//! pipes, exits and timers, and sleeps while nothing happens. Under smol and async-std their own threads do this work
//! when they are idle. Under tokio or a bare `block_on`, that thread does every wake-up, so very short children take a
//! few per cent longer. The second engine adds one thread, `async-process`, which waits for exits.
//!
//! Without polling only three things happen: a [`timeout`](Command::timeout) ends the child, SIGKILL comes after a
//! [`grace`](Command::grace), and a dropped child is reaped.
//!
//! **Signals.** The first engine installs no signal handler, waits for its own children only, and signals through the
//! pidfd. So it never hits another process that got the same number. A group is signalled by its number, which stays
//! taken until its leader is reaped. async-process uses a pidfd if it can, or else a handler for SIGCHLD. No signal is
//! blocked or ignored in the child.
//!
//! If another part of the program reaps the child (`waitpid(-1)`), or SIGCHLD is ignored, the first engine still gets
//! the status on Linux 6.15 and later. Otherwise the call returns [`Error::StatusLost`].
//!
//! **Fork.** If your program forks (fork(2)) and goes on in the copy, fork before the first call, and before any
//! executor on async-io starts: a copy has no threads. In a later copy every start returns [`SpawnReason::Forked`],
//! and a copied handle does nothing to the child; see [`Promise`]. A fork that executes a program is always fine.
//!
//! **Descriptors.** On Unix the child gets 0, 1, 2 and the descriptors that you set, even if other threads have more
//! open. This program holds one descriptor for each pipe and one pidfd for each running child, all close-on-exec. The
//! reactor has a few for the whole program. A busy pipe grows up to 256 KiB, if the system permits it.
//!
//! **Windows.** std starts the child, and async-io waits for its end. No thread waits for a pipe: the system finishes
//! the operation later, and its own thread pool wakes the task. It is tested under Wine only. Wine has no Ctrl-Break, so the tests
//! send Ctrl-C instead. It was never tried on Windows itself.
//!
//! # What Windows does not have
//!
//! - Descriptors other than 0, 1 and 2: `fd`, `inherit_fds`, `Stdio::parent_fd`, `Stdio` from a `Reader` or a
//!   `Writer`, and `AsFd` of a `Reader`.
//! - Settings of `Command`: `arg0`, `uid`, `gid`, `groups`, `umask`, `new_session`, `rlimit` (and `Resource`), `nice`,
//!   `no_new_privileges`, `die_with_parent`.
//! - Terminals: `pty`, `PtySize`, `Process::resize`.
//! - `sh` and `gpg`.
//!
//! A [`new_group`](Command::new_group) is a job object. It gets Ctrl-Break if it shares the console. INT, TERM and KILL
//! end any other child at once. Any other signal is an error.
//!
//! A program is searched as in std, and then by `PATHEXT`. A child also inherits the handles that other parts of the
//! program have marked inheritable. Only Windows has `Command::raw_arg` and `Command::no_window`.
//!
//! # When not to use this
//!
//! - Nothing in your program is async or runs side by side. [`std::process`] is enough, and duct adds pipelines.
//! - Your program runs on tokio, starts very many short children with 0, 1 and 2 only, and every microsecond counts.
//!   `tokio::process` waits in the reactor that runs already.
//! - The child must do something before the program runs that has no setting here, such as namespaces or seccomp.
//!   There is no `pre_exec`. Let a program do it (`setpriv`, `unshare`), or use [`std::process::Command`].
//! - The child must outlive your program and be looked after. That is a service: use systemd or another supervisor.
//! - Your program must *become* the other one: use `std::os::unix::process::CommandExt::exec`.
//! - You need terminals or extra descriptors on Windows.
//! - You need OpenPGP on a machine without `gpg`: use a library such as Sequoia.
//!
//! # Features
//!
//! `tracing`, off by default: each child is a span `child` of the target `reaped`, at level INFO, from the call to the
//! end or the drop. There are no events. Without a subscriber nothing is recorded.
//!
//! | field | |
//! | --- | --- |
//! | `program` | as you gave it; never the arguments, the environment or the input |
//! | `pid` | if it started |
//! | `error` | if it did not: the [`SpawnReason`] and the system's words, or the [`InvalidReason`] |
//! | `status` | as [`ExitStatus`] shows it; `lost` for [`Error::StatusLost`], and absent after a drop |
//! | `bytes` | through its pipes, in both directions |
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

/// The functions that [`cmd!`] expands to.
#[doc(hidden)]
pub mod __cmd {
    pub use crate::cmd::{Number, Text, Value, Word, check, command, list, one};
}

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

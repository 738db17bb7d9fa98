//! Promise-style child processes: one-line calls that run a program and return a future.
//!
//! ```
//! # futures::executor::block_on(async {
//! let version = reaped::read("git", ["--version"]).await?;
//! # assert!(version.starts_with("git version"));
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
//! | anything else set before | [`Command`], which has the same verbs | as above |
//! | one program to read what another writes | [`Command::pipe`] | as above |
#![cfg_attr(unix, doc = "| to decrypt a message | [`gpg::decrypt`](gpg::decrypt()) | an error |")]
//!
//! # Feeding, and other descriptors
//!
//! [`Stdio`] says what a descriptor of the child is connected to. What is fed is fed while output is read, so
//! no size deadlocks.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use reaped::{Command, Stdio};
//! let output = Command::new("sh")
//!     .args(["-c", "cat; cat <&3 >&4"])
//!     .stdin(Stdio::bytes("in"))
//!     .fd(3, Stdio::secret(String::from("hunter2")))
//!     .fd(4, Stdio::output())
//!     .output()
//!     .await?;
//! assert_eq!((&output.stdout[..], output.fd(4)), (&b"in"[..], Some(&b"hunter2"[..])));
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```
//!
//! # Talking to a child
//!
//! [`Command::spawn`] hands out a [`Process`]: a stream of [`Event`]s, with [`Writer`]s and [`Reader`]s for its
//! descriptors, whole [`lines`](Process::lines), and a [`Control`] to signal it from anywhere.
//!
//! ```
//! # futures::executor::block_on(async {
//! use futures::io::AsyncWriteExt;
//! let mut cat = reaped::Command::new("cat").spawn()?;
//! let mut writer = cat.writer(0).expect("a pipe, not taken yet");
//! writer.write_all(b"hello\n").await?;
//! assert_eq!(cat.next_line().await.expect("an answer").text, "hello");
//! drop(writer); // the child's end of file
//! assert!(cat.status().await?.success());
//! # Ok::<(), std::io::Error>(()) }).unwrap();
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
//! # Bounds
//!
//! [`Command::timeout`], [`idle_timeout`](Command::idle_timeout), [`limit`](Command::limit) and
//! [`drain_timeout`](Command::drain_timeout) bound a run, [`new_group`](Command::new_group) reaches its descendants,
//! and what was collected is kept in any case.
//!
//! ```
//! # #[cfg(unix)] futures::executor::block_on(async {
//! use std::time::Duration;
//! let mut build = reaped::Command::new("sh");
//! build.args(["-c", "echo half; sleep 100"]).timeout(Duration::from_millis(100)).new_group();
//! let error = build.read().await.unwrap_err();
//! assert_eq!(error.output().unwrap().stdout, b"half\n");
//! # });
//! ```
//!
//! # When it fails
//!
//! An [`Error`] reads as one line that a person can act on, and carries what was collected until then.
//!
//! ```
//! # futures::executor::block_on(async {
//! let error = reaped::read("sh", ["-c", "echo half; echo 'disk full' >&2; exit 1"]).await.unwrap_err();
//! assert!(error.to_string().ends_with("exited with code 1: disk full"));
//! assert_eq!(error.output().unwrap().stdout, b"half\n");
//! # });
//! ```
//!
//! # What happens when I drop it?
//!
//! Dropping a promise or a process sends SIGKILL to the child and has it reaped in the background: no orphan, no zombie,
//! no thread that stays for it. Its descendants live on, unless it was given a [`new_group`](Command::new_group).
//!
//! # How it works
//!
//! On Linux (with pidfd and glibc 2.34) a child is started by `posix_spawn`, which shares the parent's memory
//! until the program runs; nothing is ever forked, so the parent's size does not matter. Elsewhere, and for
//! [`uid`](Command::uid), [`gid`](Command::gid), [`groups`](Command::groups) and [`umask`](Command::umask),
//! async-process starts it. Pipes and the exit are watched by async-io's reactor, one thread for the whole
//! program, started at the first call; async-process adds one of its own where it is used. No signal handler is
//! installed on the first way; async-process may install one for SIGCHLD.
//!
//! On Windows, where descriptors are 0, 1 and 2, pipes are waited for on threads of the `blocking` crate's
//! pool: one for each pipe that has nothing to read or no room to write. A program is found as std finds it
//! there, and a child also inherits what other parts of the program have marked inheritable.
//!
//! The child starts with no signal blocked or ignored, and gets exactly the descriptors that were named.

mod calls;
mod command;
mod control;
mod error;
#[cfg(unix)]
pub mod gpg;
mod output;
mod process;
mod promise;
mod protocol;
mod signal;
mod spawn;
mod stdio;
mod transport;
mod words;

pub use calls::{exit_code, output, read, read_bytes, run};
pub use command::{Command, Pipeline};
pub use control::Control;
pub use error::{Details, Error, InvalidReason, SpawnReason};
pub use output::{Output, Usage};
pub use process::{Event, Line, Lines, Process, Reader, Writer};
pub use promise::Promise;
pub use signal::Signal;
pub use std::process::ExitStatus;
#[cfg(unix)]
pub use stdio::PtySize;
pub use stdio::Stdio;

/// What [`cmd!`] expands to.
#[doc(hidden)]
pub mod __words {
    pub use crate::words::{Value, check, command, list, one};
}

/// The README's examples run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

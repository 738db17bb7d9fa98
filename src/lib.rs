//! Promise-style child processes: one-line calls that run a program and return a future.
//!
//! ```
//! # futures::executor::block_on(async {
//! let head = reaped::read("git", ["--version"]).await?;
//! # assert!(head.starts_with("git version"));
//! # Ok::<(), reaped::Error>(()) }).unwrap();
//! ```

mod calls;
mod command;
mod error;
mod output;
mod promise;
mod protocol;
#[cfg(unix)]
mod signal;
mod spawn;
mod stdio;
mod transport;

pub use calls::{exit_code, output, read, read_bytes, run};
pub use command::Command;
pub use error::{Details, Error, InvalidReason, SpawnReason};
pub use output::{Output, Usage};
pub use promise::Promise;
pub use std::process::ExitStatus;
pub use stdio::Stdio;

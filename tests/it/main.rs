//! Everything that needs a real process: one binary, so that it links once.
//!
//! Run it a second time with `RUSTFLAGS="--cfg reaped_portable"` for the other engine.
#![allow(missing_docs, unreachable_pub)]
// Hosts with odd signals and odd descriptors are made with raw system calls, in processes of their own.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]

// Its `#[test]` is meant, in every module.
#[macro_use]
extern crate reaped_test;

#[cfg(unix)]
mod calls;
mod harness;
mod helper;
mod house;
mod promised;
mod support;

#[cfg(target_os = "linux")]
mod asked;
#[cfg(target_os = "linux")]
mod bounds;
#[cfg(unix)]
mod bulk;
#[cfg(unix)]
mod causes;
#[cfg(unix)]
mod differential;
#[cfg(target_os = "linux")]
mod drops;
#[cfg(target_os = "linux")]
mod edges;
#[cfg(unix)]
mod endings;
#[cfg(unix)]
mod environment;
#[cfg(unix)]
mod errors;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(unix)]
mod gpg;
#[cfg(unix)]
mod guardian;
#[cfg(target_os = "linux")]
mod handles;
#[cfg(unix)]
mod hangups;
#[cfg(target_os = "linux")]
mod kept;
#[cfg(target_os = "linux")]
mod late;
#[cfg(target_os = "linux")]
mod lines;
#[cfg(unix)]
mod messages;
#[cfg(target_os = "linux")]
mod model;
#[cfg(target_os = "linux")]
mod pipelines;
#[cfg(unix)]
mod plans;
#[cfg(target_os = "linux")]
mod secrets;
#[cfg(target_os = "linux")]
mod signals;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod starting;
#[cfg(unix)]
mod stdio;
#[cfg(target_os = "linux")]
mod strangers;
#[cfg(target_os = "linux")]
mod talk;
#[cfg(target_os = "linux")]
mod terminal;
#[cfg(unix)]
mod tracing;
#[cfg(target_os = "linux")]
mod waits;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
mod windows_batch;
#[cfg(windows)]
mod windows_break;
#[cfg(windows)]
mod windows_ends;
#[cfg(windows)]
mod windows_many;

fn main() -> std::process::ExitCode {
    harness::main()
}

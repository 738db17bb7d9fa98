//! Fuzz targets for the pure layers of `reaped`: bytes in, and a panic if a rule is broken. `fuzz/run TARGET`
//! runs one.
//!
//! | target | layer | model it is held against |
//! | --- | --- | --- |
//! | `lines` | `protocol/lines.rs` | a split of the whole, without any memory of what came before |
//! | `protocol` | `protocol/mod.rs` | a log of the facts, and what may be said of it at each moment |
//! | `plan` | `spawn/unix/fds.rs` | a table of descriptors, as a kernel keeps it |
//! | `gpg` | `gpg/status.rs`, `verdict.rs`, `signature.rs` | the report read as a whole, by places and counts |
//!
//! The layers are included by path, so nothing in them need be public in `reaped`. Inputs that found
//! something are in `corpus/`, and `cargo test -p reaped-fuzz` replays them.

mod choices;
mod facts;
mod gpg;
mod lines;
mod plan;

pub use facts::protocol;
pub use gpg::gpg;
pub use lines::lines;
pub use plan::plan;

/// A target, and its name.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 4] = [("lines", lines), ("protocol", protocol), ("plan", plan), ("gpg", gpg)];

// The modules of `reaped` that a target needs, where they expect each other to be.
#[allow(dead_code, reason = "only a part of it is tried here")]
#[path = "../../src/error/mod.rs"]
mod error;
#[allow(dead_code, reason = "only a part of it is tried here")]
#[path = "../../src/output.rs"]
mod output;
#[allow(dead_code, reason = "only a part of it is tried here")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;
#[allow(dead_code, reason = "only a part of it is tried here")]
#[path = "../../src/signal.rs"]
mod signal;

//! Pages beside the reference: a cookbook, ports of whole programs, and how to come here from other libraries.

// Owns no code; the text is in `docs/`, and its examples run as tests.

/// Tasks that come up again and again, each with an answer that runs.
#[doc = include_str!("../docs/cookbook.md")]
pub mod cookbook {}

/// A task runner, a language-server client and a test harness, before and after.
#[doc = include_str!("../docs/ports.md")]
pub mod ports {}

/// From `std::process`: what stays, what changes, and what becomes shorter.
#[doc = include_str!("../docs/from-std.md")]
pub mod from_std {}

/// From `async-process`: call by call.
#[doc = include_str!("../docs/from-async-process.md")]
pub mod from_async_process {}

/// From `tokio::process`: call by call.
#[doc = include_str!("../docs/from-tokio.md")]
pub mod from_tokio {}

/// From `duct`: call by call.
#[doc = include_str!("../docs/from-duct.md")]
pub mod from_duct {}

/// From Twisted: `spawnProcess`, the protocol's callbacks, the transport's methods and the one-line calls.
#[doc = include_str!("../docs/from-twisted.md")]
pub mod from_twisted {}

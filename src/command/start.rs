//! From what was set, and a verb's defaults, to a running child.
//!
//! Rule: what the user set wins over a verb's default.

use std::ffi::{OsStr, OsString};
use std::sync::{Arc, PoisonError};

use super::Command;
use crate::error::{InvalidReason, Refusal};
use crate::spawn::{End, Launch};
use crate::stdio::{Feed, Kind};
use crate::transport::{Source, Transport};

/// What a verb does with a standard descriptor that the user did not set.
#[derive(Clone, Copy)]
pub(super) enum Unset {
    Inherit,
    Null,
    Capture,
}

impl Command {
    pub(super) fn start(&self, defaults: [Unset; 3]) -> Result<Transport, Refusal> {
        if let Some(n) = self.set_twice {
            let text = format!("descriptor {n} was set both by name and by fd({n}, …)");
            return Err(Refusal::invalid(InvalidReason::Conflict, text));
        }
        let mut wiring = Wiring::default();
        for (n, default) in (0..).zip(defaults) {
            if !self.stdio.contains_key(&n) {
                wiring.ends.push((
                    n,
                    match default {
                        Unset::Capture => End::Output,
                        // Without a look at stderr, nothing would be known of it.
                        _ if n == 2 && self.fail_on_stderr => End::Output,
                        Unset::Inherit => End::Inherit,
                        Unset::Null => End::Null,
                    },
                ));
            }
        }
        for (n, setting) in &self.stdio {
            wiring.add(*n, &setting.stdio.0)?;
        }
        wiring.ends.sort_unstable_by_key(|(n, _)| *n);
        let stderr = wiring.ends.iter().find(|(n, _)| *n == 2);
        if self.fail_on_stderr && !matches!(stderr, Some((_, End::Output))) {
            let text = "fail_on_stderr needs a stderr that is captured";
            return Err(Refusal::invalid(InvalidReason::Conflict, text));
        }
        let launch = Launch {
            program: &self.program,
            arg0: self.arg0.as_deref(),
            args: &self.args,
            env: self.environment()?,
            path: self.path(),
            cwd: self.cwd.as_deref(),
            ends: wiring.ends,
            inherit_fds: self.inherit_fds,
            #[cfg(unix)]
            identity: &self.identity,
            kill_on_drop: self.kill_on_drop,
        };
        Transport::start(&launch, wiring.sources)
    }

    /// The child's whole environment.
    fn environment(&self) -> Result<Vec<(OsString, OsString)>, Refusal> {
        if let Some(name) = self.env.keys().find(|name| {
            // Windows has variables such as `=C:`.
            let start = usize::from(cfg!(windows));
            name.is_empty() || name.as_encoded_bytes().iter().skip(start).any(|byte| *byte == b'=')
        }) {
            let text = format!("{name:?} cannot name an environment variable");
            return Err(Refusal::invalid(InvalidReason::EnvironmentName, text));
        }
        let inherited = (!self.env_clear).then(std::env::vars_os).into_iter().flatten();
        let kept = inherited.filter(|(name, _)| !self.env.keys().any(|set| same_variable(set, name)));
        let set = self.env.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        Ok(kept.chain(set).collect())
    }

    fn path(&self) -> Option<OsString> {
        match self.env.get(OsStr::new("PATH")) {
            Some(Some(path)) => Some(path.clone()),
            _ => std::env::var_os("PATH"),
        }
    }
}

/// Windows does not tell `Path` from `PATH`.
fn same_variable(one: &OsStr, other: &OsStr) -> bool {
    if cfg!(windows) { one.eq_ignore_ascii_case(other) } else { one == other }
}

/// The settings of one run, in the engine's words.
#[derive(Default)]
struct Wiring<'a> {
    ends: Vec<(i32, End<'a>)>,
    sources: Vec<(i32, Source)>,
}

impl<'a> Wiring<'a> {
    fn add(&mut self, n: i32, kind: &'a Kind) -> Result<(), Refusal> {
        if n < 0 {
            let text = format!("{n} cannot be the number of a descriptor");
            return Err(Refusal::invalid(InvalidReason::Descriptor, text));
        }
        let end = match kind {
            Kind::Inherit => End::Inherit,
            Kind::Null => End::Null,
            Kind::Closed => End::Closed,
            Kind::Output => End::Output,
            Kind::Piped if n == 0 => self.fed(n, Source::Bytes(Feed::Plain(Arc::default()))),
            Kind::Piped => End::Output,
            Kind::Open(file) => End::Open(file),
            Kind::Broken(error) => return Err(Refusal::os(copy(error))),
            Kind::Bytes(feed) => self.fed(n, Source::Bytes(feed.clone())),
            Kind::Reader(slot) => {
                if slot.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    let text = format!("the reader for descriptor {n} was used up by an earlier run");
                    return Err(Refusal::invalid(InvalidReason::ReaderUsed, text));
                }
                self.fed(n, Source::Reader(slot.clone()))
            }
            Kind::SameAs(other) => End::SameAs(*other),
        };
        self.ends.push((n, end));
        Ok(())
    }

    fn fed(&mut self, n: i32, source: Source) -> End<'a> {
        self.sources.push((n, source));
        End::Input
    }
}

/// An error cannot be cloned, but its number can.
fn copy(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::from(error.kind()),
    }
}

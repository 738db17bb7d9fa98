//! The arguments of execve(2): strings and arrays of pointers.
//!
//! Refuses to know how the program is started.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::super::launch::Launch;
use super::{diagnosis, program};
use crate::error::{InvalidReason, Refusal};

/// The arguments of execve(2), and what goes with them.
#[derive(Debug)]
pub(in crate::spawn) struct ExecArguments {
    pub(in crate::spawn) argv: CStrings,
    pub(in crate::spawn) envp: CStrings,
    /// Never empty.
    pub(in crate::spawn) candidates: Vec<(CString, PathBuf)>,
    pub(in crate::spawn) cwd: Option<(CString, PathBuf)>,
}

impl ExecArguments {
    pub(super) fn new(launch: &Launch<'_>) -> Result<Self, Refusal> {
        if launch.program.as_bytes().contains(&0) {
            return Err(contains_nul(|| "the program's name".into()));
        }
        let mut argv = CStrings::default();
        argv.push(&[launch.arg0.unwrap_or(launch.program)], || "argument 0".into())?;
        for (place, arg) in (1..).zip(launch.args) {
            argv.push(&[arg], || format!("argument {place}"))?;
        }
        let envp = environment(launch)?;
        let cwd = match launch.cwd {
            Some(cwd) => {
                Some((c_string(cwd.as_os_str(), || "the working directory".into())?, cwd.to_owned()))
            }
            None => None,
        };
        let candidates = program::candidates(launch.program, launch.path.as_deref(), launch.cwd)?
            .into_iter()
            .map(|path| Ok((c_string(path.as_os_str(), || "PATH".into())?, path)))
            .collect::<Result<_, Refusal>>()?;
        Ok(ExecArguments { argv: argv.end(), envp: envp.end(), candidates, cwd })
    }

    /// Why the candidate at `place` could not be executed.
    pub(super) fn diagnose(&self, (place, errno): (usize, i32)) -> Refusal {
        let cwd = self.cwd.as_ref().map(|(_, path)| &**path);
        let place = place.min(self.candidates.len() - 1);
        diagnosis::diagnose(io::Error::from_raw_os_error(errno), &self.candidates[place].1, cwd)
    }
}

/// The inherited variables that are not set or removed, in the order of their names, and the set ones.
fn environment(launch: &Launch<'_>) -> Result<CStrings, Refusal> {
    let mut envp = CStrings::default();
    let mut push = |name: &OsStr, value: &OsStr| {
        // The value may be a secret, so it is not shown.
        envp.push(&[name, OsStr::new("="), value], || "an environment variable".into())
    };
    if !launch.env_clear {
        let mut inherited: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        // A name may be inherited twice. getenv(3) finds the first one, so the child gets that. The sort keeps their order.
        inherited.sort_by(|(one, _), (other, _)| one.cmp(other));
        inherited.dedup_by(|(later, _), (first, _)| later == first);
        for (name, value) in &inherited {
            if launch.env.binary_search_by_key(&&**name, |(set, _)| set).is_err() {
                push(name, value)?;
            }
        }
    }
    for (name, value) in &launch.env {
        if let Some(value) = value {
            push(name, value)?;
        }
    }
    Ok(envp)
}

fn c_string(text: &OsStr, what: impl FnOnce() -> String) -> Result<CString, Refusal> {
    CString::new(text.as_bytes()).map_err(|_| contains_nul(what))
}

fn contains_nul(what: impl FnOnce() -> String) -> Refusal {
    Refusal::invalid(InvalidReason::Nul, format!("{} contains a NUL byte", what()))
}

/// Strings for `argv` or `envp`, and the array of pointers for execve(2). All strings share one piece of memory,
/// because an environment has many.
#[derive(Debug, Default)]
pub(in crate::spawn) struct CStrings {
    text: Vec<u8>,
    starts: Vec<usize>,
    /// Pointers into the text, which does not change any more; ends with a null pointer.
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// One string, of parts.
    fn push(&mut self, parts: &[&OsStr], what: impl FnOnce() -> String) -> Result<(), Refusal> {
        self.starts.push(self.text.len());
        for part in parts {
            if part.as_bytes().contains(&0) {
                return Err(contains_nul(what));
            }
            self.text.extend_from_slice(part.as_bytes());
        }
        self.text.push(0);
        Ok(())
    }

    fn end(mut self) -> Self {
        let pointers = self.starts.iter().map(|start| self.text[*start..].as_ptr().cast());
        self.pointers = pointers.chain([std::ptr::null()]).collect();
        self
    }

    pub(in crate::spawn) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

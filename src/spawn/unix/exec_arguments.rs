//! The arguments of execve(2): strings and arrays of pointers.
//!
//! Refuses to know how the program is started.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use memchr::memchr;

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
        let mut argv = CStrings::with_room(launch.args.len() + 1, 0);
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
    let mut inherited: Vec<(OsString, OsString)> = Vec::new();
    if !launch.env_clear {
        inherited.extend(std::env::vars_os());
        // A name may be inherited twice. getenv(3) finds the first one, so the child gets that. The sort keeps their order.
        inherited.sort_by(|(one, _), (other, _)| one.cmp(other));
        inherited.dedup_by(|(later, _), (first, _)| later == first);
        inherited.retain(|(name, _)| launch.env.binary_search_by_key(&&**name, |(set, _)| set).is_err());
    }
    let inherited = inherited.iter().map(|(name, value)| (&**name, &**value));
    let set = launch.env.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    let all = inherited.chain(set);
    // With `=` and a NUL byte.
    let (count, bytes) = all
        .clone()
        .fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + name.len() + value.len() + 2));
    let mut envp = CStrings::with_room(count, bytes);
    for (name, value) in all {
        // The value may be a secret, so it is not shown.
        envp.push(&[name, OsStr::new("="), value], || "an environment variable".into())?;
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
#[derive(Debug)]
pub(in crate::spawn) struct CStrings {
    text: Vec<u8>,
    starts: Vec<usize>,
    /// Pointers into the text, which does not change any more; ends with a null pointer.
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// With room for so many strings and bytes. There may be more.
    fn with_room(strings: usize, bytes: usize) -> Self {
        CStrings {
            text: Vec::with_capacity(bytes),
            starts: Vec::with_capacity(strings),
            pointers: Vec::with_capacity(strings + 1),
        }
    }

    /// One string, of parts.
    fn push(&mut self, parts: &[&OsStr], what: impl FnOnce() -> String) -> Result<(), Refusal> {
        let start = self.text.len();
        self.starts.push(start);
        for part in parts {
            self.text.extend_from_slice(part.as_bytes());
        }
        // One look at the whole: most parts are too short for a fast one.
        if memchr(0, &self.text[start..]).is_some() {
            return Err(contains_nul(what));
        }
        self.text.push(0);
        Ok(())
    }

    fn end(mut self) -> Self {
        let pointers = self.starts.iter().map(|start| self.text[*start..].as_ptr().cast());
        self.pointers.extend(pointers.chain([std::ptr::null()]));
        self
    }

    pub(in crate::spawn) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

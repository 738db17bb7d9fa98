//! Which file is the program. Looks at paths; opens and starts nothing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::diagnosis::{diagnose, seen_from};
use crate::error::{Refusal, SpawnReason};

/// The folders if neither the command nor the parent has a `PATH`, as in execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The files to try, in order. A program with a slash is a path. A relative path starts at the child's working
/// directory, because the child enters that first, as in std.
///
/// Only files that look executable are listed. So a long `PATH` costs a few `stat`s, and not a failed start for each
/// folder.
pub(super) fn candidates(
    program: &OsStr,
    path: Option<&OsStr>,
    cwd: Option<&Path>,
) -> Result<Vec<PathBuf>, Refusal> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![PathBuf::from(program)]);
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let (mut found, mut passed_over, mut candidate) = (Vec::new(), None, PathBuf::new());
    for folder in path.as_bytes().split(|byte| *byte == b':') {
        // An empty entry is the working directory (environ(7)).
        let folder = if folder.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(folder)) };
        candidate.clear();
        candidate.extend([folder, Path::new(program)]);
        let Ok(metadata) = fs::metadata(seen_from(cwd, &candidate)) else { continue };
        if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            found.push(candidate.clone());
        } else {
            passed_over.get_or_insert_with(|| candidate.clone());
        }
    }
    match passed_over {
        _ if !found.is_empty() => Ok(found),
        Some(candidate) => Err(diagnose(io::Error::from_raw_os_error(libc::EACCES), &candidate, cwd)),
        None => {
            let error = io::Error::from_raw_os_error(libc::ENOENT);
            Err(Refusal::spawn(SpawnReason::ProgramNotFound, "program not found in PATH", error))
        }
    }
}

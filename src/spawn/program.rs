//! Which file is the program, and why it could not be started. Looks at paths; starts nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::error::{Refusal, SpawnReason};

/// Where to look when neither the command nor the parent has a `PATH`, as execvp(3) does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The files to try, in order. A program with a slash is taken as it is; a relative path counts from
/// the child's working directory, which is entered before the program is looked up, as in std.
///
/// Only files that look executable are listed, so that a long `PATH` costs a few `stat`s and not a
/// failed start for each folder.
pub(super) fn candidates(
    program: &OsStr,
    path: Option<&OsStr>,
    cwd: Option<&Path>,
) -> Result<Vec<PathBuf>, Refusal> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![PathBuf::from(program)]);
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut found = Vec::new();
    let mut passed_over = None;
    for folder in path.as_bytes().split(|byte| *byte == b':') {
        // An empty entry is the working directory (environ(7)).
        let folder = if folder.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(folder)) };
        let candidate = folder.join(program);
        let Ok(metadata) = fs::metadata(seen_from(cwd, &candidate)) else { continue };
        if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            found.push(candidate);
        } else {
            passed_over.get_or_insert(candidate);
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

/// Whether another folder of `PATH` may still have the program, as execvp(3) goes on.
pub(super) fn try_next(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ESTALE | libc::ENODEV)
}

/// Tells apart what the kernel folds into one number: a missing program, working directory and
/// interpreter are all ENOENT, and what may not be executed or entered is EACCES.
pub(super) fn diagnose(error: io::Error, program: &Path, cwd: Option<&Path>) -> Refusal {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => {
            return Refusal::spawn(
                SpawnReason::NotExecutable,
                "not in a format that this system runs",
                error,
            );
        }
        Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP | libc::ENAMETOOLONG) => {}
        _ => return Refusal::os(error),
    }
    if let Some(cwd) = cwd {
        let entered = if cwd.as_os_str().is_empty() {
            Err(io::Error::from_raw_os_error(libc::ENOENT))
        } else {
            accessat(CWD, cwd.join("."), Access::EXEC_OK, AtFlags::EACCESS).map_err(io::Error::from)
        };
        if let Err(error) = entered {
            return working_directory(error, cwd);
        }
    }
    let program = seen_from(cwd, program);
    let not_executable = |what: &str, error| Refusal::spawn(SpawnReason::NotExecutable, what, error);
    match fs::metadata(&program) {
        Err(missing) if missing.kind() == io::ErrorKind::PermissionDenied => {
            not_executable("no permission to reach it", error)
        }
        Err(_) => Refusal::spawn(SpawnReason::ProgramNotFound, "program not found", error),
        Ok(metadata) if metadata.is_dir() => not_executable("it is a directory", error),
        Ok(_) if accessat(CWD, &program, Access::EXEC_OK, AtFlags::EACCESS).is_err() => {
            not_executable("no permission to execute it", error)
        }
        Ok(_) => match interpreter(&program) {
            _ if error.raw_os_error() == Some(libc::EACCES) => {
                not_executable("no permission to execute it", error)
            }
            Some(name) => {
                let text = format!("its interpreter {name:?} is missing");
                Refusal::spawn(SpawnReason::InterpreterMissing, text, error)
            }
            None => {
                Refusal::spawn(SpawnReason::InterpreterMissing, "its interpreter or loader is missing", error)
            }
        },
    }
}

/// The working directory cannot be entered.
pub(super) fn working_directory(error: io::Error, cwd: &Path) -> Refusal {
    let what = match error.raw_os_error() {
        Some(libc::ENOENT) => "does not exist",
        Some(libc::ENOTDIR) => "is not a directory",
        _ => "cannot be entered",
    };
    Refusal::spawn(SpawnReason::WorkingDirectory, format!("the working directory {cwd:?} {what}"), error)
}

/// A path of the child's, as the parent can look at it.
fn seen_from(cwd: Option<&Path>, path: &Path) -> PathBuf {
    match cwd {
        Some(cwd) => cwd.join(path),
        None => path.to_owned(),
    }
}

/// What the `#!` line of a script names.
fn interpreter(program: &Path) -> Option<OsString> {
    let mut head = [0; 256];
    let length = File::open(program).and_then(|mut file| file.read(&mut head)).ok()?;
    let line = head[..length].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.trim_ascii().split(|byte| *byte == b' ' || *byte == b'\t').next()?;
    Some(OsStr::from_bytes(name).to_owned())
}

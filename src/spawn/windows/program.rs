//! The file that a program's name means, if std does not find one.
//!
//! Refuses to know how it is started.
//!
//! Rule: std searches first, and takes a name for an `.exe`, as the system does. This module finds what the same name
//! starts at the prompt: a file with an extension of `PATHEXT`, mostly a batch file. std runs a batch file by the
//! system's own `cmd`, with each argument quoted for `cmd`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{self, Path, PathBuf};

use super::super::launch::Launch;
use crate::error::{InvalidReason, Refusal};

/// The extensions that a process can start from. `PATHEXT` also names some that only a shell can open, such as
/// `.VBS`.
const STARTABLE: [&str; 4] = [".COM", ".EXE", ".BAT", ".CMD"];

/// A relative path starts at the child's working directory, as on Unix; Windows would take the parent's. A bare name
/// is searched.
pub(super) fn counted_from(program: &OsStr, cwd: Option<&Path>) -> PathBuf {
    match cwd {
        Some(cwd) if !is_name(program) => cwd.join(program),
        _ => PathBuf::from(program),
    }
}

/// The file with the program's name and an extension of `PATHEXT`, if there is one. For a path it is in that folder.
/// For a bare name the folders of std are searched, in std's order.
pub(super) fn with_extension(program: &Path, launch: &Launch<'_>) -> Option<PathBuf> {
    let folders = if is_name(program.as_os_str()) { folders(launch) } else { vec![PathBuf::new()] };
    let set = setting(launch, "PATHEXT").or_else(|| env::var_os("PATHEXT"));
    let set = set.unwrap_or_else(|| STARTABLE.join(";").into());
    let extensions: Vec<&str> = set.to_str()?.split(';').filter(|one| is_startable(one)).collect();
    let files = folders.iter().flat_map(|folder| {
        extensions.iter().map(|extension| {
            let mut file = folder.join(program).into_os_string();
            file.push(extension);
            PathBuf::from(file)
        })
    });
    let found = files.into_iter().find(|file| file.is_file())?;
    // The child may have another working directory.
    path::absolute(found).ok()
}

fn is_startable(extension: &str) -> bool {
    STARTABLE.iter().any(|one| one.eq_ignore_ascii_case(extension))
}

fn is_name(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(program)
}

/// The folders of std: the child's `PATH` if the command sets one, this program's folder, the system's, and the
/// parent's `PATH`. The working directory is not among them.
fn folders(launch: &Launch<'_>) -> Vec<PathBuf> {
    let split = |list: Option<OsString>| -> Vec<PathBuf> {
        let list = list.unwrap_or_default();
        env::split_paths(&list).filter(|folder| !folder.as_os_str().is_empty()).collect()
    };
    let mut folders = split(setting(launch, "PATH"));
    folders.extend(env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned())));
    if let Some(root) = env::var_os("SystemRoot").filter(|root| !root.is_empty()) {
        folders.extend([Path::new(&root).join("System32"), root.into()]);
    }
    folders.extend(split(env::var_os("PATH")));
    folders
}

/// A variable of the child's environment that the command sets.
fn setting(launch: &Launch<'_>, name: &str) -> Option<OsString> {
    let (_, value) = launch.env.iter().find(|(set, _)| set.eq_ignore_ascii_case(name))?;
    value.map(OsStr::to_owned)
}

/// std refused the arguments of a batch file: it cannot quote a line end, because `cmd` stops reading there.
pub(super) fn unquotable(launch: &Launch<'_>) -> Option<Refusal> {
    let has_line_end = |arg: &OsString| arg.as_encoded_bytes().iter().any(|byte| b"\r\n".contains(byte));
    let mut args = launch.args.iter().enumerate();
    let (place, _) = args.find(|(place, arg)| has_line_end(arg) && !launch.is_raw(*place))?;
    let text = format!("argument {} has a line end, and the program is a batch file", place + 1);
    Some(Refusal::invalid(InvalidReason::BatchArgument, text))
}

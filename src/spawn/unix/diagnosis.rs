//! Why a program could not start. It looks at files, opens only plain files, and starts nothing.
//!
//! The kernel has one number for several faults. A missing program, working directory and interpreter are all ENOENT;
//! a file that may not be executed and a directory that may not be entered are both EACCES. So this checks the same
//! files as the kernel, in the same order.
//!
//! Rule: it blames a file only if it has looked at that file and found the fault there. If it finds none, the message
//! has the system's own words.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, open};

use crate::error::{Refusal, SpawnReason};

/// The kernel's limit for nested interpreters: exec_binprm in its fs/exec.c.
const DEEPEST: usize = 5;

/// How much of a file's first line the kernel reads: BINPRM_BUF_SIZE.
const HEAD: usize = 256;

/// The meaning of `error`, which the kernel returned for `program`.
pub(super) fn diagnose(error: io::Error, program: &Path, cwd: Option<&Path>) -> Refusal {
    match error.raw_os_error() {
        Some(libc::ETXTBSY) => {
            return Refusal::spawn(SpawnReason::Busy, "its file is open for writing", error);
        }
        Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP | libc::ENAMETOOLONG) => {}
        errno if wrong_format(errno, APPLE).is_some() => {}
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
    let mut file = seen_from(cwd, program);
    if let Some(fault) = fault(&file) {
        let (reason, text) = match fault {
            Fault::Missing(why) => (SpawnReason::ProgramNotFound, format!("program not found{why}")),
            Fault::Unusable(text) => (SpawnReason::NotExecutable, text),
        };
        return Refusal::spawn(reason, text, error);
    }
    // The path that leads to the file.
    let mut whose = "its".to_owned();
    for _ in 0..=DEEPEST {
        let needed = match Needed::of(&file) {
            Ok(needed) => needed,
            // A file that may be executed but not read: nothing more is known.
            Err(_) => break,
        };
        let (kind, name) = match needed {
            Needed::Interpreter(name) => ("interpreter", name),
            Needed::Loader(name) => ("loader", name),
            Needed::Unnamed => {
                let text = match whose.as_str() {
                    "its" => "its first line names no interpreter".to_owned(),
                    _ => format!("{file:?} names no interpreter"),
                };
                return Refusal::spawn(SpawnReason::NotExecutable, text, error);
            }
            Needed::Nothing => break,
        };
        let path = seen_from(cwd, Path::new(&name));
        if let Some(fault) = fault(&path) {
            // A file with `\r\n` as line ends.
            let hint = if name.as_bytes().ends_with(b"\r") {
                ": the line that names it ends in a carriage return"
            } else {
                ""
            };
            let (reason, what) = match fault {
                Fault::Missing(why) => (SpawnReason::InterpreterMissing, format!("is missing{why}")),
                Fault::Unusable(text) => (SpawnReason::NotExecutable, format!("cannot be executed: {text}")),
            };
            return Refusal::spawn(reason, format!("{whose} {kind} {name:?} {what}{hint}"), error);
        }
        whose = format!("{whose} {kind} {name:?} is there, but its");
        file = path;
    }
    if let Some(what) = wrong_format(error.raw_os_error(), APPLE) {
        let text = match whose.as_str() {
            "its" => what.to_owned(),
            _ => format!("its interpreter {file:?} is {what}"),
        };
        return Refusal::spawn(SpawnReason::NotExecutable, text, error);
    }
    match error.raw_os_error() {
        Some(libc::EACCES) => {
            let text = "the system does not let it be executed";
            Refusal::spawn(SpawnReason::NotExecutable, text, error)
        }
        // The program exists, so this is the only other reason that execve(2) has.
        Some(libc::ENOENT) => {
            let text = "it is there, and the system finds no interpreter or loader for it";
            Refusal::spawn(SpawnReason::InterpreterMissing, text, error)
        }
        _ => Refusal::os(error),
    }
}

const APPLE: bool = cfg!(target_vendor = "apple");

/// What is wrong with a file that may be executed, if the error says so. xnu has three more numbers for that
/// (bsd/sys/errno.h; `load_return_to_errno` in bsd/kern/kern_exec.c), which mean other things elsewhere.
fn wrong_format(errno: Option<i32>, apple: bool) -> Option<&'static str> {
    const EBADEXEC: i32 = 85;
    const EBADARCH: i32 = 86;
    const EBADMACHO: i32 = 88;
    match errno? {
        libc::ENOEXEC => Some("not in a format that this system runs"),
        EBADARCH if apple => Some("built for another kind of processor"),
        EBADEXEC | EBADMACHO if apple => Some("damaged, or not in a format that this system runs"),
        _ => None,
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

/// Why a file cannot be executed, if its own inode shows that.
enum Fault {
    /// Adds the system's words, if they say more.
    Missing(String),
    Unusable(String),
}

fn fault(file: &Path) -> Option<Fault> {
    let unusable = |text: &str| Some(Fault::Unusable(text.to_owned()));
    match fs::metadata(file) {
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Some(Fault::Missing(String::new())),
            Some(libc::EACCES) => unusable("no permission to reach it"),
            // As a link that leads to itself: the name leads to no file.
            _ => Some(Fault::Missing(format!(": {error}"))),
        },
        Ok(metadata) if metadata.is_dir() => unusable("it is a directory"),
        Ok(metadata) if !metadata.is_file() => unusable("it is not a plain file"),
        Ok(_) if accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).is_err() => {
            unusable("no permission to execute it")
        }
        Ok(_) => None,
    }
}

/// The interpreter or loader that a file needs.
enum Needed {
    /// Of a script.
    Interpreter(OsString),
    /// Of an ELF program, ld.so(8).
    Loader(OsString),
    /// A script without one.
    Unnamed,
    /// None that it names.
    Nothing,
}

impl Needed {
    /// Call it for a plain file only. If the file has become something else meanwhile, this does not wait for it.
    fn of(file: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(open(file, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Ok(Needed::Nothing);
        }
        let mut head = [0; HEAD];
        let length = file.read_at(&mut head, 0)?;
        let head = &head[..length];
        if let Some(line) = head.strip_prefix(b"#!") {
            return Ok(interpreter(line).map_or(Needed::Unnamed, Needed::Interpreter));
        }
        Ok(loader(&file, head).map_or(Needed::Nothing, Needed::Loader))
    }
}

/// The interpreter in the `#!` line of a script. As in the kernel, a carriage return is part of the name.
fn interpreter(line: &[u8]) -> Option<OsString> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0));
    let name = words.find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(name).to_owned())
}

/// The loader of an ELF program, elf(5). `None` if the file is malformed.
fn loader(file: &File, head: &[u8]) -> Option<OsString> {
    const PT_INTERP: u64 = 3;
    let wide = match head.get(..6)? {
        [0x7f, b'E', b'L', b'F', class @ (1 | 2), order] => {
            // A program of the other byte order is not for this system.
            let native = if cfg!(target_endian = "little") { 1 } else { 2 };
            if *order != native {
                return None;
            }
            *class == 2
        }
        _ => return None,
    };
    let number = |bytes: &[u8], place: usize, size: usize| -> Option<u64> {
        let bytes = bytes.get(place..place + size)?;
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if cfg!(target_endian = "little") {
            bytes.iter().rev().fold(0, fold)
        } else {
            bytes.iter().fold(0, fold)
        })
    };
    let word = if wide { 8 } else { 4 };
    let [table, size, count] = if wide { [0x20, 0x36, 0x38] } else { [0x1c, 0x2a, 0x2c] };
    let (table, size, count) = (number(head, table, word)?, number(head, size, 2)?, number(head, count, 2)?);
    for place in 0..count {
        let mut entry = [0; 56];
        let read = file.read_at(&mut entry, table.checked_add(place * size)?).ok()?;
        let entry = &entry[..read];
        if number(entry, 0, 4)? == PT_INTERP {
            let [offset, length] = if wide { [0x08, 0x20] } else { [0x04, 0x10] };
            let (offset, length) = (number(entry, offset, word)?, number(entry, length, word)?);
            // The kernel accepts no name that is longer than a path.
            let mut name = vec![0; usize::try_from(length).ok().filter(|length| *length <= 4096)?];
            file.read_exact_at(&mut name, offset).ok()?;
            name.truncate(name.iter().position(|byte| *byte == 0)?);
            return Some(OsString::from_vec(name));
        }
    }
    None
}

/// Which of several failed tries the error reports: the first that was not permitted, as in execvp(3), or else the
/// one that ended the search, or else the first.
#[derive(Debug, Default)]
pub(super) struct Tries {
    told: Option<(usize, i32)>,
}

impl Tries {
    /// Notes a failure of the candidate at `place`. Returns whether to try the next one.
    pub(super) fn failed(&mut self, place: usize, errno: i32) -> bool {
        let goes_on = try_next(errno);
        let denied = matches!(self.told, Some((_, libc::EACCES)));
        if !goes_on || self.told.is_none() || errno == libc::EACCES && !denied {
            self.told = Some((place, errno));
        }
        goes_on
    }

    pub(super) fn told(&self) -> (usize, i32) {
        self.told.unwrap_or((0, libc::ENOENT))
    }
}

/// Whether another folder of `PATH` may still have the program: execvp(3) then goes on.
fn try_next(errno: i32) -> bool {
    matches!(errno, libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ESTALE | libc::ENODEV)
}

/// A path of the child, as the parent can look at it.
pub(super) fn seen_from(cwd: Option<&Path>, path: &Path) -> PathBuf {
    match cwd {
        Some(cwd) => cwd.join(path),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_as_the_kernel_reads_it() {
        let of = |line: &str| interpreter(line.as_bytes()).map(|name| name.to_string_lossy().into_owned());
        assert_eq!(of("/bin/sh\nx").as_deref(), Some("/bin/sh"));
        assert_eq!(of(" \t/bin/sh -e x").as_deref(), Some("/bin/sh"));
        assert_eq!(of("/bin/sh\r\nx").as_deref(), Some("/bin/sh\r"));
        assert_eq!(of("/bin/sh\r -e\r\n").as_deref(), Some("/bin/sh\r"));
        assert_eq!((of(""), of(" \t\n/bin/sh")), (None, None));
    }

    #[test]
    fn another_processor_is_a_wrong_format_on_macos() {
        for errno in [85, 86, 88] {
            assert!(wrong_format(Some(errno), true).is_some() && wrong_format(Some(errno), false).is_none());
        }
        let plain = "not in a format that this system runs";
        assert!([true, false].iter().all(|apple| wrong_format(Some(libc::ENOEXEC), *apple) == Some(plain)));
        assert_eq!((wrong_format(Some(libc::ENOENT), true), wrong_format(None, true)), (None, None));
    }

    #[test]
    fn the_try_that_is_told() {
        let of = |tries: &[i32]| {
            let mut told = Tries::default();
            for (place, errno) in tries.iter().enumerate() {
                if !told.failed(place, *errno) {
                    break;
                }
            }
            told.told()
        };
        assert_eq!(of(&[libc::ENOENT, libc::ENOENT]), (0, libc::ENOENT));
        assert_eq!(of(&[libc::ENOENT, libc::EACCES, libc::EACCES, libc::ENOENT]), (1, libc::EACCES));
        assert_eq!(of(&[libc::ENOENT, libc::ENOEXEC, libc::EACCES]), (1, libc::ENOEXEC));
    }
}

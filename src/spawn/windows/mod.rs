//! The engine on Windows. std finds the program, quotes its arguments and starts it; async-io waits as async-process
//! makes it wait there. Descriptors are 0, 1 and 2.
//!
//! Refuses to know when a pipe is read: see the transport.
//!
//! It does not use async-process itself. If that cannot watch a child that it has started (the system has no memory
//! for one more wait), it forgets the handle, and the child keeps running.
//!
//! Differences from Unix:
//! - A program without a path is searched as in std. First comes the child's `PATH` if the command sets one, then this
//!   program's folder, the system's folders, and the parent's `PATH`.
//! - A child also inherits every handle that another part of the parent has marked inheritable.
//! - There is no zombie: a process is gone when its last handle is closed.
//! - There are no signals. A group at this program's console can be asked by Ctrl-Break, and any process can be
//!   ended.

mod job;
mod pending;
pub(super) mod pipe;
mod program;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll, Waker, ready};
use std::{fmt, fs};

use async_io::os::windows::Waitable;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_BAD_EXE_FORMAT, ERROR_DIRECTORY, ERROR_ELEVATION_REQUIRED,
    ERROR_EXE_MACHINE_TYPE_MISMATCH, ERROR_FILE_NOT_FOUND, ERROR_FILENAME_EXCED_RANGE, ERROR_INVALID_NAME,
    ERROR_MAX_THRDS_REACHED, ERROR_NOT_ENOUGH_QUOTA, ERROR_PATH_NOT_FOUND, ERROR_TOO_MANY_OPEN_FILES,
};
use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_SUSPENDED};

use super::launch::{End, Launch, ParentEnds, StartAnother};
use super::system::SystemProcess;
use crate::error::{InvalidReason, Reason, Refusal, SpawnReason};
use crate::output::Exit;
use crate::signal::Signal;
use crate::stdio::OpenFile;
use job::Job;
use pipe::{nothing, pipe};

pub(crate) use pending::Pending;
pub(crate) use pipe::{Pipe, is_broken, or_broken};

/// Every folder has it, see "Naming Files, Paths, and Namespaces" in Microsoft's documentation.
const NULL_DEVICE: &str = "NUL";

/// A child of this engine.
pub(super) struct Process {
    pid: u32,
    /// `None` after the status was taken, which closes the process's handles. Until then a handle keeps the number
    /// from being given to another process.
    running: Option<Running>,
    /// The child and its descendants, if it has a group.
    group: Option<Group>,
}

struct Group {
    job: Job,
    /// A handle of the child. It keeps the child's number, and so the group's name, from being given away.
    _leader: OwnedHandle,
    /// The child has a console of its own, which Ctrl-Break from here does not reach.
    out_of_earshot: bool,
}

struct Running {
    child: Child,
    /// Another handle of the process, ready once it has exited.
    exited: Waitable<OwnedHandle>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl SystemProcess for Process {
    fn pid(&self) -> Option<u32> {
        Some(self.pid)
    }

    fn watch(&mut self, waker: &Waker) {
        let _: Poll<()> = self.poll_seen(waker);
    }

    /// Ready once the child has exited.
    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        self.poll_wait(waker).map(drop)
    }

    /// Takes the exit once there is one.
    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        let exit = ready!(self.poll_wait(waker));
        self.running = None;
        Poll::Ready(exit)
    }

    /// Asks the group by Ctrl-Break, unless the signal is SIGKILL. If there is no group, or it cannot be asked, the
    /// child or its whole job is ended with exit code 1. `false` if the child was reaped already, and the job is
    /// empty.
    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        if ![Signal::INT, Signal::TERM, Signal::KILL].contains(&signal) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match (&mut self.running, &self.group) {
            (running, Some(group)) => Ok(group.signal(self.pid, signal)? || running.is_some()),
            (Some(running), None) => running.child.kill().map(|()| true),
            (None, None) => Ok(false),
        }
    }

    fn has_members(&mut self) -> bool {
        // If the system does not say, nothing waits for the job.
        self.group.as_ref().is_some_and(|group| matches!(group.job.is_empty(), Ok(false)))
    }
}

impl Group {
    /// `false` if no process is left.
    fn signal(&self, leader: u32, signal: Signal) -> io::Result<bool> {
        if self.job.is_empty()? {
            return Ok(false);
        }
        let is_asked = signal != Signal::KILL && !self.out_of_earshot && job::ask(leader).is_ok();
        if is_asked { Ok(true) } else { self.job.end() }
    }
}

impl Process {
    fn poll_wait(&mut self, waker: &Waker) -> Poll<Exit> {
        let Some(Running { child, exited }) = &mut self.running else { return Poll::Ready(Exit::Lost) };
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Poll::Ready(Exit::Reaped(status, None)),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Exit::Lost),
            }
            if ready!(exited.poll_ready(&mut Context::from_waker(waker))).is_err() {
                return Poll::Ready(Exit::Lost);
            }
        }
    }
}

/// There are no forked copies on Windows.
pub(crate) const fn is_copy() -> bool {
    false
}

/// A pipe from one child to another, reading end first; no child inherits either end.
pub(crate) fn pipe_between() -> Result<(OpenFile, OpenFile), Refusal> {
    pipe().map(|(reader, writer)| (reader.into(), writer.into())).map_err(Refusal::os)
}

/// Starts a child.
pub(super) fn spawn(launch: &Launch<'_>, _: StartAnother) -> Result<(Process, ParentEnds), Refusal> {
    refuse_nul(launch)?;
    let program = program::counted_from(launch.program, launch.cwd);
    let refusal = match start(launch, &program) {
        Ok(started) => return Ok(started),
        Err(refusal) => refusal,
    };
    // std searches first. It does not find `npm`, which is a batch file.
    if let Reason::Spawn(SpawnReason::ProgramNotFound, _) = refusal.reason {
        if let Some(found) = program::with_extension(&program, launch) {
            return start(launch, &found);
        }
    }
    Err(refusal)
}

fn start(launch: &Launch<'_>, program: &Path) -> Result<(Process, ParentEnds), Refusal> {
    let mut descriptors = ChildDescriptors::new(launch)?;
    let job = launch.new_group.then(Job::new).transpose().map_err(os)?;
    let mut command = Command::new(program);
    // std quotes for a batch file as `cmd` reads it, and refuses what cannot be quoted.
    for (place, arg) in launch.args.iter().enumerate() {
        match launch.is_raw(place) {
            true => command.raw_arg(arg),
            false => command.arg(arg),
        };
    }
    // std gets only the changes. If it got all variables as set, it would search the parent's `PATH` before the
    // system's folders. Then anybody who can write to a folder of `PATH` could plant a `hostname.exe`.
    if launch.env_clear {
        command.env_clear();
    }
    for (name, value) in &launch.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(cwd) = launch.cwd {
        command.current_dir(cwd);
    }
    let [stdin, stdout, stderr] = [0, 1, 2].map(|n| descriptors.stdio(n));
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let grouped = if job.is_some() { CREATE_SUSPENDED | CREATE_NEW_PROCESS_GROUP } else { 0 };
    command.creation_flags(grouped | if launch.no_window { CREATE_NO_WINDOW } else { 0 });
    let mut child = command.spawn().map_err(|error| explain(error, program, launch))?;
    let watched = watch(&child).and_then(|exited| {
        let Some(job) = job else { return Ok((exited, None)) };
        let leader = child.as_handle().try_clone_to_owned()?;
        job.take_in(&child)?;
        Ok((exited, Some(Group { job, _leader: leader, out_of_earshot: launch.no_window })))
    });
    let (exited, group) = match watched {
        Ok(watched) => watched,
        Err(error) => {
            // This program started it, so this is permitted.
            let _: io::Result<()> = child.kill();
            return Err(os(error));
        }
    };
    let pid = child.id();
    let process = Process { pid, running: Some(Running { child, exited }), group };
    Ok((process, ParentEnds { pipes: descriptors.pipes, terminal: None, child_end: None }))
}

fn watch(child: &Child) -> io::Result<Waitable<OwnedHandle>> {
    Waitable::new(child.as_handle().try_clone_to_owned()?)
}

/// Windows ends every text at a NUL. std refuses it too, but does not say which text has it.
fn refuse_nul(launch: &Launch<'_>) -> Result<(), Refusal> {
    let refuse = |text: &OsStr, what: &dyn Fn() -> String| {
        if !text.as_encoded_bytes().contains(&0) {
            return Ok(());
        }
        Err(Refusal::invalid(InvalidReason::Nul, format!("{} contains a NUL byte", what())))
    };
    refuse(launch.program, &|| "the program's name".into())?;
    for (place, arg) in (1..).zip(launch.args) {
        refuse(arg, &|| format!("argument {place}"))?;
    }
    for text in launch.env.iter().flat_map(|(name, value)| [Some(*name), *value]).flatten() {
        // The value may be a secret; the name is enough.
        refuse(text, &|| "an environment variable".into())?;
    }
    refuse(launch.cwd.map_or(OsStr::new(""), Path::as_os_str), &|| "the working directory".into())
}

/// The handles of one start: what the child gets, and the parent's ends.
struct ChildDescriptors {
    /// Of 0, 1 and 2. `None` is the parent's own.
    child_ends: [Option<OwnedHandle>; 3],
    pipes: Vec<(i32, Pipe)>,
}

impl ChildDescriptors {
    fn new(launch: &Launch<'_>) -> Result<Self, Refusal> {
        let mut descriptors = ChildDescriptors { child_ends: [const { None }; 3], pipes: Vec::new() };
        let mut ends = [End::Closed; 3];
        for (n, end) in &launch.ends {
            let Some(place) = usize::try_from(*n).ok().and_then(|n| ends.get_mut(n)) else {
                let text = format!("descriptor {n}: a child has only 0, 1 and 2 on Windows");
                return Err(Refusal::invalid(InvalidReason::Descriptor, text));
            };
            *place = *end;
        }
        if ends.iter().all(|end| matches!(end, End::Closed)) {
            let text = "on Windows a child without any of 0, 1 and 2 would get the console's";
            return Err(Refusal::invalid(InvalidReason::Conflict, text));
        }
        for (n, end) in (0..).zip(ends) {
            descriptors.child_ends[n as usize] = match end {
                End::Closed => Some(nothing()),
                End::Inherit => None,
                End::Null => {
                    let null = File::options().read(true).write(true).open(NULL_DEVICE);
                    Some(null.map_err(no_null_device)?.into())
                }
                End::Open(file) => Some(file.as_handle().try_clone_to_owned().map_err(os)?),
                End::Output => {
                    let (ours, child_end) = Pipe::out_of_child().map_err(os)?;
                    descriptors.pipes.push((n, ours));
                    Some(child_end)
                }
                End::Input => {
                    let (ours, child_end) = Pipe::into_child().map_err(os)?;
                    descriptors.pipes.push((n, ours));
                    Some(child_end)
                }
                End::SameAs(_) => continue,
            };
        }
        for n in 0..3 {
            if let End::SameAs(_) = ends[n as usize] {
                descriptors.child_ends[n as usize] = Some(descriptors.shared(&ends, n)?);
            }
        }
        Ok(descriptors)
    }

    /// One more handle to the file of the descriptor that `n` is the same as, through any chain.
    fn shared(&self, ends: &[End<'_>; 3], n: i32) -> Result<OwnedHandle, Refusal> {
        let mut named = n;
        // A chain that is longer than this is a circle.
        for _ in 0..3 {
            match usize::try_from(named).ok().and_then(|place| ends.get(place)) {
                Some(End::SameAs(next)) => named = *next,
                Some(End::Closed) | None => break,
                Some(_) => {
                    return match &self.child_ends[named as usize] {
                        Some(handle) => handle.try_clone(),
                        None => inherited(named),
                    }
                    .map_err(os);
                }
            }
        }
        let text = format!(
            "descriptor {n} is to be the same as {named}, which leads to nothing that is open in the child"
        );
        Err(Refusal::invalid(InvalidReason::Conflict, text))
    }

    fn stdio(&mut self, n: usize) -> Stdio {
        self.child_ends[n].take().map_or_else(Stdio::inherit, Stdio::from)
    }
}

/// The parent's own.
fn inherited(n: i32) -> io::Result<OwnedHandle> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let own: BorrowedHandle<'_> = match n {
        0 => stdin.as_handle(),
        1 => stdout.as_handle(),
        _ => stderr.as_handle(),
    };
    own.try_clone_to_owned()
}

fn os(error: io::Error) -> Refusal {
    let (reason, what) = match code(&error) {
        ERROR_TOO_MANY_OPEN_FILES => (SpawnReason::OutOfDescriptors, "no handle left"),
        ERROR_MAX_THRDS_REACHED | ERROR_NOT_ENOUGH_QUOTA => (SpawnReason::OutOfProcesses, "no process left"),
        ERROR_FILENAME_EXCED_RANGE => {
            (SpawnReason::ArgumentsTooLong, "program and arguments are longer than Windows allows")
        }
        _ => return Refusal::os(error),
    };
    Refusal::spawn(reason, what, error)
}

/// Not the kind of the program: the program is not missing, and access to it is not denied.
fn no_null_device(error: io::Error) -> Refusal {
    if code(&error) == ERROR_TOO_MANY_OPEN_FILES {
        return os(error);
    }
    let text = format!("cannot open the null device {NULL_DEVICE}: {error}");
    // A kind such as NotFound would be mistaken for the program's.
    Refusal::spawn(SpawnReason::Other, text, io::Error::other(error))
}

fn code(error: &io::Error) -> u32 {
    error.raw_os_error().unwrap_or(0) as u32
}

/// Distinguishes faults that share one system error number, and names those that std does not.
fn explain(error: io::Error, program: &Path, launch: &Launch<'_>) -> Refusal {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let about_paths = matches!(
        code(&error),
        ERROR_FILE_NOT_FOUND
            | ERROR_PATH_NOT_FOUND
            | ERROR_ACCESS_DENIED
            | ERROR_DIRECTORY
            | ERROR_INVALID_NAME
    );
    if missing || about_paths {
        if let Some(refusal) = launch.cwd.and_then(|cwd| working_directory(&error, cwd)) {
            return refusal;
        }
    }
    // std's own error; the system has a number for each of its errors.
    if error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none() {
        if let Some(refusal) = program::unquotable(launch) {
            return refusal;
        }
    }
    let searched = program.as_os_str() == launch.program && program.file_name() == Some(launch.program);
    let (reason, what) = match code(&error) {
        _ if program.is_dir() => (SpawnReason::NotExecutable, "it is a directory"),
        _ if missing && searched => (SpawnReason::ProgramNotFound, "program not found in PATH"),
        _ if missing => (SpawnReason::ProgramNotFound, "program not found"),
        ERROR_ACCESS_DENIED => (SpawnReason::NotExecutable, "no permission to execute it"),
        ERROR_ELEVATION_REQUIRED => (SpawnReason::NotExecutable, "it must be run as administrator"),
        ERROR_BAD_EXE_FORMAT | ERROR_EXE_MACHINE_TYPE_MISMATCH => {
            (SpawnReason::NotExecutable, "not in a format that this system runs")
        }
        _ => return os(error),
    };
    Refusal::spawn(reason, what, error)
}

/// The fault of the working directory, if it has one.
fn working_directory(error: &io::Error, cwd: &Path) -> Option<Refusal> {
    let what = match fs::metadata(cwd) {
        Ok(metadata) if !metadata.is_dir() => "is not a directory",
        Ok(_) if code(error) == ERROR_DIRECTORY => "cannot be entered",
        Ok(_) => return None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist",
        Err(_) => "cannot be entered",
    };
    let source = match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    };
    Some(Refusal::spawn(
        SpawnReason::WorkingDirectory,
        format!("the working directory {cwd:?} {what}"),
        source,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// A `NUL` that cannot be opened (a sandbox, a filter driver) is not reported as a missing program.
    #[test]
    fn a_null_device_that_cannot_be_opened_is_named() {
        for number in [ERROR_FILE_NOT_FOUND, ERROR_ACCESS_DENIED, ERROR_PATH_NOT_FOUND] {
            let refusal = no_null_device(io::Error::from_raw_os_error(number as i32));
            let error = refusal.into_error("program".into());
            assert!(error.to_string().contains("`program`: cannot open the null device NUL: "), "{error}");
            assert!(matches!(error, Error::Spawn { reason: SpawnReason::Other, .. }), "{error:?}");
            assert_eq!(error.kind(), io::ErrorKind::Other);
        }
        let error = no_null_device(io::Error::from_raw_os_error(ERROR_TOO_MANY_OPEN_FILES as i32));
        assert!(matches!(
            error.into_error("program".into()),
            Error::Spawn { reason: SpawnReason::OutOfDescriptors, .. }
        ));
    }
}

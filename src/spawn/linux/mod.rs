//! The engine of Linux: a new process runs a script of system calls in the parent's memory, and a pidfd reports its
//! end.
//!
//! If a kernel (before 5.4), an emulator or a sandbox lacks what that needs, a child is started as on every other
//! Unix.

mod child;
mod memory;
mod pidfd;
mod script;
mod start;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::task::{Poll, Waker};
use std::{io, mem};

use super::launch::{Launch, ParentEnds, StartAnother};
use super::system::SystemProcess;
use super::unix::{self, Portable, Prepared, Registration, retry_busy};
use crate::error::Refusal;
use crate::output::Exit;
use crate::signal::Signal;
use memory::Kills;
use pidfd::{PidfdProcess, Started};
use script::{Script, limits};

pub(crate) use unix::{Pipe, is_copy, pipe_between};

/// A child of this folder.
#[derive(Debug)]
pub(super) struct Process {
    engine: Engine,
    kills: Kills,
}

#[derive(Debug)]
enum Engine {
    Pidfd(PidfdProcess),
    /// In a box, because it is five times as large as the other.
    Portable(Box<Portable>),
}

/// Starts a child.
pub(super) fn spawn(launch: &Launch<'_>, start: StartAnother) -> Result<(Process, ParentEnds), Refusal> {
    let mut prepared = Prepared::new(launch, start)?;
    let ours = mem::take(&mut prepared.descriptors.ours);
    if start::available() {
        if let Some(started) = run_script(&prepared)? {
            let guarded = prepared.registration.take().and_then(|one| one.confirm(started.pid.as_raw_pid()));
            // The child has its ends of the pipes.
            drop(prepared);
            let engine = Engine::Pidfd(PidfdProcess::new(started, launch.new_group, guarded)?);
            return Ok((Process { engine, kills: Kills::now() }, ours));
        }
    }
    let engine = Engine::Portable(Box::new(unix::spawn_portable(prepared)?));
    Ok((Process { engine, kills: Kills::now() }, ours))
}

/// `None` if this system cannot make such a process now. In a time namespace before Linux 5.19 a process can fork,
/// but not share its memory.
fn run_script(prepared: &Prepared<'_>) -> Result<Option<Started>, Refusal> {
    let Prepared { exec, attributes, registration, .. } = prepared;
    let limits = limits(attributes);
    let mut line = registration.as_ref().map(Registration::line).unwrap_or_default();
    let script = Script::new(prepared, &limits, &mut line);
    // Each try is a new process.
    let mut failed_step = None;
    let started = retry_busy(|| {
        failed_step = None;
        let (started, report) = start::start(&script)?;
        let Ok(step) = usize::try_from(report.step) else { return Ok(started) };
        registration.iter().for_each(Registration::cancel);
        pidfd::reap(&started);
        failed_step = Some(step);
        Err(report.errno)
    });
    match (started, failed_step) {
        (Ok(started), _) => Ok(Some(started)),
        (Err(errno), Some(step)) => Err(script.failure(step, errno).explain(exec, attributes)),
        (Err(libc::EINVAL | libc::ENOSYS | libc::EPERM), None) => Ok(None),
        (Err(errno), None) => Err(Refusal::os(io::Error::from_raw_os_error(errno))),
    }
}

impl Process {
    fn inner(&mut self) -> &mut dyn SystemProcess {
        match &mut self.engine {
            Engine::Pidfd(child) => child,
            Engine::Portable(child) => &mut **child,
        }
    }
}

impl SystemProcess for Process {
    fn pid(&self) -> Option<u32> {
        match &self.engine {
            Engine::Pidfd(child) => child.pid(),
            Engine::Portable(child) => child.pid(),
        }
    }

    fn watch(&mut self, waker: &Waker) {
        self.inner().watch(waker);
    }

    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        self.inner().poll_seen(waker)
    }

    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        self.inner().poll_exit(waker)
    }

    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        self.inner().signal(signal)
    }

    fn has_members(&mut self) -> bool {
        self.inner().has_members()
    }

    fn memory_was_short(&self, status: ExitStatus) -> bool {
        // 128 plus the signal: a shell reports its child's end.
        let killed = status.signal() == Some(libc::SIGKILL) || status.code() == Some(128 + libc::SIGKILL);
        killed && self.kills.have_risen()
    }
}

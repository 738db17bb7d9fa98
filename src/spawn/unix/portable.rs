//! The portable engine. async-process starts, waits and reaps. A `pre_exec` closure
//! ([`after_fork`](super::after_fork)) does what std and async-process cannot: the descriptors, the order of
//! directory and identity, the signals.
//!
//! The closure executes the program itself and never returns. In the new process std keeps a descriptor of its own to
//! report a failed exec. The plan may overwrite it, and then std takes a missing program for a start. So failures are
//! reported through a pipe of this crate, which is part of the plan. The report also has the pid, so the child is
//! known even if async-process fails after making it.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use std::{fmt, thread};

#[cfg(target_os = "linux")]
use async_io::Async;
use async_io::Timer;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, getegid, waitid, waitpid};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open};

use super::super::later;
use super::super::system::SystemProcess;
use super::after_fork::{NewProcess, STEPS, group_list, highest_open};
use super::descriptors::pipe;
use super::forked::{Hosted, Leave};
use super::guardian::{Guarded, Registration};
use super::prepare::{AGAIN, Prepared, abandon, refuse_panics};
use super::raw::{send, send_to_group};
use super::setup::{Failure, keeps_its_groups, nice_value};
use crate::error::Refusal;
use crate::output::Exit;
use crate::signal::Signal;

/// A child of this engine.
pub(in crate::spawn) struct Portable {
    pid: u32,
    /// `None` after the status was taken. async-process reaps a running child only if it is asked for the status.
    running: Option<Hosted<Running>>,
    /// Readable once the child has exited, if the system has such a descriptor. Asking async-process would reap the
    /// child.
    #[cfg(target_os = "linux")]
    pidfd: Option<Hosted<Async<OwnedFd>>>,
    /// It leads a process group.
    group: bool,
    /// It must die with the parent.
    guarded: Option<Guarded>,
    /// An exit that a look has found.
    taken: Option<Exit>,
}

struct Running {
    status: Pin<Box<dyn Future<Output = io::Result<ExitStatus>> + Send>>,
    /// Dropped after `status`; then async-process reaps the child in the background.
    _child: async_process::Child,
    /// The waker of `status`, once it was asked. It is the same for life, because async-io wakes a waker that it
    /// replaces.
    wakes: Option<Waker>,
    /// `status` has returned something other than the exit, and returns nothing more.
    misled: bool,
    /// When this code asks for the exit itself.
    again: Option<Timer>,
}

impl Leave for Running {
    fn leave(self) {
        // Dropping it would make async-process wait for the child, and take the descriptor off the reactor's list.
        std::mem::forget(self);
    }
}

/// How often to ask for an exit that SIGCHLD reports: the host may ignore that signal from now on, or handle it
/// alone.
const SLOWLY: Duration = Duration::from_millis(500);

/// Whether async-process waits for SIGCHLD, and not through a pidfd.
fn waits_for_sigchld() -> bool {
    #[cfg(all(target_os = "linux", not(async_process_force_signal_backend)))]
    {
        static WAITS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        use rustix::process::getpid;
        *WAITS.get_or_init(|| pidfd_open(getpid(), PidfdFlags::empty()).is_err())
    }
    #[cfg(not(all(target_os = "linux", not(async_process_force_signal_backend))))]
    true
}

impl fmt::Debug for Portable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portable").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl SystemProcess for Portable {
    /// `None` once it was reaped, or if a stranger reaped it before it could be watched.
    fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|_| self.pid)
    }

    /// Wakes the waker when the child has exited, if that is possible without reaping it.
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "there asking reaps it"))]
    fn watch(&mut self, waker: &Waker) {
        #[cfg(target_os = "linux")]
        if let Some(pid) = Pid::from_raw(self.pid as _) {
            // Without one, the next poll sees the exit.
            let pidfd =
                pidfd_open(pid, PidfdFlags::NONBLOCK).ok().and_then(|fd| Async::new_nonblocking(fd).ok());
            if pidfd.as_ref().is_some_and(|fd| fd.poll_readable(&mut Context::from_waker(waker)).is_ready()) {
                // It has exited already, and no event would wake the waker.
                later::wake(waker.clone());
            }
            self.pidfd = pidfd.map(Hosted::from);
        }
    }

    /// Ready once the child has exited. Asking for the status would reap it, so this asks only if that was done
    /// before.
    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        let Some(child) = &self.running else { return Poll::Ready(()) };
        let exited = has_exited(self.pid);
        if exited == Err(Errno::CHILD) {
            // A stranger has reaped it, and its number may belong to another process.
            self.guarded = None;
        }
        if exited != Ok(false) {
            return Poll::Ready(());
        }
        if child.wakes.is_some() {
            // It has not exited, so this only renews the waker. If it exits just now, the exit waits to be taken.
            if let Poll::Ready(exit) = self.poll_exit(waker) {
                self.taken = Some(exit);
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Takes the exit once there is one, and reaps the child.
    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        if let Some(exit) = self.taken.take() {
            return Poll::Ready(exit);
        }
        if self.guarded.is_some() && has_exited(self.pid) != Ok(false) {
            // Taken back before it is reaped.
            self.guarded = None;
        }
        let Some(child) = &mut self.running else { return Poll::Ready(Exit::Lost) };
        // async-process may wake under a lock that asking takes too.
        let wakes = child.wakes.get_or_insert_with(|| later::deferred(waker.clone())).clone();
        let cx = &mut Context::from_waker(&wakes);
        let mut told = match child.misled {
            false => child.status.as_mut().poll(cx).map_ok(Some),
            true => Poll::Pending,
        };
        // It has exited, even if async-process and the clock do not know.
        if told.is_pending() && has_exited(self.pid) == Ok(true) {
            told = Poll::Ready(ask(self.pid));
        }
        let exit = loop {
            match told {
                // If this process traces the child, waitpid(2) also reports its stops, even unasked. std takes one
                // for the exit, and never asks again.
                Poll::Ready(Ok(Some(status))) if status.stopped_signal().is_some() => {
                    child.misled = true;
                    child.again = Some(Timer::after(AGAIN));
                }
                Poll::Ready(Ok(Some(status))) => break Exit::Reaped(status, None),
                Poll::Ready(Ok(None)) => {
                    child.again = Some(Timer::after(if child.misled { AGAIN } else { SLOWLY }));
                }
                // ECHILD: a stranger has reaped it.
                Poll::Ready(Err(_)) => break Exit::Lost,
                Poll::Pending => {}
            }
            let Some(timer) = &mut child.again else { return Poll::Pending };
            ready!(Pin::new(timer).poll(cx));
            told = Poll::Ready(ask(self.pid));
        };
        self.running = None;
        self.guarded = None;
        #[cfg(target_os = "linux")]
        drop(self.pidfd.take());
        Poll::Ready(exit)
    }

    /// Sends a signal to the child, or to its whole group; `false` if no process is left.
    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        if self.running.is_none() {
            return if self.has_members() {
                send_to_group(self.pid as _, signal.as_raw())
            } else {
                Ok(false)
            };
        }
        // If a stranger has reaped the child, the number may belong to another process.
        if has_exited(self.pid) == Err(Errno::CHILD) {
            return Ok(false);
        }
        if self.group && signal != Signal::KILL && send_to_group(self.pid as _, signal.as_raw())? {
            return Ok(true);
        }
        if self.group {
            // The group is empty because the child has left it; the child gets the signal too.
            let _: io::Result<bool> = send_to_group(self.pid as _, signal.as_raw());
        }
        // The pid is the child's, because it is not reaped; `false` if a stranger has reaped it.
        send(self.pid as _, signal.as_raw())
    }

    /// Whether a process is left in the group.
    ///
    /// async-process reaps at once, and then the group's number may be given away, but not while the group has
    /// members. A new group of that number would have its leader.
    fn has_members(&mut self) -> bool {
        let is_empty = || matches!(send_to_group(self.pid as _, 0), Ok(false));
        let number_is_used = || !matches!(send(self.pid as _, 0), Ok(false));
        self.group && (self.running.is_some() || !number_is_used() && !is_empty())
    }
}

/// Whether the child has exited and waits to be reaped; ECHILD if a stranger has reaped it.
fn has_exited(pid: u32) -> Result<bool, Errno> {
    let sees = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let pid = Pid::from_raw(pid as _).ok_or(Errno::CHILD)?;
    let seen = match waitid(WaitId::Pid(pid), sees) {
        // A sandbox forbids to ask; then async-process reports it.
        Err(errno) if errno != Errno::CHILD => return Ok(false),
        seen => seen?,
    };
    // If this process traces the child, waitid(2) also reports its stops, even unasked.
    Ok(seen.is_some_and(|status| status.exited() || status.killed() || status.dumped()))
}

/// Reaps the child if it has exited.
fn ask(pid: u32) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_raw(pid as _).ok_or(Errno::CHILD)?;
    let told = waitpid(Some(pid), WaitOptions::NOHANG)?;
    Ok(told.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
}

impl Portable {
    /// It was started, but a stranger reaped it before it could be watched.
    fn lost(pid: u32) -> Self {
        Portable {
            pid,
            running: None,
            #[cfg(target_os = "linux")]
            pidfd: None,
            group: false,
            guarded: None,
            taken: None,
        }
    }
}

/// Starts a child.
pub(in crate::spawn) fn spawn(prepared: Prepared<'_>) -> Result<Portable, Refusal> {
    let Prepared { exec, mut descriptors, attributes, new_group, registration } = prepared;
    drive()?;
    let (report, childs_report) = pipe()?;
    let target = descriptors.add(childs_report)?;
    let source = descriptors.wanted.iter().find(|w| w.0 == target).map_or(target, |w| w.1);
    let new_process = Arc::new(NewProcess {
        actions: descriptors.actions(),
        report: source,
        terminal: descriptors.terminal,
        new_group,
        highest_open: highest_open(report.as_raw_fd()),
        groups: group_list(attributes, getegid().as_raw()),
        nice: attributes.nice.map(nice_value),
        keeps_its_groups: keeps_its_groups(attributes),
        guardian: registration.as_ref().map(|registration| (registration.pipe(), registration.line())),
        exec,
        attributes: attributes.clone(),
    });

    let mut command = std::process::Command::new(&new_process.exec.candidates[0].1);
    let in_child = new_process.clone();
    // SAFETY: the closure makes system calls on memory that was prepared before the fork; it neither
    // allocates nor locks.
    unsafe { command.pre_exec(move || in_child.run()) };
    let mut command = async_process::Command::from(command);
    // This conversion forgets earlier settings.
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let spawned = command.spawn();
    // The report ends when its writing end is closed everywhere: here now, in the child when it executes.
    drop(descriptors);
    let mut told = Vec::new();
    let read = File::from(report).read_to_end(&mut told);

    let word = |place: usize| {
        let bytes = told.get(4 * place..4 * place + 4)?;
        Some(c_int::from_ne_bytes(bytes.try_into().ok()?))
    };
    let failure = || {
        let (step, errno, place) = (word(1)?, word(2)?, word(3)?);
        let step = *STEPS.get(usize::try_from(step).ok()?)?;
        Some(Failure { step, place: usize::try_from(place).ok()?, errno })
    };
    let cancel = || registration.iter().for_each(Registration::cancel);
    let explain = |failure: Failure| failure.explain(&new_process.exec, &new_process.attributes);
    match (spawned, word(0)) {
        (Ok(mut child), _) => match (failure(), read) {
            (Some(failure), _) => {
                // The child has reported, and is about to exit.
                wait_for_exit(child.id());
                cancel();
                let _: io::Result<Option<ExitStatus>> = child.try_status();
                Err(explain(failure))
            }
            (_, Err(error)) => {
                let _: io::Result<()> = child.kill();
                cancel();
                Err(Refusal::os(error))
            }
            _ => {
                let pid = child.id();
                let guarded = registration.and_then(|registration| registration.confirm(pid as _));
                Ok(Portable {
                    pid,
                    running: Some(Hosted::from(Running {
                        status: Box::pin(child.status()),
                        _child: child,
                        wakes: None,
                        misled: false,
                        again: waits_for_sigchld().then(|| Timer::after(SLOWLY)),
                    })),
                    #[cfg(target_os = "linux")]
                    pidfd: None,
                    group: new_group,
                    guarded,
                    taken: None,
                })
            }
        },
        // The child was made, but async-process could not watch it and has forgotten it.
        // 0 means that the number here is unknown.
        (Err(error), Some(pid)) if pid > 0 => {
            cancel();
            let lost = Pid::from_raw(pid).is_some_and(abandon);
            match failure() {
                Some(failure) => Err(explain(failure)),
                _ if lost => Ok(Portable::lost(pid.unsigned_abs())),
                _ => Err(Refusal::os(error)),
            }
        }
        (Err(error), _) => Err(Refusal::os(error)),
    }
}

/// Waits until the child can be reaped, or was.
fn wait_for_exit(pid: u32) {
    let Some(pid) = Pid::from_raw(pid as _) else { return };
    let sees = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(pid), sees).err() == Some(Errno::INTR) {}
}

/// Starts the thread in which async-process waits for children. It would start the thread itself, but only after the
/// first child, and it panics if it cannot.
fn drive() -> Result<(), Refusal> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if *started {
        return Ok(());
    }
    // It needs two descriptors, or four if it waits for SIGCHLD, and panics without them.
    let spare = pipe()?;
    if waits_for_sigchld() {
        drop(pipe()?);
    }
    drop(spare);
    refuse_panics(|| {
        let mut driver = Box::pin(async_process::driver());
        // After the first poll it counts as driven, so no second thread starts.
        let _: Poll<()> = driver.as_mut().poll(&mut Context::from_waker(Waker::noop())).map(|_| ());
        thread::Builder::new().name("async-process".into()).spawn(|| async_io::block_on(driver))
    })?;
    *started = true;
    Ok(())
}

//! The portable engine: async-process starts, waits and reaps; a `pre_exec` closure does what std and
//! async-process cannot say: the descriptors, the order of directory and identity, the signals.
//!
//! The closure executes the program itself and never returns. std keeps a descriptor of its own in the
//! new process, to report a failed exec through; whatever number that has, our plan may overwrite it,
//! and std then takes a missing program for a start. So failures are reported through a pipe of ours,
//! which is part of the plan, and std's is left to be closed. The report also tells the pid, so that a
//! child is known even where async-process fails after it was made.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use std::{fmt, ptr, thread};

#[cfg(target_os = "linux")]
use async_io::Async;
use async_io::Timer;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open};

use super::super::later;
use super::super::launch::Attributes;
use super::super::system::SystemProcess;
use super::descriptors::pipe;
use super::diagnosis::Tries;
use super::fds::Action;
use super::forked::{Hosted, Leave};
use super::guardian::{Guarded, Registration};
use super::image::Image;
use super::prepare::{AGAIN, Prepared, abandon, caught, retry_busy};
use super::raw::{send, send_to_group};
use super::setup::{Failure, Setup, keeps_its_groups, nice_value};
use crate::error::Refusal;
use crate::output::Exit;
use crate::signal::Signal;

/// A child of this engine.
pub(in crate::spawn) struct Portable {
    pid: u32,
    /// Emptied when the status was taken. async-process reaps a live child only when it is asked for the status.
    running: Option<Hosted<Running>>,
    /// Readable once the child has exited, where the system has such a thing. Asking async-process would reap it.
    #[cfg(target_os = "linux")]
    pidfd: Option<Hosted<Async<OwnedFd>>>,
    /// It leads a process group.
    group: bool,
    /// It is to die with the parent.
    guarded: Option<Guarded>,
    /// An exit that was found while looking for it.
    taken: Option<Exit>,
}

struct Running {
    status: Pin<Box<dyn Future<Output = io::Result<ExitStatus>> + Send>>,
    /// Dropped after `status`; then async-process reaps it in the background.
    _child: async_process::Child,
    /// What `status` wakes, once it was asked: one and the same for life, since async-io wakes the waker that it replaces.
    wakes: Option<Waker>,
    /// `status` has told something else than the exit, and tells nothing any more.
    misled: bool,
    /// When to ask for the exit ourselves.
    again: Option<Timer>,
}

impl Leave for Running {
    fn leave(self) {
        // Its drop would have async-process wait for the child, and take what it watches off the reactor's list.
        std::mem::forget(self);
    }
}

/// How often to ask for an exit where it is told by SIGCHLD: the host may ignore that from now on, or handle it alone.
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
    /// `None` once it was reaped, or if a stranger has reaped it before it could be watched.
    fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|_| self.pid)
    }

    /// Has the waker woken when the child has exited, where that can be had without reaping it.
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "there asking reaps it"))]
    fn watch(&mut self, waker: &Waker) {
        #[cfg(target_os = "linux")]
        if let Some(pid) = Pid::from_raw(self.pid as _) {
            // Without one the exit is seen by whoever polls.
            let pidfd =
                pidfd_open(pid, PidfdFlags::NONBLOCK).ok().and_then(|fd| Async::new_nonblocking(fd).ok());
            if pidfd.as_ref().is_some_and(|fd| fd.poll_readable(&mut Context::from_waker(waker)).is_ready()) {
                // It has exited by now, and nobody would wake.
                later::wake(waker.clone());
            }
            self.pidfd = pidfd.map(Hosted::from);
        }
    }

    /// Ready once the child has exited. Asking for the status would reap it, so that is done only if it was done before.
    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        let Some(child) = &self.running else { return Poll::Ready(()) };
        let exited = has_exited(self.pid);
        if exited == Err(Errno::CHILD) {
            // A stranger has reaped it, and its number may be another's.
            self.guarded = None;
        }
        if exited != Ok(false) {
            return Poll::Ready(());
        }
        if child.wakes.is_some() {
            // It has not exited, so this only has it wake again. If it has just now, the exit waits to be taken.
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
            // Before it is reaped.
            self.guarded = None;
        }
        let Some(child) = &mut self.running else { return Poll::Ready(Exit::Lost) };
        // async-process may wake under a lock that asking takes as well.
        let wakes = child.wakes.get_or_insert_with(|| later::deferred(waker.clone())).clone();
        let cx = &mut Context::from_waker(&wakes);
        let mut told = match child.misled {
            false => child.status.as_mut().poll(cx).map_ok(Some),
            true => Poll::Pending,
        };
        // It has exited, whatever async-process and the clock say.
        if told.is_pending() && has_exited(self.pid) == Ok(true) {
            told = Poll::Ready(ask(self.pid));
        }
        let exit = loop {
            match told {
                // waitpid(2) tells of the stops of a process that we trace, whatever it was asked for; std
                // takes one for the exit, and never asks again.
                Poll::Ready(Ok(Some(status))) if status.stopped_signal().is_some() => {
                    child.misled = true;
                    child.again = Some(Timer::after(AGAIN));
                }
                Poll::Ready(Ok(Some(status))) => break Exit::Reaped(status, None),
                Poll::Ready(Ok(None)) => {
                    child.again = Some(Timer::after(if child.misled { AGAIN } else { SLOWLY }));
                }
                // ECHILD: somebody else reaped it.
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

    /// Sends a signal to the child, or to all of its group; `false` if nobody is there any more.
    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        if self.running.is_none() {
            return if self.has_members() {
                send_to_group(self.pid as _, signal.as_raw())
            } else {
                Ok(false)
            };
        }
        // If a stranger has reaped the child, the number may be another's.
        if has_exited(self.pid) == Err(Errno::CHILD) {
            return Ok(false);
        }
        if self.group && signal != Signal::KILL && send_to_group(self.pid as _, signal.as_raw())? {
            return Ok(true);
        }
        if self.group {
            // Nobody there, if it has left its group; it is not to get away with it.
            let _: io::Result<bool> = send_to_group(self.pid as _, signal.as_raw());
        }
        // The pid is the child's, since we have not reaped it; `false` if a stranger has.
        send(self.pid as _, signal.as_raw())
    }

    /// Whether anybody is left in the group.
    ///
    /// async-process reaps at once, and then the number of the group may become another's, though not while the group
    /// has members. A new group of that number would have its leader.
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
        // A sandbox that lets nobody ask: then async-process tells.
        Err(errno) if errno != Errno::CHILD => return Ok(false),
        seen => seen?,
    };
    // waitid(2) tells of the stops of a process that we trace, whatever it was asked for.
    Ok(seen.is_some_and(|status| status.exited() || status.killed() || status.dumped()))
}

/// Reaps the child if it has exited.
fn ask(pid: u32) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_raw(pid as _).ok_or(Errno::CHILD)?;
    let told = waitpid(Some(pid), WaitOptions::NOHANG)?;
    Ok(told.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
}

impl Portable {
    /// Started, but a stranger has reaped it before it could be watched.
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
    let Prepared { image, mut descriptors, attributes, new_group, registration } = prepared;
    drive()?;
    let (report, childs_report) = pipe()?;
    let target = descriptors.add(childs_report)?;
    let source = descriptors.wanted.iter().find(|w| w.0 == target).map_or(target, |w| w.1);
    let new_process = Arc::new(NewProcess {
        actions: descriptors.actions(),
        report: source,
        terminal: descriptors.terminal,
        new_group,
        highest_open: highest_open(),
        nice: attributes.nice.map(nice_value),
        keeps_its_groups: keeps_its_groups(attributes),
        guardian: registration.as_ref().map(|registration| (registration.pipe(), registration.line())),
        image,
        attributes: attributes.clone(),
    });

    let mut command = std::process::Command::new(&new_process.image.candidates[0].1);
    let childs = new_process.clone();
    // SAFETY: the closure makes system calls on memory that was prepared before the fork; it neither
    // allocates nor locks.
    unsafe { command.pre_exec(move || childs.run()) };
    let mut command = async_process::Command::from(command);
    // This conversion forgets what was set before it.
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let spawned = command.spawn();
    // The report ends when nobody holds its other end: we let go here, the child when it executes.
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
    let explain = |failure: Failure| failure.explain(&new_process.image, &new_process.attributes);
    match (spawned, word(0)) {
        (Ok(mut child), _) => match (failure(), read) {
            (Some(failure), _) => {
                // It has said its last word, and is on its way out.
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
        // 0 is a number that nobody here knows.
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

/// Waits until it can be reaped, or was.
fn wait_for_exit(pid: u32) {
    let Some(pid) = Pid::from_raw(pid as _) else { return };
    let sees = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(pid), sees).err() == Some(Errno::INTR) {}
}

/// Starts the thread in which async-process waits for children. It would start it by itself, but only when a child
/// is there, and panics where it cannot.
fn drive() -> Result<(), Refusal> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if *started {
        return Ok(());
    }
    // What it needs: two descriptors, or four, where it waits for SIGCHLD. It panics without.
    let spare = pipe()?;
    if waits_for_sigchld() {
        drop(pipe()?);
    }
    drop(spare);
    caught(|| {
        let mut driver = Box::pin(async_process::driver());
        // With the first poll it counts as driven, so that no second thread is started.
        let _: Poll<()> = driver.as_mut().poll(&mut Context::from_waker(Waker::noop())).map(|_| ());
        thread::Builder::new().name("async-process".into()).spawn(|| async_io::block_on(driver))
    })?;
    *started = true;
    Ok(())
}

/// What the forked process needs to become the program. Made before the fork; only read after it.
struct NewProcess {
    image: Image,
    attributes: Attributes,
    actions: Vec<Action>,
    /// Where the report's descriptor is before the actions.
    report: RawFd,
    /// Descriptor 0 is to be the controlling terminal of a new session.
    terminal: bool,
    /// It is to lead a process group.
    new_group: bool,
    /// No descriptor above this one is open, where the system has no call that closes all.
    highest_open: RawFd,
    /// The guardian's pipe, and the line for it, in which the number is missing.
    guardian: Option<(RawFd, Vec<u8>)>,
    nice: Option<c_int>,
    keeps_its_groups: bool,
}

// SAFETY: the pointers in `image` point into heap memory that it owns and never changes.
unsafe impl Send for NewProcess {}
// SAFETY: as above.
unsafe impl Sync for NewProcess {}

/// By their numbers, which travel through the report.
const STEPS: [Setup; 15] = [
    Setup::Session,
    Setup::Group,
    Setup::Guardian,
    Setup::Descriptors,
    Setup::Terminal,
    Setup::WorkingDirectory,
    Setup::Umask,
    Setup::Nice,
    Setup::Limit,
    Setup::Groups,
    Setup::Gid,
    Setup::Uid,
    Setup::NoNewPrivileges,
    Setup::Signals,
    Setup::Execute,
];

// Each is in the place of its number, and none is missing.
const _: () = {
    assert!(Setup::Execute as usize + 1 == STEPS.len());
    let mut place = 0;
    while place < STEPS.len() {
        assert!(STEPS[place] as usize == place);
        place += 1;
    }
};

impl NewProcess {
    /// Runs in the new process, in place of what std would do next. Returns never: the program runs,
    /// or the report says why it does not.
    ///
    /// Only calls that signal-safety(7) lists, and no allocation: another thread of the parent may have
    /// held any lock at the moment of the fork.
    fn run(&self) -> io::Result<()> {
        let mut report = self.report;
        tell(report, &[own_number()]);
        let Failure { step, place, errno } = self.become_program(&mut report);
        tell(report, &[step as c_int, errno, place as c_int]);
        // SAFETY: ends this process at once, as a forked copy must: nothing of the parent's is run.
        unsafe { libc::_exit(127) }
    }

    /// In the order of [`Setup`].
    fn become_program(&self, report: &mut RawFd) -> Failure {
        match self.set_up(report) {
            Err((step, place, errno)) => Failure { step, place, errno },
            Ok(()) => {
                reset_signals();
                let (place, errno) = self.execute();
                Failure { step: Setup::Execute, place, errno }
            }
        }
    }

    fn set_up(&self, report: &mut RawFd) -> Result<(), (Setup, usize, c_int)> {
        let at = |step| move |errno| (step, 0, errno);
        if self.terminal || self.attributes.new_session {
            // Who leads a session leads a group, setsid(2).
            // SAFETY: no memory is involved.
            check(unsafe { libc::setsid() }).map_err(at(Setup::Session))?;
        } else if self.new_group {
            // Cannot fail for a process that leads no session, setpgid(2).
            // SAFETY: no memory is involved; 0 is this process.
            unsafe { libc::setpgid(0, 0) };
        }
        if let Some((pipe, line)) = &self.guardian {
            name_to_guardian(*pipe, line).map_err(at(Setup::Guardian))?;
        }
        self.wire(report).map_err(at(Setup::Descriptors))?;
        if self.terminal {
            // tty_ioctl(4).
            // SAFETY: this request takes a number. The type of the request differs.
            check(unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) }).map_err(at(Setup::Terminal))?;
        }
        if let Some((cwd, _)) = &self.image.cwd {
            // SAFETY: a C string.
            check(unsafe { libc::chdir(cwd.as_ptr()) }).map_err(at(Setup::WorkingDirectory))?;
        }
        if let Some(umask) = self.attributes.umask {
            // SAFETY: no memory is involved; it cannot fail.
            unsafe { libc::umask(umask as libc::mode_t) };
        }
        if let Some(nice) = self.nice {
            // SAFETY: no memory is involved. 0 is this process.
            check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map_err(at(Setup::Nice))?;
        }
        for (place, (resource, soft, hard)) in self.attributes.limits.iter().enumerate() {
            let limit = libc::rlimit { rlim_cur: to_limit(*soft), rlim_max: to_limit(*hard) };
            // SAFETY: a limit, which is only read. The type of the resource differs.
            check(unsafe { libc::setrlimit(resource.as_raw() as _, &limit) })
                .map_err(|errno| (Setup::Limit, place, errno))?;
        }
        self.give_up_privileges().map_err(|(step, errno)| (step, 0, errno))?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.attributes.no_new_privileges {
            // SAFETY: this request takes numbers.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
                .map_err(at(Setup::NoNewPrivileges))?;
        }
        Ok(())
    }

    /// Does the descriptor plan, following the report's descriptor through it.
    fn wire(&self, report: &mut RawFd) -> Result<(), c_int> {
        for action in &self.actions {
            match *action {
                Action::Dup2 { from, to } => {
                    if from == to {
                        set_close_on_exec(to, false)?;
                    } else {
                        // SAFETY: no memory is involved.
                        check(unsafe { libc::dup2(from, to) })?;
                    }
                    if from == *report {
                        *report = to;
                    }
                }
                Action::Close(fd) => {
                    // SAFETY: nothing in this process uses the number any more.
                    unsafe { libc::close(fd) };
                }
                Action::CloseFrom(fd) => close_from(fd, self.highest_open)?,
            }
        }
        set_close_on_exec(*report, true)
    }

    fn give_up_privileges(&self) -> Result<(), (Setup, c_int)> {
        let Attributes { uid, gid, groups, .. } = &self.attributes;
        // SAFETY: no memory is involved.
        let effective = unsafe { libc::geteuid() };
        if let Some(groups) = groups {
            // SAFETY: a pointer to as many groups as are told. Which integer counts them differs.
            check(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) })
                .map_err(|errno| (Setup::Groups, errno))?;
        }
        // Whether setgroups(2) is permitted, a capability and the user namespace tell, and not the user's number: so
        // it is always asked.
        let mut kept = None;
        if groups.is_none() && (uid.is_some() || gid.is_some()) {
            // SAFETY: none are told, so none are read.
            kept = check(unsafe { libc::setgroups(0, ptr::null()) }).err();
        }
        if let Some(gid) = *gid {
            set_gid(gid).map_err(|errno| (Setup::Gid, errno))?;
        }
        if let Some(uid) = *uid {
            set_uid(uid).map_err(|errno| (Setup::Uid, errno))?;
            #[cfg(target_os = "linux")]
            if !self.keeps_its_groups {
                // Capabilities that are not lost to whoever is not root.
                // SAFETY: this request takes numbers. Linux before 4.3 knows no such capabilities.
                unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
            }
            // A process that can become root again has given up nothing.
            // SAFETY: no memory is involved.
            if effective == 0 && uid != 0 && unsafe { libc::setuid(0) } == 0 {
                return Err((Setup::Uid, libc::EPERM));
            }
        }
        match kept {
            None => Ok(()),
            // Who stays who they are, keeps what they have.
            Some(libc::EPERM) if self.keeps_its_groups => Ok(()),
            // Anybody else must not get the parent's groups. Asked for last: if the ids are not permitted either, that
            // is the better thing to tell.
            // SAFETY: none are to be told, so no memory is involved.
            Some(_) if unsafe { libc::getgroups(0, ptr::null_mut()) } == 0 => Ok(()),
            Some(errno) => Err((Setup::Groups, errno)),
        }
    }

    /// As execvp(3), but never a shell for a file that has no known format. Returns only on failure.
    fn execute(&self) -> (usize, c_int) {
        let mut tries = Tries::default();
        for (place, (path, _)) in self.image.candidates.iter().enumerate() {
            let tried = retry_busy::<()>(|| {
                // SAFETY: C strings, and arrays of them that end with a null pointer.
                unsafe { libc::execve(path.as_ptr(), self.image.argv.as_ptr(), self.image.envp.as_ptr()) };
                Err(errno())
            });
            if !tries.failed(place, tried.err().unwrap_or(libc::ENOENT)) {
                break;
            }
        }
        tries.told()
    }
}

/// All three ids: whoever has another one left could return to it. -1 would leave them as they are, and setgid(2) refuses
/// it.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd"))]
fn set_gid(gid: u32) -> Result<(), c_int> {
    if gid == u32::MAX {
        return Err(libc::EINVAL);
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::setresgid(gid, gid, gid) })
}

/// As `set_gid`.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd"))]
fn set_uid(uid: u32) -> Result<(), c_int> {
    if uid == u32::MAX {
        return Err(libc::EINVAL);
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::setresuid(uid, uid, uid) })
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd")))]
fn set_gid(gid: u32) -> Result<(), c_int> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setgid(gid) })
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "openbsd")))]
fn set_uid(uid: u32) -> Result<(), c_int> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setuid(uid) })
}

/// `u64::MAX` and whatever does not fit is no limit.
fn to_limit(limit: u64) -> libc::rlim_t {
    libc::rlim_t::try_from(limit)
        .ok()
        .filter(|limit| *limit < libc::RLIM_INFINITY)
        .unwrap_or(libc::RLIM_INFINITY)
}

/// The number of this process, as the parent knows it; 0 if the parent knows another, since this process is in a namespace
/// of its own, as after unshare(2) with CLONE_NEWPID.
fn own_number() -> c_int {
    // SAFETY: no memory is involved.
    let parent = unsafe { libc::getppid() };
    // SAFETY: no memory is involved.
    let own = unsafe { libc::getpid() };
    if parent == 0 { 0 } else { own }
}

/// Writes the line, with the number of this process before its end.
fn name_to_guardian(pipe: RawFd, line: &[u8]) -> Result<(), c_int> {
    // Longer than any line.
    let mut told = [0; 32];
    let Some(told) = told.get_mut(..line.len()) else { return Err(libc::EMSGSIZE) };
    told.copy_from_slice(line);
    if own_number() == 0 {
        return Err(libc::ESRCH);
    }
    // std has made it deadly by now, whatever it was. It is reset later.
    // SAFETY: runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // SAFETY: no memory is involved.
    let mut number = unsafe { libc::getpid() };
    for digit in told.iter_mut().rev().skip(1) {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    // It fits, or nothing is written: a pipe takes so little at once (PIPE_BUF).
    // SAFETY: the bytes of the line.
    let written = unsafe { libc::write(pipe, told.as_ptr().cast(), told.len()) };
    if written == told.len() as isize { Ok(()) } else { Err(errno()) }
}

/// Writes words to the report. Sixteen bytes always fit into an empty pipe.
fn tell(report: RawFd, words: &[c_int]) {
    // SAFETY: the bytes of the words.
    unsafe { libc::write(report, words.as_ptr().cast(), size_of_val(words)) };
}

fn set_close_on_exec(fd: RawFd, on: bool) -> Result<(), c_int> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }) })
}

/// No signal ignored, none handled, none blocked. See the native engine for why.
fn reset_signals() {
    // No system has numbers above these; the gaps, SIGKILL and SIGSTOP are refused, which is fine.
    for signal in 1..=128 {
        // SAFETY: the default action runs no code of ours.
        let before = unsafe { libc::signal(signal, libc::SIG_DFL) };
        if before == libc::SIG_ERR {
            reset_internal_signal(signal);
        }
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: initialises the set.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: an initialised set; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) };
}

/// The C library keeps some for itself, 32 and 33 in glibc, and refuses to touch them. Ignored ones stay ignored in
/// every descendant.
#[cfg(target_os = "linux")]
fn reset_internal_signal(signal: c_int) {
    // The default action, no flags and an empty mask are all zeros, in whatever order a machine has them.
    let default = [0_u64; 16];
    // MIPS has twice as many signals as others.
    let size_of_set = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16_usize } else { 8 };
    let before = ptr::null_mut::<u64>();
    // SAFETY: the kernel reads no more than that, and the default action runs no code of ours.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), before, size_of_set) };
}

#[cfg(not(target_os = "linux"))]
fn reset_internal_signal(_: c_int) {}

#[cfg(target_os = "linux")]
fn close_from(least: RawFd, _highest: RawFd) -> Result<(), c_int> {
    // SAFETY: nothing in this process uses the numbers any more.
    let done = unsafe { libc::syscall(libc::SYS_close_range, least, libc::c_uint::MAX, 0) };
    // Linux 5.9 has the call; some sandboxes do not.
    if done == 0 { Ok(()) } else { close_listed(least) }
}

/// Closes what the kernel lists as open. The table of a forked process holds still: it has one thread.
///
/// Without the list the program is not run: it would have what others left open.
#[cfg(target_os = "linux")]
fn close_listed(least: RawFd) -> Result<(), c_int> {
    use rustix::fs::{Mode, OFlags, RawDir, open};
    use std::os::fd::AsRawFd;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list = open(c"/proc/self/fd", flags, Mode::empty()).map_err(|errno| errno.raw_os_error())?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&list, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|errno| errno.raw_os_error())?;
        let number = entry.file_name().to_bytes().iter().try_fold(0, |number: RawFd, digit| {
            digit.is_ascii_digit().then(|| number * 10 + RawFd::from(digit - b'0'))
        });
        if let Some(fd) = number.filter(|fd| *fd >= least && *fd != list.as_raw_fd()) {
            // SAFETY: nothing in this process uses the number any more.
            unsafe { libc::close(fd) };
        }
    }
    Ok(())
}

#[cfg(target_os = "freebsd")]
fn close_from(least: RawFd, _highest: RawFd) -> Result<(), c_int> {
    // SAFETY: nothing in this process uses the numbers any more.
    unsafe { libc::closefrom(least) };
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn close_from(least: RawFd, highest: RawFd) -> Result<(), c_int> {
    for fd in least..=highest {
        // SAFETY: nothing in this process uses the number any more.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// The highest open descriptor, and some more for what other threads open until the fork; for systems
/// without a call that closes all from a number on. Never a loop over all that are possible.
fn highest_open() -> RawFd {
    if cfg!(any(target_os = "linux", target_os = "freebsd")) {
        return 0;
    }
    let listed = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    let highest = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok()).max();
    highest.unwrap_or(1024).saturating_add(64)
}

fn check(result: c_int) -> Result<(), c_int> {
    if result == -1 { Err(errno()) } else { Ok(()) }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

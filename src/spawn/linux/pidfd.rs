//! A child that is watched, reaped and signalled through a pidfd.
//!
//! Refuses to know how it was started.
//!
//! Rule: a pid is used only while the child is certainly not reaped.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::ExitStatus;
use std::ptr;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::opcode;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::super::system::SystemProcess;
use super::super::unix::{self, AGAIN, Guarded, Hosted, abandon, is_copy, was_sent};
use crate::error::Refusal;
use crate::output::{Exit, Usage};
use crate::signal::Signal;

/// A process that was started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// A child of this engine. Dropping it reaps a child that has exited.
#[derive(Debug)]
pub(in crate::spawn) struct PidfdProcess {
    pid: Pid,
    pidfd: Hosted<Async<OwnedFd>>,
    /// It leads a process group, whose name is the child's number. If the system can signal a group through the
    /// pidfd, the child is reaped like any other. Otherwise its exit is seen but not reaped, so it keeps the number
    /// until the group gets no signal any more.
    group: bool,
    reaped: bool,
    /// It must die with the parent. Then a group keeps its number too, because the guardian names the group by it.
    guarded: Option<Guarded>,
    /// When to ask again for an exit that was reported but cannot be taken: a debugger still has it.
    again: Option<Box<Timer>>,
}

/// Whether this system can wait for the exit of a reaped child through its pidfd, and send signals through it. ECHILD
/// and ESRCH mean that it understands the call.
pub(super) fn is_understood(pidfd: &OwnedFd) -> bool {
    matches!(wait(By::Pidfd(pidfd), PEEK), Err(Errno::CHILD)) && send(By::Pidfd(pidfd), 0).is_ok()
}

impl PidfdProcess {
    /// From here on the child exists: after a failure it is killed and reaped before the error is returned.
    pub(super) fn new(
        Started { pid, pidfd }: Started,
        group: bool,
        guarded: Option<Guarded>,
    ) -> Result<Self, Refusal> {
        match Async::new_nonblocking(pidfd) {
            Ok(pidfd) => {
                Ok(PidfdProcess { pid, pidfd: pidfd.into(), group, reaped: false, guarded, again: None })
            }
            Err(error) => {
                // Before it is reaped.
                drop(guarded);
                abandon(pid);
                Err(Refusal::os(error))
            }
        }
    }
}

impl SystemProcess for PidfdProcess {
    fn pid(&self) -> Option<u32> {
        Some(self.pid.as_raw_pid().unsigned_abs())
    }

    /// Wakes the waker once the child has exited.
    fn watch(&mut self, waker: &Waker) {
        // An error here means that the reactor does not work; then the next poll finds the exit.
        let _: Poll<io::Result<()>> = self.pidfd.poll_readable(&mut Context::from_waker(waker));
    }

    /// Ready once the child has exited.
    fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        self.poll_wait(PEEK, waker).map(drop)
    }

    /// Takes the exit once there is one, and reaps the child.
    fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        let keeps_number = self.group && (self.guarded.is_some() || !self.signals_groups());
        if !keeps_number && self.guarded.is_some() {
            // The guardian's entry is taken back before the child is reaped.
            ready!(self.poll_wait(PEEK, waker));
            self.guarded = None;
        }
        let exit = ready!(self.poll_wait(if keeps_number { PEEK } else { REAP }, waker));
        self.reaped |= !keeps_number;
        Poll::Ready(exit)
    }

    /// Sends a signal to the child, or to its whole group; `false` if no process is left.
    fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        if !self.group {
            return if self.reaped { Ok(false) } else { self.send(signal.as_raw()) };
        }
        let sent = self.send_to_group(signal.as_raw());
        // A child that has left its group gets the signal too.
        match sent {
            Ok(true) if signal != Signal::KILL => sent,
            _ if self.reaped => sent,
            _ => Ok(self.send(signal.as_raw())? | sent.unwrap_or(false)),
        }
    }

    /// Whether a process is left in the group. A dead leader that is not reaped counts too.
    fn has_members(&mut self) -> bool {
        self.group && self.send_to_group(0).unwrap_or(true)
    }
}

impl PidfdProcess {
    fn poll_wait(&mut self, options: c_int, waker: &Waker) -> Poll<Exit> {
        let cx = &mut Context::from_waker(waker);
        loop {
            let mut again = false;
            match self.wait(options) {
                Ok(Some((status, usage))) => return Poll::Ready(Exit::Reaped(status, usage)),
                // A stranger has reaped it or is about to, or the system has, because SIGCHLD is ignored.
                Err(Errno::CHILD) => match self.exit_info() {
                    Ok(None) => again = true,
                    told => {
                        self.reaped = true;
                        let status = told.ok().flatten();
                        return Poll::Ready(status.map_or(Exit::Lost, |status| Exit::Reaped(status, None)));
                    }
                },
                Err(_) => {
                    self.reaped = true;
                    return Poll::Ready(Exit::Lost);
                }
                Ok(None) => {}
            }
            if let Some(timer) = &mut self.again {
                ready!(Pin::new(&mut **timer).poll(cx));
                self.again = None;
                continue;
            }
            // An error here means that the reactor does not work. The pidfd and the clock still do, so ask now and
            // then. The same if the descriptor is readable but there is no exit to take: a traced process's exit goes
            // to its debugger first (ptrace(2)).
            if again || ready!(self.pidfd.poll_readable(cx)).is_err() || self.is_readable() {
                self.again = Some(Box::new(Timer::after(AGAIN)));
            }
        }
    }

    /// The status of a child that a stranger reaps. From now on its number may belong to another process.
    fn exit_info(&mut self) -> Result<Option<ExitStatus>, Errno> {
        self.guarded = None;
        exit_info(self.pidfd.get_ref())
    }

    /// Whether the kernel says now that the child has exited; the reactor's answer may be old.
    fn is_readable(&self) -> bool {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut asked = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        poll(&mut asked, Some(&NOW)) == Ok(1)
    }

    /// Whether this kernel can signal a group through the pidfd of its leader, also after the leader was reaped.
    /// Asked once.
    fn signals_groups(&self) -> bool {
        static CAN: OnceLock<bool> = OnceLock::new();
        // A kernel without the flag returns EINVAL. If the child does not lead a group any more, the call returns
        // ESRCH.
        *CAN.get_or_init(|| was_sent(pidfd_send_signal(self.pidfd.get_ref(), 0, PROCESS_GROUP)).is_ok())
    }

    fn send_to_group(&self, signal: c_int) -> io::Result<bool> {
        let sent = match self.signals_groups() {
            true => was_sent(pidfd_send_signal(self.pidfd.get_ref(), signal, PROCESS_GROUP)),
            false => Err(io::ErrorKind::Unsupported.into()),
        };
        // The group has its leader's number until somebody reaps the leader, even a stranger.
        match sent {
            Err(_) if self.reaped || !self.send(0).unwrap_or(true) => Ok(false),
            Err(_) => unix::send_to_group(self.pid.as_raw_pid(), signal),
            sent => sent,
        }
    }

    // A sandbox that starts while the child runs (seccomp(2)) may refuse the calls for pidfds and permit the older
    // ones. The number is the child's until somebody reaps it.

    fn wait(&self, options: c_int) -> Result<Option<(ExitStatus, Option<Usage>)>, Errno> {
        let told = match wait(By::Pidfd(self.pidfd.get_ref()), options) {
            Err(errno) if errno != Errno::CHILD => wait(By::Number(self.pid), options),
            told => told,
        };
        match told {
            // Only the oldest call is left. It cannot leave the child to be reaped later.
            Err(errno) if errno != Errno::CHILD => {
                let told = waitpid(Some(self.pid), WaitOptions::NOHANG)?;
                Ok(told.map(|(_, status)| (ExitStatus::from_raw(status.as_raw()), None)))
            }
            told => told,
        }
    }

    /// Returns `false` if a stranger has reaped it.
    fn send(&self, signal: c_int) -> io::Result<bool> {
        match send(By::Pidfd(self.pidfd.get_ref()), signal) {
            Err(_) if self.wait(PEEK) != Err(Errno::CHILD) => send(By::Number(self.pid), signal),
            sent => sent,
        }
    }
}

/// Reaps a child that has exited and kept its number for its group.
impl Drop for PidfdProcess {
    fn drop(&mut self) {
        self.guarded = None;
        if !self.reaped && !is_copy() {
            // The status is known, or not wanted.
            let _: Result<_, Errno> = self.wait(REAP);
        }
    }
}

/// What names a child.
#[derive(Clone, Copy)]
enum By<'a> {
    Pidfd(&'a OwnedFd),
    Number(Pid),
}

/// The signal goes to the group that the process leads or led, pidfd_send_signal(2): Linux 6.9.
const PROCESS_GROUP: libc::c_uint = 1 << 2;

fn pidfd_send_signal(pidfd: &OwnedFd, signal: c_int, flags: libc::c_uint) -> c_long {
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a live descriptor; without siginfo the kernel fills in the one of kill(2).
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, flags) }
}

/// pidfd_send_signal(2), or kill(2). Returns `false` if a stranger has reaped it.
fn send(child: By<'_>, signal: c_int) -> io::Result<bool> {
    match child {
        By::Pidfd(pidfd) => was_sent(pidfd_send_signal(pidfd, signal, 0)),
        By::Number(pid) => unix::send(pid.as_raw_pid(), signal),
    }
}

/// To see an exit, or to take it; never waits.
const PEEK: c_int = REAP | libc::WNOWAIT;
const REAP: c_int = libc::WEXITED | libc::WNOHANG;

/// On other than 64 bits the kernel's rusage may differ from the C library's, so none is asked for.
const HAS_USAGE: bool = cfg!(target_pointer_width = "64");

/// The answer of PIDFD_GET_INFO: `struct pidfd_info` of linux/pidfd.h, as in Linux 6.13. Later ones are longer, and
/// the kernel uses the size in the request.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    /// Process, thread group, parent; real, effective, saved and file system's ids.
    ids: [u32; 11],
    /// In the form of wait(2).
    exit_code: i32,
}

/// Linux 6.15.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// How a process ended that somebody has reaped: PIDFD_GET_INFO with PIDFD_INFO_EXIT. `None` if it is not reaped yet.
/// An older kernel, and a sandbox, return an error.
fn exit_info(pidfd: &OwnedFd) -> Result<Option<ExitStatus>, Errno> {
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    let request = opcode::read_write::<Info>(0xff, 11);
    // SAFETY: a live descriptor, and room for the answer. The type of the request differs.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), request as _, &raw mut info) };
    if done < 0 {
        return Err(last_error());
    }
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code)))
}

/// Waits until a process that is about to exit has gone, and reaps it.
pub(super) fn reap(Started { pid, pidfd }: &Started) {
    // A plain wait does not find a child that gives no signal.
    let flags = libc::WEXITED | libc::__WALL;
    let mut child = By::Pidfd(pidfd);
    loop {
        match wait(child, flags) {
            Err(Errno::INTR) => {}
            Ok(_) | Err(Errno::CHILD) => return,
            Err(_) => match child {
                By::Pidfd(_) => child = By::Number(*pid),
                By::Number(_) => {
                    // A sandbox may permit the oldest call only. Without a signal it needs a flag that rustix does
                    // not have.
                    // SAFETY: nobody asks for the status.
                    while unsafe { libc::waitpid(pid.as_raw_pid(), ptr::null_mut(), libc::__WALL) } < 0 {
                        if last_error() != Errno::INTR {
                            return;
                        }
                    }
                    return;
                }
            },
        }
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// waitid(2) with resource use: the system call has a fifth argument for it that no wrapper has.
fn wait(child: By<'_>, options: c_int) -> Result<Option<(ExitStatus, Option<Usage>)>, Errno> {
    let (kind, number) = match child {
        By::Pidfd(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
        By::Number(pid) => (libc::P_PID, pid.as_raw_pid()),
    };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: room for both answers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            kind,
            number,
            info.as_mut_ptr(),
            options,
            if HAS_USAGE { usage.as_mut_ptr() } else { ptr::null_mut() },
        )
    };
    if done < 0 {
        return Err(last_error());
    }
    // SAFETY: all-zero bytes are a valid siginfo, and so is what the kernel wrote.
    let info = unsafe { info.assume_init() };
    // SAFETY: likewise.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: waitid fills in the fields of SIGCHLD, and leaves the zero if no child has exited.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // If this process traces the child, waitid(2) also reports its stops, even unasked.
    if ![libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&info.si_code) {
        return Ok(None);
    }
    // SAFETY: as above.
    let value = unsafe { info.si_status() };
    // The form of a wait status, wait(2): a code in the second byte, a signal in the first, 0x80 for a core dump.
    let status = ExitStatus::from_raw(match info.si_code {
        libc::CLD_EXITED => (value & 0xff) << 8,
        libc::CLD_DUMPED => value | 0x80,
        _ => value,
    });
    Ok(Some((status, HAS_USAGE.then(|| to_usage(&usage)))))
}

fn to_usage(usage: &libc::rusage) -> Usage {
    // The kernel never counts below zero. On some systems the type has 32 bits.
    let time = |t: libc::timeval| {
        let part = |part| u64::try_from(part).unwrap_or_default();
        Duration::from_secs(part(t.tv_sec)) + Duration::from_micros(part(t.tv_usec))
    };
    Usage {
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
        // Linux counts it in KiB, getrusage(2).
        peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or_default() * 1024,
    }
}

//! The few lines that both Unix engines need and that no safe wrapper has.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
#[cfg(target_vendor = "apple")]
use std::os::fd::AsRawFd;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;

use rustix::io::Errno;

/// A number of the caller's choice, to ask about it or to copy it.
pub(super) fn borrow(number: RawFd) -> BorrowedFd<'static> {
    assert!(number >= 0, "negative numbers are refused before");
    // SAFETY: -1 is excluded. The number need not be open: it only goes to `fcntl`, which then returns
    // EBADF; and the callers hold what they name for as long as the borrow is used.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// `writev(2)` that never raises SIGPIPE, also if the host does not ignore that signal.
///
/// Rust programs ignore SIGPIPE, and then this is a plain call. A host in another language may have left it deadly.
/// Then this blocks it in this thread during the call. If the call raised it, this takes it off the pending signals;
/// a SIGPIPE goes to the writing thread. On macOS it goes to the process, so there
/// [`raises_sigpipe`] turns it off for each pipe of this crate.
pub(crate) fn write_quietly(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> Result<usize, Errno> {
    if !sigpipe_is_deadly() {
        return rustix::io::writev(fd, buffers);
    }
    let Some((only_pipe, before)) = block_sigpipe() else { return rustix::io::writev(fd, buffers) };
    let written = rustix::io::writev(fd, buffers);
    if written == Err(Errno::PIPE) {
        take_pending(&only_pipe);
    }
    // SAFETY: `before` is a mask that the system filled in.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    written
}

/// Sets whether a write to this pipe raises SIGPIPE if nobody reads the pipe. Only macOS needs and has this. It sends
/// the signal to the process, so a mask of the writing thread does not help (`fp_writev` in xnu's
/// bsd/kern/sys_generic.c).
///
/// Processes that share the pipe share the setting. Call it only for a pipe of this crate, and undo it before another
/// program gets the pipe.
pub(crate) fn raises_sigpipe(_pipe: BorrowedFd<'_>, _raises: bool) {
    #[cfg(target_vendor = "apple")]
    {
        // Its sys/fcntl.h. Not all versions of the libc crate have it.
        const F_SETNOSIGPIPE: c_int = 73;
        // SAFETY: no memory is involved. If it fails, all is as before.
        unsafe { libc::fcntl(_pipe.as_raw_fd(), F_SETNOSIGPIPE, c_int::from(!_raises)) };
    }
}

fn sigpipe_is_deadly() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; `action` has room for the answer.
    let asked = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all-zero bytes are a valid `sigaction`, and so is what the system wrote.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_DFL
}

/// Blocks SIGPIPE in this thread. Returns the set of SIGPIPE alone, and the mask from before. `None` if it was
/// blocked and pending already: that concerns the host only.
fn block_sigpipe() -> Option<(libc::sigset_t, libc::sigset_t)> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised just above.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: a valid set and a valid signal.
    unsafe { libc::sigaddset(&mut set, libc::SIGPIPE) };
    let mut before = set;
    // SAFETY: both sets are valid, and differ.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before) };
    // SAFETY: the system filled `before` in.
    let was_blocked = unsafe { libc::sigismember(&before, libc::SIGPIPE) } == 1;
    // A pending one belongs to the host.
    let is_hosts = was_blocked && is_pending(&set);
    (blocked == 0 && !is_hosts).then_some((set, before))
}

/// Takes a SIGPIPE off this thread's pending signals, if there is one.
fn take_pending(only_pipe: &libc::sigset_t) {
    if is_pending(only_pipe) {
        let mut signal = 0;
        // SAFETY: a valid set; the signal is pending, so this does not wait.
        unsafe { libc::sigwait(only_pipe, &mut signal) };
    }
}

/// Whether a blocked SIGPIPE is pending.
fn is_pending(only_pipe: &libc::sigset_t) -> bool {
    let mut pending = *only_pipe;
    // SAFETY: `pending` is a valid set for the system to fill in.
    unsafe { libc::sigpending(&mut pending) };
    // SAFETY: the system filled it in.
    unsafe { libc::sigismember(&pending, libc::SIGPIPE) == 1 }
}

/// The soft limit of open files, if there is one and a sandbox permits to ask.
pub(super) fn most_open_files() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: room for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    // Its type differs between C libraries.
    #[allow(clippy::unnecessary_cast)]
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as u64)
}

/// kill(2) of one process; `false` if it does not exist. Signal 0 only asks.
pub(in crate::spawn) fn send(pid: libc::pid_t, signal: c_int) -> io::Result<bool> {
    // SAFETY: no memory is involved.
    was_sent(unsafe { libc::kill(pid, signal) }.into())
}

/// kill(2) of a whole process group; `false` if it is empty.
pub(in crate::spawn) fn send_to_group(leader: libc::pid_t, signal: c_int) -> io::Result<bool> {
    match send(-leader, signal) {
        // macOS returns this for a group of dead processes; the leader's state decides whether it is one.
        Err(error) if cfg!(target_vendor = "apple") && error.raw_os_error() == Some(libc::EPERM) => Ok(false),
        sent => sent,
    }
}

/// The result of a call that sends a signal: `false` if no process was there.
pub(in crate::spawn) fn was_sent(returned: c_long) -> io::Result<bool> {
    if returned == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        error => Err(error),
    }
}

/// Closes a descriptor whose owner is forgotten right afterwards.
pub(super) fn close(fd: RawFd) {
    // SAFETY: the caller owns the number, and does not use it again.
    unsafe { libc::close(fd) };
}

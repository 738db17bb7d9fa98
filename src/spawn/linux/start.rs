//! In the parent: a stack, no signals, `clone`, and the answer.
//!
//! Refuses to know the purpose of a script's steps.
//!
//! The child shares the parent's memory until the program runs (`CLONE_VM | CLONE_VFORK`). So a parent of many
//! gigabytes starts a child as fast as a small one. Until then this thread is suspended; all others run on.
//!
//! It calls clone(2), because sandboxes answer clone3(2) with ENOSYS. And it calls the C library's function, because
//! the order of the system call's arguments differs between architectures.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::Pid;

use super::child::{self, Order, Report};
use super::pidfd::{self, Started};
use super::script::{SIGSET_SIZE, Script};

#[cfg(not(target_env = "gnu"))]
use libc::clone;
// SAFETY: the C library's function, by another of its names.
unsafe extern "C" {
    /// No sanitizer intercepts this name: ThreadSanitizer takes `clone` for a fork, and dies.
    #[cfg(target_env = "gnu")]
    #[link_name = "__clone"]
    fn clone(
        main: extern "C" fn(*mut c_void) -> c_int,
        stack: *mut c_void,
        flags: c_int,
        arg: *mut c_void,
        ...
    ) -> c_int;
}

/// The child's stack, in units of 16 bytes: no architecture needs a wider alignment. A release build uses 136 bytes
/// of it, AddressSanitizer 2.7 KiB. So a guard page (10 µs a start) is not worth it.
const STACK: usize = 32 * 1024;

/// Makes a process. When this returns, the process runs its program, or the report names the step that failed. In
/// that case it is about to exit and must be reaped.
pub(super) fn start(script: &Script<'_>) -> Result<(Started, Report), c_int> {
    make(script, libc::SIGCHLD)
}

/// Whether this kernel and sandbox have everything: processes that share the memory and come with a pidfd (Linux
/// 5.2), a wait for one (Linux 5.4), and signals through it. Asked once.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    if cfg!(reaped_portable) {
        return false;
    }
    match AVAILABLE.get() {
        Some(available) => *available,
        // If it cannot be tried now, the start itself reports why.
        None => works().is_none_or(|works| *AVAILABLE.get_or_init(|| works)),
    }
}

/// Whether everything works here. `None` if there is no descriptor, memory or process to try it now.
///
/// It runs a script that must fail, and expects that failure back. An emulator (qemu-user), valgrind and gVisor may
/// give the child a copy of the memory. Then a missing program would look as if it ran.
fn works() -> Option<bool> {
    // Without a signal only this code sees its end, and a host that waits for any child does not reap it.
    match make(&Script::probe(), 0) {
        Ok((started, report)) => {
            pidfd::reap(&started);
            let came_back = (report.step, report.errno) == (0, libc::EPERM);
            Some(came_back && pidfd::is_understood(&started.pidfd))
        }
        Err(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => None,
        Err(_) => Some(false),
    }
}

fn make(script: &Script<'_>, exit_signal: c_int) -> Result<(Started, Report), c_int> {
    // setuid(2) makes the *memory* undumpable, and with it the parent. And other processes of the new user could stop
    // or trace the child while it shares the parent's memory. So a child that becomes another user gets a copy of it,
    // at the price of a fork.
    let (sharing, mut shared) = match script.changes_identity {
        false => (libc::CLONE_VM, None),
        true => (0, Some(SharedReport::new()?)),
    };
    let mut own = Report::NONE;
    let report = match &mut shared {
        None => &raw mut own,
        Some(shared) => shared.0,
    };
    let mut order = Order::new(script, report);
    let mut stack: Vec<MaybeUninit<u128>> = Vec::with_capacity(STACK / 16);
    // No supported architecture has a stack that grows upwards.
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = sharing | libc::CLONE_VFORK | libc::CLONE_PIDFD | exit_signal;
    let order = (&raw mut order).cast::<c_void>();
    let mut pidfd: c_int = -1;
    let no_signals = NoSignals::new();
    // SAFETY: a stack of the child's own. This thread is suspended until the child has its program or is gone, so all that
    // the order leads to stays. With CLONE_PIDFD the fifth argument is where to put the descriptor.
    let pid = unsafe { clone(child::main, top.cast(), flags, order, &raw mut pidfd) };
    let failed = errno();
    drop(no_signals);
    let Some(pid) = Pid::from_raw(pid.max(0)) else { return Err(failed) };
    // SAFETY: the child has written it and is gone, or never will.
    let report = unsafe { report.read_volatile() };
    drop(stack);
    if pidfd < 0 {
        // Linux before 5.2 ignores an unknown flag. Only the probe gets here, and its child has ended.
        // SAFETY: nobody asks for the status.
        unsafe { libc::waitpid(pid.as_raw_pid(), ptr::null_mut(), libc::__WALL) };
        return Err(libc::ENOSYS);
    }
    // SAFETY: a new descriptor, and nobody else's.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((Started { pid, pidfd }, report))
}

/// A report in memory that this process shares with its copy.
struct SharedReport(*mut Report);

impl SharedReport {
    fn new() -> Result<Self, c_int> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever there is room.
        let place = unsafe { libc::mmap(ptr::null_mut(), size_of::<Report>(), access, flags, -1, 0) };
        if place == libc::MAP_FAILED {
            return Err(errno());
        }
        let report = SharedReport(place.cast());
        // SAFETY: our own mapping, which has room for it and the alignment of a page.
        unsafe { report.0.write(Report::NONE) };
        Ok(report)
    }
}

impl Drop for SharedReport {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.0.cast(), size_of::<Report>()) };
    }
}

/// While this lives, no signal reaches this thread, nor a child that it makes: a handler of the parent would run in
/// shared memory. It also blocks the C library's own signals, which that library's functions leave out.
struct NoSignals([u64; 2]);

impl NoSignals {
    fn new() -> Self {
        let mut before = [0_u64; 2];
        set_mask(&[u64::MAX; 2], Some(&mut before));
        NoSignals(before)
    }
}

impl Drop for NoSignals {
    fn drop(&mut self) {
        set_mask(&self.0, None);
    }
}

fn set_mask(mask: &[u64; 2], before: Option<&mut [u64; 2]>) {
    let before = before.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: both have room for the widest of the kernel's sets.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, mask, before, SIGSET_SIZE) };
}

fn errno() -> c_int {
    Errno::from_io_error(&io::Error::last_os_error()).map_or(libc::EIO, Errno::raw_os_error)
}

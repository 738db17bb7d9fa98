//! The new process: it takes the steps of the script. It runs in the parent's memory, on a stack of its own, while the
//! thread that made it is suspended and all others run on.
//!
//! Refuses to know what any step is for.
//!
//! Rules, which `.ci/interpreter` holds by the disassembly of a release build:
//! - It calls `libc::syscall` and `libc::__errno_location`, and nothing else. The C library's own functions for ids,
//!   limits and signals lock, or signal all threads of the parent.
//! - It reads what the parent has prepared and writes the [`Report`]. Nothing allocates, locks, panics, unwinds, drops
//!   or formats: so no indexing, no arithmetic that is checked, no `unwrap`. An index that is out of bounds here would
//!   unwind through the frames of another process.
//! - No array is in a frame, so that no sanitizer or stack protector has anything to guard.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr;

use super::super::unix::DIGITS;
use super::script::{DEFAULT, Expect, IGNORE, SIGSET_SIZE, Script, Step};

const LAST_SIGNAL: usize = SIGSET_SIZE * 8;

/// How much of a directory is read at once.
const LISTED: usize = 1024;

/// What the child is given.
pub(super) struct Order<'a> {
    script: &'a Script<'a>,
    /// The child's answer. In memory that both have.
    report: *mut Report,
    listed: UnsafeCell<[u64; LISTED / 8]>,
}

/// Which step has failed, and how.
#[derive(Clone, Copy)]
pub(super) struct Report {
    /// -1: none has, and the program runs.
    pub(super) step: isize,
    pub(super) errno: c_int,
}

impl Report {
    pub(super) const NONE: Report = Report { step: -1, errno: 0 };
}

impl<'a> Order<'a> {
    pub(super) fn new(script: &'a Script<'a>, report: *mut Report) -> Self {
        Order { script, report, listed: UnsafeCell::new([0; LISTED / 8]) }
    }
}

/// Where `clone` begins. Returns never.
pub(super) extern "C" fn main(order: *mut c_void) -> c_int {
    // SAFETY: an `Order` that outlives this process's use of the memory: the parent waits.
    let order = unsafe { &*order.cast::<Order<'_>>() };
    let report = run(order);
    // SAFETY: nobody else has it: the parent waits.
    unsafe { order.report.write(report) };
    loop {
        call(libc::SYS_exit_group, [127, 0, 0, 0, 0]);
    }
}

fn run(order: &Order<'_>) -> Report {
    let mut place = 0_isize;
    // The program to report if none could run: the first that was not permitted, as in execvp(3), or else the first.
    let mut told = Report { step: -1, errno: libc::ENOENT };
    for step in &order.script.steps {
        let errno = match *step {
            Step::Call { number, args, expect: Expect::Program } => {
                let errno = error_of(call(number, args));
                if told.step < 0 || errno == libc::EACCES && told.errno != libc::EACCES {
                    told = Report { step: place, errno };
                }
                // Whether another folder may still have the program: execvp(3) then goes on.
                match errno {
                    libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ESTALE | libc::ENODEV => 0,
                    errno => errno,
                }
            }
            Step::Call { number, args, expect } => judge(call(number, args), expect),
            Step::Register { pipe, line, length } => register(pipe, line, length),
            Step::CloseFrom(fd) => close_from(order, fd),
            Step::DefaultSignals => default_signals(),
        };
        if errno != 0 {
            return Report { step: place, errno };
        }
        place = place.wrapping_add(1);
    }
    if told.step < 0 { Report { step: place, errno: libc::ENOENT } } else { told }
}

/// A system call: its result, or its error number as a negative one.
fn call(number: c_long, [a, b, c, d, e]: [usize; 5]) -> c_long {
    // SAFETY: what the script says, whose pointers lead to what it borrows.
    let done = unsafe { libc::syscall(number, a, b, c, d, e) };
    if done != -1 {
        return done;
    }
    // SAFETY: no memory is involved.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: this thread's errno. In shared memory it is the suspended parent's, which does not look at it.
    let errno = unsafe { *place };
    (errno as c_long).wrapping_neg()
}

fn error_of(done: c_long) -> c_int {
    done.wrapping_neg() as c_int
}

fn judge(done: c_long, expect: Expect) -> c_int {
    match expect {
        Expect::Whatever => 0,
        Expect::Success | Expect::SuccessOr(_) if done >= 0 => 0,
        Expect::SuccessOr(errno) if error_of(done) == errno => 0,
        Expect::Exactly(value) if done == value => 0,
        Expect::Failure if done < 0 => 0,
        Expect::Exactly(_) | Expect::Failure => libc::EPERM,
        Expect::Success | Expect::SuccessOr(_) | Expect::Program => error_of(done),
    }
}

/// Resets every signal, while all are blocked: no handler of the parent may run here. The C library reserves some
/// signals (32 and 33 in glibc), and its functions refuse to touch them; the kernel does not.
///
/// The signals that stop a process are ignored for now. Otherwise a Ctrl-Z of the terminal would stop this process
/// once signals are unblocked, and the waiting thread with it. An ignored one is dropped.
fn default_signals() -> c_int {
    let default = ptr::from_ref(&DEFAULT).expose_provenance();
    let ignore = ptr::from_ref(&IGNORE).expose_provenance();
    let mut signal = 1;
    while signal <= LAST_SIGNAL {
        let action = match signal as c_int {
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => ignore,
            _ => default,
        };
        // SIGKILL and SIGSTOP are refused, which is fine.
        call(libc::SYS_rt_sigaction, [signal, action, 0, SIGSET_SIZE, 0]);
        signal = signal.wrapping_add(1);
    }
    0
}

/// There is room for the number before the line's end. A pipe takes such a short line as a whole or not at all
/// (PIPE_BUF).
fn register(pipe: c_int, line: *mut u8, length: usize) -> c_int {
    if call(libc::SYS_getppid, [0; 5]) == 0 {
        // In a namespace of its own (unshare(2), CLONE_NEWPID) it has another number than outside.
        return libc::ESRCH;
    }
    let mut number = call(libc::SYS_getpid, [0; 5]) as u32;
    let mut place = line.wrapping_add(length).wrapping_sub(1);
    let mut digits = 0;
    // The whole field: an earlier try may have left digits there.
    while digits < DIGITS {
        place = place.wrapping_sub(1);
        let blank = number == 0 && digits != 0;
        let digit = if blank { b' ' } else { b'0'.wrapping_add((number % 10) as u8) };
        // SAFETY: within the line, which is this process's for now: its own copy, or the parent waits.
        unsafe { place.write(digit) };
        number /= 10;
        digits = digits.wrapping_add(1);
    }
    let done = call(libc::SYS_write, [pipe as usize, line.expose_provenance(), length, 0, 0]);
    if done < 0 { error_of(done) } else { 0 }
}

fn close_from(order: &Order<'_>, least: c_int) -> c_int {
    if call(libc::SYS_close_range, [least as usize, u32::MAX as usize, 0, 0, 0]) == 0 {
        return 0;
    }
    // Linux 5.9 has the call, but some sandboxes do not. Then the descriptors that the kernel lists are closed one by
    // one. This process has its own table, so the list does not change meanwhile. Without the list the program does
    // not run: it would inherit foreign descriptors.
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let folder = c"/proc/self/fd".as_ptr().expose_provenance();
    let list = call(libc::SYS_openat, [libc::AT_FDCWD as usize, folder, flags as usize, 0, 0]);
    if list < 0 {
        return error_of(list);
    }
    let buffer = order.listed.get().cast::<u8>();
    loop {
        let args = [list as usize, buffer.expose_provenance(), LISTED, 0, 0];
        let filled = call(libc::SYS_getdents64, args);
        if filled <= 0 {
            call(libc::SYS_close, [list as usize, 0, 0, 0, 0]);
            return error_of(filled);
        }
        let mut at = 0_usize;
        while at < filled as usize {
            // struct linux_dirent64, getdents(2): the record's length at 16, the name at 19.
            // SAFETY: the kernel filled whole records up to `filled`.
            let length = unsafe { buffer.wrapping_add(at.wrapping_add(16)).cast::<u16>().read_unaligned() };
            // SAFETY: likewise; the name ends with NUL.
            let number = unsafe { parse(buffer.wrapping_add(at.wrapping_add(19)).cast()) };
            if number >= least as c_long && number != list {
                call(libc::SYS_close, [number as usize, 0, 0, 0, 0]);
            }
            at = at.wrapping_add(length as usize);
        }
    }
}

/// -1 if it is no number.
///
/// # Safety
/// A C string.
unsafe fn parse(mut name: *const c_char) -> c_long {
    let mut number: c_long = 0;
    loop {
        // SAFETY: not beyond the NUL.
        let digit = unsafe { *name } as u8;
        if digit == 0 {
            return number;
        }
        if !digit.is_ascii_digit() {
            return -1;
        }
        number = number.wrapping_mul(10).wrapping_add(digit.wrapping_sub(b'0') as c_long);
        name = name.wrapping_add(1);
    }
}

//! The native engine: `posix_spawn` with file actions, and a pidfd to wait and signal through. The
//! crate's unsafe code lives here.
//!
//! glibc's `posix_spawn` is `clone(CLONE_VM | CLONE_VFORK)`: the child borrows the parent's memory
//! until the program runs, so a parent of many gigabytes starts a child as fast as a small one.
//!
//! Rule: a pid is used only while the child is known not to be reaped.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::future::Future;
use std::io;
use std::mem::{self, MaybeUninit};
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
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::diagnosis::Tries;
use super::fds::Action;
use super::forked::Hosted;
use super::raw::{self, was_sent};
use super::unix::{Image, Wiring, abandon, retry_busy};
use super::{AGAIN, Process, in_a_copy};
use crate::error::Refusal;
use crate::output::{Exit, Usage};
use crate::signal::Signal;

/// A child of this engine. Dropping it reaps a child that has exited.
#[derive(Debug)]
pub(super) struct Native {
    pid: Pid,
    pidfd: Hosted<Async<OwnedFd>>,
    /// It leads a process group, which is named by the child's number. If the system can signal a group through the
    /// pidfd, the child is reaped as any other one. Else it is seen to exit but not reaped, and keeps the number, until
    /// nothing is to be sent to the group any more.
    group: bool,
    reaped: bool,
    /// When to ask again for an exit that was told and cannot be taken: a debugger still has it.
    again: Option<Box<Timer>>,
}

/// Whether this kernel, sandbox and C library have all that is needed. Asked once.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    if let Some(available) = AVAILABLE.get() {
        return *available;
    }
    match !cfg!(reaped_portable) && extensions().is_some() {
        true => pidfd_works().is_none_or(|works| *AVAILABLE.get_or_init(|| works)),
        false => *AVAILABLE.get_or_init(|| false),
    }
}

/// Whether a pidfd can be made (Linux 5.3), waited on (Linux 5.4) and signalled through, and no sandbox forbids it.
/// `None` where there is no descriptor or memory to try it with just now.
fn pidfd_works() -> Option<bool> {
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        // Nobody is their own child: ECHILD says that the call is understood, EINVAL that it is not.
        Ok(pidfd) => Some(
            matches!(wait(By::Pidfd(&pidfd), PEEK), Err(Errno::CHILD)) && send(By::Pidfd(&pidfd), 0).is_ok(),
        ),
        Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => None,
        Err(_) => Some(false),
    }
}

/// File actions that POSIX.1-2017 lacks. Looked up when the program runs, so that a program built
/// here still starts on an older C library and uses the other engine there.
struct Extensions {
    /// glibc 2.29.
    add_chdir: AddChdir,
    /// glibc 2.34.
    add_close_from: AddCloseFrom,
}

type AddChdir = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, *const c_char) -> c_int;
type AddCloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

fn extensions() -> Option<&'static Extensions> {
    static EXTENSIONS: OnceLock<Option<Extensions>> = OnceLock::new();
    EXTENSIONS
        .get_or_init(|| {
            let chdir = symbol(c"posix_spawn_file_actions_addchdir_np")?;
            let close_from = symbol(c"posix_spawn_file_actions_addclosefrom_np")?;
            Some(Extensions {
                // SAFETY: the symbol of this name has this signature (spawn.h of glibc).
                add_chdir: unsafe { mem::transmute::<ptr::NonNull<c_void>, AddChdir>(chdir) },
                // SAFETY: as above.
                add_close_from: unsafe { mem::transmute::<ptr::NonNull<c_void>, AddCloseFrom>(close_from) },
            })
        })
        .as_ref()
}

fn symbol(name: &CStr) -> Option<ptr::NonNull<c_void>> {
    // SAFETY: the name ends with NUL; looking up a symbol runs no code of it.
    ptr::NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// Starts a child and watches it.
pub(super) fn spawn(image: &Image, wiring: Wiring) -> Result<Process, Refusal> {
    let terminal = wiring.terminal.as_deref();
    let actions = FileActions::new(image, &wiring.actions(), terminal).map_err(Refusal::os)?;
    let attributes = Attributes::new(terminal.is_some(), wiring.new_group).map_err(Refusal::os)?;
    // The pidfd needs a number once the child exists. The child's ends of pipes free theirs just then;
    // where there are none, this one does.
    let placeholder = if wiring.frees_numbers() {
        None
    } else {
        Some(pidfd_open(getpid(), PidfdFlags::empty()).map_err(|errno| Refusal::os(errno.into()))?)
    };
    let pid = start(image, &actions, &attributes)?;
    let group = wiring.new_group;
    drop(placeholder);
    drop(wiring);
    watch(pid, group)
}

/// Tries the candidates in turn, and a busy program a few times.
fn start(image: &Image, actions: &FileActions, attributes: &Attributes) -> Result<Pid, Refusal> {
    let mut tries = Tries::default();
    for (place, (path, _)) in image.candidates.iter().enumerate() {
        match retry_busy(|| posix_spawn(path, image, actions, attributes)) {
            Ok(pid) => return Ok(pid),
            Err(errno) if tries.failed(place, errno) => {}
            Err(_) => break,
        }
    }
    Err(image.diagnose(tries.told()))
}

fn posix_spawn(
    path: &CStr,
    image: &Image,
    actions: &FileActions,
    attributes: &Attributes,
) -> Result<Pid, c_int> {
    let mut pid = 0;
    // SAFETY: actions and attributes are initialised; argv and envp are arrays of C strings that end
    // with a null pointer and live in `image`. posix_spawn does not write to them, whatever the `mut`
    // in its old prototype says (POSIX.1-2017, posix_spawn).
    let failed = unsafe {
        libc::posix_spawn(
            &mut pid,
            path.as_ptr(),
            &actions.0,
            &attributes.0,
            image.argv.as_ptr().cast(),
            image.envp.as_ptr().cast(),
        )
    };
    match Pid::from_raw(pid) {
        Some(pid) if failed == 0 => Ok(pid),
        _ => Err(failed),
    }
}

/// From here on the child exists: a failure kills and reaps it before it is told.
fn watch(pid: Pid, group: bool) -> Result<Process, Refusal> {
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // Somebody else reaped it before we looked, or SIGCHLD is ignored.
        Err(Errno::SRCH) => return Ok(Process::Lost),
        Err(errno) => {
            abandon(pid);
            return Err(Refusal::os(errno.into()));
        }
    };
    // Were it reaped and its number given away in between, the pidfd would be a stranger's.
    if wait(By::Pidfd(&pidfd), PEEK) == Err(Errno::CHILD) {
        return Ok(Process::Lost);
    }
    match Async::new_nonblocking(pidfd) {
        Ok(pidfd) => {
            Ok(Process::Native(Native { pid, pidfd: pidfd.into(), group, reaped: false, again: None }))
        }
        Err(error) => {
            abandon(pid);
            Err(Refusal::os(error))
        }
    }
}

impl Native {
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Has the waker woken once the child has exited.
    pub(super) fn watch(&mut self, waker: &Waker) {
        // An error here means that the reactor is out of order; then whoever polls finds the exit.
        let _: Poll<io::Result<()>> = self.pidfd.poll_readable(&mut Context::from_waker(waker));
    }

    /// Ready once the child has exited.
    pub(super) fn poll_seen(&mut self, waker: &Waker) -> Poll<()> {
        self.poll_wait(PEEK, waker).map(drop)
    }

    /// Takes the exit once there is one, and reaps the child.
    pub(super) fn poll_exit(&mut self, waker: &Waker) -> Poll<Exit> {
        let keeps_number = self.group && !signals_groups();
        let exit = ready!(self.poll_wait(if keeps_number { PEEK } else { REAP }, waker));
        self.reaped = !keeps_number || exit == Exit::Lost;
        Poll::Ready(exit)
    }

    fn poll_wait(&mut self, options: c_int, waker: &Waker) -> Poll<Exit> {
        let cx = &mut Context::from_waker(waker);
        loop {
            match self.wait(options) {
                Ok(Some((status, usage))) => return Poll::Ready(Exit::Reaped(status, usage)),
                Err(_) => return Poll::Ready(Exit::Lost),
                Ok(None) => {}
            }
            if let Some(timer) = &mut self.again {
                ready!(Pin::new(&mut **timer).poll(cx));
                self.again = None;
                continue;
            }
            // An error here means that the reactor is out of order. The pidfd itself still works, and so does
            // the clock: ask now and then. So it is if the descriptor is readable and there is nothing to take:
            // ptrace(2): the exit of a traced process is its debugger's first.
            let told = ready!(self.pidfd.poll_readable(cx));
            if told.is_err() || self.is_readable() {
                self.again = Some(Box::new(Timer::after(AGAIN)));
            }
        }
    }

    /// Whether the kernel says at this moment that the child has exited; what the reactor says may be old.
    fn is_readable(&self) -> bool {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut asked = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        poll(&mut asked, Some(&NOW)) == Ok(1)
    }

    /// Sends a signal to the child, or to all of its group; `false` if nobody is there any more.
    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<bool> {
        if !self.group {
            return if self.reaped { Ok(false) } else { self.send(signal.as_raw()) };
        }
        let sent = self.send_to_group(signal.as_raw());
        // A child may have left its group, and is not to get away with it.
        match sent {
            Ok(true) if signal != Signal::KILL => sent,
            _ if self.reaped => sent,
            _ => Ok(self.send(signal.as_raw())? | sent.unwrap_or(false)),
        }
    }

    /// Whether anybody is left in the group. A dead leader that is not reaped counts as well.
    pub(super) fn has_members(&mut self) -> bool {
        self.group && self.send_to_group(0).unwrap_or(true)
    }

    fn send_to_group(&self, signal: c_int) -> io::Result<bool> {
        let sent = match signals_groups() {
            true => was_sent(pidfd_send_signal(self.pidfd.get_ref(), signal, PROCESS_GROUP)),
            false => Err(io::ErrorKind::Unsupported.into()),
        };
        // The group's number is its leader's, for as long as nobody, a stranger either, has reaped it.
        match sent {
            Err(_) if self.reaped || !self.send(0).unwrap_or(true) => Ok(false),
            Err(_) => raw::send_to_group(self.pid.as_raw_pid(), signal),
            sent => sent,
        }
    }

    // A sandbox that is put up while the child runs, seccomp(2), may refuse the calls for pidfds and leave the older
    // ones. The number is the child's for as long as nobody has reaped it.

    fn wait(&self, options: c_int) -> Result<Option<(ExitStatus, Option<Usage>)>, Errno> {
        match wait(By::Pidfd(self.pidfd.get_ref()), options) {
            Err(errno) if errno != Errno::CHILD => wait(By::Number(self.pid), options),
            told => told,
        }
    }

    /// `false` where a stranger has reaped it.
    fn send(&self, signal: c_int) -> io::Result<bool> {
        match send(By::Pidfd(self.pidfd.get_ref()), signal) {
            Err(_) if self.wait(PEEK) != Err(Errno::CHILD) => send(By::Number(self.pid), signal),
            sent => sent,
        }
    }
}

/// A child that has exited and keeps its number for its group is reaped now.
impl Drop for Native {
    fn drop(&mut self) {
        if !self.reaped && !in_a_copy() {
            // The status is known, or nobody wants it.
            let _: Result<_, Errno> = self.wait(REAP);
        }
    }
}

/// By what a child is named.
enum By<'a> {
    Pidfd(&'a OwnedFd),
    Number(Pid),
}

/// The signal goes to the group that the process leads or led, pidfd_send_signal(2): Linux 6.9.
const PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Whether this kernel can signal a group through the pidfd of its leader, also once the leader was reaped. Asked once.
fn signals_groups() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        // EINVAL is what a kernel says that does not know the flag. This process need not lead its group, and then
        // there is nobody to be asked for: ESRCH.
        let own = pidfd_open(getpid(), PidfdFlags::empty());
        own.is_ok_and(|own| was_sent(pidfd_send_signal(&own, 0, PROCESS_GROUP)).is_ok())
    })
}

fn pidfd_send_signal(pidfd: &OwnedFd, signal: c_int, flags: libc::c_uint) -> c_long {
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a live descriptor; without siginfo the kernel makes up that of kill(2).
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, flags) }
}

/// pidfd_send_signal(2), or kill(2); `false` where a stranger has reaped it.
fn send(child: By<'_>, signal: c_int) -> io::Result<bool> {
    match child {
        By::Pidfd(pidfd) => was_sent(pidfd_send_signal(pidfd, signal, 0)),
        By::Number(pid) => raw::send(pid.as_raw_pid(), signal),
    }
}

/// To see an exit, and to take it; at once in any case.
const PEEK: c_int = REAP | libc::WNOWAIT;
const REAP: c_int = libc::WEXITED | libc::WNOHANG;

/// Elsewhere than on 64 bits the kernel's rusage may not be the C library's, so none is asked for.
const HAS_USAGE: bool = cfg!(target_pointer_width = "64");

/// waitid(2), with resource use: the system call has a fifth argument for it that no wrapper shows.
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
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    // SAFETY: all-zero bytes are a valid siginfo, and so is what the kernel wrote.
    let info = unsafe { info.assume_init() };
    // SAFETY: likewise.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: waitid fills in the fields of SIGCHLD, and leaves the zero where no child has exited.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // waitid(2) tells of the stops of a process that we trace, whatever it was asked for.
    if ![libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&info.si_code) {
        return Ok(None);
    }
    // SAFETY: as above.
    let value = unsafe { info.si_status() };
    // The layout of a wait status, wait(2): a code in the second byte, a signal in the first, 0x80 for
    // a core dump.
    let status = ExitStatus::from_raw(match info.si_code {
        libc::CLD_EXITED => (value & 0xff) << 8,
        libc::CLD_DUMPED => value | 0x80,
        _ => value,
    });
    Ok(Some((status, HAS_USAGE.then(|| to_usage(&usage)))))
}

fn to_usage(usage: &libc::rusage) -> Usage {
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs()) + Duration::from_micros(t.tv_usec.unsigned_abs())
    };
    Usage {
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
        // Linux counts it in KiB, getrusage(2).
        peak_memory: usage.ru_maxrss.unsigned_abs() * 1024,
    }
}

/// Owns initialised file actions.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new(image: &Image, plan: &[Action], terminal: Option<&CStr>) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: initialises what it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: initialised just above. glibc's value may be moved: it holds a pointer to the heap.
        let mut actions = FileActions(unsafe { raw.assume_init() });
        let extensions = extensions().ok_or(io::ErrorKind::Unsupported)?;
        // Descriptors first: a directory that is entered is no matter to them, and the other way round.
        for action in plan {
            check(match *action {
                // SAFETY: initialised actions.
                Action::Dup2 { from, to } => unsafe {
                    libc::posix_spawn_file_actions_adddup2(&mut actions.0, from, to)
                },
                // SAFETY: initialised actions.
                Action::Close(fd) => unsafe { libc::posix_spawn_file_actions_addclose(&mut actions.0, fd) },
                // glibc takes no number that is not below the limit of open files; then there is none to spare.
                // SAFETY: initialised actions, and the function of that name.
                Action::CloseFrom(fd) => match unsafe { (extensions.add_close_from)(&mut actions.0, fd) } {
                    libc::EBADF => libc::EMFILE,
                    errno => errno,
                },
            })?;
        }
        if let Some(path) = terminal {
            // A session's leader that opens a terminal makes it its controlling terminal, tty_ioctl(4).
            // SAFETY: initialised actions, and a C string, which is copied.
            check(unsafe {
                libc::posix_spawn_file_actions_addopen(&mut actions.0, 0, path.as_ptr(), libc::O_RDWR, 0)
            })?;
        }
        if let Some((cwd, _)) = &image.cwd {
            // SAFETY: initialised actions, and a C string, which is copied.
            check(unsafe { (extensions.add_chdir)(&mut actions.0, cwd.as_ptr()) })?;
        }
        Ok(actions)
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// Owns initialised attributes: no signal blocked, none ignored.
///
/// Rust ignores SIGPIPE, threads block signals, and hosts ignore SIGCHLD or SIGHUP; a program that
/// inherits that behaves in ways that nobody who wrote it has seen.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(own_session: bool, own_group: bool) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: initialises what it is given.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: initialised just above; plain data in glibc.
        let mut attributes = Attributes(unsafe { raw.assume_init() });
        let mut set = MaybeUninit::uninit();
        // SAFETY: initialises the set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised attributes and set.
        check(unsafe { libc::posix_spawnattr_setsigmask(&mut attributes.0, set.as_ptr()) })?;
        // sigfillset(3) leaves out 32 and 33, which glibc uses itself, and what is not in the set stays ignored.
        // SAFETY: a set is plain bits.
        unsafe { set.as_mut_ptr().write_bytes(0xff, 1) };
        // SAFETY: initialised attributes and set. glibc shrugs at SIGKILL and SIGSTOP in it.
        check(unsafe { libc::posix_spawnattr_setsigdefault(&mut attributes.0, set.as_ptr()) })?;
        let mut flags = (libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF) as i16;
        if own_session {
            // Who leads a session leads a group, setsid(2).
            // Not of one type in every libc.
            flags |= libc::POSIX_SPAWN_SETSID as libc::c_short;
        } else if own_group {
            flags |= libc::POSIX_SPAWN_SETPGROUP as i16;
            // SAFETY: initialised attributes; 0 is the child itself.
            check(unsafe { libc::posix_spawnattr_setpgroup(&mut attributes.0, 0) })?;
        }
        // SAFETY: initialised attributes.
        check(unsafe { libc::posix_spawnattr_setflags(&mut attributes.0, flags) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used again.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

/// These functions return the error number.
fn check(errno: c_int) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

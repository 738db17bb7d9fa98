//! What both Unix engines share: texts for the kernel, the child's descriptors, the choice of engine.

use std::ffi::{CString, OsStr, c_char, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{UnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_io::Async;
use rustix::fs::{Mode, OFlags, Uid, fchown, fcntl_setfl, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, Resource, Signal, WaitOptions, getrlimit, kill_process, waitpid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::fds::{self, Others};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use super::native;
use super::raw::borrow;
use super::{End, Launch, Ours, Process, diagnosis, forked, portable, program};
use crate::error::{InvalidReason, Refusal, SpawnReason};
use crate::stdio::PtySize;

/// The parent's end of a pipe: non-blocking, close-on-exec.
pub(crate) type Pipe = OwnedFd;

pub(super) fn spawn(launch: &Launch<'_>) -> Result<(Process, Ours), Refusal> {
    let image = Image::new(launch)?;
    let mut wiring = Wiring::new(launch)?;
    forked::claim()?;
    start_reactor()?;
    let ours = std::mem::take(&mut wiring.ours);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if native::available() && launch.identity.is_parents() {
        return Ok((native::spawn(&image, wiring)?, ours));
    }
    Ok((portable::spawn(image, wiring, launch.identity)?, ours))
}

/// Starts async-io's reactor while there is no child yet. It would start by itself, but panics where it lacks a
/// descriptor or a thread, and then never starts again.
fn start_reactor() -> Result<(), Refusal> {
    static STARTED: OnceLock<()> = OnceLock::new();
    if STARTED.get().is_some() {
        return Ok(());
    }
    // What it needs: an epoll, an eventfd and a timerfd, or a kqueue; and one to try it with.
    let (tried, rest) = (pipe()?, pipe()?);
    drop(rest);
    caught(|| Async::new_nonblocking(tried.0).map(drop))?;
    STARTED.get_or_init(|| ());
    Ok(())
}

/// Does what panics where there is no thread to be had, and tells so on stderr.
pub(super) fn caught<T>(start: impl FnOnce() -> io::Result<T> + UnwindSafe) -> Result<T, Refusal> {
    catch_unwind(start).unwrap_or_else(|_| Err(Errno::AGAIN.into())).map_err(Refusal::os)
}

/// Sets the size of a terminal.
pub(crate) fn resize(terminal: BorrowedFd<'_>, size: PtySize) -> io::Result<()> {
    let PtySize { rows, columns } = size;
    Ok(tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// What the child becomes, in the form that the kernel takes.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) argv: CStrings,
    pub(super) envp: CStrings,
    /// Never empty.
    pub(super) candidates: Vec<(CString, PathBuf)>,
    pub(super) cwd: Option<(CString, PathBuf)>,
}

impl Image {
    fn new(launch: &Launch<'_>) -> Result<Self, Refusal> {
        if launch.program.as_bytes().contains(&0) {
            return Err(contains_nul(|| "the program's name".into()));
        }
        let mut argv = CStrings::default();
        argv.push(&[launch.arg0.unwrap_or(launch.program)], || "argument 0".into())?;
        for (place, arg) in (1..).zip(launch.args) {
            argv.push(&[arg], || format!("argument {place}"))?;
        }
        let mut envp = CStrings::default();
        for (name, value) in &launch.env {
            // The value may be a secret; the name tells enough.
            envp.push(&[name, OsStr::new("="), value], || "an environment variable".into())?;
        }
        let cwd = match launch.cwd {
            Some(cwd) => {
                Some((c_string(cwd.as_os_str(), || "the working directory".into())?, cwd.to_owned()))
            }
            None => None,
        };
        let candidates = program::candidates(launch.program, launch.path.as_deref(), launch.cwd)?
            .into_iter()
            .map(|path| Ok((c_string(path.as_os_str(), || "PATH".into())?, path)))
            .collect::<Result<_, Refusal>>()?;
        Ok(Image { argv: argv.end(), envp: envp.end(), candidates, cwd })
    }

    /// Why the candidate at `place` could not be executed.
    pub(super) fn diagnose(&self, (place, errno): (usize, i32)) -> Refusal {
        let cwd = self.cwd.as_ref().map(|(_, path)| &**path);
        let place = place.min(self.candidates.len() - 1);
        diagnosis::diagnose(io::Error::from_raw_os_error(errno), &self.candidates[place].1, cwd)
    }
}

fn c_string(text: &OsStr, what: impl FnOnce() -> String) -> Result<CString, Refusal> {
    CString::new(text.as_bytes()).map_err(|_| contains_nul(what))
}

fn contains_nul(what: impl FnOnce() -> String) -> Refusal {
    Refusal::invalid(InvalidReason::Nul, format!("{} contains a NUL byte", what()))
}

/// Strings for `argv` or `envp`, with the array of pointers that execve(2) takes. All strings are in one
/// piece of memory, since an environment has many.
#[derive(Debug, Default)]
pub(super) struct CStrings {
    text: Vec<u8>,
    starts: Vec<usize>,
    /// Into the text, which is not changed any more; ends with a null pointer.
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// One string, of parts.
    fn push(&mut self, parts: &[&OsStr], what: impl FnOnce() -> String) -> Result<(), Refusal> {
        self.starts.push(self.text.len());
        for part in parts {
            if part.as_bytes().contains(&0) {
                return Err(contains_nul(what));
            }
            self.text.extend_from_slice(part.as_bytes());
        }
        self.text.push(0);
        Ok(())
    }

    fn end(mut self) -> Self {
        let pointers = self.starts.iter().map(|start| self.text[*start..].as_ptr().cast());
        self.pointers = pointers.chain([std::ptr::null()]).collect();
        self
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// The descriptors of one start: what the child gets, and the parent's ends.
#[derive(Debug)]
pub(super) struct Wiring {
    /// Target and source, sorted by target. The sources are not to be overwritten by the plan.
    pub(super) wanted: Vec<(RawFd, RawFd)>,
    /// To be closed in the child though others are inherited.
    pub(super) closed: Vec<RawFd>,
    pub(super) others: Others,
    /// The terminal that is to be the child's controlling one.
    pub(super) terminal: Option<CString>,
    pub(super) new_group: bool,
    ours: Ours,
    /// Keeps sources open until the child has them: the child's ends of pipes, the null device,
    /// moved copies.
    keep: Vec<OwnedFd>,
}

impl Wiring {
    fn new(launch: &Launch<'_>) -> Result<Self, Refusal> {
        let others = if launch.inherit_fds { Others::Inherit } else { Others::Close };
        let mut wiring = Wiring {
            wanted: Vec::new(),
            closed: Vec::new(),
            others,
            terminal: None,
            new_group: launch.new_group,
            ours: Ours::default(),
            keep: Vec::new(),
        };
        if let Some((highest, _)) = launch.ends.last() {
            check_limit(*highest)?;
        }
        // Before anything of ours is opened, as `check_inherited` says.
        for (target, end) in &launch.ends {
            if let End::Inherit = end {
                match inherited(*target)? {
                    Some(source) => wiring.wanted.push((*target, source)),
                    None => wiring.closed.push(*target),
                }
            }
        }
        if let Some(size) = launch.terminal {
            wiring.open_terminal(size, launch.identity.uid)?;
        }
        let mut shared = Vec::new();
        for (target, end) in &launch.ends {
            let source = match end {
                End::Closed => None,
                End::Inherit => continue,
                End::Null => {
                    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
                    Some(wiring.keep(null.map_err(|errno| Refusal::of_file("/dev/null", errno.into()))?))
                }
                End::Open(fd) => Some(fd.as_raw_fd()),
                End::Output => {
                    let (ours, childs) = pipe()?;
                    Some(wiring.pipe(*target, ours, childs)?)
                }
                End::Input => {
                    let (childs, ours) = pipe()?;
                    Some(wiring.pipe(*target, ours, childs)?)
                }
                End::SameAs(n) => {
                    shared.push((*target, *n));
                    continue;
                }
            };
            match source {
                Some(source) => wiring.wanted.push((*target, source)),
                None => wiring.closed.push(*target),
            }
        }
        wiring.share(shared)?;
        wiring.wanted.sort_unstable();
        wiring.move_sources()?;
        Ok(wiring)
    }

    /// A new terminal as the child's 0, 1 and 2.
    fn open_terminal(&mut self, size: PtySize, owner: Option<u32>) -> Result<(), Refusal> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
        let flags = flags | OpenptFlags::CLOEXEC;
        // What pty(7) has behind it where there is one file for all.
        let failed = |errno: Errno| Refusal::of_file("/dev/ptmx", errno.into());
        let ours = openpt(flags).map_err(failed)?;
        rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC).map_err(os)?;
        grantpt(&ours).map_err(failed)?;
        unlockpt(&ours).map_err(failed)?;
        let path = ptsname(&ours, Vec::new()).map_err(failed)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let childs = open(&*path, flags, Mode::empty());
        let childs = childs.map_err(|errno| Refusal::of_file(&path.to_string_lossy(), errno.into()))?;
        // -1 changes nothing, chown(2), and is nobody, setuid(2).
        if let Some(uid) = owner.filter(|uid| *uid != u32::MAX) {
            // grantpt(3) gave it to the parent's user, and the child's could not open it by its name. The group, and
            // what it may do, stay as the system has them.
            fchown(&childs, Some(Uid::from_raw(uid)), None).map_err(|errno| {
                let text = format!("cannot give its terminal to the user: {errno}");
                Refusal::spawn(SpawnReason::Other, text, errno.into())
            })?;
        }
        let childs = self.keep(childs);
        resize(ours.as_fd(), size).map_err(Refusal::os)?;
        set_nonblocking(&ours)?;
        for end in [0, 1] {
            self.ours.pipes.push((end, fcntl_dupfd_cloexec(&ours, 0).map_err(os)?));
        }
        self.ours.terminal = Some(ours);
        // macOS and the BSDs revoke a terminal when its session's leader exits, and nobody has tried there what holding
        // it open does then.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            self.ours.child_end = Some(fcntl_dupfd_cloexec(borrow(childs), 0).map_err(os)?);
        }
        self.wanted.extend([0, 1, 2].map(|target| (target, childs)));
        self.terminal = Some(path);
        Ok(())
    }

    /// Gives each `same_as` the source of what it names, through any chain.
    fn share(&mut self, mut shared: Vec<(i32, i32)>) -> Result<(), Refusal> {
        while !shared.is_empty() {
            let before = shared.len();
            shared.retain(|(target, n)| match self.wanted.iter().find(|(fd, _)| fd == n) {
                Some(&(_, source)) => {
                    self.wanted.push((*target, source));
                    false
                }
                None => true,
            });
            if shared.len() == before {
                let (target, n) = shared[0];
                let text = format!(
                    "descriptor {target} is to be the same as {n}, which leads to nothing that is open in the child"
                );
                return Err(Refusal::invalid(InvalidReason::Conflict, text));
            }
        }
        Ok(())
    }

    /// Moves every source that sits where the plan would overwrite it.
    fn move_sources(&mut self) -> Result<(), Refusal> {
        let targets = self.targets();
        let count = self.wanted.len();
        for place in 0..self.wanted.len() {
            let (target, source) = self.wanted[place];
            if fds::must_move(self.others, &targets, count, place, target, source) {
                self.wanted[place].1 = self.move_away(&targets, count, source)?;
            }
        }
        Ok(())
    }

    fn targets(&self) -> Vec<RawFd> {
        self.wanted.iter().map(|w| w.0).chain(self.closed.iter().copied()).collect()
    }

    fn move_away(&mut self, targets: &[RawFd], count: usize, source: RawFd) -> Result<RawFd, Refusal> {
        let mut least = if self.others == Others::Close { count as RawFd } else { 0 };
        // Copies that landed on a forbidden number are closed only when a good one is found.
        let mut misses = Vec::new();
        loop {
            let copy = fcntl_dupfd_cloexec(borrow(source), least).map_err(|errno| match errno {
                // What fcntl(2) says of a least number at the limit. All below it were tried, or are not to be had.
                Errno::INVAL => os(Errno::MFILE),
                errno => os(errno),
            })?;
            if fds::may_live_at(self.others, targets, count, copy.as_raw_fd()) {
                let number = copy.as_raw_fd();
                self.keep.push(copy);
                return Ok(number);
            }
            least = copy.as_raw_fd() + 1;
            misses.push(copy);
        }
    }

    /// Adds one more descriptor for the child, on a number that nothing else has.
    pub(super) fn add(&mut self, fd: OwnedFd) -> Result<RawFd, Refusal> {
        if self.others == Others::Inherit {
            // Any number may be somebody's whom the child inherits; that of a new copy is nobody's.
            let number = self.move_away(&self.targets(), self.wanted.len(), fd.as_raw_fd())?;
            let place = self.wanted.partition_point(|w| w.0 < number);
            self.wanted.insert(place, (number, number));
            return Ok(number);
        }
        let taken = |n: &RawFd| self.wanted.iter().any(|w| w.0 == *n) || self.closed.contains(n);
        let target = (3..).find(|n| !taken(n)).unwrap_or(RawFd::MAX);
        if limit().is_some_and(|limit| target as u64 >= limit) {
            return Err(os(Errno::MFILE));
        }
        let place = self.wanted.partition_point(|w| w.0 < target);
        self.wanted.insert(place, (target, fd.as_raw_fd()));
        self.keep.push(fd);
        // What stood in its own place may have been pushed out of it.
        self.move_sources()?;
        Ok(target)
    }

    /// Whether closing this frees a descriptor number in the parent.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pub(super) fn frees_numbers(&self) -> bool {
        !self.keep.is_empty()
    }

    pub(super) fn actions(&self) -> Vec<fds::Action> {
        fds::actions(self.others, &self.wanted, &self.closed)
    }

    fn keep(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.keep.push(fd);
        number
    }

    fn pipe(&mut self, target: i32, ours: OwnedFd, childs: OwnedFd) -> Result<RawFd, Refusal> {
        set_nonblocking(&ours)?;
        self.ours.pipes.push((target, ours));
        Ok(self.keep(childs))
    }
}

/// Of a descriptor that was just made, and so has no other flag that F_SETFL sets; the way it leads is not changed,
/// fcntl(2).
fn set_nonblocking(fd: &OwnedFd) -> Result<(), Refusal> {
    fcntl_setfl(fd, OFlags::NONBLOCK).map_err(os)
}

/// Whether a child can inherit that number. To be asked before anything of ours is opened, which may get the very
/// number that is not open in the parent.
pub(crate) fn check_inherited(target: RawFd) -> Result<(), Refusal> {
    if target < 0 { Ok(()) } else { inherited(target).map(drop) }
}

/// The parent's own descriptor of that number, where it is open.
fn inherited(target: RawFd) -> Result<Option<RawFd>, Refusal> {
    match rustix::io::fcntl_getfd(borrow(target)) {
        // A parent without a stdin may have anything else there, of its own.
        Ok(flags) if target <= 2 && flags.contains(rustix::io::FdFlags::CLOEXEC) => Ok(None),
        Ok(_) => Ok(Some(target)),
        // As std: a parent without a stdin has children without one.
        Err(_) if target <= 2 => Ok(None),
        Err(_) => {
            let text = format!("descriptor {target} is to be inherited, but is not open");
            Err(Refusal::invalid(InvalidReason::Descriptor, text))
        }
    }
}

/// The limit of open files; `None` where there is none.
fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

fn check_limit(highest: RawFd) -> Result<(), Refusal> {
    if highest <= 2 {
        return Ok(());
    }
    match limit() {
        Some(limit) if highest as u64 >= limit => {
            let text = format!("descriptor {highest} is above the limit of open files ({limit})");
            Err(Refusal::invalid(InvalidReason::Descriptor, text))
        }
        _ => Ok(()),
    }
}

/// A pipe, reading end first, close-on-exec from birth.
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), Refusal> {
    #[cfg(not(target_vendor = "apple"))]
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    // No pipe2(2) there: a fork in another thread at this very moment inherits the ends.
    #[cfg(target_vendor = "apple")]
    let ends = rustix::pipe::pipe().and_then(|(reader, writer)| {
        rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::CLOEXEC)?;
        Ok((reader, writer))
    });
    ends.map_err(os)
}

fn os(errno: Errno) -> Refusal {
    Refusal::os(errno.into())
}

/// A program that was just written is "busy" (ETXTBSY) while a fork in another thread still holds the
/// descriptor that it was written through. That lasts until that fork's exec, much less than a millisecond, so it is
/// tried again for a while.
///
/// Nobody sleeps: this is an executor's thread, and what it may be held for is some starts' time. Measured on two
/// cores under a load of 27, with four threads that each write a program and run it, 1200 in all: without another try
/// 5 were busy, with tries for a millisecond or more none on the native engine, and up to 6 on the portable one. Such
/// a one, as a file that is being written for longer, is told with a reason of its own.
pub(super) fn retry_busy<T>(mut attempt: impl FnMut() -> Result<T, c_int>) -> Result<T, c_int> {
    let mut first = None;
    loop {
        match attempt() {
            Err(libc::ETXTBSY) if first.get_or_insert_with(Instant::now).elapsed() < BUSY => {}
            result => return result,
        }
    }
}

/// How long a busy program is tried.
const BUSY: Duration = Duration::from_millis(2);

/// Kills and reaps a child that cannot be watched; whether somebody else had reaped it before.
pub(super) fn abandon(pid: Pid) -> bool {
    // The number is the child's own still: nobody but us reaps it (or else it is gone, and killing a
    // number that was given away within these microseconds is what every pid-based library risks).
    if kill_process(pid, Signal::KILL) == Err(Errno::PERM) {
        // It has become another user, and may live for a year: nobody is to wait here for that.
        return false;
    }
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            reaped => return reaped.err() == Some(Errno::CHILD),
        }
    }
}

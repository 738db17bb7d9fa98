//! The descriptors of one start: what the child gets, and the parent's ends.
//!
//! Refuses to know how they get into the child: [`fds`] has the plan.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, Uid, fchown, fcntl_setfl, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::super::launch::{End, Launch, ParentEnds};
use super::fds::{self, Others};
use super::raw::{borrow, most_open_files};
use crate::error::{InvalidReason, Reason, Refusal, SpawnReason};
use crate::stdio::PtySize;

/// See the module.
#[derive(Debug)]
pub(in crate::spawn) struct Descriptors {
    /// Target and source, sorted by target. The plan does not overwrite a source.
    pub(super) wanted: Vec<(RawFd, RawFd)>,
    /// Closed in the child, although others are inherited.
    pub(super) closed: Vec<RawFd>,
    pub(super) others: Others,
    /// Descriptor 0 is a terminal, and becomes the child's controlling one.
    pub(in crate::spawn) terminal: bool,
    pub(in crate::spawn) ours: ParentEnds,
    /// Keeps sources open until the child has them: its ends of pipes, the null device, moved copies.
    keep: Vec<OwnedFd>,
}

impl Descriptors {
    pub(super) fn new(launch: &Launch<'_>) -> Result<Self, Refusal> {
        let others = if launch.inherit_fds { Others::Inherit } else { Others::Close };
        let mut descriptors = Descriptors {
            wanted: Vec::new(),
            closed: Vec::new(),
            others,
            terminal: false,
            ours: ParentEnds::default(),
            keep: Vec::new(),
        };
        if let Some((highest, _)) = launch.ends.last() {
            check_limit(*highest)?;
        }
        // Before this crate opens any descriptor, as `check_inherited` says.
        for (target, end) in &launch.ends {
            if let End::Inherit = end {
                match inherited(*target)? {
                    Some(source) => descriptors.wanted.push((*target, source)),
                    None => descriptors.closed.push(*target),
                }
            }
        }
        if let Some(size) = launch.terminal {
            descriptors.open_terminal(size, launch.attributes.uid)?;
        }
        let (mut shared, mut null) = (Vec::new(), None);
        for (target, end) in &launch.ends {
            let source = match end {
                End::Closed => None,
                End::Inherit => continue,
                // One for all, because it has no position.
                End::Null if null.is_some() => null,
                End::Null => {
                    let opened = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
                    let opened = opened.map_err(|errno| Refusal::of_file("/dev/null", errno.into()))?;
                    null = Some(descriptors.keep(opened));
                    null
                }
                End::Open(fd) => Some(fd.as_raw_fd()),
                End::Output => {
                    let (ours, child_end) = pipe()?;
                    Some(descriptors.pipe(*target, ours, child_end)?)
                }
                End::Input => {
                    let (child_end, ours) = pipe()?;
                    Some(descriptors.pipe(*target, ours, child_end)?)
                }
                End::SameAs(n) => {
                    shared.push((*target, *n));
                    continue;
                }
            };
            match source {
                Some(source) => descriptors.wanted.push((*target, source)),
                None => descriptors.closed.push(*target),
            }
        }
        descriptors.share(shared)?;
        descriptors.wanted.sort_unstable();
        descriptors.move_sources()?;
        Ok(descriptors)
    }

    /// A new terminal as the child's 0, 1 and 2.
    fn open_terminal(&mut self, size: PtySize, owner: Option<u32>) -> Result<(), Refusal> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
        let flags = flags | OpenptFlags::CLOEXEC;
        // pty(7) uses this on a system with one file for all terminals.
        let failed = |errno: Errno| no_terminal("/dev/ptmx", errno);
        let ours = openpt(flags).map_err(failed)?;
        rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC).map_err(os)?;
        grantpt(&ours).map_err(failed)?;
        unlockpt(&ours).map_err(failed)?;
        let path = ptsname(&ours, Vec::new()).map_err(failed)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let child_end = open(&*path, flags, Mode::empty());
        let child_end = child_end.map_err(|errno| no_terminal(&path.to_string_lossy(), errno))?;
        // -1 changes nothing (chown(2)), and is no user (setuid(2)).
        if let Some(uid) = owner.filter(|uid| *uid != u32::MAX) {
            // grantpt(3) gave it to the parent's user, so the child's user could not open it by name. The group and
            // its rights stay as the system sets them.
            fchown(&child_end, Some(Uid::from_raw(uid)), None).map_err(|errno| {
                let text = format!("cannot give its terminal to the user: {errno}");
                Refusal::spawn(SpawnReason::Terminal, text, errno.into())
            })?;
        }
        let child_end = self.keep(child_end);
        resize(ours.as_fd(), size).map_err(Refusal::os)?;
        set_nonblocking(&ours)?;
        for end in [0, 1] {
            self.ours.pipes.push((end, fcntl_dupfd_cloexec(&ours, 0).map_err(os)?));
        }
        self.ours.terminal = Some(ours);
        // macOS and the BSDs revoke a terminal when the leader of its session exits. Nobody has tested there what an
        // open descriptor of it does then.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            self.ours.child_end = Some(fcntl_dupfd_cloexec(borrow(child_end), 0).map_err(os)?);
        }
        self.wanted.extend([0, 1, 2].map(|target| (target, child_end)));
        self.terminal = true;
        Ok(())
    }

    /// Gives each `same_as` the source that it names, through any chain.
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
        // A copy on a forbidden number stays open until a good number is found.
        let mut misses = Vec::new();
        loop {
            let copy = fcntl_dupfd_cloexec(borrow(source), least).map_err(|errno| match errno {
                // fcntl(2) returns this if the least number is at the limit. All numbers below it were tried or are
                // taken.
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
            // Any number may be one that the child inherits, but the number of a new copy is free.
            let number = self.move_away(&self.targets(), self.wanted.len(), fd.as_raw_fd())?;
            let place = self.wanted.partition_point(|w| w.0 < number);
            self.wanted.insert(place, (number, number));
            return Ok(number);
        }
        let taken = |n: &RawFd| self.wanted.iter().any(|w| w.0 == *n) || self.closed.contains(n);
        let target = (3..).find(|n| !taken(n)).unwrap_or(RawFd::MAX);
        if most_open_files().is_some_and(|limit| target as u64 >= limit) {
            return Err(os(Errno::MFILE));
        }
        let place = self.wanted.partition_point(|w| w.0 < target);
        self.wanted.insert(place, (target, fd.as_raw_fd()));
        self.keep.push(fd);
        // Another descriptor may have pushed it from its own place.
        self.move_sources()?;
        Ok(target)
    }

    pub(in crate::spawn) fn actions(&self) -> Vec<fds::Action> {
        fds::actions(self.others, &self.wanted, &self.closed)
    }

    fn keep(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.keep.push(fd);
        number
    }

    fn pipe(&mut self, target: i32, ours: OwnedFd, child_end: OwnedFd) -> Result<RawFd, Refusal> {
        set_nonblocking(&ours)?;
        self.ours.pipes.push((target, ours));
        Ok(self.keep(child_end))
    }
}

/// A terminal's file could not be opened.
fn no_terminal(file: &str, errno: Errno) -> Refusal {
    match Refusal::of_file(file, errno.into()) {
        Refusal { reason: Reason::Spawn(SpawnReason::Other, source), text } => {
            Refusal::spawn(SpawnReason::Terminal, text, source)
        }
        refusal => refusal,
    }
}

/// For a descriptor that was just made, so no other flag that F_SETFL sets is on it. The direction does not change,
/// fcntl(2).
fn set_nonblocking(fd: &OwnedFd) -> Result<(), Refusal> {
    fcntl_setfl(fd, OFlags::NONBLOCK).map_err(os)
}

/// Whether a child can inherit that number. Ask before this crate opens any descriptor: that could get the very
/// number that is not open in the parent.
pub(crate) fn check_inherited(target: RawFd) -> Result<(), Refusal> {
    if target < 0 { Ok(()) } else { inherited(target).map(drop) }
}

/// The parent's own descriptor of that number, if it is open.
fn inherited(target: RawFd) -> Result<Option<RawFd>, Refusal> {
    match rustix::io::fcntl_getfd(borrow(target)) {
        // A parent without a stdin may have any file of its own at that number.
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

fn check_limit(highest: RawFd) -> Result<(), Refusal> {
    if highest <= 2 {
        return Ok(());
    }
    match most_open_files() {
        Some(limit) if highest as u64 >= limit => {
            let text = format!("descriptor {highest} is above the limit of open files ({limit})");
            Err(Refusal::invalid(InvalidReason::Descriptor, text))
        }
        _ => Ok(()),
    }
}

/// A pipe, reading end first, close-on-exec from birth.
pub(in crate::spawn) fn pipe() -> Result<(OwnedFd, OwnedFd), Refusal> {
    #[cfg(not(target_vendor = "apple"))]
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    // There is no pipe2(2) here, so a fork in another thread at this moment inherits the ends.
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

/// Sets the size of a terminal.
pub(crate) fn resize(terminal: BorrowedFd<'_>, size: PtySize) -> io::Result<()> {
    let PtySize { rows, columns } = size;
    Ok(tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

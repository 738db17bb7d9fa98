//! The code of a forked process before it becomes the program: the closure of the portable engine.
//!
//! Refuses to know how the fork happens, and what becomes of the report.
//!
//! Rule: only calls that signal-safety(7) lists, on memory that was prepared before the fork. Nothing allocates,
//! locks or drops, because another thread of the parent may have held any lock during the fork.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::RawFd;
use std::ptr;

use super::super::launch::Attributes;
use super::diagnosis::Tries;
use super::exec_arguments::ExecArguments;
use super::fds::Action;
use super::prepare::retry_busy;
use super::raw::most_open_files;
use super::setup::{Failure, Setup};

/// Everything that the forked process needs to become the program. Made before the fork; only read after it.
pub(super) struct NewProcess {
    pub(super) exec: ExecArguments,
    pub(super) attributes: Attributes,
    /// What setgroups(2) gets, if it is called.
    pub(super) groups: Option<Vec<u32>>,
    pub(super) actions: Vec<Action>,
    /// The report's descriptor before the actions.
    pub(super) report: RawFd,
    /// Descriptor 0 becomes the controlling terminal of a new session.
    pub(super) terminal: bool,
    /// It leads a process group.
    pub(super) new_group: bool,
    /// No descriptor above this one is open; for a system without a call that closes all.
    pub(super) highest_open: RawFd,
    /// The guardian's pipe, and the line for it without the number.
    pub(super) guardian: Option<(RawFd, Vec<u8>)>,
    pub(super) nice: Option<c_int>,
    pub(super) keeps_its_groups: bool,
}

// SAFETY: the pointers in `exec` point into heap memory that it owns and never changes.
unsafe impl Send for NewProcess {}
// SAFETY: as above.
unsafe impl Sync for NewProcess {}

/// By their numbers, as the report carries them.
pub(super) const STEPS: [Setup; 15] = [
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

// Each is at the index of its number, and none is missing.
const _: () = {
    assert!(Setup::Execute as usize + 1 == STEPS.len());
    let mut place = 0;
    while place < STEPS.len() {
        assert!(STEPS[place] as usize == place);
        place += 1;
    }
};

impl NewProcess {
    /// Runs in the new process instead of std's next steps, and never returns: the program runs, or the report says
    /// why it does not.
    ///
    /// It makes only calls that signal-safety(7) lists, and allocates nothing: another thread of the parent may have
    /// held any lock during the fork.
    pub(super) fn run(&self) -> io::Result<()> {
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
            // The leader of a session also leads a group, setsid(2).
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
        if let Some((cwd, _)) = &self.exec.cwd {
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

    /// Carries out the descriptor plan, and follows the report's descriptor through it.
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
        let Attributes { uid, gid, .. } = &self.attributes;
        // SAFETY: no memory is involved.
        let effective = unsafe { libc::geteuid() };
        // A capability and the user namespace decide about setgroups(2), not the user's number. So it is always
        // tried.
        let mut kept = None;
        if let Some(groups) = &self.groups {
            // SAFETY: a pointer to as many groups as the count says. The type of the count differs.
            kept = check(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) }).err();
        }
        if let (Some(errno), true) = (kept, self.attributes.groups.is_some()) {
            return Err((Setup::Groups, errno));
        }
        if let Some(gid) = *gid {
            set_gid(gid).map_err(|errno| (Setup::Gid, errno))?;
        }
        if let Some(uid) = *uid {
            set_uid(uid).map_err(|errno| (Setup::Uid, errno))?;
            #[cfg(target_os = "linux")]
            if !self.keeps_its_groups {
                // These capabilities survive a change to a user other than root.
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
            // A child that stays the same user keeps its groups.
            Some(libc::EPERM) if self.keeps_its_groups => Ok(()),
            // Any other must not get the parent's groups. This comes last: if the ids are not permitted either, that
            // is the better error.
            // SAFETY: it asks for the number only, so no memory is involved.
            Some(_) if unsafe { libc::getgroups(0, ptr::null_mut()) } == 0 => Ok(()),
            Some(errno) => Err((Setup::Groups, errno)),
        }
    }

    /// As execvp(3), but without a shell for a file of unknown format. Returns only after a failure.
    fn execute(&self) -> (usize, c_int) {
        let mut tries = Tries::default();
        for (place, (path, _)) in self.exec.candidates.iter().enumerate() {
            let tried = retry_busy::<()>(|| {
                // SAFETY: C strings, and arrays of them that end with a null pointer.
                unsafe { libc::execve(path.as_ptr(), self.exec.argv.as_ptr(), self.exec.envp.as_ptr()) };
                Err(errno())
            });
            if !tries.failed(place, tried.err().unwrap_or(libc::ENOENT)) {
                break;
            }
        }
        tries.told()
    }
}

/// All three ids: a process could return to one that is left. -1 would leave them unchanged, and setgid(2) refuses
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

/// `u64::MAX` and other values that do not fit mean no limit.
fn to_limit(limit: u64) -> libc::rlim_t {
    libc::rlim_t::try_from(limit)
        .ok()
        .filter(|limit| *limit < libc::RLIM_INFINITY)
        .unwrap_or(libc::RLIM_INFINITY)
}

/// The number of this process, as the parent sees it. It is 0 if the parent sees another number, because this process
/// is in a namespace of its own, as after unshare(2) with CLONE_NEWPID.
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
    // std has reset SIGPIPE, so it would kill this process. It is reset again later.
    // SAFETY: runs no code of this program.
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
    // The line fits, or nothing is written: a pipe takes such a short one as a whole (PIPE_BUF).
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

/// Resets every signal: none is ignored, handled or blocked. The native engine says why.
fn reset_signals() {
    // No system has numbers above these; the gaps, SIGKILL and SIGSTOP are refused, which is fine.
    for signal in 1..=128 {
        // SAFETY: the default action runs no code of this program.
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

/// The C library reserves some (32 and 33 in glibc), and refuses to touch them. An ignored one stays ignored in every
/// descendant.
#[cfg(target_os = "linux")]
fn reset_internal_signal(signal: c_int) {
    // The default action, no flags and an empty mask are all zeros, in any layout.
    let default = [0_u64; 16];
    // MIPS has twice as many signals as others.
    let size_of_set = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16_usize } else { 8 };
    let before = ptr::null_mut::<u64>();
    // SAFETY: the kernel reads no more than that, and the default action runs no code of this program.
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

/// Closes the descriptors that the kernel lists. A forked process has one thread, so its table does not change
/// meanwhile.
///
/// Without the list the program does not run: it would inherit foreign descriptors.
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

#[cfg(any(target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd"))]
fn close_from(least: RawFd, _highest: RawFd) -> Result<(), c_int> {
    // SAFETY: nothing in this process uses the numbers any more.
    match check(unsafe { libc::closefrom(least) }) {
        // Nothing is open from there on: `sys_closefrom` in OpenBSD's sys/kern/kern_descrip.c.
        Err(libc::EBADF) => Ok(()),
        done => done,
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
fn close_from(least: RawFd, highest: RawFd) -> Result<(), c_int> {
    for fd in least..=highest {
        // SAFETY: nothing in this process uses the number any more.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// The highest open descriptor, plus some for those that other threads open until the fork. It is for systems without
/// a call that closes a range. There is never a loop over all possible numbers.
///
/// `known` is open.
pub(super) fn highest_open(known: RawFd) -> RawFd {
    if cfg!(any(
        target_os = "linux",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd"
    )) {
        return 0;
    }
    let listed = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    highest_of(listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()), known)
}

/// By a list of the open descriptors. Some systems always list the same few, as FreeBSD does without its fdescfs(5).
/// Such a list lacks `known`.
fn highest_of(listed: impl Iterator<Item = RawFd>, known: RawFd) -> RawFd {
    /// As many as a program may have open on most systems, and a loop over them takes milliseconds.
    const MANY: RawFd = 65536;
    match listed.max() {
        Some(highest) if highest >= known => highest.saturating_add(64),
        _ => {
            most_open_files().and_then(|most| RawFd::try_from(most).ok()).map_or(MANY, |most| MANY.min(most))
        }
    }
}

/// What setgroups(2) gets, or `None` if it is not called. The child has the effective group until it gets its own.
pub(super) fn group_list(attributes: &Attributes, effective: u32) -> Option<Vec<u32>> {
    list_for(FIRST_IS_EFFECTIVE, attributes, effective)
}

/// The first entry becomes the effective group: `kern_setgroups` in the sys/kern/kern_prot.c of FreeBSD before 15, and
/// `setgroups1` in xnu's bsd/kern/kern_prot.c. There an empty list makes it the group 0 on xnu, and changes nothing on
/// FreeBSD. On FreeBSD 15 the entry is one more supplementary group, which the child has anyway.
const FIRST_IS_EFFECTIVE: bool =
    cfg!(any(target_vendor = "apple", target_os = "freebsd", target_os = "dragonfly"));

fn list_for(first_is_effective: bool, attributes: &Attributes, effective: u32) -> Option<Vec<u32>> {
    let Attributes { uid, gid, groups, .. } = attributes;
    if groups.is_none() && uid.is_none() && gid.is_none() {
        return None;
    }
    // If another user runs the child, it must not have the parent's groups.
    let first = first_is_effective.then(|| gid.unwrap_or(effective));
    Some(first.into_iter().chain(groups.iter().flatten().copied()).collect())
}

fn check(result: c_int) -> Result<(), c_int> {
    if result == -1 { Err(errno()) } else { Ok(()) }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_group_is_the_effective_one_where_the_system_takes_it_so() {
        let of = |first, uid, gid, groups: Option<&[u32]>| {
            let attributes =
                Attributes { uid, gid, groups: groups.map(<[u32]>::to_vec), ..Attributes::default() };
            list_for(first, &attributes, 20)
        };
        for first in [false, true] {
            assert_eq!(of(first, None, None, None), None);
        }
        let effective = |gid, groups| of(true, Some(501), gid, groups);
        assert_eq!(effective(Some(7), Some(&[8, 9])), Some(vec![7, 8, 9]));
        assert_eq!(effective(None, Some(&[8])), Some(vec![20, 8]));
        assert_eq!((effective(None, None), effective(Some(7), None)), (Some(vec![20]), Some(vec![7])));

        let plain = |gid, groups| of(false, Some(501), gid, groups);
        assert_eq!((plain(Some(7), Some(&[8, 9])), plain(None, None)), (Some(vec![8, 9]), Some(vec![])));
    }

    #[test]
    fn a_list_that_never_changes_is_not_believed() {
        assert_eq!(highest_of([0, 1, 2, 17].into_iter(), 9), 17 + 64);
        // As OpenBSD's: 0 to 63, and a descriptor above them is open.
        assert!(highest_of(0..64, 200) > 200);
        assert!(highest_of(std::iter::empty(), 9) > 64);
    }
}

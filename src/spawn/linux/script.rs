//! The steps of a new process before it becomes the program: plain data, made in the parent by safe code.
//!
//! Refuses to know how a process is made, and who runs the steps: see [`start`](super::start) and
//! [`child`](super::child).
//!
//! Nearly every step is one system call with numbers and pointers. So the child has no code of its own for a setting,
//! and a new setting is one line in [`Script::new`].

use std::ffi::{CStr, c_char, c_int, c_long};
use std::marker::PhantomData;

use super::super::launch::Attributes;
use super::super::unix::{Action, Failure, Prepared, Setup, keeps_its_groups, nice_value};

/// The size of the kernel's signal set in bytes. MIPS has twice as many signals as others.
pub(super) const SIGSET_SIZE: usize = if cfg!(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "mips32r6",
    target_arch = "mips64r6"
)) {
    16
} else {
    8
};

/// The expected result of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    Success,
    /// Nothing, or this error.
    SuccessOr(c_int),
    Whatever,
    /// This value. Any other is reported as "not permitted".
    Exactly(c_long),
    /// A failure. Success is reported as "not permitted".
    Failure,
    /// No return: execve(2).
    Program,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Call {
        number: c_long,
        args: [usize; 5],
        expect: Expect,
    },
    /// Writes a line to this descriptor, after the number of this process was put before the line's end.
    Register {
        pipe: c_int,
        line: *mut u8,
        length: usize,
    },
    /// close_range(2), or one by one if there is none.
    CloseFrom(c_int),
    /// No signal is handled, and only those that stop a process are ignored.
    DefaultSignals,
}

/// The steps. It borrows what they point to.
#[derive(Debug)]
pub(super) struct Script<'a> {
    pub(super) steps: Vec<Step>,
    /// The purpose of each step, and its place among the steps of that purpose.
    whats: Vec<(Setup, usize)>,
    /// The child becomes another user or group, and must not share the parent's memory: see `start`.
    pub(super) changes_identity: bool,
    borrows: PhantomData<&'a CStr>,
}

/// The system calls that take ids of 32 bits.
#[cfg(any(target_arch = "x86", target_arch = "arm", target_arch = "m68k", target_arch = "sparc"))]
mod id {
    pub(super) use libc::{
        SYS_getgroups32 as GETGROUPS, SYS_setgroups32 as SETGROUPS, SYS_setresgid32 as SETRESGID,
        SYS_setresuid32 as SETRESUID, SYS_setuid32 as SETUID,
    };
}
#[cfg(not(any(target_arch = "x86", target_arch = "arm", target_arch = "m68k", target_arch = "sparc")))]
mod id {
    pub(super) use libc::{
        SYS_getgroups as GETGROUPS, SYS_setgroups as SETGROUPS, SYS_setresgid as SETRESGID,
        SYS_setresuid as SETRESUID, SYS_setuid as SETUID,
    };
}

/// The form that prlimit(2) takes, on every architecture.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Limit {
    soft: u64,
    hard: u64,
}

/// The limits of a start, in the form that the kernel takes.
pub(super) fn limits(attributes: &Attributes) -> Vec<Limit> {
    attributes.limits.iter().map(|(_, soft, hard)| Limit { soft: *soft, hard: *hard }).collect()
}

/// Zeros: the kernel's `struct sigaction` for the default action, in any layout.
pub(super) static DEFAULT: [usize; 16] = [0; 16];

/// The same to ignore a signal: the handler comes first, except on MIPS.
pub(super) static IGNORE: [usize; 16] = {
    let mut action = [0; 16];
    action[if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 1 } else { 0 }] = libc::SIG_IGN;
    action
};

/// No signal is blocked. As wide as the widest of the kernel's sets.
static NO_SIGNALS: [u64; 2] = [0; 2];

impl<'a> Script<'a> {
    /// All steps, in the order of [`Setup`]. The line is for the guardian, and gets the child's number.
    pub(super) fn new(prepared: &'a Prepared<'_>, limits: &'a [Limit], line: &'a mut [u8]) -> Self {
        let Prepared { exec, descriptors, attributes, new_group, registration } = prepared;
        let mut script = Script::empty();
        if descriptors.terminal || attributes.new_session {
            // The leader of a session also leads a group, setsid(2).
            script.must(Setup::Session, libc::SYS_setsid, []);
        } else if *new_group {
            script.must(Setup::Group, libc::SYS_setpgid, [0, 0]);
        }
        if let Some(registration) = registration {
            let step =
                Step::Register { pipe: registration.pipe(), length: line.len(), line: line.as_mut_ptr() };
            script.push(Setup::Guardian, 0, step);
        }
        for action in descriptors.actions() {
            script.descriptor(action);
        }
        if descriptors.terminal {
            // tty_ioctl(4).
            script.must(Setup::Terminal, libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0]);
        }
        if let Some((cwd, _)) = &exec.cwd {
            script.must(Setup::WorkingDirectory, libc::SYS_chdir, [address(cwd.as_ptr())]);
        }
        if let Some(umask) = attributes.umask {
            script.call(Setup::Umask, 0, libc::SYS_umask, [umask as usize], Expect::Whatever);
        }
        if let Some(more) = attributes.nice {
            let nice = nice_value(more) as usize;
            script.must(Setup::Nice, libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, nice]);
        }
        for (place, limit) in limits.iter().enumerate() {
            let Some((resource, ..)) = attributes.limits.get(place) else { break };
            let args = [0, resource.as_raw() as usize, address(limit), 0];
            script.call(Setup::Limit, place, libc::SYS_prlimit64, args, Expect::Success);
        }
        script.identity(attributes);
        if attributes.no_new_privileges {
            let args = [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0];
            script.must(Setup::NoNewPrivileges, libc::SYS_prctl, args);
        }
        script.push(Setup::Signals, 0, Step::DefaultSignals);
        // From here on signals arrive.
        let args = [libc::SIG_SETMASK as usize, address(&NO_SIGNALS), 0, SIGSET_SIZE];
        script.must(Setup::Signals, libc::SYS_rt_sigprocmask, args);
        for stop in [libc::SIGTTIN, libc::SIGTTOU, libc::SIGTSTP] {
            let args = [stop as usize, address(&DEFAULT), 0, SIGSET_SIZE];
            script.must(Setup::Signals, libc::SYS_rt_sigaction, args);
        }
        for (place, (path, _)) in exec.candidates.iter().enumerate() {
            let args = [address(path.as_ptr()), address(exec.argv.as_ptr()), address(exec.envp.as_ptr())];
            script.call(Setup::Execute, place, libc::SYS_execve, args, Expect::Program);
        }
        script
    }

    /// One step, which must fail: no process has the number -1.
    pub(super) fn probe() -> Self {
        let mut script = Script::empty();
        script.call(Setup::Group, 0, libc::SYS_getpid, [], Expect::Exactly(-1));
        script
    }

    fn empty() -> Self {
        Script {
            steps: Vec::with_capacity(16),
            whats: Vec::with_capacity(16),
            changes_identity: false,
            borrows: PhantomData,
        }
    }

    /// The step at `place` has failed.
    pub(super) fn failure(&self, place: usize, errno: c_int) -> Failure {
        // After the last step: no program could run.
        let (step, place) = self.whats.get(place).copied().unwrap_or((Setup::Execute, 0));
        Failure { step, place, errno }
    }

    fn push(&mut self, what: Setup, place: usize, step: Step) {
        self.whats.push((what, place));
        self.steps.push(step);
    }

    fn call<const N: usize>(
        &mut self,
        what: Setup,
        place: usize,
        number: c_long,
        given: [usize; N],
        expect: Expect,
    ) {
        let mut args = [0; 5];
        for (arg, given) in args.iter_mut().zip(given) {
            *arg = given;
        }
        self.push(what, place, Step::Call { number, args, expect });
    }

    fn must<const N: usize>(&mut self, what: Setup, number: c_long, args: [usize; N]) {
        self.call(what, 0, number, args, Expect::Success);
    }

    /// -1 would leave an id unchanged, so it is refused, as in setuid(2).
    fn identify(&mut self, what: Setup, number: c_long, id: u32) {
        match id {
            u32::MAX => self.must(what, id::SETUID, [id as usize]),
            id => self.must(what, number, [id as usize; 3]),
        }
    }

    fn descriptor(&mut self, action: Action) {
        match action {
            // dup3(2) refuses two equal numbers; the descriptor must be inherited then.
            Action::Dup2 { from, to } if from == to => {
                self.must(Setup::Descriptors, libc::SYS_fcntl, [to as usize, libc::F_SETFD as usize, 0]);
            }
            Action::Dup2 { from, to } => {
                self.must(Setup::Descriptors, libc::SYS_dup3, [from as usize, to as usize, 0]);
            }
            Action::Close(fd) => {
                self.call(Setup::Descriptors, 0, libc::SYS_close, [fd as usize], Expect::Whatever);
            }
            Action::CloseFrom(fd) => self.push(Setup::Descriptors, 0, Step::CloseFrom(fd)),
        }
    }

    /// The groups are dropped while the right to do so is still there; the user comes last.
    fn identity(&mut self, attributes: &'a Attributes) {
        let Attributes { uid, gid, groups, .. } = attributes;
        self.changes_identity = uid.is_some() || gid.is_some() || groups.is_some();
        // A capability and the user namespace decide about setgroups(2), not the user's number. So it is always
        // tried.
        let drops = groups.is_none() && (uid.is_some() || gid.is_some());
        let keeps_its_groups = self.changes_identity && keeps_its_groups(attributes);
        if let Some(groups) = groups {
            self.must(Setup::Groups, id::SETGROUPS, [groups.len(), address(groups.as_ptr())]);
        } else if drops {
            let expect = if keeps_its_groups { Expect::SuccessOr(libc::EPERM) } else { Expect::Whatever };
            self.call(Setup::Groups, 0, id::SETGROUPS, [0, 0], expect);
        }
        // All three ids: a process could return to one that is left.
        if let Some(gid) = *gid {
            self.identify(Setup::Gid, id::SETRESGID, gid);
        }
        if let Some(uid) = *uid {
            self.identify(Setup::Uid, id::SETRESUID, uid);
            if !keeps_its_groups {
                // These capabilities survive a change to a user other than root. Linux before 4.3 does not have them.
                let args = [libc::PR_CAP_AMBIENT as usize, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0, 0, 0];
                self.call(Setup::Uid, 0, libc::SYS_prctl, args, Expect::Whatever);
            }
            if uid != 0 && rustix::process::geteuid().is_root() {
                // A process that can become root again has given up nothing.
                self.call(Setup::Uid, 0, id::SETUID, [0], Expect::Failure);
            }
        }
        if drops && !keeps_its_groups {
            // The parent's groups are gone, or it had none. This comes last: if the ids are not permitted either,
            // that is the better error.
            self.call(Setup::Groups, 0, id::GETGROUPS, [0, 0], Expect::Exactly(0));
        }
    }
}

fn address<T: ?Sized>(place: *const T) -> usize {
    place.cast::<c_char>().expose_provenance()
}

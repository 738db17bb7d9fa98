//! The steps of a new process before it becomes the program, and the meaning of a failed one.
//!
//! Refuses to know who takes the steps: a script, or a closure after a fork. Both take them in the order of
//! [`Setup`]:
//! - The guardian gets its line while its pipe is still open, and after the group exists.
//! - The limits come after the descriptors, which they could forbid.
//! - Everything that needs the parent's rights comes before they are dropped.
//! - Of the identity, the user comes last.

use std::ffi::c_int;
use std::io;

use rustix::process::{getegid, geteuid, getgid, getpriority_process, getuid};

use super::super::launch::Attributes;
use super::diagnosis;
use super::exec_arguments::ExecArguments;
use crate::error::{Refusal, SpawnReason};
use crate::limit::Resource;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spawn) enum Setup {
    Session,
    Group,
    /// The guardian gets the child's number.
    Guardian,
    Descriptors,
    Terminal,
    WorkingDirectory,
    Umask,
    Nice,
    /// With the limit's place.
    Limit,
    Groups,
    Gid,
    Uid,
    NoNewPrivileges,
    Signals,
    /// With the candidate's place.
    Execute,
}

/// The step that failed, the place within it, and the error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spawn) struct Failure {
    pub(in crate::spawn) step: Setup,
    pub(in crate::spawn) place: usize,
    pub(in crate::spawn) errno: c_int,
}

impl Failure {
    /// The error that it means.
    pub(in crate::spawn) fn explain(self, exec: &ExecArguments, attributes: &Attributes) -> Refusal {
        let Failure { step, place, errno } = self;
        let error = io::Error::from_raw_os_error(errno);
        let (reason, what) = match step {
            // execve(2) checks how many processes the new user has.
            Setup::Execute if errno == libc::EAGAIN => {
                let what = "its user has more processes than the limit allows (RLIMIT_NPROC)";
                return Refusal::spawn(SpawnReason::OutOfProcesses, what, error);
            }
            Setup::Execute => return exec.diagnose((place, errno)),
            Setup::WorkingDirectory => {
                let cwd = exec.cwd.as_ref().map(|(_, path)| path.clone()).unwrap_or_default();
                return diagnosis::working_directory(error, &cwd);
            }
            Setup::Descriptors if matches!(errno, libc::EMFILE | libc::ENFILE) => return Refusal::os(error),
            // setgroups(2) has one number for both.
            Setup::Groups if errno == libc::EINVAL => {
                (SpawnReason::User, "cannot set the supplementary groups, too many or not all valid")
            }
            Setup::Groups => (SpawnReason::User, "cannot set the supplementary groups"),
            Setup::Gid => (SpawnReason::User, "cannot become the group"),
            Setup::Uid => (SpawnReason::User, "cannot become the user"),
            Setup::Terminal => (SpawnReason::Terminal, "cannot take the terminal"),
            Setup::Nice => (SpawnReason::Limits, "cannot set the nice value"),
            Setup::Limit => {
                let resource = attributes.limits.get(place).map_or(Resource::CORE, |limit| limit.0);
                let text = format!("cannot set {resource}: {error}");
                return Refusal::spawn(SpawnReason::Limits, text, error);
            }
            Setup::Descriptors => (SpawnReason::Other, "cannot set up its descriptors"),
            Setup::Guardian => (SpawnReason::Other, "cannot tell the guardian that is to kill it"),
            Setup::Session => (SpawnReason::Other, "cannot start a session"),
            Setup::Group => (SpawnReason::Other, "cannot lead a process group"),
            Setup::Umask => (SpawnReason::Other, "cannot set the umask"),
            Setup::NoNewPrivileges => (SpawnReason::Other, "cannot give up new privileges"),
            Setup::Signals => (SpawnReason::Other, "cannot reset the signals"),
        };
        Refusal::spawn(reason, format!("{what}: {error}"), error)
    }
}

/// Whether user and group are the parent's already, for good. Such a child may keep the parent's groups if the system
/// does not permit to drop them.
pub(in crate::spawn) fn keeps_its_groups(attributes: &Attributes) -> bool {
    let (real, effective) = (getuid().as_raw(), geteuid().as_raw());
    let (real_group, effective_group) = (getgid().as_raw(), getegid().as_raw());
    attributes.uid.is_none_or(|uid| (uid, uid) == (real, effective))
        && attributes.gid.is_none_or(|gid| (gid, gid) == (real_group, effective_group))
}

/// The child's nice value: as nice(2), which adds to the parent's and stays within the range.
pub(in crate::spawn) fn nice_value(more: i32) -> c_int {
    let own = getpriority_process(None).unwrap_or(0);
    own.saturating_add(more).clamp(-20, 19)
}

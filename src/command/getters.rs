//! The part of the builder that returns the settings.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::Command;

/// Getters, as std's.
impl Command {
    /// The program, as given to [`new`](Self::new).
    ///
    /// ```
    /// assert_eq!(reaped::Command::new("ls").get_program(), "ls");
    /// ```
    pub fn get_program(&self) -> &OsStr {
        &self.program
    }

    /// The arguments, without the program.
    ///
    /// ```
    /// let mut command = reaped::Command::new("ls");
    /// command.args(["-l", "/"]);
    /// assert!(command.get_args().eq(["-l", "/"]));
    /// ```
    pub fn get_args(&self) -> impl ExactSizeIterator<Item = &OsStr> {
        self.args.iter().map(OsString::as_os_str)
    }

    /// The environment variables that were set (`Some`) or removed (`None`) here.
    ///
    /// ```
    /// use std::ffi::OsStr;
    /// let mut command = reaped::Command::new("ls");
    /// command.env("TERM", "dumb").env_remove("TZ");
    /// let envs: Vec<_> = command.get_envs().collect();
    /// assert_eq!(
    ///     envs,
    ///     [(OsStr::new("TERM"), Some(OsStr::new("dumb"))), (OsStr::new("TZ"), None)]
    /// );
    /// ```
    pub fn get_envs(&self) -> impl ExactSizeIterator<Item = (&OsStr, Option<&OsStr>)> {
        self.changes().into_iter()
    }

    /// The working directory that was set here.
    ///
    /// ```
    /// assert_eq!(reaped::Command::new("ls").get_current_dir(), None);
    /// ```
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.cwd.as_deref()
    }
}

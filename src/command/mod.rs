//! Noun: the builder. It holds the settings; each verb applies them and starts a child.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::quote;
#[cfg(unix)]
use crate::spawn::Attributes;
#[cfg(unix)]
use crate::stdio::PtySize;
use crate::stdio::Stdio;
use crate::transport::Bounds;

pub use pipeline::Pipeline;

/// A program, its arguments and its settings: std's builder, with verbs that return a [`Promise`](crate::Promise).
///
/// Use it if a one-line call such as [`read`](crate::read()) is not enough. A command can run again, and several of
/// its runs may be alive at once.
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::Command;
/// let day = Command::new("date")
///     .arg("+%A")
///     .env("LC_ALL", "C")
///     .read()
///     .await?;
/// assert!(day.ends_with("day"));
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// What you do not set is the verb's default:
///
/// | verb | stdin | stdout | stderr |
/// | --- | --- | --- | --- |
/// | [`run`](Self::run), [`status`](Self::status) | the parent's | the parent's | the parent's |
/// | [`read`](Self::read), [`read_bytes`](Self::read_bytes), [`output`](Self::output) | null | captured | captured |
/// | [`exit_code`](Self::exit_code) | null | null | null |
/// | [`spawn`](Self::spawn) | a pipe to [write](crate::Process::writer) | a pipe to read | a pipe to read |
///
/// To replace [`std::process::Command`] with `output` or `status`, change the `use` line and add `.await`.
/// [`spawn`](Self::spawn) differs: its [`Process`](crate::Process) is not std's `Child`, and dropping it kills the
/// child.
///
/// The child gets exactly the file descriptors that you set here, plus 0, 1 and 2. No signal is blocked or ignored in
/// it.
#[cfg_attr(unix, doc = "[`inherit_fds`](Self::inherit_fds) passes on more descriptors.")]
///
/// A verb returns once the program runs, and blocks the calling thread until then. If Ctrl-Z at a shared terminal
/// stops the child before its first instruction, the thread waits until the child is continued. Ctrl-Z does not reach
/// a child with a [`new_group`](Self::new_group).
///
/// # Fork
/// If this program forks (fork(2)) and goes on in the copy, it must do so before its first call. In a later copy
/// every start returns [`SpawnReason::Forked`](crate::SpawnReason::Forked). [`Promise`](crate::Promise) says what a
/// copied handle does.
///
/// # Cancellation
/// Running children are unaffected. Secrets are wiped and descriptors closed after the last run and the last clone.
///
/// # Platform
/// Windows has descriptors 0, 1 and 2, and no signals to block or ignore. A child there also inherits each handle
/// that another part of this program has marked inheritable. The [first page](crate#what-windows-does-not-have) lists
/// the methods that Windows does not have.
#[derive(Clone)]
pub struct Command {
    program: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
    /// The places in `args` of the arguments that must not be quoted.
    #[cfg(windows)]
    raw_args: Vec<usize>,
    env_clear: bool,
    env: BTreeMap<OsString, Variable>,
    /// How often a variable was set or removed.
    env_calls: usize,
    cwd: Option<PathBuf>,
    stdio: BTreeMap<i32, Setting>,
    /// A descriptor that was set both by its name and by its number.
    set_twice: Option<i32>,
    #[cfg(unix)]
    attributes: Attributes,
    #[cfg(unix)]
    terminal: Option<PtySize>,
    inherit_fds: bool,
    bounds: Arc<Bounds>,
    new_group: bool,
    #[cfg(windows)]
    no_window: bool,
    #[cfg(unix)]
    die_with_parent: bool,
    fail_on_stderr: bool,
    ok_codes: Option<Arc<Vec<i32>>>,
    hide_args: bool,
    kill_on_drop: bool,
    terminate_on_drop: bool,
}

/// A change of one environment variable.
#[derive(Clone)]
struct Variable {
    /// `None` removes an inherited variable.
    value: Option<OsString>,
    /// The place of this setting among all. On Windows `Path` and `PATH` are one variable, and the last setting of
    /// either counts.
    #[cfg_attr(unix, allow(dead_code, reason = "there the names differ, or they are the same"))]
    place: usize,
}

#[derive(Clone)]
struct Setting {
    stdio: Stdio,
    /// Set by `stdin`, `stdout` or `stderr`, and not by `fd`.
    by_name: bool,
}

// rustdoc shows the methods in this order.
mod settings;

mod verbs;

mod pipeline;

mod bounds;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

mod getters;

mod start;

impl Command {
    /// The variables that are set (`Some`) or removed (`None`), by name, each once.
    #[cfg(unix)]
    fn changes(&self) -> Vec<(&OsStr, Option<&OsStr>)> {
        self.env.iter().map(|(name, set)| (name.as_os_str(), set.value.as_deref())).collect()
    }

    /// The variables that are set (`Some`) or removed (`None`), each once: as in std, under its first name and with
    /// its last value.
    ///
    /// std's own `Command` decides which names are one variable: it folds them by the system's table
    /// (CompareStringOrdinal), and exports no such function.
    #[cfg(windows)]
    fn changes(&self) -> Vec<(&OsStr, Option<&OsStr>)> {
        let mut calls: Vec<_> = self.env.iter().collect();
        calls.sort_unstable_by_key(|(_, set)| set.place);
        let mut folded = std::process::Command::new("");
        for (place, (name, _)) in calls.iter().enumerate() {
            folded.env(name, place.to_string());
        }
        let found = folded.get_envs().filter_map(|(name, place)| {
            let (name, _) = self.env.get_key_value(name)?;
            let (_, set) = calls.get(place?.to_str()?.parse::<usize>().ok()?)?;
            Some((name.as_os_str(), set.value.as_deref()))
        });
        found.collect()
    }

    /// The command as messages show it.
    fn text(&self) -> String {
        let args = if self.hide_args { &[] } else { &self.args[..] };
        quote(&self.program, args.iter().map(OsString::as_os_str))
    }
}

/// Shows the command line and the settings, but only the names of environment variables.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Command");
        debug.field("command", &self.text());
        if self.env_clear {
            debug.field("env_clear", &true);
        }
        if !self.env.is_empty() {
            debug.field("env", &self.changes().iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
        if let Some(cwd) = &self.cwd {
            debug.field("current_dir", cwd);
        }
        for (n, setting) in &self.stdio {
            debug.field(&format!("fd{n}"), &setting.stdio);
        }
        debug.finish_non_exhaustive()
    }
}

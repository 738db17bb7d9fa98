//! Noun: the builder. Holds what was set; each verb resolves it and starts a child.

mod bounds;
mod pipeline;
mod start;
mod verbs;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::quote;
#[cfg(unix)]
use crate::limit::Resource;
use crate::signal::Signal;
#[cfg(unix)]
use crate::spawn::Attributes;
#[cfg(unix)]
use crate::stdio::PtySize;
use crate::stdio::Stdio;
use crate::transport::Bounds;

pub use pipeline::Pipeline;

/// What to run, and how: std's builder, with verbs that return [`Promise`](crate::Promise)s.
///
/// If the program uses `output` and `status`, replacing [`std::process::Command`] is a change of the `use` line and an
/// `.await`. [`spawn`](Self::spawn) differs: its [`Process`](crate::Process) is not std's `Child`, what was not set is a
/// pipe, and dropping it kills the child. A command can be run again, and several runs may be alive at once.
///
/// What is not set is what the verb makes of it:
///
/// | verb | stdin | stdout | stderr |
/// | --- | --- | --- | --- |
/// | [`run`](Self::run), [`status`](Self::status) | the parent's | the parent's | the parent's |
/// | [`read`](Self::read), [`read_bytes`](Self::read_bytes), [`output`](Self::output) | null | captured | captured |
/// | [`exit_code`](Self::exit_code) | null | null | null |
/// | [`spawn`](Self::spawn) | a pipe to [write](crate::Process::writer) | a pipe to read | a pipe to read |
///
/// The child starts with no signal blocked or ignored, and with exactly the descriptors that were named
/// here plus 0, 1 and 2, whatever else the parent has open.
#[cfg_attr(unix, doc = "[`inherit_fds`](Self::inherit_fds) changes that.")]
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::Command;
/// let mut date = Command::new("date");
/// date.arg("+%A").env("LC_ALL", "C");
/// assert!(date.read().await?.ends_with("day"));
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// The call returns once the program runs, and until then the calling thread waits. If the child is stopped before
/// its first instruction, as by Ctrl-Z at a terminal that both share, the thread waits until the child is continued;
/// a child with a [`new_group`](Self::new_group) is not reached by that Ctrl-Z.
///
/// # Fork
/// A host that forks (fork(2)) without executing another program does so before its first call. In a copy that was
/// forked later no command starts: [`SpawnReason::Forked`](crate::SpawnReason::Forked). See
/// [`Promise`](crate::Promise) for what a copied handle does.
///
/// # Cancellation
/// Dropping a command touches none of the children it has started. It closes the descriptors and wipes
/// the secrets that were given to it, as soon as no run and no clone uses them any more.
///
/// # Platform
/// On Windows descriptors are 0, 1 and 2, and there are no signals to block or ignore. `fd`, `inherit_fds`, `arg0`,
/// `uid`, `gid`, `groups`, `umask`, `pty`, `new_session`, `rlimit`, `nice` and `die_with_parent` are Unix's, and
/// `no_new_privileges` is Linux's; `raw_arg` and `no_window` are Windows's. A child also inherits every handle that
/// another part of the parent has marked inheritable.
#[derive(Clone)]
pub struct Command {
    program: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
    /// The places of those that are not to be quoted.
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

/// What is done with one environment variable.
#[derive(Clone)]
struct Variable {
    /// `None` removes what would be inherited.
    value: Option<OsString>,
    /// The place of this setting among all. Windows takes `Path` and `PATH` for one variable, and there the last
    /// setting of either counts.
    #[cfg_attr(unix, allow(dead_code, reason = "there the names differ, or they are the same"))]
    place: usize,
}

#[derive(Clone)]
struct Setting {
    stdio: Stdio,
    /// Set by `stdin`, `stdout` or `stderr`, and not by `fd`.
    by_name: bool,
}

impl Command {
    /// A command without arguments, with the parent's environment and working directory.
    ///
    /// If `program` has a slash, it is taken as it is; if it is relative, it counts from
    /// [`current_dir`](Self::current_dir). Any other is looked up in the child's `PATH` if this command sets one, else in
    /// the parent's.
    ///
    /// If the parent's environment has a name twice, the child gets the one that getenv(3) finds in the parent, the
    /// first, and gets it once.
    ///
    /// # Platform
    /// On Windows a name is looked up where std looks: in the child's `PATH` if this command sets one, then in the
    /// folder of the parent's program, in the system's folders, and only then in the parent's `PATH`. `.exe` is added
    /// if it is missing. So a program of the system is not hidden by one of its name in the parent's `PATH`; a `PATH`
    /// that this command sets does hide it, whatever else it sets.
    ///
    /// What is not found so, by a name or a path, is looked for once more in the same folders with the extensions of
    /// `PATHEXT` (the child's if this command sets one, else the parent's), as at the prompt: `npm` is `npm.cmd`. Of these
    /// a process can be started from `.com`, `.exe`, `.bat` and `.cmd`. The system's `cmd` runs a batch file; see
    /// [`arg`](Self::arg).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("true").run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Command {
            program: program.as_ref().to_owned(),
            arg0: None,
            args: Vec::new(),
            #[cfg(windows)]
            raw_args: Vec::new(),
            env_clear: false,
            env: BTreeMap::new(),
            env_calls: 0,
            cwd: None,
            stdio: BTreeMap::new(),
            set_twice: None,
            #[cfg(unix)]
            attributes: Attributes::default(),
            #[cfg(unix)]
            terminal: None,
            inherit_fds: false,
            bounds: Bounds::none(),
            new_group: false,
            #[cfg(windows)]
            no_window: false,
            #[cfg(unix)]
            die_with_parent: false,
            fail_on_stderr: false,
            ok_codes: None,
            hide_args: false,
            kill_on_drop: true,
            terminate_on_drop: false,
        }
    }

    /// Adds one argument. No shell is involved: it arrives as it is.
    ///
    /// # Platform
    /// Windows has one command line, which std quotes in the way that nearly all programs take it apart; `cmd` does
    /// it in its own, so never put what came from elsewhere after `cmd /c`. See also `raw_arg`.
    ///
    /// For a batch file (`.bat`, `.cmd`) std quotes in the way of `cmd`, so that no argument becomes a command or a
    /// variable's value. What the file then does with its `%1` is its own. A line end cannot be quoted there: it is
    /// [`InvalidReason::BatchArgument`](crate::InvalidReason::BatchArgument).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("echo").arg("$HOME; *").read().await?, "$HOME; *");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("echo").args(["a", "b"]).read().await?, "a b");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable of the child. The last setting of a name counts.
    ///
    /// # Platform
    /// On Windows names that differ in case alone, such as `Path` and `PATH`, are one variable. The first name that
    /// was given for it is kept, as std does it.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let said = reaped::Command::new("sh").args(["-c", "echo $GREETING"]).env("GREETING", "hi").read().await?;
    /// assert_eq!(said, "hi");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.set_variable(name.as_ref(), Some(value.as_ref().to_owned()))
    }

    /// Sets several environment variables of the child.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let said = reaped::Command::new("sh").args(["-c", "echo $A$B"]).envs([("A", "1"), ("B", "2")]).read().await?;
    /// assert_eq!(said, "12");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn envs(
        &mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        for (name, value) in vars {
            self.env(name, value);
        }
        self
    }

    /// Removes one environment variable, set here before or inherited.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let said = reaped::Command::new("sh").args(["-c", "echo ${HOME-unset}"]).env_remove("HOME").read().await?;
    /// assert_eq!(said, "unset");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.set_variable(name.as_ref(), None)
    }

    /// Removes every environment variable, set here before or inherited.
    ///
    /// A program without a slash is then still looked up in the parent's `PATH`.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("env").env_clear().env("ONLY", "1").read().await?, "ONLY=1");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn env_clear(&mut self) -> &mut Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    fn set_variable(&mut self, name: &OsStr, value: Option<OsString>) -> &mut Self {
        self.env_calls += 1;
        self.env.insert(name.to_owned(), Variable { value, place: self.env_calls });
        self
    }

    /// The child's working directory.
    ///
    /// It is entered before the program is looked up, so that a relative program counts from it.
    #[cfg_attr(unix, doc = "[`uid`](Self::uid) takes effect after that.")]
    ///
    /// # Errors
    /// If it cannot be entered, running the command is
    /// [`SpawnReason::WorkingDirectory`](crate::SpawnReason::WorkingDirectory).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("pwd").current_dir("/").read().await?, "/");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// What the child's descriptor 0 is connected to, in place of the verb's default.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// assert_eq!(Command::new("cat").stdin(Stdio::bytes("hi")).read().await?, "hi");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.set(0, stdio.into(), true)
    }

    /// What the child's descriptor 1 is connected to, in place of the verb's default.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let output = Command::new("echo").arg("hi").stdout(Stdio::null()).output().await?;
    /// assert_eq!(output.stdout, b"");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.set(1, stdio.into(), true)
    }

    /// What the child's descriptor 2 is connected to, in place of the verb's default.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let both = Command::new("sh").args(["-c", "echo out; echo err >&2"]).stderr(Stdio::same_as(1)).read().await?;
    /// assert_eq!(both, "out\nerr");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.set(2, stdio.into(), true)
    }

    /// What the child's descriptor `n` is connected to; Twisted's `childFDs`.
    ///
    /// The last setting of a number counts, but one number set both by its name
    /// ([`stdin`](Self::stdin), …) and here is [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let output = Command::new("sh")
    ///     .args(["-c", "cat <&4 >&3"])
    ///     .fd(3, Stdio::output())
    ///     .fd(4, Stdio::bytes("through"))
    ///     .output()
    ///     .await?;
    /// assert_eq!(output.fd(3), Some(&b"through"[..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Running the command is [`InvalidReason::Descriptor`](crate::InvalidReason::Descriptor) for a negative number and
    /// for one that the limit of open files (`RLIMIT_NOFILE`, getrlimit(2)) does not allow.
    ///
    /// # Platform
    /// Unix.
    #[cfg(unix)]
    pub fn fd(&mut self, n: i32, stdio: impl Into<Stdio>) -> &mut Self {
        self.set(n, stdio.into(), false)
    }

    fn set(&mut self, n: i32, stdio: Stdio, by_name: bool) -> &mut Self {
        if self.stdio.insert(n, Setting { stdio, by_name }).is_some_and(|before| before.by_name != by_name) {
            self.set_twice = Some(n);
        }
        self
    }

    /// Whether the child also gets every descriptor of the parent without close-on-exec, as std does it;
    /// `false` by default.
    ///
    /// Descriptors that were opened by Rust have close-on-exec, so this concerns what C libraries and
    /// the parent's own parent left open.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("true").inherit_fds(true).run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Platform
    /// Unix.
    #[cfg(unix)]
    pub fn inherit_fds(&mut self, inherit: bool) -> &mut Self {
        self.inherit_fds = inherit;
        self
    }

    /// Whether any byte on stderr fails the call with [`Error::UnexpectedStderr`](crate::Error::UnexpectedStderr);
    /// `false` by default.
    ///
    /// This is what Twisted's `getProcessOutput` does. The program runs to its end first, so that the
    /// error carries all it had to say; its exit status does not matter then. A verb that would not
    /// capture stderr does so.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Error};
    /// let result = Command::new("sh").args(["-c", "echo hm >&2"]).fail_on_stderr(true).read().await;
    /// assert!(matches!(result, Err(Error::UnexpectedStderr(_))));
    /// # });
    /// ```
    ///
    /// # Errors
    /// If stderr was set to something that is not captured, running the command is
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
    pub fn fail_on_stderr(&mut self, fail: bool) -> &mut Self {
        self.fail_on_stderr = fail;
        self
    }

    /// Whether errors and `Debug` show only the program's name; `false` by default.
    ///
    /// Arguments are no place for a secret all the same: every user of the machine can read them
    /// (`ps`). Use [`Stdio::secret`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let error = reaped::Command::new("false").arg("token").hide_args(true).run().await.unwrap_err();
    /// assert_eq!(error.to_string(), "`false` exited with code 1");
    /// # });
    /// ```
    pub fn hide_args(&mut self, hide: bool) -> &mut Self {
        self.hide_args = hide;
        self
    }

    /// Whether dropping the promise or the [`Process`](crate::Process) kills the child; `true` by default.
    ///
    /// With `false` the child runs on and is reaped when it ends, as with
    /// [`Promise::detach`](crate::Promise::detach). Its pipes close with the promise: it
    /// reads end of file, and what it writes to a captured descriptor raises SIGPIPE in it (on Windows such a
    /// write fails).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let promise = Command::new("true").stdout(Stdio::null()).kill_on_drop(false).run();
    /// drop(promise); // `true` ends by itself
    /// # });
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// Whether dropping the promise or the [`Process`](crate::Process) asks the child to end: the polite signal
    /// ([`stop_signal`](Self::stop_signal)) at once, and SIGKILL after the [`grace`](Self::grace), with nobody polling;
    /// `false` by default.
    ///
    /// If this is set, [`kill_on_drop`](Self::kill_on_drop) has no effect. [`detach`](crate::Promise::detach) still lets
    /// the child run on.
    ///
    /// With [`new_group`](Self::new_group) all of the group is asked, and gets the grace. The pipes close with the
    /// promise, so the child reads end of file, and a write to a captured descriptor raises SIGPIPE in it; a terminal
    /// stays open.
    ///
    /// If an executor or a runtime drops the task, that is a drop like any other. If this program ends within the grace,
    /// no SIGKILL is sent, and a child that ignores the signal lives on.
    #[cfg_attr(unix, doc = "[`die_with_parent`](Self::die_with_parent) kills it then.")]
    ///
    /// # Platform
    /// On Windows a child with a [`new_group`](Self::new_group) is asked by Ctrl-Break, if that is possible; any other
    /// is ended at once.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut server = Command::new("sh");
    /// server.args(["-c", "trap 'rm -f lock; exit' TERM; while :; do sleep 0.1; done"]).stdout(Stdio::null());
    /// drop(server.terminate_on_drop(true).run()); // and the lock is removed
    /// # });
    /// ```
    pub fn terminate_on_drop(&mut self, terminate: bool) -> &mut Self {
        self.terminate_on_drop = terminate;
        self
    }

    /// The polite signal, of [`timeout`](Self::timeout), [`idle_timeout`](Self::idle_timeout),
    /// [`terminate`](crate::Control::terminate) and [`terminate_on_drop`](Self::terminate_on_drop); SIGTERM by default.
    ///
    /// If the system does not know the signal, the child gets SIGKILL at once.
    ///
    /// # Platform
    /// On Windows INT and TERM are the same, Ctrl-Break for a [`new_group`](Self::new_group); see
    /// [`Signal`](crate::Signal).
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use reaped::{Command, Signal};
    /// let mut slow = Command::new("sleep");
    /// let error = slow.arg("100").stop_signal(Signal::INT).timeout(Duration::from_millis(50)).run().await.unwrap_err();
    /// assert!(error.to_string().ends_with("was killed by SIGINT (signal 2)"));
    /// # });
    /// ```
    pub fn stop_signal(&mut self, signal: Signal) -> &mut Self {
        self.bounds_mut().stop_signal = signal;
        self
    }

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
    /// assert_eq!(envs, [(OsStr::new("TERM"), Some(OsStr::new("dumb"))), (OsStr::new("TZ"), None)]);
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

/// What only Unix has.
#[cfg(unix)]
impl Command {
    /// The name under which the program sees itself (`argv[0]`), in place of the program's.
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let name = reaped::Command::new("sh").arg0("other").args(["-c", "echo $0"]).read().await?;
    /// assert_eq!(name, "other");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn arg0(&mut self, arg0: impl AsRef<OsStr>) -> &mut Self {
        self.arg0 = Some(arg0.as_ref().to_owned());
        self
    }

    /// The user that the child runs as.
    ///
    /// Set [`gid`](Self::gid) too, or the child keeps the parent's group. The working directory is
    /// entered first, with the parent's rights; then the supplementary groups are set, or dropped if
    /// [`groups`](Self::groups) names none; then the group; the user last. With [`pty`](Self::pty) the terminal is
    /// the user's.
    ///
    /// # Errors
    /// If any step fails, nothing runs, and the error is [`SpawnReason::User`](crate::SpawnReason::User) with the
    /// system's words. If the groups cannot be dropped, that is an error too, unless the parent has none, or user and
    /// group are the parent's already: then nothing changes, and the child has the parent's groups. So `uid(0)` works for
    /// the root of a user namespace in which setgroups(2) is denied.
    ///
    /// # Platform
    /// Unix. Such a child is started by a copy of the parent, whose cost grows with the parent's memory: another user is
    /// not to have that memory.
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// let name = reaped::Command::new("id").arg("-un").uid(65534).gid(65534).read().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn uid(&mut self, uid: u32) -> &mut Self {
        self.attributes.uid = Some(uid);
        self
    }

    /// The group that the child runs as; see [`uid`](Self::uid).
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("id").uid(65534).gid(65534).run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn gid(&mut self, gid: u32) -> &mut Self {
        self.attributes.gid = Some(gid);
        self
    }

    /// The supplementary groups of the child, which only root may set; see [`uid`](Self::uid).
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("id").uid(65534).gid(65534).groups(&[100]).run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn groups(&mut self, groups: &[u32]) -> &mut Self {
        self.attributes.groups = Some(groups.to_vec());
        self
    }

    /// A terminal of its own as the child's descriptors 0, 1 and 2, for programs that want one.
    ///
    /// The child leads a new session whose controlling terminal it is, pty(7). What it shows comes as
    /// descriptor 1, line ends as `\r\n`; what is typed goes through [`writer`](crate::Process::writer)`(0)`,
    /// and `\x03` is Ctrl-C there. The end of the terminal is the end of file: of the events only `Closed { fd: 1 }` tells
    /// of it. A child may close its terminal and open `/dev/tty` later, as ssh and sudo do; that is not the end.
    ///
    /// If the writer is closed or dropped, Ctrl-D is typed (VEOF, termios(3)) as soon as there is room for it, twice
    /// within a line. It is the end of file for whoever reads first; who reads once more waits. A program that has made
    /// its terminal raw is given the character `\x04`, and decides by itself what it means. With a verb other than
    /// [`spawn`](Self::spawn) a single Ctrl-D is typed at the start.
    ///
    /// If the process is dropped, the terminal hangs up (SIGHUP). A child that runs on, by
    /// [`detach`](crate::Promise::detach) or [`kill_on_drop(false)`](Self::kill_on_drop), keeps it; nobody reads it any
    /// more, so a child that shows more than it holds (some 4 KiB) waits until it is ended.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, PtySize};
    /// let size = Command::new("stty").arg("size").pty(PtySize { rows: 50, columns: 132 }).read().await?;
    /// assert_eq!(size, "50 132");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If one of stdin, stdout and stderr was set too, running the command is
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict). If the system has no terminals (no `/dev/ptmx`),
    /// or does not let us give one to the [`uid`](Self::uid), it is
    /// [`SpawnReason::Terminal`](crate::SpawnReason::Terminal).
    ///
    /// # Platform
    /// Unix.
    pub fn pty(&mut self, size: PtySize) -> &mut Self {
        self.terminal = Some(size);
        self
    }

    /// The child's file mode creation mask, umask(2).
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mask = reaped::Command::new("sh").args(["-c", "umask"]).umask(0o027).read().await?;
    /// assert_eq!(mask, "0027");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.attributes.umask = Some(mask);
        self
    }

    /// The child is killed (SIGKILL) once this program is gone, however it goes: by `std::process::exit`, abort(3), a
    /// crash, or a SIGKILL of its own. With [`new_group`](Self::new_group) all of its group is.
    ///
    /// A guardian does that, one for the whole program, which the first such call starts: a shell (`/bin/sh`) that waits
    /// for the end of a pipe that only this program has. It stays for as long as the program runs. If somebody kills the
    /// guardian, the next call with this setting starts another one, and until then nothing of this is promised.
    ///
    /// The guardian belongs to a session of its own, and is an orphan: a host that waits for any child does not meet it,
    /// unless orphans become children of this program (PR_SET_CHILD_SUBREAPER, or the first process of a container).
    ///
    /// If this program becomes another one (execve(2)), that is its end too. If it was forked and the copy executes no
    /// program, the copy's end is waited for as well: the copy has the pipe.
    ///
    /// Dropping the promise kills the child in any case, unless it is told otherwise; a child that runs on, by
    /// [`detach`](crate::Promise::detach) or [`kill_on_drop(false)`](Self::kill_on_drop), is killed at the end of this
    /// program.
    ///
    /// # Errors
    /// If the guardian cannot be started, or does not read what it is told, or this program starts its children in a new
    /// namespace of processes (unshare(2)), the child is not started, and the error is
    /// [`SpawnReason::Other`](crate::SpawnReason::Other), or what it is that the system lacks.
    ///
    /// # Platform
    /// Unix. A child that runs as another [`uid`](Self::uid) is killed only if this program's user may kill it. With
    /// the first engine (Linux) the group is watched over until the promise has ended, with the second until the child
    /// itself has exited.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut server = reaped::Command::new("sleep");
    /// let server = server.arg("1000").new_group().die_with_parent(true).spawn()?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn die_with_parent(&mut self, die: bool) -> &mut Self {
        self.die_with_parent = die;
        self
    }

    /// The child leads a new session, setsid(2): it has no controlling terminal, so neither Ctrl-C nor the end of the
    /// parent's terminal reaches it.
    ///
    /// A session's leader leads a process group of its own, too. Signals go to the child alone, unless
    /// [`new_group`](Self::new_group) is set as well. A child with a [`pty`](Self::pty) leads a session in any case.
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut leader = reaped::Command::new("sh");
    /// leader.args(["-c", "kill -s 0 -- -$$"]).new_session().run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn new_session(&mut self) -> &mut Self {
        self.attributes.new_session = true;
        self
    }

    /// Limits what the child, and whatever it starts, may use of a resource, setrlimit(2).
    ///
    /// The soft limit is what counts; a process may raise it up to the hard one. `u64::MAX` is no limit. If it is called
    /// again for the same resource, the last call counts.
    ///
    /// # Errors
    /// If the system does not set it, such as a hard limit above the parent's own, nothing runs, and the error is
    /// [`SpawnReason::Limits`](crate::SpawnReason::Limits).
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Resource};
    /// let mut shell = Command::new("sh");
    /// shell.args(["-c", "ulimit -n"]).rlimit(Resource::NOFILE, 64, 64);
    /// assert_eq!(shell.read().await?, "64");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn rlimit(&mut self, resource: Resource, soft: u64, hard: u64) -> &mut Self {
        let limits = &mut self.attributes.limits;
        limits.retain(|(other, ..)| *other != resource);
        limits.push((resource, soft, hard));
        self
    }

    /// Adds to the child's nice value, nice(2): with a higher one it gets less processor time. Values beyond what the
    /// system has (-20 to 19 on Linux) are the last that it has.
    ///
    /// # Errors
    /// If the system does not permit a lower value, nothing runs, and the error is
    /// [`SpawnReason::Limits`](crate::SpawnReason::Limits).
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("true").nice(10).run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn nice(&mut self, more: i32) -> &mut Self {
        self.attributes.nice = Some(more);
        self
    }

    /// No program that the child becomes gets more privileges than it has: set-user-ID bits, set-group-ID bits and file
    /// capabilities have no effect, prctl(2), `PR_SET_NO_NEW_PRIVS`.
    ///
    /// # Platform
    /// Linux.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut child = reaped::Command::new("grep");
    /// child.args(["NoNewPrivs", "/proc/self/status"]).no_new_privileges();
    /// assert_eq!(child.read().await?, "NoNewPrivs:\t1");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn no_new_privileges(&mut self) -> &mut Self {
        self.attributes.no_new_privileges = true;
        self
    }
}

/// What only Windows has.
#[cfg(windows)]
impl Command {
    /// Adds text to the command line as it is, after a space and without quotes; std's `CommandExt::raw_arg`.
    ///
    /// For a program that takes its command line apart in its own way, such as `cmd /c` and `msiexec`. The caller has
    /// quoted the text for that program: what came from elsewhere in it can become more arguments, or with `cmd` and with
    /// a batch file other commands. [`get_args`](Self::get_args) and messages show it as one argument.
    ///
    /// # Platform
    /// Windows.
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// let mut shell = reaped::Command::new("cmd");
    /// assert_eq!(shell.arg("/c").raw_arg(r#"echo "a b""#).read().await?, r#""a b""#);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn raw_arg(&mut self, text: impl AsRef<OsStr>) -> &mut Self {
        self.raw_args.push(self.args.len());
        self.arg(text)
    }

    /// Whether a console program shows no window; `false` by default. std has the flag `CREATE_NO_WINDOW` for it.
    ///
    /// If this program has no console (a GUI program, a service), the system opens a console window for each console
    /// child. With this setting the child gets a hidden console. A child that is no console program is not affected.
    ///
    /// Neither Ctrl-C nor Ctrl-Break at this program's console reaches such a child. And it cannot be asked to end by
    /// Ctrl-Break, since that takes a console in common: with [`new_group`](Self::new_group) too, INT, TERM and KILL end
    /// it at once. Any other signal is an error.
    ///
    /// # Platform
    /// Windows.
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// let name = reaped::Command::new("hostname").no_window(true).read().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn no_window(&mut self, no_window: bool) -> &mut Self {
        self.no_window = no_window;
        self
    }
}

impl Command {
    /// What is set and removed (`None`), by name, each variable once.
    #[cfg(unix)]
    fn changes(&self) -> Vec<(&OsStr, Option<&OsStr>)> {
        self.env.iter().map(|(name, set)| (name.as_os_str(), set.value.as_deref())).collect()
    }

    /// What is set and removed (`None`), by name, each variable once: as std has it, under the first of its names and
    /// with the last of its values.
    ///
    /// std's own `Command` says which names are one. It folds them by the system's table (CompareStringOrdinal), and
    /// shows no such function.
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

    /// The command as a person may see it.
    fn text(&self) -> String {
        let args = if self.hide_args { &[] } else { &self.args[..] };
        quote(&self.program, args.iter().map(OsString::as_os_str))
    }
}

/// The command line, and what was set; of the environment the names alone.
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

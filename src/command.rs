//! Noun: the builder. Holds what was set, resolves it against a verb's defaults, and starts the child.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError};

use crate::error::{Error, InvalidReason, Refusal, quote};
use crate::output::Output;
use crate::promise::{Call, Promise};
#[cfg(unix)]
use crate::spawn::Identity;
use crate::spawn::{End, Launch};
use crate::stdio::{Feed, Kind, Stdio};
use crate::transport::{Source, Transport};

/// What to run, and how: std's builder, with verbs that return [`Promise`]s.
///
/// Replacing [`std::process::Command`] is a change of the `use` line and an `.await`. A command can be
/// run again, and several runs may be alive at once.
///
/// The child starts with no signal blocked or ignored, and with exactly the descriptors that were named
/// here plus 0, 1 and 2, whatever else the parent has open ([`inherit_fds`](Self::inherit_fds) changes
/// that).
///
/// ```
/// # futures::executor::block_on(async {
/// use reaped::Command;
/// let mut git = Command::new("git");
/// git.arg("--version").env("LC_ALL", "C");
/// assert!(git.read().await?.starts_with("git version"));
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// # Cancellation
/// Dropping a command touches none of the children it has started. It closes the descriptors and wipes
/// the secrets that were given to it, as soon as no run uses them any more.
pub struct Command {
    program: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
    env_clear: bool,
    /// `None` removes what would be inherited.
    env: BTreeMap<OsString, Option<OsString>>,
    cwd: Option<PathBuf>,
    stdio: BTreeMap<i32, Setting>,
    /// A descriptor that was set both by its name and by its number.
    set_twice: Option<i32>,
    #[cfg(unix)]
    identity: Identity,
    inherit_fds: bool,
    fail_on_stderr: bool,
    hide_args: bool,
    kill_on_drop: bool,
}

struct Setting {
    stdio: Stdio,
    /// Set by `stdin`, `stdout` or `stderr`, and not by `fd`.
    by_name: bool,
}

/// What a verb does with a standard descriptor that the user did not set.
#[derive(Clone, Copy)]
enum Unset {
    Inherit,
    Null,
    Capture,
}

impl Command {
    /// A command without arguments, with the parent's environment and working directory.
    ///
    /// A `program` with a slash is taken as it is, counted from [`current_dir`](Self::current_dir) where
    /// it is relative. Any other is looked up in the child's `PATH` where this command sets one, else in
    /// the parent's.
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
            env_clear: false,
            env: BTreeMap::new(),
            cwd: None,
            stdio: BTreeMap::new(),
            set_twice: None,
            #[cfg(unix)]
            identity: Identity::default(),
            inherit_fds: false,
            fail_on_stderr: false,
            hide_args: false,
            kill_on_drop: true,
        }
    }

    /// Adds one argument. No shell is involved: it arrives as it is.
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

    /// Sets one environment variable of the child.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let said = reaped::Command::new("sh").args(["-c", "echo $GREETING"]).env("GREETING", "hi").read().await?;
    /// assert_eq!(said, "hi");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
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
        self.env.insert(name.as_ref().to_owned(), None);
        self
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

    /// The child's working directory.
    ///
    /// It is entered before the program is looked up, so that a relative program counts from it, and
    /// before [`uid`](Self::uid) takes effect.
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
    /// ([`stdin`](Self::stdin), …) and here is [`InvalidReason::Conflict`].
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
    /// Running the command is [`InvalidReason::Descriptor`] for a negative number and for one that the
    /// limit of open files (`RLIMIT_NOFILE`, getrlimit(2)) does not allow.
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
    /// `false` at first.
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

    /// Whether any byte on stderr fails the call with [`Error::UnexpectedStderr`]; `false` at first.
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
    /// Where stderr was set to something that is not captured, running the command is
    /// [`InvalidReason::Conflict`].
    pub fn fail_on_stderr(&mut self, fail: bool) -> &mut Self {
        self.fail_on_stderr = fail;
        self
    }

    /// Whether errors and `Debug` show only the program's name; `false` at first.
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

    /// Whether dropping the promise kills the child; `true` at first.
    ///
    /// With `false` the child runs on and is reaped when it ends. Its pipes close with the promise: it
    /// reads end of file, and what it writes to a captured descriptor raises SIGPIPE in it.
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
        self.env.iter().map(|(name, value)| (name.as_os_str(), value.as_deref()))
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
    /// entered first, with the parent's rights; then the supplementary groups are set, or dropped where
    /// the parent is root and [`groups`](Self::groups) names none; then the group; the user last.
    ///
    /// # Errors
    /// Where any step fails nothing runs, and the error is
    /// [`SpawnReason::Other`](crate::SpawnReason::Other) with the system's words.
    ///
    /// # Platform
    /// Unix. Such a child is started by a fork, whose cost grows with the parent's memory.
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// let name = reaped::Command::new("id").arg("-un").uid(65534).gid(65534).read().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn uid(&mut self, uid: u32) -> &mut Self {
        self.identity.uid = Some(uid);
        self
    }

    /// The group that the child runs as; see [`uid`](Self::uid).
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("id").uid(65534).gid(65534).run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn gid(&mut self, gid: u32) -> &mut Self {
        self.identity.gid = Some(gid);
        self
    }

    /// The supplementary groups of the child, which only root may set; see [`uid`](Self::uid).
    ///
    /// ```no_run
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("id").uid(65534).gid(65534).groups(&[100]).run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn groups(&mut self, groups: &[u32]) -> &mut Self {
        self.identity.groups = Some(groups.to_vec());
        self
    }

    /// The child's file mode creation mask, umask(2).
    ///
    /// # Platform
    /// Unix. Such a child is started by a fork, whose cost grows with the parent's memory.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mask = reaped::Command::new("sh").args(["-c", "umask"]).umask(0o027).read().await?;
    /// assert_eq!(mask, "0027");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.identity.umask = Some(mask);
        self
    }
}

/// The verbs: each starts the child at once and returns a promise of its end. What was set on the
/// command wins over a verb's defaults.
impl Command {
    /// Runs to the end and expects success; stdin, stdout and stderr are the parent's.
    ///
    /// # Cancellation
    /// As of every verb: dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of every verb: [`Error::Invalid`], [`Error::Spawn`], [`Error::Io`], [`Error::StatusLost`], and
    /// [`Error::UnexpectedStderr`] where asked for. Of this one also [`Error::Failed`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// reaped::Command::new("true").run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn run(&mut self) -> Promise<()> {
        self.promise([Unset::Inherit; 3], |output| output.check().map(drop))
    }

    /// What the program wrote to stdout, as text without its last line end; stdin is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run), and [`Error::NotUtf8`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("echo").arg("hi").read().await?, "hi");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn read(&mut self) -> Promise<String> {
        self.promise([Unset::Null, Unset::Capture, Unset::Capture], |output| output.check()?.into_text())
    }

    /// What the program wrote to stdout, every byte; stdin is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run).
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("printf").arg(r"\0\n").read_bytes().await?, b"\0\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "getProcessOutput")]
    pub fn read_bytes(&mut self) -> Promise<Vec<u8>> {
        self.promise([Unset::Null, Unset::Capture, Unset::Capture], |output| Ok(output.check()?.stdout))
    }

    /// The exit code, whatever it is; stdin, stdout and stderr are the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run); [`Error::Failed`] only for a death by signal, which has no code.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(reaped::Command::new("false").exit_code().await?, 1);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "getProcessValue")]
    pub fn exit_code(&mut self) -> Promise<i32> {
        self.promise([Unset::Null; 3], |output| match output.status.code() {
            Some(code) => Ok(code),
            None => output.check().map(|_| 0),
        })
    }

    /// How the program ended, whatever that is; stdin, stdout and stderr are the parent's, as in std.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run), but never [`Error::Failed`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert!(reaped::Command::new("true").status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn status(&mut self) -> Promise<ExitStatus> {
        self.promise([Unset::Inherit; 3], |output| Ok(output.status))
    }

    /// Status, stdout, stderr and every other captured descriptor; stdin is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps the child, see [`Promise`].
    ///
    /// # Errors
    /// As of [`run`](Self::run), but never [`Error::Failed`]: see [`Output::check`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let output = reaped::Command::new("sh").args(["-c", "echo hi; exit 3"]).output().await?;
    /// assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"hi\n"[..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "getProcessOutputAndValue")]
    pub fn output(&mut self) -> Promise<Output> {
        self.promise([Unset::Null, Unset::Capture, Unset::Capture], Ok)
    }

    fn promise<T>(&self, defaults: [Unset; 3], conclude: fn(Output) -> Result<T, Error>) -> Promise<T> {
        let command = self.text();
        match self.start(defaults) {
            Ok(transport) => Promise::new(Call::new(transport, command, self.fail_on_stderr), conclude),
            Err(refusal) => Promise::refused(refusal.into_error(command)),
        }
    }

    fn start(&self, defaults: [Unset; 3]) -> Result<Transport, Refusal> {
        if let Some(n) = self.set_twice {
            let text = format!("descriptor {n} was set both by name and by fd({n}, …)");
            return Err(Refusal::invalid(InvalidReason::Conflict, text));
        }
        let mut wiring = Wiring::default();
        for (n, default) in (0..).zip(defaults) {
            if !self.stdio.contains_key(&n) {
                wiring.ends.push((
                    n,
                    match default {
                        Unset::Capture => End::Output,
                        // Without a look at stderr, nothing would be known of it.
                        _ if n == 2 && self.fail_on_stderr => End::Output,
                        Unset::Inherit => End::Inherit,
                        Unset::Null => End::Null,
                    },
                ));
            }
        }
        for (n, setting) in &self.stdio {
            wiring.add(*n, &setting.stdio.0)?;
        }
        wiring.ends.sort_unstable_by_key(|(n, _)| *n);
        let stderr = wiring.ends.iter().find(|(n, _)| *n == 2);
        if self.fail_on_stderr && !matches!(stderr, Some((_, End::Output))) {
            let text = "fail_on_stderr needs a stderr that is captured";
            return Err(Refusal::invalid(InvalidReason::Conflict, text));
        }
        let launch = Launch {
            program: &self.program,
            arg0: self.arg0.as_deref(),
            args: &self.args,
            env: self.environment()?,
            path: self.path(),
            cwd: self.cwd.as_deref(),
            ends: wiring.ends,
            inherit_fds: self.inherit_fds,
            #[cfg(unix)]
            identity: &self.identity,
            kill_on_drop: self.kill_on_drop,
        };
        Transport::start(&launch, wiring.sources)
    }

    /// The child's whole environment.
    fn environment(&self) -> Result<Vec<(OsString, OsString)>, Refusal> {
        if let Some(name) = self.env.keys().find(|name| {
            // Windows has variables such as `=C:`.
            let start = usize::from(cfg!(windows));
            name.is_empty() || name.as_encoded_bytes().iter().skip(start).any(|byte| *byte == b'=')
        }) {
            let text = format!("{name:?} cannot name an environment variable");
            return Err(Refusal::invalid(InvalidReason::EnvironmentName, text));
        }
        let inherited = (!self.env_clear).then(std::env::vars_os).into_iter().flatten();
        let kept = inherited.filter(|(name, _)| !self.env.contains_key(name));
        let set = self.env.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        Ok(kept.chain(set).collect())
    }

    fn path(&self) -> Option<OsString> {
        match self.env.get(OsStr::new("PATH")) {
            Some(Some(path)) => Some(path.clone()),
            _ => std::env::var_os("PATH"),
        }
    }

    /// The command as a person may see it.
    fn text(&self) -> String {
        let args = if self.hide_args { &[] } else { &self.args[..] };
        quote(&self.program, args.iter().map(OsString::as_os_str))
    }
}

/// The settings of one run, in the engine's words.
#[derive(Default)]
struct Wiring<'a> {
    ends: Vec<(i32, End<'a>)>,
    sources: Vec<(i32, Source)>,
}

impl<'a> Wiring<'a> {
    fn add(&mut self, n: i32, kind: &'a Kind) -> Result<(), Refusal> {
        if n < 0 {
            let text = format!("{n} cannot be the number of a descriptor");
            return Err(Refusal::invalid(InvalidReason::Descriptor, text));
        }
        let end = match kind {
            Kind::Inherit => End::Inherit,
            Kind::Null => End::Null,
            Kind::Closed => End::Closed,
            Kind::Output => End::Output,
            Kind::Piped if n == 0 => self.fed(n, Source::Bytes(Feed::Plain(Arc::default()))),
            Kind::Piped => End::Output,
            Kind::Open(file) => End::Open(file),
            Kind::Broken(error) => return Err(Refusal::os(copy(error))),
            Kind::Bytes(feed) => self.fed(n, Source::Bytes(feed.clone())),
            Kind::Reader(slot) => {
                if slot.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    let text = format!("the reader for descriptor {n} was used up by an earlier run");
                    return Err(Refusal::invalid(InvalidReason::ReaderUsed, text));
                }
                self.fed(n, Source::Reader(slot.clone()))
            }
            Kind::SameAs(other) => End::SameAs(*other),
        };
        self.ends.push((n, end));
        Ok(())
    }

    fn fed(&mut self, n: i32, source: Source) -> End<'a> {
        self.sources.push((n, source));
        End::Input
    }
}

/// An error cannot be cloned, but its number can.
fn copy(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::from(error.kind()),
    }
}

/// Program, arguments, environment variables and working directory.
///
/// std does not let the rest be read back: what was set on stdin, stdout and stderr, `env_clear`, and
/// what `CommandExt` sets (`arg0`, `uid`, `pre_exec`, …) must be set again.
///
/// ```
/// # futures::executor::block_on(async {
/// let mut echo = std::process::Command::new("echo");
/// echo.arg("hi");
/// assert_eq!(reaped::Command::from(echo).read().await?, "hi");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Self {
        let mut command = Command::new(std.get_program());
        command.args(std.get_args());
        for (name, value) in std.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.cwd = std.get_current_dir().map(Path::to_owned);
        command
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
            debug.field("env", &self.env.keys());
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

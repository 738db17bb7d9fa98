//! The part of the builder that says what runs: the program, its arguments, its environment and its descriptors.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{Command, Setting, Variable};
#[cfg(unix)]
use crate::spawn::Attributes;
use crate::stdio::Stdio;
use crate::transport::Bounds;

impl Command {
    /// A command without arguments, with the parent's environment and working directory.
    ///
    /// A `program` with a slash is a path. If it is relative, it starts at [`current_dir`](Self::current_dir). A
    /// `program` without a slash is searched in the child's `PATH` if you set one here, or else in the parent's.
    ///
    /// If the parent's environment has a name twice, the child gets it once: the first one, as getenv(3) finds it.
    ///
    /// # Platform
    /// On Windows a name is searched as std does it, with `.exe` added if it is missing:
    ///
    /// 1. the child's `PATH`, if you set one here;
    /// 2. the folder of the parent's program;
    /// 3. the system's folders;
    /// 4. the parent's `PATH`.
    ///
    /// If nothing is found, the same folders are searched once more with the extensions of `PATHEXT`, as at the
    /// prompt: `npm` finds `npm.cmd`. The child's `PATHEXT` counts if you set one, or else the parent's. Only `.com`,
    /// `.exe`, `.bat` and `.cmd` can start. The system's `cmd` runs a batch file; see [`arg`](Self::arg).
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

    /// Adds one argument. No shell is involved: the child gets it unchanged.
    ///
    /// # Platform
    /// Windows has one command line. std quotes each argument in the way that nearly all programs expect. `cmd`
    /// expects another way, so never put foreign text after `cmd /c`. See also `raw_arg`.
    ///
    /// For a batch file (`.bat`, `.cmd`) std quotes for `cmd`, so no argument becomes a command or a variable's
    /// value. The file may still use its `%1` unsafely. A line end cannot be quoted there, and returns
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

    /// Adds several arguments of one type. Repeat [`arg`](Self::arg) for several types.
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
    /// On Windows names that differ only in case, such as `Path` and `PATH`, are one variable. The first name is
    /// kept, as in std.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut sh = reaped::Command::new("sh");
    /// assert_eq!(sh.args(["-c", "echo $GREETING"]).env("GREETING", "hi").read().await?, "hi");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.set_variable(name.as_ref(), Some(value.as_ref().to_owned()))
    }

    /// Sets several environment variables of the child.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut sh = reaped::Command::new("sh");
    /// assert_eq!(
    ///     sh.args(["-c", "echo $A$B"]).envs([("A", "1"), ("B", "2")]).read().await?,
    ///     "12"
    /// );
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

    /// Removes one environment variable that was set here before or would be inherited.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let mut sh = reaped::Command::new("sh");
    /// assert_eq!(
    ///     sh.args(["-c", "echo ${HOME-unset}"]).env_remove("HOME").read().await?,
    ///     "unset"
    /// );
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.set_variable(name.as_ref(), None)
    }

    /// Removes every environment variable that was set here before or would be inherited.
    ///
    /// A program without a slash is still searched in the parent's `PATH`.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// assert_eq!(
    ///     reaped::Command::new("env").env_clear().env("ONLY", "1").read().await?,
    ///     "ONLY=1"
    /// );
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
    /// The child enters it before the program is searched, so a relative program starts there.
    #[cfg_attr(unix, doc = "[`uid`](Self::uid) takes effect after that.")]
    ///
    /// # Errors
    /// If the child cannot enter it, the run returns
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

    /// What the child's descriptor 0 is connected to, instead of the verb's default.
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

    /// What the child's descriptor 1 is connected to, instead of the verb's default.
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

    /// What the child's descriptor 2 is connected to, instead of the verb's default.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut sh = Command::new("sh");
    /// sh.args(["-c", "echo out; echo err >&2"]).stderr(Stdio::same_as(1));
    /// assert_eq!(sh.read().await?, "out\nerr");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.set(2, stdio.into(), true)
    }

    /// What the child's descriptor `n` is connected to; Twisted's `childFDs`.
    ///
    /// The last setting of a number counts. But if you set 0, 1 or 2 both by name ([`stdin`](Self::stdin), …) and
    /// here, the run returns [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
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
    /// If `n` is negative, or above the limit of open files (`RLIMIT_NOFILE`, getrlimit(2)), the run returns
    /// [`InvalidReason::Descriptor`](crate::InvalidReason::Descriptor).
    ///
    /// # Platform
    /// Unix.
    #[cfg(unix)]
    pub fn fd(&mut self, n: i32, stdio: impl Into<Stdio>) -> &mut Self {
        self.set(n, stdio.into(), false)
    }

    pub(super) fn set(&mut self, n: i32, stdio: Stdio, by_name: bool) -> &mut Self {
        if self.stdio.insert(n, Setting { stdio, by_name }).is_some_and(|before| before.by_name != by_name) {
            self.set_twice = Some(n);
        }
        self
    }

    /// Whether the child also inherits every descriptor of the parent that has no close-on-exec flag, as in std;
    /// `false` by default.
    ///
    /// Rust opens files with close-on-exec. So this passes on what C libraries and the parent's own parent left open.
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

    /// Whether errors and `Debug` show only the program's name; `false` by default.
    ///
    /// This does not protect a secret: every user of the machine can read arguments (`ps`). Use [`Stdio::secret`].
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let error =
    ///     reaped::Command::new("false").arg("token").hide_args(true).run().await.unwrap_err();
    /// assert_eq!(error.to_string(), "`false` exited with code 1");
    /// # });
    /// ```
    pub fn hide_args(&mut self, hide: bool) -> &mut Self {
        self.hide_args = hide;
        self
    }
}

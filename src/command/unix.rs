//! The part of the builder that only Unix has.

use std::ffi::OsStr;

use super::Command;
use crate::limit::Resource;
use crate::stdio::PtySize;

/// Only on Unix.
impl Command {
    /// The name that the program gets as `argv[0]`, instead of the program's own.
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

    /// The user that the child runs as. Set [`gid`](Self::gid) too, or the child keeps the parent's group.
    ///
    /// The child takes these steps in order:
    ///
    /// 1. It enters the working directory, with the parent's rights.
    /// 2. It sets the supplementary [`groups`](Self::groups), or drops them if you set none.
    /// 3. It sets the group, then the user.
    ///
    /// With [`pty`](Self::pty) the terminal belongs to that user.
    ///
    /// # Errors
    /// If a step fails, nothing runs, and the error is [`SpawnReason::User`](crate::SpawnReason::User) with the
    /// system's message.
    ///
    /// So it is if the groups cannot be dropped. There are two exceptions: the parent has no groups, or user and
    /// group are the parent's already. In the second case the child keeps the parent's groups, so `uid(0)` works for
    /// root in a user namespace that forbids setgroups(2).
    ///
    /// # Platform
    /// Unix. The child is started through a copy of the parent's memory, because another user must not share it. So
    /// the cost grows with the parent's memory.
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

    /// The supplementary groups of the child. Only root may set them; see [`uid`](Self::uid).
    ///
    /// # Platform
    /// Unix. macOS takes no more than 15.
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

    /// Gives the child a terminal of its own as descriptors 0, 1 and 2, for programs that need one.
    ///
    /// The child leads a new session, and this is its controlling terminal (pty(7)). Its output comes as descriptor
    /// 1, with `\r\n` as line end. Write to it through [`writer`](crate::Process::writer)`(0)`; there `\x03` is
    /// Ctrl-C.
    ///
    /// The end of the terminal is the end of file, and comes as one event, `Closed { fd: 1 }`. A child may close its
    /// terminal and open `/dev/tty` later, as ssh and sudo do; that is not the end.
    ///
    /// If you close or drop the writer, Ctrl-D is typed as soon as there is room (VEOF, termios(3)); within a line it
    /// is typed twice. The first read gets end of file, and later reads block. A program in raw mode reads the
    /// character `\x04`.
    ///
    /// Except with [`spawn`](Self::spawn), one Ctrl-D is typed at the start: the first read gets end of file, later
    /// reads block.
    ///
    /// If you drop the process, the terminal hangs up (SIGHUP). After [`detach`](crate::Promise::detach) or
    /// [`kill_on_drop(false)`](Self::kill_on_drop) the child keeps the terminal, but nobody reads it. A child that
    /// writes more than the terminal holds (some 4 KiB) then blocks until something ends it.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::{Command, PtySize};
    /// let size = Command::new("stty")
    ///     .arg("size")
    ///     .pty(PtySize { rows: 50, columns: 132 })
    ///     .read()
    ///     .await?;
    /// assert_eq!(size, "50 132");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If you also set stdin, stdout or stderr, the run returns
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
    ///
    /// If the system has no terminals (no `/dev/ptmx`), or does not let this program give one to the
    /// [`uid`](Self::uid), it returns [`SpawnReason::Terminal`](crate::SpawnReason::Terminal).
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

    /// Kills the child (SIGKILL) once this program is gone, however it ended: by `std::process::exit`, abort(3), a
    /// crash, or any signal, even SIGKILL. With [`new_group`](Self::new_group) its whole group is killed.
    ///
    /// Dropping the promise still kills the child at once. A child that keeps running after
    /// [`detach`](crate::Promise::detach) or [`kill_on_drop(false)`](Self::kill_on_drop) is killed when this program
    /// ends.
    ///
    /// A guardian process does this: a shell (`/bin/sh`) that waits for the end of a pipe which only this program
    /// holds. The first such call starts one for the whole program, and it stays as long as the program runs. If
    /// somebody kills the guardian, the next such call starts another one. Until then nothing is guaranteed.
    ///
    /// The guardian is an orphan in a session of its own, so a `wait` for any child does not find it. It does find it
    /// if orphans become children of this program (`PR_SET_CHILD_SUBREAPER`, or the first process of a container).
    ///
    /// If this program executes another one (execve(2)), that counts as its end. If it forks without executing, the
    /// copy also holds the pipe, and the guardian waits for the copy's end too.
    ///
    /// # Errors
    /// The child is not started if the guardian cannot start or does not answer, or if this program starts its
    /// children in a new pid namespace (unshare(2)). The error is [`SpawnReason::Other`](crate::SpawnReason::Other),
    /// or names what the system lacks.
    ///
    /// # Platform
    /// Unix. If the child runs as another [`uid`](Self::uid), it is killed only if this program's user may kill it.
    /// With the first engine (Linux) the group is guarded until the promise has ended, with the second until the
    /// child has exited.
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

    /// Makes the child the leader of a new session, setsid(2). It has no controlling terminal, so neither Ctrl-C nor
    /// the end of the parent's terminal reaches it.
    ///
    /// The child also leads a process group. Signals still go to the child alone, unless you set
    /// [`new_group`](Self::new_group) too. A child with a [`pty`](Self::pty) always leads a session.
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

    /// Limits how much of a resource the child and its descendants may use, setrlimit(2).
    ///
    /// The soft limit counts, and a process may raise it up to the hard one. `u64::MAX` is no limit. The last call
    /// for a resource counts.
    ///
    /// # Errors
    /// If the system refuses the limit, for example a hard limit above the parent's own, nothing runs, and the error
    /// is [`SpawnReason::Limits`](crate::SpawnReason::Limits).
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

    /// Adds to the child's nice value, nice(2); a higher value means less processor time. A value beyond the system's
    /// range (-20 to 19 on Linux) becomes the nearest one.
    ///
    /// # Errors
    /// If the system refuses a lower value, nothing runs, and the error is
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

    /// Forbids the child to gain privileges: set-user-ID bits, set-group-ID bits and file capabilities have no effect
    /// (prctl(2), `PR_SET_NO_NEW_PRIVS`).
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

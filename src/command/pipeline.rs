//! Noun: commands whose pipes lead from one to the next, with the verbs of one.
//!
//! Rule: the pipes between members are the kernel's alone. Their ends are closed here as soon as the member that
//! gets them has started, so that the end of one member is the end of file of the next.

use std::borrow::Borrow;
use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use super::Command;
use super::start::{Unset, nothing_to_hear};
use super::verbs::{EXIT_CODE, OUTPUT, READ, READ_BYTES, RUN, STATUS, Verb};
use crate::error::{Error, InvalidReason, Refusal, join};
use crate::output::Output;
use crate::promise::{Call, Members, Promise};
use crate::signal::Signal;
use crate::spawn::joint;
use crate::stdio::{Kind, OpenFile, Stdio};
use crate::transport::{Activity, Transport};

/// Several commands, each of which reads what the one before writes, as [`Command::pipe`] makes it.
///
/// It has the verbs of a single command, and they mean the same: what was said of the child's stdin is so of the
/// first member's, of its stdout of the last one's, and of its stderr of every member's. Between the members are
/// pipes of the kernel; their bytes never pass through this program.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::Command;
/// let mut most = Command::new("seq").arg("1000").pipe(Command::new("sort").arg("-r")).pipe(Command::new("head").arg("-1"));
/// assert_eq!(most.read().await?, "999");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// # Who has failed
/// A pipeline has failed when any of its members has, and its status is that of the first one in order; a shell
/// calls that `pipefail`, and would take the last one. [`pipefail`](Self::pipefail) turns it off. The error says which
/// member it was, and [`Output::members`] tells of each.
///
/// A member that SIGPIPE killed has not failed, unless it is the last one: that is how a program ends when those
/// after it have read enough, as in `yes | head -1`. The signal alone is what counts. A program that handles it,
/// and exits with a code instead, has failed; so has a shell that exits with 141 since a program of its own was
/// killed so.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::Command;
/// assert_eq!(Command::new("yes").pipe(Command::new("head").arg("-1")).read().await?, "y");
/// let error = Command::new("false").pipe(Command::new("cat")).run().await.unwrap_err();
/// assert_eq!(error.to_string(), "`false | cat`: `false` exited with code 1");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// # Bounds
/// What is set here bounds the whole: the first member that something goes wrong with takes the others
/// with it, and what all of them had written is kept. A bound that is set on a member's own command holds for that
/// member, and takes the others with it just the same.
///
/// If a bound is set on a member and on the pipeline, the shorter `timeout` and `drain_timeout` count, and the member's
/// own `limit` and `capture_ends`. `grace`, `stop_signal`, `kill_on_drop`, `terminate_on_drop` and `die_with_parent` of
/// the pipeline replace the members' own.
///
/// What a pipeline has no setting for, such as `ok_codes`, `limit_fd`, `env` and `current_dir`, is set on the members.
///
/// # Cancellation
/// Dropping the promise kills and reaps every member, unless [`terminate_on_drop`](Self::terminate_on_drop) or
/// [`kill_on_drop`](Self::kill_on_drop) says otherwise. Dropping the pipeline touches nothing that runs.
///
/// # Platform
/// On Windows nothing is killed by SIGPIPE: what a program does when nobody reads its output is up to it.
///
/// There is no `spawn`: one stream of events would not say whose they are. Feed the first member and look at the
/// last one with [`Stdio::reader`] and [`Stdio::tee`].
#[derive(Clone)]
pub struct Pipeline {
    /// Two at least.
    members: Vec<Command>,
    whole: Whole,
    pipefail: bool,
}

/// What was set for all members, in addition to what each has.
#[derive(Clone, Default)]
struct Whole {
    timeout: Option<Duration>,
    idle: Option<Duration>,
    drain: Option<Duration>,
    grace: Option<Duration>,
    limit: Option<u64>,
    new_group: bool,
    #[cfg(unix)]
    die_with_parent: Option<bool>,
    fail_on_stderr: bool,
    kill_on_drop: Option<bool>,
    terminate_on_drop: Option<bool>,
    stop_signal: Option<Signal>,
    ends: Option<(usize, usize)>,
}

impl Whole {
    fn bound(&self, member: &mut Command) {
        let bounds = member.bounds_mut();
        // The first one that is met decides.
        bounds.timeout = [bounds.timeout, self.timeout].into_iter().flatten().min();
        bounds.drain = [bounds.drain, self.drain].into_iter().flatten().min();
        bounds.grace = self.grace.unwrap_or(bounds.grace);
        bounds.stop_signal = self.stop_signal.unwrap_or(bounds.stop_signal);
        bounds.ends = bounds.ends.or(self.ends);
        // A limit of the member's own is said later, and so counts.
        bounds.limits.splice(0..0, self.limit.map(|most| (None, most)));
        member.fail_on_stderr |= self.fail_on_stderr;
        member.kill_on_drop = self.kill_on_drop.unwrap_or(member.kill_on_drop);
        member.terminate_on_drop = self.terminate_on_drop.unwrap_or(member.terminate_on_drop);
        member.new_group |= self.new_group;
        #[cfg(unix)]
        {
            member.die_with_parent = self.die_with_parent.unwrap_or(member.die_with_parent);
        }
    }
}

impl Command {
    /// A [`Pipeline`] in which `next` reads what this command writes to stdout.
    ///
    /// It keeps copies of both: what is set on them later does not change it. Stderr goes along with
    /// `stderr(Stdio::same_as(1))`.
    ///
    /// # Errors
    /// If stdout was set here, or stdin on `next`, running it is
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict). If a member cannot start, those before it are
    /// killed, and their [`Stdio::reader`](crate::Stdio::reader), [`tee`](crate::Stdio::tee) and
    /// [`writer`](crate::Stdio::writer) are used up.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut words = Command::new("tr");
    /// words.args([" ", "\n"]).stdin(Stdio::bytes("b a c a"));
    /// assert_eq!(words.pipe(Command::new("sort").arg("-u")).read().await?, "a\nb\nc");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn pipe(&self, next: impl Borrow<Command>) -> Pipeline {
        let members = vec![self.clone(), next.borrow().clone()];
        Pipeline { members, whole: Whole::default(), pipefail: true }
    }

    /// Connects a descriptor to another member.
    fn connect(&mut self, n: i32, end: OpenFile) {
        self.set(n, Stdio(Kind::Open(Arc::new(end))), true);
    }
}

/// A pipeline of all of these, each of which reads what the one before writes.
///
/// It takes commands, not references: write `.clone()` after a chain of settings. If there is no command, running it is
/// [`InvalidReason::EmptyProgram`](crate::InvalidReason::EmptyProgram). A pipeline of one runs it alone, with the messages
/// of a pipeline.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::{Command, Pipeline};
/// let members = [Command::new("yes"), reaped::sh("head -n 3"), Command::new("wc").arg("-l").clone()];
/// let mut lines: Pipeline = members.into_iter().collect();
/// assert_eq!(lines.read().await?.trim(), "3");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
impl FromIterator<Command> for Pipeline {
    fn from_iter<I: IntoIterator<Item = Command>>(members: I) -> Self {
        Pipeline { members: members.into_iter().collect(), whole: Whole::default(), pipefail: true }
    }
}

impl Pipeline {
    /// A pipeline of one more member, which reads what the last one writes; see [`Command::pipe`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let numbers = Command::new("seq").arg("9").pipe(Command::new("grep").arg("[1-5]"));
    /// assert_eq!(numbers.pipe(Command::new("wc").arg("-l")).read().await?.trim(), "5");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn pipe(&self, next: impl Borrow<Command>) -> Pipeline {
        let mut longer = self.clone();
        longer.members.push(next.borrow().clone());
        longer
    }

    /// Whether the failure of any member is a failure of the whole; `true` by default. With `false` only the status of
    /// the last one counts.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let mut any = Command::new("false").pipe(Command::new("true"));
    /// assert_eq!(any.exit_code().await?, 1);
    /// assert_eq!(any.pipefail(false).exit_code().await?, 0);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn pipefail(&mut self, pipefail: bool) -> &mut Self {
        self.pipefail = pipefail;
        self
    }

    /// The most time from the start to the end of all members; without bound by default. See [`Command::timeout`].
    ///
    /// # Errors
    /// The call is [`Error::TimedOut`], and names the first member in order that had not ended.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use reaped::Command;
    /// let mut slow = Command::new("sh").args(["-c", "echo half; exec sleep 100"]).pipe(Command::new("cat"));
    /// let error = slow.timeout(Duration::from_secs(1)).read().await.unwrap_err();
    /// assert!(matches!(error, reaped::Error::TimedOut(_)));
    /// assert_eq!(error.output().unwrap().stdout, b"half\n");
    /// # });
    /// ```
    pub fn timeout(&mut self, most: Duration) -> &mut Self {
        self.whole.timeout = Some(most);
        self
    }

    /// The most time without a byte on any pipe between this program and any member; without bound by default. See
    /// [`Command::idle_timeout`].
    ///
    /// What the members say to each other is not heard.
    ///
    /// # Errors
    /// The call is [`Error::TimedOut`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use reaped::Command;
    /// let mut stuck = Command::new("sh").args(["-c", "echo a; exec sleep 100"]).pipe(Command::new("cat"));
    /// let error = stuck.idle_timeout(Duration::from_secs(1)).read().await.unwrap_err();
    /// assert_eq!(error.output().unwrap().stdout, b"a\n");
    /// # });
    /// ```
    pub fn idle_timeout(&mut self, most: Duration) -> &mut Self {
        self.whole.idle = Some(most);
        self
    }

    /// The time between the polite signal and SIGKILL, for every member in place of its own; see [`Command::grace`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use reaped::Command;
    /// let mut deaf = Command::new("true").pipe(Command::new("sh").args(["-c", "trap '' TERM; while :; do sleep 0.01; done"]));
    /// let error = deaf.timeout(Duration::from_secs(1)).grace(Duration::ZERO).run().await.unwrap_err();
    /// assert!(error.to_string().ends_with("was killed by SIGKILL (signal 9)"));
    /// # });
    /// ```
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.whole.grace = Some(grace);
        self
    }

    /// How long after the exit of a member to wait for pipes of its own that its descendants hold; see
    /// [`Command::drain_timeout`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use reaped::Command;
    /// let mut daemon = Command::new("sh").args(["-c", "sleep 5 >&2 & echo started"]).pipe(Command::new("cat"));
    /// let output = daemon.drain_timeout(Duration::from_millis(50)).output().await?;
    /// assert_eq!((&output.stdout[..], output.members()[0].still_open()), (&b"started\n"[..], &[2][..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn drain_timeout(&mut self, most: Duration) -> &mut Self {
        self.whole.drain = Some(most);
        self
    }

    /// The most bytes that any member may write to any one descriptor that this program reads; without bound by default.
    /// See [`Command::limit`].
    ///
    /// # Errors
    /// One byte more kills every member, and the call is [`Error::OutputLimit`], with the first `bytes` kept.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let error = Command::new("yes").pipe(Command::new("cat")).limit(1000).read().await.unwrap_err();
    /// assert_eq!(error.output().unwrap().stdout.len(), 1000);
    /// # });
    /// ```
    pub fn limit(&mut self, bytes: u64) -> &mut Self {
        self.whole.limit = Some(bytes);
        self
    }

    /// Gives each member a process group of its own, and sends to the whole group what would be sent to the
    /// member; see [`Command::new_group`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use reaped::Command;
    /// let mut scripts = Command::new("sh").args(["-c", "sleep 100; true"]).pipe(Command::new("cat"));
    /// assert!(scripts.new_group().timeout(Duration::from_millis(50)).run().await.is_err()); // and no `sleep` is left
    /// # });
    /// ```
    pub fn new_group(&mut self) -> &mut Self {
        self.whole.new_group = true;
        self
    }

    /// Whether dropping the promise asks each member to end, with a grace, in place of its own setting; see
    /// [`Command::terminate_on_drop`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let mut busy = Command::new("yes").pipe(Command::new("wc"));
    /// drop(busy.terminate_on_drop(true).read());
    /// # });
    /// ```
    pub fn terminate_on_drop(&mut self, terminate: bool) -> &mut Self {
        self.whole.terminate_on_drop = Some(terminate);
        self
    }

    /// Keeps the first bytes and the last of what is captured, of each member that has not said otherwise; see
    /// [`Command::capture_ends`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let mut numbers = Command::new("seq").arg("9999").pipe(Command::new("cat"));
    /// assert_eq!(numbers.capture_ends(4, 5).read_bytes().await?, b"1\n2\n9999\n");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn capture_ends(&mut self, first: usize, last: usize) -> &mut Self {
        self.whole.ends = Some((first, last));
        self
    }

    /// The polite signal of each member, in place of its own; see [`Command::stop_signal`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use std::time::Duration;
    /// use reaped::{Command, Signal};
    /// let mut busy = Command::new("sleep").arg("100").pipe(Command::new("cat"));
    /// let error = busy.stop_signal(Signal::INT).timeout(Duration::from_millis(50)).run().await.unwrap_err();
    /// assert!(error.to_string().ends_with("SIGINT (signal 2)"));
    /// # });
    /// ```
    pub fn stop_signal(&mut self, signal: Signal) -> &mut Self {
        self.whole.stop_signal = Some(signal);
        self
    }

    /// Whether each member is killed once this program is gone, however it goes, in place of its own setting; see
    /// [`Command::die_with_parent`].
    ///
    /// # Platform
    /// Unix.
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// use reaped::Command;
    /// let mut lines = Command::new("echo").arg("one").pipe(Command::new("wc").arg("-l").clone());
    /// assert_eq!(lines.die_with_parent(true).read().await?.trim(), "1");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    #[cfg(unix)]
    pub fn die_with_parent(&mut self, die: bool) -> &mut Self {
        self.whole.die_with_parent = Some(die);
        self
    }

    /// Whether dropping the promise kills the members, in place of their own setting; `true` by default. See
    /// [`Command::kill_on_drop`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let promise = Command::new("echo").pipe(Command::new("wc").stdout(Stdio::null())).kill_on_drop(false).run();
    /// drop(promise); // both end by themselves
    /// # });
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.whole.kill_on_drop = Some(kill);
        self
    }

    /// Whether any byte that any member writes to stderr fails the call; `false` by default. See
    /// [`Command::fail_on_stderr`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Error};
    /// let mut loud = Command::new("sh").args(["-c", "echo hm >&2"]).pipe(Command::new("cat"));
    /// assert!(matches!(loud.fail_on_stderr(true).read().await, Err(Error::UnexpectedStderr(_))));
    /// # });
    /// ```
    pub fn fail_on_stderr(&mut self, fail: bool) -> &mut Self {
        self.whole.fail_on_stderr = fail;
        self
    }
}

/// The verbs. Each starts the members at once, the first one first, and returns one promise of the end of all.
///
/// If a member cannot be started, those before it are killed and reaped, and the error names it.
impl Pipeline {
    /// Runs to the end and expects success; stdin of the first member, stdout of the last one and every stderr
    /// are the parent's.
    ///
    /// # Cancellation
    /// As of every verb: dropping the promise kills and reaps every member, see [`Promise`].
    ///
    /// # Errors
    /// As of [`Command::run`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// Command::new("seq").arg("3").pipe(Command::new("grep").args(["-q", "2"])).run().await?;
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn run(&mut self) -> Promise<()> {
        self.promise(RUN)
    }

    /// What the last member wrote to stdout, as text without its last line end; stdin of the first one is the null
    /// device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member, see [`Promise`].
    ///
    /// # Errors
    /// As of [`Command::read`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// assert_eq!(Command::new("echo").arg("hi").pipe(Command::new("tr").args(["a-z", "A-Z"])).read().await?, "HI");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn read(&mut self) -> Promise<String> {
        self.promise(READ)
    }

    /// What the last member wrote to stdout, every byte; stdin of the first one is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member, see [`Promise`].
    ///
    /// # Errors
    /// As of [`Command::read_bytes`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// assert_eq!(Command::new("printf").arg(r"\0").pipe(Command::new("cat")).read_bytes().await?, b"\0");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn read_bytes(&mut self) -> Promise<Vec<u8>> {
        self.promise(READ_BYTES)
    }

    /// The exit code of the first member that failed, else of the last one; stdin of the first member, stdout of the
    /// last one and every stderr are the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member, see [`Promise`].
    ///
    /// # Errors
    /// As of [`Command::exit_code`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// assert_eq!(Command::new("echo").arg("hi").pipe(Command::new("grep").arg("ho")).exit_code().await?, 1);
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn exit_code(&mut self) -> Promise<i32> {
        self.promise(EXIT_CODE)
    }

    /// How the first member that failed has ended, else the last one; stdin of the first member, stdout of the last one
    /// and every stderr are the parent's.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member, see [`Promise`].
    ///
    /// # Errors
    /// As of [`Command::status`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// assert!(Command::new("true").pipe(Command::new("cat")).status().await?.success());
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn status(&mut self) -> Promise<ExitStatus> {
        self.promise(STATUS)
    }

    /// What all [members](Output::members) left, with the stdout of the last one, every stderr in their order, and the
    /// status that counts; stdin of the first member is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member, see [`Promise`].
    ///
    /// # Errors
    /// As of [`Command::output`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let output = Command::new("sh").args(["-c", "echo out; exit 3"]).pipe(Command::new("cat")).output().await?;
    /// assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"out\n"[..]));
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn output(&mut self) -> Promise<Output> {
        self.promise(OUTPUT)
    }

    fn promise<T>(&self, verb: Verb<T>) -> Promise<T> {
        match self.start(verb.unset, verb.collect) {
            Ok(members) => Promise::several(members, verb.conclude),
            Err(error) => Promise::refused(error),
        }
    }

    fn start(&self, defaults: [Unset; 3], collect: fn(&Call)) -> Result<Members, Error> {
        let blame = |member: &Command, refusal: Refusal| {
            refusal.into_error(member.text()).of_pipeline(self.text(), None)
        };
        if self.members.is_empty() {
            let refusal = Refusal::invalid(InvalidReason::EmptyProgram, "the pipeline has no member");
            return Err(refusal.into_error(String::new()));
        }
        for (place, member) in self.members.iter().enumerate() {
            self.refuse_taken(place, member).map_err(|refusal| blame(member, refusal))?;
            member.check_inherited().map_err(|refusal| blame(member, refusal))?;
        }
        if self.whole.idle.is_some() && !self.has_pipe(defaults) {
            return Err(nothing_to_hear().into_error(self.text()));
        }
        let mut running = Members::new(self.text(), self.pipefail);
        // Where all are watched for silence, each hears all.
        let silence = self.whole.idle.map(|most| (most, Activity::default()));
        let mut input = None;
        for (place, member) in self.members.iter().enumerate() {
            let mut bounded = member.clone();
            self.whole.bound(&mut bounded);
            bounded.bounds_mut().idle_of_whole = silence.clone();
            let is_last = place + 1 == self.members.len();
            match start_member(&mut bounded, &mut input, is_last, defaults) {
                Ok(transport) => {
                    let call = bounded.call(transport);
                    collect(&call);
                    running.add(call);
                }
                Err(refusal) => {
                    running.kill();
                    return Err(blame(member, refusal));
                }
            }
        }
        Ok(running)
    }

    /// Whether any member has a pipe to us.
    fn has_pipe(&self, defaults: [Unset; 3]) -> bool {
        let last = self.members.len() - 1;
        self.members.iter().enumerate().any(|(place, member)| {
            let [stdin, stdout, stderr] = defaults;
            let stdin = if place == 0 { stdin } else { Unset::Null };
            let stdout = if place == last { stdout } else { Unset::Null };
            member.has_pipe([stdin, stdout, if self.whole.fail_on_stderr { Unset::Capture } else { stderr }])
        })
    }

    /// A descriptor that leads to another member can lead nowhere else.
    fn refuse_taken(&self, place: usize, member: &Command) -> Result<(), Refusal> {
        let joints = [(0, place > 0), (1, place + 1 < self.members.len())];
        for (n, is_joint) in joints {
            if is_joint && member.stdio.contains_key(&n) {
                let text = format!("descriptor {n} was set, and in the pipeline it leads to another member");
                return Err(Refusal::invalid(InvalidReason::Conflict, text));
            }
        }
        Ok(())
    }

    /// The pipeline as a person may see it.
    fn text(&self) -> String {
        join(self.members.iter().map(Command::text))
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("members", &self.members).finish_non_exhaustive()
    }
}

/// Starts a member that reads `input`, and leaves there what the next one reads. Its ends of the pipes are closed here
/// when it has them.
fn start_member(
    member: &mut Command,
    input: &mut Option<OpenFile>,
    is_last: bool,
    defaults: [Unset; 3],
) -> Result<Transport, Refusal> {
    if let Some(reader) = input.take() {
        member.connect(0, reader);
    }
    if !is_last {
        let (reader, writer) = joint()?;
        *input = Some(reader);
        member.connect(1, writer);
    }
    member.start(defaults)
}

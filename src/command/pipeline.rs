//! Noun: commands whose pipes lead from one to the next, with the verbs of one.
//!
//! Rule: the pipes between members belong to the kernel. This module closes its ends as soon as a member that gets
//! them has started. So the exit of one member is the end of file of the next.

use std::borrow::Borrow;
use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use super::Command;
use super::start::{Unset, no_pipe_to_watch};
use super::verbs::{EXIT_CODE, OUTPUT, READ, READ_BYTES, RUN, STATUS, Verb};
use crate::error::{Error, InvalidReason, Refusal, join};
use crate::output::Output;
use crate::promise::{Call, Members, Promise};
use crate::signal::Signal;
use crate::spawn::pipe_between;
use crate::stdio::{Kind, OpenFile, Stdio};
use crate::transport::{Activity, Transport};

/// Several commands, each reading what the one before writes. [`Command::pipe`] makes it.
///
/// It has the verbs of a single command. stdin is the first member's, stdout the last member's, and stderr every
/// member's. The bytes between two members go through a kernel pipe, and never through this program.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::Command;
/// let last = Command::new("seq")
///     .arg("1000")
///     .pipe(reaped::sh("sort -r"))
///     .pipe(reaped::sh("head -n 1"))
///     .read()
///     .await?;
/// assert_eq!(last, "999");
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// # Which failure counts
/// A pipeline fails if any member fails, and the first failed member in order gives its status. (A shell's `pipefail`
/// takes the last.) [`pipefail`](Self::pipefail) turns this off. [`Error::member`] names the member, and
/// [`Output::members`] has the result of each.
///
/// If SIGPIPE kills a member other than the last, that is no failure: the members after it have read enough, as in
/// `yes | head -1`. Only the signal itself is excused. A program that handles it and exits with a code has failed; a
/// shell that reports it by the code 141 has too.
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::Command;
/// let y = Command::new("yes")
///     .pipe(reaped::sh("head -n 1"))
///     .read()
///     .await?;
/// assert_eq!(y, "y");
/// let error = Command::new("false")
///     .pipe(Command::new("cat"))
///     .run()
///     .await
///     .unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`false | cat`: `false` \
///      exited with code 1"
/// );
/// # Ok::<(), reaped::Error>(()) }).unwrap();
/// ```
///
/// # Bounds
/// A bound of the pipeline counts for all members together. A bound of a member's own command counts for that member.
/// In both cases the first member that fails ends the others too, and all output up to then is kept.
///
/// If you set a bound on a member and on the pipeline:
///
/// | setting | what counts |
/// | --- | --- |
/// | `timeout`, `drain_timeout` | the shorter one |
/// | `limit`, `capture_ends` | the member's |
/// | `grace`, `stop_signal`, `kill_on_drop`, `terminate_on_drop`, `die_with_parent` | the pipeline's |
///
/// Set everything else, such as `ok_codes`, `limit_fd`, `env` and `current_dir`, on the members.
///
/// # Cancellation
/// Dropping the promise kills and reaps every member, unless [`terminate_on_drop`](Self::terminate_on_drop) or
/// [`kill_on_drop`](Self::kill_on_drop) says otherwise. Dropping the pipeline does not affect running members.
///
/// # Platform
/// Windows has no SIGPIPE: each program decides what to do if nobody reads its output.
///
/// There is no `spawn`, because one stream of events cannot say which member an event is from. Write to the first
/// member with [`Stdio::reader`], and read from the last one with [`Stdio::tee`].
#[derive(Clone)]
pub struct Pipeline {
    /// At least two.
    members: Vec<Command>,
    whole: Whole,
    pipefail: bool,
}

/// The pipeline's settings, in addition to each member's.
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
        // The shorter one counts.
        bounds.timeout = [bounds.timeout, self.timeout].into_iter().flatten().min();
        bounds.drain = [bounds.drain, self.drain].into_iter().flatten().min();
        bounds.grace = self.grace.unwrap_or(bounds.grace);
        bounds.stop_signal = self.stop_signal.unwrap_or(bounds.stop_signal);
        bounds.ends = bounds.ends.or(self.ends);
        // A member's own limit comes later in the list, and so counts.
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
    /// A [`Pipeline`] in which `next` reads the stdout of this command.
    ///
    /// It copies both commands, so later settings on them do not change it. To send stderr along, set
    /// `stderr(Stdio::same_as(1))`.
    ///
    /// # Errors
    /// If you set stdout of this command or stdin of `next`, the run returns
    /// [`InvalidReason::Conflict`](crate::InvalidReason::Conflict).
    ///
    /// If a member cannot start, the earlier ones are killed. Their [`Stdio::reader`](crate::Stdio::reader),
    /// [`tee`](crate::Stdio::tee) and [`writer`](crate::Stdio::writer) cannot be used again.
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

/// A pipeline of all these commands, each reading what the one before writes.
///
/// It takes commands, not references: write `.clone()` after a chain of settings. A pipeline of one runs that command
/// alone, with a pipeline's messages. Without any command, the run returns
/// [`InvalidReason::EmptyProgram`](crate::InvalidReason::EmptyProgram).
///
/// ```
/// # #[cfg(unix)] futures::executor::block_on(async {
/// use reaped::{Command, Pipeline};
/// let members =
///     [Command::new("yes"), reaped::sh("head -n 3"), Command::new("wc").arg("-l").clone()];
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
    /// A pipeline with one more member, which reads what the last one writes; see [`Command::pipe`].
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

    /// Whether the pipeline fails if any member fails; `true` by default. With `false` only the last member's status
    /// counts.
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
    /// [`Error::TimedOut`]. It names the first member in order that has not ended.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// use std::time::Duration;
    /// let mut slow =
    ///     Command::new("sh").args(["-c", "echo half; exec sleep 100"]).pipe(Command::new("cat"));
    /// let error = slow.timeout(Duration::from_secs(1)).read().await.unwrap_err();
    /// assert!(matches!(error, reaped::Error::TimedOut(_)));
    /// assert_eq!(error.output().unwrap().stdout, b"half\n");
    /// # });
    /// ```
    pub fn timeout(&mut self, most: Duration) -> &mut Self {
        self.whole.timeout = Some(most);
        self
    }

    /// The most time without a byte on any pipe between this program and a member; without bound by default. See
    /// [`Command::idle_timeout`].
    ///
    /// Bytes that go from one member to another do not count.
    ///
    /// # Errors
    /// [`Error::TimedOut`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// use std::time::Duration;
    /// let mut stuck =
    ///     Command::new("sh").args(["-c", "echo a; exec sleep 100"]).pipe(Command::new("cat"));
    /// let error = stuck.idle_timeout(Duration::from_secs(1)).read().await.unwrap_err();
    /// assert_eq!(error.output().unwrap().stdout, b"a\n");
    /// # });
    /// ```
    pub fn idle_timeout(&mut self, most: Duration) -> &mut Self {
        self.whole.idle = Some(most);
        self
    }

    /// The time between the polite signal and SIGKILL, instead of each member's own; see [`Command::grace`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// use std::time::Duration;
    /// let script = "trap '' TERM; while :; do sleep 0.01; done";
    /// let mut deaf = Command::new("true").pipe(Command::new("sh").args(["-c", script]));
    /// let error =
    ///     deaf.timeout(Duration::from_secs(1)).grace(Duration::ZERO).run().await.unwrap_err();
    /// assert!(error.to_string().ends_with("was killed by SIGKILL (signal 9)"));
    /// # });
    /// ```
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.whole.grace = Some(grace);
        self
    }

    /// How long to wait, after the exit of a member, while its grandchildren hold its pipes; see
    /// [`Command::drain_timeout`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// use std::time::Duration;
    /// let mut daemon = Command::new("sh")
    ///     .args(["-c", "sleep 5 >&2 & echo started"])
    ///     .pipe(Command::new("cat"));
    /// let output = daemon.drain_timeout(Duration::from_millis(50)).output().await?;
    /// assert_eq!(
    ///     (&output.stdout[..], output.members()[0].still_open()),
    ///     (&b"started\n"[..], &[2][..])
    /// );
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn drain_timeout(&mut self, most: Duration) -> &mut Self {
        self.whole.drain = Some(most);
        self
    }

    /// The most bytes that a member may write to one descriptor that this program reads; without bound by default.
    /// See [`Command::limit`].
    ///
    /// # Errors
    /// One byte more kills every member, and the call returns [`Error::OutputLimit`] with the first `bytes`.
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let error =
    ///     Command::new("yes").pipe(Command::new("cat")).limit(1000).read().await.unwrap_err();
    /// assert_eq!(error.output().unwrap().stdout.len(), 1000);
    /// # });
    /// ```
    pub fn limit(&mut self, bytes: u64) -> &mut Self {
        self.whole.limit = Some(bytes);
        self
    }

    /// Gives each member a process group of its own. Each signal to the member goes to its whole group; see
    /// [`Command::new_group`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// use std::time::Duration;
    /// let mut scripts =
    ///     Command::new("sh").args(["-c", "sleep 100; true"]).pipe(Command::new("cat"));
    /// scripts.new_group().timeout(Duration::from_millis(50));
    /// assert!(scripts.run().await.is_err()); // and no `sleep` is left
    /// # });
    /// ```
    pub fn new_group(&mut self) -> &mut Self {
        self.whole.new_group = true;
        self
    }

    /// Whether dropping the promise asks each member to end, with a grace, instead of the member's own setting. See
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

    /// Keeps the first and the last captured bytes of each member that has no such setting itself; see
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

    /// The polite signal of each member, instead of its own; see [`Command::stop_signal`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Signal};
    /// use std::time::Duration;
    /// let mut busy = Command::new("sleep").arg("100").pipe(Command::new("cat"));
    /// let error = busy
    ///     .stop_signal(Signal::INT)
    ///     .timeout(Duration::from_millis(50))
    ///     .run()
    ///     .await
    ///     .unwrap_err();
    /// assert!(error.to_string().ends_with("SIGINT (signal 2)"));
    /// # });
    /// ```
    pub fn stop_signal(&mut self, signal: Signal) -> &mut Self {
        self.whole.stop_signal = Some(signal);
        self
    }

    /// Whether each member is killed once this program is gone, instead of the member's own setting. See
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

    /// Whether dropping the promise kills the members, instead of their own setting; `true` by default. See
    /// [`Command::kill_on_drop`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::{Command, Stdio};
    /// let mut count = Command::new("echo").pipe(Command::new("wc").stdout(Stdio::null()));
    /// let promise = count.kill_on_drop(false).run();
    /// drop(promise); // both end by themselves
    /// # });
    /// ```
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.whole.kill_on_drop = Some(kill);
        self
    }

    /// Whether the call fails if any member writes to stderr; `false` by default. See [`Command::fail_on_stderr`].
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

/// Verbs. Each starts the members at once, the first one first, and returns one promise for all.
///
/// If a member cannot start, the earlier ones are killed and reaped, and the error names it.
impl Pipeline {
    /// Runs to the end and expects success. The first member's stdin, the last one's stdout and every stderr are the
    /// parent's.
    ///
    /// # Cancellation
    /// As with every verb, dropping the promise kills and reaps every member; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`Command::run`].
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

    /// Returns the last member's stdout as text, without the last line end. The first member's stdin is the null
    /// device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`Command::read`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let mut shout =
    ///     Command::new("echo").arg("hi").pipe(Command::new("tr").args(["a-z", "A-Z"]));
    /// assert_eq!(shout.read().await?, "HI");
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn read(&mut self) -> Promise<String> {
        self.promise(READ)
    }

    /// Returns every byte of the last member's stdout. The first member's stdin is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`Command::read_bytes`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// assert_eq!(
    ///     Command::new("printf").arg(r"\0").pipe(Command::new("cat")).read_bytes().await?,
    ///     b"\0"
    /// );
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn read_bytes(&mut self) -> Promise<Vec<u8>> {
        self.promise(READ_BYTES)
    }

    /// Returns the exit code of the first member that failed, or else of the last one. The first member's stdin, the
    /// last one's stdout and every stderr are the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`Command::exit_code`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// assert_eq!(
    ///     Command::new("echo")
    ///         .arg("hi")
    ///         .pipe(Command::new("grep").arg("ho"))
    ///         .exit_code()
    ///         .await?,
    ///     1
    /// );
    /// # Ok::<(), reaped::Error>(()) }).unwrap();
    /// ```
    pub fn exit_code(&mut self) -> Promise<i32> {
        self.promise(EXIT_CODE)
    }

    /// Returns the status of the first member that failed, or else of the last one. The first member's stdin, the
    /// last one's stdout and every stderr are the parent's.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`Command::status`].
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

    /// Returns the last member's stdout, every stderr in order, the status that counts, and the output of each
    /// [member](Output::members). The first member's stdin is the null device.
    ///
    /// # Cancellation
    /// Dropping the promise kills and reaps every member; see [`Promise`].
    ///
    /// # Errors
    /// The errors of [`Command::output`].
    ///
    /// ```
    /// # #[cfg(unix)] futures::executor::block_on(async {
    /// use reaped::Command;
    /// let mut both =
    ///     Command::new("sh").args(["-c", "echo out; exit 3"]).pipe(Command::new("cat"));
    /// let output = both.output().await?;
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

    fn start(&self, defaults: [Unset; 3], collect: fn(&mut Call)) -> Result<Members, Error> {
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
            return Err(no_pipe_to_watch().into_error(self.text()));
        }
        let mut running = Members::new(self.text(), self.pipefail);
        // If the pipeline watches for silence, a byte of any member counts for all.
        let silence = self.whole.idle.map(|most| (most, Activity::default()));
        let mut input = None;
        for (place, member) in self.members.iter().enumerate() {
            let mut bounded = member.clone();
            self.whole.bound(&mut bounded);
            bounded.bounds_mut().idle_of_whole = silence.clone();
            let is_last = place + 1 == self.members.len();
            match start_member(&mut bounded, &mut input, is_last, defaults) {
                Ok(transport) => {
                    let mut call = bounded.call(transport);
                    collect(&mut call);
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

    /// Whether any member has a pipe to this program.
    fn has_pipe(&self, defaults: [Unset; 3]) -> bool {
        let last = self.members.len() - 1;
        self.members.iter().enumerate().any(|(place, member)| {
            let [stdin, stdout, stderr] = defaults;
            let stdin = if place == 0 { stdin } else { Unset::Null };
            let stdout = if place == last { stdout } else { Unset::Null };
            member.has_pipe([stdin, stdout, if self.whole.fail_on_stderr { Unset::Capture } else { stderr }])
        })
    }

    /// A descriptor that leads to another member cannot be set to anything else.
    fn refuse_taken(&self, place: usize, member: &Command) -> Result<(), Refusal> {
        let between = [(0, place > 0), (1, place + 1 < self.members.len())];
        for (n, is_between) in between {
            if is_between && member.stdio.contains_key(&n) {
                let text = format!("descriptor {n} was set, and in the pipeline it leads to another member");
                return Err(Refusal::invalid(InvalidReason::Conflict, text));
            }
        }
        Ok(())
    }

    /// The pipeline as messages show it.
    fn text(&self) -> String {
        join(self.members.iter().map(Command::text))
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("members", &self.members).finish_non_exhaustive()
    }
}

/// Starts a member that reads `input`, and leaves there what the next one reads. Once the member has its pipe ends,
/// they are closed here.
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
        let (reader, writer) = pipe_between()?;
        *input = Some(reader);
        member.connect(1, writer);
    }
    member.start(defaults)
}

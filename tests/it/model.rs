//! Random scripts of all handles of one child, compared with a model of what each handle may see.
//!
//! A script says what the child does, what its input is, and what each handle does. The handles are the process, the
//! readers and writers that are taken out of it, and a control in another thread. A handle is awaited, or polled once and left. It
//! is polled late or too often, dropped, or moved to another task or thread. Wakers poll or drop another handle on the
//! spot. Afterwards:
//! - Every byte of a descriptor that was read to its end has come once, and in order.
//! - If no handle disturbed the child, the status is the one that the script ends with.
//! - Nothing hangs, and no child and no descriptor is left.
//!
//! A failure prints the seed and the script. `REAPED_MODEL_RUNS` is the number of scripts. `REAPED_MODEL_SEED` is the
//! seed of the first, and each further script has the next number. To run a failed script again, set its seed and one
//! run. The real clock times the script, so it need not fail again.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant, SystemTime};

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use reaped::{Command, Control, Error, Event, Output, Process, Promise, Reader, Signal, Stdio, Writer};
use smol::Timer;

use super::helper::{pattern, sum};
use super::soak::Dice;
use super::support::{alone, descriptors, eventually, helper, warm_up};

const RUNS: u64 = 300;

/// The time after which a script counts as hung.
const HUNG: Duration = Duration::from_secs(30);

/// A pipe holds this many bytes, even if the kernel makes it small because the user has too many (pipe(7)).
const FITS: usize = 4_000;

// What a script contains.

#[derive(Debug)]
struct Script {
    steps: Vec<String>,
    /// The input of the child, by its descriptor.
    inputs: BTreeMap<i32, Source>,
    /// The descriptors that are pipes out of the child.
    outputs: Vec<i32>,
    /// stderr has a tee.
    tee: bool,
    /// What the process does, in this order.
    main: Vec<Act>,
    finish: Finish,
    /// What the handles do that are taken out, by the child's descriptor.
    ends: BTreeMap<i32, End>,
    /// A call of `Control`, and after how many microseconds.
    control: Option<(u64, ControlCall)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Bytes(usize),
    /// A reader of the caller that gives little at once, and sometimes nothing.
    Drip(usize),
    /// The caller writes.
    Writer,
}

/// What the process does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Event(Manner),
    /// With a limit for each line.
    Line(usize, Manner),
    /// Awaits the exit.
    Wait(Manner),
    /// Looks for the exit.
    Look,
    /// Takes the reader or the writer of this descriptor.
    Take(i32),
    Pause(i32),
    Resume(i32),
    Close(i32),
    CloseAll,
    Sleep(u64),
    Move(Place),
    /// Waits without a poll until all readers are at their end. So the readers alone drive the child.
    Others,
}

#[derive(Clone, Copy, Debug)]
enum Finish {
    Events(Manner),
    Lines,
    Output(Manner),
    Status(Manner),
    /// Begins to await the output this many times, and gives up.
    Left(usize),
    Drop,
    Detach,
}

/// What a reader or a writer does.
#[derive(Debug)]
struct End {
    place: Place,
    acts: Vec<(usize, EndAct)>,
    finish: EndFinish,
    /// Only if the child does not need it: the last action comes after the process is gone.
    after_main: bool,
}

#[derive(Clone, Copy, Debug)]
enum EndAct {
    /// Reads or writes, at most this many bytes.
    Some(Manner),
    /// A writer looks once whether it is closed.
    Closed,
    Sleep(u64),
    Move(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndFinish {
    /// Reads to the end, or writes this many bytes in all.
    All(usize),
    /// A writer writes this many bytes, and waits until the pipe is closed.
    Closed(usize),
    Drop,
}

/// How something is awaited.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Await,
    /// Polled once, and left.
    Once,
    /// Polled once with a waker that wakes no task, and left.
    Deaf,
    /// Polled once, and awaited this many microseconds later.
    Late(u64),
    /// Polled too often.
    Spurious,
    /// Polled once, and awaited elsewhere.
    Moved(Place),
    /// With a waker that polls or drops another handle on the spot.
    Spot(Who, bool),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// One task for all.
    Here,
    Task,
    Thread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Main,
    Reader(i32),
    Writer(i32),
}

#[derive(Clone, Copy, Debug)]
enum ControlCall {
    /// A signal that does nothing to the child.
    Harmless,
    Terminate,
    Kill,
}

impl Script {
    fn new(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, 0);
        let mut inputs = BTreeMap::new();
        for fd in [0, 4] {
            match dice.below(8) {
                0..4 => _ = inputs.insert(fd, Source::Writer),
                4 => _ = inputs.insert(fd, Source::Bytes(dice.size())),
                5 => _ = inputs.insert(fd, Source::Drip(dice.size())),
                _ => {}
            }
        }
        let outputs: Vec<i32> = [1, 2, 3].into_iter().filter(|fd| *fd == 1 || !dice.one_in(3)).collect();
        let steps = steps(dice, &inputs, &outputs);
        let mut script = Script {
            steps,
            tee: outputs.contains(&2) && dice.one_in(4),
            inputs,
            outputs,
            main: Vec::new(),
            finish: Finish::Drop,
            ends: BTreeMap::new(),
            control: None,
        };
        script.handles(dice);
        if dice.one_in(5) {
            let call =
                [ControlCall::Harmless, ControlCall::Terminate, ControlCall::Kill][dice.below(3) as usize];
            script.control = Some((moment(dice), call));
        }
        script
    }

    fn handles(&mut self, dice: &mut Dice) {
        let written: Vec<i32> =
            self.inputs.iter().filter(|input| *input.1 == Source::Writer).map(|input| *input.0).collect();
        let mut pipes: Vec<i32> = self.outputs.iter().chain(self.inputs.keys()).copied().collect();
        pipes.sort_unstable();
        let who: Vec<Who> = [Who::Main]
            .into_iter()
            .chain(self.outputs.iter().map(|fd| Who::Reader(*fd)))
            .chain(written.iter().map(|fd| Who::Writer(*fd)))
            .collect();
        let takes_all = dice.one_in(3);
        for fd in self.outputs.iter().chain(&written) {
            if !takes_all && dice.one_in(2) {
                continue;
            }
            let take = Act::Take(*fd);
            if takes_all || dice.one_in(2) { self.main.insert(0, take) } else { self.main.push(take) }
        }
        for _ in 0..dice.below(8) {
            let fd = pipes[dice.below(pipes.len() as u64) as usize];
            let act = match dice.below(28) {
                24 | 25 => Act::Wait(manner(dice, &who)),
                26 | 27 => Act::Look,
                0..9 => Act::Event(manner(dice, &who)),
                9..12 => Act::Line([1, 7, 1_000, 1 << 20][dice.below(4) as usize], manner(dice, &who)),
                12..14 => Act::Pause(fd),
                14..16 => Act::Resume(fd),
                16 => Act::Close(fd),
                17 if dice.one_in(2) => Act::CloseAll,
                18..20 => Act::Move(place(dice)),
                20..22 => Act::Others,
                _ => Act::Sleep(moment(dice)),
            };
            let at = dice.below(self.main.len() as u64 + 1) as usize;
            self.main.insert(at, act);
        }
        if takes_all && dice.one_in(2) {
            self.main.push(Act::Others);
        }
        self.finish = match dice.below(16) {
            0..6 => Finish::Events(manner(dice, &who)),
            6 | 7 => Finish::Lines,
            8..11 => Finish::Output(manner(dice, &who)),
            11 | 12 => Finish::Status(manner(dice, &who)),
            13 => Finish::Left(dice.below(4) as usize),
            14 => Finish::Drop,
            _ => Finish::Detach,
        };
        let waits_for_readers = self.main.iter().any(|act| matches!(act, Act::Others));
        for fd in pipes {
            let is_writer = written.contains(&fd);
            let acts = (0..dice.below(5)).map(|_| {
                let act = match dice.below(8) {
                    0..5 => EndAct::Some(manner(dice, &who)),
                    5 => EndAct::Closed,
                    6 => EndAct::Move(place(dice)),
                    _ => EndAct::Sleep(moment(dice)),
                };
                (1 + dice.size(), act)
            });
            let acts = acts.collect();
            let size = dice.size();
            // If the child reads it to the end, it waits for us, and we would wait for the child.
            let is_read = self.reads(fd);
            let finish = match dice.below(8) {
                0 => EndFinish::Drop,
                1..4 if is_writer && !is_read => EndFinish::Closed(size),
                _ => EndFinish::All(size),
            };
            let is_small = if is_writer { !is_read } else { self.most(fd) <= FITS };
            let after_main = is_small && !waits_for_readers && dice.one_in(4);
            self.ends.insert(fd, End { place: place(dice), acts, finish, after_main });
        }
    }

    /// Whether the child reads this descriptor to its end.
    fn reads(&self, fd: i32) -> bool {
        self.parsed().any(|step| matches!(step, Parsed::Copy(from, _) | Parsed::Sum(from, _) if from == fd))
    }

    fn parsed(&self) -> impl Iterator<Item = Parsed> {
        self.steps.iter().map(|step| {
            let mut words = step.split(':');
            let verb = words.next();
            let mut number = || words.next().and_then(|word| word.parse::<i32>().ok()).unwrap_or_default();
            match verb {
                Some("fill") => Parsed::Fill(number(), number() as usize),
                Some("copy") => Parsed::Copy(number(), number()),
                Some("sum") => Parsed::Sum(number(), number()),
                Some("exit") => Parsed::Exit(number()),
                _ => Parsed::Else,
            }
        })
    }

    /// The most bytes that the child writes to it.
    fn most(&self, fd: i32) -> usize {
        self.parsed()
            .map(|step| match step {
                Parsed::Fill(to, count) if to == fd => count,
                Parsed::Sum(_, to) if to == fd => 100,
                Parsed::Copy(from, to) if to == fd => match self.inputs.get(&from) {
                    Some(Source::Bytes(count) | Source::Drip(count)) => *count,
                    _ => FITS + 1,
                },
                _ => 0,
            })
            .sum()
    }

    fn code(&self) -> i32 {
        self.parsed()
            .find_map(|step| if let Parsed::Exit(code) = step { Some(code) } else { None })
            .unwrap_or(0)
    }

    /// What the child writes to a descriptor, after it read this much of each input. Returns too whether that is all
    /// that can be said: output that depends on an input that was cut short is not known.
    fn says(&self, fd: i32, inputs: &BTreeMap<i32, Option<usize>>) -> (Vec<u8>, bool) {
        let (mut says, mut used) = (Vec::new(), BTreeSet::new());
        for step in self.parsed() {
            match step {
                Parsed::Fill(to, count) if to == fd => says.extend(pattern(count)),
                Parsed::Copy(from, to) | Parsed::Sum(from, to) => {
                    let first = used.insert(from);
                    if to != fd {
                        continue;
                    }
                    let read = if first { inputs.get(&from).copied().unwrap_or(Some(0)) } else { Some(0) };
                    let is_copy = matches!(step, Parsed::Copy(..));
                    match read {
                        Some(count) if is_copy => says.extend(&all()[..count]),
                        Some(count) => says.extend(sum(&all()[..count]).bytes()),
                        None => return (says, false),
                    }
                }
                _ => {}
            }
        }
        (says, true)
    }
}

#[derive(Clone, Copy)]
enum Parsed {
    Fill(i32, usize),
    Copy(i32, i32),
    Sum(i32, i32),
    Exit(i32),
    Else,
}

fn steps(dice: &mut Dice, inputs: &BTreeMap<i32, Source>, outputs: &[i32]) -> Vec<String> {
    let (mut inputs, mut outputs): (Vec<i32>, _) = (inputs.keys().copied().collect(), outputs.to_vec());
    let mut steps = Vec::new();
    for _ in 0..dice.below(8) {
        let mut pick = |fds: &[i32]| fds.get(dice.below(fds.len().max(1) as u64) as usize).copied();
        let (from, to) = (pick(&inputs), pick(&outputs));
        let verb = dice.below(16);
        match (verb, from, to) {
            (0..6, _, Some(to)) => steps.push(format!("fill:{to}:{}", dice.size())),
            (6..10, Some(from), Some(to)) => steps.push(format!("copy:{from}:{to}")),
            (10 | 11, Some(from), Some(to)) => steps.push(format!("sum:{from}:{to}")),
            (12, Some(from), _) => {
                inputs.retain(|fd| *fd != from);
                steps.push(format!("close:{from}"));
            }
            (13, _, Some(to)) => {
                outputs.retain(|fd| *fd != to);
                steps.push(format!("close:{to}"));
            }
            _ => steps.push(format!("sleep:{}", dice.below(4))),
        }
    }
    if dice.one_in(2) {
        steps.push(format!("exit:{}", dice.below(4)));
    }
    steps
}

fn moment(dice: &mut Dice) -> u64 {
    let end = [1, 300, 5_000][dice.below(3) as usize];
    dice.below(end)
}

fn place(dice: &mut Dice) -> Place {
    [Place::Here, Place::Here, Place::Task, Place::Thread][dice.below(4) as usize]
}

fn manner(dice: &mut Dice, who: &[Who]) -> Manner {
    match dice.below(14) {
        0 | 1 => Manner::Once,
        2 => Manner::Deaf,
        3 | 4 => Manner::Late(moment(dice)),
        5 => Manner::Spurious,
        6 | 7 => Manner::Moved(place(dice)),
        8..11 => Manner::Spot(who[dice.below(who.len() as u64) as usize], dice.one_in(6)),
        _ => Manner::Await,
    }
}

/// The bytes of every input and output: each is a prefix of these.
fn all() -> &'static [u8] {
    static ALL: OnceLock<Vec<u8>> = OnceLock::new();
    ALL.get_or_init(|| pattern(1 << 21))
}

// What happens.

/// What all actors of one script share, and what was seen.
struct Stage {
    carry: UnboundedSender<Carried>,
    /// The handles that a waker may poll or drop.
    seats: Mutex<BTreeMap<Who, Weak<dyn Seat>>>,
    seen: Arc<Mutex<Seen>>,
    /// The number of readers that were taken.
    readers: AtomicUsize,
    main_is_done: AtomicBool,
    /// What each actor does, printed if the script hangs.
    doing: Doing,
}

#[derive(Default)]
struct Seen {
    said: BTreeMap<i32, Vec<u8>>,
    /// Only the child has closed these outputs, and all of their bytes were read.
    at_end: BTreeSet<i32>,
    /// The child may have got only a part of these inputs.
    cut: BTreeSet<i32>,
    /// Outputs that the parent has closed.
    shut: BTreeSet<i32>,
    written: BTreeMap<i32, usize>,
    status: Option<ExitStatus>,
    /// The exit, as it was reported.
    exit: Option<ExitStatus>,
    /// The signals that may have ended the child.
    signals: BTreeSet<i32>,
    dropped: bool,
    copy: Vec<u8>,
    copy_is_closed: bool,
    events: Events,
}

/// The events, checked against their rules.
#[derive(Default)]
struct Events {
    closed: BTreeSet<i32>,
    exited: Option<ExitStatus>,
    ended: bool,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    fn does(&self, who: Who, what: impl std::fmt::Debug) {
        lock(&self.doing).insert(who, format!("{what:?}"));
    }
}

impl Seen {
    fn shut(&mut self, fd: i32) {
        if !self.at_end.contains(&fd) && self.shut.insert(fd) {
            self.signals.insert(libc::SIGPIPE);
        }
    }

    fn exits(&mut self, status: ExitStatus) {
        assert_eq!(*self.exit.get_or_insert(status), status, "it stays the same");
    }

    fn event(&mut self, event: Event) {
        assert!(!self.events.ended, "the end is last");
        match event {
            Event::Data { fd, data } => {
                assert!(!data.is_empty() && !self.events.closed.contains(&fd), "data of {fd}");
                self.said.entry(fd).or_default().extend(data);
            }
            Event::Closed { fd } => {
                assert!(self.events.closed.insert(fd), "{fd} closes once");
                if !self.shut.contains(&fd) {
                    self.at_end.insert(fd);
                }
            }
            Event::Exited(status) => {
                assert!(self.events.exited.replace(status).is_none(), "it exits once");
                self.exits(status);
            }
            Event::Ended(status) => {
                assert_eq!(self.events.exited, Some(status));
                (self.events.ended, self.status) = (true, Some(status));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A handle, at a place where its actor and wakers can reach it.
trait Seat: Send + Sync {
    fn on_the_spot(&self, drops: bool);
}

/// The handle leaves its waker here, so that a waker can poll it on the spot.
struct Chair<T> {
    handle: Option<T>,
    waker: Option<Waker>,
    stage: Arc<Stage>,
}

/// What a handle does on the spot.
trait Handle: Send + Sized + 'static {
    fn look(chair: &mut Chair<Self>, cx: &mut Context<'_>) -> Poll<bool>;
    /// It will be dropped now.
    fn drops(&self, seen: &mut Seen);
}

impl<T: Handle> Chair<T> {
    fn new(stage: &Arc<Stage>, who: Who, handle: T) -> Arc<Mutex<Self>> {
        let chair = Chair { handle: Some(handle), waker: None, stage: stage.clone() };
        let chair = Arc::new(Mutex::new(chair));
        let seat: Weak<Mutex<Self>> = Arc::downgrade(&chair);
        lock(&stage.seats).insert(who, seat);
        chair
    }

    fn empty(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.drops(&mut self.stage.clone().seen());
            drop(handle);
        }
    }
}

impl<T: Handle> Seat for Mutex<Chair<T>> {
    fn on_the_spot(&self, drops: bool) {
        // It may be polled at this moment, even by this thread.
        let Ok(mut chair) = self.try_lock() else { return };
        if drops {
            chair.empty();
        } else if let (true, Some(waker)) = (chair.handle.is_some(), chair.waker.clone()) {
            if T::look(&mut chair, &mut Context::from_waker(&waker)).is_pending() {
                return;
            }
        }
        // Its actor may wait for what this poll got.
        let waker = chair.waker.take();
        drop(chair);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A waker that does something to another handle on the spot.
struct Spot {
    victim: Weak<dyn Seat>,
    drops: bool,
    waker: Waker,
}

impl Wake for Spot {
    fn wake(self: Arc<Self>) {
        if let Some(victim) = self.victim.upgrade() {
            victim.on_the_spot(self.drops);
        }
        self.waker.wake_by_ref();
    }
}

impl Handle for Process {
    fn look(chair: &mut Chair<Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(process) = &mut chair.handle else { return Poll::Ready(false) };
        let event = ready!(Pin::new(process).poll_next(cx));
        let more = event.is_some();
        if let Some(event) = event {
            chair.stage.seen().event(event);
        }
        Poll::Ready(more)
    }

    fn drops(&self, seen: &mut Seen) {
        seen.dropped = true;
        seen.signals.insert(libc::SIGKILL);
    }
}

fn poll_line(limit: usize) -> impl FnMut(&mut Chair<Process>, &mut Context<'_>) -> Poll<bool> {
    move |chair, cx| {
        let Some(process) = &mut chair.handle else { return Poll::Ready(false) };
        let Some(line) = ready!(Pin::new(&mut process.lines().limit(limit)).poll_next(cx)) else {
            return Poll::Ready(false);
        };
        assert!(line.bytes().len() <= limit, "a line of {} bytes", line.bytes().len());
        let mut seen = chair.stage.seen();
        let said = seen.said.entry(line.fd).or_default();
        said.extend(line.bytes());
        said.extend(line.complete.then_some(b'\n'));
        Poll::Ready(true)
    }
}

fn poll_wait(chair: &mut Chair<Process>, cx: &mut Context<'_>) -> Poll<bool> {
    let Some(process) = &mut chair.handle else { return Poll::Ready(false) };
    let status = ready!(std::pin::pin!(process.wait()).poll(cx)).expect("no bound is set");
    assert_eq!(process.pid(), None, "it was reaped");
    chair.stage.seen().exits(status);
    Poll::Ready(true)
}

/// A reader of a descriptor, and how much it reads at once.
struct Reads(i32, Reader, usize);

impl Handle for Reads {
    fn look(chair: &mut Chair<Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(Reads(fd, reader, most)) = &mut chair.handle else { return Poll::Ready(false) };
        let mut buffer = vec![0; *most];
        let count = ready!(Pin::new(reader).poll_read(cx, &mut buffer)).expect("a pipe can be read");
        let mut seen = chair.stage.seen();
        if count == 0 {
            seen.at_end.insert(*fd);
        }
        seen.said.entry(*fd).or_default().extend(&buffer[..count]);
        Poll::Ready(count > 0)
    }

    fn drops(&self, seen: &mut Seen) {
        seen.shut(self.0);
    }
}

/// A writer of a descriptor, and how much it writes in all.
struct Writes(i32, Writer, usize);

impl Handle for Writes {
    fn look(chair: &mut Chair<Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(Writes(fd, writer, most)) = &mut chair.handle else { return Poll::Ready(false) };
        let mut seen = chair.stage.seen();
        let done = *seen.written.entry(*fd).or_default();
        drop(seen);
        if done >= *most {
            return Poll::Ready(false);
        }
        match ready!(Pin::new(writer).poll_write(cx, &all()[done..*most])) {
            Ok(count) => {
                *chair.stage.seen().written.entry(*fd).or_default() += count;
                Poll::Ready(true)
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                Poll::Ready(false)
            }
        }
    }

    fn drops(&self, _: &mut Seen) {}
}

fn poll_closed(chair: &mut Chair<Writes>, cx: &mut Context<'_>) -> Poll<bool> {
    let Some(Writes(_, writer, _)) = &mut chair.handle else { return Poll::Ready(true) };
    std::pin::pin!(writer.closed()).poll(cx).map(|()| true)
}

impl<T: Unpin + Send + 'static> Handle for Promise<T>
where
    Result<T, Error>: Into<Came>,
{
    fn look(chair: &mut Chair<Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(promise) = &mut chair.handle else { return Poll::Ready(false) };
        let result = ready!(Pin::new(promise).poll(cx));
        chair.handle = None;
        let came: Came = result.into();
        came.note(&mut chair.stage.seen());
        Poll::Ready(false)
    }

    fn drops(&self, seen: &mut Seen) {
        seen.dropped = true;
        seen.signals.insert(libc::SIGKILL);
    }
}

/// The result of a promise.
enum Came {
    Output(Box<Output>),
    Status(ExitStatus),
}

impl From<Result<Output, Error>> for Came {
    fn from(result: Result<Output, Error>) -> Self {
        Came::Output(Box::new(result.expect("no bound is set")))
    }
}

impl From<Result<ExitStatus, Error>> for Came {
    fn from(result: Result<ExitStatus, Error>) -> Self {
        Came::Status(result.expect("no bound is set"))
    }
}

impl Came {
    fn note(self, seen: &mut Seen) {
        match self {
            Came::Status(status) => seen.status = Some(status),
            Came::Output(output) => {
                seen.status = Some(output.status);
                assert!(output.still_open().is_empty(), "it has no descendants");
                for fd in 1..4 {
                    let Some(bytes) = output.fd(fd) else { continue };
                    seen.said.entry(fd).or_default().extend(bytes);
                    // Only the reader that was taken reports its bytes.
                    if !seen.shut.contains(&fd) {
                        seen.at_end.insert(fd);
                    }
                }
            }
        }
    }
}

/// An actor, which may move to another place.
struct Actor {
    stage: Arc<Stage>,
    who: Who,
    moves: Arc<Mutex<Option<Place>>>,
}

impl Actor {
    /// Goes on in another place.
    async fn moves(&self, place: Place) {
        let mut asked = false;
        poll_fn(|_| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            *lock(&self.moves) = Some(place);
            Poll::Pending
        })
        .await;
    }

    /// The result. `None` if it was left, or took longer than `patience`.
    async fn awaits<T: Handle>(
        &self,
        chair: &Arc<Mutex<Chair<T>>>,
        manner: Manner,
        patience: Option<Duration>,
        mut poll: impl FnMut(&mut Chair<T>, &mut Context<'_>) -> Poll<bool> + Send,
    ) -> Option<bool> {
        let mut look = |cx: &mut Context<'_>, leaves: bool| {
            let mut chair = lock(chair);
            if leaves {
                chair.waker = Some(cx.waker().clone());
            }
            poll(&mut chair, cx)
        };
        if let Manner::Deaf = manner {
            return ready(look(&mut Context::from_waker(Waker::noop()), false));
        }
        let times = match manner {
            Manner::Await | Manner::Spot(..) | Manner::Deaf => 0,
            Manner::Once | Manner::Late(_) | Manner::Moved(_) => 1,
            Manner::Spurious => 4,
        };
        for time in 0..times {
            if time > 0 {
                smol::future::yield_now().await;
            }
            if let found @ Some(_) = ready(poll_fn(|cx| Poll::Ready(look(cx, true))).await) {
                return found;
            }
        }
        let mut victim: Option<(Weak<dyn Seat>, bool)> = None;
        match manner {
            Manner::Once => return None,
            Manner::Late(micros) => _ = Timer::after(Duration::from_micros(micros)).await,
            Manner::Moved(place) => self.moves(place).await,
            Manner::Spot(who, drops) => {
                victim = lock(&self.stage.seats).get(&who).cloned().map(|seat| (seat, drops))
            }
            _ => {}
        }
        let mut timer = patience.map(Timer::after);
        poll_fn(|cx| {
            if let Some(timer) = &mut timer {
                if Pin::new(timer).poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
            }
            let found = match &victim {
                None => look(cx, true),
                Some((victim, drops)) => {
                    let spot = Spot { victim: victim.clone(), drops: *drops, waker: cx.waker().clone() };
                    look(&mut Context::from_waker(&Waker::from(Arc::new(spot))), true)
                }
            };
            found.map(Some)
        })
        .await
    }
}

fn ready(poll: Poll<bool>) -> Option<bool> {
    if let Poll::Ready(found) = poll { Some(found) } else { None }
}

/// An actor on its way.
struct Carried {
    future: BoxFuture<'static, ()>,
    moves: Arc<Mutex<Option<Place>>>,
    carry: UnboundedSender<Carried>,
}

/// Runs an actor in a place until it is done or moves.
async fn carried(actor: Carried) -> Result<(), String> {
    let mut actor = Some(actor);
    let result = poll_fn(|cx| {
        let Some(this) = &mut actor else { return Poll::Ready(Ok(())) };
        match catch_unwind(AssertUnwindSafe(|| this.future.as_mut().poll(cx))) {
            Err(_) => return Poll::Ready(Err("an actor panicked".to_owned())),
            Ok(Poll::Ready(())) => return Poll::Ready(Ok(())),
            Ok(Poll::Pending) => {}
        }
        let next = lock(&this.moves).take();
        let Some(next) = next else { return Poll::Pending };
        if let Some(actor) = actor.take() {
            actor.go(next);
        }
        Poll::Ready(Ok(()))
    });
    result.await
}

/// An actor outside of the script's own task panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

impl Carried {
    fn go(self, place: Place) {
        let note = |result: Result<(), String>| PANICKED.fetch_or(result.is_err(), Ordering::SeqCst);
        match place {
            Place::Here => {
                let carry = self.carry.clone();
                // If the script's task is gone, it has failed already.
                drop(carry.unbounded_send(self));
            }
            Place::Task => smol::spawn(carried(self).map(move |result| _ = note(result))).detach(),
            Place::Thread => {
                std::thread::spawn(move || note(futures::executor::block_on(carried(self))));
            }
        }
    }
}

fn starts<F>(stage: &Arc<Stage>, who: Who, place: Place, act: impl FnOnce(Actor) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let moves = Arc::<Mutex<Option<Place>>>::default();
    let actor = Actor { stage: stage.clone(), who, moves: moves.clone() };
    Carried { future: act(actor).boxed(), moves, carry: stage.carry.clone() }.go(place);
}

async fn reads(actor: Actor, fd: i32, reader: Reader, end: End) {
    let chair = Chair::new(&actor.stage, actor.who, Reads(fd, reader, 1));
    let at_once = |most: usize| {
        if let Some(reads) = &mut lock(&chair).handle {
            reads.2 = most;
        }
    };
    for (most, act) in end.acts {
        actor.stage.does(actor.who, act);
        at_once(most);
        match act {
            EndAct::Some(manner) => _ = actor.awaits(&chair, manner, None, Reads::look).await,
            EndAct::Closed => {}
            EndAct::Sleep(micros) => _ = Timer::after(Duration::from_micros(micros)).await,
            EndAct::Move(place) => actor.moves(place).await,
        }
    }
    actor.stage.does(actor.who, (end.finish, end.after_main));
    while end.after_main && !actor.stage.main_is_done.load(Ordering::SeqCst) {
        Timer::after(Duration::from_micros(300)).await;
    }
    at_once(65_536);
    if end.finish != EndFinish::Drop {
        while actor.awaits(&chair, Manner::Await, None, Reads::look).await == Some(true) {}
    }
    lock(&chair).empty();
    actor.stage.readers.fetch_sub(1, Ordering::SeqCst);
    actor.stage.does(actor.who, "done");
}

async fn writes(actor: Actor, fd: i32, writer: Writer, end: End) {
    let chair = Chair::new(&actor.stage, actor.who, Writes(fd, writer, 0));
    let in_all = |more: usize| {
        let mut chair = lock(&chair);
        let done = chair.stage.seen().written.get(&fd).copied().unwrap_or(0);
        if let Some(writes) = &mut chair.handle {
            writes.2 = all().len().min(done + more);
        }
    };
    for (most, act) in end.acts {
        actor.stage.does(actor.who, act);
        in_all(most);
        match act {
            EndAct::Some(manner) => _ = actor.awaits(&chair, manner, None, Writes::look).await,
            EndAct::Closed => _ = actor.awaits(&chair, Manner::Once, None, poll_closed).await,
            EndAct::Sleep(micros) => _ = Timer::after(Duration::from_micros(micros)).await,
            EndAct::Move(place) => actor.moves(place).await,
        }
    }
    actor.stage.does(actor.who, (end.finish, end.after_main));
    while end.after_main && !actor.stage.main_is_done.load(Ordering::SeqCst) {
        Timer::after(Duration::from_micros(300)).await;
    }
    if let EndFinish::All(most) | EndFinish::Closed(most) = end.finish {
        in_all(most);
        while actor.awaits(&chair, Manner::Await, None, Writes::look).await == Some(true) {}
    }
    if let EndFinish::Closed(_) = end.finish {
        actor.awaits(&chair, Manner::Await, None, poll_closed).await;
    }
    lock(&chair).empty();
    actor.stage.does(actor.who, "done");
}

/// What the process does.
struct Leads {
    actor: Actor,
    chair: Arc<Mutex<Chair<Process>>>,
    ends: BTreeMap<i32, End>,
    /// The inputs that are open and not taken.
    inputs: BTreeSet<i32>,
    outputs: BTreeSet<i32>,
    paused: BTreeSet<i32>,
    tee: bool,
}

impl Leads {
    /// Does it to the process, if it is still there.
    fn with<T>(&self, change: impl FnOnce(&mut Process) -> T) -> Option<T> {
        lock(&self.chair).handle.as_mut().map(change)
    }

    /// The child may wait for something that this script does later.
    fn patience(&self) -> Option<Duration> {
        let stuck = !self.inputs.is_empty() || !self.paused.is_empty();
        stuck.then_some(Duration::from_millis(2))
    }

    async fn acts(&mut self, act: Act) {
        let stage = self.actor.stage.clone();
        match act {
            Act::Event(manner) => {
                self.actor.awaits(&self.chair, manner, self.patience(), Process::look).await;
            }
            Act::Line(limit, manner) => {
                self.actor.awaits(&self.chair, manner, self.patience(), poll_line(limit)).await;
            }
            Act::Wait(manner) => {
                // The inputs that were not taken are closed.
                self.inputs.clear();
                self.actor.awaits(&self.chair, manner, self.patience(), poll_wait).await;
            }
            Act::Look => {
                let looked = self.with(|process| process.try_wait().expect("no bound is set"));
                looked.flatten().into_iter().for_each(|status| stage.seen().exits(status));
            }
            Act::Take(fd) => self.takes(fd),
            Act::Pause(fd) => {
                if self.with(|process| process.pause(fd)) == Some(true) {
                    self.paused.insert(fd);
                }
            }
            Act::Resume(fd) => {
                self.with(|process| process.resume(fd));
                self.paused.remove(&fd);
            }
            Act::Close(fd) => {
                self.shuts(fd);
                if self.with(|process| process.close(fd)) == Some(true) {
                    self.paused.remove(&fd);
                }
            }
            Act::CloseAll => {
                (0..5).for_each(|fd| self.shuts(fd));
                self.paused.clear();
                self.with(Process::close_all);
            }
            Act::Sleep(micros) => _ = Timer::after(Duration::from_micros(micros)).await,
            Act::Move(place) => self.actor.moves(place).await,
            Act::Others => {
                // A handle that reads also drives feeds and tees, but reads no other descriptor.
                let is_driven = |fd: &i32| self.tee && *fd == 2;
                if !self.outputs.iter().all(is_driven) || self.patience().is_some() {
                    return;
                }
                while stage.readers.load(Ordering::SeqCst) > 0 {
                    Timer::after(Duration::from_micros(300)).await;
                }
            }
        }
    }

    fn takes(&mut self, fd: i32) {
        let Some(end) = self.ends.remove(&fd) else { return };
        let stage = self.actor.stage.clone();
        let place = end.place;
        if let Some(reader) = self.with(|process| process.reader(fd)).flatten() {
            stage.readers.fetch_add(1, Ordering::SeqCst);
            self.outputs.remove(&fd);
            self.paused.remove(&fd);
            starts(&stage, Who::Reader(fd), place, |actor| reads(actor, fd, reader, end));
        } else if let Some(writer) = self.with(|process| process.writer(fd)).flatten() {
            self.inputs.remove(&fd);
            starts(&stage, Who::Writer(fd), place, |actor| writes(actor, fd, writer, end));
        }
    }

    fn shuts(&mut self, fd: i32) {
        let mut seen = self.actor.stage.seen();
        if self.outputs.remove(&fd) {
            seen.shut(fd);
        }
        // Any part of a feed may have come. Bytes of a writer are counted.
        if matches!(fd, 0 | 4) {
            seen.cut.insert(fd);
        }
        self.inputs.remove(&fd);
    }

    async fn finishes(&mut self, finish: Finish) {
        let stage = self.actor.stage.clone();
        for fd in std::mem::take(&mut self.paused) {
            self.with(|process| process.resume(fd));
        }
        match finish {
            Finish::Events(_) | Finish::Lines => {
                for fd in std::mem::take(&mut self.inputs) {
                    self.with(|process| process.close(fd));
                }
            }
            // A feed ends with the handle.
            Finish::Detach => stage.seen().cut.extend([0, 4]),
            _ => {}
        }
        let chair = &self.chair;
        let process = || lock(chair).handle.take();
        match finish {
            Finish::Events(manner) => {
                while self.actor.awaits(chair, manner, None, Process::look).await != Some(false) {
                    // If it leaves all that it polls, it comes back a while later.
                    if matches!(manner, Manner::Once | Manner::Deaf) {
                        Timer::after(Duration::from_micros(100)).await;
                    }
                }
                let seen = stage.seen();
                assert!(seen.dropped || seen.events.ended, "the end is reported");
            }
            Finish::Lines => {
                while self.actor.awaits(chair, Manner::Await, None, poll_line(1 << 20)).await == Some(true) {}
                if let Some(process) = process() {
                    // All events were reported.
                    stage.seen().at_end.extend(&self.outputs);
                    self.promised(process.status(), Manner::Await).await;
                }
            }
            Finish::Output(manner) => {
                if let Some(process) = process() {
                    self.promised(process.output(), manner).await;
                }
            }
            Finish::Status(manner) => {
                if let Some(process) = process() {
                    self.promised(process.status(), manner).await;
                }
            }
            Finish::Left(times) => {
                if let Some(process) = process() {
                    let chair = Chair::new(&stage, self.actor.who, process.output());
                    for _ in 0..times {
                        self.actor.awaits(&chair, Manner::Once, None, Promise::look).await;
                        Timer::after(Duration::from_micros(200)).await;
                    }
                    lock(&chair).empty();
                }
            }
            Finish::Drop => {}
            Finish::Detach => {
                if let Some(process) = process() {
                    let mut seen = stage.seen();
                    let open: Vec<i32> = self.outputs.iter().copied().collect();
                    open.into_iter().for_each(|fd| seen.shut(fd));
                    drop(seen);
                    process.status().detach().expect("it was started");
                }
            }
        }
        lock(&self.chair).empty();
        stage.main_is_done.store(true, Ordering::SeqCst);
        stage.does(Who::Main, "done");
    }

    async fn promised<T>(&self, promise: Promise<T>, manner: Manner)
    where
        Promise<T>: Handle,
    {
        let chair = Chair::new(&self.actor.stage, self.actor.who, promise);
        while self.actor.awaits(&chair, manner, None, Promise::<T>::look).await != Some(false) {
            Timer::after(Duration::from_micros(100)).await;
        }
        lock(&chair).empty();
    }
}

/// A reader of the caller that gives little at once, and sometimes nothing. It has more a while later, or wakes the
/// task before it returns.
struct Drip {
    at: usize,
    end: usize,
    pace: Pace,
}

/// A writer of the caller for a tee. It takes little at once, in the same way.
struct Slow(Arc<Mutex<Seen>>, Pace);

#[derive(Default)]
struct Pace {
    turn: u32,
    timer: Option<Timer>,
}

impl Pace {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_none() {
            self.turn += 1;
            match self.turn % 5 {
                1 => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                3 => self.timer = Some(Timer::after(Duration::from_micros(300))),
                _ => return Poll::Ready(()),
            }
        }
        // A timer that expired before its first poll is ready once, and then never again.
        if let Some(timer) = &mut self.timer {
            ready!(Pin::new(timer).poll(cx));
            self.timer = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Drip {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.pace.poll(cx));
        let count = buffer.len().min(20_000).min(self.end - self.at);
        buffer[..count].copy_from_slice(&all()[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.1.poll(cx));
        let bytes = &bytes[..bytes.len().min(30_000)];
        lock(&self.0).copy.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.1.poll(cx));
        lock(&self.0).copy_is_closed = true;
        Poll::Ready(Ok(()))
    }
}

fn command(script: &Script, seen: &Arc<Mutex<Seen>>) -> Command {
    let steps: Vec<&str> = script.steps.iter().map(String::as_str).collect();
    let mut command = helper(&steps);
    for fd in (0..3).filter(|fd| !script.inputs.contains_key(fd) && !script.outputs.contains(fd)) {
        command.fd(fd, Stdio::null());
    }
    for (fd, source) in &script.inputs {
        let stdio = match source {
            Source::Writer => Stdio::input(),
            Source::Bytes(count) => Stdio::bytes(&all()[..*count]),
            Source::Drip(count) => Stdio::reader(Drip { at: 0, end: *count, pace: Pace::default() }),
        };
        command.fd(*fd, stdio);
    }
    for fd in &script.outputs {
        let stdio = match script.tee && *fd == 2 {
            true => Stdio::tee(Slow(seen.clone(), Pace::default())),
            false => Stdio::output(),
        };
        command.fd(*fd, stdio);
    }
    command
}

/// Plays a script to its end. Returns what was seen.
async fn plays(script: &mut Script, doing: &Doing) -> Seen {
    let seen = Arc::<Mutex<Seen>>::default();
    let process = command(script, &seen).spawn().expect("it starts");
    let control = script.control.map(|(after, call)| {
        let (control, seen) = (process.control(), seen.clone());
        std::thread::spawn(move || controls(&control, Duration::from_micros(after), call, &seen))
    });
    let (carry, mut queue) = unbounded();
    let stage = Arc::new(Stage {
        carry,
        seats: Mutex::default(),
        seen: seen.clone(),
        readers: AtomicUsize::new(0),
        main_is_done: AtomicBool::new(false),
        doing: doing.clone(),
    });
    let written = script.inputs.iter().filter(|input| *input.1 == Source::Writer);
    let (inputs, outputs) =
        (written.map(|input| *input.0).collect(), script.outputs.iter().copied().collect());
    let (ends, tee) = (std::mem::take(&mut script.ends), script.tee);
    let (acts, finish) = (script.main.clone(), script.finish);
    starts(&stage, Who::Main, Place::Here, |actor| async move {
        let chair = Chair::new(&actor.stage, Who::Main, process);
        let mut leads = Leads { actor, chair, ends, inputs, outputs, paused: BTreeSet::new(), tee };
        for act in acts {
            leads.actor.stage.does(Who::Main, act);
            leads.acts(act).await;
        }
        leads.actor.stage.does(Who::Main, finish);
        leads.finishes(finish).await;
    });
    drop(stage);
    // When all actors have dropped the stage, they are done.
    let mut here = FuturesUnordered::new();
    poll_fn(|cx| {
        loop {
            let queued = queue.poll_next_unpin(cx);
            if let Poll::Ready(Some(actor)) = queued {
                here.push(carried(actor));
                continue;
            }
            match here.poll_next_unpin(cx) {
                Poll::Ready(Some(result)) => result.expect("no panic"),
                _ => return queued.map(|_| ()),
            }
        }
    })
    .await;
    assert!(!PANICKED.load(Ordering::SeqCst), "an actor panicked");
    if let Some(control) = control {
        control.join().expect("no panic");
    }
    drop(here);
    std::mem::take(&mut *lock(&seen))
}

fn controls(control: &Control, after: Duration, call: ControlCall, seen: &Mutex<Seen>) {
    std::thread::sleep(after);
    let (result, signals) = match call {
        ControlCall::Harmless => (control.signal(Signal::CONT), vec![]),
        ControlCall::Terminate => (control.terminate(), vec![libc::SIGTERM, libc::SIGKILL]),
        ControlCall::Kill => (control.kill(), vec![libc::SIGKILL]),
    };
    match result {
        Ok(()) => lock(seen).signals.extend(signals),
        Err(error) => assert!(matches!(error, Error::AlreadyEnded(_)), "{error:?}"),
    }
}

/// Checks what was seen against the model.
fn check(script: &Script, seen: &Seen) {
    let undisturbed = !seen.dropped && seen.signals.is_empty();
    let code = script.code();
    match seen.status {
        Some(status) if undisturbed => assert_eq!(status.code(), Some(code), "{status}"),
        Some(status) => {
            let by_us = status.signal().is_some_and(|signal| seen.signals.contains(&signal));
            assert!(by_us || status.code() == Some(code), "{status}");
        }
        None => assert!(seen.dropped || matches!(script.finish, Finish::Detach), "the status is known"),
    }
    if let (Some(exit), Some(status)) = (seen.exit, seen.status) {
        assert_eq!(exit, status);
    }
    // If the child came to the end of its script, it wrote everything.
    let wrote_all = undisturbed || seen.status.is_some_and(|status| status.code() == Some(code));
    let inputs = script.inputs.iter().map(|(fd, source)| {
        let read = match source {
            Source::Writer => Some(seen.written.get(fd).copied().unwrap_or(0)),
            Source::Bytes(count) | Source::Drip(count) => (!seen.cut.contains(fd)).then_some(*count),
        };
        (*fd, read)
    });
    let inputs = inputs.collect();
    for fd in &script.outputs {
        let (says, is_all) = script.says(*fd, &inputs);
        let said = seen.said.get(fd).map_or(&[][..], Vec::as_slice);
        same(&format!("descriptor {fd}"), said, &says, is_all, wrote_all && seen.at_end.contains(fd));
        if script.tee && *fd == 2 {
            let is_complete = undisturbed && seen.status.is_some();
            same("the copy", &seen.copy, &says, is_all, is_complete);
            assert!(seen.copy_is_closed || !is_complete, "the copy is closed");
        }
    }
}

/// `is_all`: `says` is all of the output. `is_complete`: all of it must have been read.
fn same(what: &str, heard: &[u8], says: &[u8], is_all: bool, is_complete: bool) {
    let common = heard.len().min(says.len());
    let differs = heard.iter().zip(says).position(|(one, other)| one != other);
    assert_eq!(differs, None, "{what}: other bytes");
    assert!(!is_all || common == heard.len(), "{what}: {} bytes of {}", heard.len(), says.len());
    assert!(!is_complete || common == says.len(), "{what}: {} bytes of {}", heard.len(), says.len());
}

type Doing = Arc<Mutex<BTreeMap<Who, String>>>;

/// If a script takes too long, ends the process and prints why.
#[derive(Clone, Default)]
struct Watchdog(Arc<Mutex<Option<(Instant, String, Doing)>>>);

impl Watchdog {
    fn watches(&self) {
        let this = self.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(500));
                if let Some((since, script, doing)) = &*lock(&this.0) {
                    if since.elapsed() > HUNG {
                        eprintln!("it hangs: {script}\n{:#?}", lock(doing));
                        // A script that hangs would not let the test fail.
                        std::process::exit(101);
                    }
                }
            }
        });
    }
}

/// Prints the script if it fails.
struct Plan(String);

impl Drop for Plan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {}", self.0);
        }
    }
}

fn no_child_is_left() -> bool {
    // Looks at the child, and does not reap it.
    let mut info = unsafe { std::mem::zeroed::<libc::siginfo_t>() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    unsafe { libc::waitid(libc::P_ALL, 0, &mut info, flags) == -1 }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_handle_sees_what_the_model_says() {
    alone("model::every_handle_sees_what_the_model_says", || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let first = number("REAPED_MODEL_SEED").unwrap_or(now.as_nanos() as u64);
        let runs = number("REAPED_MODEL_RUNS").unwrap_or(RUNS);
        println!("REAPED_MODEL_SEED={first} REAPED_MODEL_RUNS={runs}");
        warm_up();
        // Starts the executors' threads now, and what they keep open.
        smol::block_on(smol::spawn(async {}));
        let (before, start) = (descriptors(), Instant::now());
        let (watchdog, mut ends) = (Watchdog::default(), BTreeMap::<&str, u64>::new());
        watchdog.watches();
        for run in 0..runs {
            let seed = first.wrapping_add(run);
            let mut script = Script::new(seed);
            let doing = Doing::default();
            let plan = Plan(format!("REAPED_MODEL_SEED={seed} REAPED_MODEL_RUNS=1: {script:?}"));
            *lock(&watchdog.0) = Some((Instant::now(), plan.0.clone(), doing.clone()));
            let seen = futures::executor::block_on(plays(&mut script, &doing));
            check(&script, &seen);
            eventually("no child is left", no_child_is_left);
            eventually("the descriptors are as before", || descriptors() == before);
            let undisturbed = !seen.dropped && seen.signals.is_empty();
            *ends.entry(if undisturbed { "undisturbed" } else { "disturbed" }).or_default() += 1;
            *ends.entry("read to the end").or_default() += seen.at_end.len() as u64;
            *ends.entry("bytes").or_default() +=
                seen.said.values().map(|said| said.len() as u64).sum::<u64>();
        }
        *lock(&watchdog.0) = None;
        println!("{runs} scripts in {:?}: {ends:?}", start.elapsed());
        // If every script were disturbed, the model would check nothing.
        assert!(runs < 100 || ends.get("undisturbed").is_some_and(|count| *count > runs / 10), "{ends:?}");
    });
}

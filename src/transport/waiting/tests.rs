//! Every order in which two handles and the reactor can interleave: no handle waits for something that will not wake
//! it.
//!
//! `Waiting` and `Flag` are the real ones. The connection is a model that keeps the real one's rule. After a poll
//! everything is armed, or all handles are woken a moment later, or the handle itself is woken if no other waits.
//!
//! The model has work that any handle can do when the kernel has room. It has chores that any handle can do at once,
//! and no event reports a chore. Its reader gets bytes only after all work is done, like the reader of a child that is
//! fed. Or it always has bytes, and must still see to the work.
//!
//! A thread is a future that stops at each point where another thread may run. All orders are tried, each from the
//! beginning, up to a case that another order has reached before. A thread that waits and was not woken does not run.
//! If a case has no way to an end in which all threads are done, a wake-up was lost.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::*;

const MAIN: Handle = Handle::Main;
const READER: Handle = Handle::Reader(0);

type Thread = Pin<Box<dyn Future<Output = ()>>>;

/// All cases that were reached.
#[derive(Default)]
struct Cases {
    known: HashMap<String, usize>,
    /// For each case: the threads that ran to reach it, in order, and the threads that can run now.
    orders: Vec<(Vec<usize>, Vec<usize>)>,
    /// For each case: the cases one turn before it.
    before: Vec<Vec<usize>>,
    /// The cases in which all threads are done.
    ends: Vec<usize>,
}

impl Cases {
    /// Runs the threads that `begin` makes, in this order. Returns the case that they reach.
    fn play(&mut self, begin: &dyn Fn(&Rc<World>) -> Vec<Thread>, order: Vec<usize>) -> usize {
        let world = World::new();
        let mut threads: Vec<Option<Thread>> = begin(&world).into_iter().map(Some).collect();
        for turn in &order {
            world.turn.set(*turn);
            let thread = threads[*turn].as_mut().expect("it is not done");
            if thread.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                threads[*turn] = None;
            }
        }
        let left: Vec<usize> = (0..threads.len()).filter(|thread| threads[*thread].is_some()).collect();
        let next = self.orders.len();
        let case = *self.known.entry(format!("{left:?} {}", world.describe())).or_insert(next);
        if case == next {
            if left.is_empty() {
                self.ends.push(case);
            }
            let turns = left.into_iter().filter(|thread| world.has_turn(*thread)).collect();
            self.orders.push((order, turns));
            self.before.push(Vec::new());
        }
        case
    }

    /// Tries all orders, and checks that each case can reach an end. Returns the number of cases.
    fn all(begin: &dyn Fn(&Rc<World>) -> Vec<Thread>) -> usize {
        let mut cases = Cases::default();
        cases.play(begin, Vec::new());
        let mut case = 0;
        while case < cases.orders.len() {
            let (order, turns) = cases.orders[case].clone();
            for turn in turns {
                let after = cases.play(begin, [&order[..], &[turn]].concat());
                cases.before[after].push(case);
            }
            case += 1;
        }
        let mut can_end = vec![false; cases.orders.len()];
        let mut ends = cases.ends;
        while let Some(case) = ends.pop() {
            if !mem::replace(&mut can_end[case], true) {
                ends.extend(&cases.before[case]);
            }
        }
        let lost = can_end.iter().position(|can_end| !can_end);
        let lost = lost.and_then(|lost| cases.known.iter().find(|(_, case)| **case == lost));
        if let Some((text, case)) = lost {
            panic!("a wake-up is lost after {:?}: {text}", cases.orders[*case].0);
        }
        case
    }
}

/// A task, which can run once it was woken.
#[derive(Debug, Default)]
struct Task(AtomicBool);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct World {
    waiting: Arc<Waiting>,
    state: RefCell<State>,
    /// The thread that runs.
    turn: Cell<usize>,
    /// The threads that cannot run, and what each waits for.
    waits: RefCell<Vec<(usize, Waits)>>,
    /// The line at which each thread stopped, and what it knows there.
    places: RefCell<[(u32, usize); 4]>,
    /// How often the main handle was polled.
    polls: Cell<usize>,
    /// The tasks of the main handle and of the reader.
    tasks: [Arc<Task>; 2],
}

#[derive(Debug)]
enum Waits {
    Woken(Arc<Task>),
    Event,
}

/// The model of a connection's state, and of the kernel's.
struct State {
    /// Set when there is room.
    flag: Arc<Flag>,
    /// The last attempt succeeded, or the flag was set since.
    ready: bool,
    /// The reactor was asked for room.
    armed: bool,
    room: usize,
    work: usize,
    chores: usize,
    /// Set when there are bytes for the reader.
    readers_flag: Arc<Flag>,
    readers_ready: bool,
    readers_armed: bool,
    /// All handles will be woken a moment later.
    later: bool,
    /// The number of handles that are not done.
    handles: usize,
}

impl World {
    fn new() -> Rc<Self> {
        let waiting = Arc::<Waiting>::default();
        let state = State {
            flag: Flag::new(&waiting, None),
            ready: true,
            armed: false,
            room: 0,
            work: 0,
            chores: 0,
            readers_flag: Flag::new(&waiting, Some(READER)),
            readers_ready: true,
            readers_armed: false,
            later: false,
            handles: 0,
        };
        let (state, turn, polls) = (RefCell::new(state), Cell::new(0), Cell::new(0));
        let (waits, places, tasks) = (RefCell::default(), RefCell::default(), Default::default());
        Rc::new(World { waiting, state, turn, waits, places, polls, tasks })
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    fn has_turn(&self, thread: usize) -> bool {
        match self.waits.borrow().iter().find(|(of, _)| *of == thread) {
            None => true,
            Some((_, Waits::Woken(task))) => task.0.load(Ordering::SeqCst),
            Some((_, Waits::Event)) => self.state().has_event(),
        }
    }

    /// The whole case as text, to compare it with others.
    fn describe(&self) -> String {
        let state = self.state();
        let flags = [&state.flag.set, &state.readers_flag.set, &self.waiting.news];
        let bools = [state.ready, state.armed, state.readers_ready, state.readers_armed, state.later];
        let wakers = self.waiting.wakers.lock().expect("no panic");
        let registered =
            (wakers.main.is_some(), wakers.others.iter().map(|other| other.0).collect::<Vec<_>>());
        let counts = (state.room, state.work, state.chores, state.handles, self.polls.get());
        let threads = (&self.tasks, self.waits.borrow(), self.places.borrow());
        format!(
            "flags {flags:?} {bools:?}; registered {registered:?}; counts {counts:?}; threads {threads:?}"
        )
    }

    /// Other threads may run here. What the thread does next depends only on the line and on what it knows.
    #[track_caller]
    fn cut(&self, knows: usize) -> impl Future<Output = ()> + use<> {
        self.places.borrow_mut()[self.turn.get()] = (Location::caller().line(), knows);
        let mut was_cut = false;
        poll_fn(move |_| if mem::replace(&mut was_cut, true) { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Does not run until this has happened.
    async fn waits_until(&self, what: Waits, knows: usize) {
        let thread = self.turn.get();
        self.waits.borrow_mut().push((thread, what));
        self.cut(knows).await;
        self.waits.borrow_mut().retain(|(of, _)| *of != thread);
    }

    /// Like `Waiting::go_on`, after it has registered the handle.
    fn goes_on(&self, me: Handle, waker: &Waker) {
        if !self.waiting.goes_on_alone(me, waker) && self.waiting.somebody_waits() {
            self.state().later = true;
        }
    }

    /// Like `Connection::poll` with nothing wanted: moves all that can be moved. There is time for this many `moves`.
    async fn drives(&self, me: Handle, waker: &Waker, mut moves: usize) {
        let mut happened = false;
        self.waiting.register(me, waker);
        self.cut(2 * moves.min(9) + usize::from(happened)).await;
        loop {
            if moves == 0 {
                self.waiting.register(me, waker);
                self.cut(2 * moves.min(9) + usize::from(happened)).await;
                self.goes_on(me, waker);
                break;
            }
            if !self.state().step() {
                self.cut(usize::from(happened)).await;
                break;
            }
            // Other handles may wait until all work is done.
            happened |= self.state().is_done();
            moves -= 1;
            self.cut(2 * moves.min(9) + usize::from(happened)).await;
        }
        if happened {
            self.waiting.wake_others(Some(me));
            self.cut(2 * moves.min(9) + usize::from(happened)).await;
        }
    }
}

impl State {
    fn has_event(&self) -> bool {
        let room = self.armed && self.room > 0;
        let bytes = self.readers_armed && self.is_done();
        room || bytes || self.later || self.handles == 0
    }

    /// The flag that the reactor will set. `None` once all handles are done.
    fn next_event(&mut self, waiting: &Arc<Waiting>) -> Option<Arc<Flag>> {
        if mem::replace(&mut self.later, false) {
            return Some(Flag::new(waiting, None));
        }
        if self.armed && self.room > 0 {
            self.armed = false;
            return Some(self.flag.clone());
        }
        let bytes = mem::replace(&mut self.readers_armed, false) && self.is_done();
        bytes.then(|| self.readers_flag.clone())
    }

    fn is_done(&self) -> bool {
        self.work == 0 && self.chores == 0
    }

    /// Does one thing, or arms.
    fn step(&mut self) -> bool {
        if self.chores > 0 {
            self.chores -= 1;
            return true;
        }
        if self.flag.take() {
            (self.ready, self.armed) = (true, false);
        }
        if self.work == 0 {
            return false;
        }
        if self.ready && self.room > 0 {
            (self.room, self.work) = (self.room - 1, self.work - 1);
            return true;
        }
        (self.ready, self.armed) = (false, true);
        false
    }

    fn has_bytes(&mut self) -> bool {
        if self.readers_flag.take() {
            (self.readers_ready, self.readers_armed) = (true, false);
        }
        self.readers_ready &= self.is_done();
        self.readers_ready
    }
}

/// Gives room for one move, then for another.
async fn kernel(world: Rc<World>) {
    world.state().room += 1;
    world.cut(0).await;
    world.state().room += 1;
}

async fn reactor(world: Rc<World>) {
    loop {
        world.waits_until(Waits::Event, 0).await;
        let Some(flag) = world.state().next_event(&world.waiting) else { return };
        // Like `Flag::wake`, in two parts.
        flag.set();
        world.cut(usize::from(flag.whom.is_some())).await;
        world.waiting.wake(flag.whom);
        world.cut(0).await;
    }
}

/// Like a reader that is awaited until it has its bytes.
async fn reads(world: Rc<World>) {
    let task = world.tasks[1].clone();
    let waker = Waker::from(task.clone());
    loop {
        let mut drives = world.waiting.take_news();
        world.cut(usize::from(drives)).await;
        let has_bytes = loop {
            if drives {
                world.drives(READER, &waker, usize::MAX).await;
            }
            if world.state().has_bytes() {
                break true;
            }
            if mem::replace(&mut drives, true) {
                break false;
            }
        };
        if has_bytes {
            world.waiting.forget(READER);
            world.state().handles -= 1;
            return;
        }
        world.state().readers_armed = true;
        world.waits_until(Waits::Woken(task.clone()), 0).await;
        task.0.store(false, Ordering::SeqCst);
    }
}

/// Like a reader that always has bytes, and uses up its slice now and then.
async fn streams(world: Rc<World>) {
    let task = world.tasks[1].clone();
    let waker = Waker::from(task.clone());
    while !world.state().is_done() {
        if world.waiting.take_news() {
            world.cut(0).await;
            world.drives(READER, &waker, usize::MAX).await;
            world.waiting.forget(READER);
        }
        world.cut(0).await;
        world.waiting.register(READER, &waker);
        world.cut(0).await;
        world.goes_on(READER, &waker);
        world.waits_until(Waits::Woken(task.clone()), 0).await;
        task.0.store(false, Ordering::SeqCst);
    }
    world.waiting.forget(READER);
    world.state().handles -= 1;
}

/// What happens to the main handle.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is awaited until the work is done.
    Stays,
    /// It is polled this many times, each time after it was woken, and not again.
    Left(usize),
    /// The same, and it is dropped some time later.
    Dropped(usize),
    /// Its only poll finds chores, and has time for one of them.
    Spent,
    /// It gets at once what it wants, which leaves chores, and it is not polled again.
    Served,
}

/// Like the main handle.
async fn leads(world: Rc<World>, fate: Fate) {
    let task = world.tasks[0].clone();
    let waker = Waker::from(task.clone());
    match fate {
        Fate::Stays => {
            while !world.state().is_done() {
                world.cut(0).await;
                world.drives(MAIN, &waker, usize::MAX).await;
                if !world.state().is_done() {
                    world.waits_until(Waits::Woken(task.clone()), 0).await;
                    task.0.store(false, Ordering::SeqCst);
                }
            }
            world.waiting.forget(MAIN);
        }
        Fate::Left(polls) | Fate::Dropped(polls) => {
            for poll in 0..polls {
                world.polls.set(poll);
                if poll > 0 && !world.state().is_done() {
                    world.waits_until(Waits::Woken(task.clone()), 0).await;
                }
                task.0.store(false, Ordering::SeqCst);
                world.drives(MAIN, &waker, usize::MAX).await;
            }
            if let Fate::Dropped(_) = fate {
                world.cut(0).await;
                world.waiting.forget(MAIN);
            }
        }
        Fate::Spent => {
            world.cut(0).await;
            world.state().chores += 2;
            world.drives(MAIN, &waker, 1).await;
        }
        Fate::Served => {
            world.cut(0).await;
            // As in `Connection::poll`: all of it under the state's lock.
            world.state().chores += 2;
            let hands_on = world.waiting.has_others() && world.state().step();
            world.cut(usize::from(hands_on)).await;
            if hands_on {
                world.waiting.hand_on(Some(MAIN));
            }
        }
    }
    world.state().handles -= 1;
}

#[test]
// Tens of thousands of cases, and no unsafe code.
#[cfg_attr(miri, ignore)]
fn no_wake_up_is_lost() {
    let fates = [Fate::Stays, Fate::Left(1), Fate::Dropped(1), Fate::Dropped(2), Fate::Spent, Fate::Served];
    for (fate, is_busy) in fates.into_iter().flat_map(|fate| [(fate, false), (fate, true)]) {
        let cases = Cases::all(&|world| {
            world.state().handles = 2;
            // More work shows nothing new, and has far more orders.
            let has_chores = matches!(fate, Fate::Spent | Fate::Served);
            world.state().work = 2 - usize::from(is_busy) - usize::from(has_chores);
            let main = Box::pin(leads(world.clone(), fate));
            let (kernel, reactor) = (kernel(world.clone()), reactor(world.clone()));
            let reader: Thread =
                if is_busy { Box::pin(streams(world.clone())) } else { Box::pin(reads(world.clone())) };
            vec![main, reader, Box::pin(kernel), Box::pin(reactor)]
        });
        println!("{fate:?}, {is_busy}: {cases} cases");
        assert!(cases > 100, "{fate:?}, {is_busy}: {cases} cases");
    }
}

//! Every order in which two handles and the reactor can get in each other's way: no handle is left waiting for
//! something that nobody is woken for.
//!
//! What registers and wakes is the real thing. The connection is a likeness of the real one, and keeps its rule: every
//! poll leaves all armed, or wakes all a moment later. It has some work that anybody may do whenever the kernel has
//! room for it, and a reader whose bytes come once the work is done, as those of a child that is fed.
//!
//! A thread is a future that is cut wherever another one may come between. All orders are tried, each from the
//! beginning and up to where all is as it was in another order before. Who waits and was not woken has no turn; if nobody
//! has one and not all are done, a wake-up was lost.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::*;

const MAIN: Handle = Handle::Main;
const READER: Handle = Handle::Reader(0);

type Thread = Pin<Box<dyn Future<Output = ()>>>;

/// Tries all orders of the threads that `begin` makes. How many different things can be the case.
fn in_every_order(begin: impl Fn(&Rc<World>) -> Vec<Thread>) -> usize {
    // Which thread was chosen at each turn, and of how many.
    let mut turns: Vec<(usize, usize)> = Vec::new();
    let mut known = HashSet::new();
    loop {
        let world = World::new();
        let mut threads: Vec<Option<Thread>> = begin(&world).into_iter().map(Some).collect();
        let mut order = Vec::new();
        loop {
            let has_turn = |index: &usize| threads[*index].is_some() && world.has_turn(*index);
            let choices: Vec<usize> = (0..threads.len()).filter(has_turn).collect();
            if choices.is_empty() {
                let waits = threads.iter().any(Option::is_some);
                assert!(!waits, "lost after {order:?}: {}", world.tells());
                break;
            }
            if order.len() == turns.len() {
                let done: Vec<bool> = threads.iter().map(Option::is_none).collect();
                if !known.insert(format!("{done:?} {}", world.tells())) {
                    break;
                }
                turns.push((0, choices.len()));
            }
            let (choice, count) = turns[order.len()];
            assert_eq!(count, choices.len(), "the same order has the same choices");
            order.push(choices[choice]);
            assert!(order.len() < 200, "it goes round and round: {order:?}");
            world.turn.set(choices[choice]);
            let thread = threads[choices[choice]].as_mut().expect("it is not done");
            if thread.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                threads[choices[choice]] = None;
            }
        }
        while turns.last().is_some_and(|(choice, count)| choice + 1 == *count) {
            turns.pop();
        }
        let Some((choice, _)) = turns.last_mut() else { return known.len() };
        *choice += 1;
    }
}

/// A task, which has a turn once it was woken.
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
    /// Whose turn it is.
    turn: Cell<usize>,
    /// What the threads wait for that have no turn.
    waits: RefCell<Vec<(usize, Waits)>>,
    /// Where each thread is cut, and what it knows there.
    places: RefCell<[(u32, usize); 4]>,
    /// How often the main handle was polled.
    polls: Cell<usize>,
    /// Of the main handle and the reader.
    tasks: [Arc<Task>; 2],
}

#[derive(Debug)]
enum Waits {
    Woken(Arc<Task>),
    Event,
}

/// The likeness of a connection's state, and of what the kernel knows.
struct State {
    /// There is room.
    flag: Arc<Flag>,
    /// The last attempt was not in vain, or the flag was set since.
    ready: bool,
    /// The reactor is asked for room.
    armed: bool,
    room: usize,
    work: usize,
    /// There are bytes for the reader.
    readers_flag: Arc<Flag>,
    readers_ready: bool,
    readers_armed: bool,
    /// What all are to be woken for a moment later.
    later: bool,
    /// The handles that are not done.
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
            work: 2,
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

    /// All that is the case.
    fn tells(&self) -> String {
        let state = self.state();
        let flags = [&state.flag.set, &state.readers_flag.set, &self.waiting.news];
        let bools = [state.ready, state.armed, state.readers_ready, state.readers_armed, state.later];
        let wakers = self.waiting.wakers.lock().expect("no panic");
        let registered =
            (wakers.main.is_some(), wakers.others.iter().map(|other| other.0).collect::<Vec<_>>());
        let counts = (state.room, state.work, state.handles, self.polls.get());
        let threads = (&self.tasks, self.waits.borrow(), self.places.borrow());
        format!(
            "flags {flags:?} {bools:?}; registered {registered:?}; counts {counts:?}; threads {threads:?}"
        )
    }

    /// Others may come between here. The thread goes on as it does for the place and what it knows.
    #[track_caller]
    fn cut(&self, knows: usize) -> impl Future<Output = ()> + use<> {
        self.places.borrow_mut()[self.turn.get()] = (Location::caller().line(), knows);
        let mut was_cut = false;
        poll_fn(move |_| if mem::replace(&mut was_cut, true) { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Has no turn until this is so.
    async fn waits_until(&self, what: Waits, knows: usize) {
        let thread = self.turn.get();
        self.waits.borrow_mut().push((thread, what));
        self.cut(knows).await;
        self.waits.borrow_mut().retain(|(of, _)| *of != thread);
    }

    fn wake_all_later(&self) {
        if self.waiting.somebody_waits() {
            self.state().later = true;
        }
    }

    /// The likeness of `Connection::poll`, with nothing wanted: moves all that can be moved. `moves` is for how many
    /// moves there is time.
    async fn drives(&self, me: Handle, waker: &Waker, mut moves: usize) {
        let mut happened = false;
        self.waiting.register(me, waker);
        self.cut(2 * moves.min(9) + usize::from(happened)).await;
        loop {
            if moves == 0 {
                self.waiting.register(me, waker);
                self.cut(2 * moves.min(9) + usize::from(happened)).await;
                self.wake_all_later();
                break;
            }
            let moved = self.state().step();
            self.cut(2 * moves.min(9) + usize::from(happened)).await;
            if !moved {
                break;
            }
            happened = true;
            moves -= 1;
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
        let bytes = self.readers_armed && self.work == 0;
        room || bytes || self.later || self.handles == 0
    }

    /// The flag that the reactor is to set; `None` once all are done.
    fn next_event(&mut self, waiting: &Arc<Waiting>) -> Option<Arc<Flag>> {
        if mem::replace(&mut self.later, false) {
            return Some(Flag::new(waiting, None));
        }
        if self.armed && self.room > 0 {
            self.armed = false;
            return Some(self.flag.clone());
        }
        let bytes = mem::replace(&mut self.readers_armed, false) && self.work == 0;
        bytes.then(|| self.readers_flag.clone())
    }

    /// Does one thing, or arms.
    fn step(&mut self) -> bool {
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
        self.readers_ready &= self.work == 0;
        self.readers_ready
    }
}

/// Gives room for one thing after the other.
async fn kernel(world: Rc<World>) {
    world.state().room += 1;
    world.cut(0).await;
    world.state().room += 1;
}

async fn reactor(world: Rc<World>) {
    loop {
        world.waits_until(Waits::Event, 0).await;
        let Some(flag) = world.state().next_event(&world.waiting) else { return };
        // As its `wake`, cut in two.
        flag.set();
        world.cut(usize::from(flag.whom.is_some())).await;
        world.waiting.wake(flag.whom);
        world.cut(0).await;
    }
}

/// The likeness of a reader that is awaited until it has its bytes.
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

/// What becomes of the main handle.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is awaited until the work is done.
    Stays,
    /// It is polled so many times, when it is woken, and no more.
    Left(usize),
    /// The same, and dropped some time later.
    Dropped(usize),
    /// In its poll there is time for one move; then it is polled no more.
    Spent,
    /// It finds at once what it wants, and is polled no more.
    Served,
}

/// The likeness of the main handle.
async fn leads(world: Rc<World>, fate: Fate) {
    let task = world.tasks[0].clone();
    let waker = Waker::from(task.clone());
    match fate {
        Fate::Stays => {
            while world.state().work > 0 {
                world.cut(0).await;
                world.drives(MAIN, &waker, usize::MAX).await;
                if world.state().work > 0 {
                    world.waits_until(Waits::Woken(task.clone()), 0).await;
                    task.0.store(false, Ordering::SeqCst);
                }
            }
            world.waiting.forget(MAIN);
        }
        Fate::Left(polls) | Fate::Dropped(polls) => {
            for poll in 0..polls {
                world.polls.set(poll);
                if poll > 0 && world.state().work > 0 {
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
        Fate::Spent => world.drives(MAIN, &waker, 1).await,
        Fate::Served => {
            // As in `Connection::poll`: all of it under the state's lock.
            let hands_on = world.waiting.has_others() && world.state().step();
            world.cut(usize::from(hands_on)).await;
            if hands_on {
                world.waiting.hand_on(MAIN);
            }
        }
    }
    world.state().handles -= 1;
}

#[test]
fn no_wake_up_is_lost() {
    let fates = [
        Fate::Stays,
        Fate::Left(1),
        Fate::Left(2),
        Fate::Dropped(1),
        Fate::Dropped(2),
        Fate::Spent,
        Fate::Served,
    ];
    for fate in fates {
        let cases = in_every_order(|world| {
            world.state().handles = 2;
            let (main, reader) = (leads(world.clone(), fate), reads(world.clone()));
            let (kernel, reactor) = (kernel(world.clone()), reactor(world.clone()));
            vec![Box::pin(main), Box::pin(reader), Box::pin(kernel), Box::pin(reactor)]
        });
        println!("{fate:?}: {cases} cases");
        assert!(cases > 100, "{fate:?}: {cases} cases");
    }
}

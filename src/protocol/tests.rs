//! The rules, for every order of facts. It starts no process, so it runs under Miri too.

use proptest::prelude::*;

use super::*;

/// A fact that a transport can report, for any channel that is still open.
#[derive(Clone, Debug)]
enum Fact {
    Data(Slot, Vec<u8>),
    Closed(Slot),
    Failed(Slot),
    Exited,
    TimedOut,
    Idle,
    /// The drain timeout expired.
    Waited,
    /// A kill by the caller.
    EndedByUs,
    /// The pipes were read after the exit.
    Settled,
}

const CHANNELS: usize = 4;
const FDS: [i32; CHANNELS] = [0, 1, 2, 7];

fn out<const N: usize>(fds: [i32; N]) -> Protocol {
    Protocol::new(fds.map(|fd| (fd, Direction::Out)))
}

fn fact() -> impl Strategy<Value = Fact> {
    let slot = 0..CHANNELS;
    prop_oneof![
        6 => (slot.clone(), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(s, b)| Fact::Data(s, b)),
        3 => slot.clone().prop_map(Fact::Closed),
        1 => slot.prop_map(Fact::Failed),
        2 => Just(Fact::Exited),
        1 => prop_oneof![Just(Fact::TimedOut), Just(Fact::Idle), Just(Fact::Waited), Just(Fact::EndedByUs), Just(Fact::Settled)],
    ]
}

fn lost() -> Exit {
    Exit::Lost
}

fn fd_of(fault: &Fault) -> i32 {
    match fault {
        Fault::Io { fd, .. } | Fault::Limit { fd } => *fd,
        Fault::TimedOut | Fault::Idle => -1,
    }
}

/// One channel has a limit in these tests.
const LIMITED: Slot = 2;
const LIMIT: usize = 25;

/// A simple model that the protocol is compared with.
#[derive(Default)]
struct Model {
    closed: [bool; CHANNELS],
    collected: [Vec<u8>; CHANNELS],
    exited: bool,
    first_fault: Option<i32>,
    /// The first fault asks the child to end before it is killed.
    polite: bool,
    terminated: bool,
    killed: bool,
    waited: bool,
}

impl Model {
    fn fault(&mut self, fd: i32, polite: bool) {
        if self.first_fault.is_none() {
            (self.first_fault, self.polite) = (Some(fd), polite);
        }
    }

    fn open(&self) -> Vec<Slot> {
        (0..CHANNELS).filter(|slot| !self.closed[*slot]).collect()
    }

    fn ended(&self) -> bool {
        self.exited && self.closed.iter().all(|closed| *closed)
    }

    /// What the protocol must return.
    fn next(&self) -> Next {
        let hurry = self.first_fault.is_some() || self.terminated || self.killed || self.waited;
        match self.exited {
            true if self.ended() => Next::Ended,
            true if hurry => Next::Drain(self.open()[0]),
            true => Next::Wait,
            false if self.first_fault.is_some() && self.polite && !self.terminated => Next::Terminate,
            false if self.first_fault.is_some() && !self.polite && !self.killed => Next::Kill,
            false => Next::Wait,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 32 } else { 4096 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every interleaving of data, ends, exits and faults, and of a timeout at any moment.
    #[test]
    fn every_interleaving_keeps_the_rules(facts in proptest::collection::vec(fact(), 0..60)) {
        let mut protocol = out(FDS);
        protocol.limit(LIMITED, LIMIT as u64);
        let mut model = Model::default();
        let mut outcome = None;
        for fact in facts {
            // A transport never reports these twice, and the protocol need not accept it.
            match fact {
                Fact::Data(slot, bytes) if !model.closed[slot] => {
                    protocol.buffer(slot).extend_from_slice(&bytes);
                    protocol.received(slot, bytes.len());
                    model.collected[slot].extend_from_slice(&bytes);
                    if slot == LIMITED && model.collected[slot].len() > LIMIT {
                        model.collected[slot].truncate(LIMIT);
                        model.fault(FDS[slot], false);
                    }
                }
                Fact::Closed(slot) if !model.closed[slot] => {
                    protocol.closed(slot);
                    model.closed[slot] = true;
                }
                Fact::Failed(slot) if !model.closed[slot] => {
                    protocol.failed(slot, io::Error::from(io::ErrorKind::BrokenPipe));
                    model.closed[slot] = true;
                    model.fault(FDS[slot], false);
                }
                Fact::Exited if !model.exited => {
                    protocol.exited(lost());
                    model.exited = true;
                }
                Fact::TimedOut if !model.ended() => {
                    protocol.timed_out();
                    model.fault(-1, true);
                }
                Fact::Idle if !model.ended() => {
                    protocol.idle();
                    model.fault(-1, true);
                }
                Fact::Waited if model.exited => {
                    protocol.waited();
                    model.waited = true;
                }
                Fact::EndedByUs => {
                    protocol.terminated();
                    model.terminated = true;
                }
                Fact::Settled if model.exited => {
                    protocol.settled();
                }
                _ => continue,
            }
            prop_assert_eq!(protocol.all_closed(), model.closed.iter().all(|closed| *closed));
            prop_assert_eq!(protocol.next(), model.next());
            // Once the outcome is known it does not change, and at the end it is known.
            let now = protocol.outcome().map(|(_, fault)| fault.as_ref().map(fd_of));
            prop_assert!(outcome.is_none() || now == outcome, "{outcome:?}, then {now:?}");
            prop_assert!(now.is_none() || model.exited && now.flatten().is_none_or(|fd| Some(fd) == model.first_fault));
            prop_assert!(now.is_some() || !model.ended());
            outcome = now;
            match protocol.next() {
                Next::Ended => break,
                Next::Terminate => {
                    protocol.terminated();
                    model.terminated = true;
                    prop_assert_eq!(protocol.next(), Next::Wait, "asked once");
                }
                Next::Kill => {
                    protocol.killed();
                    model.killed = true;
                    prop_assert_eq!(protocol.next(), Next::Wait, "killed once");
                }
                Next::Drain(_) => {
                    let open = model.open();
                    for slot in &open {
                        prop_assert_eq!(protocol.next(), Next::Drain(*slot));
                        protocol.drained(*slot, true);
                    }
                    prop_assert_eq!(protocol.next(), Next::Ended, "waited for descendants");
                    let still_open: Vec<i32> = open.iter().map(|slot| FDS[*slot]).collect();
                    let ending = protocol.into_ending();
                    prop_assert_eq!(ending.still_open, still_open);
                    return Ok(());
                }
                Next::Wait => {}
            }
        }
        let ending = protocol.into_ending();
        prop_assert!(ending.still_open.is_empty());
        prop_assert_eq!(ending.fault.map(|fault| fd_of(&fault)), model.first_fault);
        for (slot, (fd, bytes)) in ending.collected.iter().enumerate() {
            prop_assert_eq!(*fd, FDS[slot]);
            prop_assert_eq!(bytes, &model.collected[slot]);
        }
    }
}

#[test]
fn exit_before_end_of_file_waits_for_the_pipe() {
    let mut protocol = out([1]);
    protocol.exited(lost());
    assert_eq!(protocol.next(), Next::Wait);
    protocol.buffer(0).extend_from_slice(b"late");
    assert_eq!(protocol.next(), Next::Wait);
    protocol.closed(0);
    assert_eq!(protocol.next(), Next::Ended);
    assert_eq!(protocol.into_ending().collected, [(1, b"late".to_vec())]);
}

#[test]
fn end_of_file_before_exit_waits_for_the_exit() {
    let mut protocol = out([1, 2]);
    protocol.closed(0);
    protocol.closed(1);
    assert_eq!(protocol.next(), Next::Wait);
    protocol.exited(lost());
    assert_eq!(protocol.next(), Next::Ended);
}

#[test]
fn without_pipes_the_exit_is_the_end() {
    let mut protocol = Protocol::new([]);
    assert_eq!(protocol.next(), Next::Wait);
    protocol.exited(lost());
    assert_eq!(protocol.next(), Next::Ended);
}

#[test]
fn an_open_feed_holds_back_the_end() {
    let mut protocol = Protocol::new([(0, Direction::In)]);
    protocol.exited(lost());
    assert_eq!(protocol.next(), Next::Wait, "a descendant still takes the input");
    protocol.closed(0);
    assert_eq!(protocol.next(), Next::Ended);
}

#[test]
fn a_fault_kills_then_takes_what_is_there() {
    let mut protocol = Protocol::new([(0, Direction::In), (1, Direction::Out)]);
    protocol.failed(0, io::Error::other("reader"));
    assert_eq!(protocol.next(), Next::Kill);
    protocol.killed();
    assert_eq!(protocol.next(), Next::Wait);
    protocol.buffer(1).extend_from_slice(b"kept");
    protocol.exited(lost());
    assert_eq!(protocol.next(), Next::Drain(1));
    protocol.drained(1, false);
    assert_eq!(protocol.next(), Next::Ended);
    let ending = protocol.into_ending();
    assert_eq!(fd_of(&ending.fault.expect("the fault")), 0);
    assert_eq!(ending.collected, [(1, b"kept".to_vec())]);
}

/// One thing that happens between two calls of `notice`.
#[derive(Clone, Debug)]
enum Step {
    Fact(Fact),
    Settled,
    Pause(Slot, bool),
    Release(Slot),
    /// How many calls of `notice`.
    Look(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => fact().prop_map(Step::Fact),
        1 => Just(Step::Settled),
        2 => (0..CHANNELS, any::<bool>()).prop_map(|(slot, paused)| Step::Pause(slot, paused)),
        1 => (0..CHANNELS).prop_map(Step::Release),
        4 => (1..4_usize).prop_map(Step::Look),
    ]
}

/// Checks the rules of events.
#[derive(Default)]
struct Listener {
    data: [Vec<u8>; CHANNELS],
    closed: [bool; CHANNELS],
    failed: usize,
    exited: bool,
    ended: bool,
}

impl Listener {
    fn hear(&mut self, notice: Notice) {
        assert!(!self.ended, "{notice:?} after the end");
        let slot = |fd| FDS.iter().position(|known| *known == fd).expect("one of ours");
        match notice {
            Notice::Data { fd, data } => {
                assert!(!data.is_empty() && !self.closed[slot(fd)], "data after the close of {fd}");
                self.data[slot(fd)].extend(data);
            }
            Notice::Closed { fd } => {
                assert!(!std::mem::replace(&mut self.closed[slot(fd)], true), "{fd} closed twice");
            }
            Notice::Fault(_) => self.failed += 1,
            Notice::Exited(_) => assert!(!std::mem::replace(&mut self.exited, true), "exited twice"),
            Notice::Ended(_) => {
                assert!(self.exited, "ended before it exited");
                self.ended = true;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 32 } else { 4096 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Facts, pauses and takeovers in any order. Every byte is reported once and in order, before the close of its
    /// descriptor. The end is reported once, last, and as soon as it is there.
    #[test]
    fn events_keep_their_promises(steps in proptest::collection::vec(step(), 0..80)) {
        let mut protocol = out(FDS);
        let mut listener = Listener::default();
        let mut sent: [Vec<u8>; CHANNELS] = Default::default();
        let mut taken: [Option<Vec<u8>>; CHANNELS] = Default::default();
        let mut open = [true; CHANNELS];
        let mut faults = 0;
        let finish = |protocol: &mut Protocol, open: &mut [bool; CHANNELS], listener: &mut Listener| {
            protocol.resume_all();
            for (slot, open) in open.iter_mut().enumerate().filter(|(_, open)| **open) {
                protocol.closed(slot);
                *open = false;
            }
            if !protocol.has_exited() {
                protocol.exited(lost());
            }
            protocol.settled();
            while let Some(notice) = protocol.notice() {
                listener.hear(notice);
            }
        };
        for step in steps {
            match step {
                Step::Fact(Fact::Data(slot, bytes)) if open[slot] => {
                    protocol.buffer(slot).extend_from_slice(&bytes);
                    sent[slot].extend(bytes);
                }
                Step::Fact(Fact::Closed(slot)) if open[slot] => {
                    protocol.closed(slot);
                    open[slot] = false;
                }
                Step::Fact(Fact::Failed(slot)) if open[slot] => {
                    protocol.failed(slot, io::Error::other("broken"));
                    open[slot] = false;
                    faults += 1;
                }
                Step::Fact(Fact::Exited) if !protocol.has_exited() => protocol.exited(lost()),
                Step::Settled if protocol.has_exited() => drop(protocol.settled()),
                Step::Pause(slot, paused) => {
                    protocol.pause(slot, paused);
                    prop_assert_eq!(protocol.wants(slot), !paused);
                }
                Step::Release(slot) if open[slot] => {
                    taken[slot] = Some(protocol.released(slot));
                    open[slot] = false;
                }
                Step::Look(times) => {
                    for _ in 0..times {
                        match protocol.notice() {
                            Some(notice) => listener.hear(notice),
                            None => break,
                        }
                    }
                }
                _ => {}
            }
            if listener.ended {
                prop_assert!(open.iter().all(|open| !open), "ended with an open pipe");
                prop_assert!(protocol.is_over());
                break;
            }
        }
        finish(&mut protocol, &mut open, &mut listener);
        prop_assert!(listener.ended && protocol.is_over() && protocol.notice().is_none());
        prop_assert_eq!(listener.failed, usize::from(faults > 0), "the first fault, once");
        for slot in 0..CHANNELS {
            let mut reported = listener.data[slot].clone();
            // The bytes that were taken over come after the reported ones, and are not reported.
            prop_assert_eq!(listener.closed[slot], taken[slot].is_none());
            reported.extend(taken[slot].take().unwrap_or_default());
            prop_assert_eq!(&reported, &sent[slot]);
        }
    }
}

#[test]
fn a_limit_met_exactly_is_no_fault() {
    for (bytes, kept, fault) in [(&b"12345"[..], &b"12345"[..], false), (b"123456", b"12345", true)] {
        let mut protocol = out([1]);
        protocol.limit(0, 5);
        protocol.buffer(0).extend_from_slice(bytes);
        protocol.received(0, bytes.len());
        assert_eq!(protocol.next(), if fault { Next::Kill } else { Next::Wait });
        protocol.closed(0);
        protocol.exited(lost());
        assert_eq!(protocol.next(), Next::Ended);
        assert_eq!(protocol.into_ending().collected, [(1, kept.to_vec())]);
    }
}

#[test]
fn a_deadline_after_the_end_is_none() {
    let mut protocol = Protocol::new([]);
    protocol.exited(lost());
    protocol.timed_out();
    protocol.idle();
    assert_eq!(protocol.next(), Next::Ended);
    assert!(protocol.into_ending().fault.is_none());
}

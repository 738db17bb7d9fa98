//! The protocol layer: facts in any order, and what the layer may report at each moment.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::choices::Choices;
use crate::output::Exit;
use crate::protocol::{Direction, Fault, Next, Notice, Protocol, Slot};

/// Numbers that are not slots.
const FDS: [i32; 5] = [0, 1, 2, 7, 30];

/// What happened, and what was reported. The log asks the layer nothing.
#[derive(Default)]
struct Log {
    channels: Vec<Channel>,
    exit: Option<Exit>,
    settled: bool,
    fault: Option<What>,
    /// SIGTERM was sent, or another part of this program has ended the child.
    ended_by_us: bool,
    killed: bool,
    waited: bool,
    fault_told: bool,
    exit_told: bool,
    end_told: bool,
}

struct Channel {
    fd: i32,
    direction: Direction,
    open: bool,
    released: bool,
    paused: bool,
    left_open: bool,
    close_told: bool,
    room: usize,
    /// All bytes that came, in their order, up to the limit.
    kept: Vec<u8>,
    /// How many of them were reported, or handed over.
    told: usize,
}

/// A fault, as far as it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Io(i32),
    TimedOut,
    Idle,
    Limit(i32),
}

impl What {
    fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Io { fd, .. } => What::Io(*fd),
            Fault::TimedOut => What::TimedOut,
            Fault::Idle => What::Idle,
            Fault::Limit { fd } => What::Limit(*fd),
        }
    }

    /// The child is only late, so it gets the polite signal.
    fn is_polite(self) -> bool {
        matches!(self, What::TimedOut | What::Idle)
    }
}

impl Log {
    fn all_closed(&self) -> bool {
        self.channels.iter().all(|channel| !channel.open)
    }

    fn is_there(&self) -> bool {
        self.exit.is_some() && self.all_closed()
    }

    fn was_stopped(&self) -> bool {
        self.fault.is_some() || self.ended_by_us || self.killed
    }

    fn late(&mut self, what: What) {
        if !self.is_there() {
            self.fault.get_or_insert(what);
        }
    }

    fn next(&self) -> Next {
        if self.is_there() {
            Next::Ended
        } else if self.exit.is_some() {
            // Only after this program ended the child, or a time is over, it does not wait for grandchildren.
            let first = self.channels.iter().position(|channel| channel.open);
            match first.filter(|_| self.was_stopped() || self.waited) {
                Some(slot) => Next::Drain(slot),
                None => Next::Wait,
            }
        } else {
            match self.fault {
                Some(what) if what.is_polite() && !self.ended_by_us && !self.killed => Next::Terminate,
                Some(what) if !what.is_polite() && !self.killed => Next::Kill,
                _ => Next::Wait,
            }
        }
    }

    /// Whether the exit may be reported: after it, the pipes were looked at.
    fn was_looked_at(&self) -> bool {
        self.exit.is_some() && (self.settled || self.all_closed())
    }
}

impl Channel {
    fn rest(&self) -> &[u8] {
        &self.kept[self.told..]
    }

    /// Whether the channel has nothing to report now.
    fn is_silent(&self) -> bool {
        self.paused || self.released || (self.rest().is_empty() && (self.open || self.close_told))
    }
}

/// **Invariant.** Facts in any order that a transport may have, commands of the user between them, and looks
/// at the events at any moment. The rules are at the head of `protocol/mod.rs`:
///
/// - The next step ([`Next`]) follows from the facts alone. The child has ended if it was reaped and all pipes are
///   closed. The first fault ends it, at once or politely. After that, or when the time after the exit is over, the
///   pipes are drained.
/// - Each notice is true at its moment, comes in its order, and comes once.
/// - No notice comes after the end, or from a channel that is paused or was taken over.
/// - No channel gives more than its limit.
/// - If there is no notice, nothing is left to report.
/// - The rest at the end is exactly what was not reported.
pub fn protocol(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (mut protocol, mut log) = start(&mut choices);
    let collects = choices.yes();
    while !choices.is_over() && !log.end_told {
        act(&mut choices, &mut protocol, &mut log);
        check(&protocol, &log);
    }
    finish(&mut protocol, &mut log);
    if collects {
        return check_ending(protocol, &log);
    }
    while look(&mut protocol, &mut log) {}
    assert!(log.end_told, "the end was not told");
    assert!(log.channels.iter().all(|channel| channel.rest().is_empty()), "bytes were never told");
    for _ in 0..2 {
        assert!(!look(&mut protocol, &mut log), "something after the end");
    }
    check_ending(protocol, &log);
}

fn start(choices: &mut Choices<'_>) -> (Protocol, Log) {
    let mut log = Log::default();
    for fd in FDS.into_iter().take(choices.below(FDS.len() + 1)) {
        let direction = if choices.yes() { Direction::In } else { Direction::Out };
        log.channels.push(Channel {
            fd,
            direction,
            open: true,
            released: false,
            paused: false,
            left_open: false,
            close_told: false,
            room: usize::MAX,
            kept: Vec::new(),
            told: 0,
        });
    }
    let mut protocol = Protocol::new(log.channels.iter().map(|channel| (channel.fd, channel.direction)));
    for (slot, channel) in log.channels.iter_mut().enumerate() {
        let most = choices.byte();
        if most < 64 {
            protocol.limit(slot, most.into());
            channel.room = most.into();
        }
        assert_eq!(protocol.slot(channel.fd, channel.direction), Some(slot));
    }
    assert_eq!(protocol.slot(99, Direction::Out), None);
    (protocol, log)
}

/// One fact, one command, or one look.
fn act(choices: &mut Choices<'_>, protocol: &mut Protocol, log: &mut Log) {
    let op = choices.below(18);
    if log.channels.is_empty() && op < 8 {
        return;
    }
    let slot = if op < 8 { choices.below(log.channels.len()) } else { 0 };
    match op {
        // A transport reads only a channel that the layer wants read.
        0..=2 if log.channels[slot].open && !log.channels[slot].paused => {
            receive(protocol, log, slot, choices.below(40));
        }
        3 if log.channels[slot].open => {
            protocol.closed(slot);
            log.channels[slot].open = false;
        }
        // Closing a channel that was taken over is allowed, and changes nothing.
        3 if log.channels[slot].released => protocol.closed(slot),
        4 if log.channels[slot].open => {
            protocol.failed(slot, io::Error::from(io::ErrorKind::BrokenPipe));
            log.channels[slot].open = false;
            log.fault.get_or_insert(What::Io(log.channels[slot].fd));
        }
        5 if log.channels[slot].open => {
            let channel = &mut log.channels[slot];
            assert_eq!(protocol.released(slot), channel.rest(), "handed over");
            (channel.open, channel.released, channel.told) = (false, true, channel.kept.len());
        }
        6 | 7 => {
            log.channels[slot].paused = op == 6;
            protocol.pause(slot, op == 6);
        }
        8 if log.exit.is_none() => exit(protocol, log, choices.byte()),
        9 => {
            protocol.timed_out();
            log.late(What::TimedOut);
        }
        10 => {
            protocol.idle();
            log.late(What::Idle);
        }
        11 if log.exit.is_some() => {
            protocol.waited();
            log.waited = true;
        }
        12 => {
            protocol.terminated();
            log.ended_by_us = true;
        }
        13 if log.exit.is_some() => {
            assert_eq!(protocol.settled(), !log.settled, "whether it was new");
            log.settled = true;
        }
        14 => {
            protocol.resume_all();
            log.channels.iter_mut().for_each(|channel| channel.paused = false);
        }
        15 => obey(choices, protocol, log),
        16 | 17 => {
            for _ in 0..=choices.below(4) {
                look(protocol, log);
            }
        }
        _ => {}
    }
}

fn receive(protocol: &mut Protocol, log: &mut Log, slot: Slot, count: usize) {
    let channel = &mut log.channels[slot];
    if channel.direction == Direction::In {
        return;
    }
    // A lost, doubled or swapped byte shows, and so does a byte of another channel.
    let came = channel.kept.len();
    let bytes: Vec<u8> = (came..came + count).map(|place| (place * 5 + slot) as u8).collect();
    protocol.buffer(slot).extend_from_slice(&bytes);
    protocol.received(slot, count);
    let kept = count.min(channel.room);
    channel.room -= kept;
    channel.kept.extend(&bytes[..kept]);
    if kept < count {
        log.fault.get_or_insert(What::Limit(channel.fd));
    }
}

fn exit(protocol: &mut Protocol, log: &mut Log, code: u8) {
    let exit = match code {
        255 => Exit::Lost,
        code => Exit::Reaped(ExitStatus::from_raw(i32::from(code) << 8), None),
    };
    protocol.exited(exit);
    log.exit = Some(exit);
}

/// Does what the layer asks for, as the transport does.
fn obey(choices: &mut Choices<'_>, protocol: &mut Protocol, log: &mut Log) {
    match protocol.next() {
        Next::Wait | Next::Ended => {}
        Next::Terminate => {
            protocol.terminated();
            log.ended_by_us = true;
            assert_eq!(protocol.next(), Next::Wait, "asked twice");
        }
        Next::Kill => {
            protocol.killed();
            log.killed = true;
            assert_eq!(protocol.next(), Next::Wait, "killed twice");
        }
        Next::Drain(_) => {
            for slot in 0..log.channels.len() {
                if !log.channels[slot].open {
                    continue;
                }
                assert_eq!(protocol.next(), Next::Drain(slot), "drained out of turn");
                if log.channels[slot].direction == Direction::Out {
                    // Takes the bytes in the pipe, whether the channel is paused or not.
                    receive(protocol, log, slot, choices.below(8));
                    log.channels[slot].left_open = choices.yes();
                }
                log.channels[slot].open = false;
                protocol.drained(slot, log.channels[slot].left_open);
            }
            assert_eq!(protocol.next(), Next::Ended, "waits after it was drained");
        }
    }
}

/// The rest of any life: nothing is paused, all is closed, the child is reaped.
fn finish(protocol: &mut Protocol, log: &mut Log) {
    protocol.resume_all();
    log.channels.iter_mut().for_each(|channel| channel.paused = false);
    if log.exit.is_none() {
        exit(protocol, log, 3);
        check(protocol, log);
    }
    for slot in 0..log.channels.len() {
        if log.channels[slot].open {
            protocol.closed(slot);
            log.channels[slot].open = false;
            check(protocol, log);
        }
    }
    assert_eq!(protocol.next(), Next::Ended);
}

/// What can be checked at any moment.
fn check(protocol: &Protocol, log: &Log) {
    assert_eq!(protocol.next(), log.next());
    assert_eq!(protocol.all_closed(), log.all_closed());
    assert_eq!(protocol.has_exited(), log.exit.is_some());
    assert_eq!(protocol.was_stopped(), log.was_stopped());
    assert_eq!(protocol.is_over(), log.end_told);
    for (slot, channel) in log.channels.iter().enumerate() {
        assert_eq!(protocol.wants(slot), !channel.paused);
    }
    assert_eq!(protocol.holds_back(), log.channels.iter().any(|c| c.paused && !c.rest().is_empty()));
}

/// Takes one notice, and checks that it is true. If there is none, checks that there should be none.
fn look(protocol: &mut Protocol, log: &mut Log) -> bool {
    let Some(notice) = protocol.notice() else {
        assert!(log.channels.iter().all(Channel::is_silent), "a channel has something to tell");
        assert_eq!(log.fault_told, log.fault.is_some(), "the fault");
        assert_eq!(log.exit_told, log.was_looked_at(), "the exit");
        let all_told = log.channels.iter().all(|c| c.released || c.close_told);
        assert_eq!(log.end_told, log.is_there() && all_told, "the end");
        return false;
    };
    assert!(!log.end_told, "{notice:?} after the end");
    let silent = log.channels.iter().all(Channel::is_silent);
    match notice {
        Notice::Data { fd, data } => {
            let channel = find(log, fd);
            assert!(!channel.paused && !channel.released && !channel.close_told, "bytes of {fd} now");
            assert!(!data.is_empty() && channel.rest().starts_with(&data), "other bytes of {fd}: {data:?}");
            channel.told += data.len();
        }
        Notice::Closed { fd } => {
            let channel = find(log, fd);
            assert!(!channel.open && !channel.paused && !channel.released, "the close of {fd} now");
            assert!(channel.rest().is_empty(), "{fd} closed before its last bytes");
            assert!(!std::mem::replace(&mut channel.close_told, true), "{fd} closed twice");
        }
        Notice::Fault(fault) => {
            assert_eq!(Some(What::of(&fault)), log.fault, "not the first fault");
            assert!(!std::mem::replace(&mut log.fault_told, true), "a second fault");
        }
        Notice::Exited(exit) => {
            assert!(silent && log.was_looked_at() && log.fault_told == log.fault.is_some(), "the exit now");
            assert_eq!(Some(exit), log.exit);
            assert!(!std::mem::replace(&mut log.exit_told, true), "a second exit");
        }
        Notice::Ended(exit) => {
            assert!(log.exit_told && log.all_closed(), "the end before the exit");
            assert!(log.channels.iter().all(|c| c.released || c.close_told), "the end before a close");
            assert_eq!(Some(exit), log.exit);
            log.end_told = true;
        }
    }
    true
}

fn find(log: &mut Log, fd: i32) -> &mut Channel {
    log.channels.iter_mut().find(|channel| channel.fd == fd).expect("one of ours")
}

fn check_ending(protocol: Protocol, log: &Log) {
    let ending = protocol.into_ending();
    assert_eq!(Some(ending.exit), log.exit);
    assert_eq!(ending.fault.as_ref().map(What::of), log.fault, "not the first fault");
    let outputs = || log.channels.iter().filter(|c| c.direction == Direction::Out && !c.released);
    let collected: Vec<(i32, Vec<u8>)> = outputs().map(|c| (c.fd, c.rest().to_vec())).collect();
    assert_eq!(ending.collected, collected);
    let open: Vec<i32> = log.channels.iter().filter(|c| c.left_open).map(|c| c.fd).collect();
    assert_eq!(ending.still_open, open);
}

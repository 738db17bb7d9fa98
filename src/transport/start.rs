//! From a launch to a running child with its connection.
//!
//! Refuses to know what happens after the start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::clock::{Activity, Bounds, Clock};
use super::connection::Connection;
use super::feed::Feeder;
use super::output::Output;
use super::pipe::{ReadEnd, WriteEnd};
use super::slice::Slice;
use super::state::{PipeState, State};
use super::tee::Tee;
use super::terminal::Terminal;
use super::trace::Trace;
use super::user_code::UserCodeCell;
use super::waiting::{Flag, Handle, Waiting};
use super::writer::WriterPipe;
use super::{Transport, clock};
use crate::error::Refusal;
use crate::protocol::{Direction, Keep, Protocol, Slot};
use crate::spawn::{Launch, OnDrop, Pipe, spawn};
use crate::stdio::{Feed, ReaderSlot, WriterSlot};

/// What a child's pipes carry, and its bounds.
pub(crate) struct Flows {
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) on_drop: OnDrop,
    /// By the child's descriptor. A pipe out of the child whose bytes are only collected needs none.
    pub(crate) pipes: Vec<(i32, Flow)>,
    pub(crate) trace: Trace,
}

/// Where the bytes of a pipe come from, or go to. The caller's code is taken out once the child exists, so that a failed
/// start does not use it up.
pub(crate) enum Flow {
    /// Into the child: these bytes.
    Bytes(Feed),
    /// Into the child: what the reader returns.
    Reader(ReaderSlot),
    /// Into the child: the caller writes, with a writer that is taken out.
    Writer,
    /// Out of the child: collected, and copied to the writer.
    Tee(WriterSlot),
    /// Out of the child: copied to the writer, and not kept.
    Copy(WriterSlot),
    /// Out of the child: collected. It is secret.
    #[cfg(unix)]
    Wiped,
}

impl Transport {
    /// Starts a child. Each `Input` end of the launch has a flow of the same number. All `Output` ends are collected.
    pub(crate) fn start(launch: &Launch<'_>, mut flows: Flows) -> Result<Self, Refusal> {
        let started = Instant::now();
        // If anything fails from here on, dropping the child kills and reaps it.
        let spawned = spawn(launch)?;
        let child = spawned.child.remote();
        flows.trace.started(child.pid());
        let waiting = Arc::<Waiting>::default();
        let terminal = spawned.ours.terminal.map(|end| Box::new(Terminal::new(end, spawned.ours.child_end)));
        let channel = |(fd, _): &(i32, Pipe)| (*fd, flows.direction(*fd));
        let mut protocol = Protocol::new(spawned.ours.pipes.iter().map(channel));
        let mut pipes = Vec::with_capacity(spawned.ours.pipes.len());
        for (slot, (fd, pipe)) in spawned.ours.pipes.into_iter().enumerate() {
            let is_terminal = terminal.is_some() && fd <= 1;
            pipes.push(flows.connect(&waiting, &mut protocol, slot, pipe, is_terminal)?);
        }
        child.on_drop(flows.on_drop);
        let deadline = flows.bounds.timeout.and_then(|most| started.checked_add(most));
        let child_flag = Flag::new(&waiting, None);
        // So that the first look finds a child that has already exited.
        child_flag.set();
        let Bounds { grace, stop_signal, .. } = *flows.bounds;
        spawned.child.watch(deadline, grace, stop_signal, child_flag.waker());
        let activity = flows.activity();
        let state = State {
            child: spawned.child,
            protocol,
            pipes,
            clock: Clock::new(deadline, &flows.bounds, activity.clone(), Flag::new(&waiting, None)),
            terminal,
            child_flag,
            activity,
            trace: flows.trace,
            turn: 0,
            exited_at: None,
            ended_at: None,
            outlived: false,
            is_due: false,
            is_cut_off: false,
            drained: Vec::new(),
            garbage: Vec::new(),
        };
        let connection = Arc::new(Connection::new(waiting, state));
        Ok(Transport { connection, slice: Slice::default(), started, ahead: None, child })
    }
}

impl Flow {
    /// Whether the bytes go into the child.
    pub(crate) fn leads_in(&self) -> bool {
        matches!(self, Flow::Bytes(_) | Flow::Reader(_) | Flow::Writer)
    }
}

impl Flows {
    fn direction(&self, fd: i32) -> Direction {
        let leads_in = self.pipes.iter().any(|(n, flow)| *n == fd && flow.leads_in());
        if leads_in { Direction::In } else { Direction::Out }
    }

    /// Gives a pipe its source, or its tee and its limit.
    fn connect(
        &mut self,
        waiting: &Arc<Waiting>,
        protocol: &mut Protocol,
        slot: Slot,
        pipe: Pipe,
        is_terminal: bool,
    ) -> Result<PipeState, Refusal> {
        let fd = protocol.fd(slot);
        let all = || Flag::new(waiting, None);
        let write = |pipe, room| WriteEnd::new(pipe, room, all()).map_err(Refusal::os);
        let place = self.pipes.iter().position(|(n, _)| *n == fd);
        Ok(match place.map(|place| self.pipes.swap_remove(place).1) {
            Some(Flow::Writer) => {
                if is_terminal {
                    // A terminal closes as a whole, when its output does.
                    protocol.released(slot);
                }
                let closed = all();
                let room = Flag::new(waiting, Some(Handle::Writer(slot)));
                let pipe = WriteEnd::new(pipe, room, closed.clone()).map_err(Refusal::os)?;
                PipeState::Writer { pipe: WriterPipe::new(pipe, is_terminal, closed), taken: false }
            }
            Some(Flow::Bytes(feed)) => PipeState::Feed(Feeder::of_bytes(write(pipe, all())?, feed)),
            Some(Flow::Reader(reader)) => {
                PipeState::Feed(Feeder::of_reader(write(pipe, all())?, take_out(fd, &reader)?, all()))
            }
            out => {
                let tee = match &out {
                    Some(Flow::Tee(copy) | Flow::Copy(copy)) => {
                        Some(UserCodeCell::new(Tee::new(take_out(fd, copy)?), all()))
                    }
                    _ => None,
                };
                if let Some(Flow::Copy(_)) = out {
                    protocol.keep(|n| if n == fd { Keep::Nothing } else { Keep::All });
                }
                // If a pipe has a tee, any awaited handle reads it. So its flag wakes all.
                let whom = tee.is_none().then_some(Handle::Reader(slot));
                #[cfg_attr(windows, expect(unused_mut, reason = "nothing is wiped there"))]
                let mut end = ReadEnd::new(pipe, Flag::new(waiting, whom)).map_err(Refusal::os)?;
                #[cfg(unix)]
                if let Some(Flow::Wiped) = out {
                    end.wipe();
                    protocol.wipe(slot);
                }
                if let Some(most) = self.bounds.limit(fd) {
                    protocol.limit(slot, most);
                }
                PipeState::Output(Output::new(end, tee))
            }
        })
    }

    /// The counter of the bytes that move, if a bound or the trace needs it.
    fn activity(&self) -> Option<clock::Activity> {
        let silence = self.bounds.silence();
        let counted = self.trace.activity().or_else(|| silence.is_some().then(Activity::default));
        counted.map(|activity| activity.within(self.bounds.idle_of_whole.as_ref().map(|(_, whole)| whole)))
    }
}

/// Takes out what can serve only one run. Another run may have taken it at the same moment.
fn take_out<T>(fd: i32, slot: &Mutex<Option<T>>) -> Result<T, Refusal> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| Refusal::used_up(fd))
}

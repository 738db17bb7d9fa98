//! The running members of a pipeline: several calls that are one.
//!
//! Rules, decided here alone:
//! - The pipeline has ended when every member has ended.
//! - If a member fails (a bound, a descriptor), the others are ended in the way in which that member is. The pipeline
//!   reports the failure of that first member.
//! - [`Pipeline`](crate::Pipeline) says which exit status counts.

use std::process::ExitStatus;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Call;
use crate::control::Control;
use crate::error::Error;
use crate::output::{Gap, Output, Usage};

pub(crate) struct Members {
    /// In pipeline order; never empty once it is polled.
    members: Vec<Member>,
    /// The first member that failed.
    first: Option<usize>,
    /// The member that is polled next.
    turn: usize,
    pipefail: bool,
    command: String,
    started: Instant,
    /// When the last of the ended members ended.
    ended_at: Option<Instant>,
}

struct Member {
    /// `Some` until the member has ended.
    call: Option<Call>,
    /// `Some` after that.
    end: Option<Result<Output, Error>>,
}

impl Members {
    /// No member yet; the clock starts.
    pub(crate) fn new(command: String, pipefail: bool) -> Self {
        let (members, started) = (Vec::new(), Instant::now());
        Members { members, first: None, turn: 0, pipefail, command, started, ended_at: None }
    }

    pub(crate) fn add(&mut self, call: Call) {
        self.members.push(Member { call: Some(call), end: None });
    }

    /// Kills the started members, also those that dropping would let run.
    pub(crate) fn kill(self) {
        // If a kill is not permitted, nothing more can be done.
        self.calls().for_each(|call| drop(call.control().kill()));
    }

    pub(super) fn command(&self) -> &str {
        &self.command
    }

    /// The members that have not ended.
    fn calls(&self) -> impl DoubleEndedIterator<Item = &Call> {
        self.members.iter().filter_map(|member| member.call.as_ref())
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.members.last()?.call.as_ref()?.transport.pid()
    }

    pub(super) fn pids(&self) -> Vec<Option<u32>> {
        self.members.iter().map(|member| member.call.as_ref()?.transport.pid()).collect()
    }

    pub(super) fn control(&self) -> Control {
        let mut calls = self.calls().rev();
        let Some(last) = calls.next() else { return Control::nobody(&self.command) };
        Control::new(last.transport.remote(), &self.command, last.bounds.grace)
            .with_others(calls.map(|call| (call.transport.remote(), call.bounds.grace)))
    }

    pub(super) fn keep_running_on_drop(&self) {
        self.calls().for_each(|call| call.transport.keep_running_on_drop());
    }

    /// Moves the bytes of all members until each has ended.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A byte from any member counts as activity of all.
        for member in self.members.iter_mut().filter_map(|member| member.call.as_mut()) {
            if member.bounds.idle_of_whole.is_some() {
                member.transport.catch_up();
            }
        }
        loop {
            let before = self.first;
            for _ in 0..self.members.len() {
                let place = self.turn;
                self.turn = (place + 1) % self.members.len();
                self.poll_member(place, cx);
                let call = self.members[place].call.as_ref();
                if call.is_some_and(|call| call.transport.was_cut_short()) {
                    // The member wakes this task, and the next poll begins with the member after it.
                    return Poll::Pending;
                }
            }
            if self.first == before {
                let all = self.members.iter().all(|member| member.end.is_some());
                return if all { Poll::Ready(()) } else { Poll::Pending };
            }
            // The failure gave the others something to do, and nothing else would wake this task for it.
        }
    }

    fn poll_member(&mut self, place: usize, cx: &mut Context<'_>) {
        let Some(at_once) = self.poll_one(place, cx) else { return };
        if self.first.is_some() {
            return;
        }
        // Several members may be late at once, in any order of polling. The error names the first in pipeline order.
        let late_before = |earlier: &usize| !at_once && self.poll_one(*earlier, cx) == Some(false);
        let first = (0..place).find(late_before).unwrap_or(place);
        self.first = Some(first);
        let others = self.members.iter_mut().enumerate().filter(|(other, _)| *other != first);
        for other in others.filter_map(|(_, member)| member.call.as_mut()) {
            other.transport.stop(at_once);
        }
    }

    /// Polls the member, and returns what `has_failed` says of it.
    fn poll_one(&mut self, place: usize, cx: &mut Context<'_>) -> Option<bool> {
        // The call stays in its place during the poll, because a user's reader may panic.
        let call = self.members[place].call.as_mut()?;
        let ended = call.transport.poll_end(cx).is_ready();
        let ended_at = call.transport.ended_at();
        let failed = call.transport.has_failed();
        if ended {
            self.ended_at = self.ended_at.max(ended_at);
            let member = &mut self.members[place];
            member.end = member.call.take().map(Call::conclude);
        }
        failed
    }

    /// The result of the whole; every member has ended.
    pub(super) fn conclude(self) -> Result<Output, Error> {
        let (mut outputs, mut first, mut told) = (Vec::new(), None, None);
        let ends = self.members.into_iter().filter_map(|member| member.end);
        for (place, end) in ends.enumerate() {
            let error = match end {
                Ok(output) => {
                    outputs.push(output);
                    continue;
                }
                Err(mut error) => {
                    outputs.extend(error.take_output());
                    error
                }
            };
            match self.first == Some(place) {
                true => first = Some(error),
                false => told = told.or(Some(error)),
            }
        }
        let ended_at = self.ended_at.unwrap_or(self.started);
        let elapsed = ended_at.saturating_duration_since(self.started);
        let whole = join(outputs, self.pipefail, elapsed, self.command.clone());
        match first.or(told) {
            Some(error) => Err(error.of_pipeline(self.command, Some(whole))),
            None => Ok(whole),
        }
    }
}

fn join(mut members: Vec<Output>, pipefail: bool, elapsed: Duration, command: String) -> Output {
    let last = members.len() - 1;
    // If no earlier member failed, the last one decides, even if SIGPIPE ended it.
    let failed = |member: &Output| !member.succeeded() && !died_of_sigpipe(member.status);
    let decisive = if pipefail { members[..last].iter().position(failed) } else { None };
    let decisive = decisive.unwrap_or(last);
    let merged = decisive == last && members[last].merged;
    let mut still_open: Vec<i32> = members.iter().flat_map(|m| m.still_open.iter().copied()).collect();
    still_open.sort_unstable();
    still_open.dedup();
    // The last member's stdout is the pipeline's stdout, so its gaps are too.
    let (mut gaps, others) =
        std::mem::take(&mut members[last].gaps).into_iter().partition(|(fd, _)| *fd == 1);
    members[last].gaps = others;
    let mut before = 0;
    for member in &members {
        let its = member.gaps.iter().filter(|(fd, _)| *fd == 2);
        gaps.extend(its.map(|(fd, gap)| (*fd, Gap { at: before + gap.at, ..*gap })));
        before += member.stderr.len();
    }
    Output {
        status: members[decisive].status,
        stdout: std::mem::take(&mut members[last].stdout),
        stderr: members.iter().map(|m| &m.stderr[..]).collect::<Vec<_>>().concat(),
        extra: Vec::new(),
        captured: [members[last].captured[0], members.iter().any(|m| m.captured[1])],
        merged,
        is_shell: members[decisive].is_shell,
        memory_short: members[decisive].memory_short,
        ok_codes: members[decisive].ok_codes.clone(),
        still_open,
        gaps,
        elapsed,
        usage: members.iter().map(|m| m.usage).reduce(|sum, one| Some(add(sum?, one?))).flatten(),
        command,
        members,
        decisive,
    }
}

/// Whether the member died of SIGPIPE: its reader has read enough.
fn died_of_sigpipe(status: ExitStatus) -> bool {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGPIPE);
    #[cfg(not(unix))]
    {
        // A write fails there, and each program decides how it exits then.
        let _ = status;
        false
    }
}

/// The members run at the same time, but nobody knows when each needed most.
fn add(one: Usage, other: Usage) -> Usage {
    Usage {
        user: one.user + other.user,
        system: one.system + other.system,
        peak_memory: one.peak_memory.max(other.peak_memory),
    }
}

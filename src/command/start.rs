//! From the settings and a verb's defaults to a running child.
//!
//! Rule: what the user set wins over a verb's default.

use std::ffi::OsStr;
#[cfg(unix)]
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Command;
use crate::error::{InvalidReason, Refusal, copy};
use crate::promise::Call;
use crate::spawn::{End, Launch, OnDrop};
use crate::stdio::{BoxWriter, Feed, Kind};
use crate::transport::{Flow, Flows, ParentOutput, Trace, Transport};

/// What a verb does with a standard descriptor that the user did not set.
#[derive(Clone, Copy)]
pub(super) enum Unset {
    Inherit,
    Null,
    Capture,
    /// A pipe into the child that the user writes.
    Talk,
}

impl Command {
    /// A run of this command.
    pub(super) fn call(&self, transport: Transport) -> Call {
        let merged = match self.stdio.get(&2) {
            Some(setting) => matches!(setting.stdio.0, Kind::SameAs(1)),
            None => self.has_terminal(),
        };
        Call {
            transport,
            command: self.text().into(),
            bounds: self.bounds.clone(),
            fail_on_stderr: self.fail_on_stderr,
            merged,
            is_shell: self.is_shell(),
            ok_codes: self.ok_codes.clone(),
        }
    }

    /// Whether an exit code may be a shell's report of how another program ended.
    fn is_shell(&self) -> bool {
        const SHELLS: [&str; 6] = ["sh", "bash", "dash", "zsh", "ksh", "ash"];
        let name = Path::new(&self.program).file_name();
        let is = |name: Option<&OsStr>| name.is_some_and(|name| SHELLS.iter().any(|shell| name == *shell));
        let is_box = name.is_some_and(|name| name == "busybox");
        is(name) || is_box && is(self.args.first().map(|arg| &**arg))
    }

    fn has_terminal(&self) -> bool {
        #[cfg(unix)]
        return self.terminal.is_some();
        #[cfg(not(unix))]
        false
    }

    /// Whether there is a pipe on which bytes can come.
    pub(super) fn has_pipe(&self, defaults: [Unset; 3]) -> bool {
        let by_default = (0..).zip(defaults).any(|(n, default)| {
            let is_pipe = matches!(default, Unset::Capture | Unset::Talk) || n == 2 && self.fail_on_stderr;
            is_pipe && !self.stdio.contains_key(&n)
        });
        by_default || self.has_terminal() || self.stdio.values().any(|setting| setting.stdio.0.is_pipe())
    }

    pub(super) fn start(&self, defaults: [Unset; 3]) -> Result<Transport, Refusal> {
        let trace = Trace::new(&self.program);
        let started = self.start_within(&trace, defaults);
        if let Err(refusal) = &started {
            trace.refused(refusal);
        }
        started
    }

    fn start_within(&self, trace: &Trace, defaults: [Unset; 3]) -> Result<Transport, Refusal> {
        if let Some(n) = self.set_twice {
            let text = format!("descriptor {n} was set both by name and by fd({n}, …)");
            return Err(Refusal::invalid(InvalidReason::Conflict, text));
        }
        if self.bounds.idle.is_some() && !self.has_pipe(defaults) {
            return Err(no_pipe_to_watch());
        }
        let talk = matches!(defaults, [Unset::Talk, ..]);
        let mut descriptors = ChildDescriptors {
            talk,
            ends: Vec::new(),
            flows: Flows {
                bounds: self.bounds.clone(),
                on_drop: match (self.terminate_on_drop, self.kill_on_drop) {
                    (true, _) => OnDrop::Terminate,
                    (false, true) => OnDrop::Kill,
                    (false, false) => OnDrop::RunOn,
                },
                trace: trace.clone(),
                pipes: Vec::new(),
            },
        };
        for (n, setting) in &self.stdio {
            descriptors.add(*n, &setting.stdio.0)?;
        }
        let has_terminal = self.set_terminal(&mut descriptors)?;
        for (n, default) in (0..).zip(defaults) {
            if !self.stdio.contains_key(&n) && !has_terminal {
                let end = match default {
                    Unset::Capture => End::Output,
                    Unset::Talk => descriptors.carries(n, Flow::Writer),
                    // `fail_on_stderr` needs to see it.
                    _ if n == 2 && self.fail_on_stderr => End::Output,
                    Unset::Inherit => End::Inherit,
                    Unset::Null => End::Null,
                };
                descriptors.ends.push((n, end));
            }
        }
        descriptors.ends.sort_unstable_by_key(|(n, _)| *n);
        let stderr = descriptors.ends.iter().find(|(n, _)| *n == 2);
        if self.fail_on_stderr && !matches!(stderr, Some((_, End::Output))) {
            let text = "fail_on_stderr needs a stderr that is captured";
            return Err(Refusal::invalid(InvalidReason::Conflict, text));
        }
        self.check_variables()?;
        let launch = Launch {
            program: &self.program,
            arg0: self.arg0.as_deref(),
            args: &self.args,
            #[cfg(windows)]
            raw_args: &self.raw_args,
            env_clear: self.env_clear,
            env: self.changes(),
            #[cfg(unix)]
            path: self.path(),
            cwd: self.cwd.as_deref(),
            ends: descriptors.ends,
            inherit_fds: self.inherit_fds,
            #[cfg(unix)]
            attributes: &self.attributes,
            #[cfg(unix)]
            terminal: self.terminal,
            #[cfg(unix)]
            die_with_parent: self.die_with_parent,
            new_group: self.new_group,
            #[cfg(windows)]
            no_window: self.no_window,
        };
        Transport::start(&launch, descriptors.flows)
    }

    /// An inherited descriptor must be open before this crate opens any of its own.
    pub(super) fn check_inherited(&self) -> Result<(), Refusal> {
        #[cfg(unix)]
        for (n, setting) in &self.stdio {
            if let Kind::Inherit = setting.stdio.0 {
                crate::spawn::check_inherited(*n)?;
            }
        }
        Ok(())
    }

    /// Whether 0, 1 and 2 are a terminal; if so, this sets what writes to it.
    #[cfg(unix)]
    fn set_terminal(&self, descriptors: &mut ChildDescriptors<'_>) -> Result<bool, Refusal> {
        if self.terminal.is_none() {
            return Ok(false);
        }
        if let Some(n) = (0..=2).find(|n| self.stdio.contains_key(n)) {
            let text = format!("descriptor {n} was set, and with pty it is the terminal");
            return Err(Refusal::invalid(InvalidReason::Conflict, text));
        }
        let typed = match descriptors.talk {
            true => Flow::Writer,
            // Nobody will type, so type the end of file (termios(3), VEOF).
            false => Flow::Bytes(Feed::Plain(Arc::new(vec![4]))),
        };
        descriptors.flows.pipes.push((0, typed));
        Ok(true)
    }

    #[cfg(not(unix))]
    fn set_terminal(&self, _: &mut ChildDescriptors<'_>) -> Result<bool, Refusal> {
        Ok(false)
    }

    fn check_variables(&self) -> Result<(), Refusal> {
        if let Some(name) = self.env.keys().find(|name| {
            // Windows has variables such as `=C:`.
            let start = usize::from(cfg!(windows));
            name.is_empty() || name.as_encoded_bytes().iter().skip(start).any(|byte| *byte == b'=')
        }) {
            // The part behind a `=` was meant as a value, and no value is shown.
            let shown = match name.to_string_lossy().split_once('=') {
                Some((before, _)) => format!("{before}=…"),
                None => String::new(),
            };
            let text = format!("{shown:?} cannot name an environment variable");
            return Err(Refusal::invalid(InvalidReason::EnvironmentName, text));
        }
        Ok(())
    }

    #[cfg(unix)]
    fn path(&self) -> Option<OsString> {
        let set = self.env.get(OsStr::new("PATH")).and_then(|set| set.value.clone());
        set.or_else(|| std::env::var_os("PATH"))
    }
}

/// The settings of one run, as `transport` takes them.
struct ChildDescriptors<'a> {
    /// The user can write to the child while it runs.
    talk: bool,
    ends: Vec<(i32, End<'a>)>,
    flows: Flows,
}

impl<'a> ChildDescriptors<'a> {
    fn add(&mut self, n: i32, kind: &'a Kind) -> Result<(), Refusal> {
        if n < 0 {
            let text = format!("{n} cannot be the number of a descriptor");
            return Err(Refusal::invalid(InvalidReason::Descriptor, text));
        }
        let end = match kind {
            Kind::Inherit => End::Inherit,
            Kind::Null => End::Null,
            Kind::Closed => End::Closed,
            Kind::Output => End::Output,
            #[cfg(unix)]
            Kind::Wiped => self.carries(n, Flow::Wiped),
            Kind::Piped if n != 0 => End::Output,
            Kind::Input | Kind::Piped => {
                let nothing = Flow::Bytes(Feed::Plain(Arc::default()));
                self.carries(n, if self.talk { Flow::Writer } else { nothing })
            }
            Kind::Open(file) => End::Open(file),
            Kind::Broken(error) => return Err(Refusal::os(copy(error))),
            #[cfg(unix)]
            Kind::InUse(why) => {
                let text = format!("the pipe end for descriptor {n} cannot go to another child: {why}");
                return Err(Refusal::invalid(InvalidReason::PipeInUse, text));
            }
            Kind::Bytes(feed) => self.carries(n, Flow::Bytes(feed.clone())),
            Kind::Reader(slot) => {
                let others = self.flows.pipes.iter().filter_map(|(_, flow)| match flow {
                    Flow::Reader(other) => Some(other),
                    _ => None,
                });
                check_unused(n, slot, others)?;
                self.carries(n, Flow::Reader(slot.clone()))
            }
            Kind::Tee(slot) | Kind::Writer(slot) => {
                let others = self.flows.pipes.iter().filter_map(|(_, flow)| match flow {
                    Flow::Tee(other) | Flow::Copy(other) => Some(other),
                    _ => None,
                });
                check_unused(n, slot, others)?;
                let is_kept = matches!(kind, Kind::Tee(_));
                self.carries(n, if is_kept { Flow::Tee(slot.clone()) } else { Flow::Copy(slot.clone()) })
            }
            Kind::TeeInherit if n == 1 || n == 2 => {
                let output: BoxWriter = Box::pin(ParentOutput::new(n)?);
                self.carries(n, Flow::Tee(Arc::new(Mutex::new(Some(output)))))
            }
            Kind::TeeInherit => {
                let text = format!("descriptor {n} cannot be shown: tee_inherit is for 1 and 2");
                return Err(Refusal::invalid(InvalidReason::Descriptor, text));
            }
            Kind::SameAs(other) => End::SameAs(*other),
        };
        self.ends.push((n, end));
        Ok(())
    }

    /// The child's end of a pipe that carries this.
    fn carries(&mut self, n: i32, flow: Flow) -> End<'a> {
        let end = if flow.leads_in() { End::Input } else { End::Output };
        self.flows.pipes.push((n, flow));
        end
    }
}

/// Without a pipe no byte can come, and the child would be killed for its silence.
pub(super) fn no_pipe_to_watch() -> Refusal {
    let text = "idle_timeout needs a descriptor that is a pipe, such as a captured stdout";
    Refusal::invalid(InvalidReason::Conflict, text)
}

/// A `Stdio` that serves one run serves one descriptor only.
fn check_unused<'a, T: 'a>(
    n: i32,
    slot: &Arc<Mutex<Option<T>>>,
    mut others: impl Iterator<Item = &'a Arc<Mutex<Option<T>>>>,
) -> Result<(), Refusal> {
    if others.any(|other| Arc::ptr_eq(other, slot)) {
        let text = format!("what was given for descriptor {n} was given for another one, too");
        return Err(Refusal::invalid(InvalidReason::Conflict, text));
    }
    match slot.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
        true => Ok(()),
        false => Err(Refusal::used_up(n)),
    }
}

//! The `tracing` feature: one span for each child. Without the feature this does nothing, and no byte is counted.
//!
//! Rule: anybody may read a span. So it never contains an argument, the environment, a byte of the input or output, or
//! the text of an error that may quote these.

#[cfg(not(feature = "tracing"))]
pub(crate) use off::Trace;
#[cfg(feature = "tracing")]
pub(crate) use on::Trace;

#[cfg(feature = "tracing")]
mod on {
    use std::ffi::OsStr;
    use std::sync::Arc;
    use std::time::Instant;

    use tracing::Span;
    use tracing::field::{Empty, debug, display};

    use crate::error::{Reason, Refusal};
    use crate::output::Exit;
    use crate::transport::clock::Activity;

    /// The span of one child, open until the last clone is dropped.
    #[derive(Clone, Default)]
    pub(crate) struct Trace(Option<Arc<Open>>);

    struct Open {
        span: Span,
        since: Instant,
        activity: Activity,
    }

    impl Trace {
        /// For a child that will be started. Empty if no subscriber wants the span.
        pub(crate) fn new(program: &OsStr) -> Self {
            let span = tracing::info_span!(
                target: "reaped",
                "child",
                program = &*program.to_string_lossy(),
                pid = Empty,
                status = Empty,
                bytes = Empty,
                elapsed = Empty,
                error = Empty,
            );
            let open = |span| Arc::new(Open { span, since: Instant::now(), activity: Activity::default() });
            Trace((!span.is_disabled()).then(|| open(span)))
        }

        /// The counter of the bytes that move.
        pub(crate) fn activity(&self) -> Option<Activity> {
            self.0.as_ref().map(|open| open.activity.clone())
        }

        pub(crate) fn refused(&self, refusal: &Refusal) {
            let Some(Open { span, .. }) = self.0.as_deref() else { return };
            match &refusal.reason {
                Reason::Spawn(reason, error) => {
                    span.record("error", display(format_args!("{reason:?}: {error}")));
                }
                Reason::Invalid(reason) => {
                    span.record("error", debug(reason));
                }
            }
        }

        pub(crate) fn started(&self, pid: Option<u32>) {
            if let (Some(open), Some(pid)) = (&self.0, pid) {
                open.span.record("pid", pid);
            }
        }

        pub(crate) fn exited(&self, exit: Exit) {
            let Some(Open { span, .. }) = self.0.as_deref() else { return };
            match exit {
                Exit::Reaped(status, _) | Exit::MemoryShort(status, _) => {
                    span.record("status", display(status))
                }
                Exit::Lost => span.record("status", "lost"),
            };
        }

        /// The child has ended. The span closes now, even if the handle is kept for long.
        pub(crate) fn close(&mut self) {
            self.0 = None;
        }
    }

    /// For every end: by itself, by a drop, or by a refusal.
    impl Drop for Open {
        fn drop(&mut self) {
            self.span.record("bytes", self.activity.count());
            self.span.record("elapsed", debug(self.since.elapsed()));
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use std::ffi::OsStr;

    use crate::error::Refusal;
    use crate::output::Exit;
    use crate::transport::clock::Activity;

    /// Does nothing.
    #[derive(Clone, Default)]
    pub(crate) struct Trace;

    impl Trace {
        pub(crate) fn new(_: &OsStr) -> Self {
            Trace
        }

        pub(crate) fn activity(&self) -> Option<Activity> {
            None
        }

        pub(crate) fn refused(&self, _: &Refusal) {}

        pub(crate) fn started(&self, _: Option<u32>) {}

        pub(crate) fn exited(&self, _: Exit) {}

        pub(crate) fn close(&mut self) {}
    }
}

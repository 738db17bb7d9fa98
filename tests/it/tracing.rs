//! What the feature `tracing` reports of each child, and what it never reports. Without the feature nothing
//! is reported.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::tracing::field::{Field, Visit};
use ::tracing::span::{Attributes, Id, Record};
use ::tracing::{Event, Metadata, Subscriber};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use reaped::{Command, Output, Stdio};

use super::support::sh;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// Everything that the crate reports to a subscriber.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    spans: Vec<Span>,
    events: usize,
}

#[derive(Clone, Debug, Default)]
struct Span {
    name: &'static str,
    fields: BTreeMap<&'static str, String>,
    handles: usize,
}

impl Visit for Span {
    fn record_str(&mut self, field: &Field, value: &str) {
        let before = self.fields.insert(field.name(), value.to_owned());
        assert!(before.is_none(), "{} was told twice", field.name());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("reaped")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        assert_eq!((metadata.target(), *metadata.level()), ("reaped", ::tracing::Level::INFO));
        assert!(attributes.is_contextual(), "a child of whatever span the call is made in");
        let mut span = Span { name: metadata.name(), handles: 1, ..Span::default() };
        attributes.record(&mut span);
        let spans = &mut self.0.lock().expect("no panic").spans;
        spans.push(span);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut self.0.lock().expect("no panic").spans[id.into_u64() as usize - 1]);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.lock().expect("no panic").events += 1;
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn clone_span(&self, id: &Id) -> Id {
        self.0.lock().expect("no panic").spans[id.into_u64() as usize - 1].handles += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let handles = &mut self.0.lock().expect("no panic").spans[id.into_u64() as usize - 1].handles;
        *handles -= 1;
        *handles == 0
    }
}

impl Listener {
    /// The spans until now, in the order of their starts.
    fn spans(&self) -> Vec<Span> {
        let heard = self.0.lock().expect("no panic");
        assert_eq!(heard.events, 0);
        heard.spans.clone()
    }
}

impl Span {
    fn is_closed(&self) -> bool {
        self.handles == 0
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// The spans that the body makes. All of them are closed after it. `None` without the feature.
fn listen(body: impl FnOnce(&Listener)) -> Option<Vec<Span>> {
    let listener = Listener::default();
    ::tracing::subscriber::with_default(listener.clone(), || body(&listener));
    let spans = listener.spans();
    if cfg!(feature = "tracing") {
        assert!(spans.iter().all(Span::is_closed), "{spans:?}");
        return Some(spans);
    }
    assert!(spans.is_empty(), "{spans:?}");
    None
}

#[test]
fn one_span_for_each_child() {
    let mut pids = Vec::new();
    let mut elapsed = Vec::new();
    let spans = listen(|_| {
        for script in ["exit 0", "head -c 1000; echo err >&2; exit 3", "kill -9 $$"] {
            let promise = sh(script).stdin(Stdio::bytes(vec![b'x'; 1000])).output();
            pids.push(promise.pid().expect("it runs").to_string());
            elapsed.push(block_on(promise).expect("it ran").elapsed());
        }
    });
    let Some(spans) = spans else { return };
    assert_eq!(spans.len(), 3);
    for (span, pid) in spans.iter().zip(pids) {
        assert_eq!((span.name, span.field("program"), span.field("pid")), ("child", "sh", &pid[..]));
        let names: Vec<&str> = span.fields.keys().copied().collect();
        assert_eq!(names, ["bytes", "elapsed", "pid", "program", "status"]);
        assert!(span.field("elapsed").ends_with('s'), "{span:?}");
    }
    let statuses: Vec<&str> = spans.iter().map(|span| span.field("status")).collect();
    assert_eq!(statuses, ["exit status: 0", "exit status: 3", "signal: 9 (SIGKILL)"]);
    assert_eq!(spans[1].field("bytes"), "2004", "in, out and err");
}

/// Also if the caller moves the bytes, or a tee, or the crate has to stop the child.
#[test]
fn every_byte_is_counted() {
    let spans = listen(|_| {
        block_on(async {
            let mut cat = Command::new("cat").spawn().expect("starts");
            let (mut writer, mut reader) = (cat.writer(0).expect("a pipe"), cat.reader(1).expect("a pipe"));
            let mut back = [0; 300];
            writer.write_all(&back).await.expect("written");
            reader.read_exact(&mut back).await.expect("read");
            drop(writer);
            assert!(cat.status().await.expect("ended").success());
        });
        let mut teed = sh("head -c 70000 /dev/zero");
        block_on(teed.stdout(Stdio::tee(futures::io::sink())).output()).expect("ran");
        let mut idle = sh("echo 12345; exec sleep 100");
        block_on(idle.idle_timeout(Duration::from_secs(3)).output()).expect_err("silent");
    });
    let Some(spans) = spans else { return };
    let bytes: Vec<&str> = spans.iter().map(|span| span.field("bytes")).collect();
    assert_eq!(bytes, ["600", "70000", "6"]);
    assert_eq!(spans[2].field("status"), "signal: 15 (SIGTERM)");
}

#[test]
fn a_failed_start_is_reported() {
    let spans = listen(|_| {
        block_on(reaped::run("no-such-program", ["s3cr3t-arg"])).expect_err("missing");
        block_on(Command::new("true").env("TOKEN=s3cr3t-env", "").run()).expect_err("no name");
        Command::new("a\0b").spawn().expect_err("a NUL");
        block_on(Command::new("true").current_dir("/no/such/folder").run()).expect_err("no folder");
    });
    let Some(spans) = spans else { return };
    let errors: Vec<&str> = spans.iter().map(|span| span.field("error")).collect();
    assert!(errors[0].starts_with("ProgramNotFound: "), "{errors:?}");
    assert_eq!(errors[1..3], ["EnvironmentName", "Nul"]);
    assert!(errors[3].starts_with("WorkingDirectory: "), "{errors:?}");
    for span in &spans {
        assert!(!span.fields.contains_key("pid") && !span.fields.contains_key("status"), "{span:?}");
    }
    assert!(!format!("{spans:?}").contains("s3cr3t"), "{spans:?}");
}

#[test]
fn a_dropped_promise_closes_its_span() {
    let spans = listen(|listener| {
        let promise = Command::new("sleep").arg("1000").output();
        let spans = listener.spans();
        assert!(spans.iter().all(|span| !span.is_closed()), "{spans:?}");
        drop(promise);
        Command::new("true").stdout(Stdio::null()).stderr(Stdio::null()).run().detach().expect("started");
        drop(Command::new("cat").spawn().expect("starts"));
    });
    let Some(spans) = spans else { return };
    assert_eq!(spans.len(), 3);
    for span in spans {
        let names: Vec<&str> = span.fields.keys().copied().collect();
        assert_eq!(names, ["bytes", "elapsed", "pid", "program"]);
    }
}

/// The span ends with the child, and does not wait for its grandchildren.
#[test]
fn an_ended_process_closes_its_span() {
    listen(|listener| {
        let mut process = sh("echo hi").spawn().expect("starts");
        while block_on(process.next()).is_some() {}
        let spans = listener.spans();
        assert!(spans.iter().all(Span::is_closed), "{spans:?}");
        drop(process);
    });
}

#[test]
fn no_secret_is_reported() {
    let spans = listen(|_| {
        for hide in [false, true] {
            let mut command = sh("cat <&3; cat; echo s3cr3t-out; echo s3cr3t-err >&2; exit 1");
            command.arg("s3cr3t-arg").env("TOKEN", "s3cr3t-env").hide_args(hide);
            command.stdin(Stdio::bytes("s3cr3t-in")).fd(3, Stdio::secret("s3cr3t-fd"));
            block_on(command.read()).expect_err("exit 1");
            block_on(async { command.output().await.and_then(Output::check) }).expect_err("exit 1");
            block_on(command.limit(5).output()).expect_err("more than five");
        }
    });
    let Some(spans) = spans else { return };
    assert_eq!(spans.len(), 6);
    let told = format!("{spans:?}");
    assert!(!told.contains("s3cr3t") && !told.contains("cat"), "{told}");
}

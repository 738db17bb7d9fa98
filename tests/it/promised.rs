//! What the README and the first page promise: the test that shows each claim, and the tests that no other
//! file has.

#[cfg(target_os = "linux")]
use std::io;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::pin::Pin;
#[cfg(target_os = "linux")]
use std::sync::{Arc, Mutex};
#[cfg(target_os = "linux")]
use std::task::{Context, Poll};
#[cfg(target_os = "linux")]
use std::thread::{self, ThreadId};

#[cfg(target_os = "linux")]
use futures::executor::block_on;
#[cfg(target_os = "linux")]
use futures::io::AsyncRead;
#[cfg(target_os = "linux")]
use reaped::{Command, Error, Stdio};

#[cfg(target_os = "linux")]
use super::support::{alone, children, eventually};

/// The words of a claim, and the test that shows it. If a claim changes, its test is looked at again.
const README: &[(&str, &str)] = &[
    ("The program starts at the call.", "calls::the_child_starts_at_the_call"),
    ("it was reaped", "endings::the_end_waits_for_the_exit"),
    ("every pipe to it is closed", "endings::the_end_waits_for_a_descendant_that_holds_a_pipe"),
    ("smol, async-std, tokio, or a bare `block_on`", "calls::a_promise_moves_between_executors"),
    ("shown as `ignored`", "house::a_test_without_its_program_is_shown_as_ignored"),
    ("a failure is an error", "calls::run_gives_nothing_or_failed"),
    ("stdout as text", "calls::read_gives_text_without_its_last_line_end"),
    ("Input of any size, without a deadlock", "bulk::two_hundred_fifty_six_mib_through_cat"),
    ("**Drop** kills and reaps the child", "drops::a_thousand_times_at_every_moment"),
    ("asks it first (`terminate_on_drop`)", "asked::a_dropped_child_has_its_grace"),
    ("`new_group` includes grandchildren", "bounds::a_group_ends_as_a_whole"),
    ("nothing is dropped and children may keep running", "guardian::without_a_handler_children_keep_running"),
    ("`die_with_parent` kills them", "guardian::a_tree_dies_with_its_parent"),
    ("carry the output captured so far", "bounds::every_pair"),
    ("are one line", "messages::a_message_is_one_line_that_is_safe_to_print"),
    (
        "quote stderr if it was captured (`run` does not)",
        "messages::an_error_quotes_the_stderr_that_was_captured",
    ),
    ("gets the descriptors that you set", "plans::descriptors_of_other_threads_stay_out"),
    ("No signal is blocked or ignored in it", "endings::signals_start_afresh"),
    ("no SIGCHLD handler", "promised::no_signal_has_a_handler"),
    ("never hits another process", "signals::after_the_end_nothing_is_hit"),
    ("In a later copy every start is refused", "starting::a_call_in_a_forked_copy_is_refused"),
];

const FIRST_PAGE: &[(&str, &str)] = &[
    ("The program starts at the call", "calls::the_child_starts_at_the_call"),
    ("Dropping the promise kills the child", "drops::a_thousand_times_at_every_moment"),
    ("its stdout, every byte", "calls::read_bytes_gives_every_byte"),
    ("its exit code", "calls::exit_code_is_a_value_and_a_signal_is_not"),
    ("status, stdout and stderr", "calls::output_returns_everything_after_any_end"),
    ("its status, with my terminal", "calls::run_and_status_inherit_all_three"),
    ("to see the output, and have it", "kept::shown_and_kept"),
    ("the ends of a long output", "kept::the_first_and_the_last_bytes"),
    ("a line of shell with arguments", "asked::a_script_and_its_arguments"),
    ("the result without async", "asked::blocking"),
    ("You can tell a missing program from one that failed", "errors::each_reason_is_reported"),
    ("It fails if any member fails", "pipelines::the_first_failed_member_counts"),
    ("no zombie is left", "soak::nothing_is_left_of_ten_thousand_runs"),
    ("the whole group gets SIGKILL", "bounds::a_group_ends_as_a_whole"),
    (
        "SIGKILL after the grace, even if nobody polls",
        "asked::a_dropped_child_that_ignores_the_signal_is_killed",
    ),
    ("a terminal stays", "terminal::a_detached_child_keeps_its_terminal"),
    (
        "the child keeps running, and is reaped when it ends",
        "drops::kill_on_drop_false_runs_on_and_is_reaped",
    ),
    ("the child reads end of file", "talk::a_writer_dropped_in_the_middle_is_the_end_of_file"),
    ("the child gets SIGPIPE when it writes", "talk::dropping_a_reader_is_sigpipe_for_the_child"),
    ("no byte is lost", "waits::no_byte_is_lost"),
    ("secrets are wiped and descriptors closed after the last run", "secrets::a_secret_is_wiped"),
    ("**the children keep running**", "guardian::without_a_handler_children_keep_running"),
    ("in a task that its runtime does not drop", "asked::a_runtime_that_ends"),
    ("kills the child whenever your program ends", "guardian::a_tree_dies_with_its_parent"),
    ("The thread that polls.", "promised::the_thread_that_polls_does_the_work"),
    ("a child that fills a pipe blocks", "talk::a_slow_consumer_blocks_the_child"),
    ("work all the same", "promised::a_timeout_needs_no_poll"),
    ("At the call. If the child has already ended", "late::an_end_that_was_in_time"),
    ("Can two runs", "calls::a_command_runs_again_and_again_and_at_once"),
    ("serves one run", "stdio::a_reader_serves_one_run"),
    ("The null device.", "promised::read_has_no_input"),
    ("with the bytes; use [`read_bytes`]", "calls::read_gives_text_without_its_last_line_end"),
    ("No, the user has seen it.", "messages::an_error_quotes_the_stderr_that_was_captured"),
    ("No: the first `n` are, and the child is killed.", "bounds::limits"),
    ("`signal()` of std's `ExitStatusExt` is the signal", "endings::codes_and_signals_are_told_apart"),
    ("because there is no code", "calls::exit_code_is_a_value_and_a_signal_is_not"),
    ("because the system may give the number", "drops::pid_is_known_until_the_end"),
    ("Yes, all of them, and `'static`", "calls::promises_are_send_unpin_and_static"),
    ("Only if the first call comes after the fork", "starting::a_call_in_a_forked_copy_is_refused"),
    ("the first engine installs no handler", "promised::no_signal_has_a_handler"),
    ("waits for its own children only", "faults::strangers::a_stranger_waits_for_all_children"),
    ("still gets the status on Linux 6.15", "strangers::a_stranger_reaps_everything"),
    ("a copied handle does nothing", "starting::a_forked_copy_does_nothing_to_the_hosts_children"),
    ("even if other threads have more open", "plans::descriptors_of_other_threads_stay_out"),
    ("never the arguments, the environment or the input", "tracing::no_secret_is_reported"),
];

/// Text on one line, without the marks of a comment.
fn prose(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("//!"));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// Every claim is on its page, and every test exists.
#[test]
fn every_claim_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, claims) in [("README.md", README), ("src/lib.rs", FIRST_PAGE)] {
        let text = prose(&std::fs::read_to_string(root.join(page)).expect("readable"));
        for (claim, test) in claims {
            assert!(text.contains(claim), "{page} does not say any more: {claim}");
            let (module, name) = test.rsplit_once("::").expect("a module");
            let file = root.join("tests/it").join(module.replace("::", "/")).with_extension("rs");
            let source = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{test}: {error}"));
            let is_test =
                |at: usize| source[..at].trim_end().ends_with(']') && source[..at].contains("#[test]");
            let found = source.find(&format!("fn {name}()")).is_some_and(is_test);
            assert!(found, "{page} says \"{claim}\", and there is no test {test}");
        }
    }
    assert_eq!(prose("//! a\n//!   b"), "a b");
}

/// A source that notes the thread that reads it.
#[cfg(target_os = "linux")]
struct Noting(Arc<Mutex<Vec<ThreadId>>>);

#[cfg(target_os = "linux")]
impl AsyncRead for Noting {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.lock().expect("no panic").push(thread::current().id());
        Poll::Ready(Ok(0))
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_thread_that_polls_does_the_work() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let promise = Command::new("cat").stdin(Stdio::reader(Noting(seen.clone()))).output();
    let polls = thread::spawn(move || {
        block_on(promise).expect("a value");
        thread::current().id()
    });
    let polls = polls.join().expect("no panic");
    let seen = seen.lock().expect("no panic");
    assert!(!seen.is_empty() && seen.iter().all(|id| *id == polls), "{seen:?}, and not {polls:?}");
}

/// The clock runs from the call, and nobody polls here.
#[cfg(target_os = "linux")]
#[test]
fn a_timeout_needs_no_poll() {
    alone("promised::a_timeout_needs_no_poll", || {
        let mut endless = Command::new("sleep");
        let promise = endless.arg("1000").timeout(std::time::Duration::from_millis(100)).run();
        eventually("it is ended", || children().iter().all(|(_, state, _)| *state == 'Z'));
        assert!(matches!(block_on(promise), Err(Error::TimedOut(_))));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn read_has_no_input() {
    let said = block_on(reaped::read("readlink", ["/proc/self/fd/0"])).expect("a link");
    assert_eq!(said, "/dev/null");
}

/// No signal has another handler than before. async-process, the other engine, may need one.
#[cfg(all(target_os = "linux", not(reaped_portable)))]
#[test]
fn no_signal_has_a_handler() {
    fn handlers() -> Vec<(i32, usize)> {
        let ask = |signal| {
            let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
            let known = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } == 0;
            known.then(|| (signal, unsafe { action.assume_init() }.sa_sigaction))
        };
        (1..=64).filter_map(ask).collect()
    }
    alone("promised::no_signal_has_a_handler", || {
        let before = handlers();
        assert!(before.len() > 30, "{before:?}");
        block_on(Command::new("true").run()).expect("success");
        drop(Command::new("sleep").arg("1000").run());
        assert_eq!(handlers(), before);
    });
}

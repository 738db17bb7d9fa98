//! Runs the tests, with the options and the output of libtest, and one thing that libtest lacks. If a test
//! finds that something is missing here (gpg, root's rights), it calls [`skip`], and is shown and counted as
//! ignored.
//!
//! `#[test]` is the attribute of `tests/attribute`, which registers the function here. The harness does not
//! capture a test's output, so a test prints only what helps to explain a failure.

use std::panic::{catch_unwind, resume_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// A function with `#[test]`.
pub struct Test {
    pub module: &'static str,
    pub name: &'static str,
    pub body: fn(),
}

inventory::collect!(Test);

impl Test {
    /// The path as libtest shows it, without the name of the crate.
    fn path(&self) -> String {
        let module = self.module.split_once("::").map_or("", |(_, module)| module);
        [module, self.name].join("::").trim_start_matches("::").to_owned()
    }
}

struct Skipped(String);

/// Ends the test. It is shown as ignored, for this reason.
pub fn skip(why: impl Into<String>) -> ! {
    // Not a panic, which would print a message on stderr.
    resume_unwind(Box::new(Skipped(why.into())))
}

pub fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let threads = || std::env::var("RUST_TEST_THREADS").ok()?.parse().ok();
    arguments.test_threads = arguments.test_threads.or_else(threads);
    let mut tests: Vec<_> =
        inventory::iter::<Test>.into_iter().map(|test| (test.path(), test.body)).collect();
    tests.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let trials = tests.into_iter().map(|(path, body)| {
        Trial::ignorable_test(path, move || {
            let Err(payload) = catch_unwind(body) else { return Ok(Completion::Completed) };
            match payload.downcast::<Skipped>() {
                Ok(skipped) => Ok(Completion::ignored_with(skipped.0)),
                Err(payload) => resume_unwind(payload),
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

//! Runs the tests: libtest's options, and its output, with one thing that libtest lacks. A test that finds out that
//! something is missing here (gpg, root's rights) calls [`skip`], and is shown and counted as ignored.
//!
//! `#[test]` is the attribute of `tests/attribute`, which registers the function here. What a test prints is not held
//! back, so a test prints only what helps to see why it failed.

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
    /// As libtest has it: without the name of the crate.
    fn path(&self) -> String {
        let module = self.module.split_once("::").map_or("", |(_, module)| module);
        [module, self.name].join("::").trim_start_matches("::").to_owned()
    }
}

struct Skipped(String);

/// Ends the test, which is shown as ignored for this reason.
pub fn skip(why: impl Into<String>) -> ! {
    // Not a panic, which would be told on stderr.
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

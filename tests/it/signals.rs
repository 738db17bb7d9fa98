//! Signals: before, during and after the end, from any thread.

use std::os::unix::process::ExitStatusExt;
use std::sync::Barrier;

use futures::executor::block_on;
use reaped::{Command, Error, Event, InvalidReason, Signal};

use super::support::{alone, everywhere, no_children, sh, state_of};

#[test]
fn every_signal_by_name_and_number() {
    everywhere(|| async {
        for signal in
            [Signal::HUP, Signal::INT, Signal::TERM, Signal::KILL, Signal::USR1, Signal::from_raw(34)]
        {
            let promise = Command::new("sleep").arg("1000").status();
            promise.control().signal(signal).expect("runs");
            assert_eq!(promise.await.expect("a value").signal(), Some(signal.as_raw()));
        }
        let promise = Command::new("sleep").arg("1000").status();
        let error = promise.control().signal(Signal::from_raw(1000)).expect_err("no such signal");
        assert!(matches!(error, Error::Invalid { reason: InvalidReason::Signal, .. }), "{error}");
        assert_eq!(error.to_string(), "invalid command `sleep 1000`: the system knows no signal 1000");
    });
}

#[test]
fn after_the_end_nothing_is_hit() {
    everywhere(|| async {
        let promise = Command::new("true").status();
        let control = promise.control();
        promise.await.expect("a value");
        for sent in [control.kill(), control.terminate(), control.signal(Signal::USR1)] {
            let error = sent.expect_err("ended");
            assert!(matches!(error, Error::AlreadyEnded(_)), "{error}");
        }
        assert_eq!(
            control.kill().expect_err("ended").to_string(),
            "`true`: does not run, and cannot get SIGKILL"
        );
        // Signals to a child that never started.
        let promise = Command::new("no-such-program").status();
        assert!(matches!(promise.control().kill(), Err(Error::AlreadyEnded(_))));
        // If the child has exited and is not reaped, a signal still reaches it.
        let mut process = sh("exec <&- >&- 2>&-; exit 5").spawn().expect("starts");
        let control = process.control();
        let mut ended = false;
        while let Some(event) = process.next().await {
            ended |= matches!(event, Event::Exited(_));
            // The child may be reaped before the exit is reported, and never after.
            let sent = control.signal(Signal::from_raw(0));
            assert!(matches!(sent, Err(Error::AlreadyEnded(_))) || (sent.is_ok() && !ended), "{sent:?}");
        }
    });
}

/// Two threads signal while a third reaps: each signal is delivered or returns `AlreadyEnded`.
#[test]
fn against_the_reaping() {
    alone("signals::against_the_reaping", || {
        for round in 0..300 {
            let promise = sh("exec <&- >&- 2>&-; exit 5").status();
            let control = promise.control();
            let start = Barrier::new(3);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        start.wait();
                        loop {
                            match control.signal(Signal::from_raw(0)) {
                                Ok(()) => {}
                                Err(Error::AlreadyEnded(_)) => return,
                                Err(error) => panic!("round {round}: {error}"),
                            }
                        }
                    });
                }
                start.wait();
                assert_eq!(block_on(promise).expect("a value").code(), Some(5));
            });
        }
        no_children();
    });
}

#[test]
fn terminate_is_polite_first() {
    everywhere(|| async {
        let promise = sh("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done").spawn();
        let mut process = promise.expect("starts");
        assert!(matches!(process.next().await, Some(Event::Data { fd: 1, .. })));
        process.control().terminate().expect("runs");
        let output = process.output().await.expect("a value");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"bye\n"[..]));
    });
}

/// The child ignores the signal, or cannot react, and nobody polls. SIGKILL comes all the same.
#[test]
fn terminate_does_not_ask_for_ever() {
    alone("signals::terminate_does_not_ask_for_ever", || {
        let mut stubborn =
            sh("trap '' TERM; echo ready; while :; do sleep 0.01; done").spawn().expect("starts");
        assert!(matches!(block_on(stubborn.next()), Some(Event::Data { fd: 1, .. })));
        let stopped = sh("kill -STOP $$; exec sleep 1000").status();
        let control = stopped.control();
        let pid = stopped.pid().expect("runs");
        super::support::eventually("it is stopped", || state_of(pid) == Some('T'));
        control.terminate().expect("runs");
        assert_eq!(
            block_on(stopped).expect("a value").signal(),
            Some(libc::SIGTERM),
            "continued, and obeyed"
        );
        stubborn.control().terminate().expect("runs");
        let pid = stubborn.pid().expect("runs");
        super::support::eventually("killed without a poll", || state_of(pid) == Some('Z'));
        assert_eq!(block_on(stubborn.status()).expect("a value").signal(), Some(libc::SIGKILL));
    });
}

//! Dropping a promise: the child is gone and reaped, and nothing is left.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use reaped::{Command, Stdio};

use super::support::{
    alone, children, descriptors, eventually, everywhere, helper, no_children, sh, warm_up,
};

/// Polls a few times, in an executor, and drops the promise.
async fn poll_and_drop<T>(mut promise: reaped::Promise<T>, times: usize) {
    let mut polled = 0;
    futures::future::poll_fn(|cx: &mut Context<'_>| {
        polled += 1;
        match Pin::new(&mut promise).poll(cx) {
            Poll::Pending if polled < times => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    })
    .await;
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("procfs").count()
}

#[test]
fn a_thousand_times_at_every_moment() {
    alone("drops::a_thousand_times_at_every_moment", || {
        warm_up();
        let (before, before_threads) = (descriptors(), threads());
        futures::executor::block_on(async {
            for round in 0..1000 {
                match round % 4 {
                    // Right away.
                    0 => drop(sh("exec sleep 1000").stdin(Stdio::bytes(vec![0; 1 << 20])).output()),
                    // In the middle of output and input.
                    1 => poll_and_drop(helper(&["out:10000000"]).output(), round % 7 + 1).await,
                    2 => {
                        let mut cat = Command::new("cat");
                        poll_and_drop(cat.stdin(Stdio::bytes(vec![0; 1 << 20])).output(), round % 7 + 1)
                            .await;
                    }
                    // After the exit.
                    _ => {
                        let promise = Command::new("true").output();
                        let pid = promise.pid().expect("started") as i32;
                        eventually("a zombie", || children().iter().any(|c| c.0 == pid && c.1 == 'Z'));
                        drop(promise);
                    }
                }
            }
        });
        no_children();
        eventually("the descriptors are as before", || descriptors() == before);
        assert_eq!(threads(), before_threads, "no thread is left");
    });
}

#[test]
fn on_every_executor() {
    alone("drops::on_every_executor", || {
        everywhere(|| async {
            drop(sh("exec sleep 1000").output());
            poll_and_drop(sh("echo x; exec sleep 1000").output(), 3).await;
            poll_and_drop(sh("exec sleep 1000").run(), 1).await;
        });
        no_children();
    });
}

/// Another thread drops the promise than polled it, after the executor is gone.
#[test]
fn after_the_executor_is_gone() {
    alone("drops::after_the_executor_is_gone", || {
        let mut promise = sh("exec sleep 1000").output();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(futures::future::poll_fn(|cx| {
            assert!(Pin::new(&mut promise).poll(cx).is_pending());
            Poll::Ready(())
        }));
        drop(runtime);
        std::thread::spawn(move || drop(promise)).join().expect("no panic");
        no_children();
    });
}

#[test]
fn a_stopped_child_dies_too() {
    alone("drops::a_stopped_child_dies_too", || {
        let promise = sh("kill -STOP $$").output();
        let pid = promise.pid().expect("started") as i32;
        eventually("it stopped", || children().iter().any(|c| c.0 == pid && c.1 == 'T'));
        drop(promise);
        no_children();
    });
}

/// Without `kill_on_drop` the child keeps running, and is reaped when it ends.
#[test]
fn kill_on_drop_false_runs_on_and_is_reaped() {
    alone("drops::kill_on_drop_false_runs_on_and_is_reaped", || {
        let dir = tempfile::tempdir().expect("a folder");
        let mark = dir.path().join("mark");
        let (mut command, mut polled) = (sh("sleep 0.1; touch \"$0\""), sh("sleep 0.1; touch \"$0\".polled"));
        for command in [&mut command, &mut polled] {
            command.arg(&mark).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(false);
        }
        drop(command.run());
        futures::executor::block_on(poll_and_drop(polled.run(), 1));
        assert_eq!(children().len(), 2);
        eventually("it did its work", || mark.exists() && mark.with_extension("polled").exists());
        no_children();
    });
}

#[test]
fn pid_is_known_until_the_end() {
    let mut promise = sh("exit 0").output();
    let pid = promise.pid().expect("started");
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    futures::executor::block_on(&mut promise).expect("a value");
    assert_eq!(promise.pid(), None);
    assert_eq!(Command::new("no-such-program").run().pid(), None);
}

//! Runs a line of shell for each argument, several at a time, with the results in the order of the arguments, as GNU's
//! `parallel --keep-order`: `cargo run --example parallel -- NUMBER SCRIPT ARG...`. In the script `$1` is the argument.
//! After Ctrl-C nothing more starts, and the running scripts are asked to end; a second Ctrl-C kills them. Without
//! arguments it shows both. Needs Unix.

#[cfg(not(unix))]
fn main() {
    eprintln!("needs Unix");
}

#[cfg(unix)]
fn main() -> std::io::Result<std::process::ExitCode> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.is_empty() {
        smol::block_on(unix::demonstrate())?;
        return Ok(0.into());
    }
    let most = words[0].parse().ok().filter(|most| *most > 0);
    let (Some(most), [_, script, arguments @ ..]) = (most, &words[..]) else {
        eprintln!("usage: parallel [NUMBER SCRIPT ARG...]");
        return Ok(2.into());
    };
    Ok(u8::from(!smol::block_on(unix::run(most, script, arguments, None))?).into())
}

#[cfg(unix)]
mod unix {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::io;
    use std::time::Duration;

    use async_signal::{Signal, Signals};
    use futures::StreamExt;
    use futures::future::{Either, select};
    use futures::stream;
    use indicatif::{ProgressBar, ProgressStyle};
    use reaped::{Error, Output, Promise, Stdio, sh};

    /// The result of an argument; `None` if its script did not start.
    type Outcome = Option<Result<Output, Error>>;

    /// Whether all of them succeeded.
    pub(super) async fn run(
        most: usize,
        script: &str,
        arguments: &[String],
        ctrl_c: Option<fn() -> Promise<()>>,
    ) -> io::Result<bool> {
        let mut signals = Signals::new([Signal::Int, Signal::Term])?;
        let _ctrl_c = ctrl_c.map(|press| press());
        let style = ProgressStyle::with_template("[{elapsed}] {bar:40} {pos}/{len} {msg}");
        let bar = ProgressBar::new(arguments.len() as u64).with_style(style.expect("a valid template"));
        let (stopping, controls) = (Cell::new(false), RefCell::new(Vec::new()));

        let start = |(index, argument): (usize, &String)| {
            let promise = (!stopping.get()).then(|| {
                let mut command = sh(script);
                // In a group of its own it does not get Ctrl-C, so this program decides. If this program is killed, the
                // group is killed too.
                command.arg(argument).stdin(Stdio::null()).new_group().die_with_parent(true);
                let promise = command.grace(Duration::from_secs(5)).output();
                controls.borrow_mut().push(promise.control());
                promise
            });
            async move {
                let Some(promise) = promise else { return (index, None) };
                (index, Some(promise.await))
            }
        };
        // When one ends, the next begins; `buffered` would wait for the slowest. So they are sorted here.
        let mut outcomes = stream::iter(arguments.iter().enumerate()).map(start).buffer_unordered(most);
        let (mut early, mut next): (BTreeMap<usize, Outcome>, _) = (BTreeMap::new(), 0);
        let mut counts = [0; 3];
        loop {
            match select(outcomes.next(), signals.next()).await {
                Either::Left((Some((index, outcome)), _)) => {
                    bar.inc(1);
                    early.insert(index, outcome);
                }
                Either::Left((None, _)) => break,
                Either::Right(_) if stopping.replace(true) => break, // dropping them kills them
                Either::Right(_) => {
                    bar.set_message("asked to end");
                    // An error means that it has ended already, and nothing more can be done.
                    let asked =
                        controls.borrow().iter().filter(|control| control.terminate().is_ok()).count();
                    bar.suspend(|| println!("^C: {asked} are asked to end"));
                }
            }
            while let Some(outcome) = early.remove(&next) {
                counts[rank(&outcome)] += 1;
                bar.suspend(|| show(&arguments[next], &outcome));
                next += 1;
            }
        }
        drop(outcomes);
        bar.finish_and_clear();
        println!("{} succeeded, {} failed, {} not begun", counts[0], counts[1], counts[2]);
        Ok(counts[0] == arguments.len())
    }

    fn rank(outcome: &Outcome) -> usize {
        match outcome {
            Some(Ok(output)) if output.status.success() => 0,
            Some(_) => 1,
            None => 2,
        }
    }

    fn show(argument: &str, outcome: &Outcome) {
        match outcome {
            Some(Ok(output)) => {
                let said = output.stdout_lossy();
                println!("{argument}: {} ({})", said.trim_end().escape_debug(), output.status);
            }
            Some(Err(error)) => println!("{argument}: {error}"),
            None => {}
        }
    }

    pub(super) async fn demonstrate() -> io::Result<()> {
        let arguments: Vec<String> = (1..=8).map(|number| number.to_string()).collect();
        // The later ones are faster.
        run(3, "sleep 0.$((9 - $1)); echo done; [ $1 != 5 ]", &arguments, None).await?;
        println!();
        let tidy = "trap 'echo tidied up; exit 1' TERM; sleep 100 & wait";
        run(3, tidy, &arguments, Some(press_ctrl_c)).await?;
        Ok(())
    }

    fn press_ctrl_c() -> Promise<()> {
        let me = std::process::id().to_string();
        reaped::run("sh", ["-c", "sleep 1; kill -INT $0", &me])
    }
}

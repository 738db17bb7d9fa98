//! Runs the same command on many hosts, a few at a time, each with its own timeout, and prints a table:
//! `cargo run --example ssh_fan_out -- NUMBER SECONDS COMMAND HOST...`. Without arguments a script replaces `ssh`. Needs
//! Unix.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use reaped::{Command, Error, Stdio};

/// Replaces `ssh HOST COMMAND`: eight hosts, some of which fail.
const STAND_IN: &str = r#"
case $1 in
  db1) exec sleep 100 ;;
  web3) echo 'ssh: Could not resolve hostname web3' >&2; exit 255 ;;
  web5) echo 'df: /var: Input/output error' >&2; exit 1 ;;
  *) sleep 0.1; echo "$1: $2: ${#1}1% of the disk in use" ;;
esac"#;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.is_empty() {
        let hosts = ["web1", "web2", "web3", "web4", "web5", "db1", "db2", "mail"].map(str::to_owned);
        futures::executor::block_on(fan_out(3, Duration::from_secs(3), &hosts, |host| {
            let mut command = Command::new("sh");
            command.args(["-c", STAND_IN, "sh", host, "df"]);
            command
        }));
        return ExitCode::SUCCESS;
    }
    let most = words[0].parse().ok().filter(|most| *most > 0);
    let seconds = words.get(1).and_then(|word| word.parse().ok());
    let patience = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let (Some(most), Some(patience), [_, _, command, hosts @ ..]) = (most, patience, &words[..]) else {
        return usage();
    };
    // ssh would take a host that begins with `-` for an option.
    if hosts.iter().any(|host| host.starts_with('-')) {
        return usage();
    }
    let all_well = futures::executor::block_on(fan_out(most, patience, hosts, |host| {
        let mut ssh = Command::new("ssh");
        // It must not ask for a password, because nobody would see that.
        ssh.args(["-o", "BatchMode=yes", "-T", host, command]);
        ssh
    }));
    ExitCode::from(u8::from(!all_well))
}

fn usage() -> ExitCode {
    eprintln!("usage: ssh_fan_out [NUMBER SECONDS COMMAND HOST...]");
    ExitCode::from(2)
}

/// Whether all hosts succeeded.
async fn fan_out(most: usize, patience: Duration, hosts: &[String], on: impl Fn(&str) -> Command) -> bool {
    let (start, width) = (Instant::now(), hosts.iter().map(String::len).max().unwrap_or_default());
    let results = stream::iter(hosts.iter().enumerate())
        .map(|(place, host)| {
            let begun = Instant::now();
            // Without a stdin of its own, ssh reads the parent's. A host that never stops talking is stopped too.
            let promise = on(host).stdin(Stdio::null()).timeout(patience).limit(1 << 20).read();
            async move { (place, host, promise.await, begun.elapsed()) }
        })
        .buffer_unordered(most);

    let mut counts = [0; 4];
    let rows = results.map(|(place, host, result, took)| {
        let (kind, text) = judged(&result);
        counts[kind as usize] += 1;
        let took = took.as_secs_f32();
        let kind = format!("{kind:?}").to_lowercase();
        (place, format!("{host:width$}  {kind:11}  {took:4.1} s  {text}"))
    });
    // As they come; then in their order.
    let table: BTreeMap<usize, String> = rows.collect().await;
    table.values().for_each(|row| println!("{row}"));
    let [well, failed, late, unreachable] = counts;
    println!("{well} well, {failed} failed, {late} late, {unreachable} unreachable; {:.1?}", start.elapsed());
    well == hosts.len()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Well,
    Failed,
    Late,
    Unreachable,
}

/// The result of a host, with the last line of its output.
fn judged(result: &Result<String, Error>) -> (Kind, String) {
    let error = match result {
        Ok(said) => return (Kind::Well, last_line(said)),
        Err(error) => error,
    };
    let kind = match error {
        Error::TimedOut(_) => Kind::Late,
        // ssh's own failures; other codes are the command's.
        _ if error.code() == Some(255) => Kind::Unreachable,
        _ => Kind::Failed,
    };
    let said = error.output().map(|output| last_line(&output.stderr_lossy())).filter(|said| !said.is_empty());
    let otherwise = || if let Kind::Late = kind { "said nothing".to_owned() } else { error.to_string() };
    (kind, said.unwrap_or_else(otherwise))
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().escape_debug().to_string()
}

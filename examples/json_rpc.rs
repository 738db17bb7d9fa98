//! Asks a server over its stdin and stdout, one JSON message a line, as tools and language servers do:
//! `cargo run --example json_rpc`. `cargo run --example json_rpc -- PROGRAM [ARG...]` sends one request to your own
//! server. Needs Unix.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures::AsyncWriteExt;
use futures::future::{Either, select};
use reaped::{Command, Process, Writer};
use smol::Timer;

/// A server that knows four methods: `add`; `later`, which is overtaken by others; `hang`; and `crash`.
const SERVER: &str = r#"
answer() { echo "{\"jsonrpc\":\"2.0\",\"id\":$id,$1}"; }
while read -r line; do
  id=${line#*\"id\":} id=${id%%[!0-9]*} params=${line#*[} params=${params%%]*}
  case $line in
    *'"method":"add"'*) answer "\"result\":$((${params%,*} + ${params#*,}))" ;;
    *'"method":"later"'*) (sleep 0.3; answer '"result":"at last"') & ;;
    *'"method":"hang"'*) ;;
    *'"method":"crash"'*) echo 'page 7 of the index is missing' >&2; exit 3 ;;
    *) answer '"error":{"code":-32601,"message":"method not found"}' ;;
  esac
done"#;

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> io::Result<()> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let Some(program) = words.first() else { return smol::block_on(demonstrate()) };
    if program.as_encoded_bytes().starts_with(b"-") {
        eprintln!("usage: json_rpc [PROGRAM [ARG...]]");
        std::process::exit(2);
    }
    smol::block_on(async {
        let mut server = Server::start(Command::new(program).args(&words[1..]))?;
        println!("{}", server.call("ping", "[]").await?);
        Ok(())
    })
}

async fn demonstrate() -> io::Result<()> {
    let mut server = Server::start(Command::new("sh").args(["-c", SERVER]))?;
    println!("add: {}", server.call("add", "[2,3]").await?);

    // Two are on their way at once, and the second is answered first.
    let (later, add) = (server.send("later", "[]").await?, server.send("add", "[20,22]").await?);
    println!("later: {}", server.answer(later, PATIENCE).await?);
    println!("add: {}", server.answer(add, PATIENCE).await?);

    println!("fly: {}", server.call("fly", "[]").await?);
    let hang = server.send("hang", "[]").await?;
    if let Err(error) = server.answer(hang, Duration::from_millis(300)).await {
        println!("hang: {error}");
    }
    if let Err(error) = server.call("crash", "[]").await {
        println!("crash: {error}");
    }
    Ok(())
}

struct Server {
    process: Process,
    writer: Writer,
    /// The id of the last request.
    id: u64,
    /// Answers that came before they were awaited.
    early: HashMap<u64, String>,
    /// The last lines on stderr.
    complaints: VecDeque<String>,
}

impl Server {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.spawn()?;
        let writer = process.writer(0).expect("a pipe, not taken yet");
        Ok(Server { process, writer, id: 0, early: HashMap::new(), complaints: VecDeque::new() })
    }

    async fn call(&mut self, method: &str, params: &str) -> io::Result<String> {
        let id = self.send(method, params).await?;
        self.answer(id, PATIENCE).await
    }

    /// Sends a request, and does not wait for the answer. If a message is longer than the pipe, read lines while you
    /// write it, or both sides wait.
    async fn send(&mut self, method: &str, params: &str) -> io::Result<u64> {
        self.id += 1;
        let id = self.id;
        let message =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n");
        match self.writer.write_all(message.as_bytes()).await {
            // It has ended, and the caller gets the reason.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(id),
            sent => sent.map(|()| id),
        }
    }

    async fn answer(&mut self, id: u64, patience: Duration) -> io::Result<String> {
        let mut timer = Timer::after(patience);
        loop {
            if let Some(answer) = self.early.remove(&id) {
                return Ok(answer);
            }
            // Dropping this future loses no line.
            let line = match select(pin!(self.process.next_line()), &mut timer).await {
                Either::Left((line, _)) => Some(line),
                Either::Right(_) => None,
            };
            let Some(line) = line else {
                return Err(self.failure(&format!("no answer within {patience:?}")));
            };
            match line {
                Some(line) if line.fd == 1 => match id_of(&line.text) {
                    Some(id) => drop(self.early.insert(id, line.text)),
                    None => return Err(self.failure(&format!("not an answer: {}", line.text))),
                },
                Some(line) => {
                    self.complaints.push_back(line.text);
                    if self.complaints.len() > 10 {
                        self.complaints.pop_front();
                    }
                }
                None => {
                    let status = self.process.wait().await?;
                    return Err(self.failure(&format!("the server has ended ({status})")));
                }
            }
        }
    }

    /// With the server's stderr.
    fn failure(&self, what: &str) -> io::Error {
        let said: Vec<_> = self.complaints.iter().map(|line| line.escape_debug().to_string()).collect();
        io::Error::other(if said.is_empty() {
            what.to_owned()
        } else {
            format!("{what}: {}", said.join("; "))
        })
    }
}

/// The only part of an answer that matters here; a real client has a parser.
fn id_of(answer: &str) -> Option<u64> {
    let (_, id) = answer.split_once("\"id\":")?;
    id.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

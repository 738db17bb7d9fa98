//! The most frequent words of a text, counted by a pipeline of five programs: `cargo run --example pipeline`, or
//! for your own file, `cargo run --example pipeline -- FILE`. Needs Unix.

#[cfg(not(unix))]
fn main() {
    eprintln!("needs Unix");
}

#[cfg(unix)]
fn main() -> Result<(), reaped::Error> {
    use reaped::{Stdio, cmd};

    const TEXT: &str = "the pipe the cat the hat a pipe a cat a mat the end";
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let source = match &words[..] {
        [] => Stdio::bytes(TEXT),
        [name] if !name.as_encoded_bytes().starts_with(b"-") => match std::fs::File::open(name) {
            Ok(file) => Stdio::from(file),
            Err(error) => {
                eprintln!("{name:?}: {error}");
                std::process::exit(1);
            }
        },
        _ => {
            eprintln!("usage: pipeline [FILE]");
            std::process::exit(2);
        }
    };
    futures::executor::block_on(async {
        let count = cmd!("tr -cs A-Za-z '\\n'")
            .stdin(source)
            .pipe(cmd!("sort"))
            .pipe(cmd!("uniq -c"))
            .pipe(cmd!("sort -k 1,1nr -k 2"))
            .pipe(cmd!("head -n {}", "3"))
            .read();
        println!("{}", count.await?);

        let output = cmd!("yes").pipe(cmd!("head -n 1")).output().await?;
        for (place, member) in (1..).zip(output.members()) {
            println!("member {place} of `yes | head -n 1`: {}", member.status);
        }
        println!("all in all: {}", output.status);

        match cmd!("sh -c 'echo no such table >&2; exit 4'").pipe(cmd!("sort")).read().await {
            Ok(text) => println!("a shell that ignores `exit` says {text}"),
            Err(error) => println!("{error}"),
        }
        Ok(())
    })
}

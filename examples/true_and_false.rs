//! Distinguishes a program that succeeds from one that fails, by exit code: `cargo run --example true_and_false`.

use reaped::Error;

fn main() -> Result<(), Error> {
    if std::env::args().len() > 1 {
        eprintln!("usage: true_and_false (without arguments)");
        std::process::exit(2);
    }
    futures::executor::block_on(async {
        // Both start here, at the call, and run side by side.
        let promises = ["true", "false"].map(|program| (program, reaped::exit_code(program, [""; 0])));
        for (program, promise) in promises {
            match promise.await? {
                0 => println!("{program} exited with 0: it succeeded"),
                code => println!("{program} exited with {code}: it failed"),
            }
        }
        Ok(())
    })
}

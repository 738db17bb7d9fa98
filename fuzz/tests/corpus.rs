//! Inputs that once found something are tried again.

use std::fs;
use std::path::Path;

#[test]
fn nothing_is_found_again() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in reaped_fuzz::TARGETS {
        let inputs = fs::read_dir(corpus.join(name)).expect("a folder of each target").flatten();
        let inputs: Vec<_> = inputs.map(|entry| entry.path()).collect();
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            println!("{}", input.display());
            target(&fs::read(&input).expect("a file"));
        }
    }
}

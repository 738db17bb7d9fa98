//! The plan of the house, held by a test: floors only look down.

use std::path::{Path, PathBuf};

/// Modules by floor, the ground first.
const FLOORS: &[&[&str]] = &[
    &["error", "output", "stdio", "signal"],
    &["protocol", "spawn"],
    &["transport"],
    &["command", "control", "promise", "process"],
    &["calls", "gpg", "words"],
];

fn floor(module: &str) -> usize {
    let found = FLOORS.iter().position(|floor| floor.contains(&module));
    found.unwrap_or_else(|| panic!("{module} has no floor"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn floors_only_look_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut looked = 0;
    for file in files {
        let inside = file.strip_prefix(&root).expect("below src");
        let module = inside.iter().next().expect("a name").to_str().expect("UTF-8").trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("readable");
        assert!(text.starts_with("//! "), "{inside:?} does not say what it owns");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (place, _) in line.match_indices("crate::") {
                if line[..place].ends_with('$') {
                    continue;
                }
                let rest = &line[place + "crate::".len()..];
                let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                looked += 1;
                // The nouns name each other: a command makes promises.
                let noun = floor(module) == 3 && floor(&used) == 3;
                let ground = floor(module) == 0 && floor(&used) == 0;
                assert!(
                    used == module || ground || noun || floor(&used) < floor(module),
                    "{inside:?} on floor {} looks up: {line}",
                    floor(module)
                );
            }
        }
    }
    assert!(looked > 30, "the scan saw only {looked} uses");
}

#[test]
fn unsafe_code_stays_in_spawn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files {
        let inside = file.strip_prefix(&root).expect("below src").to_owned();
        let text = std::fs::read_to_string(&file).expect("readable");
        let allowed = ["spawn/handles.rs", "spawn/native.rs", "spawn/portable.rs", "spawn/raw.rs"]
            .iter()
            .any(|name| inside == Path::new(name));
        assert_eq!(text.contains("#![allow(unsafe_code)]"), allowed, "{inside:?}");
        assert!(allowed || !text.contains("allow(unsafe_code)"), "{inside:?}");
    }
}

//! A test holds the plan of the house: a floor uses only those below it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules by floor, the ground first.
const FLOORS: &[&[&str]] = &[
    &["limit", "signal"],
    &["output", "stdio"],
    &["error"],
    &["protocol", "spawn"],
    &["transport"],
    &["command", "control", "promise", "process"],
    &["calls", "cmd", "gpg"],
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
                let noun = floor(module) == floor("command") && floor(&used) == floor("command");
                assert!(
                    used == module || noun || floor(&used) < floor(module),
                    "{inside:?} on floor {} looks up: {line}",
                    floor(module)
                );
            }
        }
    }
    assert!(looked > 30, "the scan saw only {looked} uses");
}

/// The paths that a use declaration names, written out.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().expect("a path").trim().to_owned()];
    };
    let group = group.trim_end().trim_end_matches('}');
    let (mut depth, mut parts, mut start) = (0, Vec::new(), 0);
    for (place, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(paths).map(|path| format!("{head}{path}")).collect()
}

/// The module file that a path leads to, from the module that names it.
fn leads_to(path: &str, from: &[String], modules: &[Vec<String>]) -> Option<Vec<String>> {
    let mut at = from.to_vec();
    let mut words = path.split("::").peekable();
    match words.peek() {
        Some(&"crate") => {
            words.next();
            at.clear();
        }
        Some(&"super") => {
            while words.next_if_eq(&"super").is_some() {
                at.pop();
            }
        }
        _ => {}
    }
    for word in words {
        at.push(word.to_owned());
        if !modules.contains(&at) {
            at.pop();
            break;
        }
    }
    (at != from && modules.contains(&at)).then_some(at)
}

/// No file uses one that uses it, directly or through others, in the engine room and on the ground. A
/// folder's `mod.rs` uses the files in it, so none of them uses it.
#[test]
fn no_files_go_in_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let module = |file: &Path| -> Vec<String> {
        let inside = file.strip_prefix(&root).expect("below src").with_extension("");
        let mut words: Vec<String> =
            inside.iter().map(|word| word.to_str().expect("UTF-8").to_owned()).collect();
        if words.last().is_some_and(|last| last == "mod") {
            words.pop();
        }
        words
    };
    let modules: Vec<Vec<String>> = files.iter().map(|file| module(file)).collect();
    let held = |module: &[String]| {
        let first = module.first().map_or("", |first| first);
        first == "spawn" || FLOORS[..3].iter().any(|floor| floor.contains(&first))
    };
    let mut uses: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.ends_with("src/lib.rs") && held(&module(file))) {
        let from = module(file);
        let text = std::fs::read_to_string(file).expect("readable");
        let text = text.split("#[cfg(test)]\nmod tests").next().expect("some").to_owned();
        let found = uses.entry(from.clone()).or_default();
        for (place, _) in text.match_indices("use ") {
            let before = text[..place].rsplit('\n').next().expect("a line");
            if !(before.is_empty() || before.starts_with("pub")) {
                continue;
            }
            let declared = text[place + 4..].split(';').next().expect("a path");
            for path in paths(declared) {
                // The folder of the system that is compiled for. Its alias does not matter.
                for system in ["linux", "unix", "windows"] {
                    found.extend(leads_to(&path.replace("sys::", &format!("{system}::")), &from, &modules));
                }
            }
        }
    }
    let seen: usize = uses.values().map(BTreeSet::len).sum();
    assert!(seen > 60, "the scan saw only {seen} uses");
    // Removes each file that uses no remaining file, until none is left.
    while !uses.is_empty() {
        let left: BTreeSet<Vec<String>> = uses.keys().cloned().collect();
        let before = uses.len();
        uses.retain(|_, used| used.iter().any(|one| left.contains(one)));
        let shown = || -> Vec<String> {
            let pairs = uses.iter().flat_map(|(from, used)| used.iter().map(move |used| (from, used)));
            let pairs = pairs.filter(|(_, used)| uses.contains_key(*used));
            pairs.map(|(from, used)| format!("{} uses {}", from.join("::"), used.join("::"))).collect()
        };
        assert!(uses.len() < before, "these go in circles: {:#?}", shown());
    }
}

#[test]
fn unsafe_code_stays_in_spawn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files {
        let inside = file.strip_prefix(&root).expect("below src").to_owned();
        let text = std::fs::read_to_string(&file).expect("readable");
        let allowed = [
            "linux/child.rs",
            "linux/pidfd.rs",
            "linux/start.rs",
            "unix/after_fork.rs",
            "unix/pages.rs",
            "unix/portable.rs",
            "unix/raw.rs",
            "windows/job.rs",
            "windows/pending.rs",
            "windows/pipe.rs",
        ]
        .iter()
        .any(|name| inside == Path::new("spawn").join(name));
        assert_eq!(text.contains("allow(unsafe_code)"), allowed, "{inside:?}");
    }
}

/// Every Unix has the programs that these run. A new machine has no git.
#[test]
fn no_example_and_no_test_runs_git() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    for folder in ["src", "tests", "examples"] {
        sources(&root.join(folder), &mut files);
    }
    files.extend(root.join("docs").read_dir().expect("a folder").flatten().map(|entry| entry.path()));
    let called = ["(", "\"git"].concat();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("readable");
        // A table may name a program without running it.
        let found = text.lines().find(|line| line.contains(&called) && !line.starts_with('|'));
        assert_eq!(found, None, "{}", file.display());
    }
    assert!(files.len() > 60, "the scan saw only {files:?}");
}

/// If a test's program is missing, the test has neither passed nor failed. If the program is required, the
/// test fails.
#[cfg(unix)]
#[test]
fn a_test_without_its_program_is_shown_as_ignored() {
    let empty = tempfile::tempdir().expect("a folder");
    let run = |name: &str, required: bool| {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this binary"));
        command.args([name, "--exact"]).env("PATH", empty.path()).env_remove("REAPED_REQUIRE_GPG");
        if required {
            command.env("REAPED_REQUIRE_GPG", "1");
        }
        let output = command.output().expect("it starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    // One test in this process, and one in a process of its own.
    for name in ["gpg::sizes", "gpg::one_line"] {
        let (code, said) = run(name, false);
        assert_eq!(code, Some(0), "{said}");
        let shown =
            said.lines().any(|line| line.contains(name) && line.ends_with(" ignored (gpg is missing)"));
        assert!(shown && said.contains(" 0 passed; 0 failed; 1 ignored;"), "{said}");
        let (code, said) = run(name, true);
        assert!(code == Some(101) && said.contains(" 0 passed; 1 failed; 0 ignored;"), "{said}");
    }
}

/// The options of the binary that filters, lists and test runners use work as in libtest.
#[test]
fn the_harness_speaks_as_libtest_does() {
    const OWN: &str = "house::the_harness_speaks_as_libtest_does";
    let run = |args: &[&str]| {
        let output = std::process::Command::new(std::env::current_exe().expect("this binary"))
            .args(args)
            .env("RUST_TEST_THREADS", "1")
            .output()
            .expect("it starts");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let all = run(&["--list", "--format", "terse"]);
    assert!(all.lines().all(|line| line.ends_with(": test")) && all.lines().count() > 30, "{all}");
    assert!(all.lines().any(|line| line.strip_suffix(": test") == Some(OWN)), "{all}");
    assert_eq!(run(&["--list", "--format", "terse", "--ignored"]), "");
    let some = run(&["house::", "--skip", "harness", "--skip", "ignored"]);
    assert!(some.contains("running 4 tests") && some.contains(" 4 passed; 0 failed; 0 ignored;"), "{some}");
    let one = run(&["house::floors_only_look_down", "--exact", "--nocapture", "--test-threads=1"]);
    assert!(one.contains("running 1 test") && one.contains(" 1 passed; 0 failed; 0 ignored;"), "{one}");
}

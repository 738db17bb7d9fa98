//! The descriptor plan, on a table such as a kernel keeps.

use std::collections::{BTreeMap, BTreeSet};

use fds::{Action, Fd, Others};

use crate::choices::Choices;

#[allow(dead_code, reason = "an engine uses more")]
#[path = "../../src/spawn/unix/fds.rs"]
mod fds;

/// An open descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    /// Stands for the open file; no two files have the same number.
    file: u32,
    /// Closed when the program starts.
    cloexec: bool,
}

type Table = BTreeMap<Fd, Open>;

/// What the engine wants, as in `spawn/unix/descriptors.rs`: target and source, sorted by target.
struct Descriptors {
    others: Others,
    wanted: Vec<(Fd, Fd)>,
    closed: Vec<Fd>,
}

/// **Invariant.** For any descriptors that the parent has open, and any targets:
///
/// - No step uses a descriptor that is not open, nor makes one above the highest target.
/// - The program has each target, open on the file that its source had when the command was built.
/// - It has nothing else. If it inherits others, it has exactly those that are inheritable, are no target, and need not
///   be closed. Descriptors that other threads open meanwhile change nothing.
/// - The parent's own descriptors stay as they were.
/// - The number of steps does not grow with the numbers.
pub fn plan(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut parent = Table::new();
    for _ in 0..choices.below(32) {
        let (number, cloexec) = (number(&mut choices), choices.yes());
        let file = 1000 + parent.len() as u32;
        parent.entry(number).or_insert(Open { file, cloexec });
    }
    let others = if choices.yes() { Others::Inherit } else { Others::Close };
    let sources: Vec<Fd> = parent.keys().copied().collect();
    let mut wanted = BTreeMap::new();
    if !sources.is_empty() {
        for _ in 0..choices.below(32) {
            wanted.insert(number(&mut choices), sources[choices.below(sources.len())]);
        }
    }
    let closed: BTreeSet<Fd> = (0..choices.below(8)).map(|_| number(&mut choices)).collect();
    let closed = closed.into_iter().filter(|fd| !wanted.contains_key(fd)).collect();
    let mut expected: BTreeMap<Fd, u32> =
        wanted.iter().map(|(target, source)| (*target, parent[source].file)).collect();

    let before = parent.clone();
    let mut descriptors = Descriptors { others, wanted: wanted.into_iter().collect(), closed };
    move_sources(&mut descriptors, &mut parent);
    // The portable engine adds a pipe of its own at the last moment.
    if choices.yes() {
        let pipe = (0..).find(|n| !parent.contains_key(n)).expect("a number");
        parent.insert(pipe, Open { file: 1, cloexec: true });
        let target = add(&mut descriptors, &mut parent, pipe);
        assert!(expected.insert(target, 1).is_none(), "{target} was taken");
    }
    for (number, open) in &before {
        assert_eq!(parent.get(number), Some(open), "the parent's own {number} was touched");
    }
    // Descriptors that other threads open before the child exists.
    for stranger in 0..choices.below(8) {
        let (number, cloexec) = (number(&mut choices), choices.yes());
        parent.entry(number).or_insert(Open { file: 2000 + stranger as u32, cloexec });
    }

    let actions = fds::actions(others, &descriptors.wanted, &descriptors.closed);
    assert!(
        actions.len() <= 3 * descriptors.wanted.len() + descriptors.closed.len() + 1,
        "too many steps: {actions:?}"
    );
    if others == Others::Inherit {
        for (number, open) in &parent {
            if !open.cloexec && !descriptors.closed.contains(number) {
                expected.entry(*number).or_insert(open.file);
            }
        }
    }
    let highest = descriptors.wanted.last().map_or(-1, |(target, _)| *target);
    let mut child = parent;
    for action in &actions {
        step(&mut child, *action, highest);
    }
    let child: BTreeMap<Fd, u32> = child
        .into_iter()
        .filter(|(_, open)| !open.cloexec)
        .map(|(number, open)| (number, open.file))
        .collect();
    assert_eq!(child, expected, "by {actions:?}");
}

/// Mostly small, so they collide; and never too large for a shell.
fn number(choices: &mut Choices<'_>) -> Fd {
    match choices.byte() {
        small @ 0..224 => Fd::from(small % 28),
        large => Fd::from(large - 223) * 331,
    }
}

fn step(table: &mut Table, action: Action, highest: Fd) {
    match action {
        Action::Dup2 { from, to } => {
            assert!((0..=highest).contains(&to), "{action:?} is out of bounds");
            let open = *table.get(&from).unwrap_or_else(|| panic!("{action:?} of what is not open"));
            table.insert(to, Open { cloexec: false, ..open });
        }
        Action::Close(fd) => drop(table.remove(&fd)),
        Action::CloseFrom(least) => table.retain(|fd, _| *fd < least),
    }
}

/// Like `Descriptors::move_sources`, with a copy by F_DUPFD_CLOEXEC.
fn move_sources(descriptors: &mut Descriptors, table: &mut Table) {
    let targets: Vec<Fd> =
        descriptors.wanted.iter().map(|w| w.0).chain(descriptors.closed.iter().copied()).collect();
    let count = descriptors.wanted.len();
    for (place, (target, source)) in descriptors.wanted.iter_mut().enumerate() {
        if fds::must_move(descriptors.others, &targets, count, place, *target, *source) {
            let good =
                |n: &Fd| !table.contains_key(n) && fds::may_live_at(descriptors.others, &targets, count, *n);
            let free = (0..).find(good).expect("a number");
            table.insert(free, Open { file: table[source].file, cloexec: true });
            *source = free;
        }
    }
}

/// Like `Descriptors::add`.
fn add(descriptors: &mut Descriptors, table: &mut Table, source: Fd) -> Fd {
    let taken = |n: &Fd| descriptors.wanted.iter().any(|w| w.0 == *n) || descriptors.closed.contains(n);
    let target = (3..).find(|n| !taken(n)).expect("a number");
    let place = descriptors.wanted.partition_point(|w| w.0 < target);
    descriptors.wanted.insert(place, (target, source));
    move_sources(descriptors, table);
    target
}

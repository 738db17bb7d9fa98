//! The descriptor plan: how a new process gets exactly the wanted descriptors. Pure: numbers in, actions out, so a
//! test can try every collision.
//!
//! Sources and targets may collide in any way: `{1: 2, 2: 1}`, or a pipe of this crate on a target's number. Gaps
//! between targets must be closed without a loop over them. And nobody knows what other threads have open. So, if the
//! child gets only the named descriptors:
//!
//! 1. *Pack*: copy the n sources to 0 … n-1, in the order of their targets. Only this crate's copies are overwritten:
//!    the parent has moved any source below n ([`must_move`]).
//! 2. *Close* everything from n on.
//! 3. *Spread*, from the highest target down: copy `i` to its target and close `i`. A target is never below its
//!    place, because both rise and places have no gaps. So no copy that still waits is overwritten.
//!
//! Here `dup2` of a descriptor onto itself clears close-on-exec, as in posix_spawn_file_actions_adddup2(3). dup2(2)
//! does not, so both engines do that by hand.

/// A descriptor number.
pub(crate) type Fd = i32;

/// One step in the new process, before it becomes the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// `to` becomes a copy of `from` without close-on-exec, even if both are the same.
    Dup2 { from: Fd, to: Fd },
    /// Closes one descriptor, which need not be open.
    Close(Fd),
    /// Closes this one and all above.
    CloseFrom(Fd),
}

/// Whether the child gets only the named descriptors, or also those that the parent leaves open on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    Close,
    Inherit,
}

/// Whether the plan would overwrite the source of the target at `place`, so that it must be moved first. `place`
/// counts all targets, sorted; `targets` includes those that are closed.
pub(super) fn must_move(
    others: Others,
    targets: &[Fd],
    count: usize,
    place: usize,
    target: Fd,
    source: Fd,
) -> bool {
    match others {
        Others::Close => (source as usize) < count && source as usize != place,
        Others::Inherit => source != target && targets.contains(&source),
    }
}

/// Whether a moved source may live at `number`.
pub(super) fn may_live_at(others: Others, targets: &[Fd], count: usize, number: Fd) -> bool {
    match others {
        Others::Close => number as usize >= count,
        Others::Inherit => !targets.contains(&number),
    }
}

/// The steps for `wanted`: target and source, sorted by target, sources moved as [`must_move`] says. `closed` matters
/// only if other descriptors are inherited.
pub(super) fn actions(others: Others, wanted: &[(Fd, Fd)], closed: &[Fd]) -> Vec<Action> {
    debug_assert!(wanted.windows(2).all(|pair| pair[0].0 < pair[1].0), "sorted, and each target once");
    let mut actions = Vec::with_capacity(3 * wanted.len() + 1);
    match others {
        Others::Inherit => {
            actions.extend(wanted.iter().map(|&(to, from)| Action::Dup2 { from, to }));
            actions.extend(closed.iter().map(|&fd| Action::Close(fd)));
        }
        Others::Close => {
            let places = || (0..).zip(wanted);
            actions.extend(places().map(|(to, &(_, from))| Action::Dup2 { from, to }));
            actions.push(Action::CloseFrom(wanted.len() as Fd));
            for (place, &(target, _)) in places().collect::<Vec<_>>().into_iter().rev() {
                if place != target {
                    actions.push(Action::Dup2 { from: place, to: target });
                    actions.push(Action::Close(place));
                }
            }
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// What a kernel would do: numbers to open files, here just names.
    fn run(table: &mut BTreeMap<Fd, u32>, actions: &[Action]) {
        for action in actions {
            match *action {
                Action::Dup2 { from, to } => {
                    let file = *table.get(&from).expect("the source is still open");
                    table.insert(to, file);
                }
                Action::Close(fd) => drop(table.remove(&fd)),
                Action::CloseFrom(fd) => table.retain(|open, _| *open < fd),
            }
        }
    }

    /// As the engines do it: move what must move, then plan.
    fn plan(
        others: Others,
        wanted: &[(Fd, Fd)],
        closed: &[Fd],
        table: &mut BTreeMap<Fd, u32>,
    ) -> Vec<Action> {
        let mut targets: Vec<Fd> = wanted.iter().map(|w| w.0).collect();
        targets.extend(closed);
        let moved: Vec<(Fd, Fd)> = wanted
            .iter()
            .enumerate()
            .map(|(place, &(target, source))| {
                if !must_move(others, &targets, wanted.len(), place, target, source) {
                    return (target, source);
                }
                let free =
                    (0..).find(|n| !table.contains_key(n) && may_live_at(others, &targets, wanted.len(), *n));
                let free = free.expect("there is always a number");
                let file = table[&source];
                table.insert(free, file);
                (target, free)
            })
            .collect();
        actions(others, &moved, closed)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 32 } else { 4096 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_child_has_exactly_what_was_named(
            open in proptest::collection::btree_set(0..40, 1..30),
            named in proptest::collection::btree_map(0..50, any::<prop::sample::Index>(), 0..20),
        ) {
            let mut table: BTreeMap<Fd, u32> = open.iter().map(|fd| (*fd, *fd as u32 + 100)).collect();
            let sources: Vec<Fd> = open.into_iter().collect();
            let wanted: Vec<(Fd, Fd)> = named.iter().map(|(target, index)| (*target, *index.get(&sources))).collect();
            let expected: BTreeMap<Fd, u32> = wanted.iter().map(|(target, source)| (*target, table[source])).collect();
            let actions = plan(Others::Close, &wanted, &[], &mut table);
            run(&mut table, &actions);
            prop_assert_eq!(table, expected);
        }

        #[test]
        fn inherited_descriptors_stay(
            open in proptest::collection::btree_set(0..40, 1..30),
            named in proptest::collection::btree_map(0..50, any::<prop::sample::Index>(), 0..20),
            closed in proptest::collection::btree_set(0..50, 0..5),
        ) {
            let before: BTreeMap<Fd, u32> = open.iter().map(|fd| (*fd, *fd as u32 + 100)).collect();
            let mut table = before.clone();
            let sources: Vec<Fd> = open.into_iter().collect();
            let wanted: Vec<(Fd, Fd)> = named.iter().map(|(target, index)| (*target, *index.get(&sources))).collect();
            let targets: BTreeSet<Fd> = wanted.iter().map(|w| w.0).collect();
            let closed: Vec<Fd> = closed.into_iter().filter(|fd| !targets.contains(fd)).collect();
            let actions = plan(Others::Inherit, &wanted, &closed, &mut table);
            run(&mut table, &actions);
            for (target, source) in &wanted {
                prop_assert_eq!(table.get(target), Some(&before[source]));
            }
            for fd in &closed {
                prop_assert!(!table.contains_key(fd));
            }
            for (fd, file) in before.iter().filter(|(fd, _)| !targets.contains(fd) && !closed.contains(fd)) {
                prop_assert_eq!(table.get(fd), Some(file), "an inherited descriptor was touched");
            }
        }
    }

    #[test]
    fn the_usual_three_take_four_steps() {
        let steps = actions(Others::Close, &[(0, 9), (1, 5), (2, 7)], &[]);
        let dup = |from, to| Action::Dup2 { from, to };
        assert_eq!(steps, [dup(9, 0), dup(5, 1), dup(7, 2), Action::CloseFrom(3)]);
    }

    #[test]
    fn a_gap_costs_no_loop() {
        assert!(actions(Others::Close, &[(0, 4), (1_000_000, 5)], &[]).len() < 6);
    }
}

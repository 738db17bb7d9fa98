//! What the program makes of the stored results: `RESULTS.md`, the pictures, and the part of README between
//! two comments.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::picture;
use crate::report::{Same, short};
use crate::results::{Family, Results, home};

const BEGIN: &str = "<!-- speed: written by reaped-bench -->";
const END: &str = "<!-- end of speed -->";

/// The rows of README's table: the task in words, and its figure.
const ROWS: [(&str, &str); 7] = [
    ("`/bin/true` and back, tokio", "latency/tokio-ct"),
    ("512 MiB of output collected, smol", "bulk/smol"),
    ("256 MiB through `cat` and back, tokio", "duplex/tokio-ct"),
    ("5 million lines, tokio", "lines/lines-tokio-ct"),
    ("2000 children, 64 at a time, tokio", "many/tokio-ct"),
    ("the longest poll while 4 MiB of short lines come", "fairness/yes-lines/poll-most"),
    ("an extra descriptor from a parent of 4 GiB", "fds/4GiB"),
];

/// The columns of README's table: the peer, and the column's head.
const COLUMNS: [(&str, &str); 5] = [
    ("std", "std"),
    ("tokio", "tokio's own"),
    ("async-process", "async-process"),
    ("processkit", "processkit"),
    ("command-fds", "command-fds"),
];

/// A ratio may be this much above README's before it counts as wrong, because runs differ.
const TOLERANCE: f64 = 1.1;

/// Makes all of it anew.
pub fn render(results: &Results) -> io::Result<()> {
    fs::write(page_path(), page(results))?;
    fs::create_dir_all(figures_path())?;
    fs::write(figures_path().join("overview.svg"), overview(results))?;
    for family in &results.families {
        if let Some(svg) = family_picture(family) {
            fs::write(figures_path().join(format!("{}.svg", family.name)), svg)?;
        }
    }
    let readme = fs::read_to_string(readme_path())?;
    fs::write(readme_path(), with_speed(&readme, results)?)
}

/// The files that differ from the stored results. Another version of the plotting crate may draw differently,
/// so a picture only has to exist.
pub fn stale(results: &Results) -> io::Result<Vec<String>> {
    let mut stale = Vec::new();
    if fs::read_to_string(page_path())? != page(results) {
        stale.push("benches/RESULTS.md is not what benches/results.json gives".into());
    }
    let readme = fs::read_to_string(readme_path())?;
    if readme != with_speed(&readme, results)? {
        stale.push("README.md's table of speed is not what benches/results.json gives".into());
    }
    let drawn = results.families.iter().filter(|family| family_picture(family).is_some());
    for name in ["overview"].into_iter().chain(drawn.map(|family| family.name.as_str())) {
        if !figures_path().join(format!("{name}.svg")).exists() {
            stale.push(format!("benches/figures/{name}.svg is missing"));
        }
    }
    Ok(stale)
}

/// The claims of README and the aims that do not hold in these results. `before` has README's numbers.
pub fn broken(results: &Results, before: Option<&Results>) -> Vec<String> {
    let mut broken = Vec::new();
    if let Some(before) = before {
        for (task, figure) in ROWS {
            for (peer, _) in COLUMNS {
                let median = |results: &Results| results.figure(figure).and_then(|same| same.median(peer));
                let (Some(said), now) = (median(before), median(results)) else { continue };
                match now {
                    Some(now) if now <= said * TOLERANCE => {}
                    Some(now) => broken.push(format!(
                        "README: {task}, beside {peer}: it says {}, and here it is {}",
                        short(said),
                        short(now)
                    )),
                    None => broken.push(format!("README: {task}, beside {peer}: not measured here")),
                }
            }
        }
    }
    for family in &results.families {
        for same in family.figures() {
            for (peer, most) in &same.0[0].aims {
                let (reached, of) = (same.reached(peer, *most), same.found(peer).len());
                // Two of three runs are enough.
                if 3 * reached < 2 * of || of == 0 {
                    let found: Vec<String> = same.found(peer).into_iter().map(short).collect();
                    let peer = if peer.is_empty() { "its value" } else { peer };
                    broken.push(format!(
                        "aim: {}, {peer} ≤ {}: reached in {reached} of {of} runs ({})",
                        same.0[0].name,
                        short(*most),
                        found.join(" · ")
                    ));
                }
            }
        }
    }
    broken
}

fn page_path() -> PathBuf {
    home().join("RESULTS.md")
}

fn figures_path() -> PathBuf {
    home().join("figures")
}

fn readme_path() -> PathBuf {
    home().join("../README.md")
}

/// The results' page.
fn page(results: &Results) -> String {
    let machine = &results.machine;
    let mut page = format!(
        "# Results\n\nWritten by `cargo run --release -p reaped-bench` from [results.json](results.json), on {}, with \
         {}.\nMedians of each run, one run after the other; a ratio is reaped ÷ peer: below 1 reaped is faster, or needs \
         less.\nIn the pictures a bar ends at the median of the runs, and the thin line goes from the least to the most.\n",
        machine.place(),
        machine.rustc
    );
    if !machine.versions.is_empty() {
        let versions: Vec<String> =
            machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let _ = write!(page, "\nPeers: {}.\n", versions.join(", "));
    }
    for skipped in &machine.skipped {
        let _ = write!(page, "\nNot measured: {skipped}.\n");
    }
    for family in &results.families {
        let name = &family.name;
        let _ = write!(page, "\n## {name}\n\n");
        if family_picture(family).is_some() {
            let _ = write!(page, "![{name}: reaped ÷ peer](figures/{name}.svg)\n\n");
        }
        page.push_str("| figure | reaped | beside | aim, and in how many runs it was reached | note |\n");
        page.push_str("| --- | --- | --- | --- | --- |\n");
        for same in family.figures() {
            let _ = writeln!(page, "{}", row(&same));
        }
    }
    page
}

/// A row of the page.
fn row(same: &Same<'_>) -> String {
    let first = same.0[0];
    let each = |peer: &str| same.found(peer).into_iter().map(short).collect::<Vec<String>>().join(" · ");
    let ratios: Vec<String> = first.ratios.iter().map(|(peer, _)| format!("{peer} {}", each(peer))).collect();
    let aims: Vec<String> = first
        .aims
        .iter()
        .map(|(peer, most)| {
            let space = if peer.is_empty() { "" } else { " " };
            let (reached, of) = (same.reached(peer, *most), same.0.len());
            format!("{peer}{space}≤ {}: {reached} of {of}", short(*most))
        })
        .collect();
    format!(
        "| {} | {} {} | {} | {} | {} |",
        first.name,
        each(""),
        first.unit,
        ratios.join("<br>"),
        aims.join("<br>"),
        first.note
    )
}

/// README with this between its two comments.
fn with_speed(readme: &str, results: &Results) -> io::Result<String> {
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) =
        parts.ok_or_else(|| io::Error::other(format!("README.md has no {BEGIN} … {END}")))?;
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", speed(results)))
}

/// README's picture and table, without empty columns and without rows that were not measured.
fn speed(results: &Results) -> String {
    let rows: Vec<(&str, Vec<Option<f64>>)> = ROWS
        .iter()
        .filter_map(|(task, figure)| {
            let same = results.figure(figure)?;
            Some((*task, COLUMNS.map(|(peer, _)| same.median(peer)).into()))
        })
        .collect();
    let filled: Vec<usize> =
        (0..COLUMNS.len()).filter(|column| rows.iter().any(|(_, cells)| cells[*column].is_some())).collect();
    let mut text = format!(
        "Time as reaped ÷ peer, on {} ([all figures](benches/RESULTS.md), [notes](benches/NOTES.md)). \
         Below 1 is faster.\n![The table below as bars](benches/figures/overview.svg)\n\n| task |",
        results.machine.place()
    );
    for column in &filled {
        let _ = write!(text, " {} |", COLUMNS[*column].1);
    }
    let _ = write!(text, "\n| --- |{}\n", " --- |".repeat(filled.len()));
    for (task, cells) in rows {
        let _ = write!(text, "| {task} |");
        for column in &filled {
            match cells[*column] {
                Some(ratio) => {
                    let _ = write!(text, " {} |", short(ratio));
                }
                None => text.push_str(" |"),
            }
        }
        text.push('\n');
    }
    text
}

/// README's rows as a picture.
fn overview(results: &Results) -> String {
    let groups = ROWS.iter().filter_map(|(task, figure)| {
        let same = results.figure(figure)?;
        let bars = COLUMNS.iter().filter_map(|(peer, _)| bar(&same, peer)).collect();
        Some(picture::Group { name: task.replace('`', ""), bars })
    });
    picture::draw("", &groups.collect::<Vec<_>>())
}

/// A family's figures; `None` if nothing in it has a peer. fairness has many rows: the picture shows one for
/// each work.
fn family_picture(family: &Family) -> Option<String> {
    let prefix = format!("{}/", family.name);
    let figures = family.figures();
    let groups: Vec<picture::Group> = figures
        .iter()
        .filter(|same| family.name != "fairness" || same.0[0].name.ends_with("/poll-most"))
        .filter(|same| !same.0[0].ratios.is_empty())
        .map(|same| {
            let name = &same.0[0].name;
            let bars = same.0[0].ratios.iter().filter_map(|(peer, _)| bar(same, peer)).collect();
            picture::Group { name: name.strip_prefix(&prefix).unwrap_or(name).to_owned(), bars }
        })
        .collect();
    (!groups.is_empty()).then(|| picture::draw(&family.name, &groups))
}

fn bar(same: &Same<'_>, peer: &str) -> Option<picture::Bar> {
    let found = same.found(peer);
    let least = found.iter().copied().reduce(f64::min)?;
    let most = found.iter().copied().reduce(f64::max)?;
    Some(picture::Bar { peer: peer.to_owned(), least, median: same.median(peer)?, most })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Figure;

    /// Three runs of one figure of README's table, with an aim.
    fn results(ratios: [f64; 3]) -> Results {
        let mut results = Results::default();
        for ratio in ratios {
            let figure = Figure::new("latency/tokio-ct", 800.0, "us").beside("std", ratio).aim("std", 1.0);
            results.add("latency", vec![figure]);
        }
        results
    }

    #[test]
    fn readme_has_the_median_and_what_is_around_it_stays() {
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = with_speed(&readme, &results([1.5, 0.9, 1.25])).expect("both comments");
        assert!(new.starts_with("before\n") && new.ends_with("\nafter\n") && !new.contains("old"));
        assert!(new.contains("| task | std |\n"), "{new}");
        assert!(new.contains("| `/bin/true` and back, tokio | 1.25 |\n"), "{new}");
        assert_eq!(with_speed(&new, &results([1.25; 3])).expect("both comments"), new);
        assert_ne!(with_speed(&new, &results([1.26; 3])).expect("both comments"), new);
        assert!(with_speed("no comments", &results([1.0; 3])).is_err());
    }

    #[test]
    fn a_claim_is_broken_beyond_the_tolerance_and_an_aim_in_two_of_three_runs() {
        let before = results([1.0; 3]);
        assert_eq!(broken(&results([0.9, 1.0, 1.3]), Some(&before)), [""; 0]);
        let found = broken(&results([0.9, 1.2, 1.3]), Some(&before));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("beside std: it says 1.00, and here it is 1.20"), "{found:?}");
        assert!(found[1].contains("std ≤ 1.00: reached in 1 of 3 runs"), "{found:?}");
        // If a figure is not measured any more, its claim does not hold either.
        let found = broken(&Results::default(), Some(&before));
        assert!(found.len() == 1 && found[0].ends_with("not measured here"), "{found:?}");
    }

    #[test]
    fn a_picture_has_both_pages_colours() {
        let results = results([1.5, 0.9, 1.25]);
        let svg = family_picture(&results.families[0]).expect("a peer");
        assert!(
            svg.contains("prefers-color-scheme: dark") && svg.contains("reaped ÷ peer; below 1 is faster")
        );
        // The style changes every colour that the picture uses.
        for used in svg.split("fill=\"#").skip(1).filter_map(|rest| rest.get(..6)) {
            assert!(svg.contains(&format!("[fill=\"#{used}\"]{{fill:")), "{used}");
        }
    }
}

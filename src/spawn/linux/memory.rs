//! How often the kernel's OOM killer has killed a process of this cgroup: a possible reason for a child's end.
//!
//! Refuses to know children, and who else may have killed one.
//!
//! Rules:
//! - Children that start shortly after one another share one reading of the count. The first of them pays three
//!   system calls for it, and no descriptor is kept. It is read while the child runs already, so no child waits for
//!   it.
//! - It reports only that the count has risen since it was read: while the child ran, or at most [`FRESH`] before its
//!   start. The count covers the whole cgroup. If a stranger's SIGKILL and an OOM kill coincide, they cannot be
//!   distinguished, so the message says "probably".
//! - A child begins in this program's cgroup (cgroups(7)). If the child has left it, or this process has after its
//!   first start, the count is not the child's, and nothing is reported. Version 2 also counts the groups below,
//!   version 1 does not.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a count serves for children that start.
const FRESH: Duration = Duration::from_millis(20);

/// The count when a child was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kills(u32);

impl Kills {
    /// Nothing is known; no count is higher.
    const UNKNOWN: Kills = Kills(u32::MAX);

    /// For a child that has just started.
    pub(super) fn now() -> Self {
        let mut seen = lock();
        if seen.at.is_none_or(|at| at.elapsed() > FRESH) {
            seen.read();
        }
        seen.kills
    }

    /// Whether the count has risen since then.
    pub(super) fn have_risen(self) -> bool {
        let mut seen = lock();
        if self == Kills::UNKNOWN || !seen.read() || seen.kills.0 <= self.0 {
            return false;
        }
        // If this process has moved since then, the child perhaps started elsewhere.
        matches!((&seen.place, find()), (Place::File(file), Ok(Some(now))) if *file == now)
    }
}

/// The last reading.
struct Seen {
    place: Place,
    at: Option<Instant>,
    kills: Kills,
}

/// The file with the count.
enum Place {
    NotLookedFor,
    Nowhere,
    File(PathBuf),
}

static SEEN: Mutex<Seen> = Mutex::new(Seen { place: Place::NotLookedFor, at: None, kills: Kills::UNKNOWN });

fn lock() -> MutexGuard<'static, Seen> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    /// Reads the count for the next children, and returns whether that worked. Kills before this do not concern them.
    fn read(&mut self) -> bool {
        self.at = Some(Instant::now());
        let told = self.look();
        if let Err(error) = &told {
            // If the file is missing, not permitted or not understood, it is not read again.
            let passes = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM));
            if !passes {
                self.place = Place::Nowhere;
            }
        }
        self.kills = told.unwrap_or(Kills::UNKNOWN);
        self.kills != Kills::UNKNOWN
    }

    fn look(&mut self) -> io::Result<Kills> {
        if let Place::NotLookedFor = self.place {
            self.place = find()?.map_or(Place::Nowhere, Place::File);
        }
        let Place::File(file) = &self.place else { return Err(io::ErrorKind::NotFound.into()) };
        // About ten lines.
        let mut text = [0; 1024];
        let length = File::open(file)?.read(&mut text)?;
        count(&text[..length]).ok_or(io::ErrorKind::InvalidData.into())
    }
}

/// The file of the memory controller that has the count of this process's cgroup.
fn find() -> io::Result<Option<PathBuf>> {
    Ok(file_of(&fs::read_to_string("/proc/self/cgroup")?))
}

/// From the lines of /proc/self/cgroup: `0::/path` for version 2, `4:memory:/path` for version 1. If version 1 is
/// there, it has the controller.
fn file_of(cgroups: &str) -> Option<PathBuf> {
    let of = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        Some((controllers, path))
    };
    let all: Vec<_> = cgroups.lines().filter_map(of).collect();
    let first = all.iter().find(|(controllers, _)| controllers.split(',').any(|one| one == "memory"));
    let (mount, (_, path), file) = match first {
        Some(first) => ("/sys/fs/cgroup/memory", first, "memory.oom_control"),
        None => {
            ("/sys/fs/cgroup", all.iter().find(|(controllers, _)| controllers.is_empty())?, "memory.events")
        }
    };
    // It was removed, or lies outside of what this process may see, cgroup_namespaces(7).
    if path.split('/').any(|part| part == "..") || path.ends_with(" (deleted)") {
        return None;
    }
    Some([mount, path.trim_start_matches('/'), file].iter().collect())
}

/// The line `oom_kill 3`, which Linux has since 4.13.
fn count(text: &[u8]) -> Option<Kills> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"oom_kill "))?;
    let number: u32 = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
    Some(Kills(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(cgroups: &str) -> Option<String> {
        file_of(cgroups).map(|file| file.to_str().expect("UTF-8").to_owned())
    }

    #[test]
    fn the_file_is_found() {
        let version_2 = Some("/sys/fs/cgroup/user.slice/a:b/memory.events".to_owned());
        assert_eq!(file("0::/user.slice/a:b\n"), version_2);
        // As a container sees it.
        assert_eq!(file("0::/\n"), Some("/sys/fs/cgroup/memory.events".to_owned()));
        let version_1 = Some("/sys/fs/cgroup/memory/some/group/memory.oom_control".to_owned());
        assert_eq!(file("9:name=memory:/no\n4:memory:/some/group\n1:cpu,cpuacct:/\n0::/other\n"), version_1);
        assert_eq!(file("4:hugetlb,memory:/some/group\n"), version_1);
        assert_eq!(file("0::/../elsewhere\n"), None);
        assert_eq!(file("0::/gone (deleted)\n"), None);
        assert_eq!(file("1:cpu:/some\n"), None);
        assert_eq!(file("nonsense\n"), None);
        assert_eq!(file(""), None);
    }

    #[test]
    fn the_count_is_found() {
        let events = b"low 0\nhigh 0\nmax 25\noom 8\noom_kill 7\noom_group_kill 1\n";
        assert_eq!(count(events), Some(Kills(7)));
        assert_eq!(count(b"oom_kill_disable 0\nunder_oom 0\noom_kill 12\n"), Some(Kills(12)));
        // Linux before 4.13, or a cut line, or no number.
        assert_eq!(count(b"oom_kill_disable 1\nunder_oom 0\n"), None);
        assert_eq!(count(b"oom_kill \n"), None);
        assert_eq!(count(b"oom_kill -1\n"), None);
        assert_eq!(count(b""), None);
    }

    /// With a file that has the kernel's form. This does not show that the kernel writes that.
    #[test]
    fn a_count_that_cannot_be_had_is_not_known() {
        let path = std::env::temp_dir().join(format!("reaped-kills-{}", std::process::id()));
        fs::write(&path, "oom_kill 3\n").expect("a file");
        let mut seen = Seen { place: Place::File(path.clone()), at: None, kills: Kills::UNKNOWN };
        assert!(seen.read() && seen.kills == Kills(3));
        fs::write(&path, "oom_kill 4\n").expect("a file");
        assert!(seen.read() && seen.kills == Kills(4));
        fs::remove_file(&path).expect("a file");
        assert!(!seen.read() && seen.kills == Kills::UNKNOWN && !seen.kills.have_risen());
        assert!(matches!(seen.place, Place::Nowhere));
        // Linux before 4.13.
        fs::write(&path, "under_oom 0\n").expect("a file");
        seen.place = Place::File(path.clone());
        assert!(!seen.read() && matches!(seen.place, Place::Nowhere));
        fs::remove_file(&path).expect("a file");
    }
}

//! How often the kernel has killed a process of our cgroup because memory was short: what may have become of a child.
//!
//! Refuses to know children, and who else may have killed one.
//!
//! Rules:
//! - Children that are started one soon after the other share what was read for the first of them, whose start pays three
//!   system calls for it, and no descriptor is kept. It is read when the child runs already, so that no child waits for it.
//! - Nothing is told but that the count has risen since it was read: while the child ran, or at most [`FRESH`] before
//!   its start. It is the count of all of the cgroup, so a stranger's kill and a death by memory that fall together
//!   cannot be told apart: the message says "probably".
//! - A child begins in our cgroup (cgroups(7)). If it has left it, or this process has after its first start, what is
//!   counted is not the child's, and nothing is told. Version 2 counts what happens below it as well, version 1 does not.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long a count serves for the children that are started.
const FRESH: Duration = Duration::from_millis(20);

/// The count when a child was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kills(u32);

impl Kills {
    /// Nothing is known, and no count is higher.
    const UNKNOWN: Kills = Kills(u32::MAX);

    /// Of a child that has just been started.
    pub(super) fn now() -> Self {
        let mut seen = lock();
        if seen.at.is_none_or(|at| at.elapsed() > FRESH) {
            seen.read();
        }
        seen.kills
    }

    /// Whether there were more since then.
    pub(super) fn have_risen(self) -> bool {
        let mut seen = lock();
        if self == Kills::UNKNOWN || !seen.read() || seen.kills.0 <= self.0 {
            return false;
        }
        // If this process has been moved, the child was perhaps started elsewhere.
        matches!((&seen.place, find()), (Place::File(file), Ok(Some(now))) if *file == now)
    }
}

/// What was seen last.
struct Seen {
    place: Place,
    at: Option<Instant>,
    kills: Kills,
}

/// Where the count is.
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
    /// Whether it could be read. The next children begin with this count: what was killed before is none of theirs.
    fn read(&mut self) -> bool {
        self.at = Some(Instant::now());
        let told = self.look();
        if let Err(error) = &told {
            // What is not there, not permitted or not understood is not asked for again.
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
        // Ten lines or so.
        let mut text = [0; 1024];
        let length = File::open(file)?.read(&mut text)?;
        count(&text[..length]).ok_or(io::ErrorKind::InvalidData.into())
    }
}

/// The file of the memory controller that has the count of this process's cgroup.
fn find() -> io::Result<Option<PathBuf>> {
    Ok(file_of(&fs::read_to_string("/proc/self/cgroup")?))
}

/// From the lines of /proc/self/cgroup: `0::/path` of version 2, `4:memory:/path` of version 1, which has the controller
/// if it is named there.
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
    // Outside of what this process may see, cgroup_namespaces(7), or removed.
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
        // What a container sees.
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
        // Linux before 4.13, and what is cut off or no number.
        assert_eq!(count(b"oom_kill_disable 1\nunder_oom 0\n"), None);
        assert_eq!(count(b"oom_kill \n"), None);
        assert_eq!(count(b"oom_kill -1\n"), None);
        assert_eq!(count(b""), None);
    }

    /// With a file that says what the kernel would; that the kernel does so is not shown here.
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

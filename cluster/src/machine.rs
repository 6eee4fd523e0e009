//! What the clusters of one machine know of each other, whatever folder each is kept in: a list of them in /run, and a
//! lock that is held while a new one chooses its addresses.
//!
//! The list says only where a cluster is kept; its ranges are read from its spec. So an entry whose cluster was deleted
//! claims nothing, and is cleared away by the next who looks.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::process;
use crate::spec::ClusterSpec;

/// Where the list is, on a machine that runs: what is in /run goes with the machine's power, as namespaces and links do.
const RUN: &str = "/run/skiff";

/// The machine's list of clusters.
pub struct Machine {
    dir: PathBuf,
}

/// Proof that nobody else chooses addresses now. Freed when dropped, or at death.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

/// Where a cluster is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    home: PathBuf,
    name: String,
}

impl Machine {
    /// This machine's. Who is not root makes no hosts on it, and has a list of their own.
    pub fn this(layout: &Layout) -> Machine {
        let own = || layout.home().join("machine");
        if nix::unistd::geteuid().is_root() { Machine::at(Path::new(RUN)) } else { Machine::at(&own()) }
    }

    /// The one whose list is in this folder.
    pub fn at(dir: &Path) -> Machine {
        Machine { dir: dir.to_owned() }
    }

    /// Waits until nobody else chooses addresses; a moment.
    pub fn turn(&self) -> Result<Turn> {
        let path = self.dir.join("lock");
        let file = process::open(&path)?;
        file.lock().with_context(|| format!("wait for the lock {}", path.display()))?;
        Ok(Turn { _file: file })
    }

    /// All other clusters of the machine that are still there, whether they run or not.
    pub fn others(&self, layout: &Layout) -> Vec<ClusterSpec> {
        let Ok(entries) = std::fs::read_dir(self.dir.join("clusters")) else { return vec![] };
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let mut others = vec![];
        for file in files.into_iter().filter(|file| *file != self.entry(layout)) {
            match read(&file) {
                Some(spec) => others.push(spec),
                // Its folder was deleted.
                None => drop(std::fs::remove_file(file)),
            }
        }
        others
    }

    /// Puts a cluster on the list.
    pub fn enter(&self, layout: &Layout) -> Result<()> {
        let home = std::path::absolute(layout.home()).context("find SKIFF_HOME")?;
        let text = serde_yaml::to_string(&Entry { home, name: layout.name().to_owned() })?;
        let path = self.entry(layout);
        std::fs::create_dir_all(self.dir.join("clusters"))
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Takes it off.
    pub fn leave(&self, layout: &Layout) {
        // What stays claims nothing once the cluster's folder is gone.
        let _ = std::fs::remove_file(self.entry(layout));
    }

    fn entry(&self, layout: &Layout) -> PathBuf {
        let home = std::path::absolute(layout.home()).unwrap_or_else(|_| layout.home().to_owned());
        let hash = crc32fast::hash(home.as_os_str().as_encoded_bytes());
        self.dir.join("clusters").join(format!("{}-{hash:08x}.yaml", layout.name()))
    }
}

fn read(file: &Path) -> Option<ClusterSpec> {
    let entry: Entry = serde_yaml::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    ClusterSpec::read(&Layout::new(&entry.home, &entry.name)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::StoreSpec;

    fn made(home: &Path) -> Layout {
        let layout = Layout::new(home, "one");
        let spec = ClusterSpec::choose("one", 1, vec![], StoreSpec::Embedded, &[]).unwrap();
        std::fs::create_dir_all(layout.dir()).unwrap();
        std::fs::write(layout.spec(), serde_yaml::to_string(&spec).unwrap()).unwrap();
        layout
    }

    #[test]
    fn clusters_in_other_folders_are_known_until_they_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(&dir.path().join("run"));
        let (one, other) = (made(&dir.path().join("a")), Layout::new(&dir.path().join("b"), "one"));
        machine.enter(&one).unwrap();
        assert_eq!(machine.others(&one), [], "nobody is in one's own way");
        assert_eq!(machine.others(&other), [ClusterSpec::read(&one).unwrap().unwrap()]);
        std::fs::remove_dir_all(one.dir()).unwrap();
        assert_eq!(machine.others(&other), []);
        assert!(!machine.entry(&one).exists(), "what claims nothing is cleared away");
        machine.enter(&made(&dir.path().join("a"))).unwrap();
        machine.leave(&one);
        assert_eq!(machine.others(&other), []);
    }

    #[test]
    fn one_at_a_time_chooses() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(dir.path());
        let turn = machine.turn().unwrap();
        let again = process::open(&dir.path().join("lock")).unwrap();
        assert!(again.try_lock().is_err(), "somebody else got the turn too");
        drop(turn);
        assert!(again.try_lock().is_ok());
    }
}

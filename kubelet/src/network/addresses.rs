//! Which address of the node's range is whose: a directory with a file per taken address, named by it, with the Pod's
//! uid inside. Making the file is what takes the address, so two Pods never share one; the files outlive the kubelet,
//! so nothing is given out twice or lost when it is killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use super::NetworkError;

/// The next free address after `last`, round and round: an address rests as long as it can before it is used again.
pub fn next_free(cidr: Ipv4Net, taken: &BTreeMap<Ipv4Addr, String>, last: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    // The first is the network's, the second the gateway's, the last the broadcast's.
    let first = u32::from(cidr.network()).checked_add(2)?;
    let end = u32::from(cidr.broadcast());
    if first >= end {
        return None;
    }
    let start = last.map(u32::from).filter(|last| (first..end).contains(last)).map_or(first, |last| last + 1);
    (start..end).chain(first..start).map(Ipv4Addr::from).find(|address| !taken.contains_key(address))
}

/// The taken addresses, on disk and in memory.
#[derive(Debug)]
pub struct Addresses {
    directory: PathBuf,
    taken: BTreeMap<Ipv4Addr, String>,
    last: Option<Ipv4Addr>,
}

impl Addresses {
    /// Reads what an earlier kubelet gave out.
    pub fn open(directory: &Path) -> Result<Addresses, NetworkError> {
        let failed = |error: std::io::Error| NetworkError::failed(format!("read {}", directory.display()), error);
        fs::create_dir_all(directory).map_err(failed)?;
        let mut taken = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let owner = fs::read_to_string(entry.path()).map_err(failed)?;
            if owner.is_empty() {
                // The kubelet died between making the file and writing the name: nobody has this address.
                fs::remove_file(entry.path()).map_err(failed)?;
                continue;
            }
            taken.insert(address, owner);
        }
        let last = taken.keys().next_back().copied();
        Ok(Addresses { directory: directory.to_path_buf(), taken, last })
    }

    /// The Pod's address, taken now if it has none.
    pub fn take(&mut self, cidr: Ipv4Net, pod_uid: &str) -> Result<Ipv4Addr, NetworkError> {
        if let Some(address) = self.of(pod_uid) {
            return Ok(address);
        }
        loop {
            let Some(address) = next_free(cidr, &self.taken, self.last) else {
                return Err(NetworkError::Exhausted { pod_cidr: cidr, used: self.taken.len() });
            };
            self.last = Some(address);
            let path = self.directory.join(address.to_string());
            let failed = |error| NetworkError::failed(format!("write {}", path.display()), error);
            match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(pod_uid.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
                    self.taken.insert(address, pod_uid.to_string());
                    return Ok(address);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    let owner = fs::read_to_string(&path).map_err(failed)?;
                    self.taken.insert(address, owner);
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// The Pod's address, if it has one.
    pub fn of(&self, pod_uid: &str) -> Option<Ipv4Addr> {
        self.taken.iter().find(|(_, owner)| *owner == pod_uid).map(|(address, _)| *address)
    }

    /// Gives the Pod's address back.
    pub fn release(&mut self, pod_uid: &str) -> Result<(), NetworkError> {
        while let Some(address) = self.of(pod_uid) {
            let path = self.directory.join(address.to_string());
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(NetworkError::failed(format!("remove {}", path.display()), error));
                }
            }
            self.taken.remove(&address);
        }
        Ok(())
    }

    /// All taken addresses.
    pub fn all(&self) -> &BTreeMap<Ipv4Addr, String> {
        &self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Ipv4Net {
        text.parse().expect("a range")
    }

    #[test]
    fn addresses_go_round() {
        let range = cidr("10.0.0.0/29"); // .2 to .6 are for Pods
        let mut taken = BTreeMap::new();
        let mut last = None;
        let mut given = Vec::new();
        while let Some(address) = next_free(range, &taken, last) {
            taken.insert(address, "x".to_string());
            last = Some(address);
            given.push(address.octets()[3]);
        }
        assert_eq!(given, [2, 3, 4, 5, 6]);
        taken.remove(&"10.0.0.3".parse().expect("address"));
        assert_eq!(next_free(range, &taken, last), Some("10.0.0.3".parse().expect("address")));
    }

    #[test]
    fn ranges_without_room_give_nothing() {
        for range in ["10.0.0.0/32", "10.0.0.0/31", "10.0.0.0/30"] {
            let first = next_free(cidr(range), &BTreeMap::new(), None);
            assert_eq!(first.is_some(), range.ends_with("/30"), "{range}");
        }
    }

    #[test]
    fn a_restart_finds_the_same_addresses() {
        let directory = tempfile::tempdir().expect("directory");
        let range = cidr("10.0.0.0/24");
        let mut addresses = Addresses::open(directory.path()).expect("open");
        let one = addresses.take(range, "uid-1").expect("take");
        let two = addresses.take(range, "uid-2").expect("take");
        assert_ne!(one, two);
        // Killed right after it made a file:
        fs::write(directory.path().join("10.0.0.200"), "").expect("write");

        let mut again = Addresses::open(directory.path()).expect("open");
        assert_eq!(again.take(range, "uid-1").expect("take"), one);
        assert_eq!(again.all().len(), 2);
        again.release("uid-1").expect("release");
        again.release("uid-1").expect("release twice");
        assert_eq!(Addresses::open(directory.path()).expect("open").of("uid-1"), None);
    }

    #[test]
    fn a_full_range_says_so() {
        let directory = tempfile::tempdir().expect("directory");
        let mut addresses = Addresses::open(directory.path()).expect("open");
        addresses.take(cidr("10.0.0.0/30"), "a").expect("take");
        let error = addresses.take(cidr("10.0.0.0/30"), "b").expect_err("full");
        assert!(error.to_string().contains("10.0.0.0/30"), "{error}");
    }
}

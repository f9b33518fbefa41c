//! Mounts below a cluster's folder: pod volumes and container root filesystems stay mounted when their owner is killed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use crate::error::{Doing as _, Error, Result};

/// Unmounts everything below `folder`, deepest first.
pub(crate) fn unmount_below(folder: &Path) -> Result<()> {
    // A mount can hide another one at the same place: look again until nothing is left.
    for _ in 0..10 {
        let mounts = below(folder)?;
        if mounts.is_empty() {
            return Ok(());
        }
        for mount in mounts {
            // Detached at once, even while something still holds a file in it.
            let _ = umount2(&mount, MntFlags::MNT_DETACH);
        }
    }
    match below(folder)?.first() {
        None => Ok(()),
        Some(mount) => Err(Error::State(format!("{} stays mounted; unmount it by hand", mount.display()))),
    }
}

/// Mount points below a folder, deepest first.
pub(crate) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mounts").doing(|| "read /proc/self/mounts".into())?;
    Ok(parse(&table, folder))
}

fn parse(table: &str, folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|escaped| PathBuf::from(unescape(escaped)))
        .filter(|mount| mount.starts_with(folder))
        .collect();
    found.sort();
    found.reverse();
    found
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(escaped: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(escaped.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_folder_deepest_first() {
        let table = "tmpfs /s/demo/kubelet/pods/1/token tmpfs rw 0 0\n\
                     tmpfs /s/demo2/x tmpfs rw 0 0\n\
                     overlay /s/demo/a overlay rw 0 0\n\
                     overlay /s/demo/a/b\\040c overlay rw 0 0\n\
                     proc /proc proc rw 0 0\n";
        let found = parse(table, Path::new("/s/demo"));
        let expected = ["/s/demo/kubelet/pods/1/token", "/s/demo/a/b c", "/s/demo/a"];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}

//! The shared libraries of a program, as the dynamic linker of this machine finds them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::{Doing as _, Error, Result};

/// Shared libraries of the base image of `Dockerfile`, `distroless/cc-debian12`, without their versions.
const BASE_LIBRARIES: [&str; 11] = [
    "ld-linux-x86-64",
    "libc",
    "libcrypto",
    "libdl",
    "libgcc_s",
    "libm",
    "libpthread",
    "libresolv",
    "librt",
    "libssl",
    "libstdc++",
];

/// Refuses a program of ours that would not start in the base image of `Dockerfile`: both ways of building make the same image.
pub(super) fn check_base(program: &Path) -> Result<()> {
    let libraries = libraries_of(program)?;
    beyond_base(&libraries).map_or(Ok(()), |library| {
        Err(Error::Input(format!(
            "{} needs {}, which the base image of Dockerfile does not have: link it statically",
            program.display(),
            library.display()
        )))
    })
}

fn beyond_base(libraries: &[PathBuf]) -> Option<&PathBuf> {
    let name = |library: &Path| {
        let file = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        file.split_once(".so").map_or_else(|| file.clone(), |(name, _)| name.to_owned())
    };
    libraries.iter().find(|library| !BASE_LIBRARIES.contains(&name(library).as_str()))
}

/// The libraries that `ldd` names; none for a static program.
pub fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    libraries_with(program, &[])
}

/// The same for a library that its program finds others for: those folders are searched first.
pub(super) fn libraries_with(program: &Path, folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let search = std::env::join_paths(folders)
        .map_err(|_| Error::Input(format!("a folder of {} has a colon in its name", program.display())))?;
    let mut command = Command::new("ldd");
    if !folders.is_empty() {
        command.env("LD_LIBRARY_PATH", search);
    }
    let output = command.arg(program).output().doing(|| "run ldd".into())?;
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() && !errors.contains("not a dynamic executable") && !out.contains("statically linked") {
        return Err(Error::Input(format!("ldd cannot read {}: {}", program.display(), errors.trim())));
    }
    parse(&out).map_err(|missing| {
        Error::Machine(format!("{} needs the library {missing}, which this machine lacks", program.display()))
    })
}

/// The absolute paths in the output of `ldd`, or the name of a library that was not found.
fn parse(output: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in output.lines() {
        let line = line.trim();
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            return Err(name.to_owned());
        }
        if place.starts_with('/')
            && let Some(path) = place.split(" (").next()
        {
            found.push(PathBuf::from(path));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_and_the_kernels_own_left_out() {
        let output = "\tlinux-vdso.so.1 (0x00007ffd2a3f2000)\n\
                      \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f0)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        let expected =
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse(output).unwrap(), expected.map(PathBuf::from));
        assert_eq!(parse("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_library_that_the_base_image_lacks_is_found() {
        let libraries = |names: &[&str]| names.iter().map(|name| Path::new("/lib").join(name)).collect::<Vec<_>>();
        let common = libraries(&["libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"]);
        assert_eq!(beyond_base(&common), None);
        assert_eq!(beyond_base(&libraries(&["libc.so.6", "libz.so.1"])), Some(&PathBuf::from("/lib/libz.so.1")));
    }

    #[test]
    fn a_missing_library_is_named() {
        assert_eq!(parse("\tlibfoo.so.2 => not found\n").unwrap_err(), "libfoo.so.2");
    }
}

//! Parts of the kernel that a distribution ships as modules. Links (veth, bridge), firewall tables and their matches are loaded by the
//! kernel itself at first use, by calling modprobe; the ones here nobody asks for in time, so they are asked for here.

use std::{fs, path::Path};

use crate::{
    command::Run,
    error::{Error, Result},
    machine::find,
};

/// What shows that a module is loaded or built in.
#[derive(Debug, Clone, Copy)]
enum Trace {
    File(&'static str),
    Filesystem(&'static str),
}

/// Module, its trace, and what does not work without it.
const MODULES: [(&str, Trace, &str); 2] = [
    (
        "br_netfilter",
        Trace::File("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        "a pod would not reach a Service whose pod is on the same bridge",
    ),
    ("overlay", Trace::Filesystem("overlay"), "containers would have no root filesystem"),
];

/// Loads what is neither loaded nor built in.
pub(crate) async fn load_modules() -> Result<()> {
    if let Some(modprobe) = find("modprobe") {
        for (module, _) in absent(is_there) {
            // Whether it is there now is what counts.
            let _ = Run::new(&modprobe).arg(module).output().await;
        }
    }
    absent(is_there).first().map_or(Ok(()), |(module, effect)| Err(lacking(module, effect)))
}

/// Modules without a trace, and what does not work without them.
fn absent(is_there: impl Fn(Trace) -> bool) -> Vec<(&'static str, &'static str)> {
    MODULES.iter().filter(|(_, trace, _)| !is_there(*trace)).map(|(module, _, effect)| (*module, *effect)).collect()
}

/// What a person does about a kernel without a module.
pub(crate) fn lacking(module: &str, effect: &str) -> Error {
    Error::Machine(format!(
        "the kernel has no {module} ({effect}): run `modprobe {module}`; if that finds no such module, boot the kernel whose \
         modules are installed (`uname -r`, `ls /lib/modules`), or one with it, or use your own cluster with CLUSTER=current"
    ))
}

/// Whether the kernel takes modules at all; modprobe is of no use to one that does not.
pub(crate) fn takes_modules() -> bool {
    Path::new("/proc/modules").exists()
}

fn is_there(trace: Trace) -> bool {
    match trace {
        Trace::File(path) => Path::new(path).exists(),
        Trace::Filesystem(name) => names_filesystem(&fs::read_to_string("/proc/filesystems").unwrap_or_default(), name),
    }
}

/// `/proc/filesystems` has one per line, behind `nodev` if it needs no device.
fn names_filesystem(table: &str, name: &str) -> bool {
    table.lines().any(|line| line.split_whitespace().next_back() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_trace_is_loaded() {
        let modules =
            |loaded: fn(Trace) -> bool| absent(loaded).into_iter().map(|(module, _)| module).collect::<Vec<_>>();
        assert_eq!(modules(|_| true), Vec::<&str>::new());
        assert_eq!(modules(|trace| matches!(trace, Trace::Filesystem(_))), ["br_netfilter"]);
        assert_eq!(modules(|_| false), ["br_netfilter", "overlay"]);
    }

    #[test]
    fn a_filesystem_is_its_whole_name() {
        let table = "nodev\tsysfs\nnodev\toverlay\n\text4\n";
        assert!(names_filesystem(table, "overlay") && names_filesystem(table, "ext4"));
        assert!(!names_filesystem(table, "over") && !names_filesystem(table, "nodev"));
    }

    #[test]
    fn a_kernel_that_lacks_one_says_what_to_do() {
        let text = lacking("br_netfilter", "pods are cut off").to_string();
        assert!(text.contains("modprobe br_netfilter") && text.contains("pods are cut off"), "{text}");
    }
}

//! The bus as tests bind to it: over the client library's own mock broker, by the files that a pod finds in its binding.

use std::path::Path;

use paddock_service::binding::Bindings;
use paddock_service::kafka::Bus;

/// Writes the binding `bus` below a folder, anew if there is one, and follows it. `topics` is the JSON map from our topics to their names at the
/// broker.
pub fn bind(folder: &Path, servers: &str, group_prefix: &str, topics: &str) -> anyhow::Result<Bus> {
    let binding = folder.join("bus");
    std::fs::create_dir_all(&binding)?;
    let files = [
        ("type", "kafka"),
        ("bootstrap-servers", servers),
        ("security-protocol", "PLAINTEXT"),
        ("group-prefix", group_prefix),
        ("topics", topics),
        ("version", "1"),
    ];
    for (name, text) in files {
        std::fs::write(binding.join(name), text)?;
    }
    Ok(Bus::new(Bindings::new(folder.to_owned()).watch("bus")?)?)
}

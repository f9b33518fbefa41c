//! One binary that is every betting service, by the name it is started with.
//!
//! The image links `/paddock-<component>` to it. Started as `paddock`, the component is the first argument.

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use paddock_service::Command;

/// A betting service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Component {
    /// Source of events, prices and results.
    Feed,
    /// Catalogue, offer, results.
    Rates,
    /// Acceptance of tickets.
    Calculations,
    /// Settlement of tickets.
    Settlement,
    /// Customers, sessions, ledger.
    Account,
    /// Public API of a brand.
    Gateway,
}

/// A betting service of the platform.
#[derive(Debug, Parser)]
#[command(name = "paddock", version)]
struct Arguments {
    /// Which service this process is.
    component: Component,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let Arguments { component, command } = Arguments::parse_from(arguments(std::env::args()));
    let command = command.unwrap_or_default();
    match component {
        Component::Feed => paddock_service::main(paddock_feed::run, command),
        Component::Rates => paddock_service::main(paddock_rates::run, command),
        Component::Calculations => paddock_service::main(paddock_calculations::run, command),
        Component::Settlement => paddock_service::main(paddock_calculations::settlement::run, command),
        Component::Account => paddock_service::main(paddock_account::run, command),
        Component::Gateway => paddock_service::main(paddock_gateway::run, command),
    }
}

/// Started by a link's name, the component comes from it: `/paddock-rates migrate` is `paddock rates migrate`.
fn arguments(given: impl Iterator<Item = String>) -> Vec<String> {
    let mut arguments: Vec<String> = given.collect();
    let name = arguments.first().and_then(|program| Path::new(program).file_name()?.to_str()?.strip_prefix("paddock-"));
    if let Some(component) = name.map(str::to_owned) {
        arguments.insert(1, component);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[&str]) -> (Component, Option<Command>) {
        let given = given.iter().map(|argument| (*argument).to_owned());
        let Arguments { component, command } = Arguments::try_parse_from(arguments(given)).unwrap();
        (component, command)
    }

    #[test]
    fn the_name_or_the_first_argument_says_which_service() {
        assert_eq!(read(&["/paddock-account", "migrate"]), (Component::Account, Some(Command::Migrate)));
        assert_eq!(read(&["/paddock-settlement"]), (Component::Settlement, None));
        assert_eq!(read(&["target/debug/paddock", "feed", "serve"]), (Component::Feed, Some(Command::Serve)));
    }
}

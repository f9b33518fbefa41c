//! The command line.

use crate::settings::Settings;
use clap::Parser;

/// The Paddock operator: runs betting tenants on Kubernetes.
#[derive(Parser, Clone, Debug)]
#[command(name = "paddock-operator", version)]
pub struct Cli {
    /// Configuration.
    #[command(flatten)]
    pub settings: Settings,
}

impl Cli {
    /// The command line without arguments.
    #[allow(clippy::missing_panics_doc)] // the defaults parse: `defaults_are_valid` meets them
    pub fn defaults() -> Self {
        Self::parse_from(["paddock-operator"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn defaults_are_valid() {
        Cli::command().debug_assert();
        assert_eq!(Settings::default().drain, std::time::Duration::from_secs(20));
    }

    #[test]
    fn refuses_what_cannot_be() {
        for arguments in [
            ["--drain", "soon"],
            ["--service-subnet", "10.0.0.0/33"],
            ["--concurrency", "0"],
            ["--public-https-port", "0"],
            ["--pod-subnet", "pods"],
            ["--prometheus-label", "prometheus"],
        ] {
            assert!(Cli::try_parse_from(["paddock-operator", arguments[0], arguments[1]]).is_err(), "{arguments:?}");
        }
        let cli = Cli::try_parse_from(["paddock-operator", "--registry", "a.example,b.example"]).unwrap();
        assert_eq!(cli.settings.registries, ["a.example", "b.example"]);
        let cli = Cli::try_parse_from(["paddock-operator", "--gateway-proxy-label=a=b", "--gateway-proxy-label=c="]);
        let expected = [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())];
        assert_eq!(cli.unwrap().settings.gateway_proxy_labels, expected);
    }
}

//! Typed configuration from environment variables: read whole, every mistake named at once, printed redacted.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::str::FromStr;

/// Configuration being read. Ask for every setting, then [`Settings::finish`].
#[derive(Debug, Default)]
pub struct Settings {
    variables: BTreeMap<String, String>,
    shown: Vec<(String, String)>,
    mistakes: Vec<String>,
}

/// The configuration is not usable; every mistake is listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is not usable: {}; correct the component's `config`", .0.join("; "))]
pub struct SettingsError(pub Vec<String>);

impl Settings {
    /// Reads the process's environment.
    pub fn from_env() -> Self {
        Self::from_variables(std::env::vars())
    }

    /// Reads given variables.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { variables: variables.into_iter().collect(), ..Self::default() }
    }

    /// A setting with a default. An unusable value is noted and the default returned, so that all mistakes are found.
    pub fn get<T>(&mut self, name: &str, default: T) -> T
    where
        T: FromStr<Err: Display> + Display,
    {
        let value = match self.variables.get(name).map(|text| text.parse::<T>()) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                self.mistakes.push(format!("{name}: {error}"));
                default
            }
        };
        self.shown.push((name.to_owned(), value.to_string()));
        value
    }

    /// A setting without default; empty counts as absent.
    pub fn optional<T>(&mut self, name: &str) -> Option<T>
    where
        T: FromStr<Err: Display> + Display,
    {
        let text = self.variables.get(name).filter(|text| !text.is_empty())?;
        match text.parse::<T>() {
            Ok(value) => {
                self.shown.push((name.to_owned(), value.to_string()));
                Some(value)
            }
            Err(error) => {
                self.mistakes.push(format!("{name}: {error}"));
                None
            }
        }
    }

    /// A required setting.
    pub fn required(&mut self, name: &str) -> String {
        let value = self.variables.get(name).cloned().unwrap_or_default();
        if value.is_empty() {
            self.mistakes.push(format!("{name} is missing"));
        }
        self.shown.push((name.to_owned(), value.clone()));
        value
    }

    /// A setting whose value is never shown, such as a key set.
    pub fn sensitive(&mut self, name: &str) -> Option<secrecy::SecretString> {
        let text = self.variables.get(name).filter(|text| !text.is_empty())?.clone();
        self.shown.push((name.to_owned(), "[redacted]".to_owned()));
        Some(text.into())
    }

    /// Notes that a combination of settings is wrong.
    pub fn reject(&mut self, mistake: impl Into<String>) {
        self.mistakes.push(mistake.into());
    }

    /// Ends reading: prints the settings, or fails with every mistake.
    pub fn finish(self) -> Result<(), SettingsError> {
        if !self.mistakes.is_empty() {
            return Err(SettingsError(self.mistakes));
        }
        let mut line = String::new();
        for (name, value) in &self.shown {
            let _written = write!(line, "{name}={value} ");
        }
        tracing::info!(settings = line.trim_end(), "configuration");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings::from_variables(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let mut read = settings(&[("SPEED", "fast"), ("PERIOD", "x")]);
        assert_eq!(read.get("SPEED", 20_u32), 20);
        assert_eq!(read.get("PERIOD", 1_u32), 1);
        read.required("URL");
        let SettingsError(mistakes) = read.finish().unwrap_err();
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert!(mistakes.iter().any(|mistake| mistake.starts_with("SPEED: ")));
    }

    #[test]
    fn values_win_over_defaults() {
        let mut read = settings(&[("SPEED", "5"), ("EMPTY", "")]);
        assert_eq!(read.get("SPEED", 20_u32), 5);
        assert_eq!(read.optional::<u32>("EMPTY"), None);
        assert_eq!(read.finish(), Ok(()));
    }
}

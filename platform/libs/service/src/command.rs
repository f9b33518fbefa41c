//! What a service process does.

/// The first argument of a service's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::Subcommand)]
pub enum Command {
    /// Serve until told to end (the default).
    #[default]
    Serve,
    /// Apply the database migrations, then end.
    Migrate,
}

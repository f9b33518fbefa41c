//! What keeps an environment from being as its Tenant wants it.

use crate::fault::{Category, Fault};
use std::fmt::Display;

/// The part of an environment that a finding is about: one condition each. The order is that in which a summary tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::EnumIter)]
pub enum Concern {
    /// Namespace, quota, limits, network and roles.
    Namespaces,
    /// Database classes and claims.
    Databases,
    /// Hosts, certificates, listeners.
    Domains,
    /// Services are healthy.
    Services,
    /// The Release's components are the ones that run.
    Release,
}

impl Concern {
    /// Type of its condition.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Namespaces => "NamespacesReady",
            Self::Release => "ReleaseApplied",
            Self::Databases => "DatabasesReady",
            Self::Domains => "DomainsReady",
            Self::Services => "ServicesReady",
        }
    }

    /// Reason and message of its condition when there is nothing to find.
    pub fn all_well(self) -> (&'static str, &'static str) {
        match self {
            Self::Namespaces => ("Applied", "every environment has its namespace, limits, network policies and roles"),
            Self::Release => ("Applied", "every environment runs its Release"),
            Self::Databases => ("Bound", "every database class fits and every claim is bound"),
            Self::Domains => ("Serving", "every domain is held and served with a certificate"),
            Self::Services => ("AllReady", "every service is ready"),
        }
    }
}

/// What ends a finding, and what it takes away until then. The order is that of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A person has to change something.
    Stalled,
    /// A person has to change something, and it takes nothing away meanwhile: what was served before still is.
    Due,
    /// It ends by itself.
    Waiting,
    /// It ends by itself, and takes nothing away meanwhile: what was served before still is.
    Settling,
}

impl Weight {
    /// Whether only a person ends it.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Self::Stalled | Self::Due)
    }

    /// Whether something that should be served is not.
    pub fn takes_away(self) -> bool {
        matches!(self, Self::Stalled | Self::Waiting)
    }

    /// The same of something that turned out to be served all the same.
    #[must_use]
    pub fn harmless(self) -> Self {
        if self.needs_a_person() { Self::Due } else { Self::Settling }
    }
}

/// One thing that keeps one environment from being as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub concern: Concern,
    /// What ends it.
    pub weight: Weight,
    /// Stable word.
    pub reason: &'static str,
    /// For people: names the environment, what is wrong and what to do.
    pub message: String,
}

impl Finding {
    /// Something that only a person ends.
    pub fn stalled(concern: Concern, environment: &str, reason: &'static str, message: impl Display) -> Self {
        Self { concern, weight: Weight::Stalled, reason, message: format!("environment {environment}: {message}") }
    }

    /// Something that ends by itself.
    pub fn waiting(concern: Concern, environment: &str, reason: &'static str, message: impl Display) -> Self {
        Self { concern, weight: Weight::Waiting, reason, message: format!("environment {environment}: {message}") }
    }

    /// Something that ends by itself while what was served before still is.
    pub fn settling(concern: Concern, environment: &str, reason: &'static str, message: impl Display) -> Self {
        Self { weight: Weight::Settling, ..Self::waiting(concern, environment, reason, message) }
    }

    /// The operator itself lacks a right that nobody is about to give it.
    pub fn is_forbidden(&self) -> bool {
        self.weight.needs_a_person() && self.reason == Category::Forbidden.as_str()
    }

    /// A fault that concerns this environment alone.
    pub fn of_fault(concern: Concern, environment: &str, fault: &Fault) -> Self {
        let reason = match (concern, fault.category) {
            (Concern::Namespaces, Category::Terminating) => "NamespaceTerminating",
            (_, category) => category.as_str(),
        };
        if fault.category.waits_for_a_person() {
            Self::stalled(concern, environment, reason, &fault.message)
        } else {
            Self::waiting(concern, environment, reason, &fault.message)
        }
    }
}

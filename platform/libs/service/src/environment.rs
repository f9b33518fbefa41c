//! Where a pod runs, as the operator tells it.

use std::path::PathBuf;

use paddock_events::Origin;
use paddock_money::Currency;

use crate::Settings;

/// Class of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
pub enum Class {
    /// Real money.
    Production,
    /// Anything else.
    NonProduction,
}

/// The variables that the operator gives every pod.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Tenant.
    pub tenant: String,
    /// Environment of the tenant.
    pub environment: String,
    /// Its class.
    pub class: Class,
    /// The brand's name as people write it.
    pub brand: String,
    /// Licence that the brand works under.
    pub licence: String,
    /// Jurisdiction that gave it: ISO 3166 code.
    pub jurisdiction: String,
    /// Currencies of the brand.
    pub currencies: Vec<Currency>,
    /// Locales of the brand.
    pub locales: Vec<String>,
    /// Revision of the component.
    pub revision: String,
    /// Folder of the bindings.
    pub bindings: PathBuf,
}

impl Environment {
    /// Reads the operator's variables.
    pub fn read(settings: &mut Settings) -> Self {
        let list = |text: String| -> Vec<String> {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let tenant = settings.required("PADDOCK_TENANT");
        let environment = settings.required("PADDOCK_ENVIRONMENT");
        let class = settings.get("PADDOCK_CLASS", Class::NonProduction);
        let mut currencies = Vec::new();
        for code in list(settings.get("PADDOCK_CURRENCIES", String::new())) {
            match code.parse::<Currency>() {
                Ok(currency) => currencies.push(currency),
                Err(error) => settings.reject(format!("PADDOCK_CURRENCIES: {error}")),
            }
        }
        Self {
            class,
            brand: settings.get("PADDOCK_BRAND", tenant.clone()),
            licence: settings.get("PADDOCK_LICENCE", String::new()),
            jurisdiction: settings.get("PADDOCK_JURISDICTION", String::new()),
            currencies,
            locales: list(settings.get("PADDOCK_LOCALES", String::new())),
            revision: settings.get("PADDOCK_REVISION", String::new()),
            tenant,
            environment,
            bindings: PathBuf::from(settings.get("SERVICE_BINDING_ROOT", "/bindings".to_owned())),
        }
    }

    /// The namespace of the environment.
    pub fn namespace(&self) -> String {
        format!("{}-{}", self.tenant, self.environment)
    }

    /// The writer's part of event envelopes.
    pub fn origin(&self) -> Origin {
        Origin { tenant: self.tenant.clone(), environment: self.environment.clone() }
    }
}

//! From a BettingService and the facts of its environment to a service that can be built. Pure.

use crate::fault::{Category, Fault};
use crate::rollout::revision::{EnvironmentValues, claim_name};
use crate::rollout::rolling::Bounds;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use paddock_crds::v1alpha1::{
    Access, BettingService, BettingServiceSpec, ComponentSpec, DatabaseClassRef, Engine, EnvironmentClass, Need, Tenant,
};
use paddock_crds::{duration, labels};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Time that a pod gets to drain unless the spec says otherwise.
const DRAIN: Duration = Duration::from_secs(30);
/// Time that a revision may wait for its pods unless the spec says otherwise.
const PROGRESS_DEADLINE: Duration = Duration::from_mins(10);
/// Time that a migration may take unless the spec says otherwise.
const MIGRATION_TIMEOUT: Duration = Duration::from_mins(10);
/// Longest name of a DatabaseClaim, as its schema has it.
const LONGEST_CLAIM: usize = 40;

/// What the Tenant says about the environment of the service's namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentFacts {
    values: EnvironmentValues,
    class: EnvironmentClass,
    database_classes: Vec<DatabaseClassRef>,
}

impl EnvironmentFacts {
    /// Facts of one environment; `None` if the Tenant has none of that name.
    pub fn of(tenant: &Tenant, environment: &str) -> Option<Self> {
        let found = tenant.spec.environments.iter().find(|it| it.name == environment)?;
        let licence = tenant.spec.licences.first();
        let values = EnvironmentValues {
            tenant: tenant.metadata.name.clone()?,
            environment: found.name.clone(),
            class: found.class.to_string(),
            brand: tenant.spec.display_name.clone(),
            licence: licence.map(|licence| licence.name.clone()).unwrap_or_default(),
            jurisdiction: licence.map(|licence| licence.jurisdiction.clone()).unwrap_or_default(),
            currencies: tenant.spec.currencies.clone(),
            locales: tenant.spec.locales.clone(),
        };
        Some(Self { values, class: found.class, database_classes: found.database_classes.clone() })
    }

    /// Class of the environment, as labels and pods name it.
    pub fn class(&self) -> &str {
        &self.values.class
    }
}

/// A need with everything that its binding takes.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundNeed {
    /// The need as written.
    pub need: Need,
    /// Name of its claim.
    pub claim: String,
    /// Class of the claim.
    pub class: String,
}

/// The migration of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    /// The need whose schema it changes.
    pub need: BoundNeed,
    /// Command in the service's image.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// A service that can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name: of the Service, the route and, before the hash, of everything of a revision.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Reference of its objects to it.
    pub owner: OwnerReference,
    /// Its spec.
    pub spec: BettingServiceSpec,
    /// Whether it is a component of the environment's Release; else somebody made it by hand.
    pub of_release: bool,
    /// What pods learn of their environment.
    pub values: EnvironmentValues,
    /// Needs, by name.
    pub needs: Vec<BoundNeed>,
    /// What prepares its database.
    pub migration: Option<Migration>,
    /// Time that a pod gets to drain.
    pub drain: Duration,
    /// Time that a revision may wait for its pods.
    pub progress_deadline: Duration,
    /// How long the autoscaler holds the highest recommendation; `None` is its own default.
    pub scale_down: Option<Duration>,
    /// Smallest and largest size.
    pub bounds: Bounds,
}

impl Service {
    /// Whether its namespace is an environment.
    pub fn in_environment(&self) -> bool {
        !self.values.environment.is_empty()
    }

    /// The number of a declared port.
    pub fn port(&self, name: &str) -> Option<i32> {
        self.spec.spec.ports.iter().find(|port| port.name == name).map(|port| port.port)
    }
}

/// Checks what no schema can. `facts` is `None` in a namespace that is no environment: there a service runs as NonProduction,
/// without claims, market book or route.
pub fn validate(object: &BettingService, facts: Option<EnvironmentFacts>) -> Result<Service, Fault> {
    let (Some(name), Some(namespace), Some(owner)) =
        (object.metadata.name.clone(), object.metadata.namespace.clone(), object.controller_owner_ref(&()))
    else {
        return Err(Fault::new(Category::Panic, "a BettingService came without name, namespace or uid; report this"));
    };
    let spec = &object.spec.spec;
    let outside = facts.is_none();
    if outside && (!spec.needs.is_empty() || !spec.calls.is_empty() || spec.market_book) {
        return Err(Fault::invalid_spec(format!(
            "namespace {namespace} is no environment of a Tenant: needs, calls and marketBook exist only in environments; \
             remove them or run the service in an environment's namespace"
        )));
    }
    let of_release = facts.as_ref().is_some_and(|facts| of_release(object, &facts.values));
    if !outside && !of_release {
        made_by_hand(spec)?;
    }
    if facts.as_ref().is_some_and(|facts| facts.class == EnvironmentClass::Production)
        && !spec.image.contains("@sha256:")
    {
        return Err(Fault::invalid_spec(format!(
            "spec.image: {} is not pinned; in Production name the image by digest (…@sha256:…)",
            spec.image
        )));
    }
    let terms = component(&name, spec)?;
    let database_classes = facts.as_ref().map(|facts| facts.database_classes.clone()).unwrap_or_default();
    let needs = needs(&name, &spec.needs, &database_classes)?;
    let migration = spec.migrations.as_ref().and_then(|migrations| {
        let need = needs.iter().find(|it| it.need.name == migrations.need).cloned()?;
        Some(Migration { need, command: migrations.expand.command.clone(), timeout: terms.migration })
    });
    let bounds = Bounds { min: spec.replicas.min, max: spec.replicas.max };
    let values = facts.map_or_else(
        || EnvironmentValues { class: EnvironmentClass::NonProduction.to_string(), ..EnvironmentValues::default() },
        |facts| facts.values,
    );
    Ok(Service {
        name,
        namespace,
        owner,
        spec: object.spec.clone(),
        of_release,
        values,
        needs,
        migration,
        drain: terms.drain,
        progress_deadline: terms.progress_deadline,
        scale_down: terms.scale_down,
        bounds,
    })
}

/// Times of a component, with their defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    drain: Duration,
    progress_deadline: Duration,
    migration: Duration,
    scale_down: Option<Duration>,
}

/// Checks what can be checked of a component wherever it runs: of a Release too, so that one that no environment could run says so.
pub fn component(name: &str, spec: &ComponentSpec) -> Result<Terms, Fault> {
    ports(spec)?;
    claims(name, &spec.needs)?;
    if let Some(migrations) = &spec.migrations
        && !spec.needs.iter().any(|need| need.name == migrations.need && need.engine == Engine::PostgreSQL)
    {
        return Err(Fault::invalid_spec(format!(
            "spec.migrations.need: {:?} is no PostgreSQL entry of needs; name one of them",
            migrations.need
        )));
    }
    let migration = spec.migrations.as_ref().and_then(|migrations| migrations.expand.timeout.as_deref());
    let deadline = spec.strategy.as_ref().and_then(|strategy| strategy.progress_deadline.as_deref());
    let scale_down = spec.autoscaling.as_ref().and_then(|autoscaling| autoscaling.scale_down.as_ref());
    let scale_down = match scale_down {
        None => None,
        Some(it) => Some(time(Some(&it.stabilisation), Duration::ZERO, "autoscaling.scaleDown.stabilisation")?),
    };
    if scale_down.is_some_and(|window| window > Duration::from_hours(1)) {
        return Err(Fault::invalid_spec("spec.autoscaling.scaleDown.stabilisation: at most 1h"));
    }
    Ok(Terms {
        drain: time(spec.drain.as_ref().map(|drain| drain.period.as_str()), DRAIN, "drain.period")?,
        progress_deadline: time(deadline, PROGRESS_DEADLINE, "strategy.progressDeadline")?,
        migration: time(migration, MIGRATION_TIMEOUT, "migrations.expand.timeout")?,
        scale_down,
    })
}

/// Whether the Tenant made it for its Release. Exactly these labels decide: what has them without being of the Release is
/// deleted by the Tenant's next pass.
fn of_release(object: &BettingService, environment: &EnvironmentValues) -> bool {
    let label = |name| object.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    label(labels::MANAGED_BY) == Some(labels::MANAGED_BY_PADDOCK)
        && label(labels::TENANT) == Some(&environment.tenant)
        && label(labels::ENVIRONMENT) == Some(&environment.environment)
}

/// What only components of a Release may have: a service that people of the tenant made reaches neither the world nor the operator.
fn made_by_hand(spec: &ComponentSpec) -> Result<(), Fault> {
    let refuse = |field: &str, what: &str| {
        Err(Fault::invalid_spec(format!(
            "spec.{field}: only components of a Release {what}; remove it, or bring the service with the environment's Release"
        )))
    };
    // The called service knows its caller by name: a tenant's own service could take the name of a component that the
    // environment does not run.
    if !spec.calls.is_empty() {
        return refuse("calls", "call others");
    }
    if spec.route.is_some() {
        return refuse("route", "are reached through the Gateway");
    }
    if spec.market_book {
        return refuse("marketBook", "get the market book");
    }
    // Its token is the environment's, and opens the control port of every component.
    if spec.ports.iter().any(|port| port.name == "control") {
        return refuse("ports", "have a port named control");
    }
    Ok(())
}

fn ports(spec: &ComponentSpec) -> Result<(), Fault> {
    let mut names: BTreeMap<i32, &str> = BTreeMap::new();
    for port in &spec.ports {
        if let Some(other) = names.insert(port.port, &port.name) {
            return Err(Fault::invalid_spec(format!(
                "spec.ports: {other} and {} are both {}; give each its own number",
                port.name, port.port
            )));
        }
    }
    if spec.market_book && !spec.ports.iter().any(|port| port.name == "control") {
        return Err(Fault::invalid_spec("spec.marketBook: it is pushed to port control; declare that in ports"));
    }
    let probes =
        spec.probes.iter().flat_map(|probes| [("liveness", &probes.liveness), ("readiness", &probes.readiness)]);
    for (which, probe) in probes {
        if let Some(probe) = probe
            && !spec.ports.iter().any(|port| port.name == probe.port)
        {
            return Err(Fault::invalid_spec(format!(
                "spec.probes.{which}.port: {:?} is no entry of ports; name one of them",
                probe.port
            )));
        }
    }
    Ok(())
}

fn claims(service: &str, needs: &[Need]) -> Result<(), Fault> {
    let mut named = BTreeSet::new();
    for need in needs {
        if need.access == Some(Access::Migrate) {
            return Err(Fault::invalid_spec(format!(
                "spec.needs: access Migrate of {} is for migration Jobs; use ReadWrite or ReadOnly",
                need.name
            )));
        }
        let claim = claim_name(service, need);
        if claim.len() > LONGEST_CLAIM {
            return Err(Fault::invalid_spec(format!(
                "spec.needs: the claim of {} would be called {claim}, which is longer than {LONGEST_CLAIM} characters: give it a \
                 shorter name with claim",
                need.name
            )));
        }
        if !named.insert(claim.clone()) {
            return Err(Fault::invalid_spec(format!(
                "spec.needs: two needs name the claim {claim}; join them, or let them name different claims"
            )));
        }
    }
    Ok(())
}

fn needs(service: &str, needs: &[Need], classes: &[DatabaseClassRef]) -> Result<Vec<BoundNeed>, Fault> {
    let mut bound = Vec::with_capacity(needs.len());
    for need in needs {
        let class = classes.iter().find(|class| class.engine == need.engine).ok_or_else(|| {
            Fault::reference_not_found(format!(
                "spec.needs: {} needs {}, and the environment has no class for it; add {{engine: {}, className: …}} to its \
                 databaseClasses in the Tenant",
                need.name, need.engine, need.engine
            ))
        })?;
        let claim = claim_name(service, need);
        bound.push(BoundNeed { need: need.clone(), claim, class: class.class_name.clone() });
    }
    bound.sort_by(|one, other| one.need.name.cmp(&other.need.name));
    Ok(bound)
}

fn time(text: Option<&str>, default: Duration, field: &str) -> Result<Duration, Fault> {
    let Some(text) = text else { return Ok(default) };
    duration::parse(text).filter(|it| *it <= Duration::from_hours(168)).ok_or_else(|| {
        Fault::invalid_spec(format!("spec.{field}: {text:?} is no duration up to a week; write for example 30s or 10m"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::{betting_service, facts};
    use super::*;
    use serde_json::{Value, json};

    fn refusal(more: Value) -> String {
        validate(&betting_service(more), facts()).unwrap_err().message
    }

    #[test]
    fn defaults_are_the_contract() {
        let service = validate(&betting_service(Value::Null), facts()).unwrap();
        assert_eq!(service.drain, Duration::from_secs(30));
        assert_eq!(service.progress_deadline, Duration::from_mins(10));
        assert_eq!(service.values.currencies, ["EUR", "SEK"]);
        assert_eq!(service.values.licence, "mga-1");
        assert!(service.in_environment());
    }

    #[test]
    fn each_refusal_names_its_field_and_what_to_do() {
        for (more, parts) in [
            (json!({"image": "r.example/p:latest"}), ["spec.image", "by digest"]),
            (
                json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}),
                ["spec.ports", "its own number"],
            ),
            (json!({"probes": {"liveness": {"path": "/", "port": "x"}}}), ["spec.probes.liveness.port", "name one"]),
            (
                json!({"needs": [{"name": "db", "engine": "PostgreSQL", "access": "Migrate"}]}),
                ["spec.needs", "use ReadWrite"],
            ),
            (
                json!({"needs": [{"name": "a", "engine": "Kafka", "claim": "x"}, {"name": "b", "engine": "Kafka", "claim": "x"}]}),
                ["the claim x", "join them"],
            ),
            (json!({"drain": {"period": "9999h"}}), ["spec.drain.period", "write for example"]),
            (
                json!({"migrations": {"need": "db", "expand": {"command": ["m"]}}}),
                ["spec.migrations.need", "name one of them"],
            ),
        ] {
            let message = refusal(more);
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn only_what_the_tenant_would_prune_has_what_a_release_has() {
        let ports = json!([{"name": "http", "port": 8080}]);
        let control = json!([{"name": "http", "port": 8080}, {"name": "control", "port": 9091}]);
        for (field, more) in [
            ("calls", json!({"ports": ports, "calls": ["account"]})),
            ("route", json!({"ports": ports, "route": {"path": "/"}})),
            ("ports", json!({"ports": control})),
            ("marketBook", json!({"ports": control, "marketBook": true})),
        ] {
            for (managed_by, tenant, environment, may) in [
                ("paddock", "acme", "prod", true),
                ("somebody", "acme", "prod", false),
                ("paddock", "other", "prod", false),
                ("paddock", "acme", "test", false),
            ] {
                let mut object = betting_service(more.clone());
                let labels =
                    [(labels::MANAGED_BY, managed_by), (labels::TENANT, tenant), (labels::ENVIRONMENT, environment)];
                object.metadata.labels = Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
                match validate(&object, facts()) {
                    Ok(service) => assert!(may && service.of_release, "{field} {labels:?}"),
                    Err(fault) => {
                        assert!(
                            !may && fault.message.starts_with(&format!("spec.{field}: only components")),
                            "{fault}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_engine_without_a_class_says_where_to_add_it() {
        let mut facts = facts().unwrap();
        facts.database_classes.clear();
        let object = betting_service(json!({"needs": [{"name": "db", "engine": "PostgreSQL"}]}));
        let fault = validate(&object, Some(facts)).unwrap_err();
        assert_eq!(fault.category, Category::ReferenceNotFound);
        assert!(fault.message.contains("databaseClasses"), "{}", fault.message);
    }

    #[test]
    fn outside_of_environments_a_service_runs_without_claims() {
        let service = validate(&betting_service(json!({"image": "r.example/p:1"})), None).unwrap();
        assert_eq!((service.values.class.as_str(), service.in_environment()), ("NonProduction", false));
        let needs = json!({"needs": [{"name": "db", "engine": "PostgreSQL"}]});
        assert!(validate(&betting_service(needs), None).is_err());
        assert!(validate(&betting_service(json!({"calls": ["account"]})), None).unwrap_err().message.contains("calls"));
    }
}

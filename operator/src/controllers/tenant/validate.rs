//! Checks across objects that admission cannot make: pure, from what was read to what may be built.

mod databases;

use super::build::cidr::{Cidr, METADATA};
use super::build::network::Reach;
use super::build::services::{betting_service, has_digest, wanted};
use super::build::{Identity, Surroundings};
use super::dereference::References;
use super::finding::{Concern, Finding};
use crate::controllers::release::validate::problems;
use paddock_crds::v1alpha1::{
    BettingService, Engine, Environment, EnvironmentClass, Release, ReleaseComponent, Tenant,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most configuration entries of a component, as the schema of `BettingService` has it.
const MAX_CONFIG: usize = 64;

/// An environment after the checks.
#[derive(Debug)]
pub struct Checked<'a> {
    /// Whose it is.
    pub identity: Identity,
    /// As the Tenant wants it.
    pub spec: &'a Environment,
    /// What it may reach of each engine.
    pub databases: BTreeMap<Engine, Reach>,
    /// What should run; `None` when that is unknown or refused: then what runs is left alone.
    pub services: Option<Vec<BettingService>>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// Checks every environment of a Tenant; one that fails does not keep the others.
pub fn validate<'a>(tenant: &'a Tenant, references: &References, around: &Surroundings) -> Vec<Checked<'a>> {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    tenant.spec.environments.iter().map(|environment| check(name, tenant, environment, references, around)).collect()
}

fn check<'a>(
    name: &str,
    tenant: &'a Tenant,
    environment: &'a Environment,
    references: &References,
    around: &Surroundings,
) -> Checked<'a> {
    let identity = Identity { tenant: name.into(), environment: environment.name.clone(), class: environment.class };
    let mut findings = owners(tenant, environment);
    findings.extend(targets(environment, around));
    let databases = databases::reach(environment, references, &mut findings);
    let services = match release(environment, references, &around.registries) {
        Ok((release, components)) => {
            findings.extend(needs(environment, &components));
            let build = |c| betting_service(&identity, c, &release.spec.version, tenant.spec.suspended);
            Some(components.iter().map(build).collect())
        }
        Err(refusal) => {
            findings.push(*refusal);
            None
        }
    };
    Checked { identity, spec: environment, databases, services, findings }
}

/// Owners that name an environment which does not exist; told in the first environment only, so that it stands once.
fn owners(tenant: &Tenant, environment: &Environment) -> Vec<Finding> {
    let all = &tenant.spec.environments;
    if all.first().is_none_or(|first| first.name != environment.name) {
        return Vec::new();
    }
    let known: BTreeSet<&str> = all.iter().map(|e| e.name.as_str()).collect();
    let unknown = tenant.spec.owners.iter().flat_map(|owner| {
        let missing = owner.environments.iter().filter(|e| !known.contains(e.as_str()));
        missing.map(move |e| (owner, e))
    });
    unknown
        .map(|(owner, missing)| Finding {
            concern: Concern::Namespaces,
            weight: super::finding::Weight::Stalled,
            reason: "InvalidSpec",
            message: format!(
                "owners: {} {} names environment {missing}, which the Tenant has not: correct owners[].environments",
                owner.kind, owner.name
            ),
        })
        .collect()
}

/// Targets that are no range, or lie where tenants must not go by address; no policy opens them.
fn targets(environment: &Environment, around: &Surroundings) -> Vec<Finding> {
    let closed: Vec<Cidr> =
        around.cluster_subnets.iter().map(String::as_str).chain(METADATA).filter_map(Cidr::parse).collect();
    let refuse = |message: String| Finding::stalled(Concern::Namespaces, &environment.name, "InvalidSpec", message);
    environment
        .network
        .iter()
        .flat_map(|network| &network.allow)
        .filter_map(|target| match Cidr::parse(&target.cidr) {
            None => {
                Some(refuse(format!("network.allow: {} is no range of addresses: write 203.0.113.0/24", target.cidr)))
            }
            Some(range) if closed.iter().any(|c| c.contains(&range)) => Some(refuse(format!(
                "network.allow: {} lies inside of the cluster or where clouds tell credentials: name addresses outside",
                target.cidr
            ))),
            Some(_) => None,
        })
        .collect()
}

/// The Release of the environment and the components that run, or why none of it can be applied.
fn release(
    environment: &Environment,
    references: &References,
    registries: &[String],
) -> Result<(Arc<Release>, Vec<ReleaseComponent>), Box<Finding>> {
    let name = &environment.release;
    let refuse =
        |reason, message: String| Box::new(Finding::stalled(Concern::Release, &environment.name, reason, message));
    let Some(release) = references.releases.get(name) else {
        return Err(refuse(
            "ReferenceNotFound",
            references.absent(&format!("Release {name}"), "create it, or name another in release"),
        ));
    };
    // One that is being deleted stays as long as an environment asks for it: its own status says so.
    if let Some(problem) = problems(&release.spec).into_iter().next() {
        return Err(refuse("ReleaseInvalid", format!("Release {name} cannot run: {problem}; create another Release")));
    }
    let known = |component: &str| release.spec.components.iter().any(|c| c.name == component);
    if let Some(unknown) = environment.services.iter().find(|s| !known(&s.name)) {
        return Err(refuse(
            "InvalidSpec",
            format!("services: Release {name} has no component {}: correct its name or remove the entry", unknown.name),
        ));
    }
    let components = wanted(environment, &release.spec);
    if let Some(full) = components.iter().find(|c| c.component.config.len() > MAX_CONFIG) {
        return Err(refuse(
            "InvalidSpec",
            format!(
                "services: {} has more than {MAX_CONFIG} config entries with those of the Release: remove some",
                full.name
            ),
        ));
    }
    if environment.class == EnvironmentClass::Production
        && let Some(loose) = components.iter().find(|c| !has_digest(&c.component.image))
    {
        return Err(refuse(
            "DigestRequired",
            format!(
                "Production runs images by digest only, and component {} of Release {name} is {}: create a Release with name@sha256:…",
                loose.name, loose.component.image
            ),
        ));
    }
    let allowed =
        |image: &str| registries.is_empty() || registries.iter().any(|prefix| image.starts_with(prefix.as_str()));
    if environment.class == EnvironmentClass::Production
        && let Some(foreign) = components.iter().find(|c| !allowed(&c.component.image))
    {
        return Err(refuse(
            "RegistryNotAllowed",
            format!(
                "component {} of Release {name} is {}, and Production runs images of {} only: push it there and create another Release",
                foreign.name,
                foreign.component.image,
                registries.join(", ")
            ),
        ));
    }
    Ok((release.clone(), components))
}

/// Components that need an engine for which the environment names no class.
fn needs(environment: &Environment, components: &[ReleaseComponent]) -> Vec<Finding> {
    let named: BTreeSet<_> = environment.database_classes.iter().map(|c| c.engine).collect();
    let missing: BTreeSet<_> = components
        .iter()
        .flat_map(|c| c.component.needs.iter().map(move |need| (need.engine, &c.name)))
        .filter(|(engine, _)| !named.contains(engine))
        .collect();
    missing
        .into_iter()
        .map(|(engine, component)| {
            let message =
                format!("component {component} needs {engine}: name a class of engine {engine} in databaseClasses");
            Finding::stalled(Concern::Databases, &environment.name, "ClassMissing", message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::build::fixtures::{DIGEST, class, from, release, surroundings, tenant};
    use super::super::dereference::Claims;
    use super::super::finding::Weight;
    use super::*;
    use paddock_crds::v1alpha1::DatabaseClaim;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn references() -> References {
        let releases = [
            release(
                "good",
                json!([
                    {"name": "rates", "image": DIGEST, "needs": [{"name": "db", "engine": "PostgreSQL"}]},
                    {"name": "account", "image": DIGEST},
                ]),
            ),
            release("loose", json!([{"name": "rates", "image": "r.example/p:1"}])),
            release(
                "broken",
                json!([{"name": "rates", "image": DIGEST, "ports": [{"name": "http", "port": 1}, {"name": "metrics", "port": 1}]}]),
            ),
        ];
        let classes = [
            class("pg-prod", "PostgreSQL", "Production"),
            class("pg-dev", "PostgreSQL", "NonProduction"),
            class("kafka-prod", "Kafka", "Production"),
        ];
        References {
            claims: BTreeMap::new(),
            releases: releases
                .into_iter()
                .map(|r| (r.metadata.name.clone().unwrap_or_default(), Arc::new(r)))
                .collect(),
            classes: classes.into_iter().map(|c| (c.metadata.name.clone().unwrap_or_default(), Arc::new(c))).collect(),
            unreadable: BTreeSet::from(["Release strange".into()]),
        }
    }

    fn prod(extra: Value) -> Value {
        let mut value = json!({
            "name": "prod", "class": "Production", "release": "good",
            "databaseClasses": [{"engine": "PostgreSQL", "className": "pg-prod"}],
        });
        if let (Value::Object(fields), Value::Object(extra)) = (&mut value, extra) {
            fields.extend(extra);
        }
        value
    }

    #[test]
    fn a_good_environment_gives_its_services_and_no_finding() {
        let tenant = tenant(json!([prod(json!({}))]));
        let checked = validate(&tenant, &references(), &surroundings());
        assert_eq!(checked[0].findings, Vec::new());
        let names: Vec<_> = checked[0].services.iter().flatten().filter_map(|s| s.metadata.name.as_deref()).collect();
        assert_eq!(names, ["rates", "account"]);
        assert_eq!(opened(&checked[0], Engine::PostgreSQL), (vec!["pg-prod/pg-prod".into()], false));
    }

    #[rstest]
    #[case::unknown_release(json!({"release": "none"}), Concern::Release, "ReferenceNotFound", "Release none")]
    #[case::unreadable_release(json!({"release": "strange"}), Concern::Release, "ReferenceNotFound", "Release strange cannot be read")]
    #[case::unknown_component(json!({"services": [{"name": "ratse"}]}), Concern::Release, "InvalidSpec", "no component ratse")]
    #[case::no_digest(json!({"release": "loose", "databaseClasses": []}), Concern::Release, "DigestRequired", "component rates")]
    #[case::invalid_release(json!({"release": "broken"}), Concern::Release, "ReleaseInvalid", "are both 1")]
    fn a_refused_release_leaves_what_runs_alone(
        #[case] extra: Value,
        #[case] concern: Concern,
        #[case] reason: &str,
        #[case] says: &str,
    ) {
        let tenant = tenant(json!([prod(extra)]));
        let checked = validate(&tenant, &references(), &surroundings());
        assert!(checked[0].services.is_none());
        let found = &checked[0].findings[0];
        assert_eq!((found.concern, found.weight, found.reason), (concern, Weight::Stalled, reason));
        assert!(found.message.starts_with("environment prod: ") && found.message.contains(says), "{}", found.message);
    }

    /// Class and server of what is reached of an engine, and whether there may be more.
    fn opened(checked: &Checked<'_>, engine: Engine) -> (Vec<String>, bool) {
        let Some(reach) = checked.databases.get(&engine) else { return (Vec::new(), false) };
        let servers = reach.classes.iter().flat_map(|class| {
            let name = class.metadata.name.clone().unwrap_or_default();
            class.spec.servers.iter().map(move |server| format!("{name}/{}", server.name))
        });
        (servers.collect(), reach.uncertain)
    }

    /// Claims of `prod`: name, engine, class and server of each.
    fn with_claims(claims: &[(&str, &str, &str, &str)]) -> References {
        let claim = |(name, engine, class, server): &(&str, &str, &str, &str)| {
            Arc::new(from::<DatabaseClaim>(json!({
                "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
                "metadata": {"name": name, "namespace": "acme-prod"},
                "spec": {"engine": engine, "className": class}, "status": {"server": server},
            })))
        };
        let mut references = references();
        let mut wide = class("pg-wide", "PostgreSQL", "Production");
        let mut second = wide.spec.servers[0].clone();
        second.name = "second".into();
        wide.spec.servers.push(second);
        references.classes.insert("pg-wide".into(), Arc::new(wide));
        let claims = Claims { placed: claims.iter().map(claim).collect(), unreadable: false };
        references.claims.insert("prod".into(), claims);
        references
    }

    #[test]
    fn claims_keep_their_way_whatever_class_is_named_now() {
        let references = with_claims(&[
            ("a-db", "PostgreSQL", "pg-wide", "second"),
            ("b-db", "PostgreSQL", "pg-prod", "pg-prod"),
            ("bus", "Kafka", "kafka-prod", "kafka-prod"),
        ]);
        let tenant = tenant(json!([prod(json!({}))]));
        let checked = validate(&tenant, &references, &surroundings());
        assert_eq!(checked[0].findings, Vec::new());
        let of_postgresql: Vec<String> =
            ["pg-prod/pg-prod", "pg-wide/second", "pg-prod/pg-prod"].map(ToOwned::to_owned).into();
        assert_eq!(opened(&checked[0], Engine::PostgreSQL), (of_postgresql, false));
        assert_eq!(
            opened(&checked[0], Engine::Kafka),
            (vec!["kafka-prod/kafka-prod".into()], false),
            "and none is named"
        );
    }

    #[rstest]
    #[case::class_gone("gone", "a", "ReferenceNotFound", "DatabaseClass gone does not exist: create it again")]
    #[case::class_unreadable("odd", "a", "ReferenceNotFound", "DatabaseClass odd cannot be read")]
    #[case::server_gone("pg-wide", "third", "ServerNotInClass", "pg-wide has no server third of PostgreSQL")]
    #[case::of_other_engine("kafka-prod", "kafka-prod", "ServerNotInClass", "kafka-prod has no server kafka-prod")]
    #[case::of_other_class("pg-dev", "pg-dev", "ServerNotInClass", "pg-dev has no server pg-dev")]
    fn where_a_claim_is_may_be_unknown(
        #[case] class: &str,
        #[case] server: &str,
        #[case] reason: &str,
        #[case] says: &str,
    ) {
        let mut references =
            with_claims(&[("a-db", "PostgreSQL", class, server), ("b-db", "PostgreSQL", class, server)]);
        references.unreadable.insert("DatabaseClass odd".into());
        let tenant = tenant(json!([prod(json!({}))]));
        let checked = validate(&tenant, &references, &surroundings());
        assert_eq!(opened(&checked[0], Engine::PostgreSQL), (vec!["pg-prod/pg-prod".into()], true));
        assert_eq!(checked[0].findings.len(), 1, "one for both claims");
        let found = &checked[0].findings[0];
        assert_eq!((found.concern, found.reason), (Concern::Databases, reason));
        assert!(found.message.contains(says) && found.message.ends_with("a-db, b-db"), "{}", found.message);
    }

    #[test]
    fn a_claim_that_cannot_be_read_may_be_anywhere() {
        let mut references = references();
        references.claims.insert("prod".into(), Claims { placed: Vec::new(), unreadable: true });
        let tenant = tenant(json!([prod(json!({}))]));
        let checked = validate(&tenant, &references, &surroundings());
        assert_eq!(opened(&checked[0], Engine::PostgreSQL), (vec!["pg-prod/pg-prod".into()], true));
        assert_eq!(opened(&checked[0], Engine::Kafka), (Vec::new(), true));
    }

    #[rstest]
    #[case::unknown("none", "PostgreSQL", "ReferenceNotFound")]
    #[case::other_class("pg-dev", "PostgreSQL", "ClassMismatch")]
    #[case::other_engine("kafka-prod", "PostgreSQL", "EngineMismatch")]
    fn an_unfit_class_is_named_and_not_reached(#[case] name: &str, #[case] engine: &str, #[case] reason: &str) {
        let tenant = tenant(json!([prod(json!({"databaseClasses": [{"engine": engine, "className": name}]}))]));
        let checked = validate(&tenant, &references(), &surroundings());
        assert_eq!(
            opened(&checked[0], Engine::PostgreSQL),
            (Vec::new(), name == "none"),
            "what does not exist may come"
        );
        assert!(checked[0].services.is_some(), "services are applied; their claims wait");
        let found = &checked[0].findings[0];
        assert_eq!((found.concern, found.reason), (Concern::Databases, reason));
        assert!(found.message.contains(name), "{}", found.message);
    }

    #[test]
    fn a_need_without_a_class_is_named() {
        let tenant = tenant(json!([prod(json!({"databaseClasses": []}))]));
        let checked = validate(&tenant, &references(), &surroundings());
        assert_eq!(checked[0].findings[0].reason, "ClassMissing");
        assert!(checked[0].findings[0].message.contains("component rates needs PostgreSQL"));
    }

    #[test]
    fn a_release_that_somebody_deletes_is_used_as_long_as_it_is_there() {
        let mut references = references();
        for release in references.releases.values_mut() {
            let mut deleted = release.as_ref().clone();
            deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("time");
            *release = Arc::new(deleted);
        }
        let tenant = tenant(json!([prod(json!({}))]));
        let checked = validate(&tenant, &references, &surroundings());
        assert_eq!(checked[0].services.as_ref().map(Vec::len), Some(2));
        assert_eq!(checked[0].findings, Vec::new());
    }

    #[test]
    fn one_bad_environment_does_not_keep_the_other() {
        let tenant = tenant(json!([
            {"name": "dev", "class": "NonProduction", "release": "none"},
            prod(json!({})),
        ]));
        let checked = validate(&tenant, &references(), &surroundings());
        assert!(checked[0].services.is_none());
        assert!(checked[1].services.is_some() && checked[1].findings.is_empty());
    }

    #[test]
    fn a_tag_is_good_enough_outside_of_production() {
        let tenant = tenant(json!([{"name": "dev", "class": "NonProduction", "release": "loose"}]));
        assert!(validate(&tenant, &references(), &surroundings())[0].services.is_some());
    }

    #[rstest]
    #[case::cluster("10.96.0.1/32", "inside of the cluster")]
    #[case::metadata("169.254.169.254/32", "inside of the cluster")]
    #[case::nonsense("999.0.0.0/24", "no range")]
    fn a_target_where_tenants_must_not_go_is_refused(#[case] cidr: &str, #[case] says: &str) {
        let tenant = tenant(json!([prod(json!({"network": {"allow": [{"cidr": cidr, "port": 443}]}}))]));
        let checked = validate(&tenant, &references(), &surroundings());
        let found = &checked[0].findings[0];
        assert_eq!((found.concern, found.reason), (Concern::Namespaces, "InvalidSpec"));
        assert!(found.message.contains(says) && found.message.contains(cidr), "{}", found.message);
    }

    #[test]
    fn production_takes_images_of_allowed_registries_only() {
        let tenant = tenant(json!([prod(json!({}))]));
        let around = |registry: &str| Surroundings { registries: vec![registry.into()], ..surroundings() };
        assert!(validate(&tenant, &references(), &around("r.example/"))[0].services.is_some());
        let refused = validate(&tenant, &references(), &around("other.example/"));
        assert_eq!(refused[0].findings[0].reason, "RegistryNotAllowed");
    }

    #[test]
    fn an_owner_of_an_unknown_environment_is_told_once() {
        let mut tenant = tenant(json!([prod(json!({})), {"name": "dev", "class": "NonProduction", "release": "good"}]));
        tenant.spec.owners = serde_json::from_value(
            json!([{"kind": "Group", "name": "leads", "role": "Owner", "environments": ["prod", "stage"]}]),
        )
        .expect("owners");
        let checked = validate(&tenant, &references(), &surroundings());
        let told: Vec<_> =
            checked.iter().flat_map(|c| &c.findings).filter(|f| f.message.contains("environment stage")).collect();
        assert_eq!(told.len(), 1);
    }
}

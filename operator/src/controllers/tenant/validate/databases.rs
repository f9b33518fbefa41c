//! Which database servers an environment may reach.

use super::super::build::network::Reach;
use super::super::dereference::References;
use super::super::finding::{Concern, Finding};
use kube::ResourceExt as _;
use paddock_crds::v1alpha1::{DatabaseClaim, DatabaseClass, Engine, Environment};
use std::collections::BTreeMap;
use std::sync::Arc;
use strum::IntoEnumIterator as _;

/// Of each engine the servers of the classes that the environment names, and those that its claims have.
pub(super) fn reach(
    environment: &Environment,
    references: &References,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Engine, Reach> {
    let mut databases = named_classes(environment, references, findings);
    held_classes(environment, references, &mut databases, findings);
    databases
}

/// The classes that the environment names. What one opened that does not exist or cannot be read, only the live policy knows.
fn named_classes(
    environment: &Environment,
    references: &References,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Engine, Reach> {
    let mut databases: BTreeMap<Engine, Reach> = BTreeMap::new();
    for wanted in &environment.database_classes {
        let (name, engine) = (&wanted.class_name, wanted.engine);
        let reach = databases.entry(engine).or_default();
        let refuse = |reason, message: String| Finding::stalled(Concern::Databases, &environment.name, reason, message);
        match references.classes.get(name) {
            None => {
                reach.uncertain = true;
                findings.push(refuse(
                    "ReferenceNotFound",
                    references
                        .absent(&format!("DatabaseClass {name}"), "create it, or name another in databaseClasses"),
                ));
            }
            Some(class) if class.spec.engine != engine => findings.push(refuse(
                "EngineMismatch",
                format!(
                    "DatabaseClass {name} is of engine {}, not {engine}: name a class of that engine",
                    class.spec.engine
                ),
            )),
            Some(class) if class.spec.environment_class != environment.class => findings.push(refuse(
                "ClassMismatch",
                format!(
                    "DatabaseClass {name} serves {} environments only, and this one is {}: name a class for {}",
                    class.spec.environment_class, environment.class, environment.class
                ),
            )),
            Some(class) => reach.classes.push(class.clone()),
        }
    }
    databases
}

/// The servers that claims of the environment have, whatever it names now: a claim's class is immutable and its data stays where it is.
fn held_classes(
    environment: &Environment,
    references: &References,
    databases: &mut BTreeMap<Engine, Reach>,
    findings: &mut Vec<Finding>,
) {
    let Some(claims) = references.claims.get(&environment.name) else { return };
    if claims.unreadable {
        for engine in Engine::iter() {
            databases.entry(engine).or_default().uncertain = true;
        }
    }
    let mut lost: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for claim in &claims.placed {
        let reach = databases.entry(claim.spec.engine).or_default();
        match held(claim, environment, references) {
            Ok(class) => reach.classes.push(Arc::new(class)),
            Err(problem) => {
                reach.uncertain = true;
                lost.entry(problem).or_default().push(claim.name_any());
            }
        }
    }
    findings.extend(lost.into_iter().map(|((reason, problem), claims)| {
        let message =
            format!("{problem}; until then pods reach what they reach now. Claims there: {}", claims.join(", "));
        Finding::stalled(Concern::Databases, &environment.name, reason, message)
    }));
}

/// A claim's class with no other server than the claim's, or the reason and message of why nobody can say where that is.
fn held(
    claim: &DatabaseClaim,
    environment: &Environment,
    references: &References,
) -> Result<DatabaseClass, (&'static str, String)> {
    let name = &claim.spec.class_name;
    let Some(class) = references.classes.get(name) else {
        let absent = references.absent(&format!("DatabaseClass {name}"), "create it again");
        return Err(("ReferenceNotFound", absent));
    };
    let server = claim.status.as_ref().and_then(|status| status.server.as_deref()).unwrap_or_default();
    let fits = class.spec.engine == claim.spec.engine && class.spec.environment_class == environment.class;
    let mut class = class.as_ref().clone();
    class.spec.servers.retain(|found| found.name == server);
    if fits && !class.spec.servers.is_empty() {
        return Ok(class);
    }
    let (engine, of) = (claim.spec.engine, environment.class);
    Err(("ServerNotInClass", format!("DatabaseClass {name} has no server {server} of {engine} for {of}: put it back")))
}

//! Whether a claim can be carried out: a pure function of the claim and what it refers to.

use super::dereference::{Environment, Found, Live};
use crate::controllers::database_class::validate::shared_with;
use crate::database::{Identity, Limits, TopicPlan, kafka};
use kube::ResourceExt as _;
use paddock_crds::duration;
use paddock_crds::names::{PLATFORM_TENANT, binding_secret};
use paddock_crds::v1alpha1::{DatabaseClaim, DatabaseClass, Engine, Server};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a claim looks for room on a full server.
const ROOM: Duration = Duration::from_mins(1);

/// Most claims of an environment: servers are shared. No matter for its ResourceQuota: one on a custom kind lets the apiserver refuse every
/// object until the quota's controller has learnt of the kind and counted anew, which takes minutes.
const CLAIMS: usize = 12;

/// Why a claim cannot be carried out: a condition reason and a message that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable CamelCase word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Nothing gets better until a person does something.
    pub stalled: bool,
    /// When to look again, if what is waited for sends no event.
    pub again: Option<Duration>,
}

impl Problem {
    /// One that a change of some object ends.
    fn of_spec(reason: &'static str, message: String) -> Self {
        Self { reason, message, stalled: true, again: None }
    }
}

/// A claim that can be carried out.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose it is.
    pub identity: Identity,
    /// Its class.
    pub class: Arc<DatabaseClass>,
    /// Limits of logins.
    pub limits: Limits,
    /// Kafka: topics of the claim, by their names on the broker.
    pub topics: Vec<TopicPlan>,
    /// Kafka: by role, logical name to name on the broker.
    pub topic_names: BTreeMap<String, BTreeMap<String, String>>,
}

/// Judges.
pub fn validate(claim: &DatabaseClaim, found: &Found) -> Result<Wanted, Problem> {
    let spec = &claim.spec;
    let Some(environment) = &found.environment else {
        return Err(Problem::of_spec(
            "NotAnEnvironment",
            format!(
                "namespace {} is no environment: name it in a Tenant, or make the claim in one that is",
                claim.namespace().unwrap_or_default()
            ),
        ));
    };
    if crowded(claim, &found.claims) {
        return Err(Problem {
            again: Some(ROOM),
            ..Problem::of_spec(
                "TooManyClaims",
                format!(
                    "the environment has {CLAIMS} other claims, and may have no more: delete one, or do without this one"
                ),
            )
        });
    }
    if let Some(problem) = not_named(claim, environment) {
        return Err(problem);
    }
    let Some(class) = &found.class else {
        return Err(Problem::of_spec(
            "ClassNotFound",
            format!("DatabaseClass {} does not exist: create it, or make a claim of another class", spec.class_name),
        ));
    };
    if class.spec.engine != spec.engine {
        return Err(Problem::of_spec(
            "ClassOfOtherEngine",
            format!(
                "DatabaseClass {} is of engine {}, the claim of {}: make a claim of another class",
                spec.class_name, class.spec.engine, spec.engine
            ),
        ));
    }
    if class.spec.environment_class != environment.class {
        return Err(Problem::of_spec(
            "ClassOfOtherEnvironmentClass",
            format!(
                "DatabaseClass {} is for {}, environment {} is {}: make a claim of another class",
                spec.class_name, class.spec.environment_class, environment.name, environment.class
            ),
        ));
    }
    if let Some(other) = shared_with(class, &found.classes) {
        return Err(Problem::of_spec(
            "ServerOfOtherEnvironmentClass",
            format!(
                "DatabaseClass {} of the other environment class names a server of {}: give each its own",
                other.name_any(),
                spec.class_name
            ),
        ));
    }
    for (role, live) in &found.secrets {
        if let Live::Foreign(what) = live {
            let name = binding_secret(&claim.name_any(), role);
            return Err(Problem::of_spec(
                "NotOurs",
                format!("Secret {name} exists and {what}: rename or delete it, or give role {role} another name"),
            ));
        }
    }
    let identity = Identity::new(&environment.tenant, &environment.name, claim.name_any());
    let (topics, topic_names) = match spec.engine {
        Engine::PostgreSQL => {
            if let Some(role) = spec.roles.iter().find(|role| role.access.is_none()) {
                return Err(Problem::of_spec("InvalidSpec", format!("role {} has no access: give it one", role.name)));
            }
            (Vec::new(), BTreeMap::new())
        }
        Engine::Kafka => topics(claim, class, environment, &identity)?,
    };
    Ok(Wanted { identity, class: class.clone(), limits: limits(class)?, topics, topic_names })
}

/// Whether its environment has all the claims that it may have without this one: such as have a server, and such as are older and wait
/// for one too. A claim that has a server keeps it.
fn crowded(claim: &DatabaseClaim, all: &[Arc<DatabaseClaim>]) -> bool {
    let age = |claim: &DatabaseClaim| (claim.creation_timestamp(), claim.name_any());
    let before = |other: &&Arc<DatabaseClaim>| {
        other.namespace() == claim.namespace()
            && other.name_any() != claim.name_any()
            && (placed(other) || age(other) < age(claim))
    };
    !placed(claim) && all.iter().filter(before).count() >= CLAIMS
}

/// Whether a server was chosen for it: from then on it stays there.
pub fn placed(claim: &DatabaseClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| status.server.is_some())
}

/// A claim takes a class that the Tenant names for its environment: other classes may be other brands' own servers. One that has a server
/// keeps it, whatever the Tenant says later; its class cannot change.
fn not_named(claim: &DatabaseClaim, environment: &Environment) -> Option<Problem> {
    let wanted = &claim.spec.class_name;
    if placed(claim) || environment.classes.contains(wanted) {
        return None;
    }
    let Environment { tenant, name, classes, .. } = environment;
    let named = if classes.is_empty() { "none".to_owned() } else { classes.join(", ") };
    let message = format!(
        "Tenant {tenant} does not name DatabaseClass {wanted} for environment {name} (it names {named}): make a claim of a class that \
         it names, or name this one in its databaseClasses"
    );
    Some(Problem::of_spec("ClassNotOfEnvironment", message))
}

fn limits(class: &DatabaseClass) -> Result<Limits, Problem> {
    let limits = class.spec.limits.clone().unwrap_or_default();
    Ok(Limits {
        statement: time(limits.statement_timeout.as_deref().unwrap_or("30s"), "limits.statementTimeout")?,
        idle_in_transaction: time(limits.idle_in_transaction.as_deref().unwrap_or("60s"), "limits.idleInTransaction")?,
        connections: limits.connections_per_role.unwrap_or(40),
    })
}

fn time(text: &str, field: &str) -> Result<Duration, Problem> {
    duration::parse(text)
        .ok_or_else(|| Problem::of_spec("InvalidSpec", format!("{field} is `{text}`: write 500ms, 20s, 1m30s")))
}

type Topics = (Vec<TopicPlan>, BTreeMap<String, BTreeMap<String, String>>);

fn topics(
    claim: &DatabaseClaim,
    class: &DatabaseClass,
    environment: &Environment,
    identity: &Identity,
) -> Result<Topics, Problem> {
    let platform = environment.tenant == PLATFORM_TENANT;
    let reserved = |name: &String| class.spec.published.contains(name);
    // A name of its own, or the published one.
    let own = |name: &String| {
        if platform && reserved(name) {
            kafka::published_name(name)
        } else {
            format!("{}{name}", identity.topic_prefix())
        }
    };
    let refuse = |name: &String| {
        Problem::of_spec(
            "PublishedTopicReserved",
            format!(
                "topic {name} is published by Tenant {PLATFORM_TENANT} for class {}: write to a topic of another name",
                class.name_any()
            ),
        )
    };
    let mut plans = Vec::new();
    for topic in claim.spec.kafka.iter().flat_map(|kafka| &kafka.topics) {
        if reserved(&topic.name) && !platform {
            return Err(refuse(&topic.name));
        }
        plans.push(TopicPlan {
            name: own(&topic.name),
            partitions: topic.partitions,
            cleanup: topic.cleanup,
            retention: time(&topic.retention, "kafka.topics.retention")?,
        });
    }
    plans.sort_by(|one, other| one.name.cmp(&other.name));
    let mut names = BTreeMap::new();
    for role in &claim.spec.roles {
        let mut of_role = BTreeMap::new();
        if let Some(topics) = &role.topics {
            if let Some(name) = topics.write.iter().find(|name| reserved(name) && !platform) {
                return Err(refuse(name));
            }
            for name in topics.write.iter().chain(&topics.read) {
                of_role.insert(name.clone(), own(name));
            }
            for name in &topics.published {
                if !reserved(name) {
                    return Err(Problem::of_spec(
                        "TopicNotPublished",
                        format!(
                            "class {} does not publish topic {name}: add it to the class, or take it from role {}",
                            class.name_any(),
                            role.name
                        ),
                    ));
                }
                of_role.insert(name.clone(), kafka::published_name(name));
            }
        }
        names.insert(role.name.clone(), of_role);
    }
    Ok((plans, names))
}

/// How the server of a claim was chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice<'a> {
    /// It is bound to this one, or there is no other.
    Bound(&'a Server),
    /// Its data may stand on one of these already; else the first of them takes it.
    Among(Vec<&'a Server>),
}

/// The servers that may take a claim: the one it is bound to, else those with room, the least loaded first.
pub fn choose<'a>(
    claim: &DatabaseClaim,
    class: &'a DatabaseClass,
    claims: &[Arc<DatabaseClaim>],
) -> Result<Choice<'a>, Problem> {
    let status = claim.status.as_ref();
    if let Some(name) = status.and_then(|status| status.server.as_ref()) {
        return class.spec.servers.iter().find(|server| server.name == *name).map(Choice::Bound).ok_or_else(|| {
            Problem::of_spec(
                "ServerNotInClass",
                format!(
                    "the claim's data is on server {name}, which class {} no longer names: put it back",
                    class.name_any()
                ),
            )
        });
    }
    let load = |server: &Server| {
        let on_it = |other: &&Arc<DatabaseClaim>| {
            other.spec.class_name == class.name_any()
                && other.status.as_ref().and_then(|status| status.server.as_ref()) == Some(&server.name)
        };
        claims.iter().filter(on_it).count()
    };
    let has_room = |server: &Server, load: usize| {
        server.capacity.as_ref().is_none_or(|capacity| usize::try_from(capacity.claims).is_ok_and(|most| load < most))
    };
    let mut able: Vec<(usize, &Server)> = class
        .spec
        .servers
        .iter()
        .map(|server| (load(server), server))
        .filter(|(load, server)| has_room(server, *load))
        .collect();
    if able.is_empty() {
        let message = format!(
            "every server of class {} holds as many claims as it may: raise capacity.claims or add a server",
            class.name_any()
        );
        // The end of another claim makes room.
        return Err(Problem { again: Some(ROOM), ..Problem::of_spec("CapacityExhausted", message) });
    }
    able.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.name.cmp(&b.name)));
    let able: Vec<&Server> = able.into_iter().map(|(_, server)| server).collect();
    match (&class.spec.servers[..], &able[..]) {
        ([_], [only]) => Ok(Choice::Bound(only)),
        _ => Ok(Choice::Among(able)),
    }
}

/// Whether no service of the namespace needs the claim.
pub fn unused<'a>(
    claim: &str,
    services: impl IntoIterator<Item = &'a Arc<paddock_crds::v1alpha1::BettingService>>,
) -> bool {
    !services.into_iter().filter(|service| service.metadata.deletion_timestamp.is_none()).any(|service| {
        let name = service.name_any();
        service.spec.spec.needs.iter().any(|need| match &need.claim {
            Some(named) => named == claim,
            None => format!("{name}-{}", need.name) == claim,
        })
    })
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // json!(…) as an argument
#[path = "validate_tests.rs"]
mod tests;

//! The proof of isolation (rule T1, section 5a of the architecture): over everything that the operator, its chart and the demo's database
//! servers put on the network, exactly the connections of a written table can be opened, in any cluster that enforces NetworkPolicies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: its failure is the message"
)]

mod cases;
mod policy;
mod table;
mod world;

use paddock_crds::v1alpha1::{Engine, Tenant};
use policy::{Port, allowed};
use std::collections::BTreeSet;
use table::{Connection, PORTS, table};
use world::World;

/// The API server's addresses are known, as in the demo.
const KNOWN_API_SERVER: &str = r#"apiserver={"cidrs":["10.96.0.1/32","10.99.0.1/32"],"ports":[443,6443]}"#;
/// As the chart comes.
const AS_IT_COMES: &str = "registries=[]";

/// Every connection that can be opened and has one of our pods at an end.
fn connections(world: &World) -> BTreeSet<Connection> {
    let mut all = BTreeSet::new();
    for from in &world.actors {
        for to in world.actors.iter().filter(|to| (from.ours || to.ours) && (to.is_pod() || from.name != to.name)) {
            let open = |port: &&Port| allowed(&world.policies, from.client(), to.server(), **port);
            all.extend(PORTS.iter().filter(open).map(|port| (from.name.clone(), to.name.clone(), *port)));
        }
    }
    all
}

fn lines<'a>(connections: impl Iterator<Item = &'a Connection>) -> String {
    let line = |(from, to, port): &Connection| format!("  {from} -> {to} {}/{}\n", port.number, port.protocol);
    connections.map(line).collect::<Vec<_>>().concat()
}

fn assert_same(found: &BTreeSet<Connection>, wanted: &BTreeSet<Connection>) {
    let (open, shut) = (lines(found.difference(wanted)), lines(wanted.difference(found)));
    assert!(open.is_empty() && shut.is_empty(), "open beside the table:\n{open}in the table and shut:\n{shut}");
}

#[tokio::test]
async fn exactly_the_table_is_open() {
    let world = World::new(KNOWN_API_SERVER, |tenant| {
        if tenant.metadata.name.as_deref() == Some("acme") {
            let network = serde_json::json!({"allow": [{"cidr": "203.0.113.0/24", "port": 443}]});
            let prod = tenant.spec.environments.iter_mut().find(|environment| environment.name == "prod").unwrap();
            prod.network = serde_json::from_value(network).unwrap();
        }
    })
    .await;
    assert_same(&connections(&world), &table());
}

/// Policies stand at both ends: what either namespace's own allow between two of ours is no wider than what both allow, so that a
/// policy lost or loosened at one end opens nothing.
#[tokio::test]
async fn either_end_alone_shuts_as_much() {
    let world = World::new(KNOWN_API_SERVER, |_| ()).await;
    let both = connections(&world);
    let ours = || world.actors.iter().filter(|actor| actor.ours);
    let mut wider = BTreeSet::new();
    for (from, to) in ours().flat_map(|from| ours().map(move |to| (from, to))) {
        let (client, server) = (from.namespace(), to.namespace());
        for end in [client, server].into_iter().filter(|_| client != server) {
            let own: Vec<_> =
                world.policies.iter().filter(|policy| policy.metadata.namespace.as_deref() == end).cloned().collect();
            let open = |port: &&Port| allowed(&own, from.client(), to.server(), **port);
            wider.extend(PORTS.iter().filter(open).map(|port| (from.name.clone(), to.name.clone(), *port)));
        }
    }
    assert!(wider.is_subset(&both), "one end alone opens:\n{}", lines(wider.difference(&both)));
}

/// A chart cannot know the API server's addresses: until told, the operator may reach its ports anywhere, but nothing else is wider.
#[tokio::test]
async fn an_unknown_api_server_opens_its_ports_to_the_operator_alone() {
    let known = connections(&World::new(KNOWN_API_SERVER, |_| ()).await);
    let world = World::new(AS_IT_COMES, |_| ()).await;
    let open = connections(&world);
    assert!(open.is_superset(&known));
    let elsewhere =
        world.actors.iter().filter(|to| !to.ours && !["API server", "Service kubernetes"].contains(&&*to.name));
    let wider = elsewhere
        .flat_map(|to| {
            [443, 6443].map(|number| ("operator".to_owned(), to.name.clone(), Port { protocol: "TCP", number }))
        })
        .collect();
    assert_same(&open.difference(&known).cloned().collect(), &wider);
}

/// The widest range that an environment can be given leads out of the cluster, and nowhere within it.
#[tokio::test]
async fn a_range_of_everything_leads_out_only() {
    let narrow = connections(&World::new(KNOWN_API_SERVER, |_| ()).await);
    let world = World::new(KNOWN_API_SERVER, |tenant| {
        if tenant.metadata.name.as_deref() == Some("zenith") {
            let everything = ["0.0.0.0/0", "::/0", "::ffff:0:0/96"];
            let allow: Vec<_> = everything.iter().map(|cidr| serde_json::json!({"cidr": cidr, "port": 443})).collect();
            tenant.spec.environments[0].network = serde_json::from_value(serde_json::json!({"allow": allow})).unwrap();
        }
    })
    .await;
    let zenith = world.actors.iter().filter(|from| from.name.starts_with("zenith-prod/"));
    // Addresses of nodes are not known to the operator.
    let outside = ["target", "internet", "internet, IPv6", "API server"];
    let wider = zenith
        .flat_map(|from| outside.map(|to| (from.name.clone(), to.to_owned(), Port { protocol: "TCP", number: 443 })))
        .collect();
    assert_same(&connections(&world).difference(&narrow).cloned().collect(), &wider);
}

/// The class that acme's production takes from now on.
fn takes(class: &str) -> impl Fn(&mut Tenant) {
    move |tenant| {
        let acme = tenant.metadata.name.as_deref() == Some("acme");
        let environments = tenant.spec.environments.iter_mut().filter(|environment| acme && environment.name == "prod");
        let named = environments.flat_map(|environment| &mut environment.database_classes);
        for named in named.filter(|named| named.engine == Engine::PostgreSQL) {
            named.class_name = class.into();
        }
    }
}

/// The table without the network target that one test asks for.
fn table_without_target() -> BTreeSet<Connection> {
    table().into_iter().filter(|(_, to, _)| to != "target").collect()
}

/// Claims stay where they are when the environment names another class: both are open, and nothing else.
#[tokio::test]
async fn another_class_opens_its_servers_beside_those_that_claims_have() {
    let (world, findings) = World::later(KNOWN_API_SERVER, takes("pg-next"), |references| {
        let mut next = references.classes["pg-prod"].as_ref().clone();
        next.metadata.name = Some("pg-next".into());
        next.spec.servers[0].name = "pg-next".into();
        next.spec.servers[0].network = serde_json::from_value(serde_json::json!({
            "namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": "grafana"}, "ports": [5432]
        }))
        .unwrap();
        references.classes.insert("pg-next".into(), next.into());
    })
    .await;
    assert_eq!(findings, Vec::<String>::new());
    let mut wanted = table_without_target();
    let relational: Vec<Connection> = wanted.iter().filter(|(_, to, _)| to == "pg-prod").cloned().collect();
    let next = relational.into_iter().filter(|(from, ..)| from.starts_with("acme-prod/") || from == "operator");
    wanted.extend(next.map(|(from, _, port)| (from, "Grafana".to_owned(), port)));
    assert_same(&connections(&world), &wanted);
}

/// A class that is misspelt, deleted or unreadable shuts nothing that is in use, and opens nothing.
#[tokio::test]
async fn a_class_that_is_not_there_leaves_the_network_as_it_is() {
    let (world, findings) = World::later(KNOWN_API_SERVER, takes("pg-pord"), |_| ()).await;
    assert!(findings.len() == 1 && findings[0].contains("DatabaseClass pg-pord does not exist"), "{findings:?}");
    assert_same(&connections(&world), &table_without_target());

    let (world, findings) = World::later(
        KNOWN_API_SERVER,
        |_| (),
        |references| {
            references.classes.remove("pg-prod");
            references.classes.remove("kafka-prod");
            references.unreadable.insert("DatabaseClass kafka-prod".into());
        },
    )
    .await;
    let of_pg = findings.iter().filter(|finding| finding.contains("DatabaseClass pg-prod does not exist")).count();
    let of_kafka =
        findings.iter().filter(|finding| finding.contains("DatabaseClass kafka-prod cannot be read")).count();
    // Named by acme and zenith, and by platform; and of claims the same.
    assert_eq!((of_pg, of_kafka), (4, 6), "{findings:?}");
    // The operator's own way goes with the class.
    let mut wanted = table_without_target();
    wanted.retain(|(from, to, _)| from != "operator" || !["pg-prod", "kafka-prod"].contains(&to.as_str()));
    assert_same(&connections(&world), &wanted);
}

//! Classes: those of databases, and that of an environment.

use crate::support::told;
use crate::world::{World, condition};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use paddock_crds::v1alpha1::{DatabaseClass, Tenant};
use paddock_operator::kube::ChildKind;
use serde_json::{Value, json};

/// A class with one server, called like it.
fn database_class(name: &str) -> Value {
    json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClass", "metadata": {"name": name},
        "spec": {"engine": "PostgreSQL", "environmentClass": "NonProduction", "servers": [{
            "name": name, "adminSecret": "admin", "endpoints": {"readWrite": format!("{name}.db.svc:5432")},
            "tls": {"mode": "VerifyFull", "caSecret": "ca"}, "network": {"namespace": "db", "podLabels": {"app": name}, "ports": [5432]},
        }]}
    })
}

/// What keeps an environment from its databases is told; pods keep the way to the servers that claims have, whatever becomes of the names.
pub(crate) async fn databases_stay_in_reach(world: &World) {
    let names = async |class: &str| {
        let dev = json!({
            "name": "dev", "class": "NonProduction", "release": "r1",
            "databaseClasses": [{"engine": "PostgreSQL", "className": class}],
        });
        world.tenant("mover", json!([dev])).await;
    };
    let classes: Api<DatabaseClass> = Api::all(world.client.clone());
    let claims = world.api(ChildKind::DatabaseClaim, "mover-dev");
    let policies = world.api(ChildKind::NetworkPolicy, "mover-dev");
    let bind = async |name: &str, class: &str| {
        let claim = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": name, "namespace": "mover-dev"},
            "spec": {"engine": "PostgreSQL", "className": class},
        });
        world.apply(claim).await;
        let placed = json!({"status": {"server": class}});
        claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&placed)).await.unwrap();
    };
    let reach = async || -> Vec<String> {
        let policy = policies.get_opt("allow-postgresql").await.unwrap();
        let rules = policy.and_then(|policy| policy.data["spec"]["egress"].as_array().cloned()).unwrap_or_default();
        let server = |rule: &Value| rule["to"][0]["podSelector"]["matchLabels"]["app"].as_str().unwrap().to_owned();
        rules.iter().map(server).collect()
    };
    let reaches = async |servers: &[&str]| {
        world.eventually(&format!("reaches {servers:?}"), async || reach().await == servers).await;
    };
    let message = |status: &Value| -> String {
        let all = status["conditions"].as_array().unwrap();
        let of_databases = all.iter().find(|condition| condition["type"] == "DatabasesReady").unwrap();
        of_databases["message"].as_str().unwrap().to_owned()
    };
    let misses = async |what: &str| {
        let wanted =
            |s: &Value| condition(s, "DatabasesReady") == ("False", "ReferenceNotFound") && message(s).contains(what);
        world.until("mover", &format!("told of {what}"), wanted).await
    };
    let well = async || world.until("mover", "well", |s| condition(s, "DatabasesReady") == ("True", "Bound")).await;
    let ready_since = async || -> Value {
        let status = world.until("acme", "ready", |s| condition(s, "Ready").0 == "True").await;
        let all = status["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|condition| condition["type"] == "Ready").unwrap()["lastTransitionTime"].clone()
    };

    // A class that does not exist is told once; it comes.
    let of_acme = ready_since().await;
    names("pg-a").await;
    misses("DatabaseClass pg-a does not exist").await;
    world.eventually("an event", async || told(&world.server, "Tenant", "mover", "ReferenceNotFound").await > 0).await;
    world.another_look_is_silent("mover").await;
    world.apply(database_class("pg-a")).await;
    well().await;
    assert_eq!(told(&world.server, "Tenant", "mover", "ReferenceNotFound").await, 1);
    assert_eq!(ready_since().await, of_acme);
    assert_eq!(reach().await, ["pg-a"]);

    // Another class is named, and it goes: what a claim has stays open, and what was open.
    bind("own-db", "pg-a").await;
    world.apply(database_class("pg-b")).await;
    names("pg-b").await;
    reaches(&["pg-a", "pg-b"]).await;
    well().await;
    let uid = policies.get("allow-postgresql").await.unwrap().metadata.uid;
    classes.delete("pg-b", &DeleteParams::default()).await.unwrap();
    misses("DatabaseClass pg-b does not exist").await;
    names("pg-typo").await;
    misses("DatabaseClass pg-typo does not exist").await;
    assert_eq!(reach().await, ["pg-a", "pg-b"]);

    // Then the class that the claim is of.
    classes.delete("pg-a", &DeleteParams::default()).await.unwrap();
    misses("Claims there: own-db").await;
    assert_eq!(reach().await, ["pg-a", "pg-b"]);
    assert_eq!(policies.get("allow-postgresql").await.unwrap().metadata.uid, uid);
    world.another_look_is_silent("mover").await;

    // All is known again.
    world.apply(database_class("pg-a")).await;
    world.apply(database_class("pg-b")).await;
    names("pg-b").await;
    well().await;
    reaches(&["pg-a", "pg-b"]).await;
    // The network follows claims alone too: one that got a server of the class that was named before, and the end of the last.
    claims.delete("own-db", &DeleteParams::default()).await.unwrap();
    reaches(&["pg-b"]).await;
    bind("late-db", "pg-a").await;
    reaches(&["pg-a", "pg-b"]).await;
    claims.delete("late-db", &DeleteParams::default()).await.unwrap();
    reaches(&["pg-b"]).await;

    let tenants: Api<Tenant> = Api::all(world.client.clone());
    tenants.delete("mover", &DeleteParams::default()).await.unwrap();
    world.eventually("the Tenant goes", async || tenants.get_opt("mover").await.unwrap().is_none()).await;
}

/// The namespace of an environment that left the spec keeps its class: nothing of another class is done in it.
pub(crate) async fn a_namespace_keeps_its_class(world: &World) {
    let is = async |class: Option<&str>| {
        let of = |name: &str, class: &str| json!({"name": name, "class": class, "release": "r1"});
        let dev = of("dev", "NonProduction");
        let all = class.map(|class| of("prod", class)).into_iter().chain([dev]).collect();
        world.tenant("shift", Value::Array(all)).await;
    };
    let services = async || world.names(ChildKind::BettingService, "shift-prod").await.len();
    let roles = async || world.names(ChildKind::RoleBinding, "shift-prod").await;
    let class = async || {
        let namespace = world.api(ChildKind::Namespace, "").get("shift-prod").await.unwrap();
        namespace.labels()["paddock.bet/class"].clone()
    };
    let well = async || world.until("shift", "well", |s| condition(s, "NamespacesReady") == ("True", "Applied")).await;
    let refused = async || {
        let wanted = |s: &Value| condition(s, "NamespacesReady") == ("False", "ClassChanged");
        let status = world.until("shift", "refused", wanted).await;
        assert_eq!((condition(&status, "Ready").0, condition(&status, "Stalled").0), ("False", "True"));
        status.to_string()
    };
    let leave = async || {
        is(None).await;
        world.eventually("its services go", async || services().await == 0).await;
    };
    is(Some("Production")).await;
    well().await;
    world.eventually("services", async || services().await == 2).await;
    let production = roles().await;

    leave().await;
    is(Some("NonProduction")).await;
    let told = refused().await;
    assert!(told.contains("Namespace shift-prod was made for class Production"), "{told}");
    world.another_look_is_silent("shift").await;
    assert_eq!((class().await.as_str(), services().await, roles().await), ("Production", 0, production.clone()));
    assert_eq!(world.names(ChildKind::BettingService, "shift-dev").await.len(), 2, "the other environment goes on");

    // The class is set back.
    leave().await;
    is(Some("Production")).await;
    well().await;
    world.eventually("services", async || services().await == 2).await;

    // Or the namespace goes.
    leave().await;
    is(Some("NonProduction")).await;
    refused().await;
    world.end_namespace("shift-prod").await;
    well().await;
    assert_eq!(class().await, "NonProduction");
    world.eventually("exec for owners", async || roles().await.contains(&"paddock-debugger".to_owned())).await;
    assert_ne!(roles().await, production);

    let tenants: Api<Tenant> = Api::all(world.client.clone());
    tenants.delete("shift", &DeleteParams::default()).await.unwrap();
    world.eventually("the Tenant goes", async || tenants.get_opt("shift").await.unwrap().is_none()).await;
}

//! What services that people make by hand may not have, and what no service can take from its environment.

use crate::claims::bound;
use crate::world::{NAMESPACE, World, condition, reason};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use paddock_crds::v1alpha1::DatabaseClaim;
use paddock_operator::kube::ChildKind;
use serde_json::{Value, json};

/// Labels of what the Tenant makes for the environment's Release.
fn of_release() -> Value {
    json!({
        "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "prod"
    })
}

/// Components of a Release get tokens for those that they call.
pub(crate) async fn calls(world: &World) {
    world.labelled("settlement", of_release(), json!({"calls": ["calculations", "account"]})).await;
    let status = world.settled("settlement").await;
    let name = format!("settlement-{}", status["revision"].as_str().unwrap());
    let deployment = world.api(ChildKind::Deployment).get(&name).await.unwrap();
    let volumes = deployment.data["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let tokens = volumes.iter().find(|volume| volume["name"] == "tokens").unwrap();
    let audiences: Vec<_> = tokens["projected"]["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| source["serviceAccountToken"]["audience"].as_str().unwrap())
        .collect();
    assert_eq!(audiences, ["account", "calculations"]);
}

/// What somebody makes by hand in an environment gets no token, no route, no control port, no market book, no login of what the
/// Release's components have, and no Secret of the environment by the name of a binding.
pub(crate) async fn made_by_hand(world: &World) {
    let control = json!([{"name": "http", "port": 8080}, {"name": "control", "port": 9091}]);
    for (name, more, field) in [
        ("caller", json!({"calls": ["account"]}), "spec.calls"),
        ("door", json!({"route": {"path": "/"}}), "spec.route"),
        ("drainer", json!({"ports": control}), "spec.ports"),
        ("bookie", json!({"marketBook": true}), "spec.marketBook"),
    ] {
        world.service(name, more).await;
        let status = world.until(name, "refused", |status| condition(status, "Stalled") == "True").await;
        assert_eq!(reason(&status, "Ready"), "InvalidSpec");
        assert!(status.to_string().contains(&format!("{field}: only components of a Release")), "{status}");
    }

    let claims: Api<DatabaseClaim> = Api::namespaced(world.client.clone(), NAMESPACE);
    let needs = |claim: &str| json!({"needs": [{"name": "db", "engine": "PostgreSQL", "claim": claim}]});
    world.labelled("ledger", of_release(), needs("ledger-db")).await;
    world.until("ledger", "waiting", |status| reason(status, "Reconciling") == "WaitingForClaims").await;
    world.service("spy", needs("ledger-db")).await;
    let status = world.until("spy", "refused", |status| condition(status, "Stalled") == "True").await;
    assert!(status.to_string().contains("claim ledger-db belongs to components of a Release"), "{status}");
    let roles = claims.get("ledger-db").await.unwrap().spec.roles;
    assert_eq!(roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(), ["ledger"]);

    // A binding that would be called like the Secret of the control ports.
    world.service("control", needs("paddock")).await;
    world.until("control", "waiting", |status| reason(status, "Reconciling") == "WaitingForClaims").await;
    bound(&claims, "paddock").await;
    let status = world
        .until("control", "told", |status| status.to_string().contains("binding Secret paddock-control is not there"))
        .await;
    assert_eq!(reason(&status, "ClaimsBound"), "WaitingForClaims");

    let deployments = world.api(ChildKind::Deployment).list(&ListParams::default()).await.unwrap();
    for name in ["caller", "door", "drainer", "bookie", "ledger", "spy", "control"] {
        let started = deployments.items.iter().any(|it| it.name_any().starts_with(&format!("{name}-")));
        assert!(!started, "{name} runs");
        world.server.kubectl(&["delete", "bsvc", name, "-n", NAMESPACE]).await.unwrap();
    }
}

/// Services whose names are those of instances of the environment's own objects leave these alone.
pub(crate) async fn names_of_the_environment(world: &World) {
    let mut labels = of_release();
    labels["app.kubernetes.io/name"] = json!("environment.paddock.bet");
    labels["app.kubernetes.io/instance"] = json!(NAMESPACE);
    let issuer = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"issuer": "i"},
        "metadata": {"name": "token-issuer", "namespace": NAMESPACE, "labels": labels}
    });
    world.server.apply(&issuer.to_string()).await.unwrap();
    let uids = async || {
        let all = world.api(ChildKind::ConfigMap);
        [all.get("token-issuer").await.unwrap().uid(), all.get("market-book").await.unwrap().uid()]
    };
    let before = uids().await;
    for name in [NAMESPACE, "market-book"] {
        world.service(name, json!({})).await;
        world.settled(name).await;
    }
    assert_eq!(uids().await, before);
}

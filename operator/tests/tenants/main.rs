//! Tenants and Releases on a real API server with the real Gateway API kinds: what an environment gets, who is refused, what stays.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test: its failure is the message"
)]

mod classes;
mod hosts;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod world;

use classes::{a_namespace_keeps_its_class, databases_stay_in_reach};
use hosts::what_is_served_outlives_faults;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use paddock_crds::v1alpha1::{BettingService, Release, Tenant};
use paddock_operator::controllers::Kind as _;
use paddock_operator::kube::ChildKind;
use serde_json::{Value, json};
use support::{another_look_is_silent, authority};
use tokens::token_issuer_is_published_and_followed;
use world::{KINDS, World, condition};

#[tokio::test(flavor = "multi_thread")]
async fn tenants_get_environments_and_give_them_back() {
    let world = World::start().await;
    let prod = |more: Value| {
        let mut environment = json!({
            "name": "prod", "class": "Production", "release": "r1",
            "domains": [{"host": "bet.acme.example"}, {"host": "acme.example", "tls": {"secretName": "own"}}],
            "network": {"allow": [{"cidr": "0.0.0.0/0", "port": 443}]},
        });
        environment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        environment
    };

    // A Release that does not exist yet is named, and the rest stands already; then it comes.
    world.tenant("acme", json!([prod(json!({}))])).await;
    let status =
        world.until("acme", "stalled", |s| condition(s, "ReleaseApplied") == ("False", "ReferenceNotFound")).await;
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!(condition(&status, "DomainsReady"), ("False", "TlsSecretMissing"), "no authority yet");
    world.apply(authority()).await;
    world.release("r1", "1.0").await;
    world.eventually("services", async || world.names(ChildKind::BettingService, "acme-prod").await.len() == 2).await;
    assert_eq!(
        world.names(ChildKind::NetworkPolicy, "acme-prod").await,
        [
            "allow-dns",
            "allow-gateway",
            "allow-metrics",
            "allow-network",
            "allow-operator",
            "allow-same-environment",
            "default-deny"
        ]
    );
    assert_eq!(
        world.names(ChildKind::RoleBinding, "acme-prod").await,
        ["paddock-operator-environment", "paddock-owner"]
    );

    // The authority is seen when it comes; then the Gateway and the services answer.
    world
        .eventually("listeners", async || {
            world.names(ChildKind::ListenerSet, "acme-prod").await == ["public", "public-http"]
        })
        .await;
    world
        .eventually("a certificate", async || {
            let sets = world.api(ChildKind::ListenerSet, "acme-prod").list(&ListParams::default()).await.unwrap();
            sets.iter().all(|set| set.data["spec"]["listeners"].as_array().unwrap().len() == 2)
        })
        .await;
    assert_eq!(world.names(ChildKind::HTTPRoute, "acme-prod").await, ["redirect.https"]);
    world.gateway_serves("acme-prod").await;
    world.services_run("acme-prod").await;
    let status = world.until("acme", "ready", |s| condition(s, "Ready") == ("True", "Ready")).await;
    assert_eq!((&status["summary"], &status["environments"][0]["release"]), (&json!("prod 2/2"), &json!("r1")));
    assert_eq!((condition(&status, "Reconciling"), condition(&status, "Stalled")), (("", ""), ("", "")));

    // At rest another look writes nothing, and nothing that we applied is kept in another form.
    world.another_look_is_silent("acme").await;
    let release = || world.ctx.cache.get::<Release>(None, "r1").unwrap();
    another_look_is_silent(|| world.writes(), async || Release::reconcile(release(), world.ctx.clone()).await).await;
    for kind in KINDS {
        assert_eq!(world.ctx.metrics.applies.with_label_values(&[kind.as_str(), "unsettled"]).get(), 0, "{kind}");
    }

    token_issuer_is_published_and_followed(&world).await;
    what_is_served_outlives_faults(&world).await;
    databases_stay_in_reach(&world).await;
    a_namespace_keeps_its_class(&world).await;

    // What a service that is no more had of a claim is taken back; the claim and the parts of others stay.
    let claims = world.api(ChildKind::DatabaseClaim, "acme-prod");
    for party in ["rates", "gone"] {
        let part = json!({
            "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim",
            "metadata": {"name": "shared", "namespace": "acme-prod", "labels": {
                "app.kubernetes.io/managed-by": "paddock", "paddock.bet/claim": "shared"
            }},
            "spec": {"engine": "PostgreSQL", "className": "pg", "roles": [{"name": party, "access": "ReadWrite"}]}
        });
        let params = PatchParams::apply(&format!("paddock/needs-{party}"));
        claims.patch("shared", &params, &Patch::Apply(&part)).await.unwrap();
    }
    let roles = async || -> Vec<String> {
        let claim = claims.get("shared").await.unwrap();
        let all = claim.data["spec"]["roles"].as_array().cloned().unwrap_or_default();
        all.iter().map(|role| role["name"].as_str().unwrap().to_owned()).collect()
    };
    world
        .eventually("withdrawn", async || {
            // The controller may write the same status at this moment.
            let _ = Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "acme").unwrap(), world.ctx.clone()).await;
            roles().await == ["rates"]
        })
        .await;
    let version = async || claims.get("shared").await.unwrap().metadata.resource_version;
    let withdrawn = version().await;
    let _ = Tenant::reconcile(world.ctx.cache.get::<Tenant>(None, "acme").unwrap(), world.ctx.clone()).await;
    assert_eq!(version().await, withdrawn, "once");

    // Drift is repaired: an egress rule and a Secret's key that somebody added, a policy that somebody deleted.
    let token =
        world.api(ChildKind::Secret, "acme-prod").get("paddock-control").await.unwrap().data["data"]["token"].clone();
    let someone = PatchParams { field_manager: Some("someone".into()), ..PatchParams::default() };
    let key = json!({"data": {"extra": "eA=="}});
    world.api(ChildKind::Secret, "acme-prod").patch("paddock-control", &someone, &Patch::Merge(&key)).await.unwrap();
    let hole = json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}});
    world
        .api(ChildKind::NetworkPolicy, "acme-prod")
        .patch("default-deny", &someone, &Patch::Merge(&hole))
        .await
        .unwrap();
    world.api(ChildKind::NetworkPolicy, "acme-prod").delete("allow-dns", &DeleteParams::default()).await.unwrap();
    world
        .eventually("repaired", async || {
            let secret = world.api(ChildKind::Secret, "acme-prod").get("paddock-control").await.unwrap();
            let deny = world.api(ChildKind::NetworkPolicy, "acme-prod").get("default-deny").await.unwrap();
            let dns = world.api(ChildKind::NetworkPolicy, "acme-prod").get_opt("allow-dns").await.unwrap();
            secret.data["data"] == json!({"token": token}) && deny.data["spec"].get("egress").is_none() && dns.is_some()
        })
        .await;

    // Another Tenant cannot have the host until it is given up; a namespace that is not ours is never touched.
    world.server.kubectl(&["create", "namespace", "zenith-dev"]).await.unwrap();
    world
        .tenant(
            "zenith",
            json!([
                {"name": "dev", "class": "NonProduction", "release": "r1"},
                {"name": "prod", "class": "Production", "release": "r1", "domains": [{"host": "bet.acme.example"}]},
            ]),
        )
        .await;
    let status = world.until("zenith", "refused", |s| condition(s, "DomainsReady") == ("False", "DomainTaken")).await;
    assert_eq!(condition(&status, "NamespacesReady"), ("False", "NamespaceNotOurs"));
    assert!(status["conditions"].to_string().contains("tenant acme, environment prod"));
    assert_eq!(world.names(ChildKind::NetworkPolicy, "zenith-dev").await, Vec::<String>::new());
    assert_eq!(world.names(ChildKind::BettingService, "zenith-prod").await.len(), 2, "the other environment goes on");
    // Whoever had the namespace gives it up: the environment is made.
    world.end_namespace("zenith-dev").await;
    world.until("zenith", "given its namespace", |s| condition(s, "NamespacesReady").0 == "True").await;
    assert!(world.names(ChildKind::NetworkPolicy, "zenith-dev").await.contains(&"default-deny".to_owned()));
    world
        .tenant("acme", json!([prod(json!({"domains": [{"host": "acme.example", "tls": {"secretName": "own"}}]}))]))
        .await;
    let certificates = async || -> Vec<String> {
        let all = world.names(ChildKind::Secret, "acme-prod").await;
        all.into_iter().filter(|name| name.starts_with("tls-")).collect()
    };
    world.eventually("no certificate for a host that was given up", async || certificates().await.is_empty()).await;
    assert!(world.names(ChildKind::Secret, "acme-prod").await.contains(&"paddock-control".to_owned()));
    world.until("zenith", "given the host", |s| condition(s, "DomainsReady").1 != "DomainTaken").await;

    // A Release in use waits; one that an environment left goes.
    let releases: Api<Release> = Api::all(world.client.clone());
    releases.delete("r1", &DeleteParams::default()).await.unwrap();
    world
        .eventually("says who uses it", async || {
            let release = releases.get("r1").await.unwrap();
            let conditions = release.status.map(|s| s.conditions).unwrap_or_default();
            conditions.iter().any(|c| c.reason == "InUse" && c.message.contains("zenith/prod"))
        })
        .await;
    // Until then it runs, and changes of its environments come through.
    world
        .tenant(
            "zenith",
            json!([{
                "name": "prod", "class": "Production", "release": "r1", "domains": [{"host": "bet.acme.example"}],
                "services": [{"name": "rates", "replicas": {"min": 3, "max": 3}}]
            }]),
        )
        .await;
    let services: Api<BettingService> = Api::namespaced(world.client.clone(), "zenith-prod");
    world.eventually("another size", async || services.get("rates").await.unwrap().spec.spec.replicas.min == 3).await;
    world.release("r2", "2.0").await;
    world
        .tenant("acme", json!([prod(json!({"release": "r2", "services": [{"name": "rates", "enabled": false}]}))]))
        .await;
    world
        .eventually("one service of r2", async || {
            let services: Api<BettingService> = Api::namespaced(world.client.clone(), "acme-prod");
            let all = services.list(&ListParams::default()).await.unwrap();
            all.items.len() == 1 && all.items[0].spec.version == "2.0"
        })
        .await;

    // The end of a Tenant takes workloads, routes and hosts; namespace, isolation and token stay.
    let tenants: Api<Tenant> = Api::all(world.client.clone());
    for tenant in ["zenith", "acme"] {
        tenants.delete(tenant, &DeleteParams::default()).await.unwrap();
        world.eventually("the Tenant goes", async || tenants.get_opt(tenant).await.unwrap().is_none()).await;
    }
    world.eventually("r1 goes", async || releases.get_opt("r1").await.unwrap().is_none()).await;
    for kind in [ChildKind::BettingService, ChildKind::ListenerSet, ChildKind::HTTPRoute] {
        world.eventually("workloads go", async || world.names(kind, "acme-prod").await.is_empty()).await;
    }
    let hosts: Vec<_> = world
        .names(ChildKind::ConfigMap, "paddock-system")
        .await
        .into_iter()
        .filter(|n| n.starts_with("domain."))
        .collect();
    assert_eq!(hosts, Vec::<String>::new());
    assert!(world.api(ChildKind::Namespace, "").get_opt("acme-prod").await.unwrap().is_some());
    assert!(world.names(ChildKind::NetworkPolicy, "acme-prod").await.contains(&"default-deny".to_owned()));
    assert_eq!(
        world.api(ChildKind::Secret, "acme-prod").get("paddock-control").await.unwrap().data["data"]["token"],
        token
    );
    world.stop.cancel();
}

//! Markets, and the books that their rules are compiled to.

use crate::support::control_port::{LIAR, QUICK, SILENT};
use crate::world::{NAMESPACE, PATIENCE, World, condition, reason};
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use paddock_crds::v1alpha1::Market;
use paddock_operator::kube::ChildKind;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) async fn markets(world: &World) {
    let book = || async {
        let object = world.api(ChildKind::ConfigMap).get_opt("market-book").await.unwrap()?;
        serde_json::from_str::<Value>(object.data["data"]["book.json"].as_str()?).ok()
    };
    let empty = book().await.expect("an environment without Markets has an empty book");
    let first = world.born(NAMESPACE).await + 1;
    assert_eq!((empty["rules"].as_array().map(Vec::len), &empty["generation"]), (Some(0), &json!(first)));
    let market = |name: &str, more: Value| {
        let mut spec = json!({
            "sport": "soccer", "marketType": "match-result",
            "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
            "limits": [{"currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"}],
        });
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Market", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}).to_string()
    };
    world.server.apply(&market("results", json!({}))).await.unwrap();
    let status = world.market("results", |status| condition(status, "Ready") == "True").await;
    assert_eq!(status["book"], json!({"generation": first + 1, "acknowledged": first + 1}));
    world
        .server
        .apply(&market(
            "strange",
            json!({"margin": {"method": "Shin", "overround": {"preMatch": "0.02", "live": "0.02"}}}),
        ))
        .await
        .unwrap();
    let status = world.market("strange", |status| condition(status, "Accepted") == "False").await;
    assert_eq!(reason(&status, "Accepted"), "Overlap");
    assert_eq!(book().await.unwrap()["generation"], json!(first + 1), "a refused rule changes no book");
    world.server.apply(&market("results", json!({"state": "Suspended"}))).await.unwrap();
    world
        .market("results", |status| condition(status, "Suspended") == "True" && condition(status, "Ready") == "True")
        .await;
    world.server.kubectl(&["delete", "market", "results", "strange", "-n", NAMESPACE]).await.unwrap();
    let gone = async {
        while book().await.unwrap()["rules"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the book follows a deletion");
    // A lost ConfigMap comes back with a generation that pods take.
    world.server.apply(&market("results", json!({}))).await.unwrap();
    let before = world.market("results", |status| condition(status, "Ready") == "True").await["book"]["generation"]
        .as_i64()
        .unwrap();
    world.server.kubectl(&["delete", "configmap", "market-book", "-n", NAMESPACE]).await.unwrap();
    let back = async {
        loop {
            if let Some(found) = book().await {
                return found["generation"].as_i64().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let after = tokio::time::timeout(PATIENCE, back).await.expect("the book comes back");
    assert!(after >= before, "{after} {before}");
}

/// A pod that is not ready is told at once, one that never answers holds up nobody, and a Market says what is in force everywhere.
pub(crate) async fn books_are_pushed(world: &World) {
    let api: Api<Market> = Api::namespaced(world.client.clone(), NAMESPACE);
    let poll = async |what: &str, done: &dyn Fn() -> bool| {
        let poll = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never {what}: {}", world.control.book()));
    };
    let generation = world.market("results", |status| condition(status, "Ready") == "True").await["book"]["generation"]
        .as_u64()
        .unwrap();
    let before = api.get("results").await.unwrap().metadata.resource_version;

    world.follower("quick", QUICK, "containerd://1").await;
    world.follower("silent", SILENT, "containerd://2").await;
    poll("a new pod has the book", &|| world.control.book()["generation"] == generation).await;
    let first = world.control.asked();
    poll("the silent pod is asked again", &|| world.control.asked() > first + 1).await;
    let after = api.get("results").await.unwrap().metadata.resource_version;
    assert_eq!(after, before, "pods come and go, the book does not change");

    for state in ["Suspended", "Open", "Suspended"] {
        let patch = json!({"spec": {"state": state}});
        api.patch("results", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        poll(state, &|| world.control.book()["rules"][0]["state"] == state).await;
    }
    let status = world
        .market("results", |status| {
            // A pod that answers late on a busy machine is waited for like one that does not.
            let waits_for = |pod: &str| {
                let conditions = status["conditions"].as_array().into_iter().flatten();
                conditions.filter(|it| it["type"] == "Ready").any(|it| it["message"].to_string().contains(pod))
            };
            status["book"]["generation"] == json!(generation + 3)
                && reason(status, "Ready") == "WaitingForPods"
                && waits_for("silent: ")
                && !waits_for("quick: ")
        })
        .await;
    assert_eq!(status["book"]["acknowledged"], json!(generation));

    let everywhere = |status: &Value| {
        condition(status, "Ready") == "True" && status["book"]["acknowledged"] == status["book"]["generation"]
    };
    world.server.kubectl(&["delete", "pod", "silent", "-n", NAMESPACE, "--grace-period=0", "--force"]).await.unwrap();
    let status = world.market("results", everywhere).await;
    assert_eq!(status["book"]["acknowledged"], json!(generation + 3));

    // A process that got another book with our number is told again, above it.
    world.control.hold(json!({"generation": generation + 3, "rules": ["others"]}));
    world.follower("quick", QUICK, "containerd://3").await;
    poll("our rules are in force", &|| world.control.book()["rules"][0]["state"] == "Suspended").await;
    let above = |status: &Value| everywhere(status) && status["book"]["generation"].as_u64() > Some(generation + 3);
    let status = world.market("results", above).await;

    // One that claims books which nobody published leads the environment nowhere: it is waited for, and told again less and less often.
    let generation = status["book"]["generation"].as_u64().unwrap();
    for (claim, process) in [(0, "containerd://4"), (u64::MAX, "containerd://5")] {
        world.control.claim(claim);
        let before = world.control.claimed();
        world.follower("liar", LIAR, process).await;
        poll("the pod claims", &|| world.control.claimed() > before + 4).await;
        let status = world.market("results", |status| status.to_string().contains("liar: it claims market book")).await;
        assert_eq!(status["book"]["generation"].as_u64(), Some(generation + 2), "{claim}: {status}");
    }
    for pod in ["quick", "liar"] {
        world.server.kubectl(&["delete", "pod", pod, "-n", NAMESPACE, "--grace-period=0", "--force"]).await.unwrap();
    }
    world.market("results", everywhere).await;
}

/// A namespace that is made again has a higher book than it had, although all that knew its number has gone: databases of its services
/// refuse lower ones. Pods are told although no Tenant's pass has begun the watch of its Secrets.
pub(crate) async fn a_namespace_made_again_goes_on_above(world: &World) {
    let name = "acme-dev";
    let labels = json!({
        "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "dev"
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": {"token": "t"},
        "metadata": {"name": "paddock-control", "namespace": name, "labels": labels}
    });
    let resource = ChildKind::ConfigMap.api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), name, &resource);
    let mut numbers = Vec::new();
    for process in ["containerd://1", "containerd://2"] {
        world.server.apply(&namespace.to_string()).await.unwrap();
        let poll = async {
            loop {
                if let Some(object) = api.get_opt("market-book").await.unwrap() {
                    return object.annotations()["paddock.bet/book-generation"].parse::<u64>().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let number = tokio::time::timeout(PATIENCE, poll).await.expect("an empty book");
        world.control.hold(Value::Null);
        world.server.apply(&secret.to_string()).await.unwrap();
        world.follower_in(name, "quick", QUICK, process).await;
        let told = async {
            while world.control.book()["generation"] != json!(number) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("its pod is told");
        numbers.push(number);
        world.server.kubectl(&["delete", "namespace", name, "--wait=true", "--timeout=60s"]).await.unwrap();
    }
    assert!(numbers[1] > numbers[0], "{numbers:?}");
}

/// A book that cannot be published is a condition and one event on the Market, and stands in `/debug/state`.
pub(crate) async fn a_fault_is_told_once(world: &World) {
    let name = "acme-qa";
    let namespace = |labels: Value| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}).to_string()
    };
    world.server.apply(&namespace(json!({}))).await.unwrap();
    let foreign =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "market-book", "namespace": name}});
    world.server.apply(&foreign.to_string()).await.unwrap();
    let market = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "Market", "metadata": {"name": "results", "namespace": name},
        "spec": {
            "sport": "soccer", "marketType": "match-result",
            "margin": {"method": "Power", "overround": {"preMatch": "0.05", "live": "0.07"}},
            "limits": [{
                "currency": "EUR", "minStake": "0.10", "maxStake": "500.00", "maxPayout": "10000.00", "liability": "50000.00"
            }]
        }
    });
    world.server.apply(&market.to_string()).await.unwrap();
    let api: Api<Market> = Api::namespaced(world.client.clone(), name);
    let becomes = async |wanted: &str| {
        let poll = async {
            while reason(&json!(api.get("results").await.unwrap().status), "Ready") != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("never {wanted}"));
    };
    becomes("NotAnEnvironment").await;
    let labels = json!({
        "app.kubernetes.io/managed-by": "paddock", "paddock.bet/tenant": "acme", "paddock.bet/environment": "qa"
    });
    world.server.apply(&namespace(labels)).await.unwrap();
    becomes("NotOurs").await;
    let faults = || {
        let states = world.ctx.states.snapshot();
        states.get("market").map_or(0, |state| state.last_faults.iter().filter(|fault| fault.object == name).count())
    };
    let again = async {
        while faults() < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it is tried again");
    let events = world.server.kubectl(&["get", "events.events.k8s.io", "-n", name, "-o", "json"]).await.unwrap();
    let events: Value = serde_json::from_str(&events).unwrap();
    let told: Vec<&Value> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["regarding"]["kind"] == "Market" && event["series"].is_null())
        .map(|event| &event["reason"])
        .collect();
    assert_eq!(told.len(), 2, "{events:#}");
    assert!(told.contains(&&json!("NotAnEnvironment")) && told.contains(&&json!("NotOurs")), "{told:?}");
    world.server.kubectl(&["delete", "namespace", name, "--wait=false"]).await.unwrap();
}

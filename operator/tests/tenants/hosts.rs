//! Hosts: what is served stays served.

use crate::support::faults::Faults;
use crate::support::{authority, eventually, faulty, reconciles};
use crate::world::{World, condition};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use paddock_crds::v1alpha1::Tenant;
use paddock_operator::controllers::{Category, Fault, Kind as _};
use paddock_operator::kube::ChildKind;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A host keeps its listener and its routes without the authority that signed for it, and while nobody can say whether its certificate
/// is there.
pub(crate) async fn what_is_served_outlives_faults(world: &World) {
    let wants = async |hosts: &[&str]| {
        let domains: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
        let dev = json!({"name": "dev", "class": "NonProduction", "release": "r1", "domains": domains});
        world.tenant("solo", json!([dev])).await;
    };
    let front = async || -> Vec<Value> {
        let mut all = Vec::new();
        for kind in [ChildKind::ListenerSet, ChildKind::HTTPRoute] {
            let found = world.api(kind, "solo-dev").list(&ListParams::default()).await.unwrap();
            all.extend(found.iter().map(|it| json!([it.name_any(), it.metadata.uid, it.data["spec"]])));
        }
        all
    };
    wants(&["solo.example"]).await;
    world.eventually("a front", async || front().await.len() == 3).await;
    world.eventually("services", async || world.names(ChildKind::BettingService, "solo-dev").await.len() == 2).await;
    world.gateway_serves("solo-dev").await;
    world.services_run("solo-dev").await;
    world.until("solo", "ready", |s| condition(s, "Ready") == ("True", "Ready")).await;
    let before = front().await;

    // The authority goes: what has a certificate is served with it; a new host, which has none, is not.
    world.api(ChildKind::Secret, "paddock-system").delete("domain-ca", &DeleteParams::default()).await.unwrap();
    let lost = world.until("solo", "told", |s| condition(s, "DomainsReady") == ("False", "TlsSecretMissing")).await;
    assert_eq!((condition(&lost, "Ready"), condition(&lost, "Stalled").0), (("True", "Ready"), "True"));
    assert_eq!(front().await, before);
    wants(&["solo.example", "new.example"]).await;
    let asked = world.until("solo", "told", |s| s.to_string().contains("set tls.secretName of new.example")).await;
    assert_eq!(condition(&asked, "Ready"), ("False", "TlsSecretMissing"));
    assert_eq!(front().await, before);

    // It comes back, as nonsense at first.
    let mut nonsense = authority();
    nonsense["stringData"]["tls.crt"] = "nonsense".into();
    world.apply(nonsense).await;
    world.until("solo", "told", |s| condition(s, "DomainsReady") == ("False", "Rejected")).await;
    assert_eq!(front().await, before);
    world.apply(authority()).await;
    world
        .eventually("listeners for the new host", async || {
            let all = front().await;
            all.iter().filter_map(|it| it[2]["listeners"].as_array()).all(|listeners| listeners.len() == 2)
        })
        .await;
    world.gateway_serves("solo-dev").await;
    let well = world.until("solo", "well", |s| condition(s, "DomainsReady").0 == "True").await;
    assert_eq!(condition(&well, "Ready"), ("True", "Ready"));

    // Nothing that services said is still on its way to the status: what follows is written by another process.
    let mut seen = (reconciles(&world.ctx.metrics, "tenant"), Instant::now());
    eventually("the controllers rest", async || {
        let now = reconciles(&world.ctx.metrics, "tenant");
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        seen.1.elapsed() > Duration::from_secs(4)
    })
    .await;

    // A process that just took over cannot read whether the certificates are there.
    let (faults, stop) = (Faults::default(), CancellationToken::new());
    let next = faulty(&world.server, &faults, world.ctx.settings.as_ref().clone(), &stop).await;
    let kinds = [ChildKind::ListenerSet, ChildKind::HTTPRoute];
    world.eventually("listed", async || kinds.iter().all(|kind| next.cache.available(*kind))).await;
    faults.refuse_reads(Some(("/api/v1/namespaces/solo-dev/secrets", 503)));
    let before = front().await;
    let solo = next.cache.get::<Tenant>(None, "solo").unwrap();
    let fault = Tenant::reconcile(solo.clone(), next.clone()).await.unwrap_err();
    assert_eq!(fault.category, Category::ServerError);
    let told = async |what: &str| world.until("solo", what, |s| condition(s, "Ready") == ("True", "Ready")).await;
    assert_eq!(condition(&told("served").await, "DomainsReady"), ("False", "ServerError"));
    assert_eq!(front().await, before);

    // That fault stands in the conditions already; one that came before anything was looked at is told, and takes nothing away either.
    let writes = faults.writes();
    Tenant::report(&solo, &next, &fault).await.unwrap();
    assert_eq!(faults.since(writes), Vec::<String>::new());
    Tenant::report(&solo, &next, &Fault::new(Category::Timeout, "too late")).await.unwrap();
    assert_eq!(condition(&told("served").await, "Reconciling"), ("True", "Timeout"));
    faults.refuse_reads(None);
    Tenant::reconcile(next.cache.get::<Tenant>(None, "solo").unwrap(), next.clone()).await.unwrap();
    let well = told("well").await;
    assert_eq!((condition(&well, "DomainsReady").0, condition(&well, "Reconciling").0), ("True", ""));
    assert_eq!(front().await, before);
    stop.cancel();

    let tenants: Api<Tenant> = Api::all(world.client.clone());
    tenants.delete("solo", &DeleteParams::default()).await.unwrap();
    world.eventually("the Tenant goes", async || tenants.get_opt("solo").await.unwrap().is_none()).await;
}

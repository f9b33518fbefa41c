//! The operator at scale: real API server, fake nodes, a component that needs no database.

use crate::operator_process::{OperatorProcess, Requests};
use crate::report::Report;
use crate::versions;
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use paddock_cluster::apiserver::Apiserver;
use paddock_crds::v1alpha1::Tenant;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const COMPONENTS: [&str; 5] = ["rates", "calculations", "settlement", "account", "gateway"];

/// Group, version, kind and plural of what the API server serves.
type Kind = (&'static str, &'static str, &'static str, &'static str);

/// Kinds that the operator makes for such a tenant, in the order in which the floor applies them.
const KINDS: [Kind; 14] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "ResourceQuota", "resourcequotas"),
    ("", "v1", "LimitRange", "limitranges"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("paddock.bet", "v1alpha1", "BettingService", "bettingservices"),
    ("", "v1", "Service", "services"),
    ("apps", "v1", "ControllerRevision", "controllerrevisions"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("apps", "v1", "Deployment", "deployments"),
];

/// Pods carry our label too, so the operator watches them; it does not make them.
const POD: Kind = ("", "v1", "Pod", "pods");

/// Tenants that are applied at the same time, by whichever side.
const IN_FLIGHT: usize = 16;

/// What was measured of the operator.
struct Measured {
    first: Duration,
    more: Duration,
    /// For the tenants after the first.
    requests: Requests,
    /// In a minute with all of them.
    rest: Requests,
    /// KiB, before the first tenant.
    empty: u64,
    /// KiB, with all of them.
    full: u64,
    /// What it made for the first tenant.
    objects: Vec<(Kind, Value)>,
    watched: Watched,
}

/// What the API server sends a client that watches one tenant.
struct Watched {
    objects: usize,
    bytes: usize,
}

/// Measures and reports.
pub async fn run(report: &mut Report, count: usize) -> Result<()> {
    let server = prepared().await?;
    report.version(format!("Kubernetes {}", server.client().await?.apiserver_version().await?.git_version));
    report.version(versions::kwok().await?);
    let measured = by_operator(&server, count).await?;
    // The floor has a server of its own, so that both begin on an empty one, and the first is gone by then, so that both have all
    // of the machine.
    drop(server);
    let server = prepared().await?;
    let (first_floor, more_floor) = by_bare_client(&server.client().await?, &measured.objects, count).await?;

    report.row(
        "apply → Ready, first tenant (1 environment, 5 services), fake nodes, empty server",
        format!("{} ms", measured.first.as_millis()),
        format!(
            "{} ms: same objects by a bare client with server-side apply, one after the other, until available, on another empty server \
             after the operator's run; both ask every 250 ms; ratio {}",
            first_floor.as_millis(),
            ratio(measured.first, first_floor)
        ),
    );
    report.row(
        &format!("apply → Ready, {count} more, {IN_FLIGHT} applied at a time, then waited for"),
        format!("{} ms", measured.more.as_millis()),
        format!(
            "{} ms: same objects by that client on its server, {IN_FLIGHT} tenants at a time, then waited for; ratio {}",
            more_floor.as_millis(),
            ratio(measured.more, more_floor)
        ),
    );
    let per = |total: u64| total / u64::try_from(count.max(1)).unwrap_or(1);
    let (objects, requests) = (measured.objects.len(), measured.requests);
    report.row(
        "objects per tenant, and API requests until Ready",
        format!(
            "{objects} objects: {} writes, {} reads, {} watches",
            per(requests.writes),
            per(requests.reads),
            per(requests.watches)
        ),
        format!("{objects} writes by the bare client: one apply per object"),
    );
    report.row(
        &format!("requests per minute at rest with {} tenants", count + 1),
        format!(
            "{} writes, {} reads, {} watches renewed, {} renewals of the Lease",
            measured.rest.writes, measured.rest.reads, measured.rest.watches, measured.rest.lease
        ),
        "goal: 0 writes but the Lease, 0 reads; the API server ends a watch after 290 s",
    );
    let tenants = u64::try_from(count + 1)?;
    report.row(
        "operator's resident memory: empty, and more per tenant",
        format!("{} MiB, {} KiB", measured.empty / 1024, measured.full.saturating_sub(measured.empty) / tenants),
        format!(
            "{} KiB: JSON of the {} objects of a tenant that it watches",
            measured.watched.bytes / 1024,
            measured.watched.objects
        ),
    );
    Ok(())
}

/// An API server with fake nodes on which an operator could start.
async fn prepared() -> Result<Apiserver> {
    let server = Apiserver::builder().fake_nodes(10).start().await?;
    for crd in paddock_crds::all() {
        server.apply(&serde_json::to_string(&crd)?).await?;
    }
    for namespace in ["paddock-system", "paddock-gateway"] {
        server.kubectl(&["create", "namespace", namespace]).await?;
    }
    server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await?;
    apply_roles(&server).await?;
    Ok(server)
}

/// One tenant, then `count` more, by the operator; it is gone when this returns.
async fn by_operator(server: &Apiserver, count: usize) -> Result<Measured> {
    let client = server.client().await?;
    let operator = OperatorProcess::start(&server.kubeconfig()).await?;
    let empty = operator.memory()?;

    let components: Vec<Value> = COMPONENTS
        .iter()
        .map(|name| json!({"name": name, "image": "paddock.local/none:1", "ports": [{"name": "http", "port": 8080}], "replicas": {"min": 1, "max": 3}}))
        .collect();
    let release = json!({"apiVersion": "paddock.bet/v1alpha1", "kind": "Release", "metadata": {"name": "bench"}, "spec": {"version": "1", "components": components}});
    server.apply(&release.to_string()).await?;

    let tenants: Api<Tenant> = Api::all(client.clone());
    let start = Instant::now();
    create(&tenants, "first").await?;
    ready(&tenants, "first").await?;
    let first = start.elapsed();

    let before = operator.requests().await?;
    let names: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
    let start = Instant::now();
    stream::iter(&names)
        .map(|name| create(&tenants, name))
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    for name in &names {
        ready(&tenants, name).await?;
    }
    let more = start.elapsed();
    let requests = operator.requests().await?.since(before);
    let full = operator.memory()?;

    // Rest: nothing changes for a minute.
    let rest = at_rest(&operator).await?;

    let (objects, watched) = made(&client, &tenants, "first", "first-dev").await?;
    Ok(Measured { first, more, requests, rest, empty, full, objects, watched })
}

/// The floor: the same objects, applied by a bare client, until the same Deployments are available. One tenant, then `count` more.
async fn by_bare_client(
    client: &kube::Client,
    objects: &[(Kind, Value)],
    count: usize,
) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    apply(client, objects, "first-dev").await?;
    available(client, "first-dev").await?;
    let first = start.elapsed();

    let namespaces: Vec<String> = (0..count).map(|n| format!("t{n}-dev")).collect();
    let start = Instant::now();
    // All are applied before any is waited for, as with the tenants: a wait must not keep the next one from being applied.
    stream::iter(&namespaces)
        .map(|namespace| apply(client, objects, namespace))
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    for namespace in &namespaces {
        available(client, namespace).await?;
    }
    Ok((first, start.elapsed()))
}

fn ratio(measured: Duration, yardstick: Duration) -> String {
    let hundredths = measured.as_millis().saturating_mul(100) / yardstick.as_millis().max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// The ClusterRoles that the operator binds come with its chart.
async fn apply_roles(server: &Apiserver) -> Result<()> {
    for role in ["paddock-operator-environment", "paddock-viewer", "paddock-editor", "paddock-owner"] {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": []});
        server.apply(&role.to_string()).await?;
    }
    Ok(())
}

async fn create(tenants: &Api<Tenant>, name: &str) -> Result<()> {
    let tenant = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
        "spec": {"displayName": name, "licences": [{"name": "x", "jurisdiction": "MT"}], "currencies": ["EUR"],
            "environments": [{"name": "dev", "class": "NonProduction", "release": "bench"}]},
    });
    tenants.patch(name, &PatchParams::apply("bench"), &Patch::Apply(&tenant)).await?;
    Ok(())
}

async fn ready(tenants: &Api<Tenant>, name: &str) -> Result<()> {
    paddock_demo::wait::until(&format!("tenant {name}"), Duration::from_mins(10), || async {
        let tenant = tenants.get(name).await.map_err(|error| error.to_string())?;
        let ready =
            tenant.status.into_iter().flat_map(|status| status.conditions).find(|condition| condition.type_ == "Ready");
        match ready {
            Some(ready) if ready.status == "True" => Ok(()),
            Some(ready) => Err(format!("{}: {}", ready.reason, ready.message)),
            None => Err("no condition yet".into()),
        }
    })
    .await
}

async fn at_rest(operator: &OperatorProcess) -> Result<Requests> {
    // Rest begins when ten seconds pass without a write.
    paddock_demo::wait::until("rest", Duration::from_mins(3), || async {
        let before = operator.requests().await.map_err(|error| error.to_string())?;
        tokio::time::sleep(Duration::from_secs(10)).await; // the window that is measured
        let writes = operator.requests().await.map_err(|error| error.to_string())?.since(before).writes;
        if writes == 0 { Ok(()) } else { Err(format!("{writes} writes in 10 s")) }
    })
    .await?;
    let before = operator.requests().await?;
    tokio::time::sleep(Duration::from_mins(1)).await; // the window that is measured
    Ok(operator.requests().await?.since(before))
}

fn api(client: &kube::Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(kind.0, kind.1, kind.2), kind.3);
    if kind.2 == "Namespace" {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

/// What the operator made for a tenant, as it would be applied, and what it watches of it.
async fn made(
    client: &kube::Client,
    tenants: &Api<Tenant>,
    tenant: &str,
    namespace: &str,
) -> Result<(Vec<(Kind, Value)>, Watched)> {
    let tenant = serde_json::to_vec(&tenants.get(tenant).await?)?;
    let (mut objects, mut watched) = (Vec::new(), Watched { objects: 1, bytes: tenant.len() });
    for kind in KINDS.into_iter().chain([POD]) {
        let found = if kind.2 == "Namespace" {
            vec![api(client, kind, namespace).get(namespace).await?]
        } else {
            api(client, kind, namespace)
                .list(&ListParams::default().labels("app.kubernetes.io/managed-by=paddock"))
                .await?
                .items
        };
        for object in found {
            watched.objects += 1;
            watched.bytes += serde_json::to_vec(&object)?.len();
            if kind != POD {
                objects.push((kind, as_applied(kind, &object)?));
            }
        }
    }
    Ok((objects, watched))
}

/// An object as it would be applied: without what the server adds.
fn as_applied(kind: Kind, object: &DynamicObject) -> Result<Value> {
    let mut value = serde_json::to_value(object)?;
    let name = object.metadata.name.clone().context("an object has a name")?;
    let top = value.as_object_mut().context("an object is a map")?;
    top.remove("status");
    top.insert(
        "apiVersion".into(),
        if kind.0.is_empty() { kind.1.into() } else { format!("{}/{}", kind.0, kind.1).into() },
    );
    top.insert("kind".into(), kind.2.into());
    let mut labels = object.metadata.labels.clone().unwrap_or_default();
    // The server gives it to each namespace.
    labels.remove("kubernetes.io/metadata.name");
    // Without owners: those have other uids on the floor's server, and what has only unknown owners is collected as garbage.
    top.insert("metadata".into(), json!({"name": name, "labels": labels}));
    if kind.2 == "Service"
        && let Some(spec) = top.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    Ok(value)
}

/// Applies the objects of one tenant in a namespace, one after the other.
async fn apply(client: &kube::Client, objects: &[(Kind, Value)], namespace: &str) -> Result<()> {
    let params = PatchParams::apply("bench").force();
    for (kind, object) in objects {
        let mut object = object.clone();
        let name = if kind.2 == "Namespace" {
            namespace.to_owned()
        } else {
            object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        if let Some(slot) = object.pointer_mut("/metadata/name") {
            *slot = name.clone().into();
        }
        api(client, *kind, namespace)
            .patch(&name, &params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("{} {namespace}/{name}", kind.2))?;
    }
    Ok(())
}

/// Waits until the Deployments of a namespace are available. One request for all of them, as one tells of a whole Tenant.
async fn available(client: &kube::Client, namespace: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    paddock_demo::wait::until(&format!("Deployments of {namespace}"), Duration::from_mins(10), || async {
        let found = deployments.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let serves = |deployment: &&Deployment| {
            deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0) > 0
        };
        match found.iter().filter(serves).count() {
            count if count == COMPONENTS.len() => Ok(()),
            count => Err(format!("{count} of {} are available", COMPONENTS.len())),
        }
    })
    .await
}

//! The operator at scale: real API server, fake nodes, a component that needs no database.

use crate::operator_process::OperatorProcess;
use crate::report::Report;
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
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

/// Measures and reports.
pub async fn run(report: &mut Report, count: usize) -> Result<()> {
    let server = Apiserver::builder().fake_nodes(10).start().await?;
    let client = server.client().await?;
    report.version(format!("Kubernetes {}", client.apiserver_version().await?.git_version));
    for crd in paddock_crds::all() {
        server.apply(&serde_json::to_string(&crd)?).await?;
    }
    for namespace in ["paddock-system", "paddock-gateway"] {
        server.kubectl(&["create", "namespace", namespace]).await?;
    }
    server.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).await?;
    apply_roles(&server).await?;
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
    let start = Instant::now();
    let names: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
    stream::iter(&names).map(|name| create(&tenants, name)).buffer_unordered(16).try_collect::<Vec<()>>().await?;
    for name in &names {
        ready(&tenants, name).await?;
    }
    let all = start.elapsed();
    let after = operator.requests().await?;
    let memory = operator.memory()?;

    // Rest: nothing changes for a minute.
    let rest = at_rest(&operator).await?;

    // The floor: the same objects, applied by a bare client, until the same Deployments are available.
    drop(operator);
    let objects = owned(&client, "first-dev").await?;
    let start = Instant::now();
    floor(&client, &objects, "floor".into()).await?;
    let first_floor = start.elapsed();
    let start = Instant::now();
    stream::iter(0..count)
        .map(|n| floor(&client, &objects, format!("f{n}")))
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    let floor = start.elapsed();

    report.row(
        "apply → Ready, first tenant (1 environment, 5 services)",
        format!("{} ms", first.as_millis()),
        format!(
            "{} ms: same objects by a bare client, one after the other; ratio {}",
            first_floor.as_millis(),
            ratio(first, first_floor)
        ),
    );
    report.row(
        &format!("apply → Ready, {count} more, fake nodes"),
        format!("{} ms", all.as_millis()),
        format!(
            "{} ms: same objects by a bare client with server-side apply, until available; ratio {}",
            floor.as_millis(),
            ratio(all, floor)
        ),
    );
    let per = |total: u64| total / u64::try_from(count.max(1)).unwrap_or(1);
    report.row("objects per tenant", objects.len(), "-");
    report.row(
        "API requests per tenant: writes, reads",
        format!("{}, {}", per(after.1.saturating_sub(before.1)), per(after.0.saturating_sub(before.0))),
        format!("{} writes: one per object", objects.len()),
    );
    report.row(
        &format!("at rest with {} tenants, per minute: writes, reads", count + 1),
        format!("{}, {}", rest.1, rest.0),
        "goal: 0 writes but the Lease; a read is a watch that is renewed",
    );
    report.row(
        "operator memory: empty, per tenant",
        format!("{} MiB, {} KiB", empty / 1024, memory.saturating_sub(empty) / u64::try_from(count + 1)?),
        "-",
    );
    Ok(())
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

async fn at_rest(operator: &OperatorProcess) -> Result<(u64, u64)> {
    // Rest begins when ten seconds pass without a write.
    paddock_demo::wait::until("rest", Duration::from_mins(3), || async {
        let before = operator.requests().await.map_err(|error| error.to_string())?.1;
        tokio::time::sleep(Duration::from_secs(10)).await; // the window that is measured
        let after = operator.requests().await.map_err(|error| error.to_string())?.1;
        if after == before { Ok(()) } else { Err(format!("{} writes in 10 s", after - before)) }
    })
    .await?;
    let before = operator.requests().await?;
    tokio::time::sleep(Duration::from_mins(1)).await; // the window that is measured
    let after = operator.requests().await?;
    Ok((after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)))
}

fn api(client: &kube::Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(kind.0, kind.1, kind.2), kind.3);
    if kind.2 == "Namespace" {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

/// What the operator made for a namespace, as it would be applied: without what the server adds.
async fn owned(client: &kube::Client, namespace: &str) -> Result<Vec<(Kind, Value)>> {
    let mut objects = Vec::new();
    for kind in KINDS {
        let found = if kind.2 == "Namespace" {
            vec![api(client, kind, namespace).get(namespace).await?]
        } else {
            api(client, kind, namespace)
                .list(&ListParams::default().labels("app.kubernetes.io/managed-by=paddock"))
                .await?
                .items
        };
        for object in found {
            let mut value = serde_json::to_value(&object)?;
            let name = object.metadata.name.clone().context("an object has a name")?;
            let top = value.as_object_mut().context("an object is a map")?;
            top.remove("status");
            top.insert(
                "apiVersion".into(),
                if kind.0.is_empty() { kind.1.into() } else { format!("{}/{}", kind.0, kind.1).into() },
            );
            top.insert("kind".into(), kind.2.into());
            // Under another manager's label the operator, were it there, would leave them alone.
            top.insert("metadata".into(), json!({"name": name, "labels": {"app.kubernetes.io/managed-by": "bench"}}));
            if kind.2 == "Service"
                && let Some(spec) = top.get_mut("spec").and_then(Value::as_object_mut)
            {
                spec.remove("clusterIP");
                spec.remove("clusterIPs");
            }
            objects.push((kind, value));
        }
    }
    Ok(objects)
}

async fn floor(client: &kube::Client, objects: &[(Kind, Value)], namespace: String) -> Result<()> {
    let params = PatchParams::apply("bench").force();
    let mut deployments = Vec::new();
    for (kind, object) in objects {
        let mut object = object.clone();
        let name = if kind.2 == "Namespace" {
            namespace.clone()
        } else {
            object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        if let Some(slot) = object.pointer_mut("/metadata/name") {
            *slot = name.clone().into();
        }
        api(client, *kind, &namespace)
            .patch(&name, &params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("{} {name}", kind.2))?;
        if kind.2 == "Deployment" {
            deployments.push((api(client, *kind, &namespace), name));
        }
    }
    for (api, name) in deployments {
        paddock_demo::wait::until(&format!("{namespace}/{name}"), Duration::from_mins(10), || async {
            let live = api.get(&name).await.map_err(|error| error.to_string())?;
            match live.data.pointer("/status/availableReplicas").and_then(Value::as_u64) {
                Some(1..) => Ok(()),
                _ => Err("not available".into()),
            }
        })
        .await?;
    }
    Ok(())
}

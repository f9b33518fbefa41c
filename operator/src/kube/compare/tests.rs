//! Samples of managedFields are as kube-apiserver 1.36 writes them.

use super::*;

fn entries(list: Value) -> Vec<ManagedFieldsEntry> {
    serde_json::from_value(list).unwrap()
}

fn applied(fields: &Value) -> Value {
    json!({"manager": "paddock/services", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
}

fn updated(manager: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
}

fn verdict(desired: &Value, live: &Value, managed: Value) -> Verdict {
    compare("services", desired, live, Some(&entries(managed)))
}

fn removed(verdict: &Verdict) -> Vec<String> {
    verdict.drift.iter().map(|path| pointer(path)).collect()
}

/// A Deployment as we build it: quantities in another form than the server's, a port without protocol, no replicas.
fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "rates-1", "namespace": "acme-prod", "labels": {"app.kubernetes.io/managed-by": "paddock"}},
        "spec": {
            "selector": {"matchLabels": {"paddock.bet/revision": "1"}},
            "template": {
                "metadata": {"labels": {"paddock.bet/revision": "1"}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "main", "image": "paddock@sha256:1", "command": ["/paddock-rates"],
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    }],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    })
}

fn deployment_fields() -> Value {
    json!({
        "f:metadata": {"f:labels": {"f:app.kubernetes.io/managed-by": {}}},
        "f:spec": {
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {"f:paddock.bet/revision": {}}},
                "f:spec": {
                    "f:automountServiceAccountToken": {},
                    "f:containers": {
                        "k:{\"name\":\"main\"}": {
                            ".": {}, "f:name": {}, "f:image": {}, "f:command": {},
                            "f:env": {
                                "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}},
                                "k:{\"name\":\"B\"}": {".": {}, "f:name": {}, "f:value": {}},
                            },
                            "f:ports": {"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}}},
                            "f:resources": {"f:requests": {"f:cpu": {}, "f:memory": {}}},
                            "f:volumeMounts": {"k:{\"mountPath\":\"/tmp\"}": {".": {}, "f:mountPath": {}, "f:name": {}}},
                        },
                    },
                    "f:volumes": {"k:{\"name\":\"tmp\"}": {".": {}, "f:emptyDir": {}, "f:name": {}}},
                },
            },
        },
    })
}

/// The same Deployment as the server keeps it, defaults filled in.
fn live_deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "rates-1", "namespace": "acme-prod", "uid": "u", "resourceVersion": "7", "generation": 1,
            "labels": {"app.kubernetes.io/managed-by": "paddock"},
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        },
        "spec": {
            "replicas": 3, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"paddock.bet/revision": "1"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"paddock.bet/revision": "1"}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "main", "image": "paddock@sha256:1", "command": ["/paddock-rates"], "imagePullPolicy": "IfNotPresent",
                        "env": [{"name": "A", "value": "1"}, {"name": "B"}],
                        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                        "terminationMessagePath": "/dev/termination-log",
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    }],
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
        "status": {"readyReplicas": 3},
    })
}

fn controllers_entries() -> [Value; 2] {
    let mut status = updated(
        "kube-controller-manager",
        &json!({
            "f:metadata": {"f:annotations": {".": {}, "f:deployment.kubernetes.io/revision": {}}},
            "f:status": {"f:readyReplicas": {}},
        }),
    );
    status["subresource"] = json!("status");
    let mut scale = updated("kube-controller-manager", &json!({"f:spec": {"f:replicas": {}}}));
    scale["subresource"] = json!("scale");
    [status, scale]
}

#[test]
fn what_the_server_and_its_controllers_filled_in_is_at_rest() {
    let [status, scale] = controllers_entries();
    let verdict = verdict(&deployment(), &live_deployment(), json!([applied(&deployment_fields()), status, scale]));
    assert!(verdict.at_rest(), "{verdict:?}");
}

#[test]
fn an_object_that_was_never_applied_is_applied() {
    let verdict = verdict(&deployment(), &live_deployment(), json!([]));
    assert!(verdict.differs.is_some());
}

#[test]
fn every_change_of_a_wanted_value_is_seen() {
    for (place, value) in [
        ("/spec/template/spec/containers/0/image", json!("paddock@sha256:2")),
        ("/spec/template/spec/containers/0/command", json!(["/paddock-rates", "serve"])),
        ("/spec/template/spec/containers/0/env/0/value", json!("2")),
        ("/spec/template/spec/containers/0/resources/requests/cpu", json!("2")),
        ("/spec/template/spec/containers/0/ports/0/name", json!("web")),
        ("/spec/template/metadata/labels/paddock.bet~1revision", json!("2")),
        ("/spec/template/spec/automountServiceAccountToken", json!(true)),
    ] {
        let mut desired = deployment();
        *desired.pointer_mut(place).unwrap() = value;
        let verdict = verdict(&desired, &live_deployment(), json!([applied(&deployment_fields())]));
        assert!(verdict.differs.is_some(), "{place}");
        assert_eq!(removed(&verdict), Vec::<String>::new());
    }
}

#[test]
fn a_field_that_we_no_longer_want_is_dropped_by_applying() {
    for place in [
        "/spec/template/spec/containers/0/env/1",
        "/spec/template/spec/volumes/0",
        "/spec/template/spec/containers/0/command",
    ] {
        let mut desired = deployment();
        let (parent, last) = place.rsplit_once('/').unwrap();
        match desired.pointer_mut(parent).unwrap() {
            Value::Array(items) => drop(items.remove(last.parse().unwrap())),
            Value::Object(map) => drop(map.remove(last)),
            _ => unreachable!(),
        }
        let verdict = verdict(&desired, &live_deployment(), json!([applied(&deployment_fields())]));
        assert!(verdict.differs.is_some(), "{place}");
    }
}

#[test]
fn new_fields_and_items_are_applied() {
    let mut desired = deployment();
    desired["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "C", "value": "3"}));
    assert!(verdict(&desired, &live_deployment(), json!([applied(&deployment_fields())])).differs.is_some());
    let mut desired = deployment();
    desired["spec"]["minReadySeconds"] = json!(0);
    let verdict = verdict(&desired, &live_deployment(), json!([applied(&deployment_fields())]));
    assert_eq!(verdict.differs.as_deref(), Some("/spec/minReadySeconds"));
}

#[test]
fn what_someone_else_took_from_us_is_taken_back() {
    // kubectl edit changed the image: the field moved from our entry to theirs.
    let mut ours = deployment_fields();
    ours["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"main\"}"]
        .as_object_mut()
        .unwrap()
        .remove("f:image");
    let theirs = updated(
        "kubectl-edit",
        &json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:image": {}}}}}}}),
    );
    let mut live = live_deployment();
    live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
    let verdict = verdict(&deployment(), &live, json!([applied(&ours), theirs]));
    assert!(verdict.differs.is_some());
    assert_eq!(removed(&verdict), Vec::<String>::new(), "a wanted field is set, not removed");
}

#[test]
fn fields_that_only_others_own_are_drift() {
    let theirs = updated(
        "kubectl-edit",
        &json!({
            "f:metadata": {"f:labels": {"f:team": {}}, "f:annotations": {"f:note": {}}, "f:ownerReferences": {"k:{\"uid\":\"x\"}": {}}},
            "f:spec": {
                "f:replicas": {}, "f:paused": {}, "f:strategy": {"f:rollingUpdate": {"f:maxSurge": {}}},
                "f:template": {
                    "f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}},
                    "f:spec": {
                        "f:containers": {
                            "k:{\"name\":\"main\"}": {"f:env": {"k:{\"name\":\"A0\"}": {".": {}, "f:name": {}}, "k:{\"name\":\"Z\"}": {".": {}, "f:name": {}}}},
                            "k:{\"name\":\"sidecar\"}": {".": {}, "f:image": {}, "f:name": {}},
                        },
                    },
                },
            },
            "f:status": {"f:replicas": {}},
        }),
    );
    let mut live = live_deployment();
    live["metadata"]["labels"]["team"] = json!("x");
    live["metadata"]["annotations"]["note"] = json!("x");
    live["metadata"]["ownerReferences"] = json!([{"uid": "x", "kind": "ConfigMap", "name": "x", "apiVersion": "v1"}]);
    live["spec"]["paused"] = json!(true);
    live["spec"]["template"]["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "now"});
    live["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A0", "value": "x"}, {"name": "A", "value": "1"}, {"name": "B"}, {"name": "Z", "value": "x"}]);
    live["spec"]["template"]["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "sidecar", "image": "x"}));
    let verdict = verdict(&deployment(), &live, json!([applied(&deployment_fields()), theirs]));
    assert_eq!(verdict.differs, None);
    assert_eq!(
        removed(&verdict),
        [
            "/spec/template/spec/containers/1",
            "/spec/template/spec/containers/0/env/3",
            "/spec/template/spec/containers/0/env/0",
            "/spec/template/metadata/annotations",
            "/spec/strategy",
            "/spec/paused",
            "/metadata/ownerReferences",
        ],
        "last and deepest first; labels, annotations, replicas and status stay"
    );
    assert_eq!(
        removal(&verdict.drift, "7")[0],
        json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}),
        "only over the state that was compared"
    );
}

#[test]
fn what_a_platform_gives_every_service_account_stays() {
    let desired = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rates", "namespace": "acme-prod"},
        "automountServiceAccountToken": false,
    });
    let fields = json!({"f:automountServiceAccountToken": {}});
    let given = json!({
        "f:imagePullSecrets": {".": {}, "k:{\"name\":\"registry\"}": {}},
        "f:secrets": {".": {}, "k:{\"name\":\"token\"}": {}},
    });
    let mut live = desired.clone();
    live["imagePullSecrets"] = json!([{"name": "registry"}]);
    live["secrets"] = json!([{"name": "token"}]);
    let managed = json!([applied(&fields), updated("openshift-controller-manager", &given)]);
    assert!(verdict(&desired, &live, managed.clone()).at_rest());
    let mut other = desired.clone();
    other["kind"] = "ConfigMap".into();
    assert_eq!(removed(&verdict(&other, &live, managed)), ["/secrets", "/imagePullSecrets"]);
}

#[test]
fn two_concerns_of_ours_share_an_object() {
    // Each service applies its own role of a claim: the other's is neither drift nor ours to drop.
    let desired = json!({
        "apiVersion": "paddock.bet/v1alpha1", "kind": "DatabaseClaim", "metadata": {"name": "bus", "namespace": "n"},
        "spec": {"engine": "Kafka", "roles": [{"name": "rates"}]},
    });
    let live = json!({
        "metadata": {"name": "bus", "namespace": "n"},
        "spec": {"engine": "Kafka", "roles": [{"name": "account"}, {"name": "rates"}, {"name": "thief"}], "extra": 1},
    });
    let role = |name: &str| json!({format!("k:{{\"name\":\"{name}\"}}"): {".": {}, "f:name": {}}});
    let managed = json!([
        applied(&json!({"f:spec": {"f:engine": {}, "f:roles": role("rates")}})),
        {"manager": "paddock/claim-account", "operation": "Apply", "fieldsV1": {"f:spec": {"f:engine": {}, "f:roles": role("account"), "f:extra": {}}}},
        updated("kubectl-edit", &json!({"f:spec": {"f:extra": {}, "f:roles": role("thief")}})),
    ]);
    let verdict = verdict(&desired, &live, managed);
    assert_eq!((verdict.differs.as_deref(), removed(&verdict)), (None, vec!["/spec/roles/2".to_owned()]));
}

#[test]
fn atomic_lists_are_compared_as_one_value() {
    // rules of a NetworkPolicy: the server fills in the protocol, order and number count.
    let desired = json!({"spec": {"egress": [{"ports": [{"port": 53}]}, {"ports": [{"port": 443}]}]}});
    let owned = json!([applied(&json!({"f:spec": {"f:egress": {}}}))]);
    let rest = json!({"spec": {"egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}, {"ports": [{"port": 443, "protocol": "TCP"}]}]}});
    assert!(verdict(&desired, &rest, owned.clone()).at_rest());
    for live in [
        json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}}),
        json!({"spec": {"egress": [{"ports": [{"port": 443}]}, {"ports": [{"port": 53}]}]}}),
        json!({"spec": {"egress": [{"ports": [{"port": 53}]}, {"ports": [{"port": 443}]}, {}]}}),
        json!({"spec": {}}),
    ] {
        assert!(verdict(&desired, &live, owned.clone()).differs.is_some(), "{live}");
    }
}

#[test]
fn sets_of_values_and_empty_values() {
    let desired =
        json!({"spec": {"currencies": ["EUR", "SEK"], "podSelector": {}, "ingress": [], "hostNetwork": false}});
    let owned = json!({"f:spec": {"f:currencies": {"v:\"EUR\"": {}, "v:\"SEK\"": {}}, "f:podSelector": {}, "f:ingress": {}, "f:hostNetwork": {}}});
    let live = json!({"spec": {"currencies": ["SEK", "NOK", "EUR"], "podSelector": {}}});
    let foreign = updated("x", &json!({"f:spec": {"f:currencies": {"v:\"NOK\"": {}}}}));
    let found = verdict(&desired, &live, json!([applied(&owned), foreign]));
    assert_eq!((found.differs.as_deref(), removed(&found)), (None, vec!["/spec/currencies/1".to_owned()]));
    let gone = json!({"spec": {"currencies": ["SEK"], "podSelector": {}}});
    assert!(verdict(&desired, &gone, json!([applied(&owned)])).differs.is_some());
}

#[test]
fn quantities_are_amounts_only_where_the_server_rewrites_them() {
    let owned = json!([applied(&json!({"f:data": {"f:A": {}}}))]);
    assert!(verdict(&json!({"data": {"A": "1000m"}}), &json!({"data": {"A": "1"}}), owned).differs.is_some());
    let owned = json!([applied(&json!({"f:spec": {"f:hard": {"f:pods": {}, "f:requests.cpu": {}}}}))]);
    let desired = json!({"spec": {"hard": {"pods": 300, "requests.cpu": "40000m"}}});
    assert!(verdict(&desired, &json!({"spec": {"hard": {"pods": "300", "requests.cpu": "40"}}}), owned).at_rest());
}

#[test]
fn built_objects_are_normalised() {
    let normal = normalise(json!({
        "metadata": {"name": "a", "creationTimestamp": null, "resourceVersion": "1", "uid": "u", "managedFields": [], "labels": {"x": null}},
        "stringData": {"token": "abc"}, "data": {"k": "djE="}, "status": {}, "spec": {"a": null, "b": [{"c": null}]},
    }));
    assert_eq!(
        normal,
        json!({"metadata": {"name": "a", "labels": {}}, "data": {"k": "djE=", "token": "YWJj"}, "spec": {"b": [{}]}})
    );
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (1..100_i64).prop_map(Value::from),
            "[a-z]{1,4}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..3).prop_map(Value::Array),
                prop::collection::btree_map("[a-c]", inner, 1..4).prop_map(|map| json!(map)),
            ]
        })
    }

    /// The fields of a value as their manager would own them, lists as one value.
    fn owned(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                map.iter().map(|(name, child)| (format!("f:{name}"), owned(child))).collect::<Map<_, _>>().into()
            }
            _ => json!({}),
        }
    }

    proptest! {
        #[test]
        fn what_was_just_applied_is_at_rest_and_any_other_value_is_not(a in value(), b in value()) {
            let (desired, other) = (json!({"spec": a}), json!({"spec": b}));
            let own = json!([applied(&owned(&desired))]);
            prop_assert!(verdict(&desired, &desired, own.clone()).at_rest());
            // Everything in `desired` is there or the object is not at rest.
            if verdict(&desired, &other, own).at_rest() {
                prop_assert!(differs(&desired, &other, None, &mut Vec::new()).is_none());
            }
        }

        #[test]
        fn nothing_that_is_wanted_is_ever_removed(a in value(), b in value()) {
            let desired = json!({"spec": a});
            let foreign = json!([applied(&owned(&desired)), updated("x", &owned(&json!({"spec": b})))]);
            let found = verdict(&desired, &json!({"spec": b}), foreign);
            for path in found.drift {
                prop_assert!(desired.pointer(&pointer(&path)).is_none(), "{path:?}");
            }
        }
    }
}

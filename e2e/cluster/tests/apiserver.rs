//! The apiserver for tests of controllers, with the real programs.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use paddock_cluster::apiserver::Apiserver;

/// The processes whose command line names this folder.
fn processes_of(folder: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let commands = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    commands
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder))
        .collect()
}

fn folder_of(kubeconfig: &Path) -> String {
    kubeconfig.parent().unwrap().to_string_lossy().into_owned()
}

#[tokio::test]
async fn it_serves_and_leaves_nothing() {
    let apiserver = Apiserver::start().await.unwrap();
    let folder = folder_of(&apiserver.kubeconfig());
    let version = apiserver.client().await.unwrap().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, "v1.36.3");
    apiserver.apply("{apiVersion: v1, kind: Namespace, metadata: {name: a}}").await.unwrap();
    assert!(!processes_of(&folder).is_empty());

    drop(apiserver);
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert!(!PathBuf::from(folder).exists());
}

#[tokio::test]
async fn pods_of_a_deployment_become_ready_on_fake_nodes() {
    let apiserver = Apiserver::builder().fake_nodes(2).start().await.unwrap();
    apiserver
        .apply(
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: default}, spec: {replicas: 3, \
             selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, \
             image: none}]}}}}",
        )
        .await
        .unwrap();
    apiserver.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).await.unwrap();
    apiserver.apply("{apiVersion: v1, kind: Namespace, metadata: {name: gone}}").await.unwrap();
    apiserver.kubectl(&["delete", "namespace", "gone", "--timeout=60s"]).await.unwrap();
}

#[test]
fn a_panic_ends_the_processes_and_a_thread_that_ended_does_not() {
    let started = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(Apiserver::start()).unwrap()
    });
    // The thread that started it is gone now; the apiserver must not be.
    let apiserver = started.join().unwrap();
    let folder = folder_of(&apiserver.kubeconfig());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), apiserver.kubectl(&["get", "--raw", "/readyz"])).await
    });
    assert_eq!(answer.unwrap().unwrap().trim(), "ok");

    let panicked = std::thread::spawn(move || {
        let _held = apiserver;
        panic!("a test fails");
    });
    panicked.join().unwrap_err();
    assert_eq!(processes_of(&folder), Vec::<String>::new());
}

//! Events on objects. One shared recorder, so that repetitions become a series; a publish that fails never fails a reconcile.

use crate::{fault::truncate, metrics::Metrics};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Longest note that the API takes, in bytes.
const NOTE_LIMIT: usize = 1024;
/// How long a publish may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Publishes under way at once; more are dropped and counted.
const AT_ONCE: usize = 32;

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
}

impl Events {
    /// `instance` is the name of the operator's pod.
    pub fn new(client: Client, instance: &str, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: "paddock-operator".into(), instance: Some(instance.into()) };
        Self { recorder: Recorder::new(client, reporter), metrics, slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Something worth knowing happened. `reason` and `action` are stable CamelCase words.
    pub async fn normal<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.publish(&object.object_ref(&()), EventType::Normal, reason, action, note.into()).await;
    }

    /// Something is wrong. `reason` and `action` are stable CamelCase words; the note says what to do.
    pub async fn warning<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.publish(&object.object_ref(&()), EventType::Warning, reason, action, note.into()).await;
    }

    /// A warning about an object of which only a reference is known; returns at once.
    pub(crate) fn warning_in_background(
        &self,
        reference: ObjectReference,
        reason: &'static str,
        action: &'static str,
        note: String,
    ) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            self.metrics.events_lost.with_label_values(&["overflow"]).inc();
            return;
        };
        let events = self.clone();
        tokio::spawn(async move {
            events.publish(&reference, EventType::Warning, reason, action, note).await;
            drop(slot);
        });
    }

    async fn publish(
        &self,
        reference: &ObjectReference,
        type_: EventType,
        reason: &str,
        action: &str,
        mut note: String,
    ) {
        truncate(&mut note, NOTE_LIMIT);
        let event = Event { type_, reason: reason.into(), note: Some(note), action: action.into(), secondary: None };
        let lost = match tokio::time::timeout(DEADLINE, self.recorder.publish(&event, reference)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::warn!(reason, error = &error as &dyn std::error::Error, "an event was not published");
                "error"
            }
            Err(_) => "timeout",
        };
        self.metrics.events_lost.with_label_values(&[lost]).inc();
    }
}

//! Puts a book in force: PUT to the control port of every pod that follows it, all at once.

use futures::StreamExt as _;
use kube::api::DynamicObject;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// How long a pod may take to answer: it must not hold up the next change for the others. A pod that needs longer goes on with it,
/// and says so when it is asked again.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Pods that are asked at once.
const AT_ONCE: usize = 256;
/// Longest answer that is read.
const LONGEST_ANSWER: usize = 4096;

/// A pod that follows the book.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Follower {
    /// Name of the pod.
    pub name: String,
    /// Which process it is: a container that was restarted has to be told again.
    pub process: String,
    /// Its address.
    pub ip: String,
    /// Its port `control`, the one that NetworkPolicies open to the operator; `None` if it declares none.
    pub port: Option<u16>,
}

impl Follower {
    /// A pod that runs, ready or not; `None` before it has an address and after it ended.
    pub fn of(pod: &DynamicObject) -> Option<Self> {
        let text = |pointer: &str| pod.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/status/phase") != "Running" || text("/status/podIP").is_empty() {
            return None;
        }
        // A container that does not run takes no bets; when it runs again it is another process.
        let state = pod.data.pointer("/status/containerStatuses/0/state");
        if state.is_some_and(|state| state.get("waiting").is_some() || state.get("terminated").is_some()) {
            return None;
        }
        let process = text("/status/containerStatuses/0/containerID");
        Some(Self {
            name: pod.metadata.name.clone()?,
            process: format!("{}/{process}", pod.metadata.uid.as_deref().unwrap_or_default()),
            ip: text("/status/podIP").to_owned(),
            port: control_port(pod),
        })
    }
}

/// The port that a pod's containers call `control`.
fn control_port(pod: &DynamicObject) -> Option<u16> {
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let containers = list(pod.data.get("spec")?, "containers");
    let mut ports = containers.iter().flat_map(|container| list(container, "ports"));
    let control = ports.find(|port| port.get("name").and_then(Value::as_str) == Some("control"))?;
    u16::try_from(control.get("containerPort")?.as_u64()?).ok()
}

/// What a pod answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The book is in force.
    InForce,
    /// The pod has a book of this generation that is not ours: a higher one, or the same number with other rules.
    Newer(u64),
    /// It did not answer, or not so.
    Failed(String),
}

#[derive(Deserialize)]
struct Body {
    generation: u64,
}

/// Client of control ports.
#[derive(Clone, Debug)]
pub struct Pusher {
    http: reqwest::Client,
}

impl Pusher {
    /// A client of control ports.
    ///
    /// # Errors
    /// If the process has no TLS provider installed.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .build()?;
        Ok(Self { http })
    }

    /// Tells all of them.
    pub async fn push(
        &self,
        followers: Vec<Follower>,
        token: &SecretString,
        generation: u64,
        book: &str,
    ) -> Vec<(Follower, Answer)> {
        futures::stream::iter(followers)
            .map(|follower| async move {
                let asked = tokio::time::timeout(TIMEOUT, self.put(&follower, token, generation, book)).await;
                (follower, asked.unwrap_or_else(|_| Answer::Failed("no answer in time".into())))
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }

    async fn put(&self, follower: &Follower, token: &SecretString, generation: u64, book: &str) -> Answer {
        let Some(port) = follower.port else {
            return Answer::Failed("it has no port named control; declare it in the component's ports".into());
        };
        let host = if follower.ip.contains(':') { format!("[{}]", follower.ip) } else { follower.ip.clone() };
        let request = self
            .http
            .put(format!("http://{host}:{port}/market-book"))
            .bearer_auth(token.expose_secret())
            .header("content-type", "application/json")
            .body(book.to_owned());
        let Ok(response) = request.send().await else {
            return Answer::Failed("no connection to its control port".into());
        };
        let status = response.status().as_u16();
        match (status, body(response).await) {
            (200, Some(body)) if body.generation == generation => Answer::InForce,
            (409, Some(body)) if body.generation >= generation => Answer::Newer(body.generation),
            (401 | 403, _) => Answer::Failed("it refuses our token; it must read /control/token again".into()),
            (status, _) => Answer::Failed(format!("it answered {status}")),
        }
    }
}

/// What a pod says is in force. It may be a tenant's own component: no more is read than an answer needs.
async fn body(mut response: reqwest::Response) -> Option<Body> {
    let mut text = Vec::new();
    while let Some(part) = response.chunk().await.ok()? {
        text.extend_from_slice(&part);
        if text.len() > LONGEST_ANSWER {
            return None;
        }
    }
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Json, Router, http::HeaderMap, http::StatusCode, routing::put};
    use serde_json::json;

    fn pod(status: &Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "rates-1", "uid": "u"}, "status": status})).unwrap()
    }

    #[test]
    fn a_pod_is_told_when_it_runs_ready_or_not_and_again_after_a_restart() {
        assert_eq!(Follower::of(&pod(&json!({"phase": "Pending"}))), None);
        assert_eq!(Follower::of(&pod(&json!({"phase": "Succeeded", "podIP": "10.0.0.1"}))), None);
        let running = |id: &str| {
            Follower::of(&pod(
                &json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [{"containerID": id}]}),
            ))
        };
        assert!(running("a").is_some());
        let crashing = json!([{"containerID": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
        assert_eq!(
            Follower::of(&pod(&json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": crashing}))),
            None
        );
        assert_ne!(running("a"), running("b"));
    }

    #[test]
    fn a_pod_is_told_on_the_port_that_it_calls_control() {
        let port = |containers: &Value| {
            let mut pod = pod(&json!({"phase": "Running", "podIP": "10.0.0.1"}));
            pod.data["spec"] = json!({"containers": containers});
            Follower::of(&pod).unwrap().port
        };
        let http = json!({"name": "http", "containerPort": 9091});
        let control = json!({"name": "control", "containerPort": 9191});
        assert_eq!(port(&json!([{"ports": [http, control]}])), Some(9191));
        assert_eq!(port(&json!([{}, {"ports": [control]}])), Some(9191));
        assert_eq!(port(&json!([{"ports": [http]}])), None);
    }

    #[tokio::test]
    async fn pods_that_never_answer_are_waited_for_once_all_together() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Connections come about and stay unanswered.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let follower = |number| Follower {
            name: format!("p{number}"),
            process: "p".into(),
            ip: "127.0.0.1".into(),
            port: Some(port),
        };
        let pods = 100;
        let began = std::time::Instant::now();
        let pusher = Pusher::new().unwrap();
        let answers = pusher.push((0..pods).map(follower).collect(), &SecretString::from("token"), 1, "{}").await;
        assert_eq!(answers.iter().filter(|(_, answer)| matches!(answer, Answer::Failed(_))).count(), 100);
        assert!(began.elapsed() < TIMEOUT * pods / 2, "one after another they take {:?}", TIMEOUT * pods);
    }

    #[tokio::test]
    async fn every_kind_of_answer() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let app = Router::new().route(
            "/market-book",
            put(|headers: HeaderMap, Json(book): Json<Value>| async move {
                if headers.get("authorization").and_then(|it| it.to_str().ok()) != Some("Bearer token") {
                    return (StatusCode::UNAUTHORIZED, Json(Value::Null));
                }
                let asked = book["generation"].as_u64().unwrap_or_default();
                if asked <= 5 {
                    return (StatusCode::CONFLICT, Json(json!({"generation": 5, "digest": "d"})));
                }
                (StatusCode::OK, Json(json!({"generation": asked, "digest": "d"})))
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let pusher = Pusher::new().unwrap();
        let follower = Follower { name: "p".into(), process: "p".into(), ip: "127.0.0.1".into(), port: Some(port) };
        let ask = |token: &'static str, generation: u64| {
            let (pusher, follower) = (pusher.clone(), follower.clone());
            async move {
                let book = json!({"generation": generation}).to_string();
                loop {
                    let asked = vec![follower.clone()];
                    match pusher.push(asked, &SecretString::from(token), generation, &book).await.remove(0).1 {
                        // A busy machine; the test ends by the runner's patience if it never does.
                        Answer::Failed(why) if why == "no answer in time" => {}
                        answer => return answer,
                    }
                }
            }
        };
        assert_eq!(ask("token", 7).await, Answer::InForce);
        assert_eq!(ask("token", 4).await, Answer::Newer(5));
        assert_eq!(ask("token", 5).await, Answer::Newer(5), "other rules with our number");
        assert!(matches!(ask("wrong", 7).await, Answer::Failed(_)));
        for (port, why) in [(Some(1), "no connection"), (None, "no port named control")] {
            let gone = vec![Follower { port, ..follower.clone() }];
            let answers = pusher.push(gone, &SecretString::from("token"), 1, "{}").await;
            assert!(matches!(&answers[0].1, Answer::Failed(told) if told.contains(why)), "{answers:?}");
        }
    }
}

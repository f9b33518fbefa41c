//! The cluster's issuer of ServiceAccount tokens, followed: with its keys services check each other's tokens, without asking anybody.
//!
//! The apiserver has no watch for it. It is asked at start and then every five minutes or so, once for all environments; what was learnt
//! is never given up for an answer that fails or holds no key.

use futures::stream::{BoxStream, StreamExt as _};
use http::Request;
use kube::Client;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// ConfigMap of an environment with the issuer and its keys; also the folder in pods.
pub const TOKEN_ISSUER: &str = "token-issuer";
/// Where the apiserver says who the issuer is.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the apiserver has the issuer's keys.
pub const KEYS: &str = "/openid/v1/jwks";
/// Between two questions. Until the next one, tokens that a new key signed are refused everywhere.
const PERIOD: Duration = Duration::from_mins(5);
/// First wait after a question that failed; later ones double up to the period.
const FIRST: Duration = Duration::from_secs(1);
/// What of a key is published: its public half and how to use it.
const MEMBERS: [&str; 9] = ["kty", "kid", "use", "alg", "n", "e", "crv", "x", "y"];

/// Why nothing was learnt.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The apiserver did not answer, or not with what was asked.
    #[error("asking the apiserver for {path}: {source}")]
    Unanswered {
        /// Path.
        path: &'static str,
        /// Cause.
        source: kube::Error,
    },
    /// No issuer, or no key with an id.
    #[error("the apiserver names no issuer or no key at {DISCOVERY} and {KEYS}; check its flags --service-account-*")]
    Empty,
}

/// The issuer and its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKeys {
    /// Claim `iss` of its tokens.
    pub issuer: String,
    /// Its key set (JWKS), the same text for the same keys.
    pub jwks: String,
}

impl IssuerKeys {
    /// From what the apiserver says; `None` without a name or without keys that have an id.
    pub fn read(issuer: &str, jwks: &Value) -> Option<Self> {
        let public = |key: &Value| -> Option<(String, Value)> {
            let id = key.get("kid")?.as_str().filter(|id| !id.is_empty())?.to_owned();
            let members = MEMBERS.iter().filter_map(|name| Some(((*name).to_owned(), key.get(name)?.clone())));
            Some((id, Value::Object(members.collect::<Map<_, _>>())))
        };
        let mut keys: Vec<_> = jwks.get("keys")?.as_array()?.iter().filter_map(public).collect();
        // Each replica of the apiserver may list them in an order of its own.
        keys.sort_by(|(one, _), (other, _)| one.cmp(other));
        let keys: Vec<Value> = keys.into_iter().map(|(_, key)| key).collect();
        let complete = !issuer.is_empty() && !keys.is_empty();
        complete.then(|| Self { issuer: issuer.to_owned(), jwks: json!({"keys": keys}).to_string() })
    }
}

/// What is known of the issuer. Clones share it.
#[derive(Clone, Debug)]
pub struct Issuer(watch::Sender<Option<Arc<IssuerKeys>>>);

impl Default for Issuer {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Issuer {
    /// What was learnt last; `None` before the first answer.
    pub fn keys(&self) -> Option<Arc<IssuerKeys>> {
        self.0.borrow().clone()
    }

    /// Takes what was learnt; tells those who follow if it is news.
    pub fn learn(&self, keys: IssuerKeys) {
        self.0.send_if_modified(|known| {
            let news = known.as_deref() != Some(&keys);
            if news {
                *known = Some(Arc::new(keys));
            }
            news
        });
    }

    /// An item for each change from now on.
    pub fn changes(&self) -> BoxStream<'static, ()> {
        let changes = self.0.subscribe();
        futures::stream::unfold(changes, async |mut changes| changes.changed().await.ok().map(|()| ((), changes)))
            .boxed()
    }

    /// Asks once.
    pub async fn ask(&self, client: &Client) -> Result<(), IssuerError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
        }
        let Discovery { issuer } = get(client, DISCOVERY).await?;
        let jwks: Value = get(client, KEYS).await?;
        self.learn(IssuerKeys::read(&issuer, &jwks).ok_or(IssuerError::Empty)?);
        Ok(())
    }

    /// Asks until `stop`.
    pub async fn follow(self, client: Client, stop: CancellationToken) {
        stop.run_until_cancelled(self.ask_for_ever(&client)).await;
    }

    async fn ask_for_ever(&self, client: &Client) {
        let mut failures = 0_u32;
        loop {
            let wait = match self.ask(client).await {
                Ok(()) => {
                    failures = 0;
                    PERIOD
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the token issuer's keys stay as they were"
                    );
                    let wait = FIRST.saturating_mul(1 << failures.min(10)).min(PERIOD);
                    failures = failures.saturating_add(1);
                    wait
                }
            };
            // Never sooner, so that many operators do not ask at the same moment.
            let wait = wait + wait.mul_f64(rand::random::<f64>() / 5.0);
            tokio::time::sleep(wait).await;
        }
    }
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &'static str) -> Result<T, IssuerError> {
    let failed = |source| IssuerError::Unanswered { path, source };
    let request = Request::get(path).body(Vec::new()).map_err(|error| failed(kube::Error::HttpError(error)))?;
    client.request(request).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use kube::client::Body;

    fn key(id: &str) -> Value {
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": "AA", "y": "AA", "d": "private"})
    }

    #[test]
    fn the_same_keys_are_the_same_text_and_only_their_public_half() {
        let read = |keys: Value| IssuerKeys::read("https://issuer", &json!({"keys": keys}));
        let known = read(json!([key("b"), key("a"), {"kty": "RSA", "n": "AA", "e": "AQAB"}])).unwrap();
        assert_eq!(Some(&known), read(json!([key("a"), key("b")])).as_ref());
        let jwks: Value = serde_json::from_str(&known.jwks).unwrap();
        let ids: Vec<_> = jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert!(!known.jwks.contains("private"));
        for nothing in [json!([]), json!(null), json!([{"kty": "RSA"}])] {
            assert_eq!(read(nothing), None);
        }
        assert_eq!(IssuerKeys::read("", &json!({"keys": [key("a")]})), None);
    }

    #[tokio::test]
    async fn what_fails_or_is_empty_takes_nothing_away() {
        let answers = Arc::new(std::sync::Mutex::new((200, json!({"keys": [key("a")]}))));
        let served = answers.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (code, jwks) = served.lock().unwrap().clone();
            let body = match request.uri().path() {
                DISCOVERY => json!({"issuer": "https://issuer", "jwks_uri": "https://elsewhere"}),
                KEYS => jwks,
                other => panic!("{other}"),
            };
            let code = if request.uri().path() == KEYS { code } else { 200 };
            let answer = http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            std::future::ready(Ok::<_, std::convert::Infallible>(answer.unwrap()))
        });
        let client = Client::new(service, "default");
        let issuer = Issuer::default();
        let mut changes = issuer.changes();
        issuer.ask(&client).await.unwrap();
        assert_eq!(changes.next().now_or_never(), Some(Some(())));
        let known = issuer.keys().unwrap();
        assert_eq!(known.issuer, "https://issuer");

        for (code, jwks) in [(500, json!({})), (403, json!({})), (200, json!({"keys": []})), (200, json!("nonsense"))] {
            *answers.lock().unwrap() = (code, jwks.clone());
            assert!(issuer.ask(&client).await.is_err(), "{code} {jwks}");
            assert_eq!(issuer.keys().as_ref(), Some(&known));
        }
        *answers.lock().unwrap() = (200, json!({"keys": [key("a")]}));
        issuer.ask(&client).await.unwrap();
        assert_eq!(changes.next().now_or_never(), None, "the same is no news");
        *answers.lock().unwrap() = (200, json!({"keys": [key("a"), key("b")]}));
        issuer.ask(&client).await.unwrap();
        assert_eq!(changes.next().now_or_never(), Some(Some(())));
        assert!(issuer.keys().unwrap().jwks.contains(r#""kid":"b""#));
    }
}

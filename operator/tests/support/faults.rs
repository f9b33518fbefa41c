//! A layer under the client that makes the API server fail, lag and end as a script says.

use futures::StreamExt as _;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Bytes};
use kube::client::Body;
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Layer, Service};

/// What happens to one write.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The server refuses with this code and does nothing.
    Refused(u16),
    /// The server does it, and the answer is lost.
    AnswerLost,
    /// The server never sees it.
    NeverSent,
}

#[derive(Debug, Default)]
struct Plan {
    /// Writes seen, counted from 1, and what each was. Events are not counted: no decision depends on them.
    writes: u64,
    log: Vec<String>,
    /// What happens to the write of a number.
    faults: BTreeMap<u64, Fault>,
    /// What happens to every write whose number leaves this rest when divided by this number.
    recurring: Option<(u64, u64, Fault)>,
    /// What every read below a path is refused with.
    unread: Option<(String, u16)>,
    /// After this many writes nothing goes through any more: the process is dead.
    dies_after: Option<u64>,
    /// Selector that every list and watch gets beside its own.
    only: Option<String>,
    /// How late the events of a watch are at most. Each watch has its own lag, so that kinds come out of order.
    lag: Duration,
    /// How late the events of a kind are, by its plural.
    late: BTreeMap<&'static str, Duration>,
}

/// Script of faults; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
    dead: CancellationToken,
}

impl Faults {
    /// The write of this number fails.
    pub fn on_write(self, number: u64, fault: Fault) -> Self {
        self.plan.lock().unwrap().faults.insert(number, fault);
        self
    }

    /// Every write fails whose number leaves `rest` when divided by `every`.
    pub fn recurring(self, every: u64, rest: u64, fault: Fault) -> Self {
        self.plan.lock().unwrap().recurring = Some((every, rest, fault));
        self
    }

    /// Every read below this path is refused with this code, until `None`.
    pub fn refuse_reads(&self, refused: Option<(&str, u16)>) {
        self.plan.lock().unwrap().unread = refused.map(|(below, code)| (below.to_owned(), code));
    }

    /// No request goes through after this many writes.
    pub fn die_after(self, writes: u64) -> Self {
        self.plan.lock().unwrap().dies_after = Some(writes);
        self
    }

    /// No request goes through after this many writes more.
    pub fn die_after_more(&self, writes: u64) {
        let mut plan = self.plan.lock().unwrap();
        plan.dies_after = Some(plan.writes + writes);
    }

    /// Lists and watches bring only objects with this label, so that several processes share a server without meeting. Secrets
    /// of the operator's own namespace are common to all.
    pub fn only(self, label: &str, value: &str) -> Self {
        self.plan.lock().unwrap().only = Some(format!("{}%3D{value}", label.replace('/', "%2F")));
        self
    }

    /// Watches bring their events up to so much later.
    pub fn lag(self, lag: Duration) -> Self {
        self.plan.lock().unwrap().lag = lag;
        self
    }

    /// The watch of this kind brings its events so much later.
    pub fn late(self, plural: &'static str, lag: Duration) -> Self {
        self.plan.lock().unwrap().late.insert(plural, lag);
        self
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.plan.lock().unwrap().writes
    }

    /// Method and path of every write after so many.
    pub fn since(&self, writes: u64) -> Vec<String> {
        self.plan.lock().unwrap().log.iter().skip(usize::try_from(writes).unwrap()).cloned().collect()
    }

    /// Resolves when the process wanted to write after its end.
    pub async fn dead(&self) {
        self.dead.cancelled().await;
    }

    fn decide(&self, request: &Request<Body>) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        if *request.method() == Method::GET {
            let refused = plan.unread.as_ref().filter(|(below, _)| request.uri().path().starts_with(below));
            return refused.map(|(_, code)| Fault::Refused(*code));
        }
        if plan.dies_after.is_some_and(|last| plan.writes >= last) {
            self.dead.cancel();
            return Some(Fault::NeverSent);
        }
        if request.uri().path().starts_with("/apis/events.k8s.io/") {
            return None;
        }
        plan.writes += 1;
        plan.log.push(format!("{} {}", request.method(), request.uri().path()));
        let number = plan.writes;
        let recurring = plan.recurring.filter(|(every, rest, _)| number % every == *rest).map(|(_, _, fault)| fault);
        plan.faults.get(&number).copied().or(recurring)
    }

    /// The request with the additional selector, if it is of a collection.
    fn confine(&self, mut request: Request<Body>) -> Request<Body> {
        let query = request.uri().query().unwrap_or_default();
        let collection = query.contains("limit=") || query.contains("watch=true");
        let common = request.uri().path().ends_with("/namespaces/paddock-system/secrets");
        if let Some(only) = &self.plan.lock().unwrap().only
            && collection
            && !common
        {
            let query = match query.find("labelSelector=") {
                Some(_) => query.replacen("labelSelector=", &format!("labelSelector={only}%2C"), 1),
                None => format!("{query}&labelSelector={only}"),
            };
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(format!("{}?{query}", request.uri().path()).parse().unwrap());
            *request.uri_mut() = Uri::from_parts(parts).unwrap();
        }
        request
    }

    /// How late this watch is.
    fn lag_of(&self, uri: &Uri) -> Duration {
        if !uri.query().unwrap_or_default().contains("watch=true") {
            return Duration::ZERO;
        }
        let plan = self.plan.lock().unwrap();
        let plural = uri.path().rsplit('/').next().unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (plural, plan.lag).hash(&mut hasher);
        let share = u32::try_from(hasher.finish() % 5).unwrap_or_default();
        plan.late.get(plural).copied().unwrap_or(plan.lag * share / 4)
    }
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Faulty { inner, faults: self.clone() }
    }
}

/// See [`Faults`].
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// A body whose parts come later, each by the same time.
fn late<B>(body: B, lag: Duration) -> AnyBody
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    let body = body.map_err(Into::into);
    if lag.is_zero() {
        return body.boxed_unsync();
    }
    let parts = BodyStream::new(body).map(move |part| async move {
        tokio::time::sleep(lag).await;
        part
    });
    StreamBody::new(parts.buffered(1024)).boxed_unsync()
}

impl<S, B> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.faults.decide(&request) {
            Some(Fault::Refused(code)) => Box::pin(async move {
                let reason = if code == 409 { "Conflict" } else { "" };
                let status = serde_json::json!({"kind": "Status", "status": "Failure", "code": code, "message": "", "reason": reason});
                let body = Full::new(Bytes::from(serde_json::to_vec(&status)?));
                Ok(Response::builder().status(code).body(late(body, Duration::ZERO))?)
            }),
            Some(Fault::NeverSent) => Box::pin(async { Err("connection refused".into()) }),
            Some(Fault::AnswerLost) => {
                let answer = self.inner.call(request);
                Box::pin(async move {
                    answer.await.map_err(Into::into)?;
                    Err(tower::timeout::error::Elapsed::new().into())
                })
            }
            None => {
                let lag = self.faults.lag_of(request.uri());
                let answer = self.inner.call(self.faults.confine(request));
                Box::pin(async move { Ok(answer.await.map_err(Into::into)?.map(|body| late(body, lag))) })
            }
        }
    }
}

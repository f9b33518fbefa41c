//! A layer under the client that makes the API server fail as a script says.

use http::{Method, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Bytes;
use kube::client::Body;
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
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
    /// Writes seen, counted from 1.
    writes: u64,
    /// What happens to the write of a number.
    faults: BTreeMap<u64, Fault>,
    /// After this many writes nothing goes through any more: the process is dead.
    dies_after: Option<u64>,
}

/// Script of faults; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// The write of this number fails.
    pub fn on_write(self, number: u64, fault: Fault) -> Self {
        self.0.lock().unwrap().faults.insert(number, fault);
        self
    }

    /// No request goes through after this many writes.
    pub fn die_after(self, writes: u64) -> Self {
        self.0.lock().unwrap().dies_after = Some(writes);
        self
    }

    fn decide(&self, method: &Method) -> Option<Fault> {
        let mut plan = self.0.lock().unwrap();
        if plan.dies_after.is_some_and(|last| plan.writes >= last) && *method != Method::GET {
            return Some(Fault::NeverSent);
        }
        if *method == Method::GET {
            return None;
        }
        plan.writes += 1;
        let number = plan.writes;
        plan.faults.get(&number).copied()
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

impl<S, B> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.faults.decide(request.method()) {
            Some(Fault::Refused(code)) => Box::pin(async move {
                let reason = if code == 409 { "Conflict" } else { "" };
                let status = serde_json::json!({"kind": "Status", "status": "Failure", "code": code, "message": "", "reason": reason});
                let body = Either::Right(Full::new(Bytes::from(serde_json::to_vec(&status)?)));
                Ok(Response::builder().status(code).body(body)?)
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
                let answer = self.inner.call(request);
                Box::pin(async move { Ok(answer.await.map_err(Into::into)?.map(Either::Left)) })
            }
        }
    }
}

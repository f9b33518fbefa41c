//! What a connection has asked of components. It goes on with everything else meanwhile: a component that is slow holds up nobody's
//! prices.

use std::collections::HashMap;

use futures::StreamExt as _;
use futures::future::{AbortHandle, BoxFuture, abortable};
use futures::stream::FuturesUnordered;
use paddock_service::Problem;
use secrecy::SecretString;
use serde_json::Value;

use super::frame::Channel;
use super::live::{QUEUE, Told};
use crate::sessions::{Session, Sessions};
use crate::upstream::{Ask, Component, Upstream};

/// An answer.
pub(super) enum Answered {
    /// Whether the session is in force.
    Session(Result<Session, Problem>),
    /// The state of a channel, and what was told of it since it was asked for.
    Channel(Channel, Result<Value, Problem>, Vec<Told>),
}

enum Came {
    Session(Result<Session, Problem>),
    Channel(Channel, Result<Value, Problem>),
}

/// A channel whose state is being read.
struct Reading {
    question: AbortHandle,
    told: Vec<Told>,
}

/// Questions under way, at most one of each kind and channel.
#[derive(Default)]
pub(super) struct Asked {
    questions: FuturesUnordered<BoxFuture<'static, Option<Came>>>,
    session: bool,
    channels: HashMap<Channel, Reading>,
}

impl Asked {
    /// Asks whether a session is in force, unless that is being asked.
    pub(super) fn check(&mut self, sessions: Sessions, token: SecretString) {
        if !self.session {
            self.session = true;
            self.questions.push(Box::pin(async move { Some(Came::Session(sessions.of(&token).await)) }));
        }
    }

    /// Asks for the state of a channel.
    pub(super) fn read(&mut self, channel: Channel, upstream: Upstream, component: Component, path: String) {
        let asked = channel.clone();
        let (question, abort) = abortable(async move {
            let read = read(&upstream, component, &path).await;
            Came::Channel(asked, read)
        });
        self.forget(&channel);
        self.channels.insert(channel, Reading { question: abort, told: Vec::new() });
        self.questions.push(Box::pin(async move { question.await.ok() }));
    }

    /// The answer for a channel is of no interest any more.
    pub(super) fn forget(&mut self, channel: &Channel) {
        if let Some(reading) = self.channels.remove(channel) {
            reading.question.abort();
        }
    }

    /// What is told of a channel that is being read waits for its snapshot; the rest comes back.
    pub(super) fn hold(&mut self, told: Told) -> Option<Told> {
        let channel = match &told {
            Told::Ledger(_) => Channel::Wallet,
            Told::Ticket(..) => Channel::Tickets,
            Told::Frame(_) | Told::Gap => return Some(told),
        };
        match self.channels.get_mut(&channel) {
            Some(reading) if reading.told.len() < QUEUE => reading.told.push(told),
            Some(_) => return Some(Told::Gap),
            None => return Some(told),
        }
        None
    }

    /// The next answer. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Answered {
        loop {
            match self.questions.next().await {
                Some(Some(Came::Session(session))) => {
                    self.session = false;
                    return Answered::Session(session);
                }
                Some(Some(Came::Channel(channel, state))) => {
                    let told = self.channels.remove(&channel).map(|reading| reading.told).unwrap_or_default();
                    return Answered::Channel(channel, state, told);
                }
                Some(None) => {}
                None => return std::future::pending().await,
            }
        }
    }
}

async fn read(upstream: &Upstream, component: Component, path: &str) -> Result<Value, Problem> {
    let answer = upstream.ask(Ask::get(component, path)).await?;
    if answer.status.is_success() {
        answer.json()
    } else {
        Err(Problem::internal(anyhow::anyhow!("{component} answered {} for a channel", answer.status)))
    }
}

//! The market book in force in this pod (rule B3).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paddock_market_book::{Book, BookError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};
use tokio::time::Instant;

use crate::Gate;

/// How often the file is read, like bindings.
const FILE_PERIOD: Duration = Duration::from_millis(500);
/// From when on the book of the file alone makes a pod ready. The file is as old as the pod; the operator tells every pod that runs
/// what holds by now. Another one takes over in less than this: then there is none, and nothing newer either.
const OPERATOR_AWAY: Duration = Duration::from_secs(20);

/// Which book is in force: the answer to `PUT` and `GET /market-book`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookInForce {
    /// Generation.
    pub generation: u64,
    /// SHA-256 of the rules, hexadecimal; empty if the book is in force elsewhere and not in this pod.
    pub digest: String,
}

/// A book that was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum PutBookError {
    /// Unreadable, or too new for this service.
    #[error(transparent)]
    Refused(#[from] BookError),
    /// A higher generation, or other rules with the same one, are in force.
    #[error("generation {} is in force; send a higher one", .0.generation)]
    Newer(BookInForce),
    /// The service has not asked yet what is in force elsewhere: [`BookHolder::compare_first`].
    #[error("what is in force elsewhere is not known yet; send it again in a moment")]
    NotCompared,
}

/// Part of putting a book in force.
type Enforce = Box<dyn Fn(&Arc<Book>) + Send + Sync>;

/// Holds the book in force. Clones share it.
#[derive(Clone)]
pub struct BookHolder {
    held: Arc<RwLock<Option<Arc<Book>>>>,
    enforce: Arc<Mutex<Vec<Enforce>>>,
    changes: watch::Sender<Option<Arc<Book>>>,
    /// The highest generation that is in force elsewhere; `None` while that must be asked first.
    elsewhere: Arc<Mutex<Option<u64>>>,
    gate: Gate,
}

impl std::fmt::Debug for BookHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BookHolder").field("in_force", &self.in_force()).finish_non_exhaustive()
    }
}

/// The book, kept in force while this lives: a newer one waits. Hold it over the transaction that commits a ticket, and no
/// ticket commits against an older rule after the newer one is acknowledged.
#[derive(Debug)]
pub struct BookGuard {
    book: Arc<Book>,
    _held: OwnedRwLockReadGuard<Option<Arc<Book>>>,
}

impl std::ops::Deref for BookGuard {
    type Target = Book;

    fn deref(&self) -> &Book {
        &self.book
    }
}

impl BookHolder {
    /// No book yet; the gate opens with the first that the operator puts in force.
    pub fn new(gate: Gate) -> Self {
        let elsewhere = Arc::new(Mutex::new(Some(0)));
        Self { held: Arc::default(), enforce: Arc::default(), changes: watch::Sender::new(None), elsewhere, gate }
    }

    /// Takes nothing from the operator before [`BookHolder::in_force_elsewhere`] was called once: for a service whose database knows
    /// more than a pod that has just started.
    pub fn compare_first(&self) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes nothing lower than `generation` from the operator any more, and tells it that number: an operator that lost its memory
    /// goes on above.
    pub fn in_force_elsewhere(&self, generation: u64) {
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        *elsewhere = Some(elsewhere.unwrap_or_default().max(generation));
    }

    /// The book, pinned; `None` before the first one is there.
    pub async fn hold(&self) -> Option<BookGuard> {
        let held = Arc::clone(&self.held).read_owned().await;
        let book = held.clone()?;
        Some(BookGuard { book, _held: held })
    }

    /// The book at this moment, for work that does not commit anything.
    pub fn now(&self) -> Option<Arc<Book>> {
        self.changes.borrow().clone()
    }

    /// Sees every later book; the present one counts as seen.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Book>>> {
        self.changes.subscribe()
    }

    /// Makes something part of putting a book in force: it is done before the book is acknowledged, and at once with the present one.
    /// It must not wait for anything.
    pub async fn enforce_with(&self, enforce: impl Fn(&Arc<Book>) + Send + Sync + 'static) {
        let held = self.held.write().await;
        if let Some(book) = held.as_ref() {
            enforce(book);
        }
        self.enforce.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(enforce));
    }

    /// Which book is in force.
    pub fn in_force(&self) -> Option<BookInForce> {
        self.now().and_then(|book| describe(&book).ok())
    }

    /// Puts the operator's book in force, once those who hold the present one let go, and opens the gate.
    pub async fn put(&self, json: &[u8]) -> Result<BookInForce, PutBookError> {
        self.put_in_force(json, true).await
    }

    async fn put_in_force(&self, json: &[u8], opens: bool) -> Result<BookInForce, PutBookError> {
        let book = Book::from_json(json)?;
        let offered = describe(&book)?;
        if opens {
            let elsewhere = *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
            let generation = elsewhere.ok_or(PutBookError::NotCompared)?;
            if generation > offered.generation {
                return Err(PutBookError::Newer(BookInForce { generation, digest: String::new() }));
            }
        }
        let mut held = self.held.write().await;
        if let Some(present) = held.as_deref() {
            let present = describe(present)?;
            if present == offered {
                if opens {
                    self.gate.open();
                }
                return Ok(present);
            }
            if present.generation >= offered.generation {
                return Err(PutBookError::Newer(present));
            }
        }
        let book = Arc::new(book);
        *held = Some(Arc::clone(&book));
        for enforce in self.enforce.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            enforce(&book);
        }
        self.changes.send_replace(Some(book));
        if opens {
            self.gate.open();
        }
        tracing::info!(generation = offered.generation, digest = offered.digest, "market book in force");
        Ok(offered)
    }

    /// Follows the file; an older generation is no error, the operator's `PUT` is quicker than the file.
    pub(crate) async fn follow_file(self, path: PathBuf) {
        let started = Instant::now();
        let mut last = Vec::new();
        let mut ticks = tokio::time::interval(FILE_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.read_file(&path, &mut last).await;
            if started.elapsed() >= OPERATOR_AWAY && self.now().is_some() {
                self.gate.open();
            }
        }
    }

    async fn read_file(&self, path: &Path, last: &mut Vec<u8>) {
        let json = match tokio::fs::read(path).await {
            Ok(json) => json,
            Err(error) => return self.lacks(format!("{} cannot be read: {error}", path.display())).await,
        };
        if json == *last {
            return;
        }
        match self.put_in_force(&json, false).await {
            Ok(_) | Err(PutBookError::Newer(_) | PutBookError::NotCompared) => {}
            Err(PutBookError::Refused(error)) => {
                tracing::error!(path = %path.display(), %error, "market book refused");
                self.lacks(error.to_string()).await;
            }
        }
        *last = json;
    }

    /// Says why no book is there, if none is.
    async fn lacks(&self, why: String) {
        let held = self.held.read().await;
        if held.is_none() {
            self.gate.close(why);
        }
    }
}

fn describe(book: &Book) -> Result<BookInForce, BookError> {
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(book.digest_input()?.as_bytes()));
    Ok(BookInForce { generation: book.generation(), digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Readiness;

    fn book(generation: u64) -> String {
        format!(r#"{{"schema":1,"generation":{generation},"rules":[]}}"#)
    }

    #[tokio::test]
    async fn a_lower_generation_is_refused_and_the_same_is_acknowledged() {
        let readiness = Readiness::default();
        let holder = BookHolder::new(readiness.gate("market-book", "not loaded"));
        assert!(holder.hold().await.is_none());
        let first = holder.put(book(7).as_bytes()).await.unwrap();
        assert!(readiness.missing().is_empty());
        assert_eq!(holder.put(book(7).as_bytes()).await.unwrap(), first);
        assert!(matches!(holder.put(book(6).as_bytes()).await, Err(PutBookError::Newer(now)) if now.generation == 7));
        assert!(matches!(holder.put(b"{}").await, Err(PutBookError::Refused(_))));
        assert_eq!(holder.in_force().unwrap().generation, 7);
    }

    #[tokio::test]
    async fn what_is_in_force_elsewhere_is_compared_before_anything_is_acknowledged() {
        let holder = BookHolder::new(Readiness::default().gate("market-book", "not loaded"));
        holder.compare_first();
        assert!(matches!(holder.put(book(7).as_bytes()).await, Err(PutBookError::NotCompared)));
        assert_eq!(holder.put_in_force(book(7).as_bytes(), false).await.unwrap().generation, 7, "the file is as good");
        holder.in_force_elsewhere(9);
        holder.in_force_elsewhere(8);
        let refused = holder.put(book(7).as_bytes()).await;
        assert!(matches!(&refused, Err(PutBookError::Newer(now)) if now.generation == 9), "{refused:?}");
        assert_eq!(holder.put(book(9).as_bytes()).await.unwrap().generation, 9);
    }

    #[tokio::test]
    async fn a_new_book_waits_for_those_who_hold_the_old_one() {
        let holder = BookHolder::new(Readiness::default().gate("market-book", "not loaded"));
        holder.put(book(1).as_bytes()).await.unwrap();
        let guard = holder.hold().await.unwrap();
        let next = book(2);
        let mut put = std::pin::pin!(holder.put(next.as_bytes()));
        assert!(futures::poll!(put.as_mut()).is_pending());
        assert_eq!(guard.generation(), 1);
        drop(guard);
        assert_eq!(put.await.unwrap().generation, 2);
        assert_eq!(holder.hold().await.unwrap().generation(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_alone_makes_a_pod_ready_when_the_operator_stays_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.json");
        let pod = || {
            let readiness = Readiness::default();
            let holder = BookHolder::new(readiness.gate("market-book", "not loaded"));
            tokio::spawn(holder.clone().follow_file(path.clone()));
            (holder, readiness)
        };
        let ((told, told_ready), (alone, alone_ready)) = (pod(), pod());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(told_ready.missing()[0].contains("cannot be read"), "{:?}", told_ready.missing());
        std::fs::write(&path, book(1)).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(told.in_force().unwrap().generation, 1, "enforced");
        assert_eq!(told_ready.missing().len(), 1, "it may be old");
        told.put(book(1).as_bytes()).await.unwrap();
        assert!(told_ready.missing().is_empty(), "the operator says the same");

        tokio::time::sleep(OPERATOR_AWAY.saturating_sub(Duration::from_secs(3))).await;
        assert_eq!((alone.in_force().unwrap().generation, alone_ready.missing().len()), (1, 1));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(alone_ready.missing().is_empty());
    }

    #[tokio::test]
    async fn a_book_is_enforced_before_it_is_acknowledged() {
        let holder = BookHolder::new(Readiness::default().gate("market-book", "not loaded"));
        holder.put(book(1).as_bytes()).await.unwrap();
        let enforced = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&enforced);
        holder.enforce_with(move |book| told.lock().unwrap().push(book.generation())).await;
        assert_eq!(*enforced.lock().unwrap(), [1], "the present one");
        holder.put(book(2).as_bytes()).await.unwrap();
        assert_eq!(*enforced.lock().unwrap(), [1, 2]);
        holder.put(book(2).as_bytes()).await.unwrap();
        assert!(holder.put(book(1).as_bytes()).await.is_err());
        assert_eq!(*enforced.lock().unwrap(), [1, 2], "nothing new");
    }
}

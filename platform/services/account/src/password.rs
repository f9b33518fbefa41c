//! Argon2id on threads of its own, a bounded number at a time: hashing is meant to be slow and must not stop the rest.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Semaphore, TryAcquireError};

/// Requests that may wait for a hashing thread, per thread; more are refused at once.
const QUEUE_PER_THREAD: usize = 16;

/// Hashes and verifies passwords.
#[derive(Clone)]
pub struct Passwords {
    argon: Argon2<'static>,
    threads: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    /// Verified against when no customer has the address, so that both answers take the same time.
    decoy: Arc<str>,
}

/// Why a password was not hashed or verified.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many log-ins at once.
    #[error("too many log-ins are being checked: try again in a moment")]
    Busy,
    /// Argon2 refuses.
    #[error("password hashing failed: {0}; check argon2's parameters")]
    Hashing(Error),
    /// The thread ended.
    #[error("the hashing thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl Passwords {
    /// A hasher with some threads.
    pub fn new(threads: usize, params: argon2::Params) -> Result<Self, PasswordError> {
        let argon = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let decoy: PasswordHash = argon.hash_password(b"no customer has this").map_err(PasswordError::Hashing)?;
        Ok(Self {
            argon,
            threads: Arc::new(Semaphore::new(threads.max(1))),
            queue: Arc::new(Semaphore::new(threads.max(1).saturating_mul(QUEUE_PER_THREAD))),
            decoy: decoy.to_string().into(),
        })
    }

    /// The hash of a new password in PHC form.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        let argon = self.argon.clone();
        self.on_thread(move || {
            let hash: Result<PasswordHash, Error> = argon.hash_password(password.expose_secret().as_bytes());
            hash.map(|hash| hash.to_string()).map_err(PasswordError::Hashing)
        })
        .await
    }

    /// Whether a password has a hash; without a hash the same work is done and the answer is no.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, PasswordError> {
        let argon = self.argon.clone();
        let (hash, known) = hash.map_or_else(|| (self.decoy.to_string(), false), |hash| (hash, true));
        self.on_thread(move || {
            let hash = PasswordHash::new(&hash).map_err(|_| PasswordError::Hashing(Error::EncodingInvalid))?;
            match argon.verify_password(password.expose_secret().as_bytes(), &hash) {
                Ok(()) => Ok(known),
                Err(Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(PasswordError::Hashing(error)),
            }
        })
        .await
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _place = match self.queue.try_acquire() {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => return Err(PasswordError::Busy),
        };
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        tokio::task::spawn_blocking(move || {
            // The permit goes with the thread: a caller that gives up does not free it early.
            let _thread = thread;
            work()
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(1, argon2::Params::new(argon2::Params::MIN_M_COST, 1, 1, None).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn verifies_what_it_hashed_and_nothing_else() {
        let passwords = passwords();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("no customer has this".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn refuses_when_the_queue_is_full() {
        let passwords = passwords();
        let _all = passwords.queue.try_acquire_many(16).unwrap();
        assert!(matches!(passwords.hash("correct horse".into()).await, Err(PasswordError::Busy)));
    }
}

//! This component's tokens for the components that it calls.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use tokio::sync::watch;

use crate::binding::{Binding, BindingError};

/// Header of a caller's token. Not `authorization`: that is the customer's, for whom some calls are made.
pub const CALLER_HEADER: HeaderName = HeaderName::from_static("paddock-caller");
/// File of the token in the folder of a called component.
const FILE: &str = "token";

/// The token for one called component, as its file has it now. Clones share it.
#[derive(Debug, Clone)]
pub struct CallerToken {
    file: watch::Receiver<Arc<Binding>>,
}

impl CallerToken {
    /// Over a folder with the file `token` that is followed.
    pub fn new(file: watch::Receiver<Arc<Binding>>) -> Result<Self, BindingError> {
        file.borrow().text(FILE)?;
        Ok(Self { file })
    }

    /// Puts the token on a request. What cannot be a token is left out: the called component refuses then and says why.
    pub fn attach(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let value = self.file.borrow().text(FILE).ok().and_then(|token| HeaderValue::from_str(token).ok());
        match value {
            Some(mut value) => {
                value.set_sensitive(true);
                request.header(CALLER_HEADER, value)
            }
            None => request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Bindings;

    fn header(token: &CallerToken) -> String {
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let request = token.attach(reqwest::Client::new().get("http://account:8080")).build().unwrap();
        let value = &request.headers()[CALLER_HEADER];
        assert!(!format!("{request:?}").contains(value.to_str().unwrap()), "logs hold no token");
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_token_is_the_one_of_the_file_and_none_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let files = Bindings::new(root.path().to_owned());
        assert!(files.watch("account").is_err());
        std::fs::create_dir(root.path().join("account")).unwrap();
        std::fs::write(root.path().join("account/token"), "").unwrap();
        let files = Bindings::new(root.path().to_owned());
        assert!(CallerToken::new(files.watch("account").unwrap()).is_err(), "an empty file");

        std::fs::write(root.path().join("account/token"), "first").unwrap();
        files.reload();
        let token = CallerToken::new(files.watch("account").unwrap()).unwrap();
        assert_eq!(header(&token), "first");
        std::fs::write(root.path().join("account/token"), "second\n").unwrap();
        files.reload();
        assert_eq!(header(&token), "second");
    }
}

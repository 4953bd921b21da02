//! What a call is: the struct of a request is its query or body, and its method, path and answer belong to it. The same
//! struct travels from the command line over HTTP to the engine.

use std::fmt;

use axum::http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::ApiError;
use crate::api::guard::Caller;

/// An HTTP request without its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// The method: `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// Path and query.
    pub uri: String,
    /// The JSON body of a changing call.
    pub body: Option<String>,
}

/// What a call does to a resource (HTTP method).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads it.
    Get,
    /// Makes the engine do something.
    Post,
    /// Replaces a state.
    Put,
    /// Ends it.
    Delete,
}

impl Verb {
    /// The method as HTTP names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a call goes that names no engine, if there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// To every engine: their rows are put into one list, and each row names its engine.
    Each,
    /// To every engine, and the rows of all are put in order of their time `at`.
    EachByTime,
    /// To every engine that knows the name in the request.
    Knowing,
    /// To none: the request has to name one.
    One,
}

/// A request to one engine: its fields are the query of a reading call, or the JSON body of a changing one.
pub trait Call: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The HTTP method; a call with [`Verb::Get`] has a query, another one a body.
    const METHOD: Verb = Verb::Get;
    /// The path.
    const PATH: &'static str;
    /// What it does, in a few words for the OpenAPI document.
    const SUMMARY: &'static str;
    /// Where it goes if there are several engines.
    const ROUTING: Routing;
    /// Whether the answer needs a look at every session, so that
    /// [`SESSION_WALK_TIMEOUT`](crate::api::SESSION_WALK_TIMEOUT) applies.
    const WALKS_OVER_SESSIONS: bool = false;

    /// The answer, in the shape that the OpenAPI document describes.
    type Answer: Serialize + DeserializeOwned + Send;

    /// The call as the engine is to see it, with the name of the caller. Only changing calls are passed through it.
    ///
    /// # Errors
    ///
    /// [`ApiError::BadRequest`] if a part is out of its range, or does not fit the others.
    fn checked(self, _: &Caller) -> Result<Self, ApiError> {
        Ok(self)
    }

    /// The number of newest rows that a list over all engines keeps; `None`: all. For [`Routing::EachByTime`].
    fn newest(&self) -> Option<usize> {
        None
    }

    /// Adds to an answer what stands in the head of the HTTP response.
    fn with_head(answer: Self::Answer, _: &HeaderMap) -> Self::Answer {
        answer
    }

    /// The request as an HTTP call.
    fn http(&self) -> HttpCall {
        let (method, path) = (Self::METHOD.name(), Self::PATH);
        if Self::METHOD != Verb::Get {
            let body = serde_json::to_string(self).expect("structures of words can be JSON");
            return HttpCall { method, uri: path.to_owned(), body: Some(body) };
        }
        let query = serde_urlencoded::to_string(self).expect("flat structures of words and numbers can be a query");
        let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        HttpCall { method, uri, body: None }
    }
}

//! Builds the OpenAPI document from the types that the routes read and write.
//!
//! Nothing is written twice: queries and bodies are the types that the handlers read, answers are the views that
//! engines give, and descriptions are the doc comments of these types. This module only puts them together.

use axum::http::StatusCode;
use axum::routing::MethodFilter;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{
    AllOfBuilder, ArrayBuilder, ComponentsBuilder, ObjectBuilder, OneOfBuilder, Schema, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, InfoBuilder, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::api::{ApiError, Verb};
use crate::engine::view::CountersView;

const JSON: &str = "application/json";
const TOKEN: &str = "token";

const INTRODUCTION: &str = "\
The same on the control socket of an engine, whose file's permissions say who may ask, and on `[api] listen`. There, \
loopback may be read without a token, everything else needs a bearer token, and what changes an engine or shows packets an \
operator's. Keys are a contract: they grow in number and never change name or meaning, enumerations gain values, and \
readers ignore what they do not know. `*_ms` are durations up to now in milliseconds, `at` is RFC 3339 in UTC, counters are \
integers since start.";

type Schemas = Vec<(String, RefOr<Schema>)>;

impl Verb {
    /// The method as the router names it.
    pub(super) fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }

    /// The method as the document names it.
    fn method(self) -> HttpMethod {
        match self {
            Self::Get => HttpMethod::Get,
            Self::Post => HttpMethod::Post,
            Self::Put => HttpMethod::Put,
            Self::Delete => HttpMethod::Delete,
        }
    }
}

/// The successful answer of a call.
pub(super) struct ResponseSpec {
    contents: Vec<(&'static str, Option<RefOr<Schema>>)>,
    headers: Vec<(&'static str, Type, &'static str)>,
    schemas: Schemas,
}

/// Adds the headers of a list that may come in pages.
pub(super) fn paged(rows: ResponseSpec) -> ResponseSpec {
    let headers = vec![
        (
            "X-Total-Count",
            Type::Integer,
            "How many match in all, of all engines that were asked; not for a later page.",
        ),
        ("Link", Type::String, "RFC 8288, `rel=\"next\"`: the next page, if there is one and a `limit` was kept."),
    ];
    ResponseSpec { headers, ..rows }
}

pub(super) fn object<T: ToSchema>() -> ResponseSpec {
    ResponseSpec::json(reference::<T>(), components::<T>())
}

/// An object; for several engines a list of objects, each with the name of its engine.
pub(super) fn object_of_each<T: ToSchema>() -> ResponseSpec {
    let all = ArrayBuilder::new().items(of_engine::<T>(true));
    ResponseSpec::json(OneOfBuilder::new().item(reference::<T>()).item(all), components::<T>())
}

/// A list whose rows name their engine.
pub(super) fn rows<T: ToSchema>() -> ResponseSpec {
    ResponseSpec::json(ArrayBuilder::new().items(reference::<T>()), components::<T>())
}

/// A list whose rows name their engine if there are several.
pub(super) fn rows_of_each<T: ToSchema>() -> ResponseSpec {
    ResponseSpec::json(ArrayBuilder::new().items(of_engine::<T>(false)), components::<T>())
}

/// A flat object of numbers.
pub(super) fn counters() -> ResponseSpec {
    ResponseSpec::json(CountersView::schema(), Schemas::new())
}

/// Text of these media types.
pub(super) fn text(kinds: &[&'static str]) -> ResponseSpec {
    let schema = || RefOr::T(Schema::from(ObjectBuilder::new().schema_type(Type::String)));
    let contents = kinds.iter().map(|kind| (*kind, Some(schema()))).collect();
    ResponseSpec { contents, headers: Vec::new(), schemas: Schemas::new() }
}

/// Bytes of this media type.
pub(super) fn bytes(kind: &'static str) -> ResponseSpec {
    ResponseSpec { contents: vec![(kind, None)], headers: Vec::new(), schemas: Schemas::new() }
}

/// JSON that the document does not describe: the document itself.
pub(super) fn untyped_object() -> ResponseSpec {
    ResponseSpec::json(ObjectBuilder::new().schema_type(Type::Object), Schemas::new())
}

impl ResponseSpec {
    /// A JSON answer. Engines write every key, with null where there is no value, so all keys are required.
    fn json(schema: impl Into<RefOr<Schema>>, mut schemas: Schemas) -> Self {
        for (_, schema) in &mut schemas {
            if let RefOr::T(Schema::Object(object)) = schema {
                object.required = object.properties.keys().cloned().collect();
            }
        }
        Self { contents: vec![(JSON, Some(schema.into()))], headers: Vec::new(), schemas }
    }
}

/// A call with its description in the document.
pub(super) struct CallSpec {
    pub(super) verb: Verb,
    pub(super) path: &'static str,
    operation: OperationBuilder,
    schemas: Schemas,
}

/// A call that everybody with permission to read may make.
pub(super) fn call_spec(verb: Verb, path: &'static str, summary: &str, response: ResponseSpec) -> CallSpec {
    let name = path.trim_start_matches("/api/v1/").replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let answer =
        response.contents.into_iter().fold(ResponseBuilder::new().description("Done."), |answer, (kind, schema)| {
            answer.content(kind, ContentBuilder::new().schema(schema).build())
        });
    let answer = response.headers.into_iter().fold(answer, |answer, (name, kind, what)| {
        let header = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(kind))).description(Some(what));
        answer.header(name, header.build())
    });
    let operation = OperationBuilder::new()
        .operation_id(Some(format!("{}_{}", verb.name().to_lowercase(), name.trim_matches('_'))))
        .summary(Some(summary))
        .response("200", answer);
    CallSpec { verb, path, operation, schemas: response.schemas }.refused_with(&[
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::REQUEST_TIMEOUT,
    ])
}

impl CallSpec {
    /// Adds a query, and the errors of asking an engine.
    pub(super) fn query<Q: IntoParams>(mut self) -> Self {
        let parameters = Q::into_params(|| Some(ParameterIn::Query));
        self.operation = self.operation.parameters(Some(parameters));
        self.refused_with(&[StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE])
    }

    /// Adds a body.
    pub(super) fn body<O: ToSchema>(mut self) -> Self {
        let content = ContentBuilder::new().schema(Some(reference::<O>())).build();
        let body = RequestBodyBuilder::new().required(Some(Required::True)).content(JSON, content);
        self.operation = self.operation.request_body(Some(body.build()));
        self.schemas.extend(components::<O>());
        self
    }

    /// Restricts the call to operators.
    pub(super) fn by_operators(mut self) -> Self {
        self.operation = self.operation.security(SecurityRequirement::new(TOKEN, [""; 0]));
        self
    }

    /// Adds errors by their HTTP status.
    pub(super) fn refused_with(mut self, statuses: &[StatusCode]) -> Self {
        for status in statuses {
            let refusal = RefOr::Ref(Ref::from_response_name(status.as_str()));
            self.operation = self.operation.response(status.as_str(), refusal);
        }
        self
    }
}

/// The document of these calls, in JSON.
pub(super) fn document(described: Vec<CallSpec>) -> String {
    let mut components = ComponentsBuilder::new().schemas_from_iter(components::<ApiError>());
    let mut paths = PathsBuilder::new().build();
    for CallSpec { verb, path, operation, schemas } in described {
        components = components.schemas_from_iter(schemas);
        paths.add_path_operation(path, vec![verb.method()], Operation::from(operation));
    }
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A `[[api.token]]` of the engine."));
    let components =
        components.responses_from_iter(refusals()).security_scheme(TOKEN, SecurityScheme::Http(bearer.build()));
    let info = InfoBuilder::new().title("fwlb").version(env!("CARGO_PKG_VERSION")).description(Some(INTRODUCTION));
    let document = OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::default(), SecurityRequirement::new(TOKEN, [""; 0])]));
    document.build().to_json().expect("structures of words and numbers can be JSON")
}

/// Every error response, by its HTTP status.
fn refusals() -> impl Iterator<Item = (String, Response)> {
    let refusals = [
        ApiError::BadRequest("The request is invalid; the message says what was expected.".to_owned()),
        ApiError::Unauthorized("The request needs a token, or its token is unknown.".to_owned()),
        ApiError::Forbidden("The caller is not permitted to do this.".to_owned()),
        ApiError::NotFound("The object does not exist; the message lists those that do.".to_owned()),
        ApiError::Conflict(
            "The change would do harm at present; the message says how to do it all the same.".to_owned(),
        ),
        ApiError::Refused("The configuration is invalid or takes a restart; nothing has changed.".to_owned()),
        ApiError::Unavailable("The engine is stopping or too busy.".to_owned()),
    ];
    let late = (StatusCode::REQUEST_TIMEOUT, "The answer took too long.".to_owned());
    refusals.into_iter().map(|error| (error.status(), error.to_string())).chain([late]).map(|(status, description)| {
        let content = ContentBuilder::new().schema(Some(reference::<ApiError>())).build();
        let response = ResponseBuilder::new().description(description).content(JSON, content);
        (status.as_str().to_owned(), response.build())
    })
}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(T::name()))
}

/// The schema of a type, and of all types that it contains.
fn components<T: ToSchema>() -> Schemas {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    schemas
}

/// The schema of an object with the name of its engine.
fn of_engine<T: ToSchema>(always: bool) -> AllOfBuilder {
    let name = ObjectBuilder::new().schema_type(Type::String).description(Some("Engine name."));
    let named = ObjectBuilder::new().property("engine", name);
    AllOfBuilder::new().item(reference::<T>()).item(if always { named.required("engine") } else { named })
}

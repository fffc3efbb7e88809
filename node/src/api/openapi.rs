//! The OpenAPI 3.1 document: generated from the handlers, completed here, served at
//! `/openapi.json`.
//!
//! - `OPENAPI-1`: every route is in the document, because a route is registered together with its
//!   description.
//! - `OPENAPI-2`: errors that follow from the kind of an operation (authenticated, with a body,
//!   with an id in its path) are added here to all operations of that kind. An error that an
//!   operation describes itself gets only its body here.
//! - `OPENAPI-3`: `docs/openapi.json` equals this document; a test compares them
//!   (`UPDATE_GOLDEN=1` rewrites the file).
//! - `OPENAPI-4`: the example of a request is accepted, and the parser of a request reads every
//!   property of its schema and names it when its value is wrong.
//!
//! The document validates nothing: handlers do.

use crate::http::edge::EdgeState;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bytes::Bytes;
use serde_json::json;
use std::sync::{Arc, LazyLock};
use triggers_protocol::ErrorCode;
use triggers_protocol::api::{ErrorBody, Problem};
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Schema,
    ServerBuilder,
};
use utoipa::{PartialSchema, ToSchema};

const DESCRIPTION: &str = "Partners post events; each tenant has a durable inbox; consumers pull \
    events and acknowledge them. What was answered 201 is never lost, and nothing is shown to \
    another tenant. Every request body may be compressed (`Content-Encoding: gzip` or `zstd`), and \
    answers of more than 1 KiB are if `Accept-Encoding` asks for it.";

/// The route that serves the document.
pub(crate) fn routes(document: OpenApi) -> Router<EdgeState> {
    // Generated at the first request: it takes as long as the rest of the start.
    let json = Arc::new(LazyLock::new(move || Bytes::from(json_of(document))));
    let answer = move || {
        let json = Bytes::clone(&json);
        async move { ([(CONTENT_TYPE, "application/json")], json) }
    };
    Router::new().route("/openapi.json", get(answer))
}

/// The JSON text of the document, with everything that all operations share.
pub(super) fn json_of(mut document: OpenApi) -> String {
    finish(&mut document);
    document
        .to_pretty_json()
        .expect("a document of strings, numbers and lists always has a JSON form")
        + "\n"
}

/// The document without its routes.
pub(crate) fn base() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Triggers")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license))
        .build();
    let tags = [
        ("events", "Accept, read and delete events"),
        ("inbox", "Pull events and acknowledge them"),
        ("subscriptions", "Webhooks: where events are pushed to"),
        ("keys", "API keys of a tenant"),
        ("tenants", "Tenants, for admins"),
        ("audit", "Who did what"),
        ("operations", "Whether the node lives and is ready"),
    ];
    let tag = |(name, description): (&str, &str)| {
        TagBuilder::new().name(name).description(Some(description)).build()
    };
    let header = ApiKey::Header(ApiKeyValue::with_description("X-API-Key", "An API key"));
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key")).build();
    let mut schemas = vec![
        (ErrorBody::name().into_owned(), ErrorBody::schema()),
        (Problem::name().into_owned(), Problem::schema()),
    ];
    ErrorBody::schemas(&mut schemas);
    let components = ComponentsBuilder::new()
        .security_scheme("api_key", SecurityScheme::ApiKey(header))
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .schemas_from_iter(schemas)
        .build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .tags(Some(tags.map(tag)))
        .components(Some(components))
        .build()
}

/// Adds the errors that every operation of a kind shares.
fn finish(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let has_id = path.contains('{');
        for operation in operations(item) {
            add_errors(operation, has_id);
        }
    }
    let components = document.components.get_or_insert_default();
    for status in statuses() {
        components.responses.insert(response_name(status), RefOr::T(error_response(status)));
    }
}

/// The statuses of all error codes, without duplicates.
fn statuses() -> Vec<u16> {
    let mut statuses = ErrorCode::ALL.map(ErrorCode::status).to_vec();
    statuses.dedup();
    statuses
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

fn add_errors(operation: &mut Operation, has_id: bool) {
    let is_authenticated = operation.security.as_ref().is_some_and(|schemes| schemes.len() > 1);
    let has_body = operation.request_body.is_some();
    let mut parameters = operation.parameters.iter().flatten();
    let has_parameters = parameters.any(|parameter| {
        matches!(parameter.parameter_in, ParameterIn::Query | ParameterIn::Header)
    });
    let applies = |status| match status {
        400 => has_body || has_parameters,
        401 | 403 | 429 => is_authenticated,
        404 => has_id,
        408 | 413 | 415 => has_body,
        431 | 500 | 503 => true,
        _ => false,
    };
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
        {
            response
                .content
                .insert("application/json".to_owned(), Content::new(schema("ErrorBody")));
        }
    }
    for status in statuses().into_iter().filter(|status| applies(*status)) {
        let reference = RefOr::Ref(Ref::from_response_name(response_name(status)));
        operation.responses.responses.entry(status.to_string()).or_insert(reference);
    }
}

fn schema(name: &str) -> Option<RefOr<Schema>> {
    Some(RefOr::Ref(Ref::from_schema_name(name)))
}

fn response_name(status: u16) -> String {
    format!("Error{status}")
}

/// The response of a status, with an example for each of its codes.
fn error_response(status: u16) -> Response {
    let codes: Vec<_> = ErrorCode::ALL.into_iter().filter(|code| code.status() == status).collect();
    let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    let mut content = ContentBuilder::new().schema(schema("ErrorBody"));
    for code in codes {
        let example = ExampleBuilder::new().value(Some(error_example(code))).build();
        content = content.examples_from_iter([(code.as_str(), example)]);
    }
    let problem = ContentBuilder::new().schema(schema("Problem")).build();
    let mut response = ResponseBuilder::new().description(names.join(" or "));
    if status == 415 {
        let header = HeaderBuilder::new().description(Some(
            "`gzip, zstd` if the coding of the body was the cause, and not its content type",
        ));
        response = response.header("Accept-Encoding", header.build());
    }
    response
        .content("application/json", content.build())
        .content("application/problem+json", problem)
        .build()
}

fn error_example(code: ErrorCode) -> serde_json::Value {
    let mut error = json!({
        "code": code.as_str(),
        "message": "what went wrong, for people",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "request_id": "019b76da-a800-7000-8000-0000000000aa",
    });
    if code == ErrorCode::ValidationError {
        error["details"] = json!([{ "field": "payload", "message": "must be a JSON object" }]);
    }
    json!({ "error": error })
}

#[cfg(test)]
pub(crate) mod tests;

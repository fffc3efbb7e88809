//! The names that most handlers use.

pub(in crate::api) use super::read::JsonBody;
pub(in crate::api) use crate::http::authenticate::{
    Admin, Authorized, Caller, EventsWrite, InboxAck, InboxRead, KeysManage, SubscriptionsManage,
};
pub(in crate::api) use crate::http::body::query::{self, PathId};
pub(in crate::api) use crate::http::edge::{Edge, EdgeState};
pub(in crate::api) use crate::http::error::{ApiError, Faults};
pub(in crate::api) use crate::http::json::respond;
pub(in crate::api) use axum::extract::{RawQuery, Request, State};
pub(in crate::api) use axum::http::StatusCode;
pub(in crate::api) use axum::response::Response;
pub(in crate::api) use utoipa_axum::router::OpenApiRouter;
pub(in crate::api) use utoipa_axum::routes;

//! Operations on subscriptions.

use std::fmt::Display;

use triggers_protocol::api::{
    NewSubscription, SecretRotation, Subscription, SubscriptionAttemptList, SubscriptionList,
    SubscriptionPatch, SubscriptionTest,
};

use super::administration::PageQuery;
use crate::call::Call;
use crate::client::Client;
use crate::error::ClientError;
use crate::reply::Reply;

/// Which attempts of a subscription to list.
pub type AttemptsQuery = PageQuery;

impl Client {
    /// Lists the subscriptions, without their secrets.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn list_subscriptions(&self) -> Result<Reply<SubscriptionList>, ClientError> {
        self.send(Call::get(&["subscriptions"])).await
    }

    /// Creates a subscription. The answer has the secret, this once.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn create_subscription(
        &self,
        body: &NewSubscription,
    ) -> Result<Reply<Subscription>, ClientError> {
        self.send(Call::post(&["subscriptions"]).json(body)?).await
    }

    /// Reads a subscription, without its secret.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_subscription(
        &self,
        id: impl Display,
    ) -> Result<Reply<Subscription>, ClientError> {
        self.send(Call::get(&["subscriptions", &id.to_string()])).await
    }

    /// Changes the settings of a subscription that `body` names.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn update_subscription(
        &self,
        id: impl Display,
        body: &SubscriptionPatch,
    ) -> Result<Reply<Subscription>, ClientError> {
        self.send(Call::patch(&["subscriptions", &id.to_string()]).json(body)?).await
    }

    /// Deletes a subscription for good.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn delete_subscription(&self, id: impl Display) -> Result<Reply<()>, ClientError> {
        self.send(Call::delete(&["subscriptions", &id.to_string()])).await
    }

    /// Replaces the signing key. During the grace period webhooks carry a signature of the old key
    /// as well.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn rotate_subscription_secret(
        &self,
        id: impl Display,
        body: &SecretRotation,
    ) -> Result<Reply<Subscription>, ClientError> {
        self.send(Call::post(&["subscriptions", &id.to_string(), "rotate"]).json(body)?).await
    }

    /// Has the node send one webhook now, and tells how the endpoint answered.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn test_subscription(
        &self,
        id: impl Display,
    ) -> Result<Reply<SubscriptionTest>, ClientError> {
        self.send(Call::post(&["subscriptions", &id.to_string(), "test"])).await
    }

    /// Lists the delivery attempts of a subscription, newest first.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn list_subscription_attempts(
        &self,
        id: impl Display,
        query: &AttemptsQuery,
    ) -> Result<Reply<SubscriptionAttemptList>, ClientError> {
        self.send(query.add_to(Call::get(&["subscriptions", &id.to_string(), "attempts"]))).await
    }
}

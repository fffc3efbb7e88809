//! The subscription that `triggers listen` creates for its receiver and deletes at its end.
//!
//! `TEMPORARY-1`: a subscription that the node has named is deleted, or an error names it.

use super::super::exit::{CommandError, CommandResult};
use triggers_client::api::NewSubscription;
use triggers_client::{Client, ClientError};
use triggers_protocol::EventTypePattern;
use triggers_protocol::webhook::VerifyingKey;

/// Description of the subscription.
const DESCRIPTION: &str = "triggers listen";

/// A subscription that exists at the node.
#[derive(Debug)]
pub(super) struct Temporary {
    client: Client,
    id: String,
}

impl Temporary {
    /// Creates a subscription for `url`. Returns it with the key that its webhooks are signed with.
    pub(super) async fn make(
        client: Client,
        url: &str,
        event_types: Vec<EventTypePattern>,
    ) -> Result<(Self, VerifyingKey), CommandError> {
        let body = NewSubscription {
            target_url: Some(url.to_owned()),
            event_types: Some(event_types).filter(|it| !it.is_empty()),
            description: Some(DESCRIPTION.to_owned()),
            ..NewSubscription::default()
        };
        let answer = client.create_subscription(&body).await?.decode()?;
        let temporary = Self { client, id: answer.id.to_string() };
        let key =
            answer.secret.or(answer.public_key).and_then(|key| VerifyingKey::parse(&key).ok());
        match key {
            Some(key) => Ok((temporary, key)),
            None => {
                temporary.delete().await?;
                let text = "the node showed no key to check signatures with";
                Err(CommandError::Failed(text.to_owned()))
            }
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Deletes the subscription. It is no error if it is already deleted.
    ///
    /// # Errors
    /// `CommandError::Failed`, with the id.
    pub(super) async fn delete(&self) -> CommandResult {
        match self.client.delete_subscription(&self.id).await {
            Ok(_) => Ok(()),
            Err(ClientError::Api(failure)) if matches!(failure.status, 404 | 410) => Ok(()),
            Err(error) => Err(self.left(&error.to_string())),
        }
    }

    /// Makes the error which says that the subscription may still exist.
    pub(super) fn left(&self, reason: &str) -> CommandError {
        let id = &self.id;
        CommandError::Failed(format!(
            "subscription {id} may still exist ({reason}): triggers subscriptions delete {id}"
        ))
    }
}

//! The subscription that `triggers listen` makes: it points to the receiver and lasts as long as that.
//!
//! Invariant: once the node has named it, it is either deleted or named in an error, so that nobody is left with a
//! subscription they do not know of. If the answer to making it is lost, the error says that it may have been made.
//!
//! It receives nothing, and it does not watch for the end itself.

use triggers_protocol::webhook::VerifyingKey;

use triggers_client::resources::{NewSubscription, NewSubscriptionAnswer};
use triggers_client::{Call, Client, ClientError};

use super::super::exit::CommandError;

/// What the subscription says it is for.
const DESCRIPTION: &str = "triggers listen";

/// A subscription that is there.
#[derive(Debug)]
pub(super) struct Temporary {
    client: Client,
    id: String,
}

impl Temporary {
    /// Makes a subscription that points to a URL; it, and the key that signs its webhooks.
    ///
    /// # Errors
    /// What the node refused, or why it could not be reached.
    pub(super) async fn make(
        client: Client,
        url: &str,
        event_types: &[String],
    ) -> Result<(Self, VerifyingKey), CommandError> {
        let body = NewSubscription { target_url: url, event_types, description: DESCRIPTION };
        let reply = client.execute(Call::post(&["subscriptions"]).json(&body)?).await?;
        let answer: NewSubscriptionAnswer = reply.decode()?;
        let temporary = Self { client, id: answer.id };
        let key =
            answer.secret.or(answer.public_key).and_then(|key| VerifyingKey::parse(&key).ok());
        match key {
            Some(key) => Ok((temporary, key)),
            None => {
                temporary.delete().await?;
                Err(CommandError::Failed(
                    "the node showed no key to check signatures with".to_owned(),
                ))
            }
        }
    }

    /// The subscription's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Deletes it; that somebody else has is as good.
    ///
    /// # Errors
    /// `CommandError::Failed`, with the id.
    pub(super) async fn delete(&self) -> Result<(), CommandError> {
        match self.client.execute(Call::delete(&["subscriptions", &self.id])).await {
            Ok(_) => Ok(()),
            Err(ClientError::Api(failure)) if matches!(failure.status, 404 | 410) => Ok(()),
            Err(error) => Err(self.left(&error.to_string())),
        }
    }

    /// The error that says that it may be there still.
    pub(super) fn left(&self, reason: &str) -> CommandError {
        let id = &self.id;
        CommandError::Failed(format!(
            "subscription {id} may be there still ({reason}): triggers subscriptions delete {id}"
        ))
    }
}

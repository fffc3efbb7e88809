//! The subscriptions of the receivers, which exist as long as the load.

use super::super::BenchError;
use super::super::plan::Plan;
use super::PAUSE_MS;
use futures_util::stream::{StreamExt as _, iter};
use std::time::Duration;
use triggers_client::api::{NewSubscription, SubscriptionPatch, SubscriptionState};
use triggers_client::{Client, ClientError};

/// Description of the subscriptions.
const DESCRIPTION: &str = "triggers bench";
/// Requests that are sent at once.
const REQUESTS_MAX: usize = 32;
/// Attempts to delete a subscription.
const ATTEMPTS_MAX: u32 = 5;

/// Subscriptions that exist at the node.
#[derive(Debug, Default)]
pub struct Subscriptions {
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    client: Client,
    id: String,
}

impl Subscriptions {
    /// Creates a subscription for each URL, with the keys in turn. Those that were created before
    /// an error are kept, to be deleted.
    ///
    /// # Errors
    /// `BenchError::Client` with the first failure.
    pub async fn create(&mut self, plan: &Plan, urls: &[String]) -> Result<(), BenchError> {
        let client = |key: &String| Client::builder(plan.base_url()).api_key(key.as_str()).build();
        let clients: Vec<Client> = plan.keys.iter().map(client).collect::<Result<_, _>>()?;
        let create = |(receiver, url): (usize, &String)| {
            let client = clients[receiver % clients.len()].clone();
            let body = NewSubscription {
                target_url: Some(url.clone()),
                description: Some(DESCRIPTION.to_owned()),
                max_in_flight: Some(plan.max_in_flight),
                ..NewSubscription::default()
            };
            async move {
                let answer = client.create_subscription(&body).await?.decode()?;
                Ok(Made { client, id: answer.id.to_string() })
            }
        };
        let creations: Vec<_> = urls.iter().enumerate().map(create).collect();
        let results: Vec<Result<Made, ClientError>> =
            iter(creations).buffer_unordered(REQUESTS_MAX).collect().await;
        let mut result = Ok(());
        for created in results {
            match created {
                Ok(made) => self.made.push(made),
                Err(error) => result = Err(error.into()),
            }
        }
        result
    }

    /// Waits until the node holds all subscriptions, as their endpoints asked.
    ///
    /// # Errors
    /// `BenchError::NoWebhook` if one is not held in time.
    pub async fn held(&self, seconds: u64) -> Result<(), BenchError> {
        let wait = async {
            for made in &self.made {
                while made.client.get_subscription(&made.id).await?.decode()?.held_until.is_none() {
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                }
            }
            Ok(())
        };
        match tokio::time::timeout(Duration::from_secs(seconds), wait).await {
            Ok(result) => result,
            Err(_) => Err(BenchError::NoWebhook(seconds)),
        }
    }

    /// Lets the node send again what it holds back.
    ///
    /// # Errors
    /// `BenchError::Client` with the first failure.
    pub async fn release(&self) -> Result<(), BenchError> {
        let active = SubscriptionPatch {
            status: Some(SubscriptionState::Active),
            ..SubscriptionPatch::default()
        };
        let releases = self.made.iter().map(|made| {
            let active = &active;
            async move { made.client.update_subscription(&made.id, active).await }
        });
        let releases: Vec<_> = releases.collect();
        let mut results = iter(releases).buffer_unordered(REQUESTS_MAX);
        while let Some(result) = results.next().await {
            result?;
        }
        Ok(())
    }

    /// Deletes all subscriptions.
    ///
    /// # Errors
    /// `BenchError::SubscriptionsLeft` with the ids of those that may still exist.
    pub async fn delete(&self) -> Result<(), BenchError> {
        let deletions: Vec<_> = self.made.iter().map(Made::delete).collect();
        let left: Vec<String> = iter(deletions)
            .buffer_unordered(REQUESTS_MAX)
            .filter_map(|left| async { left })
            .collect()
            .await;
        if left.is_empty() { Ok(()) } else { Err(BenchError::SubscriptionsLeft(left.join(", "))) }
    }
}

impl Made {
    /// Deletes the subscription. Returns its id if it may still exist.
    async fn delete(&self) -> Option<String> {
        for _ in 0..ATTEMPTS_MAX {
            match self.client.delete_subscription(&self.id).await {
                Ok(_) => return None,
                Err(ClientError::Api(failure)) if matches!(failure.status, 404 | 410) => {
                    return None;
                }
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
        Some(self.id.clone())
    }
}

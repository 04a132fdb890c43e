//! Lists the Services of each namespace that gets its first workload or Secret of Certmint while the watch of Services
//! runs. [`super::namespaces_in_use`] explains why.

use std::sync::Arc;
use std::time::Duration;

use certmint_contract::ErrorCode;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::ApiResource;
use tokio::task::{JoinError, JoinSet};

use super::cache::Cache;
use super::kind::WatchedKind;
use super::namespaces_in_use::ListingId;
use super::query::Query;
use crate::metrics::Metrics;

/// Wait time after a listing that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Maximum number of namespaces whose Services are listed at one time.
const MAX_CONCURRENT_LISTINGS: usize = 4;

/// Waits for namespaces whose Services must be listed, and lists the Services of each; never returns.
pub(crate) async fn list_services(client: Client, cache: Arc<Cache>, metrics: Metrics) {
    let mut listings = JoinSet::new();
    loop {
        tokio::select! {
            listing = cache.wait_for_listing(), if listings.len() < MAX_CONCURRENT_LISTINGS => {
                listings.spawn(list_services_of(client.clone(), listing, Arc::clone(&cache), metrics.clone()));
            }
            Some(ended) = listings.join_next() => {
                if let Err(panic) = ended.map_err(JoinError::into_panic) {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

async fn list_services_of(client: Client, listing: ListingId, cache: Arc<Cache>, metrics: Metrics) {
    let namespace = &listing.namespace;
    let query = Query::new(client, &ApiResource::erase::<Service>(&()), Some(namespace));
    let result = query.list(|service| cache.note_listed(&listing, service)).await;
    if let Err(error) = &result {
        metrics.count_watch_failure(WatchedKind::Service.as_str());
        let code = ErrorCode::Unavailable;
        tracing::warn!(%code, %namespace, %error, "cannot list the Services of the namespace; its workloads wait; retrying");
        tokio::time::sleep(RETRY_AFTER).await;
    }
    cache.listing_ended(&listing, result.is_ok());
}

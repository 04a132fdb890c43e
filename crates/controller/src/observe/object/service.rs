//! Reads watched objects as Services.

use certmint_planner::{Labels, Service, ServiceKind};
use serde::Deserialize;

use super::{ExceededLimit, Unreadable, WatchedObject};
use crate::observe::metadata::BoundedEntries;

/// Fields of a Service's spec that decide which pods get its names.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    selector: Option<BoundedEntries>,
}

impl WatchedObject {
    /// Reads the object as a Service.
    pub(crate) fn service(&self) -> Result<Service, Unreadable> {
        let (namespace, name) = self.namespace_and_name()?;
        self.check_length()?;
        let spec: ServiceSpec = self.spec()?;
        let kind = match (spec.kind.as_deref(), spec.cluster_ip.as_deref()) {
            (Some("ExternalName"), _) => ServiceKind::ExternalName,
            (_, Some("None")) => ServiceKind::Headless,
            _ => ServiceKind::ClusterIp,
        };
        let selector = spec.selector.unwrap_or_default();
        if selector.is_cut {
            // The part that was kept may select more pods than the whole selector.
            return Err(ExceededLimit::Selector.into());
        }
        Ok(Service { name: name.into(), namespace, selector: selector.into(), kind })
    }
}

impl From<BoundedEntries> for Labels {
    fn from(map: BoundedEntries) -> Self {
        let labels = Self::from(map.kept);
        if map.is_cut { labels.truncated() } else { labels }
    }
}

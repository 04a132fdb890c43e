//! A local Kubernetes, images and end-to-end scenarios.

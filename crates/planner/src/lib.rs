//! Decides what to issue, renew, refuse or remove; pure.

//! X.509 profile, CA and chain verification; pure.

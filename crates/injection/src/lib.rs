//! Pod and workload patches; pure.

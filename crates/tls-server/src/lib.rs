//! HTTPS server with limits, timeouts and certificate reload.

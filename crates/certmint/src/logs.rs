//! Logs: one line an event, JSON unless asked otherwise, on standard error.

use tracing_subscriber::EnvFilter;

/// How the process logs.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// Log level: error, warn, info, debug or trace, or a filter like info,certmint_webhook=debug.
    #[arg(long, global = true, env = "CERTMINT_LOG_LEVEL", default_value = "info")]
    log_level: EnvFilter,
    /// Log format.
    #[arg(long, global = true, env = "CERTMINT_LOG_FORMAT", value_enum, default_value = "json")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

/// Logs as `args` say from now on.
pub fn start(args: &LogArgs) {
    let LogArgs { log_level, log_format } = args;
    let lines = tracing_subscriber::fmt().with_env_filter(log_level.clone()).with_writer(std::io::stderr);
    match log_format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.init(),
    }
}

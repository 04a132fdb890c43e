//! Log on standard error: one line for each event, as JSON by default.

use tracing_subscriber::EnvFilter;

/// Flags of the log.
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
    /// JSON, for machines.
    Json,
    /// Text, for people.
    Text,
}

/// Starts the log with these flags.
pub fn start(args: &LogArgs) {
    let LogArgs { log_level, log_format } = args;
    let lines = tracing_subscriber::fmt().with_env_filter(log_level.clone()).with_writer(std::io::stderr);
    match log_format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.init(),
    }
}

//! Prints the flags of `certmint` as the tables of the reference page on flags.

use certmint::command::Certmint;
use clap::{Arg, Command, CommandFactory};

fn main() {
    // `build` adds the global flags to each subcommand.
    let mut certmint = Certmint::command();
    certmint.build();
    section("Webhook and controller", certmint.get_arguments().filter(|flag| flag.is_global_set()));
    for program in certmint.get_subcommands().filter(|program| program.get_name() != "help") {
        let own = program.get_arguments().filter(|flag| !flag.is_global_set());
        section(&title(program), own);
    }
}

/// Returns the command as a user types it.
fn title(program: &Command) -> String {
    format!("`certmint {}`", program.get_name())
}

fn section<'a>(title: &str, flags: impl Iterator<Item = &'a Arg>) {
    println!("### {title}\n\n| flag, variable | default | what it is |\n|---|---|---|");
    for flag in flags.filter(|flag| !matches!(flag.get_id().as_str(), "help" | "version")) {
        println!("{}", row(flag));
    }
    println!();
}

fn row(flag: &Arg) -> String {
    let code = |text: String| format!("`{text}`");
    let name = flag.get_long().map(|long| code(format!("--{long}"))).unwrap_or_default();
    let variable = flag.get_env().map(|name| code(name.to_string_lossy().into_owned())).unwrap_or_default();
    let default = match (flag.get_default_values().first(), flag.is_required_set()) {
        (Some(value), _) => code(value.to_string_lossy().into_owned()),
        (None, true) => "must be given".to_owned(),
        (None, false) => "none".to_owned(),
    };
    let words = flag.get_long_help().or(flag.get_help()).map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> =
        flag.get_possible_values().iter().map(|value| code(value.get_name().to_owned())).collect();
    let one_of = if values.is_empty() { String::new() } else { format!(" One of {}.", values.join(", ")) };
    format!("| {name}<br>{variable} | {default} | {}{one_of} |", sentence(&words))
}

/// Returns the words on one line, with the full stop that clap removes. URLs become Markdown code, so that they are
/// not links.
fn sentence(words: &str) -> String {
    let quoted = |word: &str| if word.contains("://") { format!("`{word}`") } else { word.to_owned() };
    let words: Vec<_> = words.trim_end_matches('.').split_whitespace().map(quoted).collect();
    format!("{}.", words.join(" "))
}
